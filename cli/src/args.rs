//! Commands and flags.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::audit::AuditCommand;
use crate::client::ApiArgs;
use crate::doctor::DoctorArgs;
use crate::install::InstallArgs;
use crate::rollout::RolloutArgs;
use crate::up::UpArgs;

/// Governed MCP on Envoy.
#[derive(Debug, Parser)]
#[command(name = "sallyport", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs everything on this machine: control plane, Envoy, audit ingest and API.
    Up(Box<UpArgs>),
    /// Runs the control plane alone.
    Operator(Box<sallyport_operator::Args>),
    /// Runs the audit ingest alone.
    Ingest(sallyport_ingest::Args),
    /// Brings audit events from Kafka to ClickHouse.
    Processor(sallyport_processor::Args),
    /// Runs the control API alone.
    ControlApi(sallyport_control_api::Args),
    /// Installs everything into a Kubernetes cluster, and waits until it is ready.
    Install(InstallArgs),
    /// Tells what is wrong with an installation in Kubernetes, and what to do about it. Ends with 1 if anything does not
    /// work.
    Doctor(DoctorArgs),
    /// Manifests.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Servers.
    #[command(subcommand)]
    Server(ServerCommand),
    /// Grants.
    #[command(subcommand)]
    Grant(GrantCommand),
    /// Sessions.
    #[command(subcommand)]
    Session(SessionCommand),
    /// The newest audit events.
    Events(EventsArgs),
    /// The record: follows, proves and exports it.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Tells what would become of a call, and why, step by step. Ends with 2 where it would be denied.
    Explain(ExplainArgs),
    /// Who is connected, and what is wrong.
    Status(ApiArgs),
    /// Becomes another program that ends with the process that started it.
    #[command(hide = true)]
    Exec(ExecArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Checks the manifests of a directory or file, each for itself and all together.
    Check {
        /// Directory or file.
        path: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Lists them.
    List(ApiArgs),
    /// Makes the canary's revision the stable one, with the rights of your kubeconfig.
    Promote(RolloutArgs),
    /// Gives up the canary's revision, or without a canary the stable one for the one before, with the rights of your
    /// kubeconfig.
    Rollback(RolloutArgs),
}

/// An object by `namespace/name`.
#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// `namespace/name`.
    pub(crate) object: String,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GrantCommand {
    /// Lists them.
    List(ApiArgs),
    /// Switches one on.
    Enable(Named),
    /// Switches one off; returns when every proxy has acknowledged.
    Disable(Named),
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// Lists them.
    List(ApiArgs),
    /// Withdraws one; returns when every proxy has acknowledged.
    Revoke(Named),
    /// Lifts the withdrawal of one.
    Unrevoke(Named),
}

#[derive(Debug, clap::Args)]
pub(crate) struct EventsArgs {
    /// How many.
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: u32,
    /// Only `allow` or `deny`.
    #[arg(long)]
    pub(crate) decision: Option<String>,
    /// Only of this server.
    #[arg(long)]
    pub(crate) server: Option<String>,
    /// Only with this session.
    #[arg(long)]
    pub(crate) session: Option<String>,
    /// Whole envelopes, one per line.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// The server, as `namespace/name`.
    pub(crate) server: String,
    /// The person.
    #[arg(long)]
    pub(crate) human: Option<String>,
    /// The agent.
    #[arg(long)]
    pub(crate) agent: Option<String>,
    /// The team.
    #[arg(long)]
    pub(crate) team: Option<String>,
    /// The consented session.
    #[arg(long)]
    pub(crate) session: Option<String>,
    /// When the proxy last saw the session used, as `2030-12-31T23:59:00Z`; by default just now.
    #[arg(long, requires = "session")]
    pub(crate) last_used: Option<String>,
    /// Name of the tool that is called.
    #[arg(long, conflicts_with_all = ["method", "params"])]
    pub(crate) tool: Option<String>,
    /// Arguments of the tool, as a JSON object.
    #[arg(long, requires = "tool", value_parser = json)]
    pub(crate) arguments: Option<serde_json::Value>,
    /// Another method than `tools/call`.
    #[arg(long, required_unless_present = "tool")]
    pub(crate) method: Option<String>,
    /// Parameters of the method, as a JSON object.
    #[arg(long, requires = "method", value_parser = json)]
    pub(crate) params: Option<serde_json::Value>,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

/// What becomes of this process.
#[derive(Debug, clap::Args)]
pub(crate) struct ExecArgs {
    /// The process that started this one.
    #[arg(long)]
    pub(crate) parent: u32,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<std::ffi::OsString>,
}

fn json(text: &str) -> Result<serde_json::Value, serde_json::Error> {
    serde_json::from_str(text)
}
