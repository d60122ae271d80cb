//! The exchange's request weight: one budget per minute for all symbols.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ports::Clock;
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::telemetry;

/// The limit that the exchange documents; it holds until its own word is read.
const DOCUMENTED_LIMIT: u32 = 6_000;

const MINUTE_MICROS: i64 = 60_000_000;

/// The exchange's minute may begin a little later than we think.
const MARGIN: Duration = Duration::from_millis(250);

/// How often the exchange is asked for a limit that could not be read.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// Counts weight within the exchange's minute and makes callers wait for the next one.
pub(crate) struct Weight {
    clock: Arc<dyn Clock>,
    percent: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: u32,
    known: bool,
    asked_at: Option<Instant>,
    /// By how much the exchange's clock is ahead of ours, in µs.
    ahead: i64,
    minute: i64,
    used: u32,
    /// Weight of requests that are not answered yet.
    open: u32,
    blocked: Option<(Instant, String)>,
}

/// The weight of a request under way; dropping it says that the request is over.
pub(crate) struct Reserved<'a> {
    weight: &'a Weight,
    cost: u32,
}

/// The exchange asked to stay away for this long, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Blocked {
    pub(crate) wait: Duration,
    pub(crate) reason: String,
}

impl Weight {
    pub(crate) fn new(clock: Arc<dyn Clock>, percent: u32) -> Self {
        let state = State {
            limit: DOCUMENTED_LIMIT,
            known: false,
            asked_at: None,
            ahead: 0,
            minute: i64::MIN,
            used: 0,
            open: 0,
            blocked: None,
        };
        Self { clock, percent, state: Mutex::new(state) }
    }

    /// Whether to ask the exchange for its limit: until it is known, once in a while.
    pub(crate) fn is_to_be_asked(&self) -> bool {
        let mut state = self.state();
        let due = !state.known && state.asked_at.is_none_or(|at| at.elapsed() >= ASK_AGAIN);
        if due {
            state.asked_at = Some(Instant::now());
        }
        due
    }

    /// Takes the exchange's word for its limit and its time, in ms or µs.
    pub(crate) fn set_limit(&self, limit: u32, server_time: Option<i64>) {
        let server_time = server_time.and_then(domain::Timestamp::from_exchange);
        let ahead = server_time.map_or(0, |time| time.micros_since(self.clock.now()));
        let mut state = self.state();
        (state.limit, state.known, state.ahead) = (limit, true, ahead);
    }

    /// Takes the exchange's word for what is used; requests that are not answered may not be in it.
    pub(crate) fn used(&self, used: u32) {
        let mut state = self.state();
        state.used = used.saturating_add(state.open);
        metrics::gauge!(telemetry::REST_WEIGHT_USED).set(f64::from(used));
    }

    /// Stays away for as long as the exchange asked.
    pub(crate) fn block(&self, wait: Duration, reason: String) {
        metrics::counter!(telemetry::REST_LIMITED).increment(1);
        self.state().blocked = Some((Instant::now() + wait, reason));
    }

    /// Waits until the budget has `cost`.
    pub(crate) async fn reserve(&self, cost: u32) -> Result<Reserved<'_>, Blocked> {
        while let Some(wait) = self.take(cost)? {
            debug!(wait_ms = wait.as_millis(), "request weight is used up, waiting for the exchange's next minute");
            sleep(wait).await;
        }
        Ok(Reserved { weight: self, cost })
    }

    /// Takes `cost` from the budget, or says how long to wait for it.
    fn take(&self, cost: u32) -> Result<Option<Duration>, Blocked> {
        let mut state = self.state();
        if let Some((until, reason)) = &state.blocked {
            let wait = until.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                return Err(Blocked { wait, reason: reason.clone() });
            }
            state.blocked = None;
        }
        let now = self.clock.now().micros().saturating_add(state.ahead);
        let minute = now.div_euclid(MINUTE_MICROS);
        if minute != state.minute {
            (state.minute, state.used) = (minute, state.open);
        }
        let budget = u64::from(state.limit) * u64::from(self.percent) / 100;
        // A request that outweighs the whole budget must get through some time.
        if state.used > 0 && u64::from(state.used) + u64::from(cost) > budget {
            let rest = MINUTE_MICROS - now.rem_euclid(MINUTE_MICROS);
            return Ok(Some(Duration::from_micros(rest.unsigned_abs()) + MARGIN));
        }
        state.used += cost;
        state.open += cost;
        Ok(None)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut state = self.weight.state();
        state.open = state.open.saturating_sub(self.cost);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use domain::Timestamp;

    use super::*;

    struct Hand(AtomicI64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(self.0.load(Ordering::Relaxed))
        }
    }

    fn weight(seconds: i64) -> (Arc<Hand>, Weight) {
        let hand = Arc::new(Hand(AtomicI64::new(1_723_161_240_000_000 + seconds * 1_000_000)));
        (Arc::clone(&hand), Weight::new(hand, 80))
    }

    #[test]
    fn stays_within_its_share_and_waits_for_the_next_minute() {
        let (hand, weight) = weight(12);
        weight.set_limit(100, None);
        for _ in 0..4 {
            assert_eq!(weight.take(20), Ok(None));
        }
        assert_eq!(weight.take(20), Ok(Some(Duration::from_secs(48) + MARGIN)));
        hand.0.fetch_add(48_000_000, Ordering::Relaxed);
        assert_eq!(weight.take(20), Ok(Some(Duration::from_secs(60) + MARGIN)), "the open ones may count again");
        weight.state().open = 0;
        weight.state().minute = 0;
        assert_eq!(weight.take(20), Ok(None));
    }

    #[test]
    fn believes_the_exchange_about_what_is_used_and_what_time_it_is() {
        let (_, weight) = weight(12);
        weight.set_limit(1_000, Some(1_723_161_240_000 + 50_000));
        assert_eq!(weight.take(25), Ok(None));
        weight.state().open = 0;
        weight.used(790);
        assert_eq!(weight.take(25), Ok(Some(Duration::from_secs(10) + MARGIN)));
        assert_eq!(weight.take(10), Ok(None));
    }

    #[test]
    fn a_block_is_told_to_everybody() {
        let (_, weight) = weight(0);
        weight.block(Duration::from_secs(5), "banned".to_owned());
        let blocked = weight.take(1).unwrap_err();
        assert_eq!(blocked.reason, "banned");
        assert!(blocked.wait > Duration::from_secs(4));
        weight.block(Duration::ZERO, String::new());
        assert_eq!(weight.take(1), Ok(None));
    }
}
