//! The bootstrap in the real Envoy, which `make setup` installs.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sallyport_envoy::sidecar::{FOLDER, Files, Sidecar, TOKEN_FOLDER};
use sallyport_envoy::{Bootstrap, Node, Service, Watched, authority_file, render, token_file};
use sallyport_test_support::free_address;

fn envoy() -> Command {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/tools/envoy/envoy");
    let path = std::env::var_os("SALLYPORT_ENVOY").map_or(installed, PathBuf::from);
    assert!(path.is_file(), "{} is missing; run `make setup`", path.display());
    Command::new(path)
}

fn service(host: &str) -> Service {
    Service {
        host: host.into(),
        port: free_address().port(),
        server_name: "sallyport-operator.sallyport-system.svc".into(),
    }
}

/// A certificate authority; no matter whose.
fn authority() -> String {
    let bundle = fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").unwrap();
    let end = "-----END CERTIFICATE-----\n";
    bundle.split_inclusive(end).next().unwrap().to_string()
}

#[test]
fn envoy_accepts_the_bootstrap_of_a_sidecar() {
    let folder = tempfile::tempdir().unwrap();
    let at = |place: &str| format!("{}{place}", folder.path().display());
    let sidecar = Sidecar {
        control_plane: service("sallyport-operator.sallyport-system.svc"),
        ingest: service("sallyport-ingest.sallyport-system.svc"),
        authority: authority(),
    };
    for place in [FOLDER, TOKEN_FOLDER] {
        fs::create_dir_all(at(place)).unwrap();
    }
    fs::write(at(TOKEN_FOLDER) + "/token", "secret").unwrap();
    for (key, content) in sidecar.files().entries() {
        let content = content.replace(FOLDER, &at(FOLDER)).replace(TOKEN_FOLDER, &at(TOKEN_FOLDER));
        fs::write(format!("{}/{key}", at(FOLDER)), content).unwrap();
    }
    let bootstrap = at(FOLDER) + "/bootstrap.yaml";
    let flags =
        ["--mode", "validate", "--service-node", "ns/pod", "--service-cluster", "payments:canary", "-c"];
    let output = envoy().args(flags).arg(bootstrap).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

struct Running {
    child: Child,
    folder: tempfile::TempDir,
    admin: SocketAddr,
    lifecycle: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Running {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (admin, lifecycle) = (free_address().port(), free_address().port());
        let watched = |name: &str| Watched { secret: path(name), folder: path("") };
        fs::write(path("authority.json"), authority_file(&path("ca.pem"))).unwrap();
        fs::write(path("token.json"), token_file(&path("token"))).unwrap();
        fs::write(path("ca.pem"), authority()).unwrap();
        fs::write(path("token"), "secret").unwrap();
        let rendered = render(&Bootstrap {
            node: Some(Node { id: "ns/pod".into(), cluster: "payments:stable".into() }),
            admin: SocketAddr::from(([127, 0, 0, 1], admin)),
            control_plane: service("127.0.0.1"),
            ingest: service("127.0.0.1"),
            authority: watched("authority.json"),
            token: watched("token.json"),
            lifecycle: Some(lifecycle),
        });
        let bootstrap = Files { bootstrap: rendered, ..Files::default() }.of_server("0123abcd").bootstrap;
        // There is no control plane to wait for.
        let waits = "{ ads: {}, resource_api_version: V3 }";
        let waits_not = "{ ads: {}, resource_api_version: V3, initial_fetch_timeout: 0.1s }";
        fs::write(path("bootstrap.yaml"), bootstrap.replace(waits, waits_not)).unwrap();
        let log = fs::File::create(path("log")).unwrap();
        let flags = ["--use-dynamic-base-id", "--concurrency", "1", "--drain-strategy", "immediate", "-c"];
        let child = envoy()
            .args(flags)
            .arg(path("bootstrap.yaml"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut running = Self { child, admin: address(admin), lifecycle: address(lifecycle), folder };
        let deadline = Instant::now() + Duration::from_secs(20);
        while running.get(running.lifecycle, "GET", "/metrics").is_none_or(|(status, _)| status != 200) {
            assert!(running.child.try_wait().unwrap().is_none(), "Envoy ended: {}", running.log());
            assert!(Instant::now() < deadline, "Envoy is not up: {}", running.log());
            std::thread::yield_now();
        }
        running
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn get(&self, to: SocketAddr, method: &str, path: &str) -> Option<(u16, String)> {
        self.ask(to, method, path, "connection: close\r\n")
    }

    /// Status and text of an answer, once the connection is closed; none: it could not be had.
    fn ask(&self, to: SocketAddr, method: &str, path: &str, header: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(to).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n{header}\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let status = text.split(' ').nth(1)?.parse().ok()?;
        Some((status, text))
    }

    fn status(&self, to: SocketAddr, method: &str, path: &str) -> u16 {
        self.get(to, method, path).map_or(0, |(status, _)| status)
    }
}

#[test]
fn a_pod_drains_when_the_kubelet_asks_and_offers_nothing_else() {
    let proxy = Running::start();
    let (_, metrics) = proxy.get(proxy.lifecycle, "GET", "/metrics").unwrap();
    assert!(metrics.contains("envoy_server_live"), "{metrics}");
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/quitquitquit"),
        ("POST", "/quitquitquit"),
        ("GET", "/config_dump"),
        ("GET", "/metrics/../config_dump"),
        ("GET", "/drain"),
        ("GET", "/drain/"),
        ("GET", "/drain/0123abc"),
        ("GET", "/drain/{drain_key}"),
        ("POST", "/drain/0123abcd"),
        ("POST", "/metrics"),
        ("GET", "/drain_listeners"),
    ] {
        assert_eq!(proxy.status(proxy.lifecycle, method, path), 404, "{method} {path}");
    }
    assert_eq!(proxy.status(proxy.lifecycle, "GET", "/drain/0123abcd?x"), 200);
    // A graceful drain: the proxy serves on, and asks who keeps a connection to go elsewhere.
    let (status, text) = proxy.ask(proxy.lifecycle, "GET", "/metrics", "").unwrap();
    assert_eq!(status, 200);
    let (head, _) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("connection: close"), "{head}");
}

#[test]
fn who_shares_the_pods_loopback_can_neither_stop_the_proxy_nor_read_its_keys() {
    let proxy = Running::start();
    for path in
        ["/quitquitquit", "/config_dump", "/runtime_modify?x=1", "/logging?level=trace", "/healthcheck/fail"]
    {
        assert_eq!(proxy.status(proxy.admin, "POST", path), 403, "{path}");
    }
    assert_eq!(proxy.status(proxy.admin, "GET", "/stats"), 200);
    assert_eq!(proxy.status(proxy.admin, "GET", "/ready"), 200);
}
