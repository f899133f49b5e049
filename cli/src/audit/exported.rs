//! Reads an export, in either format: what it covers, and then its parts one after the other.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::Context;
use sallyport_audit_proof::{ChainId, Covers, Line};
use sallyport_audit_proto::view::EventView;
use sallyport_event_store::{envelope, envelope_text};

use super::source::name;
use super::table::{Rows, guarded, is_table};

/// Bytes that are read at once.
const READ: usize = 256 << 10;

/// A part of an export.
pub(super) enum Item {
    Checkpoint {
        signed: Vec<u8>,
        /// What is said of it beside the signed bytes and is not what they say.
        differs: Option<&'static str>,
    },
    Event {
        chain: ChainId,
        seq: u64,
        hash: [u8; 32],
        bytes: Vec<u8>,
        /// What is said of it beside its bytes and is not what they say.
        differs: Option<&'static str>,
    },
    /// What it says that it has.
    End { events: u64, checkpoints: u64 },
}

/// An export that is being read.
pub(super) struct Exported {
    path: PathBuf,
    parts: Parts,
}

enum Parts {
    Lines { reader: BufReader<File>, line: String, number: u64, is_deep: bool },
    Rows(Box<Rows>),
}

impl Exported {
    /// Opens it. `is_deep`: whether what is told beside the bytes of events is held against them.
    pub(super) fn open(path: &Path, is_deep: bool) -> anyhow::Result<(Covers, Self)> {
        if is_table(path).with_context(|| format!("cannot read {}", path.display()))? {
            let (covers, rows) =
                guarded(|| Rows::open(path, is_deep)).with_context(|| path.display().to_string())?;
            return Ok((covers, Self { path: path.into(), parts: Parts::Rows(Box::new(rows)) }));
        }
        let mut exported = Self::of_lines(path, is_deep)?;
        match exported.line()? {
            Some(Line::Begin(covers)) => Ok((covers, exported)),
            _ => anyhow::bail!("{} does not begin like an export", path.display()),
        }
    }

    /// The checkpoints of an export, or of lines that were taken out of one.
    pub(super) fn checkpoints(path: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        if is_table(path).with_context(|| format!("cannot read {}", path.display()))? {
            let (_, mut export) = Self::open(path, false)?;
            while let Some(item) = export.next()? {
                if let Item::Checkpoint { signed, .. } = item {
                    found.push(signed);
                }
            }
            return Ok(found);
        }
        let mut lines = Self::of_lines(path, false)?;
        while let Some(line) = lines.line()? {
            if let Line::Checkpoint(signed) = line {
                found.push(signed);
            }
        }
        Ok(found)
    }

    fn of_lines(path: &Path, is_deep: bool) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (reader, line) = (BufReader::with_capacity(READ, file), String::new());
        let parts = Parts::Lines { reader, line, number: 0, is_deep };
        Ok(Self { path: path.into(), parts })
    }

    /// The next part; none: it ends here.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Item>> {
        let is_deep = match &mut self.parts {
            Parts::Rows(rows) => {
                return guarded(|| rows.next()).with_context(|| self.path.display().to_string());
            }
            Parts::Lines { is_deep, .. } => *is_deep,
        };
        let Some(line) = self.line()? else { return Ok(None) };
        Ok(Some(match line {
            Line::Begin(_) => anyhow::bail!("{} begins twice", self.path.display()),
            Line::Checkpoint(signed) => Item::Checkpoint { signed, differs: None },
            Line::Event { chain, seq, hash, bytes, envelope: said } => {
                let differs = said.filter(|_| is_deep).and_then(|said| {
                    let event = EventView::read(&bytes).ok()?;
                    // What this program wrote says the same in the same letters; other tools may set them otherwise.
                    let name = name(&chain);
                    let is_same = said.get() == envelope_text(&name, &hash, &event)
                        || serde_json::from_str::<serde_json::Value>(said.get())
                            .is_ok_and(|said| said == envelope(&name, &hash, &event));
                    (!is_same).then_some("envelope")
                });
                Item::Event { chain, seq, hash, bytes, differs }
            }
            Line::End { events, checkpoints } => Item::End { events, checkpoints },
        }))
    }

    fn line(&mut self) -> anyhow::Result<Option<Line>> {
        let Parts::Lines { reader, line, number, .. } = &mut self.parts else { return Ok(None) };
        *number += 1;
        let place = || format!("{} line {number}", self.path.display());
        line.clear();
        if reader.read_line(line).with_context(place)? == 0 {
            return Ok(None);
        }
        Ok(Some(Line::parse(line).with_context(place)?))
    }
}
