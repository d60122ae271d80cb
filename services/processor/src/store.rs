//! Third stage: rows on their way to the tables, together by table partition, bounded in bytes,
//! several writes at once.

use domain::{BySymbol, Symbol, Timestamp, TradeRow};
use futures::{StreamExt, TryStreamExt, stream};
use ports::{PortError, Tables, persist};

/// What the columns of a trade weigh in a write by Cassandra's count, apart from its symbol.
const ROW_BYTES: usize = 210;

/// What a table partition adds to a write; an estimate.
const PARTITION_BYTES: usize = 120;

/// Behind so many rows of a table partition, there is room for all that fit into a write: it grows no more.
const SOME_ROWS: usize = 16;

/// How many table partitions may be written at once. Cassandra warns of more: each is a mutation of its own there, and
/// may have other replicas.
const PARTITIONS_AT_ONCE: usize = 10;

/// Rows until they are stored. Those of one table partition are written together, as many as fit into a write: what is
/// left over may wait for more of its partition, or share a write with what is left of a few others.
pub struct Unstored {
    write_bytes: usize,
    waiting: BySymbol<Vec<TradeRow>, (Symbol, Timestamp)>,
    waiting_rows: usize,
    writes: Vec<Vec<TradeRow>>,
}

impl Unstored {
    /// None yet; each write is to have so many bytes at most.
    pub fn new(write_bytes: usize) -> Self {
        Self { write_bytes, waiting: BySymbol::default(), waiting_rows: 0, writes: Vec::new() }
    }

    /// One more.
    pub fn add(&mut self, row: TradeRow) {
        let full = (self.write_bytes / row_bytes(&row.trade.symbol)).max(1);
        let rows = self.waiting.entry((row.trade.symbol.clone(), row.hour())).or_default();
        // Most often one that has some gets a whole write.
        if rows.len() == SOME_ROWS {
            rows.reserve_exact(full.saturating_sub(SOME_ROWS));
        }
        rows.push(row);
        self.waiting_rows += 1;
        if rows.len() == full {
            self.waiting_rows -= full;
            self.writes.push(std::mem::take(rows));
        }
    }

    /// How many wait for more of their table partitions.
    pub fn waiting(&self) -> usize {
        self.waiting_rows
    }

    /// No more is waited for.
    pub fn close(&mut self) {
        let (mut shared, mut partitions, mut room) = (Vec::<TradeRow>::new(), 0, self.write_bytes);
        // The hours of a symbol beside each other.
        self.waiting.sort_unstable_keys();
        for ((symbol, _), rows) in self.waiting.drain(..) {
            if rows.is_empty() {
                continue;
            }
            let bytes = PARTITION_BYTES + rows.len() * row_bytes(&symbol);
            if partitions > 0 && (bytes > room || partitions == PARTITIONS_AT_ONCE) {
                self.writes.push(std::mem::take(&mut shared));
                (partitions, room) = (0, self.write_bytes);
            }
            partitions += 1;
            room = room.saturating_sub(bytes);
            if shared.is_empty() {
                shared = rows;
            } else {
                shared.extend(rows);
            }
        }
        if partitions > 0 {
            self.writes.push(shared);
        }
        self.waiting_rows = 0;
    }

    /// Stores all but those that wait: returns how many, when all of them are acknowledged. Given up before, it has to be
    /// done again.
    ///
    /// # Errors
    /// If the tables refuse; everything else is tried again.
    pub async fn store(&mut self, tables: &dyn Tables, in_flight: usize) -> Result<usize, PortError> {
        let mut writes = Vec::with_capacity(self.writes.len());
        for rows in &self.writes {
            writes.push(persist("store trades", move || tables.write_trades(rows)));
        }
        stream::iter(writes).buffer_unordered(in_flight.max(1)).try_collect::<()>().await?;
        Ok(self.writes.drain(..).map(|rows| rows.len()).sum())
    }
}

fn row_bytes(symbol: &Symbol) -> usize {
    ROW_BYTES + symbol.as_str().len()
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

    fn writes(rows: impl IntoIterator<Item = TradeRow>, write_bytes: usize) -> Vec<Vec<TradeRow>> {
        let mut unstored = Unstored::new(write_bytes);
        rows.into_iter().for_each(|row| unstored.add(row));
        unstored.close();
        assert_eq!(unstored.waiting(), 0);
        unstored.writes
    }

    #[test]
    fn writes_have_each_row_once_and_hold_nothing_beside() {
        let symbols = ["BTCUSDT", "ETHUSDT"];
        let rows = (0..1_000).map(|id| row(symbols[id % 2], (id / 700) as i64, id as u64));
        let writes = writes(rows, 24 * (ROW_BYTES + 7));
        // Of each symbol 350 and 150: the last 14 and 6 share a write.
        let of_one = writes.iter().filter(|write| partitions(write) == 1).count();
        assert_eq!((writes.len(), of_one), (42, 40));
        for write in &writes {
            assert!(write.len() >= 20 && write.capacity() < 48, "{} of {}", write.len(), write.capacity());
        }
        let mut ids: Vec<u64> = writes.into_iter().flatten().map(|row| row.trade.id).collect();
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..1_000));
    }

    #[test]
    fn a_few_partitions_share_a_write() {
        let rows = (0..100).map(|id| row(&format!("S{:02}USDT", id % 25), 0, id));
        let shared = writes(rows, 1 << 20);
        assert_eq!(shared.iter().map(|write| partitions(write)).collect::<Vec<_>>(), [10, 10, 5]);
        assert!(writes([], 1).is_empty());
        assert_eq!(writes([row("BTCUSDT", 0, 1), row("BTCUSDT", 0, 2)], 1).len(), 2);
    }

    #[test]
    fn what_is_left_over_waits_for_more_of_its_partition() {
        let mut unstored = Unstored::new(10 * (ROW_BYTES + 7));
        let mut add = |ids: std::ops::Range<u64>| {
            ids.for_each(|id| unstored.add(row("BTCUSDT", 0, id)));
            (unstored.writes.len(), unstored.waiting())
        };
        assert_eq!(add(0..7), (0, 7));
        assert_eq!(add(7..24), (2, 4));
        assert_eq!(add(24..30), (3, 0));
        // A partition that nothing is left of is no write.
        unstored.close();
        assert_eq!(unstored.writes.len(), 3);
    }
}
