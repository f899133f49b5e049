//! What the segments hold: shared by the writer, who adds, and the reader, who removes.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::files::Files;
use crate::spool::Health;

/// Ending of a segment's name.
const ENDING: &str = ".log";

/// A segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Position of its first record.
    pub(crate) base: u64,
    /// Bytes that may be read.
    pub(crate) readable: u64,
    /// Bytes that it takes.
    pub(crate) taken: u64,
}

impl Segment {
    /// Name of its file.
    pub(crate) fn name(base: u64) -> String {
        format!("{base:020}{ENDING}")
    }

    /// The position in a file's name; none: it is no segment.
    pub(crate) fn base_in(name: &str) -> Option<u64> {
        name.strip_suffix(ENDING)?.parse().ok()
    }
}

/// The segments, and who waits for what about them.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) folder: PathBuf,
    /// In order of their positions. Only the last is written.
    segments: Mutex<Vec<Segment>>,
    /// Highest durable position.
    pub(crate) durable: watch::Sender<u64>,
    /// Highest delivered position.
    pub(crate) delivered: watch::Sender<u64>,
    pub(crate) health: watch::Sender<Health>,
}

impl Ledger {
    pub(crate) fn new(folder: &Path, segments: Vec<Segment>, durable: u64, delivered: u64) -> Self {
        Self {
            folder: folder.to_path_buf(),
            segments: Mutex::new(segments),
            durable: watch::Sender::new(durable),
            delivered: watch::Sender::new(delivered),
            health: watch::Sender::new(Health::Failing("starting".into())),
        }
    }

    pub(crate) fn path(&self, base: u64) -> PathBuf {
        self.folder.join(Segment::name(base))
    }

    /// Bytes of all segments.
    pub(crate) fn taken(&self) -> u64 {
        self.segments().iter().map(|segment| segment.taken).sum()
    }

    /// The segment that a position is in, and where the next one begins.
    pub(crate) fn find(&self, position: u64) -> Option<(Segment, Option<u64>)> {
        let segments = self.segments();
        let after = segments.partition_point(|segment| segment.base <= position).max(1);
        let segment = segments.get(after - 1)?;
        Some((*segment, segments.get(after).map(|next| next.base)))
    }

    /// Adds a segment at the end, in place of one that holds nothing.
    pub(crate) fn begin(&self, segment: Segment) {
        let mut segments = self.segments();
        segments.retain(|known| known.base != segment.base);
        segments.push(segment);
    }

    /// Changes the last segment's sizes.
    pub(crate) fn grow(&self, readable: u64, taken: u64) {
        if let Some(last) = self.segments().last_mut() {
            last.readable = readable;
            last.taken = taken;
        }
    }

    /// Segments, without the last, of which everything up to `delivered` is all.
    pub(crate) fn finished(&self, delivered: u64) -> Vec<u64> {
        let segments = self.segments();
        let ends = segments.iter().skip(1).map(|next| next.base);
        segments
            .iter()
            .zip(ends)
            .filter(|(_, end)| *end <= delivered + 1)
            .map(|(segment, _)| segment.base)
            .collect()
    }

    /// Removes finished segments.
    pub(crate) fn remove(&self, files: &dyn Files, bases: &[u64]) -> std::io::Result<()> {
        for base in bases {
            files.remove(&self.path(*base))?;
            self.segments().retain(|segment| segment.base != *base);
        }
        Ok(())
    }

    fn segments(&self) -> MutexGuard<'_, Vec<Segment>> {
        // Every change is one step, so what a thread that died left is whole.
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
