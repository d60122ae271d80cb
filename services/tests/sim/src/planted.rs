//! Bugs that the simulation must find: a checker that has never caught one is not trusted.
//!
//! Each is planted between a service and its server, where it does to the protocol what a mistake in
//! the service would.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{CompletenessRow, DuplicatesRow, GapRow, Timestamp, TradeRow};
use ports::memory::{MemoryArchive, MemoryTables};
use ports::{Archive, Checkpoint, FileInfo, PortError, Published, Tables};

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The processor saves its checkpoint while rows are still on their way.
    CheckpointBeforeStore,
    /// The archiver publishes over an existing file.
    RenameWithOverwrite,
}

/// Tables that acknowledge rows a while before they store them, and forget them in a crash.
pub struct HastyTables {
    tables: MemoryTables,
    /// Lives as long as the service: a crash ends it, and what it has not stored is gone.
    writes: tokio::sync::mpsc::Sender<Vec<TradeRow>>,
}

impl HastyTables {
    /// The tables of one run of the processor, and the task that must die with it.
    pub fn new(tables: MemoryTables) -> (Self, impl Future<Output = ()> + Send) {
        let (writes, mut queue) = tokio::sync::mpsc::channel::<Vec<TradeRow>>(1_024);
        let slow = tables.clone();
        let storing = async move {
            while let Some(rows) = queue.recv().await {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let _ = ports::persist("store", || slow.write_trades(&rows)).await;
            }
        };
        (Self { tables, writes }, storing)
    }
}

#[async_trait]
impl Tables for HastyTables {
    async fn write_trades(&self, rows: &[TradeRow]) -> Result<(), PortError> {
        self.writes.send(rows.to_vec()).await.map_err(|_| PortError::unavailable("tables", "crashed"))
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

/// An archive whose publication replaces what is there.
pub struct OverwritingArchive(pub Arc<MemoryArchive>);

#[async_trait]
impl Archive for OverwritingArchive {
    async fn write(&self, temporary: &str, content: Bytes) -> Result<(), PortError> {
        self.0.write(temporary, content).await
    }

    async fn publish(&self, temporary: &str, to: &str) -> Result<Published, PortError> {
        if self.0.length(temporary).await?.is_some() {
            self.0.remove(to).await?;
        }
        self.0.publish(temporary, to).await
    }

    async fn list(&self, folder: &str) -> Result<Vec<FileInfo>, PortError> {
        self.0.list(folder).await
    }

    async fn read(&self, path: &str, start: u64, length: u64) -> Result<Bytes, PortError> {
        self.0.read(path, start, length).await
    }

    async fn length(&self, path: &str) -> Result<Option<u64>, PortError> {
        self.0.length(path).await
    }

    async fn remove(&self, path: &str) -> Result<(), PortError> {
        self.0.remove(path).await
    }
}
