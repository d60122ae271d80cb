//! Whatever is wrong is named, kept and counted, and nothing else is lost.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::{Process, Run, audit, fulltape, total, wait_for};
use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;

fn frame(id: u64) -> String {
    format!(
        r#"1723161255000000000 {{"stream":"btcusdt@trade","data":{{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":{id},"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}}}"#
    )
}

fn frames(ids: std::ops::Range<u64>) -> Vec<u8> {
    ids.map(|id| frame(id) + "\n").collect::<String>().into_bytes()
}

/// A folder with one recording in it, replayed into another folder in it.
struct Trial(TempDir);

impl Trial {
    fn new(name: &str, content: &[u8]) -> Self {
        let trial = Self(tempfile::tempdir().unwrap());
        std::fs::write(trial.0.path().join(name), content).unwrap();
        trial
    }

    fn data(&self) -> String {
        self.0.path().join("data").to_str().unwrap().to_owned()
    }

    fn replay(&self, name: &str) -> Run {
        let source = format!("replay:{}", self.0.path().join(name).display());
        fulltape(&["up", "--once", "--data", &self.data(), "--source", &source])
    }

    /// Trades stored, unusable inputs, and the reasons of the dead letters.
    fn outcome(&self, name: &str) -> (u64, usize, String) {
        let run = self.replay(name).expect(0);
        let (_, report) = audit(&["--data", &self.data()]);
        for store in ["log", "archive"] {
            assert_eq!(total(&report, store), total(&report, "tables"), "{store}: {report:#}");
        }
        let letters = self.dead_letters();
        let counted = format!(" {} inputs unusable", letters.len());
        assert!(run.out().contains(&counted), "expected{counted}, got {}", run.out());
        (total(&report, "tables"), letters.len(), letters.join("\n"))
    }

    /// The dead letters' headers and values, as SQLite's own tool shows them.
    fn dead_letters(&self) -> Vec<String> {
        let query = "SELECT quote(headers) || ' ' || quote(value) FROM records JOIN topics ON topics.id = topic \
                     WHERE topics.name = 'dead-letter'";
        let file = Path::new(&self.data()).join("log.sqlite");
        let output = Command::new("sqlite3").arg(file).arg(query).output().expect("sqlite3 is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| line.split(' ').map(unhex).collect::<Vec<_>>().join(" ")).collect()
    }
}

/// `X'6162'` is `ab`.
fn unhex(quoted: &str) -> String {
    let digits = quoted.trim_start_matches("X'").trim_end_matches('\'');
    let bytes =
        digits.as_bytes().chunks(2).filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}

#[test]
fn damaged_frames_become_dead_letters_and_others_are_ignored() {
    let data = |text: &str| format!(r#"1723161255000000000 {{"stream":"btcusdt@trade","data":{text}}}"#);
    let trade = |from: &str, to: &str| frame(999).replace(from, to);
    let dead: Vec<Vec<u8>> = [
        data(r#"{"e":"trade","#),
        "1723161255000000000 not json at all".to_owned(),
        "1723161255000000000 [1,2,3]".to_owned(),
        // A page of REST, and a row of it.
        r#"1723161255000000000 [{"id":5,"price":"1","qty":"1","time":1723161255342,"isBuyerMaker":true}]"#.to_owned(),
        r#"1723161255000000000 {"id":5,"price":"1","qty":"1","time":1723161255342,"isBuyerMaker":true}"#.to_owned(),
        trade(r#""t":999"#, r#""t":"999""#),
        trade(r#""t":999"#, r#""t":-1"#),
        trade(r#""t":999"#, r#""t":9223372036854775807"#),
        trade(r#""t":999"#, &format!(r#""t":"{}""#, "7".repeat(400_000))),
        trade(r#""T":1723161255342"#, r#""T":1893456000000"#),
        trade(r#""p":"61837.63000000""#, r#""p":"-5.0""#),
        trade(r#""p":"61837.63000000""#, r#""p":61837.63"#),
        trade(r#""p":"61837.63000000""#, r#""p":"1e400""#),
        trade(r#""p":"61837.63000000""#, &format!(r#""p":"{}""#, "9".repeat(60))),
        trade(r#""q":"0.02000000","#, ""),
        trade(r#""T":1723161255342"#, r#""T":12"#),
        trade(r#""s":"BTCUSDT""#, r#""s":"""#),
        "not a recorded line".to_owned(),
    ]
    .into_iter()
    .map(String::into_bytes)
    .chain([b"1723161255000000000 {\"e\":\"trade\",\"s\":\"\xff\xfe\"}".to_vec()])
    .collect();
    let ignored = [
        r#"{"result":null,"id":1}"#,
        r#"{"result":["btcusdt@trade"],"id":3}"#,
        r#"{"error":{"code":2,"msg":"Invalid request: unknown property"},"id":4}"#,
        r#"{"code":0,"msg":"Value not found"}"#,
        r#"{"lastUpdateId":160,"bids":[["0.0024","10"]],"asks":[["0.0026","100"]]}"#,
        r#"{"stream":"btcusdt@depth","data":{"e":"depthUpdate","E":1,"s":"BTCUSDT"}}"#,
        r#"{"stream":"btcusdt@x","data":{"e":"somethingNew","E":1}}"#,
        r#"{"u":400900217,"s":"BNBUSDT","b":"25.35190000","B":"31.21000000","a":"25.36520000","A":"40.66000000"}"#,
    ];
    let huge = format!("1723161255000000000 {{\"e\":\"trade\",\"s\":\"{}\"}}", "A".repeat(10 << 20));
    let mut content = Vec::new();
    for (n, bad) in dead.iter().enumerate() {
        content.extend(frames(n as u64..n as u64 + 1));
        content.extend([bad.as_slice(), b"\n"].concat());
    }
    for text in ignored {
        content.extend(format!("1723161255000000000 {text}\n").into_bytes());
    }
    content.extend(format!("{huge}\n").into_bytes());
    content.extend(frames(dead.len() as u64..1_000));
    let trial = Trial::new("recording", &content);
    let (stored, letters, reasons) = trial.outcome("recording");
    assert_eq!((stored, letters), (1_000, dead.len() + 1), "{reasons}");
    for expected in [
        "recording:2: ",
        "recording: line 36: ",
        "before tomorrow's",
        "recording:20: ",
        "61837.63",
        "not json at all",
        "10485",
    ] {
        assert!(reasons.contains(expected), "{expected} is not in {reasons}");
    }
}

#[test]
fn truncated_files_give_what_they_have() {
    let mut gz = GzEncoder::new(Vec::new(), Compression::default());
    gz.write_all(&frames(0..20_000)).unwrap();
    let gz = gz.finish().unwrap();
    let trial = Trial::new("cut.gz", &gz[..gz.len() / 2]);
    let (stored, letters, reasons) = trial.outcome("cut.gz");
    assert!((1_000..20_000).contains(&stored) && letters == 1, "{stored} stored, {letters} letters");
    assert!(reasons.contains("cut.gz: line ") && reasons.contains("damaged"), "{reasons}");

    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("BTCUSDT-trades-2024-08-08.csv", zip::write::SimpleFileOptions::default()).unwrap();
    let rows: String = (0..20_000).map(|id| row(id) + "\n").collect();
    zip.write_all(rows.as_bytes()).unwrap();
    let zip = zip.finish().unwrap().into_inner();
    let trial = Trial::new("BTCUSDT-trades-2024-08-08.zip", &zip);
    assert_eq!(trial.outcome("BTCUSDT-trades-2024-08-08.zip").0, 20_000);
    let trial = Trial::new("BTCUSDT-trades-2024-08-08.zip", &zip[..zip.len() / 2]);
    let run = trial.replay("BTCUSDT-trades-2024-08-08.zip");
    let said = run.err() + &trial_letters(&trial);
    assert!(said.contains("BTCUSDT-trades-2024-08-08.zip") && said.contains("expected"), "{said}");
}

fn trial_letters(trial: &Trial) -> String {
    if Path::new(&trial.data()).join("log.sqlite").exists() { trial.dead_letters().join("\n") } else { String::new() }
}

fn row(id: u64) -> String {
    format!("{id},61837.63000000,0.02000000,1236.75260000,1723161255342,True,True")
}

#[test]
fn rows_with_a_header_and_rows_of_another_shape() {
    let name = "BTCUSDT-trades-2024-08-08.csv";
    let header = "id,price,qty,quoteQty,time,isBuyerMaker,isBestMatch";
    let rows = [header, &row(1), &row(2), "3,61837.63,0.02", &row(4), "", "5,abc,0.02,1,1723161255342,true,true"];
    let trial = Trial::new(name, (rows.join("\n") + "\n").as_bytes());
    let (stored, letters, reasons) = trial.outcome(name);
    assert_eq!((stored, letters), (3, 2), "{reasons}");
    assert!(reasons.contains("line 4") && reasons.contains("7 columns") && reasons.contains("line 7"), "{reasons}");
}

/// A run that must fail, and what it must say.
fn fails(arguments: &[&str], status: i32, expected: &[&str]) {
    let run = fulltape(arguments).expect(status);
    let said = run.err();
    for text in expected {
        assert!(said.contains(text), "{arguments:?}: expected {text:?} in {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn sources_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let (data, here) = (folder.path().join("data"), folder.path().to_str().unwrap());
    let data = data.to_str().unwrap();
    std::fs::write(folder.path().join("empty"), "").unwrap();
    std::fs::write(folder.path().join("picture.png"), b"\x89PNG\r\n\x1a\n\0\0\0").unwrap();
    let source = |what: &str| format!("replay:{here}/{what}");
    let replay = |what: &str, expected: &[&str]| {
        fails(&["up", "--once", "--data", data, "--source", &source(what)], 1, expected);
    };
    replay("empty", &["empty"]);
    replay("", &["folder"]);
    replay("nothing-here.gz", &["nothing-here.gz", "there is no such file"]);
    replay("picture.png", &["picture.png", "expected"]);
    fails(&["up", "--once", "--data", data], 64, &["--once", "expected a source that ends"]);
    fails(&["up", "--once", "--data", data, "--source", &format!("lake:{here}")], 1, &["expected files"]);
    fails(&["up", "--data", data, "--source", "kraken"], 64, &["expected sim, binance", "kraken"]);
    fails(&["up", "--data", data, "--source", &source("empty"), "--rate", "fast"], 64, &["fast", "expected"]);
}

#[test]
fn settings_that_do_not_exist() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fulltape.toml");
    let config = |text: &str, expected: &[&str]| {
        std::fs::write(&file, text).unwrap();
        fails(&["processor", "--config", file.to_str().unwrap()], 64, expected);
    };
    config("[log]\nkindd = \"kafka\"\n", &["kindd", "kind"]);
    config("[log]\nstream = \"no topic!\"\npartitions = 0\n", &["log.stream", "log.partitions"]);
    config(
        "[ingest]\nmark_records = 0\npending_bytes = 1\n",
        &["ingest.mark_records: expected 1", "ingest.pending_bytes"],
    );
    config("[processor]\ncheckpoint_ms = 9223372036854775807\n", &["processor.checkpoint_ms: expected 1 to"]);
    config("[archiver]\nretry_min_ms = 10\nretry_max_ms = 9\n", &["archiver.retry_min_ms"]);
    config("[binance]\nqueue_frames = 0\n", &["queue_frames: expected more than zero"]);
    config("[source]\npace = \"0x\"\n", &["source.pace"]);
    config("[source]\nsymbols = [\"btc/usdt\"]\n", &["source.symbols", "btc/usdt"]);
    config("[log\n", &["fulltape.toml"]);
    fails(&["processor", "--config", "/nowhere/fulltape.toml"], 64, &["/nowhere/fulltape.toml"]);
    fails(&["up", "--frobnicate"], 64, &["--frobnicate"]);
    fails(&["fly"], 64, &["fly"]);
}

#[test]
fn settings_of_the_environment() {
    let unknown = Command::new(e2e::binary()).args(["audit"]).env("FULLTAPE__LOG__KINDD", "kafka").output().unwrap();
    assert_eq!(unknown.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("FULLTAPE__LOG__KINDD"));
    let mut masked = Command::new(e2e::binary());
    let masked = masked.args(["audit", "--print-config"]).env("FULLTAPE__TABLES__CASSANDRA__PASSWORD", "s3cret");
    let output = masked.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.contains("[log]") && !printed.contains("s3cret"), "{printed}");
}

#[test]
fn servers_and_symbols_that_are_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let (file, log) = (folder.path().join("fulltape.toml"), folder.path().join("log"));
    let nobody = e2e::free_address();
    std::fs::write(
        &file,
        format!("[log]\nkind = \"kafka\"\nkafka.brokers = \"{nobody}\"\n[archive]\nkind = \"local\"\n[tables]\nkind = \"local\"\n"),
    )
    .unwrap();
    let data = folder.path().join("data");
    let run = Command::new(e2e::binary())
        .args(["init", "--config", file.to_str().unwrap()])
        .env("FULLTAPE__DATA", &data)
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(1));
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(said.contains(&nobody.to_string()), "{said}");

    let sim = e2e::free_address();
    let settings =
        format!("[sim]\nlisten = \"{sim}\"\n[binance]\nws_url = \"ws://{sim}\"\nrest_url = \"http://{sim}\"\n");
    std::fs::write(&file, settings).unwrap();
    let (config, data) = (file.to_str().unwrap(), data.to_str().unwrap());
    let exchange = Process::start(&["sim", "--config", config], &log);
    assert!(wait_for(Duration::from_secs(10), || e2e::get(sim, "/api/v3/time").is_ok()));
    let arguments =
        ["up", "--config", config, "--data", data, "--source", "binance", "--symbols", "BTCUSDT,NOSUCHCOIN"];
    fails(&arguments, 1, &["NOSUCHCOIN"]);
    assert!(exchange.signal("TERM", Duration::from_secs(10)).is_some_and(|status| status.success()));
}

#[test]
fn data_folders_that_cannot_be_used() {
    let trial = Trial::new("recording", &frames(0..10));
    let data = trial.data();
    let first = Process::start(&["up", "--data", &data], &trial.0.path().join("log"));
    assert!(wait_for(Duration::from_secs(10), || Path::new(&data).join("tables.sqlite").exists()));
    let second = trial.replay("recording").expect(1);
    assert!(second.err().contains("in use by another process"), "{}", second.err());
    assert!(first.signal("TERM", Duration::from_secs(10)).is_some_and(|status| status.success()));

    let mixed = trial.replay("recording").expect(1);
    assert!(mixed.err().contains("holds simulated trades"), "{}", mixed.err());

    std::fs::write(Path::new(&data).join("VERSION"), "99\n").unwrap();
    let newer = trial.replay("recording").expect(1);
    assert!(newer.err().contains("format 99"), "{}", newer.err());
    assert!(fulltape(&["audit", "--data", &data]).expect(2).err().contains("format 99"));

    let foreign = trial.0.path().to_str().unwrap();
    assert!(fulltape(&["up", "--data", foreign]).expect(1).err().contains("not empty and not a data folder"));
    assert!(fulltape(&["audit", "--data", foreign]).expect(2).err().contains("not a data folder"));
}

/// In which partition a symbol is depends on how many there are.
#[test]
fn a_tape_keeps_its_partitions() {
    let trial = Trial::new("recording", &frames(0..10));
    let _ = trial.replay("recording").expect(0);
    let (data, recording) = (trial.data(), trial.0.path().join("recording"));
    for partitions in ["5", "12"] {
        let mut other = Command::new(e2e::binary());
        other.args(["up", "--once", "--data", &data, "--source", &format!("replay:{}", recording.display())]);
        let output = other.env("FULLTAPE__LOG__PARTITIONS", partitions).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("expected {partitions} partitions, found 6")), "{said}");
    }
    let again = trial.replay("recording").expect(0);
    assert!(again.out().contains("10 duplicates dropped"), "{}", again.out());
}

/// Whoever waits for the end of a recording is told that it has not come.
#[test]
fn an_interrupted_replay_says_so() {
    let trial = Trial::new("recording", &[frames(0..1_000), slow_frame()].concat());
    let source = format!("replay:{}", trial.0.path().join("recording").display());
    let log = trial.0.path().join("log");
    let arguments = ["up", "--once", "--rate", "recorded", "--data", &trial.data(), "--source", &source];
    let process = Process::start(&arguments, &log);
    let tables = Path::new(&trial.data()).join("tables.sqlite");
    let has_begun = || tables.exists() && e2e::sql(&tables, "SELECT count(*) FROM trades") == ["1000"];
    assert!(wait_for(Duration::from_secs(20), has_begun), "{}", std::fs::read_to_string(&log).unwrap());
    assert_eq!(process.signal("TERM", Duration::from_secs(10)).and_then(|status| status.code()), Some(1));
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("interrupted before the end"), "{said}");
}

/// Recorded twenty minutes later.
fn slow_frame() -> Vec<u8> {
    frame(1_000).replace("1723161255000000000", "1723162455000000000").into_bytes()
}

/// A verdict on nothing is none.
#[test]
fn audits_that_would_compare_nothing() {
    let trial = Trial::new("recording", &frames(0..10));
    let _ = trial.replay("recording").expect(0);
    let data = trial.data();
    fails(&["audit", "--data", &data, "--symbol", "BTCUSDT,NOSUCH"], 2, &["NOSUCH", "no trades of it"]);
    fails(&["audit", "--data", &data, "--from", "2025-01-01", "--to", "2024-01-01"], 64, &["--from: expected"]);
    let _ = fulltape(&["audit", "--data", &data, "--symbol", "BTCUSDT"]).expect(0);
}

/// What is appended to the new one stands where others stood that are stored already.
#[test]
fn a_log_that_is_gone_is_named() {
    let trial = Trial::new("recording", &frames(0..10));
    let _ = trial.replay("recording").expect(0);
    for file in ["log.sqlite", "log.sqlite-wal", "log.sqlite-shm"] {
        // The last two are there while it is in use.
        let _ = std::fs::remove_file(Path::new(&trial.data()).join(file));
    }
    std::fs::write(trial.0.path().join("more"), frames(10..13)).unwrap();
    let refused = trial.replay("more").expect(1);
    assert!(refused.err().contains("was asked for, but the log ends at"), "{}", refused.err());
}

/// A folder on a file system of a few megabytes, unmounted in the end.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(folder.path()).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        println!("skipped: a small file system can only be mounted by root");
        None
    }

    fn enlarge(&self) {
        let grown = Command::new("mount").args(["-o", "remount,size=200m"]).arg(self.0.path()).status();
        assert!(grown.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// Nobody can go on without a disk, so everybody waits, and says for what.
#[test]
fn a_full_disk_is_named_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    let trial = Trial::new("recording", &frames(0..50_000));
    let data = disk.0.path().join("data");
    let source = format!("replay:{}", trial.0.path().join("recording").display());
    let arguments = ["up", "--once", "--data", data.to_str().unwrap(), "--source", &source];
    let log = trial.0.path().join("log");
    let process = Process::start(&arguments, &log);
    let said = || std::fs::read_to_string(&log).unwrap();
    let named =
        wait_for(Duration::from_secs(20), || said().contains("disk is full") || said().contains("No space left"));
    assert!(named, "{}", said());
    disk.enlarge();
    assert!(process.ends(Duration::from_secs(60)).is_some_and(|status| status.success()), "{}", said());
    assert!(said().contains("50,000 trades, 0 missing"), "{}", said());
    let (status, report) = audit(&["--data", data.to_str().unwrap()]);
    assert_eq!((status, total(&report, "tables")), (0, 50_000), "{report:#}");
}
