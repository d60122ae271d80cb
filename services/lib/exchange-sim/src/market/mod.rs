//! The market: a pure function of the configuration and the epoch to every trade.
//!
//! A trade's id tells its period ([`calendar`]), the period's counts tell its second, and the
//! second's trades follow from the seed ([`second`]). The way back, from a time to an id, is the same.

mod calendar;
pub(crate) mod candle;
pub(crate) mod noise;
mod second;

use std::collections::BTreeMap;

use domain::{Symbol, Timestamp, Trade};

use crate::config::{MarketConfig, SimConfig, SimError};
use crate::fixed::Fixed;
use calendar::{Calendar, PERIOD, Period};
use second::{LEAST_DELAY_US, Style};

pub(crate) const SECOND_US: i64 = 1_000_000;

/// A trade without its symbol, as cheap to copy as to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// The trade id, from 1 on, consecutive.
    pub id: u64,
    /// The aggregate it belongs to, from 1 on, consecutive.
    pub aggregate: u64,
    /// When it happens, in µs since 1970; never before the trade with the id below.
    pub time_us: i64,
    /// When the exchange issues it, in µs since 1970; never before the trade with the id below.
    pub event_us: i64,
    /// Price.
    pub price: Fixed,
    /// Quantity.
    pub quantity: Fixed,
    /// Whether the buyer's order was the resting one.
    pub buyer_is_maker: bool,
}

impl Tick {
    /// The trade in the project's vocabulary, times in microseconds.
    pub fn trade(&self, symbol: &Symbol) -> Trade {
        Trade {
            symbol: symbol.clone(),
            id: self.id,
            price: self.price.decimal(),
            quantity: self.quantity.decimal(),
            trade_time: Timestamp::from_micros(self.time_us),
            event_time: Some(Timestamp::from_micros(self.event_us)),
            buyer_is_maker: self.buyer_is_maker,
        }
    }
}

/// All symbols.
#[derive(Clone, Debug)]
pub struct Market {
    symbols: Vec<SymbolMarket>,
    places: BTreeMap<String, usize>,
}

/// One symbol.
#[derive(Clone, Debug)]
pub struct SymbolMarket {
    symbol: Symbol,
    config: MarketConfig,
    epoch_us: i64,
    calendar: Calendar,
    style: Style,
    last_id: Option<u64>,
}

impl Market {
    /// The market that a configuration describes.
    ///
    /// # Errors
    /// [`SimError::Config`] if the configuration cannot work or has no epoch.
    pub fn new(config: &SimConfig) -> Result<Self, SimError> {
        config.validate()?;
        let missing =
            || SimError::Config(vec!["epoch_ms: expected one, since the market's ids follow from it".to_owned()]);
        let epoch_us = config.epoch_ms.ok_or_else(missing)? * 1_000;
        let trades = parts(config.trades_per_second() * PERIOD, &config.symbols);
        let limits = config.limit.map(|limit| parts(limit, &config.symbols));
        let symbols: Option<Vec<SymbolMarket>> = config
            .symbols
            .iter()
            .enumerate()
            .map(|(place, market)| {
                let seed = noise::hash(config.seed, noise::hash_text(market.symbol.as_str()));
                let price = Fixed::parse(&market.price)?;
                Some(SymbolMarket {
                    symbol: market.symbol.clone(),
                    config: market.clone(),
                    epoch_us,
                    calendar: Calendar::new(seed, trades[place]),
                    style: Style::new(seed, price, market.price_decimals, market.quantity_decimals)?,
                    last_id: limits.as_ref().map(|limits| limits[place]),
                })
            })
            .collect();
        let symbols = symbols.ok_or_else(|| SimError::Config(vec!["symbols: price out of range".to_owned()]))?;
        let places = symbols.iter().enumerate().map(|(place, one)| (one.symbol.as_str().to_owned(), place)).collect();
        Ok(Self { symbols, places })
    }

    /// All symbols, in the order of the configuration.
    pub fn symbols(&self) -> &[SymbolMarket] {
        &self.symbols
    }

    /// The place of a symbol among all.
    pub fn place(&self, symbol: &str) -> Option<usize> {
        self.places.get(symbol).copied()
    }

    /// One symbol.
    pub fn symbol(&self, symbol: &str) -> Option<&SymbolMarket> {
        self.place(symbol).map(|place| &self.symbols[place])
    }
}

/// `total` in whole parts as the symbols' shares are.
fn parts(total: u64, symbols: &[MarketConfig]) -> Vec<u64> {
    let all: u64 = symbols.iter().map(|symbol| u64::from(symbol.share)).sum();
    let up_to = |sum: u64| (u128::from(total) * u128::from(sum) / u128::from(all.max(1))) as u64;
    let mut sum = 0;
    let part = |symbol: &MarketConfig| {
        let given = up_to(sum);
        sum += u64::from(symbol.share);
        up_to(sum) - given
    };
    symbols.iter().map(part).collect()
}

impl SymbolMarket {
    /// Its name.
    pub fn symbol(&self) -> &Symbol {
        &self.symbol
    }

    /// Its settings.
    pub fn config(&self) -> &MarketConfig {
        &self.config
    }

    /// The id after which it is silent, if the market is limited; 0 if it never trades.
    pub fn last_id(&self) -> Option<u64> {
        self.last_id
    }

    /// The trade with an id; `None` for 0 and beyond the limit.
    pub fn tick(&self, id: u64) -> Option<Tick> {
        self.ticks_from(id).next().filter(|tick| tick.id == id)
    }

    /// All trades from an id on (ids begin with 1), without end unless the market is limited.
    pub fn ticks_from(&self, id: u64) -> Ticks<'_> {
        let id = id.max(1);
        let (number, earlier) = self.calendar.of_trade(id);
        let period = self.calendar.period(number);
        let place = period.place_of_trade(earlier);
        let mut ticks = self.ticks_at(period, place);
        ticks.next = ticks.second.partition_point(|tick| tick.id < id);
        ticks
    }

    /// All trades from an aggregate on, which is whole.
    pub(crate) fn ticks_from_aggregate(&self, aggregate: u64) -> Ticks<'_> {
        let (number, earlier) = self.calendar.of_aggregate(aggregate);
        let period = self.calendar.period(number);
        let place = period.place_of_aggregate(earlier);
        let mut ticks = self.ticks_at(period, place);
        ticks.next = ticks.second.partition_point(|tick| tick.aggregate < aggregate);
        ticks
    }

    /// All trades at or after a time.
    pub(crate) fn ticks_since(&self, time_us: i64) -> Ticks<'_> {
        let second = (time_us - self.epoch_us).div_euclid(SECOND_US).max(0).unsigned_abs();
        let mut ticks = self.ticks_at(self.calendar.period(second / PERIOD), second % PERIOD);
        ticks.next = ticks.second.partition_point(|tick| tick.time_us < time_us);
        ticks
    }

    /// The last id issued by a time, that is, whose event time has come; 0 if none.
    pub fn issued_at(&self, time_us: i64) -> u64 {
        // The events of a second end after it, by the least delay at most.
        let mut ticks = self.ticks_since(time_us - SECOND_US - LEAST_DELAY_US);
        let first = ticks.find(|tick| tick.event_us > time_us);
        match (first, self.last_id) {
            (Some(tick), _) => tick.id - 1,
            (None, last) => last.unwrap_or(0),
        }
    }

    fn ticks_at(&self, period: Period, place: u64) -> Ticks<'_> {
        let mut ticks = Ticks { market: self, period, place, second: Vec::new(), next: 0 };
        ticks.fill();
        ticks
    }

    fn fill(&self, period: &Period, place: u64, out: &mut Vec<Tick>) {
        out.clear();
        self.style.second(self.epoch_us, period, self.calendar.before(period.number), place, out);
        if let Some(last) = self.last_id {
            out.truncate(out.partition_point(|tick| tick.id <= last));
        }
    }

    /// Whether all trades before a second are all that there are.
    fn is_over(&self, period: &Period, place: u64) -> bool {
        let before = self.calendar.before(period.number).trades + period.before(place).trades;
        self.last_id.is_some_and(|last| before >= last)
    }
}

/// Trades one after the other, made a second at a time.
#[derive(Clone, Debug)]
pub struct Ticks<'a> {
    market: &'a SymbolMarket,
    period: Period,
    place: u64,
    second: Vec<Tick>,
    next: usize,
}

impl Ticks<'_> {
    fn fill(&mut self) {
        self.market.fill(&self.period, self.place, &mut self.second);
        self.next = 0;
    }

    /// The trade that comes next, if there is one.
    pub(crate) fn peek(&mut self) -> Option<&Tick> {
        while self.next == self.second.len() {
            if self.market.is_over(&self.period, self.place + 1) {
                return None;
            }
            self.place += 1;
            if self.place == PERIOD {
                self.period = self.market.calendar.period(self.period.number + 1);
                self.place = 0;
            }
            self.fill();
        }
        self.second.get(self.next)
    }

    /// Appends the trades issued by a time, at most `most`.
    pub(crate) fn take_issued(&mut self, until_us: i64, most: usize, out: &mut Vec<Tick>) {
        while out.len() < most && self.peek().is_some_and(|tick| tick.event_us <= until_us) {
            let rest = &self.second[self.next..];
            let due = rest.partition_point(|tick| tick.event_us <= until_us).min(most - out.len());
            out.extend_from_slice(&rest[..due]);
            self.next += due;
        }
    }
}

impl Iterator for Ticks<'_> {
    type Item = Tick;

    fn next(&mut self) -> Option<Tick> {
        let tick = *self.peek()?;
        self.next += 1;
        Some(tick)
    }
}

#[cfg(test)]
mod tests;
