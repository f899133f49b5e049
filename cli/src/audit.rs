//! `sallyport audit`: the record.

mod sse;
mod tail;

use std::process::ExitCode;

use clap::Subcommand;

use tail::TailArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// The newest events that match, oldest first; with --follow also each new one as it is stored.
    Tail(TailArgs),
}

/// Runs a command.
pub(crate) async fn run(command: AuditCommand) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::Tail(args) => tail::run(&args).await?,
    }
    Ok(ExitCode::SUCCESS)
}
