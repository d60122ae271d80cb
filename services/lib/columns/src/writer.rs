//! Record batches into one Parquet file in memory.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use crate::error::ColumnsError;
use crate::footer::Footer;
use crate::schema::{OFFSET, ORIGIN, PARTITION};

/// The encoded size of a row group: what a reader holds at once, and the step in which columns
/// turn into file bytes here.
const ROW_GROUP_BYTES: usize = 16 * 1024 * 1024;

/// The rows of a page, and so the step in which columns are compressed.
const PAGE_ROWS: usize = 20_000;

/// The bytes of a page before compression. A page and what it is compressed into are taken from the allocator at this
/// length: the shorter, the more often the next one finds them again instead of memory that the kernel has to clear.
const PAGE_BYTES: usize = 128 * 1024;

/// The cheapest level: prices repeat so much that higher ones gain little.
const ZSTD_LEVEL: i32 = 1;

/// What the compression of a column holds from its first page on, which the writer does not count: measured.
const CONTEXT_BYTES: usize = 192 * 1024;

/// What the writer reserves for a column that is stored as differences, and counts. A page touches little of
/// it.
const RESERVED_BYTES: usize = 1024 * 1024;

/// Columns whose encoding leaves next to nothing: compressing them saves less than a hundredth, and takes a context each.
const TERSE: [&str; 3] = [ORIGIN, PARTITION, OFFSET];

/// Names the writer in the file. Two files with the same writer, span and rows are the same to the
/// last bit: the number changes with the bytes, for example with the library's version, and a test
/// says when.
pub const WRITER: &str = "fulltape 4";

/// One file being written. Costs nothing until the first batch.
pub(crate) struct PartWriter {
    schema: SchemaRef,
    properties: WriterProperties,
    /// Columns that are stored as differences.
    rising: usize,
    writer: Option<ArrowWriter<Vec<u8>>>,
    encoded: usize,
    memory: usize,
}

impl PartWriter {
    /// With `rising` columns stored as differences.
    pub(crate) fn new(schema: SchemaRef, properties: WriterPropertiesBuilder, rising: &[&str]) -> Self {
        let properties = rising.iter().copied().fold(properties, differences);
        let properties = TERSE.iter().copied().fold(properties, uncompressed).build();
        Self { schema, properties, rising: rising.len(), writer: None, encoded: 0, memory: 0 }
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The file's length so far, as far as it can be told.
    pub(crate) fn encoded_bytes(&self) -> usize {
        self.encoded
    }

    /// What it holds in memory: pages, contexts of the compression, and what is encoded.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), ColumnsError> {
        let writer = self.open()?;
        writer.write(batch)?;
        let encoded = writer.bytes_written() + writer.in_progress_size();
        let held = writer.inner().capacity() + writer.memory_size();
        let rows = writer.in_progress_rows();
        let fields = self.schema.flattened_fields().into_iter();
        let columns = fields.filter(|field| !field.data_type().is_nested() && !TERSE.contains(&field.name().as_str()));
        // A column of long values has pages before; one stands for them.
        let compressed = if rows >= PAGE_ROWS { columns.count() } else { 1 };
        let contexts = compressed * CONTEXT_BYTES;
        // What is counted but not used; between two row groups there is none of it.
        let reserved = if rows > 0 { self.rising * RESERVED_BYTES } else { 0 };
        (self.encoded, self.memory) = (encoded, (held + contexts).saturating_sub(reserved));
        Ok(())
    }

    pub(crate) fn finish(mut self, footer: &Footer) -> Result<Bytes, ColumnsError> {
        self.open()?;
        let mut writer = self.writer.expect("opened above");
        for pair in footer.to_key_values() {
            writer.append_key_value_metadata(pair);
        }
        Ok(writer.into_inner()?.into())
    }

    fn open(&mut self) -> Result<&mut ArrowWriter<Vec<u8>>, ColumnsError> {
        if self.writer.is_none() {
            let properties = Some(self.properties.clone());
            self.writer = Some(ArrowWriter::try_new(Vec::new(), self.schema(), properties)?);
        }
        Ok(self.writer.as_mut().expect("set above"))
    }
}

/// What all files have in common.
pub(crate) fn properties() -> WriterPropertiesBuilder {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("the level is one of zstd's");
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .set_created_by(WRITER.to_owned())
}

fn uncompressed(properties: WriterPropertiesBuilder, column: &str) -> WriterPropertiesBuilder {
    properties.set_column_compression(ColumnPath::from(column), Compression::UNCOMPRESSED)
}

/// Numbers that mostly grow: stored as differences, they make files of trades half as long.
fn differences(properties: WriterPropertiesBuilder, column: &str) -> WriterPropertiesBuilder {
    let path = ColumnPath::from(column);
    properties
        .set_column_dictionary_enabled(path.clone(), false)
        .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
}
