//! Writing.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;
use sallyport_audit_proof::{Checkpoint, Covers};
use sallyport_audit_proto::view::EventView;
use sallyport_event_store::ChainedEvent;

use super::{
    BYTES, CHECKPOINT, CHECKPOINTS, COVERS, Column, EVENT, EVENTS, FORMAT, FORMAT_NAME, HASH, Place,
    described, of_checkpoint, schema,
};
use crate::audit::export::Sheet;
use crate::audit::fields::{COUNT, Cell};

/// Rows of a group at most: what is in memory at once.
const ROWS: usize = 10_000;
/// Bytes of events or checkpoints in a group, beyond which it ends.
const GROUP: usize = 8 << 20;

/// A Parquet file that is being written.
pub(in crate::audit) struct Table {
    writer: SerializedFileWriter<File>,
    /// Rows that wait to be a group.
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
}

impl Table {
    pub(in crate::audit) fn create(path: &Path, covers: &Covers) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let schema = Arc::new(parse_message_type(&schema()).context("the table's schema")?);
        let said = [(FORMAT, FORMAT_NAME.to_string()), (COVERS, serde_json::to_string(covers)?)];
        let said = said.map(|(key, value)| KeyValue::new(key.to_string(), value));
        // What differs in every row gains nothing by a dictionary, nor by the least and greatest of it.
        let properties = [HASH, BYTES, "event_id"].into_iter().fold(
            WriterProperties::builder()
                .set_compression(Compression::ZSTD(ZstdLevel::default()))
                .set_key_value_metadata(Some(said.into())),
            |properties, column| {
                properties
                    .set_column_dictionary_enabled(ColumnPath::from(column), false)
                    .set_column_statistics_enabled(ColumnPath::from(column), EnabledStatistics::None)
            },
        );
        let writer = SerializedFileWriter::new(file, schema, Arc::new(properties.build()))?;
        Ok(Self { writer, columns: Vec::new(), rows: 0, bytes: 0 })
    }

    fn row(&mut self, place: &Place<'_>, described: [(&str, Cell<'_>); COUNT]) -> anyhow::Result<()> {
        let cells = place.cells().into_iter().chain(described.into_iter().map(|(_, cell)| cell));
        if self.columns.is_empty() {
            let cells: Vec<_> = cells.collect();
            self.columns = cells.iter().map(Column::like).collect();
            self.columns.iter_mut().zip(&cells).for_each(|(column, cell)| column.push(cell));
        } else {
            self.columns.iter_mut().zip(cells).for_each(|(column, cell)| column.push(&cell));
        }
        self.rows += 1;
        self.bytes += place.bytes.len();
        if self.rows >= ROWS || self.bytes >= GROUP { self.group() } else { Ok(()) }
    }

    /// Writes the rows that wait as a group.
    fn group(&mut self) -> anyhow::Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.columns {
            let mut to = group.next_column()?.context("the table's schema has fewer columns")?;
            match column {
                Column::Bytes(column) => column.write(to.typed())?,
                Column::Small(column) => column.write(to.typed())?,
                Column::Large(column) => column.write(to.typed())?,
                Column::Flag(column) => column.write(to.typed())?,
            }
            to.close()?;
        }
        group.close()?;
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }
}

impl<T: parquet::data_type::DataType> super::Values<T> {
    fn write(&mut self, to: &mut parquet::column::writer::ColumnWriterImpl<'_, T>) -> anyhow::Result<()> {
        let has_levels = to.get_descriptor().max_def_level() > 0;
        to.write_batch(&self.values, has_levels.then_some(self.levels.as_slice()), None)?;
        self.clear();
        Ok(())
    }
}

impl Sheet for Table {
    fn checkpoint(&mut self, signed: &[u8]) -> anyhow::Result<()> {
        let (said, hash) = Checkpoint::decode(signed).unwrap_or_default();
        let place = Place { kind: CHECKPOINT, chain: None, seq: said.sequence, hash: &hash, bytes: signed };
        self.row(&place, of_checkpoint(said.nanos))
    }

    fn event(&mut self, event: ChainedEvent) -> anyhow::Result<()> {
        let ChainedEvent { chain, seq, hash, bytes, .. } = &event;
        let said = EventView::read(bytes).ok();
        let chain = Some((chain.proxy.as_str(), chain.worker, chain.epoch));
        self.row(&Place { kind: EVENT, chain, seq: *seq, hash, bytes }, described(said.as_ref()))
    }

    fn end(mut self: Box<Self>, events: u64, checkpoints: u64) -> anyhow::Result<()> {
        self.group()?;
        for (key, value) in [(EVENTS, events), (CHECKPOINTS, checkpoints)] {
            self.writer.append_key_value_metadata(KeyValue::new(key.to_string(), value.to_string()));
        }
        self.writer.close().context("export")?;
        Ok(())
    }
}
