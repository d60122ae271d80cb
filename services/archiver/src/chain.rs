//! The chain of files of one dataset and partition: each starts where the one before it ended.

use bytes::Bytes;
use columns::{Footer, PartEncoder, RawEncoder, Span, TradeEncoder};
use domain::lake::{self, PartName};
use domain::{Record, Timestamp, TopicPartition};
use tokio::time::Instant;

use crate::error::ArchiverError;
use crate::metrics;
use crate::publish::Outcome;
use crate::roll::Filling;

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A row of the dataset `trades`.
    Trades,
    /// A row of the dataset `raw/<topic>`.
    Raw,
}

impl Kind {
    /// The dataset that records of `topic` go to.
    pub fn dataset(self, topic: &str) -> String {
        match self {
            Self::Trades => lake::TRADES.to_owned(),
            Self::Raw => lake::raw_dataset(topic),
        }
    }

    fn encoder(self) -> Box<dyn PartEncoder> {
        match self {
            Self::Trades => Box::new(TradeEncoder::new()),
            Self::Raw => Box::new(RawEncoder::new()),
        }
    }
}

/// One dataset's files of one partition, and the file being filled.
pub struct Chain {
    at: TopicPartition,
    kind: Kind,
    dataset: String,
    /// Where the files published so far end; `None` if there are none.
    published: Option<i64>,
    open: Option<OpenPart>,
}

/// The file being filled.
struct OpenPart {
    start: i64,
    end: i64,
    first_appended_at: Timestamp,
    opened_at: Instant,
    pushed_at: Instant,
    encoder: Box<dyn PartEncoder>,
}

/// A file that is ended and waits to be published. It never changes again.
pub struct SealedPart {
    /// Its name.
    pub name: PartName,
    /// What it says of itself.
    pub footer: Footer,
    /// All of it.
    pub bytes: Bytes,
}

impl Chain {
    /// The chain whose published files end at `published`.
    pub fn new(at: TopicPartition, kind: Kind, published: Option<i64>) -> Self {
        let dataset = kind.dataset(&at.topic);
        Self { at, kind, dataset, published, open: None }
    }

    /// Where its published files end.
    pub fn published(&self) -> Option<i64> {
        self.published
    }

    /// The first offset that it does not have yet; `None` if it would start with any.
    pub fn next(&self) -> Option<i64> {
        self.open.as_ref().map(|part| part.end).or(self.published)
    }

    /// Whether it lacks the record.
    pub fn wants(&self, record: &Record) -> bool {
        self.next().is_none_or(|next| record.offset >= next)
    }

    /// Whether the open file must be ended before this record: no file spans two dates.
    pub fn ends_before(&self, record: &Record) -> bool {
        self.open.as_ref().is_some_and(|part| part.first_appended_at.days() != record.appended_at.days())
    }

    /// Adds a record that it lacks.
    pub fn push(&mut self, record: &Record, now: Instant) -> Result<(), ArchiverError> {
        debug_assert!(self.wants(record) && !self.ends_before(record));
        self.count_missing(record);
        let part = self.open.get_or_insert_with(|| {
            let start = self.published.unwrap_or(record.offset);
            OpenPart::new(start, record, now, self.kind.encoder())
        });
        part.end = record.offset + 1;
        part.pushed_at = now;
        part.encoder.push(record).map_err(ArchiverError::Encode)
    }

    /// The open file, as far as rolling is concerned.
    pub fn filling(&self) -> Option<Filling> {
        self.open.as_ref().map(|part| Filling {
            bytes: part.encoder.encoded_bytes(),
            records: part.records(),
            opened_at: part.opened_at,
            pushed_at: part.pushed_at,
        })
    }

    /// The memory that the open file takes.
    pub fn memory_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |part| part.encoder.memory_bytes())
    }

    /// When the log appended the oldest record that is not published yet.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.open.as_ref().map(|part| part.first_appended_at)
    }

    /// Ends the open file. Until its publication is [settled](Self::settle), nothing may be pushed.
    pub fn seal(&mut self, epoch: &str) -> Result<Option<SealedPart>, ArchiverError> {
        let Some(part) = self.open.take() else { return Ok(None) };
        let name = PartName::new(&self.dataset, part.first_appended_at, self.at.partition, part.start);
        let span = Span { at: self.at.clone(), start: part.start, end: part.end, epoch: epoch.to_owned() };
        let (footer, bytes) = part.encoder.finish(span).map_err(ArchiverError::Encode)?;
        Ok(Some(SealedPart { name, footer, bytes }))
    }

    /// Goes on where the published file ends, whoever wrote it.
    pub fn settle(&mut self, part: &SealedPart, outcome: &Outcome) {
        let published = match outcome {
            Outcome::Won => &part.footer,
            Outcome::Lost(winner) => winner,
        };
        self.published = Some(published.span.end);
    }

    /// Offsets that the log skips are covered by the file all the same, or the chain would break.
    fn count_missing(&self, record: &Record) {
        let Some(missing) = self.next().map(|next| record.offset - next).filter(|missing| *missing > 0) else { return };
        ::metrics::counter!(metrics::OFFSETS_MISSING, "dataset" => self.dataset.clone())
            .increment(missing.unsigned_abs());
        tracing::warn!(at = %self.at, dataset = self.dataset, offset = record.offset, missing, "offsets missing");
    }
}

impl OpenPart {
    fn new(start: i64, record: &Record, now: Instant, encoder: Box<dyn PartEncoder>) -> Self {
        let first_appended_at = record.appended_at;
        Self { start, end: start, first_appended_at, opened_at: now, pushed_at: now, encoder }
    }

    fn records(&self) -> u64 {
        self.encoder.rows() + self.encoder.skipped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{at, record};

    fn chain(published: Option<i64>) -> Chain {
        Chain::new(at(), Kind::Trades, published)
    }

    fn sealed(chain: &mut Chain) -> SealedPart {
        chain.seal("ours").unwrap().unwrap()
    }

    #[test]
    fn the_first_file_starts_at_the_first_record_and_each_next_where_one_ended() {
        let mut chain = chain(None);
        assert!(chain.wants(&record(7)));
        chain.push(&record(7), Instant::now()).unwrap();
        let first = sealed(&mut chain);
        assert_eq!((first.footer.span.start, first.footer.span.end), (7, 8));
        chain.settle(&first, &Outcome::Won);
        // The log lacks 8 and 9: the file covers them, so that its name is the same for every writer.
        chain.push(&record(10), Instant::now()).unwrap();
        let second = sealed(&mut chain);
        assert_eq!((second.name.start_offset, second.footer.span.end, second.footer.holes()), (8, 11, 2));
        assert!(chain.seal("ours").unwrap().is_none());
    }

    #[test]
    fn records_that_it_has_are_not_wanted() {
        let mut chain = chain(Some(5));
        assert!(!chain.wants(&record(4)) && chain.wants(&record(5)));
        chain.push(&record(5), Instant::now()).unwrap();
        assert!(!chain.wants(&record(5)) && chain.wants(&record(6)));
        assert_eq!((chain.next(), chain.published()), (Some(6), Some(5)));
    }

    #[test]
    fn a_file_holds_one_date() {
        let mut chain = chain(None);
        chain.push(&record(0), Instant::now()).unwrap();
        let midnight = Timestamp::from_millis(1_723_161_600_000);
        assert!(
            !chain.ends_before(&Record { appended_at: Timestamp::from_micros(midnight.micros() - 1), ..record(1) })
        );
        assert!(chain.ends_before(&Record { appended_at: midnight, ..record(1) }));
    }

    #[test]
    fn a_file_of_nothing_but_rubbish_covers_its_offsets() {
        let mut chain = chain(Some(0));
        chain.push(&Record { value: None, ..record(0) }, Instant::now()).unwrap();
        chain.push(&Record { value: Some("?".into()), ..record(1) }, Instant::now()).unwrap();
        assert_eq!(chain.filling().unwrap().records, 2);
        let part = sealed(&mut chain);
        assert_eq!((part.footer.rows, part.footer.skipped, part.footer.span.end), (0, 2, 2));
    }

    #[test]
    fn after_a_lost_name_it_goes_on_where_the_winner_ended() {
        for end in [12, 20, 30] {
            let mut chain = chain(Some(10));
            (10..20).for_each(|offset| chain.push(&record(offset), Instant::now()).unwrap());
            let part = sealed(&mut chain);
            let mut winner = part.footer.clone();
            winner.span.end = end;
            chain.settle(&part, &Outcome::Lost(winner));
            assert_eq!((chain.next(), chain.published()), (Some(end), Some(end)));
        }
    }
}
