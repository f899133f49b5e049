//! The handle, and the thread that writes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::files::{Disk, Files};
use crate::ledger::Ledger;
use crate::reader::Reader;
use crate::record::MAX_RECORD;
use crate::recovery::recover;
use crate::writer::{Bounds, Writer};

/// Most bytes that one fsync is for.
const GROUP_BYTES: usize = 8 << 20;
/// Most bytes that wait for the thread.
const WAITING_BYTES: usize = 64 << 20;
/// How often a log that cannot be written is tried again while nobody appends.
const PROBE: Duration = Duration::from_secs(1);
/// Bounds of a segment's size; within them it is a sixteenth of the whole.
const SEGMENT: (u64, u64) = (64 << 10, 64 << 20);

/// Settings.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of the log; made if missing. One process at a time.
    pub folder: PathBuf,
    /// Most bytes on disk.
    pub max_bytes: u64,
}

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system refused.
    #[error("spool cannot be read or written")]
    Io(#[from] std::io::Error),
    /// Another process has it.
    #[error("spool {folder} is in use by another process")]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// A segment is of another version, or damaged at its beginning.
    #[error(
        "{path} is no spool segment that this program knows; move it away to go on without what it holds"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

/// Why a record is not in the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The bound is reached; there is room again when more is delivered.
    #[error("spool is full")]
    Full,
    /// Too much waits for the disk.
    #[error("spool is busy")]
    Busy,
    /// The disk does not take it.
    #[error("spool cannot be written: {0}")]
    Disk(Arc<std::io::Error>),
    /// It is empty, or larger than [`MAX_RECORD`].
    #[error("a record has 1 to {MAX_RECORD} bytes")]
    Size,
    /// The thread is gone.
    #[error("spool has stopped")]
    Stopped,
}

/// Whether records are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Yes.
    Writable,
    /// No: the bound is reached.
    Full,
    /// No: the disk refuses, or was not tried yet, for this reason.
    Failing(String),
}

struct Request {
    payload: Vec<u8>,
    answer: oneshot::Sender<Result<u64, AppendError>>,
}

/// The log's writing end. Clones are the same log.
#[derive(Clone, Debug)]
pub struct Spool {
    requests: Sender<Request>,
    waiting: Arc<AtomicUsize>,
    ledger: Arc<Ledger>,
    max_bytes: u64,
}

impl Spool {
    /// Opens the log, with its reader.
    ///
    /// # Errors
    /// The folder cannot be used, or another process uses it.
    pub fn open(options: &Options) -> Result<(Self, Reader), OpenError> {
        let files: Arc<dyn Files> = Arc::new(Disk::lock(&options.folder)?);
        let recovered = recover(&*files, &options.folder)?;
        let segment = (options.max_bytes / 16).clamp(SEGMENT.0, SEGMENT.1);
        let writer = Writer::new(Arc::clone(&files), recovered, Bounds { all: options.max_bytes, segment });
        let ledger = Arc::clone(writer.ledger());
        let reader = Reader::new(files, Arc::clone(&ledger));
        let (requests, received) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let thread = Thread { writer, ledger: Arc::clone(&ledger), waiting: Arc::clone(&waiting) };
        std::thread::Builder::new().name("spool".into()).spawn(move || thread.run(&received))?;
        Ok((Self { requests, waiting, ledger, max_bytes: options.max_bytes }, reader))
    }

    /// Adds a record; its position when it is durable. A caller that goes away before does not know whether it is.
    ///
    /// # Errors
    /// It is not taken.
    pub async fn append(&self, payload: Vec<u8>) -> Result<u64, AppendError> {
        let bytes = payload.len();
        if !(1..=MAX_RECORD).contains(&bytes) {
            return Err(AppendError::Size);
        }
        if self.waiting.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > WAITING_BYTES {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            return Err(AppendError::Busy);
        }
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { payload, answer }).map_err(|_| AppendError::Stopped)?;
        answered.await.map_err(|_| AppendError::Stopped)?
    }

    /// Whether records are taken, and each change of it. While it is failing after a start, records of the run before may
    /// be readable that are not on disk: nobody must be told that they are.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.ledger.health.subscribe()
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.ledger.taken()
    }

    /// Most bytes on disk.
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Records that are not delivered yet.
    pub fn undelivered(&self) -> u64 {
        self.ledger.durable.borrow().saturating_sub(*self.ledger.delivered.borrow())
    }
}

/// The one that writes.
struct Thread {
    writer: Writer,
    ledger: Arc<Ledger>,
    waiting: Arc<AtomicUsize>,
}

type Waiter = (oneshot::Sender<Result<u64, AppendError>>, Option<u64>);

impl Thread {
    fn run(mut self, requests: &Receiver<Request>) {
        self.probe();
        loop {
            let is_failing = matches!(*self.ledger.health.borrow(), Health::Failing(_));
            let request = if is_failing {
                requests.recv_timeout(PROBE)
            } else {
                requests.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match request {
                Ok(first) => self.group(first, requests),
                Err(RecvTimeoutError::Timeout) => self.probe(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Finds out whether the log can be written.
    fn probe(&mut self) {
        match self.writer.ensure_segment() {
            Ok(()) => self.set(Health::Writable),
            Err(error) => self.set(Health::Failing(error.to_string())),
        }
    }

    /// Takes what waits, makes it durable as one, tells everyone.
    fn group(&mut self, first: Request, requests: &Receiver<Request>) {
        let mut waiters: Vec<Waiter> = Vec::new();
        let mut has_room = true;
        let mut next = Some(first);
        while let Some(Request { payload, answer }) = next {
            self.waiting.fetch_sub(payload.len(), Ordering::Relaxed);
            let position = self.writer.add(&payload);
            has_room &= position.is_some();
            waiters.push((answer, position));
            next = if self.writer.group_bytes() < GROUP_BYTES { requests.try_recv().ok() } else { None };
        }
        let result = self.writer.commit().map_err(Arc::new);
        match &result {
            Err(error) => self.set(Health::Failing(error.to_string())),
            Ok(()) if has_room => self.set(Health::Writable),
            Ok(()) => self.set(Health::Full),
        }
        for (answer, position) in waiters {
            // Whoever waits no more misses nothing.
            let _ = answer.send(match (position, &result) {
                (None, _) => Err(AppendError::Full),
                (Some(position), Ok(())) => Ok(position),
                (Some(_), Err(error)) => Err(AppendError::Disk(Arc::clone(error))),
            });
        }
    }

    fn set(&self, health: Health) {
        self.ledger.health.send_if_modified(|known| {
            let is_new = *known != health;
            if is_new {
                match &health {
                    Health::Writable => tracing::info!("the spool takes records"),
                    Health::Full => tracing::warn!("the spool is full"),
                    Health::Failing(error) => tracing::error!(error, "the spool cannot be written"),
                }
                *known = health;
            }
            is_new
        });
    }
}
