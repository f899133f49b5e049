//! The proof that the record is whole: checkpoints seal where all chains stand, and a verifier holds events against them.
//!
//! Pure: no files, no clock, no store. [`Sealer`] makes checkpoints from chain heads; [`Verifier`] takes the checkpoints and
//! then the events of a store or an export, chain by chain, and answers with a [`Report`]. docs/audit.md describes the
//! bytes for readers without this crate.
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![forbid(unsafe_code)]

mod book;
mod checkpoint;
mod event;
mod key;
mod lines;
mod merkle;
mod report;
mod sealer;
mod verify;

pub use checkpoint::{ChainId, Checkpoint, End, Malformed, SealedHead, checkpoint_hash};
pub use event::{Links, links};
pub use key::{KeyError, PublicKey, SecretKey, generate_pem, key_id};
pub use lines::{Covered, Covers, Line, LineError};
pub use merkle::root;
pub use report::{Alteration, CheckpointFault, Found, Gap, Place, Report, Sealing, Truncation};
pub use sealer::{Sealed, Sealer};
pub use verify::{Event, Verifier};
