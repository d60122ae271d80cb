//! A stream that skips a hundredth of all ids and is cut again and again: every gap is on record and filled, and
//! the log has what the exchange issued, every id once, live ones in order.
//!
//! `FULLTAPE_TEST_LONG=1` makes it a thousand places and two hundred cuts, at half the pace.

use std::path::Path;
use std::time::Duration;

use e2e::{Process, audit, get, pause, post, total, wait_for};
use exchange_sim::{Issued, SimConfig};

/// Ids that are skipped in one place, one in a hundred.
const SKIPPED: u64 = 3;

/// How many places, how many cuts, and trades a second: so slow that the cuts leave enough of the 300 attempts to
/// connect that the exchange allows in five minutes.
fn size() -> (u64, u64, u64) {
    if e2e::setting("FULLTAPE_TEST_LONG").is_some() { (1_000, 200, 500) } else { (200, 20, 1_000) }
}

const SYMBOLS: [&str; 5] = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "TRXUSDT"];

const PROMPTLY: Duration = Duration::from_secs(10);

#[test]
fn every_gap_is_filled() {
    let (skips, cuts, rate) = size();
    let trades = skips * SKIPPED * 100;
    let folder = tempfile::tempdir().unwrap();
    let (exchange, data) = (e2e::free_address(), folder.path().join("data"));
    let config = folder.path().join("fulltape.toml");
    let text = format!(
        "[source]\nfrom = [\"binance\"]\nsymbols = {SYMBOLS:?}\n\
         [binance]\nws_url = \"ws://{exchange}\"\nrest_url = \"http://{exchange}\"\n\
         [sim]\nlisten = \"{exchange}\"\nrate = {rate}\nlimit = {trades}\n"
    );
    std::fs::write(&config, text).unwrap();
    let (config, data) = (config.to_str().unwrap(), data.to_str().unwrap());
    let sim = Process::start(&["sim", "--config", config], &folder.path().join("sim"));
    assert!(wait_for(PROMPTLY, || get(exchange, "/api/v3/time").is_ok()));
    let up = Process::start(&["up", "--config", config, "--data", data], &folder.path().join("up"));
    let issued = || serde_json::from_str::<Issued>(&get(exchange, "/sim/issued").unwrap()).unwrap();
    let all = |issued: &Issued| issued.symbols.values().map(|one| one.last).sum::<u64>();
    assert!(wait_for(PROMPTLY, || !sql(data, "log", "SELECT 1 FROM records LIMIT 1").is_empty()), "no trade is logged");

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
    let open = || sql(data, "tables", "SELECT count(*) FROM gaps WHERE state <> 'filled'");
    assert!(wait_for(Duration::from_secs(300), || open() == ["0"]), "{:?} gaps are not filled", open());
    pause(Duration::from_secs(1));
    assert_eq!(audit(&["--wait", "60", "--data", data]).0, 0);
    for process in [up, the_tables_are_the_market(exchange, &issued, data, sim)] {
        assert_eq!(process.signal("TERM", PROMPTLY).and_then(|status| status.code()), Some(0));
    }
    let (status, report) = audit(&["--data", data]);
    assert_eq!((status, total(&report, "missing")), (0, 0), "{:#}", report["findings"]);
    assert_eq!(total(&report, "archive"), total(&report, "issued"));
    gaps_are_on_record(data, skips);
    the_log_has_every_id_once(data, total(&report, "issued"));
}

/// The oracle computes the market again, while the simulator can still say what it was.
fn the_tables_are_the_market(exchange: std::net::SocketAddr, issued: &Issued, data: &str, sim: Process) -> Process {
    let config: SimConfig = serde_json::from_str(&get(exchange, "/sim/config").unwrap()).unwrap();
    let select = "SELECT symbol, trade_id, price, quantity, trade_time_us, buyer_is_maker FROM trades";
    let rows = sql(data, "tables", select);
    let trades = rows.iter().map(|row| e2e::trade_of(row, '|'));
    e2e::market::compare("tables", trades, &config, issued, &SYMBOLS.map(|symbol| symbol.parse().unwrap()));
    sim
}

fn gaps_are_on_record(data: &str, skips: u64) {
    let rows = sql(data, "tables", "SELECT count(*), sum(to_id - from_id + 1) FROM gaps WHERE state = 'filled'");
    let (gaps, ids) = rows[0].split_once('|').unwrap();
    println!("{gaps} gaps of {ids} ids were filled");
    // Ranges that were skipped while nobody was connected are part of larger gaps.
    assert!(ids.parse::<u64>().unwrap() >= skips * SKIPPED, "{ids} ids");
    assert!(gaps.parse::<u64>().unwrap() >= skips / 2, "{gaps} gaps");
}

/// Read from the log itself. What was fetched by REST has no event time.
fn the_log_has_every_id_once(data: &str, issued: u64) {
    let trades = "SELECT value ->> '$.s' AS symbol, value ->> '$.t' AS id, value ->> '$.E' AS live, \"offset\"
        FROM log WHERE topic = 'crypto-stream'";
    let once = sql(data, "log", &format!("SELECT count(*), count(DISTINCT symbol || id) FROM ({trades})"));
    assert_eq!(once, [format!("{issued}|{issued}")], "records, and different ids among them");
    let backwards = format!(
        "SELECT count(*) FROM (SELECT id - lag(id) OVER (PARTITION BY symbol ORDER BY \"offset\") AS step
         FROM ({trades}) WHERE live IS NOT NULL) WHERE step < 1"
    );
    assert_eq!(sql(data, "log", &backwards), ["0"], "live ids that are not larger than the one before");
    let fetched = sql(data, "log", &format!("SELECT count(*) FROM ({trades}) WHERE live IS NULL"));
    println!("the log has {issued} ids once, {} of them fetched by REST, the others in order", fetched[0]);
}

fn sql(data: &str, file: &str, query: &str) -> Vec<String> {
    e2e::sql(&Path::new(data).join(format!("{file}.sqlite")), query)
}
