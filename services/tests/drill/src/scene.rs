//! The stage: a simulated exchange and the three roles on the real servers.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::{Process, checkout, free_address, get, post, wait_for};

use crate::network::clear_away;
use crate::proxy::{Network, Proxy};

/// The NameNode's port for clients.
const NAME_NODE: u16 = 8020;

/// What `scripts/cluster` runs.
const SERVERS: [&str; 8] =
    ["controller", "kafka-1", "kafka-2", "namenode", "datanode-1", "datanode-2", "cassandra-1", "cassandra-2"];

const PROMPTLY: Duration = Duration::from_secs(20);

/// How long a tape may take to be complete after a fault.
pub const PATIENCE: Duration = Duration::from_secs(420);

/// What is traded.
pub const SYMBOLS: [&str; 3] = ["BTCUSDT", "ETHUSDT", "SOLUSDT"];

/// The exchange of a scene.
#[derive(Clone, Debug)]
pub struct Market {
    /// Trades a second.
    pub rate: u64,
    /// How many trades it issues; if not given, as long as it runs.
    pub trades: Option<u64>,
    /// What goes wrong with its stream by itself, as settings.
    pub faults: &'static str,
}

impl Default for Market {
    fn default() -> Self {
        Self { rate: 1_000, trades: None, faults: "" }
    }
}

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Feed to log.
    Ingest,
    /// Log to tables.
    Processor,
    /// Log to archive.
    Archiver,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ingest, Self::Processor, Self::Archiver];

    /// Its subcommand.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Processor => "processor",
            Self::Archiver => "archiver",
        }
    }

    /// The metric that counts the trades it has done.
    fn counter(self) -> &'static str {
        match self {
            Self::Ingest => "trades_published_total",
            Self::Processor => "trades_stored_total",
            Self::Archiver => "trades_archived_total",
        }
    }
}

/// Everything that runs.
pub struct Scene {
    folder: tempfile::TempDir,
    market: Market,
    exchange: SocketAddr,
    sim: Option<Process>,
    /// Instances of roles, the first of each always there.
    roles: BTreeMap<(Role, usize), Instance>,
    /// Roles that ended without being asked to.
    ended: Vec<String>,
    /// Between the archiver and the NameNode.
    pub name_node: Proxy,
    /// Whether faults last as long as the matrix says.
    pub long: bool,
}

struct Instance {
    process: Process,
    admin: SocketAddr,
}

impl Scene {
    /// Starts the exchange and one instance of each role.
    ///
    /// # Errors
    /// If something does not start.
    pub fn open(market: Market, long: bool) -> anyhow::Result<Self> {
        clear_away();
        let mut folder = tempfile::tempdir()?;
        // A drill that fails, however it does, leaves what the roles said.
        folder.disable_cleanup(true);
        let (exchange, roles) = (free_address(), BTreeMap::new());
        let name_node = Proxy::before(SocketAddr::from((Ipv4Addr::LOCALHOST, NAME_NODE)))?;
        let mut scene = Self { folder, market, exchange, sim: None, roles, ended: Vec::new(), name_node, long };
        let config = scene.config("sim", None)?;
        scene.sim = Some(Process::start(&["sim", "--config", &config], &scene.folder.path().join("sim.log")));
        ensure!(wait_for(PROMPTLY, || get(exchange, "/api/v3/time").is_ok()), "the simulator does not answer");
        for role in Role::ALL {
            scene.start(role, 0)?;
        }
        Ok(scene)
    }

    fn config(&self, name: &str, admin: Option<SocketAddr>) -> anyhow::Result<String> {
        let (exchange, Market { rate, trades, faults }) = (self.exchange, &self.market);
        let limit = trades.map(|trades| format!("limit = {trades}\n")).unwrap_or_default();
        let servers = std::fs::read_to_string(checkout().join("scripts/cluster.d/fulltape.toml"))?;
        let direct = format!("hdfs://127.0.0.1:{NAME_NODE}");
        ensure!(servers.contains(&direct), "scripts/cluster.d/fulltape.toml: expected {direct}");
        let servers = servers.replace(&direct, &format!("hdfs://{}", self.name_node.address()));
        let admin = admin.map(|admin| format!("[admin]\nlisten = \"{admin}\"\n")).unwrap_or_default();
        let text = format!(
            "{servers}\n[source]\nfrom = [\"binance\"]\nsymbols = {SYMBOLS:?}\n\
             [binance]\nws_url = \"ws://{exchange}\"\nrest_url = \"http://{exchange}\"\n\
             [sim]\nlisten = \"{exchange}\"\nrate = {rate}\n{limit}weight_per_minute = 60000\n{faults}\
             [archiver]\nmax_age_ms = 1000\nidle_ms = 500\n{admin}"
        );
        let path = self.folder.path().join(format!("{name}.toml"));
        std::fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// Starts an instance of a role.
    ///
    /// # Errors
    /// If its settings cannot be written.
    pub fn start(&mut self, role: Role, nth: usize) -> anyhow::Result<()> {
        self.start_in(&[], role, nth)
    }

    /// Starts an instance of a role with more in its environment.
    ///
    /// # Errors
    /// If its settings cannot be written.
    pub fn start_in(&mut self, environment: &[(&str, &str)], role: Role, nth: usize) -> anyhow::Result<()> {
        let (admin, name) = (free_address(), format!("{}-{nth}", role.name()));
        let config = self.config(&name, Some(admin))?;
        let log = self.folder.path().join(format!("{name}.log"));
        let process = Process::start_in(environment, &[role.name(), "--config", &config], &log);
        self.roles.insert((role, nth), Instance { process, admin });
        Ok(())
    }

    /// `kill -9` of an instance.
    ///
    /// # Errors
    /// If it is not there.
    pub fn kill(&mut self, role: Role, nth: usize) -> anyhow::Result<()> {
        let mut instance = self.roles.remove(&(role, nth)).context("no such instance")?;
        if instance.process.is_running() {
            instance.process.kill();
        } else {
            self.ended.push(role.name().to_owned());
        }
        Ok(())
    }

    /// Asks an instance to stop, and waits for it.
    ///
    /// # Errors
    /// If it does not, or with another status than 0.
    pub fn stop(&mut self, role: Role, nth: usize) -> anyhow::Result<()> {
        let mut instance = self.roles.remove(&(role, nth)).context("no such instance")?;
        ensure!(instance.process.is_running(), "{} ended by itself", role.name());
        let status = instance.process.signal("TERM", Duration::from_secs(10));
        ensure!(status.and_then(|status| status.code()) == Some(0), "{} ended with {status:?}", role.name());
        Ok(())
    }

    /// Sends a signal that does not end an instance.
    ///
    /// # Errors
    /// If it is not there.
    pub fn signal(&self, role: Role, nth: usize, signal: &str) -> anyhow::Result<()> {
        self.roles.get(&(role, nth)).context("no such instance")?.process.send(signal);
        Ok(())
    }

    /// Kills an instance, starts it again, and waits until it has done a trade.
    ///
    /// # Errors
    /// If it does none.
    pub fn kill_and_recover(&mut self, role: Role) -> anyhow::Result<Duration> {
        self.kill(role, 0)?;
        let started = Instant::now();
        self.start(role, 0)?;
        self.until_works(role, 0)?;
        Ok(started.elapsed())
    }

    /// Waits until an instance has done a trade.
    ///
    /// # Errors
    /// If it does none.
    pub fn until_works(&mut self, role: Role, nth: usize) -> anyhow::Result<Duration> {
        let started = Instant::now();
        ensure!(wait_for(PATIENCE, || self.works(role, nth)), "{} does nothing", role.name());
        Ok(started.elapsed())
    }

    /// Whether an instance has done a trade.
    pub fn works(&self, role: Role, nth: usize) -> bool {
        self.done(role, nth).is_ok_and(|trades| trades > 0)
    }

    /// How many trades an instance has done.
    ///
    /// # Errors
    /// If it does not say.
    pub fn done(&self, role: Role, nth: usize) -> anyhow::Result<u64> {
        let instance = self.roles.get(&(role, nth)).context("no such instance")?;
        Ok(counted(&get(instance.admin, "/metrics")?, role.counter()) as u64)
    }

    /// The roles that ended without being asked to, since the last time.
    pub fn ended(&mut self) -> Vec<String> {
        std::mem::take(&mut self.ended)
    }

    /// The process id of an instance.
    ///
    /// # Errors
    /// If it is not there.
    pub fn id(&self, role: Role, nth: usize) -> anyhow::Result<u32> {
        Ok(self.roles.get(&(role, nth)).context("no such instance")?.process.id())
    }

    /// Runs `scripts/cluster`; returns what it printed.
    ///
    /// # Errors
    /// If it fails.
    pub fn cluster(&self, arguments: &[&str]) -> anyhow::Result<String> {
        e2e::cluster::tool(arguments).map_err(anyhow::Error::msg)
    }

    /// Where the servers have their data.
    pub fn cluster_folder(&self) -> PathBuf {
        e2e::setting("FULLTAPE_CLUSTER_DIR").map_or_else(|| checkout().join("data/cluster"), PathBuf::from)
    }

    /// Undoes whatever a fault may have left behind.
    pub fn heal(&mut self) {
        self.name_node.set(Network::Works);
        clear_away();
        // Each has its reason to fail: most servers run, and were not in safe mode or out of room.
        for server in SERVERS {
            let _ = self.cluster(&["kill", server, "CONT"]).or_else(|_| self.cluster(&["start", server]));
        }
        let _ = self.cluster(&["hdfs", "dfsadmin", "-safemode", "leave"]);
        let _ = self.cluster(&["hdfs", "dfsadmin", "-clrSpaceQuota", "/crypto_data"]);
        // Whatever state they are in: fresh ones take their place.
        self.roles.clear();
    }

    /// Has the exchange do something wrong.
    ///
    /// # Errors
    /// If it refuses.
    pub fn exchange_fault(&self, json: &str) -> anyhow::Result<()> {
        let told = || self.exchange_faults().map(|faults| faults.values().sum::<u64>());
        let before = told()?;
        // Some faults cut the connection that asks for them, or those that come after it: the exchange counts them.
        let answer = post(self.exchange, "/sim/faults", json).unwrap_or_default();
        ensure!(!answer.contains("error"), "{json}: {answer}");
        let happened = wait_for(Duration::from_secs(60), || told().is_ok_and(|now| now > before));
        ensure!(happened, "{json}: the exchange did nothing");
        Ok(())
    }

    /// The settings that the audit uses.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn audit_config(&self) -> anyhow::Result<String> {
        self.config("audit", None)
    }

    /// Starts again what has ended by itself, and notes that it did.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn revive(&mut self) -> anyhow::Result<()> {
        for role in Role::ALL {
            let runs = self.roles.get_mut(&(role, 0)).is_some_and(|instance| instance.process.is_running());
            if !runs {
                if self.roles.remove(&(role, 0)).is_some() {
                    self.ended.push(role.name().to_owned());
                }
                self.start(role, 0)?;
            }
        }
        Ok(())
    }

    /// Where the exchange answers.
    pub fn exchange(&self) -> SocketAddr {
        self.exchange
    }

    /// Where the roles' logs are.
    pub fn logs(&self) -> &Path {
        self.folder.path()
    }

    /// Ends without leaving anything behind.
    pub fn forget(mut self) {
        self.folder.disable_cleanup(false);
    }
}

fn counted(metrics: &str, name: &str) -> f64 {
    let samples = metrics.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
    samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}
