//! What the audit found.

use std::fmt;

use domain::lake::PartName;
use domain::{IdRange, Position, Symbol, Timestamp, TopicPartition};
use serde::{Serialize, Serializer};

use crate::hour::Places;

/// The audit's result.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// A row per symbol and hour.
    pub hours: Vec<HourReport>,
    /// Everything that is not as it should be.
    pub findings: Vec<Finding>,
    /// Records of the log that the tables or the archive do not have yet.
    pub pending: u64,
    /// Records of the log that are no valid trade; kept as dead letters.
    pub unusable: u64,
    /// What was compared now, and what was proved before.
    pub effort: Effort,
    /// What can be mended.
    #[serde(skip)]
    pub damage: Vec<Damage>,
    /// Where the log has trades of each hour.
    #[serde(skip)]
    pub places: Places,
    /// How far each partition was compared.
    #[serde(skip)]
    pub limits: Vec<Position>,
}

/// What an audit comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is everywhere, once and the same.
    Complete,
    /// Something is not.
    Different,
    /// Nothing was compared, so nothing is proved.
    Nothing,
}

/// What an audit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Effort {
    /// Files of the archive that were compared.
    pub files: u64,
    /// Files of the archive that were proved before, and so not read.
    pub files_proved_before: u64,
    /// Hours of symbols that were compared with the tables.
    pub hours: u64,
    /// Hours of symbols that were proved before, and so only counted.
    pub hours_proved_before: u64,
}

/// Something that the log can mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A file that is not what the log makes of its span, up to `end` if that is known.
    File {
        /// Its name.
        name: PartName,
        /// Where it ends.
        end: Option<i64>,
    },
    /// A file that covers what another one has.
    Overlap {
        /// Its name.
        name: PartName,
    },
    /// Offsets that no file covers.
    Hole {
        /// The dataset.
        dataset: String,
        /// The first of them.
        from: Position,
        /// Where the next file starts.
        end: i64,
    },
    /// An hour whose trades are not the same in the tables as in the log.
    Hour {
        /// The market.
        symbol: Symbol,
        /// The start of the hour.
        hour: Timestamp,
    },
}

/// One symbol and hour.
#[derive(Clone, Debug, Serialize)]
pub struct HourReport {
    /// The market.
    pub symbol: Symbol,
    /// The start of the hour, UTC.
    #[serde(serialize_with = "as_text")]
    pub hour: Timestamp,
    /// The smallest id in the log.
    pub first_id: Option<u64>,
    /// The largest id in the log.
    pub last_id: Option<u64>,
    /// Ids that the exchange issued.
    pub issued: u64,
    /// Of these, in the log.
    pub log: u64,
    /// Of these, in the tables.
    pub tables: u64,
    /// Of these, in the archive.
    pub archive: u64,
    /// Ids that are nowhere.
    pub missing: u64,
    /// Rows or records too many, over all stores.
    pub duplicates: u64,
    /// Duplicates that ingest dropped before the log.
    pub dropped: u64,
    /// Trades that are not the same everywhere.
    pub differing: u64,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// Ids that the exchange issued and no store has.
    Missing {
        /// The market.
        symbol: Symbol,
        /// The ids.
        #[serde(serialize_with = "as_text")]
        ids: IdRange,
        /// What the gaps table says of them.
        cause: String,
    },
    /// Trades of the log that a store lacks.
    Absent {
        /// Which store: `tables` or `archive`.
        store: &'static str,
        /// The market.
        symbol: Symbol,
        /// The ids.
        #[serde(serialize_with = "as_text")]
        ids: IdRange,
    },
    /// Trades of a store that the log does not have.
    Surplus {
        /// Which store: `tables` or `archive`.
        store: &'static str,
        /// The market.
        symbol: Symbol,
        /// The ids.
        #[serde(serialize_with = "as_text")]
        ids: IdRange,
    },
    /// Trades that a store has more than once.
    Duplicate {
        /// Which store: `log`, `tables` or `archive`.
        store: &'static str,
        /// The market.
        symbol: Symbol,
        /// The ids.
        #[serde(serialize_with = "as_text")]
        ids: IdRange,
    },
    /// A trade that is not the same in a store as in the log.
    Differing {
        /// Which store: `tables` or `archive`.
        store: &'static str,
        /// The market.
        symbol: Symbol,
        /// The start of its hour, UTC.
        #[serde(serialize_with = "as_text")]
        hour: Timestamp,
        /// The id.
        id: u64,
    },
    /// A store that is ahead of the log: the log has lost its end, or is another one.
    Ahead {
        /// Which store: `tables` or `archive`.
        store: &'static str,
        /// Which partition.
        #[serde(serialize_with = "as_text")]
        partition: TopicPartition,
        /// How far the store has come.
        next: i64,
        /// The log's end.
        end: i64,
    },
    /// A file of the archive that is not what the log makes of its span.
    Damaged {
        /// Its path.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of the archive that does not start where the one before it ended.
    BrokenChain {
        /// Its path.
        file: String,
        /// Where the one before it ended.
        expected_start: i64,
        /// Where it starts.
        start: i64,
    },
    /// A file among those of the archive that is none of them.
    Stranger {
        /// Its path.
        file: String,
    },
}

impl Report {
    /// Whether every id is everywhere, once and the same.
    pub fn is_complete(&self) -> bool {
        self.verdict() == Verdict::Complete
    }

    /// What it comes to.
    pub fn verdict(&self) -> Verdict {
        match (self.findings.is_empty(), self.hours.is_empty() && self.unusable == 0) {
            (false, _) => Verdict::Different,
            (true, true) => Verdict::Nothing,
            (true, false) => Verdict::Complete,
        }
    }

    /// The sum of one figure over all hours.
    pub fn total(&self, figure: impl Fn(&HourReport) -> u64) -> u64 {
        self.hours.iter().map(figure).sum()
    }
}

fn as_text<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

impl Finding {
    /// What can be done about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Missing { cause, .. } if cause.starts_with("open") => {
                "an open gap: ingest is fetching it, or will when it runs; audit again then"
            }
            Self::Missing { cause, .. } if cause.starts_with("unfillable") => {
                "the exchange does not have these trades any more; the cause says why"
            }
            Self::Missing { .. } => "ingest finds and fills unannounced gaps when it starts: restart it",
            Self::Duplicate { store: "log", .. } => {
                "the log keeps what was appended twice; tables hold it once, readers of the archive drop it by (symbol, trade_id)"
            }
            Self::Ahead { .. } => {
                "the log has lost its end, or it is another one: bring back its data, or start a new tape"
            }
            Self::Stranger { .. } => "whoever reads the folder reads this file, too: move it elsewhere",
            Self::Absent { .. }
            | Self::Surplus { .. }
            | Self::Duplicate { .. }
            | Self::Differing { .. }
            | Self::Damaged { .. }
            | Self::BrokenChain { .. } => "`fulltape audit --repair` derives it again from the log",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { symbol, ids, cause } => write!(f, "{symbol} {ids} missing: {cause}"),
            Self::Absent { store, symbol, ids } => write!(f, "{symbol} {ids} in the log, not in the {store}"),
            Self::Surplus { store, symbol, ids } => write!(f, "{symbol} {ids} in the {store}, not in the log"),
            Self::Duplicate { store, symbol, ids } => write!(f, "{symbol} {ids} more than once in the {store}"),
            Self::Differing { store, symbol, id, .. } => {
                write!(f, "{symbol} {id} differs between the {store} and the log")
            }
            Self::Ahead { store, partition, next, end } => {
                write!(f, "{partition}: offset {next} is next in the {store}, but the log ends at {end}")
            }
            Self::Stranger { file } => write!(f, "{file} is none of the archive's files"),
            Self::Damaged { file, reason } => write!(f, "{file} is damaged: {reason}"),
            Self::BrokenChain { file, expected_start, start } => {
                write!(f, "{file} starts at offset {start}, expected {expected_start}")
            }
        }
    }
}
