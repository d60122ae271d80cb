//! The bare loops that the roles are measured against: what librdkafka, the Cassandra driver, the Parquet encoder,
//! hdfs-native and SQLite can do on this machine when nothing but the data passes through them. No recovery, no
//! deadlines, no completeness, no metrics: a crash loses what was under way.
//!
//! Each command prints one line of JSON.

mod archive;
mod event;
mod feed;
mod kafka;
mod meter;
mod observe;
mod sqlite;
mod tables;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// The one that fulltape has: it is a part of what is at best.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What the libraries and servers underneath can do at best.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fill a topic with trades.
    Produce(kafka::Produce),
    /// Read a topic and do nothing.
    Consume(Topic),
    /// Count the trades of a topic.
    Recorded(kafka::Recorded),
    /// Parse trade events that are in memory.
    Parse(Amount),
    /// Encode trades that are in memory as Parquet, both datasets.
    Encode(Amount),
    /// Kafka to Cassandra.
    Tables(tables::Drain),
    /// Rows that are in memory to Cassandra.
    Cassandra(tables::Alone),
    /// Kafka to Parquet on HDFS, both datasets.
    Archive(archive::Drain),
    /// Bytes that are in memory to HDFS.
    Hdfs(archive::Alone),
    /// WebSocket to Kafka.
    Ingest(feed::Ingest),
    /// Rows that are in memory to SQLite.
    Sqlite(sqlite::Alone),
    /// Public archive files to SQLite, as log and as table, and to Parquet in a folder, both datasets.
    Embedded(sqlite::Embedded),
    /// When each row of the table `trades` becomes visible to a reader.
    Observe(observe::Observe),
    /// What is in the table `trades`.
    Count(observe::Count),
}

/// Where trades are read.
#[derive(Clone, Debug, Args)]
pub struct Topic {
    #[arg(long, default_value = "127.0.0.1:19092,127.0.0.1:29092")]
    brokers: String,
    #[arg(long, default_value = "crypto-stream")]
    topic: String,
    /// How many are there.
    #[arg(long)]
    trades: u64,
}

/// How much is done.
#[derive(Clone, Debug, Args)]
pub struct Amount {
    #[arg(long)]
    trades: u64,
    #[arg(long, default_value_t = 10)]
    symbols: usize,
}

fn main() -> anyhow::Result<()> {
    let line = match Cli::parse().command {
        Command::Produce(produce) => produce.run()?,
        Command::Consume(topic) => kafka::consume(&topic)?,
        Command::Recorded(recorded) => recorded.run()?,
        Command::Parse(amount) => event::parse_all(&amount)?,
        Command::Encode(amount) => archive::encode_all(&amount)?,
        Command::Tables(drain) => drain.run()?,
        Command::Cassandra(alone) => alone.run()?,
        Command::Archive(drain) => drain.run()?,
        Command::Hdfs(alone) => alone.run()?,
        Command::Ingest(ingest) => ingest.run()?,
        Command::Sqlite(alone) => alone.run()?,
        Command::Embedded(embedded) => embedded.run()?,
        Command::Observe(observe) => observe.run()?,
        Command::Count(count) => count.run()?,
    };
    println!("{line}");
    Ok(())
}

/// Two threads, as the machine that the figures in the README are from has cores.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// A folder that is there and empty.
pub fn empty_folder(path: &PathBuf) -> anyhow::Result<()> {
    if path.exists() {
        std::fs::remove_dir_all(path)?;
    }
    Ok(std::fs::create_dir_all(path)?)
}
