//! From a log in memory to an archive in memory: what goes in comes out, once, in a gapless chain.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use archiver::{ArchiverConfig, ArchiverDeps, ArchiverError, Topics, run};
use bytes::Bytes;
use columns::{ArchivedTrade, Footer, Tail, decode_raw, decode_trades, read_footer};
use domain::lake::{self, PartName};
use domain::{Headers, Outgoing, Record, Timestamp, TopicPartition};
use ports::memory::{Chaos, Faults, MemoryArchive, MemoryLog, SimClock};
use ports::{Archive, Clock, LogWriter, PortError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const TOPIC: &str = "crypto-stream";
const PARTITIONS: i32 = 3;
const GROUP: &str = "archiver";

struct World {
    chaos: Chaos,
    log: MemoryLog,
    archive: MemoryArchive,
    clock: Arc<SimClock>,
    config: ArchiverConfig,
    runs: u32,
    written: u64,
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<(), ArchiverError>>,
}

impl Running {
    async fn stopped(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

impl World {
    /// Ten minutes before midnight.
    fn new(seed: u64) -> Self {
        let chaos = Chaos::new(seed, Faults::none());
        let clock = Arc::new(SimClock::starting_at(Timestamp::from_millis(1_723_161_000_000)));
        let log = MemoryLog::new(&chaos, clock.clone());
        log.create_topic(TOPIC, PARTITIONS as usize);
        let archive = MemoryArchive::new(&chaos);
        Self { log, archive, clock, chaos, config: ArchiverConfig::default(), runs: 0, written: 0 }
    }

    fn start(&mut self) -> Running {
        self.runs += 1;
        let stop = CancellationToken::new();
        let deps = ArchiverDeps {
            reader: Box::new(self.log.reader(GROUP, &[TOPIC.into()]).unwrap()),
            archive: Arc::new(self.archive.clone()),
            clock: self.clock.clone(),
            epoch: format!("run-{}", self.runs),
        };
        let task = tokio::spawn(run(deps, Topics::default(), self.config.clone(), stop.clone()));
        Running { stop, task }
    }

    /// Writes records, every tenth of them rubbish.
    async fn write(&mut self, records: u64) {
        let outgoing = (0..records).map(|_| self.outgoing()).collect();
        match self.log.append(outgoing).await {
            Ok(_) | Err(PortError::Unavailable { .. } | PortError::Unknown { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn outgoing(&mut self) -> Outgoing {
        self.written += 1;
        let id = self.written;
        let trade = format!(
            r#"{{"e":"trade","s":"BTCUSDT","t":{id},"p":"61837.63","q":"0.02","T":1723161255342,"m":true,"M":true}}"#
        );
        let value = match id % 20 {
            0 => None,
            10 => Some(Bytes::from_static(b"rubbish")),
            _ => Some(trade.into()),
        };
        let to = TopicPartition::new(TOPIC, i32::try_from(id % PARTITIONS as u64).unwrap());
        Outgoing { to, key: Some("BTCUSDT".into()), value, headers: Headers::new().with("origin", "backfill") }
    }

    /// The files of a dataset, each partition's in order of offset.
    fn files(&self, dataset: &str) -> BTreeMap<i32, BTreeMap<i64, (Footer, Bytes)>> {
        let mut files: BTreeMap<i32, BTreeMap<i64, (Footer, Bytes)>> = BTreeMap::new();
        for (path, bytes) in self.archive.files() {
            let Some(name) = PartName::parse(&path).filter(|name| name.dataset == dataset) else { continue };
            let Tail::Complete(footer) = read_footer(&bytes).unwrap() else { panic!("{path}") };
            assert_eq!(footer.span.start, name.start_offset, "{path}");
            let twice = files.entry(name.partition).or_default().insert(name.start_offset, (*footer, bytes));
            assert!(twice.is_none(), "{path}: another file has the same start offset");
        }
        files
    }

    /// What the log has is in the archive, once; nothing else is.
    fn check(&self) {
        let mut raw: Vec<Record> = Vec::new();
        let mut trades: Vec<ArchivedTrade> = Vec::new();
        for (dataset, skips) in [(lake::raw_dataset(TOPIC), false), (lake::TRADES.to_owned(), true)] {
            for (partition, files) in self.files(&dataset) {
                let mut end = 0;
                for (start, (footer, bytes)) in files {
                    assert_eq!(start, end, "{dataset} {partition}: chain broken");
                    assert_eq!(footer.holes(), 0);
                    assert!(skips || footer.skipped == 0);
                    end = footer.span.end;
                    if skips {
                        trades.extend(decode_trades(bytes).unwrap().map(Result::unwrap));
                    } else {
                        raw.extend(decode_raw(bytes).unwrap().map(Result::unwrap));
                    }
                }
            }
        }
        let records = self.log.records(TOPIC);
        assert_eq!(raw.len(), records.len());
        assert_eq!(raw, records);
        let expected: Vec<_> = records.iter().flat_map(ArchivedTrade::from_record).collect();
        assert!(!expected.is_empty() && expected.len() < records.len());
        assert_eq!(trades, expected);
        assert!(self.archive.files().iter().all(|(path, _)| !path.starts_with("_tmp") || self.runs > 1));
    }
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn stopping_publishes_what_is_held_and_leaves_nothing_behind() {
    let mut world = World::new(1);
    let archiver = world.start();
    world.write(500).await;
    seconds(1).await;
    assert!(world.archive.files().is_empty());
    archiver.stopped().await;
    world.check();
    assert_eq!(world.archive.files().len(), 2 * PARTITIONS as usize);
    for partition in 0..PARTITIONS {
        let at = TopicPartition::new(TOPIC, partition);
        let end = world.log.records(TOPIC).iter().filter(|record| record.at == at).count();
        assert_eq!(world.log.committed(GROUP, &at), Some(end as i64));
    }
}

#[tokio::test(start_paused = true)]
async fn silence_age_and_midnight_end_files_and_the_next_run_goes_on() {
    let mut world = World::new(2);
    let archiver = world.start();
    world.write(50).await;
    seconds(11).await;
    assert_eq!(world.files(lake::TRADES)[&0].len(), 1, "idle");
    for _ in 0..13 {
        world.write(50).await;
        seconds(5).await;
    }
    assert_eq!(world.files(lake::TRADES)[&0].len(), 2, "age");
    archiver.stopped().await;
    let archiver = world.start();
    for _ in 0..140 {
        world.write(10).await;
        seconds(5).await;
    }
    archiver.stopped().await;
    world.check();
    let days: Vec<String> = world.archive.files().into_iter().map(|(path, _)| path).collect();
    for day in ["trades/date=2024-08-08", "trades/date=2024-08-09"] {
        assert!(days.iter().any(|path| path.starts_with(day)), "{day}");
    }
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded() {
    let mut world = World::new(3);
    world.config.memory_bytes = 20_000;
    let archiver = world.start();
    for _ in 0..20 {
        world.write(60).await;
        seconds(1).await;
    }
    assert!(!world.archive.files().is_empty());
    archiver.stopped().await;
    world.check();
}

#[tokio::test(start_paused = true)]
async fn what_killed_runs_left_goes_after_a_day() {
    let mut world = World::new(5);
    let began = |hours: i64| world.clock.now().micros() - hours * 3_600_000_000;
    let old = format!("{}/{}-elsewhere/0", lake::TEMPORARY, began(25));
    let young = format!("{}/{}-elsewhere/0", lake::TEMPORARY, began(23));
    let strange = format!("{}/notes/0", lake::TEMPORARY);
    for path in [&old, &young, &strange] {
        world.archive.write(path, Bytes::from_static(b"half a file")).await.unwrap();
    }
    world.start().stopped().await;
    let left: Vec<String> = world.archive.files().into_iter().map(|(path, _)| path).collect();
    assert_eq!(left, [young, strange]);
}

#[tokio::test(start_paused = true)]
async fn an_archive_that_is_down_holds_back_reading_but_not_the_end() {
    let mut world = World::new(4);
    world.config.roll_rows = 10;
    let archiver = world.start();
    world.write(30).await;
    seconds(1).await;
    world.chaos.set(Faults { fail: 1.0, ..Faults::none() });
    let before = world.archive.files().len();
    seconds(100).await;
    assert_eq!(world.archive.files().len(), before);
    let asked = tokio::time::Instant::now();
    archiver.stopped().await;
    assert!(asked.elapsed() < Duration::from_secs(9));
    world.chaos.set(Faults::none());
    let archiver = world.start();
    world.write(500).await;
    seconds(30).await;
    archiver.stopped().await;
    world.check();
}

#[tokio::test(start_paused = true)]
async fn deleted_records_are_a_hole_that_the_footer_tells() {
    let mut world = World::new(5);
    let archiver = world.start();
    world.write(300).await;
    seconds(1).await;
    archiver.stopped().await;
    world.write(300).await;
    let first = TopicPartition::new(TOPIC, 0);
    world.log.delete_before(&domain::Position { at: first, offset: 150 });
    let archiver = world.start();
    seconds(1).await;
    archiver.stopped().await;
    for dataset in [lake::raw_dataset(TOPIC), lake::TRADES.to_owned()] {
        let files = world.files(&dataset);
        let (footer, _) = &files[&0][&100];
        assert_eq!((footer.span.end, footer.holes()), (200, 50), "{dataset}");
        assert_eq!(files[&1][&100].0.holes(), 0);
    }
}

/// Everything goes wrong now and then, archivers come and go, and some go on when they should not.
async fn story(seed: u64) -> (u64, Vec<String>) {
    let mut world = World::new(seed);
    world.config.roll_rows = 40 + seed % 90;
    world.config.revoke_ms = 20_000;
    world.log.set_patience(Duration::from_secs(4 + seed % 20));
    world.chaos.set(Faults::some());
    let mut running = vec![world.start(), world.start()];
    for step in 0..30 {
        world.write(40).await;
        seconds(1 + seed % 7).await;
        match (seed + step * 7) % 13 {
            0 => running.remove(0).task.abort(),
            1 => running.remove(0).stopped().await,
            2 => running.push(world.start()),
            _ => {}
        }
        if running.is_empty() {
            running.push(world.start());
        }
    }
    world.chaos.set(Faults::none());
    seconds(200).await;
    for archiver in running {
        archiver.stopped().await;
    }
    world.start().stopped().await;
    world.check();
    (world.chaos.fingerprint(), world.archive.files().into_iter().map(|(path, _)| path).collect())
}

fn told(seed: u64) -> (u64, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(story(seed))
}

/// `SEEDS=2000` tells more stories.
#[test]
#[allow(clippy::disallowed_methods, reason = "a test may be told how long to run")]
fn misfortune_changes_nothing() {
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    for seed in 0..seeds {
        let result = std::panic::catch_unwind(|| told(seed));
        assert!(result.is_ok(), "seed {seed}");
    }
}

#[test]
fn a_story_told_twice_is_the_same() {
    assert_eq!(told(7), told(7));
}
