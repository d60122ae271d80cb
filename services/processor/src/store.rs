//! Third stage: rows on their way to the tables, grouped by table partition, bounded in bytes,
//! several groups at once.

use std::collections::BTreeMap;

use domain::{Symbol, Timestamp, TradeRow};
use futures::{StreamExt, TryStreamExt, stream};
use ports::{PortError, Tables, persist};

use crate::config::ProcessorConfig;

/// What the columns of a trade weigh in a write by Cassandra's count, apart from its symbol.
const ROW_BYTES: usize = 210;

/// What a table partition adds to a write; an estimate.
const PARTITION_BYTES: usize = 120;

/// How many table partitions may be written at once. Cassandra warns of more: each is a mutation of its own there, and
/// may have other replicas.
const PARTITIONS_AT_ONCE: usize = 10;

/// Groups rows for the store, each group within `bytes`: as many of one table partition together as fit, and what is
/// left of the partitions, few at a time.
pub fn groups(rows: Vec<TradeRow>, bytes: usize) -> Vec<Vec<TradeRow>> {
    let mut by_partition: BTreeMap<(Symbol, Timestamp), Vec<TradeRow>> = BTreeMap::new();
    for row in rows {
        by_partition.entry((row.trade.symbol.clone(), row.hour())).or_default().push(row);
    }
    let mut groups = Vec::new();
    let (mut shared, mut partitions, mut room) = (Vec::new(), 0, bytes);
    for ((symbol, _), rows) in by_partition {
        let row_bytes = ROW_BYTES + symbol.as_str().len();
        let at_once = (bytes / row_bytes).max(1);
        let mut rows = rows.into_iter();
        while rows.len() >= at_once {
            groups.push(rows.by_ref().take(at_once).collect());
        }
        if rows.len() == 0 {
            continue;
        }
        let left = PARTITION_BYTES + rows.len() * row_bytes;
        if left > room || partitions == PARTITIONS_AT_ONCE {
            groups.push(std::mem::take(&mut shared));
            (partitions, room) = (0, bytes);
        }
        partitions += 1;
        room = room.saturating_sub(left);
        shared.extend(rows);
    }
    groups.push(shared);
    groups.retain(|group| !group.is_empty());
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

    fn row(symbol: &str, hour: i64, id: u64) -> TradeRow {
        TradeRow {
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
        }
    }

    fn partitions(group: &[TradeRow]) -> usize {
        group.iter().map(|row| (&row.trade.symbol, row.hour())).collect::<std::collections::BTreeSet<_>>().len()
    }

    #[test]
    fn groups_have_each_row_once_and_hold_nothing_beside() {
        let symbols = ["BTCUSDT", "ETHUSDT"];
        let rows: Vec<TradeRow> = (0..1_000).map(|id| row(symbols[id % 2], (id / 700) as i64, id as u64)).collect();
        let groups = groups(rows, 24 * (ROW_BYTES + 7));
        // Of each symbol 350 and 150: the last 14 and 6 share a group.
        let of_one = groups.iter().filter(|group| partitions(group) == 1).count();
        assert_eq!((groups.len(), of_one), (42, 40));
        for group in &groups {
            assert!(group.len() >= 20 && group.capacity() < 48, "{} of {}", group.len(), group.capacity());
        }
        let mut ids: Vec<u64> = groups.into_iter().flatten().map(|row| row.trade.id).collect();
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..1_000));
    }

    #[test]
    fn a_few_partitions_share_a_group() {
        let rows: Vec<TradeRow> = (0..100).map(|id| row(&format!("S{:02}USDT", id % 25), 0, id)).collect();
        let groups = groups(rows, 1 << 20);
        assert_eq!(groups.iter().map(|group| partitions(group)).collect::<Vec<_>>(), [10, 10, 5]);
        assert!(super::groups(Vec::new(), 1).is_empty());
        assert_eq!(super::groups(vec![row("BTCUSDT", 0, 1), row("BTCUSDT", 0, 2)], 1).len(), 2);
    }
}
