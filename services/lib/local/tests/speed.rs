//! How fast the embedded mode is: `cargo test --release -p local --test speed -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use domain::{Headers, Origin, Outgoing, Topic, TopicPartition, Trade, TradeRow};
use local::{LocalLog, LocalTables};
use ports::{LogEvent, LogReader, LogWriter, Start, SystemClock, Tables};

const RECORDS: usize = 1_000_000;
const BATCH: usize = 1_000;
const EVENT: &str = r#"{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}"#;

fn report(what: &str, started: Instant) {
    let rate = RECORDS as f64 / started.elapsed().as_secs_f64();
    println!("{what}: {rate:.0} a second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn log_and_tables() {
    let folder = tempfile::tempdir().unwrap();
    let log = LocalLog::open(folder.path(), &[(Topic::from("crypto-stream"), 6)], Arc::new(SystemClock)).unwrap();
    let headers =
        Headers::new().with("origin", "live").with("received_at", "1723161255342000").with("source", "binance");
    let record = |n: usize| Outgoing {
        to: TopicPartition::new("crypto-stream", i32::try_from(n % 6).unwrap()),
        key: Some(Bytes::from_static(b"BTCUSDT")),
        value: Some(Bytes::from_static(EVENT.as_bytes())),
        headers: headers.clone(),
    };
    let started = Instant::now();
    for batch in 0..RECORDS / BATCH {
        log.append((0..BATCH).map(|n| record(batch * BATCH + n)).collect()).await.unwrap();
    }
    report("appends, one batch of 1,000 after the other", started);

    let mut reader = log.reader("speed", &[Topic::from("crypto-stream")]).unwrap();
    let started = Instant::now();
    let mut read = 0;
    while read < RECORDS {
        match reader.next().await.unwrap() {
            LogEvent::Assigned(assignment) => {
                let starts = assignment.partitions().iter().map(|at| Start::Earliest(at.clone())).collect();
                assignment.start(starts);
            }
            LogEvent::Records(records) => read += records.len(),
            LogEvent::Revoked(_) => {}
        }
    }
    report("reads", started);

    let trade = Trade::from_event(EVENT.as_bytes()).unwrap();
    let received_at = trade.trade_time;
    let tables = LocalTables::open(folder.path()).unwrap();
    let started = Instant::now();
    for batch in (0..RECORDS).step_by(BATCH) {
        let row = |n: usize| TradeRow {
            trade: Trade { id: (batch + n) as u64, ..trade.clone() },
            origin: Origin::Live,
            received_at,
        };
        tables.write_trades(&(0..BATCH).map(row).collect::<Vec<_>>()).await.unwrap();
    }
    report("trades, one batch of 1,000 after the other", started);

    let started = Instant::now();
    let writers = (0..4).map(|writer: usize| {
        let (tables, trade) = (tables.clone(), trade.clone());
        tokio::spawn(async move {
            for batch in (writer * RECORDS / 4..(writer + 1) * RECORDS / 4).step_by(50) {
                let row = |n: usize| TradeRow {
                    trade: Trade { id: (RECORDS + batch + n) as u64, ..trade.clone() },
                    origin: Origin::Live,
                    received_at,
                };
                tables.write_trades(&(0..50).map(row).collect::<Vec<_>>()).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    report("trades, four writers with batches of 50", started);
}
