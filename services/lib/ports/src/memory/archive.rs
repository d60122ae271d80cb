//! An archive in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::chaos::{Chaos, Kind};
use crate::{Archive, FileInfo, PortError, Published};

const SYSTEM: &str = "memory archive";
/// What is written is on its way with the call: it does not arrive later, but it may be cut short.
const WRITE: Kind = Kind { system: SYSTEM, partial: true, late: false };
const RENAME: Kind = Kind { system: SYSTEM, partial: false, late: true };

/// An archive in memory. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct MemoryArchive {
    files: Arc<Mutex<BTreeMap<String, Bytes>>>,
    chaos: Chaos,
}

impl MemoryArchive {
    /// An empty archive.
    pub fn new(chaos: &Chaos) -> Self {
        Self { files: Arc::default(), chaos: chaos.clone() }
    }

    /// All files with their content, in order of path, without any misfortune: for checkers.
    pub fn files(&self) -> Vec<(String, Bytes)> {
        self.lock().iter().map(|(path, content)| (path.clone(), content.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        lock(&self.files)
    }
}

#[async_trait]
impl Archive for MemoryArchive {
    async fn write(&self, temporary: &str, content: Bytes) -> Result<(), PortError> {
        let what = || format!("write {temporary} of {} bytes", content.len());
        let (files, path, content) = (self.files.clone(), temporary.to_owned(), content.clone());
        let act = move |mut extent: super::chaos::Extent| {
            let written = extent.prefix(content.len());
            lock(&files).insert(path, content.slice(..written));
            Ok(())
        };
        self.chaos.perform(WRITE, what, act).await
    }

    async fn publish(&self, temporary: &str, to: &str) -> Result<Published, PortError> {
        let what = || format!("publish {temporary} to {to}");
        let (files, from, to) = (self.files.clone(), temporary.to_owned(), to.to_owned());
        let act = move |_| {
            let mut files = lock(&files);
            let Some(content) = files.get(&from).cloned() else {
                return Err(PortError::refused(SYSTEM, format!("there is no file {from}")));
            };
            if files.contains_key(&to) {
                return Ok(Published::Lost);
            }
            files.remove(&from);
            files.insert(to, content);
            Ok(Published::Won)
        };
        self.chaos.perform(RENAME, what, act).await
    }

    async fn list(&self, folder: &str) -> Result<Vec<FileInfo>, PortError> {
        let answer = || {
            let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
            let files = self.lock();
            let mut entries: Vec<FileInfo> = Vec::new();
            let below = files.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
            for (path, content) in below {
                let rest = &path[prefix.len()..];
                let (name, is_folder) = rest.split_once('/').map_or((rest, false), |(name, _)| (name, true));
                let length = if is_folder { 0 } else { content.len() as u64 };
                entries.push(FileInfo { name: name.to_owned(), is_folder, length });
            }
            // Paths are in order of their bytes, in which `/` stands behind `-` and `.`.
            entries.sort();
            entries.dedup();
            Ok(entries)
        };
        self.chaos.ask(SYSTEM, || format!("list {folder}"), answer).await
    }

    async fn read(&self, path: &str, start: u64, length: u64) -> Result<Bytes, PortError> {
        let answer = || {
            let content = self.lock().get(path).cloned();
            let content = content.ok_or_else(|| PortError::refused(SYSTEM, format!("there is no file {path}")))?;
            let clamp = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(content.len());
            Ok(content.slice(clamp(start)..clamp(start.saturating_add(length))))
        };
        self.chaos.ask(SYSTEM, || format!("read {path}"), answer).await
    }

    async fn length(&self, path: &str) -> Result<Option<u64>, PortError> {
        let answer = || Ok(self.lock().get(path).map(|content| content.len() as u64));
        self.chaos.ask(SYSTEM, || format!("length of {path}"), answer).await
    }

    async fn remove(&self, path: &str) -> Result<(), PortError> {
        let (files, what) = (self.files.clone(), path.to_owned());
        let act = move |_| {
            let folder = format!("{what}/");
            lock(&files).retain(|path, _| *path != what && !path.starts_with(&folder));
            Ok(())
        };
        self.chaos.perform(RENAME, || format!("remove {path}"), act).await
    }
}

fn lock(files: &Mutex<BTreeMap<String, Bytes>>) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}
