//! Writing the tables.

use std::fmt::Write;

use domain::{CompletenessRow, DuplicatesRow, GapRow, TradeRow};
use ports::Checkpoint;
use rusqlite::{Connection, params};

use crate::queue::Store;

/// As in `cassandra/`, with times in microseconds since 1970 and decimals as text, so that both are
/// exact; the views show times for people. Trades are in order of the millisecond, as there, so
/// that one trade has one place whether its source told microseconds or not.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS trades (
  symbol         TEXT    NOT NULL,
  hour_us        INTEGER NOT NULL,  -- the start of the trade's hour
  trade_time_ms  INTEGER NOT NULL,
  trade_id       INTEGER NOT NULL,
  price          TEXT    NOT NULL,  -- digits as the exchange wrote them
  quantity       TEXT    NOT NULL,
  trade_time_us  INTEGER NOT NULL,
  event_time_us  INTEGER,           -- null when fetched by REST
  received_at_us INTEGER NOT NULL,
  buyer_is_maker INTEGER NOT NULL,  -- 0 or 1
  origin         TEXT    NOT NULL,  -- live, backfill or replay
  PRIMARY KEY (symbol, hour_us, trade_time_ms, trade_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gaps (
  symbol         TEXT    NOT NULL,
  from_id        INTEGER NOT NULL,
  to_id          INTEGER NOT NULL,
  state          TEXT    NOT NULL,  -- open, filled or unfillable
  cause          TEXT    NOT NULL,
  detected_at_us INTEGER NOT NULL,
  filled_at_us   INTEGER,
  version        INTEGER NOT NULL,  -- when it was found, and whether it is closed: the highest stays
  PRIMARY KEY (symbol, from_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS completeness (
  symbol             TEXT    NOT NULL,
  hour_us            INTEGER NOT NULL,
  first_id           INTEGER,
  last_id            INTEGER,
  expected           INTEGER,
  present            INTEGER,
  missing            INTEGER,
  late               INTEGER,
  version            INTEGER,
  duplicates_dropped INTEGER,
  duplicates_version INTEGER,
  PRIMARY KEY (symbol, hour_us)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checkpoints (
  role        TEXT    NOT NULL,
  topic       TEXT    NOT NULL,
  partition   INTEGER NOT NULL,
  next_offset INTEGER NOT NULL,
  state       BLOB    NOT NULL,
  positions   TEXT    NOT NULL,     -- ends of the output partitions, as JSON
  PRIMARY KEY (role, topic, partition)
) WITHOUT ROWID;
CREATE VIEW IF NOT EXISTS trades_readable AS
  SELECT symbol, trade_id,
         strftime('%Y-%m-%d %H:%M:', trade_time_us / 1000000, 'unixepoch')
           || printf('%09.6f', (trade_time_us % 60000000) / 1e6) AS trade_time,
         price, quantity, buyer_is_maker, origin,
         received_at_us - trade_time_us AS received_after_us
  FROM trades;
CREATE VIEW IF NOT EXISTS gaps_readable AS
  SELECT symbol, from_id, to_id, to_id - from_id + 1 AS ids, state, cause,
         datetime(detected_at_us / 1000000, 'unixepoch') AS detected_at,
         datetime(filled_at_us / 1000000, 'unixepoch') AS filled_at
  FROM gaps;
CREATE VIEW IF NOT EXISTS completeness_readable AS
  SELECT symbol, datetime(hour_us / 1000000, 'unixepoch') AS hour,
         first_id, last_id, expected, present, missing, duplicates_dropped, late
  FROM completeness;
";

const TRADE: &str = "INSERT OR REPLACE INTO trades
  (symbol, hour_us, trade_time_ms, trade_id, price, quantity, trade_time_us, event_time_us, received_at_us,
   buyer_is_maker, origin)
  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
const NO_TRADE: &str = "DELETE FROM trades WHERE symbol = ?1 AND hour_us = ?2 AND trade_time_ms = ?3 AND trade_id = ?4";
const GAP: &str = "INSERT INTO gaps
  (symbol, from_id, to_id, state, cause, detected_at_us, filled_at_us, version)
  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
  ON CONFLICT DO UPDATE SET to_id = excluded.to_id, state = excluded.state, cause = excluded.cause,
    detected_at_us = excluded.detected_at_us, filled_at_us = excluded.filled_at_us, version = excluded.version
  WHERE excluded.version >= gaps.version";
const COMPLETENESS: &str = "INSERT INTO completeness
  (symbol, hour_us, first_id, last_id, expected, present, missing, late, version)
  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
  ON CONFLICT DO UPDATE SET first_id = excluded.first_id, last_id = excluded.last_id,
    expected = excluded.expected, present = excluded.present, missing = excluded.missing, late = excluded.late,
    version = excluded.version
  WHERE completeness.version IS NULL OR excluded.version >= completeness.version";
const DUPLICATES: &str = "INSERT INTO completeness (symbol, hour_us, duplicates_dropped, duplicates_version)
  VALUES (?1, ?2, ?3, ?4)
  ON CONFLICT DO UPDATE SET duplicates_dropped = excluded.duplicates_dropped,
    duplicates_version = excluded.duplicates_version
  WHERE completeness.duplicates_version IS NULL OR excluded.duplicates_version >= completeness.duplicates_version";
const CHECKPOINT: &str = "INSERT INTO checkpoints (role, topic, partition, next_offset, state, positions)
  VALUES (?1, ?2, ?3, ?4, ?5, ?6)
  ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset, state = excluded.state, positions = excluded.positions
  WHERE excluded.next_offset >= checkpoints.next_offset";

/// What is written.
pub(super) enum Job {
    Trades(Vec<TradeRow>),
    Mend { wrong: Vec<TradeRow>, right: Vec<TradeRow> },
    Gaps(Vec<GapRow>),
    Completeness(Vec<CompletenessRow>),
    Duplicates(Vec<DuplicatesRow>),
    Checkpoint(Checkpoint),
}

/// The writing thread's buffers.
#[derive(Default)]
pub(super) struct TableStore {
    price: String,
    quantity: String,
}

impl TableStore {
    fn trades(&mut self, connection: &Connection, rows: &[TradeRow]) -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached(TRADE)?;
        for row in rows {
            let trade = &row.trade;
            self.price.clear();
            self.quantity.clear();
            // Writing to a string does not fail.
            let _ = write!(self.price, "{}", trade.price);
            let _ = write!(self.quantity, "{}", trade.quantity);
            statement.execute(params![
                trade.symbol.as_str(),
                row.hour().micros(),
                trade.trade_time.millis(),
                trade.id,
                self.price,
                self.quantity,
                trade.trade_time.micros(),
                trade.event_time.map(|time| time.micros()),
                row.received_at.micros(),
                trade.buyer_is_maker,
                row.origin.as_str(),
            ])?;
        }
        Ok(())
    }
}

fn no_trades(connection: &Connection, rows: &[TradeRow]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(NO_TRADE)?;
    for row in rows {
        let (trade, hour) = (&row.trade, row.hour());
        statement.execute(params![trade.symbol.as_str(), hour.micros(), trade.trade_time.millis(), trade.id])?;
    }
    Ok(())
}

fn gaps(connection: &Connection, rows: &[GapRow]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(GAP)?;
    for row in rows {
        statement.execute(params![
            row.symbol.as_str(),
            row.ids.from,
            row.ids.to,
            row.state.as_str(),
            row.cause,
            row.detected_at.micros(),
            row.filled_at.map(|time| time.micros()),
            row.version,
        ])?;
    }
    Ok(())
}

fn completeness(connection: &Connection, rows: &[CompletenessRow]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(COMPLETENESS)?;
    for row in rows {
        statement.execute(params![
            row.symbol.as_str(),
            row.hour.micros(),
            row.first_id,
            row.last_id,
            row.expected,
            row.present,
            row.missing,
            row.late,
            row.version,
        ])?;
    }
    Ok(())
}

fn duplicates(connection: &Connection, rows: &[DuplicatesRow]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(DUPLICATES)?;
    for row in rows {
        statement.execute(params![row.symbol.as_str(), row.hour.micros(), row.dropped, row.version])?;
    }
    Ok(())
}

fn checkpoint(connection: &Connection, checkpoint: &Checkpoint) -> rusqlite::Result<()> {
    let Checkpoint { role, next, state, outputs } = checkpoint;
    let positions = serde_json::to_string(outputs);
    let positions = positions.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let (topic, partition) = (next.at.topic.as_str(), next.at.partition);
    let mut statement = connection.prepare_cached(CHECKPOINT)?;
    statement.execute(params![role, topic, partition, next.offset, state, positions])?;
    Ok(())
}

impl Store for TableStore {
    type Job = Job;
    type Answer = ();

    fn weight(job: &Job) -> usize {
        const ROW: usize = 150;
        match job {
            Job::Trades(rows) => rows.len() * ROW,
            Job::Mend { wrong, right } => (wrong.len() + right.len()) * ROW,
            Job::Gaps(rows) => rows.len() * ROW,
            Job::Completeness(rows) => rows.len() * ROW,
            Job::Duplicates(rows) => rows.len() * ROW,
            Job::Checkpoint(checkpoint) => checkpoint.state.len() + ROW,
        }
    }

    fn apply(&mut self, connection: &Connection, job: Job) -> rusqlite::Result<()> {
        match job {
            Job::Trades(rows) => self.trades(connection, &rows),
            Job::Mend { wrong, right } => {
                no_trades(connection, &wrong)?;
                self.trades(connection, &right)
            }
            Job::Gaps(rows) => gaps(connection, &rows),
            Job::Completeness(rows) => completeness(connection, &rows),
            Job::Duplicates(rows) => duplicates(connection, &rows),
            Job::Checkpoint(saved) => checkpoint(connection, &saved),
        }
    }
}
