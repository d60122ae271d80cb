//! The roles: each connects what it needs and runs its service.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use archiver::ArchiverDeps;
use audit::Verdict;
use binance::{BinanceConfig, LiveFeed, Pace, ReplayFeed, RestHistory};
use domain::{Symbol, lake};
use ingest::{IngestPorts, LakeFeed, Summary};
use kafka::KafkaConfig;
use local::LocalArchive;
use ports::{Feed, History, persist_for};
use processor::ProcessorPorts;
use runtime::admin::{self, Readiness};
use runtime::telemetry::Metrics;
use runtime::{CancellationToken, Supervisor};

use crate::cli;
use crate::config::{ArchiveKind, Config, LogKind, TablesKind};
use crate::progress::AuditLine;
use crate::sim::SIM;
use crate::sources::Source;
use crate::standby;
use crate::tables;
use crate::tape::{self, Exchange, Undecided};
use crate::wire::{self, Wire, clock};

/// The archiver's consumer group.
const ARCHIVER: &str = "archiver";

/// How long brokers gather records for the archiver: its files are seconds old anyway.
const ARCHIVER_FETCH_WAIT_MS: u64 = 1_000;

/// So much makes them answer it at once.
const ARCHIVER_FETCH_ENOUGH_BYTES: u32 = 262_144;

/// Why `--once` has not done what it was to do.
pub const INTERRUPTED: &str = "interrupted before the end of the source was stored";

/// How long Kafka may wait for a replica that lags behind, and shows no records meanwhile: twice the brokers'
/// `replica.lag.time.max.ms`.
const REPLICAS_LAG: Duration = Duration::from_secs(60);

/// How long a role may take to say how it is.
const HEALTH_DEADLINE: Duration = Duration::from_secs(4);

/// A role's metrics and health, served until it ends.
pub struct Admin {
    metrics: Metrics,
    /// Whether the role does its work.
    pub ready: Readiness,
}

impl Admin {
    /// Binds the admin endpoint and serves it as one of the supervised tasks.
    ///
    /// # Errors
    /// If the address is taken.
    pub async fn start(config: &Config, supervisor: &mut Supervisor) -> anyhow::Result<Self> {
        let metrics = Metrics::install().map_err(anyhow::Error::msg)?;
        let address = config.admin.listen.unwrap_or(([127, 0, 0, 1], 0).into());
        let listener = admin::bind(address).await.map_err(anyhow::Error::msg)?;
        let ready = Readiness::default();
        tokio::spawn(metrics.clone().keep_up());
        supervisor.spawn("admin", admin::serve(listener, metrics.clone(), ready.clone(), supervisor.stop()));
        Ok(Self { metrics, ready })
    }

    /// The process's metrics.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }
}

/// The role ingest.
///
/// # Errors
/// Whatever ends it.
pub async fn ingest(config: Config, once: bool, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let mut supervisor = Supervisor::new(stop);
    let admin = Admin::start(&config, &mut supervisor).await?;
    let wire = Wire::connect(&config)?;
    let stop = supervisor.stop();
    let is_live = !Source::parse(&config.source).map_err(anyhow::Error::msg)?.ends();
    tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(ExitCode::SUCCESS),
        checked = wire.check_topics() => checked?,
    }
    let summary = match config.log.kind {
        LogKind::Kafka if is_live => standby::run(&config, &wire, &admin, &stop).await?,
        _ => {
            let ports = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(ExitCode::SUCCESS),
                ports = ingest_ports(&config, &wire) => ports?,
            };
            admin.ready.when(feed_is_ready(&admin, is_live));
            run_ingest(&config, ports, stop.clone()).await?
        }
    };
    let was_interrupted = once && stop.is_cancelled();
    if !once && !stop.is_cancelled() {
        tracing::info!("the source is at its end, waiting to be stopped");
        stop.cancelled().await;
    }
    stop.cancel();
    supervisor.join().await?;
    if once {
        print!("{}", summary_of(&summary));
    }
    anyhow::ensure!(!was_interrupted, INTERRUPTED);
    Ok(ExitCode::SUCCESS)
}

/// A live feed without a connection collects nothing, however well it is.
pub fn feed_is_ready(admin: &Admin, is_live: bool) -> impl Fn() -> bool + Send + Sync + 'static {
    let metrics = admin.metrics();
    move || !is_live || metrics.sum(binance::telemetry::CONNECTIONS) > 0.0
}

/// The role processor.
///
/// # Errors
/// Whatever ends it.
pub async fn processor(config: Config, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let mut supervisor = Supervisor::new(stop);
    let admin = Admin::start(&config, &mut supervisor).await?;
    let wire = Wire::connect(&config)?;
    let ports = tokio::select! {
        biased;
        () = stopped(&supervisor) => return Ok(ExitCode::SUCCESS),
        ports = processor_ports(&config, &wire) => ports?,
    };
    admin.ready.now();
    let run = processor::run(ports, config.log.topics(), config.processor.clone(), supervisor.stop());
    supervise(supervisor, "processor", run).await
}

/// The role archiver.
///
/// # Errors
/// Whatever ends it.
pub async fn archiver(config: Config, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let mut supervisor = Supervisor::new(stop);
    let admin = Admin::start(&config, &mut supervisor).await?;
    let wire = Wire::connect(&config)?;
    let deps = tokio::select! {
        biased;
        () = stopped(&supervisor) => return Ok(ExitCode::SUCCESS),
        deps = archiver_deps(&config, &wire) => deps?,
    };
    admin.ready.now();
    let run = archiver::run(deps, config.log.archiver_topics(), config.archiver.clone(), supervisor.stop());
    supervise(supervisor, "archiver", run).await
}

/// The audit.
///
/// # Errors
/// If a store cannot be read.
pub async fn audit(config: Config, options: cli::Audit, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let auditing = async {
        let (topics, scope) = (config.log.audited(), options.scope());
        let repairer = if options.repair { Some(wire::Repairer::connect(&config).await?) } else { None };
        let ports = wire::audit_ports(&config).await?;
        if options.wait > 0 {
            audit::settled(&ports, &topics, Duration::from_secs(options.wait)).await?;
        }
        let line = AuditLine::new();
        let report = audit::audit(&ports, &topics, &scope, &|progress| line.show(progress)).await?;
        let compared = |symbol: &Symbol| report.hours.iter().any(|hour| hour.symbol == *symbol);
        if let Some(unknown) = scope.symbols.iter().find(|symbol| !compared(symbol)) {
            anyhow::bail!("--symbol {unknown}: the tape has no trades of it to compare in that time");
        }
        let Some(repairer) = repairer.filter(|_| !report.damage.is_empty()) else { return Ok((report, Vec::new())) };
        let now = wire::clock().now();
        let mended = audit::repair(&ports, repairer.tables.as_ref(), &topics, &report, now).await?;
        // All else was proved just now.
        let scope = audit::Scope { deep: false, ..scope };
        anyhow::Ok((audit::audit(&ports, &topics, &scope, &|progress| line.show(progress)).await?, mended))
    };
    let (report, mended) = tokio::select! {
        biased;
        () = stop.cancelled() => anyhow::bail!("interrupted"),
        outcome = auditing => outcome?,
    };
    let text = if options.json {
        format!("{}\n", serde_json::to_string_pretty(&tables::Json::new(&report, &mended))?)
    } else {
        format!("{}{}\n", tables::rendered(&report, &mended), wire::audited(&config))
    };
    // Whoever has read enough may close the pipe: the verdict is the exit status.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(match report.verdict() {
        Verdict::Complete => ExitCode::SUCCESS,
        Verdict::Different => ExitCode::FAILURE,
        Verdict::Nothing => ExitCode::from(2),
    })
}

/// Asks a running role whether it does its work.
///
/// # Errors
/// If nobody answers, or nobody knows where.
pub async fn health(config: &Config) -> anyhow::Result<ExitCode> {
    let address = config.admin.listen.context("admin.listen: expected the address of the role to ask, got none")?;
    let ready = admin::ask(address, HEALTH_DEADLINE).await.with_context(|| address.to_string())?;
    println!("{}", if ready { "ready" } else { "not ready" });
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Creates what the roles need in the outside world.
///
/// # Errors
/// If something cannot be created, or is there in another shape.
pub async fn init(config: Config, options: cli::Init) -> anyhow::Result<ExitCode> {
    let patience = Duration::from_secs(options.wait);
    if config.log.kind == LogKind::Kafka {
        let topics = config.log.specs();
        persist_for(patience, "create topics", || kafka::create_topics(&config.log.kafka, &topics)).await?;
        tracing::info!(topics = topics.len(), "topics are there");
    }
    if config.tables.kind == TablesKind::Cassandra
        && let Some(folder) = &options.schema
    {
        let texts = schema_in(folder)?;
        let apply = || cassandra::apply_schema(&config.tables.cassandra, &texts);
        persist_for(patience, "create tables", apply).await?;
        tracing::info!(files = texts.len(), "tables are there");
    }
    if config.archive.kind == ArchiveKind::Hdfs {
        let folders = [lake::TRADES.to_owned(), lake::raw_dataset(&config.log.stream)];
        persist_for(patience, "create folders", || hdfs::create_folders(&config.archive.hdfs, &folders)).await?;
        tracing::info!(folders = folders.len(), "folders are there");
    }
    Ok(ExitCode::SUCCESS)
}

fn schema_in(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("schema folder {}", folder.display()))?;
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "cql"));
    files.sort();
    anyhow::ensure!(!files.is_empty(), "schema folder {}: expected numbered .cql files, found none", folder.display());
    files.iter().map(|path| std::fs::read_to_string(path).with_context(|| path.display().to_string())).collect()
}

/// Runs ingest over connected ports.
///
/// # Errors
/// Whatever ends it.
pub async fn run_ingest(config: &Config, ports: IngestPorts, stop: CancellationToken) -> anyhow::Result<Summary> {
    Ok(ingest::run(ports, config.log.topics(), config.ingest.clone(), stop).await?)
}

/// Connects what ingest needs.
///
/// # Errors
/// If the source or the log cannot be used.
pub async fn ingest_ports(config: &Config, wire: &Wire) -> anyhow::Result<IngestPorts> {
    ingest_ports_of(origin(config).await?, config, wire)
}

/// Connects what ingest needs beside its source.
///
/// # Errors
/// If the log cannot be used.
pub fn ingest_ports_of(origin: Origin, config: &Config, wire: &Wire) -> anyhow::Result<IngestPorts> {
    let Origin { feed, history, unlisted } = origin;
    let mut watched = config.live().symbols;
    watched.retain(|symbol| !unlisted.contains(symbol));
    let hidden_for = match config.log.kind {
        LogKind::Local => Duration::ZERO,
        LogKind::Kafka => REPLICAS_LAG,
    };
    let (writer, scan) = (wire.writer()?, wire.scan()?);
    Ok(IngestPorts { feed, history, watched, unlisted, writer, scan, hidden_for, clock: clock() })
}

/// A feed, and what is known about its exchange.
pub struct Origin {
    feed: Box<dyn Feed>,
    history: Option<Arc<dyn History>>,
    unlisted: Vec<Symbol>,
}

impl Origin {
    /// A feed that nobody can be asked about.
    fn recorded(feed: impl Feed + 'static) -> Self {
        Self { feed: Box::new(feed), history: None, unlisted: Vec::new() }
    }
}

/// Opens the source.
///
/// # Errors
/// If it cannot be used.
pub async fn origin(config: &Config) -> anyhow::Result<Origin> {
    match Source::parse(&config.source).map_err(anyhow::Error::msg)? {
        Source::Replay(files) => {
            let pace: Pace = config.source.pace.parse()?;
            Ok(Origin::recorded(ReplayFeed::open(files, pace)?))
        }
        Source::Lake(folder) => {
            let archive = Arc::new(LocalArchive::open(folder));
            Ok(Origin::recorded(LakeFeed::open(archive, &config.log.stream).await?))
        }
        Source::Binance | Source::Sim => live(config.live(), |feed| Box::new(feed)).await,
        Source::Tape(folder) => {
            let decided = tape::decided(&folder)?;
            let binance = exchange(decided.as_ref(), config)?;
            live(binance, |feed| match decided {
                Some(_) => Box::new(feed),
                None => Box::new(Undecided::new(feed, folder)),
            })
            .await
        }
    }
}

async fn live(binance: BinanceConfig, boxed: impl FnOnce(LiveFeed) -> Box<dyn Feed>) -> anyhow::Result<Origin> {
    let history = RestHistory::new(&binance, clock())?;
    let unlisted = history.unlisted(&binance.symbols).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the exchange cannot be reached yet, trying on");
        Vec::new()
    });
    let feed = boxed(LiveFeed::new(binance, clock())?);
    Ok(Origin { feed, history: Some(Arc::new(history)), unlisted })
}

/// How to reach the exchange that a tape is of.
fn exchange(decided: Option<&Exchange>, config: &Config) -> anyhow::Result<BinanceConfig> {
    let Some(Exchange::Simulated { address, .. }) = decided else { return Ok(config.live()) };
    let address = address.as_ref().context("exchange.json: expected the address of the simulator")?;
    tracing::warn!(address, "this tape is of a simulated exchange, and stays so");
    Ok(BinanceConfig {
        ws_url: format!("ws://{address}"),
        rest_url: format!("http://{address}"),
        source: SIM.to_owned(),
        ..config.live()
    })
}

/// Connects what the processor needs.
///
/// # Errors
/// If the log or the tables cannot be used.
pub async fn processor_ports(config: &Config, wire: &Wire) -> anyhow::Result<ProcessorPorts> {
    wire.check_topics().await?;
    let (tables, query) = wire.tables().await?;
    let KafkaConfig { fetch_wait_ms, fetch_enough_bytes, .. } = config.log.kafka;
    let topics = [&config.log.stream, &config.log.gaps];
    let reader = wire.reader(processor::ROLE, &topics, fetch_wait_ms, fetch_enough_bytes)?;
    Ok(ProcessorPorts { reader, writer: wire.writer()?, scan: wire.scan()?, tables, query, clock: clock() })
}

/// Connects what the archiver needs.
///
/// # Errors
/// If the log or the archive cannot be used.
pub async fn archiver_deps(config: &Config, wire: &Wire) -> anyhow::Result<ArchiverDeps> {
    wire.check_topics().await?;
    let wait = config.log.kafka.fetch_wait_ms.max(ARCHIVER_FETCH_WAIT_MS);
    let enough = config.log.kafka.fetch_enough_bytes.max(ARCHIVER_FETCH_ENOUGH_BYTES);
    let reader = wire.reader(ARCHIVER, &[&config.log.stream], wait, enough)?;
    Ok(ArchiverDeps { reader, archive: wire.archive()?, clock: clock(), epoch: epoch() })
}

/// Names this process, unlike any before it.
fn epoch() -> String {
    format!("{}-{}", clock().now().micros(), std::process::id())
}

async fn supervise<E: std::fmt::Display + Send + 'static>(
    mut supervisor: Supervisor,
    name: &'static str,
    run: impl Future<Output = Result<(), E>> + Send + 'static,
) -> anyhow::Result<ExitCode> {
    supervisor.spawn(name, run);
    supervisor.join().await?;
    tracing::info!(role = name, "stopped");
    Ok(ExitCode::SUCCESS)
}

async fn stopped(supervisor: &Supervisor) {
    supervisor.stop().cancelled().await;
}

/// What an ended ingest did, for people.
pub fn summary_of(summary: &Summary) -> String {
    let Summary { published, duplicates, missing, dead } = summary;
    let [published, duplicates, missing, dead] = [*published, *duplicates, *missing, *dead].map(tables::grouped);
    format!(
        "{published} trades published, {missing} missing, {duplicates} duplicates dropped, {dead} inputs unusable\n"
    )
}
