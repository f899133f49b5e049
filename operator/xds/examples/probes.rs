//! Calls through many proxies, until each says what is awaited: when a change is seen from outside.
//!
//! `probes PATH INTERVAL_MS CALLS_PER_SECOND GRANTS SESSIONS ADDRESS…` sends `tools/call` to `PATH` of each address. For each line
//! `NUMBER allowed` or `NUMBER refused` of its input it calls as the session of this number, at each address at once and then once
//! in the interval, until that is the verdict there, and prints `{"session", "proxy", "at", "status", "calls"}`. Each address has a
//! connection for these calls, which stays open. Meanwhile each gets so many calls per second of the first `SESSIONS` sessions in
//! turn, whose count is printed each second as `{"calls", "others"}`, those apart that were not allowed. Session N is the human's
//! `user-(N mod GRANTS)` and the agent's `agent-(N mod GRANTS)`. Times are seconds since 1970.
#![expect(clippy::print_stdout, reason = "its output is the result")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const BODY: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list_invoices","arguments":{}}}"#;
/// An answer that takes longer is none.
const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Setting {
    path: String,
    every: Duration,
    rate: u32,
    grants: u64,
    sessions: u64,
    calls: AtomicU64,
    others: AtomicU64,
}

/// A verdict that is to be seen.
#[derive(Debug, Clone, Copy)]
struct Awaited {
    session: u64,
    is_allowed: bool,
}

/// A connection that stays open.
#[derive(Debug)]
struct Client {
    address: String,
    setting: Arc<Setting>,
    stream: Option<TcpStream>,
}

fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

impl Client {
    /// The status of the answer to a call of this session.
    async fn call(&mut self, session: u64) -> Result<u16, Failure> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(&self.address).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        let (path, person) = (&self.setting.path, session % self.setting.grants);
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: mcp\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n\
             x-mcp-human-id: user-{person}\r\nx-mcp-agent-id: agent-{person}\r\nx-mcp-agent-session: session-{session}\r\n\
             content-length: {}\r\n\r\n{BODY}",
            BODY.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let status = tokio::time::timeout(DEADLINE, answer(&mut stream)).await??;
        self.stream = Some(stream);
        Ok(status)
    }

    /// Calls as each session that comes, until the verdict on it is as awaited.
    async fn await_verdicts(mut self, mut awaited: UnboundedReceiver<Awaited>) {
        while let Some(Awaited { session, is_allowed }) = awaited.recv().await {
            let mut calls = 1;
            let status = loop {
                match self.call(session).await {
                    Ok(status) if (status == 200) == is_allowed => break status,
                    _ => tokio::time::sleep(self.setting.every).await,
                }
                calls += 1;
            };
            let (at, proxy) = (now(), &self.address);
            println!(
                "{{\"session\":{session},\"proxy\":\"{proxy}\",\"at\":{at:.6},\"status\":{status},\"calls\":{calls}}}"
            );
        }
    }

    /// Calls at a rate, for ever.
    async fn traffic(mut self) {
        let setting = self.setting.clone();
        let mut tick = interval(Duration::from_secs(1) / setting.rate);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for session in (0..setting.sessions).cycle() {
            tick.tick().await;
            let is_allowed = matches!(self.call(session).await, Ok(200));
            setting.calls.fetch_add(1, Ordering::Relaxed);
            setting.others.fetch_add(u64::from(!is_allowed), Ordering::Relaxed);
        }
    }
}

/// Reads an answer to its end, and tells its status.
async fn answer(stream: &mut TcpStream) -> Result<u16, Failure> {
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = std::str::from_utf8(read.get(..end).unwrap_or_default())?.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let whole = end + 4 + length.ok_or("an answer without a length")?.trim().parse::<usize>()?;
            if read.len() >= whole {
                return Ok(head.split(' ').nth(1).ok_or("no status")?.parse()?);
            }
        }
        let bytes = stream.read(&mut buffer).await?;
        if bytes == 0 {
            return Err("the connection ended".into());
        }
        read.extend_from_slice(buffer.get(..bytes).unwrap_or_default());
    }
}

async fn tell(setting: Arc<Setting>) {
    let mut tick = interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        let (calls, others) = (&setting.calls, &setting.others);
        let (calls, others) = (calls.swap(0, Ordering::Relaxed), others.swap(0, Ordering::Relaxed));
        println!("{{\"calls\":{calls},\"others\":{others}}}");
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, every, rate, grants, sessions, addresses @ ..] = arguments.as_slice() else {
        return Err("usage: probes PATH INTERVAL_MS CALLS_PER_SECOND GRANTS SESSIONS ADDRESS…".into());
    };
    let setting = Arc::new(Setting {
        path: path.clone(),
        every: Duration::from_millis(every.parse()?),
        rate: rate.parse()?,
        grants: grants.parse()?,
        sessions: sessions.parse()?,
        calls: AtomicU64::new(0),
        others: AtomicU64::new(0),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let client =
        |address: &String| Client { address: address.clone(), setting: setting.clone(), stream: None };
    if setting.rate > 0 {
        addresses.iter().for_each(|address| drop(runtime.spawn(client(address).traffic())));
    }
    runtime.spawn(tell(setting.clone()));
    let start = |address| {
        let (sender, receiver) = unbounded_channel();
        runtime.spawn(client(address).await_verdicts(receiver));
        sender
    };
    let callers: Vec<_> = addresses.iter().map(start).collect();
    for line in std::io::stdin().lines() {
        let line = line?;
        let (session, verdict) = line.split_once(' ').ok_or("a line is a number and a verdict")?;
        let awaited = Awaited { session: session.parse()?, is_allowed: verdict == "allowed" };
        for caller in &callers {
            caller.send(awaited)?;
        }
    }
    Ok(())
}
