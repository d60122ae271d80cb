//! What can go wrong at a port, and what to do about it: the only place where that is decided.

use domain::TopicPartition;

/// An error of an outside system.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The operation did not happen; the same call may be made again.
    #[error("{system} is not available: {reason}")]
    Unavailable {
        /// The outside system.
        system: &'static str,
        /// What it or its client said.
        reason: String,
    },
    /// The operation may or may not have happened: look before doing anything else.
    #[error("{system} gave no answer, the operation may have happened: {reason}")]
    Unknown {
        /// The outside system.
        system: &'static str,
        /// What it or its client said.
        reason: String,
    },
    /// The outside system refuses; asking again would not help.
    #[error("{system} refused: {reason}")]
    Refused {
        /// The outside system.
        system: &'static str,
        /// What it or its client said.
        reason: String,
    },
    /// The log no longer has an offset that was asked for: records were deleted unread.
    #[error("the log begins at offset {first} of {at}, but {wanted} was asked for: records were deleted unread")]
    Truncated {
        /// Which partition.
        at: TopicPartition,
        /// The offset asked for.
        wanted: i64,
        /// The first offset there is.
        first: i64,
    },
}

impl PortError {
    /// Whether the same call may be made again, given that it is idempotent.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Unknown { .. })
    }

    /// An [`PortError::Unavailable`].
    pub fn unavailable(system: &'static str, reason: impl ToString) -> Self {
        Self::Unavailable { system, reason: reason.to_string() }
    }

    /// An [`PortError::Unknown`].
    pub fn unknown(system: &'static str, reason: impl ToString) -> Self {
        Self::Unknown { system, reason: reason.to_string() }
    }

    /// An [`PortError::Refused`].
    pub fn refused(system: &'static str, reason: impl ToString) -> Self {
        Self::Refused { system, reason: reason.to_string() }
    }

    /// A position behind the log's end: acknowledged records are gone, or it is another log.
    pub fn behind_the_end(system: &'static str, at: &TopicPartition, wanted: i64, end: i64) -> Self {
        Self::refused(system, format!("offset {wanted} of {at} was asked for, but the log ends at {end}"))
    }
}
