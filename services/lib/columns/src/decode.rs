//! Files back into rows, a batch at a time: a reader holds one batch, not the file's rows.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{Field, Schema};
use bytes::Bytes;
use domain::{Record, Topic};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use crate::error::ColumnsError;
use crate::footer::Footer;
use crate::raw::RawView;
use crate::row::ArchivedTrade;
use crate::schema;
use crate::trades::TradeView;

/// Rows that are decoded at once.
const BATCH_ROWS: usize = 4 * 1024;

/// The rows of a file of the dataset `trades`, in order.
///
/// # Errors
/// If the bytes are not such a file. Damage further inside is the error of a row.
pub fn decode_trades(
    file: Bytes,
) -> Result<impl Iterator<Item = Result<ArchivedTrade, ColumnsError>> + Send, ColumnsError> {
    let (_, batches) = open(file, &schema::trades_schema())?;
    Ok(rows_of(batches, trades_of_batch))
}

/// The records of a file of a dataset `raw/<topic>`, in order.
///
/// # Errors
/// If the bytes are not such a file. Damage further inside is the error of a row.
pub fn decode_raw(file: Bytes) -> Result<impl Iterator<Item = Result<Record, ColumnsError>> + Send, ColumnsError> {
    let (footer, batches) = open(file, &schema::raw_schema())?;
    let topic = footer.span.at.topic;
    Ok(rows_of(batches, move |batch| raw_of_batch(&topic, batch)))
}

/// The rows of a batch with the columns of [`schema::trades_schema`], in any order.
///
/// # Errors
/// Names the column that is missing, of another type or with a value that no writer of ours writes.
pub fn trades_of_batch(batch: &RecordBatch) -> Result<Vec<ArchivedTrade>, ColumnsError> {
    let columns = Columns { batch, schema: &schema::trades_schema() };
    let view = TradeView {
        symbol: columns.get(schema::SYMBOL)?,
        trade_id: columns.get(schema::TRADE_ID)?,
        price: columns.get(schema::PRICE)?,
        quantity: columns.get(schema::QUANTITY)?,
        trade_time: columns.get(schema::TRADE_TIME)?,
        event_time: columns.get(schema::EVENT_TIME)?,
        buyer_is_maker: columns.get(schema::BUYER_IS_MAKER)?,
        origin: columns.get(schema::ORIGIN)?,
        received_at: columns.get(schema::RECEIVED_AT)?,
        partition: columns.get(schema::PARTITION)?,
        offset: columns.get(schema::OFFSET)?,
        appended_at: columns.get(schema::APPENDED_AT)?,
    };
    (0..batch.num_rows()).map(|n| view.row(n)).collect()
}

/// The records of a batch with the columns of [`schema::raw_schema`], in any order.
///
/// # Errors
/// Names the column that is missing or of another type.
pub fn raw_of_batch(topic: &Topic, batch: &RecordBatch) -> Result<Vec<Record>, ColumnsError> {
    let columns = Columns { batch, schema: &schema::raw_schema() };
    let view = RawView {
        key: columns.get(schema::KEY)?,
        value: columns.get(schema::VALUE)?,
        headers: columns.get(schema::HEADERS)?,
        appended_at: columns.get(schema::APPENDED_AT)?,
        partition: columns.get(schema::PARTITION)?,
        offset: columns.get(schema::OFFSET)?,
    };
    Ok((0..batch.num_rows()).map(|n| view.record(topic, n)).collect())
}

fn open(file: Bytes, expected: &Schema) -> Result<(Footer, ParquetRecordBatchReader), ColumnsError> {
    let damaged = |error| ColumnsError::damaged(&error);
    // Arrow's own copy of the schema in the footer says nothing that Parquet's does not, and where it is
    // damaged its reader panics.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).map_err(damaged)?;
    expected.fields().iter().try_for_each(|field| check(field, builder.schema().field_with_name(field.name()).ok()))?;
    let footer = Footer::of(builder.metadata())?;
    let batches = builder.with_batch_size(BATCH_ROWS).build().map_err(damaged)?;
    Ok((footer, batches))
}

fn rows_of<T: Send>(
    batches: ParquetRecordBatchReader,
    read: impl Fn(&RecordBatch) -> Result<Vec<T>, ColumnsError> + Send,
) -> impl Iterator<Item = Result<T, ColumnsError>> + Send {
    batches.flat_map(move |batch| {
        let rows = batch.map_err(|error| ColumnsError::NotParquet(error.to_string())).and_then(|b| read(&b));
        let (rows, error) = match rows {
            Ok(rows) => (rows, None),
            Err(error) => (Vec::new(), Some(Err(error))),
        };
        rows.into_iter().map(Ok).chain(error)
    })
}

fn check(expected: &Field, found: Option<&Field>) -> Result<(), ColumnsError> {
    if found.is_some_and(|field| field.data_type() == expected.data_type()) {
        return Ok(());
    }
    Err(ColumnsError::Column {
        column: expected.name().clone(),
        expected: expected.data_type().to_string(),
        found: found.map_or_else(|| "no such column".to_owned(), |field| field.data_type().to_string()),
    })
}

struct Columns<'a> {
    batch: &'a RecordBatch,
    schema: &'a Schema,
}

impl<'a> Columns<'a> {
    fn get<A: Array + 'static>(&self, column: &'static str) -> Result<&'a A, ColumnsError> {
        let expected = self.schema.field_with_name(column).expect("a column of ours");
        let batch = self.batch;
        check(expected, batch.schema_ref().field_with_name(column).ok())?;
        let array = batch.column_by_name(column).expect("checked above");
        if !expected.is_nullable() && array.null_count() > 0 {
            return Err(ColumnsError::value(column, "a value in every row", "none"));
        }
        Ok(array.as_any().downcast_ref().expect("the type was checked above"))
    }
}
