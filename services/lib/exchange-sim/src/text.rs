//! Events as bytes, written by hand: field order and digits are the exchange's, and hundreds of
//! thousands of them are written a second.

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use domain::Symbol;
use serde::{Deserialize, Serialize};

use crate::fixed::Fixed;
use crate::market::Tick;
use crate::market::candle::Candle;

/// The unit of times on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Unit {
    #[default]
    Millisecond,
    Microsecond,
}

impl Unit {
    pub(crate) const ALL: [Self; 2] = [Self::Millisecond, Self::Microsecond];

    /// As the parameter `timeUnit` and the header name it; `None` is an error of the client.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "MILLISECOND" | "millisecond" => Some(Self::Millisecond),
            "MICROSECOND" | "microsecond" => Some(Self::Microsecond),
            _ => None,
        }
    }

    /// A time in this unit.
    pub(crate) fn of(self, micros: i64) -> i64 {
        match self {
            Self::Millisecond => micros.div_euclid(1_000),
            Self::Microsecond => micros,
        }
    }
}

/// What a stream of a symbol carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Trade,
    AggTrade,
    Kline,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Trade, Self::AggTrade, Self::Kline];

    /// The end of the stream's name.
    pub(crate) const fn suffix(self) -> &'static str {
        match self {
            Self::Trade => "trade",
            Self::AggTrade => "aggTrade",
            Self::Kline => "kline_1m",
        }
    }

    const fn event(self) -> &'static str {
        match self {
            Self::Trade => "trade",
            Self::AggTrade => "aggTrade",
            Self::Kline => "kline",
        }
    }
}

/// Frames of one stream, back to back and each in its envelope, of which the bare form is a slice.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Bytes,
    spans: Vec<(usize, usize)>,
    envelope: usize,
}

impl Batch {
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// The frames in the form that a connection wants. Frames share the batch's memory.
    pub(crate) fn frames(&self, combined: bool) -> impl Iterator<Item = Utf8Bytes> + '_ {
        let (before, after) = if combined { (0, 0) } else { (self.envelope, 1) };
        self.spans
            .iter()
            .filter_map(move |(start, end)| Utf8Bytes::try_from(self.bytes.slice(start + before..end - after)).ok())
    }
}

/// Writes the frames of one stream.
#[derive(Debug)]
pub(crate) struct Composer {
    symbol: Symbol,
    kind: Kind,
    unit: Unit,
    opening: String,
    bytes: Vec<u8>,
    spans: Vec<(usize, usize)>,
}

impl Composer {
    pub(crate) fn new(symbol: &Symbol, kind: Kind, unit: Unit) -> Self {
        let opening = format!("{{\"stream\":\"{}@{}\",\"data\":", symbol.lowercase(), kind.suffix());
        Self { symbol: symbol.clone(), kind, unit, opening, bytes: Vec::new(), spans: Vec::new() }
    }

    /// `{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}`
    pub(crate) fn trade(&mut self, tick: &Tick) {
        let start = self.open(tick.event_us);
        number(&mut self.bytes, b",\"t\":", tick.id);
        fixed(&mut self.bytes, b",\"p\":\"", tick.price);
        fixed(&mut self.bytes, b"\",\"q\":\"", tick.quantity);
        number(&mut self.bytes, b"\",\"T\":", self.unit.of(tick.time_us).unsigned_abs());
        self.sides(tick.buyer_is_maker);
        self.close(start);
    }

    /// `{"e":"aggTrade","E":1672515782136,"s":"BNBBTC","a":12345,"p":"0.001","q":"100","f":100,"l":105,"T":1672515782136,"m":true,"M":true}`
    pub(crate) fn aggregate(&mut self, aggregate: &Aggregate) {
        let tick = &aggregate.last;
        let start = self.open(tick.event_us);
        number(&mut self.bytes, b",\"a\":", tick.aggregate);
        fixed(&mut self.bytes, b",\"p\":\"", tick.price);
        fixed(&mut self.bytes, b"\",\"q\":\"", aggregate.quantity);
        number(&mut self.bytes, b"\",\"f\":", aggregate.first_id);
        number(&mut self.bytes, b",\"l\":", tick.id);
        number(&mut self.bytes, b",\"T\":", self.unit.of(tick.time_us).unsigned_abs());
        self.sides(tick.buyer_is_maker);
        self.close(start);
    }

    /// `{"e":"kline","E":…,"s":"BNBBTC","k":{"t":…,"T":…,"s":"BNBBTC","i":"1m","f":100,"L":200,"o":"0.0010","c":"0.0020","h":"0.0025","l":"0.0015","v":"1000","n":100,"x":false,"q":"1.0000","V":"500","Q":"0.500","B":"0"}}`
    pub(crate) fn kline(&mut self, candle: &Candle, event_us: i64, closed: bool) {
        let start = self.open(event_us);
        let unit = self.unit;
        let id = |id: u64| if candle.trades == 0 { "-1".to_owned() } else { id.to_string() };
        let text = format!(
            r#","k":{{"t":{},"T":{},"s":"{}","i":"1m","f":{},"L":{},"o":"{}","c":"{}","h":"{}","l":"{}","v":"{}","n":{},"x":{closed},"q":"{}","V":"{}","Q":"{}","B":"0"}}}}"#,
            unit.of(candle.from_us),
            unit.of(candle.to_us) - 1,
            self.symbol,
            id(candle.first_id),
            id(candle.last_id),
            candle.open,
            candle.close,
            candle.high,
            candle.low,
            volume(candle.base, 0),
            candle.trades,
            volume(candle.quote, 8),
            volume(candle.taker_base, 0),
            volume(candle.taker_quote, 8),
        );
        self.bytes.extend_from_slice(text.as_bytes());
        self.close(start);
    }

    /// A frame that no client can use, in place of a trade's; `kind` chooses what is wrong with it.
    pub(crate) fn malformed(&mut self, tick: &Tick, kind: u64) {
        let start = self.bytes.len();
        let (id, symbol) = (tick.id, &self.symbol);
        let broken = match kind % 6 {
            0 => format!(r#"{{"e":"trade","E":{},"s":"{symbol}","t":{id},"p":"618"#, self.unit.of(tick.event_us)),
            1 => format!(
                r#"{{"e":"trade","E":1,"s":"{symbol}","t":"{id}","p":"1.0","q":"1.0","T":1,"m":true,"M":true}}"#
            ),
            2 => format!(r#"{{"e":"trade","s":"{symbol}","t":{id},"q":"1.0","m":true}}"#),
            3 => {
                format!(r#"{{"e":"trade","E":1,"s":"{symbol}","t":{id},"p":"NaN","q":"1e9","T":1,"m":true,"M":true}}"#)
            }
            4 => "<html>502 Bad Gateway</html>".to_owned(),
            _ => format!(r#"{{"e":"trade","E":1,"s":"{symbol}","t":-{id},"p":"1.0","q":"0","T":1,"m":true,"M":true}}"#),
        };
        self.bytes.extend_from_slice(self.opening.as_bytes());
        self.bytes.extend_from_slice(broken.as_bytes());
        self.close(start);
    }

    /// What was written, as a batch of its own; `None` if nothing was.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        if self.spans.is_empty() {
            return None;
        }
        let bytes = Bytes::copy_from_slice(&self.bytes);
        self.bytes.clear();
        let room = self.spans.len();
        let spans = std::mem::replace(&mut self.spans, Vec::with_capacity(room));
        Some(Batch { bytes, spans, envelope: self.opening.len() })
    }

    fn open(&mut self, event_us: i64) -> usize {
        let start = self.bytes.len();
        let bytes = &mut self.bytes;
        bytes.extend_from_slice(self.opening.as_bytes());
        bytes.extend_from_slice(b"{\"e\":\"");
        bytes.extend_from_slice(self.kind.event().as_bytes());
        number(bytes, b"\",\"E\":", self.unit.of(event_us).unsigned_abs());
        bytes.extend_from_slice(b",\"s\":\"");
        bytes.extend_from_slice(self.symbol.as_str().as_bytes());
        bytes.push(b'"');
        start
    }

    fn sides(&mut self, buyer_is_maker: bool) {
        self.bytes.extend_from_slice(if buyer_is_maker {
            b",\"m\":true,\"M\":true}"
        } else {
            b",\"m\":false,\"M\":true}"
        });
    }

    fn close(&mut self, start: usize) {
        self.bytes.push(b'}');
        self.spans.push((start, self.bytes.len()));
    }
}

/// What one taker order took at one price.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aggregate {
    pub(crate) first_id: u64,
    pub(crate) quantity: Fixed,
    pub(crate) last: Tick,
}

impl Aggregate {
    pub(crate) fn of_one(tick: &Tick) -> Self {
        Self { first_id: tick.id, quantity: tick.quantity, last: *tick }
    }

    pub(crate) fn add(&mut self, tick: &Tick) {
        self.quantity = Fixed(self.quantity.0.saturating_add(tick.quantity.0));
        self.last = *tick;
    }
}

/// A sum of quantities as text with eight decimals; further `digits` are cut off.
pub(crate) fn volume(sum: u128, digits: u32) -> String {
    let unit = 100_000_000;
    let sum = sum / 10_u128.pow(digits);
    format!("{}.{:08}", sum / unit, sum % unit)
}

fn number(out: &mut Vec<u8>, before: &[u8], value: u64) {
    out.extend_from_slice(before);
    digits(out, value, 1);
}

fn fixed(out: &mut Vec<u8>, before: &[u8], value: Fixed) {
    out.extend_from_slice(before);
    digits(out, value.0 / 100_000_000, 1);
    out.push(b'.');
    digits(out, value.0 % 100_000_000, 8);
}

/// Decimal digits, at least so many.
fn digits(out: &mut Vec<u8>, mut value: u64, least: usize) {
    let mut text = [b'0'; 20];
    let mut start = text.len();
    while value >= 100 {
        let pair = (value % 100) as u8;
        value /= 100;
        start -= 2;
        text[start] = b'0' + pair / 10;
        text[start + 1] = b'0' + pair % 10;
    }
    while value > 0 {
        start -= 1;
        text[start] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&text[start.min(text.len() - least)..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::frame::Frame;
    use proptest::prelude::*;

    fn tick() -> Tick {
        Tick {
            id: 3_735_683_259,
            aggregate: 12,
            time_us: 1_723_161_255_342_017,
            event_us: 1_723_161_255_343_999,
            price: Fixed::parse("61837.63").unwrap(),
            quantity: Fixed::parse("0.02").unwrap(),
            buyer_is_maker: true,
        }
    }

    fn frame(composer: &mut Composer, combined: bool) -> String {
        let batch = composer.take().unwrap();
        batch.frames(combined).next().unwrap().to_string()
    }

    #[test]
    fn a_trade_is_what_the_exchange_documents() {
        const EVENT: &str = r#"{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}"#;
        let mut composer = Composer::new(&"BTCUSDT".parse().unwrap(), Kind::Trade, Unit::Millisecond);
        composer.trade(&tick());
        assert_eq!(frame(&mut composer, false), EVENT);
        composer.trade(&tick());
        assert_eq!(frame(&mut composer, true), format!(r#"{{"stream":"btcusdt@trade","data":{EVENT}}}"#));
    }

    #[test]
    fn an_aggregate_is_what_the_exchange_documents() {
        let mut composer = Composer::new(&"BTCUSDT".parse().unwrap(), Kind::AggTrade, Unit::Microsecond);
        let mut two = Aggregate::of_one(&Tick { id: 3_735_683_258, ..tick() });
        two.add(&tick());
        composer.aggregate(&two);
        let expected = r#"{"e":"aggTrade","E":1723161255343999,"s":"BTCUSDT","a":12,"p":"61837.63000000","q":"0.04000000","f":3735683258,"l":3735683259,"T":1723161255342017,"m":true,"M":true}"#;
        assert_eq!(frame(&mut composer, false), expected);
    }

    #[test]
    fn a_kline_without_trades_says_so() {
        let mut composer = Composer::new(&"BTCUSDT".parse().unwrap(), Kind::Kline, Unit::Millisecond);
        let candle = Candle::empty(1_723_161_240_000_000, 60_000_000, Fixed::parse("1.5").unwrap());
        composer.kline(&candle, candle.to_us, true);
        let expected = r#"{"e":"kline","E":1723161300000,"s":"BTCUSDT","k":{"t":1723161240000,"T":1723161299999,"s":"BTCUSDT","i":"1m","f":-1,"L":-1,"o":"1.50000000","c":"1.50000000","h":"1.50000000","l":"1.50000000","v":"0.00000000","n":0,"x":true,"q":"0.00000000","V":"0.00000000","Q":"0.00000000","B":"0"}}"#;
        assert_eq!(frame(&mut composer, false), expected);
    }

    #[test]
    fn malformed_frames_are_no_trades_in_either_form() {
        let mut composer = Composer::new(&"BTCUSDT".parse().unwrap(), Kind::Trade, Unit::Millisecond);
        for kind in 0..6 {
            composer.malformed(&tick(), kind);
        }
        let batch = composer.take().unwrap();
        for combined in [true, false] {
            for frame in batch.frames(combined) {
                assert!(Frame::decode(&Bytes::from(frame)).is_err());
            }
        }
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_the_standard_library_does(value: u64) {
            let mut out = Vec::new();
            number(&mut out, b"", value);
            prop_assert_eq!(String::from_utf8(out).unwrap(), if value == 0 { "0".to_owned() } else { value.to_string() });
            let mut out = Vec::new();
            fixed(&mut out, b"", Fixed(value));
            prop_assert_eq!(String::from_utf8(out).unwrap(), Fixed(value).to_string());
        }
    }
}
