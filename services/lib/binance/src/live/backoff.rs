//! When to connect again: random waits that grow, within the exchange's bound on attempts.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::Rng;
use tokio::time::{Instant, sleep};
use tracing::warn;

/// The exchange allows 300 connection attempts per 5 minutes and address.
const MAX_ATTEMPTS: usize = 300;
const ATTEMPTS_WINDOW: Duration = Duration::from_secs(300);

/// A connection that delivered for longer than this was not in vain.
const BRIEF: Duration = Duration::from_secs(1);

/// Capped exponential back-off with full jitter: each wait is random between zero and a bound that
/// doubles, so that clients which lost the exchange together do not come back together. After a
/// connection that delivered for a while the wait is no longer than half of that while: whoever is cut off
/// again and again still spends most of the time connected.
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, failures: 0 }
    }

    /// The wait after one more connection that ended, or never began; it delivered for this long.
    pub(crate) fn next_wait(&mut self, delivered: Duration) -> Duration {
        let mut bound = self.bound();
        if delivered > BRIEF {
            bound = bound.min((delivered / 2).max(self.min));
        } else {
            self.failures = self.failures.saturating_add(1);
        }
        Duration::from_micros(rand::rng().random_range(0..=u64::try_from(bound.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How many connections in a row brought nothing.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Things work again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    fn bound(&self) -> Duration {
        self.min.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(self.max)
    }
}

/// The attempts of all connections of a feed within the exchange's window.
pub(crate) struct Attempts {
    limit: usize,
    window: Duration,
    made: Mutex<VecDeque<Instant>>,
}

impl Attempts {
    pub(crate) fn new() -> Self {
        Self::within(MAX_ATTEMPTS, ATTEMPTS_WINDOW)
    }

    fn within(limit: usize, window: Duration) -> Self {
        Self { limit, window, made: Mutex::new(VecDeque::new()) }
    }

    /// Waits until one more attempt is allowed.
    pub(crate) async fn permit(&self) {
        while let Some(wait) = self.take(Instant::now()) {
            warn!(wait_ms = wait.as_millis(), "too many connection attempts, waiting for the exchange's limit");
            sleep(wait).await;
        }
    }

    /// Counts an attempt at `now`, or says how long to wait for it.
    fn take(&self, now: Instant) -> Option<Duration> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        while made.front().is_some_and(|first| now.duration_since(*first) >= self.window) {
            made.pop_front();
        }
        match made.front() {
            Some(first) if made.len() >= self.limit => Some(self.window - now.duration_since(*first)),
            _ => {
                made.push_back(now);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_cap() {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
        let bounds: Vec<u128> = (0..9)
            .map(|_| {
                let bound = backoff.bound();
                assert!(backoff.next_wait(Duration::ZERO) <= bound);
                bound.as_millis()
            })
            .collect();
        assert_eq!(bounds, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        for _ in 0..100 {
            assert!(backoff.next_wait(BRIEF) <= Duration::from_secs(60));
            assert!(backoff.next_wait(Duration::from_secs(4)) <= Duration::from_secs(2));
        }
        backoff.reset();
        assert_eq!((backoff.failures(), backoff.bound()), (0, Duration::from_millis(500)));
    }

    #[test]
    fn attempts_keep_to_the_window() {
        let attempts = Attempts::within(3, Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!([0, 1, 2].map(|second| attempts.take(at(second))), [None; 3]);
        assert_eq!(attempts.take(at(3)), Some(Duration::from_secs(7)));
        assert_eq!(attempts.take(at(10)), None);
        assert_eq!(attempts.take(at(10)), Some(Duration::from_secs(1)));
    }
}
