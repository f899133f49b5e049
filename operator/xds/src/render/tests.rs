use std::fmt::Write;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;
use sallyport_operator_ir::{Address, Route, Upstream};
use sallyport_test_support::assert_golden;

use prost::Message;

use super::*;

fn upstream(name: &str, host: &str, port: u16) -> Upstream {
    Upstream { name: format!("mcp/{name}"), address: Address { host: host.into(), port }, tls: None }
}

fn route(name: &str, path: &str) -> Route {
    let (name, upstream) = (name.to_string(), format!("mcp/{name}"));
    Route { name, host: None, path: path.into(), rewrite: None, upstream }
}

fn plan(routes: Vec<Route>, upstreams: Vec<Upstream>) -> ProxyPlan {
    ProxyPlan {
        listen: Address { host: "127.0.0.1".into(), port: 8091 },
        routes,
        upstreams,
        max_body_bytes: 1 << 20,
        module: "/opt/sallyport/filter.wasm".into(),
        filter_config: vec![1, 2, 3],
        filter_needs: 1,
    }
}

/// A message as text, without the fields that are not set, and with the messages inside `Any` spelled out.
fn text(message: &Any) -> String {
    fn decoded<M: Message + Default + std::fmt::Debug>(any: &Any) -> String {
        format!("{:#?}", M::decode(any.value.as_slice()).unwrap())
    }
    let debug = match any_name(message) {
        "Cluster" => decoded::<Cluster>(message),
        "Listener" => decoded::<Listener>(message),
        "RouteConfiguration" => decoded::<RouteConfiguration>(message),
        "TypedExtensionConfig" => decoded::<TypedExtensionConfig>(message),
        "HttpConnectionManager" => decoded::<HttpConnectionManager>(message),
        "Wasm" => decoded::<Wasm>(message),
        "UpstreamTlsContext" => decoded::<UpstreamTlsContext>(message),
        _ => return format!("{} of {} bytes", any_name(message), message.value.len()),
    };
    let mut text = String::new();
    let mut lines = debug.lines();
    while let Some(line) = lines.next() {
        let unset = [": None,", ": [],", ": \"\",", ": 0,", ": false,", ": {},"];
        if unset.iter().any(|end| line.ends_with(end)) {
            continue;
        }
        if line.trim() == "value: [" {
            let inside = lines.by_ref().take_while(|line| line.trim() != "],");
            let value = inside.map(|line| line.trim().trim_end_matches(',').parse::<u8>().unwrap()).collect();
            let type_url =
                text.lines().last().unwrap().trim().trim_start_matches("type_url: ").trim_matches(['"', ',']);
            let inner = self::text(&Any { type_url: type_url.into(), value });
            let indent = " ".repeat(line.len() - line.trim_start().len());
            for line in inner.lines() {
                writeln!(text, "{indent}{line}").unwrap();
            }
            continue;
        }
        writeln!(text, "{line}").unwrap();
    }
    text
}

fn any_name(any: &Any) -> &str {
    any.type_url.rsplit('.').next().unwrap_or_default()
}

fn golden(name: &str, plan: &ProxyPlan, kinds: &[&'static str]) {
    let mut world = World::default();
    apply(plan, &mut world);
    let mut all = String::new();
    for kind in kinds {
        for (name, stored) in world.all(kind) {
            writeln!(all, "# {name}\n{}", text(&stored.body)).unwrap();
        }
    }
    assert_golden(format!("{}/testdata/{name}.txt", env!("CARGO_MANIFEST_DIR")), &all);
}

#[test]
fn one_server_is_a_listener_a_route_a_cluster_and_a_filter() {
    let plan = plan(vec![route("n/a", "/a/mcp")], vec![upstream("n/a", "127.0.0.1", 8088)]);
    golden("one-server", &plan, &types::ALL);
}

#[test]
fn two_servers_share_the_listener() {
    let mut second = route("n/b", "/b");
    second.rewrite = Some("/mcp".into());
    let upstreams = vec![upstream("n/a", "127.0.0.1", 8088), upstream("n/b", "b.local", 80)];
    golden(
        "two-servers",
        &plan(vec![route("n/a", "/a/mcp"), second], upstreams),
        &[types::CLUSTER, types::ROUTES],
    );
}

#[test]
fn a_server_with_a_host_has_a_virtual_host_and_the_others_are_there_too() {
    let hosted = Route { host: Some("mcp.example.com".into()), ..route("n/a", "/") };
    let plan = plan(vec![hosted, route("n/b", "/b")], vec![]);
    golden("host-route", &plan, &[types::ROUTES]);
}

#[test]
fn a_listener_that_others_can_reach_answers_to_any_host() {
    let mut plan = plan(vec![route("n/a", "/a")], vec![]);
    plan.listen.host = "0.0.0.0".into();
    golden("any-host", &plan, &[types::ROUTES]);
}

#[test]
fn a_server_behind_tls_is_proven_and_addressed_by_its_name() {
    let mut named = upstream("n/a", "mcp.example.com", 443);
    named.tls = Some("mcp.example.com".into());
    let mut numbered = upstream("n/b", "192.0.2.1", 8443);
    numbered.tls = Some("192.0.2.1".into());
    let plan = plan(vec![route("n/a", "/a"), route("n/b", "/b")], vec![named, numbered]);
    golden("tls-upstream", &plan, &[types::CLUSTER, types::ROUTES]);
}

#[test]
fn what_goes_is_removed_and_what_stays_is_no_change() {
    let mut world = World::default();
    let both = vec![upstream("n/a", "127.0.0.1", 1), upstream("n/b", "127.0.0.1", 2)];
    apply(&plan(vec![route("n/a", "/a"), route("n/b", "/b")], both.clone()), &mut world);
    let seq = world.seq();
    apply(&plan(vec![route("n/a", "/a"), route("n/b", "/b")], both.clone()), &mut world);
    assert_eq!(world.seq(), seq);
    apply(&plan(vec![route("n/a", "/a")], both[..1].to_vec()), &mut world);
    assert_eq!(world.changed_since(types::CLUSTER, seq), Some(vec!["mcp/n/b"]));
    assert_eq!(world.changed_since(types::ROUTES, seq), Some(vec![LISTENER]));
    assert_eq!(world.changed_since(types::LISTENER, seq), Some(vec![]), "connections are not drained");
    assert!(world.find(types::CLUSTER, "mcp/n/b").is_none());
}
