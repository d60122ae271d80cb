//! What the log holds.

use domain::{Position, Record, TradeRow};
use ports::{LogScan, PortError};

use crate::insist;
use crate::tally::Tallies;

/// Records of the log, a batch at a time: those of one partition from an offset on, below `end`.
pub struct LogPages<'a> {
    scan: &'a dyn LogScan,
    next: Position,
    end: i64,
}

impl<'a> LogPages<'a> {
    /// From `from` on.
    pub fn new(scan: &'a dyn LogScan, from: Position, end: i64) -> Self {
        Self { scan, next: from, end }
    }

    /// The next records; none at the end.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn next(&mut self) -> Result<Vec<Record>, PortError> {
        if self.next.offset >= self.end {
            return Ok(Vec::new());
        }
        let records = insist("log scan", || self.scan.read(&self.next, self.end)).await?;
        self.next.offset = records.last().map_or(self.end, |last| last.offset + 1);
        Ok(records)
    }
}

/// Tallies a partition from `from` up to `end`; returns how many records were no valid trade.
///
/// # Errors
/// If the log cannot be read.
pub async fn tally(scan: &dyn LogScan, from: Position, end: i64, into: &mut Tallies) -> Result<u64, PortError> {
    let mut pages = LogPages::new(scan, from, end);
    let mut unusable = 0;
    loop {
        let records = pages.next().await?;
        if records.is_empty() {
            return Ok(unusable);
        }
        for record in &records {
            match TradeRow::from_record(record) {
                Ok(row) => into.add(&row),
                Err(_) => unusable += 1,
            }
        }
    }
}
