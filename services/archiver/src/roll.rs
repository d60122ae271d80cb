//! When a file is full or old enough: pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::ArchiverConfig;

/// What ended a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It has the length that files should have.
    Size,
    /// It has the records that files should have.
    Rows,
    /// The next record was appended on another day.
    Date,
    /// Its first record has waited long enough.
    Age,
    /// No record came for a while.
    Idle,
    /// All open files together take too much memory, and this one most.
    Memory,
    /// The partition goes to another reader.
    Revoked,
    /// The archiver stops.
    Stopped,
}

impl Reason {
    /// Its name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Rows => "rows",
            Self::Date => "date",
            Self::Age => "age",
            Self::Idle => "idle",
            Self::Memory => "memory",
            Self::Revoked => "revoked",
            Self::Stopped => "stopped",
        }
    }
}

/// An open file, as far as rolling is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Filling {
    /// The length it would have now.
    pub bytes: usize,
    /// The records it covers.
    pub records: u64,
    /// When its first record was added.
    pub opened_at: Instant,
    /// When its last record was added.
    pub pushed_at: Instant,
}

/// The limits of a file.
#[derive(Clone, Copy, Debug)]
pub struct RollPolicy {
    bytes: usize,
    records: u64,
    max_age: Duration,
    idle: Duration,
}

impl RollPolicy {
    /// The limits that are set.
    pub fn new(config: &ArchiverConfig) -> Self {
        Self { bytes: config.roll_bytes, records: config.roll_rows, max_age: config.max_age(), idle: config.idle() }
    }

    /// Whether the file is full.
    pub fn full(&self, file: &Filling) -> Option<Reason> {
        if file.bytes >= self.bytes {
            Some(Reason::Size)
        } else {
            (file.records >= self.records).then_some(Reason::Rows)
        }
    }

    /// Whether the file's time has come.
    pub fn due(&self, file: &Filling, now: Instant) -> Option<Reason> {
        if now >= file.opened_at + self.max_age {
            Some(Reason::Age)
        } else {
            (now >= file.pushed_at + self.idle).then_some(Reason::Idle)
        }
    }

    /// When the file's time comes, if no record does.
    pub fn deadline(&self, file: &Filling) -> Instant {
        (file.opened_at + self.max_age).min(file.pushed_at + self.idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn policy() -> RollPolicy {
        RollPolicy { bytes: 1_000, records: 10, max_age: 60 * SECOND, idle: 10 * SECOND }
    }

    fn filling(bytes: usize, records: u64, opened_at: Instant) -> Filling {
        Filling { bytes, records, opened_at, pushed_at: opened_at }
    }

    #[test]
    fn the_first_limit_reached_ends_a_file() {
        let now = Instant::now();
        assert_eq!(policy().full(&filling(999, 9, now)), None);
        assert_eq!(policy().full(&filling(1_000, 9, now)), Some(Reason::Size));
        assert_eq!(policy().full(&filling(999, 10, now)), Some(Reason::Rows));
    }

    #[test]
    fn a_file_is_due_at_its_deadline_and_not_before() {
        let opened = Instant::now();
        let idle = filling(1, 1, opened);
        let busy = Filling { pushed_at: opened + 55 * SECOND, ..idle };
        for (file, deadline, reason) in [(idle, 10, Reason::Idle), (busy, 60, Reason::Age)] {
            let deadline = opened + deadline * SECOND;
            assert_eq!(policy().deadline(&file), deadline);
            assert_eq!(policy().due(&file, deadline - SECOND / 1_000), None);
            assert_eq!(policy().due(&file, deadline), Some(reason));
        }
    }
}
