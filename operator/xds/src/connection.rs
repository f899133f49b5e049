//! One delta-xDS stream, without its socket: requests and changes in, responses out.
//!
//! Guarantees: a subscriber is sent each change once, in order; what it names as held at the beginning is not sent
//! again; a baseline is announced only when everything before it was sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
};
use envoy_types::pb::google::protobuf::{Any, Duration as ProtoDuration};
use prost::Message;
use sallyport_policy_proto::resource::BASELINE_NAME;
use sallyport_policy_proto::v1;
use tracing::Span;

use crate::world::{Stored, World, types};

/// A response is closed at this size, in bytes.
const RESPONSE_BYTES: usize = 512 * 1024;

/// The stream missed removals that are forgotten: end it, and the subscriber's next one names what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("further behind than removals are remembered")]
pub struct Behind;

/// A response that was not answered yet.
#[derive(Debug)]
struct Pending {
    nonce: String,
    /// The change that it brings the subscriber to; none: it is not the last of its kind.
    reaches: Option<u64>,
    /// Resources that it sets or removes.
    names: Vec<String>,
    /// Open until it is answered, or the stream ends.
    span: Span,
}

/// What one stream subscribes to of one type.
#[derive(Debug, Default)]
struct Subscription {
    wildcard: bool,
    names: BTreeSet<String>,
    /// Everything up to this change was sent.
    sent: u64,
    pending: VecDeque<Pending>,
    /// Everything up to this change was answered.
    answered: u64,
    /// Resources whose last form was refused, with the reason.
    refused: BTreeMap<String, String>,
    refusals: u64,
    acknowledgements: u64,
}

impl Subscription {
    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Takes an acknowledgement or refusal. Answers come in order, so one to a later response settles the earlier.
    fn answer(&mut self, nonce: &str, refusal: Option<&str>) {
        let Some(at) = self.pending.iter().position(|pending| pending.nonce == nonce) else {
            return;
        };
        for pending in self.pending.drain(..=at) {
            let refusal = refusal.filter(|_| pending.nonce == nonce);
            self.answered = pending.reaches.unwrap_or(self.answered);
            match refusal {
                // A response is taken as a whole or not at all.
                Some(reason) => {
                    self.refusals += 1;
                    pending.span.record("outcome", "refused");
                    self.refused.extend(pending.names.into_iter().map(|name| (name, reason.to_string())));
                }
                None => {
                    self.acknowledgements += 1;
                    pending.span.record("outcome", "acknowledged");
                    for name in &pending.names {
                        self.refused.remove(name);
                    }
                }
            }
        }
        if self.pending.is_empty() {
            // Thousands of streams wait for the next change.
            self.pending = VecDeque::new();
        }
    }
}

/// One stream.
#[derive(Debug, Default)]
pub struct Connection {
    /// Boxed: a node of the map has room for eleven.
    subscriptions: BTreeMap<&'static str, Box<Subscription>>,
    nonces: u64,
    baseline_sent: bool,
    /// How long filter configurations count without a sign of life.
    ttl: Option<Duration>,
    /// What the subscriber calls itself.
    node: String,
}

impl Connection {
    /// A new stream. `ttl`: how long filter configurations count without a sign of life; none: for ever.
    pub fn new(ttl: Option<Duration>) -> Self {
        Self { ttl, ..Self::default() }
    }

    /// Whether something that was sent is not answered yet.
    pub fn awaits_answer(&self) -> bool {
        self.subscriptions.values().any(|subscription| !subscription.pending.is_empty())
    }

    /// Whether this is a filter's stream and not Envoy's own.
    pub fn is_filter(&self) -> bool {
        self.subscriptions.contains_key(types::SESSION)
    }

    /// Whether it asked for grants or sessions, which only filters do.
    pub fn asks_for_access(&self) -> bool {
        [types::GRANT, types::SESSION].iter().any(|type_url| self.subscriptions.contains_key(type_url))
    }

    /// Everything of a type up to this change was answered; what was refused of it is in [`Self::refused`].
    pub fn answered(&self, type_url: &str) -> u64 {
        self.subscriptions.get(type_url).map_or(0, |s| if s.pending.is_empty() { s.sent } else { s.answered })
    }

    /// Resources whose last form was refused, by type and name, with the reason.
    pub fn refused(&self) -> BTreeMap<(&'static str, String), String> {
        let of_type = |(type_url, s): (&'static str, &Subscription)| {
            s.refused
                .iter()
                .map(move |(name, reason)| ((type_url, name.clone()), reason.clone()))
                .collect::<Vec<_>>()
        };
        self.subscriptions.iter().map(|(type_url, s)| (*type_url, &**s)).flat_map(of_type).collect()
    }

    /// Responses sent, acknowledged and refused so far.
    pub fn totals(&self) -> (u64, u64, u64) {
        let sum = |count: fn(&Subscription) -> u64| self.subscriptions.values().map(|s| count(s)).sum();
        (self.nonces, sum(|s| s.acknowledgements), sum(|s| s.refusals))
    }

    /// A request arrived. A type that is not known is left unanswered.
    pub fn on_request(
        &mut self,
        request: DeltaDiscoveryRequest,
        world: &World,
    ) -> Vec<DeltaDiscoveryResponse> {
        let Some(type_url) = types::ALL.into_iter().find(|known| *known == request.type_url) else {
            return Vec::new();
        };
        if let Some(node) = request.node.filter(|_| self.node.is_empty()) {
            self.node = node.id;
        }
        let is_new = !self.subscriptions.contains_key(type_url);
        let subscription = self.subscriptions.entry(type_url).or_default();
        if !request.response_nonce.is_empty() {
            let refusal = request.error_detail.as_ref().map(|error| error.message.as_str());
            subscription.answer(&request.response_nonce, refusal);
        }
        for name in &request.resource_names_unsubscribe {
            subscription.names.remove(name);
            subscription.wildcard &= name != "*";
        }
        // An empty first request asks for everything (the protocol's older wildcard).
        let wildcard = (is_new && request.resource_names_subscribe.is_empty())
            || request.resource_names_subscribe.iter().any(|name| name == "*");
        let named: BTreeSet<String> =
            request.resource_names_subscribe.iter().filter(|name| *name != "*").cloned().collect();
        subscription.names.extend(named.iter().cloned());
        subscription.wildcard |= wildcard;
        if is_new {
            subscription.sent = world.seq();
        }
        match type_url {
            types::BASELINE if is_new => self.announce_baseline(world),
            types::BASELINE => Vec::new(),
            _ if is_new || wildcard || !named.is_empty() => {
                let asked =
                    Asked { wildcard, named, held: request.initial_resource_versions.into_iter().collect() };
                self.introduce(type_url, &asked, world)
            }
            _ => Vec::new(),
        }
    }

    /// Something changed, or may have.
    ///
    /// # Errors
    /// The subscriber cannot be brought up to date on this stream.
    pub fn on_change(&mut self, world: &World) -> Result<Vec<DeltaDiscoveryResponse>, Behind> {
        let mut responses = Vec::new();
        for type_url in types::ALL {
            responses.extend(self.catch_up(type_url, world)?);
        }
        Ok(responses)
    }

    /// A sign of life for filter configurations that count for a time only.
    pub fn heartbeat(&mut self, world: &World) -> Option<DeltaDiscoveryResponse> {
        let ttl = self.ttl?;
        let subscription = self.subscriptions.get(types::EXTENSION)?;
        let wanted = world.all(types::EXTENSION).filter(|(name, _)| subscription.wants(name));
        let resources: Vec<Resource> = wanted.map(|(name, stored)| sign_of_life(name, stored, ttl)).collect();
        (!resources.is_empty())
            .then(|| self.response(types::EXTENSION, resources, Vec::new(), None, Span::none()))
    }

    /// Answers a subscription. Envoy waits for an answer even where there is nothing, so there always is one.
    fn introduce(
        &mut self,
        type_url: &'static str,
        asked: &Asked,
        world: &World,
    ) -> Vec<DeltaDiscoveryResponse> {
        let mut fresh = Vec::new();
        for (name, stored) in
            world.all(type_url).filter(|(name, _)| asked.wildcard || asked.named.contains(*name))
        {
            if asked.held.get(name) != Some(&stored.version) {
                fresh.push(self.resource(type_url, name, stored));
            } else if let Some(ttl) = self.ttl.filter(|_| type_url == types::EXTENSION) {
                // Its time runs on since the last stream.
                fresh.push(sign_of_life(name, stored, ttl));
            }
        }
        let gone = asked.held.keys().chain(&asked.named).filter(|name| world.find(type_url, name).is_none());
        let gone: BTreeSet<String> = gone.cloned().collect();
        self.batches(type_url, fresh, gone.into_iter().collect(), world.seq(), Span::none())
    }

    fn catch_up(
        &mut self,
        type_url: &'static str,
        world: &World,
    ) -> Result<Vec<DeltaDiscoveryResponse>, Behind> {
        let Some(subscription) = self.subscriptions.get_mut(type_url) else {
            return Ok(Vec::new());
        };
        let changed = world.changed_since(type_url, subscription.sent).ok_or(Behind)?;
        let sent = std::mem::replace(&mut subscription.sent, world.seq());
        let wanted: Vec<&str> = changed.into_iter().filter(|name| subscription.wants(name)).collect();
        let (mut fresh, mut gone) = (Vec::new(), Vec::new());
        for name in wanted {
            match world.find(type_url, name) {
                Some(stored) => fresh.push(self.resource(type_url, name, stored)),
                None => gone.push(name.to_string()),
            }
        }
        if fresh.is_empty() && gone.is_empty() {
            return Ok(Vec::new());
        }
        let span = world.underway().push(sent, &self.node, type_url);
        Ok(self.batches(type_url, fresh, gone, world.seq(), span))
    }

    fn announce_baseline(&mut self, world: &World) -> Vec<DeltaDiscoveryResponse> {
        // Whoever is behind now hears of it with the next change, and holds less than the counts say.
        let mut responses = self.catch_up(types::GRANT, world).unwrap_or_default();
        responses.extend(self.catch_up(types::SESSION, world).unwrap_or_default());
        if !std::mem::replace(&mut self.baseline_sent, true) {
            let baseline =
                v1::Baseline { grants: world.count(types::GRANT), sessions: world.count(types::SESSION) };
            let resource = Resource {
                name: BASELINE_NAME.into(),
                version: world.seq().to_string(),
                resource: Some(Any { type_url: types::BASELINE.into(), value: baseline.encode_to_vec() }),
                ..Default::default()
            };
            let (resources, reaches) = (vec![resource], Some(world.seq()));
            responses.push(self.response(types::BASELINE, resources, Vec::new(), reaches, Span::none()));
        }
        responses
    }

    fn resource(&self, type_url: &str, name: &str, stored: &Stored) -> Resource {
        Resource {
            name: name.into(),
            version: stored.version.clone(),
            resource: Some(stored.body.clone()),
            ttl: self.ttl.filter(|_| type_url == types::EXTENSION).map(proto),
            ..Default::default()
        }
    }

    /// As few responses as their size allows; at least one.
    fn batches(
        &mut self,
        type_url: &'static str,
        fresh: Vec<Resource>,
        gone: Vec<String>,
        seq: u64,
        span: Span,
    ) -> Vec<DeltaDiscoveryResponse> {
        let mut responses = Vec::new();
        let (mut batch, mut size) = (Vec::new(), 0);
        for resource in fresh {
            let bytes = resource.encoded_len();
            if size + bytes > RESPONSE_BYTES && !batch.is_empty() {
                let full = std::mem::take(&mut batch);
                responses.push(self.response(type_url, full, Vec::new(), None, Span::none()));
                size = 0;
            }
            size += bytes;
            batch.push(resource);
        }
        responses.push(self.response(type_url, batch, gone, Some(seq), span));
        responses
    }

    fn response(
        &mut self,
        type_url: &'static str,
        resources: Vec<Resource>,
        removed_resources: Vec<String>,
        reaches: Option<u64>,
        span: Span,
    ) -> DeltaDiscoveryResponse {
        self.nonces += 1;
        let nonce = self.nonces.to_string();
        let names =
            resources.iter().map(|resource| resource.name.clone()).chain(removed_resources.iter().cloned());
        let pending = Pending { nonce: nonce.clone(), reaches, names: names.collect(), span };
        self.subscriptions.entry(type_url).or_default().pending.push_back(pending);
        DeltaDiscoveryResponse {
            system_version_info: reaches.map_or_else(String::new, |seq| seq.to_string()),
            resources,
            type_url: type_url.into(),
            nonce,
            removed_resources,
            ..Default::default()
        }
    }
}

/// What a request subscribes to.
struct Asked {
    wildcard: bool,
    named: BTreeSet<String>,
    /// Versions that the subscriber holds.
    held: BTreeMap<String, String>,
}

fn sign_of_life(name: &str, stored: &Stored, ttl: Duration) -> Resource {
    Resource {
        name: name.into(),
        version: stored.version.clone(),
        ttl: Some(proto(ttl)),
        ..Default::default()
    }
}

fn proto(duration: Duration) -> ProtoDuration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    ProtoDuration { seconds, nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0) }
}

#[cfg(test)]
mod tests;
