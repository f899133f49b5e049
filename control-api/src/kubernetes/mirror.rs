//! What the API server holds, as far as watches and our own writes told it.
//!
//! INVARIANT (newest wins): an object never goes back to an older resource version. Watches tell the changes of a kind in
//! order, so what a watch has passed by, a late answer to a write of ours does not bring back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::core::DynamicObject;
use sallyport_api::manifest::ManifestProblem;
use sallyport_api::v1alpha1::{MCPAccessGrant, MCPAgentSession, MCPServer};
use sallyport_api::{Kind, Object};
use sallyport_policy::ObjectId;

use super::id_of;
use crate::resources::{Key, ResourceError, Stored, View};

/// A watch that is refused is tried again within this time.
const RECENT: Duration = Duration::from_secs(75);

/// What is known of one kind.
#[derive(Debug, Default)]
struct Followed {
    /// Every object was told once.
    is_whole: bool,
    /// While the watch begins anew: the objects that are there.
    fresh: Option<BTreeSet<ObjectId>>,
    /// The newest version that the watch has told.
    newest: u64,
    /// When and why the watch last did not get on. It does not say when it does again, unless something changes.
    broken: Option<(Instant, String)>,
}

/// The objects.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    view: Arc<View>,
    problems: BTreeMap<Key, ManifestProblem>,
    kinds: BTreeMap<Kind, Followed>,
}

impl Mirror {
    /// All, or an error while not every kind was read.
    pub(super) fn view(&self) -> Result<Arc<View>, ResourceError> {
        let missing =
            Kind::ALL.into_iter().find(|kind| !self.kinds.get(kind).is_some_and(|known| known.is_whole));
        let Some(kind) = missing else {
            return Ok(Arc::clone(&self.view));
        };
        let why = self.kinds.get(&kind).and_then(|known| Some(known.broken.as_ref()?.1.clone()));
        let why = why.unwrap_or_else(|| "they are being read, try again in a moment".into());
        Err(ResourceError::Unavailable(format!("not every {} is known yet: {why}", kind.as_str())))
    }

    /// Why the view may be old.
    pub(super) fn trouble(&self, now: Instant) -> Option<String> {
        let broken = self.kinds.iter().find_map(|(kind, known)| {
            let (at, why) = known.broken.as_ref()?;
            (now.duration_since(*at) < RECENT).then_some((kind, why))
        });
        broken.map(|(kind, why)| format!("changes of {} do not arrive: {why}", kind.as_str()))
    }

    /// The resource version that is known of an object.
    pub(super) fn version_of(&self, key: &Key) -> Option<String> {
        self.view.objects.get(key)?.object.metadata().resource_version.clone()
    }

    /// The watch begins anew: objects that it does not tell until `finish` are gone.
    pub(super) fn begin(&mut self, kind: Kind) {
        self.kinds.entry(kind).or_default().fresh = Some(BTreeSet::new());
    }

    /// The watch has told every object.
    pub(super) fn finish(&mut self, kind: Kind) {
        let known = self.kinds.entry(kind).or_default();
        let fresh = known.fresh.take().unwrap_or_default();
        known.is_whole = true;
        known.broken = None;
        let gone: Vec<ObjectId> =
            self.view.list(kind).map(|(id, _)| id).filter(|id| !fresh.contains(id)).cloned().collect();
        for id in gone {
            self.forget(&(kind, id));
        }
        self.problems.retain(|(of, id), _| *of != kind || fresh.contains(id));
        self.tell_problems();
    }

    /// The watch tells an object.
    pub(super) fn tell(&mut self, kind: Kind, object: DynamicObject) {
        let known = self.kinds.entry(kind).or_default();
        if let Some(fresh) = &mut known.fresh {
            fresh.insert(id_of(&object));
        }
        known.newest = known.newest.max(version(object.metadata.resource_version.as_deref()));
        known.broken = None;
        self.set(kind, object);
    }

    /// The watch tells that an object is gone.
    pub(super) fn remove(&mut self, kind: Kind, object: &DynamicObject) {
        let known = self.kinds.entry(kind).or_default();
        known.newest = known.newest.max(version(object.metadata.resource_version.as_deref()));
        known.broken = None;
        self.forget(&(kind, id_of(object)));
        self.tell_problems();
    }

    /// The watch does not get on.
    pub(super) fn fail(&mut self, kind: Kind, why: String, now: Instant) {
        self.kinds.entry(kind).or_default().broken = Some((now, why));
    }

    /// The API server answered a write with this.
    pub(super) fn write(&mut self, kind: Kind, object: DynamicObject) {
        let known = self.kinds.entry(kind).or_default();
        if version(object.metadata.resource_version.as_deref()) > known.newest {
            // It may be younger than the list that is being read.
            if let Some(fresh) = &mut known.fresh {
                fresh.insert(id_of(&object));
            }
            self.set(kind, object);
        }
    }

    fn set(&mut self, kind: Kind, mut object: DynamicObject) {
        let key = (kind, id_of(&object));
        if version(self.version_of(&key).as_deref()) > version(object.metadata.resource_version.as_deref()) {
            return;
        }
        // Nobody asks for them, and they are half of an object.
        object.metadata.managed_fields = None;
        let had_problem = self.problems.remove(&key).is_some();
        match typed(kind, object) {
            Ok(object) => {
                let origin = format!("{}/{}", kind.plural(), key.1);
                let stored = Stored { object, issued_at: None, origin };
                Arc::make_mut(&mut self.view).objects.insert_mut(key, Arc::new(stored));
            }
            Err(message) => {
                Arc::make_mut(&mut self.view).objects.remove_mut(&key);
                let problem = ManifestProblem {
                    file: "kubernetes".into(),
                    line: 0,
                    object: format!("{} {}", kind.as_str(), key.1),
                    path: String::new(),
                    reason: "Unreadable",
                    message: format!("does not fit its type: {message}; apply it anew"),
                };
                self.problems.insert(key, problem);
                self.tell_problems();
                return;
            }
        }
        if had_problem {
            self.tell_problems();
        }
    }

    fn forget(&mut self, key: &Key) {
        Arc::make_mut(&mut self.view).objects.remove_mut(key);
        self.problems.remove(key);
    }

    fn tell_problems(&mut self) {
        if self.view.problems.len() != self.problems.len() || !self.problems.is_empty() {
            Arc::make_mut(&mut self.view).problems = self.problems.values().cloned().collect();
        }
    }
}

/// Resource versions of one kind can be compared as numbers.
fn version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn typed(kind: Kind, object: DynamicObject) -> Result<Object, String> {
    let typed = match kind {
        Kind::Server => object.try_parse::<MCPServer>().map(|object| Object::Server(Box::new(object))),
        Kind::Grant => object.try_parse::<MCPAccessGrant>().map(|object| Object::Grant(Box::new(object))),
        Kind::Session => {
            object.try_parse::<MCPAgentSession>().map(|object| Object::Session(Box::new(object)))
        }
    };
    typed.map_err(|error| {
        std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn session(name: &str, version: u64, trust: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "mcpruntime.org/v1alpha1", "kind": "MCPAgentSession",
            "metadata": { "namespace": "ns", "name": name, "resourceVersion": version.to_string() },
            "spec": { "serverRef": { "name": "s" }, "subject": { "humanID": "h" }, "consentedTrust": trust },
        }))
        .unwrap()
    }

    fn whole(sessions: Vec<DynamicObject>) -> Mirror {
        let mut mirror = Mirror::default();
        for kind in Kind::ALL {
            mirror.begin(kind);
        }
        sessions.into_iter().for_each(|object| mirror.tell(Kind::Session, object));
        Kind::ALL.into_iter().for_each(|kind| mirror.finish(kind));
        mirror
    }

    fn names(mirror: &Mirror) -> Vec<String> {
        mirror.view().unwrap().list(Kind::Session).map(|(id, _)| id.name.clone()).collect()
    }

    fn version_of(mirror: &Mirror, name: &str) -> Option<String> {
        mirror.version_of(&(Kind::Session, ObjectId::new("ns", name)))
    }

    #[test]
    fn nothing_is_told_before_every_kind_is_known() {
        let mut mirror = Mirror::default();
        mirror.begin(Kind::Session);
        mirror.tell(Kind::Session, session("a", 1, "low"));
        mirror.finish(Kind::Session);
        assert!(matches!(mirror.view(), Err(ResourceError::Unavailable(_))));
        assert_eq!(names(&whole(vec![session("a", 1, "low")])), ["a"]);
    }

    #[test]
    fn an_object_never_goes_back() {
        let mut mirror = whole(vec![session("a", 5, "low")]);
        mirror.write(Kind::Session, session("a", 9, "high"));
        mirror.tell(Kind::Session, session("a", 7, "medium"));
        assert_eq!(version_of(&mirror, "a").as_deref(), Some("9"));
        mirror.remove(Kind::Session, &session("a", 12, "high"));
        // A write that was answered late.
        mirror.write(Kind::Session, session("a", 11, "high"));
        assert_eq!(version_of(&mirror, "a"), None);
    }

    #[test]
    fn a_watch_that_begins_anew_forgets_what_is_gone_and_keeps_what_was_written_meanwhile() {
        let mut mirror = whole(vec![session("a", 1, "low"), session("b", 2, "low")]);
        mirror.begin(Kind::Session);
        mirror.tell(Kind::Session, session("b", 2, "low"));
        mirror.write(Kind::Session, session("c", 8, "low"));
        assert_eq!(names(&mirror), ["a", "b", "c"], "nothing goes before the list is whole");
        mirror.finish(Kind::Session);
        assert_eq!(names(&mirror), ["b", "c"]);
    }

    #[test]
    fn an_object_that_fits_no_type_is_a_problem_and_blocks_no_other() {
        let mut broken = session("a", 3, "low");
        broken.data["spec"]["consentedTrust"] = "utter".into();
        let mut mirror = whole(vec![broken, session("b", 2, "low")]);
        assert_eq!(names(&mirror), ["b"]);
        assert_eq!(mirror.view().unwrap().problems[0].object, "MCPAgentSession ns/a");
        mirror.tell(Kind::Session, session("a", 4, "low"));
        assert!(mirror.view().unwrap().problems.is_empty());
        assert_eq!(names(&mirror), ["a", "b"]);
    }

    #[test]
    fn a_view_stays_as_it_was_and_shares_what_did_not_change() {
        let mut mirror = whole(vec![session("a", 1, "low"), session("b", 2, "low")]);
        let before = mirror.view().unwrap();
        mirror.tell(Kind::Session, session("a", 3, "high"));
        let after = mirror.view().unwrap();
        let of = |view: &View, name: &str| {
            Arc::as_ptr(view.objects.get(&(Kind::Session, ObjectId::new("ns", name))).unwrap())
        };
        assert_ne!(of(&before, "a"), of(&after, "a"));
        assert_eq!(of(&before, "b"), of(&after, "b"));
    }

    #[test]
    fn a_watch_that_failed_lately_is_told() {
        let mut mirror = whole(vec![]);
        let now = Instant::now();
        mirror.fail(Kind::Grant, "refused".into(), now);
        assert!(mirror.trouble(now).unwrap().contains("MCPAccessGrant"));
        assert_eq!(mirror.trouble(now + RECENT), None);
        mirror.finish(Kind::Grant);
        assert_eq!(mirror.trouble(now), None);
    }
}
