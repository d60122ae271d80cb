//! What the tallies of the stores say of each other.

use std::collections::{BTreeMap, BTreeSet};

use domain::{GapRow, IdRange, IdSet, Symbol, Timestamp};

use crate::report::{Finding, HourReport};
use crate::scope::Scope;
use crate::tally::{Tallies, Tally};

/// Everything that is known of all stores.
#[derive(Debug, Default)]
pub struct Evidence {
    /// The log, up to the limit of each partition.
    pub log: Tallies,
    /// Ids in the log behind the limit: a store may have them already.
    pub ahead: Tallies,
    /// The tables, as far as they are in the scope.
    pub tables: Tallies,
    /// The archive, up to the limit of each partition.
    pub archive: Tallies,
    /// The gaps of each symbol.
    pub gaps: BTreeMap<Symbol, Vec<GapRow>>,
    /// Duplicates that ingest dropped, by symbol and hour.
    pub dropped: BTreeMap<(Symbol, Timestamp), u64>,
    /// Trades that are not the same as in the log: store, symbol, hour, id.
    pub differing: Vec<(&'static str, Symbol, Timestamp, u64)>,
    /// Hours in which the tables are not what the log is.
    pub suspects: Vec<(Symbol, Timestamp)>,
}

impl Evidence {
    /// A row per symbol and hour of the scope, and everything that is wrong there.
    pub fn judge(&self, scope: &Scope) -> (Vec<HourReport>, Vec<Finding>) {
        let mut hours = Vec::new();
        let mut findings = Vec::new();
        let symbols: BTreeSet<Symbol> = self.log.symbols().into_iter().chain(self.tables.symbols()).collect();
        for symbol in symbols {
            self.judge_symbol(&symbol, scope, &mut hours, &mut findings);
        }
        let differing = self.differing.iter().filter(|(_, symbol, hour, _)| scope.includes(symbol, *hour));
        findings.extend(differing.map(|(store, symbol, hour, id)| Finding::Differing {
            store,
            symbol: symbol.clone(),
            hour: *hour,
            id: *id,
        }));
        (hours, findings)
    }

    fn judge_symbol(&self, symbol: &Symbol, scope: &Scope, hours: &mut Vec<HourReport>, findings: &mut Vec<Finding>) {
        let log = self.log.ids(symbol);
        let mut known = log.clone();
        known.extend(self.ahead.ids(symbol).ranges());
        let mut nowhere = match log.first().zip(log.last()) {
            Some((from, to)) => known.holes(IdRange { from, to }),
            None => Vec::new(),
        };
        let included: Vec<(Timestamp, &Tally)> =
            self.log.of(symbol).filter(|(hour, _)| scope.includes(symbol, *hour)).collect();
        // A gap belongs to the hour of the trade that follows it; one amid the order of ids, to all.
        let elsewhere = |ids: &IdRange| {
            let follows = |(_, tally): (Timestamp, &Tally)| tally.ids.contains(ids.to + 1);
            self.log.of(symbol).filter(|(hour, _)| !scope.includes(symbol, *hour)).any(follows)
        };
        nowhere.retain(|ids| !elsewhere(ids));
        findings.extend(nowhere.iter().flat_map(|ids| self.missing(symbol, *ids)));
        for (store, tallies) in [("tables", &self.tables), ("archive", &self.archive)] {
            let (absent, surplus) = self.apart(symbol, tallies, scope);
            findings.extend(absent.ranges().map(|ids| Finding::Absent { store, symbol: symbol.clone(), ids }));
            findings.extend(surplus.ranges().map(|ids| Finding::Surplus { store, symbol: symbol.clone(), ids }));
        }
        for (store, tallies) in [("log", &self.log), ("tables", &self.tables), ("archive", &self.archive)] {
            let mut whole = Tally::default();
            tallies.of(symbol).filter(|(hour, _)| scope.includes(symbol, *hour)).for_each(|(_, one)| whole.merge(one));
            let repeated = whole.repeated.ranges();
            findings.extend(repeated.map(|ids| Finding::Duplicate { store, symbol: symbol.clone(), ids }));
        }
        hours.extend(included.into_iter().map(|(hour, tally)| self.row(symbol, hour, tally, &nowhere)));
    }

    /// What a store lacks of the log, and what it has beyond it, hour by hour: in the wrong hour a trade is not where
    /// its readers look.
    fn apart(&self, symbol: &Symbol, held: &Tallies, scope: &Scope) -> (IdSet, IdSet) {
        let hours: BTreeSet<Timestamp> = self.log.of(symbol).chain(held.of(symbol)).map(|(hour, _)| hour).collect();
        let empty = Tally::default();
        let (mut absent, mut surplus) = (IdSet::new(), IdSet::new());
        for hour in hours.into_iter().filter(|hour| scope.includes(symbol, *hour)) {
            let of = |tallies: &Tallies| tallies.get(symbol, hour).unwrap_or(&empty).ids.clone();
            let (log, held, ahead) = (of(&self.log), of(held), of(&self.ahead));
            absent.extend(log.difference(&held).ranges());
            surplus.extend(held.difference(&log).difference(&ahead).ranges());
        }
        (absent, surplus)
    }

    /// The hours in which the tables need mending: where they lack, differ from or exceed the log.
    pub fn broken_hours(&self, scope: &Scope) -> BTreeSet<(Symbol, Timestamp)> {
        let mut broken = BTreeSet::new();
        let empty = Tally::default();
        for (symbol, hour, held) in self.tables.iter() {
            let log = self.log.get(symbol, hour).unwrap_or(&empty);
            let ahead = self.ahead.get(symbol, hour).unwrap_or(&empty);
            let surplus = held.ids.difference(&log.ids).difference(&ahead.ids);
            if !surplus.is_empty() || !log.ids.difference(&held.ids).is_empty() || !held.repeated.is_empty() {
                broken.insert((symbol.clone(), hour));
            }
        }
        let absent = self
            .log
            .iter()
            .filter(|(symbol, hour, _)| scope.includes(symbol, *hour) && self.tables.get(symbol, *hour).is_none());
        broken.extend(absent.map(|(symbol, hour, _)| (symbol.clone(), hour)));
        let differing = self.differing.iter().filter(|(store, ..)| *store == "tables");
        broken.extend(differing.map(|(_, symbol, hour, _)| (symbol.clone(), *hour)));
        broken
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
            first_id: log.ids.first(),
            last_id: log.ids.last(),
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
