//! A write-ahead log on disk, between those who send and the store that takes its time.
//!
//! ```text
//!   append ──▶ one thread: write, fsync, tell everyone ──▶ segments ──▶ Reader ──▶ delivered ──▶ cursor
//! ```
//!
//! # Guarantees
//! - [`Spool::append`] returns a position when the record is on disk. Appends that wait together share one fsync.
//! - A [`Reader`] gives every acknowledged record once and in order, from the cursor on. After a crash it gives again what
//!   was read since the cursor was last written (a second at most); a record that was never acknowledged may be given too,
//!   at the end.
//! - A torn tail is cut off. A damaged record within a segment costs the rest of that segment; the reader says how many.
//! - The folder never holds more than its bound, beside one segment's header: beyond, appending fails with
//!   [`AppendError::Full`].
//!
//! # Failure
//! After a failed write or fsync nobody knows what the segment's tail is, and a second fsync may succeed without having
//! written anything. So such a segment is never written again: the log goes on in a new one, whose beginning says where
//! the old one ended. As long as none can be made, appending fails with [`AppendError::Disk`].
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![forbid(unsafe_code)]

mod cursor;
mod files;
mod ledger;
mod reader;
mod record;
mod recovery;
mod spool;
mod writer;

#[cfg(test)]
mod faulty;
#[cfg(test)]
mod laws;

pub use reader::{Chunk, Reader, Record};
pub use record::MAX_RECORD;
pub use spool::{AppendError, Health, OpenError, Options, Spool};
