//! What can be set about the processor.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The settings of the processor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessorConfig {
    /// How many bytes of trades go to the store at once, some 220 a trade by Cassandra's count. It warns above
    /// `batch_size_warn_threshold`, 5 KiB unless configured, and refuses above `batch_size_fail_threshold`, 50 KiB.
    pub write_bytes: usize,
    /// How many such writes are on their way at the same time.
    pub writes_in_flight: usize,
    /// How often a checkpoint is saved, in milliseconds: what a crash makes us do again.
    pub checkpoint_ms: u64,
    /// A trade this much older than its symbol's newest is counted as late, in milliseconds.
    pub watermark_ms: u64,
    /// How long a revoked partition may take to be stored before it is let go, in milliseconds.
    pub revoke_ms: u64,
}

impl Default for ProcessorConfig {
    fn default() -> Self {
        Self {
            write_bytes: 22 << 10,
            writes_in_flight: 32,
            checkpoint_ms: 1_000,
            watermark_ms: 600_000,
            revoke_ms: 10_000,
        }
    }
}

impl ProcessorConfig {
    pub(crate) fn checkpoint_interval(&self) -> Duration {
        Duration::from_millis(self.checkpoint_ms)
    }

    pub(crate) fn watermark(&self) -> Duration {
        Duration::from_millis(self.watermark_ms)
    }

    pub(crate) fn revoke_patience(&self) -> Duration {
        Duration::from_millis(self.revoke_ms)
    }
}
