//! Headers of the log's records.

use std::fmt;
use std::str::FromStr;

use bytes::{BufMut, Bytes, BytesMut};

/// What the headers of a trade's record need.
const USUAL_BYTES: usize = 64;

/// Headers of a record: names and values, in order.
///
/// Every trade's record has some, so they are one block of bytes: how many there are, then the name and the value of
/// each, every length as a base-128 number. None are no bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Bytes);

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// These headers.
    pub fn of<N: AsRef<str>, V: AsRef<[u8]>>(
        headers: impl IntoIterator<Item = (N, V), IntoIter: ExactSizeIterator>,
    ) -> Self {
        Self::cut_from(&mut BytesMut::with_capacity(USUAL_BYTES), headers)
    }

    /// These headers, in memory that others are cut from as well. The block has to be empty.
    pub fn cut_from<N: AsRef<str>, V: AsRef<[u8]>>(
        block: &mut BytesMut,
        headers: impl IntoIterator<Item = (N, V), IntoIter: ExactSizeIterator>,
    ) -> Self {
        debug_assert!(block.is_empty(), "what is in the block would be taken for headers");
        let headers = headers.into_iter();
        if headers.len() == 0 {
            return Self::new();
        }
        put_number(headers.len(), block);
        for (name, value) in headers {
            put_header(name.as_ref(), value.as_ref(), block);
        }
        Self(block.split().freeze())
    }

    /// With one more header.
    #[must_use]
    pub fn with(self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Self {
        let Parts { left, rest } = Parts::of(&self);
        let mut block = BytesMut::with_capacity(self.0.len() + USUAL_BYTES);
        put_number(left + 1, &mut block);
        block.put_slice(rest);
        put_header(name.as_ref(), value.as_ref(), &mut block);
        Self(block.freeze())
    }

    /// As bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// From [bytes](Self::as_bytes); `None` if they are anything else.
    pub fn from_bytes(bytes: Bytes) -> Option<Self> {
        if !bytes.is_empty() {
            let mut rest = &bytes[..];
            let count = take_number(&mut rest)?;
            for _ in 0..count {
                let (name, _) = take_header(&mut rest)?;
                std::str::from_utf8(name).ok()?;
            }
            if count == 0 || !rest.is_empty() {
                return None;
            }
        }
        Some(Self(bytes))
    }

    /// The last value of a name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let all = Parts::of(self).filter(|(other, _)| *other == name.as_bytes());
        all.map(|(_, value)| value).last()
    }

    /// The last value of each of these names, in one go.
    pub fn each<const N: usize>(&self, names: [&str; N]) -> [Option<&[u8]>; N] {
        let mut values = [None; N];
        for (name, value) in Parts::of(self) {
            if let Some(nth) = names.iter().position(|wanted| wanted.as_bytes() == name) {
                values[nth] = Some(value);
            }
        }
        values
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &[u8])> + '_ {
        self.parts().map(|(name, value)| (std::str::from_utf8(name).unwrap_or_default(), value))
    }

    /// All of them, in order; the names are UTF-8.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + '_ {
        Parts::of(self)
    }
}

/// A header's value as the text of something.
pub fn parsed<T: FromStr>(value: Option<&[u8]>) -> Option<T> {
    std::str::from_utf8(value?).ok()?.parse().ok()
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.iter().map(|(name, value)| (name, value.escape_ascii().to_string()));
        f.debug_list().entries(shown).finish()
    }
}

/// Names, known to be UTF-8, and values.
struct Parts<'a> {
    left: usize,
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(headers: &'a Headers) -> Self {
        let mut rest = &headers.0[..];
        let left = take_number(&mut rest).unwrap_or(0);
        Self { left, rest }
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        take_header(&mut self.rest)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Parts<'_> {}

fn put_header(name: &str, value: &[u8], block: &mut BytesMut) {
    for part in [name.as_bytes(), value] {
        put_number(part.len(), block);
        block.put_slice(part);
    }
}

fn take_header<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    Some((take_part(rest)?, take_part(rest)?))
}

fn take_part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_number(rest)?;
    let (part, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(part)
}

fn put_number(mut value: usize, block: &mut BytesMut) {
    while value >= 0x80 {
        block.put_u8(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    block.put_u8(value.to_le_bytes()[0]);
}

fn take_number(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    for shift in (0..usize::BITS).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= usize::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_exactly() {
        let many = (0..300).fold(Headers::new(), |headers, n| headers.with(format!("h{n}"), vec![7; n]));
        let odd = Headers::new().with("", "").with("€", vec![0xff; 20_000]).with("", "x");
        for headers in [Headers::new(), Headers::new().with("origin", "live"), many, odd] {
            assert_eq!(Headers::from_bytes(headers.as_bytes().clone()), Some(headers.clone()));
            assert_eq!(Headers::of(headers.iter()), headers);
        }
    }

    #[test]
    fn the_last_of_a_name_counts() {
        let headers = Headers::of([("a", "1"), ("b", "2"), ("a", "3")]);
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("a", &b"1"[..]), ("b", b"2"), ("a", b"3")]);
        assert_eq!((headers.get("a"), headers.get("c")), (Some(&b"3"[..]), None));
        assert_eq!(headers.each(["c", "b", "a"]), [None, Some(&b"2"[..]), Some(b"3")]);
        assert_eq!(format!("{headers:?}"), r#"[("a", "1"), ("b", "2"), ("a", "3")]"#);
    }

    #[test]
    fn records_share_a_block() {
        let mut block = BytesMut::with_capacity(1 << 10);
        let all: Vec<Headers> = (0..100).map(|n| Headers::cut_from(&mut block, [("n", n.to_string())])).collect();
        let read: Vec<usize> = all.iter().map(|headers| parsed(headers.get("n")).unwrap()).collect();
        assert!(read.into_iter().eq(0..100));
    }

    #[test]
    fn damage_is_noticed() {
        let whole = Headers::of([("origin", "live"), ("source", "binance")]).as_bytes().clone();
        for length in 1..whole.len() {
            assert_eq!(Headers::from_bytes(whole.slice(..length)), None, "cut to {length} bytes");
        }
        assert_eq!(Headers::from_bytes(Bytes::from_static(&[0xff; 30])), None);
        assert_eq!(Headers::from_bytes(Bytes::from_static(&[1, 1, 0xff, 0])), None, "a name that is not UTF-8");
        assert_eq!(Headers::from_bytes(Bytes::from_static(&[1, 1, b'a', 0, 0])), None, "something behind them");
    }
}
