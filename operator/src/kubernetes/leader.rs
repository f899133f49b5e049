//! Which replica writes: the holder of a Lease.
//!
//! Flow: the record is read, and written back with our name where it is free, ours, or has not changed for its duration.
//! Guarantees: a write succeeds only if nobody wrote in between (compare and swap by resource version). A holder that has
//! not renewed for [`RENEW_DEADLINE`], counted from before it asked, holds no more; nobody else takes over before
//! [`LEASE_DURATION`] has passed without a change. So there is never more than one, as long as clocks run at one speed;
//! what they say does not matter, for only the time since a change was seen counts.
//! Assumption: what a holder began before it lost the Lease may still arrive; so every write is one that a successor would
//! make as well.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::core::ObjectMeta;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Nobody takes over before the record stood still for so long.
const LEASE_DURATION: Duration = Duration::from_secs(15);
/// The holder gives up when it could not renew for so long.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Time between two tries, lengthened by up to a fifth at random.
const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// A request takes no longer.
const REQUEST: Duration = Duration::from_secs(5);

/// Takes part in the election of the writer.
#[derive(Debug)]
pub(crate) struct Candidate {
    api: Api<Lease>,
    name: String,
    election: Election,
    leads: watch::Sender<bool>,
}

/// The record, as one candidate sees it.
#[derive(Debug)]
struct Election {
    identity: String,
    /// The record as it was last seen to change, and when.
    seen: Option<(LeaseSpec, Instant)>,
}

/// What to do about a record.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// Another one holds it.
    Wait,
    /// Write this record in its place.
    Take(LeaseSpec),
}

impl Candidate {
    /// A candidate for the Lease `name`. `identity` must be another one's in every process.
    pub(crate) fn new(api: Api<Lease>, name: &str, identity: String) -> (Self, watch::Receiver<bool>) {
        let (leads, leader) = watch::channel(false);
        (Self { api, name: name.into(), election: Election { identity, seen: None }, leads }, leader)
    }

    /// Takes part until `shutdown`, then gives the Lease up.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut valid_until: Option<Instant> = None;
        loop {
            let began = Instant::now();
            let limit =
                valid_until.map_or(REQUEST, |until| until.saturating_duration_since(began).min(REQUEST));
            let tried = tokio::select! {
                tried = timeout(limit, self.attempt(began)) => tried,
                () = shutdown.cancelled() => break,
            };
            match tried {
                Ok(Ok(true)) => valid_until = Some(began + RENEW_DEADLINE),
                Ok(Ok(false)) => valid_until = None,
                Ok(Err(error)) => tracing::warn!(%error, "lease cannot be renewed"),
                Err(_) => tracing::warn!("lease cannot be renewed: no answer in time"),
            }
            valid_until = valid_until.filter(|until| Instant::now() < *until);
            self.tell(valid_until.is_some());
            let pause = Instant::now() + RETRY_PERIOD.mul_f64(1.0 + rand::random::<f64>() / 5.0);
            let pause = valid_until.map_or(pause, |until| pause.min(until));
            tokio::select! {
                () = tokio::time::sleep_until(pause) => {}
                () = shutdown.cancelled() => break,
            }
        }
        let held = *self.leads.borrow();
        self.tell(false);
        if held && !matches!(timeout(REQUEST, self.release()).await, Ok(Ok(()))) {
            tracing::warn!("lease cannot be released; it ends by itself");
        }
    }

    fn tell(&self, leads: bool) {
        let changed = self.leads.send_if_modified(|led| std::mem::replace(led, leads) != leads);
        if changed {
            tracing::info!(identity = self.election.identity, leads, "leadership changed");
        }
    }

    /// Answers whether we hold the Lease.
    async fn attempt(&mut self, now: Instant) -> kube::Result<bool> {
        let found = self.api.get_opt(&self.name).await?;
        let spec = found.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let Step::Take(wanted) = self.election.decide(&spec, now, Timestamp::now()) else {
            return Ok(false);
        };
        let written = match found {
            // With the version that was read: whoever wrote since wins.
            Some(lease) => {
                let lease = Lease { spec: Some(wanted), ..lease };
                self.api.replace(&self.name, &PostParams::default(), &lease).await
            }
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(wanted) };
                self.api.create(&PostParams::default(), &lease).await
            }
        };
        match written {
            Ok(lease) => {
                self.election.seen = Some((lease.spec.unwrap_or_default(), now));
                Ok(true)
            }
            // Another one was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Leaves the Lease to whoever comes first.
    async fn release(&self) -> kube::Result<()> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            return Ok(());
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(self.election.identity.as_str()) {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            self.api.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }
}

impl Election {
    /// `time` is only written for people to read.
    fn decide(&mut self, found: &LeaseSpec, now: Instant, time: Timestamp) -> Step {
        let since = match &self.seen {
            Some((seen, since)) if seen == found => *since,
            Some(_) | None => {
                self.seen = Some((found.clone(), now));
                now
            }
        };
        let holder = found.holder_identity.as_deref().unwrap_or_default();
        let is_ours = holder == self.identity;
        let seconds = found.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let duration = seconds.map_or(LEASE_DURATION, Duration::from_secs);
        if !holder.is_empty() && !is_ours && now.saturating_duration_since(since) < duration {
            return Step::Wait;
        }
        let renewed = Some(MicroTime(time));
        let transitions = found.lease_transitions.unwrap_or_default();
        Step::Take(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: if is_ours { found.acquire_time.clone() } else { renewed.clone() },
            renew_time: renewed,
            lease_transitions: Some(if is_ours { transitions } else { transitions.saturating_add(1) }),
            ..LeaseSpec::default()
        })
    }
}

#[cfg(test)]
mod tests;
