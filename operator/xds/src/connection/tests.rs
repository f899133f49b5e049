use envoy_types::pb::google::rpc::Status;

use super::*;

fn world(sessions: &[(&str, &str)]) -> World {
    let mut world = World::default();
    for (name, version) in sessions {
        set(&mut world, types::SESSION, name, version);
    }
    world
}

fn set(world: &mut World, type_url: &'static str, name: &str, version: &str) -> u64 {
    let body = Any { type_url: type_url.into(), value: version.as_bytes().to_vec() };
    world.set(type_url, name, Some((body, version.into())))
}

fn subscribe(type_url: &str, names: &[&str], held: &[(&str, &str)]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: type_url.into(),
        resource_names_subscribe: names.iter().map(ToString::to_string).collect(),
        initial_resource_versions: held.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect(),
        ..Default::default()
    }
}

fn answer(to: &DeltaDiscoveryResponse, refusal: Option<&str>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: to.type_url.clone(),
        response_nonce: to.nonce.clone(),
        error_detail: refusal.map(|message| Status {
            code: 3,
            message: message.into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// `+name` for a resource with a body, `~name` for one without, `-name` for a removal.
fn told(responses: &[DeltaDiscoveryResponse]) -> Vec<String> {
    let of = |response: &DeltaDiscoveryResponse| {
        let sign = |r: &Resource| format!("{}{}", if r.resource.is_some() { '+' } else { '~' }, r.name);
        let gone = response.removed_resources.iter().map(|name| format!("-{name}"));
        response.resources.iter().map(sign).chain(gone).collect::<Vec<_>>()
    };
    responses.iter().flat_map(of).collect()
}

#[test]
fn a_wildcard_subscriber_is_sent_everything_and_then_changes_alone() {
    let mut world = world(&[("a", "1"), ("b", "1")]);
    let mut connection = Connection::new(None);
    let responses = connection.on_request(subscribe(types::SESSION, &["*"], &[]), &world);
    assert_eq!(told(&responses), ["+a", "+b"]);
    assert!(connection.is_filter());
    assert_eq!(told(&connection.on_change(&world).unwrap()), [""; 0]);
    set(&mut world, types::SESSION, "b", "2");
    world.set(types::SESSION, "a", None);
    set(&mut world, types::GRANT, "g", "1");
    assert_eq!(told(&connection.on_change(&world).unwrap()), ["+b", "-a"], "grants were not asked for");
}

#[test]
fn who_comes_back_is_sent_what_changed_in_between() {
    let world = world(&[("a", "1"), ("b", "2"), ("c", "1")]);
    let held = [("a", "1"), ("b", "1"), ("gone", "1")];
    let responses = Connection::new(None).on_request(subscribe(types::SESSION, &["*"], &held), &world);
    assert_eq!(told(&responses), ["+b", "+c", "-gone"]);
}

#[test]
fn a_first_subscription_is_answered_though_there_is_nothing() {
    let world = World::default();
    let mut connection = Connection::new(None);
    let responses = connection.on_request(subscribe(types::CLUSTER, &[], &[]), &world);
    assert_eq!((responses.len(), told(&responses).len()), (1, 0));
    assert_eq!(connection.on_request(answer(&responses[0], None), &world), []);
    assert_eq!(connection.totals(), (1, 1, 0));
}

#[test]
fn a_name_is_sent_to_who_asks_for_it_until_it_is_unsubscribed() {
    let mut world = world(&[]);
    set(&mut world, types::EXTENSION, "mine", "1");
    set(&mut world, types::EXTENSION, "other", "1");
    let mut connection = Connection::new(None);
    let responses = connection.on_request(subscribe(types::EXTENSION, &["mine", "missing"], &[]), &world);
    assert_eq!(told(&responses), ["+mine", "-missing"]);
    set(&mut world, types::EXTENSION, "other", "2");
    set(&mut world, types::EXTENSION, "missing", "1");
    assert_eq!(told(&connection.on_change(&world).unwrap()), ["+missing"]);
    let unsubscribe = DeltaDiscoveryRequest {
        type_url: types::EXTENSION.into(),
        resource_names_unsubscribe: vec!["mine".into()],
        ..Default::default()
    };
    assert_eq!(connection.on_request(unsubscribe, &world), []);
    set(&mut world, types::EXTENSION, "mine", "2");
    assert_eq!(told(&connection.on_change(&world).unwrap()), [""; 0]);
}

#[test]
fn changes_are_sent_in_the_order_of_reference() {
    let mut world = World::default();
    let mut connection = Connection::new(None);
    for type_url in [types::EXTENSION, types::ROUTES, types::LISTENER, types::CLUSTER] {
        connection.on_request(subscribe(type_url, &["*"], &[]), &world);
    }
    for type_url in [types::EXTENSION, types::ROUTES, types::LISTENER, types::CLUSTER] {
        set(&mut world, type_url, type_url, "1");
    }
    let order: Vec<String> = connection.on_change(&world).unwrap().into_iter().map(|r| r.type_url).collect();
    assert_eq!(order, [types::CLUSTER, types::LISTENER, types::ROUTES, types::EXTENSION]);
}

#[test]
fn a_change_counts_as_answered_when_everything_before_it_is() {
    let mut world = world(&[("a", "1")]);
    let mut connection = Connection::new(None);
    let first = connection.on_request(subscribe(types::SESSION, &["*"], &[]), &world);
    let seq = set(&mut world, types::SESSION, "a", "2");
    let second = connection.on_change(&world).unwrap();
    assert_eq!(connection.answered(types::SESSION), 0);
    connection.on_request(answer(&first[0], None), &world);
    assert!(connection.answered(types::SESSION) < seq);
    connection.on_request(answer(&second[0], None), &world);
    assert_eq!(connection.answered(types::SESSION), seq);
    // What concerns another type needs no answer of this one.
    let seq = set(&mut world, types::GRANT, "g", "1");
    connection.on_change(&world).unwrap();
    assert_eq!(connection.answered(types::SESSION), seq);
}

#[test]
fn a_refused_resource_stays_refused_until_a_later_form_of_it_is_taken() {
    let mut world = world(&[("a", "1")]);
    let mut connection = Connection::new(None);
    let first = connection.on_request(subscribe(types::SESSION, &["*"], &[]), &world);
    connection.on_request(answer(&first[0], Some("does not decode")), &world);
    let key = (types::SESSION, "a".to_string());
    assert_eq!(connection.refused().get(&key).map(String::as_str), Some("does not decode"));
    set(&mut world, types::SESSION, "b", "1");
    let second = connection.on_change(&world).unwrap();
    connection.on_request(answer(&second[0], None), &world);
    assert!(connection.refused().contains_key(&key), "another resource's acknowledgement does not mend it");
    set(&mut world, types::SESSION, "a", "2");
    let third = connection.on_change(&world).unwrap();
    connection.on_request(answer(&third[0], None), &world);
    assert_eq!(connection.refused().len(), 0);
    assert_eq!(connection.totals(), (3, 2, 1));
}

#[test]
fn the_baseline_follows_everything_and_comes_once() {
    let mut world = world(&[("a", "1"), ("b", "1")]);
    set(&mut world, types::GRANT, "g", "1");
    let mut connection = Connection::new(None);
    connection.on_request(subscribe(types::GRANT, &["*"], &[]), &world);
    connection.on_request(subscribe(types::SESSION, &["*"], &[]), &world);
    set(&mut world, types::SESSION, "c", "1");
    let responses = connection.on_request(subscribe(types::BASELINE, &["*"], &[]), &world);
    assert_eq!(told(&responses), ["+c", "+baseline"]);
    let body = responses[1].resources[0].resource.clone().unwrap();
    let baseline = v1::Baseline::decode(body.value.as_slice()).unwrap();
    assert_eq!((baseline.grants, baseline.sessions), (1, 3));
    assert_eq!(connection.on_request(answer(&responses[1], None), &world), []);
    assert_eq!(connection.on_request(subscribe(types::BASELINE, &["*"], &[]), &world), []);
}

#[test]
fn a_large_answer_comes_in_pieces_and_counts_when_the_last_is_taken() {
    let mut world = World::default();
    for name in ["a", "b", "c"] {
        let body = Any { type_url: types::SESSION.into(), value: vec![0; RESPONSE_BYTES / 2] };
        world.set(types::SESSION, name, Some((body, "1".into())));
    }
    let mut connection = Connection::new(None);
    let responses = connection.on_request(subscribe(types::SESSION, &["*"], &[]), &world);
    assert_eq!(responses.len(), 3);
    assert!(responses.iter().all(|response| response.encoded_len() <= RESPONSE_BYTES));
    for response in &responses {
        assert_eq!(connection.answered(types::SESSION), 0);
        connection.on_request(answer(response, None), &world);
    }
    assert_eq!(connection.answered(types::SESSION), world.seq());
}

#[test]
fn filter_configurations_live_by_signs_of_life() {
    let mut world = World::default();
    set(&mut world, types::EXTENSION, "sallyport", "1");
    set(&mut world, types::CLUSTER, "c", "1");
    let mut connection = Connection::new(Some(Duration::from_millis(1500)));
    let first = connection.on_request(subscribe(types::EXTENSION, &["sallyport"], &[]), &world);
    assert_eq!(first[0].resources[0].ttl, Some(ProtoDuration { seconds: 1, nanos: 500_000_000 }));
    let beat = connection.heartbeat(&world).unwrap();
    assert_eq!(told(std::slice::from_ref(&beat)), ["~sallyport"]);
    assert_eq!(beat.resources[0].version, "1");
    assert!(beat.resources[0].ttl.is_some());
    let clusters = connection.on_request(subscribe(types::CLUSTER, &[], &[]), &world);
    assert_eq!(clusters[0].resources[0].ttl, None, "only the filter's");
    let mut resumed = Connection::new(Some(Duration::from_secs(1)));
    let held = resumed.on_request(subscribe(types::EXTENSION, &["sallyport"], &[("sallyport", "1")]), &world);
    assert_eq!(told(&held), ["~sallyport"], "its time ran on since the last stream");
    assert_eq!(Connection::new(None).heartbeat(&world), None);
}

#[test]
fn who_missed_forgotten_removals_must_come_anew() {
    let mut world = world(&[("a", "1")]);
    let mut connection = Connection::new(None);
    connection.on_request(subscribe(types::SESSION, &["*"], &[]), &world);
    for round in 0..=70_000 {
        let name = round.to_string();
        set(&mut world, types::SESSION, &name, "1");
        world.set(types::SESSION, &name, None);
    }
    assert_eq!(connection.on_change(&world), Err(Behind));
}

#[test]
fn an_unknown_type_is_left_unanswered() {
    let mut connection = Connection::new(None);
    assert_eq!(
        connection.on_request(subscribe("type.googleapis.com/other", &["*"], &[]), &World::default()),
        []
    );
}

/// Spans as they open and close, each with the path from the first above it, and its outcome when it closes.
#[derive(Clone, Default)]
struct Spans(std::sync::Arc<std::sync::Mutex<Vec<String>>>);

struct Outcome(String);

impl tracing::field::Visit for Outcome {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "outcome" {
            self.0 = format!(" {value:?}");
        }
    }
}

impl<S: tracing::Subscriber + for<'s> tracing_subscriber::registry::LookupSpan<'s>>
    tracing_subscriber::Layer<S> for Spans
{
    fn on_record(
        &self,
        id: &tracing::span::Id,
        values: &tracing::span::Record<'_>,
        context: tracing_subscriber::layer::Context<'_, S>,
    ) {
        let mut outcome = Outcome(String::new());
        values.record(&mut outcome);
        context.span(id).unwrap().extensions_mut().insert(outcome);
    }

    fn on_close(&self, id: tracing::span::Id, context: tracing_subscriber::layer::Context<'_, S>) {
        let span = context.span(&id).unwrap();
        let path: Vec<&str> = span.scope().from_root().map(|span| span.name()).collect();
        let outcome = span.extensions().get::<Outcome>().map(|outcome| outcome.0.clone()).unwrap_or_default();
        self.0.lock().unwrap().push(path.join(" > ") + &outcome);
    }
}

#[test]
fn a_push_is_traced_from_the_change_to_its_answer() {
    use tracing_subscriber::layer::SubscriberExt;
    let spans = Spans::default();
    let _traced = tracing::subscriber::set_default(tracing_subscriber::registry().with(spans.clone()));
    let closed = || std::mem::take(&mut *spans.0.lock().unwrap());
    let mut world = world(&[("a", "1")]);
    let mut connections = [Connection::new(None), Connection::new(None), Connection::new(None)];
    for connection in &mut connections {
        let response = connection.on_request(subscribe(types::SESSION, &["*"], &[]), &world).remove(0);
        connection.on_request(answer(&response, None), &world);
    }
    assert_eq!(closed(), [""; 0], "a beginning is no change");
    let change = tracing::debug_span!("operator.change").in_scope(|| {
        let change = set(&mut world, types::SESSION, "a", "2");
        world.underway().begin(change);
        change
    });
    let [first, second, third] = &mut connections;
    let pushed = |connection: &mut Connection| connection.on_change(&world).unwrap().remove(0);
    let (to_first, to_second) = (pushed(first), pushed(second));
    pushed(third);
    assert_eq!(closed(), [""; 0], "nobody has answered");
    first.on_request(answer(&to_first, None), &world);
    second.on_request(answer(&to_second, Some("no")), &world);
    let push = "operator.change > operator.propagate > operator.push";
    assert_eq!(closed(), [format!("{push} \"acknowledged\""), format!("{push} \"refused\"")]);
    let [_, _, third] = connections;
    drop(third);
    assert_eq!(closed(), [push.to_string()], "the stream ended without an answer");
    world.underway().end(change);
    assert_eq!(closed(), ["operator.change > operator.propagate", "operator.change"]);
}
