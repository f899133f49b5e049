//! The control plane as proxies and the control API meet it: over TLS, with tokens, from files to acknowledgements.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

#[path = "common/filter.rs"]
mod filter;

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args as _, FromArgMatches};
use filter::{Filter, LIMIT};
use sallyport_operator::Args;
use sallyport_runtime::{tls, tokens};
use sallyport_test_support::free_address;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SERVER: &str = "apiVersion: mcpruntime.org/v1alpha1\nkind: MCPServer\nmetadata: {name: pay, namespace: ns}\nspec:\n  image: i\n  gateway: {enabled: true}\n";

fn session(more: &str) -> String {
    format!(
        "apiVersion: mcpruntime.org/v1alpha1\nkind: MCPAgentSession\nmetadata: {{name: sess, namespace: ns}}\nspec:\n  serverRef: {{name: pay}}\n  subject: {{humanID: h}}\n{more}"
    )
}

struct ControlPlane {
    folder: tempfile::TempDir,
    xds: SocketAddr,
    admin: SocketAddr,
    shutdown: CancellationToken,
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl ControlPlane {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With further flags.
    async fn start_with(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("config")).unwrap();
        tls::make_self_signed(folder.path()).unwrap();
        let known = serde_json::json!({ tokens::digest("right"): "standalone", tokens::digest("other"): "elsewhere" });
        std::fs::write(folder.path().join("tokens.json"), known.to_string()).unwrap();
        let (xds, admin) = (free_address(), free_address());
        let shutdown = CancellationToken::new();
        let this = Self { folder, xds, admin, shutdown };
        this.write("server.yaml", SERVER);
        this.write("session.yaml", &session(""));
        tokio::spawn(sallyport_operator::run(this.args(more), this.shutdown.clone()));
        let deadline = tokio::time::Instant::now() + LIMIT;
        let ready = async || {
            reqwest::get(format!("http://{admin}/readyz")).await.is_ok_and(|a| a.status().is_success())
        };
        while !ready().await {
            assert!(tokio::time::Instant::now() < deadline, "not ready");
            tokio::task::yield_now().await;
        }
        this
    }

    fn args(&self, more: &[&str]) -> Args {
        let flags = [
            ("config", relative(&self.path("config")).display().to_string()),
            ("listen", self.xds.to_string()),
            ("admin", self.admin.to_string()),
            ("tls-dir", self.folder.path().display().to_string()),
            ("tokens", self.path("tokens.json").display().to_string()),
            ("wasm", "filter.wasm".into()),
            ("gateway-listen", free_address().to_string()),
            ("ecds-ttl", "0".into()),
            ("gateway-filters", "1".into()),
        ];
        let flags = flags.into_iter().map(|(name, value)| format!("--{name}={value}"));
        let flags = flags.chain(more.iter().map(ToString::to_string));
        let command = Args::augment_args(clap::Command::new("operator"));
        let matches = command.try_get_matches_from(std::iter::once("operator".into()).chain(flags)).unwrap();
        Args::from_arg_matches(&matches).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        sallyport_runtime::files::write_whole(&self.path("config").join(name), text.as_bytes(), false)
            .unwrap();
    }

    async fn get(&self, path: &str) -> Value {
        let answer = reqwest::get(format!("http://{}/v1/{path}", self.admin)).await.unwrap();
        answer.json().await.unwrap()
    }

    /// Waits until the metrics have these lines, each without the beginning that all have.
    async fn sees(&self, lines: &[&str]) {
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            let answer = reqwest::get(format!("http://{}/metrics", self.admin)).await.unwrap();
            let metrics = answer.text().await.unwrap();
            let has = |line: &&str| metrics.contains(&format!("sallyport_operator_{line}\n"));
            if lines.iter().all(has) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{lines:?} in {metrics}");
            tokio::task::yield_now().await;
        }
    }

    async fn connect(&self, token: Option<&str>) -> Result<Filter, Status> {
        Filter::connect(self.folder.path(), self.xds, token).await
    }
}

/// A path from the current directory: people give such.
fn relative(path: &Path) -> PathBuf {
    let up = std::env::current_dir().unwrap().iter().skip(1).map(|_| "..").collect::<PathBuf>();
    up.join(path.strip_prefix("/").unwrap())
}

#[tokio::test]
async fn without_the_right_token_there_is_no_stream() {
    let control_plane = ControlPlane::start().await;
    let code = async |token| control_plane.connect(token).await.err().map(|status| status.code());
    assert_eq!(code(None).await, Some(Code::Unauthenticated));
    assert_eq!(code(Some("wrong")).await, Some(Code::Unauthenticated));
    assert_eq!(
        code(Some("other")).await,
        Some(Code::PermissionDenied),
        "a proxy that is not ours to configure"
    );
    assert_eq!(code(Some("right")).await, None);
}

#[tokio::test]
async fn a_filter_that_answers_no_more_is_taken_for_gone() {
    let control_plane = ControlPlane::start().await;
    let mut silent = control_plane.connect(Some("right")).await.unwrap();
    let mut alive = control_plane.connect(Some("right")).await.unwrap();
    silent.subscribe("standalone/1/7");
    alive.subscribe("standalone/2/7");
    alive.synchronise().await;
    let ended = async { while let Ok(Some(_)) = silent.responses.message().await {} };
    tokio::time::timeout(2 * LIMIT, ended).await.expect("the stream ends");
    let path = "enforcement/sessions/ns/sess?timeout_ms=5000";
    let enforced = control_plane.get(path).await;
    assert_eq!((&enforced["complete"], &enforced["of"]), (&true.into(), &1.into()), "{enforced}");
}

#[tokio::test]
async fn a_revocation_is_enforced_when_every_filter_has_acknowledged_it() {
    let control_plane = ControlPlane::start().await;
    let path = "enforcement/sessions/ns/sess";
    assert_eq!(control_plane.get(path).await["complete"], false, "no filter, no enforcement");
    let mut first = control_plane.connect(Some("right")).await.unwrap();
    let mut second = control_plane.connect(Some("right")).await.unwrap();
    first.subscribe("standalone/1/7");
    second.subscribe("standalone/2/7");
    first.synchronise().await;
    second.synchronise().await;
    let before = control_plane.get(&format!("{path}?timeout_ms=5000")).await;
    assert_eq!((&before["complete"], &before["enforced"]), (&true.into(), &2.into()), "{before}");

    control_plane.write("session.yaml", &session("  revoked: true\n"));
    let (to_first, to_second) = (first.next().await, second.next().await);
    assert_eq!(to_first.resources[0].name, "ns/sess");
    assert_ne!(before["version"], to_first.resources[0].version.as_str());
    first.acknowledge(&to_first);
    control_plane
        .sees(&[
            "connected_proxies 1",
            "changes_unacknowledged 1",
            "acknowledged_proxies{type=\"sessions\"} 0",
        ])
        .await;
    let version = &to_first.resources[0].version;
    let half = control_plane.get(&format!("{path}?version={version}&timeout_ms=200")).await;
    assert_eq!((&half["complete"], &half["pending"][0]), (&false.into(), &"standalone/2/7".into()), "{half}");
    second.acknowledge(&to_second);
    let whole = control_plane.get(&format!("{path}?version={version}&timeout_ms=5000")).await;
    assert_eq!((&whole["complete"], &whole["of"]), (&true.into(), &2.into()), "{whole}");

    let proxies = control_plane.get("proxies").await;
    assert_eq!(proxies["proxies"][0]["proxy"], "standalone");
    let all = ["streams 2", "changes_unacknowledged 0", "acknowledged_proxies{type=\"sessions\"} 1"];
    control_plane.sees(&all).await;
}

#[tokio::test]
async fn a_bad_file_is_told_and_a_removed_session_is_withdrawn() {
    let control_plane = ControlPlane::start().await;
    let mut filter = control_plane.connect(Some("right")).await.unwrap();
    filter.subscribe("standalone/1/7");
    filter.synchronise().await;
    control_plane.write("bad.yaml", "kind: [");
    std::fs::remove_file(control_plane.path("config/session.yaml")).unwrap();
    let response = filter.next().await;
    assert_eq!(response.removed_resources, ["ns/sess"]);
    filter.acknowledge(&response);
    let gone = control_plane.get("enforcement/sessions/ns/sess?timeout_ms=5000").await;
    assert_eq!((&gone["complete"], &gone["present"]), (&true.into(), &false.into()), "{gone}");
    for name in ["sess", "never-there"] {
        let gone =
            control_plane.get(&format!("enforcement/sessions/ns/{name}?version=&timeout_ms=5000")).await;
        assert_eq!(gone["complete"], true, "{gone}");
    }
    let problems = control_plane.get("problems").await;
    assert_eq!(problems["files"][0]["file"], "bad.yaml", "{problems}");
    assert_eq!(problems["files"].as_array().map(Vec::len), Some(1), "{problems}");
    let objects = control_plane.get("objects").await;
    assert_eq!(
        (&objects["objects"][0]["name"], &objects["objects"][0]["accepted"]),
        (&"pay".into(), &true.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_are_offered_where_they_are_asked_for_one_at_a_time() {
    let answer = async |control_plane: &ControlPlane, path: &str| {
        let answer = reqwest::get(format!("http://{}/debug/{path}", control_plane.admin)).await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap())
    };
    let without = ControlPlane::start().await;
    for path in ["pprof/profile?seconds=1", "pprof/heap", "memory"] {
        assert_eq!(answer(&without, path).await.0, 404, "{path}");
    }
    let with = ControlPlane::start_with(&["--profiling"]).await;
    for wrong in ["0", "61", "x"] {
        assert_eq!(answer(&with, &format!("pprof/profile?seconds={wrong}")).await.0, 400, "{wrong}");
    }
    let cpu = "pprof/profile?seconds=1";
    let both = tokio::join!(answer(&with, cpu), answer(&with, cpu));
    let mut statuses = [both.0.0, both.1.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409], "{both:?}");
    assert_eq!(answer(&with, cpu).await.0, 200, "the turn is given back");
    let held = vec![1_u8; 64 << 20];
    let (status, heap) = answer(&with, "pprof/heap").await;
    let mut profile = Vec::new();
    flate2::read::GzDecoder::new(&*heap).read_to_end(&mut profile).unwrap();
    let names_us = String::from_utf8_lossy(&profile).contains("control_plane");
    assert!(status == 200 && names_us, "{status}: {} bytes, {} held", profile.len(), held.len());
    let memory: Value = serde_json::from_slice(&answer(&with, "memory").await.1).unwrap();
    assert_eq!(
        (&memory["objects"]["MCPServer"], &memory["objects"]["MCPAgentSession"]),
        (&1.into(), &1.into()),
        "{memory}"
    );
    assert!(memory["residentBytes"]["anonymous"].as_u64().unwrap() > 0, "{memory}");
    let session = &memory["resources"]["type.googleapis.com/sallyport.policy.v1.Session"];
    assert!(session["count"] == 1 && session["bytes"].as_u64().unwrap() > 0, "{memory}");
}
