//! `trades`, `historicalTrades` and `aggTrades`.

use std::fmt::Write;

use domain::IdSet;

use super::ApiError;
use super::query::Query;
use crate::market::{SymbolMarket, Tick};
use crate::shared::Shared;
use crate::text::{Aggregate, Unit, volume};

/// The most recent trades.
pub(crate) fn latest(shared: &Shared, query: &Query, unit: Unit) -> Result<String, ApiError> {
    query.only(&["symbol", "limit"])?;
    historical(shared, query, unit)
}

/// Trades from an id on, or the most recent ones.
pub(crate) fn historical(shared: &Shared, query: &Query, unit: Unit) -> Result<String, ApiError> {
    query.only(&["symbol", "limit", "fromId"])?;
    let (place, market) = query.symbol(shared)?;
    let (limit, last) = (query.limit()?, shared.visible(place));
    let withheld = shared.tape.left_out(place).withheld;
    let from = query.number("fromId")?.unwrap_or_else(|| newest(last, limit, &withheld));
    if from > last {
        return Ok("[]".to_owned());
    }
    let visible = market.ticks_from(from).take_while(|tick| tick.id <= last);
    let present = visible.filter(|tick| !withheld.contains(tick.id)).take(limit);
    Ok(list(present, |out, tick| write_trade(out, &tick, unit)))
}

/// The id from which on there are `limit` trades, those left out not counted.
fn newest(last: u64, limit: usize, withheld: &IdSet) -> u64 {
    let mut id = last;
    let mut left = limit;
    while id > 0 && left > 1 {
        id -= 1;
        left -= usize::from(!withheld.contains(id));
    }
    id.max(1)
}

/// `{"id":28457,"price":"4.00000100","qty":"12.00000000","quoteQty":"48.00001200","time":1499865549590,"isBuyerMaker":true,"isBestMatch":true}`
fn write_trade(out: &mut String, tick: &Tick, unit: Unit) -> std::fmt::Result {
    let quote = u128::from(tick.price.0) * u128::from(tick.quantity.0);
    write!(
        out,
        r#"{{"id":{},"price":"{}","qty":"{}","quoteQty":"{}","time":{},"isBuyerMaker":{},"isBestMatch":true}}"#,
        tick.id,
        tick.price,
        tick.quantity,
        volume(quote, 8),
        unit.of(tick.time_us),
        tick.buyer_is_maker,
    )
}

/// Aggregates from an id or a time on, or the most recent ones.
pub(crate) fn aggregates(shared: &Shared, query: &Query, unit: Unit) -> Result<String, ApiError> {
    query.only(&["symbol", "fromId", "startTime", "endTime", "limit"])?;
    let (place, market) = query.symbol(shared)?;
    let (limit, last) = (query.limit()?, shared.visible(place));
    let from_id = query.number("fromId")?;
    let (start, end) = (query.time_us("startTime")?, query.time_us("endTime")?);
    if from_id.is_some() && (start.is_some() || end.is_some()) {
        return Err(ApiError::bad(-1128, "Combination of optional parameters invalid."));
    }
    let Some(newest) = market.tick(last).map(|tick| tick.aggregate) else { return Ok("[]".to_owned()) };
    let end_us = end.map_or(i64::MAX, |(_, to)| to);
    let most = limit as u64;
    let first = match (from_id, start, end) {
        (Some(id), _, _) => id.max(1),
        (None, Some((from, _)), _) => since(market, from, shared.now_us()),
        (None, None, Some((_, to))) => {
            since(market, to.saturating_add(1), shared.now_us()).min(newest + 1).saturating_sub(most).max(1)
        }
        (None, None, None) => (newest + 1).saturating_sub(most).max(1),
    };
    if first > newest {
        return Ok("[]".to_owned());
    }
    let whole = Whole { ticks: market.ticks_from_aggregate(first).peekable(), last };
    let wanted = whole.take(limit).take_while(|aggregate| aggregate.last.time_us <= end_us);
    Ok(list(wanted, |out, aggregate| write_aggregate(out, &aggregate, unit)))
}

/// The first aggregate at or after a time. Times to come are the same as now: there is nothing yet.
fn since(market: &SymbolMarket, time_us: i64, now_us: i64) -> u64 {
    let time_us = time_us.min(now_us.saturating_add(1));
    market.ticks_since(time_us).next().map_or(u64::MAX, |tick| tick.aggregate)
}

/// Aggregates whose trades are all visible.
struct Whole<I: Iterator<Item = Tick>> {
    ticks: std::iter::Peekable<I>,
    last: u64,
}

impl<I: Iterator<Item = Tick>> Iterator for Whole<I> {
    type Item = Aggregate;

    fn next(&mut self) -> Option<Aggregate> {
        let mut aggregate = Aggregate::of_one(&self.ticks.next()?);
        while let Some(tick) = self.ticks.next_if(|tick| tick.aggregate == aggregate.last.aggregate) {
            aggregate.add(&tick);
        }
        (aggregate.last.id <= self.last).then_some(aggregate)
    }
}

/// `{"a":26129,"p":"0.01633102","q":"4.70443515","f":27781,"l":27781,"T":1498793709153,"m":true,"M":true}`
fn write_aggregate(out: &mut String, aggregate: &Aggregate, unit: Unit) -> std::fmt::Result {
    let last = &aggregate.last;
    write!(
        out,
        r#"{{"a":{},"p":"{}","q":"{}","f":{},"l":{},"T":{},"m":{},"M":true}}"#,
        last.aggregate,
        last.price,
        aggregate.quantity,
        aggregate.first_id,
        last.id,
        unit.of(last.time_us),
        last.buyer_is_maker,
    )
}

/// A JSON list. Writing to a string cannot fail.
pub(crate) fn list<T>(
    items: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut String, T) -> std::fmt::Result,
) -> String {
    let mut out = String::from("[");
    for item in items {
        if out.len() > 1 {
            out.push(',');
        }
        let _ = write(&mut out, item);
    }
    out.push(']');
    out
}
