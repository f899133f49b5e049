//! Which image runs, and when it is pulled.

use sallyport_api::v1alpha1::MCPServerSpec;
use sallyport_resolve::Problem;

use super::prepare::error;
use super::settings::Registry;

/// An image as a container names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) reference: String,
    /// Of the container: `Always` for what may change behind its name.
    pub(super) pull_policy: &'static str,
}

/// The server's image. Its tag is `imageTag`, else `latest`, where it has neither tag nor digest; its registry is the
/// provisioned one, if that is asked for, else `registryOverride`, if there is one.
pub(super) fn of_server(spec: &MCPServerSpec, registry: &Registry) -> Result<Image, Problem> {
    let parts = Parts::read("spec.image", &spec.image)?;
    let tag = match &spec.image_tag {
        Some(tag) if !is_tag(tag) => {
            let message = format!("is `{tag}`; must be letters, digits, `_`, `.` and `-`, at most 128");
            return Err(error("spec.imageTag", "InvalidImage", message));
        }
        Some(tag) => tag.as_str(),
        None => "latest",
    };
    let wanted = registry_of(spec, registry)?;
    if let Some((path, wanted)) = wanted {
        let is_registry = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
        };
        if !wanted.trim_end_matches('/').split('/').all(is_registry) {
            let message =
                format!("is `{wanted}`; must be like registry.example.com:5000 or registry.example.com/team");
            return Err(error(path, "InvalidImage", message));
        }
    }
    Ok(parts.image(wanted.map(|(_, registry)| registry), tag))
}

/// The gateway's image, where the server names one.
pub(super) fn of_gateway(path: &str, reference: &str) -> Result<Image, Problem> {
    Ok(Parts::read(path, reference)?.image(None, "latest"))
}

/// The registry that takes the image's place, with the field that asks for it.
fn registry_of<'a>(
    spec: &'a MCPServerSpec,
    registry: &'a Registry,
) -> Result<Option<(&'static str, &'a str)>, Problem> {
    let given = spec.registry_override.as_deref().filter(|name| !name.is_empty());
    let given = given.map(|name| ("spec.registryOverride", name));
    if !spec.use_provisioned_registry {
        return Ok(given);
    }
    let provisioned = |name: &'a String| ("spec.useProvisionedRegistry", name.as_str());
    let found = registry.url.as_ref().map(provisioned).or(given);
    let found = found.or_else(|| registry.pull_host.as_ref().map(provisioned));
    let message =
        "is set, and this platform has no registry of its own; remove it, or set spec.registryOverride";
    found.map(Some).ok_or_else(|| error("spec.useProvisionedRegistry", "NoRegistry", message))
}

/// A reference taken apart.
struct Parts<'a> {
    registry: Option<&'a str>,
    repository: &'a str,
    /// With its `:` or `@`; empty: neither.
    version: &'a str,
}

impl<'a> Parts<'a> {
    fn read(path: &str, reference: &'a str) -> Result<Self, Problem> {
        Self::split(reference).ok_or_else(|| {
            let message = format!("is `{reference}`; must be like registry.example.com/team/name:tag");
            error(path, "InvalidImage", message)
        })
    }

    fn split(reference: &'a str) -> Option<Self> {
        let (name, digest) =
            reference.split_once('@').map_or((reference, None), |(name, digest)| (name, Some(digest)));
        let after_slash = name.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match name.get(after_slash..)?.find(':') {
            Some(at) => (name.get(..after_slash + at)?, name.get(after_slash + at + 1..)),
            None => (name, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) || digest.is_some_and(|digest| !is_digest(digest)) {
            return None;
        }
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), rest),
            _ => (None, name),
        };
        let is_segment = |part: &str| {
            let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
            let is_edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
            part.bytes().all(fits) && is_edge(part.as_bytes().first()) && is_edge(part.as_bytes().last())
        };
        let version = reference.get(name.len()..)?;
        repository.split('/').all(is_segment).then_some(Self { registry, repository, version })
    }

    fn image(&self, registry: Option<&str>, tag: &str) -> Image {
        let registry = registry.map(|name| name.trim_end_matches('/')).or(self.registry);
        let name = registry
            .map_or_else(|| self.repository.into(), |registry| format!("{registry}/{}", self.repository));
        let version = if self.version.is_empty() { format!(":{tag}") } else { self.version.into() };
        let pull_policy = if version == ":latest" { "Always" } else { "IfNotPresent" };
        Image { reference: format!("{name}{version}"), pull_policy }
    }
}

fn is_tag(tag: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    (1..=128).contains(&tag.len()) && tag.bytes().all(fits) && !tag.starts_with(['.', '-'])
}

fn is_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(
        image: &str,
        tag: Option<&str>,
        registry_override: Option<&str>,
        provisioned: bool,
    ) -> Result<String, String> {
        let spec = MCPServerSpec {
            image: image.into(),
            image_tag: tag.map(Into::into),
            registry_override: registry_override.map(Into::into),
            use_provisioned_registry: provisioned,
            ..MCPServerSpec::default()
        };
        let registry = Registry { url: Some("own.example:5000".into()), ..Registry::default() };
        of_server(&spec, &registry)
            .map(|image| format!("{} {}", image.reference, image.pull_policy))
            .map_err(|p| p.path)
    }

    #[test]
    fn a_tag_is_added_where_there_is_none_and_latest_is_pulled_always() {
        let digest = format!("team/a@sha256:{}", "0".repeat(64));
        for (image, tag, expected) in [
            ("a", None, "a:latest Always"),
            ("a", Some("v1"), "a:v1 IfNotPresent"),
            ("a:v2", Some("v1"), "a:v2 IfNotPresent"),
            ("a:latest", None, "a:latest Always"),
            ("r.example:5000/t/a", Some("1"), "r.example:5000/t/a:1 IfNotPresent"),
            (&digest, Some("v1"), &format!("{digest} IfNotPresent")),
        ] {
            assert_eq!(resolved(image, tag, None, false).as_deref(), Ok(expected), "{image}");
        }
    }

    #[test]
    fn the_registry_is_the_provisioned_one_then_the_override() {
        let image = "docker.example/team/a:1";
        assert_eq!(
            resolved(image, None, Some("other.example"), false).unwrap(),
            "other.example/team/a:1 IfNotPresent"
        );
        assert_eq!(
            resolved(image, None, Some("other.example/x/"), true).unwrap(),
            "own.example:5000/team/a:1 IfNotPresent"
        );
        assert_eq!(resolved("localhost/a:1", None, None, true).unwrap(), "own.example:5000/a:1 IfNotPresent");
        assert_eq!(resolved("team/a:1", None, None, true).unwrap(), "own.example:5000/team/a:1 IfNotPresent");
    }

    #[test]
    fn what_is_no_image_is_told_with_its_field() {
        for image in ["", "a b", "A/b", "a:", "a@sha256:1", "/a", "a//b", "a:-x", "-a"] {
            assert_eq!(resolved(image, None, None, false), Err("spec.image".into()), "{image}");
        }
        assert_eq!(resolved("a", Some("x y"), None, false), Err("spec.imageTag".into()));
        assert_eq!(resolved("a", None, Some("x y"), false), Err("spec.registryOverride".into()));
        let spec =
            MCPServerSpec { image: "a".into(), use_provisioned_registry: true, ..MCPServerSpec::default() };
        assert_eq!(of_server(&spec, &Registry::default()).unwrap_err().path, "spec.useProvisionedRegistry");
    }
}
