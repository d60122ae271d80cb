//! What a frame of the exchange's stream is: the first step of decoding.
//!
//! Combined streams wrap each event as `{"stream":"btcusdt@trade","data":{…}}`, single streams send
//! it bare; answers to requests are never wrapped and carry no `e`.

use std::borrow::Cow;

use bytes::Bytes;
use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::trade::{Trade, TradeError, object};

/// What a frame is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A trade: the event's bytes exactly as they were sent, and what they mean.
    Trade(Bytes, Trade),
    /// The server announces that it will go down: open a new connection.
    ServerShutdown,
    /// Something that is not for the tape, with its kind: another event's name, `answer` or `snapshot`.
    Other(String),
    /// The server refuses a request of ours.
    Refusal {
        /// The exchange's error code.
        code: i64,
        /// The exchange's words.
        message: String,
    },
}

/// A frame that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not UTF-8, or not a JSON object.
    #[error("not a JSON object: {0}")]
    Json(String),
    /// An object that is nothing the protocol knows.
    #[error("neither an event, an answer nor an error: expected a field e, stream, result or code")]
    Unknown,
    /// A trade event with something wrong in it.
    #[error(transparent)]
    Trade(#[from] TradeError),
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    e: Option<Cow<'a, str>>,
    /// Whether it is there: it may well be null.
    #[serde(default, deserialize_with = "present")]
    result: bool,
    #[serde(borrow, default)]
    error: Option<Refused<'a>>,
    #[serde(default)]
    code: Option<i64>,
    #[serde(borrow, default)]
    msg: Option<Cow<'a, str>>,
    #[serde(rename = "lastUpdateId", default)]
    last_update_id: Option<u64>,
}

/// `{"code":2,"msg":"Invalid request"}`
#[derive(Deserialize)]
struct Refused<'a> {
    code: i64,
    #[serde(borrow, default)]
    msg: Cow<'a, str>,
}

fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(value).map(|_| true)
}

impl Frame {
    /// Tells what a frame is. The bytes of a trade share memory with the frame.
    ///
    /// # Errors
    /// Says what was expected; the caller keeps the frame as a dead letter.
    pub fn decode(frame: &Bytes) -> Result<Self, FrameError> {
        // Nearly all of them are trades in the exchange's own spelling: read once, where they stand.
        let event = if names_data(frame) { wrapped(frame) } else { Some(&frame[..]) };
        match event.map(|event| (event, Trade::from_event(event))) {
            Some((event, Ok(trade))) => Ok(Self::Trade(frame.slice_ref(event), trade)),
            _ => Self::decode_any(frame),
        }
    }

    fn decode_any(frame: &Bytes) -> Result<Self, FrameError> {
        let envelope: Envelope<'_> = parse(frame)?;
        match envelope.data {
            Some(data) => {
                let event = frame.slice_ref(data.get().as_bytes());
                let inner: Envelope<'_> = parse(&event)?;
                Self::of_event(event.clone(), &inner)
            }
            None => Self::of_event(frame.clone(), &envelope),
        }
    }

    fn of_event(event: Bytes, envelope: &Envelope<'_>) -> Result<Self, FrameError> {
        match envelope {
            Envelope { e: Some(kind), .. } if kind == "trade" => {
                let trade = Trade::from_event(&event)?;
                Ok(Self::Trade(event, trade))
            }
            Envelope { e: Some(kind), .. } if kind == "serverShutdown" => Ok(Self::ServerShutdown),
            Envelope { e: Some(kind), .. } => Ok(Self::Other(kind.chars().take(40).collect())),
            Envelope { code: Some(code), msg, .. } => {
                let message = msg.as_deref().unwrap_or_default().to_owned();
                Ok(Self::Refusal { code: *code, message })
            }
            Envelope { error: Some(Refused { code, msg }), .. } => {
                Ok(Self::Refusal { code: *code, message: msg.clone().into_owned() })
            }
            Envelope { last_update_id: Some(_), .. } => Ok(Self::Other("snapshot".to_owned())),
            Envelope { result: true, .. } => Ok(Self::Other("answer".to_owned())),
            // bookTicker is the one stream whose events carry no `e`.
            _ if is_book_ticker(&event) => Ok(Self::Other("bookTicker".to_owned())),
            _ => Err(FrameError::Unknown),
        }
    }
}

/// Whether a frame may have a field `data`.
fn names_data(frame: &[u8]) -> bool {
    memmem::find(frame, b"\"data\"").is_some()
}

/// The event in `{"stream":"btcusdt@trade","data":{…}}`, if it is spelled exactly like that.
fn wrapped(frame: &[u8]) -> Option<&[u8]> {
    let rest = frame.strip_prefix(br#"{"stream":""#)?;
    let (name, rest) = rest.split_at(memchr::memchr(b'"', rest)?);
    let plain = name.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'\\');
    let event = rest.strip_prefix(br#"","data":"#)?.strip_suffix(b"}")?;
    // Space around the event is none of its bytes.
    (plain && event.starts_with(b"{") && event.ends_with(b"}")).then_some(event)
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, FrameError> {
    object(json).map_err(FrameError::Json)
}

/// `{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}`
fn is_book_ticker(event: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only the presence of the fields matters")]
    struct BookTicker<'a> {
        u: u64,
        #[serde(borrow)]
        b: Cow<'a, str>,
        #[serde(borrow)]
        a: Cow<'a, str>,
    }
    serde_json::from_slice::<BookTicker<'_>>(event).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    const EVENT: &str = r#"{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}"#;

    fn decode(text: &str) -> Result<Frame, FrameError> {
        Frame::decode(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn the_event_is_kept_byte_for_byte_bare_or_wrapped() {
        let spaced = EVENT.replace(r#","s":"#, r#" , "s" : "#);
        for event in [EVENT, &spaced] {
            for frame in [event.to_owned(), format!(r#"{{"stream":"btcusdt@trade","data":{event}}}"#)] {
                let Frame::Trade(bytes, trade) = decode(&frame).unwrap() else { panic!("{frame}") };
                assert_eq!(bytes, event.as_bytes());
                assert_eq!(trade.id, 3_735_683_259);
            }
        }
        for (before, after) in [(" ", ""), ("", " "), ("\n", "\t")] {
            let frame = format!(r#"{{"stream":"btcusdt@trade","data":{before}{EVENT}{after}}}"#);
            let Frame::Trade(bytes, _) = decode(&frame).unwrap() else { panic!("{frame}") };
            assert_eq!(bytes, EVENT.as_bytes());
        }
    }

    proptest! {
        /// What is damaged in transit, or spelled otherwise, is read the long way, and no frame is read differently.
        #[test]
        fn the_short_way_reads_what_the_long_way_reads(wrap in any::<bool>(), at in any::<Index>(), put in "[ -~]{0,3}", cut in 0_usize..3) {
            let frame = if wrap { format!(r#"{{"stream":"btcusdt@trade","data":{EVENT}}}"#) } else { EVENT.to_owned() };
            let from = at.index(frame.len());
            let to = (from + cut).min(frame.len());
            let frame = Bytes::from([&frame[..from], &put, &frame[to..]].concat());
            prop_assert_eq!(Frame::decode(&frame), Frame::decode_any(&frame), "{:?}", frame);
        }
    }

    #[test]
    fn data_within_an_event_is_read_like_any() {
        let both = EVENT.replace(r#""M":true"#, r#""M":true,"data":{"e":"other"}"#);
        for frame in [both.clone(), format!(r#"{{"stream":"x","data":{both}}}"#)] {
            let frame = Bytes::from(frame);
            assert_eq!(Frame::decode(&frame), Frame::decode_any(&frame));
        }
    }

    #[test]
    fn knows_what_is_not_a_trade() {
        let cases = [
            (r#"{"result":null,"id":1}"#, "answer"),
            (r#"{"result":["btcusdt@trade"],"id":3}"#, "answer"),
            (r#"{"stream":"x","data":{"e":"depthUpdate","E":1}}"#, "depthUpdate"),
            (r#"{"u":1,"s":"BTCUSDT","b":"1","B":"1","a":"2","A":"1"}"#, "bookTicker"),
            (r#"{"lastUpdateId":1,"bids":[],"asks":[]}"#, "snapshot"),
        ];
        for (frame, kind) in cases {
            assert_eq!(decode(frame), Ok(Frame::Other(kind.to_owned())), "{frame}");
        }
        assert_eq!(decode(r#"{"e":"serverShutdown","E":1}"#), Ok(Frame::ServerShutdown));
        assert_eq!(
            decode(r#"{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}"#),
            Ok(Frame::ServerShutdown)
        );
        let refusal = Frame::Refusal { code: 2, message: "Invalid request".to_owned() };
        assert_eq!(decode(r#"{"code":2,"msg":"Invalid request"}"#), Ok(refusal.clone()));
        assert_eq!(decode(r#"{"error":{"code":2,"msg":"Invalid request"},"id":7}"#), Ok(refusal));
    }

    #[test]
    fn says_what_it_expected() {
        for text in
            ["", "null", "[]", "17", "{", "{}", r#"{"stream":"x"}"#, r#"{"stream":"x","data":[]}"#, "\u{feff}{}"]
        {
            assert!(decode(text).is_err(), "{text:?}");
        }
        // A page of REST, and a row of it.
        let row = r#"{"id":3,"price":"1","qty":"1","time":1}"#;
        for text in [row.to_owned(), format!("[{row},{row}]"), format!("[{EVENT}]"), "[null,null]".to_owned()] {
            assert!(decode(&text).is_err(), "{text}");
        }
        assert!(Frame::decode(&Bytes::from_static(b"{\"e\":\"\xff\"}")).is_err());
        assert!(matches!(decode(&EVENT.replace("\"t\":3735683259,", "")), Err(FrameError::Trade(_))));
    }
}
