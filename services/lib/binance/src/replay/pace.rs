//! How fast a recording is replayed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use domain::Timestamp;
use ports::FeedEvent;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// The longest pause of a recording that is replayed: one line a day late does not stall it.
const LONGEST_PAUSE_MICROS: i64 = 60_000_000;

/// How fast a recording is replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pace {
    /// As it was recorded.
    #[default]
    Recorded,
    /// This many times faster; more than zero.
    Times(f64),
    /// As fast as it can be read.
    Max,
}

/// A text that names no pace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a pace: expected recorded, max, or a number of times such as 10x")]
pub struct PaceError(String);

impl FromStr for Pace {
    type Err = PaceError;

    fn from_str(text: &str) -> Result<Self, PaceError> {
        let times = |text: &str| {
            let number: f64 = text.strip_suffix(['x', 'X'])?.parse().ok()?;
            (number.is_finite() && number > 0.0).then_some(Self::Times(number))
        };
        match text {
            "recorded" => Ok(Self::Recorded),
            "max" => Ok(Self::Max),
            other => times(other).ok_or_else(|| PaceError(other.chars().take(40).collect())),
        }
    }
}

impl TryFrom<String> for Pace {
    type Error = PaceError;

    fn try_from(text: String) -> Result<Self, PaceError> {
        text.parse()
    }
}

impl From<Pace> for String {
    fn from(pace: Pace) -> Self {
        pace.to_string()
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recorded => f.write_str("recorded"),
            Self::Times(times) => write!(f, "{times}x"),
            Self::Max => f.write_str("max"),
        }
    }
}

/// When each event is due, by the differences between their times.
pub(crate) struct Schedule {
    /// By how much pauses are shortened; `None`: there are no pauses.
    speed: Option<f64>,
    last: Option<(Timestamp, Instant)>,
    /// The event that is waited for, so that asking twice gives the same answer.
    next: Option<(Timestamp, Instant)>,
}

impl Schedule {
    pub(crate) fn new(pace: Pace) -> Self {
        let speed = match pace {
            Pace::Recorded => Some(1.0),
            Pace::Times(times) => Some(times),
            Pace::Max => None,
        };
        Self { speed, last: None, next: None }
    }

    /// When `event` is due; `None`: now. The schedule does not drift: a consumer that was slow
    /// finds the following events due at once until it caught up.
    pub(crate) fn due(&mut self, event: &FeedEvent) -> Option<Instant> {
        let speed = self.speed?;
        if self.next.is_none() {
            let time = time_of(event)?;
            let due = match self.last {
                None => Instant::now(),
                Some((last, at)) => at + pause(last, time, speed),
            };
            self.next = Some((time, due));
        }
        let (_, due) = self.next?;
        (due > Instant::now()).then_some(due)
    }

    /// The event was handed over.
    pub(crate) fn passed(&mut self) {
        if let Some(next) = self.next.take() {
            self.last = Some(next);
        }
    }
}

fn pause(last: Timestamp, time: Timestamp, speed: f64) -> Duration {
    let micros = time.micros().saturating_sub(last.micros()).clamp(0, LONGEST_PAUSE_MICROS);
    // A pause is at most a minute; only an absurdly slow pace could exceed what a duration holds.
    Duration::try_from_secs_f64(micros as f64 / 1e6 / speed).unwrap_or(Duration::from_secs(86_400))
}

fn time_of(event: &FeedEvent) -> Option<Timestamp> {
    match event {
        FeedEvent::Frame { received_at, .. } => Some(*received_at),
        FeedEvent::Damaged { .. } | FeedEvent::End => None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use domain::Origin;

    use super::*;

    fn at(millis: i64) -> FeedEvent {
        FeedEvent::Frame {
            bytes: Bytes::new(),
            received_at: Timestamp::from_millis(millis),
            origin: Origin::Replay,
            source: Bytes::new(),
            place: None,
        }
    }

    #[test]
    fn reads_its_names() {
        for (text, pace) in
            [("recorded", Pace::Recorded), ("max", Pace::Max), ("10x", Pace::Times(10.0)), ("0.5x", Pace::Times(0.5))]
        {
            assert_eq!(text.parse(), Ok(pace));
            assert_eq!(pace.to_string(), text);
        }
        for text in ["", "x", "10", "0x", "-1x", "NaNx", "infx", "fast"] {
            assert!(text.parse::<Pace>().is_err(), "{text}");
        }
    }

    #[test]
    fn pauses_are_shortened_and_bounded_and_never_negative() {
        let time = Timestamp::from_millis;
        assert_eq!(pause(time(0), time(1_000), 10.0), Duration::from_millis(100));
        assert_eq!(pause(time(5_000), time(1_000), 1.0), Duration::ZERO);
        assert_eq!(pause(time(0), time(86_400_000), 1.0), Duration::from_secs(60));
        assert_eq!(pause(time(i64::MIN / 1_000), time(i64::MAX / 1_000), 2.0), Duration::from_secs(30));
    }

    #[test]
    fn the_schedule_does_not_drift_and_asking_twice_changes_nothing() {
        let mut schedule = Schedule::new(Pace::Recorded);
        assert_eq!(schedule.due(&at(0)), None);
        schedule.passed();
        let (_, start) = schedule.last.unwrap();
        assert_eq!(schedule.due(&at(5_000)), Some(start + Duration::from_secs(5)));
        assert_eq!(schedule.due(&at(5_000)), Some(start + Duration::from_secs(5)));
        schedule.passed();
        assert_eq!(schedule.due(&at(2_000)), Some(start + Duration::from_secs(5)), "back in time: no pause");
        schedule.passed();
        assert_eq!(schedule.due(&at(3_000)), Some(start + Duration::from_secs(6)));
        assert_eq!(Schedule::new(Pace::Max).due(&at(0)), None);
    }
}
