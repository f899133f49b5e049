//! One supervised child process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::commands::say_error;

/// First and longest pause before a restart.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A child that ran for so long begins with the first pause again.
const STEADY: Duration = Duration::from_secs(30);
/// How long a child may take to stop.
const GRACE: Duration = Duration::from_secs(5);

/// How a child is started.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) name: &'static str,
    /// This command itself.
    pub(super) own: PathBuf,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
}

/// Process ids of the children that run.
#[derive(Clone, Debug)]
pub(super) struct Pids {
    pids: Arc<Mutex<BTreeMap<&'static str, u32>>>,
    bell: Arc<watch::Sender<()>>,
}

impl Default for Pids {
    fn default() -> Self {
        Self { pids: Arc::default(), bell: Arc::new(watch::channel(()).0) }
    }
}

impl Pids {
    pub(super) fn all(&self) -> BTreeMap<&'static str, u32> {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.bell.subscribe()
    }

    fn set(&self, name: &'static str, pid: Option<u32>) {
        let mut pids = self.pids.lock().unwrap_or_else(PoisonError::into_inner);
        match pid {
            Some(pid) => pids.insert(name, pid),
            None => pids.remove(name),
        };
        drop(pids);
        self.bell.send_replace(());
    }
}

/// Runs a child, and runs it again when it ends, until `shutdown`.
pub(super) async fn supervise(plan: Plan, pids: Pids, shutdown: CancellationToken) {
    let (first, longest) = PAUSE;
    let mut pause = first;
    while !shutdown.is_cancelled() {
        let began = Instant::now();
        match start(&plan) {
            Ok(mut child) => {
                pids.set(plan.name, child.id());
                tokio::select! {
                    status = child.wait() => {
                        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                        say_error(&format!("{} ended ({status}); starting it again in {} ms", plan.name, pause.as_millis()));
                    }
                    () = shutdown.cancelled() => stop(&mut child, plan.name).await,
                }
                pids.set(plan.name, None);
            }
            Err(error) => say_error(&format!("{} cannot be started: {error}", plan.program.display())),
        }
        if began.elapsed() > STEADY {
            pause = first;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => {}
        }
        pause = (pause * 2).min(longest);
    }
}

fn start(plan: &Plan) -> std::io::Result<Child> {
    // By way of ourselves, so that no child outlives us, not even when we are killed.
    Command::new(&plan.own)
        .args(["exec", "--parent", &std::process::id().to_string(), "--"])
        .arg(&plan.program)
        .args(&plan.arguments)
        .stdin(Stdio::null())
        // A signal to the terminal's group reaches us alone; we stop the children in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

async fn stop(child: &mut Child, name: &str) {
    let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    if let Some(pid) = pid
        && kill_process(pid, Signal::TERM).is_ok()
        && tokio::time::timeout(GRACE, child.wait()).await.is_ok()
    {
        return;
    }
    say_error(&format!("{name} did not stop in {} s; ending it", GRACE.as_secs()));
    // It may have ended in between.
    let _ = child.kill().await;
}
