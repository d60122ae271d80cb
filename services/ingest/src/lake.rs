//! The archive as a source: what it holds of a topic, verbatim, replayed as it was received.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use columns::decode_raw;
use domain::headers::parsed;
use domain::lake::{self, PartName};
use domain::record::{ORIGIN, RECEIVED_AT};
use domain::{Origin, Record, Timestamp};
use ports::{Archive, Feed, FeedEvent, PortError};

/// The raw dataset of a topic, partition by partition, file by file.
///
/// Each record keeps its bytes, its origin and when it was first received; only its place in the log
/// is new.
pub struct LakeFeed {
    archive: Arc<dyn Archive>,
    files: VecDeque<PartName>,
    /// The records of one file that were not handed over yet: a file is bounded by the archiver.
    pending: VecDeque<FeedEvent>,
}

impl LakeFeed {
    /// Lists what there is of `topic`.
    ///
    /// # Errors
    /// If the archive cannot be read, or has nothing of the topic.
    pub async fn open(archive: Arc<dyn Archive>, topic: &str) -> Result<Self, PortError> {
        let dataset = lake::raw_dataset(topic);
        let mut files = Vec::new();
        for day in archive.list(&dataset).await? {
            let folder = format!("{dataset}/{}", day.name);
            let names = archive.list(&folder).await?.into_iter();
            files.extend(names.filter_map(|file| PartName::parse(&format!("{folder}/{}", file.name))));
        }
        if files.is_empty() {
            return Err(PortError::refused(
                "archive",
                format!("expected files {dataset}/date=…/part-….parquet, found none"),
            ));
        }
        files.sort_by_key(|name| (name.partition, name.start_offset));
        Ok(Self { archive, files: files.into(), pending: VecDeque::new() })
    }

    async fn read(&self, name: &PartName) -> Result<VecDeque<FeedEvent>, PortError> {
        let path = name.to_string();
        let damaged = |error| PortError::refused("archive", format!("{path}: {error}"));
        let content = self.archive.read(&path, 0, u64::MAX).await?;
        let source = Bytes::from(path.clone());
        let records = decode_raw(content).map_err(damaged)?;
        records.map(|record| record.map(|record| event_of(record, &source)).map_err(damaged)).collect()
    }
}

fn event_of(record: Record, source: &Bytes) -> FeedEvent {
    let [origin, received_at] = record.headers.each([ORIGIN, RECEIVED_AT]);
    let received_at = parsed(received_at).map_or(record.appended_at, Timestamp::from_micros);
    let origin = parsed(origin).unwrap_or(Origin::Replay);
    let source = source.clone();
    let place = u64::try_from(record.offset).ok();
    match record.value {
        Some(bytes) => FeedEvent::Frame { bytes, received_at, origin, source, place },
        None => {
            let reason = format!("offset {}: expected a value, got none", record.offset);
            FeedEvent::Damaged { bytes: Bytes::new(), received_at, source, reason }
        }
    }
}

#[async_trait]
impl Feed for LakeFeed {
    async fn next(&mut self) -> Result<FeedEvent, PortError> {
        // A file is only taken off the list together with its records, so a dropped call loses nothing.
        while self.pending.is_empty() {
            let Some(name) = self.files.front() else { return Ok(FeedEvent::End) };
            self.pending = self.read(name).await?;
            self.files.pop_front();
        }
        Ok(self.pending.pop_front().unwrap_or(FeedEvent::End))
    }
}
