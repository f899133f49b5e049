//! `sallyport audit`: the record.

mod export;
mod exported;
mod fields;
mod keygen;
mod print;
mod source;
mod sse;
mod status;
mod table;
mod tail;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;

use export::ExportArgs;
use keygen::KeygenArgs;
use tail::TailArgs;
use verify::VerifyArgs;

use crate::client::ApiArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// The newest events that match, oldest first; with --follow also each new one as it is stored.
    Tail(TailArgs),
    /// Makes a key that signs checkpoints, and its public half.
    Keygen(KeygenArgs),
    /// Proves that the record is whole, or tells what is missing, altered or forged. Ends with 0 where everything holds, 1
    /// where something does not, 2 where that cannot be told.
    Verify(VerifyArgs),
    /// Writes events and checkpoints to a file that can be verified.
    Export(ExportArgs),
    /// How far the record is: by server and chain, with gaps, the last checkpoint, and what is on its way.
    Status(ApiArgs),
}

/// Runs a command.
pub(crate) async fn run(command: AuditCommand) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::Tail(args) => tail::run(&args).await?,
        AuditCommand::Keygen(args) => keygen::run(&args)?,
        AuditCommand::Verify(args) => return Ok(verify::run(&args).await),
        AuditCommand::Export(args) => export::run(&args).await?,
        AuditCommand::Status(args) => status::run(&args).await?,
    }
    Ok(ExitCode::SUCCESS)
}
