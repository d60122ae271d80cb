//! A page of `historicalTrades` as events in the stream's shape, digit for digit.

use std::borrow::Cow;

use bytes::Bytes;
use domain::Symbol;
use domain::trade::TradeText;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::RestError;

/// `{"id":28457,"price":"4.00000100","qty":"12.00000000","quoteQty":"48.000012","time":1499865549590,"isBuyerMaker":true,"isBestMatch":true}`
#[derive(Deserialize)]
struct Item<'a> {
    id: u64,
    #[serde(borrow)]
    price: Cow<'a, str>,
    #[serde(borrow)]
    qty: Cow<'a, str>,
    time: i64,
    #[serde(rename = "isBuyerMaker")]
    is_buyer_maker: bool,
    #[serde(rename = "isBestMatch", default = "always")]
    is_best_match: bool,
}

fn always() -> bool {
    true
}

/// The events of a page; it must be in order and begin at `from_id` or later. What prices, quantities and times say is
/// for the reader to judge: one that is unusable must not hide the others.
pub(crate) fn events(symbol: &Symbol, from_id: u64, limit: usize, body: &[u8]) -> Result<Vec<Bytes>, RestError> {
    let items: Vec<&RawValue> = serde_json::from_slice(body)
        .map_err(|error| RestError::Unavailable(format!("historicalTrades: expected a list of trades: {error}")))?;
    let mut least = from_id;
    let mut events = Vec::with_capacity(items.len().min(limit));
    for (place, item) in items.into_iter().take(limit).enumerate() {
        let (id, event) = event(symbol, least, item).map_err(|finding| {
            let shown: String = item.get().chars().take(200).collect();
            RestError::Unavailable(format!("historicalTrades: item {place}: {finding}, got {shown}"))
        })?;
        events.push(event);
        least = id.saturating_add(1);
    }
    Ok(events)
}

/// One trade as an event.
fn event(symbol: &Symbol, least: u64, item: &RawValue) -> Result<(u64, Bytes), String> {
    let item: Item<'_> = serde_json::from_str(item.get()).map_err(|error| error.to_string())?;
    if item.id < least {
        return Err(format!("ids out of order, expected {least} or more"));
    }
    let text = TradeText {
        symbol,
        id: item.id,
        price: &item.price,
        quantity: &item.qty,
        time: item.time,
        buyer_is_maker: item.is_buyer_maker,
        best_match: item.is_best_match,
    };
    Ok((item.id, Bytes::from(text.to_event())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"[{"id":10,"price":"4.00000100","qty":"12.00000000","quoteQty":"48.000012","time":1499865549590,"isBuyerMaker":true,"isBestMatch":true},
        {"id":12,"price":"4.0","qty":"1","quoteQty":"4","time":1741046401271497,"isBuyerMaker":false,"isBestMatch":false}]"#;

    fn page(from_id: u64, limit: usize, body: &str) -> Result<Vec<Bytes>, RestError> {
        events(&"BTCUSDT".parse().unwrap(), from_id, limit, body.as_bytes())
    }

    #[test]
    fn keeps_every_digit() {
        let events = page(10, 1_000, PAGE).unwrap();
        assert_eq!(
            events[0],
            r#"{"e":"trade","s":"BTCUSDT","t":10,"p":"4.00000100","q":"12.00000000","T":1499865549590,"m":true,"M":true}"#
        );
        assert_eq!(
            events[1],
            r#"{"e":"trade","s":"BTCUSDT","t":12,"p":"4.0","q":"1","T":1741046401271497,"m":false,"M":false}"#
        );
        assert_eq!(page(10, 1, PAGE).unwrap().len(), 1);
        assert_eq!(page(7, 1_000, PAGE).unwrap().len(), 2, "the first may be above what was asked for");
        assert_eq!(page(7, 1_000, "[]"), Ok(Vec::new()));
    }

    #[test]
    fn an_unusable_trade_is_left_to_the_reader() {
        let events = page(10, 1_000, &PAGE.replace("\"4.0\"", "\"NaN\"")).unwrap();
        assert!(events[1].windows(9).any(|part| part == b"\"p\":\"NaN\""), "{:?}", events[1]);
        assert_eq!(events.len(), 2);
    }

    #[test]
    fn names_the_place_that_is_wrong() {
        let cases = [
            (PAGE.replace("\"id\":12", "\"id\":10"), "item 1: ids out of order, expected 11 or more"),
            (PAGE.replace("\"id\":10", "\"id\":9"), "item 0: ids out of order, expected 10 or more"),
            (PAGE.replace("\"4.0\"", "4.0"), "item 1: invalid type: floating point"),
            (PAGE.replace(",\"isBuyerMaker\":false", ""), "item 1: missing field `isBuyerMaker`"),
            ("{}".to_owned(), "expected a list of trades"),
            (PAGE[..80].to_owned(), "expected a list of trades"),
        ];
        for (body, expected) in cases {
            let Err(RestError::Unavailable(reason)) = page(10, 1_000, &body) else { panic!("{body}") };
            assert!(reason.contains(expected), "{expected}: {reason}");
        }
    }
}
