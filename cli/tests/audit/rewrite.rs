//! Takes a Parquet file apart and writes it again, as somebody would who changes it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::column::writer::ColumnWriterImpl;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;

/// A column's values, row by row.
pub(crate) enum Values {
    Bytes(Vec<Option<ByteArray>>),
    Small(Vec<Option<i32>>),
    Large(Vec<Option<i64>>),
    Flag(Vec<Option<bool>>),
}

/// A file's columns, by name.
pub(crate) struct Columns(Vec<(String, Values)>);

impl Columns {
    pub(crate) fn column(&mut self, name: &str) -> &mut Values {
        &mut self.0.iter_mut().find(|(known, _)| known == name).unwrap().1
    }

    pub(crate) fn bytes(&mut self, name: &str) -> &mut Vec<Option<ByteArray>> {
        let Values::Bytes(values) = self.column(name) else { panic!("{name} has other values") };
        values
    }

    pub(crate) fn remove(&mut self, row: usize) {
        for (_, values) in &mut self.0 {
            match values {
                Values::Bytes(values) => drop(values.remove(row)),
                Values::Small(values) => drop(values.remove(row)),
                Values::Large(values) => drop(values.remove(row)),
                Values::Flag(values) => drop(values.remove(row)),
            }
        }
    }

    pub(crate) fn swap(&mut self, one: usize, other: usize) {
        for (_, values) in &mut self.0 {
            match values {
                Values::Bytes(values) => values.swap(one, other),
                Values::Small(values) => values.swap(one, other),
                Values::Large(values) => values.swap(one, other),
                Values::Flag(values) => values.swap(one, other),
            }
        }
    }
}

/// Reads the file `from`, has it edited, and writes the file `to` with the same schema and metadata.
pub(crate) fn rewrite(from: &Path, to: &Path, edit: impl FnOnce(&mut Columns)) {
    let file = SerializedFileReader::new(File::open(from).unwrap()).unwrap();
    let said = file.metadata().file_metadata();
    let group = file.get_row_group(0).unwrap();
    let names = said.schema_descr().columns().iter().map(|column| column.name().to_string());
    let mut columns = Columns(
        names
            .enumerate()
            .map(|(index, name)| {
                let values = match group.get_column_reader(index).unwrap() {
                    ColumnReader::ByteArrayColumnReader(reader) => Values::Bytes(read(reader)),
                    ColumnReader::Int32ColumnReader(reader) => Values::Small(read(reader)),
                    ColumnReader::Int64ColumnReader(reader) => Values::Large(read(reader)),
                    ColumnReader::BoolColumnReader(reader) => Values::Flag(read(reader)),
                    _ => panic!("{name} has values of another type"),
                };
                (name, values)
            })
            .collect(),
    );
    edit(&mut columns);
    let properties = WriterProperties::builder().set_key_value_metadata(said.key_value_metadata().cloned());
    let schema = said.schema_descr().root_schema_ptr();
    let mut writer =
        SerializedFileWriter::new(File::create(to).unwrap(), schema, Arc::new(properties.build())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for (_, values) in columns.0 {
        let mut column = group.next_column().unwrap().unwrap();
        match values {
            Values::Bytes(values) => write(column.typed::<ByteArrayType>(), values),
            Values::Small(values) => write(column.typed::<Int32Type>(), values),
            Values::Large(values) => write(column.typed::<Int64Type>(), values),
            Values::Flag(values) => write(column.typed::<BoolType>(), values),
        }
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

fn read<T: DataType>(mut reader: ColumnReaderImpl<T>) -> Vec<Option<T::T>> {
    let (mut values, mut levels) = (vec![], vec![]);
    let (rows, ..) = reader.read_records(usize::MAX, Some(&mut levels), None, &mut values).unwrap();
    let mut values = values.into_iter();
    if levels.is_empty() {
        levels.resize(rows, 1);
    }
    levels.into_iter().map(|level| if level > 0 { values.next() } else { None }).collect()
}

fn write<T: DataType>(to: &mut ColumnWriterImpl<'_, T>, values: Vec<Option<T::T>>) {
    let levels: Vec<_> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let values: Vec<_> = values.into_iter().flatten().collect();
    let has_levels = to.get_descriptor().max_def_level() > 0;
    to.write_batch(&values, has_levels.then_some(levels.as_slice()), None).unwrap();
}
