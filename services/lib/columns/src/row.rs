//! The trade that a record of the stream topic carries.

use domain::record::{ORIGIN, RECEIVED_AT};
use domain::trade::TradeError;
use domain::{Origin, Record, Timestamp, Trade, TradeRow};

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
        let row = trade_row(record)?;
        Ok(Self { row, partition: record.at.partition, offset: record.offset, appended_at: record.appended_at })
    }
}

/// Why a record of the stream topic is only in the raw dataset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotATrade {
    /// A record without a value.
    #[error("expected a trade event, got a record without a value")]
    NoValue,
    /// A value that is no valid trade event.
    #[error(transparent)]
    Event(#[from] TradeError),
}

/// The trade that a record of the stream topic carries.
///
/// Another producer may leave out our headers: the origin is then `live`, and the time of receipt is
/// when the log appended the record. Both follow from the log alone, so that redoing it gives the same.
///
/// # Errors
/// Says why the record is no trade.
pub fn trade_row(record: &Record) -> Result<TradeRow, NotATrade> {
    let value = record.value.as_ref().ok_or(NotATrade::NoValue)?;
    Ok(TradeRow {
        trade: Trade::from_event(value)?,
        origin: record.headers.parsed(ORIGIN).unwrap_or(Origin::Live),
        received_at: record.headers.parsed(RECEIVED_AT).map_or(record.appended_at, Timestamp::from_micros),
    })
}
