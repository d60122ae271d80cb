//! `fulltape up` as its users have it: trades flow, it stops when asked, goes on where it was, and
//! survives being killed.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::{Process, audit, pause, total, wait_for};
use exchange_sim::{Issued, SimConfig};
use rand::{Rng, SeedableRng, rngs::SmallRng};

/// What the design promises: how soon data flows, and how soon it ends.
const PROMPTLY: Duration = Duration::from_secs(10);

/// Rows in the table of trades; 0 as long as there is none.
fn stored(data: &str) -> u64 {
    let rows = e2e::sql(&Path::new(data).join("tables.sqlite"), "SELECT count(*) FROM trades");
    rows.first().and_then(|row| row.parse().ok()).unwrap_or(0)
}

fn up(data: &str, log: &Path) -> Process {
    Process::start(&["up", "--data", data], log)
}

/// Waits until more trades are stored.
fn flows(data: &str, beyond: u64, started: Instant) {
    let flowing = wait_for(PROMPTLY, || stored(data) > beyond);
    assert!(flowing, "no trade beyond {beyond} after {:?}", started.elapsed());
    println!("trades flow {:?} after the start", started.elapsed());
}

#[test]
fn starts_stops_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let data = data.to_str().unwrap();
    let mut beyond = 0;
    for signal in ["INT", "TERM", "INT"] {
        let started = Instant::now();
        let process = up(data, &log);
        flows(data, beyond, started);
        // What was issued while nobody looked is a gap, until the history has filled it.
        pause(Duration::from_secs(3));
        let stopping = Instant::now();
        let status = process.signal(signal, PROMPTLY).expect("ends within 10 s");
        assert_eq!(status.code(), Some(0), "{}", std::fs::read_to_string(&log).unwrap());
        println!("{signal}: ended after {:?}", stopping.elapsed());
        beyond = stored(data);
    }
    let (status, report) = audit(&["--data", data]);
    assert_eq!(status, 0, "{:#}", report["findings"]);
    assert_eq!(total(&report, "issued"), total(&report, "archive"));
}

#[test]
fn killed_again_and_again_it_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let (data, log, config) =
        (folder.path().join("data"), folder.path().join("log"), folder.path().join("config.toml"));
    let (data, config) = (data.to_str().unwrap(), config.to_str().unwrap());
    let faults = ["cut", "skip", "duplicate", "reorder"].map(|kind| {
        let count = if kind == "cut" { "" } else { "\ncount = 30" };
        format!("[[sim.faults]]\nkind = \"{kind}\"{count}\nevery_seconds = 2\n")
    });
    let peaceful = "[archiver]\nmax_age_ms = 1500\n[sim]\nrate = 2000\n";
    std::fs::write(config, format!("{peaceful}{}", faults.concat())).unwrap();
    let arguments = ["up", "--data", data, "--config", config];
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    for _ in 0..10 {
        let process = Process::start(&arguments, &log);
        pause(Duration::from_millis(random.random_range(200..4_000)));
        process.kill();
    }
    // The last run is left in peace until every gap is closed.
    std::fs::write(config, peaceful).unwrap();
    let process = Process::start(&arguments, &log);
    pause(Duration::from_secs(1));
    let complete = wait_for(Duration::from_secs(60), || audit(&["--wait", "30", "--data", data]).0 == 0);
    assert!(complete, "{:#}", audit(&["--data", data]).1["findings"]);
    for _ in 0..3 {
        // Whoever waits has compared at least what the log had when he came.
        let had = audit(&["--data", data]).1;
        let had = total(&had, "log") + had["pending"].as_u64().unwrap();
        let compared = total(&audit(&["--wait", "60", "--data", data]).1, "log");
        assert!(compared >= had, "{compared} of {had}");
    }
    assert_eq!(process.signal("INT", PROMPTLY).and_then(|status| status.code()), Some(0));
    let (status, report) = audit(&["--data", data]);
    assert_eq!(status, 0, "{:#}", report["findings"]);
    assert!(total(&report, "issued") > 10_000, "a dull story: {report:#}");
}

/// With `FULLTAPE_TEST_LONG=1`: twenty million trades, `kill -9` every few seconds, an exchange in trouble. The
/// oracle and the audit compare everything.
#[test]
fn twenty_million_trades_in_a_storm() {
    if e2e::setting("FULLTAPE_TEST_LONG").is_none() {
        println!("skipped: FULLTAPE_TEST_LONG is not set");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (data, log, config) =
        (folder.path().join("data"), folder.path().join("log"), folder.path().join("config.toml"));
    let (exchange, symbols) = (e2e::free_address(), ["BTCUSDT", "ETHUSDT", "SOLUSDT"]);
    let faults = ["cut", "skip", "duplicate", "reorder"].map(|kind| {
        let count = if kind == "cut" { "" } else { "\ncount = 100" };
        format!("[[sim.faults]]\nkind = \"{kind}\"{count}\nevery_seconds = 20\n")
    });
    let text = format!(
        "[source]\nfrom = [\"binance\"]\nsymbols = {symbols:?}\n\
         [binance]\nws_url = \"ws://{exchange}\"\nrest_url = \"http://{exchange}\"\n\
         [sim]\nlisten = \"{exchange}\"\nrate = 10000\nlimit = 20000000\nweight_per_minute = 60000\n{}",
        faults.concat()
    );
    std::fs::write(&config, text).unwrap();
    let (data, config) = (data.to_str().unwrap(), config.to_str().unwrap());
    let sim = Process::start(&["sim", "--config", config], &folder.path().join("sim"));
    assert!(wait_for(PROMPTLY, || e2e::get(exchange, "/api/v3/time").is_ok()));
    let issued = || serde_json::from_str::<Issued>(&e2e::get(exchange, "/sim/issued").unwrap()).unwrap();
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let (started, mut kills) = (Instant::now(), 0);
    while !issued().done {
        let process = Process::start(&["up", "--data", data, "--config", config], &log);
        pause(Duration::from_millis(random.random_range(200..12_000)));
        process.kill();
        kills += 1;
    }
    let process = Process::start(&["up", "--data", data, "--config", config], &log);
    let complete = wait_for(Duration::from_secs(600), || audit(&["--wait", "300", "--data", data]).0 == 0);
    assert!(complete, "{:#}", audit(&["--data", data]).1["findings"]);
    let (issued, took) = (issued(), started.elapsed());
    println!("storm: {kills} times kill -9, and {:?} in {took:?}", issued.faults);
    assert_eq!(process.signal("INT", PROMPTLY).and_then(|status| status.code()), Some(0));
    let (status, report) = audit(&["--deep", "--data", data]);
    assert_eq!(
        (status, total(&report, "missing"), total(&report, "duplicates")),
        (0, 0, 0),
        "{:#}",
        report["findings"]
    );

    let config: SimConfig = serde_json::from_str(&e2e::get(exchange, "/sim/config").unwrap()).unwrap();
    drop(sim);
    for symbol in symbols {
        let (tables, symbols) = (Path::new(data).join("tables.sqlite"), [symbol.parse().unwrap()]);
        let select = "SELECT symbol, trade_id, price, quantity, trade_time_us, buyer_is_maker FROM trades";
        let rows = e2e::sql(&tables, &format!("{select} WHERE symbol = '{symbol}'"));
        let trades = rows.iter().map(|row| e2e::trade_of(row, '|'));
        e2e::market::compare("tables", trades, &config, &issued, &symbols);
    }
    if let Some(python) = e2e::python() {
        let archive = Path::new(data).join("crypto_data").to_str().unwrap().to_owned();
        let rows = e2e::read_independently(&python, &["rows".to_owned(), archive]);
        let trades = rows.lines().map(|row| e2e::trade_of(row, ','));
        e2e::market::compare("archive", trades, &config, &issued, &symbols.map(|symbol| symbol.parse().unwrap()));
    }
}

/// What the process says of itself is what the audit finds.
#[test]
fn figures_in_metrics_agree_with_the_audit() {
    let folder = tempfile::tempdir().unwrap();
    let (data, log, config) =
        (folder.path().join("data"), folder.path().join("log"), folder.path().join("config.toml"));
    let address = e2e::free_address();
    std::fs::write(&config, format!("[sim]\nlimit = 1000\nrate = 500\n[admin]\nlisten = \"{address}\"\n")).unwrap();
    let arguments = ["up", "--data", data.to_str().unwrap(), "--config", config.to_str().unwrap()];
    let process = Process::start(&arguments, &log);
    let metric = |name: &str| -> f64 {
        let text = e2e::get(address, "/metrics").unwrap_or_default();
        let samples = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
        samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    };
    // What the market issued before the first subscription is not part of the tape.
    let mut published = 0.0;
    let silent = wait_for(Duration::from_secs(30), || {
        let before = std::mem::replace(&mut published, metric("trades_published_total"));
        pause(Duration::from_secs(1));
        published > 900.0 && published.to_bits() == before.to_bits()
    });
    assert!(silent, "{published} of 1,000 trades published");
    assert!(wait_for(Duration::from_secs(10), || metric("trades_stored_total").to_bits() == published.to_bits()));
    assert!(e2e::get(address, "/healthz").is_ok() && e2e::get(address, "/readyz").is_ok());
    assert_eq!(process.signal("TERM", PROMPTLY).and_then(|status| status.code()), Some(0));
    let (status, report) = audit(&["--data", data.to_str().unwrap()]);
    assert_eq!((status, total(&report, "archive")), (0, published as u64), "{report:#}");
}

/// Without `--data`, in a fresh checkout, in any order: a recording, the simulator, the audit of each.
#[test]
fn the_default_folders_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let here =
        |arguments: &[&str]| Command::new(e2e::binary()).args(arguments).current_dir(folder.path()).output().unwrap();
    std::fs::create_dir_all(folder.path().join("data/cluster")).unwrap();
    let simulated = Command::new("timeout")
        .args(["--preserve-status", "--signal=INT", "3"])
        .arg(e2e::binary())
        .arg("up")
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(simulated.status.code(), Some(0), "{}", String::from_utf8_lossy(&simulated.stderr));
    let audited = here(&["audit"]);
    assert!(audited.status.success() && String::from_utf8_lossy(&audited.stdout).contains("complete"));
    let nowhere = here(&["up", "--once", "--source", "replay:nowhere.csv"]);
    assert!(!nowhere.status.success() && String::from_utf8_lossy(&nowhere.stderr).contains("nowhere.csv"));
    let audited = here(&["audit"]);
    assert!(audited.status.success(), "still that of the simulator: {}", String::from_utf8_lossy(&audited.stdout));
    let row = "7,61837.63000000,0.02000000,1236.75260000,1723161255342,True,True\n";
    std::fs::write(folder.path().join("BTCUSDT-trades-2024-08-08.csv"), row).unwrap();
    let replayed = here(&["up", "--once", "--source", "replay:BTCUSDT-trades-2024-08-08.csv"]);
    let out = String::from_utf8_lossy(&replayed.stdout).into_owned();
    assert!(out.starts_with("1 trades, 0 missing"), "{out}{}", String::from_utf8_lossy(&replayed.stderr));
    let audited = here(&["audit"]);
    assert!(String::from_utf8_lossy(&audited.stdout).contains("complete: 1 trades"));
}
