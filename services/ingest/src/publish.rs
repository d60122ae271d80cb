//! Last stage: the log. One batch is on its way at a time; meanwhile the next one grows, so that
//! batches are as large as the log is slow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::ledger::LedgerEvent;
use domain::record::{ORIGIN, REASON, RECEIVED_AT, SOURCE};
use domain::topics::partition_of;
use domain::{Headers, IdSet, Outgoing, Position, Symbol, Timestamp, Topic, TopicPartition, Topics, Trade};
use futures::FutureExt;
use futures::future::BoxFuture;
use ports::{Bounds, LogScan, LogWriter, PortError, persist};

use crate::decode::{Arrival, DeadInput};
use crate::metrics;
use crate::rebuild::for_each;
use crate::sequence::Batch;

/// The end of each partition that is written to, as far as known: what was acknowledged, or looked at.
pub type Ends = BTreeMap<TopicPartition, i64>;

/// A batch that is in the log, how far the log has come, and which trades in it others have appended.
pub type Published = Result<(Batch, Ends, Foreign), PortError>;

/// Trades that others have appended to the log meanwhile, by symbol: a killed predecessor, for example,
/// whose last request the log carried out late.
pub type Foreign = BTreeMap<Symbol, IdSet>;

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Appends batches, one after the other.
pub struct Publisher {
    log: Log,
    records: Records,
    ends: Ends,
    foreign: Foreign,
    in_flight: Option<BoxFuture<'static, Published>>,
}

/// The log: where to write, and how to look what was written.
#[derive(Clone)]
pub struct Log {
    /// Appends.
    pub writer: Arc<dyn LogWriter>,
    /// Looks.
    pub scan: Arc<dyn LogScan>,
    /// For how long it may hide what was appended.
    pub hidden_for: Duration,
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
    /// A publisher with nothing in flight, for a log that ends at `ends`.
    pub fn new(log: Log, topics: Topics, partitions: Partitions, ends: Ends) -> Self {
        Self { log, records: Records { topics, partitions }, ends, foreign: Foreign::new(), in_flight: None }
    }

    /// Whether a batch is on its way.
    pub fn is_busy(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Sends a batch on its way. There must be none.
    pub fn publish(&mut self, batch: Batch) {
        assert!(self.in_flight.is_none(), "one batch at a time keeps the order");
        let (log, records, mut ends) = (self.log.clone(), self.records.clone(), std::mem::take(&mut self.ends));
        let published = async move {
            let mut foreign = Foreign::new();
            log.append(&mut ends, || records.opened(&batch)).await?;
            for skipped in log.append(&mut ends, || records.input(&batch)).await? {
                if skipped.0.at.topic == records.topics.stream {
                    log.look_for_trades(skipped, &mut foreign).await?;
                }
            }
            log.append(&mut ends, || records.settled(&batch)).await?;
            Ok((batch, ends, foreign))
        };
        self.in_flight = Some(published.boxed());
    }

    /// Looks for what others have appended. There must be no batch on its way.
    pub fn look(&mut self) {
        assert!(self.in_flight.is_none(), "one batch at a time keeps the order");
        let (log, stream, mut ends) =
            (self.log.clone(), self.records.topics.stream.clone(), std::mem::take(&mut self.ends));
        let looked = async move {
            let mut foreign = Foreign::new();
            for Bounds { at, end, .. } in persist("log bounds", || log.scan.bounds(&stream)).await? {
                let known = ends.entry(at.clone()).or_default();
                let from = Position { at, offset: *known };
                *known = end.max(*known);
                log.look_for_trades((from, end), &mut foreign).await?;
            }
            Ok((Batch::default(), ends, foreign))
        };
        self.in_flight = Some(looked.boxed());
    }

    /// Waits for the batch on its way; for ever if there is none. Cancel-safe.
    pub async fn done(&mut self) -> Result<Batch, PortError> {
        let Some(published) = self.in_flight.as_mut() else { return std::future::pending().await };
        let published = published.await;
        self.in_flight = None;
        let (batch, ends, foreign) = published?;
        self.ends = ends;
        for (symbol, ids) in foreign {
            self.foreign.entry(symbol).or_default().extend(ids.ranges());
        }
        Ok(batch)
    }

    /// The trades that stand between ours in the log.
    pub fn take_foreign(&mut self) -> Foreign {
        std::mem::take(&mut self.foreign)
    }

    /// How far the log has come, by the last batch that was done.
    pub fn ends(&self) -> &Ends {
        &self.ends
    }
}

impl Log {
    /// Appends records until all of them are acknowledged. When it stays open whether some are in
    /// the log, looks, and appends those that are not. Returns the stretches that others may have written, or we
    /// without an answer: from where, to which offset.
    async fn append(
        &self,
        ends: &mut Ends,
        records: impl Fn() -> Vec<Outgoing>,
    ) -> Result<Vec<(Position, i64)>, PortError> {
        let mut wanted = records();
        let mut wait = FIRST_WAIT;
        let mut skipped = Vec::new();
        let mut looked = Ends::new();
        while !wanted.is_empty() {
            let error = match self.writer.append(wanted).await {
                Ok(positions) => {
                    for Position { at, offset } in positions {
                        let end = ends.entry(at.clone()).or_default();
                        if offset < *end {
                            let reason = format!("{at} ended at {end} and gave offset {offset} to a new record");
                            return Err(PortError::refused("log", format!("the log has lost its end: {reason}")));
                        }
                        if offset > *end {
                            skipped.push((Position { at, offset: *end }, offset));
                        }
                        *end = offset + 1;
                    }
                    break;
                }
                Err(error) if error.is_retriable() => error,
                Err(error) => return Err(error),
            };
            // What is hidden yet would be appended again.
            let hidden = if matches!(error, PortError::Unknown { .. }) { self.hidden_for } else { Duration::ZERO };
            let pause = wait.max(hidden);
            tracing::warn!(%error, wait_ms = pause.as_millis(), "append without acknowledgement, looking what is in the log");
            ::metrics::counter!(metrics::APPENDS_UNCERTAIN).increment(1);
            tokio::time::sleep(pause).await;
            wait = (wait * 2).min(LONGEST_WAIT);
            (wanted, looked) = self.still_wanted(records(), ends).await?;
        }
        // What was found by looking stands among what others have appended.
        for (at, found) in looked {
            let end = ends.entry(at.clone()).or_default();
            if *end < found {
                skipped.push((Position { at, offset: *end }, found));
                *end = found;
            }
        }
        Ok(skipped)
    }

    /// Which trades stand in a stretch that others have written, or we without knowing it.
    async fn look_for_trades(&self, (from, end): (Position, i64), found: &mut Foreign) -> Result<(), PortError> {
        for_each(self.scan.as_ref(), from, end, |record| {
            if let Some(trade) = record.value.as_deref().and_then(|value| Trade::from_event(value).ok()) {
                found.entry(trade.symbol).or_default().insert(trade.id);
            }
        })
        .await
    }

    /// Those of the records that do not stand behind `ends`, and how far was looked.
    async fn still_wanted(&self, wanted: Vec<Outgoing>, ends: &Ends) -> Result<(Vec<Outgoing>, Ends), PortError> {
        let places: BTreeSet<&TopicPartition> = wanted.iter().map(|record| &record.to).collect();
        let mut looked = Ends::new();
        let mut found: BTreeMap<(TopicPartition, Option<Bytes>), usize> = BTreeMap::new();
        for at in places {
            let bounds = persist("log bounds", || self.scan.bounds(&at.topic)).await?;
            let end = bounds.into_iter().find(|bounds| bounds.at == *at).map_or(0, |bounds| bounds.end);
            let from = Position { at: at.clone(), offset: ends.get(at).copied().unwrap_or_default() };
            looked.insert(at.clone(), end);
            for_each(self.scan.as_ref(), from, end, |record| {
                *found.entry((record.at.clone(), record.value.clone())).or_default() += 1;
            })
            .await?;
        }
        let mut is_there = |record: &Outgoing| match found.get_mut(&(record.to.clone(), record.value.clone())) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        };
        let wanted = wanted.into_iter().filter(|record| !is_there(record)).collect();
        Ok((wanted, looked))
    }
}

/// Makes the log's records of a batch.
#[derive(Clone)]
struct Records {
    topics: Topics,
    partitions: Partitions,
}

impl Records {
    fn opened(&self, batch: &Batch) -> Vec<Outgoing> {
        self.ledger_records(&batch.opened)
    }

    fn input(&self, batch: &Batch) -> Vec<Outgoing> {
        let trades = batch.arrivals.iter().map(|arrival| self.trade_record(arrival));
        trades.chain(batch.dead.iter().map(|dead| self.dead_record(dead))).collect()
    }

    fn settled(&self, batch: &Batch) -> Vec<Outgoing> {
        let mut records = self.ledger_records(&batch.settled);
        records.extend(self.ledger_records(&duplicates_of(batch)));
        records
    }

    fn trade_record(&self, arrival: &Arrival) -> Outgoing {
        let headers = Headers::of([
            (ORIGIN, arrival.origin.as_str().as_bytes()),
            (RECEIVED_AT, arrival.received_at.micros().to_string().as_bytes()),
            (SOURCE, &arrival.source),
        ]);
        let key = key_of(&arrival.symbol);
        Outgoing {
            to: placed(&self.topics.stream, &key, self.partitions.stream),
            key: Some(key),
            value: Some(arrival.event.clone()),
            headers,
        }
    }

    fn dead_record(&self, dead: &DeadInput) -> Outgoing {
        let headers = Headers::of([
            (REASON, dead.reason.as_bytes()),
            (RECEIVED_AT, dead.received_at.micros().to_string().as_bytes()),
            (SOURCE, &dead.source),
        ]);
        Outgoing {
            to: placed(&self.topics.dead_letter, &dead.source, self.partitions.dead_letter),
            key: Some(dead.source.clone()),
            value: Some(dead.bytes.clone()),
            headers,
        }
    }

    fn ledger_records(&self, events: &[LedgerEvent]) -> Vec<Outgoing> {
        let record = |event: &LedgerEvent| {
            let key = Bytes::from(event.key());
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
