//! What was acknowledged stays: over a restart, a process that was killed, a full disk; and what is
//! damaged or not allowed is told by name.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::{GapRow, Headers, IdRange, Outgoing, Position, Timestamp, Topic, TopicPartition};
use local::{LocalArchive, LocalLog, LocalTables};
use ports::{Archive, Clock, LogEvent, LogReader, LogScan, LogWriter, PortError, Start, SystemClock, Tables};

const TOPIC: &str = "crypto-stream";

fn open(folder: &Path) -> LocalLog {
    LocalLog::open(folder, &[(Topic::from(TOPIC), 3)], Arc::new(SystemClock)).unwrap()
}

fn record(value: impl Into<Bytes>) -> Outgoing {
    let to = TopicPartition::new(TOPIC, 1);
    Outgoing { to, key: None, value: Some(value.into()), headers: Headers::new() }
}

fn position(offset: i64) -> Position {
    Position { at: TopicPartition::new(TOPIC, 1), offset }
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3_i64 {
        let log = open(folder.path());
        let positions = log.append((0..10).map(|n| record(format!("{round} {n}"))).collect()).await.unwrap();
        assert_eq!(positions[0], position(round * 10));
    }
    let partitions = i32::try_from(open(folder.path()).bounds(TOPIC).await.unwrap().len()).unwrap();
    let reopen = |topics: &[(Topic, i32)]| LocalLog::open(folder.path(), topics, Arc::new(SystemClock));
    let log = reopen(&[(Topic::from(TOPIC), partitions), (Topic::from("new"), 2)]).unwrap();
    assert_eq!(log.bounds("new").await.unwrap().len(), 2, "topics can be added");
    assert_eq!(log.bounds(TOPIC).await.unwrap()[1].end, 30);
    drop(log);
    for other in [partitions - 1, partitions + 1] {
        let error = reopen(&[(Topic::from(TOPIC), other)]).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(&format!("expected {other} partitions, found {partitions}")), "{error}");
    }
}

/// What was stopped in order can be copied as one file, though somebody is still reading.
#[tokio::test]
async fn the_end_leaves_everything_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    log.append((0..100).map(|n| record(n.to_string())).collect()).await.unwrap();
    let reading = LocalLog::open_read_only(folder.path()).unwrap();
    assert_eq!(reading.bounds(TOPIC).await.unwrap()[1].end, 100);
    drop(log);
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(folder.path().join("log.sqlite"), copy.path().join("log.sqlite")).unwrap();
    let copied = LocalLog::open_read_only(copy.path()).unwrap();
    assert_eq!(copied.bounds(TOPIC).await.unwrap()[1].end, 100);
}

/// The test below runs this one in a process of its own, and kills it.
#[tokio::test]
async fn child_that_appends_until_it_is_killed() {
    #[allow(clippy::disallowed_methods)] // the way in for the parent
    let Ok(folder) = std::env::var("FULLTAPE_TEST_FOLDER") else { return };
    let log = open(Path::new(&folder));
    for n in 0.. {
        let last = log.append((0..7).map(|m| record(format!("{n} {m}"))).collect()).await.unwrap()[6].offset;
        println!("acknowledged {last}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = -1;
    for _ in 0..3 {
        let output = folder.path().join("output");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_appends_until_it_is_killed", "--nocapture"])
            .env("FULLTAPE_TEST_FOLDER", folder.path())
            .stdout(fs::File::create(&output).unwrap())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let said = fs::read_to_string(&output).unwrap();
        let last = said.lines().filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<i64>().ok()).next_back();
        let last = last.expect("the child appended something");
        assert!(last > acknowledged, "each life goes on behind the one before");
        acknowledged = last;

        let scan = LocalLog::open_read_only(folder.path()).unwrap();
        let end = scan.bounds(TOPIC).await.unwrap()[1].end;
        assert!(end > acknowledged, "{acknowledged} was acknowledged, the log ends at {end}");
        let records = scan.read(&position(0), end).await.unwrap();
        assert!(records.iter().map(|record| record.offset).eq(0..records.len() as i64), "no holes");
    }
}

#[tokio::test]
async fn a_group_has_one_member() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let topics = [Topic::from(TOPIC)];
    let first = log.reader("processor", &topics).unwrap();
    let second = log.reader("processor", &topics).map(|_| ()).unwrap_err();
    assert!(matches!(second, PortError::Refused { .. }));
    assert!(second.to_string().contains("group processor has a member that reads crypto-stream"), "{second}");
    assert!(log.reader("archiver", &topics).is_ok(), "another group is another matter");
    drop(first);
    assert!(log.reader("processor", &topics).is_ok(), "who left can be replaced");
    let unknown = log.reader("processor", &[Topic::from("nowhere")]).map(|_| ()).unwrap_err();
    assert!(unknown.to_string().contains("there is no topic nowhere"), "{unknown}");
}

struct Jumping(std::sync::atomic::AtomicI64);

impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        // Back by a second each time.
        Timestamp::from_micros(self.0.fetch_sub(1_000_000, std::sync::atomic::Ordering::Relaxed))
    }
}

#[tokio::test]
async fn times_never_go_back_and_commits_can_be_seen() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Jumping(1_723_161_255_342_000.into());
    let log = LocalLog::open(folder.path(), &[(Topic::from(TOPIC), 3)], Arc::new(clock)).unwrap();
    for n in 0..5 {
        log.append(vec![record(format!("{n}"))]).await.unwrap();
    }
    let records = log.read(&position(0), 5).await.unwrap();
    assert!(records.windows(2).all(|pair| pair[0].appended_at <= pair[1].appended_at), "{records:?}");

    let mut reader = log.reader("processor", &[Topic::from(TOPIC)]).unwrap();
    let LogEvent::Assigned(assignment) = reader.next().await.unwrap() else { panic!("an assignment comes first") };
    let starts = assignment.partitions().iter().map(|at| Start::Earliest(at.clone())).collect();
    assignment.start(starts);
    let LogEvent::Records(read) = reader.next().await.unwrap() else { panic!("then records") };
    assert_eq!(read, records);
    reader.commit(&[position(5)]).await.unwrap();
    drop((reader, log));

    let shell = rusqlite::Connection::open(folder.path().join("log.sqlite")).unwrap();
    let sql = "SELECT next_offset FROM groups WHERE name = 'processor' AND topic = 'crypto-stream' AND partition = 1";
    assert_eq!(shell.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap(), 5);
    let sql = r#"SELECT topic || ' ' || appended_at || ' ' || value FROM log WHERE "offset" = 2"#;
    let line = shell.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(line, "crypto-stream 2024-08-08T23:54:15.342000Z 2");
}

#[tokio::test]
async fn damage_is_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["log.sqlite", "tables.sqlite"] {
        fs::write(folder.path().join(name), vec![b'x'; 10_000]).unwrap();
    }
    let log = LocalLog::open(folder.path(), &[(Topic::from(TOPIC), 3)], Arc::new(SystemClock)).map(|_| ());
    let tables = LocalTables::open(folder.path()).map(|_| ());
    let reading = LocalLog::open_read_only(folder.path()).map(|_| ());
    for (result, file) in [(log, "log.sqlite"), (tables, "tables.sqlite"), (reading, "log.sqlite")] {
        let error = result.unwrap_err();
        assert!(matches!(error, PortError::Refused { .. }), "{error:?}");
        assert!(error.to_string().contains(&format!("{file} is damaged")), "{error}");
    }
    let nothing = LocalTables::open_read_only(folder.path().join("nowhere")).map(|_| ()).unwrap_err();
    assert!(nothing.to_string().contains("there is no file"), "{nothing}");
}

#[tokio::test]
async fn paths_stay_below_the_root() {
    let folder = tempfile::tempdir().unwrap();
    let archive = LocalArchive::open(folder.path().join("root"));
    for path in ["../x", "/etc/passwd", "a/../../x", "a//b", "a/./b", "", "a/", "a\0b"] {
        for result in [
            archive.write(path, Bytes::new()).await,
            archive.publish("a", path).await.map(|_| ()),
            archive.publish(path, "a").await.map(|_| ()),
            archive.read(path, 0, 1).await.map(|_| ()),
            archive.length(path).await.map(|_| ()),
            archive.remove(path).await,
        ] {
            assert!(matches!(result, Err(PortError::Refused { .. })), "{path:?}: {result:?}");
        }
    }
    assert!(archive.list("").await.unwrap().is_empty(), "the root itself can be listed");
}

/// A small disk of its own, if this process may mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m", "none"]).arg(folder.path()).output();
        let mounted = mount.is_ok_and(|output| output.status.success());
        if !mounted {
            println!("skipped: this process may not mount a small disk");
        }
        mounted.then_some(Self(folder))
    }

    fn fill(&self) {
        let _ = fs::write(self.0.path().join("ballast"), vec![7; 4 << 20]);
    }

    fn make_read_only(&self) {
        let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(self.0.path()).status();
        assert!(remounted.unwrap().success(), "a disk that was mounted can be made read-only");
    }

    fn free(&self) {
        fs::remove_file(self.0.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[tokio::test]
async fn a_full_disk_stops_nothing_for_good() {
    let Some(disk) = SmallDisk::mount() else { return };
    let folder = disk.0.path();
    let (log, tables, archive) = (open(folder), LocalTables::open(folder).unwrap(), LocalArchive::open(folder));
    let gap = |n: u64| GapRow {
        symbol: "BTCUSDT".parse().unwrap(),
        ids: IdRange::one(n),
        state: domain::ledger::GapState::Open,
        cause: "x".repeat(500),
        detected_at: Timestamp::default(),
        filled_at: None,
        version: 0,
    };
    log.append(vec![record("before")]).await.unwrap();
    tables.write_gaps(&[gap(0)]).await.unwrap();
    disk.fill();

    let mut acknowledged = 1;
    let full = loop {
        match log.append((0..10).map(|_| record(vec![7; 5_000])).collect()).await {
            Ok(positions) => acknowledged = positions[9].offset + 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, PortError::Unavailable { .. }), "{full:?}");
    assert!(full.to_string().contains("log.sqlite: database or disk is full"), "{full}");
    let mut n = 0;
    let full = loop {
        n += 1;
        if let Err(error) = tables.write_gaps(&(0..100).map(|m| gap(n * 100 + m)).collect::<Vec<_>>()).await {
            break error;
        }
    };
    assert!(matches!(full, PortError::Unavailable { .. }), "{full:?}");
    let full = archive.write("_tmp/a", vec![7; 1 << 20].into()).await.unwrap_err();
    assert!(matches!(full, PortError::Unavailable { .. }), "{full:?}");
    assert_eq!(log.bounds(TOPIC).await.unwrap()[1].end, acknowledged, "nothing of a failed append is there");

    disk.free();
    let positions = log.append(vec![record("after")]).await.unwrap();
    assert_eq!(positions, [position(acknowledged)]);
    tables.write_gaps(&[gap(7)]).await.unwrap();
    archive.write("_tmp/a", vec![7; 1 << 10].into()).await.unwrap();
    drop((log, tables));
    assert_eq!(open(folder).bounds(TOPIC).await.unwrap()[1].end, acknowledged + 1, "also after a restart");
}

#[tokio::test]
async fn a_read_only_disk_can_be_read() {
    let Some(disk) = SmallDisk::mount() else { return };
    open(disk.0.path()).append(vec![record("x")]).await.unwrap();
    disk.make_read_only();
    let scan = LocalLog::open_read_only(disk.0.path()).unwrap();
    assert_eq!(scan.read(&position(0), 1).await.unwrap().len(), 1);
    let writing = LocalLog::open(disk.0.path(), &[(Topic::from(TOPIC), 3)], Arc::new(SystemClock)).map(|_| ());
    assert!(writing.unwrap_err().to_string().contains("log.sqlite cannot be written"));
}
