//! What a gateway beside a server is told, file by file.

use std::path::Path;

use sallyport_envoy::Service;
use sallyport_envoy::sidecar::Sidecar;
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
    for (key, content) in sidecar.files().of_server("0123abcd").entries() {
        assert_golden(folder.join(key), content);
    }
}
