//! `sallyport audit export`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use prost::Message;
use sallyport_audit_proof::{Covers, Line};
use sallyport_audit_proto::v1::AuditEvent;
use sallyport_event_store::{ChainedEvent, Depth, envelope};

use super::source::{Source, Which, id};
use crate::client::{ApiArgs, Client};
use crate::commands::say;

#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// File that is written: `.jsonl`.
    file: PathBuf,
    /// Reads a store's file.
    #[arg(long)]
    store: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    api: ApiArgs,
}

/// What is written to.
pub(super) trait Sheet {
    fn checkpoint(&mut self, signed: &[u8]) -> anyhow::Result<()>;
    fn event(&mut self, event: ChainedEvent) -> anyhow::Result<()>;
    fn end(self, events: u64, checkpoints: u64) -> anyhow::Result<()>;
}

pub(crate) async fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let source = match &args.store {
        Some(path) => Source::store(path)?,
        None => Source::Api(Client::new(&args.api)?),
    };
    let checkpoints = source.checkpoints().await?;
    let covers = source.covers(&args.which, &checkpoints).await?;
    let path = args.file.as_path();
    let counted = match path.extension().and_then(|ending| ending.to_str()) {
        Some("jsonl") => write(&source, &covers, &checkpoints, Lines::create(path, &covers)?).await?,
        _ => anyhow::bail!("{} must end in .jsonl", path.display()),
    };
    say(&format!("{}: {counted} events, {} checkpoints", path.display(), checkpoints.len()));
    Ok(())
}

async fn write(
    source: &Source,
    covers: &Covers,
    checkpoints: &[Vec<u8>],
    mut to: impl Sheet,
) -> anyhow::Result<u64> {
    for signed in checkpoints {
        to.checkpoint(signed)?;
    }
    let mut events = 0;
    let take = |event| {
        events += 1;
        to.event(event)
    };
    source.events(covers, Depth::Chain, take).await?;
    to.end(events, u64::try_from(checkpoints.len())?)?;
    Ok(events)
}

/// JSON lines.
struct Lines(BufWriter<File>);

impl Lines {
    fn create(path: &Path, covers: &Covers) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut lines = Self(BufWriter::new(file));
        lines.line(&Line::Begin(covers.clone()))?;
        Ok(lines)
    }

    fn line(&mut self, line: &Line) -> anyhow::Result<()> {
        writeln!(self.0, "{}", line.write()).context("export")
    }
}

impl Sheet for Lines {
    fn checkpoint(&mut self, signed: &[u8]) -> anyhow::Result<()> {
        self.line(&Line::Checkpoint(signed.to_vec()))
    }

    fn event(&mut self, event: ChainedEvent) -> anyhow::Result<()> {
        let ChainedEvent { chain, seq, hash, bytes, .. } = event;
        let envelope = AuditEvent::decode(bytes.as_slice()).ok().map(|said| envelope(&chain, &hash, &said));
        self.line(&Line::Event { chain: id(chain), seq, hash, bytes, envelope })
    }

    fn end(mut self, events: u64, checkpoints: u64) -> anyhow::Result<()> {
        self.line(&Line::End { events, checkpoints })?;
        self.0.flush().context("export")
    }
}
