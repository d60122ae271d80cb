//! Where trades come from: a stream that may lose some, and a history that may have them.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{Origin, Symbol, Timestamp};

/// A stream of frames, live or recorded.
///
/// A live feed keeps itself connected: it reconnects with back-off, rotates before the exchange cuts,
/// and answers pings. What it loses meanwhile is not its concern: the ledger notices.
#[async_trait]
pub trait Feed: Send {
    /// The next thing that happened. Cancel-safe.
    ///
    /// # Errors
    /// Only if the feed cannot go on at all, for example because a recording cannot be read.
    async fn next(&mut self) -> Result<FeedEvent, crate::PortError>;
}

/// What a feed reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedEvent {
    /// A frame, exactly as it came.
    Frame {
        /// Its bytes.
        bytes: Bytes,
        /// When we had it; for a recording, when the recorder had it.
        received_at: Timestamp,
        /// Live or replay.
        origin: Origin,
        /// The source's name, for example `binance` or a recording's file name.
        source: Bytes,
        /// Where in the source it stands, if that can be looked up: a recording's line, an offset.
        place: Option<u64>,
    },
    /// Input that is no frame: a damaged line, a binary message. Kept as a dead letter.
    Damaged {
        /// What there was, possibly cut to a bound.
        bytes: Bytes,
        /// When we had it.
        received_at: Timestamp,
        /// The source's name.
        source: Bytes,
        /// Where it stood and what was expected.
        reason: String,
    },
    /// The recording is at its end. Every later call gives this again.
    End,
}

/// The exchange's own memory of past trades.
#[async_trait]
pub trait History: Send + Sync {
    /// Trades of `symbol` from `from_id` on, in order, at most `limit` and at most what the exchange
    /// gives at once, each as an event in the stream's shape. Fewer, or none, means that the
    /// history does not have more for now; the first may have an id above `from_id`.
    ///
    /// Waits until the exchange's limits allow the call.
    ///
    /// # Errors
    /// See [`HistoryError`]. Asking again is always harmless.
    async fn trades(&self, symbol: &Symbol, from_id: u64, limit: usize) -> Result<Vec<Bytes>, HistoryError>;
}

/// Why the history gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// It has no memory of this symbol, or of ids at all: a gap cannot be filled.
    #[error("unfillable: {0}")]
    Unfillable(String),
    /// The exchange asks us to wait.
    #[error("limited by the exchange for {wait:?}: {reason}")]
    Limited {
        /// For how long.
        wait: Duration,
        /// What it said.
        reason: String,
    },
    /// No usable answer; ask again later.
    #[error("history is not available: {0}")]
    Unavailable(String),
}
