//! The datasets `raw/<topic>`: records verbatim, columns in both directions.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryBuilder, Int32Array, Int32Builder, Int64Array, Int64Builder, ListArray,
    RecordBatch, StringArray, StructArray, TimestampMicrosecondArray, TimestampMicrosecondBuilder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use domain::{Headers, Record, Timestamp, Topic, TopicPartition};
use parquet::file::properties::{EnabledStatistics, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use crate::encode::{BATCH_BYTES, BATCH_ROWS, PartEncoder};
use crate::error::ColumnsError;
use crate::footer::{Footer, Span};
use crate::schema::{
    APPENDED_AT, HEADER_NAME, HEADER_VALUE, HEADERS, KEY, OFFSET, UTC, VALUE, header_element, header_fields, raw_schema,
};
use crate::writer::{self, PartWriter};

/// The bytes of a page of payloads, before compression. Files of 64 symbols' events are a twentieth shorter than with pages
/// of 256 KiB, those of 1,000 symbols' a twenty-fifth longer.
const VALUE_PAGE_BYTES: usize = 64 * 1024;

/// Writes a file of a dataset `raw/<topic>`.
pub struct RawEncoder {
    columns: RawColumns,
    writer: PartWriter,
    waiting: usize,
    waiting_bytes: usize,
    rows: u64,
}

impl Default for RawEncoder {
    fn default() -> Self {
        let writer = PartWriter::new(raw_schema(), properties(), &[APPENDED_AT, OFFSET]);
        Self { columns: RawColumns::default(), writer, waiting: 0, waiting_bytes: 0, rows: 0 }
    }
}

impl RawEncoder {
    /// A new file.
    pub fn new() -> Self {
        Self::default()
    }

    fn encode(&mut self) -> Result<(), ColumnsError> {
        let batch = self.columns.finish(self.writer.schema())?;
        (self.waiting, self.waiting_bytes) = (0, 0);
        self.writer.write(&batch)
    }
}

impl PartEncoder for RawEncoder {
    fn push(&mut self, record: &Record) -> Result<(), ColumnsError> {
        self.columns.push(record);
        self.rows += 1;
        self.waiting += 1;
        self.waiting_bytes += record.weight();
        let full = self.waiting >= BATCH_ROWS || self.waiting_bytes >= BATCH_BYTES;
        if full { self.encode() } else { Ok(()) }
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn skipped(&self) -> u64 {
        0
    }

    fn encoded_bytes(&self) -> usize {
        // JSON compresses to about a fifth.
        self.writer.encoded_bytes() + self.waiting_bytes / 5
    }

    fn memory_bytes(&self) -> usize {
        self.writer.memory_bytes() + self.waiting_bytes
    }

    fn finish(mut self: Box<Self>, span: Span) -> Result<(Footer, Bytes), ColumnsError> {
        if self.waiting > 0 {
            self.encode()?;
        }
        let footer = Footer { span, rows: self.rows, skipped: 0, ids: BTreeMap::new() };
        let file = self.writer.finish(&footer)?;
        Ok((footer, file))
    }
}

fn properties() -> WriterPropertiesBuilder {
    let header = |part: &str| ColumnPath::new([HEADERS, "list", "element", part].map(str::to_owned).to_vec());
    let (value, header_name, header_value) = (ColumnPath::from(VALUE), header(HEADER_NAME), header(HEADER_VALUE));
    // Payloads and times of receipt hardly repeat: a dictionary would only cost memory.
    let properties = writer::properties()
        .set_column_dictionary_enabled(value.clone(), false)
        .set_column_dictionary_enabled(header_value.clone(), false)
        .set_column_data_page_size_limit(value.clone(), VALUE_PAGE_BYTES);
    // Nobody looks for bytes between two others.
    [ColumnPath::from(KEY), value, header_name, header_value]
        .into_iter()
        .fold(properties, |properties, path| properties.set_column_statistics_enabled(path, EnabledStatistics::None))
}

struct RawColumns {
    key: BinaryBuilder,
    value: BinaryBuilder,
    headers: HeaderColumn,
    appended_at: TimestampMicrosecondBuilder,
    partition: Int32Builder,
    offset: Int64Builder,
}

impl Default for RawColumns {
    fn default() -> Self {
        Self {
            key: BinaryBuilder::new(),
            value: BinaryBuilder::new(),
            headers: HeaderColumn::default(),
            appended_at: TimestampMicrosecondBuilder::new().with_timezone(UTC),
            partition: Int32Builder::new(),
            offset: Int64Builder::new(),
        }
    }
}

impl RawColumns {
    fn push(&mut self, record: &Record) {
        self.key.append_option(record.key.as_deref());
        self.value.append_option(record.value.as_deref());
        self.headers.push(&record.headers);
        self.appended_at.append_value(record.appended_at.micros());
        self.partition.append_value(record.at.partition);
        self.offset.append_value(record.offset);
    }

    fn finish(&mut self, schema: SchemaRef) -> Result<RecordBatch, ColumnsError> {
        let value = self.value.finish();
        // The next batch is most often as long as this one: it need not grow to that again.
        self.value = BinaryBuilder::with_capacity(value.len(), value.value_data().len());
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.key.finish()),
            Arc::new(value),
            Arc::new(self.headers.finish()?),
            Arc::new(self.appended_at.finish()),
            Arc::new(self.partition.finish()),
            Arc::new(self.offset.finish()),
        ];
        Ok(RecordBatch::try_new(schema, columns)?)
    }
}

/// The headers of all rows, one behind the other. Arrow's own builder of lists looks its parts' types up for each header.
#[derive(Default)]
struct HeaderColumn {
    names: BinaryBuilder,
    values: BinaryBuilder,
    /// How many each row has.
    counts: Vec<usize>,
}

impl HeaderColumn {
    fn push(&mut self, headers: &Headers) {
        let parts = headers.parts();
        self.counts.push(parts.len());
        for (name, value) in parts {
            self.names.append_value(name);
            self.values.append_value(value);
        }
    }

    fn finish(&mut self) -> Result<ListArray, ColumnsError> {
        let names = StringArray::try_from_binary(self.names.finish())?;
        let parts: Vec<ArrayRef> = vec![Arc::new(names), Arc::new(self.values.finish())];
        let headers = StructArray::try_new(header_fields(), parts, None)?;
        let rows = OffsetBuffer::from_lengths(std::mem::take(&mut self.counts));
        Ok(ListArray::try_new(Arc::new(header_element()), rows, Arc::new(headers), None)?)
    }
}

/// The columns of a batch, known to be of the right types.
pub(crate) struct RawView<'a> {
    pub(crate) key: &'a BinaryArray,
    pub(crate) value: &'a BinaryArray,
    pub(crate) headers: &'a ListArray,
    pub(crate) appended_at: &'a TimestampMicrosecondArray,
    pub(crate) partition: &'a Int32Array,
    pub(crate) offset: &'a Int64Array,
}

impl RawView<'_> {
    pub(crate) fn record(&self, topic: &Topic, n: usize) -> Record {
        Record {
            at: TopicPartition::new(topic.clone(), self.partition.value(n)),
            offset: self.offset.value(n),
            appended_at: Timestamp::from_micros(self.appended_at.value(n)),
            key: copied(self.key, n),
            value: copied(self.value, n),
            headers: self.headers(n),
        }
    }

    fn headers(&self, n: usize) -> Headers {
        let list = self.headers.value(n);
        let list: &StructArray = list.as_any().downcast_ref().expect("checked with the schema");
        let names: &StringArray = list.column(0).as_any().downcast_ref().expect("checked with the schema");
        let values: &BinaryArray = list.column(1).as_any().downcast_ref().expect("checked with the schema");
        let pairs = names.iter().zip(values.iter());
        Headers::of(pairs.map(|(name, value)| (name.unwrap_or_default(), value.unwrap_or_default())))
    }
}

fn copied(column: &BinaryArray, n: usize) -> Option<Bytes> {
    column.is_valid(n).then(|| Bytes::copy_from_slice(column.value(n)))
}
