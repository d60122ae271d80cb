//! The oracle computes the simulated market again, and compares it with what other programs read.

use std::collections::BTreeMap;

use domain::{Symbol, Trade};
use exchange_sim::{Issued, SimConfig};
use oracle::{Oracle, Times};

/// Where the tape of a symbol may begin: with the first subscription, a moment after the market opened.
const BEGINNING: u64 = 40_000;

/// Expects a store to have exactly what the exchange issued of these symbols since the first trade that it has.
/// Trades of other symbols are none of its concern.
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
    assert!(first.values().all(|id| *id < BEGINNING), "the tape begins late: {first:?}");
    let mut oracle = Oracle::new(sim).expect("the simulator's own settings").with_times(Times::Micros);
    oracle.expect_issued(issued);
    oracle.expect_from(&first);
    let count = trades.len();
    let report = oracle.check_one(store, trades);
    assert!(report.is_exact(), "{report}");
    println!("storm: {store} has exactly the {count} trades that were issued from {first:?} on");
}
