//! Writing: every row carries its own write timestamp, so the order of arrival does not matter.

use std::collections::BTreeSet;
use std::future::Future;

use async_trait::async_trait;
use domain::{CompletenessRow, DuplicatesRow, GapRow, Position, Timestamp, TopicPartition, TradeRow};
use futures::{FutureExt, StreamExt, TryStreamExt};
use ports::{Checkpoint, PortError, Tables};
use scylla::errors::ExecutionError;
use scylla::response::query_result::QueryResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlDate, CqlTimestamp, MaybeUnset};

use crate::error::{Kind, SYSTEM, execution, timed_out};
use crate::session::CassandraTables;
use crate::values::{ToDecimal, date_to_cql, number_to_cql, timestamp_to_cql, version_to_writetime};

/// Small writes on their way at once. Beyond this the servers only get slower.
const CONCURRENT: usize = 16;

/// Rows of several table partitions that are written at once. Servers warn of more.
const ROWS_AT_ONCE: usize = 10;

/// Bits of a checkpoint's write timestamp that count the checkpoints of one offset.
const SEQUENCE_BITS: u32 = 16;

type TradeValues<'a> =
    (&'a str, CqlTimestamp, CqlTimestamp, i64, ToDecimal, ToDecimal, i64, MaybeUnset<i64>, i64, bool, &'a str, i64);
type TradeKey<'a> = (i64, &'a str, CqlTimestamp, CqlTimestamp, i64);
type GapValues<'a> = (&'a str, i64, i64, &'a str, &'a str, CqlTimestamp, MaybeUnset<CqlTimestamp>, i64);
type CompletenessValues<'a> = (&'a str, CqlDate, CqlTimestamp, i64, i64, i64, i64, i64, i64, i64);
type DuplicatesValues<'a> = (&'a str, CqlDate, CqlTimestamp, i64, i64);

#[async_trait]
impl Tables for CassandraTables {
    async fn write_trades(&self, rows: &[TradeRow]) -> Result<(), PortError> {
        let writetimes = rows.iter().map(|row| row.trade.trade_time.micros());
        self.put_trades(rows, writetimes).await
    }

    async fn mend_trades(&self, wrong: &[TradeRow], right: &[TradeRow], now: Timestamp) -> Result<(), PortError> {
        let keys: BTreeSet<_> = wrong.iter().chain(right).map(|row| (&row.trade.symbol, row.hour())).collect();
        if keys.len() > 1 {
            return Err(PortError::refused(SYSTEM, "trades of several symbols or hours to be mended together"));
        }
        // Later than whatever was written or deleted by hand; the rows later than their own deletion.
        let delete = now.micros();
        let keys = wrong.iter().chain(right).map(|row| trade_key(row, delete)).collect::<Result<Vec<_>, _>>()?;
        self.insert_each("deletions of trades", &self.statements.delete_trade, keys).await?;
        self.put_trades(right, std::iter::repeat(delete + 1)).await
    }

    async fn write_gaps(&self, rows: &[GapRow]) -> Result<(), PortError> {
        let values = rows.iter().map(gap_values).collect::<Result<Vec<_>, _>>()?;
        self.insert_each("gaps", &self.statements.insert_gap, values).await
    }

    async fn write_completeness(&self, rows: &[CompletenessRow]) -> Result<(), PortError> {
        let statement = &self.statements.insert_completeness;
        let mut writes = Vec::new();
        for rows in rows.chunks(ROWS_AT_ONCE) {
            let values = rows.iter().map(completeness_values).collect::<Result<Vec<_>, _>>()?;
            writes.push(self.insert_together("completeness", statement, values).boxed());
        }
        futures::stream::iter(writes).buffer_unordered(CONCURRENT).try_collect::<()>().await
    }

    async fn write_duplicates(&self, rows: &[DuplicatesRow]) -> Result<(), PortError> {
        let values = rows.iter().map(duplicates_values).collect::<Result<Vec<_>, _>>()?;
        self.insert_each("duplicates", &self.statements.insert_duplicates, values).await
    }

    async fn save_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), PortError> {
        let Position { at, offset } = &checkpoint.next;
        let positions = serde_json::to_vec(&checkpoint.outputs).map_err(|error| PortError::refused(SYSTEM, error))?;
        let writetime = self.next_checkpoint_writetime(&checkpoint.role, at, *offset)?;
        let values =
            (&checkpoint.role, at.topic.as_str(), at.partition, offset, &checkpoint.state, positions, writetime);
        let statement = &self.statements.insert_checkpoint;
        self.written("a checkpoint", self.session.execute_unpaged(statement, values)).await
    }
}

impl CassandraTables {
    async fn put_trades(&self, rows: &[TradeRow], writetimes: impl Iterator<Item = i64>) -> Result<(), PortError> {
        let values = rows.iter().zip(writetimes);
        let values = values.map(|(row, writetime)| trade_values(row, writetime)).collect::<Result<Vec<_>, _>>()?;
        self.insert_together("trades", &self.statements.insert_trade, values).await
    }

    /// In one request.
    async fn insert_together<V: SerializeRow + Send + Sync>(
        &self,
        what: &str,
        statement: &PreparedStatement,
        rows: Vec<V>,
    ) -> Result<(), PortError> {
        if rows.is_empty() {
            return Ok(());
        }
        let statements = vec![BatchStatement::PreparedStatement(statement.clone()); rows.len()];
        let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements);
        batch.set_is_idempotent(true);
        batch.set_consistency(self.config.write_consistency.into());
        batch.set_retry_policy(statement.get_retry_policy().cloned());
        self.written(what, self.session.batch(&batch, rows)).await
    }

    async fn insert_each<V: SerializeRow + Send>(
        &self,
        what: &str,
        statement: &PreparedStatement,
        rows: Vec<V>,
    ) -> Result<(), PortError> {
        let writes = rows.into_iter().map(|row| self.written(what, self.session.execute_unpaged(statement, row)));
        futures::stream::iter(writes).buffer_unordered(CONCURRENT).try_collect::<()>().await
    }

    async fn written(
        &self,
        what: &str,
        write: impl Future<Output = Result<QueryResult, ExecutionError>> + Send,
    ) -> Result<(), PortError> {
        let limit = self.config.write_timeout();
        match tokio::time::timeout(limit, write).await {
            Ok(answer) => answer.map(|_| ()).map_err(|error| execution(Kind::Write, &error)),
            Err(_) => Err(timed_out(Kind::Write, &format!("write {what}"), limit)),
        }
    }

    /// Offset first, then how many checkpoints of this offset came before: a time window may close,
    /// and change the state, while no record comes.
    fn next_checkpoint_writetime(&self, role: &str, at: &TopicPartition, offset: i64) -> Result<i64, PortError> {
        let first = first_writetime(offset)?;
        let mut last = self.checkpoints.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let last = last.entry((role.to_owned(), at.clone())).or_insert(0);
        let of_same_offset = *last >> SEQUENCE_BITS == first >> SEQUENCE_BITS;
        let next = if of_same_offset { *last + 1 } else { first };
        // Beyond 65,536 checkpoints of one offset the last ones share a timestamp.
        let next = next.min(first + (1 << SEQUENCE_BITS) - 1);
        *last = (*last).max(next);
        Ok(next)
    }

    pub(crate) fn remember_checkpoint(&self, role: &str, at: &TopicPartition, writetime: i64) {
        let mut last = self.checkpoints.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let last = last.entry((role.to_owned(), at.clone())).or_insert(0);
        *last = (*last).max(writetime);
    }
}

fn first_writetime(offset: i64) -> Result<i64, PortError> {
    let fits = (0..i64::MAX >> (SEQUENCE_BITS + 1)).contains(&offset);
    fits.then_some((offset + 1) << SEQUENCE_BITS)
        .ok_or_else(|| PortError::refused(SYSTEM, format!("a checkpoint at offset {offset}")))
}

fn trade_key(row: &TradeRow, writetime: i64) -> Result<TradeKey<'_>, PortError> {
    let trade = &row.trade;
    let (hour, time) = (timestamp_to_cql(row.hour()), timestamp_to_cql(trade.trade_time));
    Ok((writetime, trade.symbol.as_str(), hour, time, number_to_cql("trade_id", trade.id)?))
}

fn trade_values(row: &TradeRow, writetime: i64) -> Result<TradeValues<'_>, PortError> {
    let trade = &row.trade;
    Ok((
        trade.symbol.as_str(),
        timestamp_to_cql(row.hour()),
        timestamp_to_cql(trade.trade_time),
        number_to_cql("trade_id", trade.id)?,
        ToDecimal(trade.price),
        ToDecimal(trade.quantity),
        trade.trade_time.micros(),
        trade.event_time.map_or(MaybeUnset::Unset, |event| MaybeUnset::Set(event.micros())),
        row.received_at.micros(),
        trade.buyer_is_maker,
        row.origin.as_str(),
        writetime,
    ))
}

/// An absent `filled_at` is left unset instead of deleted; readers ignore one that is older than the
/// row's state.
fn gap_values(row: &GapRow) -> Result<GapValues<'_>, PortError> {
    Ok((
        row.symbol.as_str(),
        number_to_cql("from_id", row.ids.from)?,
        number_to_cql("to_id", row.ids.to)?,
        row.state.as_str(),
        row.cause.as_str(),
        timestamp_to_cql(row.detected_at),
        row.filled_at.map_or(MaybeUnset::Unset, |time| MaybeUnset::Set(timestamp_to_cql(time))),
        version_to_writetime(row.version)?,
    ))
}

fn completeness_values(row: &CompletenessRow) -> Result<CompletenessValues<'_>, PortError> {
    Ok((
        row.symbol.as_str(),
        date_to_cql(row.hour)?,
        timestamp_to_cql(row.hour),
        number_to_cql("first_id", row.first_id)?,
        number_to_cql("last_id", row.last_id)?,
        number_to_cql("expected", row.expected)?,
        number_to_cql("present", row.present)?,
        number_to_cql("missing", row.missing)?,
        number_to_cql("late", row.late)?,
        version_to_writetime(row.version)?,
    ))
}

fn duplicates_values(row: &DuplicatesRow) -> Result<DuplicatesValues<'_>, PortError> {
    Ok((
        row.symbol.as_str(),
        date_to_cql(row.hour)?,
        timestamp_to_cql(row.hour),
        number_to_cql("duplicates_dropped", row.dropped)?,
        version_to_writetime(row.version)?,
    ))
}
