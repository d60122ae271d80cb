//! Which log, which tables, which archive: nothing above this file knows.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use audit::AuditPorts;
use cassandra::CassandraTables;
use domain::Topic;
use hdfs::HdfsArchive;
use kafka::{KafkaConfig, KafkaReader, KafkaScan, KafkaWriter};
use local::{DataFolder, LocalArchive, LocalLog, LocalTables};
use ports::{Archive, Clock, LogReader, LogScan, LogWriter, SystemClock, TableQuery, Tables, persist, persist_for};

use crate::config::{ArchiveKind, Config, LogKind, TablesKind};

/// How long an audit waits for tables that do not answer. A role waits for ever.
const AUDIT_PATIENCE: Duration = Duration::from_secs(30);

/// The outside world as configured. Local stores share one data folder, which this process holds.
pub struct Wire {
    config: Config,
    folder: Option<DataFolder>,
    log: Option<LocalLog>,
}

/// Tables to write and to read.
pub type BothTables = (Arc<dyn Tables>, Arc<dyn TableQuery>);

impl Wire {
    /// Takes the data folder, if any store is local.
    ///
    /// # Errors
    /// If another process has it, or it is not ours.
    pub fn connect(config: &Config) -> anyhow::Result<Self> {
        let folder = match uses_folder(config) {
            true => Some(DataFolder::lock(&config.data)?),
            false => None,
        };
        let log = match config.log.kind {
            LogKind::Local => Some(LocalLog::open(path_of(&folder), &config.log.partitioned(), clock())?),
            LogKind::Kafka => None,
        };
        Ok(Self { config: config.clone(), folder, log })
    }

    /// The log's writing side.
    ///
    /// # Errors
    /// If the client cannot be made.
    pub fn writer(&self) -> anyhow::Result<Arc<dyn LogWriter>> {
        match &self.log {
            Some(log) => Ok(Arc::new(log.clone())),
            None => Ok(Arc::new(KafkaWriter::new(self.config.log.kafka.clone())?)),
        }
    }

    /// The log's looking side.
    ///
    /// # Errors
    /// If the client cannot be made.
    pub fn scan(&self) -> anyhow::Result<Arc<dyn LogScan>> {
        match &self.log {
            Some(log) => Ok(Arc::new(log.clone())),
            None => Ok(Arc::new(KafkaScan::new(self.config.log.kafka.clone())?)),
        }
    }

    /// Whether topics have the partitions they were made with. Waits for a log that is not there yet.
    ///
    /// A symbol's trades are ordered within one partition, which follows from how many there are: with another
    /// number they would be in two.
    ///
    /// # Errors
    /// Names a topic that is not there, or has been given more.
    pub async fn check_topics(&self) -> anyhow::Result<()> {
        let scan = self.scan()?;
        for (topic, expected) in self.config.log.partitioned() {
            let found = persist("topics", || scan.bounds(&topic)).await?.len();
            anyhow::ensure!(
                usize::try_from(expected) == Ok(found),
                "{topic}: expected {expected} partitions (log.partitions), found {found}; \
                 a topic keeps the number that its tape began with"
            );
        }
        Ok(())
    }

    /// A member of a group. Brokers gather records for so long, unless there are so many bytes.
    ///
    /// # Errors
    /// If the client cannot be made.
    pub fn reader(
        &self,
        group: &str,
        topics: &[&Topic],
        fetch_wait_ms: u64,
        fetch_enough_bytes: u32,
    ) -> anyhow::Result<Box<dyn LogReader>> {
        let topics: Vec<Topic> = topics.iter().map(|topic| (*topic).clone()).collect();
        match &self.log {
            Some(log) => Ok(Box::new(log.reader(group, &topics)?)),
            None => {
                let names: Vec<&str> = topics.iter().map(Topic::as_str).collect();
                let kafka = KafkaConfig { fetch_wait_ms, fetch_enough_bytes, ..self.config.log.kafka.clone() };
                Ok(Box::new(KafkaReader::new(kafka, group, &names)?))
            }
        }
    }

    /// The tables. Waits for a server that is not there yet.
    ///
    /// # Errors
    /// If they cannot be used.
    pub async fn tables(&self) -> anyhow::Result<BothTables> {
        match self.config.tables.kind {
            TablesKind::Local => {
                let tables = Arc::new(LocalTables::open(path_of(&self.folder))?);
                Ok((tables.clone(), tables))
            }
            TablesKind::Cassandra => cassandra_tables(&self.config, Duration::MAX).await,
        }
    }

    /// The archive.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn archive(&self) -> anyhow::Result<Arc<dyn Archive>> {
        match (&self.folder, self.config.archive.kind) {
            (Some(folder), ArchiveKind::Local) => Ok(Arc::new(LocalArchive::open(folder.archive()))),
            _ => hdfs_archive(&self.config),
        }
    }
}

/// What the audit reads: local stores without taking the data folder, so that it runs beside `up`.
///
/// # Errors
/// If a store cannot be read.
pub async fn audit_ports(config: &Config) -> anyhow::Result<AuditPorts> {
    let folder = match uses_folder(config) {
        true => Some(DataFolder::open_read_only(&config.data)?),
        false => None,
    };
    let scan: Arc<dyn LogScan> = match config.log.kind {
        LogKind::Local => Arc::new(LocalLog::open_read_only(path_of(&folder))?),
        LogKind::Kafka => Arc::new(KafkaScan::new(config.log.kafka.clone())?),
    };
    let query: Arc<dyn TableQuery> = match config.tables.kind {
        TablesKind::Local => Arc::new(LocalTables::open_read_only(path_of(&folder))?),
        TablesKind::Cassandra => cassandra_tables(config, AUDIT_PATIENCE).await?.1,
    };
    let archive: Arc<dyn Archive> = match (&folder, config.archive.kind) {
        (Some(folder), ArchiveKind::Local) => Arc::new(LocalArchive::open(folder.archive())),
        _ => hdfs_archive(config)?,
    };
    Ok(AuditPorts { scan, query, archive })
}

/// What a repair writes to. It holds the data folder, if any store is local: nobody else may be
/// writing there.
pub struct Repairer {
    _folder: Option<DataFolder>,
    /// The tables.
    pub tables: Arc<dyn Tables>,
}

impl Repairer {
    /// Takes the data folder and connects to the tables.
    ///
    /// # Errors
    /// If another process has the folder, or the tables cannot be used.
    pub async fn connect(config: &Config) -> anyhow::Result<Self> {
        let folder = match uses_folder(config) {
            true => Some(DataFolder::lock(&config.data).context("--repair needs the tape for itself")?),
            false => None,
        };
        let tables: Arc<dyn Tables> = match config.tables.kind {
            TablesKind::Local => Arc::new(LocalTables::open(path_of(&folder))?),
            TablesKind::Cassandra => cassandra_tables(config, AUDIT_PATIENCE).await?.0,
        };
        Ok(Self { _folder: folder, tables })
    }
}

/// What an audit has read, for people.
pub fn audited(config: &Config) -> String {
    match config.log.kind {
        LogKind::Local => format!("audited: {}", config.data.display()),
        LogKind::Kafka => format!("audited: {} at {}", config.log.stream, config.log.kafka.brokers),
    }
}

/// HDFS, whatever the archive is configured to be.
///
/// # Errors
/// If the client cannot be made.
fn hdfs_archive(config: &Config) -> anyhow::Result<Arc<dyn Archive>> {
    Ok(Arc::new(HdfsArchive::new(config.archive.hdfs.clone())?))
}

/// The time of day.
pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

async fn cassandra_tables(config: &Config, patience: Duration) -> anyhow::Result<BothTables> {
    let connect = || CassandraTables::connect(config.tables.cassandra.clone());
    let tables = Arc::new(persist_for(patience, "connect to the tables", connect).await.context("tables")?);
    Ok((tables.clone(), tables))
}

fn uses_folder(config: &Config) -> bool {
    config.log.kind == LogKind::Local
        || config.tables.kind == TablesKind::Local
        || config.archive.kind == ArchiveKind::Local
}

fn path_of(folder: &Option<DataFolder>) -> PathBuf {
    folder.as_ref().map(|folder| folder.path().to_path_buf()).unwrap_or_default()
}
