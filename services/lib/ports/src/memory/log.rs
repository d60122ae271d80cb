//! A log in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::{Outgoing, Position, Record, Timestamp, Topic, TopicPartition};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::chaos::{Chaos, Extent, Kind};
use super::group::{Group, Partitions};
use super::reader::MemoryReader;
use crate::{Bounds, Clock, LogScan, LogWriter, PortError};

pub(super) const SYSTEM: &str = "memory log";
const APPEND: Kind = Kind { system: SYSTEM, partial: true, late: true };
/// The largest record: what Kafka's brokers take by default.
const MAX_RECORD_BYTES: usize = 1 << 20;
/// How many bytes one read returns, about.
pub(super) const READ_BYTES: usize = 1 << 20;
/// How long a group waits for a member to let go of its partitions.
const PATIENCE: Duration = Duration::from_secs(30);

/// A log in memory. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct MemoryLog {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    state: Mutex<State>,
    pub(super) changed: Notify,
    pub(super) chaos: Chaos,
    clock: Arc<dyn Clock>,
}

pub(super) struct State {
    topics: BTreeMap<Topic, Vec<Partition>>,
    groups: BTreeMap<String, Group>,
    patience: Duration,
    landed_late: Vec<Position>,
}

#[derive(Default)]
struct Partition {
    first: i64,
    records: Vec<Record>,
    appended_at: Timestamp,
}

impl MemoryLog {
    /// A log without topics.
    pub fn new(chaos: &Chaos, clock: Arc<dyn Clock>) -> Self {
        let (topics, groups, landed_late) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let state = State { topics, groups, patience: PATIENCE, landed_late };
        let inner = Inner { state: Mutex::new(state), changed: Notify::new(), chaos: chaos.clone(), clock };
        Self { inner: Arc::new(inner) }
    }

    /// Adds an empty topic, unless there is one of that name.
    pub fn create_topic(&self, topic: impl Into<Topic>, partitions: usize) {
        let empty = || std::iter::repeat_with(Partition::default).take(partitions).collect();
        self.inner.lock().topics.entry(topic.into()).or_insert_with(empty);
    }

    /// How long groups wait for a member to let go; who takes longer becomes a zombie.
    pub fn set_patience(&self, patience: Duration) {
        self.inner.lock().patience = patience;
    }

    /// How many members of a group did not let go in time: each was a zombie for a while.
    pub fn zombies(&self, group: &str) -> usize {
        self.inner.lock().groups.get(group).map_or(0, |group| group.expelled)
    }

    /// A new member of a group. Dropping it, as a crash does, leaves the group.
    ///
    /// # Errors
    /// Refused for an unknown topic.
    pub fn reader(&self, group: &str, topics: &[Topic]) -> Result<MemoryReader, PortError> {
        let state = self.inner.lock();
        for topic in topics {
            state.topic(topic)?;
        }
        drop(state);
        Ok(MemoryReader::join(self.inner.clone(), group, topics))
    }

    /// Deletes the records before a position, as retention does.
    pub fn delete_before(&self, position: &Position) {
        let mut state = self.inner.lock();
        if let Ok(partition) = state.partition_mut(&position.at) {
            let deleted = partition.index(position.offset);
            partition.records.drain(..deleted);
            partition.first += i64::try_from(deleted).unwrap_or(0);
        }
    }

    /// All records of a topic, partition by partition, without any misfortune: for checkers.
    pub fn records(&self, topic: &str) -> Vec<Record> {
        let state = self.inner.lock();
        state.topic(topic).into_iter().flatten().flat_map(|partition| partition.records.iter().cloned()).collect()
    }

    /// The records whose append was carried out late, without any misfortune: for checkers.
    pub fn landed_late(&self) -> Vec<Position> {
        self.inner.lock().landed_late.clone()
    }

    /// What a group has committed: for lag monitors and checkers.
    pub fn committed(&self, group: &str, at: &TopicPartition) -> Option<i64> {
        self.inner.lock().groups.get(group)?.committed.get(at).copied()
    }
}

impl Inner {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, records: Vec<Outgoing>, mut extent: Extent) -> Result<Vec<Position>, PortError> {
        let now = self.clock.now();
        let mut state = self.lock();
        let mut positions = Vec::with_capacity(records.len());
        for record in records.into_iter().filter(|_| extent.includes()) {
            let partition = state.partition_mut(&record.to)?;
            positions.push(Position { at: record.to.clone(), offset: partition.end() });
            partition.push(record, now);
        }
        if matches!(extent, Extent::Late) {
            state.landed_late.extend(positions.iter().cloned());
        }
        drop(state);
        self.changed.notify_waiters();
        Ok(positions)
    }
}

#[async_trait]
impl LogWriter for MemoryLog {
    async fn append(&self, records: Vec<Outgoing>) -> Result<Vec<Position>, PortError> {
        for record in &records {
            self.inner.lock().partition_mut(&record.to)?;
            let size = record.key.as_ref().map_or(0, |k| k.len()) + record.value.as_ref().map_or(0, |v| v.len());
            if size > MAX_RECORD_BYTES {
                return Err(PortError::refused(
                    SYSTEM,
                    format!("a record of {size} bytes, expected {MAX_RECORD_BYTES} at most"),
                ));
            }
        }
        let what = match records.first() {
            Some(first) => format!("append {} records, the first to {}", records.len(), first.to),
            None => return Ok(Vec::new()),
        };
        let inner = self.inner.clone();
        self.inner.chaos.perform(APPEND, || what, move |extent| inner.append(records, extent)).await
    }
}

#[async_trait]
impl LogScan for MemoryLog {
    async fn bounds(&self, topic: &str) -> Result<Vec<Bounds>, PortError> {
        let answer = || {
            let state = self.inner.lock();
            let partitions = (0..).zip(state.topic(topic)?);
            let bounds = |(n, partition): (i32, &Partition)| Bounds {
                at: TopicPartition::new(topic, n),
                first: partition.first,
                end: partition.end(),
            };
            Ok(partitions.map(bounds).collect())
        };
        self.inner.chaos.ask(SYSTEM, || format!("bounds of {topic}"), answer).await
    }

    async fn read(&self, from: &Position, end: i64) -> Result<Vec<Record>, PortError> {
        let answer = || {
            let at_most = self.inner.chaos.portion().unwrap_or(usize::MAX);
            self.inner.lock().read(&from.at, from.offset, end, at_most, &mut { READ_BYTES })
        };
        self.inner.chaos.ask(SYSTEM, || format!("scan {} from {}", from.at, from.offset), answer).await
    }
}

impl State {
    fn topic(&self, topic: &str) -> Result<&Vec<Partition>, PortError> {
        self.topics.get(topic).ok_or_else(|| PortError::refused(SYSTEM, format!("there is no topic {topic}")))
    }

    fn partition(&self, at: &TopicPartition) -> Result<&Partition, PortError> {
        let index = usize::try_from(at.partition).unwrap_or(usize::MAX);
        let unknown = || PortError::refused(SYSTEM, format!("there is no partition {at}"));
        self.topic(&at.topic)?.get(index).ok_or_else(unknown)
    }

    fn partition_mut(&mut self, at: &TopicPartition) -> Result<&mut Partition, PortError> {
        self.partition(at)?;
        let index = usize::try_from(at.partition).unwrap_or(usize::MAX);
        let unknown = || PortError::refused(SYSTEM, format!("there is no partition {at}"));
        self.topics.get_mut(&at.topic).and_then(|topic| topic.get_mut(index)).ok_or_else(unknown)
    }

    /// The first offset and the end of a partition.
    pub(super) fn ends(&self, at: &TopicPartition) -> Option<(i64, i64)> {
        self.partition(at).ok().map(|partition| (partition.first, partition.end()))
    }

    /// Records from an offset on and below `end`, while they fit into `budget` bytes; one at least.
    pub(super) fn read(
        &self,
        at: &TopicPartition,
        from: i64,
        end: i64,
        at_most: usize,
        budget: &mut usize,
    ) -> Result<Vec<Record>, PortError> {
        let partition = self.partition(at)?;
        if from < partition.first && from < end {
            return Err(PortError::Truncated { at: at.clone(), wanted: from, first: partition.first });
        }
        let mut found = Vec::new();
        for record in partition.records[partition.index(from)..].iter().take(at_most) {
            if record.offset >= end || *budget == 0 {
                break;
            }
            *budget = budget.saturating_sub(record.weight());
            found.push(record.clone());
        }
        Ok(found)
    }

    /// Does something with a group, and ends its rebalance if that is possible now.
    pub(super) fn with_group<T>(&mut self, group: &str, act: impl FnOnce(&mut Group, Instant) -> T) -> (T, bool) {
        let now = Instant::now();
        let partitions: Partitions = self.topics.iter().map(|(topic, p)| (topic.clone(), p.len())).collect();
        let group = self.groups.entry(group.to_owned()).or_default();
        let result = act(group, now + self.patience);
        let settled = group.settle(now, &partitions);
        (result, settled)
    }
}

impl Partition {
    fn end(&self) -> i64 {
        self.first + i64::try_from(self.records.len()).unwrap_or(i64::MAX)
    }

    fn index(&self, offset: i64) -> usize {
        usize::try_from(offset - self.first).unwrap_or(0).min(self.records.len())
    }

    fn push(&mut self, record: Outgoing, now: Timestamp) {
        self.appended_at = self.appended_at.max(now);
        let Outgoing { to, key, value, headers } = record;
        let offset = self.end();
        self.records.push(Record { at: to, offset, appended_at: self.appended_at, key, value, headers });
    }
}
