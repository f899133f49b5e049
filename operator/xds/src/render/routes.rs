//! The listener's routes. The filter knows a server by the name of its route.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::{ClusterSpecifier, HostRewriteSpecifier};
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
};
use envoy_types::pb::google::protobuf::{BoolValue, Duration};
use sallyport_operator_ir::{ProxyPlan, Route as Way};

use super::LISTENER;

/// What a listener on loopback is called. A page that has its own name resolved to this machine (DNS rebinding) names
/// another host.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// One virtual host per host that is named, and one for all others that can mean this listener; what leads nowhere is
/// answered 404, after the filter has recorded it.
pub(super) fn render(plan: &ProxyPlan) -> RouteConfiguration {
    let mut hosts: Vec<&str> = plan.routes.iter().filter_map(|way| way.host.as_deref()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    let named = hosts.iter().map(|host| virtual_host(host, domains(host), ways(plan, Some(host))));
    let is_loopback = plan.listen.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let others = if is_loopback {
        let own = LOOPBACK.into_iter().filter(|own| !hosts.contains(own)).flat_map(domains).collect();
        vec![
            virtual_host("loopback", own, ways(plan, None)),
            virtual_host("any", vec!["*".into()], vec![nowhere()]),
        ]
    } else {
        vec![virtual_host("any", vec!["*".into()], ways(plan, None))]
    };
    RouteConfiguration {
        name: LISTENER.into(),
        virtual_hosts: named.chain(others).filter(|host| !host.domains.is_empty()).collect(),
        // A cluster that Envoy refused fails the calls of its own server (503) and no others.
        validate_clusters: Some(BoolValue { value: false }),
        ..Default::default()
    }
}

fn virtual_host(name: &str, domains: Vec<String>, routes: Vec<Route>) -> VirtualHost {
    VirtualHost { name: name.into(), domains, routes, ..Default::default() }
}

/// A host with any port.
fn domains(host: &str) -> Vec<String> {
    vec![host.into(), format!("{host}:*")]
}

fn ways(plan: &ProxyPlan, host: Option<&str>) -> Vec<Route> {
    let fits = |way: &&Way| way.host.is_none() || way.host.as_deref() == host;
    let mut ways: Vec<Route> = plan.routes.iter().filter(fits).flat_map(|way| routes(way, plan)).collect();
    ways.push(nowhere());
    ways
}

fn nowhere() -> Route {
    Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".into())),
            ..Default::default()
        }),
        action: Some(Action::DirectResponse(DirectResponseAction { status: 404, ..Default::default() })),
        ..Default::default()
    }
}

/// An MCP endpoint is one path, with or without a slash at its end. What lies below it is none of the protocol's, and no
/// verdict would cover it. A server at the root has all paths of its host.
fn routes(way: &Way, plan: &ProxyPlan) -> Vec<Route> {
    match way.path.as_str() {
        "/" => vec![route(way, plan, PathSpecifier::Prefix("/".into()))],
        path => vec![
            route(way, plan, PathSpecifier::Path(path.into())),
            route(way, plan, PathSpecifier::Path(format!("{path}/"))),
        ],
    }
}

fn route(way: &Way, plan: &ProxyPlan, path: PathSpecifier) -> Route {
    // A server behind TLS is found by the name that it proves.
    let upstream = plan.upstreams.iter().find(|upstream| upstream.name == way.upstream);
    let host = upstream.and_then(|upstream| {
        let (name, port) = (upstream.tls.as_deref()?, upstream.address.port);
        let name = if name.contains(':') { format!("[{name}]") } else { name.to_string() };
        Some(if port == 443 { name } else { format!("{name}:{port}") })
    });
    Route {
        name: way.name.clone(),
        r#match: Some(RouteMatch { path_specifier: Some(path), ..Default::default() }),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(way.upstream.clone())),
            prefix_rewrite: way.rewrite.clone().unwrap_or_default(),
            host_rewrite_specifier: host.map(HostRewriteSpecifier::HostRewriteLiteral),
            // Answers and streams may take as long as they like.
            timeout: Some(Duration::default()),
            idle_timeout: Some(Duration::default()),
            ..Default::default()
        })),
        ..Default::default()
    }
}
