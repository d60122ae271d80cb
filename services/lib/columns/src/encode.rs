//! Records into a file, incrementally: columns first, then compressed pages, then row groups, so
//! that what is held in memory is close to the file's own length.

use bytes::Bytes;
use domain::Record;

use crate::error::ColumnsError;
use crate::footer::{Footer, Span};

pub use crate::raw::RawEncoder;
pub use crate::trades::TradeEncoder;

/// Rows that are gathered before they are encoded.
pub(crate) const BATCH_ROWS: usize = 2 * 1024;

/// Bytes that are gathered before they are encoded.
pub(crate) const BATCH_BYTES: usize = 1024 * 1024;

/// One file in the making.
pub trait PartEncoder: Send {
    /// Adds a record of the log, or counts it as skipped if the dataset has no row for it.
    ///
    /// # Errors
    /// If the columns cannot be encoded; the encoder is then of no more use.
    fn push(&mut self, record: &Record) -> Result<(), ColumnsError>;

    /// Rows so far.
    fn rows(&self) -> u64;

    /// Records so far that have no row.
    fn skipped(&self) -> u64;

    /// The length the file would have now, estimated.
    fn encoded_bytes(&self) -> usize;

    /// What is held in memory: rows not encoded yet, and encoded pages.
    fn memory_bytes(&self) -> usize;

    /// The file, and the footer it ends with.
    ///
    /// # Errors
    /// If the columns cannot be encoded.
    fn finish(self: Box<Self>, span: Span) -> Result<(Footer, Bytes), ColumnsError>;
}
