//! The log's records and positions.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::headers::Headers;
use crate::time::Timestamp;
use crate::topics::Topic;

/// The longest reason that a dead letter gives, in bytes.
const REASON_BYTES: usize = 1_024;

/// The longest value that a dead letter keeps, in bytes: with its headers it must fit the log again.
pub const DEAD_VALUE_BYTES: usize = 512 * 1_024;

/// A reason of bounded length.
pub fn bounded_reason(mut reason: String) -> String {
    if reason.len() > REASON_BYTES {
        reason.truncate(reason.floor_char_boundary(REASON_BYTES));
        reason.push('…');
    }
    reason
}

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Topic,
    /// The partition, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: impl Into<Topic>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// A place in the log: the offset of a record, or the next offset to be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Which partition.
    pub at: TopicPartition,
    /// Which offset in it.
    pub offset: i64,
}

/// A record to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub to: TopicPartition,
    /// The key; `None` is not the empty key.
    pub key: Option<Bytes>,
    /// The value; `None` is not the empty value.
    pub value: Option<Bytes>,
    /// The headers, in order.
    pub headers: Headers,
}

/// A record as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub at: TopicPartition,
    /// Its offset in the partition.
    pub offset: i64,
    /// When the log appended it.
    pub appended_at: Timestamp,
    /// The key.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Option<Bytes>,
    /// The headers, in order.
    pub headers: Headers,
}

impl Record {
    /// The position of this record.
    pub fn position(&self) -> Position {
        Position { at: self.at.clone(), offset: self.offset }
    }

    /// What it weighs in a buffer that is bounded in bytes.
    pub fn weight(&self) -> usize {
        let payload = self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len);
        std::mem::size_of::<Self>() + payload + self.headers.as_bytes().len()
    }
}

/// Header of source records: how the record reached us, see [`Origin`].
pub const ORIGIN: &str = "origin";
/// Header of source records: when ingest had it, in microseconds since the Unix epoch.
pub const RECEIVED_AT: &str = "received_at";
/// Header of source records: the source's name, for example `binance` or a file's name.
pub const SOURCE: &str = "source";
/// Header of dead letters: why the input could not be used.
pub const REASON: &str = "reason";
/// Header of dead letters: the topic they were read from.
pub const DEAD_TOPIC: &str = "topic";
/// Header of dead letters: the partition they were read from.
pub const DEAD_PARTITION: &str = "partition";
/// Header of dead letters: the offset they were read at.
pub const DEAD_OFFSET: &str = "offset";

/// How a trade reached the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// From the exchange's stream.
    Live,
    /// From the exchange's REST interface, to fill a gap.
    Backfill,
    /// From a recording.
    Replay,
}

impl Origin {
    /// Its name in headers, tables and files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Backfill => "backfill",
            Self::Replay => "replay",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an origin: expected live, backfill or replay")]
pub struct OriginError(String);

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        match text {
            "live" => Ok(Self::Live),
            "backfill" => Ok(Self::Backfill),
            "replay" => Ok(Self::Replay),
            other => Err(OriginError(other.chars().take(40).collect())),
        }
    }
}
