//! The log's suite against real brokers: `FULLTAPE_TEST_KAFKA=127.0.0.1:19092,127.0.0.1:29092`.

// The servers under test are named in the environment.
#![allow(clippy::disallowed_methods)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use domain::{Headers, Outgoing, Position, Topic, TopicPartition};
use kafka::{
    GuardedWriter, KafkaConfig, KafkaLease, KafkaReader, KafkaScan, KafkaWriter, LeaseState, TopicSpec, create_topics,
};
use ports::conformance::{log, unique};
use ports::{LogEvent, LogReader, LogScan, LogWriter, PortError, Start};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

struct Brokers {
    config: KafkaConfig,
    writer: Arc<KafkaWriter>,
    scan: Arc<KafkaScan>,
}

impl Brokers {
    /// `None` if no brokers are named.
    fn named() -> Option<Self> {
        let Ok(brokers) = std::env::var("FULLTAPE_TEST_KAFKA") else {
            println!("skipped: FULLTAPE_TEST_KAFKA is not set");
            return None;
        };
        let config = KafkaConfig { brokers, ..KafkaConfig::default() };
        let writer = Arc::new(KafkaWriter::new(config.clone()).unwrap());
        let scan = Arc::new(KafkaScan::new(config.clone()).unwrap());
        Some(Self { config, writer, scan })
    }

    async fn create(&self, partitions: i32) -> Topic {
        let name = unique("conformance-");
        create_topics(&self.config, &[spec(&name, partitions)]).await.unwrap();
        name.into()
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.config.brokers).create().unwrap()
    }
}

fn spec(name: &str, partitions: i32) -> TopicSpec {
    TopicSpec { name: name.to_owned(), partitions, replication: 2, config: std::collections::BTreeMap::new() }
}

#[async_trait]
impl log::LogUnderTest for Brokers {
    fn writer(&self) -> Arc<dyn LogWriter> {
        Arc::clone(&self.writer) as Arc<dyn LogWriter>
    }

    fn scan(&self) -> Arc<dyn LogScan> {
        Arc::clone(&self.scan) as Arc<dyn LogScan>
    }

    async fn reader(&self, group: &str, topic: &Topic) -> Box<dyn LogReader> {
        Box::new(KafkaReader::new(self.config.clone(), group, &[topic]).unwrap())
    }

    async fn topic(&self) -> Topic {
        self.create(3).await
    }

    fn supports_groups(&self) -> bool {
        true
    }

    async fn delete_before(&self, position: &Position) -> bool {
        let mut list = TopicPartitionList::new();
        let at = &position.at;
        list.add_partition_offset(&at.topic, at.partition, Offset::Offset(position.offset)).unwrap();
        self.admin().delete_records(&list, &AdminOptions::new()).await.unwrap();
        true
    }
}

fn trade(topic: &Topic, partition: i32, n: usize) -> Outgoing {
    let value = format!(
        r#"{{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":{n},"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}"#
    );
    Outgoing {
        to: TopicPartition::new(topic.clone(), partition),
        key: Some(Bytes::from_static(b"BTCUSDT")),
        value: Some(Bytes::from(value)),
        headers: Headers::new().with("origin", "live").with("received_at", "1723161255343000").with("source", "x"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_is_a_log() {
    let Some(brokers) = Brokers::named() else { return };
    log::suite(&brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_once_and_differences_are_told() {
    let Some(brokers) = Brokers::named() else { return };
    let name = unique("conformance-");
    for _twice in 0..2 {
        create_topics(&brokers.config, &[spec(&name, 3)]).await.unwrap();
    }
    let error = create_topics(&brokers.config, &[spec(&name, 4)]).await.unwrap_err();
    assert!(error.to_string().contains("has 3 partitions, but 4"), "{error}");
    let mut wrong = spec(&unique("conformance-"), 1);
    wrong.config.insert("no.such.setting".to_owned(), "1".to_owned());
    let error = create_topics(&brokers.config, &[wrong]).await.unwrap_err();
    assert!(matches!(error, PortError::Refused { .. }), "{error}");
}

/// Writes, scans and reads many records, and says how fast.
#[tokio::test(flavor = "multi_thread")]
async fn four_hundred_thousand_records_go_there_and_back() {
    let Some(brokers) = Brokers::named() else { return };
    let topic = brokers.create(1).await;
    let (count, batch) = (400_000, 2_000);
    let started = Instant::now();
    let appends = (0..count / batch).map(|b| {
        let records = (0..batch).map(|n| trade(&topic, 0, b * batch + n)).collect();
        brokers.writer.append(records)
    });
    // Several on their way, as ingest has them.
    let mut positions = 0;
    let mut appends = futures::StreamExt::buffered(futures::stream::iter(appends), 4);
    while let Some(appended) = futures::StreamExt::next(&mut appends).await {
        positions += appended.unwrap().len();
    }
    assert_eq!(positions, count);
    let written = started.elapsed();

    let started = Instant::now();
    let end = i64::try_from(count).unwrap();
    let mut next = Position { at: TopicPartition::new(topic.clone(), 0), offset: 0 };
    while next.offset < end {
        let part = brokers.scan.read(&next, end).await.unwrap();
        assert_eq!(part[0].offset, next.offset);
        next.offset = part.last().unwrap().offset + 1;
    }
    let scanned = started.elapsed();

    let mut reader = KafkaReader::new(brokers.config.clone(), &unique("group-"), &[&topic]).unwrap();
    let (mut seen, mut started) = (0, Instant::now());
    while seen < count {
        match reader.next().await.unwrap() {
            LogEvent::Assigned(assignment) => {
                let places = assignment.partitions().iter().cloned().map(Start::Earliest).collect();
                started = Instant::now();
                assignment.start(places);
            }
            LogEvent::Records(records) => seen += records.len(),
            LogEvent::Revoked(revocation) => revocation.done(),
        }
    }
    let read = started.elapsed();
    let rate = |elapsed: Duration| count as f64 / elapsed.as_secs_f64();
    println!("{count}: append {:.0}/s, scan {:.0}/s, read {:.0}/s", rate(written), rate(scanned), rate(read));

    let mut delays = Vec::new();
    for n in 0..200 {
        let started = Instant::now();
        brokers.writer.append(vec![trade(&topic, 0, n)]).await.unwrap();
        let appended = started.elapsed();
        let event = reader.next().await.unwrap();
        assert!(matches!(event, LogEvent::Records(_)), "{event:?}");
        delays.push((started.elapsed(), appended));
    }
    delays.sort();
    println!("one record: appended and read in {:?} (median), {:?} (p99)", delays[100], delays[198]);
    let started = Instant::now();
    reader.close().await;
    println!("left the group in {:?}", started.elapsed());
}

/// A service that stands still is paused, not lost: it gets everything when it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_service_loses_nothing() {
    let Some(brokers) = Brokers::named() else { return };
    let topic = brokers.create(3).await;
    let config = KafkaConfig { reader_buffer_bytes: 200_000, ..brokers.config.clone() };
    let mut reader = KafkaReader::new(config, &unique("group-"), &[&topic]).unwrap();
    let LogEvent::Assigned(assignment) = reader.next().await.unwrap() else { panic!("assignment expected") };
    let places = assignment.partitions().iter().cloned().map(Start::Earliest).collect();
    assignment.start(places);
    let mut next = [0_i64; 3];
    let count = 30_000;
    for n in 0..count / 1_000 {
        let records = (0..1_000).map(|k| trade(&topic, k % 3, n)).collect();
        brokers.writer.append(records).await.unwrap();
    }
    let mut stops = 0;
    while next.iter().sum::<i64>() < i64::try_from(count).unwrap() - 10 {
        let LogEvent::Records(records) = reader.next().await.unwrap() else { panic!("records expected") };
        for record in records {
            let due = &mut next[usize::try_from(record.at.partition).unwrap()];
            assert_eq!(record.offset, *due, "every record once and in order");
            *due += 1;
        }
        if next.iter().sum::<i64>() > 8_000 * stops {
            stops += 1;
            tokio::time::sleep(Duration::from_millis(1_800)).await;
        }
    }
    assert!(stops >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_an_error_within_the_deadline() {
    let brokers = "127.0.0.1:1".to_owned();
    let config = KafkaConfig { brokers, request_timeout_ms: 300, delivery_timeout_ms: 500, ..KafkaConfig::default() };
    let started = Instant::now();
    let writer = KafkaWriter::new(config.clone()).unwrap();
    let error = writer.append(vec![trade(&"t".into(), 0, 1)]).await.unwrap_err();
    assert!(matches!(error, PortError::Unavailable { .. }), "{error}");
    let scan = KafkaScan::new(config.clone()).unwrap();
    assert!(matches!(scan.bounds("t").await, Err(PortError::Unavailable { .. })));
    drop((writer, scan));
    let reader = KafkaReader::new(config, "g", &["t"]).unwrap();
    reader.close().await;
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

/// After being told that records were deleted, the service may go on at the first there is.
#[tokio::test(flavor = "multi_thread")]
async fn reading_goes_on_after_a_truncation() {
    let Some(brokers) = Brokers::named() else { return };
    let topic = brokers.create(2).await;
    for partition in 0..2 {
        brokers.writer.append((0..20).map(|n| trade(&topic, partition, n)).collect()).await.unwrap();
    }
    let (cut, kept) = (TopicPartition::new(topic.clone(), 0), TopicPartition::new(topic.clone(), 1));
    let deleted = log::LogUnderTest::delete_before(&brokers, &Position { at: cut.clone(), offset: 10 }).await;
    assert!(deleted);
    let mut reader = KafkaReader::new(brokers.config.clone(), &unique("group-"), &[&topic]).unwrap();
    let LogEvent::Assigned(assignment) = reader.next().await.unwrap() else { panic!("assignment expected") };
    let start = |at: &TopicPartition| Start::At(Position { at: at.clone(), offset: 3 });
    assignment.start(vec![start(&cut), start(&kept)]);
    let (mut of_cut, mut of_kept, mut told) = (Vec::new(), Vec::new(), 0);
    while of_cut.len() + of_kept.len() < 10 + 17 {
        match reader.next().await {
            Ok(LogEvent::Records(records)) => {
                for record in records {
                    if record.at == cut { of_cut.push(record.offset) } else { of_kept.push(record.offset) }
                }
            }
            Err(PortError::Truncated { at, wanted: 3, first: 10 }) if at == cut => {
                told += 1;
                reader.seek(&Position { at, offset: 10 }).await.unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((of_cut, of_kept, told), ((10..20).collect(), (3..20).collect(), 1));
}

/// Leaving does not wait for answers that nobody will give.
#[tokio::test(flavor = "multi_thread")]
async fn leaves_with_answers_outstanding() {
    let Some(brokers) = Brokers::named() else { return };
    let (topic, group) = (brokers.create(2).await, unique("group-"));
    let join = || KafkaReader::new(brokers.config.clone(), &group, &[&topic]).unwrap();
    let mut first = join();
    let LogEvent::Assigned(unanswered) = first.next().await.unwrap() else { panic!("assignment expected") };
    let started = Instant::now();
    first.close().await;
    println!("left with an assignment unanswered in {:?}", started.elapsed());
    drop(unanswered);

    let mut first = join();
    let LogEvent::Assigned(assignment) = first.next().await.unwrap() else { panic!("assignment expected") };
    let places = assignment.partitions().iter().cloned().map(Start::Earliest).collect();
    assignment.start(places);
    let mut second = join();
    let LogEvent::Revoked(unanswered) = first.next().await.unwrap() else { panic!("revocation expected") };
    drop(first);
    let LogEvent::Assigned(all) = second.next().await.unwrap() else { panic!("assignment expected") };
    assert_eq!(all.partitions().len(), 2);
    println!("all partitions with the second member in {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
    drop(unanswered);
}

/// Whoever does not acknowledge a revocation in time loses the partitions all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_has_a_deadline() {
    let Some(brokers) = Brokers::named() else { return };
    let (topic, group) = (brokers.create(2).await, unique("group-"));
    let config = KafkaConfig { revocation_timeout_ms: 1_000, ..brokers.config.clone() };
    let mut first = KafkaReader::new(config.clone(), &group, &[&topic]).unwrap();
    let LogEvent::Assigned(assignment) = first.next().await.unwrap() else { panic!("assignment expected") };
    let places = assignment.partitions().iter().cloned().map(Start::Earliest).collect();
    assignment.start(places);
    let mut second = KafkaReader::new(config, &group, &[&topic]).unwrap();
    let LogEvent::Revoked(held) = first.next().await.unwrap() else { panic!("revocation expected") };
    let assigned = tokio::time::timeout(Duration::from_secs(9), second.next()).await;
    assert!(matches!(assigned, Ok(Ok(LogEvent::Assigned(_)))), "{assigned:?}");
    let again = tokio::time::timeout(Duration::from_secs(9), first.next()).await;
    assert!(matches!(again, Ok(Ok(LogEvent::Assigned(_)))), "{again:?}");
    held.done();
}

/// One of two has the lease; when it leaves, or loses it, the other gets it.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_held_by_one_and_passed_on() {
    let Some(brokers) = Brokers::named() else { return };
    let topic = brokers.create(1).await;
    let apply = || KafkaLease::apply(&brokers.config, &topic).unwrap();
    let within = |seconds| Duration::from_secs(seconds);
    let mut first = apply();
    tokio::time::timeout(within(20), first.held()).await.expect("nobody else applies");
    assert!(first.guard().is_held());
    let mut second = apply();
    tokio::time::sleep(within(8)).await;
    assert_eq!((first.guard().state(), second.guard().state()), (LeaseState::Held, LeaseState::StandingBy));
    assert!(first.guard().is_held() && !second.guard().is_held());

    let refused = GuardedWriter::new(brokers.writer.clone(), second.guard()).append(vec![trade(&topic, 0, 1)]).await;
    assert!(matches!(refused, Err(PortError::Refused { .. })), "{refused:?}");
    let taken = GuardedWriter::new(brokers.writer.clone(), first.guard()).append(vec![trade(&topic, 0, 1)]).await;
    assert!(taken.is_ok(), "{taken:?}");

    drop(first);
    tokio::time::timeout(within(10), second.held()).await.expect("the first has left");
    assert!(second.guard().is_held());
    let third = apply();
    tokio::time::sleep(within(8)).await;
    assert!(second.guard().is_held() && !third.guard().is_held());
}
