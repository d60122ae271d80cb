//! Mistakes with the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use domain::ledger::{GapState, LedgerEvent};
use domain::{Outgoing, Position, Record, TopicPartition, Trade, topics};
use ports::memory::{MemoryLog, MemoryReader};
use ports::{Assignment, Bounds, LogEvent, LogReader, LogScan, LogWriter, PortError, Start};
use tokio::sync::oneshot;

use super::Bug;

/// The log as a mistaken ingest looks at it.
pub struct MistakenScan {
    /// The log as it is.
    pub log: MemoryLog,
    /// The mistake.
    pub bug: Option<Bug>,
}

#[async_trait]
impl LogScan for MistakenScan {
    async fn bounds(&self, topic: &str) -> Result<Vec<Bounds>, PortError> {
        self.log.bounds(topic).await
    }

    async fn read(&self, from: &Position, end: i64) -> Result<Vec<Record>, PortError> {
        let mut records = self.log.read(from, end).await?;
        if self.bug == Some(Bug::ForgetOpenGaps) && from.at.topic == topics::GAPS {
            for record in &mut records {
                let event = record.value.as_deref().map(LedgerEvent::from_json);
                if matches!(event, Some(Ok(LedgerEvent::Gap { state: GapState::Open, .. }))) {
                    record.value = None;
                }
            }
        }
        Ok(records)
    }
}

/// The log as a mistaken ingest writes it.
pub struct MistakenWriter {
    /// The log as it is.
    pub log: MemoryLog,
    /// The mistake.
    pub bug: Option<Bug>,
}

#[async_trait]
impl LogWriter for MistakenWriter {
    async fn append(&self, records: Vec<Outgoing>) -> Result<Vec<Position>, PortError> {
        match self.log.append(records.clone()).await {
            Err(error) if error.is_retriable() && self.bug == Some(Bug::AppendAgainBlindly) => {
                ports::persist("append", || self.log.append(records.clone())).await
            }
            answer => answer,
        }
    }
}

/// How far readers have been handed records, as a consumer that commits by itself would commit it.
pub type AutoCommitted = Arc<Mutex<BTreeMap<TopicPartition, i64>>>;

/// The log as a mistaken processor reads it.
pub struct MistakenReader {
    reader: MemoryReader,
    bug: Option<Bug>,
    committed: AutoCommitted,
    /// An assignment that waits for its answer.
    asked: Option<(Assignment, oneshot::Receiver<Vec<Start>>)>,
}

impl MistakenReader {
    /// A member of a group whose members share `committed`.
    pub fn new(reader: MemoryReader, bug: Option<Bug>, committed: AutoCommitted) -> Self {
        Self { reader, bug, committed, asked: None }
    }

    /// Starts where the group's commit is, instead of where the service says.
    fn resume(&self, place: Start) -> Start {
        let at = match &place {
            Start::Earliest(at) | Start::At(Position { at, .. }) => at.clone(),
        };
        let committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        committed.get(&at).map_or(place, |offset| Start::At(Position { at, offset: *offset }))
    }

    fn note(&self, records: &[Record]) {
        let mut committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            let next = committed.entry(record.at.clone()).or_default();
            *next = (*next).max(record.offset + 1);
        }
    }
}

#[async_trait]
impl LogReader for MistakenReader {
    async fn next(&mut self) -> Result<LogEvent, PortError> {
        if let Some((assignment, answered)) = self.asked.take() {
            let places = answered.await.unwrap_or_default();
            assignment.start(places.into_iter().map(|place| self.resume(place)).collect());
        }
        match self.reader.next().await? {
            LogEvent::Assigned(assignment) if self.bug == Some(Bug::ResumeAtGroupCommit) => {
                let (ours, answered) = Assignment::new(assignment.partitions().to_vec());
                self.asked = Some((assignment, answered));
                Ok(LogEvent::Assigned(ours))
            }
            LogEvent::Records(mut records) => {
                if self.bug == Some(Bug::SkipOnDeadLetter) {
                    let is_trade = |record: &Record| {
                        let trade = record.value.as_deref().map(Trade::from_event);
                        record.at.topic != topics::TRADES || matches!(trade, Some(Ok(_)))
                    };
                    let good = records.iter().position(|record| !is_trade(record)).map_or(records.len(), |n| n + 1);
                    records.truncate(good);
                }
                self.note(&records);
                Ok(LogEvent::Records(records))
            }
            event => Ok(event),
        }
    }

    async fn commit(&mut self, next: &[Position]) -> Result<(), PortError> {
        self.reader.commit(next).await
    }

    async fn seek(&mut self, to: &Position) -> Result<(), PortError> {
        self.reader.seek(to).await
    }
}
