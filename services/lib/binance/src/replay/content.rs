//! What a line of a recording is: a recorded frame, or a row of the exchange's public archive.

use bytes::Bytes;
use domain::trade::TradeText;
use domain::{Symbol, Timestamp};
use memchr::memchr;

/// The columns of the public archive.
const HEADER: &[u8] = b"id,price,qty,quoteQty,time,isBuyerMaker,isBestMatch";
const COLUMNS: usize = 7;

/// Times in ns since 1970 with 19 digits: the years 2001 to 2262.
const LEAST_NANOS: i64 = 1_000_000_000_000_000_000;

/// Times of at least this much are in µs.
const LEAST_MICROS: i64 = 1_000_000_000_000_000;

/// The kind of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `<receive time in ns> <frame>`
    Frames,
    /// `id,price,qty,quoteQty,time,isBuyerMaker,isBestMatch`
    Rows,
}

impl Kind {
    /// What both kinds look like, for messages.
    pub(crate) const EXPECTED: &str = "lines \"<receive time in ns> <frame>\" or rows \
         \"id,price,qty,quoteQty,time,isBuyerMaker,isBestMatch\", plain, gzipped or zipped";

    /// The kind that a line belongs to, if it shows.
    pub(crate) fn of(line: &[u8]) -> Option<Self> {
        let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let is_row = line == HEADER || (digits > 0 && columns(line).is_some());
        if digits > 0 && line[digits..].starts_with(b" {") { Some(Self::Frames) } else { is_row.then_some(Self::Rows) }
    }
}

/// Reads the lines of one recording.
#[derive(Clone, Debug)]
pub(crate) enum Decoder {
    /// Recorded frames.
    Frames,
    /// Rows of one market; the unit of their times is decided by the first one.
    Rows {
        /// From the file's name.
        symbol: Symbol,
        /// Whether times are in µs, once known.
        micros: Option<bool>,
    },
}

/// A frame and when the recorder had it.
pub(crate) type Received = (Bytes, Timestamp);

impl Decoder {
    /// Reads line `number`; `None` if it carries nothing.
    ///
    /// # Errors
    /// Says what was expected.
    pub(crate) fn decode(&mut self, number: u64, line: &Bytes) -> Result<Option<Received>, String> {
        if line.is_empty() {
            return Ok(None);
        }
        match self {
            Self::Frames => frame(line).map(Some),
            Self::Rows { .. } if number == 1 && line == HEADER => Ok(None),
            Self::Rows { symbol, micros } => row(symbol, micros, line).map(Some),
        }
    }
}

fn frame(line: &Bytes) -> Result<Received, String> {
    let space = memchr(b' ', line).ok_or("expected a receive time, a space and a frame")?;
    let nanos: i64 = number(&line[..space])
        .filter(|nanos| *nanos >= LEAST_NANOS)
        .ok_or("expected a receive time in ns with 19 digits before the space")?;
    let frame = line.slice(space + 1..);
    if frame.is_empty() {
        return Err("expected a frame after the receive time".to_owned());
    }
    std::str::from_utf8(&frame).map_err(|error| format!("expected UTF-8: {error}"))?;
    Ok((frame, Timestamp::from_micros(nanos / 1_000)))
}

/// `3735683259,61837.63000000,0.02000000,1236.7526,1723161255342,True,True`
fn row(symbol: &Symbol, micros: &mut Option<bool>, line: &[u8]) -> Result<Received, String> {
    let [id, price, quantity, _, time, maker, best] = columns(line)
        .ok_or_else(|| format!("expected {COLUMNS} columns, got {}", 1 + memchr::memchr_iter(b',', line).count()))?;
    let time_value: i64 = number(time).ok_or("column time: expected ms or µs since 1970")?;
    let traded_at = Timestamp::from_exchange(time_value).ok_or("column time: expected ms or µs since 1970")?;
    let text = TradeText {
        symbol,
        id: number(id).and_then(|id| u64::try_from(id).ok()).ok_or("column id: expected a trade id")?,
        price: digits(price).ok_or("column price: expected digits with at most one point")?,
        quantity: digits(quantity).ok_or("column qty: expected digits with at most one point")?,
        time: time_value,
        buyer_is_maker: truth(maker).ok_or("column isBuyerMaker: expected True or False")?,
        best_match: truth(best).ok_or("column isBestMatch: expected True or False")?,
    };
    let is_micros = time_value >= LEAST_MICROS;
    if *micros.get_or_insert(is_micros) != is_micros {
        let (expected, got) = if is_micros { ("ms", "µs") } else { ("µs", "ms") };
        return Err(format!("column time: expected {expected} as in the file's first row, got {got}"));
    }
    Ok((Bytes::from(text.to_event()), traded_at))
}

fn columns(line: &[u8]) -> Option<[&[u8]; COLUMNS]> {
    let mut columns = [&line[..0]; COLUMNS];
    let mut parts = line.split(|byte| *byte == b',');
    for column in &mut columns {
        *column = parts.next()?;
    }
    parts.next().is_none().then_some(columns)
}

fn number(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    text.iter().try_fold(0_i64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

fn digits(text: &[u8]) -> Option<&str> {
    let points = text.iter().filter(|byte| **byte == b'.').count();
    let plain = text.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    if plain && points <= 1 && text.len() > points { std::str::from_utf8(text).ok() } else { None }
}

fn truth(text: &[u8]) -> Option<bool> {
    match text {
        b"True" | b"true" => Some(true),
        b"False" | b"false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = "3735683259,61837.63000000,0.02000000,1236.7526,1723161255342,True,False";

    fn rows() -> Decoder {
        Decoder::Rows { symbol: "BTCUSDT".parse().unwrap(), micros: None }
    }

    fn decode(decoder: &mut Decoder, number: u64, line: &str) -> Result<Option<Received>, String> {
        decoder.decode(number, &Bytes::copy_from_slice(line.as_bytes()))
    }

    #[test]
    fn a_line_shows_its_kind() {
        assert_eq!(Kind::of(br#"1723161253937085768 {"stream":"#), Some(Kind::Frames));
        assert_eq!(Kind::of(ROW.as_bytes()), Some(Kind::Rows));
        assert_eq!(Kind::of(HEADER), Some(Kind::Rows));
        for other in ["", "hello", "{}", "1,2,3", "a,b,c,d,e,f,g", "17 x", "\u{feff}1 {}"] {
            assert_eq!(Kind::of(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_frame_is_what_follows_the_space() {
        let (frame, at) = decode(&mut Decoder::Frames, 1, r#"1723161253937085768 {"a": "b c"}"#).unwrap().unwrap();
        assert_eq!(frame, r#"{"a": "b c"}"#);
        assert_eq!(at.micros(), 1_723_161_253_937_085);
        for line in ["x", "1 {}", "1723161253937085768", "1723161253937085768 ", "-723161253937085768 {}"] {
            assert!(decode(&mut Decoder::Frames, 1, line).unwrap_err().contains("expected"), "{line}");
        }
        let invalid = Bytes::from_static(b"1723161253937085768 {\"\xff\"}");
        assert!(Decoder::Frames.decode(1, &invalid).unwrap_err().starts_with("expected UTF-8"));
    }

    #[test]
    fn a_row_becomes_an_event_digit_for_digit() {
        let (event, at) = decode(&mut rows(), 1, ROW).unwrap().unwrap();
        let expected = r#"{"e":"trade","s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":false}"#;
        assert_eq!(event, expected);
        assert_eq!(at.micros(), 1_723_161_255_342_000);
    }

    #[test]
    fn only_the_known_header_is_skipped_and_only_on_top() {
        let header = std::str::from_utf8(HEADER).unwrap();
        assert_eq!(decode(&mut rows(), 1, header), Ok(None));
        assert!(decode(&mut rows(), 2, header).is_err());
        assert!(decode(&mut rows(), 1, "trade_id,price,qty,quoteQty,time,isBuyerMaker,isBestMatch").is_err());
    }

    #[test]
    fn names_the_column_that_is_wrong() {
        let cases = [
            ("3735683259", "-1", "column id"),
            ("61837.63000000", "1e5", "column price"),
            ("0.02000000", ".", "column qty"),
            ("0.02000000", "", "column qty"),
            ("1723161255342", "1723161255", "column time"),
            ("True", "yes", "column isBuyerMaker"),
            ("False", "0", "column isBestMatch"),
            (",True", "", "expected 7 columns, got 6"),
            (",True", ",True,", "expected 7 columns, got 8"),
        ];
        for (from, to, expected) in cases {
            let error = decode(&mut rows(), 1, &ROW.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(expected), "{to}: {error}");
        }
    }

    #[test]
    fn the_first_row_decides_the_unit_of_times() {
        let mut decoder = rows();
        let micros = ROW.replace("1723161255342", "1723161255342001");
        assert!(decode(&mut decoder, 1, &micros).is_ok());
        assert!(decode(&mut decoder, 2, ROW).unwrap_err().contains("expected µs as in the file's first row, got ms"));
        assert!(decode(&mut decoder, 3, &micros).is_ok());
    }
}
