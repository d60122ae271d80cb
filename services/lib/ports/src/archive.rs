//! The archive: named files that appear whole or not at all, and never change.

use async_trait::async_trait;
use bytes::Bytes;

use crate::PortError;

/// Stores files under paths relative to the archive's root, for example
/// `trades/date=2024-08-08/part-3-00000000000000000017.parquet`.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Writes a new file and makes it durable. Overwrites what an earlier attempt left at the path.
    /// Only for temporary paths: readers may see it half written.
    ///
    /// # Errors
    /// After any error the file may exist in part: write it again, whole, or leave it.
    async fn write(&self, temporary: &str, content: Bytes) -> Result<(), PortError>;

    /// Gives a written file its final name, atomically, durably, and never over an existing one.
    ///
    /// # Errors
    /// [`PortError::Unknown`] if it may have happened: look at `to` before anything else.
    async fn publish(&self, temporary: &str, to: &str) -> Result<Published, PortError>;

    /// The files and folders directly in a folder, in order of name. A folder that does not exist is
    /// empty.
    ///
    /// # Errors
    /// As the store has them.
    async fn list(&self, folder: &str) -> Result<Vec<FileInfo>, PortError>;

    /// The bytes `start..start + length` of a file, fewer at its end.
    ///
    /// # Errors
    /// [`PortError::Refused`] if there is no such file.
    async fn read(&self, path: &str, start: u64, length: u64) -> Result<Bytes, PortError>;

    /// The length of a file in bytes, or `None` if there is none of that name.
    ///
    /// # Errors
    /// As the store has them.
    async fn length(&self, path: &str) -> Result<Option<u64>, PortError>;

    /// Removes a file or a folder with all that is in it; no error if there is none.
    ///
    /// # Errors
    /// As the store has them.
    async fn remove(&self, path: &str) -> Result<(), PortError>;
}

/// How a publication ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The file has its name.
    Won,
    /// Another file has that name already; ours is where it was.
    Lost,
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileInfo {
    /// Its name, without the folder.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Its length in bytes; 0 for a folder.
    pub length: u64,
}
