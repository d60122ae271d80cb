//! The trades of one second, made from the seed, the symbol and the second's number.
//!
//! A second is a sequence of aggregates; those at the same moment belong to one taker order that
//! eats its way through the book, so a burst of hundreds of trades can share one microsecond.

use super::calendar::{Count, PERIOD, Period};
use super::noise::{Dice, hash, wave};
use super::{SECOND_US, Tick};
use crate::fixed::{Fixed, scale};

/// How much a taker order is worth, in cents: quantiles of 1,024 as recorded (BTCUSDT).
const CENTS: [(u64, u64); 9] = [
    (0, 60),
    (102, 550),
    (256, 620),
    (512, 4_100),
    (768, 87_000),
    (922, 356_000),
    (1_014, 2_000_000),
    (1_023, 4_500_000),
    (1_024, 43_000_000),
];

/// Microseconds from a trade to its event: quantiles of 1,024 as recorded (median 2 ms, maximum 214).
const DELAYS_US: [(u64, u64); 7] =
    [(0, 1_000), (512, 1_900), (870, 2_300), (960, 7_000), (1_000, 50_000), (1_016, 90_000), (1_024, 214_000)];

/// The least time from a trade to its event. No event is later than its second by more than this,
/// so that events are in the order of ids.
pub(crate) const LEAST_DELAY_US: i64 = 1_000;

/// For how long the delay stays the same.
const DELAY_SPAN_US: i64 = 50_000;

/// How prices wander: over how many seconds, by how many millionths of the base price at most.
const WAVES: [(u64, u64); 5] = [(604_800, 100_000), (14_400, 15_000), (900, 2_500), (60, 500), (5, 60)];

/// Percent of aggregates that belong to the taker order before them.
const SAME_ORDER_PERCENT: u64 = 37;

/// Percent of taker orders on the same side as the one before.
const SAME_SIDE_PERCENT: u64 = 70;

const LANE_PRICE: u64 = 3;
const LANE_SECOND: u64 = 4;
const LANE_DELAY: u64 = 5;

/// What a symbol's trades look like.
#[derive(Clone, Debug)]
pub(crate) struct Style {
    seed: u64,
    base_ticks: i64,
    tick: u64,
    lot: u64,
    /// Lots per cent at the base price, times 2^20.
    lots_per_cent: u128,
}

/// Where an aggregate is: when, on which side, at what price.
struct Place {
    offset_us: i64,
    buyer_is_maker: bool,
    ticks: i64,
}

impl Style {
    /// `None` if price or decimals are out of range.
    pub(crate) fn new(seed: u64, price: Fixed, price_decimals: u8, quantity_decimals: u8) -> Option<Self> {
        let base_ticks = i64::try_from(price.units(price_decimals)?).ok().filter(|ticks| *ticks > 0)?;
        let lots = (10_u128.pow(u32::from(quantity_decimals)) * 1_000_000) << 20;
        let (tick, lot) = (scale(price_decimals)?, scale(quantity_decimals)?);
        Some(Self { seed, base_ticks, tick, lot, lots_per_cent: lots / u128::from(price.0) })
    }

    /// Appends the trades of the second at `place` of a period, in the order of their ids.
    pub(crate) fn second(&self, epoch_us: i64, period: &Period, before: Count, place: u64, out: &mut Vec<Tick>) {
        let Count { trades, aggregates } = period.within(place);
        if trades == 0 {
            return;
        }
        let number = period.number * PERIOD + place;
        let start_us = epoch_us + number as i64 * SECOND_US;
        let mut dice = Dice::new(hash(self.seed, LANE_SECOND), number);
        let offsets = offsets(aggregates, &mut dice);
        let mut walk = Walk::new(self, number);
        let mut tick = self.first(period, before, place);
        let mut further = trades - aggregates;
        for (done, offset_us) in offsets.iter().enumerate() {
            let left = aggregates - done as u64;
            let at = walk.step(*offset_us, &mut dice);
            tick.time_us = start_us + at.offset_us;
            tick.event_us = tick.event_us.max(self.event_us(tick.time_us, start_us));
            tick.price = Fixed(at.ticks.unsigned_abs() * self.tick);
            tick.buyer_is_maker = at.buyer_is_maker;
            let fills = fills(further, left, &mut dice);
            further -= fills;
            for _ in 0..=fills {
                tick.quantity = self.quantity(&mut dice);
                out.push(tick);
                tick.id += 1;
            }
            tick.aggregate += 1;
        }
    }

    fn first(&self, period: &Period, before: Count, place: u64) -> Tick {
        let earlier = period.before(place);
        Tick {
            id: 1 + before.trades + earlier.trades,
            aggregate: 1 + before.aggregates + earlier.aggregates,
            time_us: 0,
            event_us: 0,
            price: Fixed(0),
            quantity: Fixed(0),
            buyer_is_maker: false,
        }
    }

    fn event_us(&self, time_us: i64, second_us: i64) -> i64 {
        let span = time_us.div_euclid(DELAY_SPAN_US).unsigned_abs();
        let delay = Dice::new(hash(self.seed, LANE_DELAY), span).quantile(&DELAYS_US);
        (time_us + delay as i64).min(second_us + SECOND_US + LEAST_DELAY_US)
    }

    fn quantity(&self, dice: &mut Dice) -> Fixed {
        let cents = dice.quantile(&CENTS);
        let lots = (u128::from(cents) * self.lots_per_cent) >> 20;
        Fixed(u64::try_from(lots).unwrap_or(u64::MAX).clamp(1, u64::MAX / (2 * self.lot)) * self.lot)
    }

    /// The price in ticks at the start of a second.
    fn anchor(&self, second: u64) -> i64 {
        let swing = |(lane, (span, millionths)): (usize, &(u64, u64))| {
            let amplitude = (i128::from(self.base_ticks) * i128::from(*millionths) / 1_000_000) as i64;
            wave(hash(self.seed ^ LANE_PRICE, lane as u64), second, *span, amplitude)
        };
        self.base_ticks + WAVES.iter().enumerate().map(swing).sum::<i64>()
    }
}

/// A price on its way from one second's start to the next's.
struct Walk {
    from: i64,
    to: i64,
    /// How far a step may go, in ticks.
    stride: i64,
    /// How deep one order may eat into the book, in ticks.
    deepest: i64,
    aside: i64,
    depth: i64,
    buyer_is_maker: bool,
    offset_us: Option<i64>,
}

impl Walk {
    fn new(style: &Style, second: u64) -> Self {
        let (from, to) = (style.anchor(second), style.anchor(second + 1));
        let stride = 1 + style.base_ticks / 100_000;
        let deepest = 3 + style.base_ticks / 5_000;
        Self {
            from,
            to,
            stride,
            deepest,
            aside: 0,
            depth: 0,
            buyer_is_maker: second.is_multiple_of(2),
            offset_us: None,
        }
    }

    fn step(&mut self, offset_us: i64, dice: &mut Dice) -> Place {
        if self.offset_us == Some(offset_us) {
            let deeper = if dice.one_in(4) { 1 + dice.below(self.stride as u64) as i64 } else { 1 };
            self.depth = (self.depth + deeper).min(self.deepest);
        } else {
            self.next_order(dice);
        }
        self.offset_us = Some(offset_us);
        let way = i128::from(self.to - self.from) * i128::from(offset_us) / i128::from(SECOND_US);
        let bid = self.from + way as i64 + self.aside;
        // A seller takes from the bid downwards, a buyer from the ask upwards.
        let ticks = if self.buyer_is_maker { bid - self.depth } else { bid + 1 + self.depth };
        Place { offset_us, buyer_is_maker: self.buyer_is_maker, ticks: ticks.max(1) }
    }

    fn next_order(&mut self, dice: &mut Dice) {
        self.depth = 0;
        if dice.below(100) >= SAME_SIDE_PERCENT {
            self.buyer_is_maker = !self.buyer_is_maker;
        }
        if dice.one_in(3) {
            self.aside += dice.below(2 * self.stride as u64 + 1) as i64 - self.stride;
            if self.aside.abs() > 8 * self.stride {
                self.aside /= 2;
            }
        }
    }
}

/// When the aggregates of a second happen, in microseconds from its start, ascending; equal ones
/// belong to one order. Now and then one order is a large part of the second.
fn offsets(aggregates: u64, dice: &mut Dice) -> Vec<i64> {
    let sweep = if aggregates >= 8 && dice.one_in(6) {
        let from = dice.below(aggregates);
        from..from + aggregates * (30 + dice.below(50)) / 100
    } else {
        0..0
    };
    let mut sum = 0;
    let mut sums = Vec::with_capacity(aggregates as usize);
    for place in 0..aggregates {
        let same = place > 0 && (sweep.contains(&place) || dice.below(100) < SAME_ORDER_PERCENT);
        if !same {
            let long = if dice.one_in(8) { 8 } else { 1 };
            sum += 1 + dice.below(1_000) * long;
        }
        sums.push(sum);
    }
    let all = sum + 1 + dice.below(1_000);
    sums.into_iter().map(|sum| (u128::from(sum) * SECOND_US as u128 / u128::from(all)) as i64).collect()
}

/// How many of the `further` trades the next of `left` aggregates takes: mostly none, sometimes many.
fn fills(further: u64, left: u64, dice: &mut Dice) -> u64 {
    if further == 0 {
        0
    } else if left == 1 {
        further
    } else if dice.one_in(4) {
        dice.below(8 * further / left + 2).min(further)
    } else {
        0
    }
}
