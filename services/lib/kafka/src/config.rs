//! How to reach the brokers, how long to wait for them, and how much to hold.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The settings of everything in this crate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaConfig {
    /// Brokers to ask for the others, `host:port`, separated by commas.
    pub brokers: String,
    /// The name under which brokers log this client.
    pub client_id: String,
    /// How long the producer waits for more records before it sends a batch: those of one append come together.
    pub linger_ms: u64,
    /// How batches are compressed: `none`, `gzip`, `snappy` or `lz4`.
    pub compression: String,
    /// How long an append may take, retries of the client included, before its outcome is unknown.
    pub delivery_timeout_ms: u64,
    /// The largest record, in bytes; at most what the brokers accept (`message.max.bytes`).
    pub max_record_bytes: usize,
    /// How much the producer holds unacknowledged, in KiB. Beyond it appends wait.
    pub producer_buffer_kib: u32,
    /// How long a group member may be silent before its partitions go to others: also how long a killed one keeps
    /// them from its successor. Brokers accept no less than 6 s unless configured.
    pub session_timeout_ms: u64,
    /// How long the group waits for a member in a rebalance; also how long the member may stop polling, and about
    /// how long a member waits for an answer to its application that was lost on the way.
    pub max_poll_interval_ms: u64,
    /// How long a member may take to let go of its partitions. Below `max_poll_interval_ms`, or the
    /// group goes on without waiting for the answer.
    pub revocation_timeout_ms: u64,
    /// How long a broker gathers records for a reader before it answers: how long a record may wait there, and how many
    /// answers a second a quiet log costs.
    pub fetch_wait_ms: u64,
    /// So much makes it answer at once, in bytes. Ingest appends to all brokers at the same moment: an answer that ends with
    /// that comes when the records do, one that ends by the clock lets them wait.
    pub fetch_enough_bytes: u32,
    /// How much a reader fetches ahead, in KiB.
    pub prefetch_kib: u32,
    /// How much a reader holds for the service beyond that, in bytes.
    pub reader_buffer_bytes: usize,
    /// Whether readers verify the checksums of batches.
    pub check_crcs: bool,
    /// How long to wait for answers about topics and offsets.
    pub request_timeout_ms: u64,
    /// How long a scan waits for records that the log says it has.
    pub scan_timeout_ms: u64,
    /// How many partitions a scan reads at once.
    pub scan_consumers: usize,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:19092,127.0.0.1:29092".to_owned(),
            client_id: "fulltape".to_owned(),
            linger_ms: 2,
            compression: "lz4".to_owned(),
            delivery_timeout_ms: 30_000,
            max_record_bytes: 1_000_000,
            producer_buffer_kib: 65_536,
            session_timeout_ms: 6_000,
            max_poll_interval_ms: 25_000,
            revocation_timeout_ms: 20_000,
            fetch_wait_ms: 75,
            fetch_enough_bytes: 3_072,
            prefetch_kib: 4_096,
            reader_buffer_bytes: 8 << 20,
            check_crcs: true,
            request_timeout_ms: 10_000,
            scan_timeout_ms: 30_000,
            scan_consumers: 4,
        }
    }
}

impl KafkaConfig {
    pub(crate) fn delivery_timeout(&self) -> Duration {
        Duration::from_millis(self.delivery_timeout_ms)
    }

    pub(crate) fn revocation_timeout(&self) -> Duration {
        Duration::from_millis(self.revocation_timeout_ms)
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    pub(crate) fn scan_timeout(&self) -> Duration {
        Duration::from_millis(self.scan_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fill_what_is_not_given_and_unknown_keys_are_errors() {
        let config: KafkaConfig = serde_json::from_str(r#"{"linger_ms": 0}"#).unwrap();
        assert_eq!(config, KafkaConfig { linger_ms: 0, ..KafkaConfig::default() });
        let error = serde_json::from_str::<KafkaConfig>(r#"{"lingerms": 0}"#).unwrap_err();
        assert!(error.to_string().contains("lingerms"), "{error}");
    }

    #[test]
    fn the_group_waits_longer_than_a_revocation_may_take() {
        let config = KafkaConfig::default();
        assert!(config.revocation_timeout_ms < config.max_poll_interval_ms);
    }
}
