//! The listener: one HTTP connection manager, the filter, the router.

use envoy_types::pb::envoy::config::core::v3::{HttpProtocolOptions, http_protocol_options};
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType as NetworkConfig;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    CodecType, PathWithEscapedSlashesAction, RouteSpecifier, ServerHeaderTransformation,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds,
};
use envoy_types::pb::google::protobuf::{BoolValue, Duration, UInt32Value};
use sallyport_operator_ir::ProxyPlan;

use super::{FILTER, LISTENER, any, cluster, filter};

/// Room beyond the largest body, so that the filter and not the buffer refuses one that is too large.
const SLACK: u32 = 64 * 1024;

pub(super) fn render(plan: &ProxyPlan) -> Listener {
    Listener {
        name: LISTENER.into(),
        address: Some(cluster::address(&plan.listen)),
        per_connection_buffer_limit_bytes: Some(UInt32Value {
            value: plan.max_body_bytes.saturating_add(SLACK),
        }),
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
    // Callers are told nothing of what lies behind.
    let router = Router { suppress_envoy_headers: true, ..Default::default() };
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
            headers_with_underscores_action:
                http_protocol_options::HeadersWithUnderscoresAction::RejectRequest.into(),
            ..Default::default()
        }),
        request_headers_timeout: seconds(10),
        // The whole request, body included; answers and streams may take as long as they like.
        request_timeout: seconds(60),
        stream_idle_timeout: seconds(0),
        // A stream that is cut must be seen as cut; by default the client would learn of it a second later.
        delayed_close_timeout: Some(Duration { seconds: 0, nanos: 20_000_000 }),
        http_filters: vec![
            HttpFilter {
                name: FILTER.into(),
                config_type: Some(ConfigType::ConfigDiscovery(filter::source(plan))),
                ..Default::default()
            },
            HttpFilter {
                name: "envoy.filters.http.router".into(),
                config_type: Some(ConfigType::TypedConfig(any(&router))),
                ..Default::default()
            },
        ],
        // Apart from the listener: a change of routes drains no connection.
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(super::ads()),
            route_config_name: LISTENER.into(),
        })),
        ..Default::default()
    }
}
