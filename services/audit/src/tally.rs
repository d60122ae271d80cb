//! What a store holds, per symbol and hour.

use std::collections::BTreeMap;

use domain::{IdSet, Symbol, Timestamp, TradeRow};

/// What a store holds of one symbol and hour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The ids, each once.
    pub ids: IdSet,
    /// Ids that it holds more than once.
    pub repeated: IdSet,
    /// How many rows it holds.
    pub rows: u64,
    /// The sum of the fingerprints of the first row of each id: equal sets of trades have equal sums,
    /// in whatever order they are read.
    pub fingerprint: u64,
}

impl Tally {
    /// Counts a row.
    pub fn add(&mut self, row: &TradeRow) {
        self.rows += 1;
        if self.ids.insert(row.trade.id) {
            self.fingerprint = self.fingerprint.wrapping_add(row.fingerprint());
        } else {
            self.repeated.insert(row.trade.id);
        }
    }
}

/// What a store holds of all symbols and hours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tallies(BTreeMap<(Symbol, Timestamp), Tally>);

impl Tallies {
    /// Counts a row.
    pub fn add(&mut self, row: &TradeRow) {
        self.0.entry((row.trade.symbol.clone(), row.hour())).or_default().add(row);
    }

    /// The tally of a symbol and hour, if it holds anything.
    pub fn get(&self, symbol: &Symbol, hour: Timestamp) -> Option<&Tally> {
        self.0.get(&(symbol.clone(), hour))
    }

    /// All tallies, by symbol and hour.
    pub fn iter(&self) -> impl Iterator<Item = (&Symbol, Timestamp, &Tally)> {
        self.0.iter().map(|((symbol, hour), tally)| (symbol, *hour, tally))
    }

    /// All ids of a symbol.
    pub fn ids(&self, symbol: &Symbol) -> IdSet {
        self.of(symbol).flat_map(|(_, tally)| tally.ids.ranges()).collect()
    }

    /// The hours of a symbol, in order.
    pub fn of(&self, symbol: &Symbol) -> impl Iterator<Item = (Timestamp, &Tally)> {
        let first = (symbol.clone(), Timestamp::from_micros(i64::MIN));
        let last = (symbol.clone(), Timestamp::from_micros(i64::MAX));
        self.0.range(first..=last).map(|((_, hour), tally)| (*hour, tally))
    }

    /// The symbols, in order.
    pub fn symbols(&self) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = self.0.keys().map(|(symbol, _)| symbol.clone()).collect();
        symbols.dedup();
        symbols
    }
}
