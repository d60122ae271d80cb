//! The processor: from the log to the tables.
//!
//! In flow order: [`decode`] reads a record, [`completeness`] accounts for it ([`recall`] reads back
//! what it has forgotten), [`store`] writes its row, [`dead_letter`] keeps what could not be read,
//! [`checkpoint`] says how far everything is stored, and [`run`](mod@run) is the loop around them.
//!
//! In this order, always: rows stored and acknowledged, dead letters in the log and acknowledged,
//! then the checkpoint. After a crash everything since the checkpoint is done again and lands on
//! itself.

pub mod checkpoint;
pub mod completeness;
pub mod config;
pub mod dead_letter;
pub mod decode;
pub mod metrics;
pub mod recall;
pub mod run;
pub mod store;

pub use config::ProcessorConfig;
pub use run::{ProcessorPorts, run};

/// The name of the role in checkpoints, and of its consumer group.
pub const ROLE: &str = "processor";

/// Why the processor ended.
#[derive(Debug, thiserror::Error)]
pub enum ProcessorError {
    /// The log or the tables cannot go on.
    #[error(transparent)]
    Port(#[from] ports::PortError),
    /// A checkpoint that this version cannot read.
    #[error("checkpoint of {at}: {reason}")]
    Checkpoint {
        /// Whose.
        at: domain::TopicPartition,
        /// What was expected.
        reason: String,
    },
}
