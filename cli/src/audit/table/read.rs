//! Reading.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Context;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::file::metadata::FileMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use sallyport_audit_proof::{ChainId, Checkpoint, Covers};
use sallyport_audit_proto::view::EventView;

use super::{
    CHECKPOINT, CHECKPOINTS, COVERS, Column, EVENT, EVENTS, FORMAT, FORMAT_NAME, PLACE, Place, Values,
    described, of_checkpoint,
};
use crate::audit::exported::Item;
use crate::audit::fields::{COUNT, Cell};

/// Rows that are decoded at once.
const BATCH: usize = 1000;
/// How a Parquet file begins.
const MAGIC: &[u8; 4] = b"PAR1";

/// Whether a file is Parquet.
pub(in crate::audit) fn is_table(path: &Path) -> std::io::Result<bool> {
    let mut begin = Vec::with_capacity(MAGIC.len());
    File::open(path)?.take(4).read_to_end(&mut begin)?;
    Ok(begin == MAGIC)
}

/// A column of the file that is known.
struct Known {
    /// Its place in the file.
    index: usize,
    name: &'static str,
    values: Column,
}

/// The rows of a Parquet file, some at a time.
pub(in crate::audit) struct Rows {
    file: SerializedFileReader<File>,
    /// The next group.
    group: usize,
    /// Readers of the group that is being read, as `place` and then `described` stand.
    readers: Vec<ColumnReader>,
    /// As in [`PLACE`].
    place: Vec<Known>,
    /// As in [`described`]; none: not read.
    described: Vec<Option<Known>>,
    decoded: VecDeque<Item>,
    counts: (u64, u64),
    is_over: bool,
}

impl Rows {
    /// Opens a file; answers with what it covers too. `columns`: whether what stands beside the bytes is read.
    pub(in crate::audit) fn open(path: &Path, columns: bool) -> anyhow::Result<(Covers, Self)> {
        let file = SerializedFileReader::new(File::open(path)?).context("is cut off, or no Parquet")?;
        let said = file.metadata().file_metadata();
        match value(said, FORMAT) {
            Some(FORMAT_NAME) => {}
            Some(other) => {
                anyhow::bail!("is an export of the format `{other}`; this program knows `{FORMAT_NAME}`")
            }
            None => anyhow::bail!("is Parquet, and none that `sallyport audit export` wrote"),
        }
        let covers = serde_json::from_str(value(said, COVERS).context("does not say what it covers")?)
            .context("does not say what it covers")?;
        let count = |key| value(said, key).and_then(|text| text.parse().ok());
        let counts = count(EVENTS).zip(count(CHECKPOINTS)).context("does not say how many events it has")?;
        let names: Vec<_> =
            said.schema_descr().columns().iter().map(|column| column.name().to_string()).collect();
        let known = |name: &'static str, cell: &Cell<'_>| {
            let index = names.iter().position(|known| known == name)?;
            Some(Known { index, name, values: Column::like(cell) })
        };
        let blank = Place { kind: EVENT, chain: None, seq: 0, hash: &[], bytes: &[] };
        let place = PLACE.into_iter().zip(blank.cells());
        let place =
            place.map(|(name, cell)| known(name, &cell).with_context(|| format!("has no column `{name}`")));
        let place = place.collect::<Result<Vec<_>, _>>()?;
        let described: Vec<_> =
            described(None).iter().map(|(name, cell)| known(name, cell).filter(|_| columns)).collect();
        let is_double = |(index, name)| names.iter().take(index).any(|before| before == name);
        if let Some((_, double)) = names.iter().enumerate().find(|column| is_double(*column)) {
            anyhow::bail!("has two columns `{double}`");
        }
        let is_ours = |name: &&String| PLACE.contains(&name.as_str()) || is_described(name);
        if let Some(other) = names.iter().find(|name| !is_ours(name)) {
            anyhow::bail!("has a column `{other}`, which this program does not know and cannot check");
        }
        let (readers, decoded) = (Vec::new(), VecDeque::new());
        Ok((covers, Self { file, group: 0, readers, place, described, decoded, counts, is_over: false }))
    }

    /// The next row.
    pub(in crate::audit) fn next(&mut self) -> anyhow::Result<Option<Item>> {
        while self.decoded.is_empty() && !self.is_over {
            let rows = if self.readers.is_empty() { 0 } else { self.fill()? };
            for _ in 0..rows {
                let item = self.row()?;
                self.decoded.push_back(item);
            }
            if rows == 0 && !self.next_group()? {
                self.is_over = true;
                let (events, checkpoints) = self.counts;
                self.decoded.push_back(Item::End { events, checkpoints });
            }
        }
        Ok(self.decoded.pop_front())
    }

    fn next_group(&mut self) -> anyhow::Result<bool> {
        if self.group >= self.file.num_row_groups() {
            return Ok(false);
        }
        let group = self.file.get_row_group(self.group)?;
        self.group += 1;
        let columns = self.place.iter().chain(self.described.iter().flatten());
        self.readers =
            columns.map(|column| group.get_column_reader(column.index)).collect::<Result<_, _>>()?;
        Ok(true)
    }

    /// Decodes the next rows of the group; answers with how many they are, the same in all columns.
    fn fill(&mut self) -> anyhow::Result<usize> {
        let columns = self.place.iter_mut().chain(self.described.iter_mut().flatten());
        let mut rows = None;
        for (column, reader) in columns.zip(&mut self.readers) {
            let read = column.values.fill(reader).with_context(|| format!("column `{}`", column.name))?;
            anyhow::ensure!(
                *rows.get_or_insert(read) == read,
                "column `{}` has another number of rows than the others",
                column.name
            );
        }
        Ok(rows.unwrap_or(0))
    }

    /// Takes the next row that was decoded.
    fn row(&mut self) -> anyhow::Result<Item> {
        let [kind, proxy, worker, epoch, seq, hash, bytes] = self.place.as_mut_slice() else {
            anyhow::bail!("has too few columns");
        };
        let (kind, proxy) = (kind.values.bytes(), proxy.values.bytes());
        let (worker, epoch, seq) =
            (worker.values.small(), epoch.values.large(), seq.values.large().unwrap_or(0));
        let (hash, bytes) = (hash.values.bytes(), bytes.values.bytes());
        let bytes = bytes.as_ref().map_or(&[][..], ByteArray::data);
        // Another length is an alteration, and so is no hash at all.
        let hash = hash.as_ref().and_then(|hash| hash.data().try_into().ok()).unwrap_or_default();
        match kind.as_ref().map_or(&[][..], ByteArray::data) {
            kind if kind == EVENT.as_bytes() => {
                let proxy = proxy.as_ref().map_or(&[][..], ByteArray::data);
                let proxy = std::str::from_utf8(proxy).context("a proxy's name is no text")?.to_string();
                let (worker, epoch) = (worker.unwrap_or(0), epoch.unwrap_or(0));
                let differs = if self.described.iter().any(Option::is_some) {
                    let said = EventView::read(bytes).ok();
                    difference(&mut self.described, described(said.as_ref()))
                } else {
                    None
                };
                let (chain, bytes) = (ChainId { proxy, worker, epoch }, bytes.to_vec());
                Ok(Item::Event { chain, seq, hash, bytes, differs })
            }
            kind if kind == CHECKPOINT.as_bytes() => {
                let (said, known) = Checkpoint::decode(bytes).unwrap_or_default();
                let mut differs = difference(&mut self.described, of_checkpoint(said.nanos));
                let is_of_a_chain = proxy.is_some() || worker.is_some() || epoch.is_some();
                if (seq, hash) != (said.sequence, known) || is_of_a_chain {
                    differs = differs.or(Some("place"));
                }
                Ok(Item::Checkpoint { signed: bytes.to_vec(), differs })
            }
            kind => anyhow::bail!("has a row of the kind `{}`", String::from_utf8_lossy(kind)),
        }
    }
}

fn is_described(name: &str) -> bool {
    described(None).iter().any(|(known, _)| *known == name)
}

/// The first column that says something else. All of them go on by a row.
fn difference(columns: &mut [Option<Known>], expected: [(&str, Cell<'_>); COUNT]) -> Option<&'static str> {
    let mut found = None;
    for (column, (_, cell)) in columns.iter_mut().zip(&expected) {
        if let Some(column) = column
            && !column.values.agrees(cell)
        {
            found = found.or(Some(column.name));
        }
    }
    found
}

fn value<'f>(said: &'f FileMetaData, key: &str) -> Option<&'f str> {
    said.key_value_metadata()?.iter().find(|pair| pair.key == key)?.value.as_deref()
}

impl<T: DataType> Values<T> {
    fn fill(&mut self, reader: &mut ColumnReaderImpl<T>) -> anyhow::Result<usize> {
        self.clear();
        let (rows, ..) = reader.read_records(BATCH, Some(&mut self.levels), None, &mut self.values)?;
        if self.levels.is_empty() {
            // A column that must have values says nothing of which are there.
            self.levels.resize(rows, 1);
        }
        Ok(rows)
    }
}

impl Column {
    fn fill(&mut self, reader: &mut ColumnReader) -> anyhow::Result<usize> {
        match (self, reader) {
            (Self::Bytes(column), ColumnReader::ByteArrayColumnReader(reader)) => column.fill(reader),
            (Self::Small(column), ColumnReader::Int32ColumnReader(reader)) => column.fill(reader),
            (Self::Large(column), ColumnReader::Int64ColumnReader(reader)) => column.fill(reader),
            (Self::Flag(column), ColumnReader::BoolColumnReader(reader)) => column.fill(reader),
            (Self::Bytes(_) | Self::Small(_) | Self::Large(_) | Self::Flag(_), _) => {
                anyhow::bail!("is of another type than an export's")
            }
        }
    }

    /// The next row's value, of a column of bytes.
    fn bytes(&mut self) -> Option<ByteArray> {
        match self {
            Self::Bytes(column) => column.take().cloned(),
            Self::Small(_) | Self::Large(_) | Self::Flag(_) => None,
        }
    }

    fn small(&mut self) -> Option<u32> {
        match self {
            Self::Small(column) => column.take().copied().map(i32::cast_unsigned),
            Self::Bytes(_) | Self::Large(_) | Self::Flag(_) => None,
        }
    }

    fn large(&mut self) -> Option<u64> {
        match self {
            Self::Large(column) => column.take().copied().map(i64::cast_unsigned),
            Self::Bytes(_) | Self::Small(_) | Self::Flag(_) => None,
        }
    }
}
