//! The ledger: which trade ids of a symbol stand in the log, and what became of those that do not.
//!
//! ```text
//!            low                         high
//!   unknown   |######....########..######|   not yet
//!                    missing: open or unfillable
//! ```
//!
//! Everything from `low` to `high` is in the log, except for `missing`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id_set::{IdRange, IdSet};
use crate::symbol::Symbol;
use crate::time::Timestamp;
use crate::trade::MAX_ID;

/// The ledger of one symbol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    bounds: Option<IdRange>,
    missing: IdSet,
}

/// What the ledger says of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// New: publish it.
    New,
    /// New, and between it and what is known some ids are missing: a gap opens.
    NewAfterGap(IdRange),
    /// New, and one of those that were missing.
    Filling,
    /// In the log already: drop and count it.
    Duplicate,
}

impl Ledger {
    /// A ledger rebuilt from the log: its first and last id, and what it lacks between them.
    pub fn rebuilt(bounds: Option<IdRange>, missing: IdSet) -> Self {
        Self { bounds, missing }
    }

    /// The first and the last id seen.
    pub fn bounds(&self) -> Option<IdRange> {
        self.bounds
    }

    /// The largest id seen.
    pub fn high(&self) -> Option<u64> {
        self.bounds.map(|bounds| bounds.to)
    }

    /// The ids between first and last that are not in the log.
    pub fn missing(&self) -> &IdSet {
        &self.missing
    }

    /// Enters an id that is about to be published, and says whether it should be.
    pub fn enter(&mut self, id: u64) -> Verdict {
        let Some(bounds) = self.bounds.as_mut() else {
            self.bounds = Some(IdRange::one(id));
            return Verdict::New;
        };
        let skipped = if id > bounds.to {
            let skipped = IdRange::new(bounds.to + 1, id - 1);
            bounds.to = id;
            skipped
        } else if id < bounds.from {
            let skipped = IdRange::new(id + 1, bounds.from - 1);
            bounds.from = id;
            skipped
        } else if self.missing.remove(id) {
            return Verdict::Filling;
        } else {
            return Verdict::Duplicate;
        };
        match skipped {
            None => Verdict::New,
            Some(gap) => {
                self.missing.insert_range(gap);
                Verdict::NewAfterGap(gap)
            }
        }
    }
}

/// What became of missing ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GapState {
    /// They are being asked for.
    Open,
    /// They are in the log.
    Filled,
    /// The source cannot give them.
    Unfillable,
}

impl GapState {
    /// Its name in records and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Filled => "filled",
            Self::Unfillable => "unfillable",
        }
    }
}

impl std::str::FromStr for GapState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "open" => Ok(Self::Open),
            "filled" => Ok(Self::Filled),
            "unfillable" => Ok(Self::Unfillable),
            other => Err(format!("{other:?} is not a gap state: expected open, filled or unfillable")),
        }
    }
}

/// One record of the topic `crypto-gaps`: what ingest's ledger found.
///
/// An open gap is published before any trade behind it, so that a hole in the log that no record
/// announces cannot exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum LedgerEvent {
    /// Ids are missing, or what was missing changed its state.
    Gap {
        /// The market.
        symbol: Symbol,
        /// The ids.
        #[serde(flatten)]
        ids: IdRange,
        /// What became of them.
        state: GapState,
        /// Why they are missing, or why they cannot be had.
        cause: String,
        /// When the gap was found.
        detected_at: Timestamp,
        /// When it was closed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        closed_at: Option<Timestamp>,
        /// The end of the symbol's partition of `crypto-stream` when the gap was found: whatever
        /// fills it stands at this offset or behind.
        stream_offset: i64,
    },
    /// Ids arrived that are in the log already, and were dropped.
    Duplicates {
        /// The market.
        symbol: Symbol,
        /// The start of the hour in which the trades were made.
        hour: Timestamp,
        /// How many were dropped.
        count: u64,
        /// The smallest and largest of their ids.
        #[serde(flatten)]
        ids: IdRange,
    },
    /// How far one partition of the stream had come. Whatever was appended before this offset, the
    /// mark and the gaps announced before it tell: a rebuild need not read it.
    Mark {
        /// The partition.
        partition: i32,
        /// The offset.
        stream_offset: i64,
        /// The first and last id of each symbol before that offset.
        symbols: BTreeMap<Symbol, IdRange>,
    },
}

impl LedgerEvent {
    /// The record's key: the market, or the partition.
    pub fn key(&self) -> String {
        match self {
            Self::Gap { symbol, .. } | Self::Duplicates { symbol, .. } => symbol.to_string(),
            Self::Mark { partition, .. } => format!("partition-{partition}"),
        }
    }

    /// Reads a record's value.
    ///
    /// # Errors
    /// Says which field is wrong.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        let event: Self = serde_json::from_slice(json).map_err(|error| format!("not a ledger event: {error}"))?;
        event.check().map_err(|reason| format!("not a ledger event: {reason}"))?;
        Ok(event)
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Self::Gap { ids, detected_at, closed_at, .. } => {
                check_ids(*ids)?;
                closed_at.iter().chain([detected_at]).try_for_each(|time| check_time(*time))
            }
            Self::Duplicates { ids, hour, count, .. } => {
                check_ids(*ids)?;
                check_time(*hour)?;
                if *count > MAX_COUNT {
                    Err(format!("count: expected at most {MAX_COUNT}, got {count}"))
                } else {
                    Ok(())
                }
            }
            Self::Mark { symbols, .. } => symbols.values().try_for_each(|ids| check_ids(*ids)),
        }
    }

    /// The record's value.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and integers are JSON")
    }
}

/// More duplicates than one event may tell of; sums of them still fit 64 bits.
const MAX_COUNT: u64 = 1 << 40;

/// Times end where 16 digits of microseconds do.
const MAX_TIME: i64 = 9_999_999_999_999_999;

fn check_ids(ids: IdRange) -> Result<(), String> {
    if ids.from > ids.to || ids.to > MAX_ID {
        return Err(format!("ids: expected from <= to <= {MAX_ID}, got {} and {}", ids.from, ids.to));
    }
    Ok(())
}

fn check_time(time: Timestamp) -> Result<(), String> {
    if (0..=MAX_TIME).contains(&time.micros()) {
        return Ok(());
    }
    Err(format!("time: expected µs since 1970 of at most 16 digits, got {}", time.micros()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_jump_opens_a_gap_that_late_ids_fill() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.enter(10), Verdict::New);
        assert_eq!(ledger.enter(11), Verdict::New);
        assert_eq!(ledger.enter(15), Verdict::NewAfterGap(IdRange { from: 12, to: 14 }));
        assert_eq!(ledger.enter(13), Verdict::Filling);
        assert_eq!(ledger.enter(13), Verdict::Duplicate);
        assert_eq!(ledger.enter(8), Verdict::NewAfterGap(IdRange::one(9)));
        assert_eq!(ledger.missing().to_string(), "9, 12, 14");
        assert_eq!(ledger.high(), Some(15));
    }

    proptest! {
        #[test]
        fn every_id_is_new_exactly_once(ids in proptest::collection::vec(0_u64..200, 1..300)) {
            let mut ledger = Ledger::default();
            let mut seen = BTreeSet::new();
            for id in ids {
                let duplicate = ledger.enter(id) == Verdict::Duplicate;
                prop_assert_eq!(duplicate, !seen.insert(id));
                let (low, high) = (*seen.first().unwrap(), *seen.last().unwrap());
                let missing: u64 = (low..=high).filter(|id| !seen.contains(id)).count() as u64;
                prop_assert_eq!(ledger.missing().len(), missing);
            }
        }
    }

    #[test]
    fn events_round_trip() {
        let gap = LedgerEvent::Gap {
            symbol: "BTCUSDT".parse().unwrap(),
            ids: IdRange { from: 12, to: 14 },
            state: GapState::Open,
            cause: "stream jumped".to_owned(),
            detected_at: Timestamp::from_micros(17),
            closed_at: None,
            stream_offset: 99,
        };
        let json = r#"{"kind":"gap","symbol":"BTCUSDT","from":12,"to":14,"state":"open","cause":"stream jumped","detected_at":17,"stream_offset":99}"#;
        assert_eq!(String::from_utf8(gap.to_json()).unwrap(), json);
        assert_eq!(LedgerEvent::from_json(json.as_bytes()), Ok(gap));
        let (absurd_id, absurd_time) = (json.replace("14", "9223372036854775808"), json.replace("17", "-17"));
        for bad in ["", "{}", &json.replace("12", "20"), &json.replace("open", "lost"), &absurd_id, &absurd_time] {
            assert!(LedgerEvent::from_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
