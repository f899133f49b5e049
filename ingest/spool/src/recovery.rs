//! What a start finds in the folder.

use std::path::Path;

use crate::cursor;
use crate::files::{DRAFT, Files};
use crate::ledger::{Ledger, Segment};
use crate::record::{self, HEADER, Parsed};
use crate::spool::OpenError;
use crate::writer::to_u64;

/// The log as it was found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) ledger: Ledger,
    /// Position of the next record to write.
    pub(crate) next: u64,
    /// The last segment's position, if it holds records: what can be read of it may not be on disk.
    pub(crate) unsecured: Option<u64>,
}

/// Reads the folder, and removes what is delivered or not whole.
pub(crate) fn recover(files: &dyn Files, folder: &Path) -> Result<Recovered, OpenError> {
    let mut bases = Vec::new();
    for name in files.list(folder)? {
        if name.ends_with(DRAFT) {
            files.remove(&folder.join(&name))?;
        }
        bases.extend(Segment::base_in(&name));
    }
    bases.sort_unstable();
    let first = bases.first().copied().unwrap_or(1);
    // Only what is delivered is ever removed.
    let delivered = cursor::load(files, folder)?.unwrap_or_default().max(first.saturating_sub(1));
    let tail = bases.pop().map(|base| read_tail(files, folder, base)).transpose()?;
    let next = tail.map_or(1, |tail| tail.next).max(delivered + 1);
    let mut segments = Vec::new();
    for base in bases {
        let bytes = files.length(&folder.join(Segment::name(base)))?;
        segments.push(Segment { base, readable: bytes, taken: bytes });
    }
    segments.extend(tail.map(|tail| tail.segment));
    let ledger = Ledger::new(folder, segments, next - 1, delivered);
    ledger.remove(files, &ledger.finished(delivered))?;
    let unsecured = tail.filter(|tail| tail.next > tail.segment.base).map(|tail| tail.segment.base);
    Ok(Recovered { ledger, next, unsecured })
}

#[derive(Clone, Copy)]
struct Tail {
    segment: Segment,
    next: u64,
}

/// Finds the last whole record of the last segment.
fn read_tail(files: &dyn Files, folder: &Path, base: u64) -> Result<Tail, OpenError> {
    let path = folder.join(Segment::name(base));
    let bytes = files.read(&path, 0, u64::MAX)?;
    if !record::is_header(&bytes, base) {
        return Err(OpenError::Foreign { path });
    }
    let mut rest = bytes.get(HEADER..).unwrap_or_default();
    let mut next = base;
    while let Parsed::Record(size) = record::parse(rest, next) {
        rest = rest.get(size..).unwrap_or_default();
        next += 1;
    }
    if !rest.is_empty() {
        tracing::warn!(
            bytes = rest.len(),
            next,
            "the spool's end is torn; what was in it was never acknowledged"
        );
    }
    let segment = Segment { base, readable: to_u64(bytes.len() - rest.len()), taken: to_u64(bytes.len()) };
    Ok(Tail { segment, next })
}
