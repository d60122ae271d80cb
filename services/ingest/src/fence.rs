//! What a predecessor has appended may be hidden: Kafka shows no record before all replicas have it. Whoever fetches
//! it again then has it twice.
//!
//! An append of ours that is acknowledged stands behind all that a dead predecessor has appended to the partition, and
//! with it all of that can be seen. So what is missing is not fetched before. Live trades need not wait: they came
//! after the predecessor had ended. Where none come, time must do, and another look.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// In which partitions all is known that others have appended.
#[derive(Debug)]
pub struct Fence {
    behind_us: BTreeSet<i32>,
    look_at: Option<Instant>,
    is_looking: bool,
}

impl Fence {
    /// A fence in a log that may hide records for so long.
    pub fn new(hidden_for: Duration) -> Self {
        let look_at = (!hidden_for.is_zero()).then(|| Instant::now() + hidden_for);
        Self { behind_us: BTreeSet::new(), look_at, is_looking: false }
    }

    /// Whether nothing of others can be hidden in a partition.
    pub fn is_behind(&self, partition: i32) -> bool {
        self.look_at.is_none() || self.behind_us.contains(&partition)
    }

    /// An append of ours to a partition was acknowledged, and what stands before it has been read.
    pub fn appended(&mut self, partition: i32) {
        self.behind_us.insert(partition);
    }

    /// Whether it is time to look at all partitions.
    pub fn is_due(&self) -> bool {
        !self.is_looking && self.look_at.is_some_and(|at| at <= Instant::now())
    }

    /// All partitions are being looked at, since it is time.
    pub fn looking(&mut self) {
        self.is_looking = true;
    }

    /// What was on its way to or from the log has been dealt with; a look, if there was one, is done.
    pub fn settled(&mut self) {
        if self.is_looking {
            self.look_at = None;
        }
    }
}
