//! ClickHouse's engine behind its HTTP interface: e2e/fixtures/clickhouse_server.py.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Runs the rest of its arguments until its standard input is closed, which the end of a test does, however it ends.
const KEEPER: &str = r#"exec 3<&0; "$@" </dev/null & child=$!; read -r _ <&3; kill -9 "$child"; wait"#;

/// A running ClickHouse, which ends with this value or with the process.
#[derive(Debug)]
pub struct ClickHouseServer {
    _folder: tempfile::TempDir,
    keeper: Child,
    port: u16,
    is_tls: bool,
}

impl ClickHouseServer {
    /// Starts one, with the further users of a `users.json`; none, and a line that says so, where `scripts/setup.sh` has not
    /// installed it. In CI it must be there.
    ///
    /// # Panics
    /// It does not start.
    pub fn start(users: &str) -> Option<Self> {
        Self::start_with(users, None)
    }

    /// The same behind TLS, with a certificate and its key, as PEM.
    ///
    /// # Panics
    /// It does not start.
    pub fn start_tls(users: &str, certificate: &str, key: &str) -> Option<Self> {
        Self::start_with(users, Some((certificate, key)))
    }

    #[expect(clippy::print_stderr, reason = "says which test is left out")]
    fn start_with(users: &str, tls: Option<(&str, &str)>) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let python = root.join(".cache/tools/clickhouse/bin/python");
        if !python.exists() {
            assert!(
                std::env::var_os("CI").is_none(),
                "ClickHouse's engine is missing; scripts/setup.sh installs it"
            );
            eprintln!("skipped: needs ClickHouse's engine; scripts/setup.sh installs it");
            return None;
        }
        match Self::launch(&python, &root.join("e2e/fixtures/clickhouse_server.py"), users, tls) {
            Ok(server) => Some(server),
            Err(error) => panic!("ClickHouse does not start: {error}"),
        }
    }

    fn launch(
        python: &Path,
        program: &Path,
        users: &str,
        tls: Option<(&str, &str)>,
    ) -> std::io::Result<Self> {
        let folder = tempfile::tempdir()?;
        if let Some((certificate, key)) = tls {
            std::fs::write(folder.path().join("tls.crt"), certificate)?;
            std::fs::write(folder.path().join("tls.key"), key)?;
        }
        std::fs::write(folder.path().join("users.json"), users)?;
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .args([python, program, Path::new("0"), folder.path()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(output) = keeper.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let port = line.trim().rsplit(' ').next().and_then(|port| port.parse().ok());
        let port = port.ok_or_else(|| std::io::Error::other(format!("it says `{line}`")))?;
        Ok(Self { _folder: folder, keeper, port, is_tls: tls.is_some() })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http{}://127.0.0.1:{}", if self.is_tls { "s" } else { "" }, self.port)
    }

    /// Makes it misbehave, as the fixture describes; `{}`: no more. Not behind TLS.
    ///
    /// # Panics
    /// It does not answer.
    pub fn behave(&self, how: &str) {
        let told = TcpStream::connect(("127.0.0.1", self.port)).and_then(|mut stream| {
            let length = how.len();
            write!(
                stream,
                "POST /fixture/behaviour HTTP/1.1\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{how}"
            )?;
            stream.read_to_end(&mut Vec::new())
        });
        if let Err(error) = told {
            panic!("the fixture does not answer: {error}");
        }
    }
}

impl Drop for ClickHouseServer {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // It ends now; whether it did so well is of no interest.
        let _ = self.keeper.wait();
    }
}
