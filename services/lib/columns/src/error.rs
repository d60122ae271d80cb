//! What can be wrong with a file of the archive.

use arrow::error::ArrowError;
use parquet::errors::ParquetError;

/// A file that cannot be written or read. Says what was expected.
#[derive(Debug, thiserror::Error)]
pub enum ColumnsError {
    /// The bytes are not a Parquet file, or a damaged one.
    #[error("expected a Parquet file: {0}")]
    NotParquet(String),
    /// The footer lacks a key of ours or has a wrong value for it.
    #[error("footer key {key}: expected {expected}, got {found}")]
    Footer {
        /// The key.
        key: &'static str,
        /// What its value should be.
        expected: &'static str,
        /// What was found, shortened.
        found: String,
    },
    /// A column is missing or of another type.
    #[error("column {column}: expected {expected}, got {found}")]
    Column {
        /// The column.
        column: String,
        /// The type it should have.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A value that no writer of ours can have written.
    #[error("column {column}: expected {expected}, got {found}")]
    Value {
        /// The column.
        column: &'static str,
        /// What the value should be.
        expected: &'static str,
        /// What was found, shortened.
        found: String,
    },
    /// The Parquet library could not encode the rows.
    #[error("the rows cannot be encoded: {0}")]
    Encode(String),
}

impl ColumnsError {
    pub(crate) fn damaged(error: &ParquetError) -> Self {
        Self::NotParquet(error.to_string())
    }

    pub(crate) fn value(column: &'static str, expected: &'static str, found: impl ToString) -> Self {
        Self::Value { column, expected, found: shortened(&found.to_string()) }
    }
}

impl From<ParquetError> for ColumnsError {
    fn from(error: ParquetError) -> Self {
        Self::Encode(error.to_string())
    }
}

impl From<ArrowError> for ColumnsError {
    fn from(error: ArrowError) -> Self {
        Self::Encode(error.to_string())
    }
}

pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}
