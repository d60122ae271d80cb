//! What is to be audited, and how far one trusts what was proved before.

use std::collections::BTreeSet;

use domain::{Symbol, Timestamp, Topic};

/// The topics and tables that the audit compares.
#[derive(Clone, Debug)]
pub struct Topics {
    /// The topic of trades.
    pub stream: Topic,
    /// The role whose checkpoints say how far the tables have come.
    pub role: String,
}

/// Which trades are to be audited; by default all.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Only these markets; all if empty.
    pub symbols: BTreeSet<Symbol>,
    /// Only hours that end after this time.
    pub from: Option<Timestamp>,
    /// Only hours that start before this time.
    pub to: Option<Timestamp>,
    /// Read every row again, whatever was proved before.
    pub deep: bool,
}

impl Scope {
    /// Whether a symbol's hour is to be audited.
    pub fn includes(&self, symbol: &Symbol, hour: Timestamp) -> bool {
        let symbol = self.symbols.is_empty() || self.symbols.contains(symbol);
        let not_before = self.from.is_none_or(|from| hour >= from.hour());
        symbol && not_before && self.to.is_none_or(|to| hour < to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_that_a_time_cuts_are_included() {
        let at = |minutes: i64| Timestamp::from_millis(minutes * 60_000);
        let scope = Scope { from: Some(at(90)), to: Some(at(150)), ..Scope::default() };
        let symbol: Symbol = "BTCUSDT".parse().unwrap();
        let included = [0, 60, 120, 180].map(|start| scope.includes(&symbol, at(start)));
        assert_eq!(included, [false, true, true, false]);
        let other = Scope { symbols: ["ETHUSDT".parse().unwrap()].into(), ..Scope::default() };
        assert!(!other.includes(&symbol, at(0)));
    }
}
