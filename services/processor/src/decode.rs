//! First stage: what a record is.

use domain::ledger::LedgerEvent;
use domain::record::{ORIGIN, RECEIVED_AT};
use domain::{Origin, Record, Timestamp, Trade, TradeRow};

/// What a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A trade.
    Trade(TradeRow),
    /// Something that ingest's ledger found.
    Ledger(LedgerEvent),
    /// Unusable, with the reason.
    Dead(String),
}

/// Reads a record of the stream. A record without our headers, say from another producer, is a live
/// trade received when it was appended.
pub fn trade(record: &Record) -> Decoded {
    let Some(value) = &record.value else { return Decoded::Dead("no value: expected a trade event".to_owned()) };
    match Trade::from_event(value) {
        Ok(trade) => Decoded::Trade(TradeRow {
            trade,
            origin: record.headers.parsed(ORIGIN).unwrap_or(Origin::Live),
            received_at: record.headers.parsed(RECEIVED_AT).map_or(record.appended_at, Timestamp::from_micros),
        }),
        Err(error) => Decoded::Dead(error.to_string()),
    }
}

/// Reads a record of the gaps topic.
pub fn ledger_event(record: &Record) -> Decoded {
    let Some(value) = &record.value else { return Decoded::Dead("no value: expected a ledger event".to_owned()) };
    match LedgerEvent::from_json(value) {
        Ok(event) => Decoded::Ledger(event),
        Err(reason) => Decoded::Dead(reason),
    }
}
