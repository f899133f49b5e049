//! The listener: one HTTP connection manager, the filter, the router.

use envoy_types::pb::envoy::config::core::v3::{Http1ProtocolOptions, HttpProtocolOptions, http_protocol_options};
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType as NetworkConfig;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    CodecType, PathWithEscapedSlashesAction, RouteSpecifier, ServerHeaderTransformation,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter,
};
use envoy_types::pb::google::protobuf::{BoolValue, Duration, UInt32Value};
use sallyport_operator_ir::{ProxyPlan, Route as Way};

use super::{FILTER, LISTENER, any, cluster, filter};

/// Room beyond the largest body, so that the filter and not the buffer refuses one that is too large.
const SLACK: u32 = 64 * 1024;

pub(super) fn render(plan: &ProxyPlan) -> Listener {
    Listener {
        name: LISTENER.into(),
        address: Some(cluster::address(&plan.listen)),
        per_connection_buffer_limit_bytes: Some(UInt32Value { value: plan.max_body_bytes.saturating_add(SLACK) }),
        filter_chains: vec![FilterChain {
            filters: vec![Filter {
                name: "envoy.filters.network.http_connection_manager".into(),
                config_type: Some(NetworkConfig::TypedConfig(any(&manager(plan)))),
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

fn yes() -> Option<BoolValue> {
    Some(BoolValue { value: true })
}

fn manager(plan: &ProxyPlan) -> HttpConnectionManager {
    HttpConnectionManager {
        stat_prefix: LISTENER.into(),
        codec_type: CodecType::Auto.into(),
        // One reading of every path, for the routes and for what is recorded.
        normalize_path: yes(),
        merge_slashes: true,
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction::RejectRequest.into(),
        server_header_transformation: ServerHeaderTransformation::PassThrough.into(),
        use_remote_address: yes(),
        generate_request_id: Some(BoolValue { value: false }),
        common_http_protocol_options: Some(HttpProtocolOptions {
            // `Mcp_Name` is `Mcp-Name` to servers behind CGI-like interfaces.
            headers_with_underscores_action: http_protocol_options::HeadersWithUnderscoresAction::RejectRequest.into(),
            ..Default::default()
        }),
        http_protocol_options: Some(Http1ProtocolOptions::default()),
        request_headers_timeout: seconds(10),
        // The whole request, body included; answers and streams may take as long as they like.
        request_timeout: seconds(60),
        stream_idle_timeout: seconds(0),
        http_filters: vec![
            HttpFilter {
                name: FILTER.into(),
                config_type: Some(ConfigType::ConfigDiscovery(filter::source(plan))),
                ..Default::default()
            },
            HttpFilter {
                name: "envoy.filters.http.router".into(),
                config_type: Some(ConfigType::TypedConfig(any(&Router::default()))),
                ..Default::default()
            },
        ],
        route_specifier: Some(RouteSpecifier::RouteConfig(routes(plan))),
        ..Default::default()
    }
}

/// One virtual host per host that is named, and one for all others; a path that leads nowhere is answered 404, after
/// the filter has recorded it.
fn routes(plan: &ProxyPlan) -> RouteConfiguration {
    let mut hosts: Vec<&str> = plan.routes.iter().filter_map(|way| way.host.as_deref()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    let named = hosts.into_iter().map(|host| VirtualHost {
        name: host.into(),
        domains: vec![host.into(), format!("{host}:*")],
        routes: ways(plan, Some(host)),
        ..Default::default()
    });
    let others =
        VirtualHost { name: "any".into(), domains: vec!["*".into()], routes: ways(plan, None), ..Default::default() };
    RouteConfiguration { name: LISTENER.into(), virtual_hosts: named.chain([others]).collect(), ..Default::default() }
}

fn ways(plan: &ProxyPlan, host: Option<&str>) -> Vec<Route> {
    let mut ways: Vec<Route> =
        plan.routes.iter().filter(|way| way.host.is_none() || way.host.as_deref() == host).map(way).collect();
    ways.push(Route {
        name: String::new(),
        r#match: Some(RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".into())), ..Default::default() }),
        action: Some(Action::DirectResponse(DirectResponseAction { status: 404, ..Default::default() })),
        ..Default::default()
    });
    ways
}

fn way(way: &Way) -> Route {
    Route {
        name: way.name.clone(),
        r#match: Some(RouteMatch {
            // The path itself, or below it at a slash.
            path_specifier: Some(PathSpecifier::PathSeparatedPrefix(way.path.clone())),
            ..Default::default()
        }),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(way.upstream.clone())),
            prefix_rewrite: way.rewrite.clone().unwrap_or_default(),
            timeout: seconds(0),
            idle_timeout: seconds(0),
            ..Default::default()
        })),
        ..Default::default()
    }
}
