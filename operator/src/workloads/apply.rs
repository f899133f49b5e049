//! Whether an object must be applied, and what was applied last. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::observed::{Observed, Version};
use crate::render::{Child, ChildKey, Template};

/// What is remembered of a server between rounds.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// UID of the server that it is about: another one of the same name begins anew.
    pub(super) server: String,
    applied: BTreeMap<ChildKey, Applied>,
    /// Templates of kept revisions, by the revision's name.
    pub(super) templates: BTreeMap<String, Arc<Template>>,
}

/// What was applied last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Applied {
    wanted: [u8; 32],
    /// None: an object that is not watched.
    version: Option<Version>,
}

/// What must be done about an object that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Nothing,
    /// It is not seen: somebody else's may be in its place.
    Look,
    /// Apply it.
    Apply,
    /// It is another's.
    Taken,
    /// It is being deleted; it can be made anew after that.
    Wait,
}

impl Memory {
    /// Nothing, about a server of this UID.
    pub(super) fn of(server: String) -> Self {
        Self { server, ..Self::default() }
    }

    /// What must be done about a wanted object of `server`, which is there as `seen`.
    pub(super) fn step(
        &self,
        server: &str,
        child: &Child,
        seen: Option<&Observed>,
    ) -> serde_json::Result<Step> {
        let applied = self.applied.get(&child.key());
        let is_same = |applied: &Applied, wanted| applied.wanted == wanted;
        let wanted = digest(child)?;
        let Some(seen) = seen else {
            // What is not watched is trusted to be as it was applied.
            let is_unwatched =
                applied.is_some_and(|applied| applied.version.is_none() && is_same(applied, wanted));
            return Ok(if is_unwatched { Step::Nothing } else { Step::Look });
        };
        if seen.owner.as_deref() != Some(server) {
            return Ok(Step::Taken);
        }
        if seen.is_going {
            return Ok(Step::Wait);
        }
        let is_settled = applied.is_some_and(|applied| {
            is_same(applied, wanted)
                && applied.version == Some(seen.version())
                && seen.carries(child.metadata())
        });
        Ok(if is_settled { Step::Nothing } else { Step::Apply })
    }

    /// An object was applied; `seen` is it now, unless it is not watched.
    pub(super) fn remember(&mut self, child: &Child, seen: Option<&Observed>) -> serde_json::Result<()> {
        let applied = Applied { wanted: digest(child)?, version: seen.map(Observed::version) };
        self.applied.insert(child.key(), applied);
        Ok(())
    }

    /// What was applied and is not watched, so that nobody tells of it.
    pub(super) fn unwatched(&self) -> impl Iterator<Item = &ChildKey> {
        self.applied.iter().filter(|(_, applied)| applied.version.is_none()).map(|(key, _)| key)
    }

    /// An object is gone.
    pub(super) fn forget(&mut self, key: &ChildKey) {
        self.applied.remove(key);
        self.templates.remove(&key.1);
    }
}

fn digest(child: &Child) -> serde_json::Result<[u8; 32]> {
    Ok(Sha256::digest(serde_json::to_vec(&child.to_json()?)?).into())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};

    use super::*;

    fn wanted(content: &str) -> Child {
        let metadata = ObjectMeta {
            name: Some("a".into()),
            labels: Some(BTreeMap::from([("ours".to_string(), "yes".to_string())])),
            ..ObjectMeta::default()
        };
        let data = Some(BTreeMap::from([("key".to_string(), content.to_string())]));
        Child::ConfigMap(ConfigMap { metadata, data, ..ConfigMap::default() })
    }

    fn metadata(version: &str) -> ObjectMeta {
        ObjectMeta {
            resource_version: Some(version.into()),
            labels: Some(BTreeMap::from(
                [("ours", "yes"), ("theirs", "too")].map(|(k, v)| (k.to_string(), v.to_string())),
            )),
            owner_references: Some(vec![OwnerReference {
                api_version: "mcpruntime.org/v1alpha1".into(),
                kind: "MCPServer".into(),
                name: "server".into(),
                uid: "1".into(),
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        }
    }

    fn seen(metadata: &ObjectMeta) -> Observed {
        Observed::metadata(metadata)
    }

    fn applied(content: &str) -> Memory {
        let mut memory = Memory::default();
        memory.remember(&wanted(content), Some(&seen(&metadata("1")))).unwrap();
        memory
    }

    fn step(memory: &Memory, content: &str, seen: Option<&Observed>) -> Step {
        memory.step("server", &wanted(content), seen).unwrap()
    }

    #[test]
    fn what_is_as_it_was_applied_needs_nothing() {
        assert_eq!(step(&applied("x"), "x", Some(&seen(&metadata("1")))), Step::Nothing);
    }

    #[test]
    fn another_wish_another_version_and_a_lost_label_are_applied() {
        let memory = applied("x");
        assert_eq!(step(&memory, "y", Some(&seen(&metadata("1")))), Step::Apply);
        assert_eq!(step(&memory, "x", Some(&seen(&metadata("2")))), Step::Apply);
        let bare = ObjectMeta { labels: None, ..metadata("1") };
        assert_eq!(step(&memory, "x", Some(&seen(&bare))), Step::Apply);
        assert_eq!(step(&Memory::default(), "x", Some(&seen(&metadata("1")))), Step::Apply);
    }

    #[test]
    fn what_is_not_seen_is_looked_for_first() {
        assert_eq!(step(&applied("x"), "x", None), Step::Look);
        let mut unwatched = Memory::default();
        unwatched.remember(&wanted("x"), None).unwrap();
        assert_eq!(step(&unwatched, "x", None), Step::Nothing);
        assert_eq!(step(&unwatched, "y", None), Step::Look);
    }

    #[test]
    fn what_is_anothers_is_not_touched() {
        let mut others = metadata("1");
        for change in [None, Some("other"), Some("server")] {
            let owner = others.owner_references.as_mut().and_then(|owners| owners.first_mut());
            match (change, owner) {
                (None, Some(owner)) => owner.controller = None,
                (Some(name), Some(owner)) => {
                    owner.controller = Some(true);
                    owner.name = name.into();
                    owner.kind = if name == "server" { "Deployment".into() } else { "MCPServer".into() };
                }
                (_, None) => unreachable!(),
            }
            assert_eq!(step(&applied("x"), "x", Some(&seen(&others))), Step::Taken, "{change:?}");
        }
    }

    #[test]
    fn what_is_being_deleted_is_waited_for() {
        let going = ObjectMeta {
            deletion_timestamp: Some(Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH)),
            ..metadata("1")
        };
        assert_eq!(step(&applied("x"), "x", Some(&seen(&going))), Step::Wait);
    }
}
