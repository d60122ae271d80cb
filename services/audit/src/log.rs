//! What the log holds.

use domain::{Position, TradeRow};
use ports::{LogScan, PortError};

use crate::insist;
use crate::tally::Tallies;

/// Calls `each` with every valid trade of a partition from `from` up to `end`; returns how many
/// records were none.
///
/// # Errors
/// If the log cannot be read.
pub async fn for_each_trade(
    scan: &dyn LogScan,
    from: &Position,
    end: i64,
    mut each: impl FnMut(&TradeRow),
) -> Result<u64, PortError> {
    let mut next = from.clone();
    let mut unusable = 0;
    while next.offset < end {
        let records = insist("log scan", || scan.read(&next, end)).await?;
        let Some(last) = records.last() else { break };
        next.offset = last.offset + 1;
        for record in &records {
            match TradeRow::from_record(record) {
                Ok(row) => each(&row),
                Err(_) => unusable += 1,
            }
        }
    }
    Ok(unusable)
}

/// Tallies a partition from `from` up to `end`; returns how many records were no valid trade.
///
/// # Errors
/// If the log cannot be read.
pub async fn tally(scan: &dyn LogScan, from: &Position, end: i64, into: &mut Tallies) -> Result<u64, PortError> {
    for_each_trade(scan, from, end, |row| into.add(row)).await
}
