//! A symbol's hour in the tables against the log's trades of that hour.

use std::collections::BTreeMap;

use domain::{Position, Symbol, Timestamp, TradeRow};
use ports::{LogScan, TableQuery};

use crate::AuditError;
use crate::insist;
use crate::log::LogPages;
use crate::tables::for_each_trade;
use crate::tally::Tally;

/// How many differing trades of one hour are named.
const NAMED: usize = 20;

/// A stretch of the log in which an hour has trades.
pub type Place = (Position, i64);

/// What the tables have of an hour.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// All of it.
    pub held: Tally,
    /// The sum of the fingerprints of those that the log has, too.
    shared: u64,
    /// Whether they were only counted.
    pub is_counted: bool,
}

impl Stored {
    /// Whether all trades of the log are there, and the same; there may be others.
    pub fn has(&self, log: &Tally) -> bool {
        log.repeated.is_empty() && self.held.repeated.is_empty() && self.shared == log.fingerprint
    }
}

/// Reads what the tables have of an hour, or counts it if these trades were proved to be there.
///
/// # Errors
/// If the tables cannot be read.
pub async fn read(
    query: &dyn TableQuery,
    symbol: &Symbol,
    hour: Timestamp,
    log: &Tally,
    is_proved: bool,
) -> Result<Stored, AuditError> {
    if is_proved {
        let count = insist("count trades", || query.count_trades(symbol, hour)).await?;
        if count == log.rows {
            return Ok(Stored { held: log.clone(), shared: log.fingerprint, is_counted: true });
        }
    }
    let mut stored = Stored::default();
    for_each_trade(query, symbol, hour, |row| {
        stored.held.add(row);
        if log.ids.contains(row.trade.id) {
            stored.shared = stored.shared.wrapping_add(row.fingerprint());
        }
    })
    .await?;
    Ok(stored)
}

/// The fingerprints of an hour's trades in the log: more than one, where an id stands twice.
#[derive(Debug, Default)]
pub struct Fingerprints(Vec<(u64, u64)>);

impl Fingerprints {
    /// Reads them from where the log has trades of the hour.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn read(
        scan: &dyn LogScan,
        symbol: &Symbol,
        hour: Timestamp,
        places: &[Place],
    ) -> Result<Self, AuditError> {
        let mut all = Vec::new();
        for_each_of_hour(scan, symbol, hour, places, |row| all.push((row.trade.id, row.fingerprint()))).await?;
        all.sort_unstable();
        Ok(Self(all))
    }

    /// Whether the log has this trade.
    pub fn has(&self, row: &TradeRow) -> bool {
        self.0.binary_search(&(row.trade.id, row.fingerprint())).is_ok()
    }

    /// Whether the log has this id.
    pub fn has_id(&self, id: u64) -> bool {
        let place = self.0.partition_point(|(known, _)| *known < id);
        self.0.get(place).is_some_and(|(known, _)| *known == id)
    }
}

/// Calls `each` with every trade of an hour in stretches of the log.
///
/// # Errors
/// If the log cannot be read.
pub async fn for_each_of_hour(
    scan: &dyn LogScan,
    symbol: &Symbol,
    hour: Timestamp,
    places: &[Place],
    mut each: impl FnMut(TradeRow),
) -> Result<(), AuditError> {
    for (from, end) in places {
        let mut pages = LogPages::new(scan, from.clone(), *end);
        loop {
            let records = pages.next().await?;
            if records.is_empty() {
                break;
            }
            let rows = records.iter().filter_map(|record| TradeRow::from_record(record).ok());
            rows.filter(|row| row.trade.symbol == *symbol && row.hour() == hour).for_each(&mut each);
        }
    }
    Ok(())
}

/// Names trades of an hour that are not the same in the tables as in the log.
///
/// # Errors
/// If one of them cannot be read.
pub async fn differing(
    scan: &dyn LogScan,
    query: &dyn TableQuery,
    symbol: &Symbol,
    hour: Timestamp,
    places: &[Place],
) -> Result<Vec<u64>, AuditError> {
    let log = Fingerprints::read(scan, symbol, hour, places).await?;
    let mut differing = Vec::new();
    for_each_trade(query, symbol, hour, |row| {
        if differing.len() < NAMED && log.has_id(row.trade.id) && !log.has(row) {
            differing.push(row.trade.id);
        }
    })
    .await?;
    Ok(differing)
}

/// Where the log has trades of each hour.
#[derive(Clone, Debug, Default)]
pub struct Places(BTreeMap<(Symbol, Timestamp), Vec<Place>>);

impl Places {
    /// A stretch has trades of an hour.
    pub fn note(&mut self, symbol: &Symbol, hour: Timestamp, place: Place) {
        self.0.entry((symbol.clone(), hour)).or_default().push(place);
    }

    /// The stretches that have trades of an hour.
    pub fn of(&self, symbol: &Symbol, hour: Timestamp) -> Vec<Place> {
        self.0.get(&(symbol.clone(), hour)).cloned().unwrap_or_default()
    }
}
