//! A file of the archive against the log: made again from the same records, it must be the same to
//! the last bit. Where it is not, its rows say what differs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use columns::{ArchivedTrade, ColumnsError, PartEncoder, RawEncoder, Span, TradeEncoder};
use columns::{WRITER, decode_raw, decode_trades, writer_of};
use domain::{Position, Record, Symbol, Timestamp};
use ports::{Archive, LogScan, PortError};

use crate::AuditError;
use crate::chain::{ArchiveFile, content};
use crate::log::LogPages;
use crate::tally::Tallies;

/// What a file holds, and what the log has in its place.
#[derive(Debug, Default)]
pub struct Checked {
    /// The trades of the log in the file's span; of records that the log has deleted, the file's.
    pub log: Tallies,
    /// The trades of the file, if they are not the same.
    pub held: Option<Tallies>,
    /// Records in the span that are no trades.
    pub unusable: u64,
    /// Trades that are not the same.
    pub differing: Vec<(Symbol, Timestamp, u64)>,
    /// What is wrong with the file.
    pub fault: Option<String>,
    /// Whether it is proved to be what the log makes of its span.
    pub is_proved: bool,
    /// Why it could not be read at all: no server has it undamaged, or none that has it answers.
    pub unreadable: Option<PortError>,
}

/// What a dataset's file has for a record.
pub trait Row: Sized + PartialEq + 'static {
    /// Makes the dataset's files.
    type Encoder: PartEncoder + Default + 'static;

    /// Adds a record's row to a file, and its trade to the tallies.
    ///
    /// # Errors
    /// As the encoder has them.
    fn add(record: &Record, to: &mut Self::Encoder, checked: &mut Checked) -> Result<(), ColumnsError>;

    /// The row that a record becomes, if any.
    fn of(record: &Record) -> Option<Self>;

    /// The rows of a file.
    ///
    /// # Errors
    /// If it is none of this dataset.
    fn decode(file: Bytes) -> Result<Box<dyn Iterator<Item = Result<Self, ColumnsError>> + Send>, ColumnsError>;

    /// The offset of its record.
    fn offset(&self) -> i64;

    /// The trade, in a dataset of trades.
    fn trade(&self) -> Option<&ArchivedTrade>;
}

impl Row for ArchivedTrade {
    type Encoder = TradeEncoder;

    fn add(record: &Record, to: &mut TradeEncoder, checked: &mut Checked) -> Result<(), ColumnsError> {
        match Self::from_record(record) {
            Ok(trade) => {
                checked.log.add(&trade.row);
                to.push_row(&trade)
            }
            Err(_) => {
                checked.unusable += 1;
                to.skip();
                Ok(())
            }
        }
    }

    fn of(record: &Record) -> Option<Self> {
        Self::from_record(record).ok()
    }

    fn decode(file: Bytes) -> Result<Box<dyn Iterator<Item = Result<Self, ColumnsError>> + Send>, ColumnsError> {
        Ok(Box::new(decode_trades(file)?))
    }

    fn offset(&self) -> i64 {
        self.offset
    }

    fn trade(&self) -> Option<&ArchivedTrade> {
        Some(self)
    }
}

impl Row for Record {
    type Encoder = RawEncoder;

    fn add(record: &Record, to: &mut RawEncoder, _: &mut Checked) -> Result<(), ColumnsError> {
        to.push(record)
    }

    fn of(record: &Record) -> Option<Self> {
        Some(record.clone())
    }

    fn decode(file: Bytes) -> Result<Box<dyn Iterator<Item = Result<Self, ColumnsError>> + Send>, ColumnsError> {
        Ok(Box::new(decode_raw(file)?))
    }

    fn offset(&self) -> i64 {
        self.offset
    }

    fn trade(&self) -> Option<&ArchivedTrade> {
        None
    }
}

/// Compares a file with the log, which begins at `first`: rows before it cannot be compared.
///
/// # Errors
/// If one of them cannot be read.
pub async fn check<R: Row>(
    scan: &dyn LogScan,
    archive: &dyn Archive,
    file: &ArchiveFile,
    span: &Span,
    first: i64,
) -> Result<Checked, AuditError> {
    let mut checked = Checked::default();
    let bytes = match content(archive, file).await {
        Err(error @ PortError::Unavailable { .. }) => {
            checked.unreadable = Some(error);
            Bytes::new()
        }
        bytes => bytes?,
    };
    let again = make::<R>(scan, span, first, &mut checked).await?;
    if again == bytes && span.start >= first {
        checked.is_proved = true;
        return Ok(checked);
    }
    drop(again);
    let mut comparison = Comparison::<R>::open(bytes, span, first);
    let from = Position { at: span.at.clone(), offset: span.start.max(first) };
    let mut pages = LogPages::new(scan, from, span.end);
    loop {
        let records = pages.next().await?;
        if records.is_empty() {
            break;
        }
        records.iter().for_each(|record| comparison.compare(record, &mut checked));
    }
    comparison.finish(&mut checked);
    if let Some(error) = &checked.unreadable {
        checked.fault = Some(error.to_string());
    }
    Ok(checked)
}

/// Makes the file of a span from the log, as the archiver would.
///
/// # Errors
/// If the log cannot be read, or its records cannot be encoded.
pub async fn make<R: Row>(
    scan: &dyn LogScan,
    span: &Span,
    first: i64,
    checked: &mut Checked,
) -> Result<Bytes, AuditError> {
    let mut encoder = Box::<R::Encoder>::default();
    let from = Position { at: span.at.clone(), offset: span.start.max(first) };
    let mut pages = LogPages::new(scan, from, span.end);
    loop {
        let records = pages.next().await?;
        if records.is_empty() {
            return Ok(encoder.finish(span.clone())?.1);
        }
        for record in &records {
            R::add(record, &mut encoder, checked)?;
        }
    }
}

/// Walks through a file and the log side by side.
struct Comparison<R> {
    rows: Option<Box<dyn Iterator<Item = Result<R, ColumnsError>> + Send>>,
    ahead: Option<R>,
    first: i64,
    /// Whether the log still has all records of the span.
    whole: bool,
    /// Whether our writer made the file: the same rows must then have given the same bytes.
    ours: bool,
    held: Tallies,
    unequal: u64,
    first_unequal: Option<i64>,
    damage: Option<String>,
}

impl<R: Row> Comparison<R> {
    fn open(file: Bytes, span: &Span, first: i64) -> Self {
        let writer = writer_of(&file);
        let rows = catch_unwind(|| R::decode(file));
        let (rows, damage) = match rows {
            Ok(Ok(rows)) => (Some(rows), None),
            Ok(Err(error)) => (None, Some(error.to_string())),
            Err(_) => (None, Some(UNREADABLE.to_owned())),
        };
        let (whole, ours) = (span.start >= first, writer.as_deref() == Some(WRITER));
        let (ahead, held, first_unequal) = (None, Tallies::default(), None);
        let mut opened = Self { rows, ahead, first, whole, ours, held, unequal: 0, first_unequal, damage };
        opened.advance();
        opened
    }

    /// The next row; none behind one that cannot be read. The Parquet library can panic on damage.
    fn advance(&mut self) {
        let Some(rows) = self.rows.as_mut() else { return };
        self.ahead = match catch_unwind(AssertUnwindSafe(|| rows.next())) {
            Ok(None) => None,
            Ok(Some(Ok(row))) => Some(row),
            Ok(Some(Err(error))) => self.spoilt(error.to_string()),
            Err(_) => self.spoilt(UNREADABLE.to_owned()),
        };
        if let Some(trade) = self.ahead.as_ref().and_then(Row::trade) {
            self.held.add(&trade.row);
        }
    }

    fn spoilt(&mut self, damage: String) -> Option<R> {
        self.damage = Some(damage);
        self.rows = None;
        None
    }

    fn compare(&mut self, record: &Record, checked: &mut Checked) {
        self.pass_over(record.offset, checked);
        let expected = R::of(record);
        let found = self.ahead.take_if(|row| row.offset() == record.offset);
        if found.is_some() {
            self.advance();
        }
        if found != expected {
            self.note_unequal(record.offset);
            let trades = found.as_ref().and_then(Row::trade).zip(expected.as_ref().and_then(Row::trade));
            if let Some((_, expected)) = trades.filter(|_| checked.differing.len() < NAMED) {
                let trade = &expected.row.trade;
                checked.differing.push((trade.symbol.clone(), expected.row.hour(), trade.id));
            }
        }
    }

    /// Rows before `offset` that the log does not have: deleted there, or never written.
    fn pass_over(&mut self, offset: i64, checked: &mut Checked) {
        while let Some(row) = self.ahead.take_if(|row| row.offset() < offset) {
            match row.trade() {
                // What retention took from the log, the archive alone remembers.
                Some(trade) if row.offset() < self.first => checked.log.add(&trade.row),
                _ if row.offset() < self.first => {}
                _ => self.note_unequal(row.offset()),
            }
            self.advance();
        }
    }

    fn note_unequal(&mut self, offset: i64) {
        self.unequal += 1;
        self.first_unequal.get_or_insert(offset);
    }

    fn finish(mut self, checked: &mut Checked) {
        self.pass_over(i64::MAX, checked);
        checked.fault = match (self.damage, self.first_unequal) {
            (Some(damage), _) => Some(damage),
            (None, Some(offset)) => Some(format!("{} rows are not the log's, from offset {offset} on", self.unequal)),
            (None, None) if self.whole && self.ours => {
                Some("its rows are the log's, its bytes are not what they make".to_owned())
            }
            // Another version of the writer makes other bytes of the same rows.
            (None, None) => None,
        };
        checked.is_proved = self.whole && checked.fault.is_none();
        checked.held = Some(self.held);
    }
}

/// How many differing trades of one file are named.
const NAMED: usize = 20;

const UNREADABLE: &str = "it cannot be decoded";
