//! A proxy's plan as Envoy resources. Pure: the same plan gives the same bytes.

mod cluster;
mod filter;
mod listener;

use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};
use sallyport_operator_ir::ProxyPlan;
use sallyport_policy_proto::resource;

use crate::world::{World, types};

/// Name of the one listener.
pub const LISTENER: &str = "mcp";
/// Name of the filter's configuration resource.
pub const FILTER: &str = "sallyport";

fn any(message: &(impl Message + Name)) -> Any {
    Any { type_url: message_type_url(message), value: message.encode_to_vec() }
}

fn message_type_url<M: Name>(_: &M) -> String {
    format!("type.googleapis.com/{}", M::full_name())
}

fn versioned(body: Any) -> (Any, String) {
    let version = resource::version(&body.value);
    (body, version)
}

/// Brings Envoy's own resources of `world` to what `plan` says.
pub fn apply(plan: &ProxyPlan, world: &mut World) {
    let wanted: Vec<String> = plan.upstreams.iter().map(|upstream| upstream.name.clone()).collect();
    let stale: Vec<String> = world.all(types::CLUSTER).map(|(name, _)| name.clone()).filter(|n| !wanted.contains(n)).collect();
    for upstream in &plan.upstreams {
        world.set(types::CLUSTER, &upstream.name, Some(versioned(any(&cluster::render(upstream)))));
    }
    world.set(types::EXTENSION, FILTER, Some(versioned(any(&filter::extension(plan)))));
    world.set(types::LISTENER, LISTENER, Some(versioned(any(&listener::render(plan)))));
    for name in stale {
        world.set(types::CLUSTER, &name, None);
    }
}
