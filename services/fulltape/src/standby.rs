//! Of several live ingests one works, by a lease in Kafka; the others stand by, and one of them takes over in seconds.
//!
//! What the exchange issues meanwhile is a gap like any other, so a takeover loses nothing. Recordings need no
//! lease: they end, and nobody takes over from them.

use std::sync::Arc;

use ingest::Summary;
use kafka::{GuardedWriter, KafkaLease, LeaseState};
use ports::persist;
use runtime::CancellationToken;

use crate::config::Config;
use crate::roles::{Admin, feed_is_ready, ingest_ports, run_ingest};
use crate::wire::Wire;

/// Whether this ingest has the lease.
const LEASE_HELD: &str = "ingest_lease_held";

/// Runs ingest whenever it is our turn, until `stop`.
///
/// # Errors
/// Whatever ends it.
pub async fn run(config: &Config, wire: &Wire, admin: &Admin, stop: &CancellationToken) -> anyhow::Result<Summary> {
    metrics::describe_gauge!(LEASE_HELD, metrics::Unit::Count, "whether this ingest works, 1, or stands by, 0");
    let (topic, scan) = (&config.log.lease, wire.scan()?);
    let partitions = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(Summary::default()),
        found = persist("lease topic", || scan.bounds(topic)) => found?.len(),
    };
    anyhow::ensure!(
        partitions == 1,
        "{topic}: expected 1 partition, found {partitions}: one ingest holds it, the others stand by"
    );
    loop {
        metrics::gauge!(LEASE_HELD).set(0.0);
        let mut lease = KafkaLease::apply(&config.log.kafka, topic)?;
        let (guard, has_connection) = (lease.guard(), feed_is_ready(admin, true));
        admin.ready.when(move || guard.state() == LeaseState::StandingBy || has_connection());
        tracing::info!(%topic, "applying for the lease");
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(Summary::default()),
            () = lease.held() => {}
        }
        if lease.guard().is_held() {
            metrics::gauge!(LEASE_HELD).set(1.0);
            tracing::info!(%topic, "the lease is ours");
        }
        let mut ports = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(Summary::default()),
            ports = ingest_ports(config, wire) => ports?,
        };
        ports.writer = Arc::new(GuardedWriter::new(ports.writer, lease.guard()));
        let done = tokio::select! {
            biased;
            () = lease.lost() => None,
            done = run_ingest(config, ports, stop.clone()) => Some(done),
        };
        match done {
            // An append without the lease is refused.
            Some(done) if done.is_ok() || lease.guard().is_held() => return done,
            _ => tracing::warn!(%topic, "the lease is lost, another ingest may have it"),
        }
    }
}
