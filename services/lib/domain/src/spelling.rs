//! The trade event in the exchange's own spelling, read field by field where it stands.
//!
//! Every trade is read several times on its way, and all of them are spelled alike: no spaces, fields in one order, nothing
//! escaped. What is spelled in any other way is left to the JSON parser, which alone says what is wrong with an event.

use std::borrow::Cow;

use crate::trade::Event;

/// Longer numbers may not fit, and are left to the parser.
const DIGITS: usize = 18;

/// The event; `None` if it is spelled otherwise, or is none.
pub(crate) fn read(json: &[u8]) -> Option<Event<'_>> {
    let mut rest = Rest(json);
    rest.expect(br#"{"e":"trade","#)?;
    let event_time = if rest.skip(br#""E":"#) { Some(rest.number_before(b",")?) } else { None };
    rest.expect(br#""s":"#)?;
    let symbol = rest.text_before(b",")?;
    rest.expect(br#""t":"#)?;
    let id = rest.number_before(b",")?;
    rest.expect(br#""p":"#)?;
    let price = rest.text_before(b",")?;
    rest.expect(br#""q":"#)?;
    let quantity = rest.text_before(b",")?;
    // Ids of orders, which the exchange no longer tells.
    for name in [br#""b":"#, br#""a":"#] {
        if rest.skip(name) {
            rest.number_before(b",")?;
        }
    }
    rest.expect(br#""T":"#)?;
    let trade_time = rest.number_before(b",")?;
    rest.expect(br#""m":"#)?;
    let buyer_is_maker = rest.flag_before(b",")?;
    rest.expect(br#""M":"#)?;
    let ignored = rest.flag_before(b"}")?;
    rest.0.is_empty().then_some(Event {
        e: Cow::Borrowed("trade"),
        event_time: event_time.map(u64::cast_signed),
        s: Cow::Borrowed(symbol),
        t: id,
        p: Cow::Borrowed(price),
        q: Cow::Borrowed(quantity),
        trade_time: trade_time.cast_signed(),
        m: buyer_is_maker,
        ignored,
    })
}

/// What is left to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn skip(&mut self, bytes: &[u8]) -> bool {
        self.expect(bytes).is_some()
    }

    fn expect(&mut self, bytes: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(bytes)?;
        Some(())
    }

    /// JSON has no zeros ahead of a number.
    fn number_before(&mut self, end: &[u8]) -> Option<u64> {
        let length = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at(length);
        let is_plain = (1..=DIGITS).contains(&length) && (digits[0] != b'0' || length == 1);
        self.0 = rest;
        self.expect(end)?;
        is_plain.then(|| digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
    }

    /// Nothing in it may mean something else than it says.
    fn text_before(&mut self, end: &[u8]) -> Option<&'a str> {
        self.expect(b"\"")?;
        let is_plain = |byte: &&u8| byte.is_ascii_graphic() && **byte != b'"' && **byte != b'\\';
        let (text, rest) = self.0.split_at(self.0.iter().take_while(is_plain).count());
        self.0 = rest;
        self.expect(b"\"")?;
        self.expect(end)?;
        std::str::from_utf8(text).ok()
    }

    fn flag_before(&mut self, end: &[u8]) -> Option<bool> {
        let flag = self.skip(b"true");
        if !flag {
            self.expect(b"false")?;
        }
        self.expect(end)?;
        Some(flag)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    const EVENT: &str = r#"{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}"#;
    const FROM_REST: &str =
        r#"{"e":"trade","s":"BTC_250328","t":0,"p":"1","q":"0.0","T":1723161255342000,"m":false,"M":false}"#;
    const OLD: &str =
        r#"{"e":"trade","E":1,"s":"BTCUSDT","t":9,"p":"1.0","q":"2.0","b":88,"a":50,"T":2,"m":true,"M":true}"#;

    #[test]
    fn reads_what_the_exchange_has_sent_over_the_years() {
        for event in [EVENT, FROM_REST, OLD] {
            assert_eq!(read(event.as_bytes()), Some(serde_json::from_str(event).unwrap()), "{event}");
        }
    }

    #[test]
    fn leaves_every_other_spelling_to_the_parser() {
        let others = [
            ("\"e\":", "\"e\": "),
            ("3735683259", "03735683259"),
            ("3735683259", "3735683259.0"),
            ("3735683259", "-1"),
            ("3735683259", "9999999999999999999"),
            ("3735683259", ""),
            ("BTCUSDT", r"\u0042TCUSDT"),
            ("BTCUSDT", "币安人生USDT"),
            ("\"M\":true}", "\"M\":true}}"),
            ("\"M\":true}", "\"M\":null}"),
            (",\"M\":true}", "}"),
            ("\"M\":true}", "\"M\":true}\n"),
            ("\"t\":3735683259", "\"t\":3735683259,\"t\":1"),
            ("\"s\":\"BTCUSDT\",\"t\":3735683259", "\"t\":3735683259,\"s\":\"BTCUSDT\""),
            ("\"T\":1723161255342", "\"T\":-0"),
        ];
        for (from, to) in others {
            assert_eq!(read(EVENT.replacen(from, to, 1).as_bytes()), None, "{to}");
        }
    }

    proptest! {
        /// Whatever happens to an event on its way: what is read here, the parser reads as well, and the same.
        #[test]
        fn reads_nothing_that_the_parser_does_not(
            nth in 0..3_usize,
            changes in prop::collection::vec((any::<Index>(), any::<Index>(), prop::sample::select([&br#""{}[]:,.-+0123456789 \etTrufalsn"#[..], &[0x0a, 0xc3, 0xa9]].concat())), 0..3),
        ) {
            let mut event = [EVENT, FROM_REST, OLD][nth].as_bytes().to_vec();
            for (kind, at, byte) in changes {
                let at = at.index(event.len());
                match kind.index(3) {
                    0 => event[at] = byte,
                    1 => event.insert(at, byte),
                    _ => drop(event.remove(at)),
                }
            }
            if let Some(read) = read(&event) {
                prop_assert_eq!(read, serde_json::from_slice(&event).unwrap());
            }
        }
    }
}
