//! What a file says of itself, in the key-values of its Parquet footer: enough to continue the
//! chain and to audit it without reading a row.
//!
//! ```text
//!  file = row groups ┄┄┄ │ metadata, with our key-values │ its length, 4 bytes │ "PAR1" │
//!                        └─────── two reads from the end suffice: the tail, then the rest
//! ```

use std::collections::BTreeMap;

use domain::{IdRange, Symbol, TopicPartition};
use parquet::file::FOOTER_SIZE;
use parquet::file::metadata::{FooterTail, KeyValue, ParquetMetaData, ParquetMetaDataReader};

use crate::error::{ColumnsError, shortened};

/// The version of the file format that this code writes and reads.
pub const VERSION: &str = "1";

const KEY_VERSION: &str = "fulltape.version";
const KEY_TOPIC: &str = "fulltape.topic";
const KEY_PARTITION: &str = "fulltape.partition";
const KEY_START: &str = "fulltape.start_offset";
const KEY_END: &str = "fulltape.end_offset";
const KEY_ROWS: &str = "fulltape.rows";
const KEY_SKIPPED: &str = "fulltape.skipped";
const KEY_IDS: &str = "fulltape.ids";
const KEY_EPOCH: &str = "fulltape.epoch";

/// How many bytes of a file's end to read first: nearly always the whole footer.
pub const TAIL: u64 = 64 * 1024;

/// The offsets that a file covers, and who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The log's partition.
    pub at: TopicPartition,
    /// The first offset it covers: where the file before it ended.
    pub start: i64,
    /// The first offset it no longer covers: where the next file starts.
    pub end: i64,
    /// The run of the writer, unique per process start.
    pub epoch: String,
}

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The offsets it covers, and who wrote it.
    pub span: Span,
    /// Its rows.
    pub rows: u64,
    /// Records in the span that have no row here, because they are no valid trades. They are in the
    /// raw dataset.
    pub skipped: u64,
    /// The smallest and largest trade id of each symbol; empty for raw files.
    pub ids: BTreeMap<Symbol, IdRange>,
}

/// What the end of a file revealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tail {
    /// All that was asked for.
    Complete(Box<Footer>),
    /// The footer is longer: read this many bytes of the file's end and try again.
    Need(u64),
}

/// Reads the footer from the last bytes of a file, [`TAIL`] of them at first (or the whole file,
/// if it is shorter).
///
/// # Errors
/// If the bytes are not the end of a Parquet file that the archiver wrote.
pub fn read_footer(end_of_file: &[u8]) -> Result<Tail, ColumnsError> {
    let too_short = || ColumnsError::NotParquet(format!("the file has only {} bytes", end_of_file.len()));
    let (before, tail) = end_of_file.split_last_chunk::<FOOTER_SIZE>().ok_or_else(too_short)?;
    let tail = FooterTail::try_new(tail).map_err(|error| ColumnsError::damaged(&error))?;
    let length = tail.metadata_length();
    let Some(start) = before.len().checked_sub(length) else {
        return Ok(Tail::Need((length + FOOTER_SIZE) as u64));
    };
    let metadata = ParquetMetaDataReader::decode_metadata(&before[start..]);
    Footer::of(&metadata.map_err(|error| ColumnsError::damaged(&error))?).map(|footer| Tail::Complete(footer.into()))
}

/// What wrote a file, as its end says; `None` if it does not say.
pub fn writer_of(end_of_file: &[u8]) -> Option<String> {
    let (before, tail) = end_of_file.split_last_chunk::<FOOTER_SIZE>()?;
    let start = before.len().checked_sub(FooterTail::try_new(tail).ok()?.metadata_length())?;
    let metadata = ParquetMetaDataReader::decode_metadata(&before[start..]).ok()?;
    metadata.file_metadata().created_by().map(str::to_owned)
}

impl Footer {
    /// Offsets in the span that the log did not have: it deleted the records before they were read,
    /// or its own bookkeeping took the offsets.
    pub fn holes(&self) -> u64 {
        let offsets = self.span.end.abs_diff(self.span.start);
        offsets.saturating_sub(self.rows.saturating_add(self.skipped))
    }

    /// The footer in a file's metadata.
    ///
    /// # Errors
    /// Names the key that is missing or wrong.
    pub fn of(metadata: &ParquetMetaData) -> Result<Self, ColumnsError> {
        let pairs = metadata.file_metadata().key_value_metadata();
        Self::from_key_values(pairs.map_or(&[], Vec::as_slice))
    }

    /// The footer as key-values.
    pub fn to_key_values(&self) -> Vec<KeyValue> {
        let pair = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
        vec![
            pair(KEY_VERSION, VERSION.to_owned()),
            pair(KEY_TOPIC, self.span.at.topic.to_string()),
            pair(KEY_PARTITION, self.span.at.partition.to_string()),
            pair(KEY_START, self.span.start.to_string()),
            pair(KEY_END, self.span.end.to_string()),
            pair(KEY_ROWS, self.rows.to_string()),
            pair(KEY_SKIPPED, self.skipped.to_string()),
            pair(KEY_IDS, ids_to_json(&self.ids)),
            pair(KEY_EPOCH, self.span.epoch.clone()),
        ]
    }

    /// The footer that key-values hold; keys of others are ignored.
    ///
    /// # Errors
    /// Names the key that is missing or wrong.
    pub fn from_key_values(pairs: &[KeyValue]) -> Result<Self, ColumnsError> {
        let pairs = Pairs(pairs);
        let version = pairs.text(KEY_VERSION)?;
        if version != VERSION {
            return Err(wrong(KEY_VERSION, "version 1", version));
        }
        let span = Span {
            at: TopicPartition::new(pairs.text(KEY_TOPIC)?, pairs.number(KEY_PARTITION)?),
            start: pairs.number(KEY_START)?,
            end: pairs.number(KEY_END)?,
            epoch: pairs.text(KEY_EPOCH)?.to_owned(),
        };
        if span.end < span.start {
            return Err(wrong(KEY_END, "an offset not before the start offset", &span.end.to_string()));
        }
        let ids = ids_from_json(pairs.text(KEY_IDS)?)?;
        Ok(Self { span, rows: pairs.number(KEY_ROWS)?, skipped: pairs.number(KEY_SKIPPED)?, ids })
    }
}

struct Pairs<'a>(&'a [KeyValue]);

impl<'a> Pairs<'a> {
    fn text(&self, key: &'static str) -> Result<&'a str, ColumnsError> {
        let pair = self.0.iter().find(|pair| pair.key == key);
        pair.and_then(|pair| pair.value.as_deref()).ok_or_else(|| wrong(key, "a value", "none"))
    }

    fn number<T: std::str::FromStr>(&self, key: &'static str) -> Result<T, ColumnsError> {
        let text = self.text(key)?;
        text.parse().map_err(|_| wrong(key, "a whole number", text))
    }
}

fn wrong(key: &'static str, expected: &'static str, found: &str) -> ColumnsError {
    ColumnsError::Footer { key, expected, found: shortened(found) }
}

/// `{"BTCUSDT":[3735683259,3735683300]}`
fn ids_to_json(ids: &BTreeMap<Symbol, IdRange>) -> String {
    let pairs: BTreeMap<&str, (u64, u64)> = ids.iter().map(|(s, r)| (s.as_str(), (r.from, r.to))).collect();
    serde_json::to_string(&pairs).expect("texts and numbers are JSON")
}

fn ids_from_json(json: &str) -> Result<BTreeMap<Symbol, IdRange>, ColumnsError> {
    let expected = "{\"SYMBOL\":[first id,last id]}";
    let pairs: BTreeMap<Symbol, (u64, u64)> = serde_json::from_str(json).map_err(|_| wrong(KEY_IDS, expected, json))?;
    let range = |(symbol, (from, to))| Some((symbol, IdRange::new(from, to)?));
    pairs.into_iter().map(range).collect::<Option<_>>().ok_or_else(|| wrong(KEY_IDS, expected, json))
}
