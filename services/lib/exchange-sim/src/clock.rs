//! The time of day. A simulated exchange is an outside system, so it has a clock of its own.

use std::time::UNIX_EPOCH;

/// Microseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "the simulator stands for an outside system with its own clock")]
pub(crate) fn now_micros() -> i64 {
    let elapsed = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
}
