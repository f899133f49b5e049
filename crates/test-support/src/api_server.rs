//! A Kubernetes API server of a test's own: etcd and kube-apiserver on free ports of loopback, with RBAC.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::free_address;

/// Names the folder with `etcd`, `kube-apiserver` and `kubectl`.
pub const VARIABLE: &str = "SALLYPORT_KUBE_BIN";
const TOKEN: &str = "administrator";
const READY_WITHIN: Duration = Duration::from_secs(90);
/// Runs the rest of its arguments until its standard input is closed, which the end of a test does, however it ends.
const KEEPER: &str = r#""$@" & child=$!; read -r _; kill -9 "$child"; wait"#;

/// A running API server, which ends with this value or with the process.
#[derive(Debug)]
pub struct ApiServer {
    folder: tempfile::TempDir,
    bin: PathBuf,
    url: String,
    etcd_url: String,
    /// How the API server was started.
    arguments: Vec<String>,
    /// First to end first.
    children: Vec<Child>,
}

impl ApiServer {
    /// Starts one; none, and a line that says so, where the binaries are not given by `SALLYPORT_KUBE_BIN`.
    ///
    /// # Panics
    /// It does not start; or the binaries are not given where `CI` is set, in which nothing is left out.
    #[expect(clippy::print_stderr, reason = "says which test is left out")]
    pub fn start() -> Option<Self> {
        let Some(bin) = std::env::var_os(VARIABLE).map(PathBuf::from) else {
            match left_out(std::env::var_os("CI").is_some()) {
                Ok(line) => eprintln!("{line}"),
                Err(reason) => panic!("{reason}"),
            }
            return None;
        };
        match Self::launch(bin) {
            Ok(server) => Some(server),
            Err(error) => panic!("the API server does not start: {error}"),
        }
    }

    fn launch(bin: PathBuf) -> std::io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name).display().to_string();
        let [client, peer, port] = std::array::from_fn(|_| free_address().port());
        let key = rcgen::KeyPair::generate().map_err(std::io::Error::other)?;
        std::fs::write(at("sa.key"), key.serialize_pem())?;
        std::fs::write(at("sa.pub"), key.public_key_pem())?;
        std::fs::write(at("tokens"), format!("{TOKEN},{TOKEN},{TOKEN},\"system:masters\"\n"))?;
        let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let etcd = [
            format!("--data-dir={}", at("etcd")),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--unsafe-no-fsync".into(),
        ];
        let issuer = "https://kubernetes.default.svc";
        let apiserver = [
            format!("--etcd-servers={client}"),
            format!("--secure-port={port}"),
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            // Its own Endpoints would have to be an address that is not loopback.
            "--endpoint-reconciler-type=none".into(),
            format!("--cert-dir={}", at("certs")),
            format!("--token-auth-file={}", at("tokens")),
            format!("--service-account-key-file={}", at("sa.pub")),
            format!("--service-account-signing-key-file={}", at("sa.key")),
            format!("--service-account-issuer={issuer}"),
            format!("--api-audiences={issuer},sallyport"),
            "--service-cluster-ip-range=10.96.0.0/16".into(),
            "--authorization-mode=RBAC".into(),
            "--allow-privileged=true".into(),
            // Nobody makes the ServiceAccounts that it would ask for.
            "--disable-admission-plugins=ServiceAccount".into(),
        ];
        let children = vec![
            keep(&bin.join("kube-apiserver"), &apiserver, &folder.path().join("apiserver.log"))?,
            keep(&bin.join("etcd"), &etcd, &folder.path().join("etcd.log"))?,
        ];
        let url = format!("https://127.0.0.1:{port}");
        let server = Self { folder, bin, url, etcd_url: client, arguments: apiserver.into(), children };
        std::fs::write(server.kubeconfig_path(), server.kubeconfig())?;
        server.wait_until_ready()?;
        Ok(server)
    }

    /// A kubeconfig of its administrator.
    pub fn kubeconfig(&self) -> String {
        let url = &self.url;
        format!(
            "apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: \"{url}\", insecure-skip-tls-verify: true}}}}]
users: [{{name: u, user: {{token: {TOKEN}}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
current-context: x
"
        )
    }

    /// The same, as a file.
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where its etcd answers HTTP.
    pub fn etcd_url(&self) -> &str {
        &self.etcd_url
    }

    /// Kills the API server; etcd goes on.
    pub fn stop(&mut self) {
        end(&mut self.children[0]);
    }

    /// Starts the API server again where it was, and waits until it is ready.
    ///
    /// # Panics
    /// It does not start.
    pub fn restart(&mut self) {
        self.stop();
        let log = self.folder.path().join("apiserver.log");
        let started = keep(&self.bin.join("kube-apiserver"), &self.arguments, &log);
        let ready = started.and_then(|child| {
            self.children[0] = child;
            self.wait_until_ready()
        });
        if let Err(error) = ready {
            panic!("the API server does not start again: {error}");
        }
    }

    /// A kubeconfig of somebody else, as whom the administrator acts: with the rights that RBAC gives them, and no more.
    pub fn kubeconfig_as(&self, user: &str) -> String {
        let of = |user: &str| format!("user: {{token: {TOKEN}{user}}}");
        self.kubeconfig().replace(&of(""), &of(&format!(", as: \"{user}\"")))
    }

    /// Runs kubectl as its administrator, with `input` on standard input; what it printed.
    ///
    /// # Panics
    /// It fails.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        match self.try_kubectl(arguments, input) {
            Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
            Ok(output) => {
                panic!("kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr))
            }
            Err(error) => panic!("kubectl {arguments:?}: {error}"),
        }
    }

    /// The same, whatever becomes of it.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn try_kubectl(&self, arguments: &[&str], input: &str) -> std::io::Result<std::process::Output> {
        let path = self.folder.path().join("input");
        std::fs::write(&path, input)?;
        Command::new(self.bin.join("kubectl"))
            .arg("--kubeconfig")
            .arg(self.kubeconfig_path())
            .args(arguments)
            .stdin(std::fs::File::open(path)?)
            .output()
    }

    #[expect(clippy::disallowed_methods, reason = "a test's set-up polls, before anything else runs")]
    fn wait_until_ready(&self) -> std::io::Result<()> {
        let began = Instant::now();
        while !self.try_kubectl(&["get", "--raw", "/readyz"], "")?.status.success() {
            if began.elapsed() > READY_WITHIN {
                let log = std::fs::read_to_string(self.folder.path().join("apiserver.log"))?;
                let end = log.lines().rev().take(8).collect::<Vec<_>>().join("\n");
                return Err(std::io::Error::other(format!(
                    "not ready; the end of its log, newest first:\n{end}"
                )));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// What is said of a test that is left out for want of the binaries.
///
/// # Errors
/// It must not be left out, and why not.
fn left_out(in_ci: bool) -> Result<String, String> {
    let needs = format!("needs a Kubernetes API server; set {VARIABLE} to the folder of its binaries");
    if in_ci {
        Err(format!("{needs} (`python3 e2e/cluster programs` prints it): with CI set no test is left out"))
    } else {
        Ok(format!("skipped: {needs}"))
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.children.iter_mut().for_each(end);
    }
}

fn end(child: &mut Child) {
    drop(child.stdin.take());
    // It has ended, or it never began.
    let _ = child.wait();
}

fn keep(program: &Path, arguments: &[String], log: &Path) -> std::io::Result<Child> {
    let log = std::fs::File::create(log)?;
    Command::new("sh")
        .args(["-c", KEEPER, "sh"])
        .arg(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

#[cfg(test)]
mod tests {
    use super::left_out;

    #[test]
    fn a_test_without_an_api_server_is_left_out_except_in_ci() {
        assert!(left_out(false).unwrap().starts_with("skipped: needs a Kubernetes API server"));
        let reason = left_out(true).unwrap_err();
        assert!(reason.contains("SALLYPORT_KUBE_BIN") && reason.contains("e2e/cluster programs"), "{reason}");
    }
}
