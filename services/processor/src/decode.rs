//! First stage: what a record is.

use domain::ledger::LedgerEvent;
use domain::{Record, TradeRow};

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

/// Reads a record of the stream.
pub fn trade(record: &Record) -> Decoded {
    match TradeRow::from_record(record) {
        Ok(row) => Decoded::Trade(row),
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
