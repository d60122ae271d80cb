//! Ingest: from the exchange's frames to the log, every trade once, every gap on record.
//!
//! In flow order: [`decode`] tells what a frame is, [`sequence`] asks the ledger whether its trade is
//! new and [`recent`] whether a known one is the same as before, [`backfill`] fetches what the stream skipped, not before [`fence`] allows it, [`publish`] appends to the log, and
//! [`run`](mod@run) is the loop around them. [`rebuild`] makes the ledger from the log itself at start. [`lake`] is the archive as a source.
//!
//! The exchange is the spool: what could not be handed over in time is a gap like any other, and is
//! fetched again.

pub mod backfill;
pub mod config;
pub mod decode;
pub mod fence;
pub mod lake;
pub mod metrics;
pub mod publish;
pub mod rebuild;
pub mod recent;
pub mod run;
pub mod sequence;

pub use config::IngestConfig;
pub use lake::LakeFeed;
pub use run::{IngestPorts, Summary, run};

/// Why ingest ended.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The log or the feed cannot go on.
    #[error(transparent)]
    Port(#[from] ports::PortError),
    /// Symbols that neither the exchange nor the tape has; all of them.
    #[error("the exchange does not know {}: expected symbols it lists, for example BTCUSDT", names(.0))]
    UnknownSymbols(Vec<domain::Symbol>),
}

fn names(symbols: &[domain::Symbol]) -> String {
    symbols.iter().map(domain::Symbol::as_str).collect::<Vec<_>>().join(", ")
}
