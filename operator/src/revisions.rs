//! Revisions of the filter's configuration.

use prost::Message;
use sallyport_policy_proto::{resource, v1};

/// Gives each configuration a revision that depends on all before it, so that no two of them are the same bytes.
///
/// Envoy knows a plugin by those bytes. If they came back while streams that had begun under them were still open, it would
/// go on with the root context of then without configuring it, and the worker would keep the configuration in between.
#[derive(Debug, Default)]
pub(crate) struct Revisions {
    /// The newest configuration, under the revision before its own, and its own.
    newest: Option<(v1::FilterConfig, String)>,
}

impl Revisions {
    /// Whether there was no configuration yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.newest.is_none()
    }

    /// `config` with its revision: another one only if anything else of it changed.
    pub(crate) fn stamp(&mut self, mut config: v1::FilterConfig) -> v1::FilterConfig {
        if let Some((newest, revision)) = &self.newest {
            config.revision.clone_from(&newest.revision);
            if config == *newest {
                config.revision.clone_from(revision);
                return config;
            }
            config.revision.clone_from(revision);
        }
        let revision = resource::version(&config.encode_to_vec());
        self.newest = Some((config.clone(), revision.clone()));
        config.revision = revision;
        config
    }
}

/// Gives the configuration of one server a revision that every replica gives it: an edition of an object that is past does
/// not come back either.
pub(crate) fn stamp_edition(mut config: v1::FilterConfig, edition: &str) -> v1::FilterConfig {
    config.revision = resource::version(&[&config.encode_to_vec(), edition.as_bytes()].concat());
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(proxy: &str) -> v1::FilterConfig {
        v1::FilterConfig { proxy: proxy.into(), ..v1::FilterConfig::default() }
    }

    #[test]
    fn a_configuration_that_comes_back_has_another_revision() {
        let mut revisions = Revisions::default();
        let all = ["a", "b", "a", "b", "a"].map(|proxy| revisions.stamp(config(proxy)));
        let distinct: std::collections::BTreeSet<_> =
            all.iter().map(|config| config.revision.as_str()).collect();
        assert_eq!(distinct.len(), all.len(), "{distinct:?}");
        assert!(all.iter().all(|config| !config.revision.is_empty()));
    }

    #[test]
    fn replicas_give_the_same_edition_the_same_revision_and_another_one_another() {
        let stamp = |edition| stamp_edition(config("a"), edition).revision;
        assert_eq!(stamp("uid/1"), stamp("uid/1"));
        assert_ne!(stamp("uid/1"), stamp("uid/3"), "a change that was undone");
    }

    #[test]
    fn what_did_not_change_keeps_its_revision_and_a_control_plane_that_restarts_begins_with_the_same() {
        let mut revisions = Revisions::default();
        let first = revisions.stamp(config("a"));
        assert_eq!(revisions.stamp(config("a")), first);
        assert_eq!(Revisions::default().stamp(config("a")), first);
        let second = revisions.stamp(config("b"));
        assert_eq!(revisions.stamp(config("b")), second);
    }
}
