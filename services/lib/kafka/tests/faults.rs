//! Faults, injected by librdkafka's own mock brokers: no server is needed.

use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::{Headers, Outgoing, Position, TopicPartition};
use kafka::{KafkaConfig, KafkaScan, KafkaWriter};
use ports::{LogScan, LogWriter, PortError};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

type Mock = MockCluster<'static, DefaultProducerContext>;

const TOPIC: &str = "t";

fn mock() -> (Mock, KafkaConfig) {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic(TOPIC, 2, 1).unwrap();
    let brokers = mock.bootstrap_servers();
    (mock, KafkaConfig { brokers, delivery_timeout_ms: 5_000, ..KafkaConfig::default() })
}

fn record(partition: i32, value: &str) -> Outgoing {
    Outgoing {
        to: TopicPartition::new(TOPIC, partition),
        key: None,
        value: Some(Bytes::from(value.to_owned())),
        headers: Headers::new(),
    }
}

fn run(count: usize) -> Vec<Outgoing> {
    (0..count).map(|n| record(0, &n.to_string())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mock_takes_records() {
    let (_mock, config) = mock();
    let writer = KafkaWriter::new(config.clone()).unwrap();
    let positions = writer.append(run(3)).await.unwrap();
    assert_eq!(positions.iter().map(|position| position.offset).collect::<Vec<_>>(), [0, 1, 2]);
    let from = Position { at: TopicPartition::new(TOPIC, 0), offset: 1 };
    let read = KafkaScan::new(config).unwrap().read(&from, 3).await.unwrap();
    assert_eq!(read.len(), 2);
}

/// What cannot be mended in the idempotent protocol is fatal to the client, not to us.
#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_error_is_unknown_and_the_writer_goes_on() {
    let (mock, config) = mock();
    let writer = KafkaWriter::new(config).unwrap();
    writer.append(run(1)).await.unwrap();
    let fatal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    mock.request_errors(RDKafkaApiKey::Produce, &[fatal; 3]);
    let error = writer.append(run(5)).await.unwrap_err();
    assert!(matches!(error, PortError::Unknown { .. }), "{error}");
    println!("{error}");
    mock.clear_request_errors(RDKafkaApiKey::Produce);
    let positions = writer.append(run(2)).await.unwrap();
    assert_eq!(positions.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passing_error_is_mended_by_the_client() {
    let (mock, config) = mock();
    let writer = KafkaWriter::new(config).unwrap();
    let passing = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS;
    mock.request_errors(RDKafkaApiKey::Produce, &[passing; 2]);
    let positions = writer.append(run(4)).await.unwrap();
    assert_eq!(positions.iter().map(|position| position.offset).collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_makes_the_outcome_unknown_within_the_deadline() {
    let (mock, config) = mock();
    let writer = KafkaWriter::new(config).unwrap();
    writer.append(run(1)).await.unwrap();
    mock.broker_down(1).unwrap();
    let started = Instant::now();
    let error = writer.append(run(3)).await.unwrap_err();
    assert!(matches!(error, PortError::Unknown { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    mock.broker_up(1).unwrap();
    // The failure made the writer look at the topic again, so it may first say that nobody answers.
    let give_up = Instant::now() + Duration::from_secs(20);
    while let Err(error) = writer.append(run(1)).await {
        assert!(error.is_retriable() && Instant::now() < give_up, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_buffer_makes_an_append_wait() {
    let (_mock, config) = mock();
    let config = KafkaConfig { producer_buffer_kib: 64, max_record_bytes: 20_000, ..config };
    let writer = KafkaWriter::new(config).unwrap();
    let large = "x".repeat(5_000);
    let records: Vec<Outgoing> = (0..400).map(|n| record(n % 2, &large)).collect();
    let started = Instant::now();
    let both = tokio::join!(writer.append(records.clone()), writer.append(records));
    for positions in [both.0.unwrap(), both.1.unwrap()] {
        for partition in 0..2 {
            let of: Vec<i64> = positions.iter().filter(|p| p.at.partition == partition).map(|p| p.offset).collect();
            assert!(of.is_sorted() && of.len() == 200, "{of:?}");
        }
    }
    println!("4 MB through a buffer of 64 KiB in {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_by_the_broker_is_a_refusal() {
    let (mock, config) = mock();
    let writer = KafkaWriter::new(config).unwrap();
    mock.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    let error = writer.append(run(1)).await.unwrap_err();
    assert!(matches!(error, PortError::Refused { .. }), "{error} {:?}", RDKafkaErrorCode::TopicAuthorizationFailed);
    writer.append(run(1)).await.unwrap();
}
