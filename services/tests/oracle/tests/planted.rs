//! A checker that has never caught a planted fault is not trusted.

use std::collections::BTreeMap;

use domain::{Decimal, IdRange, IdSet, Symbol, Timestamp, Trade};
use exchange_sim::{Issued, SimConfig, SymbolIssued};
use oracle::{Oracle, Times};

const IDS: IdRange = IdRange { from: 11, to: 3_000 };

fn symbol() -> Symbol {
    "BTCUSDT".parse().unwrap()
}

fn oracle() -> Oracle {
    let config = SimConfig { epoch_ms: Some(1_723_161_240_000), ..SimConfig::default() };
    let mut oracle = Oracle::new(&config).unwrap();
    oracle.expect_ids(&symbol(), IDS);
    oracle
}

fn issued() -> Vec<Trade> {
    oracle().expect(&symbol(), IDS).collect()
}

fn ids(set: &IdSet) -> Vec<u64> {
    set.ranges().flat_map(|range| range.from..=range.to).collect()
}

/// The checker's findings: lost, duplicated, differing, unexpected.
fn findings(stored: Vec<Trade>) -> [Vec<u64>; 4] {
    let others = issued().into_iter().map(|trade| ("log", trade));
    let report = oracle().check(others.chain(stored.into_iter().map(|trade| ("tables", trade))));
    assert!(report.sources["log"].symbols[&symbol()].is_exact());
    let found = &report.sources["tables"].symbols[&symbol()];
    assert_eq!(report.is_exact(), found.is_exact(), "{report}");
    [&found.lost, &found.duplicated, &found.differing, &found.unexpected].map(ids)
}

const NONE: Vec<u64> = Vec::new();

#[test]
fn what_was_issued_is_exact_in_any_order() {
    let mut trades = issued();
    assert_eq!((trades[0].id, trades.len()), (11, 2_990));
    trades.reverse();
    trades[7].event_time = None;
    assert_eq!(findings(trades), [NONE, NONE, NONE, NONE]);
}

#[test]
fn a_lost_row_is_caught() {
    for place in [0, 1_234, 2_989] {
        let mut trades = issued();
        let lost = trades.remove(place);
        assert_eq!(findings(trades), [vec![lost.id], NONE, NONE, NONE]);
    }
}

#[test]
fn a_doubled_row_is_caught() {
    let mut trades = issued();
    trades.push(trades[500].clone());
    assert_eq!(findings(trades), [NONE, vec![511], NONE, NONE]);
}

#[test]
fn any_changed_value_is_caught() {
    let changes: [fn(&mut Trade); 5] = [
        |trade| trade.price = trade.price.checked_add(Decimal::new(1, 8).unwrap()).unwrap(),
        |trade| trade.quantity = Decimal::new(trade.quantity.mantissa() + 1, 8).unwrap(),
        |trade| trade.trade_time = Timestamp::from_micros(trade.trade_time.micros() + 1),
        |trade| trade.event_time = Some(trade.trade_time),
        |trade| trade.buyer_is_maker = !trade.buyer_is_maker,
    ];
    for change in changes {
        let mut trades = issued();
        change(&mut trades[100]);
        assert_eq!(findings(trades), [NONE, NONE, vec![111], NONE]);
    }
}

#[test]
fn what_was_never_issued_is_caught() {
    for stray in [1, 10, 3_001] {
        let mut trades = issued();
        trades.push(Trade { id: stray, ..trades[0].clone() });
        assert_eq!(findings(trades), [NONE, NONE, NONE, vec![stray]]);
    }
    let mut trades = issued();
    trades.push(Trade { symbol: "NOSUCH".parse().unwrap(), ..trades[0].clone() });
    assert!(!oracle().check_one("log", trades).is_exact());
}

#[test]
fn an_empty_source_has_lost_everything() {
    let report = oracle().check_one("tables", Vec::new());
    assert_eq!(report.sources["tables"].symbols[&symbol()].lost.len(), 2_990);
    assert!(report.to_string().ends_with("NOT EXACT"));
    assert!(!oracle().check(Vec::<(&str, Trade)>::new()).is_exact(), "nothing checked proves nothing");
}

#[test]
fn what_was_withheld_for_ever_is_not_expected() {
    let set = |ranges: &[(u64, u64)]| {
        let mut ids = IdSet::new();
        ranges.iter().for_each(|(from, to)| ids.insert_range(IdRange { from: *from, to: *to }));
        ids
    };
    let one =
        SymbolIssued { first: 1, last: 100, streamed_from: 5, skipped: set(&[(20, 30)]), withheld: set(&[(40, 49)]) };
    let issued = Issued { symbols: BTreeMap::from([(symbol(), one)]), done: false, faults: BTreeMap::new() };
    let mut oracle = Oracle::new(&SimConfig { epoch_ms: Some(1_723_161_240_000), ..SimConfig::default() }).unwrap();
    oracle.expect_issued(&issued);
    assert_eq!(oracle.expected(&symbol()), set(&[(5, 39), (50, 100)]));
    oracle.expect_from(&BTreeMap::from([(symbol(), 8)]));
    assert_eq!(oracle.expected(&symbol()), set(&[(8, 39), (50, 100)]));
    let stored = |ids: IdRange| oracle.expect(&symbol(), ids).collect::<Vec<_>>();
    let mut trades = [stored(IdRange { from: 8, to: 39 }), stored(IdRange { from: 50, to: 100 })].concat();
    assert!(oracle.check_one("log", trades.clone()).is_exact());
    trades.extend(stored(IdRange::one(44)));
    assert!(!oracle.check_one("log", trades).is_exact());
}

#[test]
fn milliseconds_are_all_that_some_clients_see() {
    let oracle = oracle().with_times(Times::Millis);
    let cut = |time: Timestamp| Timestamp::from_millis(time.millis());
    let trades: Vec<Trade> = issued()
        .into_iter()
        .map(|trade| Trade { trade_time: cut(trade.trade_time), event_time: trade.event_time.map(cut), ..trade })
        .collect();
    assert!(oracle.check_one("log", trades).is_exact());
    assert!(!oracle.check_one("log", issued()).is_exact());
}
