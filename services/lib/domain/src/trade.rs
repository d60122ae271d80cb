//! A trade, and the exchange's event that carries it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::decimal::{Decimal, DecimalError};
use crate::spelling;
use crate::symbol::Symbol;
use crate::time::Timestamp;

/// The largest id that can be one: above it, numbers of JSON are not exact everywhere, and a single wrong one would be
/// a gap that nobody can count.
pub const MAX_ID: u64 = (1 << 53) - 1;

/// One match of one buyer with one seller.
///
/// Identified by symbol and id alone: different trades often share time, price, quantity and side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Trade {
    /// The market.
    pub symbol: Symbol,
    /// The exchange's trade id, consecutive per symbol; at most [`MAX_ID`].
    pub id: u64,
    /// Price in the quote asset; positive.
    pub price: Decimal,
    /// Quantity in the base asset; positive.
    pub quantity: Decimal,
    /// When it was matched.
    pub trade_time: Timestamp,
    /// When the exchange sent the event; REST answers and archives have none.
    pub event_time: Option<Timestamp>,
    /// Whether the buyer's order was the resting one.
    pub buyer_is_maker: bool,
}

/// Why a trade event cannot be used. Names the field and what was expected of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TradeError {
    /// Not JSON, a field missing or of the wrong type.
    #[error("not a trade event: {0}")]
    Json(String),
    /// Another event.
    #[error("field e: expected \"trade\", got {0:?}")]
    OtherEvent(String),
    /// The symbol cannot be one.
    #[error("field s: {0}")]
    Symbol(String),
    /// The id is above [`MAX_ID`].
    #[error("field t: expected an id up to {MAX_ID}, got {0}")]
    Id(u64),
    /// A price or quantity that is not an exact decimal.
    #[error("field {field}: {cause}, got {text:?}")]
    Number {
        /// `p` or `q`.
        field: &'static str,
        /// What was found, shortened.
        text: String,
        /// What was expected.
        cause: DecimalError,
    },
    /// A price or quantity that is zero or below.
    #[error("field {field}: expected more than zero, got {value}")]
    NotPositive {
        /// `p` or `q`.
        field: &'static str,
        /// What was found.
        value: Decimal,
    },
    /// A time that is neither milliseconds nor microseconds.
    #[error("field {field}: expected a time in ms or µs since 1970, got {value}")]
    Time {
        /// `T` or `E`.
        field: &'static str,
        /// What was found.
        value: i64,
    },
}

/// `{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}`
#[derive(Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Event<'a> {
    #[serde(borrow)]
    pub e: Cow<'a, str>,
    #[serde(rename = "E", default, skip_serializing_if = "Option::is_none")]
    pub event_time: Option<i64>,
    #[serde(borrow)]
    pub s: Cow<'a, str>,
    pub t: u64,
    #[serde(borrow)]
    pub p: Cow<'a, str>,
    #[serde(borrow)]
    pub q: Cow<'a, str>,
    #[serde(rename = "T")]
    pub trade_time: i64,
    pub m: bool,
    #[serde(rename = "M", default = "always")]
    pub ignored: bool,
}

fn always() -> bool {
    true
}

impl Trade {
    /// Reads the exchange's trade event.
    ///
    /// # Errors
    /// Names the field that is missing, of the wrong type or out of range.
    pub fn from_event(json: &[u8]) -> Result<Self, TradeError> {
        let event = spelling::read(json).map_or_else(|| object(json).map_err(TradeError::Json), Ok)?;
        if event.e != "trade" {
            return Err(TradeError::OtherEvent(shortened(&event.e)));
        }
        if event.t > MAX_ID {
            return Err(TradeError::Id(event.t));
        }
        Ok(Self {
            symbol: event.s.parse().map_err(|error| TradeError::Symbol(format!("{error}")))?,
            id: event.t,
            price: positive("p", &event.p)?,
            quantity: positive("q", &event.q)?,
            trade_time: time("T", event.trade_time)?,
            event_time: event.event_time.map(|value| time("E", value)).transpose()?,
            buyer_is_maker: event.m,
        })
    }
}

/// The id that an event gives, even if the rest of it is unusable.
pub fn claimed_id(json: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Id {
        t: u64,
    }
    object(json).ok().map(|Id { t }| t)
}

/// A trade as REST answers and public archives have it: the texts are the source's own, so that
/// writing it as an event changes no digit.
#[derive(Clone, Copy, Debug)]
pub struct TradeText<'a> {
    /// The market.
    pub symbol: &'a Symbol,
    /// The trade id.
    pub id: u64,
    /// The price's digits.
    pub price: &'a str,
    /// The quantity's digits.
    pub quantity: &'a str,
    /// The time in the source's own unit.
    pub time: i64,
    /// Whether the buyer's order was the resting one.
    pub buyer_is_maker: bool,
    /// The field that the exchange says to ignore.
    pub best_match: bool,
}

impl TradeText<'_> {
    /// The trade in the shape of the exchange's event, without `E`.
    pub fn to_event(self) -> Vec<u8> {
        let event = Event {
            e: Cow::Borrowed("trade"),
            event_time: None,
            s: Cow::Borrowed(self.symbol.as_str()),
            t: self.id,
            p: Cow::Borrowed(self.price),
            q: Cow::Borrowed(self.quantity),
            trade_time: self.time,
            m: self.buyer_is_maker,
            ignored: self.best_match,
        };
        serde_json::to_vec(&event).expect("strings, integers and booleans are JSON")
    }
}

/// Reads a JSON object: serde takes the items of an array for a struct's fields, too.
pub(crate) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, String> {
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err("expected {".to_owned());
    }
    // Once for all, and not for each text in it.
    let text = std::str::from_utf8(json).map_err(|error| error.to_string())?;
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn positive(field: &'static str, text: &str) -> Result<Decimal, TradeError> {
    let value: Decimal = text.parse().map_err(|cause| TradeError::Number { field, text: shortened(text), cause })?;
    if value.is_positive() { Ok(value) } else { Err(TradeError::NotPositive { field, value }) }
}

fn time(field: &'static str, value: i64) -> Result<Timestamp, TradeError> {
    Timestamp::from_exchange(value).ok_or(TradeError::Time { field, value })
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}"#;

    #[test]
    fn reads_the_event_that_the_exchange_documents() {
        let trade = Trade::from_event(EVENT.as_bytes()).unwrap();
        assert_eq!(trade.symbol.as_str(), "BTCUSDT");
        assert_eq!(trade.id, 3_735_683_259);
        assert_eq!(trade.price.to_string(), "61837.63000000");
        assert_eq!(trade.quantity.to_string(), "0.02000000");
        assert_eq!(trade.trade_time.micros(), 1_723_161_255_342_000);
        assert_eq!(trade.event_time.unwrap().micros(), 1_723_161_255_343_000);
        assert!(trade.buyer_is_maker);
    }

    #[test]
    fn older_recordings_have_order_ids() {
        let old = EVENT.replace(r#""T":"#, r#""b":88,"a":50,"T":"#);
        assert_eq!(Trade::from_event(old.as_bytes()).unwrap(), Trade::from_event(EVENT.as_bytes()).unwrap());
    }

    #[test]
    fn names_the_field_that_is_wrong() {
        let cases = [
            (r#""trade""#, r#""aggTrade""#, "field e"),
            ("3735683259", "-1", "invalid value: integer `-1`"),
            ("3735683259", "18446744073709551615", "field t: expected an id up to 9007199254740991"),
            ("3735683259", "9007199254740992", "field t"),
            (r#""61837.63000000""#, r#""-1""#, "field p: expected more than zero"),
            (r#""61837.63000000""#, r#""1e9""#, "field p: expected digits"),
            (r#""61837.63000000""#, r#""99999999999999999999999""#, "field p: does not fit"),
            (r#""61837.63000000""#, "61837.63", "invalid type: floating point"),
            (r#""0.02000000""#, r#""0""#, "field q: expected more than zero"),
            ("1723161255342", "17", "field T"),
            ("BTCUSDT", "../../x", "field s"),
            (r#""m":true,"#, "", "missing field `m`"),
        ];
        for (from, to, expected) in cases {
            let error = Trade::from_event(EVENT.replace(from, to).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{to}: {error}");
        }
    }

    #[test]
    fn an_array_is_no_event() {
        let array = r#"["trade",1723161255343,"BTCUSDT",5,"1","1",1723161255342,true,true]"#;
        for text in [array.to_owned(), format!("[{EVENT}]")] {
            assert!(matches!(Trade::from_event(text.as_bytes()), Err(TradeError::Json(_))), "{text}");
        }
        assert!(Trade::from_event(format!(" \n{EVENT}").as_bytes()).is_ok());
    }

    #[test]
    fn a_trade_from_rest_has_the_same_shape_without_event_time() {
        let trade = Trade::from_event(EVENT.as_bytes()).unwrap();
        let text = TradeText {
            symbol: &trade.symbol,
            id: trade.id,
            price: "61837.63000000",
            quantity: "0.02000000",
            time: 1_723_161_255_342,
            buyer_is_maker: true,
            best_match: true,
        };
        let expected = EVENT.replace(r#""E":1723161255343,"#, "");
        assert_eq!(String::from_utf8(text.to_event()).unwrap(), expected);
        assert_eq!(Trade::from_event(expected.as_bytes()).unwrap(), Trade { event_time: None, ..trade });
    }
}
