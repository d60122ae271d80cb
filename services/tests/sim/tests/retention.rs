//! The log deletes what its readers have not read yet: they say so, count it, and go on; the audit names the rest.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use archiver::{ArchiverConfig, ArchiverDeps};
use bytes::Bytes;
use domain::{Headers, Outgoing, Position, Topic, TopicPartition, Topics, topics};
use metrics_exporter_prometheus::PrometheusBuilder;
use ports::memory::{Chaos, MemoryArchive, MemoryLog, MemoryTables};
use ports::{LogWriter, SystemClock, TableQuery};
use processor::{ProcessorConfig, ProcessorPorts};
use tokio_util::sync::CancellationToken;

struct Stores {
    log: MemoryLog,
    tables: MemoryTables,
    archive: Arc<MemoryArchive>,
}

fn stores() -> Stores {
    let chaos = Chaos::none();
    let log = MemoryLog::new(&chaos, Arc::new(SystemClock));
    for topic in [topics::TRADES, topics::GAPS, topics::DEAD_LETTER] {
        log.create_topic(topic, 1);
    }
    Stores { log, tables: MemoryTables::new(&chaos), archive: Arc::new(MemoryArchive::new(&chaos)) }
}

fn at() -> TopicPartition {
    TopicPartition::new(topics::TRADES, 0)
}

impl Stores {
    async fn append(&self, ids: std::ops::RangeInclusive<u64>) {
        let trade = |id: u64| Outgoing {
            to: at(),
            key: Some(Bytes::from_static(b"BTCUSDT")),
            value: Some(Bytes::from(format!(
                r#"{{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":{id},"p":"1.5","q":"2","T":1723161255342,"m":true}}"#
            ))),
            headers: Headers::new(),
        };
        self.log.append(ids.map(trade).collect()).await.unwrap();
    }

    /// Runs both readers for a while, and stops them.
    async fn read(&self) {
        let stop = CancellationToken::new();
        let reader = |group: &str, topics: &[Topic]| Box::new(self.log.reader(group, topics).unwrap());
        let ports = ProcessorPorts {
            reader: reader(processor::ROLE, &[topics::TRADES.into(), topics::GAPS.into()]),
            writer: Arc::new(self.log.clone()),
            scan: Arc::new(self.log.clone()),
            tables: Arc::new(self.tables.clone()),
            query: Arc::new(self.tables.clone()),
            clock: Arc::new(SystemClock),
        };
        let deps = ArchiverDeps {
            reader: reader("archiver", &[topics::TRADES.into()]),
            archive: self.archive.clone(),
            clock: Arc::new(SystemClock),
            epoch: "test".to_owned(),
        };
        let stopping = stop.clone();
        let (processed, archived, ()) = tokio::join!(
            boxed(processor::run(ports, Topics::default(), ProcessorConfig::default(), stop.clone())),
            boxed(archiver::run(deps, archiver::Topics::default(), ArchiverConfig::default(), stop)),
            async move {
                tokio::time::sleep(Duration::from_secs(5)).await;
                stopping.cancel();
            }
        );
        processed.unwrap();
        archived.unwrap();
    }

    fn stored(&self) -> BTreeSet<u64> {
        self.tables.all_trades().into_iter().map(|row| row.trade.id).collect()
    }
}

fn boxed<T>(future: impl Future<Output = T>) -> std::pin::Pin<Box<impl Future<Output = T>>> {
    Box::pin(future)
}

#[tokio::test(start_paused = true)]
async fn what_was_deleted_unread_is_named_and_the_rest_goes_on() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let counted = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let stores = stores();
    stores.append(1..=40).await;
    stores.read().await;
    assert_eq!(stores.stored(), (1..=40).collect());
    stores.append(41..=80).await;
    stores.log.delete_before(&Position { at: at(), offset: 60 });
    stores.read().await;
    assert_eq!(stores.stored(), (1..=40).chain(61..=80).collect());
    let day = stores.tables.all_trades()[0].hour().day();
    let hours = stores.tables.completeness(&"BTCUSDT".parse().unwrap(), day).await.unwrap();
    let span = hours[0].trades.as_ref().map(|hour| (hour.first_id, hour.last_id, hour.missing));
    assert_eq!(span, Some((1, 80, 20)));
    let counted = counted.render();
    assert!(counted.lines().any(|line| line == "records_lost_total 20"), "{counted}");

    let ports = audit::AuditPorts {
        scan: Arc::new(stores.log.clone()),
        query: Arc::new(stores.tables.clone()),
        archive: stores.archive.clone(),
    };
    let topics = audit::Topics { stream: topics::TRADES.into(), role: processor::ROLE.to_owned() };
    let report = audit::audit(&ports, &topics, &audit::Scope::default(), &|_| {}).await.unwrap();
    let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    println!("{findings:#?}");
    assert!(!report.is_complete());
    assert!(findings.iter().any(|finding| finding.contains("41-60")), "{findings:#?}");
}
