//! For tests: an archive whose misfortunes are written down beforehand, and records.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use columns::Footer;
use domain::lake::PartName;
use domain::{Headers, Record, Timestamp, TopicPartition};
use ports::{Archive, FileInfo, PortError, Published};

use crate::chain::{Chain, Kind, SealedPart};
use crate::footer::look;

/// What a call comes to. Without any left, all goes well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is done.
    Done,
    /// It is done, but the answer is lost.
    AnswerLost,
    /// It is not done, and the answer is lost.
    Unknown,
    /// The answer is lost, and it is done when the archive has been called so many times more.
    After(u32),
    /// It is not done, and the answer says so.
    Unavailable,
}

#[derive(Default)]
struct Inner {
    files: BTreeMap<String, Bytes>,
    writes: VecDeque<Fate>,
    renames: VecDeque<Fate>,
    looks: VecDeque<Fate>,
    late: Vec<(u32, String, String)>,
}

/// An archive in memory.
#[derive(Default)]
pub struct FakeArchive(Mutex<Inner>);

impl FakeArchive {
    pub fn with(writes: &[Fate], renames: &[Fate], looks: &[Fate]) -> Self {
        let queue = |fates: &[Fate]| fates.iter().copied().collect();
        let inner = Inner { writes: queue(writes), renames: queue(renames), looks: queue(looks), ..Inner::default() };
        Self(Mutex::new(inner))
    }

    pub fn put(&self, part: &SealedPart) {
        self.0.lock().unwrap().files.insert(part.name.to_string(), part.bytes.clone());
    }

    pub fn paths(&self) -> Vec<String> {
        self.0.lock().unwrap().files.keys().cloned().collect()
    }

    pub async fn footer(&self, name: &PartName) -> Footer {
        look(self, name, &at().topic).await.unwrap().unwrap()
    }

    /// One more call: what is late may be done now.
    fn called(&self) -> std::sync::MutexGuard<'_, Inner> {
        let mut inner = self.0.lock().unwrap();
        let late = std::mem::take(&mut inner.late);
        for (calls, from, to) in late {
            match calls.checked_sub(1) {
                Some(calls) => inner.late.push((calls, from, to)),
                None => drop(inner.rename(&from, &to)),
            }
        }
        inner
    }
}

impl Inner {
    fn rename(&mut self, from: &str, to: &str) -> Result<Published, PortError> {
        if self.files.contains_key(to) {
            return Ok(Published::Lost);
        }
        let content = self.files.remove(from).ok_or_else(|| PortError::refused("fake", "missing source"))?;
        self.files.insert(to.to_owned(), content);
        Ok(Published::Won)
    }

    fn asked(&mut self) -> Result<(), PortError> {
        match self.looks.pop_front() {
            None | Some(Fate::Done) => Ok(()),
            Some(_) => Err(PortError::unavailable("fake", "down")),
        }
    }
}

#[async_trait]
impl Archive for FakeArchive {
    async fn write(&self, temporary: &str, content: Bytes) -> Result<(), PortError> {
        let mut inner = self.called();
        match inner.writes.pop_front().unwrap_or(Fate::Done) {
            Fate::Done => {
                inner.files.insert(temporary.to_owned(), content);
                Ok(())
            }
            Fate::Unavailable => Err(PortError::unavailable("fake", "down")),
            _ => {
                inner.files.insert(temporary.to_owned(), content.slice(..content.len() / 2));
                Err(PortError::unknown("fake", "half written"))
            }
        }
    }

    async fn publish(&self, temporary: &str, to: &str) -> Result<Published, PortError> {
        let mut inner = self.called();
        match inner.renames.pop_front().unwrap_or(Fate::Done) {
            Fate::Done => return inner.rename(temporary, to),
            Fate::AnswerLost => drop(inner.rename(temporary, to)?),
            Fate::After(calls) => inner.late.push((calls, temporary.to_owned(), to.to_owned())),
            Fate::Unknown => {}
            Fate::Unavailable => return Err(PortError::unavailable("fake", "down")),
        }
        Err(PortError::unknown("fake", "no answer"))
    }

    async fn list(&self, folder: &str) -> Result<Vec<FileInfo>, PortError> {
        let mut inner = self.called();
        inner.asked()?;
        let prefix = format!("{folder}/");
        let below = inner.files.iter().filter_map(|(path, content)| Some((path.strip_prefix(&prefix)?, content)));
        let mut entries: Vec<FileInfo> = below
            .map(|(rest, content)| match rest.split_once('/') {
                Some((name, _)) => FileInfo { name: name.to_owned(), is_folder: true, length: 0 },
                None => FileInfo { name: rest.to_owned(), is_folder: false, length: content.len() as u64 },
            })
            .collect();
        entries.dedup();
        Ok(entries)
    }

    async fn read(&self, path: &str, start: u64, length: u64) -> Result<Bytes, PortError> {
        let mut inner = self.called();
        inner.asked()?;
        let content = inner.files.get(path).ok_or_else(|| PortError::refused("fake", "no such file"))?;
        Ok(content.slice(start as usize..content.len().min((start + length) as usize)))
    }

    async fn length(&self, path: &str) -> Result<Option<u64>, PortError> {
        let mut inner = self.called();
        inner.asked()?;
        Ok(inner.files.get(path).map(|content| content.len() as u64))
    }

    async fn remove(&self, path: &str) -> Result<(), PortError> {
        let folder = format!("{path}/");
        self.called().files.retain(|file, _| file != path && !file.starts_with(&folder));
        Ok(())
    }
}

pub fn at() -> TopicPartition {
    TopicPartition::new("crypto-stream", 3)
}

/// A trade of an afternoon.
pub fn record(offset: i64) -> Record {
    let value = format!(
        r#"{{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":{offset},"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}"#
    );
    Record {
        at: at(),
        offset,
        appended_at: Timestamp::from_millis(1_723_161_255_400 + offset),
        key: Some("BTCUSDT".into()),
        value: Some(value.into()),
        headers: Headers::new(),
    }
}

/// The file of `dataset` with the records `start..end`, written by a run.
pub fn part(epoch: &str, start: i64, end: i64) -> SealedPart {
    let mut chain = Chain::new(at(), Kind::Trades, Some(start));
    for offset in start..end {
        chain.push(&record(offset), tokio::time::Instant::now()).unwrap();
    }
    chain.seal(epoch).unwrap().unwrap()
}
