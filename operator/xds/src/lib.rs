//! Wanted proxy to Envoy resources; the delta-xDS connection state machine; the tonic adapter.
