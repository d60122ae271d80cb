//! Mistakes with the archive.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use ports::memory::MemoryArchive;
use ports::{Archive, FileInfo, PortError, Published};

use super::Bug;

/// An archive as a mistaken archiver uses it.
pub struct MistakenArchive {
    /// The archive as it is.
    pub archive: Arc<MemoryArchive>,
    /// The mistake.
    pub bug: Option<Bug>,
}

#[async_trait]
impl Archive for MistakenArchive {
    async fn write(&self, temporary: &str, content: Bytes) -> Result<(), PortError> {
        self.archive.write(temporary, content).await
    }

    async fn publish(&self, temporary: &str, to: &str) -> Result<Published, PortError> {
        if self.bug == Some(Bug::RenameWithOverwrite) && self.archive.length(temporary).await?.is_some() {
            self.archive.remove(to).await?;
        }
        match self.archive.publish(temporary, to).await {
            Err(PortError::Unknown { .. }) if self.bug == Some(Bug::HopeAfterTimeout) => Ok(Published::Won),
            answer => answer,
        }
    }

    async fn list(&self, folder: &str) -> Result<Vec<FileInfo>, PortError> {
        self.archive.list(folder).await
    }

    async fn read(&self, path: &str, start: u64, length: u64) -> Result<Bytes, PortError> {
        self.archive.read(path, start, length).await
    }

    async fn length(&self, path: &str) -> Result<Option<u64>, PortError> {
        self.archive.length(path).await
    }

    async fn remove(&self, path: &str) -> Result<(), PortError> {
        self.archive.remove(path).await
    }
}
