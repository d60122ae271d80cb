//! What the tallies of the stores say of each other.

use std::collections::BTreeMap;

use domain::{GapRow, IdRange, IdSet, Symbol, Timestamp};

use crate::report::{Finding, HourReport};
use crate::tally::{Tallies, Tally};

/// Everything that is known of all stores.
#[derive(Debug, Default)]
pub struct Evidence {
    /// The log, up to the limit of each partition.
    pub log: Tallies,
    /// Ids in the log behind the limit: a store may have them already.
    pub ahead: Tallies,
    /// The tables.
    pub tables: Tallies,
    /// The archive, up to the limit of each partition.
    pub archive: Tallies,
    /// The gaps of each symbol.
    pub gaps: BTreeMap<Symbol, Vec<GapRow>>,
    /// Duplicates that ingest dropped, by symbol and hour.
    pub dropped: BTreeMap<(Symbol, Timestamp), u64>,
    /// Trades that are not the same as in the log: store, symbol, hour, id.
    pub differing: Vec<(&'static str, Symbol, Timestamp, u64)>,
}

impl Evidence {
    /// A row per symbol and hour, and everything that is wrong.
    pub fn judge(&self) -> (Vec<HourReport>, Vec<Finding>) {
        let mut hours = Vec::new();
        let mut findings = Vec::new();
        for symbol in self.log.symbols() {
            self.judge_symbol(&symbol, &mut hours, &mut findings);
        }
        let differing = self.differing.iter();
        findings.extend(differing.map(|(store, symbol, _, id)| Finding::Differing {
            store,
            symbol: symbol.clone(),
            id: *id,
        }));
        (hours, findings)
    }

    fn judge_symbol(&self, symbol: &Symbol, hours: &mut Vec<HourReport>, findings: &mut Vec<Finding>) {
        let log = self.log.ids(symbol);
        let mut known = log.clone();
        known.extend(self.ahead.ids(symbol).ranges());
        let nowhere = match log.first().zip(log.last()) {
            Some((from, to)) => known.holes(IdRange { from, to }),
            None => Vec::new(),
        };
        findings.extend(nowhere.iter().flat_map(|ids| self.missing(symbol, *ids)));
        for (store, tallies) in [("tables", &self.tables), ("archive", &self.archive)] {
            let held = tallies.ids(symbol);
            let absent = log.difference(&held);
            let surplus = held.difference(&known);
            findings.extend(absent.ranges().map(|ids| Finding::Absent { store, symbol: symbol.clone(), ids }));
            findings.extend(surplus.ranges().map(|ids| Finding::Surplus { store, symbol: symbol.clone(), ids }));
        }
        for (store, tallies) in [("log", &self.log), ("tables", &self.tables), ("archive", &self.archive)] {
            let repeated: IdSet = tallies.of(symbol).flat_map(|(_, tally)| tally.repeated.ranges()).collect();
            findings.extend(repeated.ranges().map(|ids| Finding::Duplicate { store, symbol: symbol.clone(), ids }));
        }
        hours.extend(self.log.of(symbol).map(|(hour, tally)| self.row(symbol, hour, tally, &nowhere)));
    }

    /// A missing range, split where the gaps table tells different causes.
    fn missing(&self, symbol: &Symbol, ids: IdRange) -> Vec<Finding> {
        let gaps = self.gaps.get(symbol).map_or(&[][..], Vec::as_slice);
        let mut explained = IdSet::new();
        let mut findings = Vec::new();
        for gap in gaps {
            if let Some(part) = gap.ids.intersection(ids) {
                let cause = format!("{}, {}", gap.state.as_str(), gap.cause);
                findings.push(Finding::Missing { symbol: symbol.clone(), ids: part, cause });
                explained.insert_range(part);
            }
        }
        let silent = explained.holes(ids).into_iter();
        let cause = "no gap was ever reported".to_owned();
        findings.extend(silent.map(|ids| Finding::Missing { symbol: symbol.clone(), ids, cause: cause.clone() }));
        findings
    }

    fn row(&self, symbol: &Symbol, hour: Timestamp, log: &Tally, nowhere: &[IdRange]) -> HourReport {
        let empty = Tally::default();
        let tables = self.tables.get(symbol, hour).unwrap_or(&empty);
        let archive = self.archive.get(symbol, hour).unwrap_or(&empty);
        // A gap belongs to the hour of the trade that follows it.
        let follows = |ids: &&IdRange| ids.to.checked_add(1).is_some_and(|next| log.ids.contains(next));
        let missing = nowhere.iter().filter(follows).map(|ids| ids.count()).sum::<u64>();
        let present = log.ids.len();
        let common = |held: &Tally| present - log.ids.difference(&held.ids).len();
        let differing = self.differing.iter().filter(|(_, s, h, _)| (s, *h) == (symbol, hour)).count() as u64;
        HourReport {
            symbol: symbol.clone(),
            hour,
            issued: present + missing,
            log: present,
            tables: common(tables),
            archive: common(archive),
            missing,
            duplicates: [log, tables, archive].map(|tally| tally.rows - tally.ids.len()).iter().sum(),
            dropped: self.dropped.get(&(symbol.clone(), hour)).copied().unwrap_or(0),
            differing,
        }
    }
}
