//! Candles: what a span of time looks like, summed from its trades.

use super::{SymbolMarket, Tick};
use crate::fixed::Fixed;

/// A candle's numbers. Volumes are exact: base in 10^-8, quote in 10^-16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Candle {
    pub(crate) from_us: i64,
    /// The first moment that no longer belongs to it.
    pub(crate) to_us: i64,
    pub(crate) open: Fixed,
    pub(crate) high: Fixed,
    pub(crate) low: Fixed,
    pub(crate) close: Fixed,
    pub(crate) first_id: u64,
    pub(crate) last_id: u64,
    pub(crate) trades: u64,
    pub(crate) base: u128,
    pub(crate) quote: u128,
    pub(crate) taker_base: u128,
    pub(crate) taker_quote: u128,
}

impl Candle {
    /// A candle without trades: all prices are the last one before it.
    pub(crate) fn empty(from_us: i64, span_us: i64, price: Fixed) -> Self {
        let to_us = from_us + span_us;
        Self { from_us, to_us, open: price, high: price, low: price, close: price, ..Self::default() }
    }

    pub(crate) fn add(&mut self, tick: &Tick) {
        if self.trades == 0 {
            (self.open, self.high, self.low, self.first_id) = (tick.price, tick.price, tick.price, tick.id);
        }
        self.high = self.high.max(tick.price);
        self.low = self.low.min(tick.price);
        self.close = tick.price;
        self.last_id = tick.id;
        self.trades += 1;
        let quote = u128::from(tick.price.0) * u128::from(tick.quantity.0);
        self.base += u128::from(tick.quantity.0);
        self.quote += quote;
        if !tick.buyer_is_maker {
            self.taker_base += u128::from(tick.quantity.0);
            self.taker_quote += quote;
        }
    }

    /// The candle after this one, without trades so far.
    pub(crate) fn following(&self) -> Self {
        Self::empty(self.to_us, self.to_us - self.from_us, self.close)
    }
}

impl SymbolMarket {
    /// The candle that begins at `from_us`, of the trades up to `last_id`.
    pub(crate) fn candle(&self, from_us: i64, span_us: i64, last_id: u64) -> Candle {
        let mut ticks = self.ticks_since(from_us);
        let first = ticks.peek().map_or(last_id + 1, |tick| tick.id);
        // Before the first trade there is no price: the first one stands in.
        let before = self.tick(first.saturating_sub(1)).or_else(|| self.tick(1)).map_or(Fixed(0), |tick| tick.price);
        let mut candle = Candle::empty(from_us, span_us, before);
        let ends = candle.to_us;
        ticks.take_while(|tick| tick.id <= last_id && tick.time_us < ends).for_each(|tick| candle.add(&tick));
        candle
    }
}
