//! Faults on demand, and on a schedule.
//!
//! `{"kind":"skip","symbol":"BTCUSDT","count":50,"rest":false}`

use std::time::Duration;

use domain::Symbol;
use serde::{Deserialize, Serialize};

/// The longest fault.
const MAX_SECONDS: u64 = 3_600;

/// The most frames that one fault concerns.
const MAX_COUNT: u64 = 1_000_000;

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// All TCP connections are reset.
    Cut {},
    /// Nothing is sent on any connection for a while; what has piled up is sent afterwards.
    Stall {
        /// For how long.
        seconds: u64,
    },
    /// All present connections fall silent for ever, without a close.
    HalfOpen {},
    /// The next trades of a symbol are not streamed.
    Skip {
        /// Of which symbol; if not given, one is drawn.
        #[serde(default)]
        symbol: Option<Symbol>,
        /// How many.
        count: u64,
        /// Whether REST has them.
        #[serde(default = "yes")]
        rest: bool,
    },
    /// The next trades are streamed twice.
    Duplicate {
        /// How many.
        count: u64,
    },
    /// The next trades change places with the ones after them.
    Reorder {
        /// How many pairs.
        count: u64,
    },
    /// Frames that nobody can read, each before a trade.
    Malformed {
        /// How many.
        count: u64,
    },
    /// `serverShutdown` is announced, and the present connections end after the notice.
    ServerShutdown {},
    /// New connections are reset, and REST answers 503 on old ones.
    Refuse {
        /// For how long.
        seconds: u64,
    },
    /// REST answers 429.
    Limit {
        /// For how long.
        seconds: u64,
    },
}

fn yes() -> bool {
    true
}

impl Fault {
    /// Its name in requests and counts.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Cut {} => "cut",
            Self::Stall { .. } => "stall",
            Self::HalfOpen {} => "half_open",
            Self::Skip { .. } => "skip",
            Self::Duplicate { .. } => "duplicate",
            Self::Reorder { .. } => "reorder",
            Self::Malformed { .. } => "malformed",
            Self::ServerShutdown {} => "server_shutdown",
            Self::Refuse { .. } => "refuse",
            Self::Limit { .. } => "limit",
        }
    }

    /// Whether it is within bounds.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn check(&self) -> Result<(), String> {
        let (name, value, most) = match self {
            Self::Stall { seconds } | Self::Refuse { seconds } | Self::Limit { seconds } => {
                ("seconds", *seconds, MAX_SECONDS)
            }
            Self::Skip { count, .. }
            | Self::Duplicate { count }
            | Self::Reorder { count }
            | Self::Malformed { count } => ("count", *count, MAX_COUNT),
            Self::Cut {} | Self::HalfOpen {} | Self::ServerShutdown {} => return Ok(()),
        };
        if (1..=most).contains(&value) { Ok(()) } else { Err(format!("{name}: expected 1 to {most}, got {value}")) }
    }
}

/// A fault that happens again and again.
///
/// `{"kind":"cut","every_seconds":6,"times":20}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ScheduledFault {
    /// What goes wrong.
    #[serde(flatten)]
    pub fault: Fault,
    /// How long it takes until it happens, and until it happens again, give or take a quarter drawn by the seed.
    pub every_seconds: u64,
    /// How often; if not given, for ever.
    pub times: Option<u64>,
}

impl<'de> Deserialize<'de> for ScheduledFault {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Flattening and denying unknown fields exclude each other, so the schedule's keys are taken out first.
        let mut keys = serde_json::Map::deserialize(deserializer)?;
        let mut take = |key: &str| keys.remove(key).filter(|value| !value.is_null());
        let (every, times) = (take("every_seconds"), take("times"));
        let read = |key: &str, value: Option<serde_json::Value>| {
            let number = |value: serde_json::Value| {
                value
                    .as_u64()
                    .ok_or_else(|| serde::de::Error::custom(format!("{key}: expected a whole number, got {value}")))
            };
            value.map(number).transpose()
        };
        let every_seconds =
            read("every_seconds", every)?.ok_or_else(|| serde::de::Error::missing_field("every_seconds"))?;
        let times = read("times", times)?;
        let fault = serde_json::from_value(keys.into()).map_err(serde::de::Error::custom)?;
        Ok(Self { fault, every_seconds, times })
    }
}

impl ScheduledFault {
    /// Whether it is within bounds.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn check(&self) -> Result<(), String> {
        self.fault.check()?;
        let every = self.every_seconds;
        if (1..=86_400).contains(&every) {
            Ok(())
        } else {
            Err(format!("every_seconds: expected 1 to 86400, got {every}"))
        }
    }

    /// The wait before it happens, by a number drawn for it.
    pub(crate) fn wait(&self, drawn: u64) -> Duration {
        let percent = 75 + drawn % 51;
        Duration::from_millis(self.every_seconds * 10 * percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_documented_and_unknown_keys_are_errors() {
        let skip: Fault = serde_json::from_str(r#"{"kind":"skip","symbol":"BTCUSDT","count":5,"rest":false}"#).unwrap();
        assert_eq!(skip, Fault::Skip { symbol: Some("BTCUSDT".parse().unwrap()), count: 5, rest: false });
        assert_eq!(serde_json::from_str::<Fault>(r#"{"kind":"cut"}"#).unwrap(), Fault::Cut {});
        for bad in [
            r#"{"kind":"cut","seconds":1}"#,
            r#"{"kind":"fire"}"#,
            r#"{"kind":"stall"}"#,
            r#"{"kind":"stall","seconds":-1}"#,
        ] {
            assert!(serde_json::from_str::<Fault>(bad).is_err(), "{bad}");
        }
        assert!(Fault::Stall { seconds: 4_000 }.check().is_err());
    }

    #[test]
    fn schedules_round_trip_and_their_unknown_keys_are_errors() {
        let text = r#"{"kind":"stall","seconds":2,"every_seconds":6,"times":20}"#;
        let scheduled: ScheduledFault = serde_json::from_str(text).unwrap();
        assert_eq!((scheduled.every_seconds, scheduled.times), (6, Some(20)));
        assert_eq!(serde_json::to_string(&scheduled).unwrap(), text);
        for bad in [
            r#"{"kind":"cut"}"#,
            r#"{"kind":"cut","every_seconds":6,"time":2}"#,
            r#"{"kind":"cut","every_seconds":"6"}"#,
        ] {
            assert!(serde_json::from_str::<ScheduledFault>(bad).is_err(), "{bad}");
        }
    }
}
