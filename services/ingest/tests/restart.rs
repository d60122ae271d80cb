//! What a start makes of the log: every id known, whatever the order in which it came.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::ledger::{GapState, LedgerEvent};
use domain::{Headers, Origin, Outgoing, Position, Record, Symbol, Timestamp, TopicPartition, Topics, Trade, topics};
use ingest::{IngestConfig, IngestPorts, Summary};
use ports::memory::{Chaos, MemoryLog};
use ports::{Bounds, Feed, FeedEvent, History, HistoryError, LogScan, LogWriter, PortError, SystemClock};
use tokio_util::sync::CancellationToken;

/// Some events, then the end.
struct Recording(std::vec::IntoIter<String>);

#[async_trait]
impl Feed for Recording {
    async fn next(&mut self) -> Result<FeedEvent, PortError> {
        let Some(event) = self.0.next() else { return Ok(FeedEvent::End) };
        Ok(FeedEvent::Frame {
            bytes: Bytes::from(event),
            received_at: Timestamp::from_millis(1_723_161_255_400),
            origin: Origin::Replay,
            source: Bytes::from_static(b"recording"),
            place: None,
        })
    }
}

fn event(symbol: &str, id: u64) -> String {
    format!(
        r#"{{"e":"trade","E":1723161255343,"s":"{symbol}","t":{id},"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}"#
    )
}

fn recording(trades: Vec<(&'static str, u64)>) -> Recording {
    let events: Vec<String> = trades.into_iter().map(|(symbol, id)| event(symbol, id)).collect();
    Recording(events.into_iter())
}

/// A log with one partition, so that all symbols are neighbours.
fn log() -> MemoryLog {
    let log = MemoryLog::new(&Chaos::none(), Arc::new(SystemClock));
    for topic in [topics::TRADES, topics::GAPS, topics::DEAD_LETTER] {
        log.create_topic(topic, 1);
    }
    log
}

/// A feed into a log, and nothing else.
fn ports(log: &MemoryLog, feed: impl Feed + 'static) -> IngestPorts {
    IngestPorts {
        feed: Box::new(feed),
        history: None,
        watched: Vec::new(),
        unlisted: Vec::new(),
        writer: Arc::new(log.clone()),
        scan: Arc::new(log.clone()),
        hidden_for: Duration::ZERO,
        clock: Arc::new(SystemClock),
    }
}

/// Runs ingest from start to end over some trades: each run begins with nothing but the log.
async fn run(log: &MemoryLog, trades: Vec<(&'static str, u64)>) -> Summary {
    run_over(log, recording(trades)).await
}

async fn run_over(log: &MemoryLog, recording: Recording) -> Summary {
    let ports = ports(log, recording);
    let config = IngestConfig { mark_records: 10, ..IngestConfig::default() };
    ingest::run(ports, Topics::default(), config, CancellationToken::new()).await.unwrap()
}

fn ids(symbol: &'static str, ids: impl IntoIterator<Item = u64>) -> Vec<(&'static str, u64)> {
    ids.into_iter().map(|id| (symbol, id)).collect()
}

fn logged(log: &MemoryLog) -> Vec<(String, u64)> {
    let trades =
        log.records(topics::TRADES).into_iter().map(|record| Trade::from_event(&record.value.unwrap()).unwrap());
    trades.map(|trade| (trade.symbol.to_string(), trade.id)).collect()
}

fn events(log: &MemoryLog) -> Vec<LedgerEvent> {
    let records = log.records(topics::GAPS).into_iter();
    records.map(|record| LedgerEvent::from_json(&record.value.unwrap()).unwrap()).collect()
}

#[tokio::test]
async fn another_trade_under_a_known_id_is_kept_as_a_dead_letter() {
    let log = log();
    let microseconds = event("BTCUSDT", 7).replace("342,", "342999,").replace("\"q\":\"0.02000000\"", "\"q\":\"0.02\"");
    let dearer = event("BTCUSDT", 7).replace("61837", "61838");
    let events = vec![event("BTCUSDT", 7), microseconds, dearer.clone(), event("BTCUSDT", 8)];
    let summary = run_over(&log, Recording(events.into_iter())).await;
    assert_eq!(summary, Summary { published: 2, duplicates: 2, missing: 0, dead: 1 });
    let dead = log.records(topics::DEAD_LETTER);
    assert_eq!(dead[0].value.as_deref(), Some(dearer.as_bytes()));
}

#[tokio::test]
async fn a_quiet_symbol_is_not_forgotten_behind_a_busy_one() {
    let log = log();
    run(&log, ids("TRXUSDT", 1..=3)).await;
    for start in 0..20 {
        run(&log, ids("BTCUSDT", start * 50..start * 50 + 50)).await;
    }
    let marks = events(&log).into_iter().filter(|event| matches!(event, LedgerEvent::Mark { .. })).count();
    assert!(marks >= 10, "{marks} marks");
    // 4 was issued while nobody looked.
    let summary = run(&log, ids("TRXUSDT", [2, 3, 5])).await;
    assert_eq!(summary, Summary { published: 1, duplicates: 2, missing: 1, dead: 0 });
}

#[tokio::test]
async fn an_older_recording_is_new() {
    let log = log();
    run(&log, ids("BTCUSDT", 1_000..1_100)).await;
    let older = run(&log, ids("BTCUSDT", 900..1_000)).await;
    assert_eq!(older, Summary { published: 100, duplicates: 0, missing: 0, dead: 0 });
    let newer = run(&log, ids("BTCUSDT", 1_050..1_200)).await;
    assert_eq!(newer, Summary { published: 100, duplicates: 50, missing: 0, dead: 0 });
    let mut all = logged(&log);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), log.records(topics::TRADES).len());
    assert_eq!(all.len(), 300);
}

#[tokio::test]
async fn a_given_up_gap_stays_known_and_can_still_be_filled() {
    let log = log();
    let summary = run(&log, ids("BTCUSDT", (1..=20).chain(24..=60))).await;
    assert_eq!(summary.missing, 3);
    let nothing_new = run(&log, ids("BTCUSDT", 50..=60)).await;
    assert_eq!((nothing_new.published, nothing_new.missing), (0, 3));
    let filled = run(&log, ids("BTCUSDT", [22, 23, 21])).await;
    assert_eq!((filled.published, filled.missing), (3, 0));
    let again = run(&log, ids("BTCUSDT", 1..=60)).await;
    assert_eq!((again.published, again.duplicates, again.missing), (0, 60, 0));
    let closed =
        events(&log).into_iter().filter(|event| matches!(event, LedgerEvent::Gap { state: GapState::Filled, .. }));
    assert!(closed.count() >= 3);
}

#[tokio::test]
async fn a_mark_of_records_that_the_log_has_lost_is_not_believed() {
    let log = log();
    run(&log, ids("BTCUSDT", 1..=50)).await;
    let lost = LedgerEvent::Mark {
        partition: 0,
        stream_offset: 1_000,
        symbols: [("BTCUSDT".parse().unwrap(), domain::IdRange { from: 1, to: 900 })].into(),
    };
    let to = TopicPartition::new(topics::GAPS, 0);
    let record = Outgoing { to, key: None, value: Some(lost.to_json().into()), headers: Headers::new() };
    log.append(vec![record]).await.unwrap();
    let summary = run(&log, ids("BTCUSDT", 51..=60)).await;
    assert_eq!(summary, Summary { published: 10, duplicates: 0, missing: 0, dead: 0 });
}

/// A log in which a dead predecessor's last request comes through just before ours.
struct Haunted {
    log: MemoryLog,
    late: std::sync::Mutex<Vec<Outgoing>>,
}

#[async_trait]
impl LogWriter for Haunted {
    async fn append(&self, records: Vec<Outgoing>) -> Result<Vec<Position>, PortError> {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        self.log.append(late).await?;
        self.log.append(records).await
    }
}

#[tokio::test]
async fn a_predecessors_last_request_is_noticed_and_what_it_skips_is_a_gap() {
    let log = log();
    let to = TopicPartition::new(topics::TRADES, 0);
    let late = ids("BTCUSDT", 1..=5).into_iter().map(|(symbol, id)| Outgoing {
        to: to.clone(),
        key: None,
        value: Some(event(symbol, id).into()),
        headers: Headers::new(),
    });
    let writer = Haunted { log: log.clone(), late: std::sync::Mutex::new(late.collect()) };
    let ports = IngestPorts { writer: Arc::new(writer), ..ports(&log, recording(ids("BTCUSDT", 9..=20))) };
    let stop = CancellationToken::new();
    let summary = ingest::run(ports, Topics::default(), IngestConfig::default(), stop).await.unwrap();
    assert_eq!(summary, Summary { published: 12, duplicates: 0, missing: 3, dead: 0 });
    let told = events(&log).into_iter().filter_map(|event| match event {
        LedgerEvent::Gap { ids, state, .. } => Some((ids.from, ids.to, state)),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [(6, 8, GapState::Open), (6, 8, GapState::Unfillable)]);
}

#[tokio::test]
async fn a_delisted_symbol_is_no_reason_to_stop_and_an_unknown_one_is() {
    let log = log();
    run(&log, ids("LUNAUSDT", 1..=5)).await;
    let start = |unlisted: &[&str]| {
        let ports = IngestPorts {
            unlisted: unlisted.iter().map(|name| name.parse().unwrap()).collect(),
            ..ports(&log, recording(ids("BTCUSDT", 1..=5)))
        };
        ingest::run(ports, Topics::default(), IngestConfig::default(), CancellationToken::new())
    };
    let error = start(&["LUNAUSDT", "BTCUSD", "XUSDT"]).await.unwrap_err().to_string();
    assert!(error.contains("does not know BTCUSD, XUSDT: expected"), "{error}");
    assert_eq!(start(&["LUNAUSDT"]).await.unwrap().published, 5);
}

/// Has the trades 10 to 30, one of them without a price.
struct Blemished;

#[async_trait]
impl History for Blemished {
    async fn trades(&self, symbol: &Symbol, from_id: u64, _limit: usize) -> Result<Vec<Bytes>, HistoryError> {
        let text = |id| event(symbol.as_str(), id);
        let worthless = |id| text(id).replace("61837.63000000", "0.0");
        let trades = (from_id.max(10)..=30).map(|id| if id == 15 { worthless(id) } else { text(id) });
        Ok(trades.map(Bytes::from).collect())
    }
}

#[tokio::test(start_paused = true)]
async fn an_unusable_trade_of_the_history_hides_no_other() {
    let log = log();
    let ports = IngestPorts {
        history: Some(Arc::new(Blemished)),
        ..ports(&log, recording(ids("BTCUSDT", (1..=9).chain(20..=30))))
    };
    let stop = CancellationToken::new();
    let summary = ingest::run(ports, Topics::default(), IngestConfig::default(), stop).await.unwrap();
    assert_eq!(summary, Summary { published: 29, duplicates: 0, missing: 1, dead: 1 });
    let given_up = events(&log).into_iter().filter_map(|event| match event {
        LedgerEvent::Gap { ids, state: GapState::Unfillable, .. } => Some((ids.from, ids.to)),
        _ => None,
    });
    assert_eq!(given_up.collect::<Vec<_>>(), [(15, 15)]);
    assert_eq!(log.records(topics::DEAD_LETTER).len(), 1);
}

/// A log that shows its last records when all replicas have them, and that is a while after they were appended.
struct Hiding {
    log: MemoryLog,
    shown: i64,
    shows_all_at: tokio::time::Instant,
}

#[async_trait]
impl LogScan for Hiding {
    async fn bounds(&self, topic: &str) -> Result<Vec<Bounds>, PortError> {
        let mut bounds = self.log.bounds(topic).await?;
        if topic == topics::TRADES && tokio::time::Instant::now() < self.shows_all_at {
            bounds.iter_mut().for_each(|bounds| bounds.end = bounds.end.min(self.shown));
        }
        Ok(bounds)
    }

    async fn read(&self, from: &Position, end: i64) -> Result<Vec<Record>, PortError> {
        self.log.read(from, end).await
    }
}

/// A feed that says nothing.
struct Silence;

#[async_trait]
impl Feed for Silence {
    async fn next(&mut self) -> Result<FeedEvent, PortError> {
        std::future::pending().await
    }
}

/// How many records the log has of trades 1 to 30 in the end, of which 10 to 15 were hidden at the start.
async fn records_after_a_hidden_start(hidden_for: Duration) -> (usize, usize) {
    let log = log();
    run(&log, ids("BTCUSDT", 1..=9)).await;
    run(&log, ids("BTCUSDT", 10..=15)).await;
    let shows_all_at = tokio::time::Instant::now() + Duration::from_secs(30);
    let ports = IngestPorts {
        history: Some(Arc::new(Blemished)),
        watched: vec!["BTCUSDT".parse().unwrap()],
        scan: Arc::new(Hiding { log: log.clone(), shown: 9, shows_all_at }),
        hidden_for,
        ..ports(&log, Silence)
    };
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(300)).await;
        stopping.cancel();
    });
    ingest::run(ports, Topics::default(), IngestConfig::default(), stop).await.unwrap();
    let all = logged(&log);
    let different: std::collections::BTreeSet<_> = all.iter().collect();
    (all.len(), different.len())
}

#[tokio::test(start_paused = true)]
async fn what_the_log_may_hide_is_not_fetched_again() {
    assert_eq!(records_after_a_hidden_start(Duration::from_secs(60)).await, (30, 30));
    let (records, different) = records_after_a_hidden_start(Duration::ZERO).await;
    assert!(records > different, "a log that hides nothing needs no fence, this one does");
}

/// A log whose first append of a trade is carried out, but not acknowledged.
struct Unanswered {
    log: MemoryLog,
    is_answering: AtomicBool,
}

#[async_trait]
impl LogWriter for Unanswered {
    async fn append(&self, records: Vec<Outgoing>) -> Result<Vec<Position>, PortError> {
        let has_trades = records.iter().any(|record| record.to.topic == topics::TRADES);
        let positions = self.log.append(records).await?;
        if has_trades && !self.is_answering.swap(true, Ordering::Relaxed) {
            return Err(PortError::unknown("log", "no answer"));
        }
        Ok(positions)
    }
}

async fn records_after_an_unanswered_append(hidden_for: Duration) -> (usize, u64) {
    let log = log();
    let shows_all_at = tokio::time::Instant::now() + Duration::from_secs(30);
    let ports = IngestPorts {
        writer: Arc::new(Unanswered { log: log.clone(), is_answering: AtomicBool::new(false) }),
        scan: Arc::new(Hiding { log: log.clone(), shown: 0, shows_all_at }),
        hidden_for,
        ..ports(&log, recording(ids("BTCUSDT", 1..=20)))
    };
    let config = IngestConfig::default();
    let summary = ingest::run(ports, Topics::default(), config, CancellationToken::new()).await.unwrap();
    (logged(&log).len(), summary.published)
}

#[tokio::test(start_paused = true)]
async fn what_the_log_may_hide_is_not_appended_again() {
    assert_eq!(records_after_an_unanswered_append(Duration::from_secs(60)).await, (20, 20));
    let (records, _) = records_after_an_unanswered_append(Duration::ZERO).await;
    assert!(records > 20, "a log that hides nothing need not be waited for, this one must");
}
