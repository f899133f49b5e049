//! Exports as Parquet: one table, in which a row is a signed checkpoint or an event. Checkpoints come first; `bytes` is what was
//! signed or chained, and all other columns can be read from it. What is covered, and how many rows there are, is in the
//! file's metadata.

mod guard;
mod read;
mod write;

use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use sallyport_audit_proto::view::EventView;

pub(super) use guard::guarded;
pub(super) use read::{Rows, is_table};
pub(super) use write::Table;

use super::fields::{COUNT, Cell, fields};

/// Keys of the file's metadata.
const FORMAT: &str = "sallyport.format";
const COVERS: &str = "sallyport.covers";
const EVENTS: &str = "sallyport.events";
const CHECKPOINTS: &str = "sallyport.checkpoints";
/// Name of the format.
const FORMAT_NAME: &str = "sallyport-audit-export-parquet-1";

/// Columns of every row, around those of an event. `hash`: BLAKE3 of the event's bytes, or the checkpoint's hash.
const KIND: &str = "kind";
const PROXY: &str = "proxy";
const WORKER: &str = "worker";
const EPOCH: &str = "epoch";
const SEQ: &str = "seq";
const HASH: &str = "hash";
const BYTES: &str = "bytes";
const PLACE: [&str; 7] = [KIND, PROXY, WORKER, EPOCH, SEQ, HASH, BYTES];

/// What `kind` says.
const EVENT: &str = "event";
const CHECKPOINT: &str = "checkpoint";

/// What says where a row stands: the columns that a proof needs.
#[derive(Debug)]
struct Place<'p> {
    kind: &'p str,
    chain: Option<(&'p str, u32, u64)>,
    seq: u64,
    hash: &'p [u8],
    bytes: &'p [u8],
}

impl<'p> Place<'p> {
    /// In the order of [`PLACE`].
    fn cells(&self) -> [Cell<'p>; PLACE.len()] {
        [
            Cell::Text(Some(self.kind.into())),
            Cell::Text(self.chain.map(|(proxy, ..)| proxy.into())),
            Cell::Small(self.chain.map(|(_, worker, _)| worker)),
            Cell::Large(self.chain.map(|(.., epoch)| epoch)),
            Cell::Large(Some(self.seq)),
            Cell::Binary(Some(self.hash)),
            Cell::Binary(Some(self.bytes)),
        ]
    }
}

/// The columns that are read from an event; without one they say nothing.
fn described<'e>(event: Option<&EventView<'e>>) -> [(&'static str, Cell<'e>); COUNT] {
    match event {
        Some(event) => fields(event),
        None => fields(&EventView::default()).map(|(name, cell)| (name, cell.emptied())),
    }
}

/// The columns of a checkpoint's row: when it was made.
fn of_checkpoint(nanos: u64) -> [(&'static str, Cell<'static>); COUNT] {
    described(None).map(|(name, cell)| (name, if name == "time" { Cell::Time(Some(nanos)) } else { cell }))
}

/// The schema, in Parquet's own notation.
fn schema() -> String {
    let place = Place { kind: EVENT, chain: None, seq: 0, hash: &[], bytes: &[] };
    let columns = PLACE.into_iter().zip(place.cells()).chain(described(None));
    let columns = columns.map(|(name, cell)| {
        let (kind, logical) = match cell {
            Cell::Text(_) => ("BYTE_ARRAY", " (UTF8)"),
            Cell::Binary(_) => ("BYTE_ARRAY", ""),
            Cell::Time(_) => ("INT64", " (TIMESTAMP(NANOS,true))"),
            Cell::Small(_) => ("INT32", " (INTEGER(32,false))"),
            Cell::Large(_) => ("INT64", " (INTEGER(64,false))"),
            Cell::Flag(_) => ("BOOLEAN", ""),
        };
        let presence = if [KIND, SEQ, HASH, BYTES].contains(&name) { "REQUIRED" } else { "OPTIONAL" };
        format!("{presence} {kind} {name}{logical};\n")
    });
    format!("message audit {{\n{}}}", columns.collect::<String>())
}

/// Values of a column, of some rows one after the other.
enum Column {
    Bytes(Values<ByteArrayType>),
    Small(Values<Int32Type>),
    Large(Values<Int64Type>),
    Flag(Values<BoolType>),
}

struct Values<T: DataType> {
    /// Those that are there.
    values: Vec<T::T>,
    /// For each row 1 where there is a value.
    levels: Vec<i16>,
    /// The next row, and its place in `values`.
    next: (usize, usize),
}

impl<T: DataType> Values<T> {
    fn new() -> Self {
        Self { values: Vec::new(), levels: Vec::new(), next: (0, 0) }
    }

    fn push(&mut self, value: Option<T::T>) {
        self.levels.push(i16::from(value.is_some()));
        self.values.extend(value);
    }

    fn clear(&mut self) {
        *self = Self {
            next: (0, 0),
            values: std::mem::take(&mut self.values),
            levels: std::mem::take(&mut self.levels),
        };
        self.values.clear();
        self.levels.clear();
    }

    /// The next row's value; none also where there is no row.
    fn take(&mut self) -> Option<&T::T> {
        let (row, place) = &mut self.next;
        let is_there = self.levels.get(*row).is_some_and(|level| *level > 0);
        *row += 1;
        if !is_there {
            return None;
        }
        *place += 1;
        self.values.get(*place - 1)
    }
}

impl Column {
    /// An empty one for values like this.
    fn like(cell: &Cell<'_>) -> Self {
        match cell {
            Cell::Text(_) | Cell::Binary(_) => Self::Bytes(Values::new()),
            Cell::Small(_) => Self::Small(Values::new()),
            Cell::Time(_) | Cell::Large(_) => Self::Large(Values::new()),
            Cell::Flag(_) => Self::Flag(Values::new()),
        }
    }

    fn push(&mut self, cell: &Cell<'_>) {
        match (self, cell) {
            (Self::Bytes(column), Cell::Text(value)) => {
                push_bytes(column, value.as_deref().map(str::as_bytes));
            }
            (Self::Bytes(column), Cell::Binary(value)) => push_bytes(column, *value),
            (Self::Small(column), Cell::Small(value)) => column.push(value.map(u32::cast_signed)),
            (Self::Large(column), Cell::Large(value)) => column.push(value.map(u64::cast_signed)),
            (Self::Large(column), Cell::Time(value)) => column.push(value.map(time)),
            (Self::Flag(column), Cell::Flag(value)) => column.push(*value),
            // A column is made by `like` of the cell that it is given.
            (Self::Bytes(_) | Self::Small(_) | Self::Large(_) | Self::Flag(_), _) => {}
        }
    }

    /// Whether the next row says the same as `cell`.
    fn agrees(&mut self, cell: &Cell<'_>) -> bool {
        match (self, cell) {
            (Self::Bytes(column), Cell::Text(value)) => {
                column.take().map(ByteArray::data) == value.as_deref().map(str::as_bytes)
            }
            (Self::Bytes(column), Cell::Binary(value)) => column.take().map(ByteArray::data) == *value,
            (Self::Small(column), Cell::Small(value)) => {
                column.take().copied() == value.map(u32::cast_signed)
            }
            (Self::Large(column), Cell::Large(value)) => {
                column.take().copied() == value.map(u64::cast_signed)
            }
            (Self::Large(column), Cell::Time(value)) => column.take().copied() == value.map(time),
            (Self::Flag(column), Cell::Flag(value)) => column.take().copied() == *value,
            (Self::Bytes(_) | Self::Small(_) | Self::Large(_) | Self::Flag(_), _) => false,
        }
    }
}

/// The time's column ends in the year 2262.
fn time(nanos: u64) -> i64 {
    i64::try_from(nanos).unwrap_or(i64::MAX)
}

/// Most columns say the same again and again: that takes no room twice.
fn push_bytes(column: &mut Values<ByteArrayType>, value: Option<&[u8]>) {
    let same = column.values.last().filter(|last| Some(last.data()) == value).cloned();
    column.push(same.or_else(|| value.map(ByteArray::from)));
}
