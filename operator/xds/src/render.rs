//! A proxy's plan as Envoy resources. Pure: the same plan gives the same bytes.

mod cluster;
mod filter;
mod listener;
mod routes;

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::{AggregatedConfigSource, ApiVersion, ConfigSource};
use envoy_types::pb::google::protobuf::Any;
use prost::Name;
use sallyport_operator_ir::ProxyPlan;
use sallyport_policy_proto::resource;

use crate::world::{World, types};

/// Name of the one listener, and of its routes.
pub const LISTENER: &str = "mcp";
/// Name of the filter's configuration resource.
pub const FILTER: &str = "sallyport";

fn any(message: &impl Name) -> Any {
    Any { type_url: message_type_url(message), value: message.encode_to_vec() }
}

fn message_type_url<M: Name>(_: &M) -> String {
    format!("type.googleapis.com/{}", M::full_name())
}

/// "From the same stream."
fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    }
}

fn versioned(body: Any) -> (Any, String) {
    let version = resource::version(&body.value);
    (body, version)
}

/// Brings Envoy's own resources of `world` to what `plan` says.
pub fn apply(plan: &ProxyPlan, world: &mut World) {
    world.set_needs(plan.filter_needs);
    let wanted: BTreeSet<&str> = plan.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    let all = world.all(types::CLUSTER).map(|(name, _)| name.to_string());
    let stale: Vec<String> = all.filter(|name| !wanted.contains(name.as_str())).collect();
    for upstream in &plan.upstreams {
        world.set(types::CLUSTER, &upstream.name, Some(versioned(any(&cluster::render(upstream)))));
    }
    world.set(types::LISTENER, LISTENER, Some(versioned(any(&listener::render(plan)))));
    world.set(types::ROUTES, LISTENER, Some(versioned(any(&routes::render(plan)))));
    world.set(types::EXTENSION, FILTER, Some(versioned(any(&filter::extension(plan)))));
    for name in stale {
        world.set(types::CLUSTER, &name, None);
    }
}

#[cfg(test)]
mod tests;
