//! The roles as separate processes on real Kafka, Cassandra and HDFS, as `scripts/cluster` runs them:
//! a recording, and then a storm.
//!
//! `FULLTAPE_TEST_CLUSTER=1` says that the cluster is up and may be written to.

use std::path::Path;
use std::time::{Duration, Instant};

use e2e::cluster::{compare_independently, download};
use e2e::{Process, checkout, figures, fulltape, get, pause, python, recordings, setting, total, wait_for};
use exchange_sim::{Issued, SimConfig};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde_json::json;

const PROMPTLY: Duration = Duration::from_secs(10);

/// How often each role is killed, and within which time.
const KILLS: u64 = 10;
const STORM: Duration = Duration::from_secs(105);

/// The symbols of the storm; the other parts have left theirs in the same tables.
const SYMBOLS: [&str; 4] = ["ETHUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT"];

/// How long the cluster may take to settle after a storm.
const SETTLED: &str = "240";

fn cluster() -> bool {
    let there = setting("FULLTAPE_TEST_CLUSTER").is_some();
    if !there {
        println!("skipped: FULLTAPE_TEST_CLUSTER does not say that scripts/cluster is up");
    }
    there
}

fn servers() -> String {
    checkout().join("scripts/cluster.d/fulltape.toml").to_str().unwrap().to_owned()
}

fn tool(arguments: &[&str]) -> String {
    e2e::cluster::tool(arguments).unwrap()
}

/// One test, one cluster: the parts follow each other.
#[test]
fn the_tape_on_real_servers() {
    if !cluster() {
        return;
    }
    a_topic_of_another_shape();
    a_recording();
    servers_that_are_down();
    a_storm();
}

/// More partitions would put the next trades of a symbol beside its others: nobody starts.
fn a_topic_of_another_shape() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("fulltape.toml");
    let text = std::fs::read_to_string(servers()).unwrap();
    let other = text.replace("[log]", "[log]\nstream = \"reshaped\"\ngaps = \"reshaped-gaps\"");
    std::fs::write(&config, other).unwrap();
    let config = config.to_str().unwrap();
    let _ = fulltape(&["init", "--config", config]).expect(0);
    let _ = tool(&["kafka", "topics", "--alter", "--topic", "reshaped", "--partitions", "8"]);
    for role in ["ingest", "processor", "archiver"] {
        let run = fulltape(&[role, "--config", config]).expect(1);
        assert!(run.err().contains("reshaped: expected 6 partitions (log.partitions), found 8"), "{}", run.err());
    }
}

fn a_recording() {
    let (Some(recordings), Some(python)) = (recordings(), python()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = servers();
    let roles =
        ["processor", "archiver"].map(|role| Process::start(&[role, "--config", &config], &folder.path().join(role)));
    let mut ingest = vec!["ingest".to_owned(), "--once".to_owned(), "--config".to_owned(), config.clone()];
    for day in ["20240808", "20240809"] {
        let file = recordings.join(format!("binance_spot_ws_btcusdt/btcusdt_{day}.gz"));
        ingest.extend(["--source".to_owned(), format!("replay:{}", file.display())]);
    }
    let run = fulltape(&ingest).expect(0);
    assert!(run.out().starts_with("19,904 trades published, 0 missing, 0 duplicates dropped"), "{}", run.out());
    let audited = fulltape(&["audit", "--config", &config, "--wait", "120"]).expect(0);
    assert!(audited.out().contains("complete: 19,904 trades, 0 missing"), "{}", audited.out());
    for role in roles {
        let stopping = Instant::now();
        assert_eq!(role.signal("TERM", PROMPTLY).and_then(|status| status.code()), Some(0));
        println!("a role ended {:?} after SIGTERM", stopping.elapsed());
    }

    let counted = tool(&["cqlsh", "-e", "SELECT count(*), sum(quantity) FROM crypto_ks.trades"]);
    let figures_of_cql: Vec<&str> = counted.lines().find(|line| line.contains("19904")).unwrap().split('|').collect();
    assert_eq!(figures_of_cql.iter().map(|cell| cell.trim()).collect::<Vec<_>>(), ["19904", "437.91552000"]);

    let expected = json!({"BTCUSDT": {"count": 19_904, "distinct": 19_904, "first": 3_735_683_259_u64,
        "last": 3_735_703_162_u64, "sum_q": "437.91552", "sum_pq": "27006929.5910348"}});
    assert_eq!(figures(&python, &["trades".to_owned(), download(folder.path())]), expected);

    let name_node = "127.0.0.1:9870".parse().unwrap();
    assert!(get(name_node, "/dfshealth.html").unwrap().contains("<html"), "the NameNode's web UI");
    let listing = get(name_node, "/webhdfs/v1/crypto_data/trades?op=LISTSTATUS").unwrap();
    assert!(listing.contains("date="), "{listing}");
    println!("recording: cqlsh counts 19904, sum 437.91552000; Parquet from HDFS agrees");
}

/// With one Cassandra node and one DataNode down nothing can be promised, so nothing is: the log holds
/// what comes, roles still stop when asked, and go on when the servers are back.
fn servers_that_are_down() {
    let Some(recordings) = recordings() else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = servers();
    let start = |role: &str| Process::start(&[role, "--config", &config], &folder.path().join(role));
    let before = e2e::audit(&["--config", &config]).1;
    let down = ["cassandra-2", "datanode-2"];
    down.iter().for_each(|server| drop(tool(&["kill", server])));
    let roles = ["processor", "archiver"].map(start);
    let source = format!("replay:{}", recordings.join("derived/trxusdt_20250304_us.frames.gz").display());
    let _ = fulltape(&["ingest", "--once", "--config", &config, "--source", &source]).expect(0);
    // Checkpoints are read as they are written, from both nodes: no verdict is better than a wrong one.
    let undecided = fulltape(&["audit", "--config", &config]).expect(2);
    assert!(undecided.err().contains("cassandra is not available"), "{}", undecided.err());
    for role in roles {
        assert_eq!(role.signal("TERM", PROMPTLY).and_then(|status| status.code()), Some(0));
    }
    down.iter().for_each(|server| drop(tool(&["start", server])));
    let roles = ["processor", "archiver"].map(start);
    let (status, report) = e2e::audit(&["--config", &config, "--wait", "120"]);
    assert_eq!((status, total(&report, "tables")), (0, total(&before, "tables") + 10_000), "{report:#}");
    for role in roles {
        assert_eq!(role.signal("TERM", PROMPTLY).and_then(|status| status.code()), Some(0));
    }
    println!("recording: one Cassandra node and one DataNode were down, and nothing was lost");
}

/// A simulator in trouble, and roles that are killed all the time.
fn a_storm() {
    let folder = tempfile::tempdir().unwrap();
    let exchange = e2e::free_address();
    let config = folder.path().join("fulltape.toml");
    let text = format!(
        "{}\n[source]\nfrom = [\"binance\"]\nsymbols = {SYMBOLS:?}\n\
         [binance]\nws_url = \"ws://{exchange}\"\nrest_url = \"http://{exchange}\"\n\
         [sim]\nlisten = \"{exchange}\"\nrate = 2000\nlimit = 240000\n\
         [[sim.faults]]\nkind = \"cut\"\nevery_seconds = 5\ntimes = 20\n\
         [[sim.faults]]\nkind = \"skip\"\ncount = 40\nevery_seconds = 5\ntimes = 20\n",
        std::fs::read_to_string(servers()).unwrap(),
    );
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap().to_owned();
    let seed: u64 = setting("FULLTAPE_TEST_SEED").map_or_else(|| rand::rng().random(), |seed| seed.parse().unwrap());
    println!("storm: FULLTAPE_TEST_SEED={seed}");

    let sim = Process::start(&["sim", "--config", &config], &folder.path().join("sim"));
    assert!(wait_for(PROMPTLY, || get(exchange, "/api/v3/time").is_ok()));
    let roles = ["ingest", "processor", "archiver"];
    let survivors: Vec<Process> = std::thread::scope(|scope| {
        let killers: Vec<_> = (0..)
            .zip(roles)
            .map(|(nth, role)| {
                let (config, log) = (&config, folder.path().join(role));
                scope.spawn(move || tormented(role, config, &log, seed ^ nth))
            })
            .collect();
        let survivors = killers.into_iter().map(|killer| killer.join().expect("every role survives"));
        survivors.collect()
    });
    let issued = || serde_json::from_str::<Issued>(&get(exchange, "/sim/issued").unwrap()).unwrap();
    assert!(wait_for(Duration::from_secs(120), || issued().done), "the simulator issues all of its trades");
    let issued = issued();
    println!("storm: faults {:?}", issued.faults);
    assert_eq!([issued.faults["cut"], issued.faults["skip"]], [20, 20]);

    // Gaps may still be open: the exchange limits how fast they can be filled.
    let mut report = serde_json::Value::Null;
    let complete = wait_for(Duration::from_secs(180), || {
        let (status, found) = e2e::audit(&["--config", &config, "--wait", SETTLED]);
        report = found;
        status == 0
    });
    assert!(complete, "{:#}", report["findings"]);
    let sim_config: SimConfig = serde_json::from_str(&get(exchange, "/sim/config").unwrap()).unwrap();
    for role in survivors.into_iter().chain([sim]) {
        assert_eq!(role.signal("TERM", PROMPTLY).and_then(|status| status.code()), Some(0));
    }
    let (status, report) = e2e::audit(&["--config", &config]);
    assert_eq!((status, total(&report, "missing")), (0, 0), "{:#}", report["findings"]);
    compare_independently(&sim_config, &issued, folder.path(), &SYMBOLS.map(|symbol| symbol.parse().unwrap()));
}

/// Runs a role, kills it again and again, and leaves one running.
fn tormented(role: &str, config: &str, log: &Path, seed: u64) -> Process {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut moments: Vec<u64> = (0..KILLS).map(|_| random.random_range(500..STORM.as_millis() as u64)).collect();
    moments.sort_unstable();
    let started = Instant::now();
    let mut process = Process::start(&[role, "--config", config], log);
    for moment in moments {
        let until = Duration::from_millis(moment).saturating_sub(started.elapsed());
        pause(until.max(Duration::from_millis(200)));
        process.kill();
        process = Process::start(&[role, "--config", config], log);
    }
    println!("storm: {role} was killed {KILLS} times in {:?}", started.elapsed());
    process
}
