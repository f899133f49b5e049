//! Whether a change is enforced, as far as this control plane knows.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::select_all;
use sallyport_api::Kind;
use sallyport_operator_index::{Index, Key};
use sallyport_operator_xds::{Progress, Question, Survey, Target, World, types};
use tokio::sync::watch;

use crate::lock::lock;
use crate::targets::Targets;

/// What a look found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Enforced {
    /// The version that is there; none: it is not there.
    pub(crate) version: Option<String>,
    /// Every proxy has acknowledged what was asked for, and there is one at least: where no proxy is connected, nobody knows
    /// what is enforced.
    pub(crate) is_complete: bool,
    pub(crate) progress: Progress,
}

/// Answers what is enforced.
#[derive(Clone, Debug)]
pub(crate) struct Enforcement {
    pub(crate) targets: Targets,
    pub(crate) index: Arc<Mutex<Index>>,
    /// Rings when changes of objects were brought to the targets.
    pub(crate) applied: watch::Receiver<u64>,
}

/// Type of the resource that proxies get of an object.
pub(crate) const fn type_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Server => types::EXTENSION,
        Kind::Grant => types::GRANT,
        Kind::Session => types::SESSION,
    }
}

impl Enforcement {
    /// Waits until a grant or session is enforced, for `timeout` at most. `version`: what it must be; empty, not there; none,
    /// what it is.
    pub(crate) async fn wait(&self, key: &Key, version: Option<&str>, timeout: Duration) -> Enforced {
        let began = Instant::now();
        let mut applied = self.applied.clone();
        loop {
            applied.mark_unchanged();
            let targets = self.targets_of(key).await;
            let mut answers: Vec<_> = targets.iter().map(|target| target.proxies.bell()).collect();
            let enforced = self.look(&targets, key, version).await;
            let left = timeout.saturating_sub(began.elapsed());
            if enforced.is_complete || left.is_zero() {
                return enforced;
            }
            let answered = async {
                if answers.is_empty() {
                    return std::future::pending().await;
                }
                // A target that went tells nothing more, and the next look finds it gone.
                let _ = select_all(answers.iter_mut().map(|bell| Box::pin(bell.changed()))).await;
            };
            tokio::select! {
                rung = applied.changed() => if rung.is_err() { return enforced },
                () = answered => {}
                () = tokio::time::sleep(left) => {}
            }
        }
    }

    /// Whose proxies must have it, or must have it no more.
    async fn targets_of(&self, key: &Key) -> Vec<Target> {
        let named = lock(&self.index).named_by(key).cloned();
        if let Some(server) = named {
            return self.targets.find(&server).map(|tracked| tracked.target).into_iter().collect();
        }
        let (type_url, name) = (type_of(key.0), key.1.to_string());
        let mut targets = Vec::new();
        for (server, tracked) in self.targets.all() {
            let is_known = |world: &World| world.last_change(type_url, &name).is_some();
            if server.is_none() || tracked.target.world.read(is_known).await {
                targets.push(tracked.target);
            }
        }
        targets
    }

    async fn look(&self, targets: &[Target], key: &Key, version: Option<&str>) -> Enforced {
        let (type_url, name) = (type_of(key.0), key.1.to_string());
        let (mut found, mut is_here) = (None, true);
        let mut surveys: Vec<Survey> = Vec::new();
        for target in targets {
            let look = |world: &World| {
                let present = world.find(type_url, &name).map(|stored| stored.version.clone());
                (present, world.change_to(type_url, &name, version))
            };
            let (present, change) = target.world.read(look).await;
            is_here &= change.is_some();
            found = found.or(present);
            surveys.push(target.proxies.survey(&[Question { type_url, name: name.clone(), change }]));
        }
        let progress = match (&self.targets, surveys.first()) {
            (Targets::Single(_), Some(survey)) => Progress::of_streams(survey, 0, type_url),
            (Targets::Single(_) | Targets::PerServer(_), _) => Progress::of_proxies(&surveys, 0, type_url),
        };
        let is_complete = is_here && progress.of > 0 && progress.enforced == progress.of;
        Enforced { version: found, is_complete, progress }
    }
}
