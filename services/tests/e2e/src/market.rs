//! The oracle computes the simulated market again, and compares it with what other programs read.

use std::collections::BTreeMap;

use domain::{Symbol, Trade};
use exchange_sim::{Issued, Rate, SimConfig};
use oracle::{Oracle, Times};

/// How long after the market opened the first subscription may have come.
const OPENING_SECONDS: u64 = 30;

/// Expects a store to have exactly what the exchange issued of these symbols since the first trade that it has, which
/// must be one of the first seconds. Trades of other symbols are none of its concern.
///
/// # Panics
/// If anything is missing, too much or different.
pub fn compare(store: &str, trades: impl Iterator<Item = Trade>, sim: &SimConfig, issued: &Issued, symbols: &[Symbol]) {
    let trades: Vec<Trade> = trades.filter(|trade| symbols.contains(&trade.symbol)).collect();
    let mut first: BTreeMap<Symbol, u64> = BTreeMap::new();
    for trade in &trades {
        let known = first.entry(trade.symbol.clone()).or_insert(trade.id);
        *known = trade.id.min(*known);
    }
    assert!(first.len() == symbols.len(), "of {symbols:?} the tape has {first:?}");
    let Rate::PerSecond(rate) = sim.rate else { panic!("expected a market with a pace of its own") };
    let latest = rate * OPENING_SECONDS;
    assert!(first.values().sum::<u64>() < latest, "the tape begins late, at {first:?}, and not within {latest} trades");
    let mut oracle = Oracle::new(sim).expect("the simulator's own settings").with_times(Times::Micros);
    oracle.expect_issued(issued);
    oracle.expect_from(&first);
    let count = trades.len();
    let report = oracle.check_one(store, trades);
    assert!(report.is_exact(), "{report}");
    println!("storm: {store} has exactly the {count} trades that were issued from {first:?} on");
}
