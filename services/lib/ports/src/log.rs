//! The log: partitioned, append-only, the truth from which everything else is derived.
//!
//! ```text
//!  offsets of one partition
//!        first                   committed   next           end
//!  ┄┄┄┄┄┄┄▼───────────────────────▼───────────▼──────────────▼┄┄┄┄┄┄
//!  deleted│ done                  │ redone    │ not read yet │ not written yet
//!  ┄┄┄┄┄┄┄└───────────────────────┴───────────┴──────────────┘┄┄┄┄┄┄
//!  After a crash a reader starts again at the position that its sink holds, never at the group's:
//!  the group's commit is a hint for lag monitors.
//! ```

use async_trait::async_trait;
use domain::{Outgoing, Position, Record, TopicPartition};
use tokio::sync::oneshot;

use crate::PortError;

/// Appends records.
#[async_trait]
pub trait LogWriter: Send + Sync {
    /// Appends all records and returns where they stand, once every in-sync replica has them.
    ///
    /// Records of one partition MUST be appended in the order given, also over several calls if each
    /// is awaited before the next. They MUST NOT be appended twice by one successful call.
    ///
    /// # Errors
    /// [`PortError::Unknown`] if any record may have been appended: any subset may then be in the
    /// log, now or soon. The writer stays usable. [`PortError::Refused`] for an unknown topic or
    /// partition or a record over the size limit.
    async fn append(&self, records: Vec<Outgoing>) -> Result<Vec<Position>, PortError>;
}

/// Reads as a member of a group: partitions are given and taken away.
#[async_trait]
pub trait LogReader: Send + Sync {
    /// The next event. Cancel-safe: an event that was not returned is not lost.
    ///
    /// Records of one partition MUST come in order of offset, starting where [`Assignment::start`]
    /// said, none left out that the log has. Records of a partition MUST NOT come before its
    /// assignment is answered or after its revocation was returned. Not calling `next` stops the
    /// flow; what the adapter holds meanwhile is bounded.
    ///
    /// # Errors
    /// [`PortError::Truncated`] if the log no longer has the records at the position asked for.
    /// Otherwise only what the adapter cannot mend by itself.
    async fn next(&mut self) -> Result<LogEvent, PortError>;

    /// Tells the group how far this reader has come: positions to be read next. A hint: losing it
    /// loses nothing.
    ///
    /// # Errors
    /// [`PortError::Unavailable`]; there is nothing to be done about it.
    async fn commit(&mut self, next: &[Position]) -> Result<(), PortError>;

    /// Goes on at another position of an assigned partition, backward or forward. The next record
    /// of the partition that [`next`](Self::next) returns is the first at or behind it.
    ///
    /// # Errors
    /// [`PortError::Refused`] if the partition is not assigned.
    async fn seek(&mut self, to: &Position) -> Result<(), PortError>;
}

/// What a group member is told.
#[derive(Debug)]
pub enum LogEvent {
    /// Partitions are given to this member, which has to say where to start.
    Assigned(Assignment),
    /// Records, of any assigned partitions.
    Records(Vec<Record>),
    /// Partitions are taken away. Another member gets them when this one says it is done, or when
    /// the log's patience is over.
    Revoked(Revocation),
}

/// Where to start reading a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first record the log has.
    Earliest(TopicPartition),
    /// At an offset; it may be the log's end.
    At(Position),
}

/// Partitions given to a group member.
#[derive(Debug)]
pub struct Assignment {
    partitions: Vec<TopicPartition>,
    answer: oneshot::Sender<Vec<Start>>,
}

impl Assignment {
    /// For adapters: an assignment, and where its answer will arrive.
    pub fn new(partitions: Vec<TopicPartition>) -> (Self, oneshot::Receiver<Vec<Start>>) {
        let (answer, answered) = oneshot::channel();
        (Self { partitions, answer }, answered)
    }

    /// Which partitions.
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// Starts reading: one place for each partition.
    pub fn start(self, places: Vec<Start>) {
        // A reader that is gone needs no answer.
        let _ = self.answer.send(places);
    }
}

/// Partitions taken away from a group member.
#[derive(Debug)]
pub struct Revocation {
    partitions: Vec<TopicPartition>,
    answer: oneshot::Sender<()>,
}

impl Revocation {
    /// For adapters: a revocation, and where its acknowledgement will arrive.
    pub fn new(partitions: Vec<TopicPartition>) -> (Self, oneshot::Receiver<()>) {
        let (answer, answered) = oneshot::channel();
        (Self { partitions, answer }, answered)
    }

    /// Which partitions.
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// Lets go: everything about these partitions is stored.
    pub fn done(self) {
        let _ = self.answer.send(());
    }
}

/// What a partition holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Which partition.
    pub at: TopicPartition,
    /// The first offset there is; above 0 once retention has deleted records.
    pub first: i64,
    /// The offset that the next record will get.
    pub end: i64,
}

/// Reads without a group: to rebuild state, to look whether an append happened, to audit.
#[async_trait]
pub trait LogScan: Send + Sync {
    /// What each partition of a topic holds, in order of partition.
    ///
    /// # Errors
    /// [`PortError::Refused`] for an unknown topic.
    async fn bounds(&self, topic: &str) -> Result<Vec<Bounds>, PortError>;

    /// Records of one partition in order, from the first at or behind `from.offset`, all below
    /// `end`; about a megabyte at a time. Empty only if there are none left in that range.
    ///
    /// # Errors
    /// [`PortError::Truncated`] if retention has deleted the record at `from`.
    async fn read(&self, from: &Position, end: i64) -> Result<Vec<Record>, PortError>;
}
