//! One simulated world: servers that stay, services that crash.

use std::sync::Arc;
use std::time::Duration;

use archiver::ArchiverDeps;
use bytes::Bytes;
use domain::{Headers, Outgoing, Symbol, Timestamp, TopicPartition, topics};
use ingest::{IngestConfig, IngestPorts};
use ports::memory::{Chaos, Faults, MemoryArchive, MemoryLog, MemoryTables, SimClock};
use ports::{Clock, LogWriter};
use processor::{ProcessorConfig, ProcessorPorts};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::damage::{self, Damage};
use crate::exchange::Exchange;
use crate::planted::{
    AutoCommitted, Bug, MistakenArchive, MistakenQuery, MistakenReader, MistakenScan, MistakenTables, MistakenWriter,
};
use crate::verdict;

/// Partitions of every topic.
const PARTITIONS: usize = 3;

/// 23:59:30, so that midnight falls into every story.
const BEGINNING: Timestamp = Timestamp::from_millis(1_723_161_570_000);

/// How long the exchange trades, in virtual time.
const TRADING: Duration = Duration::from_secs(60);

/// How long the services may take to settle everything when no more misfortune happens.
const SETTLING: Duration = Duration::from_secs(300);

/// What to simulate.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// A mistake to be found.
    pub bug: Option<Bug>,
    /// What is done to the stores in the end, to be found and mended.
    pub damage: Option<Damage>,
}

impl Plan {
    /// A story in which the services make no mistake.
    pub fn seed(seed: u64) -> Self {
        Self { seed, bug: None, damage: None }
    }
}

/// How a simulation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// A fingerprint of all that happened.
    pub fingerprint: u64,
    /// Everything that is not as it should be.
    pub violations: Vec<String>,
    /// Trades that were in the log in the end.
    pub trades: u64,
    /// Crashes of a service.
    pub crashes: u64,
    /// What happened, one line per operation; of a long story the end.
    pub trace: Vec<String>,
}

/// Runs one seed, on one thread, in virtual time.
pub fn run(plan: Plan) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O can be built").block_on(World::new(plan).story())
}

/// The servers and the exchange.
pub struct World {
    plan: Plan,
    chaos: Chaos,
    clock: Arc<dyn Clock>,
    /// What was issued.
    pub exchange: Exchange,
    /// The log.
    pub log: MemoryLog,
    /// The tables.
    pub tables: MemoryTables,
    /// The archive.
    pub archive: Arc<MemoryArchive>,
    rng: SmallRng,
    starts: u64,
    committed: AutoCommitted,
}

/// A service, and what must die with it.
struct Service {
    role: Role,
    stop: CancellationToken,
    task: JoinHandle<Result<(), String>>,
    side: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Ingest,
    Processor,
    Archiver,
}

const ROLES: [Role; 5] = [Role::Ingest, Role::Processor, Role::Processor, Role::Archiver, Role::Archiver];

impl World {
    fn new(plan: Plan) -> Self {
        // The runtime's clock is not entered yet, so the parts that read it are made in `story`.
        let mut rng = SmallRng::seed_from_u64(plan.seed);
        let symbols: Vec<Symbol> =
            ["BTCUSDT", "ETHUSDT", "TRXUSDT", "ADAUSDT"].iter().map(|name| name.parse().expect("a symbol")).collect();
        let exchange = Exchange::new(rng.random(), &symbols);
        let chaos = Chaos::none();
        let clock: Arc<dyn Clock> = Arc::new(SimClock::starting_at(BEGINNING));
        let log = MemoryLog::new(&chaos, clock.clone());
        let (tables, archive) = (MemoryTables::new(&chaos), Arc::new(MemoryArchive::new(&chaos)));
        Self { plan, chaos, clock, exchange, log, tables, archive, rng, starts: 0, committed: AutoCommitted::default() }
    }

    async fn story(mut self) -> Outcome {
        self.prepare();
        let mut services: Vec<Service> = ROLES.iter().map(|role| self.start(*role)).collect();
        let (exchange, clock) = (self.exchange.clone(), self.clock.clone());
        let trading = tokio::spawn(async move { exchange.trade_for(TRADING, clock).await });
        let mut crashes = 0;
        let mut failures = Vec::new();
        while !trading.is_finished() {
            let pause = self.rng.random_range(100..4_000);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            for _ in 0..self.rng.random_range(0..4) {
                self.litter().await;
            }
            let victim = self.rng.random_range(0..services.len());
            failures.extend(self.strike(&mut services[victim], &mut crashes).await);
        }
        self.chaos.note("no more misfortune");
        // But calls go on taking a while.
        let (delay, delay_by) = (Faults::some().delay, Duration::from_millis(300));
        self.chaos.set(Faults { delay, delay_by, ..Faults::none() });
        failures.extend(self.settle(&mut services).await);
        let mut violations = failures;
        violations.extend(verdict::judge(&self).await);
        if let Some(damage) = self.plan.damage {
            let mut rng = SmallRng::seed_from_u64(self.plan.seed);
            violations.extend(damage::inflict(&self, damage, &mut rng).await);
        }
        let trades = self.log.records(topics::TRADES).len() as u64;
        let (fingerprint, trace) = (self.chaos.fingerprint(), self.chaos.trace());
        Outcome { fingerprint, violations, trades, crashes, trace }
    }

    fn prepare(&mut self) {
        self.clock = Arc::new(SimClock::starting_at(BEGINNING));
        // Half of the stories have appends that land after everybody has given them up.
        let late = if self.appends_land_late() { 0.02 } else { 0.0 };
        self.chaos = Chaos::new(self.rng.random(), Faults { late, ..Faults::some() });
        self.log = MemoryLog::new(&self.chaos, self.clock.clone());
        // In a quarter of the stories nobody becomes a zombie.
        let patience = if self.plan.seed.is_multiple_of(4) { 3_600 } else { 3 };
        self.log.set_patience(Duration::from_secs(patience));
        for topic in [topics::TRADES, topics::GAPS, topics::DEAD_LETTER] {
            self.log.create_topic(topic, PARTITIONS);
        }
        self.tables = MemoryTables::new(&self.chaos);
        self.archive = Arc::new(MemoryArchive::new(&self.chaos));
    }

    /// Another producer appends what is no trade.
    async fn litter(&mut self) {
        let partition = i32::try_from(self.rng.random_range(0..PARTITIONS)).expect("a few");
        let to = TopicPartition::new(topics::TRADES, partition);
        let value = Some(Bytes::from(format!(r#"{{"e":"trade","t":{}}}"#, self.rng.random_range(0..1_000))));
        let litter = Outgoing { to, key: None, value, headers: Headers::new() };
        // Whether it arrives is its producer's concern.
        let _ = self.log.append(vec![litter]).await;
    }

    /// Whether the log may hold a trade twice in this story: a late append cannot be seen coming.
    pub fn appends_land_late(&self) -> bool {
        self.plan.seed % 2 == 1
    }

    /// A crash, or an orderly restart; now and then a crash that takes a while to be noticed.
    async fn strike(&mut self, service: &mut Service, crashes: &mut u64) -> Option<String> {
        let failure = if service.task.is_finished() {
            ended(service).await
        } else if self.rng.random_bool(0.8) {
            *crashes += 1;
            self.chaos.note(&format!("crash of {:?}", service.role));
            service.crash().await;
            None
        } else {
            self.chaos.note(&format!("restart of {:?}", service.role));
            service.stop.cancel();
            ended(service).await
        };
        let pause = self.rng.random_range(0..1_000);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        *service = self.start(service.role);
        failure
    }

    fn start(&mut self, role: Role) -> Service {
        self.starts += 1;
        let stop = CancellationToken::new();
        let (task, side) = match role {
            Role::Ingest => (self.ingest(stop.clone()), None),
            Role::Processor => self.processor(stop.clone()),
            Role::Archiver => (self.archiver(stop.clone()), None),
        };
        Service { role, stop, task, side }
    }

    fn ingest(&self, stop: CancellationToken) -> JoinHandle<Result<(), String>> {
        let watched = match self.plan.bug {
            Some(Bug::BelieveSilence) => Vec::new(),
            _ => self.exchange.issued().into_keys().collect(),
        };
        let ports = IngestPorts {
            feed: Box::new(self.exchange.connect(self.clock.clone())),
            history: Some(Arc::new(self.exchange.clone())),
            watched,
            unlisted: Vec::new(),
            writer: Arc::new(MistakenWriter { log: self.log.clone(), bug: self.plan.bug }),
            scan: Arc::new(MistakenScan { log: self.log.clone(), bug: self.plan.bug }),
            hidden_for: Duration::ZERO,
            clock: self.clock.clone(),
        };
        let config = IngestConfig {
            history_patience_ms: 60_000,
            silence_ms: 10_000,
            drain_ms: 3_000,
            mark_records: 150,
            ..IngestConfig::default()
        };
        tokio::spawn(async move {
            let ended = ingest::run(ports, domain::Topics::default(), config, stop).await;
            ended.map(drop).map_err(|error| format!("ingest: {error}"))
        })
    }

    fn processor(&self, stop: CancellationToken) -> (JoinHandle<Result<(), String>>, Option<JoinHandle<()>>) {
        let read = [topics::TRADES.into(), topics::GAPS.into()];
        let reader = self.log.reader(processor::ROLE, &read).expect("the topics exist");
        let (tables, storing) = MistakenTables::new(self.tables.clone(), self.plan.bug);
        let query = MistakenQuery { tables: self.tables.clone(), log: self.log.clone(), bug: self.plan.bug };
        let ports = ProcessorPorts {
            reader: Box::new(MistakenReader::new(reader, self.plan.bug, self.committed.clone())),
            writer: Arc::new(self.log.clone()),
            scan: Arc::new(self.log.clone()),
            tables: Arc::new(tables),
            query: Arc::new(query),
            clock: self.clock.clone(),
        };
        let config = ProcessorConfig {
            // In half of the stories a checkpoint is nearly always on its way.
            checkpoint_ms: if self.plan.seed % 4 < 2 { 20 } else { 2_000 },
            write_bytes: 1_100,
            writes_in_flight: 4,
            gather_records: 50,
            revoke_ms: 2_500,
            ..ProcessorConfig::default()
        };
        let task = tokio::spawn(async move {
            let ended = processor::run(ports, domain::Topics::default(), config, stop).await;
            ended.map_err(|error| format!("processor: {error}"))
        });
        (task, Some(tokio::spawn(storing)))
    }

    fn archiver(&self, stop: CancellationToken) -> JoinHandle<Result<(), String>> {
        let reader = self.log.reader("archiver", &[topics::TRADES.into()]).expect("the topic exists");
        let archive = Arc::new(MistakenArchive { archive: self.archive.clone(), bug: self.plan.bug });
        let (clock, epoch) = (self.clock.clone(), format!("run-{}", self.starts));
        let deps = ArchiverDeps { reader: Box::new(reader), archive, clock, epoch };
        let config = archiver::ArchiverConfig {
            roll_rows: 40,
            max_age_ms: 3_000,
            idle_ms: 1_000,
            revoke_ms: 2_500,
            ..archiver::ArchiverConfig::default()
        };
        tokio::spawn(async move {
            let ended = archiver::run(deps, archiver::Topics::default(), config, stop).await;
            ended.map_err(|error| format!("archiver: {error}"))
        })
    }

    /// Waits until everything that was issued is where it belongs, then stops the services.
    async fn settle(&mut self, services: &mut [Service]) -> Vec<String> {
        let mut failures = Vec::new();
        if self.appends_land_late() {
            // An announcement that lands after its writer's death is news to the next start only.
            tokio::time::sleep(Faults::some().late_by).await;
            for service in services.iter_mut().filter(|service| service.role == Role::Ingest) {
                service.stop.cancel();
                failures.extend(ended(service).await);
                *service = self.start(service.role);
            }
        }
        let end = tokio::time::Instant::now() + SETTLING;
        while tokio::time::Instant::now() < end && !verdict::is_settled(self).await {
            tokio::time::sleep(Duration::from_secs(5)).await;
            for service in services.iter_mut().filter(|service| service.task.is_finished()) {
                failures.extend(ended(service).await);
                *service = self.start(service.role);
            }
        }
        for service in services {
            service.stop.cancel();
            failures.extend(ended(service).await);
        }
        failures
    }
}

impl Service {
    async fn crash(&mut self) {
        if let Some(side) = &self.side {
            side.abort();
        }
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

async fn ended(service: &mut Service) -> Option<String> {
    match (&mut service.task).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error),
        Err(panic) => Some(format!("{:?} panicked: {panic}", service.role)),
    }
}
