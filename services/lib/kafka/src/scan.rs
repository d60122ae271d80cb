//! Reads without a group, through a few consumers that stay where they are between calls.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use domain::{Position, Record, TopicPartition};
use ports::{Bounds, LogScan, PortError};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::Semaphore;
use tracing::debug;

use crate::client::{Logging, blocking, consumer_settings, creation, drop_elsewhere, partitions_of, watermarks};
use crate::config::KafkaConfig;
use crate::error::{SYSTEM, asking};
use crate::records::Copier;

/// About how much one call returns.
const READ_BYTES: usize = 1 << 20;

/// How much a consumer fetches ahead: the next call's. In the client's memory it weighs a multiple.
const AHEAD_KIB: usize = 2 * READ_BYTES / 1024;

/// Consumers need a group's name to be assigned partitions, though none is joined or written to.
const GROUP: &str = "fulltape-scan";

/// Reads any partition from any offset.
pub struct KafkaScan {
    config: Arc<KafkaConfig>,
    /// Asks about topics and offsets.
    asking: Arc<BaseConsumer<Logging>>,
    idle: Arc<Mutex<Vec<Cursor>>>,
    permits: Arc<Semaphore>,
}

impl KafkaScan {
    /// A scan as configured. Connects in the background.
    ///
    /// # Errors
    /// [`PortError::Refused`] if the settings cannot be used.
    pub fn new(config: KafkaConfig) -> Result<Self, PortError> {
        let asking = Arc::new(consumer(&config)?);
        let permits = Arc::new(Semaphore::new(config.scan_consumers.max(1)));
        Ok(Self { config: Arc::new(config), asking, idle: Arc::default(), permits })
    }
}

impl Drop for KafkaScan {
    fn drop(&mut self) {
        drop_elsewhere(Arc::clone(&self.asking));
        drop_elsewhere(Arc::clone(&self.idle));
    }
}

#[async_trait]
impl LogScan for KafkaScan {
    async fn bounds(&self, topic: &str) -> Result<Vec<Bounds>, PortError> {
        let (asking, config, topic) = (Arc::clone(&self.asking), Arc::clone(&self.config), topic.to_owned());
        let all = move || {
            let partitions = partitions_of(asking.client(), &config, &topic)?;
            (0..partitions).map(|partition| bounds_of(&asking, &config, &topic, partition)).collect()
        };
        blocking(all).await
    }

    async fn read(&self, from: &Position, end: i64) -> Result<Vec<Record>, PortError> {
        if from.offset >= end {
            return Ok(Vec::new());
        }
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|error| PortError::unavailable(SYSTEM, error))?;
        let (idle, config, from) = (Arc::clone(&self.idle), Arc::clone(&self.config), from.clone());
        let read = move || {
            let _permit = permit;
            let mut cursor = take_cursor(&idle, &config, &from)?;
            let records = cursor.read(&config, &from, end);
            if records.is_ok() {
                idle.lock().unwrap_or_else(PoisonError::into_inner).push(cursor);
            }
            records
        };
        blocking(read).await
    }
}

fn bounds_of(
    asking: &BaseConsumer<Logging>,
    config: &KafkaConfig,
    topic: &str,
    partition: i32,
) -> Result<Bounds, PortError> {
    let (first, end) = watermarks(asking, config, topic, partition)?;
    Ok(Bounds { at: TopicPartition::new(topic, partition), first, end })
}

/// The cursor that stands at this place; else the one idle longest; else a new one.
fn take_cursor(idle: &Mutex<Vec<Cursor>>, config: &KafkaConfig, from: &Position) -> Result<Cursor, PortError> {
    let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = idle.iter().position(|cursor| cursor.stands_at(from)) {
        return Ok(idle.remove(found));
    }
    if idle.len() >= config.scan_consumers.max(1) {
        return Ok(idle.remove(0));
    }
    drop(idle);
    Cursor::new(config)
}

fn consumer(config: &KafkaConfig) -> Result<BaseConsumer<Logging>, PortError> {
    let mut settings = consumer_settings(config, GROUP);
    settings.set("enable.partition.eof", "true").set("queued.max.messages.kbytes", AHEAD_KIB.to_string());
    BaseConsumer::from_config_and_context(&settings, Logging).map_err(|error| creation(&error))
}

/// A consumer and the place it stands at.
struct Cursor {
    consumer: BaseConsumer<Logging>,
    copier: Copier,
    next: Option<Position>,
    /// The log's end when it was last asked for: up to here records are sure to come.
    known_end: i64,
    /// Taken from the consumer but at or behind the end of the range that was asked for.
    ahead: Option<Record>,
}

impl Cursor {
    fn new(config: &KafkaConfig) -> Result<Self, PortError> {
        let consumer = consumer(config)?;
        Ok(Self { consumer, copier: Copier::default(), next: None, known_end: 0, ahead: None })
    }

    fn stands_at(&self, from: &Position) -> bool {
        self.next.as_ref() == Some(from)
    }

    fn read(&mut self, config: &KafkaConfig, from: &Position, end: i64) -> Result<Vec<Record>, PortError> {
        if !self.stands_at(from) {
            self.go_to(config, from)?;
        } else if from.offset >= self.known_end {
            self.learn_end(config, from)?;
        }
        if self.known_end < end {
            // The end moved back, as it does for a moment when a partition changes its leader.
            let reason = format!("{} ends at {}, expected {end} at least", from.at, self.known_end);
            return Err(PortError::unavailable(SYSTEM, reason));
        }
        let records = self.read_below(config, from, end)?;
        if self.next.as_ref().is_some_and(|next| next.offset >= end) {
            self.rest();
        }
        Ok(records)
    }

    fn learn_end(&mut self, config: &KafkaConfig, from: &Position) -> Result<(), PortError> {
        let (first, end) = watermarks(&self.consumer, config, &from.at.topic, from.at.partition)?;
        self.known_end = end;
        if from.offset < first {
            return Err(PortError::Truncated { at: from.at.clone(), wanted: from.offset, first });
        }
        Ok(())
    }

    fn go_to(&mut self, config: &KafkaConfig, from: &Position) -> Result<(), PortError> {
        self.next = None;
        self.ahead = None;
        self.learn_end(config, from)?;
        if from.offset < self.known_end {
            self.assign(from)?;
        }
        self.next = Some(from.clone());
        Ok(())
    }

    fn assign(&self, from: &Position) -> Result<(), PortError> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&from.at.topic, from.at.partition, Offset::Offset(from.offset))
            .and_then(|()| self.consumer.assign(&list))
            .map_err(|error| asking(&format!("assign {} at {}", from.at, from.offset), &error))
    }

    /// Nothing more is wanted for now: stops fetching ahead, and forgets the place.
    fn rest(&mut self) {
        if let Err(error) = self.consumer.unassign() {
            debug!(%error, "cannot unassign");
        }
        self.next = None;
        self.ahead = None;
    }

    fn read_below(&mut self, config: &KafkaConfig, from: &Position, end: i64) -> Result<Vec<Record>, PortError> {
        let give_up = Instant::now() + config.scan_timeout();
        let mut records: Vec<Record> = self.ahead.take_if(|record| record.offset < end).into_iter().collect();
        let mut bytes = records.iter().map(Record::weight).sum::<usize>();
        let mut next = records.last().map_or(from.offset, |record| record.offset + 1);
        while next < end && bytes < READ_BYTES && self.ahead.is_none() {
            let left = give_up.saturating_duration_since(Instant::now());
            let record = match self.consumer.poll(left) {
                Some(Ok(message)) => self.copier.record(&message),
                // Offsets without records, such as the markers of transactions, may end the log.
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    next = next.max(self.position(&from.at));
                    continue;
                }
                Some(Err(error)) if is_lasting(&error) => return Err(self.explain(config, from, &error)),
                Some(Err(error)) => {
                    debug!(%error, "a scan goes on after an error");
                    continue;
                }
                None if left.is_zero() && records.is_empty() => return Err(nothing_came(from, config)),
                None if left.is_zero() => break,
                None => continue,
            };
            if record.at != from.at || record.offset < next {
                continue;
            }
            if record.offset >= end {
                self.ahead = Some(record);
                next = end;
            } else {
                next = record.offset + 1;
                bytes += record.weight();
                records.push(record);
            }
        }
        self.next = Some(Position { at: from.at.clone(), offset: next });
        Ok(records)
    }

    fn position(&self, at: &TopicPartition) -> i64 {
        let list = self.consumer.position().ok();
        let element = list.as_ref().and_then(|list| list.find_partition(&at.topic, at.partition));
        match element.map(|element| element.offset()) {
            Some(Offset::Offset(offset)) => offset,
            _ => 0,
        }
    }

    /// The client does not say why; the log's bounds may.
    fn explain(&mut self, config: &KafkaConfig, from: &Position, error: &KafkaError) -> PortError {
        match self.learn_end(config, from) {
            Err(truncated) => truncated,
            Ok(()) => asking(&format!("read {} from {}", from.at, from.offset), error),
        }
    }
}

fn is_lasting(error: &KafkaError) -> bool {
    use rdkafka::error::RDKafkaErrorCode as Code;
    let Some(code) = error.rdkafka_error_code() else { return true };
    matches!(code, Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::Fatal) || crate::error::is_refusal(code)
}

fn nothing_came(from: &Position, config: &KafkaConfig) -> PortError {
    let limit = config.scan_timeout();
    PortError::unavailable(SYSTEM, format!("no record of {} from {} within {limit:?}", from.at, from.offset))
}
