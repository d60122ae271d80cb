//! All settings, with their defaults: those of the embedded mode.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use archiver::ArchiverConfig;
use binance::{BinanceConfig, MAX_FRAME_BYTES, Pace};
use cassandra::CassandraConfig;
use domain::{Symbol, Topic, Topics, topics};
use exchange_sim::SimConfig;
use hdfs::HdfsConfig;
use ingest::IngestConfig;
use kafka::{KafkaConfig, TopicSpec};
use processor::ProcessorConfig;
use runtime::ConfigErrors;
use runtime::telemetry::{self, LogFormat};
use serde::{Deserialize, Serialize};

use crate::sources::Source;

/// The default data folder.
pub const DATA: &str = "data";

/// All settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The folder of the local log, tables and archive. If it is not set, simulated trades have a
    /// folder of their own in it, `sim`.
    pub data: PathBuf,
    /// Where trades come from.
    pub source: SourceConfig,
    /// The log.
    pub log: LogConfig,
    /// The tables.
    pub tables: TablesConfig,
    /// The archive.
    pub archive: ArchiveConfig,
    /// The role ingest.
    pub ingest: IngestConfig,
    /// The role processor.
    pub processor: ProcessorConfig,
    /// The role archiver.
    pub archiver: ArchiverConfig,
    /// The exchange.
    pub binance: BinanceConfig,
    /// The simulated exchange.
    pub sim: SimConfig,
    /// Metrics and health.
    pub admin: AdminConfig,
    /// Log lines.
    pub telemetry: TelemetryConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from(DATA),
            source: SourceConfig::default(),
            log: LogConfig::default(),
            tables: TablesConfig::default(),
            archive: ArchiveConfig::default(),
            ingest: IngestConfig::default(),
            processor: ProcessorConfig::default(),
            archiver: ArchiverConfig::default(),
            binance: BinanceConfig { symbols: collected(), ..BinanceConfig::default() },
            sim: SimConfig::default(),
            admin: AdminConfig::default(),
            telemetry: TelemetryConfig::default(),
        }
    }
}

/// What is collected from the exchange if nobody says otherwise.
fn collected() -> Vec<Symbol> {
    ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "TRXUSDT"].map(|name| name.parse().expect("a symbol")).to_vec()
}

/// Where trades come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// `sim`, `binance`, `lake:FOLDER` (an archive), `tape:FOLDER` (the exchange that the tape is of),
    /// or any number of `replay:FILE`, read in order.
    pub from: Vec<String>,
    /// The pace of a replay: `recorded`, a factor such as `10x`, or `max`.
    pub pace: String,
    /// The symbols to collect; empty: those that the source's own section has.
    pub symbols: Vec<Symbol>,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self { from: vec!["sim".to_owned()], pace: "max".to_owned(), symbols: Vec::new() }
    }
}

/// The log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Which log.
    pub kind: LogKind,
    /// The topic of trades.
    pub stream: Topic,
    /// The topic of ledger events.
    pub gaps: Topic,
    /// The topic of unusable input.
    pub dead_letter: Topic,
    /// The topic whose one partition belongs to the live ingest that works; others with the same topic stand by.
    pub lease: Topic,
    /// How many partitions a topic is created with.
    pub partitions: i32,
    /// On how many brokers a topic is created.
    pub replication: i32,
    /// How to reach Kafka.
    pub kafka: KafkaConfig,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            kind: LogKind::Local,
            stream: Topic::new_static(topics::TRADES),
            gaps: Topic::new_static(topics::GAPS),
            dead_letter: Topic::new_static(topics::DEAD_LETTER),
            lease: Topic::new_static(topics::INGEST_LEASE),
            partitions: topics::DEFAULT_PARTITIONS,
            replication: 2,
            kafka: KafkaConfig::default(),
        }
    }
}

impl LogConfig {
    /// The topics, each with its number of partitions.
    pub fn partitioned(&self) -> Vec<(Topic, i32)> {
        [&self.stream, &self.gaps, &self.dead_letter].map(|topic| (topic.clone(), self.partitions)).to_vec()
    }

    /// The topics as they are created in Kafka. What is in them is never deleted by age: the log is
    /// the truth.
    pub fn specs(&self) -> Vec<TopicSpec> {
        let config = [("retention.ms".to_owned(), "-1".to_owned())];
        let spec = |(name, partitions): (Topic, i32)| TopicSpec {
            name: name.to_string(),
            partitions,
            replication: self.replication,
            config: config.clone().into(),
        };
        self.partitioned().into_iter().chain([(self.lease.clone(), 1)]).map(spec).collect()
    }

    /// The topics of the tape.
    pub fn topics(&self) -> Topics {
        let (stream, gaps, dead_letter) = (self.stream.clone(), self.gaps.clone(), self.dead_letter.clone());
        Topics { stream, gaps, dead_letter }
    }

    /// The topics as the archiver knows them.
    pub fn archiver_topics(&self) -> archiver::Topics {
        archiver::Topics { stream: self.stream.clone() }
    }

    /// What the audit compares.
    pub fn audited(&self) -> audit::Topics {
        audit::Topics { stream: self.stream.clone(), role: processor::ROLE.to_owned() }
    }
}

/// Which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogKind {
    /// A file in the data folder.
    Local,
    /// Kafka.
    Kafka,
}

/// The tables.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TablesConfig {
    /// Which tables.
    pub kind: TablesKind,
    /// How to reach Cassandra.
    pub cassandra: CassandraConfig,
}

impl Default for TablesConfig {
    fn default() -> Self {
        Self { kind: TablesKind::Local, cassandra: CassandraConfig::default() }
    }
}

/// Which tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TablesKind {
    /// A file in the data folder.
    Local,
    /// Cassandra.
    Cassandra,
}

/// The archive.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArchiveConfig {
    /// Which archive.
    pub kind: ArchiveKind,
    /// How to reach HDFS.
    pub hdfs: HdfsConfig,
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        Self { kind: ArchiveKind::Local, hdfs: HdfsConfig::default() }
    }
}

/// Which archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArchiveKind {
    /// The folder `crypto_data` in the data folder.
    Local,
    /// HDFS.
    Hdfs,
}

/// Metrics and health.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// The address of `/metrics`, `/healthz` and `/readyz`; if not set, a free port on loopback.
    pub listen: Option<SocketAddr>,
}

/// Log lines.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// What to log, as in `RUST_LOG`: for example `info` or `info,ingest=debug`.
    pub log: String,
    /// How to log: `text` or `json`.
    pub format: LogFormat,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { log: "info,scylla=warn".to_owned(), format: LogFormat::Text }
    }
}

const A_DAY_MS: u64 = 86_400_000;

/// More bytes than any buffer should have.
const MOST_BYTES: u64 = 1 << 40;

impl Config {
    /// Checks what the types alone cannot say.
    ///
    /// # Errors
    /// Everything that is wrong, together.
    pub fn check(&self) -> Result<(), ConfigErrors> {
        let mut errors = Vec::new();
        errors.extend(Source::parse(&self.source).err());
        errors.extend(telemetry::check(&self.telemetry.log).err().map(|error| format!("telemetry.log: {error}")));
        let sim = self.simulated();
        errors.extend(sim.validate().err().into_iter().flat_map(|error| {
            let findings = error.to_string();
            findings.lines().map(|finding| format!("sim.{finding}")).collect::<Vec<_>>()
        }));
        if !(1..=1_000).contains(&self.log.partitions) {
            errors.push(format!("log.partitions: expected 1 to 1000, got {}", self.log.partitions));
        }
        let LogConfig { stream, gaps, dead_letter, lease, kafka, .. } = &self.log;
        let names = [("stream", stream), ("gaps", gaps), ("dead_letter", dead_letter), ("lease", lease)];
        let twice = names.iter().filter(|(key, topic)| names.iter().any(|(other, same)| key > other && topic == same));
        errors.extend(twice.map(|(key, topic)| format!("log.{key}: {topic:?} is another topic's name, too")));
        if kafka.revocation_timeout_ms >= kafka.max_poll_interval_ms {
            let (let_go, most) = (kafka.revocation_timeout_ms, kafka.max_poll_interval_ms);
            errors.push(format!(
                "log.kafka.revocation_timeout_ms: expected less than max_poll_interval_ms, {most}, got {let_go}"
            ));
        }
        if kafka.session_timeout_ms > kafka.max_poll_interval_ms {
            let (session, most) = (kafka.session_timeout_ms, kafka.max_poll_interval_ms);
            errors.push(format!(
                "log.kafka.session_timeout_ms: expected at most max_poll_interval_ms, {most}, got {session}"
            ));
        }
        errors.extend(self.bounded().into_iter().filter_map(|(key, value, bounds)| {
            let (least, most) = (bounds.start(), bounds.end());
            (!bounds.contains(&value)).then(|| format!("{key}: expected {least} to {most}, got {value}"))
        }));
        let (min, max) = (self.archiver.retry_min_ms, self.archiver.retry_max_ms);
        if min > max {
            errors.push(format!("archiver.retry_min_ms: expected at most retry_max_ms, {max}, got {min}"));
        }
        errors.extend(self.source.pace.parse::<Pace>().err().map(|error| format!("source.pace: {error}")));
        errors.extend(self.live().validate().err().map(|error| error.to_string()));
        errors.extend(names.iter().filter(|(_, topic)| !is_topic(topic)).map(|(key, topic)| {
            format!("log.{key}: {topic:?} is not a topic: expected 1 to 249 of a-z A-Z 0-9 . _ -")
        }));
        if errors.is_empty() { Ok(()) } else { Err(ConfigErrors::new(errors)) }
    }

    /// Numbers that must be within bounds for anything to happen, or to end.
    fn bounded(&self) -> [(&'static str, u64, RangeInclusive<u64>); 28] {
        let (ingest, processor, archiver) = (&self.ingest, &self.processor, &self.archiver);
        let (kafka, cassandra, hdfs) = (&self.log.kafka, &self.tables.cassandra, &self.archive.hdfs);
        [
            ("ingest.pending_bytes", ingest.pending_bytes as u64, MAX_FRAME_BYTES as u64..=MOST_BYTES),
            ("ingest.gather_ms", ingest.gather_ms, 0..=1_000),
            ("ingest.gap_grace_ms", ingest.gap_grace_ms, 0..=A_DAY_MS),
            ("ingest.backfill_in_flight", ingest.backfill_in_flight as u64, 1..=1_000),
            ("ingest.history_patience_ms", ingest.history_patience_ms, 1..=A_DAY_MS),
            ("ingest.silence_ms", ingest.silence_ms, 0..=A_DAY_MS),
            ("ingest.mark_records", u64::from(ingest.mark_records), 1..=u64::from(u32::MAX)),
            ("ingest.drain_ms", ingest.drain_ms, 0..=A_DAY_MS),
            ("processor.write_bytes", processor.write_bytes as u64, 1..=MOST_BYTES),
            ("processor.writes_in_flight", processor.writes_in_flight as u64, 1..=100_000),
            ("processor.gather_records", processor.gather_records as u64, 1..=1 << 32),
            ("processor.checkpoint_ms", processor.checkpoint_ms, 1..=A_DAY_MS),
            ("processor.revoke_ms", processor.revoke_ms, 0..=A_DAY_MS),
            ("archiver.roll_bytes", archiver.roll_bytes as u64, 1..=MOST_BYTES),
            ("archiver.roll_rows", archiver.roll_rows, 1..=1 << 32),
            ("archiver.max_age_ms", archiver.max_age_ms, 1..=A_DAY_MS),
            ("archiver.idle_ms", archiver.idle_ms, 1..=A_DAY_MS),
            ("archiver.memory_bytes", archiver.memory_bytes as u64, 1..=MOST_BYTES),
            ("archiver.retry_min_ms", archiver.retry_min_ms, 1..=A_DAY_MS),
            ("archiver.revoke_ms", archiver.revoke_ms, 0..=A_DAY_MS),
            ("log.kafka.fetch_wait_ms", kafka.fetch_wait_ms, 0..=10_000),
            ("log.kafka.fetch_enough_bytes", kafka.fetch_enough_bytes.into(), 1..=1 << 20),
            ("log.kafka.request_timeout_ms", kafka.request_timeout_ms, 1..=A_DAY_MS),
            ("log.kafka.scan_timeout_ms", kafka.scan_timeout_ms, 1..=A_DAY_MS),
            ("tables.cassandra.write_timeout_ms", cassandra.write_timeout_ms, 1..=A_DAY_MS),
            ("tables.cassandra.read_timeout_ms", cassandra.read_timeout_ms, 1..=A_DAY_MS),
            ("archive.hdfs.call_timeout_ms", hdfs.call_timeout_ms, 1..=A_DAY_MS),
            ("archive.hdfs.transfer_timeout_ms", hdfs.transfer_timeout_ms, 1..=A_DAY_MS),
        ]
    }

    /// The exchange, with the symbols that are collected.
    pub fn live(&self) -> BinanceConfig {
        match self.source.symbols.as_slice() {
            [] => self.binance.clone(),
            symbols => BinanceConfig { symbols: symbols.to_vec(), ..self.binance.clone() },
        }
    }

    /// The simulated exchange, trading the symbols that are collected.
    pub fn simulated(&self) -> SimConfig {
        match self.source.symbols.as_slice() {
            [] => self.sim.clone(),
            symbols => self.sim.clone().with_symbols(symbols),
        }
    }
}

/// Kafka's rule for topic names.
fn is_topic(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=249).contains(&name.len()) && name.chars().all(legal) && name != "." && name != ".."
}
