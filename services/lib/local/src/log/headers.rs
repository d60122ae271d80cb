//! Headers as bytes: their count, then name and value of each, every length as a base-128 number.

use bytes::Bytes;
use domain::Headers;

/// Appends the headers' bytes; nothing for none.
pub(super) fn encode(headers: &Headers, out: &mut Vec<u8>) {
    let headers = headers.iter();
    if headers.len() == 0 {
        return;
    }
    number(headers.len(), out);
    for (name, value) in headers {
        number(name.len(), out);
        out.extend_from_slice(name.as_bytes());
        number(value.len(), out);
        out.extend_from_slice(value);
    }
}

/// Reads what [`encode`] wrote; `None` if it is something else.
pub(super) fn decode(bytes: &Bytes) -> Option<Headers> {
    let mut headers = Headers::new();
    if bytes.is_empty() {
        return Some(headers);
    }
    let mut at = 0;
    let count = read_number(bytes, &mut at)?;
    let mut part = || {
        let length = read_number(bytes, &mut at)?;
        let end = at.checked_add(length).filter(|end| *end <= bytes.len())?;
        let part = bytes.slice(at..end);
        at = end;
        Some(part)
    };
    for _ in 0..count {
        let name = part()?;
        let value = part()?;
        headers = headers.with(std::str::from_utf8(&name).ok()?, value);
    }
    Some(headers)
}

fn number(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn read_number(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut value = 0;
    for shift in (0..usize::BITS).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(headers: &Headers) -> Bytes {
        let mut out = Vec::new();
        encode(headers, &mut out);
        out.into()
    }

    #[test]
    fn round_trip_exactly() {
        let many = (0..300).fold(Headers::new(), |headers, n| headers.with(format!("h{n}"), vec![7; n]));
        let odd = Headers::new().with("", "").with("€", vec![0xff; 20_000]).with("", "x");
        for headers in [Headers::new(), Headers::new().with("origin", "live"), many, odd] {
            assert_eq!(decode(&encoded(&headers)), Some(headers));
        }
    }

    #[test]
    fn damage_is_noticed() {
        let whole = encoded(&Headers::new().with("origin", "live").with("source", "binance"));
        for length in 1..whole.len() {
            assert_eq!(decode(&whole.slice(..length)), None, "cut to {length} bytes");
        }
        assert_eq!(decode(&Bytes::from_static(&[0xff; 30])), None);
        assert_eq!(decode(&Bytes::from_static(&[1, 1, 0xff, 0])), None, "a name that is not UTF-8");
    }
}
