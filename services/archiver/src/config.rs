//! What can be set about the archiver.

use std::time::Duration;

use domain::{Topic, topics};
use serde::{Deserialize, Serialize};

/// What the archiver reads.
#[derive(Clone, Debug)]
pub struct Topics {
    /// The topic of trades: its records also become rows of the dataset `trades`. Records of every
    /// other topic that the reader delivers are only kept verbatim, in `raw/<topic>`.
    pub stream: Topic,
}

impl Default for Topics {
    fn default() -> Self {
        Self { stream: Topic::new_static(topics::TRADES) }
    }
}

/// The settings of the archiver. The first limit that is reached ends a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArchiverConfig {
    /// The length of a file, encoded, in bytes.
    pub roll_bytes: usize,
    /// The records of a file.
    pub roll_rows: u64,
    /// How old a record may become before it is archived, in milliseconds.
    pub max_age_ms: u64,
    /// After how long without a new record a file is ended, in milliseconds. Brokers gather records for up to a second
    /// before the archiver has them: less than that ends a file between any two answers.
    pub idle_ms: u64,
    /// The memory of all open files together, in bytes. Beyond it the largest files are ended. A busy
    /// file takes 1 to 3 MiB, and each partition of trades has two: with 64 partitions and 128 MiB, files were
    /// ended so early that a trade cost the archiver a quarter more processor time.
    pub memory_bytes: usize,
    /// The pause after a first failure of the archive, in milliseconds. It doubles with each one.
    pub retry_min_ms: u64,
    /// The longest pause after a failure of the archive, in milliseconds.
    pub retry_max_ms: u64,
    /// How long a revoked partition may take to be archived before it is let go, in milliseconds;
    /// its next owner then does it again.
    pub revoke_ms: u64,
    /// How long a stopping archiver may take to archive what it holds, in milliseconds; its
    /// successor does the rest again.
    pub drain_ms: u64,
}

impl Default for ArchiverConfig {
    fn default() -> Self {
        Self {
            roll_bytes: 64 << 20,
            roll_rows: 5_000_000,
            max_age_ms: 60_000,
            idle_ms: 10_000,
            memory_bytes: 192 << 20,
            retry_min_ms: 100,
            retry_max_ms: 5_000,
            revoke_ms: 10_000,
            drain_ms: 8_000,
        }
    }
}

impl ArchiverConfig {
    pub(crate) fn max_age(&self) -> Duration {
        Duration::from_millis(self.max_age_ms)
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }

    /// What the open files may still take after the largest were ended. Some at once, as nothing is read meanwhile.
    pub(crate) fn memory_kept(&self) -> usize {
        self.memory_bytes / 8 * 7
    }

    pub(crate) fn retry(&self) -> (Duration, Duration) {
        (Duration::from_millis(self.retry_min_ms), Duration::from_millis(self.retry_max_ms))
    }

    pub(crate) fn revoke_patience(&self) -> Duration {
        Duration::from_millis(self.revoke_ms)
    }

    pub(crate) fn drain_patience(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }
}
