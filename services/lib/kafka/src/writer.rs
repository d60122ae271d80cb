//! Appends through one idempotent producer.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use domain::{Outgoing, Position, Topic};
use ports::{LogWriter, PortError};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tracing::warn;

use crate::client::{blocking, creation, drop_elsewhere, partitions_of, settings};
use crate::config::KafkaConfig;
use crate::delivery::{Append, Deliveries, Outcome, Ticket};
use crate::error::{Fate, SYSTEM};

/// What a record weighs on the wire beside its key, value and headers; each header adds as much.
const RECORD_OVERHEAD: usize = 64;

/// How much longer we wait than the client's own deadline, which always reports.
const GRACE: Duration = Duration::from_secs(10);

/// How long to wait for space before the buffer is tried again anyway.
const SPACE_RETRY: Duration = Duration::from_millis(50);

/// How long one poll for deliveries takes; a little more than whole milliseconds. The client waits whole ones, and the
/// binding spins through what is left of the last.
const POLL: Duration = Duration::from_micros(1_000_050);

type IdempotentProducer = BaseProducer<Deliveries>;

/// Appends to the topics of one cluster.
pub struct KafkaWriter {
    config: KafkaConfig,
    /// Replaced after a fatal error, which an idempotent producer never recovers from.
    producer: RwLock<Producing>,
    partitions: RwLock<HashMap<Topic, i32>>,
}

/// A producer and the context that counts its deliveries.
#[derive(Clone)]
struct Producing(Arc<IdempotentProducer>);

impl KafkaWriter {
    /// A writer as configured. Connects in the background.
    ///
    /// # Errors
    /// [`PortError::Refused`] if the settings cannot be used.
    pub fn new(config: KafkaConfig) -> Result<Self, PortError> {
        let producer = RwLock::new(Producing::new(&config)?);
        Ok(Self { config, producer, partitions: RwLock::default() })
    }

    /// The producer, or a new one if it is beyond repair.
    fn producer(&self) -> Result<Producing, PortError> {
        let current = self.producer.read().unwrap_or_else(PoisonError::into_inner).clone();
        if current.fatal_error().is_none() {
            return Ok(current);
        }
        let mut slot = self.producer.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = slot.fatal_error() {
            warn!(reason, "the kafka producer met a fatal error and is replaced");
            let old = std::mem::replace(&mut *slot, Producing::new(&self.config)?);
            drop_elsewhere(old.0);
        }
        Ok(slot.clone())
    }

    /// Refuses what no broker would take, before anything is enqueued.
    async fn check(&self, producer: &Producing, records: &[Outgoing]) -> Result<(), PortError> {
        for record in records {
            let size = wire_size(record);
            if size > self.config.max_record_bytes {
                let limit = self.config.max_record_bytes;
                let reason = format!("a record of {size} bytes for {}: at most {limit} are allowed", record.to);
                return Err(PortError::refused(SYSTEM, reason));
            }
            if !self.knows(record) {
                self.learn(producer, &record.to.topic).await?;
                if !self.knows(record) {
                    return Err(PortError::refused(SYSTEM, format!("{} does not exist", record.to)));
                }
            }
        }
        Ok(())
    }

    fn knows(&self, record: &Outgoing) -> bool {
        let known = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&record.to.topic).is_some_and(|count| (0..*count).contains(&record.to.partition))
    }

    async fn learn(&self, producer: &Producing, topic: &Topic) -> Result<(), PortError> {
        let (producer, config, name) = (producer.clone(), self.config.clone(), topic.clone());
        let count = blocking(move || partitions_of(producer.0.client(), &config, &name)).await?;
        self.partitions.write().unwrap_or_else(PoisonError::into_inner).insert(topic.clone(), count);
        Ok(())
    }

    fn forget_topics(&self) {
        self.partitions.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn failure(&self, fate: Fate, some_appended: bool, reason: String) -> PortError {
        self.forget_topics();
        match fate {
            Fate::NotAppended if !some_appended => PortError::unavailable(SYSTEM, reason),
            Fate::Refused if !some_appended => PortError::refused(SYSTEM, reason),
            _ => PortError::unknown(SYSTEM, reason),
        }
    }
}

#[async_trait]
impl LogWriter for KafkaWriter {
    async fn append(&self, records: Vec<Outgoing>) -> Result<Vec<Position>, PortError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let producer = self.producer()?;
        self.check(&producer, &records).await?;
        let append = Append::of(records.len());
        let limit = self.config.delivery_timeout();
        let all = async {
            producer.enqueue(&append, &records, limit).await;
            append.outcome().await
        };
        match tokio::time::timeout(limit * 2 + GRACE, all).await {
            Ok(Outcome::Appended(offsets)) => Ok(positions(records, offsets)),
            Ok(Outcome::Failed { fate, some_appended, reason }) => Err(self.failure(fate, some_appended, reason)),
            Err(_) => Err(PortError::unknown(SYSTEM, "the client reported no outcome of an append")),
        }
    }
}

impl Drop for KafkaWriter {
    fn drop(&mut self) {
        drop_elsewhere(self.producer.get_mut().unwrap_or_else(PoisonError::into_inner).0.clone());
    }
}

impl Producing {
    fn new(config: &KafkaConfig) -> Result<Self, PortError> {
        let mut settings = settings(config);
        settings
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.codec", &config.compression)
            .set("linger.ms", config.linger_ms.to_string())
            .set("message.timeout.ms", config.delivery_timeout_ms.to_string())
            .set("message.max.bytes", config.max_record_bytes.to_string())
            .set("batch.size", config.max_record_bytes.to_string())
            .set("queue.buffering.max.kbytes", config.producer_buffer_kib.to_string());
        let producer = BaseProducer::from_config_and_context(&settings, Deliveries::default());
        let producer = Arc::new(producer.map_err(|error| creation(&error))?);
        let polled = Arc::downgrade(&producer);
        let poll = move || {
            while let Some(producer) = polled.upgrade() {
                producer.poll(POLL);
            }
        };
        let thread = std::thread::Builder::new().name("kafka-deliveries".to_owned()).spawn(poll);
        thread.map_err(|error| PortError::unavailable(SYSTEM, error))?;
        Ok(Self(producer))
    }

    fn fatal_error(&self) -> Option<String> {
        self.0.client().fatal_error().map(|(code, reason)| format!("{code}: {reason}"))
    }

    /// Hands all records over, in order. Waits for deliveries while the buffer is full.
    async fn enqueue(&self, append: &Arc<Append>, records: &[Outgoing], limit: Duration) {
        let give_up = tokio::time::Instant::now() + limit;
        for (index, record) in records.iter().enumerate() {
            if let Err(error) = self.enqueue_one(append, index, record, give_up).await {
                return append.close(Some(&error));
            }
        }
        append.close(None);
    }

    async fn enqueue_one(
        &self,
        append: &Arc<Append>,
        index: usize,
        record: &Outgoing,
        give_up: tokio::time::Instant,
    ) -> Result<(), KafkaError> {
        let full = |error: &KafkaError| error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
        match self.offer(append, index, record) {
            Err(error) if full(&error) => {}
            result => return result,
        }
        loop {
            let delivery = self.0.context().next();
            match self.offer(append, index, record) {
                Err(error) if full(&error) && tokio::time::Instant::now() < give_up => {}
                result => return result,
            }
            // A time-out only means to look again.
            let _ = tokio::time::timeout(SPACE_RETRY, delivery.happened()).await;
        }
    }

    fn offer(&self, append: &Arc<Append>, index: usize, record: &Outgoing) -> Result<(), KafkaError> {
        let ticket = Box::new(Ticket { append: Arc::clone(append), index });
        let mut enqueued = BaseRecord::with_opaque_to(record.to.topic.as_str(), ticket).partition(record.to.partition);
        enqueued.key = record.key.as_deref();
        enqueued.payload = record.value.as_deref();
        enqueued.headers = headers(record);
        append.enqueue();
        self.0.send::<[u8], [u8]>(enqueued).map_err(|(error, _)| {
            append.take_back();
            error
        })
    }
}

fn headers(record: &Outgoing) -> Option<OwnedHeaders> {
    let headers = record.headers.iter();
    if headers.len() == 0 {
        return None;
    }
    let empty = OwnedHeaders::new_with_capacity(headers.len());
    Some(headers.fold(empty, |all, (key, value)| all.insert(Header { key, value: Some(value) })))
}

fn wire_size(record: &Outgoing) -> usize {
    let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
    let headers = record.headers.iter().map(|(name, value)| name.len() + value.len() + RECORD_OVERHEAD);
    length(&record.key) + length(&record.value) + headers.sum::<usize>() + RECORD_OVERHEAD
}

fn positions(records: Vec<Outgoing>, offsets: Vec<i64>) -> Vec<Position> {
    records.into_iter().zip(offsets).map(|(record, offset)| Position { at: record.to, offset }).collect()
}
