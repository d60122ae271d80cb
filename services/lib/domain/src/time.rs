//! Points in time, in microseconds since the Unix epoch, and the calendar units that name
//! partitions and folders. All of it in UTC.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, SecondsFormat};
use serde::{Deserialize, Serialize};

const MICROS_PER_MILLI: i64 = 1_000;
const MICROS_PER_HOUR: i64 = 3_600_000_000;
const MICROS_PER_DAY: i64 = 24 * MICROS_PER_HOUR;

/// Times of the exchange have 13 digits in milliseconds and 16 in microseconds; 14 and 15 digits
/// would be the years after 2286 or before 2001, which no trade has.
const MILLIS: std::ops::Range<i64> = 1_000_000_000_000..10_000_000_000_000;
const MICROS: std::ops::Range<i64> = 1_000_000_000_000_000..10_000_000_000_000_000;

/// A point in time: microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis * MICROS_PER_MILLI)
    }

    /// From a time as the exchange writes it, in milliseconds or microseconds; `None` if it is neither.
    pub fn from_exchange(value: i64) -> Option<Self> {
        if MILLIS.contains(&value) {
            Some(Self::from_millis(value))
        } else {
            MICROS.contains(&value).then_some(Self(value))
        }
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since the Unix epoch, rounded down.
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(MICROS_PER_MILLI)
    }

    /// The start of its hour.
    pub const fn hour(self) -> Self {
        Self(self.0 - self.0.rem_euclid(MICROS_PER_HOUR))
    }

    /// The start of its day.
    pub const fn day(self) -> Self {
        Self(self.0 - self.0.rem_euclid(MICROS_PER_DAY))
    }

    /// Days since the Unix epoch.
    pub const fn days(self) -> i64 {
        self.0.div_euclid(MICROS_PER_DAY)
    }

    /// This time plus a duration.
    pub fn plus(self, duration: std::time::Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This time less a duration.
    pub fn minus(self, duration: std::time::Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Microseconds from `earlier` to this time.
    pub const fn micros_since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }

    /// `YYYY-MM-DD`, the name of its day.
    pub fn date(self) -> String {
        match DateTime::from_timestamp_micros(self.0) {
            Some(time) => time.format("%Y-%m-%d").to_string(),
            None => self.0.to_string(),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_timestamp_micros(self.0) {
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => write!(f, "{} µs", self.0),
        }
    }
}

/// A text that names no point in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a date or a time such as 2026-11-21 or 2026-11-21T08:00:00Z, got {0:?}")]
pub struct TimeError(String);

/// A day, by its start, or a time with its zone.
impl FromStr for Timestamp {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
        let time = DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_micros());
        let micros = time.or_else(|| day().map(|day| day.and_utc().timestamp_micros()));
        micros.map(Self).ok_or_else(|| TimeError(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_days_and_times() {
        for (text, time) in [
            ("2024-08-08", "2024-08-08T00:00:00Z"),
            ("2024-08-08T23:54:15.342Z", "2024-08-08T23:54:15.342Z"),
            ("2024-08-09T01:00:00+02:00", "2024-08-08T23:00:00Z"),
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), time);
        }
        for neither in ["", "yesterday", "2024-13-01", "2024-08-08T23:00:00", "1723161255342"] {
            assert!(neither.parse::<Timestamp>().unwrap_err().to_string().contains("expected a date"), "{neither}");
        }
    }

    #[test]
    fn tells_milliseconds_from_microseconds() {
        let millis = Timestamp::from_exchange(1_723_161_255_342).unwrap();
        let micros = Timestamp::from_exchange(1_741_046_401_271_497).unwrap();
        assert_eq!(millis.to_string(), "2024-08-08T23:54:15.342Z");
        assert_eq!(micros.to_string(), "2025-03-04T00:00:01.271497Z");
        for neither in [-1, 0, 1_723_161_255, 99_999_999_999_999, i64::MAX] {
            assert_eq!(Timestamp::from_exchange(neither), None);
        }
    }

    #[test]
    fn knows_its_hour_and_day() {
        let time = Timestamp::from_exchange(1_723_161_255_342).unwrap();
        assert_eq!(time.hour().to_string(), "2024-08-08T23:00:00Z");
        assert_eq!(time.day().to_string(), "2024-08-08T00:00:00Z");
        assert_eq!(time.date(), "2024-08-08");
        assert_eq!(Timestamp::from_micros(-1).date(), "1969-12-31");
    }
}
