//! Mistakes with the tables.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use domain::{CompletenessRow, DuplicatesRow, GapRow, Position, Symbol, Timestamp, TopicPartition, TradeRow, topics};
use ports::memory::{MemoryLog, MemoryTables};
use ports::{Checkpoint, CompletenessView, LogScan, PortError, TableQuery, Tables};
use tokio::sync::mpsc;

use super::Bug;

/// Tables as a mistaken processor writes them.
pub struct MistakenTables {
    tables: MemoryTables,
    bug: Option<Bug>,
    /// Lives as long as the service: a crash ends it, and what it has not stored is gone.
    hasty: mpsc::Sender<Vec<TradeRow>>,
}

impl MistakenTables {
    /// The tables of one run of the processor, and the task that must die with it.
    pub fn new(tables: MemoryTables, bug: Option<Bug>) -> (Self, impl Future<Output = ()> + Send) {
        let (hasty, mut queue) = mpsc::channel::<Vec<TradeRow>>(1_024);
        let slow = tables.clone();
        let storing = async move {
            while let Some(rows) = queue.recv().await {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let _ = ports::persist("store", || slow.write_trades(&rows)).await;
            }
        };
        (Self { tables, bug, hasty }, storing)
    }
}

#[async_trait]
impl Tables for MistakenTables {
    async fn write_trades(&self, rows: &[TradeRow]) -> Result<(), PortError> {
        match self.bug {
            Some(Bug::CheckpointBeforeStore) => {
                self.hasty.send(rows.to_vec()).await.map_err(|_| PortError::unavailable("tables", "crashed"))
            }
            Some(Bug::DedupeByTime) => {
                let mut times = BTreeSet::new();
                let mut rows = rows.to_vec();
                rows.retain(|row| times.insert(row.trade.trade_time));
                self.tables.write_trades(&rows).await
            }
            _ => self.tables.write_trades(rows).await,
        }
    }

    async fn mend_trades(&self, wrong: &[TradeRow], right: &[TradeRow], now: Timestamp) -> Result<(), PortError> {
        self.tables.mend_trades(wrong, right, now).await
    }

    async fn write_gaps(&self, rows: &[GapRow]) -> Result<(), PortError> {
        self.tables.write_gaps(rows).await
    }

    async fn write_completeness(&self, rows: &[CompletenessRow]) -> Result<(), PortError> {
        self.tables.write_completeness(rows).await
    }

    async fn write_duplicates(&self, rows: &[DuplicatesRow]) -> Result<(), PortError> {
        self.tables.write_duplicates(rows).await
    }

    async fn save_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), PortError> {
        self.tables.save_checkpoint(checkpoint).await
    }
}

/// Tables as a mistaken processor reads them.
pub struct MistakenQuery {
    /// The tables as they are.
    pub tables: MemoryTables,
    /// The log, whose end a mistaken processor takes for the place where it left off.
    pub log: MemoryLog,
    /// The mistake.
    pub bug: Option<Bug>,
}

#[async_trait]
impl TableQuery for MistakenQuery {
    async fn load_checkpoint(&self, role: &str, at: &TopicPartition) -> Result<Option<Checkpoint>, PortError> {
        let mut loaded = self.tables.load_checkpoint(role, at).await?;
        if self.bug == Some(Bug::CheckpointWithoutOutputs) {
            let ends = self.log.bounds(topics::DEAD_LETTER).await?;
            for Position { at, offset } in loaded.iter_mut().flat_map(|loaded| &mut loaded.outputs) {
                *offset = ends.iter().find(|bounds| bounds.at == *at).map_or(*offset, |bounds| bounds.end);
            }
        }
        Ok(loaded)
    }

    async fn trades(
        &self,
        symbol: &Symbol,
        hour: Timestamp,
        after: Option<(Timestamp, u64)>,
        limit: usize,
    ) -> Result<Vec<TradeRow>, PortError> {
        self.tables.trades(symbol, hour, after, limit).await
    }

    async fn count_trades(&self, symbol: &Symbol, hour: Timestamp) -> Result<u64, PortError> {
        self.tables.count_trades(symbol, hour).await
    }

    async fn gaps(&self, symbol: &Symbol) -> Result<Vec<GapRow>, PortError> {
        self.tables.gaps(symbol).await
    }

    async fn completeness(&self, symbol: &Symbol, day: Timestamp) -> Result<Vec<CompletenessView>, PortError> {
        let mut rows = self.tables.completeness(symbol, day).await?;
        match self.bug {
            Some(Bug::ForgetNeighbours) => rows.clear(),
            Some(Bug::CountedTwice) => {
                rows.iter_mut().filter_map(|row| row.trades.as_mut()).for_each(|row| row.version = -1);
            }
            _ => {}
        }
        Ok(rows)
    }
}
