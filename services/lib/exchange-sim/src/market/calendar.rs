//! How many trades fall into which second.
//!
//! Time is cut in periods of 300 s, each with the same number of trades, so that the first id of a
//! period is known without counting. Within a period the seconds have weights (quiet stretches,
//! bursts), and what falls into each follows by cumulative rounding. The same holds for aggregates
//! (what one taker order took at one price), which is why their ids need no counting either.
//!
//! ```text
//! period 0             period 1             period 2
//! |1 … N              |N+1 … 2N            |2N+1 … 3N           trade ids
//! |1 … A              |A+1 … 2A            |2A+1 … 3A           aggregate ids
//! ```

use super::noise::{Dice, hash, wave};

/// Seconds in a period.
pub(crate) const PERIOD: u64 = 300;

/// Aggregates per hundred trades, as recorded: 57 % of the trades begin one.
const AGGREGATES_PERCENT: u64 = 57;

/// Trades per second as recorded (BTCUSDT, mean 30, 645 of 651 s with trades): quantiles of 1,024.
const WEIGHTS: [(u64, u64); 10] =
    [(0, 1), (102, 3), (256, 6), (512, 15), (768, 38), (922, 65), (973, 88), (1_014, 210), (1_021, 300), (1_024, 950)];

/// How busy the market is over some minutes, in percent around 100.
const MOOD: (u64, i64) = (90, 60);

const LANE_WEIGHTS: u64 = 1;
const LANE_MOOD: u64 = 2;

/// How many trades and aggregates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) trades: u64,
    pub(crate) aggregates: u64,
}

/// The rule.
#[derive(Clone, Debug)]
pub(crate) struct Calendar {
    seed: u64,
    per_period: Count,
}

/// What came before each second of a period, and at the end all of it.
#[derive(Clone, Debug)]
pub(crate) struct Period {
    pub(crate) number: u64,
    before: Vec<Count>,
}

impl Calendar {
    /// `trades` in each period, at least one.
    pub(crate) fn new(seed: u64, trades: u64) -> Self {
        let trades = trades.max(1);
        let aggregates = (trades * AGGREGATES_PERCENT / 100).max(1);
        Self { seed, per_period: Count { trades, aggregates } }
    }

    /// All that came before a period.
    pub(crate) fn before(&self, period: u64) -> Count {
        let Count { trades, aggregates } = self.per_period;
        Count { trades: trades.saturating_mul(period), aggregates: aggregates.saturating_mul(period) }
    }

    /// The period of a trade, and how many trades of the period came before it.
    pub(crate) fn of_trade(&self, id: u64) -> (u64, u64) {
        let earlier = id.saturating_sub(1);
        (earlier / self.per_period.trades, earlier % self.per_period.trades)
    }

    /// The period of an aggregate, and how many aggregates of the period came before it.
    pub(crate) fn of_aggregate(&self, id: u64) -> (u64, u64) {
        let earlier = id.saturating_sub(1);
        (earlier / self.per_period.aggregates, earlier % self.per_period.aggregates)
    }

    /// A period's seconds.
    pub(crate) fn period(&self, number: u64) -> Period {
        let weights: Vec<u64> = (0..PERIOD).map(|place| self.weight(number * PERIOD + place)).collect();
        let aggregates = shares(self.per_period.aggregates, &weights);
        // Further trades fall only where there is an aggregate to hold them.
        let lumps: Vec<u64> = weights
            .iter()
            .zip(&aggregates)
            .enumerate()
            .map(|(place, (weight, aggregates))| match aggregates {
                0 => 0,
                _ => weight * (1 + hash(self.seed ^ LANE_WEIGHTS, number * PERIOD + place as u64) % 4),
            })
            .collect();
        let further = shares(self.per_period.trades - self.per_period.aggregates, &lumps);
        let mut before = Vec::with_capacity(weights.len() + 1);
        let mut sum = Count::default();
        before.push(sum);
        for (aggregates, further) in aggregates.into_iter().zip(further) {
            sum = Count { trades: sum.trades + aggregates + further, aggregates: sum.aggregates + aggregates };
            before.push(sum);
        }
        Period { number, before }
    }

    fn weight(&self, second: u64) -> u64 {
        let drawn = Dice::new(hash(self.seed, LANE_WEIGHTS), second).quantile(&WEIGHTS);
        let (span, depth) = MOOD;
        let percent = 100 + wave(hash(self.seed, LANE_MOOD), second, span, depth);
        drawn * percent.unsigned_abs()
    }
}

/// `total` in whole parts as the weights are; not all weights may be zero.
fn shares(total: u64, weights: &[u64]) -> Vec<u64> {
    let all: u64 = weights.iter().sum();
    let up_to = |sum: u64| (u128::from(sum) * u128::from(total) / u128::from(all.max(1))) as u64;
    let mut sum = 0;
    weights
        .iter()
        .map(|weight| {
            let given = up_to(sum);
            sum += weight;
            up_to(sum) - given
        })
        .collect()
}

impl Period {
    /// What came before the second at `place` of the period.
    pub(crate) fn before(&self, place: u64) -> Count {
        self.before[place as usize]
    }

    /// What falls into the second at `place`.
    pub(crate) fn within(&self, place: u64) -> Count {
        let (from, to) = (self.before(place), self.before(place + 1));
        Count { trades: to.trades - from.trades, aggregates: to.aggregates - from.aggregates }
    }

    /// The place of the second with the trade before which `earlier` of the period came.
    pub(crate) fn place_of_trade(&self, earlier: u64) -> u64 {
        self.before.partition_point(|count| count.trades <= earlier) as u64 - 1
    }

    /// The place of the second with the aggregate before which `earlier` of the period came.
    pub(crate) fn place_of_aggregate(&self, earlier: u64) -> u64 {
        self.before.partition_point(|count| count.aggregates <= earlier) as u64 - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_trade_of_a_period_falls_into_one_of_its_seconds(
            seed: u64, trades in 1_u64..100_000, number in 0_u64..1_000_000,
        ) {
            let calendar = Calendar::new(seed, trades);
            let period = calendar.period(number);
            prop_assert_eq!(period.before(PERIOD), calendar.per_period);
            for place in 0..PERIOD {
                let within = period.within(place);
                prop_assert_eq!(within.trades == 0, within.aggregates == 0);
                prop_assert!(within.trades >= within.aggregates);
                if within.trades > 0 {
                    let before = period.before(place);
                    prop_assert_eq!(period.place_of_trade(before.trades), place);
                    prop_assert_eq!(period.place_of_trade(before.trades + within.trades - 1), place);
                    prop_assert_eq!(period.place_of_aggregate(before.aggregates), place);
                }
            }
        }
    }
}
