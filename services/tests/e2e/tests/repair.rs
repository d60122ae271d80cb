//! What other hands did to a tape: `fulltape audit --deep` finds it, `--repair` mends it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use e2e::{Process, audit, fulltape, total, wait_for};
use serde_json::Value;

const TRADES: u64 = 30_000;

/// 2024-08-08T22:30:00Z in µs: three hours, on two days.
const START: u64 = 1_723_156_200_000_000;

/// A tape of one symbol, in files of 7,000 rows.
fn tape(folder: &Path) -> PathBuf {
    let row = |id: u64| format!("{id},61837.{:02}000000,0.02000000,0,{},True,True\n", id % 100, START + id * 240_000);
    let recording = folder.join("BTCUSDT-trades-2024-08-08.csv");
    fs::write(&recording, (1..=TRADES).map(row).collect::<String>()).unwrap();
    let config = folder.join("config.toml");
    fs::write(&config, "[archiver]\nroll_rows = 7000\n[log]\npartitions = 2\n").unwrap();
    replay(folder);
    folder.join("data")
}

fn replay(folder: &Path) {
    let source = format!("replay:{}", folder.join("BTCUSDT-trades-2024-08-08.csv").display());
    let (data, config) = (folder.join("data"), folder.join("config.toml"));
    let _ =
        fulltape(&["up", "--once", "--source", &source, "--data", text(&data), "--config", text(&config)]).expect(0);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The files of a dataset, in order.
fn files(data: &Path, dataset: &str) -> Vec<PathBuf> {
    let days = fs::read_dir(data.join("crypto_data").join(dataset)).unwrap();
    let mut files: Vec<PathBuf> =
        days.flat_map(|day| fs::read_dir(day.unwrap().path()).unwrap()).map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

fn flip_a_bit(file: &Path) {
    let mut content = fs::read(file).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 0x10;
    fs::write(file, content).unwrap();
}

fn sql(data: &Path, statement: &str) {
    let done = Command::new("sqlite3").arg(data.join("tables.sqlite")).arg(statement).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn kinds(report: &Value) -> Vec<&str> {
    let mut kinds: Vec<&str> =
        report["findings"].as_array().unwrap().iter().map(|finding| finding["finding"].as_str().unwrap()).collect();
    kinds.dedup();
    kinds
}

#[test]
fn damage_is_found_and_mended() {
    let folder = tempfile::tempdir().unwrap();
    let data = tape(folder.path());
    let at = ["--data", text(&data)];
    let (status, report) = audit(&at);
    assert_eq!((status, total(&report, "archive")), (0, TRADES), "{report:#}");
    let (trades, raw) = (files(&data, "trades"), files(&data, "raw/crypto-stream"));
    // A busy machine makes more: a pause ends a file.
    assert!(trades.len() >= 5 && raw.len() >= 5, "the test wants several files of each");
    let all = trades.len() + raw.len();
    assert_eq!(report["effort"]["files"], all);
    let (_, again) = audit(&at);
    assert_eq!((&again["effort"]["files"], &again["effort"]["files_proved_before"]), (&0.into(), &all.into()));
    assert_eq!(again["effort"]["hours_proved_before"], 3);

    type Harm = (&'static str, Box<dyn Fn(&Path)>, &'static str);
    let (middle, verbatim, gone) = (trades[2].clone(), raw[1].clone(), trades[3].clone());
    let last = trades[trades.len() - 1].clone();
    let (twin, elsewhere) = (trades[2].clone(), data.join("crypto_data/trades/date=2030-01-01"));
    fs::create_dir(&elsewhere).unwrap();
    let shifted = "symbol, hour_us + 3600000000, trade_time_ms + 3600000, trade_id, price, quantity,
        trade_time_us + 3600000000, event_time_us, received_at_us, buyer_is_maker, origin";
    let harms: [Harm; 11] = [
        ("a flipped bit in a file of trades", Box::new(move |_| flip_a_bit(&middle)), "damaged"),
        ("a flipped bit in a file of records", Box::new(move |_| flip_a_bit(&verbatim)), "damaged"),
        ("a file that is gone", Box::new(move |_| fs::remove_file(&gone).unwrap()), "broken_chain"),
        ("a last file that is cut off", Box::new(move |_| fs::write(&last, "PAR1").unwrap()), "damaged"),
        ("a deleted row", Box::new(|data| sql(data, "DELETE FROM trades WHERE trade_id = 17")), "absent"),
        (
            "a changed price",
            Box::new(|data| sql(data, "UPDATE trades SET price = '61837.01000001' WHERE trade_id = 29000")),
            "differing",
        ),
        (
            "a row that nobody traded",
            Box::new(|data| {
                sql(
                    data,
                    "INSERT INTO trades SELECT symbol, hour_us, trade_time_ms, 99999, price, quantity,
                    trade_time_us, event_time_us, received_at_us, buyer_is_maker, origin FROM trades LIMIT 1",
                );
            }),
            "surplus",
        ),
        (
            "a row that stands in a second hour, too",
            Box::new(move |data| {
                sql(data, &format!("INSERT INTO trades SELECT {shifted} FROM trades WHERE trade_id = 100"));
            }),
            "surplus",
        ),
        (
            "a row that moved to another hour",
            Box::new(move |data| {
                sql(
                    data,
                    &format!(
                        "INSERT INTO trades SELECT {shifted} FROM trades WHERE trade_id = 200;
                        DELETE FROM trades WHERE trade_id = 200 AND hour_us = 1723154400000000"
                    ),
                );
            }),
            "absent",
        ),
        (
            "a second file of the same records",
            Box::new(move |_| {
                fs::copy(&twin, elsewhere.join(twin.file_name().unwrap())).unwrap();
            }),
            "broken_chain",
        ),
        (
            "an hour that is gone",
            Box::new(|data| sql(data, "DELETE FROM trades WHERE hour_us = 1723158000000000")),
            "absent",
        ),
    ];
    for (what, harm, kind) in &harms {
        harm(&data);
        let (status, report) = audit(&["--deep", "--data", text(&data)]);
        assert_eq!(status, 1, "{what} was not found");
        assert!(kinds(&report).contains(kind), "{what}: {:#}", report["findings"]);
        let hints = report["hints"].as_array().unwrap();
        assert!(hints.iter().any(|hint| hint.as_str().unwrap().contains("--repair")), "{what}: {hints:?}");
        let (status, report) = audit(&["--deep", "--repair", "--data", text(&data)]);
        if *what == "a last file that is cut off" {
            // Where it ended nobody knows: the archiver, who does not find it, writes it again.
            replay(folder.path());
        } else {
            assert_eq!(status, 0, "{what} was not mended: {:#}", report["findings"]);
            let places = if what.contains("moved") { 2 } else { 1 };
            assert_eq!(report["mended"].as_array().unwrap().len(), places, "{what}: {:#}", report["mended"]);
        }
        let (status, report) = audit(&["--deep", "--data", text(&data)]);
        assert_eq!((status, total(&report, "tables"), total(&report, "archive")), (0, TRADES, TRADES), "{what}");
    }
    assert_eq!(files(&data, "trades"), trades, "the same files under the same names");
    fs::copy(&trades[0], trades[0].with_file_name("copy.parquet")).unwrap();
    let (status, report) = audit(&["--data", text(&data)]);
    assert_eq!((status, kinds(&report)), (1, vec!["stranger"]), "{report:#}");
}

#[test]
fn only_what_is_asked_for_is_audited() {
    let folder = tempfile::tempdir().unwrap();
    let data = tape(folder.path());
    let hours = |arguments: &[&str]| -> Vec<String> {
        let (status, report) = audit(&[arguments, &["--data", text(&data)]].concat());
        assert_eq!(status, 0, "{:#}", report["findings"]);
        report["hours"].as_array().unwrap().iter().map(|hour| hour["hour"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(hours(&["--from", "2024-08-08T23:10:00Z"]), ["2024-08-08T23:00:00Z", "2024-08-09T00:00:00Z"]);
    assert_eq!(hours(&["--to", "2024-08-08T23:00:00Z"]), ["2024-08-08T22:00:00Z"]);
    assert_eq!(hours(&["--from", "2024-08-09", "--to", "2024-08-10"]), ["2024-08-09T00:00:00Z"]);
    let absent = fulltape(&["audit", "--symbol", "ETHUSDT", "--data", text(&data)]).expect(2);
    assert!(absent.err().contains("no trades of it"), "{}", absent.err());
    // What is wrong elsewhere does not matter then.
    sql(&data, "DELETE FROM trades WHERE trade_id = 30000");
    assert_eq!(hours(&["--deep", "--to", "2024-08-09"]).len(), 2);
    assert_eq!(audit(&["--deep", "--from", "2024-08-09", "--data", text(&data)]).0, 1);
    let wrong = fulltape(&["audit", "--from", "yesterday"]).expect(64);
    assert!(wrong.err().contains("--from") && wrong.err().contains("expected a date or a time"), "{}", wrong.err());
}

/// Whoever is writing a tape may not be disturbed.
#[test]
fn a_tape_in_use_is_not_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let running = Process::start(&["up", "--data", text(&data)], &log);
    assert!(wait_for(Duration::from_secs(10), || data.join("tables.sqlite").exists()));
    let refused = fulltape(&["audit", "--repair", "--data", text(&data)]).expect(2);
    assert!(refused.err().contains("--repair needs the tape for itself"), "{}", refused.err());
    assert_eq!(running.signal("TERM", Duration::from_secs(10)).and_then(|status| status.code()), Some(0));
}
