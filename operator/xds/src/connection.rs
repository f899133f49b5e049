//! One delta-xDS stream, without its socket: requests and changes in, responses out.
//!
//! Guarantees: a subscriber is sent each change once, in order; what it names as held at the beginning is not sent
//! again; a baseline is announced only when everything before it was sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use envoy_types::pb::google::protobuf::{Any, Duration};
use prost::Message;
use sallyport_policy_proto::resource::BASELINE_NAME;
use sallyport_policy_proto::v1;

use crate::world::{Stored, World, types};

/// A response is closed at this size, in bytes.
const RESPONSE_BYTES: usize = 512 * 1024;

/// What one stream subscribes to of one type.
#[derive(Debug, Default)]
struct Subscription {
    wildcard: bool,
    names: BTreeSet<String>,
    /// Everything up to this change was sent.
    sent: u64,
    /// Responses that were not answered yet, with the change they bring the subscriber to.
    pending: VecDeque<(String, u64)>,
    /// Everything up to this change was acknowledged.
    acknowledged: u64,
    refusals: u64,
    last_refusal: Option<String>,
}

impl Subscription {
    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }
}

/// One stream.
#[derive(Debug, Default)]
pub struct Connection {
    subscriptions: BTreeMap<&'static str, Subscription>,
    nonces: u64,
    baseline_sent: bool,
    /// How long filter configurations count without a sign of life.
    ttl: Option<std::time::Duration>,
}

impl Connection {
    /// A new stream. `ttl`: how long filter configurations count without a sign of life; none: for ever.
    pub fn new(ttl: Option<std::time::Duration>) -> Self {
        Self { ttl, ..Self::default() }
    }

    /// Whether this is a filter's stream and not Envoy's own.
    pub fn is_filter(&self) -> bool {
        self.subscriptions.contains_key(types::SESSION)
    }

    /// Everything of a type up to this change is acknowledged.
    pub fn acknowledged(&self, type_url: &str) -> u64 {
        self.subscriptions.get(type_url).map_or(0, |s| {
            if s.pending.is_empty() && s.last_refusal.is_none() { s.sent } else { s.acknowledged }
        })
    }

    /// Responses refused so far, and the last reason.
    pub fn refusals(&self) -> (u64, Option<String>) {
        let count = self.subscriptions.values().map(|s| s.refusals).sum();
        (count, self.subscriptions.values().find_map(|s| s.last_refusal.clone()))
    }

    /// A request arrived.
    pub fn on_request(&mut self, request: DeltaDiscoveryRequest, world: &World) -> Vec<DeltaDiscoveryResponse> {
        let Some(type_url) = types::ALL.into_iter().find(|known| *known == request.type_url) else {
            return Vec::new();
        };
        let is_new = !self.subscriptions.contains_key(type_url);
        let subscription = self.subscriptions.entry(type_url).or_default();
        if !request.response_nonce.is_empty() {
            answer(subscription, &request);
        }
        for name in &request.resource_names_unsubscribe {
            subscription.names.remove(name);
            subscription.wildcard &= name != "*";
        }
        // An empty first request asks for everything (the protocol's older wildcard).
        let wildcard = (is_new && request.resource_names_subscribe.is_empty())
            || request.resource_names_subscribe.iter().any(|name| name == "*");
        let new_names: Vec<String> =
            request.resource_names_subscribe.iter().filter(|name| *name != "*").cloned().collect();
        subscription.names.extend(new_names.iter().cloned());
        let asks = is_new || wildcard || !new_names.is_empty();
        subscription.wildcard |= wildcard;
        if !asks {
            return Vec::new();
        }
        if type_url == types::BASELINE {
            return self.announce_baseline(world);
        }
        let wanted = |name: &String| wildcard || new_names.contains(name);
        let held = &request.initial_resource_versions;
        let fresh: Vec<(&String, &Stored)> = world
            .all(type_url)
            .filter(|(name, stored)| wanted(name) && held.get(*name) != Some(&stored.version))
            .collect();
        let gone = held.keys().chain(&new_names).filter(|name| world.find(type_url, name).is_none());
        let gone: BTreeSet<String> = gone.cloned().collect();
        if is_new {
            subscription.sent = world.seq();
        }
        self.respond(type_url, &fresh, gone, world.seq())
    }

    /// Something changed, or may have.
    pub fn on_change(&mut self, world: &World) -> Vec<DeltaDiscoveryResponse> {
        types::ALL.into_iter().flat_map(|type_url| self.catch_up(type_url, world)).collect()
    }

    /// A sign of life for filter configurations that count for a time only.
    pub fn heartbeat(&mut self, world: &World) -> Option<DeltaDiscoveryResponse> {
        let ttl = self.ttl.map(duration)?;
        let subscription = self.subscriptions.get(types::EXTENSION)?;
        let resources: Vec<Resource> = world
            .all(types::EXTENSION)
            .filter(|(name, _)| subscription.wants(name))
            .map(|(name, stored)| Resource {
                name: name.clone(),
                version: stored.version.clone(),
                ttl: Some(ttl),
                ..Default::default()
            })
            .collect();
        (!resources.is_empty()).then(|| self.response(types::EXTENSION, resources, Vec::new(), None))
    }

    fn catch_up(&mut self, type_url: &'static str, world: &World) -> Vec<DeltaDiscoveryResponse> {
        let Some(subscription) = self.subscriptions.get_mut(type_url) else {
            return Vec::new();
        };
        if type_url == types::BASELINE || subscription.sent == world.seq() {
            return Vec::new();
        }
        let since = subscription.sent;
        subscription.sent = world.seq();
        let subscription = &*subscription;
        let (fresh, gone): (Vec<_>, BTreeSet<String>) = match world.changed_since(type_url, since) {
            Some(names) => {
                let names = || names.iter().filter(|name| subscription.wants(name));
                let fresh = names().filter_map(|name| Some((name.to_string(), world.find(type_url, name)?)));
                let gone = names().filter(|name| world.find(type_url, name).is_none());
                (fresh.collect(), gone.map(ToString::to_string).collect())
            }
            // Too far behind to know what was removed: a new stream names what it holds.
            None => (world.all(type_url).filter(|(n, _)| subscription.wants(n)).map(|(n, s)| (n.clone(), s)).collect(), BTreeSet::new()),
        };
        let fresh: Vec<(&String, &Stored)> = fresh.iter().map(|(name, stored)| (name, *stored)).collect();
        self.respond(type_url, &fresh, gone, world.seq())
    }

    fn announce_baseline(&mut self, world: &World) -> Vec<DeltaDiscoveryResponse> {
        let mut responses = self.catch_up(types::GRANT, world);
        responses.extend(self.catch_up(types::SESSION, world));
        if !std::mem::replace(&mut self.baseline_sent, true) {
            let baseline = v1::Baseline { grants: world.count(types::GRANT), sessions: world.count(types::SESSION) };
            let resource = Resource {
                name: BASELINE_NAME.into(),
                version: world.seq().to_string(),
                resource: Some(Any { type_url: types::BASELINE.into(), value: baseline.encode_to_vec() }),
                ..Default::default()
            };
            responses.push(self.response(types::BASELINE, vec![resource], Vec::new(), Some(world.seq())));
        }
        responses
    }

    /// As few responses as their size allows. Envoy waits for an answer even to a subscription that finds nothing, so
    /// the first one to a type is sent though it be empty.
    fn respond(
        &mut self,
        type_url: &'static str,
        fresh: &[(&String, &Stored)],
        gone: BTreeSet<String>,
        seq: u64,
    ) -> Vec<DeltaDiscoveryResponse> {
        let ttl = self.ttl.filter(|_| type_url == types::EXTENSION).map(duration);
        let first = self.subscriptions.get(type_url).is_some_and(|s| s.pending.is_empty() && s.acknowledged == 0);
        let mut responses = Vec::new();
        let (mut batch, mut size) = (Vec::new(), 0);
        for (name, stored) in fresh {
            size += stored.body.value.len() + name.len() + 64;
            batch.push(Resource {
                name: (*name).clone(),
                version: stored.version.clone(),
                resource: Some(stored.body.clone()),
                ttl,
                ..Default::default()
            });
            if size >= RESPONSE_BYTES {
                // Not the last: an acknowledgement of it alone brings the subscriber nowhere yet.
                let full = std::mem::take(&mut batch);
                responses.push(self.response(type_url, full, Vec::new(), None));
                size = 0;
            }
        }
        if !batch.is_empty() || !gone.is_empty() || (first && responses.is_empty()) || !responses.is_empty() {
            responses.push(self.response(type_url, batch, gone.into_iter().collect(), Some(seq)));
        }
        responses
    }

    fn response(
        &mut self,
        type_url: &'static str,
        resources: Vec<Resource>,
        removed_resources: Vec<String>,
        seq: Option<u64>,
    ) -> DeltaDiscoveryResponse {
        self.nonces += 1;
        let nonce = self.nonces.to_string();
        if let Some(subscription) = self.subscriptions.get_mut(type_url) {
            let reaches = seq.unwrap_or(subscription.acknowledged);
            subscription.pending.push_back((nonce.clone(), reaches));
        }
        DeltaDiscoveryResponse {
            system_version_info: seq.map_or_else(String::new, |seq| seq.to_string()),
            resources,
            type_url: type_url.into(),
            nonce,
            removed_resources,
            ..Default::default()
        }
    }
}

/// Takes an acknowledgement or refusal. Answers come in order, so one to a later response settles the earlier ones.
fn answer(subscription: &mut Subscription, request: &DeltaDiscoveryRequest) {
    let Some(at) = subscription.pending.iter().position(|(nonce, _)| *nonce == request.response_nonce) else {
        return;
    };
    let settled: Vec<(String, u64)> = subscription.pending.drain(..=at).collect();
    match &request.error_detail {
        Some(error) => {
            subscription.refusals += 1;
            subscription.last_refusal = Some(error.message.clone());
            // What was refused is not held: acknowledgement stays where it was until something later is taken.
            subscription.sent = subscription.sent.max(subscription.acknowledged);
        }
        None => {
            subscription.acknowledged = settled.last().map_or(subscription.acknowledged, |(_, seq)| *seq);
            subscription.last_refusal = None;
        }
    }
}

fn duration(duration: std::time::Duration) -> Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Duration { seconds, nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0) }
}
