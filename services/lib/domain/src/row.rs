//! The rows of the tables. See `cassandra/` for the columns' names and keys.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::headers::parsed;
use crate::id_set::IdRange;
use crate::ledger::GapState;
use crate::record::{ORIGIN, Origin, RECEIVED_AT, Record};
use crate::symbol::Symbol;
use crate::time::Timestamp;
use crate::trade::{Trade, TradeError};

/// A row of `trades`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TradeRow {
    /// The trade.
    pub trade: Trade,
    /// How it reached the log.
    pub origin: Origin,
    /// When ingest had it.
    pub received_at: Timestamp,
}

/// Why a record of the stream is no trade.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotATrade {
    /// A record without a value.
    #[error("expected a trade event, got a record without a value")]
    NoValue,
    /// A value that is no valid trade event.
    #[error(transparent)]
    Event(#[from] TradeError),
}

impl TradeRow {
    /// The trade that a record of the stream carries.
    ///
    /// Another producer may leave out our headers: the origin is then `live`, and the time of receipt
    /// is when the log appended the record. Both follow from the log alone.
    ///
    /// # Errors
    /// Says why the record is no trade.
    pub fn from_record(record: &Record) -> Result<Self, NotATrade> {
        let value = record.value.as_ref().ok_or(NotATrade::NoValue)?;
        let trade = Trade::from_event(value)?;
        let [origin, received_at] = record.headers.each([ORIGIN, RECEIVED_AT]);
        Ok(Self {
            trade,
            origin: parsed(origin).unwrap_or(Origin::Live),
            received_at: parsed(received_at).map_or(record.appended_at, Timestamp::from_micros),
        })
    }

    /// The start of the trade's hour: with the symbol, the key of its table partition.
    pub fn hour(&self) -> Timestamp {
        self.trade.trade_time.hour()
    }

    /// A fingerprint of what the exchange said of the trade. Equal trades have equal fingerprints
    /// wherever they are stored; our own columns (origin, received at) do not count.
    ///
    /// Not for storage: it may change from one build to the next.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.trade.hash(&mut hasher);
        hasher.finish()
    }
}

/// A row of `gaps`: ids that are or were missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapRow {
    /// The market.
    pub symbol: Symbol,
    /// The ids.
    pub ids: IdRange,
    /// What became of them.
    pub state: GapState,
    /// Why they are missing, or why they cannot be had.
    pub cause: String,
    /// When the gap was found; tables keep the millisecond.
    pub detected_at: Timestamp,
    /// When it was filled; tables keep the millisecond.
    pub filled_at: Option<Timestamp>,
    /// When the gap was found, and whether it is closed: a lower one never overwrites a higher one.
    pub version: i64,
}

/// A row of `completeness`, as far as the stream of trades tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletenessRow {
    /// The market.
    pub symbol: Symbol,
    /// The start of the hour.
    pub hour: Timestamp,
    /// The smallest id of the hour.
    pub first_id: u64,
    /// The largest id of the hour.
    pub last_id: u64,
    /// How many ids the exchange issued since the last id of the hour before.
    pub expected: u64,
    /// How many of them are stored.
    pub present: u64,
    /// How many of them are not.
    pub missing: u64,
    /// How many were stored after the hour had been followed by a later one.
    pub late: u64,
    /// The offset of the last record it accounts for.
    pub version: i64,
}

/// The part of a `completeness` row that ingest's ledger tells: duplicates dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuplicatesRow {
    /// The market.
    pub symbol: Symbol,
    /// The start of the hour.
    pub hour: Timestamp,
    /// How many duplicates were dropped.
    pub dropped: u64,
    /// The offset of the last record it accounts for.
    pub version: i64,
}
