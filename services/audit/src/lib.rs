//! The audit: are all trades that the exchange issued in the log, the tables and the archive, each
//! once and the same everywhere?
//!
//! In flow order: [`snapshot`] fixes how far each partition is to be compared, [`plan`] lays out the
//! archive's files, [`file`](mod@file) compares each with the log, [`hour`] the tables with the log,
//! [`compare`] draws up the [`report`], [`proofs`] remembers what need not be read again, and
//! [`repair`] mends what was found.
//!
//! The audit may run while trades flow: it compares the log up to where both the tables and the
//! archive say they have come, and calls the rest pending.

pub mod chain;
pub mod compare;
pub mod file;
pub mod hour;
pub mod log;
pub mod plan;
pub mod proofs;
pub mod repair;
pub mod report;
pub mod run;
pub mod scope;
pub mod snapshot;
pub mod tables;
pub mod tally;

use std::time::Duration;

use ports::{PortError, persist_for};

pub use repair::{Mended, repair};
pub use report::{Finding, HourReport, Report, Verdict};
pub use run::{AuditPorts, Progress, Told, audit};
pub use scope::{Scope, Topics};
pub use snapshot::{Lag, lag, settled};

/// Why the audit could not be done.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A store cannot be read.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Records of the log that no file of the archive can hold.
    #[error("the log's records do not fit the archive: {0}")]
    Columns(#[from] columns::ColumnsError),
    /// Tables or archive are still behind what the log had when somebody began to wait.
    #[error("after {seconds} s, {behind} records are still not stored and archived")]
    Unsettled {
        /// For how long they were waited for.
        seconds: u64,
        /// How many there are.
        behind: i64,
    },
    /// A part of the audit ended without a result.
    #[error("the audit broke off: {0}")]
    BrokeOff(String),
}

/// How long a server may stay silent before an audit gives up: whoever waits for a verdict wants one.
const PATIENCE: Duration = Duration::from_secs(30);

/// After so many files that cannot be read, and none that can, there is no verdict.
const UNREADABLE: u64 = 3;

async fn insist<T, Call, Answer>(what: &'static str, call: Call) -> Result<T, PortError>
where
    Call: FnMut() -> Answer,
    Answer: Future<Output = Result<T, PortError>>,
{
    persist_for(PATIENCE, what, call).await
}
