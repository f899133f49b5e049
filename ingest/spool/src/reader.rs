//! The reading end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::cursor;
use crate::files::Files;
use crate::ledger::{Ledger, Segment};
use crate::record::{FRAME, HEADER, Parsed, parse};
use crate::spool::Health;
use crate::writer::to_u64;

/// How often the cursor is written while records are delivered.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// A record that is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the log, from 1.
    pub position: u64,
    /// What was appended.
    pub payload: Bytes,
}

/// Records that follow one another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// The records.
    pub records: Vec<Record>,
    /// Records that were acknowledged and are damaged; they were before, or after, these.
    pub lost: u64,
}

/// Where the reader is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The next position to give.
    pub(crate) wanted: u64,
    base: u64,
    /// Position of the record at `offset`, which is before `wanted` at the most.
    at: u64,
    offset: u64,
}

impl Place {
    pub(crate) fn before(wanted: u64) -> Self {
        Self { wanted, base: 0, at: 0, offset: 0 }
    }

    fn enter(&mut self, segment: Segment) {
        if self.base != segment.base {
            (self.base, self.at, self.offset) = (segment.base, segment.base, to_u64(HEADER));
            // Nothing is before the first segment.
            self.wanted = self.wanted.max(segment.base);
        }
    }
}

/// Reads from `place` on, about `max_bytes` of one segment. Nothing: there is nothing more, or only what is passed over.
pub(crate) fn read(
    files: &dyn Files,
    ledger: &Ledger,
    place: &mut Place,
    max_bytes: u64,
) -> std::io::Result<Chunk> {
    let mut chunk = Chunk::default();
    let durable = *ledger.durable.borrow();
    let Some((segment, next)) = ledger.find(place.wanted).filter(|_| place.wanted <= durable) else {
        return Ok(chunk);
    };
    place.enter(segment);
    let end = next.unwrap_or(durable + 1);
    let available = segment.readable.saturating_sub(place.offset);
    let path = ledger.path(segment.base);
    let mut bytes = Bytes::from(files.read(&path, place.offset, available.min(max_bytes))?);
    let mut has_read = false;
    while place.at < end {
        match parse(&bytes, place.at) {
            Parsed::Record(size) => {
                let payload = bytes.split_to(size).split_off(FRAME);
                if place.at >= place.wanted {
                    chunk.records.push(Record { position: place.at, payload });
                    place.wanted = place.at + 1;
                }
                place.at += 1;
                place.offset += to_u64(size);
                has_read = true;
            }
            Parsed::Short(_) | Parsed::Damaged if has_read => break,
            Parsed::Short(size) if size > bytes.len() && to_u64(size) <= available => {
                let whole = files.read(&path, place.offset, to_u64(size))?;
                if whole.len() < size {
                    return damaged(place, next, chunk);
                }
                bytes = Bytes::from(whole);
            }
            Parsed::Short(_) | Parsed::Damaged => return damaged(place, next, chunk),
        }
    }
    Ok(chunk)
}

/// Passes over the rest of a segment. The last one's must wait until it is known how much that is.
fn damaged(place: &mut Place, next: Option<u64>, mut chunk: Chunk) -> std::io::Result<Chunk> {
    let Some(next) = next else {
        let message = format!("record {} of the spool is damaged", place.at);
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, message));
    };
    chunk.lost = next.saturating_sub(place.wanted);
    tracing::error!(from = place.wanted, lost = chunk.lost, "records of the spool are damaged and lost");
    place.wanted = next;
    Ok(chunk)
}

/// Removes what is delivered and writes the cursor.
pub(crate) fn save(files: &dyn Files, ledger: &Ledger, delivered: u64) -> std::io::Result<()> {
    // First, because it needs no room; what is gone counts as delivered also without the cursor.
    let removed = ledger.remove(files, &ledger.finished(delivered));
    ledger.health.send_if_modified(|health| {
        let was_full = matches!(health, Health::Full);
        if was_full {
            *health = Health::Writable;
        }
        was_full
    });
    removed.and_then(|()| cursor::save(files, &ledger.folder, delivered))
}

/// Gives the records in order; there is one.
#[derive(Debug)]
pub struct Reader {
    files: Arc<dyn Files>,
    ledger: Arc<Ledger>,
    place: Place,
    delivered: u64,
    saved: u64,
    saved_at: Instant,
}

impl Reader {
    pub(crate) fn new(files: Arc<dyn Files>, ledger: Arc<Ledger>) -> Self {
        let delivered = *ledger.delivered.borrow();
        let place = Place::before(delivered + 1);
        Self { files, ledger, place, delivered, saved: delivered, saved_at: Instant::now() }
    }

    /// Waits for records, and gives about `max_bytes` of them, one at least. Meanwhile it writes the cursor, once a
    /// second at most.
    ///
    /// # Errors
    /// They cannot be read now. The next call tries again.
    pub async fn next(&mut self, max_bytes: u64) -> std::io::Result<Chunk> {
        let mut durable = self.ledger.durable.subscribe();
        loop {
            if self.is_due() {
                self.save().await;
            }
            if self.place.wanted > *durable.borrow_and_update() {
                let changed = durable.changed();
                if self.delivered > self.saved {
                    // Nobody may come for long, and the cursor is to be written all the same.
                    let wait = SAVE_EVERY.saturating_sub(self.saved_at.elapsed());
                    let _ = tokio::time::timeout(wait, changed).await;
                } else {
                    changed.await.map_err(std::io::Error::other)?;
                }
                continue;
            }
            let chunk = self.read(max_bytes).await?;
            if !chunk.records.is_empty() || chunk.lost > 0 {
                return Ok(chunk);
            }
        }
    }

    /// What can be read without waiting; empty: nothing.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn next_ready(&mut self, max_bytes: u64) -> std::io::Result<Chunk> {
        while self.place.wanted <= *self.ledger.durable.borrow() {
            let chunk = self.read(max_bytes).await?;
            if !chunk.records.is_empty() || chunk.lost > 0 {
                return Ok(chunk);
            }
        }
        Ok(Chunk::default())
    }

    /// Reads again from the cursor on.
    pub fn rewind(&mut self) {
        self.place = Place::before(self.delivered + 1);
    }

    /// Everything up to `position` need not be given again.
    pub fn delivered(&mut self, position: u64) {
        self.delivered = self.delivered.max(position);
        self.ledger.delivered.send_replace(self.delivered);
    }

    /// Writes the cursor and removes what is delivered.
    pub async fn save(&mut self) {
        let (files, ledger, delivered) = (Arc::clone(&self.files), Arc::clone(&self.ledger), self.delivered);
        let saved = tokio::task::spawn_blocking(move || save(&*files, &ledger, delivered)).await;
        self.saved_at = Instant::now();
        match saved.map_err(std::io::Error::other).flatten() {
            Ok(()) => self.saved = delivered,
            Err(error) => {
                tracing::warn!(%error, "the spool's cursor cannot be written; records would be delivered again");
            }
        }
    }

    fn is_due(&self) -> bool {
        let is_behind = self.delivered > self.saved;
        let late = self.saved_at.elapsed() >= SAVE_EVERY;
        is_behind && (late || !self.ledger.finished(self.delivered).is_empty())
    }

    async fn read(&mut self, max_bytes: u64) -> std::io::Result<Chunk> {
        let (files, ledger, mut place) = (Arc::clone(&self.files), Arc::clone(&self.ledger), self.place);
        let task = tokio::task::spawn_blocking(move || {
            read(&*files, &ledger, &mut place, max_bytes).map(|chunk| (place, chunk))
        });
        let (place, chunk) = task.await.map_err(std::io::Error::other).flatten()?;
        self.place = place;
        Ok(chunk)
    }
}
