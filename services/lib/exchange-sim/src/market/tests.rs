use super::*;
use crate::config::Rate;
use proptest::prelude::*;

const EPOCH_MS: i64 = 1_723_161_255_000;

fn config(seed: u64, rate: u64) -> SimConfig {
    SimConfig { seed, rate: Rate::PerSecond(rate), epoch_ms: Some(EPOCH_MS), ..SimConfig::default() }
}

fn market(seed: u64, rate: u64) -> Market {
    Market::new(&config(seed, rate)).unwrap()
}

#[test]
fn trades_are_in_order_and_consecutive() {
    for rate in [1, 30, 5_000] {
        for symbol in market(7, rate).symbols() {
            let ticks: Vec<Tick> = symbol.ticks_from(1).take(20_000).collect();
            assert_eq!(ticks[0].id, 1);
            for pair in ticks.windows(2) {
                let (a, b) = (pair[0], pair[1]);
                assert_eq!(b.id, a.id + 1);
                assert!(b.time_us >= a.time_us && b.event_us >= a.event_us, "{a:?} {b:?}");
                assert!(b.aggregate == a.aggregate || b.aggregate == a.aggregate + 1);
                if a.aggregate == b.aggregate {
                    assert_eq!((a.time_us, a.event_us, a.price), (b.time_us, b.event_us, b.price));
                }
            }
            for tick in &ticks {
                assert!(tick.price.0 > 0 && tick.quantity.0 > 0);
                assert!((LEAST_DELAY_US..=214_000).contains(&(tick.event_us - tick.time_us)), "{tick:?}");
            }
        }
    }
}

#[test]
fn the_same_settings_give_the_same_trades_and_others_do_not() {
    let trades = |seed| market(seed, 100).symbols()[0].ticks_from(5_000).take(1_000).collect::<Vec<_>>();
    assert_eq!(trades(1), trades(1));
    assert_ne!(trades(1), trades(2));
}

#[test]
fn the_market_never_changes_between_builds() {
    let market = market(1, 100);
    let tick = market.symbol("BTCUSDT").unwrap().tick(1_000_000).unwrap();
    let text = format!("{} {} {} {} {}", tick.time_us, tick.event_us, tick.price, tick.quantity, tick.aggregate);
    assert_eq!(text, "1723186241481082 1723186241483316 66840.86000000 0.00028000 569982");
}

#[test]
fn resembles_the_recording() {
    // The recording has 30 BTCUSDT trades a second; the share of BTCUSDT is 40 %.
    let market = market(3, 76);
    let symbol = market.symbol("BTCUSDT").unwrap();
    let ticks: Vec<Tick> = symbol.ticks_from(1).take(200_000).collect();
    let largest = |unit: i64| {
        let mut most = (0, 0, 0);
        for tick in &ticks {
            let at = tick.time_us / unit;
            most = if most.0 == at { (at, most.1 + 1, most.2.max(most.1 + 1)) } else { (at, 1, most.2) };
        }
        most.2
    };
    assert!((300..5_000).contains(&largest(1_000)), "{} in one ms", largest(1_000));
    assert!((500..5_000).contains(&largest(SECOND_US)), "{} in one s", largest(SECOND_US));
    let mut delays: Vec<i64> = ticks.iter().map(|tick| tick.event_us - tick.time_us).collect();
    delays.sort_unstable();
    assert!((1_500..2_500).contains(&delays[delays.len() / 2]), "median delay {} µs", delays[delays.len() / 2]);
    let makers = ticks.iter().filter(|tick| tick.buyer_is_maker).count() * 100 / ticks.len();
    assert!((40..60).contains(&makers), "{makers} % sold");
    let jumps = ticks.windows(2).filter(|pair| pair[0].price.0.abs_diff(pair[1].price.0) > pair[0].price.0 / 1_000);
    assert_eq!(jumps.count(), 0, "no price jumps by a thousandth");
    let lone = ticks.chunk_by(|a, b| a.time_us / 1_000 == b.time_us / 1_000).count() * 100 / ticks.len();
    assert!((15..60).contains(&lone), "milliseconds per hundred trades: {lone}");
}

#[test]
fn a_limit_is_the_number_of_trades() {
    let market = Market::new(&SimConfig { limit: Some(100_001), ..config(1, 1_000) }).unwrap();
    let total: usize = market.symbols().iter().map(|symbol| symbol.ticks_from(1).count()).sum();
    assert_eq!(total, 100_001);
    let one = &market.symbols()[0];
    assert_eq!(one.tick(one.last_id().unwrap() + 1), None);
    assert_eq!(one.issued_at(i64::MAX / 4), one.last_id().unwrap());
}

proptest! {
    #[test]
    fn an_id_leads_to_its_trade_and_its_time_back_to_the_id(
        seed: u64, rate in 1_u64..3_000, id in 1_u64..100_000_000, place in 0_usize..5,
    ) {
        let market = market(seed, rate);
        let symbol = &market.symbols()[place];
        let tick = symbol.tick(id).unwrap();
        prop_assert_eq!(tick.id, id);
        prop_assert_eq!(symbol.ticks_from(id.saturating_sub(5)).find(|tick| tick.id == id), Some(tick));
        prop_assert!(symbol.issued_at(tick.event_us) >= id);
        prop_assert!(symbol.issued_at(tick.event_us - 1) < id);
        let whole = symbol.ticks_from_aggregate(tick.aggregate).next().unwrap();
        prop_assert_eq!(whole.aggregate, tick.aggregate);
        prop_assert!(whole.id <= id);
        let since = symbol.ticks_since(tick.time_us).next().unwrap();
        prop_assert_eq!(since.time_us, tick.time_us);
        prop_assert!(since.id <= id);
    }

    #[test]
    fn prices_never_leave_the_neighbourhood(seed: u64, id in 1_u64..10_000_000_000) {
        let market = market(seed, 100);
        let base = Fixed::parse("61837.63").unwrap();
        let price = market.symbol("BTCUSDT").unwrap().tick(id).unwrap().price;
        prop_assert!(price.0.abs_diff(base.0) < base.0 / 8);
    }
}
