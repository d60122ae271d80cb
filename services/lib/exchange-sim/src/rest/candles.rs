//! `klines`.

use std::fmt::Write;

use super::ApiError;
use super::query::Query;
use super::trades::list;
use crate::market::SECOND_US;
use crate::market::candle::Candle;
use crate::shared::Shared;
use crate::text::{Unit, volume};

/// How many trades one request may be summed from. More rows than that are left out.
const MOST_TRADES: u64 = 20_000_000;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The intervals that are of equal length, in seconds.
const INTERVALS: [(&str, i64); 14] = [
    ("1s", 1),
    ("1m", MINUTE),
    ("3m", 3 * MINUTE),
    ("5m", 5 * MINUTE),
    ("15m", 15 * MINUTE),
    ("30m", 30 * MINUTE),
    ("1h", HOUR),
    ("2h", 2 * HOUR),
    ("4h", 4 * HOUR),
    ("6h", 6 * HOUR),
    ("8h", 8 * HOUR),
    ("12h", 12 * HOUR),
    ("1d", DAY),
    ("3d", 3 * DAY),
];

/// Candles of an interval, within a time or the most recent ones.
pub(crate) fn klines(shared: &Shared, query: &Query, unit: Unit) -> Result<String, ApiError> {
    query.only(&["symbol", "interval", "startTime", "endTime", "timeZone", "limit"])?;
    let (place, market) = query.symbol(shared)?;
    let span = span_us(query)?;
    let (limit, last) = (query.limit()? as i64, shared.visible(place));
    let (start, end) = (query.time_us("startTime")?, query.time_us("endTime")?);
    let Some(first) = market.tick(1).filter(|_| last > 0) else { return Ok("[]".to_owned()) };
    // In numbers of intervals since 1970.
    let oldest = first.time_us.div_euclid(span);
    let newest = shared.now_us().div_euclid(span).min(end.map_or(i64::MAX, |(_, to)| to.div_euclid(span)));
    let from =
        start.map_or(newest - limit + 1, |(from, _)| from.div_euclid(span) + i64::from(from.rem_euclid(span) > 0));
    let from = from.max(oldest);
    let to = newest.min(from.saturating_add(limit - 1)).min(from.saturating_add(affordable(shared, span)));
    let candle = |number: i64| market.candle(number * span, span, last);
    Ok(list((from..=to).map(candle), |out, candle| write_candle(out, &candle, unit)))
}

fn span_us(query: &Query) -> Result<i64, ApiError> {
    let missing = || ApiError::bad(-1102, "Mandatory parameter 'interval' was not sent, was empty/null, or malformed.");
    let interval = query.text("interval").ok_or_else(missing)?;
    let known = INTERVALS.iter().find(|(name, _)| *name == interval);
    known.map(|(_, seconds)| seconds * SECOND_US).ok_or_else(|| ApiError::bad(-1120, "Invalid interval."))
}

fn affordable(shared: &Shared, span_us: i64) -> i64 {
    let trades = shared.config.trades_per_second().saturating_mul((span_us / SECOND_US).unsigned_abs());
    i64::try_from(MOST_TRADES / trades.max(1)).unwrap_or(i64::MAX)
}

/// `[1499040000000,"0.01634790","0.80000000","0.01575800","0.01577100","148976.11427815",1499644799999,"2434.19055334",308,"1756.87402397","28.46694368","0"]`
fn write_candle(out: &mut String, candle: &Candle, unit: Unit) -> std::fmt::Result {
    write!(
        out,
        r#"[{},"{}","{}","{}","{}","{}",{},"{}",{},"{}","{}","0"]"#,
        unit.of(candle.from_us),
        candle.open,
        candle.high,
        candle.low,
        candle.close,
        volume(candle.base, 0),
        unit.of(candle.to_us) - 1,
        volume(candle.quote, 8),
        candle.trades,
        volume(candle.taker_base, 0),
        volume(candle.taker_quote, 8),
    )
}
