//! The archive: write whole, publish by rename, read.

use std::future::Future;
use std::sync::RwLock;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hdfs_native::client::FileStatus;
use hdfs_native::{Client, ClientBuilder, HdfsError, WriteOptions};
use ports::{Archive, FileInfo, PortError, Published};
use tracing::warn;

use crate::config::HdfsConfig;
use crate::error::{Kind, SYSTEM, is_not_found, timed_out, translate};

/// rwxr-xr-x, as `hdfs dfs -mkdir` makes folders.
const FOLDER_PERMISSION: u32 = 0o755;

/// An archive under one folder of an HDFS.
#[derive(Debug)]
pub struct HdfsArchive {
    config: HdfsConfig,
    /// Replaced after a time-out: the connection behind it may be dead without knowing.
    client: RwLock<Client>,
}

impl HdfsArchive {
    /// An archive as configured. Connects at first use.
    ///
    /// # Errors
    /// [`PortError::Refused`] if the settings cannot be used.
    pub fn new(config: HdfsConfig) -> Result<Self, PortError> {
        let client = RwLock::new(connect(&config)?);
        Ok(Self { config, client })
    }

    fn path(&self, relative: &str) -> String {
        let root = self.config.root.trim_end_matches('/');
        let relative = relative.trim_matches('/');
        match (root.is_empty(), relative.is_empty()) {
            (true, true) => "/".to_owned(),
            (_, true) => root.to_owned(),
            _ => format!("{root}/{relative}"),
        }
    }

    fn client(&self) -> Client {
        self.client.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn reconnect(&self) {
        match connect(&self.config) {
            Ok(client) => *self.client.write().unwrap_or_else(std::sync::PoisonError::into_inner) = client,
            Err(error) => warn!(%error, "cannot make a new hdfs client, keeping the old one"),
        }
    }

    /// One answer of the NameNode, or a time-out.
    async fn call<T, F>(&self, kind: Kind, what: &str, call: F) -> Result<Result<T, HdfsError>, PortError>
    where
        F: Future<Output = Result<T, HdfsError>> + Send,
    {
        self.within(self.config.call_timeout(), kind, what, call).await
    }

    async fn within<T, F>(
        &self,
        limit: Duration,
        kind: Kind,
        what: &str,
        call: F,
    ) -> Result<Result<T, HdfsError>, PortError>
    where
        F: Future<Output = Result<T, HdfsError>> + Send,
    {
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => Ok(answer),
            Err(_) => {
                self.reconnect();
                Err(timed_out(kind, what, limit))
            }
        }
    }

    /// Creates, fills and closes a file. After an error the writer is dropped, never closed again: a
    /// second close would complete the file without its last block.
    async fn write_whole(&self, client: &Client, path: &str, content: Bytes) -> Result<(), HdfsError> {
        let options = WriteOptions::default().overwrite(true).create_parent(true).replication(self.config.replication);
        let mut writer = client.create(path, options).await?;
        writer.write_bytes(content).await?;
        writer.close().await
    }

    async fn make_parent(&self, client: &Client, path: &str) -> Result<(), PortError> {
        match path.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
            Some((parent, _)) => self.make_folder(client, parent).await,
            None => Ok(()),
        }
    }

    async fn make_folder(&self, client: &Client, path: &str) -> Result<(), PortError> {
        let what = format!("mkdirs {path}");
        let made = self.call(Kind::Read, &what, client.mkdirs(path, FOLDER_PERMISSION, true)).await?;
        // A folder too many harms nobody, so a lost answer means "not done yet".
        made.map_err(|error| translate(Kind::Read, &error, &what))
    }
}

/// Creates folders under the archive's root, and the root; those that exist stay as they are.
///
/// # Errors
/// [`PortError::Refused`] if one cannot be created.
pub async fn create_folders(config: &HdfsConfig, folders: &[String]) -> Result<(), PortError> {
    let archive = HdfsArchive::new(config.clone())?;
    let client = archive.client();
    for folder in folders {
        archive.make_folder(&client, &archive.path(folder)).await?;
    }
    Ok(())
}

fn connect(config: &HdfsConfig) -> Result<Client, PortError> {
    let mut builder = ClientBuilder::new().with_url(&config.url);
    if !config.user.is_empty() {
        builder = builder.with_user(&config.user);
    }
    if config.names_one_namenode() {
        builder = builder.with_config([("dfs.client.failover.max.attempts", "0")]);
    }
    builder.build().map_err(|error| PortError::refused(SYSTEM, format!("{}: {error}", config.url)))
}

#[async_trait]
impl Archive for HdfsArchive {
    async fn write(&self, temporary: &str, content: Bytes) -> Result<(), PortError> {
        let path = self.path(temporary);
        let what = format!("write {path}");
        let client = self.client();
        let limit = self.config.transfer_timeout();
        let written = self.within(limit, Kind::Change, &what, self.write_whole(&client, &path, content)).await?;
        written.map_err(|error| translate(Kind::Change, &error, &what))
    }

    async fn publish(&self, temporary: &str, to: &str) -> Result<Published, PortError> {
        let (from, to) = (self.path(temporary), self.path(to));
        let client = self.client();
        let what = format!("rename {from} to {to}");
        let mut renamed = self.call(Kind::Change, &what, client.rename(&from, &to, false)).await?;
        // Most often the folder is there: it is made only when it is missed.
        if renamed.as_ref().is_err_and(is_not_found) {
            self.make_parent(&client, &to).await?;
            renamed = self.call(Kind::Change, &what, client.rename(&from, &to, false)).await?;
        }
        match renamed {
            Ok(()) => Ok(Published::Won),
            Err(HdfsError::AlreadyExists(_)) => Ok(Published::Lost),
            Err(error) => Err(translate(Kind::Change, &error, &what)),
        }
    }

    async fn list(&self, folder: &str) -> Result<Vec<FileInfo>, PortError> {
        let path = self.path(folder);
        let what = format!("list {path}");
        let client = self.client();
        match self.call(Kind::Read, &what, client.list_status(&path, false)).await? {
            Ok(entries) => Ok(in_order(entries)),
            Err(error) if is_not_found(&error) => Ok(Vec::new()),
            Err(error) => Err(translate(Kind::Read, &error, &what)),
        }
    }

    async fn read(&self, path: &str, start: u64, length: u64) -> Result<Bytes, PortError> {
        let path = self.path(path);
        let what = format!("read {path}");
        let client = self.client();
        let limit = self.config.transfer_timeout();
        let read = self.within(limit, Kind::Read, &what, read_range(&client, &path, start, length)).await?;
        read.map_err(|error| translate(Kind::Read, &error, &what))
    }

    async fn length(&self, path: &str) -> Result<Option<u64>, PortError> {
        let path = self.path(path);
        let what = format!("stat {path}");
        let client = self.client();
        match self.call(Kind::Read, &what, client.get_file_info(&path)).await? {
            Ok(status) => Ok((!status.isdir).then_some(status.length as u64)),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(translate(Kind::Read, &error, &what)),
        }
    }

    async fn remove(&self, path: &str) -> Result<(), PortError> {
        let path = self.path(path);
        let what = format!("delete {path}");
        let client = self.client();
        match self.call(Kind::Change, &what, client.delete(&path, true)).await? {
            // False means that there was nothing.
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(translate(Kind::Change, &error, &what)),
        }
    }
}

/// The client panics past the end of a file, so the range is cut to it first.
async fn read_range(client: &Client, path: &str, start: u64, length: u64) -> Result<Bytes, HdfsError> {
    let reader = client.read(path).await?;
    let end = reader.file_length() as u64;
    let start = start.min(end);
    let length = length.min(end - start);
    if length == 0 {
        return Ok(Bytes::new());
    }
    let at = |value: u64| usize::try_from(value).map_err(|error| HdfsError::InvalidArgument(error.to_string()));
    reader.read_range(at(start)?, at(length)?).await
}

fn in_order(entries: Vec<FileStatus>) -> Vec<FileInfo> {
    let mut files: Vec<FileInfo> = entries.into_iter().map(info).collect();
    files.sort();
    files
}

fn info(status: FileStatus) -> FileInfo {
    let name = status.path.rsplit_once('/').map_or(status.path.as_str(), |(_, name)| name).to_owned();
    let length = if status.isdir { 0 } else { status.length as u64 };
    FileInfo { name, is_folder: status.isdir, length }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn paths_lie_under_the_root() {
        let of = |root: &str| HdfsArchive::new(HdfsConfig { root: root.to_owned(), ..HdfsConfig::default() }).unwrap();
        assert_eq!(of("/crypto_data").path("trades/x"), "/crypto_data/trades/x");
        assert_eq!(of("/crypto_data/").path("/trades/x/"), "/crypto_data/trades/x");
        assert_eq!(of("/crypto_data").path(""), "/crypto_data");
        assert_eq!(of("/").path("trades"), "/trades");
    }
}
