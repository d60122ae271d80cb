//! The log in Kafka: translates [`ports::LogWriter`], [`ports::LogReader`] and [`ports::LogScan`]
//! to librdkafka.
//!
//! ```text
//!  KafkaWriter ─▶ one idempotent producer, deliveries counted per call   (writer, delivery)
//!  KafkaReader ◀─ inbox, bounded in bytes ◀─ worker: a thread that polls (reader, inbox, worker)
//!  KafkaScan   ◀─ a few positioned consumers, no group                   (scan)
//!  KafkaLease  ◀─ a member of a group for a topic of one partition       (lease)
//! ```

mod admin;
mod client;
mod config;
mod delivery;
mod error;
mod inbox;
mod lease;
mod reader;
mod records;
mod scan;
mod worker;
mod writer;

pub use admin::{TopicSpec, create_topics};
pub use config::KafkaConfig;
pub use lease::{GuardedWriter, KafkaLease, LeaseGuard, LeaseState};
pub use reader::KafkaReader;
pub use scan::KafkaScan;
pub use writer::KafkaWriter;
