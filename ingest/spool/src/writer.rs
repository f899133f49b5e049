//! The writing end: groups of records into segments.

use std::sync::Arc;

use crate::files::{Appending, Files, publish};
use crate::ledger::{Ledger, Segment};
use crate::record::{self, FRAME, HEADER};
use crate::recovery::Recovered;

/// Sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Of everything.
    pub(crate) all: u64,
    /// Of a segment, when no more is added to it.
    pub(crate) segment: u64,
}

/// Writes the log; there is one.
#[derive(Debug)]
pub(crate) struct Writer {
    files: Arc<dyn Files>,
    ledger: Arc<Ledger>,
    /// None: the next group begins a segment.
    active: Option<Active>,
    /// A segment of an earlier run, which must be made durable before anything follows it.
    unsecured: Option<u64>,
    /// Position of the next record.
    next: u64,
    bounds: Bounds,
    /// Records of the group, as they will be written.
    buffer: Vec<u8>,
    /// How many records that is.
    records: u64,
}

#[derive(Debug)]
struct Active {
    file: Box<dyn Appending>,
    bytes: u64,
}

impl Writer {
    /// Goes on where `recovered` ends, in a new segment.
    pub(crate) fn new(files: Arc<dyn Files>, recovered: Recovered, bounds: Bounds) -> Self {
        let Recovered { ledger, next, unsecured } = recovered;
        let ledger = Arc::new(ledger);
        Self { files, ledger, active: None, unsecured, next, bounds, buffer: Vec::new(), records: 0 }
    }

    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Adds a record to the group and gives its position; none: there is no room for it.
    pub(crate) fn add(&mut self, payload: &[u8]) -> Option<u64> {
        let bytes = to_u64(self.buffer.len() + FRAME + payload.len() + HEADER);
        if self.ledger.taken().saturating_add(bytes) > self.bounds.all {
            return None;
        }
        let position = self.next + self.records;
        record::push(&mut self.buffer, position, payload);
        self.records += 1;
        Some(position)
    }

    /// Bytes of the group.
    pub(crate) fn group_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Writes the group; when this returns it is durable. After an error none of it is acknowledged.
    pub(crate) fn commit(&mut self) -> std::io::Result<()> {
        let result = self.write();
        if result.is_ok() {
            self.next += self.records;
            self.ledger.durable.send_replace(self.next - 1);
        } else if let Some(failed) = self.active.take() {
            // Its tail is unknown: the next segment's beginning says where it ended.
            self.ledger.grow(failed.bytes, failed.bytes + to_u64(self.buffer.len()));
        }
        self.buffer.clear();
        self.records = 0;
        result
    }

    /// Makes sure that there is a segment to write, and that everything before it is on disk.
    pub(crate) fn ensure_segment(&mut self) -> std::io::Result<()> {
        if let Some(base) = self.unsecured {
            self.secure(base)?;
            self.unsecured = None;
        }
        if self.active.as_ref().is_none_or(|active| active.bytes >= self.bounds.segment) {
            self.active = None;
            let name = Segment::name(self.next);
            let file = publish(&*self.files, &self.ledger.folder, &name, &record::header(self.next))?;
            let bytes = to_u64(HEADER);
            self.ledger.begin(Segment { base: self.next, readable: bytes, taken: bytes });
            self.active = Some(Active { file, bytes });
        }
        Ok(())
    }

    /// Writes what can be read of an earlier run's last segment anew. Where that run died after a failed fsync, its tail may
    /// be readable from memory and not be on disk, and no fsync of it would tell.
    fn secure(&self, base: u64) -> std::io::Result<()> {
        let Some((segment, _)) = self.ledger.find(base) else {
            return Ok(());
        };
        let bytes = self.files.read(&self.ledger.path(base), 0, segment.readable)?;
        publish(&*self.files, &self.ledger.folder, &Segment::name(base), &bytes)?;
        self.ledger.grow(segment.readable, segment.readable);
        Ok(())
    }

    fn write(&mut self) -> std::io::Result<()> {
        if self.records == 0 {
            return Ok(());
        }
        self.ensure_segment()?;
        if let Some(active) = &mut self.active {
            active.file.append(&self.buffer)?;
            active.file.sync()?;
            active.bytes += to_u64(self.buffer.len());
            self.ledger.grow(active.bytes, active.bytes);
        }
        Ok(())
    }
}

pub(crate) fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
