//! Last stage: the log. One batch is on its way at a time; meanwhile the next one grows, so that
//! batches are as large as the log is slow.

use std::sync::Arc;

use bytes::Bytes;
use domain::ledger::LedgerEvent;
use domain::record::{ORIGIN, REASON, RECEIVED_AT, SOURCE};
use domain::topics::partition_of;
use domain::{Headers, Outgoing, Position, Symbol, Timestamp, Topic, TopicPartition};
use futures::FutureExt;
use futures::future::BoxFuture;
use ports::{LogWriter, PortError};

use crate::config::Topics;
use crate::decode::{Arrival, DeadInput};
use crate::sequence::Batch;

/// A batch and what became of it: where its trades stand, or why they may not.
pub type Published = (Batch, Result<Vec<Position>, PortError>);

/// Appends batches, one after the other.
pub struct Publisher {
    writer: Arc<dyn LogWriter>,
    topics: Topics,
    partitions: Partitions,
    in_flight: Option<BoxFuture<'static, Published>>,
}

/// How many partitions each topic has.
#[derive(Clone, Copy, Debug)]
pub struct Partitions {
    /// Of the stream.
    pub stream: i32,
    /// Of the ledger events.
    pub gaps: i32,
    /// Of the dead letters.
    pub dead_letter: i32,
}

impl Publisher {
    /// A publisher with nothing in flight.
    pub fn new(writer: Arc<dyn LogWriter>, topics: Topics, partitions: Partitions) -> Self {
        Self { writer, topics, partitions, in_flight: None }
    }

    /// Whether a batch is on its way.
    pub fn is_busy(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Sends a batch on its way. There must be none.
    pub fn publish(&mut self, batch: Batch) {
        assert!(self.in_flight.is_none(), "one batch at a time keeps the order");
        let first = self.ledger_records(&batch.opened);
        let mut middle: Vec<Outgoing> = batch.arrivals.iter().map(|arrival| self.trade_record(arrival)).collect();
        middle.extend(batch.dead.iter().map(|dead| self.dead_record(dead)));
        let mut last = self.ledger_records(&batch.settled);
        last.extend(self.ledger_records(&duplicates_of(&batch)));
        let writer = Arc::clone(&self.writer);
        let published = async move {
            let appended = append_in_order(writer.as_ref(), first, middle, last).await;
            (batch, appended)
        };
        self.in_flight = Some(published.boxed());
    }

    /// Waits for the batch on its way; for ever if there is none. Cancel-safe.
    pub async fn done(&mut self) -> Published {
        match self.in_flight.as_mut() {
            Some(published) => {
                let published = published.await;
                self.in_flight = None;
                published
            }
            None => std::future::pending().await,
        }
    }

    fn trade_record(&self, arrival: &Arrival) -> Outgoing {
        let headers = Headers::new()
            .with(ORIGIN, arrival.origin.as_str())
            .with(RECEIVED_AT, arrival.received_at.micros().to_string())
            .with(SOURCE, arrival.source.clone());
        let key = key_of(&arrival.symbol);
        Outgoing {
            to: placed(&self.topics.stream, &key, self.partitions.stream),
            key: Some(key),
            value: Some(arrival.event.clone()),
            headers,
        }
    }

    fn dead_record(&self, dead: &DeadInput) -> Outgoing {
        let headers = Headers::new()
            .with(REASON, dead.reason.clone())
            .with(RECEIVED_AT, dead.received_at.micros().to_string())
            .with(SOURCE, dead.source.clone());
        Outgoing {
            to: placed(&self.topics.dead_letter, &dead.source, self.partitions.dead_letter),
            key: Some(dead.source.clone()),
            value: Some(dead.bytes.clone()),
            headers,
        }
    }

    fn ledger_records(&self, events: &[LedgerEvent]) -> Vec<Outgoing> {
        let record = |event: &LedgerEvent| {
            let key = key_of(event.symbol());
            Outgoing {
                to: placed(&self.topics.gaps, &key, self.partitions.gaps),
                key: Some(key),
                value: Some(event.to_json().into()),
                headers: Headers::new(),
            }
        };
        events.iter().map(record).collect()
    }
}

async fn append_in_order(
    writer: &dyn LogWriter,
    first: Vec<Outgoing>,
    middle: Vec<Outgoing>,
    last: Vec<Outgoing>,
) -> Result<Vec<Position>, PortError> {
    if !first.is_empty() {
        writer.append(first).await?;
    }
    let positions = if middle.is_empty() { Vec::new() } else { writer.append(middle).await? };
    if !last.is_empty() {
        writer.append(last).await?;
    }
    Ok(positions)
}

fn duplicates_of(batch: &Batch) -> Vec<LedgerEvent> {
    let event = |(&(ref symbol, hour), &(count, ids)): (&(Symbol, Timestamp), &(u64, _))| LedgerEvent::Duplicates {
        symbol: symbol.clone(),
        hour,
        count,
        ids,
    };
    batch.duplicates.iter().map(event).collect()
}

fn key_of(symbol: &Symbol) -> Bytes {
    Bytes::copy_from_slice(symbol.as_str().as_bytes())
}

fn placed(topic: &Topic, key: &[u8], partitions: i32) -> TopicPartition {
    TopicPartition::new(topic.clone(), partition_of(key, partitions))
}
