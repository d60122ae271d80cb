//! Second stage: which ids of each symbol and hour are stored, and which are not.
//!
//! ```text
//!        hour 8              hour 9
//!  ...###########  |  ##..##########...
//!               ▲  first          last ▲
//!   last of the hour before            ids expected of hour 9: from there to its own last
//! ```
//!
//! The state is a cache of the table: an hour that is not here is read back from its rows. So
//! nothing is lost by forgetting, and doing it again changes nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use domain::{BySymbol, CompletenessRow, IdRange, IdSet, Symbol, Timestamp, Trade};
use serde::{Deserialize, Serialize};

/// How many hours of a symbol are kept between checkpoints.
const HOURS_KEPT: usize = 3;

/// The stored ids of one partition's symbols.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completeness {
    symbols: BySymbol<SymbolHours>,
}

/// The stored ids of one symbol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct SymbolHours {
    newest: Timestamp,
    hours: BTreeMap<Timestamp, Hour>,
}

/// The stored ids of one symbol and hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hour {
    /// Which ids are stored.
    pub ids: IdSet,
    /// How many of them came late.
    pub late: u64,
    /// The offset up to which `late` has been counted.
    pub counted_to: i64,
    /// The last id of the hour before this one, if that is not in mind itself.
    #[serde(default)]
    pub before: Option<u64>,
    /// Whether the hour behind this one is in mind, too, or known not to be there.
    #[serde(skip)]
    pub is_followed: bool,
    /// Whether it has changed since its row was taken to be stored.
    #[serde(skip)]
    pub is_changed: bool,
}

impl Completeness {
    /// Whether an hour is known here.
    pub fn knows(&self, symbol: &Symbol, hour: Timestamp) -> bool {
        self.symbols.get(symbol).is_some_and(|symbol| symbol.hours.contains_key(&hour))
    }

    /// Whether an hour has a later one whose count depends on it, and which may not be in mind.
    pub fn lacks_follower(&self, symbol: &Symbol, hour: Timestamp) -> bool {
        let Some(symbol) = self.symbols.get(symbol) else { return false };
        hour < symbol.newest.hour() && symbol.hours.get(&hour).is_none_or(|hour| !hour.is_followed)
    }

    /// The hour behind this one is in mind, or there is none.
    pub fn followed(&mut self, symbol: &Symbol, hour: Timestamp) {
        let hours = self.symbols.get_mut(symbol).map(|symbol| &mut symbol.hours);
        if let Some(hour) = hours.and_then(|hours| hours.get_mut(&hour)) {
            hour.is_followed = true;
        }
    }

    /// Puts back an hour as the tables have it.
    pub fn restore(&mut self, symbol: &Symbol, hour: Timestamp, stored: Hour) {
        self.symbols.entry(symbol.clone()).or_default().hours.insert(hour, stored);
    }

    /// Enters a trade that is about to be stored; true if it is late. `None` if its hour has to be recalled first: it is not
    /// in mind, or the one whose count depends on it is not.
    pub fn enter_known(&mut self, trade: &Trade, offset: i64, watermark: Duration) -> Option<bool> {
        let symbol = self.symbols.get_mut(&trade.symbol)?;
        let hour = trade.trade_time.hour();
        let is_newest = hour >= symbol.newest.hour();
        let stored = symbol.hours.get_mut(&hour).filter(|stored| is_newest || stored.is_followed)?;
        symbol.newest = symbol.newest.max(trade.trade_time);
        Some(stored.enter(trade, offset, symbol.newest, watermark))
    }

    /// Enters a trade that is about to be stored; true if it is late. Its hour must be known.
    pub fn enter(&mut self, trade: &Trade, offset: i64, watermark: Duration) -> bool {
        let symbol = self.symbols.entry(trade.symbol.clone()).or_default();
        symbol.newest = symbol.newest.max(trade.trade_time);
        let stored = symbol.hours.entry(trade.trade_time.hour()).or_default();
        stored.enter(trade, offset, symbol.newest, watermark)
    }

    /// The rows that have changed since they were taken, and those of the hours behind them, whose expectation depends
    /// on them.
    pub fn take_changed_rows(&mut self, version: i64) -> Vec<CompletenessRow> {
        let rows = self.changed_rows(version);
        self.symbols.values_mut().flat_map(|symbol| symbol.hours.values_mut()).for_each(|hour| hour.is_changed = false);
        rows
    }

    fn changed_rows(&self, version: i64) -> Vec<CompletenessRow> {
        let mut rows = Vec::new();
        for (name, symbol) in &self.symbols {
            let mut is_affected = false;
            for (hour, stored) in &symbol.hours {
                if stored.is_changed || is_affected {
                    rows.extend(symbol.row(name, *hour, version));
                }
                is_affected = stored.is_changed;
            }
        }
        rows
    }

    /// What will be in mind once the rows taken are stored.
    pub fn without_forgotten(&self) -> Cow<'_, Self> {
        let mut kept = Cow::Borrowed(self);
        if self.symbols.values().any(|symbol| symbol.hours.len() > HOURS_KEPT) {
            kept.to_mut().forget();
        }
        kept
    }

    /// The rows taken are stored: all but the newest hours of each symbol are forgotten, as far as they have not changed
    /// since.
    pub fn forget(&mut self) {
        for symbol in self.symbols.values_mut() {
            while symbol.hours.len() > HOURS_KEPT {
                let oldest = symbol.hours.first_entry().filter(|oldest| !oldest.get().is_changed);
                let Some(forgotten) = oldest.map(|oldest| oldest.remove().ids.last()) else { break };
                if let Some(mut oldest) = symbol.hours.first_entry() {
                    let before = &mut oldest.get_mut().before;
                    *before = forgotten.max(*before);
                }
            }
        }
    }
}

impl Hour {
    fn enter(&mut self, trade: &Trade, offset: i64, newest: Timestamp, watermark: Duration) -> bool {
        let late = trade.trade_time.plus(watermark) < newest;
        self.ids.insert(trade.id);
        let counts = late && offset > self.counted_to;
        self.late += u64::from(counts);
        self.counted_to = self.counted_to.max(offset);
        self.is_changed = true;
        counts
    }
}

impl SymbolHours {
    fn row(&self, symbol: &Symbol, hour: Timestamp, version: i64) -> Option<CompletenessRow> {
        let stored = self.hours.get(&hour)?;
        let (first_id, last_id) = stored.ids.first().zip(stored.ids.last())?;
        let in_mind = self.hours.range(..hour).next_back().and_then(|(_, hour)| hour.ids.last());
        let before = in_mind.max(stored.before);
        let from = before.filter(|last| *last < first_id).map_or(first_id, |last| last + 1);
        let holes = stored.ids.holes(IdRange { from, to: last_id });
        let missing = holes.into_iter().map(|ids| self.nowhere(ids)).sum();
        let present = stored.ids.len();
        Some(CompletenessRow {
            symbol: symbol.clone(),
            hour,
            first_id,
            last_id,
            expected: present + missing,
            present,
            missing,
            late: stored.late,
            version,
        })
    }

    /// How many of the ids no hour has: around the full hour, ids and times may be out of step.
    fn nowhere(&self, ids: IdRange) -> u64 {
        let elsewhere: u64 = self.hours.values().flat_map(|hour| hour.ids.within(ids)).map(IdRange::count).sum();
        ids.count() - elsewhere
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn trade(id: u64, time: i64) -> Trade {
        Trade {
            symbol: "BTCUSDT".parse().unwrap(),
            id,
            price: "1".parse().unwrap(),
            quantity: "1".parse().unwrap(),
            trade_time: Timestamp::from_micros(time),
            event_time: None,
            buyer_is_maker: true,
        }
    }

    fn entered(trades: &[(u64, i64)]) -> Completeness {
        let mut completeness = Completeness::default();
        for (offset, &(id, time)) in trades.iter().enumerate() {
            completeness.enter(&trade(id, time), offset as i64 + 1, Duration::from_secs(600));
        }
        completeness
    }

    #[test]
    fn counts_what_is_missing_also_between_hours() {
        let rows = entered(&[(10, 0), (11, 5), (14, 9), (17, HOUR), (18, HOUR + 1)]).changed_rows(9);
        let counts: Vec<_> =
            rows.iter().map(|row| (row.first_id, row.last_id, row.expected, row.present, row.missing)).collect();
        assert_eq!(counts, [(10, 14, 5, 3, 2), (17, 18, 4, 2, 2)]);
    }

    #[test]
    fn a_filled_gap_corrects_the_hour_behind_it() {
        let mut completeness = entered(&[(10, 0), (17, HOUR)]);
        assert_eq!(completeness.changed_rows(1).iter().map(|row| row.missing).sum::<u64>(), 6);
        for id in 11..17 {
            completeness.enter(&trade(id, 1), 2, Duration::from_secs(600));
        }
        let rows = completeness.changed_rows(2);
        assert_eq!(rows.iter().map(|row| row.missing).collect::<Vec<_>>(), [0, 0]);
        assert_eq!(rows[1].expected, 1);
    }

    #[test]
    fn what_is_forgotten_still_counts_as_the_hour_before() {
        let mut completeness = entered(&[(10, 0), (20, HOUR), (30, 2 * HOUR), (40, 3 * HOUR), (50, 4 * HOUR)]);
        completeness.take_changed_rows(5);
        let kept = completeness.without_forgotten().into_owned();
        completeness.forget();
        assert_eq!(completeness, kept);
        assert!(!completeness.knows(&"BTCUSDT".parse().unwrap(), Timestamp::from_micros(HOUR)));
        completeness.enter(&trade(25, 2 * HOUR), 9, Duration::from_secs(600));
        let rows = completeness.changed_rows(9);
        let counts: Vec<_> = rows.iter().map(|row| (row.first_id, row.expected, row.missing)).collect();
        // 21 to 24 and 26 to 29 in the hour that was changed, 31 to 39 in the one behind it.
        assert_eq!(counts, [(25, 10, 8), (40, 10, 9)]);
    }

    #[test]
    fn an_hour_that_changed_while_its_row_was_stored_is_not_forgotten() {
        let symbol: Symbol = "BTCUSDT".parse().unwrap();
        let hours = (0..6).map(|hour| (10 * (hour as u64 + 1), hour * HOUR)).collect::<Vec<_>>();
        let mut completeness = entered(&hours);
        assert_eq!(completeness.take_changed_rows(6).len(), 6);
        completeness.enter(&trade(25, HOUR), 7, Duration::from_secs(600));
        completeness.forget();
        let known = |completeness: &Completeness| {
            (0..6).filter(|hour| completeness.knows(&symbol, Timestamp::from_micros(hour * HOUR))).collect::<Vec<_>>()
        };
        assert_eq!(known(&completeness), [1, 2, 3, 4, 5]);
        let rows = completeness.take_changed_rows(7);
        assert_eq!(rows.iter().map(|row| (row.first_id, row.late)).collect::<Vec<_>>(), [(20, 1), (30, 0)]);
        completeness.forget();
        assert_eq!(known(&completeness), [3, 4, 5]);
    }

    #[test]
    fn an_old_hour_comes_back_with_its_neighbours() {
        let symbol: Symbol = "BTCUSDT".parse().unwrap();
        let mut completeness = entered(&[(100, 9 * HOUR)]);
        completeness.take_changed_rows(5);
        let at = |hour: i64| Timestamp::from_micros(hour * HOUR);
        assert!(completeness.lacks_follower(&symbol, at(3)) && !completeness.lacks_follower(&symbol, at(9)));
        let stored = |ids: [u64; 2]| Hour { ids: ids.into_iter().map(IdRange::one).collect(), ..Hour::default() };
        let watermark = Duration::from_secs(600);
        let old = trade(22, 3 * HOUR + 7);
        let before = completeness.clone();
        assert_eq!((completeness.enter_known(&old, 9, watermark), &completeness), (None, &before));
        completeness.restore(&symbol, at(3), Hour { before: Some(14), ..stored([20, 21]) });
        completeness.restore(&symbol, at(4), stored([30, 31]));
        assert_eq!(completeness.enter_known(&old, 9, watermark), None, "the hour behind it may be another");
        completeness.followed(&symbol, at(3));
        assert_eq!(completeness.enter_known(&old, 9, watermark), Some(true));
        let rows = completeness.changed_rows(9);
        let counts: Vec<_> = rows.iter().map(|row| (row.hour, row.present, row.missing)).collect();
        assert_eq!(counts, [(at(3), 3, 5), (at(4), 2, 7)]);
    }

    #[test]
    fn ids_out_of_step_with_the_hour_are_not_missing() {
        let rows = entered(&[(10, 0), (12, 5), (11, HOUR), (13, HOUR)]).changed_rows(1);
        assert_eq!(rows.iter().map(|row| (row.present, row.missing)).collect::<Vec<_>>(), [(2, 0), (2, 0)]);
    }

    #[test]
    fn doing_it_again_changes_nothing() {
        let mut completeness = entered(&[(10, 2 * HOUR), (9, 0)]);
        let once = completeness.changed_rows(1);
        assert_eq!(once[0].late, 1);
        completeness.enter(&trade(10, 2 * HOUR), 1, Duration::from_secs(600));
        completeness.enter(&trade(9, 0), 2, Duration::from_secs(600));
        assert_eq!(completeness.changed_rows(1), once);
    }
}
