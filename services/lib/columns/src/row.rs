//! The trade that a record of the stream topic carries.

use domain::row::NotATrade;
use domain::{Record, Timestamp, TradeRow};

/// A row of the dataset `trades`: the trade and where the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedTrade {
    /// The trade, its origin and when it was received.
    pub row: TradeRow,
    /// The log's partition.
    pub partition: i32,
    /// The record's offset in it.
    pub offset: i64,
    /// When the log appended the record.
    pub appended_at: Timestamp,
}

impl ArchivedTrade {
    /// Reads a record of the stream topic.
    ///
    /// # Errors
    /// Says why the record is no trade.
    pub fn from_record(record: &Record) -> Result<Self, NotATrade> {
        let row = TradeRow::from_record(record)?;
        Ok(Self { row, partition: record.at.partition, offset: record.offset, appended_at: record.appended_at })
    }
}
