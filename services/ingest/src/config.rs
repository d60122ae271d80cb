//! What can be set about ingest.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The settings of ingest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IngestConfig {
    /// How many bytes may wait for the log. Above it the feed is not read: a recording waits, a live
    /// feed drops frames, which become gaps.
    pub pending_bytes: usize,
    /// How long what has come waits for more before it goes to the log, in milliseconds: what a trade may wait, and how
    /// many appends a second a quiet feed costs.
    pub gather_ms: u64,
    /// How long a gap may be filled by late frames before the history is asked, in milliseconds.
    pub gap_grace_ms: u64,
    /// How many symbols may be backfilled at the same time.
    pub backfill_in_flight: usize,
    /// How long to wait for a history that lags behind the stream, before a gap is given up, in
    /// milliseconds.
    pub history_patience_ms: u64,
    /// How long a symbol may be silent before the history is asked for what came after its last trade, in
    /// milliseconds; twice as long each time that it has nothing. Each silent symbol costs a request; 0 is never.
    pub silence_ms: u64,
    /// After how many records of a partition its ledgers are marked in the log: about what a start
    /// has to read.
    pub mark_records: u32,
    /// How long an ended or stopping ingest may take to hand over what it has, in milliseconds.
    pub drain_ms: u64,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            pending_bytes: 8 << 20,
            gather_ms: 20,
            gap_grace_ms: 500,
            backfill_in_flight: 4,
            history_patience_ms: 120_000,
            silence_ms: 300_000,
            mark_records: 100_000,
            drain_ms: 5_000,
        }
    }
}

impl IngestConfig {
    pub(crate) fn gather(&self) -> Duration {
        Duration::from_millis(self.gather_ms)
    }

    pub(crate) fn gap_grace(&self) -> Duration {
        Duration::from_millis(self.gap_grace_ms)
    }

    pub(crate) fn history_patience(&self) -> Duration {
        Duration::from_millis(self.history_patience_ms)
    }

    pub(crate) fn silence(&self) -> Duration {
        Duration::from_millis(self.silence_ms)
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }
}
