//! What becomes of an audit when its proofs are damaged.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use audit::proofs::Proofs;
use audit::tally::Tally;
use bytes::Bytes;
use domain::{Symbol, Timestamp, lake};
use ports::memory::{Chaos, MemoryArchive};
use ports::{Archive, FileInfo, PortError, Published};

/// An archive of which some blocks can be lost.
struct Worn {
    archive: MemoryArchive,
    is_damaged: AtomicBool,
}

#[async_trait]
impl Archive for Worn {
    async fn write(&self, temporary: &str, content: Bytes) -> Result<(), PortError> {
        self.archive.write(temporary, content).await
    }

    async fn publish(&self, temporary: &str, to: &str) -> Result<Published, PortError> {
        self.archive.publish(temporary, to).await
    }

    async fn list(&self, folder: &str) -> Result<Vec<FileInfo>, PortError> {
        self.archive.list(folder).await
    }

    async fn read(&self, path: &str, start: u64, length: u64) -> Result<Bytes, PortError> {
        if self.is_damaged.load(Ordering::Relaxed) && path.starts_with(lake::AUDIT) {
            return Err(PortError::refused("archive", "no replica has its checksum"));
        }
        self.archive.read(path, start, length).await
    }

    async fn length(&self, path: &str) -> Result<Option<u64>, PortError> {
        self.archive.length(path).await
    }

    async fn remove(&self, path: &str) -> Result<(), PortError> {
        self.archive.remove(path).await
    }
}

#[tokio::test]
async fn proofs_that_cannot_be_read_cost_only_time() {
    let archive = MemoryArchive::new(&Chaos::none());
    let worn = Worn { archive, is_damaged: AtomicBool::new(false) };
    let symbol: Symbol = "BTCUSDT".parse().unwrap();
    let hour = Timestamp::from_millis(1_723_161_255_342).hour();
    let tally = Tally { rows: 1, ..Tally::default() };
    let mut proofs = Proofs::default();
    proofs.note_hour(&symbol, hour, Some(&tally));
    proofs.save(&worn).await.unwrap();

    assert!(Proofs::load(&worn).await.unwrap().has_hour(&symbol, hour, &tally));
    worn.is_damaged.store(true, Ordering::Relaxed);
    let mut again = Proofs::load(&worn).await.unwrap();
    assert!(!again.has_hour(&symbol, hour, &tally));
    again.note_hour(&symbol, hour, Some(&tally));
    again.save(&worn).await.unwrap();
    worn.is_damaged.store(false, Ordering::Relaxed);
    assert!(Proofs::load(&worn).await.unwrap().has_hour(&symbol, hour, &tally));
}
