//! The platform of docker-compose.yml on a real Docker engine, as its users start, watch, break and
//! stop it.
//!
//! `FULLTAPE_TEST_COMPOSE=1` says that an engine is there and has, or can get, the images.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use e2e::{binary, checkout, free_address, get, pause, setting, total, wait_for};
use serde_json::Value;

/// How long all services together may take to become healthy, and one of them after a kill.
const HEALTHY: Duration = Duration::from_secs(600);

/// How long the link is down.
const OUTAGE: Duration = Duration::from_secs(120);

/// How long the platform may take to settle after trouble.
const SETTLED: Duration = Duration::from_secs(600);

/// Simulated trades per second: what fifteen containers on two slow cores catch up with promptly after each kill.
const RATE: u64 = 500;

/// What all containers together may use.
const MEMORY: u64 = 8 << 30;

/// Services that do their work and end.
const JOBS: [&str; 3] = ["settings", "hdfs-format", "init"];

/// A platform with names, ports and volumes of its own, gone with the test.
struct Platform {
    variables: BTreeMap<&'static str, String>,
    name_node: SocketAddr,
    overrides: PathBuf,
}

/// A container of the platform.
#[derive(Debug)]
struct Container {
    service: String,
    status: String,
    health: Option<String>,
    exit_code: i64,
    restarts: i64,
    pid: i64,
    memory_limit: u64,
}

impl Container {
    fn of(inspected: &Value) -> Self {
        let text = |pointer: &str| inspected.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let number = |pointer: &str| inspected.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
        Self {
            service: text("/Config/Labels/com.docker.compose.service").expect("it is compose's"),
            status: text("/State/Status").unwrap_or_default(),
            health: text("/State/Health/Status"),
            exit_code: number("/State/ExitCode"),
            restarts: number("/RestartCount"),
            pid: number("/State/Pid"),
            memory_limit: number("/HostConfig/Memory").unsigned_abs(),
        }
    }

    fn is_job(&self) -> bool {
        JOBS.contains(&self.service.as_str())
    }

    fn is_well(&self) -> bool {
        match self.is_job() {
            true => self.status == "exited" && self.exit_code == 0,
            false => self.status == "running" && self.health.as_deref() == Some("healthy"),
        }
    }
}

impl Platform {
    /// With `overrides` beside docker-compose.yml.
    fn new(overrides: PathBuf) -> Self {
        let port = || free_address().port().to_string();
        let ui = free_address();
        let ports = ["KAFKA_1_PORT", "KAFKA_2_PORT", "CASSANDRA_PORT", "EXCHANGE_SIM_PORT", "KAFKA_UI_PORT"];
        let mut variables: BTreeMap<_, _> = ports.map(|name| (name, port())).into();
        variables.insert("NAMENODE_UI_PORT", ui.port().to_string());
        variables.insert("COMPOSE_PROJECT_NAME", format!("fulltape-test-{}", std::process::id()));
        variables.insert("FULLTAPE_VERSION", "test".to_owned());
        // What a developer has in .env is not what is tested.
        variables.insert("COMPOSE_DISABLE_ENV_FILE", "1".to_owned());
        variables.insert("COMPOSE_PROFILES", String::new());
        variables.insert("FULLTAPE__SIM__RATE", RATE.to_string());
        Self { variables, name_node: ui, overrides }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(checkout()).envs(&self.variables);
        command
    }

    fn run_compose(&self, arguments: &[&str]) -> Output {
        let mut command = self.command("docker");
        command.args(["compose", "-f", "docker-compose.yml", "-f"]).arg(&self.overrides);
        command.args(arguments).output().expect("docker can be started")
    }

    /// Runs `docker compose`; returns what it printed.
    fn compose(&self, arguments: &[&str]) -> String {
        succeeded(arguments, &self.run_compose(arguments))
    }

    fn exec(&self, service: &str, command: &[&str]) -> String {
        self.compose(&[&["exec", "-T", service], command].concat())
    }

    fn link(&self, arguments: &[&str]) -> String {
        succeeded(arguments, &self.command("scripts/link").args(arguments).output().expect("a script"))
    }

    fn containers(&self) -> Vec<Container> {
        let ids = self.compose(&["--profile", "offline", "ps", "-aq"]);
        let ids: Vec<&str> = ids.split_whitespace().collect();
        if ids.is_empty() {
            return Vec::new();
        }
        let inspected: Value = serde_json::from_str(&docker(&[&["inspect"], ids.as_slice()].concat())).unwrap();
        inspected.as_array().unwrap().iter().map(Container::of).collect()
    }

    fn service(&self, name: &str) -> Container {
        self.containers().into_iter().find(|one| one.service == name).expect("it has been created")
    }

    fn restarts(&self) -> BTreeMap<String, i64> {
        self.containers().into_iter().map(|one| (one.service, one.restarts)).collect()
    }

    /// Waits until all services are well, but for those in `except`.
    fn becomes_healthy(&self, except: &[&str]) {
        let started = Instant::now();
        let mut seen = Vec::new();
        let well = wait_for(HEALTHY, || {
            pause(Duration::from_secs(1));
            seen = self.containers();
            !seen.is_empty() && seen.iter().all(|one| one.is_well() || except.contains(&one.service.as_str()))
        });
        let sick: Vec<_> = seen.iter().filter(|one| !one.is_well()).map(|one| self.tail(&one.service)).collect();
        assert!(well, "not healthy within {HEALTHY:?}: {seen:#?}\n{}", sick.join("\n"));
        println!("compose: {} services healthy after {:.0?} more", seen.len(), started.elapsed());
    }

    fn tail(&self, service: &str) -> String {
        let output = self.run_compose(&["--profile", "offline", "logs", "--tail", "40", service]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The audit, in a container of the platform.
    fn audit(&self, wait: &str) -> (i32, Value) {
        let output = self.run_compose(&["run", "--rm", "-T", "audit", "--json", "--wait", wait]);
        let report = serde_json::from_slice(&output.stdout);
        let status = output.status.code().unwrap_or(-1);
        (status, report.unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&output.stderr).into_owned())))
    }

    /// Gaps may be open for a moment: whoever was killed fetches what it missed. Before the first files there is
    /// nothing to compare.
    fn audit_ends_well(&self, wait: &str) -> Value {
        let mut last = (-1, Value::Null);
        let complete = wait_for(SETTLED, || {
            last = self.audit(wait);
            last.0 == 0
        });
        assert!(complete, "audit: {last:#?}\n{}", self.tail("ingest"));
        assert_eq!(total(&last.1, "missing"), 0, "{:#}", last.1);
        last.1
    }

    /// Records in the topic of trades.
    fn records(&self) -> u64 {
        let offsets = "/opt/kafka/bin/kafka-get-offsets.sh --bootstrap-server localhost:9092 --topic crypto-stream";
        let ends = self.exec("kafka-1", &["bash", "-c", offsets]);
        let ends = ends.lines().filter_map(|line| line.rsplit(':').next()?.trim().parse::<u64>().ok());
        ends.sum()
    }

    /// Names of the archive's files, as the NameNode's web interface lists them.
    fn archived(&self) -> Vec<String> {
        let list = |path: &str| {
            let answer = get(self.name_node, &format!("/webhdfs/v1{path}?op=LISTSTATUS")).unwrap_or_default();
            let listing: Value = serde_json::from_str(&answer).unwrap_or_default();
            let files = listing.pointer("/FileStatuses/FileStatus").and_then(Value::as_array).cloned();
            let names =
                files.unwrap_or_default().into_iter().filter_map(|file| Some(file["pathSuffix"].as_str()?.to_owned()));
            names.collect::<Vec<_>>()
        };
        let root = "/crypto_data/trades";
        list(root).iter().flat_map(|date| list(&format!("{root}/{date}"))).collect()
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.tail("ingest"));
        }
        let profiles = ["--profile", "offline", "--profile", "audit"];
        let down = [&profiles[..], &["down", "--volumes", "--remove-orphans", "--timeout", "1"]].concat();
        let _ = self.run_compose(&down);
    }
}

fn succeeded(arguments: &[&str], output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn docker(arguments: &[&str]) -> String {
    succeeded(arguments, &Command::new("docker").args(arguments).output().expect("docker can be started"))
}

/// One platform through all of it, since each needs most of a machine.
#[test]
fn the_platform_on_a_docker_engine() {
    if setting("FULLTAPE_TEST_COMPOSE").is_none() {
        println!("skipped: FULLTAPE_TEST_COMPOSE does not say that there is a Docker engine");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("nowhere.yml");
    let hosts = "[\"data-stream.binance.vision:127.0.0.1\", \"api.binance.com:127.0.0.1\"]";
    std::fs::write(&nowhere, format!("services:\n  ingest:\n    extra_hosts: {hosts}\n")).unwrap();
    let mut platform = Platform::new(nowhere);
    the_example_has_the_defaults(&platform);
    platform.compose(&["--profile", "offline", "build", "--quiet"]);
    wrong_settings_are_named(&mut platform);
    starts_without_the_exchange(&platform);
    goes_on_with_a_simulated_exchange(&platform);
    data_flows(&platform);
    fits_into_memory(&platform);
    survives_an_outage(&platform);
    survives_kills(&platform);
    keeps_everything(&platform);
}

/// Before anything starts.
fn wrong_settings_are_named(platform: &mut Platform) {
    for (name, value, expected) in [
        ("FULLTAPE__SOURCE__SYMBOLS", "BTC/USDT", "FULLTAPE__SOURCE__SYMBOLS"),
        ("FULLTAPE__SIM__SEED", "", "FULLTAPE__SIM__SEED"),
        ("FULLTAPE__TELEMETRY__LOG", "info,scylla=loud", "telemetry.log"),
        ("CASSANDRA_HEAP", "lots", "CASSANDRA_HEAP: expected a size"),
        ("KAFKA_HEAP", "2g", "KAFKA_HEAP: 2048m does not fit into KAFKA_MEMORY"),
    ] {
        platform.variables.insert(name, value.to_owned());
        let checked = platform.run_compose(&["run", "--rm", "-T", "settings"]);
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(!checked.status.success() && said.contains(expected), "{name}={value:?}: {said}");
        platform.variables.remove(name);
    }
    platform.variables.insert("CASSANDRA_HEAP", "lots".to_owned());
    assert!(!platform.run_compose(&["up", "-d"]).status.success());
    assert!(platform.tail("settings").contains("CASSANDRA_HEAP: expected a size"), "{}", platform.tail("settings"));
    assert!(platform.containers().iter().all(|one| one.status != "running"), "nothing starts");
    platform.variables.remove("CASSANDRA_HEAP");
}

/// The default profile, without a way to the exchange: the rest is healthy.
fn starts_without_the_exchange(platform: &Platform) {
    let started = Instant::now();
    platform.compose(&["up", "-d"]);
    platform.becomes_healthy(&["ingest"]);
    println!("compose: all but ingest healthy {:.0?} after `up -d`", started.elapsed());
    let attempts = || platform.tail("ingest").matches("exchange unreachable").count();
    assert!(wait_for(Duration::from_secs(60), || attempts() >= 3), "{}", platform.tail("ingest"));
    assert!(platform.tail("ingest").contains("the exchange cannot be reached yet"), "{}", platform.tail("ingest"));
    let says_so = || platform.service("ingest").health.as_deref() == Some("unhealthy");
    assert!(wait_for(HEALTHY, says_so), "an ingest without an exchange says so");
    assert!(platform.restarts().values().all(|count| *count == 0), "{:?}", platform.restarts());
}

/// Nobody's tape yet, so the simulator may have it. Ingest begins again with it.
fn goes_on_with_a_simulated_exchange(platform: &Platform) {
    let mut restarts = platform.restarts();
    platform.compose(&["--profile", "offline", "up", "-d"]);
    platform.becomes_healthy(&[]);
    restarts.extend([("ingest".to_owned(), 1), ("exchange-sim".to_owned(), 0)]);
    assert_eq!(platform.restarts(), restarts);
}

/// What .env.example says is what holds without a .env.
fn the_example_has_the_defaults(platform: &Platform) {
    let config = |options: &[&str]| {
        let mut command = platform.command("docker");
        for name in
            platform.variables.keys().filter(|name| **name != "COMPOSE_PROJECT_NAME" && **name != "COMPOSE_PROFILES")
        {
            command.env_remove(name);
        }
        let all = ["--profile", "offline", "--profile", "tools", "--profile", "audit", "config"];
        succeeded(&all, &command.arg("compose").args(options).args(all).output().unwrap())
    };
    assert_eq!(config(&["--env-file", ".env.example"]), config(&["--env-file", "/dev/null"]));
    // Debian's docker-compose 1.29 reads an older language.
    if let Ok(output) = platform.command("docker-compose").args(["config", "-q"]).output() {
        succeeded(&["docker-compose", "config"], &output);
    }
}

/// What people look at.
fn data_flows(platform: &Platform) {
    assert!(wait_for(SETTLED, || !platform.archived().is_empty()), "{}", platform.tail("archiver"));
    let rows = platform.exec("cassandra-1", &["cqlsh", "-e", "SELECT * FROM crypto_ks.trades LIMIT 10"]);
    assert!(rows.contains("(10 rows)"), "{rows}");
    let ring = platform.exec("cassandra-1", &["nodetool", "status"]);
    assert_eq!(ring.lines().filter(|line| line.starts_with("UN")).count(), 2, "{ring}");
    let synced = platform
        .exec("cassandra-1", &["cqlsh", "-e", "SELECT value FROM system_views.settings WHERE name = 'commitlog_sync'"]);
    assert!(synced.contains("batch"), "{synced}");
    let live = get(platform.name_node, "/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState").unwrap();
    assert!(live.contains("\"NumLiveDataNodes\" : 2"), "{live}");
    assert!(get(platform.name_node, "/dfshealth.html").unwrap().contains("<html"));
    let consumer = "/opt/kafka/bin/kafka-console-consumer.sh --bootstrap-server localhost:9092 --topic crypto-stream \
        --from-beginning --max-messages 3 2>/dev/null";
    let events = platform.compose(&["exec", "-T", "-e", "KAFKA_HEAP_OPTS=-Xmx128m", "kafka-1", "bash", "-c", consumer]);
    assert_eq!(events.matches("\"e\":\"trade\"").count(), 3, "{events}");

    let files = platform.archived().len();
    let first = platform.audit_ends_well("60");
    let second = platform.audit_ends_well("60");
    assert!(total(&second, "tables") > total(&first, "tables"), "{first:#}{second:#}");
    assert!(wait_for(SETTLED, || platform.archived().len() > files), "the archive grows");
}

fn fits_into_memory(platform: &Platform) {
    let containers = platform.containers();
    let running: Vec<_> = containers.iter().filter(|one| !one.is_job()).collect();
    assert!(running.iter().all(|one| one.memory_limit > 0), "{running:#?}");
    let limits: u64 = running.iter().map(|one| one.memory_limit).sum();
    assert!(limits <= MEMORY, "limits add up to {} MiB", limits >> 20);
    let used = docker(&["stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}"]);
    println!("compose: limits add up to {} MiB; in use:\n{used}", limits >> 20);
}

fn survives_an_outage(platform: &Platform) {
    let before = platform.audit_ends_well("60");
    let (restarts, records) = (platform.restarts(), platform.records());
    println!("{}", platform.link(&["down"]).trim());
    let cut = Instant::now();
    // What was on its way arrives, or not.
    let mut stored = 0;
    let stands = || {
        pause(Duration::from_secs(15));
        let now = total(&platform.audit_ends_well("0"), "tables");
        std::mem::replace(&mut stored, now) == now
    };
    assert!(wait_for(OUTAGE, stands), "trades cross a link that is cut: {stored} so far");
    pause(OUTAGE.saturating_sub(cut.elapsed()));
    let meanwhile = platform.records() - records;
    let still_cut = platform.audit_ends_well("0");
    assert_eq!(total(&still_cut, "tables"), stored, "nothing crosses a link that is cut: {still_cut:#}");
    let least = RATE * OUTAGE.as_secs() * 8 / 10;
    assert!(meanwhile > least, "trades kept flowing into the log: {meanwhile} of at least {least}");
    println!("{}", platform.link(&["up"]).trim());
    let healed = Instant::now();
    let after = platform.audit_ends_well("60");
    let stored = total(&after, "tables") - total(&before, "tables");
    assert!(stored >= meanwhile, "{stored} stored since, {meanwhile} came during the outage");
    println!(
        "compose: {meanwhile} trades during the outage, all stored and archived {:.0?} after it",
        healed.elapsed()
    );
    assert_eq!(platform.restarts(), restarts, "nobody restarted");
    let slow = platform.link(&["slow", "256kbit"]);
    assert_eq!(slow.matches("up, at most 256Kbit").count(), 2, "{slow}");
    let healed = platform.link(&["up"]);
    assert!(!healed.contains("at most"), "{healed}");
    platform.becomes_healthy(&[]);
}

/// Each container's main process in turn, from outside: the engine has to notice by itself.
fn survives_kills(platform: &Platform) {
    let is_running = |one: &Container| !one.is_job();
    let services: Vec<String> = platform.containers().into_iter().filter(is_running).map(|one| one.service).collect();
    for service in services {
        let now = || platform.service(&service);
        // As it is now: an earlier kill may have cost it its connection, and its life.
        let victim = now();
        let kill = format!("kill -9 {}", victim.pid);
        docker(&["run", "--rm", "--pid", "host", "debian:bookworm-slim", "sh", "-c", &kill]);
        let is_back = || {
            let one = now();
            one.restarts > victim.restarts && one.is_well()
        };
        assert!(wait_for(HEALTHY, is_back), "{}", platform.tail(&service));
        println!("compose: {service} killed and back");
    }
    platform.becomes_healthy(&[]);
    platform.audit_ends_well("60");
}

fn keeps_everything(platform: &Platform) {
    // Once more beside what runs: the jobs run again, and nothing else happens.
    let restarts = platform.restarts();
    platform.compose(&["--profile", "offline", "up", "-d"]);
    platform.becomes_healthy(&[]);
    assert_eq!(platform.restarts(), restarts);

    let before = platform.audit_ends_well("60");
    let files = platform.archived();
    platform.compose(&["--profile", "offline", "down"]);
    assert!(platform.containers().is_empty());
    platform.compose(&["--profile", "offline", "up", "-d"]);
    platform.becomes_healthy(&[]);
    let after = platform.audit_ends_well("60");
    assert!(total(&after, "tables") > total(&before, "tables"), "the tape goes on where it was");
    let now = platform.archived();
    assert!(files.iter().all(|file| now.contains(file)), "every file is still there");
}

/// The check of settings by itself: a name that nobody reads is an error too.
#[test]
fn mistyped_settings_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let example = std::fs::read_to_string(checkout().join(".env.example")).unwrap();
    std::fs::write(folder.path().join(".env.example"), &example).unwrap();
    let check = |text: &str| {
        std::fs::write(folder.path().join(".env"), text).unwrap();
        let mut command = Command::new("sh");
        command.arg(checkout().join("scripts/lib/check-settings.sh")).arg(folder.path());
        let values = example.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
        let beside = binary().parent().unwrap().to_owned();
        let path =
            std::env::join_paths(std::iter::once(beside).chain(["/usr/bin", "/bin"].map(PathBuf::from))).unwrap();
        let output = command.envs(values).env("PATH", path).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(check(&example), (Some(0), String::new()));
    let (status, said) = check("COMPOSE_PROFILES=offline\n# CASANDRA_HEAP=1g\n\nCASANDRA_HEAP=1g");
    assert_eq!(
        (status, said.trim()),
        (Some(64), "settings: .env:4: CASANDRA_HEAP: no such setting; .env.example has all of them")
    );
}
