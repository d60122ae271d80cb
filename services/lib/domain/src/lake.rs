//! The names of the archive: `<root>/<dataset>/date=YYYY-MM-DD/part-<partition>-<start offset>.parquet`.
//!
//! A file's name holds only where it starts. Each file starts where the one before it ended, so
//! the files of a partition form a chain, gapless and disjoint. Two writers want the same name,
//! and the file system picks one.

use std::fmt;

use crate::time::Timestamp;

/// The dataset of typed trades.
pub const TRADES: &str = "trades";

/// The dataset that holds a topic's records verbatim.
pub fn raw_dataset(topic: &str) -> String {
    format!("raw/{topic}")
}

/// The folder of unfinished files. No reader looks here.
pub const TEMPORARY: &str = "_tmp";

/// The folder of what audits have proved. No reader looks here.
pub const AUDIT: &str = "_audit";

/// The folder of damaged files that were made again, by the time of the repair. No reader looks here.
pub const DAMAGED: &str = "_damaged";

/// A published file of the archive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartName {
    /// The dataset, for example `trades` or `raw/crypto-stream`.
    pub dataset: String,
    /// The day on which the log appended its records, `YYYY-MM-DD`.
    pub date: String,
    /// The log's partition.
    pub partition: i32,
    /// The offset of its first record.
    pub start_offset: i64,
}

impl PartName {
    /// The file of `dataset` that starts at `start_offset`, appended at `appended_at`.
    pub fn new(dataset: &str, appended_at: Timestamp, partition: i32, start_offset: i64) -> Self {
        Self { dataset: dataset.to_owned(), date: appended_at.date(), partition, start_offset }
    }

    /// Reads a path relative to the root; `None` if it is not a published file.
    pub fn parse(path: &str) -> Option<Self> {
        let (folder, file) = path.rsplit_once('/')?;
        let (dataset, day) = folder.rsplit_once('/')?;
        let date = day.strip_prefix("date=")?;
        let name = file.strip_prefix("part-")?.strip_suffix(".parquet")?;
        let (partition, offset) = name.split_once('-')?;
        let digits = offset.len() == 20 && offset.bytes().all(|b| b.is_ascii_digit());
        digits.then_some(())?;
        Some(Self {
            dataset: dataset.to_owned(),
            date: date.to_owned(),
            partition: partition.parse().ok()?,
            start_offset: offset.parse().ok()?,
        })
    }
}

impl fmt::Display for PartName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dataset, date, partition, start_offset } = self;
        write!(f, "{dataset}/date={date}/part-{partition}-{start_offset:020}.parquet")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let name = PartName::new("raw/crypto-stream", Timestamp::from_millis(1_723_161_255_342), 3, 17);
        let path = "raw/crypto-stream/date=2024-08-08/part-3-00000000000000000017.parquet";
        assert_eq!(name.to_string(), path);
        assert_eq!(PartName::parse(path), Some(name));
        for other in [
            "trades/date=2024-08-08/part-3-17.parquet",
            "trades/date=2024-08-08/part-3-00000000000000000017.parquet.tmp",
            "_tmp/7/part-3-00000000000000000017.parquet",
            "trades/_SUCCESS",
        ] {
            assert_eq!(PartName::parse(other), None, "{other}");
        }
    }
}
