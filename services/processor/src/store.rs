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
    for ((symbol, _), rows) in by_partition {
        let at_once = (bytes / (ROW_BYTES + symbol.as_str().len())).max(1);
        let (whole, mut rows) = (rows.len().div_ceil(at_once), rows.into_iter());
        groups.extend((0..whole).map(|_| rows.by_ref().take(at_once).collect()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_of_one_partition_in_order_and_hold_nothing_beside_their_rows() {
        let row = |symbol: &str, hour: i64, id: u64| TradeRow {
            trade: domain::Trade {
                symbol: symbol.parse().unwrap(),
                id,
                price: "1".parse().unwrap(),
                quantity: "1".parse().unwrap(),
                trade_time: Timestamp::from_micros(hour * 3_600_000_000),
                event_time: None,
                buyer_is_maker: true,
            },
            origin: domain::Origin::Live,
            received_at: Timestamp::from_micros(0),
        };
        let symbols = ["BTCUSDT", "ETHUSDT"];
        let rows: Vec<TradeRow> = (0..1_000).map(|id| row(symbols[id % 2], (id / 700) as i64, id as u64)).collect();
        let groups = groups(rows.clone(), 20 * (ROW_BYTES + 7));
        assert_eq!(groups.len(), 2 * (350_usize.div_ceil(20) + 150_usize.div_ceil(20)));
        for group in &groups {
            assert!(group.len() <= 20 && group.capacity() < 40, "{} of {}", group.len(), group.capacity());
            assert!(group.iter().all(|row| row.trade.symbol == group[0].trade.symbol && row.hour() == group[0].hour()));
        }
        let mut ids: Vec<u64> = groups.into_iter().flatten().map(|row| row.trade.id).collect();
        assert!(ids.chunk_by(|a, b| a < b).count() <= 4, "the order of a partition is kept");
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..1_000));
    }
}
