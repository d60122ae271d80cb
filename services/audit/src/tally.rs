//! What a store holds, per symbol and hour.

use std::collections::BTreeMap;

use domain::{IdSet, Symbol, Timestamp, TradeRow};
use serde::{Deserialize, Serialize};

/// What a store holds of one symbol and hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// The ids, each once.
    pub ids: IdSet,
    /// Ids that it holds more than once.
    pub repeated: IdSet,
    /// How many rows it holds.
    pub rows: u64,
    /// The sum of the rows' fingerprints: equal sets of trades have equal sums, in whatever order they
    /// are read. Where ids are repeated it says nothing.
    pub fingerprint: u64,
}

impl Tally {
    /// Counts a row.
    pub fn add(&mut self, row: &TradeRow) {
        self.rows += 1;
        self.fingerprint = self.fingerprint.wrapping_add(row.fingerprint());
        if !self.ids.insert(row.trade.id) {
            self.repeated.insert(row.trade.id);
        }
    }

    /// Counts what another tally has counted.
    pub fn merge(&mut self, other: &Self) {
        self.repeated.extend(other.repeated.ranges());
        self.repeated.extend(other.ids.ranges().flat_map(|ids| self.ids.within(ids)));
        self.ids.extend(other.ids.ranges());
        self.rows += other.rows;
        self.fingerprint = self.fingerprint.wrapping_add(other.fingerprint);
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

    /// Counts what another store holds, or another part of this one.
    pub fn merge(&mut self, other: &Self) {
        for ((symbol, hour), tally) in &other.0 {
            self.put(symbol, *hour, tally);
        }
    }

    /// Counts what is held of a symbol and hour.
    pub fn put(&mut self, symbol: &Symbol, hour: Timestamp, tally: &Tally) {
        self.0.entry((symbol.clone(), hour)).or_default().merge(tally);
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

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{IdRange, Origin, Trade};

    fn row(id: u64) -> TradeRow {
        let trade = Trade {
            symbol: "BTCUSDT".parse().unwrap(),
            id,
            price: "1".parse().unwrap(),
            quantity: "1".parse().unwrap(),
            trade_time: Timestamp::from_micros(17),
            event_time: None,
            buyer_is_maker: true,
        };
        TradeRow { trade, origin: Origin::Live, received_at: Timestamp::from_micros(18) }
    }

    fn tally(ids: impl IntoIterator<Item = u64>) -> Tally {
        let mut tally = Tally::default();
        ids.into_iter().for_each(|id| tally.add(&row(id)));
        tally
    }

    #[test]
    fn parts_merge_to_the_whole_in_any_order() {
        let whole = tally(1..100);
        let parts = [tally(1..40), tally(70..100), tally(40..70)];
        let mut merged = Tally::default();
        parts.iter().for_each(|part| merged.merge(part));
        assert_eq!(merged, whole);
        merged.merge(&tally(10..=12));
        assert_eq!(merged.repeated.ranges().collect::<Vec<_>>(), [IdRange { from: 10, to: 12 }]);
        assert_eq!((merged.rows, merged.ids.len()), (102, 99));
    }
}
