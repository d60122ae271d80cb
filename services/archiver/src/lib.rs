//! From the log to the archive: every record in exactly one file, the files of a partition in one
//! gapless chain.
//!
//! ```text
//!  log ─▶ partition ─▶ chain(trades) ──┐
//!             │    └─▶ chain(raw/…) ───┤ roll: full, old, idle, midnight, revoked, stopped
//!             │                        ▼
//!   recover ──┘ last footer         publish: write _tmp/…, rename without overwrite, look if unsure
//!
//!  one chain   part-3-…000      part-3-…117          part-3-…240
//!             [0        117) → [117          240) → [240 ┄┄ buffered ┄┄ next)
//! ```
//!
//! A file's name holds only its start offset, so a zombie and its successor want the same name and
//! the file system picks one. The loser drops its buffer and goes on where the winner's file ends.
//! [`run()`] is the spine.

pub mod config;
pub mod error;

mod backoff;
mod chain;
#[cfg(test)]
mod fake;
mod footer;
mod metrics;
mod partition;
mod partitions;
mod publish;
mod recover;
mod roll;
mod run;

pub use config::{ArchiverConfig, Topics};
pub use error::ArchiverError;
pub use metrics::TRADES_ARCHIVED;
pub use run::{ArchiverDeps, run};
