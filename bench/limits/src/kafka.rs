//! librdkafka alone.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use clap::Args;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientConfig, ClientContext};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Topic;
use crate::event::Tape;
use crate::meter::Meter;

/// The first trade of a topic that is filled at once: on an hour, so that every run has the same table partitions.
const BEGAN_MS: i64 = 1_699_999_200_000;

/// Of such trades so many are a second apart.
const PER_SECOND: i64 = 1_000;

const PATIENCE: Duration = Duration::from_secs(60);

/// Fills a topic.
#[derive(Debug, Args)]
pub struct Produce {
    #[command(flatten)]
    to: Topic,
    #[arg(long, default_value_t = 10)]
    symbols: usize,
    /// Trades a second, their times those of the clock; without it as fast as it goes, and times that are the same
    /// in every run.
    #[arg(long)]
    rate: Option<u64>,
    /// How many trades of the same market the topic has already: ids go on behind them.
    #[arg(long, default_value_t = 0)]
    behind: u64,
}

impl Produce {
    pub fn run(&self) -> anyhow::Result<Value> {
        let producer = producer(&self.to.brokers)?;
        let partitions = partitions(producer.client(), &self.to.topic)?;
        let mut tape = Tape::of(self.symbols);
        let mut event = String::new();
        for _ in 0..self.behind {
            tape.issue(0, &mut event);
        }
        let mut meter = Meter::of(self.to.trades);
        let (started, mut latest) = (Instant::now(), 0);
        for n in 0..self.to.trades {
            let (time_ms, received_at) = match self.rate {
                Some(rate) => {
                    let due = Duration::from_micros(n * 1_000_000 / rate);
                    // A millisecond's worth at once: nobody sleeps for less.
                    if due > started.elapsed() + Duration::from_millis(1) {
                        pause(due.saturating_sub(started.elapsed()));
                    }
                    // Whoever reads a symbol's rows in the order of their times has them in the order of their ids.
                    latest = now_micros().max(latest);
                    (latest / 1_000, latest)
                }
                None => {
                    let time = BEGAN_MS + (n as i64) * 1_000 / PER_SECOND;
                    (time, time * 1_000)
                }
            };
            let (nth, symbol) = tape.issue(time_ms, &mut event);
            let partition = (nth % partitions) as i32;
            let received_at = received_at.to_string();
            let headers = OwnedHeaders::new()
                .insert(Header { key: "origin", value: Some("live") })
                .insert(Header { key: "received_at", value: Some(&received_at) })
                .insert(Header { key: "source", value: Some("bench") });
            let record = BaseRecord::to(&self.to.topic)
                .partition(partition)
                .key(symbol)
                .payload(event.as_str())
                .headers(headers);
            send(&producer, record)?;
            meter.add(1);
        }
        producer.flush(PATIENCE)?;
        let unknown = producer.context().failed.load(Ordering::Relaxed);
        anyhow::ensure!(unknown == 0, "{}: whether {unknown} records are there is not known", self.to.topic);
        let mut line = meter.line()?;
        line["sums"] = tape.sums().json();
        Ok(line)
    }
}

#[allow(clippy::disallowed_methods, reason = "a rate is kept by waiting")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

#[allow(clippy::disallowed_methods, reason = "trades that are issued now have the time of now")]
pub fn now_micros() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// Counts what was not acknowledged.
#[derive(Debug, Default)]
pub struct Deliveries {
    failed: AtomicU64,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A producer that fills topics for others. While a broker pauses, an idempotent one, which may have five requests under
/// way, spins over what else is due, and takes the processor time that the broker would need. This one tries once, so
/// that no record is there twice.
///
/// # Errors
/// If librdkafka refuses the settings.
fn producer(brokers: &str) -> anyhow::Result<ThreadedProducer<Deliveries>> {
    let mut config = producer_config(brokers);
    config.set("enable.idempotence", "false").set("message.send.max.retries", "0");
    Ok(config.create_with_context(Deliveries::default())?)
}

/// The settings of ingest, but for the time that records wait for others: a little longer, for the same reason.
pub fn producer_config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "lz4")
        .set("linger.ms", "25")
        .set("queue.buffering.max.messages", "200000");
    config
}

/// Sends, and waits while the producer's queue is full.
///
/// # Errors
/// If the record is refused.
pub fn send<C: rdkafka::producer::ProducerContext<Part>, Part: rdkafka::producer::Partitioner>(
    producer: &ThreadedProducer<C, Part>,
    mut record: BaseRecord<'_, str, str, C::DeliveryOpaque>,
) -> anyhow::Result<()> {
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                pause(Duration::from_millis(1));
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

/// How many partitions a topic has.
///
/// # Errors
/// If nobody says.
pub fn partitions<C: rdkafka::ClientContext>(
    client: &rdkafka::client::Client<C>,
    topic: &str,
) -> anyhow::Result<usize> {
    let metadata = client.fetch_metadata(Some(topic), PATIENCE)?;
    let topic = metadata.topics().first().context("a topic")?;
    anyhow::ensure!(!topic.partitions().is_empty(), "{}: no such topic", topic.name());
    Ok(topic.partitions().len())
}

/// So many records of a topic, from its beginning.
///
/// # Errors
/// If no record comes for a minute.
pub fn each(topic: &Topic, act: impl FnMut(&BorrowedMessage<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let (consumer, _) = reader(&topic.brokers, &topic.topic)?;
    read(&consumer, topic.trades, act)
}

/// A consumer at the beginning of a topic, and how many records there are.
fn reader(brokers: &str, topic: &str) -> anyhow::Result<(BaseConsumer, u64)> {
    let consumer = consumer(brokers)?;
    let (mut all, mut records) = (TopicPartitionList::new(), 0);
    for partition in 0..partitions(consumer.client(), topic)? as i32 {
        all.add_partition_offset(topic, partition, Offset::Beginning)?;
        let (first, end) = consumer.fetch_watermarks(topic, partition, PATIENCE)?;
        records += (end - first) as u64;
    }
    consumer.assign(&all)?;
    Ok((consumer, records))
}

fn read(
    consumer: &BaseConsumer,
    records: u64,
    mut act: impl FnMut(&BorrowedMessage<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for _ in 0..records {
        let message = consumer.poll(PATIENCE).context("no record for a minute")??;
        act(&message)?;
    }
    Ok(())
}

fn consumer(brokers: &str) -> anyhow::Result<BaseConsumer> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "limits")
        .set("enable.auto.commit", "false")
        .set("queued.max.messages.kbytes", "65536")
        // As ours: a client whose queue was full would else fetch again only after a second.
        .set("fetch.queue.backoff.ms", "10")
        .create()?)
}

/// Counts the trades of a topic, whichever side has written them.
#[derive(Debug, Args)]
pub struct Recorded {
    #[arg(long, default_value = "127.0.0.1:19092,127.0.0.1:29092")]
    brokers: String,
    #[arg(long)]
    topic: String,
}

/// What the Python clients write has longer names.
#[derive(Deserialize)]
struct Id<'a> {
    #[serde(alias = "s")]
    symbol: &'a str,
    #[serde(alias = "t")]
    trade_id: u64,
}

impl Recorded {
    pub fn run(&self) -> anyhow::Result<Value> {
        let (consumer, records) = reader(&self.brokers, &self.topic)?;
        let mut ids: HashMap<String, HashSet<u64>> = HashMap::new();
        read(&consumer, records, |message| {
            let Id { symbol, trade_id } = serde_json::from_slice(message.payload().context("a value")?)?;
            match ids.get_mut(symbol) {
                Some(ids) => ids.insert(trade_id),
                None => ids.entry(symbol.to_owned()).or_default().insert(trade_id),
            };
            Ok(())
        })?;
        let distinct: usize = ids.values().map(HashSet::len).sum();
        let spanned =
            |ids: &HashSet<u64>| ids.iter().max().zip(ids.iter().min()).map_or(0, |(last, first)| last - first + 1);
        let holes = ids.values().map(spanned).sum::<u64>() - distinct as u64;
        Ok(json!({ "records": records, "distinct": distinct, "holes": holes }))
    }
}

/// Reads a topic.
///
/// # Errors
/// If it is shorter than expected.
pub fn consume(topic: &Topic) -> anyhow::Result<Value> {
    let mut meter = Meter::of(topic.trades);
    let mut bytes = 0;
    each(topic, |message| {
        bytes += message.payload_len();
        meter.add(1);
        Ok(())
    })?;
    std::hint::black_box(bytes);
    meter.line()
}
