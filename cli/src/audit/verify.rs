//! `sallyport audit verify`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use sallyport_audit_proof::{Checkpoint, Covers, Event, PublicKey, Report, Verifier};
use sallyport_event_store::Depth;

use super::exported::{Exported, Item};
use super::print;
use super::source::{Source, Which, id, last_of};
use crate::client::{ApiArgs, Client};
use crate::commands::{say, say_error};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// An export, JSON lines or Parquet; what it covers was chosen when it was made.
    #[arg(conflicts_with_all = ["file", "store", "since", "until", "server"])]
    export: Option<PathBuf>,
    /// File of the public key; several where the key was changed.
    #[arg(long, required = true)]
    public_key: Vec<PathBuf>,
    /// Reads a store's file.
    #[arg(long, conflicts_with = "file")]
    store: Option<PathBuf>,
    /// The export, as a flag.
    #[arg(long, conflicts_with_all = ["since", "until", "server"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
    /// Leaves out checkpoints of the last so many seconds: behind Kafka a store may have them before the events.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    settle: u64,
    /// Checkpoints that were kept elsewhere, an export or lines of one: each must be in the record.
    #[arg(long)]
    witness: Option<PathBuf>,
    /// Checks the chains alone, not whether what the store tells of events is what they say.
    #[arg(long)]
    chains_only: bool,
    /// How the report is written.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    api: ApiArgs,
}

/// What holds ends with 0, what does not with 1; 2: it cannot be told.
pub(crate) async fn run(args: &VerifyArgs) -> ExitCode {
    match verify(args).await {
        Ok(report) => {
            match args.output {
                Output::Text => say(&print::text(&report)),
                Output::Json => say(&print::json(&report)),
            }
            ExitCode::from(u8::from(!report.is_intact()))
        }
        Err(error) => {
            say_error(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

async fn verify(args: &VerifyArgs) -> anyhow::Result<Report> {
    let keys = args.public_key.iter().map(|path| read_key(path)).collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(path) = args.export.as_ref().or(args.file.as_ref()) {
        return of_export(path, keys, args);
    }
    let source = match &args.store {
        Some(path) => Source::store(path)?,
        None => Source::Api(Client::new(&args.api)?),
    };
    // What comes in meanwhile is sealed by no checkpoint that is read here, so checkpoints are read first.
    let checkpoints = settled(source.checkpoints().await?, args.settle);
    let covers = source.covers(&args.which, &checkpoints).await?;
    let mut verifier = begin(keys, covers.clone(), args)?;
    checkpoints.iter().for_each(|signed| verifier.checkpoint(signed));
    let depth = if args.chains_only { Depth::Chain } else { Depth::Columns };
    let take = |event: sallyport_event_store::ChainedEvent| {
        let chain = id(event.chain);
        let (seq, differs) = (event.seq, event.differs);
        verifier.event(Event { chain: &chain, seq, hash: &event.hash, bytes: &event.bytes, differs });
        Ok(())
    };
    source.events(&covers, depth, take).await?;
    source.settle(&mut verifier, last_of(&checkpoints)).await?;
    Ok(verifier.finish())
}

/// Those that are older than so many seconds.
fn settled(mut checkpoints: Vec<Vec<u8>>, seconds: u64) -> Vec<Vec<u8>> {
    let before = jiff::Timestamp::now().as_nanosecond() - i128::from(seconds) * 1_000_000_000;
    let is_young = |signed: &Vec<u8>| {
        seconds > 0 && Checkpoint::decode(signed).is_ok_and(|(said, _)| i128::from(said.nanos) > before)
    };
    while checkpoints.pop_if(|signed| is_young(signed)).is_some() {}
    checkpoints
}

fn read_key(path: &Path) -> anyhow::Result<PublicKey> {
    let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    PublicKey::from_pem(&pem).with_context(|| format!("key {}", path.display()))
}

/// A verifier that expects what `--witness` holds.
fn begin(keys: Vec<PublicKey>, covers: Covers, args: &VerifyArgs) -> anyhow::Result<Verifier> {
    let mut verifier = Verifier::new(keys, covers);
    let Some(path) = &args.witness else { return Ok(verifier) };
    for signed in Exported::checkpoints(path)? {
        verifier.expect(&signed).with_context(|| format!("a checkpoint in {}", path.display()))?;
    }
    Ok(verifier)
}

fn of_export(path: &Path, keys: Vec<PublicKey>, args: &VerifyArgs) -> anyhow::Result<Report> {
    let (covers, mut export) = Exported::open(path, !args.chains_only)?;
    let mut has = Counted::default();
    let mut faults = Vec::new();
    let mut checkpoints = Vec::new();
    let mut item = export.next()?;
    while let Some(Item::Checkpoint { signed, differs }) = item {
        has.checkpoints += 1;
        faults.extend(differs.map(|what| has.fault(what)));
        checkpoints.push(signed);
        item = export.next()?;
    }
    let covers = widened(covers, &checkpoints, &mut faults)?;
    let mut verifier = begin(keys, covers, args)?;
    settled(checkpoints, args.settle).iter().for_each(|signed| verifier.checkpoint(signed));
    let mut said = None;
    while let Some(next) = item {
        match next {
            Item::Checkpoint { signed, differs } => {
                has.checkpoints += 1;
                faults.extend(differs.map(|what| has.fault(what)));
                verifier.checkpoint(&signed);
            }
            Item::Event { chain, seq, hash, bytes, differs } => {
                has.events += 1;
                verifier.event(Event { chain: &chain, seq, hash: &hash, bytes: &bytes, differs });
            }
            Item::End { events, checkpoints } => {
                said = Some(Counted { events, checkpoints });
                break;
            }
        }
        item = export.next()?;
    }
    faults.extend(has.against(said));
    faults.into_iter().for_each(|fault| verifier.export_fault(fault));
    Ok(verifier.finish())
}

/// What an export has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    events: u64,
    checkpoints: u64,
}

impl Counted {
    /// What is wrong with the last checkpoint.
    fn fault(self, what: &str) -> String {
        format!("the {what} of its checkpoint {} says something else than what was signed", self.checkpoints)
    }

    /// What is wrong with what it says that it has; none: its end is missing.
    fn against(self, said: Option<Self>) -> Option<String> {
        let Self { events: has, checkpoints: and } = self;
        match said {
            None => Some("it is cut off: its last line is missing".into()),
            Some(said) if said == self => None,
            Some(Self { events, checkpoints }) => Some(format!(
                "it says that it has {events} events and {checkpoints} checkpoints, and has {has} and {and}"
            )),
        }
    }
}

/// What an export covers, which nobody signed: at least what follows from its selection and its checkpoints.
fn widened(covers: Covers, checkpoints: &[Vec<u8>], faults: &mut Vec<String>) -> anyhow::Result<Covers> {
    let Some(parts) = covers.parts.clone() else { return Ok(covers) };
    if covers.since.is_none() && covers.until.is_none() && covers.server.is_none() {
        faults.push("it leaves out events without saying which were chosen".into());
    }
    let nanos = |time: &Option<String>| {
        let time = time.as_deref().map(str::parse::<jiff::Timestamp>).transpose();
        let time = time.context("the time from or until which the export covers events is none")?;
        anyhow::Ok(time.map(|time| u64::try_from(time.as_nanosecond()).unwrap_or(0)))
    };
    let (since, until) = (nanos(&covers.since)?, nanos(&covers.until)?);
    Ok(covers.with_parts(parts, checkpoints.iter().map(Vec::as_slice), since, until))
}
