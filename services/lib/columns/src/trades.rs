//! The dataset `trades`, columns in both directions.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, BooleanBuilder, Decimal128Array, Decimal128Builder, Int32Array, Int32Builder,
    Int64Array, Int64Builder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use domain::decimal::{LAKE_PRECISION, LAKE_SCALE};
use domain::{BySymbol, Decimal, IdRange, Record, Timestamp, Trade, TradeRow};

use crate::encode::{BATCH_ROWS, PartEncoder};
use crate::error::ColumnsError;
use crate::footer::{Footer, Span};
use crate::row::ArchivedTrade;
use crate::schema::{
    APPENDED_AT, EVENT_TIME, OFFSET, ORIGIN, PRICE, QUANTITY, RECEIVED_AT, SYMBOL, TRADE_ID, TRADE_TIME, UTC, decimal,
    trades_schema,
};
use crate::writer::{self, PartWriter};

/// What a row weighs in the column builders: twelve columns and a short symbol and origin.
const ROW_BYTES: usize = 128;

const RISING: [&str; 6] = [TRADE_ID, TRADE_TIME, EVENT_TIME, RECEIVED_AT, APPENDED_AT, OFFSET];

/// Writes a file of the dataset `trades`.
pub struct TradeEncoder {
    columns: TradeColumns,
    writer: PartWriter,
    ids: BySymbol<IdRange>,
    waiting: usize,
    rows: u64,
    skipped: u64,
}

impl Default for TradeEncoder {
    fn default() -> Self {
        Self {
            columns: TradeColumns::default(),
            writer: PartWriter::new(trades_schema(), writer::properties(), &RISING),
            ids: BySymbol::default(),
            waiting: 0,
            rows: 0,
            skipped: 0,
        }
    }
}

impl TradeEncoder {
    /// A new file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a row.
    ///
    /// # Errors
    /// If a number does not fit its column, or the columns cannot be encoded.
    pub fn push_row(&mut self, trade: &ArchivedTrade) -> Result<(), ColumnsError> {
        self.columns.push(trade)?;
        self.count_id(&trade.row.trade);
        self.rows += 1;
        self.waiting += 1;
        if self.waiting >= BATCH_ROWS { self.encode() } else { Ok(()) }
    }

    /// Counts a record that is no valid trade, and so has no row.
    pub fn skip(&mut self) {
        self.skipped += 1;
    }

    fn count_id(&mut self, trade: &Trade) {
        if let Some(range) = self.ids.get_mut(&trade.symbol) {
            range.from = range.from.min(trade.id);
            range.to = range.to.max(trade.id);
        } else {
            self.ids.insert(trade.symbol.clone(), IdRange::one(trade.id));
        }
    }

    fn encode(&mut self) -> Result<(), ColumnsError> {
        let batch = self.columns.finish(self.writer.schema())?;
        self.waiting = 0;
        self.writer.write(&batch)
    }
}

impl PartEncoder for TradeEncoder {
    fn push(&mut self, record: &Record) -> Result<(), ColumnsError> {
        match ArchivedTrade::from_record(record) {
            Ok(trade) => self.push_row(&trade),
            Err(_) => {
                self.skip();
                Ok(())
            }
        }
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }

    fn encoded_bytes(&self) -> usize {
        // Trades compress to about a third of their columns.
        self.writer.encoded_bytes() + self.waiting * ROW_BYTES / 3
    }

    fn memory_bytes(&self) -> usize {
        self.writer.memory_bytes() + self.waiting * ROW_BYTES
    }

    fn finish(mut self: Box<Self>, span: Span) -> Result<(Footer, Bytes), ColumnsError> {
        if self.waiting > 0 {
            self.encode()?;
        }
        let footer = Footer { span, rows: self.rows, skipped: self.skipped, ids: self.ids.into_iter().collect() };
        let file = self.writer.finish(&footer)?;
        Ok((footer, file))
    }
}

struct TradeColumns {
    symbol: StringBuilder,
    trade_id: Int64Builder,
    price: Decimal128Builder,
    quantity: Decimal128Builder,
    trade_time: TimestampMicrosecondBuilder,
    event_time: TimestampMicrosecondBuilder,
    buyer_is_maker: BooleanBuilder,
    origin: StringBuilder,
    received_at: TimestampMicrosecondBuilder,
    partition: Int32Builder,
    offset: Int64Builder,
    appended_at: TimestampMicrosecondBuilder,
}

impl Default for TradeColumns {
    fn default() -> Self {
        let times = || TimestampMicrosecondBuilder::new().with_timezone(UTC);
        let numbers = || Decimal128Builder::new().with_data_type(decimal());
        Self {
            symbol: StringBuilder::new(),
            trade_id: Int64Builder::new(),
            price: numbers(),
            quantity: numbers(),
            trade_time: times(),
            event_time: times(),
            buyer_is_maker: BooleanBuilder::new(),
            origin: StringBuilder::new(),
            received_at: times(),
            partition: Int32Builder::new(),
            offset: Int64Builder::new(),
            appended_at: times(),
        }
    }
}

impl TradeColumns {
    fn push(&mut self, archived: &ArchivedTrade) -> Result<(), ColumnsError> {
        let trade = &archived.row.trade;
        // Checked first: a row that does not fit must not leave half of itself in the columns.
        let id = id_to_column(trade.id)?;
        let price = number_to_column(PRICE, trade.price)?;
        let quantity = number_to_column(QUANTITY, trade.quantity)?;
        self.symbol.append_value(trade.symbol.as_str());
        self.trade_id.append_value(id);
        self.price.append_value(price);
        self.quantity.append_value(quantity);
        self.trade_time.append_value(trade.trade_time.micros());
        self.event_time.append_option(trade.event_time.map(Timestamp::micros));
        self.buyer_is_maker.append_value(trade.buyer_is_maker);
        self.origin.append_value(archived.row.origin.as_str());
        self.received_at.append_value(archived.row.received_at.micros());
        self.partition.append_value(archived.partition);
        self.offset.append_value(archived.offset);
        self.appended_at.append_value(archived.appended_at.micros());
        Ok(())
    }

    fn finish(&mut self, schema: SchemaRef) -> Result<RecordBatch, ColumnsError> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.symbol.finish()),
            Arc::new(self.trade_id.finish()),
            Arc::new(self.price.finish()),
            Arc::new(self.quantity.finish()),
            Arc::new(self.trade_time.finish()),
            Arc::new(self.event_time.finish()),
            Arc::new(self.buyer_is_maker.finish()),
            Arc::new(self.origin.finish()),
            Arc::new(self.received_at.finish()),
            Arc::new(self.partition.finish()),
            Arc::new(self.offset.finish()),
            Arc::new(self.appended_at.finish()),
        ];
        Ok(RecordBatch::try_new(schema, columns)?)
    }
}

/// The columns of a batch, known to be of the right types.
pub(crate) struct TradeView<'a> {
    pub(crate) symbol: &'a StringArray,
    pub(crate) trade_id: &'a Int64Array,
    pub(crate) price: &'a Decimal128Array,
    pub(crate) quantity: &'a Decimal128Array,
    pub(crate) trade_time: &'a TimestampMicrosecondArray,
    pub(crate) event_time: &'a TimestampMicrosecondArray,
    pub(crate) buyer_is_maker: &'a BooleanArray,
    pub(crate) origin: &'a StringArray,
    pub(crate) received_at: &'a TimestampMicrosecondArray,
    pub(crate) partition: &'a Int32Array,
    pub(crate) offset: &'a Int64Array,
    pub(crate) appended_at: &'a TimestampMicrosecondArray,
}

impl TradeView<'_> {
    pub(crate) fn row(&self, n: usize) -> Result<ArchivedTrade, ColumnsError> {
        Ok(ArchivedTrade {
            row: TradeRow {
                trade: self.trade(n)?,
                origin: parsed(ORIGIN, "live, backfill or replay", self.origin.value(n))?,
                received_at: Timestamp::from_micros(self.received_at.value(n)),
            },
            partition: self.partition.value(n),
            offset: self.offset.value(n),
            appended_at: Timestamp::from_micros(self.appended_at.value(n)),
        })
    }

    fn trade(&self, n: usize) -> Result<Trade, ColumnsError> {
        let event_time = self.event_time.is_valid(n).then(|| self.event_time.value(n));
        Ok(Trade {
            symbol: parsed(SYMBOL, "a market's name", self.symbol.value(n))?,
            id: id_from_column(self.trade_id.value(n))?,
            price: number_from_column(self.price.value(n)),
            quantity: number_from_column(self.quantity.value(n)),
            trade_time: Timestamp::from_micros(self.trade_time.value(n)),
            event_time: event_time.map(Timestamp::from_micros),
            buyer_is_maker: self.buyer_is_maker.value(n),
        })
    }
}

fn id_to_column(id: u64) -> Result<i64, ColumnsError> {
    i64::try_from(id).map_err(|_| ColumnsError::value(TRADE_ID, "an id up to 2^63 - 1", id))
}

fn id_from_column(id: i64) -> Result<u64, ColumnsError> {
    u64::try_from(id).map_err(|_| ColumnsError::value(TRADE_ID, "an id from 0", id))
}

fn number_to_column(column: &'static str, number: Decimal) -> Result<i128, ColumnsError> {
    const LIMIT: i128 = 10_i128.pow(LAKE_PRECISION as u32);
    let mantissa = number.mantissa_at(LAKE_SCALE).filter(|mantissa| (1 - LIMIT..LIMIT).contains(mantissa));
    mantissa.ok_or_else(|| ColumnsError::value(column, "a number that fits decimal(38,18)", number))
}

fn number_from_column(mantissa: i128) -> Decimal {
    Decimal::new(mantissa, LAKE_SCALE).expect("the lake's scale is one that decimals have")
}

fn parsed<T: std::str::FromStr>(column: &'static str, expected: &'static str, text: &str) -> Result<T, ColumnsError> {
    text.parse().map_err(|_| ColumnsError::value(column, expected, text))
}
