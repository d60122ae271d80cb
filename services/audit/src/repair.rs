//! Mends what an audit found, from the log: files are made again, tables are written again. What was
//! there before is kept aside.
//!
//! Each step can be cut short anywhere: what it leaves is found by the next audit, and mended then.

use std::fmt;

use bytes::Bytes;
use columns::{ArchivedTrade, PartEncoder, Span};
use domain::lake::{self, PartName};
use domain::{Position, Record, Symbol, Timestamp, TopicPartition, TradeRow};
use ports::{Archive, PortError, Published, Tables};

use crate::file::{self, Checked, Row};
use crate::hour::{Fingerprints, Place, for_each_of_hour};
use crate::log::LogPages;
use crate::report::{Damage, Report};
use crate::run::AuditPorts;
use crate::scope::Topics;
use crate::tables::for_each_trade;
use crate::{AuditError, insist};

/// The length at which a file that fills a hole is ended, encoded, in bytes.
const FILE_BYTES: usize = 64 << 20;

/// Rows that are mended at once: what fits a batch of any store.
const BATCH: usize = 40;

/// What became of something damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    /// What it was.
    pub what: String,
    /// What was done, or why nothing could be done.
    pub outcome: Result<String, String>,
}

impl fmt::Display for Mended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Ok(done) => write!(f, "{}: {done}", self.what),
            Err(reason) => write!(f, "{}: not mended: {reason}", self.what),
        }
    }
}

/// Mends all that a report says is damaged. `now` names the place of what was there before.
///
/// # Errors
/// If a store cannot be read or written.
pub async fn repair(
    ports: &AuditPorts,
    tables: &dyn Tables,
    topics: &Topics,
    report: &Report,
    now: Timestamp,
) -> Result<Vec<Mended>, AuditError> {
    let repair = Repair { ports, tables, topics, report, now };
    let mut mended = Vec::new();
    for damage in &report.damage {
        let (what, outcome) = match damage {
            Damage::File { name, end } => (name.to_string(), repair.file(name, *end).await?),
            Damage::Overlap { name } => (name.to_string(), repair.overlap(name).await?),
            Damage::Hole { dataset, from, end } => {
                (format!("{dataset} {}@{}", from.at, from.offset), repair.hole(dataset, from, *end).await?)
            }
            Damage::Hour { symbol, hour } => (format!("{symbol} {hour}"), repair.hour(symbol, *hour).await?),
        };
        mended.push(Mended { what, outcome });
    }
    Ok(mended)
}

struct Repair<'a> {
    ports: &'a AuditPorts,
    tables: &'a dyn Tables,
    topics: &'a Topics,
    report: &'a Report,
    now: Timestamp,
}

/// What was done, or why nothing could be.
type Outcome = Result<Result<String, String>, AuditError>;

impl Repair<'_> {
    async fn file(&self, name: &PartName, end: Option<i64>) -> Outcome {
        let Some(end) = end else {
            let aside = self.put_aside(name).await?;
            return Ok(Ok(format!("moved to {aside}; the archiver writes it again when it starts")));
        };
        let at = TopicPartition::new(self.topics.stream.clone(), name.partition);
        let first = self.first_offset(&at).await?;
        if first > name.start_offset {
            return Ok(Err(format!("the log begins at offset {first}")));
        }
        let span = Span { at, start: name.start_offset, end, epoch: self.epoch() };
        let (scan, mut checked) = (self.ports.scan.as_ref(), Checked::default());
        let bytes = match name.dataset.as_str() {
            lake::TRADES => file::make::<ArchivedTrade>(scan, &span, first, &mut checked).await?,
            _ => file::make::<Record>(scan, &span, first, &mut checked).await?,
        };
        let temporary = self.write(name, bytes).await?;
        let aside = self.put_aside(name).await?;
        self.rename(&temporary, &name.to_string()).await?;
        Ok(Ok(format!("made again from the log up to offset {end}; what was there is {aside}")))
    }

    async fn overlap(&self, name: &PartName) -> Outcome {
        let aside = self.put_aside(name).await?;
        Ok(Ok(format!("moved to {aside}, because other files have what it has")))
    }

    async fn hole(&self, dataset: &str, from: &Position, end: i64) -> Outcome {
        let first = self.first_offset(&from.at).await?;
        if first > from.offset {
            return Ok(Err(format!("the log begins at offset {first}")));
        }
        let files = match dataset {
            lake::TRADES => self.fill::<ArchivedTrade>(dataset, from, end).await?,
            _ => self.fill::<Record>(dataset, from, end).await?,
        };
        Ok(Ok(format!("filled up to offset {end} with {files} files made from the log")))
    }

    /// Writes the files of a span that has none.
    async fn fill<R: Row>(&self, dataset: &str, from: &Position, end: i64) -> Result<u64, AuditError> {
        let mut pages = LogPages::new(self.ports.scan.as_ref(), from.clone(), end);
        let mut filling: Option<Filling<R>> = None;
        let (mut start, mut files) = (from.offset, 0);
        loop {
            let records = pages.next().await?;
            for record in &records {
                if let Some(full) = filling.take_if(|filling| filling.ends_before(record)) {
                    self.publish(dataset, &from.at, start, record.offset, full).await?;
                    (start, files) = (record.offset, files + 1);
                }
                let filling = filling.get_or_insert_with(|| Filling::new(record.appended_at));
                R::add(record, &mut filling.encoder, &mut Checked::default())?;
            }
            if records.is_empty() {
                break;
            }
        }
        if let Some(last) = filling {
            self.publish(dataset, &from.at, start, end, last).await?;
            files += 1;
        }
        Ok(files)
    }

    async fn publish<R: Row>(
        &self,
        dataset: &str,
        at: &TopicPartition,
        start: i64,
        end: i64,
        filling: Filling<R>,
    ) -> Result<(), AuditError> {
        let name = PartName::new(dataset, filling.appended_at, at.partition, start);
        let span = Span { at: at.clone(), start, end, epoch: self.epoch() };
        let (_, bytes) = filling.encoder.finish(span)?;
        let temporary = self.write(&name, bytes).await?;
        Ok(self.rename(&temporary, &name.to_string()).await?)
    }

    async fn hour(&self, symbol: &Symbol, hour: Timestamp) -> Outcome {
        let (scan, query) = (self.ports.scan.as_ref(), self.ports.query.as_ref());
        let places = self.places(symbol, hour).await?;
        let log = Fingerprints::read(scan, symbol, hour, &places).await?;
        let mut wrong = Vec::new();
        let mut good = std::collections::HashSet::new();
        for_each_trade(query, symbol, hour, |row| {
            // A second row of an id stands at another time than the log has.
            if !log.has(row) || !good.insert(row.trade.id) {
                wrong.push(row.clone());
            }
        })
        .await?;
        let mut right: Vec<TradeRow> = Vec::new();
        for_each_of_hour(scan, symbol, hour, &places, |row| {
            if good.insert(row.trade.id) {
                right.push(row);
            }
        })
        .await?;
        let late = Fingerprints::read(scan, symbol, hour, &self.places_behind(&places).await?).await?;
        wrong.retain(|row| !late.has(row));
        for wrong in wrong.chunks(BATCH) {
            insist("take away trades", || self.tables.mend_trades(wrong, &[], self.now)).await?;
        }
        for right in right.chunks(BATCH) {
            insist("mend trades", || self.tables.mend_trades(&[], right, self.now)).await?;
        }
        Ok(Ok(format!("{} rows taken away, {} put in from the log", wrong.len(), right.len())))
    }

    /// Where the log has trades of an hour, what came after the audit included.
    async fn places(&self, symbol: &Symbol, hour: Timestamp) -> Result<Vec<Place>, PortError> {
        let mut places = self.report.places.of(symbol, hour);
        let bounds = insist("log bounds", || self.ports.scan.bounds(&self.topics.stream)).await?;
        let limits = self.report.limits.iter();
        places.extend(limits.zip(bounds).map(|(limit, bounds)| (limit.clone(), bounds.end)));
        Ok(places)
    }

    /// Where the log goes on behind these places: what was appended while the tables were read, they may have already.
    async fn places_behind(&self, places: &[Place]) -> Result<Vec<Place>, PortError> {
        let bounds = insist("log bounds", || self.ports.scan.bounds(&self.topics.stream)).await?;
        let behind = bounds.into_iter().map(|bounds| {
            let ends = places.iter().filter(|(from, _)| from.at == bounds.at).map(|(_, end)| *end);
            let offset = ends.max().unwrap_or(bounds.first);
            (Position { at: bounds.at, offset }, bounds.end)
        });
        Ok(behind.collect())
    }

    async fn first_offset(&self, at: &TopicPartition) -> Result<i64, PortError> {
        let bounds = insist("log bounds", || self.ports.scan.bounds(&at.topic)).await?;
        Ok(bounds.into_iter().find(|bounds| bounds.at == *at).map_or(i64::MAX, |bounds| bounds.first))
    }

    fn epoch(&self) -> String {
        format!("repair-{}", self.now.micros())
    }

    async fn write(&self, name: &PartName, bytes: Bytes) -> Result<String, PortError> {
        let temporary = format!("{}/{}/{name}", lake::TEMPORARY, self.epoch());
        let archive = self.ports.archive.as_ref();
        insist("write file", || archive.write(&temporary, bytes.clone())).await?;
        Ok(temporary)
    }

    async fn put_aside(&self, name: &PartName) -> Result<String, PortError> {
        let aside = format!("{}/{}/{name}", lake::DAMAGED, self.now.micros());
        self.rename(&name.to_string(), &aside).await?;
        Ok(aside)
    }

    /// Gives a file another name. An answer that was lost is looked for.
    async fn rename(&self, from: &str, to: &str) -> Result<(), PortError> {
        let archive: &dyn Archive = self.ports.archive.as_ref();
        let attempt = || async {
            match archive.publish(from, to).await {
                Ok(Published::Won) => Ok(()),
                Ok(Published::Lost) => Err(PortError::refused("archive", format!("{to} exists"))),
                Err(error) if error.is_retriable() => {
                    let happened = archive.length(from).await?.is_none() && archive.length(to).await?.is_some();
                    if happened { Ok(()) } else { Err(error) }
                }
                Err(error) => Err(error),
            }
        };
        insist("rename", attempt).await
    }
}

/// A file in the making.
struct Filling<R: Row> {
    appended_at: Timestamp,
    encoder: Box<R::Encoder>,
}

impl<R: Row> Filling<R> {
    fn new(appended_at: Timestamp) -> Self {
        Self { appended_at, encoder: Box::default() }
    }

    /// No file spans two dates, or grows beyond its bound.
    fn ends_before(&self, record: &Record) -> bool {
        self.appended_at.days() != record.appended_at.days() || self.encoder.encoded_bytes() >= FILE_BYTES
    }
}
