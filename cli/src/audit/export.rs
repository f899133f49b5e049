//! `sallyport audit export`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use sallyport_audit_proof::{Covers, Event, Line, Verifier};
use sallyport_audit_proto::view::EventView;
use sallyport_event_store::{ChainedEvent, Depth, envelope_text};
use serde_json::value::RawValue;

use super::source::{Source, Which, id, last_of};
use super::table::Table;
use crate::client::{ApiArgs, Client};
use crate::commands::say;

#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// File that is written, and replaced where there is one.
    file: PathBuf,
    /// How it is written; by default as its name ends, `.jsonl` or `.parquet`.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Reads a store's file.
    #[arg(long)]
    store: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A JSON object on each line.
    Jsonl,
    /// A table, for analysts and their tools.
    Parquet,
}

/// What is written to.
pub(super) trait Sheet {
    fn checkpoint(&mut self, signed: &[u8]) -> anyhow::Result<()>;
    fn event(&mut self, event: ChainedEvent) -> anyhow::Result<()>;
    fn end(self: Box<Self>, events: u64, checkpoints: u64) -> anyhow::Result<()>;
}

pub(crate) async fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let format = format(args)?;
    let source = match &args.store {
        Some(path) => Source::store(path)?,
        None => Source::Api(Client::new(&args.api)?),
    };
    let checkpoints = source.checkpoints().await?;
    let covers = source.covers(&args.which, &checkpoints).await?;
    let path = args.file.as_path();
    let mut to: Box<dyn Sheet> = match format {
        Format::Jsonl => Box::new(Lines::create(path, &covers)?),
        Format::Parquet => Box::new(Table::create(path, &covers)?),
    };
    let counted = write(&source, &covers, &checkpoints, to.as_mut()).await?;
    to.end(counted.0, counted.1)?;
    say(&format!("{}: {} events, {} checkpoints", path.display(), counted.0, counted.1));
    Ok(())
}

fn format(args: &ExportArgs) -> anyhow::Result<Format> {
    let ending = args.file.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
    match (args.format, ending.as_deref()) {
        (Some(format), _) => Ok(format),
        (None, Some("jsonl" | "ndjson")) => Ok(Format::Jsonl),
        (None, Some("parquet")) => Ok(Format::Parquet),
        (None, _) => anyhow::bail!(
            "{} ends neither in .jsonl nor in .parquet; say with --format which it shall be",
            args.file.display()
        ),
    }
}

/// Answers with the number of events and of checkpoints.
async fn write(
    source: &Source,
    covers: &Covers,
    checkpoints: &[Vec<u8>],
    to: &mut dyn Sheet,
) -> anyhow::Result<(u64, u64)> {
    // Only to know whether the record can be proven by what was written; whoever reads it checks signatures.
    let mut verifier = Verifier::trusting(covers.clone());
    for signed in checkpoints {
        verifier.checkpoint(signed);
        to.checkpoint(signed)?;
    }
    let mut events = 0;
    let take = |event: ChainedEvent| {
        events += 1;
        let ChainedEvent { chain, seq, hash, bytes, .. } = &event;
        verifier.event(Event { chain: &id(chain.clone()), seq: *seq, hash, bytes, differs: None });
        to.event(event)
    };
    source.events(covers, Depth::Chain, take).await?;
    let mut written = checkpoints.len();
    // Behind events a checkpoint only tells what retention removed while they were read.
    if events > 0 {
        let later = source.settle(&mut verifier, last_of(checkpoints)).await?;
        later.iter().try_for_each(|signed| to.checkpoint(signed))?;
        written += later.len();
    }
    Ok((events, u64::try_from(written)?))
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
        let said = EventView::read(&bytes).ok();
        let envelope =
            said.map(|said| RawValue::from_string(envelope_text(&chain, &hash, &said))).transpose()?;
        self.line(&Line::Event { chain: id(chain), seq, hash, bytes, envelope })
    }

    fn end(mut self: Box<Self>, events: u64, checkpoints: u64) -> anyhow::Result<()> {
        self.line(&Line::End { events, checkpoints })?;
        self.0.flush().context("export")
    }
}
