//! The audit: are all trades that the exchange issued in the log, the tables and the archive, each
//! once and the same everywhere?
//!
//! In flow order: [`snapshot`] fixes how far each partition is to be compared, [`log`], [`archive`]
//! and [`tables`] [`tally`] what each store holds per symbol and hour, [`compare`] draws up the
//! [`report`].
//!
//! The audit may run while trades flow: it compares the log up to where both the tables and the
//! archive say they have come, and calls the rest pending.

pub mod archive;
pub mod compare;
pub mod log;
pub mod report;
pub mod run;
pub mod snapshot;
pub mod tables;
pub mod tally;

use std::time::Duration;

use ports::{PortError, persist_for};

pub use report::{Finding, HourReport, Report};
pub use run::{AuditPorts, audit};
pub use snapshot::{Lag, Topics, lag};

/// Why the audit could not be done.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A store cannot be read.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A file of the archive cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: String,
        /// What was expected.
        source: columns::ColumnsError,
    },
}

/// How long a server may stay silent before an audit gives up: whoever waits for a verdict wants one.
const PATIENCE: Duration = Duration::from_secs(30);

async fn insist<T, Call, Answer>(what: &'static str, call: Call) -> Result<T, PortError>
where
    Call: FnMut() -> Answer,
    Answer: Future<Output = Result<T, PortError>>,
{
    persist_for(PATIENCE, what, call).await
}
