//! Ports of a server's pods that are the gateway's own.

/// Envoy's admin interface, on the pod's loopback.
pub const GATEWAY_ADMIN_PORT: u16 = 9901;
/// What the kubelet asks to drain a gateway, and Prometheus for its figures.
pub const GATEWAY_LIFECYCLE_PORT: u16 = 15021;
/// Both, which no server may listen on behind a gateway.
pub const GATEWAY_PORTS: [u16; 2] = [GATEWAY_ADMIN_PORT, GATEWAY_LIFECYCLE_PORT];
