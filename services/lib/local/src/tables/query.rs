//! Reading the tables, from this process or another.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use domain::{
    CompletenessRow, Decimal, DuplicatesRow, GapRow, IdRange, Position, Symbol, Timestamp, TopicPartition, Trade,
    TradeRow,
};
use ports::{Checkpoint, CompletenessView, PortError, TableQuery};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::database::Readers;

const MICROS_PER_DAY: i64 = 86_400_000_000;

const TRADES: &str = "SELECT trade_id, price, quantity, trade_time_us, event_time_us, received_at_us, buyer_is_maker,
    origin
  FROM trades WHERE symbol = ?1 AND hour_us = ?2 AND (trade_time_ms, trade_id) > (?3, ?4)
  ORDER BY trade_time_ms, trade_id LIMIT ?5";
const COUNT: &str = "SELECT count(*) FROM trades WHERE symbol = ?1 AND hour_us = ?2";
const GAPS: &str = "SELECT from_id, to_id, state, cause, detected_at_us, filled_at_us, version
  FROM gaps WHERE symbol = ?1 ORDER BY from_id";
const COMPLETENESS: &str = "SELECT hour_us, first_id, last_id, expected, present, missing, late, version,
    duplicates_dropped, duplicates_version
  FROM completeness WHERE symbol = ?1 AND hour_us >= ?2 AND hour_us < ?3 ORDER BY hour_us";
const CHECKPOINT: &str = "SELECT next_offset, state, positions FROM checkpoints
  WHERE role = ?1 AND topic = ?2 AND partition = ?3";

/// Reads the tables. Cloning gives another handle.
#[derive(Clone)]
pub struct LocalQuery {
    readers: Arc<Readers>,
}

impl LocalQuery {
    pub(super) fn new(readers: Arc<Readers>) -> Self {
        Self { readers }
    }
}

#[async_trait]
impl TableQuery for LocalQuery {
    async fn load_checkpoint(&self, role: &str, at: &TopicPartition) -> Result<Option<Checkpoint>, PortError> {
        let (role, at) = (role.to_owned(), at.clone());
        let act = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(CHECKPOINT)?;
            let checkpoint = |row: &Row<'_>| {
                let next = Position { at: at.clone(), offset: row.get(0)? };
                let positions: String = row.get(2)?;
                let outputs = serde_json::from_str(&positions).map_err(|error| damaged(2, error))?;
                Ok(Checkpoint { role: role.clone(), next, state: row.get(1)?, outputs })
            };
            let key = params![role, at.topic.as_str(), at.partition];
            Ok(statement.query_row(key, checkpoint).optional()?)
        };
        self.readers.ask(act).await
    }

    async fn trades(
        &self,
        symbol: &Symbol,
        hour: Timestamp,
        after: Option<(Timestamp, u64)>,
        limit: usize,
    ) -> Result<Vec<TradeRow>, PortError> {
        let symbol = symbol.clone();
        let (time, id) = match after {
            // Ids above the largest that there can be are behind all of them.
            Some((time, id)) => (time.millis(), i64::try_from(id).unwrap_or(i64::MAX)),
            None => (i64::MIN, i64::MIN),
        };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let act = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(TRADES)?;
            let key = params![symbol.as_str(), hour.micros(), time, id, limit];
            let rows = statement.query_map(key, |row| trade(row, &symbol))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        };
        self.readers.ask(act).await
    }

    async fn count_trades(&self, symbol: &Symbol, hour: Timestamp) -> Result<u64, PortError> {
        let symbol = symbol.clone();
        let act = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(COUNT)?;
            Ok(statement.query_row(params![symbol.as_str(), hour.micros()], |row| row.get(0))?)
        };
        self.readers.ask(act).await
    }

    async fn gaps(&self, symbol: &Symbol) -> Result<Vec<GapRow>, PortError> {
        let symbol = symbol.clone();
        let act = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(GAPS)?;
            let rows = statement.query_map([symbol.as_str()], |row| gap(row, &symbol))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        };
        self.readers.ask(act).await
    }

    async fn completeness(&self, symbol: &Symbol, day: Timestamp) -> Result<Vec<CompletenessView>, PortError> {
        let symbol = symbol.clone();
        let act = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(COMPLETENESS)?;
            let from = day.day().micros();
            let key = params![symbol.as_str(), from, from + MICROS_PER_DAY];
            let rows = statement.query_map(key, |row| completeness(row, &symbol))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        };
        self.readers.ask(act).await
    }
}

fn trade(row: &Row<'_>, symbol: &Symbol) -> rusqlite::Result<TradeRow> {
    let trade = Trade {
        symbol: symbol.clone(),
        id: row.get(0)?,
        price: parsed::<Decimal>(row, 1)?,
        quantity: parsed::<Decimal>(row, 2)?,
        trade_time: time(row, 3)?,
        event_time: row.get::<_, Option<i64>>(4)?.map(Timestamp::from_micros),
        buyer_is_maker: row.get(6)?,
    };
    Ok(TradeRow { trade, origin: parsed(row, 7)?, received_at: time(row, 5)? })
}

fn gap(row: &Row<'_>, symbol: &Symbol) -> rusqlite::Result<GapRow> {
    Ok(GapRow {
        symbol: symbol.clone(),
        ids: IdRange { from: row.get(0)?, to: row.get(1)? },
        state: parsed(row, 2)?,
        cause: row.get(3)?,
        detected_at: time(row, 4)?,
        filled_at: row.get::<_, Option<i64>>(5)?.map(Timestamp::from_micros),
        version: row.get(6)?,
    })
}

fn completeness(row: &Row<'_>, symbol: &Symbol) -> rusqlite::Result<CompletenessView> {
    let hour = time(row, 0)?;
    let trades = |version| {
        Ok::<_, rusqlite::Error>(CompletenessRow {
            symbol: symbol.clone(),
            hour,
            first_id: row.get(1)?,
            last_id: row.get(2)?,
            expected: row.get(3)?,
            present: row.get(4)?,
            missing: row.get(5)?,
            late: row.get(6)?,
            version,
        })
    };
    let duplicates = |version| {
        let dropped = row.get(8)?;
        Ok::<_, rusqlite::Error>(DuplicatesRow { symbol: symbol.clone(), hour, dropped, version })
    };
    Ok(CompletenessView {
        hour,
        trades: row.get::<_, Option<i64>>(7)?.map(trades).transpose()?,
        duplicates: row.get::<_, Option<i64>>(9)?.map(duplicates).transpose()?,
    })
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_micros)
}

fn parsed<T: FromStr<Err: Display>>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    text.parse().map_err(|error: T::Err| damaged(column, format!("{text:?}: {error}")))
}

fn damaged(column: usize, what: impl Display) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, what.to_string().into())
}
