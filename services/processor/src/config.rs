//! What can be set about the processor.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A checkpoint with rows of many symbols takes long. So much longer is the pause behind it, so that checkpoints never take
/// more than a small share of the time…
const PAUSE_PER_CHECKPOINT: u32 = 20;

/// …but no longer than this: what a crash makes us do again is bounded.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The settings of the processor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessorConfig {
    /// How many bytes of trades go to the store at once, some 220 a trade by Cassandra's count. It warns above
    /// `batch_size_warn_threshold`, 5 KiB unless configured, and refuses above `batch_size_fail_threshold`, 50 KiB.
    pub write_bytes: usize,
    /// How many such writes are on their way at the same time.
    pub writes_in_flight: usize,
    /// So many records at once mean that the log has more. Then trades wait for more of their symbol and hour, up to two
    /// seconds, so that fewer writes store them.
    pub gather_records: usize,
    /// How often a checkpoint is saved, in milliseconds: what a crash makes us do again. While checkpoints take long, for
    /// many symbols or on slow servers, less often, up to every ten seconds.
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
            gather_records: 4_096,
            checkpoint_ms: 2_000,
            watermark_ms: 600_000,
            revoke_ms: 10_000,
        }
    }
}

impl ProcessorConfig {
    pub(crate) fn checkpoint_interval(&self) -> Duration {
        Duration::from_millis(self.checkpoint_ms)
    }

    /// How long to wait behind a checkpoint that took so long.
    pub(crate) fn checkpoint_pause(&self, took: Duration) -> Duration {
        let share = took.saturating_mul(PAUSE_PER_CHECKPOINT).min(LONGEST_PAUSE);
        self.checkpoint_interval().max(share)
    }

    pub(crate) fn watermark(&self) -> Duration {
        Duration::from_millis(self.watermark_ms)
    }

    pub(crate) fn revoke_patience(&self) -> Duration {
        Duration::from_millis(self.revoke_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_that_take_long_come_less_often_up_to_a_bound() {
        let config = ProcessorConfig::default();
        let pauses = [0, 40, 300, 60_000].map(|took| config.checkpoint_pause(Duration::from_millis(took)).as_millis());
        assert_eq!(pauses, [2_000, 2_000, 6_000, 10_000]);
        let seldom = ProcessorConfig { checkpoint_ms: 60_000, ..config };
        assert_eq!(seldom.checkpoint_pause(Duration::from_secs(9)), Duration::from_secs(60));
    }
}
