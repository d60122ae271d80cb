//! The log as an SQLite file.

mod reader;
mod scan;
mod store;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use domain::{Outgoing, Position, Topic, TopicPartition};
use ports::{Bounds, Clock, LogScan, LogWriter, PortError};
use tokio::sync::Notify;

use crate::database::{Database, Readers};
use crate::queue::Queue;
use store::{Job, LogStore};

pub use reader::LocalReader;
pub use scan::LocalScan;

const SYSTEM: &str = "log file";
const FILE: &str = "log.sqlite";
/// The largest record: what Kafka's brokers take by default.
const MAX_RECORD_BYTES: usize = 1 << 20;
/// How many bytes one read returns, about.
const READ_BYTES: usize = 1 << 20;

/// The log of the embedded mode. Cloning gives another handle to the same one; when the last is
/// dropped, what was handed over is written.
#[derive(Clone)]
pub struct LocalLog {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Queue<LogStore>,
    scan: LocalScan,
    shared: Arc<Shared>,
}

/// What the writing thread and the readers both know.
struct Shared {
    topics: Vec<TopicEnds>,
    /// Something was appended.
    appended: Notify,
    /// Which topics are read on behalf of which groups.
    members: Mutex<BTreeSet<(String, Topic)>>,
}

struct TopicEnds {
    name: Topic,
    id: i64,
    /// The end of each partition, as far as it is durable.
    ends: Vec<AtomicI64>,
}

impl LocalLog {
    /// Opens the log in a data folder, and adds topics that it lacks.
    ///
    /// # Errors
    /// Refused if the file is damaged, or a topic has another number of partitions.
    pub fn open(folder: impl AsRef<Path>, topics: &[(Topic, i32)], clock: Arc<dyn Clock>) -> Result<Self, PortError> {
        let database = Database::new(SYSTEM, folder.as_ref().join(FILE));
        let connection = database.open(store::SCHEMA)?;
        let shared = Arc::new(store::prepare(&database, &connection, topics)?);
        let readers = Readers::open(database.clone())?;
        let store = LogStore::new(&connection, shared.clone(), clock).map_err(|error| database.error(&error))?;
        let queue = Queue::start(database, connection, store)?;
        Ok(Self { inner: Arc::new(Inner { queue, scan: LocalScan::new(readers), shared }) })
    }

    /// The log in a data folder, to be read only; another process may be writing it.
    ///
    /// # Errors
    /// Refused if there is none, or it is damaged.
    pub fn open_read_only(folder: impl AsRef<Path>) -> Result<LocalScan, PortError> {
        let database = Database::new(SYSTEM, folder.as_ref().join(FILE));
        Ok(LocalScan::new(Readers::open(database)?))
    }

    /// The only member of a group: it gets all partitions of its topics. Dropping it leaves the
    /// group.
    ///
    /// # Errors
    /// Refused for an unknown topic, or one that a member of the group reads already.
    pub fn reader(&self, group: &str, topics: &[Topic]) -> Result<LocalReader, PortError> {
        LocalReader::join(self.inner.clone(), group, topics)
    }

    fn check(&self, record: &Outgoing) -> Result<(), PortError> {
        self.inner.shared.find(&record.to)?;
        let size =
            record.key.as_ref().map_or(0, |key| key.len()) + record.value.as_ref().map_or(0, |value| value.len());
        if size > MAX_RECORD_BYTES {
            let reason = format!("a record of {size} bytes for {}, expected {MAX_RECORD_BYTES} at most", record.to);
            return Err(PortError::refused(SYSTEM, reason));
        }
        Ok(())
    }
}

#[async_trait]
impl LogWriter for LocalLog {
    async fn append(&self, records: Vec<Outgoing>) -> Result<Vec<Position>, PortError> {
        records.iter().try_for_each(|record| self.check(record))?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        self.inner.queue.ask(Job::Append(records)).await
    }
}

#[async_trait]
impl LogScan for LocalLog {
    async fn bounds(&self, topic: &str) -> Result<Vec<Bounds>, PortError> {
        self.inner.scan.bounds(topic).await
    }

    async fn read(&self, from: &Position, end: i64) -> Result<Vec<domain::Record>, PortError> {
        self.inner.scan.read(from, end).await
    }
}

impl Shared {
    /// The indexes of topic and partition.
    fn find(&self, at: &TopicPartition) -> Result<(usize, usize), PortError> {
        let topic = self.topic(&at.topic)?;
        match usize::try_from(at.partition) {
            Ok(partition) if partition < self.topics[topic].ends.len() => Ok((topic, partition)),
            _ => Err(PortError::refused(SYSTEM, format!("there is no partition {at}"))),
        }
    }

    fn topic(&self, name: &str) -> Result<usize, PortError> {
        let found = self.topics.iter().position(|topic| topic.name == name);
        found.ok_or_else(|| PortError::refused(SYSTEM, format!("there is no topic {name}")))
    }

    fn end(&self, topic: usize, partition: usize) -> i64 {
        self.topics[topic].ends[partition].load(Ordering::Acquire)
    }
}
