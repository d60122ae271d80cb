//! Lines of a stream, within bounds.

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};
use memchr::memchr;

use crate::{EVIDENCE_BYTES, MAX_FRAME_BYTES};

/// How much is read at once. Lines share the memory of their block.
const BLOCK_BYTES: usize = 256 * 1024;

/// A line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// All of it.
    Whole(Bytes),
    /// One that is too long: its beginning and its length.
    Overlong {
        /// What it begins with.
        head: Bytes,
        /// How long it is.
        length: u64,
    },
}

/// A stream that could not be read to its end.
#[derive(Debug)]
pub(crate) struct Broken {
    /// The line where it broke.
    pub(crate) number: u64,
    /// How many bytes of unpacked content there were.
    pub(crate) position: u64,
    /// The beginning of the line where it broke.
    pub(crate) rest: Bytes,
    /// What happened.
    pub(crate) error: io::Error,
}

/// Splits a stream into lines, holding at most a block and a line in memory.
pub(crate) struct Lines<R> {
    reader: R,
    buffer: BytesMut,
    /// How much of the buffer has no line end.
    scanned: usize,
    number: u64,
    position: u64,
    ended: bool,
    error: Option<io::Error>,
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, buffer: BytesMut::new(), scanned: 0, number: 0, position: 0, ended: false, error: None }
    }

    /// The number of the line that was given last, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The next line; `None` at the end or where the stream is broken.
    pub(crate) fn next_line(&mut self) -> Option<Line> {
        loop {
            if let Some(found) = memchr(b'\n', &self.buffer[self.scanned..]) {
                let line = self.buffer.split_to(self.scanned + found + 1).freeze();
                return Some(self.whole(line.slice(..line.len() - 1)));
            }
            self.scanned = self.buffer.len();
            if self.scanned > MAX_FRAME_BYTES {
                return self.overlong();
            }
            if self.ended {
                return self.last();
            }
            self.fill();
        }
    }

    /// After the last line: what kept the stream from being read to its end.
    pub(crate) fn broken(self) -> Option<Broken> {
        let error = self.error?;
        let rest = Bytes::copy_from_slice(&self.buffer[..self.buffer.len().min(EVIDENCE_BYTES)]);
        Some(Broken { number: self.number + 1, position: self.position, rest, error })
    }

    fn whole(&mut self, line: Bytes) -> Line {
        self.scanned = 0;
        self.number += 1;
        let end = if line.last() == Some(&b'\r') { line.len() - 1 } else { line.len() };
        if end > MAX_FRAME_BYTES {
            let head = Bytes::copy_from_slice(&line[..EVIDENCE_BYTES]);
            return Line::Overlong { head, length: end as u64 };
        }
        Line::Whole(line.slice(..end))
    }

    /// The line without an end at the end; a broken stream's last line is not one.
    fn last(&mut self) -> Option<Line> {
        if self.buffer.is_empty() || self.error.is_some() {
            return None;
        }
        let line = self.buffer.split().freeze();
        Some(self.whole(line))
    }

    /// Skips to the line end, keeping the beginning only.
    fn overlong(&mut self) -> Option<Line> {
        let head = Bytes::copy_from_slice(&self.buffer[..EVIDENCE_BYTES]);
        let mut length = self.buffer.len() as u64;
        self.buffer.clear();
        self.scanned = 0;
        while !self.ended {
            self.fill();
            match memchr(b'\n', &self.buffer) {
                Some(found) => {
                    length += found as u64;
                    let _ = self.buffer.split_to(found + 1);
                    break;
                }
                None => {
                    length += self.buffer.len() as u64;
                    self.buffer.clear();
                }
            }
        }
        self.number += 1;
        Some(Line::Overlong { head, length })
    }

    /// Reads one block more.
    fn fill(&mut self) {
        let start = self.buffer.len();
        self.buffer.resize(start + BLOCK_BYTES, 0);
        let mut end = start;
        while end < start + BLOCK_BYTES && !self.ended {
            match self.reader.read(&mut self.buffer[end..]) {
                Ok(0) => self.ended = true,
                Ok(read) => end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.ended = true;
                    self.error = Some(error);
                }
            }
        }
        self.buffer.truncate(end);
        self.position += (end - start) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8]) -> Vec<Line> {
        let mut lines = Lines::new(input);
        std::iter::from_fn(|| lines.next_line()).collect()
    }

    fn whole(text: &'static str) -> Line {
        Line::Whole(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn splits_lines_with_and_without_an_end() {
        assert_eq!(all(b""), []);
        assert_eq!(all(b"a\n\nb"), [whole("a"), whole(""), whole("b")]);
        assert_eq!(all(b"a\r\nb\n"), [whole("a"), whole("b")]);
    }

    #[test]
    fn agrees_with_a_simple_split_across_blocks() {
        let text: String = (0..100_000).map(|n| format!("{n} {}\n", "x".repeat(n % 91))).collect();
        let lines = all(text.as_bytes());
        assert_eq!(lines.len(), 100_000);
        for (line, expected) in lines.iter().zip(text.lines()) {
            assert_eq!(*line, Line::Whole(Bytes::copy_from_slice(expected.as_bytes())));
        }
    }

    #[test]
    fn overlong_lines_are_cut_and_skipped() {
        for length in [MAX_FRAME_BYTES - 1, MAX_FRAME_BYTES, MAX_FRAME_BYTES + 1, 5 * MAX_FRAME_BYTES + 17] {
            let mut input = b"first\n".to_vec();
            input.resize(6 + length, b'x');
            input.extend_from_slice(b"\nlast\n");
            let lines = all(&input);
            assert_eq!(lines.len(), 3);
            match &lines[1] {
                Line::Whole(line) => assert!(line.len() == length && length <= MAX_FRAME_BYTES),
                Line::Overlong { head, length: told } => {
                    assert_eq!((head.len(), *told), (EVIDENCE_BYTES, length as u64));
                    assert!(length > MAX_FRAME_BYTES);
                }
            }
            assert_eq!(lines[2], whole("last"));
        }
    }

    struct Breaks(io::Cursor<Vec<u8>>);

    impl Read for Breaks {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                read => Ok(read),
            }
        }
    }

    #[test]
    fn a_broken_stream_gives_all_lines_before_the_break() {
        let mut lines = Lines::new(Breaks(io::Cursor::new(b"a\nb\nhal".to_vec())));
        assert_eq!(lines.next_line(), Some(whole("a")));
        assert_eq!(lines.next_line(), Some(whole("b")));
        assert_eq!(lines.next_line(), None);
        let broken = lines.broken().unwrap();
        assert_eq!((broken.number, broken.position, broken.rest.as_ref()), (3, 7, b"hal".as_slice()));
    }
}
