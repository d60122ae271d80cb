//! Mending tables while the tape runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use audit::report::Damage;
use audit::{AuditPorts, Report, Topics, repair};
use domain::{Headers, Outgoing, Position, Record, Symbol, Timestamp, TopicPartition, TradeRow, topics};
use ports::memory::{Chaos, MemoryArchive, MemoryLog, MemoryTables};
use ports::{Bounds, LogScan, LogWriter, PortError, SystemClock, Tables};

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

fn stream() -> TopicPartition {
    TopicPartition::new(topics::TRADES, 0)
}

fn outgoing(id: u64) -> Outgoing {
    let event = format!(
        r#"{{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":{id},"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}"#
    );
    Outgoing { to: stream(), key: None, value: Some(event.into()), headers: Headers::new() }
}

async fn rows(log: &MemoryLog, from: i64) -> Vec<TradeRow> {
    let records: Vec<Record> = log.read(&Position { at: stream(), offset: from }, i64::MAX).await.unwrap();
    records.iter().map(|record| TradeRow::from_record(record).unwrap()).collect()
}

/// A log to which a trade comes, and goes on to the tables, while somebody reads it.
struct Busy {
    log: MemoryLog,
    tables: MemoryTables,
    is_done: AtomicBool,
}

#[async_trait]
impl LogScan for Busy {
    async fn bounds(&self, topic: &str) -> Result<Vec<Bounds>, PortError> {
        self.log.bounds(topic).await
    }

    async fn read(&self, from: &Position, end: i64) -> Result<Vec<Record>, PortError> {
        let records = self.log.read(from, end).await?;
        if !self.is_done.swap(true, Ordering::Relaxed) {
            let positions = self.log.append(vec![outgoing(50)]).await?;
            self.tables.write_trades(&rows(&self.log, positions[0].offset).await).await?;
        }
        Ok(records)
    }
}

#[tokio::test]
async fn what_is_stored_meanwhile_is_not_taken_away() {
    let chaos = Chaos::none();
    let (log, tables) = (MemoryLog::new(&chaos, Arc::new(SystemClock)), MemoryTables::new(&chaos));
    log.create_topic(topics::TRADES, 1);
    log.append((1..=10).map(outgoing).collect()).await.unwrap();
    let stored = rows(&log, 0).await;
    tables.write_trades(&stored[..9]).await.unwrap();
    let busy = Busy { log, tables: tables.clone(), is_done: AtomicBool::new(false) };
    let archive = Arc::new(MemoryArchive::new(&chaos));
    let ports = AuditPorts { scan: Arc::new(busy), query: Arc::new(tables.clone()), archive };
    let symbol: Symbol = "BTCUSDT".parse().unwrap();
    let report = Report {
        damage: vec![Damage::Hour { symbol, hour: stored[0].hour() }],
        limits: vec![Position { at: stream(), offset: 0 }],
        ..Report::default()
    };
    let topics = Topics { stream: topics::TRADES.into(), role: "processor".to_owned() };
    repair(&ports, &tables, &topics, &report, NOW).await.unwrap();
    let held: Vec<u64> = tables.all_trades().iter().map(|row| row.trade.id).collect();
    assert_eq!(held, (1..=10).chain([50]).collect::<Vec<_>>());
}
