//! Weights and bans, per address: 429 for who asks too much, 418 for who goes on asking.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use axum::http::StatusCode;
use tokio::time::Instant;

use super::ApiError;
use crate::clock::now_micros;
use crate::config::SimConfig;
use crate::shared::lock;

const MINUTE: Duration = Duration::from_secs(60);
const FIVE_MINUTES: Duration = Duration::from_secs(300);

/// The longest ban.
const MAX_BAN: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// Addresses remembered; when there are more, all is forgiven.
const MOST_ADDRESSES: usize = 10_000;

/// All addresses.
#[derive(Debug, Default)]
pub(crate) struct Limits(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    addresses: HashMap<IpAddr, Account>,
    /// Until then everything is refused, as a fault.
    limited_until: Option<Instant>,
}

/// One address.
#[derive(Debug)]
struct Account {
    minute: Instant,
    used: u32,
    /// Answers 429 in this minute.
    warned: u32,
    banned_until: Option<Instant>,
    bans: u32,
    five_minutes: Instant,
    connections: u32,
}

/// The outcome of a request.
#[derive(Debug)]
pub(crate) struct Charged {
    pub(crate) used: u32,
    pub(crate) refused: Option<ApiError>,
}

impl Limits {
    /// Refuses everything for a while.
    pub(crate) fn limit(&self, duration: Duration) {
        lock(&self.0).limited_until = Some(Instant::now() + duration);
    }

    /// Counts a request.
    pub(crate) fn charge(&self, address: IpAddr, weight: u32, config: &SimConfig) -> Charged {
        let now = Instant::now();
        let mut state = lock(&self.0);
        let limited_until = state.limited_until.filter(|until| now < *until);
        let account = state.account(address, now);
        let refused = account.charge(weight, now, limited_until, config);
        Charged { used: account.used, refused }
    }

    /// Counts an attempt to connect; whether it is allowed.
    pub(crate) fn connect(&self, address: IpAddr, config: &SimConfig) -> bool {
        let now = Instant::now();
        let mut state = lock(&self.0);
        let account = state.account(address, now);
        if now - account.five_minutes >= FIVE_MINUTES {
            (account.five_minutes, account.connections) = (now, 0);
        }
        account.connections = account.connections.saturating_add(1);
        account.connections <= config.connections_per_five_minutes
    }
}

impl State {
    fn account(&mut self, address: IpAddr, now: Instant) -> &mut Account {
        if self.addresses.len() >= MOST_ADDRESSES {
            self.addresses.clear();
        }
        self.addresses.entry(address).or_insert(Account {
            minute: now,
            used: 0,
            warned: 0,
            banned_until: None,
            bans: 0,
            five_minutes: now,
            connections: 0,
        })
    }
}

impl Account {
    fn charge(
        &mut self,
        weight: u32,
        now: Instant,
        limited_until: Option<Instant>,
        config: &SimConfig,
    ) -> Option<ApiError> {
        if now - self.minute >= MINUTE {
            (self.minute, self.used, self.warned) = (now, 0, 0);
        }
        if let Some(until) = self.banned_until.filter(|until| now < *until) {
            return Some(banned(until - now));
        }
        self.used = self.used.saturating_add(weight);
        let over = (self.used > config.weight_per_minute).then_some(self.minute + MINUTE);
        let until = limited_until.max(over)?;
        self.warned += 1;
        if self.warned > config.ban_after {
            return Some(banned(self.ban(now, config)));
        }
        Some(too_much(until - now, config.weight_per_minute))
    }

    fn ban(&mut self, now: Instant, config: &SimConfig) -> Duration {
        let first = Duration::from_secs(config.ban_seconds);
        let duration = first.saturating_mul(1_u32.checked_shl(self.bans).unwrap_or(u32::MAX)).min(MAX_BAN);
        self.bans = (self.bans + 1).min(31);
        self.banned_until = Some(now + duration);
        duration
    }
}

fn too_much(wait: Duration, limit: u32) -> ApiError {
    ApiError {
        status: StatusCode::TOO_MANY_REQUESTS,
        code: -1003,
        message: format!(
            "Too much request weight used; current limit is {limit} request weight per 1 MINUTE. \
             Please use WebSocket Streams for live updates to avoid polling the API."
        ),
        retry_after: Some(whole_seconds(wait)),
    }
}

fn banned(wait: Duration) -> ApiError {
    let until_ms = now_micros() / 1_000 + i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 2);
    ApiError {
        status: StatusCode::IM_A_TEAPOT,
        code: -1003,
        message: format!(
            "Way too much request weight used; IP banned until {until_ms}. \
             Please use WebSocket Streams for live updates to avoid bans."
        ),
        retry_after: Some(whole_seconds(wait)),
    }
}

/// Rounded up: who waits that long has waited long enough.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn too_much_is_429_and_going_on_is_418() {
        let config = SimConfig { weight_per_minute: 50, ban_after: 2, ban_seconds: 7, ..SimConfig::default() };
        let limits = Limits::default();
        let address = IpAddr::from(Ipv4Addr::LOCALHOST);
        let ask = || limits.charge(address, 25, &config);
        assert!(ask().refused.is_none());
        assert!(ask().refused.is_none());
        for used in [75, 100] {
            let charged = ask();
            let error = charged.refused.unwrap();
            assert_eq!((charged.used, error.status.as_u16()), (used, 429));
            assert!((1..=60).contains(&error.retry_after.unwrap()));
        }
        for _ in 0..2 {
            let error = ask().refused.unwrap();
            assert_eq!((error.status.as_u16(), error.retry_after), (418, Some(7)));
        }
    }

    #[test]
    fn connections_are_counted() {
        let config = SimConfig { connections_per_five_minutes: 2, ..SimConfig::default() };
        let limits = Limits::default();
        let address = IpAddr::from(Ipv4Addr::LOCALHOST);
        assert_eq!([0; 3].map(|_| limits.connect(address, &config)), [true, true, false]);
    }
}
