//! The clock: the only way for a service to learn the time of day.
//!
//! Waiting goes through `tokio::time`, which a simulation pauses and advances.

use std::time::{SystemTime, UNIX_EPOCH};

use domain::Timestamp;

/// Tells the time of day.
pub trait Clock: Send + Sync {
    /// Now. May jump in both directions, as clocks do.
    fn now(&self) -> Timestamp;
}

/// The computer's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place that reads it
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
    }
}
