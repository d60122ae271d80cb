//! Everything in one process. The roles still talk through the log: a trade takes the same road as
//! in a cluster.

use std::process::ExitCode;
use std::time::Duration;

use audit::AuditPorts;
use ingest::Summary;
use ports::persist;
use runtime::{CancellationToken, Supervisor};

use crate::config::{Config, LogKind};
use crate::roles::{self, Admin};
use crate::sources::Source;
use crate::wire::Wire;
use crate::{progress, sim, tables};

/// How soon the end of a replay is archived when somebody waits for it.
const IDLE_WHEN_ONCE_MS: u64 = 200;

/// Runs all roles until `stop`, or with `once` until a replay is stored and archived.
///
/// # Errors
/// Whatever ends a role.
pub async fn run(mut config: Config, once: bool, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    // Only the role ingest shares a log with others of its kind.
    anyhow::ensure!(config.log.kind == LogKind::Local, "log.kind: `up` has a log of its own, the roles use Kafka");
    if once {
        config.archiver.idle_ms = IDLE_WHEN_ONCE_MS;
    }
    let source = Source::parse(&config.source).map_err(anyhow::Error::msg)?;
    let mut supervisor = Supervisor::new(stop);
    let admin = Admin::start(&config, &mut supervisor).await?;
    // Before there is a folder: an empty one would look like a tape.
    let recorded = if source.ends() { Some(roles::origin(&config).await?) } else { None };
    let wire = Wire::connect(&config)?;
    if source == Source::Sim {
        sim::start_beside(&mut config, &mut supervisor).await?;
    } else {
        sim::refuse_others(&config.data)?;
    }
    let outside = AuditPorts { scan: wire.scan()?, query: wire.tables().await?.1, archive: wire.archive()? };
    let stop = supervisor.stop();
    let opened = async {
        match recorded {
            Some(origin) => Ok(origin),
            None => roles::origin(&config).await,
        }
    };
    let origin = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(ExitCode::SUCCESS),
        origin = opened => origin?,
    };
    let ingest_ports = roles::ingest_ports_of(origin, &config, &wire)?;
    let processor_ports = roles::processor_ports(&config, &wire).await?;
    let archiver_deps = roles::archiver_deps(&config, &wire).await?;
    let processor = processor::run(processor_ports, config.log.topics(), config.processor.clone(), stop.clone());
    supervisor.spawn("processor", processor);
    let archiver = archiver::run(archiver_deps, config.log.archiver_topics(), config.archiver.clone(), stop.clone());
    supervisor.spawn("archiver", archiver);
    tokio::spawn(progress::show(admin.metrics(), stop.clone()));
    admin.ready.now();
    let data = config.data.clone();
    let (report, reported) = tokio::sync::oneshot::channel();
    supervisor.spawn("ingest", async move {
        let summary = roles::run_ingest(&config, ingest_ports, stop.clone()).await?;
        let is_done = once && drained(&outside, &config, &stop).await?;
        if is_done {
            stop.cancel();
        }
        // Nobody waits for the summary of a run that fails elsewhere.
        let _ = report.send((summary, is_done));
        anyhow::Ok(())
    });
    supervisor.join().await?;
    if once && let Ok((summary, is_done)) = reported.await {
        print!("{}", summary_of(&summary, &admin));
        anyhow::ensure!(is_done, roles::INTERRUPTED);
    }
    tracing::info!(data = %data.display(), "stopped");
    Ok(ExitCode::SUCCESS)
}

/// Waits until the tables and the archive have all that the log has; false if `stop` came first.
async fn drained(outside: &AuditPorts, config: &Config, stop: &CancellationToken) -> anyhow::Result<bool> {
    let topics = config.log.audited();
    while !stop.is_cancelled() {
        let lags = audit::lag(outside.scan.as_ref(), outside.query.as_ref(), outside.archive.as_ref(), &topics).await?;
        if let Some(finding) = lags.iter().flat_map(audit::Lag::ahead).next() {
            anyhow::bail!("{finding}");
        }
        let pending: u64 = lags.iter().map(audit::Lag::pending).sum();
        if pending == 0 && gaps_are_stored(outside, config).await? {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(false)
}

async fn gaps_are_stored(outside: &AuditPorts, config: &Config) -> anyhow::Result<bool> {
    for bounds in persist("gaps bounds", || outside.scan.bounds(&config.log.gaps)).await? {
        let load = || outside.query.load_checkpoint(processor::ROLE, &bounds.at);
        let checkpoint = persist("load checkpoint", load).await?;
        if checkpoint.map_or(0, |checkpoint| checkpoint.next.offset) < bounds.end {
            return Ok(false);
        }
    }
    Ok(true)
}

fn summary_of(summary: &Summary, admin: &Admin) -> String {
    let metrics = admin.metrics();
    let figure = |name| tables::grouped(metrics.sum(name).max(0.0) as u64);
    format!(
        "{} trades, {} missing, {} duplicates dropped, {} inputs unusable\nstored {}, archived {}\n",
        tables::grouped(summary.published),
        tables::grouped(summary.missing),
        tables::grouped(summary.duplicates),
        tables::grouped(summary.dead),
        figure(processor::metrics::TRADES_STORED),
        figure(archiver::TRADES_ARCHIVED),
    )
}
