//! A stream that skips a hundredth of all ids and is cut again and again: every gap is on record and filled, and
//! the log has what the exchange issued, every id once, live ones in order.
//!
//! On real servers if `FULLTAPE_TEST_CLUSTER` says that they are up, otherwise embedded. `FULLTAPE_TEST_LONG=1`
//! makes it a thousand places and two hundred cuts, at half the pace.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::{Symbol, Trade};
use e2e::{Process, audit, checkout, cluster, get, pause, post, setting, trade_of, wait_for};
use exchange_sim::{Issued, SimConfig};
use serde_json::Value;

/// Symbols that no other test trades on the same servers.
const SYMBOLS: [&str; 5] = ["BNBUSDT", "DOGEUSDT", "LTCUSDT", "DOTUSDT", "AVAXUSDT"];

/// Ids that are skipped in one place, one in a hundred.
const SKIPPED: u64 = 3;

const PROMPTLY: Duration = Duration::from_secs(10);

/// How many places, how many cuts, and trades a second: so slow that the cuts leave enough of the 300 attempts to
/// connect that the exchange allows in five minutes.
fn size() -> (u64, u64, u64) {
    if setting("FULLTAPE_TEST_LONG").is_some() { (1_000, 200, 500) } else { (200, 20, 1_000) }
}

#[test]
fn every_gap_is_filled() {
    let (skips, cuts, rate) = size();
    let trades = skips * SKIPPED * 100;
    let folder = tempfile::tempdir().unwrap();
    let exchange = e2e::free_address();
    let text = format!(
        "[source]\nfrom = [\"binance\"]\nsymbols = {SYMBOLS:?}\n\
         [binance]\nws_url = \"ws://{exchange}\"\nrest_url = \"http://{exchange}\"\n\
         [sim]\nlisten = \"{exchange}\"\nrate = {rate}\nlimit = {trades}\nrest_lag_ms = 1500\n"
    );
    let stores = Stores::new(folder.path(), &text);
    let sim = Process::start(&["sim", "--config", &stores.config], &folder.path().join("sim"));
    assert!(wait_for(PROMPTLY, || get(exchange, "/api/v3/time").is_ok()));
    let roles = stores.start(folder.path());
    let issued = || issued_by(exchange);
    let all = |issued: &Issued| issued.symbols.values().map(|one| one.last).sum::<u64>();
    // The first announcements would be lost on an ingest that does not listen yet.
    pause(Duration::from_secs(3));

    // Skips at even distances of the trading, cuts between them.
    for nth in 0..skips {
        // The last trades are left in peace, so that what was skipped has something behind it.
        let until = (trades - trades / 10) * nth / skips;
        assert!(wait_for(Duration::from_secs(60), || all(&issued()) >= until), "the simulator goes on");
        post(exchange, "/sim/faults", &format!(r#"{{"kind":"skip","count":{SKIPPED}}}"#)).unwrap();
        if nth % (skips / cuts) == 0 {
            // It cuts this connection, too.
            let _ = post(exchange, "/sim/faults", r#"{"kind":"cut"}"#);
        }
    }
    assert!(wait_for(Duration::from_secs(120), || issued().done), "the simulator issues all of its trades");
    let issued = issued();
    println!("faults {:?}", issued.faults);
    assert_eq!([issued.faults["skip"], issued.faults["cut"]], [skips, cuts]);
    // The exchange limits how fast gaps can be filled.
    let open = || stores.gaps().into_iter().filter(|gap| gap.state != "filled").count();
    assert!(wait_for(Duration::from_secs(300), || open() == 0), "{} gaps are not filled", open());
    let complete = wait_for(Duration::from_secs(120), || stores.audit().0 == 0);
    let (_, report) = stores.audit();
    assert!(complete, "{:#}", report["findings"]);

    let config: SimConfig = serde_json::from_str(&get(exchange, "/sim/config").unwrap()).unwrap();
    let symbols = SYMBOLS.map(|symbol| symbol.parse().unwrap());
    e2e::market::compare("tables", stores.trades().into_iter(), &config, &issued, &symbols);
    for process in roles.into_iter().chain([sim]) {
        assert_eq!(process.signal("TERM", PROMPTLY).and_then(|status| status.code()), Some(0));
    }
    assert_eq!(total(&report, "missing"), 0);
    assert_eq!(total(&report, "archive"), total(&report, "issued"));
    gaps_are_on_record(&stores.gaps(), skips);
    the_log_has_every_id_once(&stores.log(), total(&report, "issued"));
}

/// Everything ends while nobody listens: no later trade tells of it, and it is fetched all the same.
#[test]
fn what_came_before_a_silence_is_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let (exchange, data) = (e2e::free_address(), folder.path().join("data"));
    let text = format!(
        "[source]\nfrom = [\"binance\"]\nsymbols = {SYMBOLS:?}\n\
         [binance]\nws_url = \"ws://{exchange}\"\nrest_url = \"http://{exchange}\"\n\
         [sim]\nlisten = \"{exchange}\"\nrate = 2000\nlimit = 30000\n"
    );
    let stores = Stores::embedded(folder.path(), &data, &text);
    let sim = Process::start(&["sim", "--config", &stores.config], &folder.path().join("sim"));
    assert!(wait_for(PROMPTLY, || get(exchange, "/api/v3/time").is_ok()));
    for up in stores.start(folder.path()) {
        pause(Duration::from_secs(5));
        up.kill();
    }
    assert!(wait_for(Duration::from_secs(30), || issued_by(exchange).done), "the simulator issues all of its trades");
    let goal = issued_by(exchange).symbols;
    let before = spans(&stores.trades());
    assert!(
        before.len() == SYMBOLS.len() && before.iter().all(|(symbol, span)| span.1 < goal[symbol].last),
        "{before:?}"
    );
    let up = stores.start(folder.path());
    let goal: BTreeMap<_, _> = before
        .into_iter()
        .map(|(symbol, (first, _))| {
            let last = goal[&symbol].last;
            (symbol, (first, last))
        })
        .collect();
    let complete = wait_for(Duration::from_secs(30), || spans(&stores.trades()) == goal);
    assert!(complete, "{:?} instead of {goal:?}", spans(&stores.trades()));
    let complete = wait_for(Duration::from_secs(30), || stores.audit().0 == 0);
    assert!(complete, "{:#}", stores.audit().1["findings"]);
    let config: SimConfig = serde_json::from_str(&get(exchange, "/sim/config").unwrap()).unwrap();
    let symbols = SYMBOLS.map(|symbol| symbol.parse().unwrap());
    e2e::market::compare("tables", stores.trades().into_iter(), &config, &issued_by(exchange), &symbols);
    for process in up.into_iter().chain([sim]) {
        assert_eq!(process.signal("TERM", PROMPTLY).and_then(|status| status.code()), Some(0));
    }
}

/// The first and the last id of each symbol.
fn spans(trades: &[Trade]) -> BTreeMap<Symbol, (u64, u64)> {
    let mut spans = BTreeMap::new();
    for trade in trades {
        let (first, last) = spans.entry(trade.symbol.clone()).or_insert((trade.id, trade.id));
        (*first, *last) = (trade.id.min(*first), trade.id.max(*last));
    }
    spans
}

fn issued_by(exchange: SocketAddr) -> Issued {
    serde_json::from_str(&get(exchange, "/sim/issued").unwrap()).unwrap()
}

fn gaps_are_on_record(gaps: &[Gap], skips: u64) {
    let ids: u64 = gaps.iter().map(|gap| gap.to - gap.from + 1).sum();
    println!("{} gaps of {ids} ids were filled", gaps.len());
    // Ranges that were skipped while nobody was connected are part of larger gaps.
    assert!(ids >= skips * SKIPPED, "{ids} ids");
    assert!(gaps.len() as u64 >= skips / 2, "{} gaps", gaps.len());
}

/// What was fetched by REST has no event time.
fn the_log_has_every_id_once(log: &[Value], issued: u64) {
    let place = |event: &Value| Some((event["s"].as_str()?.to_owned(), event["t"].as_u64()?));
    let ids: Vec<(String, u64)> = log.iter().filter_map(place).collect();
    let different: BTreeSet<&(String, u64)> = ids.iter().collect();
    assert_eq!([ids.len() as u64, different.len() as u64], [issued; 2], "records, and different ids among them");
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let live: Vec<(String, u64)> = log.iter().filter(|event| !event["E"].is_null()).filter_map(place).collect();
    for (symbol, id) in &live {
        let before = last.insert(symbol.clone(), *id);
        assert!(before.is_none_or(|before| before < *id), "{symbol} {id} came live, and {before:?} before it");
    }
    let fetched = ids.len() - live.len();
    println!("the log has {issued} ids once, {fetched} of them fetched by REST, the others in order");
}

struct Gap {
    from: u64,
    to: u64,
    state: String,
}

/// The stores, as other programs read them.
struct Stores {
    config: String,
    /// The data folder of embedded mode.
    folder: Option<PathBuf>,
}

impl Stores {
    /// Adds to settings what says where to store.
    fn new(folder: &Path, settings: &str) -> Self {
        if setting("FULLTAPE_TEST_CLUSTER").is_none() {
            return Self::embedded(folder, &folder.join("data"), settings);
        }
        let servers = std::fs::read_to_string(checkout().join("scripts/cluster.d/fulltape.toml")).unwrap();
        Self { folder: None, ..Self::embedded(folder, folder, &format!("{servers}\n{settings}")) }
    }

    fn embedded(folder: &Path, data: &Path, settings: &str) -> Self {
        let config = folder.join("fulltape.toml");
        std::fs::write(&config, settings).unwrap();
        Self { config: config.to_str().unwrap().to_owned(), folder: Some(data.to_owned()) }
    }

    fn start(&self, logs: &Path) -> Vec<Process> {
        let start = |role: &str, more: &[&str]| {
            Process::start(&[&[role, "--config", &self.config], more].concat(), &logs.join(role))
        };
        match &self.folder {
            Some(folder) => vec![start("up", &["--data", folder.to_str().unwrap()])],
            None => ["ingest", "processor", "archiver"].map(|role| start(role, &[])).into(),
        }
    }

    fn audit(&self) -> (i32, Value) {
        let place = match &self.folder {
            Some(folder) => ["--data", folder.to_str().unwrap()],
            None => ["--config", &self.config],
        };
        audit(&[&place[..], &["--wait", "60"]].concat())
    }

    fn rows(&self, table: &str, columns: &str) -> Vec<String> {
        let symbols = SYMBOLS.map(|symbol| format!("'{symbol}'")).join(", ");
        let select = format!("SELECT {columns} FROM {table} WHERE symbol IN ({symbols})");
        let Some(folder) = &self.folder else {
            let file = tempfile::NamedTempFile::new().unwrap();
            let copy = format!("COPY crypto_ks.{table} ({columns}) TO '{}'", file.path().display());
            cluster::tool(&["cqlsh", "-e", &copy]).unwrap();
            let rows = std::fs::read_to_string(file.path()).unwrap();
            let is_ours = |row: &&str| SYMBOLS.iter().any(|symbol| row.starts_with(&format!("{symbol},")));
            return rows.lines().filter(is_ours).map(str::to_owned).collect();
        };
        let rows = e2e::sql(&folder.join("tables.sqlite"), &select);
        rows.into_iter().map(|row| row.replace('|', ",")).collect()
    }

    fn trades(&self) -> Vec<Trade> {
        let rows = self.rows("trades", "symbol, trade_id, price, quantity, trade_time_us, buyer_is_maker");
        rows.iter().map(|row| trade_of(row, ',')).collect()
    }

    fn gaps(&self) -> Vec<Gap> {
        let gap = |row: &String| {
            let cells: Vec<&str> = row.trim().split(',').collect();
            let [_, from, to, state] = cells[..] else { panic!("expected four cells: {row:?}") };
            Gap { from: from.parse().unwrap(), to: to.parse().unwrap(), state: state.to_owned() }
        };
        self.rows("gaps", "symbol, from_id, to_id, state").iter().map(gap).collect()
    }

    /// The events of the log, those of a partition in order.
    fn log(&self) -> Vec<Value> {
        let lines = match &self.folder {
            Some(folder) => {
                let select = "SELECT value FROM log WHERE topic = 'crypto-stream' ORDER BY partition, \"offset\"";
                e2e::sql(&folder.join("log.sqlite"), select).join("\n")
            }
            None => {
                let read =
                    ["console-consumer", "--topic", "crypto-stream", "--from-beginning", "--timeout-ms", "15000"];
                cluster::tool(&[&["kafka"], &read[..]].concat()).unwrap()
            }
        };
        let events = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["s"].as_str().is_some_and(|symbol| SYMBOLS.contains(&symbol))).collect()
    }
}

/// The sum of a figure of our symbols.
fn total(report: &Value, figure: &str) -> u64 {
    let hours = report["hours"].as_array().unwrap().iter();
    let ours = hours.filter(|hour| SYMBOLS.iter().any(|symbol| hour["symbol"] == *symbol));
    ours.map(|hour| hour[figure].as_u64().unwrap()).sum()
}
