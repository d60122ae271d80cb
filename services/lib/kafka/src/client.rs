//! What all clients have in common: settings, and where their own messages go.

use std::sync::Arc;

use ports::PortError;
use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use tracing::{debug, error, info, warn};

use crate::config::KafkaConfig;
use crate::error::{SYSTEM, asking, code};

/// Metadata is asked for at least this often, so that a topic created later is found soon.
const METADATA_REFRESH_MS: &str = "10000";

/// What an answer of a broker brings at most, in all and of one partition. All of it is decompressed into the client's
/// queue, whatever the queue's own bound says.
const FETCH_BYTES: &str = "2097152";
const FETCH_PARTITION_BYTES: &str = "262144";

pub(crate) fn settings(config: &KafkaConfig) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", &config.brokers)
        .set("client.id", &config.client_id)
        .set("allow.auto.create.topics", "false")
        // Measurements of each record and answer, for brokers that may ask for them.
        .set("enable.metrics.push", "false")
        .set("topic.metadata.refresh.interval.ms", METADATA_REFRESH_MS)
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.keepalive.enable", "true")
        .set("socket.nagle.disable", "true");
    settings
}

pub(crate) fn consumer_settings(config: &KafkaConfig, group: &str) -> ClientConfig {
    let mut settings = settings(config);
    settings
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_uncommitted")
        .set("check.crcs", config.check_crcs.to_string())
        .set("queued.max.messages.kbytes", config.prefetch_kib.to_string())
        .set("fetch.message.max.bytes", FETCH_PARTITION_BYTES)
        .set("fetch.max.bytes", FETCH_BYTES)
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.error.backoff.ms", "100");
    settings
}

pub(crate) fn creation(error: &KafkaError) -> PortError {
    PortError::refused(SYSTEM, error)
}

/// Sends the client's own log lines to ours.
#[derive(Debug, Default)]
pub(crate) struct Logging;

impl ClientContext for Logging {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "kafka client error");
    }
}

impl ConsumerContext for Logging {}

pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            error!(facility, message, "kafka client");
        }
        // The client says "error" for every lost connection, and mends it.
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => warn!(facility, message, "kafka client"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => info!(facility, message, "kafka client"),
        RDKafkaLogLevel::Debug => debug!(facility, message, "kafka client"),
    }
}

/// How many partitions a topic has. Blocks.
pub(crate) fn partitions_of<C: ClientContext>(
    client: &Client<C>,
    config: &KafkaConfig,
    topic: &str,
) -> Result<i32, PortError> {
    let what = format!("topic {topic}");
    let metadata =
        client.fetch_metadata(Some(topic), config.request_timeout()).map_err(|error| asking(&what, &error))?;
    partitions_in(&metadata, topic)
}

fn partitions_in(metadata: &Metadata, topic: &str) -> Result<i32, PortError> {
    let what = format!("topic {topic}");
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let found = found.ok_or_else(|| PortError::refused(SYSTEM, format!("{what} does not exist")))?;
    if let Some(error) = found.error() {
        return Err(code(&what, error.into()));
    }
    match i32::try_from(found.partitions().len()) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(PortError::refused(SYSTEM, format!("{what} does not exist"))),
    }
}

/// First offset and end of a partition, as the brokers have them now. Blocks.
pub(crate) fn watermarks<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    config: &KafkaConfig,
    topic: &str,
    partition: i32,
) -> Result<(i64, i64), PortError> {
    let asked = consumer.fetch_watermarks(topic, partition, config.request_timeout());
    asked.map_err(|error| {
        let what = format!("offsets of {topic}[{partition}]");
        // The client also says so of a partition whose leader it does not know yet, and a broker of one that it leads since
        // a moment ago and has not heard of.
        let is_doubtful = matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::UnknownTopicOrPartition)
        );
        match is_doubtful.then(|| partitions_of(consumer.client(), config, topic)) {
            Some(Ok(count)) if partition < count => PortError::unavailable(SYSTEM, format!("{what}: {error}")),
            Some(Err(error)) => error,
            _ => asking(&what, &error),
        }
    })
}

/// Runs what blocks where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PortError> + Send + 'static,
) -> Result<T, PortError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(PortError::unavailable(SYSTEM, error)),
    }
}

/// Dropping a client waits for its threads and connections, so the last owner lets it go elsewhere.
pub(crate) fn drop_elsewhere<T: Send + Sync + 'static>(client: Arc<T>) {
    let dropping = std::thread::Builder::new().name("kafka-drop".to_owned()).spawn(move || drop(client));
    if let Err(error) = dropping {
        warn!(%error, "cannot start a thread to drop a kafka client");
    }
}
