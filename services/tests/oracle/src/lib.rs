//! The independent ledger checker: what is stored must be exactly what the simulated exchange issued.
//!
//! It shares nothing with the pipeline but the vocabulary. What was issued it computes again from
//! the market's pure function, trade by trade, and compares in both directions: nothing lost,
//! nothing doubled, nothing different, nothing that never was.

mod report;

use std::collections::{BTreeMap, HashMap};

use domain::{IdRange, IdSet, Symbol, Timestamp, Trade};
use exchange_sim::{Issued, Market, SimConfig, SimError};

pub use report::{Difference, Report, SourceReport, SymbolReport};

/// Knows every trade that the exchange issued.
#[derive(Clone, Debug)]
pub struct Oracle {
    market: Market,
    times: Times,
    expected: BTreeMap<Symbol, IdSet>,
}

/// What of the times survives on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Times {
    /// Everything: the client asked for microseconds.
    #[default]
    Micros,
    /// Milliseconds, the exchange's default.
    Millis,
}

impl Oracle {
    /// An oracle that expects nothing yet.
    ///
    /// # Errors
    /// If the settings cannot work or have no epoch; `Running::config` and `GET /sim/config` have it.
    pub fn new(config: &SimConfig) -> Result<Self, SimError> {
        Ok(Self { market: Market::new(config)?, times: Times::default(), expected: BTreeMap::new() })
    }

    /// For clients that ask for other times than microseconds.
    #[must_use]
    pub fn with_times(mut self, times: Times) -> Self {
        self.times = times;
        self
    }

    /// Expects these ids of a symbol, as well as those expected before.
    pub fn expect_ids(&mut self, symbol: &Symbol, ids: IdRange) {
        self.expected.entry(symbol.clone()).or_default().insert_range(ids);
    }

    /// Expects all that the server could stream or give away since it started, up to now; what
    /// was withheld for ever is not expected, and to have it would be an error.
    pub fn expect_issued(&mut self, issued: &Issued) {
        for (symbol, one) in &issued.symbols {
            let ids = self.expected.entry(symbol.clone()).or_default();
            if let Some(range) = IdRange::new(one.streamed_from, one.last) {
                ids.insert_range(range);
            }
            *ids = ids.difference(&one.withheld);
        }
    }

    /// Of each symbol, expects only ids from the given one on: a collector that started late cannot
    /// have the earlier ones. A symbol that is not given is not expected at all.
    pub fn expect_from(&mut self, first_ids: &BTreeMap<Symbol, u64>) {
        self.expected.retain(|symbol, ids| {
            let first = first_ids.get(symbol).copied();
            if let Some(before) = first.and_then(|first| IdRange::new(0, first.checked_sub(1)?)) {
                ids.remove_range(before);
            }
            first.is_some()
        });
    }

    /// The ids that are expected of a symbol.
    pub fn expected(&self, symbol: &Symbol) -> IdSet {
        self.expected.get(symbol).cloned().unwrap_or_default()
    }

    /// The trades that the exchange issued with these ids, in their order; none for a symbol that
    /// it does not have.
    pub fn expect(&self, symbol: &Symbol, ids: IdRange) -> impl Iterator<Item = Trade> + '_ {
        let market = self.market.symbol(symbol.as_str());
        let ticks = market.into_iter().flat_map(move |market| market.ticks_from(ids.from));
        let ticks = ticks.skip_while(move |tick| tick.id < ids.from).take_while(move |tick| tick.id <= ids.to);
        let symbol = symbol.clone();
        ticks.map(move |tick| self.times.of(tick.trade(&symbol)))
    }

    /// Compares what each source has (the log, the tables, the archive) with what is expected.
    ///
    /// An observed trade without an event time is as good as one with it: REST does not tell it.
    pub fn check<S: ToString>(&self, observed: impl IntoIterator<Item = (S, Trade)>) -> Report {
        let mut sources: BTreeMap<String, HashMap<Symbol, Vec<Trade>>> = BTreeMap::new();
        for (source, trade) in observed {
            let trades = sources.entry(source.to_string()).or_default();
            trades.entry(trade.symbol.clone()).or_default().push(trade);
        }
        let check = |(source, trades)| (source, self.check_source(trades));
        Report { sources: sources.into_iter().map(check).collect() }
    }

    /// Compares what one source has, which may be nothing, with what is expected.
    pub fn check_one(&self, source: &str, observed: impl IntoIterator<Item = Trade>) -> Report {
        let mut trades: HashMap<Symbol, Vec<Trade>> = HashMap::new();
        for trade in observed {
            trades.entry(trade.symbol.clone()).or_default().push(trade);
        }
        Report { sources: BTreeMap::from([(source.to_owned(), self.check_source(trades))]) }
    }

    fn check_source(&self, mut trades: HashMap<Symbol, Vec<Trade>>) -> SourceReport {
        let mut symbols: BTreeMap<Symbol, SymbolReport> = BTreeMap::new();
        let nothing = IdSet::new();
        for symbol in self.expected.keys().cloned().chain(trades.keys().cloned().collect::<Vec<_>>()) {
            if !symbols.contains_key(&symbol) {
                let observed = trades.remove(&symbol).unwrap_or_default();
                let expected = self.expected.get(&symbol).unwrap_or(&nothing);
                symbols.insert(symbol.clone(), self.check_symbol(&symbol, expected, observed));
            }
        }
        SourceReport { symbols }
    }

    fn check_symbol(&self, symbol: &Symbol, expected: &IdSet, mut observed: Vec<Trade>) -> SymbolReport {
        observed.sort_by_key(|trade| trade.id);
        let mut report =
            SymbolReport { expected: expected.len(), observed: observed.len() as u64, ..SymbolReport::default() };
        let mut observed = observed.into_iter().peekable();
        for range in expected.ranges() {
            for issued in self.expect(symbol, range) {
                while let Some(stray) = observed.next_if(|trade| trade.id < issued.id) {
                    report.unexpected.insert(stray.id);
                }
                let mut copies = 0;
                while let Some(stored) = observed.next_if(|trade| trade.id == issued.id) {
                    copies += 1;
                    report.compare(&issued, &stored);
                }
                report.count_copies(issued.id, copies);
            }
        }
        observed.for_each(|stray| {
            report.unexpected.insert(stray.id);
        });
        report
    }
}

impl Times {
    fn of(self, trade: Trade) -> Trade {
        match self {
            Self::Micros => trade,
            Self::Millis => {
                Trade { trade_time: in_millis(trade.trade_time), event_time: trade.event_time.map(in_millis), ..trade }
            }
        }
    }
}

fn in_millis(time: Timestamp) -> Timestamp {
    Timestamp::from_millis(time.millis())
}
