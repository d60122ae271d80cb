//! What ends the archiver. Errors of the archive are not among them: those are retried.

use columns::ColumnsError;
use ports::PortError;

/// Why the archiver cannot go on. All of these need a person, except a log that only a new
/// connection can mend.
#[derive(Debug, thiserror::Error)]
pub enum ArchiverError {
    /// The log's client gave up.
    #[error("the log cannot be read: {0}")]
    Log(#[from] PortError),
    /// A published file is not what the archiver writes.
    #[error("{path}: damaged or of another writer: {source}")]
    Damaged {
        /// The file.
        path: String,
        /// What was expected of it.
        source: ColumnsError,
    },
    /// A published file contradicts its own name or the log.
    #[error("{path}: expected {expected}, got {found}")]
    Contradiction {
        /// The file.
        path: String,
        /// What it should cover.
        expected: String,
        /// What it says it covers.
        found: String,
    },
    /// Records that cannot be encoded: a defect.
    #[error("records cannot be encoded: {0}")]
    Encode(#[source] ColumnsError),
}
