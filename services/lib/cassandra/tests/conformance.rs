//! The tables' suite against a real Cassandra: `FULLTAPE_TEST_CASSANDRA=127.0.0.1`. It makes a
//! keyspace of its own and drops it.

// The servers under test are named in the environment.
#![allow(clippy::disallowed_methods)]

use std::time::Instant;

use cassandra::{CassandraConfig, CassandraTables, ConsistencyLevel, apply_schema};
use domain::{Origin, Position, Timestamp, TopicPartition, Trade, TradeRow};
use futures::{StreamExt, TryStreamExt};
use ports::conformance::{tables, unique};
use ports::{Checkpoint, PortError, TableQuery, Tables};

/// 2024-08-08T23:00:00Z.
const HOUR: i64 = 1_723_158_000_000_000;

const SYMBOLS: [&str; 8] = ["BTCUSDT", "ETHUSDT", "TRXUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT", "DOTUSDT"];

struct Keyspace {
    config: CassandraConfig,
}

impl Keyspace {
    /// A new keyspace with the project's own schema; `None` if no server is named.
    async fn create() -> Option<Self> {
        let Ok(points) = std::env::var("FULLTAPE_TEST_CASSANDRA") else {
            println!("skipped: FULLTAPE_TEST_CASSANDRA is not set");
            return None;
        };
        let keyspace = unique("conformance_").to_lowercase();
        let contact_points = points.split(',').map(str::to_owned).collect();
        let config = CassandraConfig { contact_points, keyspace, ..CassandraConfig::default() };
        for _twice in 0..2 {
            apply_schema(&config, &schema(&config.keyspace)).await.unwrap();
        }
        Some(Self { config })
    }

    async fn tables(&self) -> CassandraTables {
        CassandraTables::connect(self.config.clone()).await.unwrap()
    }

    async fn drop(self) {
        apply_schema(&self.config, &[format!("DROP KEYSPACE {}", self.config.keyspace)]).await.unwrap();
    }
}

fn schema(keyspace: &str) -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../cassandra");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "cql"));
    files.sort();
    files.iter().map(|path| std::fs::read_to_string(path).unwrap().replace("crypto_ks", keyspace)).collect()
}

fn row(symbol: &str, id: u64) -> TradeRow {
    let time = Timestamp::from_micros(HOUR + i64::try_from(id % 3_600_000_000).unwrap());
    let trade = Trade {
        symbol: symbol.parse().unwrap(),
        id,
        price: "61837.63000000".parse().unwrap(),
        quantity: "0.02000000".parse().unwrap(),
        trade_time: time,
        event_time: Some(time),
        buyer_is_maker: id.is_multiple_of(2),
    };
    TradeRow { trade, origin: Origin::Live, received_at: time }
}

#[tokio::test(flavor = "multi_thread")]
async fn cassandra_is_tables() {
    let Some(keyspace) = Keyspace::create().await else { return };
    let cassandra = keyspace.tables().await;
    tables::suite(&cassandra, &cassandra).await;
    keyspace.drop().await;
}

/// A window may close while no record comes: the state changes, the offset does not.
#[tokio::test(flavor = "multi_thread")]
async fn the_later_checkpoint_of_one_offset_wins() {
    let Some(keyspace) = Keyspace::create().await else { return };
    let at = TopicPartition::new("t", 0);
    let checkpoint = |offset: i64, state: &[u8]| Checkpoint {
        role: "processor".to_owned(),
        next: Position { at: at.clone(), offset },
        state: state.to_vec(),
        outputs: Vec::new(),
    };
    let first = keyspace.tables().await;
    for state in [&b"zz"[..], b"a", b"m"] {
        first.save_checkpoint(&checkpoint(7, state)).await.unwrap();
        assert_eq!(first.load_checkpoint("processor", &at).await.unwrap(), Some(checkpoint(7, state)));
    }
    let successor = keyspace.tables().await;
    assert_eq!(successor.load_checkpoint("processor", &at).await.unwrap(), Some(checkpoint(7, b"m")));
    successor.save_checkpoint(&checkpoint(7, b"b")).await.unwrap();
    assert_eq!(first.load_checkpoint("processor", &at).await.unwrap(), Some(checkpoint(7, b"b")));
    successor.save_checkpoint(&checkpoint(8, b"c")).await.unwrap();
    first.save_checkpoint(&checkpoint(7, b"zombie")).await.unwrap();
    assert_eq!(first.load_checkpoint("processor", &at).await.unwrap(), Some(checkpoint(8, b"c")));
    keyspace.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_thousand_rows_go_there_and_back() {
    let Some(keyspace) = Keyspace::create().await else { return };
    let cassandra = keyspace.tables().await;
    let count = 200_000;
    let batches: Vec<Vec<TradeRow>> = (0..count / 50)
        .map(|batch| (0..50).map(|n| row(SYMBOLS[(batch % 8) as usize], batch * 50 + n)).collect())
        .collect();
    let started = Instant::now();
    let writes = batches.iter().map(|batch| cassandra.write_trades(batch));
    futures::stream::iter(writes).buffer_unordered(32).try_collect::<()>().await.unwrap();
    let written = started.elapsed();
    let started = Instant::now();
    let hour = Timestamp::from_micros(HOUR);
    let mut found = 0;
    for symbol in SYMBOLS {
        found += cassandra.trades(&symbol.parse().unwrap(), hour, None, usize::MAX).await.unwrap().len() as u64;
    }
    assert_eq!(found, count);
    let rate = |elapsed: std::time::Duration| count as f64 / elapsed.as_secs_f64();
    println!("{count} rows: written {:.0}/s, read {:.0}/s", rate(written), rate(started.elapsed()));
    keyspace.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_tables_and_nodes_are_told_apart() {
    let nobody = CassandraConfig { contact_points: vec!["127.0.0.1:1".to_owned()], ..CassandraConfig::default() };
    let error = CassandraTables::connect(nobody).await.unwrap_err();
    assert!(matches!(error, PortError::Unavailable { .. }), "{error}");
    let Some(keyspace) = Keyspace::create().await else { return };
    let elsewhere = CassandraConfig { keyspace: "no_such_keyspace".to_owned(), ..keyspace.config.clone() };
    let error = CassandraTables::connect(elsewhere).await.unwrap_err();
    assert!(matches!(error, PortError::Refused { .. }), "{error}");
    let impossible = CassandraConfig { write_consistency: ConsistencyLevel::All, ..keyspace.config.clone() };
    let cassandra = CassandraTables::connect(impossible).await.unwrap();
    cassandra.write_trades(&[row("ALLUSDT", 1)]).await.unwrap();
    keyspace.drop().await;
}
