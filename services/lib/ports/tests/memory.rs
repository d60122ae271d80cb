//! The servers in memory: they conform, and their misfortunes are what the ports allow, told the
//! same way twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{Headers, Outgoing, Position, Timestamp, Topic, TopicPartition};
use ports::conformance::{archive, log, tables, unique};
use ports::memory::{Chaos, Faults, MemoryArchive, MemoryLog, MemoryReader, MemoryTables, SimClock};
use ports::{Archive, Clock, LogEvent, LogReader, LogScan, LogWriter, PortError, Published, Start};

const TOPIC: &str = "crypto-stream";

struct Memory(MemoryLog);

#[async_trait]
impl log::LogUnderTest for Memory {
    fn writer(&self) -> Arc<dyn LogWriter> {
        Arc::new(self.0.clone())
    }

    fn scan(&self) -> Arc<dyn LogScan> {
        Arc::new(self.0.clone())
    }

    async fn reader(&self, group: &str, topic: &Topic) -> Box<dyn LogReader> {
        Box::new(self.0.reader(group, std::slice::from_ref(topic)).expect("the topic exists"))
    }

    async fn topic(&self) -> Topic {
        let topic = Topic::from(unique("topic-"));
        self.0.create_topic(topic.clone(), 5);
        topic
    }

    fn supports_groups(&self) -> bool {
        true
    }

    async fn delete_before(&self, position: &Position) -> bool {
        self.0.delete_before(position);
        true
    }
}

fn clock() -> SimClock {
    SimClock::starting_at(Timestamp::from_millis(1_723_161_255_342))
}

fn memory_log(chaos: &Chaos) -> MemoryLog {
    let log = MemoryLog::new(chaos, Arc::new(clock()));
    log.create_topic(TOPIC, 3);
    log
}

fn record(partition: i32, value: impl Into<Bytes>) -> Outgoing {
    let to = TopicPartition::new(TOPIC, partition);
    Outgoing { to, key: None, value: Some(value.into()), headers: Headers::new() }
}

#[tokio::test(start_paused = true)]
async fn the_log_conforms() {
    log::suite(&Memory(memory_log(&Chaos::none()))).await;
}

#[tokio::test]
async fn the_log_conforms_in_real_time_and_with_delays() {
    let delays = Faults { delay: 0.2, delay_by: Duration::from_millis(1), ..Faults::none() };
    log::suite(&Memory(memory_log(&Chaos::new(7, delays)))).await;
}

#[tokio::test(start_paused = true)]
async fn the_tables_conform() {
    let memory = MemoryTables::new(&Chaos::none());
    tables::suite(&memory, &memory).await;
    assert_eq!(memory.conflicts(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_archive_conforms() {
    archive::suite(&MemoryArchive::new(&Chaos::none())).await;
}

#[tokio::test(start_paused = true)]
async fn the_clock_follows_tokio() {
    let clock = clock();
    let before = clock.now();
    tokio::time::advance(Duration::from_secs(90)).await;
    assert_eq!(clock.now().micros_since(before), 90_000_000);
}

#[tokio::test(start_paused = true)]
async fn answers_say_what_happened() {
    for (faults, expected) in [
        (Faults { fail: 1.0, ..Faults::none() }, 0),
        (Faults { lose_answer: 1.0, ..Faults::none() }, 100),
        (Faults { late: 1.0, late_by: Duration::from_secs(9), ..Faults::none() }, 0),
    ] {
        let chaos = Chaos::new(1, faults.clone());
        let log = memory_log(&chaos);
        let result = log.append((0..100).map(|n| record(0, format!("{n}"))).collect()).await;
        let matches = match result {
            Err(PortError::Unavailable { .. }) => faults.fail > 0.0,
            Err(PortError::Unknown { .. }) => faults.fail == 0.0,
            _ => false,
        };
        assert!(matches, "{faults:?}: {result:?}");
        assert_eq!(log.records(TOPIC).len(), expected, "{faults:?}");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(log.records(TOPIC).len(), if faults.fail > 0.0 { 0 } else { 100 }, "later: {faults:?}");
    }

    let chaos = Chaos::new(1, Faults { partial: 1.0, ..Faults::none() });
    let log = memory_log(&chaos);
    let result = log.append((0..100).map(|n| record(0, format!("{n}"))).collect()).await;
    assert!(matches!(result, Err(PortError::Unknown { .. })), "{result:?}");
    assert!((1..100).contains(&log.records(TOPIC).len()), "a part was appended");
    let archive = MemoryArchive::new(&chaos);
    let result = archive.write("_tmp/a", Bytes::from(vec![7; 1_000])).await;
    assert!(matches!(result, Err(PortError::Unknown { .. })), "{result:?}");
    assert!(archive.files()[0].1.len() < 1_000, "a part was written");
}

#[tokio::test(start_paused = true)]
async fn a_late_publication_arrives_when_nobody_waits_for_it() {
    let chaos = Chaos::none();
    let archive = MemoryArchive::new(&chaos);
    archive.write("_tmp/a", Bytes::from_static(b"late")).await.unwrap();
    archive.write("_tmp/b", Bytes::from_static(b"in time")).await.unwrap();
    chaos.set(Faults { late: 1.0, late_by: Duration::from_secs(9), ..Faults::none() });
    assert!(matches!(archive.publish("_tmp/a", "data/x").await, Err(PortError::Unknown { .. })));
    chaos.set(Faults::none());
    assert_eq!(archive.length("data/x").await.unwrap(), None);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(archive.publish("_tmp/b", "data/x").await.unwrap(), Published::Lost);
    assert_eq!(archive.read("data/x", 0, 9).await.unwrap(), "late");
}

/// Takes one event and answers it at once.
async fn obey(reader: &mut MemoryReader, sink: &mut BTreeMap<TopicPartition, Vec<i64>>) {
    match reader.next().await.expect("memory readers do not fail") {
        LogEvent::Assigned(assignment) => {
            let next = |at: &TopicPartition| sink.get(at).and_then(|offsets| offsets.last()).map_or(0, |last| last + 1);
            let start = |at: &TopicPartition| Start::At(Position { at: at.clone(), offset: next(at) });
            let starts = assignment.partitions().iter().map(start).collect();
            assignment.start(starts);
        }
        LogEvent::Records(records) => {
            records.into_iter().for_each(|record| sink.entry(record.at).or_default().push(record.offset));
        }
        LogEvent::Revoked(revocation) => revocation.done(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_does_not_let_go_becomes_a_zombie() {
    let log = memory_log(&Chaos::none());
    log.set_patience(Duration::from_secs(10));
    log.append((0..9).map(|n| record(n % 3, format!("{n}"))).collect()).await.unwrap();
    let topics = [Topic::from(TOPIC)];
    let (mut sink, mut other) = (BTreeMap::new(), BTreeMap::new());
    let mut zombie = log.reader("group", &topics).unwrap();
    obey(&mut zombie, &mut sink).await;
    obey(&mut zombie, &mut sink).await;
    assert_eq!(sink.values().map(Vec::len).sum::<usize>(), 9);

    let mut successor = log.reader("group", &topics).unwrap();
    let early = tokio::time::timeout(Duration::from_secs(9), successor.next()).await;
    assert!(early.is_err(), "the group waits for the zombie: {early:?}");
    for _ in 0..2 {
        obey(&mut successor, &mut other).await;
    }
    assert_eq!(other.len(), 3, "after ten seconds the successor has everything");

    let LogEvent::Revoked(lost) = zombie.next().await.unwrap() else { panic!("the zombie is told what it lost") };
    assert_eq!(lost.partitions().len(), 3);
    // It has joined again: the successor lets go, and both have some.
    obey(&mut successor, &mut other).await;
    let LogEvent::Assigned(assignment) = zombie.next().await.unwrap() else { panic!("the zombie is a member again") };
    assert!(assignment.partitions().len() < 3);
}

/// A story with all misfortunes: writers, readers that crash, and what comes of it.
async fn story(seed: u64) -> (u64, Vec<String>) {
    let chaos = Chaos::new(seed, Faults { rebalance: 0.1, ..Faults::some() });
    let log = memory_log(&chaos);
    log.set_patience(Duration::from_secs(3));
    let writer = log.clone();
    let writing = tokio::spawn(async move {
        for n in 0..60 {
            let _ = writer.append((0..10).map(|m| record(m % 3, format!("{n} {m}"))).collect()).await;
        }
    });
    let mut sink = BTreeMap::new();
    let topics = [Topic::from(TOPIC)];
    for _life in 0..4 {
        let mut readers = [log.reader("group", &topics).unwrap(), log.reader("group", &topics).unwrap()];
        for n in 0..80 {
            let step = obey(&mut readers[n % 2], &mut sink);
            let _ = tokio::time::timeout(Duration::from_millis(700), step).await;
        }
    }
    writing.await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    chaos.set(Faults::none());
    let mut reader = log.reader("group", &topics).unwrap();
    while sink.values().map(Vec::len).sum::<usize>() < log.records(TOPIC).len() {
        obey(&mut reader, &mut sink).await;
    }
    for (at, offsets) in sink {
        assert!(offsets.iter().copied().eq(0..offsets.len() as i64), "{at}: each offset once, in order");
    }
    (chaos.fingerprint(), chaos.trace())
}

#[test]
fn a_seed_is_one_story() {
    let tell = |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(story(seed))
    };
    let mut everything = String::new();
    for seed in 0..50 {
        let (one, two) = (tell(seed), tell(seed));
        let differs = one.1.iter().zip(&two.1).position(|(a, b)| a != b);
        assert_eq!(differs.map(|n| (&one.1[n], &two.1[n])), None, "seed {seed}");
        assert_eq!(one.0, two.0, "seed {seed}");
        everything.push_str(&one.1.join("\n"));
    }
    for misfortune in ["failed", "answer lost", "done in part", "late by", "done, late", "shaken", "expelled", "left"] {
        assert!(everything.contains(misfortune), "expected {misfortune:?} to happen in fifty stories");
    }
    assert_ne!(tell(1).0, tell(2).0, "another seed is another story");
}
