//! The clock of a simulation.

use domain::Timestamp;
use tokio::time::Instant;

use crate::Clock;

/// Tells tokio's time, which a test pauses and advances, as a time of day.
#[derive(Clone, Copy, Debug)]
pub struct SimClock {
    base: Timestamp,
    started: Instant,
}

impl SimClock {
    /// A clock that shows `base` now.
    pub fn starting_at(base: Timestamp) -> Self {
        Self { base, started: Instant::now() }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.base.plus(self.started.elapsed())
    }
}
