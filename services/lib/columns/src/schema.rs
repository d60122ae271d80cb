//! The columns of the two kinds of files. Only types that every Parquet reader knows.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use domain::decimal::{LAKE_PRECISION, LAKE_SCALE};

/// The market, for example `BTCUSDT`.
pub const SYMBOL: &str = "symbol";
/// The exchange's trade id.
pub const TRADE_ID: &str = "trade_id";
/// Price in the quote asset.
pub const PRICE: &str = "price";
/// Quantity in the base asset.
pub const QUANTITY: &str = "quantity";
/// When the trade was matched.
pub const TRADE_TIME: &str = "trade_time";
/// When the exchange sent the event; none for trades fetched by REST.
pub const EVENT_TIME: &str = "event_time";
/// Whether the buyer's order was the resting one.
pub const BUYER_IS_MAKER: &str = "buyer_is_maker";
/// How the trade reached the log: `live`, `backfill` or `replay`.
pub const ORIGIN: &str = "origin";
/// When ingest had it.
pub const RECEIVED_AT: &str = "received_at";
/// The log's partition.
pub const PARTITION: &str = "partition";
/// The record's offset in its partition.
pub const OFFSET: &str = "offset";
/// When the log appended the record.
pub const APPENDED_AT: &str = "appended_at";
/// The record's key; null is not the empty key.
pub const KEY: &str = "key";
/// The record's value; null is not the empty value.
pub const VALUE: &str = "value";
/// The record's headers, in order.
pub const HEADERS: &str = "headers";
/// A header's name, inside `headers`.
pub const HEADER_NAME: &str = "name";
/// A header's value, inside `headers`.
pub const HEADER_VALUE: &str = "value";

/// The time zone of all timestamps.
pub(crate) const UTC: &str = "UTC";

static TRADES: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new(SYMBOL, DataType::Utf8, false),
        Field::new(TRADE_ID, DataType::Int64, false),
        Field::new(PRICE, decimal(), false),
        Field::new(QUANTITY, decimal(), false),
        Field::new(TRADE_TIME, timestamp(), false),
        Field::new(EVENT_TIME, timestamp(), true),
        Field::new(BUYER_IS_MAKER, DataType::Boolean, false),
        Field::new(ORIGIN, DataType::Utf8, false),
        Field::new(RECEIVED_AT, timestamp(), false),
        Field::new(PARTITION, DataType::Int32, false),
        Field::new(OFFSET, DataType::Int64, false),
        Field::new(APPENDED_AT, timestamp(), false),
    ]))
});

static RAW: LazyLock<SchemaRef> = LazyLock::new(|| {
    let headers = DataType::List(Arc::new(header_element()));
    Arc::new(Schema::new(vec![
        Field::new(KEY, DataType::Binary, true),
        Field::new(VALUE, DataType::Binary, true),
        Field::new(HEADERS, headers, false),
        Field::new(APPENDED_AT, timestamp(), false),
        Field::new(PARTITION, DataType::Int32, false),
        Field::new(OFFSET, DataType::Int64, false),
    ]))
});

/// The columns of the dataset `trades`.
pub fn trades_schema() -> SchemaRef {
    TRADES.clone()
}

/// The columns of the datasets `raw/<topic>`.
pub fn raw_schema() -> SchemaRef {
    RAW.clone()
}

/// `decimal(38,18)`.
pub(crate) fn decimal() -> DataType {
    DataType::Decimal128(LAKE_PRECISION, LAKE_SCALE.cast_signed())
}

pub(crate) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
}

/// What one header is made of.
pub(crate) fn header_fields() -> Fields {
    Fields::from(vec![
        Field::new(HEADER_NAME, DataType::Utf8, false),
        Field::new(HEADER_VALUE, DataType::Binary, false),
    ])
}

/// An element of `headers`; the Parquet format wants this name for it.
pub(crate) fn header_element() -> Field {
    Field::new("element", DataType::Struct(header_fields()), false)
}
