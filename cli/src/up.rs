//! `sallyport up`: everything on this machine, supervised.

mod child;
mod prepare;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::args::ExecArgs;
use crate::commands::{say, say_error};
use child::{Pids, Plan, supervise};
use prepare::Prepared;

/// How long a part may take to be ready without a sign of life.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// A part that takes longer than this is spoken of.
const PATIENCE: Duration = Duration::from_secs(3);

/// Flags of `sallyport up`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct UpArgs {
    /// Directory of manifests, watched.
    #[arg(long, env = "SALLYPORT_CONFIG")]
    pub(crate) config: PathBuf,
    /// Folder for credentials, events and what runs where.
    #[arg(long, env = "SALLYPORT_DATA", default_value = ".sallyport")]
    pub(crate) data: PathBuf,
    /// Address for MCP.
    #[arg(long, default_value = "127.0.0.1:8091")]
    pub(crate) listen: SocketAddr,
    /// Address of the control API.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub(crate) api: SocketAddr,
    /// Address of Envoy's admin interface.
    #[arg(long, default_value = "127.0.0.1:9901")]
    pub(crate) envoy_admin: SocketAddr,
    /// Address of the xDS server.
    #[arg(long, default_value = "127.0.0.1:18000")]
    pub(crate) xds: SocketAddr,
    /// Address of the audit ingest.
    #[arg(long, default_value = "127.0.0.1:18001")]
    pub(crate) ingest: SocketAddr,
    /// Address of the control plane's health, metrics and status.
    #[arg(long, default_value = "127.0.0.1:18002")]
    pub(crate) operator_admin: SocketAddr,
    /// Address of the ingest's health and metrics.
    #[arg(long, default_value = "127.0.0.1:18003")]
    pub(crate) ingest_admin: SocketAddr,
    /// Address for events of other programs, `POST /events`; none: they are not taken.
    #[arg(long, requires = "source_keys")]
    pub(crate) events: Option<SocketAddr>,
    /// Takes them without TLS, for a network that is trusted.
    #[arg(long, requires = "events")]
    pub(crate) events_plaintext: bool,
    /// File of source names by key digest (see docs/audit.md).
    #[arg(long, requires = "events")]
    pub(crate) source_keys: Option<PathBuf>,
    /// Address of the control API's health and metrics; none: its metrics are not served.
    #[arg(long)]
    pub(crate) api_admin: Option<SocketAddr>,
    /// Envoy's worker threads.
    #[arg(long, default_value_t = 2)]
    pub(crate) concurrency: u32,
    /// Envoy; by default what set-up installed, or the one on the path.
    #[arg(long, env = "SALLYPORT_ENVOY")]
    pub(crate) envoy: Option<PathBuf>,
    /// The filter's module; by default what `make wasm` built.
    #[arg(long, env = "SALLYPORT_WASM")]
    pub(crate) wasm: Option<PathBuf>,
    /// Where events go instead of the embedded store.
    #[command(flatten)]
    pub(crate) kafka: sallyport_ingest::KafkaArgs,
    /// Where they go from Kafka, and where the API reads them.
    #[command(flatten)]
    pub(crate) clickhouse: sallyport_event_store::ClickHouseArgs,
    /// Address of the processor's health and metrics.
    #[arg(long, default_value = "127.0.0.1:18004")]
    pub(crate) processor_admin: SocketAddr,
}

/// Runs until a signal.
pub(crate) async fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    anyhow::ensure!(
        args.clickhouse.url.is_none() || args.kafka.kafka.is_some(),
        "--clickhouse needs --kafka: events come to ClickHouse from there"
    );
    let prepared = prepare::prepare(&args)?;
    let shutdown = sallyport_runtime::shutdown::on_signal()?;
    let pids = Pids::default();
    let children: Vec<_> = plans(&args, &prepared)?
        .into_iter()
        .map(|plan| tokio::spawn(supervise(plan, pids.clone(), shutdown.clone())))
        .collect();
    let ready = tokio::select! {
        ready = wait_until_ready(&args) => ready,
        () = shutdown.cancelled() => Ok(()),
    };
    if let Err(error) = ready {
        say_error(&format!("sallyport: {error:#}"));
        shutdown.cancel();
        for child in children {
            // What a child had to say, it said.
            let _ = child.await;
        }
        return Ok(ExitCode::FAILURE);
    }
    let writing = tokio::spawn(write_run(args.clone(), pids, shutdown.clone()));
    if !shutdown.is_cancelled() {
        announce(&args, began.elapsed());
    }
    shutdown.cancelled().await;
    for child in children {
        let _ = child.await;
    }
    let _ = writing.await;
    let _ = std::fs::remove_file(args.data.join("run.json"));
    say("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Becomes another program, which is asked to end when the process that started it ends, however that may be.
pub(crate) fn exec(args: ExecArgs) -> anyhow::Result<ExitCode> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    use std::os::unix::process::CommandExt;
    set_parent_process_death_signal(Some(Signal::TERM)).context("cannot be tied to the parent process")?;
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    anyhow::ensure!(parent == Some(args.parent), "the process that started this one is gone");
    let mut command = args.command.into_iter();
    let program = command.next().context("no program is given")?;
    let error = std::process::Command::new(&program).args(command).exec();
    Err(error).with_context(|| format!("{} cannot be started", program.display()))
}

fn plans(args: &UpArgs, prepared: &Prepared) -> anyhow::Result<Vec<Plan>> {
    let me = std::env::current_exe().context("own executable")?;
    let data = |name: &str| args.data.join(name).display().to_string();
    let own = |name: &'static str, flags: Vec<(&str, String)>| Plan {
        name,
        own: me.clone(),
        program: me.clone(),
        arguments: std::iter::once(name.to_string())
            .chain(flags.into_iter().flat_map(|(flag, value)| [format!("--{flag}"), value]))
            .collect(),
    };
    let operator = own(
        "operator",
        vec![
            ("config", args.config.display().to_string()),
            ("listen", args.xds.to_string()),
            ("admin", args.operator_admin.to_string()),
            ("tls-dir", data("tls")),
            ("tokens", data("tokens.json")),
            ("wasm", prepared.wasm.display().to_string()),
            ("gateway-listen", args.listen.to_string()),
            ("digest-key-file", data("digest-key")),
            // One of each worker, and one of the main thread.
            ("gateway-filters", args.concurrency.saturating_add(1).to_string()),
        ],
    );
    let mut ingest = vec![
        ("listen", args.ingest.to_string()),
        ("admin", args.ingest_admin.to_string()),
        ("checkpoint-key", data("checkpoint-key.pem")),
        ("db", data("events.db")),
        ("spool", data("spool")),
        ("tls-dir", data("tls")),
        ("tokens", data("tokens.json")),
    ];
    ingest.extend(args.kafka.flags());
    let mut ingest = own("ingest", ingest);
    if let (Some(address), Some(keys)) = (&args.events, &args.source_keys) {
        ingest.arguments.extend([format!("--events={address}"), format!("--source-keys={}", keys.display())]);
        ingest.arguments.extend(args.events_plaintext.then(|| "--events-plaintext".to_string()));
    }
    let mut api = vec![
        ("listen", args.api.to_string()),
        ("config", args.config.display().to_string()),
        ("operator", format!("http://{}", args.operator_admin)),
        ("ingest", format!("http://{}", args.ingest_admin)),
        ("api-keys-file", data("api-key")),
    ];
    let clickhouse = args.clickhouse.flags();
    let processor = (!clickhouse.is_empty()).then(|| {
        let mut flags = vec![("admin", args.processor_admin.to_string())];
        flags.extend(clickhouse.iter().cloned());
        let reading = ["kafka", "kafka-config", "kafka-topic"];
        flags.extend(args.kafka.flags().into_iter().filter(|(name, _)| reading.contains(name)));
        own("processor", flags)
    });
    api.extend(if clickhouse.is_empty() { vec![("db", data("events.db"))] } else { clickhouse });
    api.extend(args.api_admin.map(|address| ("admin", address.to_string())));
    let api = own("control-api", api);
    let envoy = Plan {
        name: "envoy",
        own: me.clone(),
        program: prepared.envoy.clone(),
        arguments: [
            "-c",
            &data("envoy/bootstrap.yaml"),
            "--concurrency",
            &args.concurrency.to_string(),
            "--use-dynamic-base-id",
            "--log-level",
            "warn",
        ]
        .map(ToString::to_string)
        .to_vec(),
    };
    Ok([operator, ingest].into_iter().chain(processor).chain([api, envoy]).collect())
}

async fn wait_until_ready(args: &UpArgs) -> anyhow::Result<()> {
    let parts = [
        ("control plane", format!("http://{}/readyz", args.operator_admin)),
        ("audit ingest", format!("http://{}/readyz", args.ingest_admin)),
        ("processor", format!("http://{}/readyz", args.processor_admin)),
        ("control API", format!("http://{}/healthz", args.api)),
        ("gateway", format!("http://{}/.sallyport/ready", args.listen)),
    ];
    let parts = parts.into_iter().filter(|(name, _)| *name != "processor" || args.clickhouse.url.is_some());
    let client = reqwest::Client::builder().timeout(Duration::from_secs(1)).build()?;
    for (name, url) in parts {
        let mut heard = Instant::now();
        let mut is_told = false;
        loop {
            match client.get(&url).send().await {
                Ok(answer) if answer.status().is_success() => break,
                // It lives, and has much to load.
                Ok(_) if !is_told && heard.elapsed() > PATIENCE => {
                    say(&format!("{name} is loading"));
                    is_told = true;
                }
                Ok(_) if is_told => heard = Instant::now(),
                Ok(_) | Err(_) => {}
            }
            anyhow::ensure!(
                heard.elapsed() < READY_WITHIN,
                "{name} is not ready at {url}; its own lines above say why"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    Ok(())
}

/// Keeps `run.json` in step with what runs.
async fn write_run(args: UpArgs, pids: Pids, shutdown: CancellationToken) {
    let mut changed = pids.subscribe();
    let api_key = args.data.join("api-key");
    let api_key = std::path::absolute(&api_key).unwrap_or(api_key);
    loop {
        let run = json!({
            "pid": std::process::id(), "listen": args.listen.to_string(), "api": args.api.to_string(),
            "envoy_admin": args.envoy_admin.to_string(), "operator_admin": args.operator_admin.to_string(),
            "ingest_admin": args.ingest_admin.to_string(), "api_key_file": api_key,
            "children": pids.all(),
        });
        let path = args.data.join("run.json");
        if let Err(error) =
            sallyport_runtime::files::write_whole(&path, format!("{run:#}\n").as_bytes(), false)
        {
            say_error(&format!("{} cannot be written: {error}", path.display()));
        }
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
    }
}

fn announce(args: &UpArgs, took: Duration) {
    say(&format!("ready in {:.1} s; Ctrl-C stops everything", took.as_secs_f64()));
    say(&format!("  MCP          http://{}/<server>/mcp", args.listen));
    say(&format!(
        "  control API  http://{}/api/v1   key in {}",
        args.api,
        args.data.join("api-key").display()
    ));
    say(&format!("  manifests    {}   (every change is picked up)", args.config.display()));
    let store = args.clickhouse.url.clone();
    let store = store.unwrap_or_else(|| args.data.join("events.db").display().to_string());
    say(&format!("  events       {store}   (`sallyport events`)"));
    if let Some(events) = args.events {
        let scheme = if args.events_plaintext { "http" } else { "https" };
        say(&format!("  POST /events {scheme}://{events}/events"));
    }
    say(&format!("  Envoy        http://{}   (statistics: /stats/prometheus)", args.envoy_admin));
    say(&format!("  status       http://{}/v1/proxies   (`sallyport status`)", args.operator_admin));
}
