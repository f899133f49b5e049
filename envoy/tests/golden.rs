//! What a gateway beside a server is told, file by file.

use std::path::Path;

use sallyport_envoy::Service;
use sallyport_envoy::sidecar::{Sidecar, Track};
use sallyport_test_support::assert_golden;

fn service(name: &str, port: u16) -> Service {
    let host = format!("{name}.sallyport-system.svc");
    Service { server_name: host.clone(), host, port }
}

#[test]
fn a_gateway_beside_a_server_is_told_where_everything_is() {
    let sidecar = Sidecar {
        control_plane: service("sallyport-operator", 18000),
        ingest: service("sallyport-ingest", 18001),
        authority: "-----BEGIN CERTIFICATE-----\n".into(),
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/sidecar");
    for (key, content) in sidecar.files() {
        assert_golden(folder.join(key), &content);
    }
}

#[test]
fn the_track_of_a_pod_is_told_apart_from_its_servers_name() {
    assert_eq!(Track::Stable.service_cluster("payments-canary"), "payments-canary:stable");
    assert_eq!(Track::Canary.service_cluster("payments"), "payments:canary");
}
