//! `sallyport audit verify`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use prost::Message;
use sallyport_audit_proof::{Checkpoint, Covers, Event, Line, PublicKey, Report, Verifier};
use sallyport_audit_proto::v1::AuditEvent;
use sallyport_event_store::{Depth, envelope};

use super::print;
use super::source::{Source, Which, id, name};
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
    /// File of the public key; several where the key was changed.
    #[arg(long, required = true)]
    public_key: Vec<PathBuf>,
    /// Reads a store's file.
    #[arg(long, conflicts_with = "file")]
    store: Option<PathBuf>,
    /// Reads an export; what it covers was chosen when it was made.
    #[arg(long, conflicts_with_all = ["since", "until", "server"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
    /// Leaves out checkpoints of the last so many seconds: behind Kafka a store may have them before the events.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    settle: u64,
    /// Checkpoints that were kept elsewhere (lines of an export): each must be in the record.
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
    if let Some(path) = &args.file {
        return of_lines(path, keys, args);
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
pub(super) fn begin(keys: Vec<PublicKey>, covers: Covers, args: &VerifyArgs) -> anyhow::Result<Verifier> {
    let mut verifier = Verifier::new(keys, covers);
    let Some(path) = &args.witness else { return Ok(verifier) };
    for line in lines(path)? {
        if let Line::Checkpoint(signed) = line? {
            verifier.expect(&signed).with_context(|| format!("a checkpoint in {}", path.display()))?;
        }
    }
    Ok(verifier)
}

fn lines(path: &Path) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Line>> + use<'_>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(BufReader::new(file).lines().zip(1..).map(move |(line, number)| {
        let place = || format!("{} line {number}", path.display());
        Line::parse(&line.with_context(place)?).with_context(place)
    }))
}

fn of_lines(path: &Path, keys: Vec<PublicKey>, args: &VerifyArgs) -> anyhow::Result<Report> {
    let mut lines = lines(path)?;
    let Some(Line::Begin(covers)) = lines.next().transpose()? else {
        anyhow::bail!("{} does not begin like an export", path.display());
    };
    let mut verifier = begin(keys, covers, args)?;
    let mut counted = (0, 0);
    for line in lines {
        match line? {
            Line::Begin(_) => anyhow::bail!("{} begins twice", path.display()),
            Line::Checkpoint(signed) => {
                counted.1 += 1;
                verifier.checkpoint(&signed);
            }
            Line::Event { chain, seq, hash, bytes, envelope: said } => {
                counted.0 += 1;
                let differs = said.filter(|_| !args.chains_only).and_then(|said| {
                    let event = AuditEvent::decode(bytes.as_slice()).ok()?;
                    (said != envelope(&name(&chain), &hash, &event)).then_some("envelope")
                });
                verifier.event(Event { chain: &chain, seq, hash: &hash, bytes: &bytes, differs });
            }
            Line::End { events, checkpoints } => {
                if counted != (events, checkpoints) {
                    let (has, and) = counted;
                    verifier.export_fault(format!(
                        "it says that it has {events} events and {checkpoints} checkpoints, and has {has} and {and}"
                    ));
                }
                return Ok(verifier.finish());
            }
        }
    }
    verifier.export_fault("it is cut off: its last line is missing");
    Ok(verifier.finish())
}
