//! Recorded trades, from end to end in one process: nothing lost, nothing doubled, every digit kept.

use std::path::{Path, PathBuf};

use e2e::{audit, figures, fulltape, python, recordings, total};
use serde_json::{Value, json};

/// What the recordings' own description says of them.
fn btc() -> Value {
    json!({"BTCUSDT": {"count": 19_904, "distinct": 19_904, "first": 3_735_683_259_u64, "last": 3_735_703_162_u64,
        "sum_q": "437.91552", "sum_pq": "27006929.5910348"}})
}

fn trx() -> Value {
    json!({"TRXUSDT": {"count": 10_000, "distinct": 10_000, "first": 348_656_870_u64, "last": 348_666_869_u64,
        "sum_q": "45996895.9", "sum_pq": "10666021.10336"}})
}

/// Replays files in order, and returns what was printed.
fn replay(data: &Path, files: &[&Path]) -> String {
    let mut arguments = vec!["up".to_owned(), "--once".to_owned(), "--data".to_owned(), text(data)];
    arguments.extend(files.iter().flat_map(|file| ["--source".to_owned(), format!("replay:{}", file.display())]));
    fulltape(&arguments).expect(0).out()
}

fn text(path: &Path) -> String {
    path.to_str().expect("test paths are text").to_owned()
}

/// Archive and tables, as others read them.
fn check(data: &Path, expected: &Value) {
    let Some(python) = python() else { return };
    assert_eq!(&figures(&python, &["trades".to_owned(), text(&data.join("crypto_data"))]), expected, "archive");
    assert_eq!(&figures(&python, &["tables".to_owned(), text(&data.join("tables.sqlite"))]), expected, "tables");
}

fn is_complete(data: &Path, trades: u64) {
    let (status, report) = audit(&["--data", &text(data)]);
    assert_eq!((status, &report["findings"], &report["pending"]), (0, &json!([]), &json!(0)), "{report:#}");
    for figure in ["issued", "log", "tables", "archive"] {
        assert_eq!(total(&report, figure), trades, "{figure}: {report:#}");
    }
}

#[test]
fn btcusdt_frames_and_back() {
    let Some(recordings) = recordings() else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let days = ["20240808", "20240809"].map(|day| recordings.join(format!("binance_spot_ws_btcusdt/btcusdt_{day}.gz")));
    let out = replay(&data, &[&days[0], &days[1]]);
    assert!(out.starts_with("19,904 trades, 0 missing, 0 duplicates dropped, 0 inputs unusable\n"), "{out}");
    check(&data, &btc());
    is_complete(&data, 19_904);

    // The archive is a source too: what comes out of it is, byte for byte, what the exchange sent.
    let (lake, again) = (data.join("crypto_data"), folder.path().join("again"));
    fulltape(&["up", "--once", "--source", &format!("lake:{}", lake.display()), "--data", &text(&again)])
        .expect(0)
        .out()
        .starts_with("19,904 trades, 0 missing")
        .then_some(())
        .expect("all trades, replayed from the archive");
    check(&again, &btc());
    is_complete(&again, 19_904);
    let Some(python) = python() else { return };
    for root in [lake, again.join("crypto_data")] {
        let compared = figures(&python, &["raw".to_owned(), text(&root), text(&days[0]), text(&days[1])]);
        assert_eq!(compared, json!({"archived": 19_904, "recorded": 19_904, "same": 19_904}));
    }

    // The same recording again is nothing new.
    let out = replay(&data, &[&days[0], &days[1]]);
    assert!(out.starts_with("0 trades, 0 missing, 19,904 duplicates dropped"), "{out}");
    check(&data, &btc());
    is_complete(&data, 19_904);
}

#[test]
fn trxusdt_frames_keep_their_microseconds() {
    let Some(recordings) = recordings() else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = replay(folder.path(), &[&recordings.join("derived/trxusdt_20250304_us.frames.gz")]);
    assert!(out.starts_with("10,000 trades, 0 missing, 0 duplicates dropped, 0 inputs unusable\n"), "{out}");
    check(folder.path(), &trx());
    is_complete(folder.path(), 10_000);
    let Some(python) = python() else { return };
    let rows = e2e::read_independently(&python, &["rows".to_owned(), text(&folder.path().join("crypto_data"))]);
    let times = rows.lines().map(|row| row.split(',').nth(4).unwrap().parse::<u64>().unwrap());
    let finer_than_ms = times.filter(|time| time % 1_000 != 0).count();
    assert!(finer_than_ms > 9_000, "{finer_than_ms} of 10,000 times have microseconds");
}

#[test]
fn public_archive_files() {
    let Some(recordings) = recordings() else { return };
    let files = [("BTCUSDT-trades-2024-08-08T2354.csv.gz", btc()), ("TRXUSDT-trades-2025-03-04.csv.gz", trx())];
    for (file, expected) in files {
        let folder = tempfile::tempdir().unwrap();
        let out = replay(folder.path(), &[&recordings.join("derived").join(file)]);
        assert!(out.contains(" 0 missing, 0 duplicates dropped, 0 inputs unusable"), "{out}");
        check(folder.path(), &expected);
        is_complete(folder.path(), expected.as_object().unwrap().values().next().unwrap()["count"].as_u64().unwrap());
    }
}

#[test]
fn two_defects_are_found_and_nothing_else_is_touched() {
    let Some(recordings) = recordings() else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = replay(folder.path(), &[&recordings.join("derived/trxusdt_20250304_us.two-defects.frames.gz")]);
    assert!(out.starts_with("9,999 trades, 1 missing, 1 duplicates dropped, 1 inputs unusable\n"), "{out}");
    let run = fulltape(&["audit", "--data", &text(folder.path())]).expect(1);
    assert!(run.out().contains("TRXUSDT 348656872 missing"), "{}", run.out());
    let (status, report) = audit(&["--data", &text(folder.path())]);
    assert_eq!(status, 1);
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{report:#}");
    assert_eq!((&findings[0]["finding"], &findings[0]["ids"]), (&json!("missing"), &json!("348656872")));
    assert_eq!([total(&report, "dropped"), total(&report, "missing")], [1, 1]);
    for store in ["log", "tables", "archive"] {
        assert_eq!(total(&report, store), 9_999, "{store}");
    }
}

#[test]
fn an_audit_beside_a_damaged_store_says_so() {
    let Some(recordings) = recordings() else { return };
    let folder = tempfile::tempdir().unwrap();
    replay(folder.path(), &[&recordings.join("derived/trxusdt_20250304_us.frames.gz")]);
    let days = std::fs::read_dir(folder.path().join("crypto_data/trades")).unwrap();
    let names = days.flat_map(|day| std::fs::read_dir(day.unwrap().path()).unwrap());
    // Several, where a busy machine made a pause.
    let files: Vec<PathBuf> = names.map(|file| file.unwrap().path()).collect();
    let file = files.iter().max().unwrap();
    let whole = std::fs::read(file).unwrap();
    std::fs::write(file, &whole[..whole.len() - 100]).unwrap();
    let run = fulltape(&["audit", "--data", &text(folder.path())]);
    assert_ne!(run.status(), 0);
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(run.err().contains(name) || run.out().contains(name), "names the file:\n{}{}", run.out(), run.err());
    std::fs::remove_file(file).unwrap();
    // A file that is gone from the end looks like one that is still to come: it stays pending.
    let (status, report) = audit(&["--data", &text(folder.path())]);
    let pending = report["pending"].as_u64().unwrap();
    let is_all = files.len() == 1;
    assert_eq!((status, &report["complete"]), (if is_all { 2 } else { 0 }, &json!(!is_all)), "{report:#}");
    assert!(pending == 10_000 || (!is_all && pending > 0), "{report:#}");
    let run = fulltape(&["audit", "--wait", "1", "--data", &text(folder.path())]).expect(2);
    assert!(run.err().contains(&format!("{pending} records are still not stored and archived")), "{}", run.err());
}
