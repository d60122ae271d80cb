//! Reading.

use async_trait::async_trait;
use domain::{
    CompletenessRow, DuplicatesRow, GapRow, IdRange, Position, Symbol, Timestamp, TopicPartition, Trade, TradeRow,
};
use futures::TryStreamExt;
use ports::{Checkpoint, CompletenessView, PortError, TableQuery};
use scylla::deserialize::row::DeserializeRow;
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlDecimal, CqlTimestamp};

use crate::error::{Kind, corrupt, pager, row as row_error, timed_out};
use crate::session::CassandraTables;
use crate::values::{
    date_to_cql, decimal_from_cql, number_from_cql, number_to_cql, timestamp_from_cql, timestamp_to_cql,
    version_from_writetime,
};

/// A server answers a count only while it takes no longer than a read may, so the trades of an hour are counted in
/// slices; and where a slice takes too long, in smaller ones.
const HOUR_MS: i64 = 3_600_000;
const SLICE_MS: i64 = 300_000;
const PARTS: i64 = 20;

type TradeColumns = (i64, CqlDecimal, CqlDecimal, i64, Option<i64>, i64, bool, String);
type GapColumns = (i64, i64, String, String, CqlTimestamp, Option<CqlTimestamp>, Option<i64>, i64);
type CompletenessColumns = (
    CqlTimestamp,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
);

#[async_trait]
impl TableQuery for CassandraTables {
    async fn load_checkpoint(&self, role: &str, at: &TopicPartition) -> Result<Option<Checkpoint>, PortError> {
        type Row = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Option<i64>);
        let key = (role, at.topic.as_str(), at.partition);
        let rows: Vec<Row> = self.select("a checkpoint", &self.statements.select_checkpoint, key).await?;
        let Some((offset, state, positions, writetime)) = rows.into_iter().next() else { return Ok(None) };
        self.remember_checkpoint(role, at, writetime.unwrap_or(0));
        let outputs = serde_json::from_slice(&positions.unwrap_or_default())
            .map_err(|error| corrupt(format!("positions of the checkpoint of {role} at {at}: {error}")))?;
        let next = Position { at: at.clone(), offset };
        Ok(Some(Checkpoint { role: role.to_owned(), next, state: state.unwrap_or_default(), outputs }))
    }

    async fn trades(
        &self,
        symbol: &Symbol,
        hour: Timestamp,
        after: Option<(Timestamp, u64)>,
        limit: usize,
    ) -> Result<Vec<TradeRow>, PortError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let (name, hour) = (symbol.as_str(), timestamp_to_cql(hour));
        let rows: Vec<TradeColumns> = match after {
            None => self.select("trades", &self.statements.select_trades, (name, hour, limit)).await?,
            Some((time, id)) => {
                let id = number_to_cql("trade_id", id)?;
                let values = (name, hour, timestamp_to_cql(time), id, limit);
                self.select("trades", &self.statements.select_trades_after, values).await?
            }
        };
        rows.into_iter().map(|columns| trade_row(symbol, columns)).collect()
    }

    async fn count_trades(&self, symbol: &Symbol, hour: Timestamp) -> Result<u64, PortError> {
        let mut total = 0;
        // What no slice of an hour has is counted, too.
        for slice in slices(hour.millis(), SLICE_MS, HOUR_MS / SLICE_MS, i64::MIN, i64::MAX) {
            total += match self.count_slice(symbol, hour, slice).await {
                Err(error) if error.is_retriable() => {
                    let mut sum = 0;
                    for part in slices(slice.middle, SLICE_MS / PARTS, PARTS, slice.from, slice.to) {
                        sum += self.count_slice(symbol, hour, part).await?;
                    }
                    sum
                }
                count => count?,
            };
        }
        Ok(total)
    }

    async fn gaps(&self, symbol: &Symbol) -> Result<Vec<GapRow>, PortError> {
        let rows: Vec<GapColumns> = self.select("gaps", &self.statements.select_gaps, (symbol.as_str(),)).await?;
        rows.into_iter().map(|columns| gap_row(symbol, columns)).collect()
    }

    async fn completeness(&self, symbol: &Symbol, day: Timestamp) -> Result<Vec<CompletenessView>, PortError> {
        let key = (symbol.as_str(), date_to_cql(day)?);
        let rows: Vec<CompletenessColumns> =
            self.select("completeness", &self.statements.select_completeness, key).await?;
        rows.into_iter().map(|columns| completeness_view(symbol, columns)).collect()
    }
}

/// A part of an hour's partition: times in ms, the end exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slice {
    from: i64,
    to: i64,
    /// Where the part of the hour begins, should `from` lie before it.
    middle: i64,
}

/// So many slices of equal length from `start` on; the first and the last reach as far as they may.
fn slices(start: i64, length: i64, count: i64, from: i64, to: i64) -> impl Iterator<Item = Slice> {
    (0..count).map(move |nth| {
        let begins = start + nth * length;
        Slice {
            from: if nth == 0 { from } else { begins },
            to: if nth == count - 1 { to } else { begins + length },
            middle: begins,
        }
    })
}

impl CassandraTables {
    async fn count_slice(&self, symbol: &Symbol, hour: Timestamp, slice: Slice) -> Result<u64, PortError> {
        let times = (CqlTimestamp(slice.from), CqlTimestamp(slice.to));
        let values = (symbol.as_str(), timestamp_to_cql(hour), times.0, times.1);
        let rows: Vec<(i64,)> = self.select("a count of trades", &self.statements.count_trades, values).await?;
        number_from_cql("count", rows.first().map_or(0, |(count,)| *count))
    }

    /// All rows of a query, page by page, within one deadline.
    pub(crate) async fn select<R>(
        &self,
        what: &str,
        statement: &PreparedStatement,
        values: impl SerializeRow + Send,
    ) -> Result<Vec<R>, PortError>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata> + Send,
    {
        let all = async {
            let pages = self.session.execute_iter(statement.clone(), values).await.map_err(|error| pager(&error))?;
            let rows = pages.rows_stream::<R>().map_err(corrupt)?;
            rows.try_collect().await.map_err(|error| row_error(&error))
        };
        let limit = self.config.read_timeout();
        match tokio::time::timeout(limit, all).await {
            Ok(rows) => rows,
            Err(_) => Err(timed_out(Kind::Read, &format!("read {what}"), limit)),
        }
    }
}

fn trade_row(symbol: &Symbol, columns: TradeColumns) -> Result<TradeRow, PortError> {
    let (id, price, quantity, trade_time, event_time, received_at, buyer_is_maker, origin) = columns;
    let trade = Trade {
        symbol: symbol.clone(),
        id: number_from_cql("trade_id", id)?,
        price: decimal_from_cql(&price)?,
        quantity: decimal_from_cql(&quantity)?,
        trade_time: Timestamp::from_micros(trade_time),
        event_time: event_time.map(Timestamp::from_micros),
        buyer_is_maker,
    };
    let origin = origin.parse().map_err(corrupt)?;
    Ok(TradeRow { trade, origin, received_at: Timestamp::from_micros(received_at) })
}

fn gap_row(symbol: &Symbol, columns: GapColumns) -> Result<GapRow, PortError> {
    let (from, to, state, cause, detected_at, filled_at, filled_version, version) = columns;
    let (from, to) = (number_from_cql("from_id", from)?, number_from_cql("to_id", to)?);
    let filled_at = filled_at.filter(|_| filled_version == Some(version));
    Ok(GapRow {
        symbol: symbol.clone(),
        ids: IdRange::new(from, to).ok_or_else(|| corrupt(format!("a gap of {symbol} from {from} to {to}")))?,
        state: state.parse().map_err(|error: String| corrupt(error))?,
        cause,
        detected_at: timestamp_from_cql(detected_at),
        filled_at: filled_at.map(timestamp_from_cql),
        version: version_from_writetime(version),
    })
}

fn completeness_view(symbol: &Symbol, columns: CompletenessColumns) -> Result<CompletenessView, PortError> {
    let (hour, first_id, last_id, expected, present, missing, late, version, dropped, dropped_version) = columns;
    let hour = timestamp_from_cql(hour);
    let number = |name, value: Option<i64>| match value {
        Some(value) => number_from_cql(name, value),
        None => Err(corrupt(format!("{name} of {symbol} at {hour} is null"))),
    };
    let trades = match version {
        None => None,
        Some(version) => Some(CompletenessRow {
            symbol: symbol.clone(),
            hour,
            first_id: number("first_id", first_id)?,
            last_id: number("last_id", last_id)?,
            expected: number("expected", expected)?,
            present: number("present", present)?,
            missing: number("missing", missing)?,
            late: number("late", late)?,
            version: version_from_writetime(version),
        }),
    };
    let duplicates = match dropped_version {
        None => None,
        Some(version) => Some(DuplicatesRow {
            symbol: symbol.clone(),
            hour,
            dropped: number("duplicates_dropped", dropped)?,
            version: version_from_writetime(version),
        }),
    };
    Ok(CompletenessView { hour, trades, duplicates })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_leave_nothing_out() {
        let all: Vec<Slice> = slices(7_200_000, SLICE_MS, 12, i64::MIN, i64::MAX).collect();
        assert_eq!((all[0].from, all[11].to), (i64::MIN, i64::MAX));
        assert!(all.windows(2).all(|pair| pair[0].to == pair[1].from));
        let parts: Vec<Slice> = slices(all[0].middle, SLICE_MS / PARTS, PARTS, all[0].from, all[0].to).collect();
        assert_eq!((parts[0].from, parts[0].to, parts[19].to), (i64::MIN, 7_215_000, all[0].to));
        assert!(parts.windows(2).all(|pair| pair[0].to == pair[1].from));
    }
}
