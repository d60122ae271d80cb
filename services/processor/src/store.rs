//! Third stage: rows on their way to the tables, grouped by table partition, bounded in bytes,
//! several groups at once.

use std::collections::BTreeMap;

use domain::{Symbol, Timestamp, TradeRow};
use futures::{StreamExt, TryStreamExt, stream};
use ports::{PortError, Tables, persist};

use crate::config::ProcessorConfig;

/// What the columns of a trade weigh in a write, apart from its symbol.
const ROW_BYTES: usize = 90;

/// Groups rows by symbol and hour, each group within `bytes`.
pub fn groups(rows: Vec<TradeRow>, bytes: usize) -> Vec<Vec<TradeRow>> {
    let mut by_partition: BTreeMap<(Symbol, Timestamp), Vec<TradeRow>> = BTreeMap::new();
    for row in rows {
        by_partition.entry((row.trade.symbol.clone(), row.hour())).or_default().push(row);
    }
    let mut groups = Vec::new();
    for ((symbol, _), mut rows) in by_partition {
        let at_once = (bytes / (ROW_BYTES + symbol.as_str().len())).max(1);
        while rows.len() > at_once {
            let rest = rows.split_off(at_once);
            groups.push(std::mem::replace(&mut rows, rest));
        }
        groups.push(rows);
    }
    groups
}

/// Stores trades: returns when all of them are acknowledged.
///
/// # Errors
/// If the tables refuse; everything else is tried again.
pub async fn store_trades(tables: &dyn Tables, rows: Vec<TradeRow>, config: &ProcessorConfig) -> Result<(), PortError> {
    let writes = groups(rows, config.write_bytes)
        .into_iter()
        .map(|group| async move { persist("store trades", || tables.write_trades(&group)).await });
    stream::iter(writes).buffer_unordered(config.writes_in_flight.max(1)).try_collect().await
}
