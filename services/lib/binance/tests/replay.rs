//! Replay of generated files.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use binance::{BinanceError, Pace, ReplayFeed};
use bytes::Bytes;
use domain::{Origin, Trade};
use flate2::Compression;
use flate2::write::GzEncoder;
use ports::{Feed, FeedEvent};
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A receive time and its frame.
fn frame_line(n: u64) -> String {
    format!("{} {}\n", 1_723_161_253_937_085_768 + n * 1_000_000, frame(n))
}

fn frame(n: u64) -> String {
    format!(
        r#"{{"stream":"btcusdt@trade","data":{{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":{n},"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}}}"#
    )
}

fn frames(count: u64) -> String {
    (0..count).map(frame_line).collect()
}

fn row(n: u64) -> String {
    format!("{n},61837.63000000,0.02000000,1236.7526,{},True,False\n", 1_723_161_255_342 + n)
}

fn rows(count: u64) -> String {
    (0..count).map(row).collect()
}

fn gz(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in entries {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

/// Everything there is, at once.
async fn all(paths: &[&Path]) -> Vec<FeedEvent> {
    let mut feed = ReplayFeed::open(paths.iter().copied(), Pace::Max).unwrap();
    let mut events = Vec::new();
    loop {
        match feed.next().await.unwrap() {
            FeedEvent::End => break,
            event => events.push(event),
        }
    }
    assert_eq!(feed.next().await.unwrap(), FeedEvent::End, "the end stays the end");
    events
}

fn bytes(events: &[FeedEvent]) -> Vec<&Bytes> {
    fn of(event: &FeedEvent) -> Option<&Bytes> {
        if let FeedEvent::Frame { bytes, .. } = event { Some(bytes) } else { None }
    }
    events.iter().filter_map(of).collect()
}

fn damages(events: &[FeedEvent]) -> Vec<(&Bytes, &str)> {
    fn of(event: &FeedEvent) -> Option<(&Bytes, &str)> {
        if let FeedEvent::Damaged { bytes, reason, .. } = event { Some((bytes, reason)) } else { None }
    }
    events.iter().filter_map(of).collect()
}

fn findings(paths: &[PathBuf]) -> Vec<String> {
    match ReplayFeed::open(paths, Pace::Max) {
        Err(BinanceError::Replay(findings)) => findings,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("expected findings"),
    }
}

#[tokio::test]
async fn frames_come_byte_for_byte_from_every_container() {
    let folder = Folder::new();
    let text = frames(5_000);
    let files = [
        folder.file("plain", &text),
        folder.file("named.txt", gz(text.as_bytes())),
        folder.file("archive.bin", zip_of(&[("a", text.as_bytes())])),
        folder.file("crlf", text.replace('\n', "\r\n")),
        folder.file("no-end", text.trim_end()),
        folder.file("members.gz", [gz(&text.as_bytes()[..10_000]), gz(&text.as_bytes()[10_000..])].concat()),
    ];
    for file in &files {
        let events = all(&[file]).await;
        assert_eq!(events.len(), 5_000, "{}", file.display());
        for (n, event) in (0..).zip(&events) {
            let FeedEvent::Frame { bytes, received_at, origin, source, place } = event else { panic!("{event:?}") };
            assert_eq!(*place, Some(n + 1));
            assert_eq!(bytes, frame(n).as_bytes());
            assert_eq!(received_at.micros(), 1_723_161_253_937_085 + i64::try_from(n).unwrap() * 1_000);
            assert_eq!(*origin, Origin::Replay);
            assert_eq!(source.as_ref(), file.file_name().unwrap().to_str().unwrap().as_bytes());
        }
    }
}

#[tokio::test]
async fn rows_become_events_in_the_streams_shape() {
    let folder = Folder::new();
    let header = "id,price,qty,quoteQty,time,isBuyerMaker,isBestMatch\n";
    let name = "BTCUSDT-trades-2024-08-08.csv";
    for (name, content) in [
        (name.to_owned(), rows(100).into_bytes()),
        (format!("{name}.gz"), gz(format!("{header}{}", rows(100)).as_bytes())),
        ("BTCUSDT-trades-2024-08-08.zip".to_owned(), zip_of(&[(name, rows(100).as_bytes())])),
        ("any.zip".to_owned(), zip_of(&[(name, rows(100).as_bytes())])),
        ("BTCUSDT-trades-x.zip".to_owned(), zip_of(&[("inner.csv", rows(100).as_bytes())])),
    ] {
        let file = folder.file(&name, content);
        let events = all(&[&file]).await;
        assert_eq!(events.len(), 100, "{name}: {:?}", damages(&events));
        for (n, event) in (0..).zip(&events) {
            let FeedEvent::Frame { bytes, received_at, .. } = event else { panic!("{name}: {event:?}") };
            let time = 1_723_161_255_342 + n;
            let expected = format!(
                r#"{{"e":"trade","s":"BTCUSDT","t":{n},"p":"61837.63000000","q":"0.02000000","T":{time},"m":true,"M":false}}"#
            );
            assert_eq!(bytes, expected.as_bytes());
            assert_eq!(received_at.micros(), time * 1_000);
        }
    }
}

#[tokio::test]
async fn archives_with_several_entries_are_read_in_order() {
    let folder = Folder::new();
    let (one, two) = (frames(10), rows(20));
    let entries: &[(&str, &[u8])] = &[
        ("d/a.txt", one.as_bytes()),
        ("empty", b""),
        ("d/ETHUSDT-trades-1.csv", two.as_bytes()),
        ("b", one.as_bytes()),
    ];
    let file = folder.file("mixed.zip", zip_of(entries));
    let events = all(&[&file, &file]).await;
    assert_eq!((events.len(), damages(&events).len()), (80, 0));
    assert_eq!(bytes(&events)[9], frame(9).as_bytes());
    assert_eq!(Trade::from_event(bytes(&events)[10]).unwrap().symbol.as_str(), "ETHUSDT");
    assert_eq!(bytes(&events)[30], frame(0).as_bytes());
}

#[tokio::test]
async fn everything_wrong_is_told_before_any_work() {
    let folder = Folder::new();
    let cases = [
        (folder.0.path().join("missing"), "there is no such file"),
        (folder.0.path().to_owned(), "is a folder: expected a file"),
        (folder.file("empty", ""), "is empty: expected lines"),
        (folder.file("empty.gz", gz(b"")), "has no content: expected lines"),
        (folder.file("blank", "\n\n\n"), "has no content"),
        (folder.file("empty.zip", zip_of(&[])), "has no content"),
        (folder.file("letter.txt", "Dear all,\n"), "has unknown content: expected lines"),
        (folder.file("binary", [0_u8, 1, 2, 255].repeat(1_000_000)), "has unknown content"),
        (folder.file("ten.gz", &gz(frames(3).as_bytes())[..12]), "nothing in it can be read"),
        (
            folder.file("letters.zip", zip_of(&[("ok", frames(1).as_bytes()), ("x", b"Dear all")])),
            "entry x: has unknown content",
        ),
        (
            folder.file("trades.csv", rows(3)),
            "unknown symbol: expected a name such as BTCUSDT-trades-2024-08-08.csv.gz",
        ),
        (folder.file("btcusdt-trades-1.csv", rows(3)), "unknown symbol"),
    ];
    let mut paths: Vec<PathBuf> = cases.iter().map(|(path, _)| path.clone()).collect();
    paths.push(folder.file("good", frames(3)));
    let findings = findings(&paths);
    assert_eq!(findings.len(), cases.len(), "{findings:#?}");
    for ((path, expected), finding) in cases.iter().zip(&findings) {
        assert!(finding.starts_with(&*path.to_string_lossy()) && finding.contains(expected), "{expected}: {finding}");
    }
    assert!(ReplayFeed::open(Vec::<PathBuf>::new(), Pace::Max).is_err());
}

#[tokio::test]
async fn a_file_that_is_cut_gives_all_before_the_cut_and_one_report() {
    let folder = Folder::new();
    let text = frames(20_000);
    let packed = gz(text.as_bytes());
    let zipped = zip_of(&[("first", frames(7).as_bytes()), ("second", text.as_bytes())]);
    let after = folder.file("after", frames(3));
    for (name, content) in [("cut.gz", &packed), ("cut.zip", &zipped)] {
        for keep in [content.len() / 4, content.len() / 2, content.len() - 1_000] {
            let file = folder.file(name, &content[..keep]);
            let events = all(&[&file, &after]).await;
            let (frames, damages) = (bytes(&events), damages(&events));
            assert_eq!(damages.len(), 1, "{name} {keep}: {damages:?}");
            let (rest, reason) = damages[0];
            let before = frames.len() - 3 - if name == "cut.zip" { 7 } else { 0 };
            assert!(before > 1_000 && before < 20_000, "{name} {keep}: {before}");
            assert!(reason.starts_with(name) && reason.contains(&format!("line {}, byte ", before + 1)), "{reason}");
            assert!(
                frame_line(before as u64).as_bytes().starts_with(rest),
                "the evidence is what there was of the line"
            );
            assert_eq!(frames[frames.len() - 4], frame(before as u64 - 1).as_bytes());
            assert_eq!(frames[frames.len() - 1], frame(2).as_bytes(), "the next file is read");
        }
    }
}

#[tokio::test]
async fn a_zip_without_its_directory_gives_all_entries() {
    let folder = Folder::new();
    let (one, two) = (frames(50), rows(50));
    let content = zip_of(&[("a", one.as_bytes()), ("BTCUSDT-trades-1.csv", two.as_bytes())]);
    let directory = memchr::memmem::find(&content, b"PK\x01\x02").unwrap();
    for keep in [directory, directory + 10, content.len() - 4] {
        let file = folder.file("x.zip", &content[..keep]);
        let events = all(&[&file]).await;
        let damages = damages(&events);
        assert_eq!((bytes(&events).len(), damages.len()), (100, 1), "{keep}: {damages:?}");
    }
}

#[tokio::test]
async fn damage_inside_a_container_is_told() {
    let folder = Folder::new();
    let mut packed = gz(frames(20_000).as_bytes());
    let middle = packed.len() / 2;
    packed[middle..middle + 40].fill(0xff);
    let file = folder.file("flipped.gz", &packed);
    let events = all(&[&file]).await;
    assert!(!damages(&events).is_empty());
    assert!(bytes(&events).len() > 5_000);

    let mut zipped = zip_of(&[("a", frames(20_000).as_bytes()), ("b", frames(5).as_bytes())]);
    zipped[2_000..2_040].fill(0xff);
    let file = folder.file("flipped.zip", &zipped);
    let events = all(&[&file]).await;
    assert!(damages(&events).iter().any(|(_, reason)| reason.contains("flipped.zip: entry a: ")));
    assert_eq!(bytes(&events).last().unwrap(), &frame(4).as_bytes(), "the next entry is read");
}

#[tokio::test]
async fn lines_that_cannot_be_used_are_told_with_their_number() {
    let folder = Folder::new();
    let mut content = frames(2).into_bytes();
    content.extend_from_slice(b"not a line\n\n1723161253937085768 {\"\xff\"}\n");
    content.resize(content.len() + 3 * 1024 * 1024, b'9');
    content.extend_from_slice(b"\n");
    content.extend_from_slice(frame_line(2).as_bytes());
    let file = folder.file("mixed", content);
    let events = all(&[&file]).await;
    let damages = damages(&events);
    assert_eq!((bytes(&events).len(), damages.len()), (3, 3));
    assert!(damages[0].1.starts_with("mixed: line 3: expected a receive time"), "{}", damages[0].1);
    assert_eq!(damages[0].0, "not a line");
    assert!(damages[1].1.starts_with("mixed: line 5: expected UTF-8"), "{}", damages[1].1);
    assert_eq!(damages[2].1, "mixed: line 6: expected a line of at most 524288 bytes, got 3145728");
    assert_eq!(damages[2].0.len(), 64 * 1024);
    let FeedEvent::Damaged { received_at, .. } = &events[2] else { panic!() };
    assert_eq!(received_at.micros(), 1_723_161_253_938_085, "the time of the line before");
}

#[tokio::test]
async fn rows_that_cannot_be_used_are_told_with_their_number() {
    let folder = Folder::new();
    let content = format!(
        "trade_id,price,qty,quoteQty,time,isBuyerMaker,isBestMatch\n{}1,2,3\n{}{}",
        row(1),
        row(2).replace("1723161255344", "1723161255344000"),
        row(3)
    );
    let file = folder.file("BTCUSDT-trades-1.csv", content);
    let events = all(&[&file]).await;
    let reasons: Vec<&str> = damages(&events).iter().map(|(_, reason)| *reason).collect();
    assert_eq!(bytes(&events).len(), 2);
    assert_eq!(reasons[0], "BTCUSDT-trades-1.csv: line 1: column time: expected ms or µs since 1970");
    assert_eq!(reasons[1], "BTCUSDT-trades-1.csv: line 3: expected 7 columns, got 3");
    assert!(
        reasons[2].ends_with("line 4: column time: expected ms as in the file's first row, got µs"),
        "{}",
        reasons[2]
    );
    assert_eq!(reasons.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn pace_follows_the_recording() {
    let folder = Folder::new();
    let start = 1_723_161_253_000_000_000_u64;
    let line = |millis: u64| format!("{} {{}}\n", start + millis * 1_000_000);
    // Two seconds forward, far back, and one second forward.
    let file = folder.file("paced", [line(10_000), line(12_000), line(0), line(1_000)].concat());
    let mut feed = ReplayFeed::open([&file], "10x".parse().unwrap()).unwrap();
    let begin = tokio::time::Instant::now();
    let mut millis = Vec::new();
    while feed.next().await.unwrap() != FeedEvent::End {
        millis.push(begin.elapsed().as_millis());
    }
    for (got, expected) in millis.iter().zip([0, 200, 200, 300]) {
        // The clock stands still unless something waits for it, and counts whole milliseconds.
        assert!((expected..=expected + 2).contains(got), "{millis:?}");
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_while_it_waits_loses_nothing() {
    let folder = Folder::new();
    let content: String =
        (0..20_u64).map(|n| format!("{} {{\"n\":{n}}}\n", 1_723_161_253_000_000_000 + n * 20_000_000)).collect();
    let file = folder.file("paced", content);
    let mut feed = ReplayFeed::open([&file], Pace::Recorded).unwrap();
    let mut frames = Vec::new();
    loop {
        match tokio::time::timeout(Duration::from_millis(3), feed.next()).await {
            Err(_) => {}
            Ok(Ok(FeedEvent::Frame { bytes, .. })) => frames.push(bytes),
            Ok(Ok(FeedEvent::End)) => break,
            Ok(other) => panic!("{other:?}"),
        }
    }
    let expected: Vec<String> = (0..20).map(|n| format!("{{\"n\":{n}}}")).collect();
    assert_eq!(frames, expected);
}

#[tokio::test]
async fn a_slow_consumer_loses_nothing_and_a_dropped_one_stops_the_reader() {
    let folder = Folder::new();
    let file = folder.file("long", frames(50_000));
    let mut feed = ReplayFeed::open([&file], Pace::Max).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    for n in 0..20_000 {
        let FeedEvent::Frame { bytes, .. } = feed.next().await.unwrap() else { panic!() };
        assert_eq!(bytes, frame(n).as_bytes());
    }
    drop(feed);
}

#[tokio::test]
async fn a_file_that_vanishes_after_the_look_is_an_error() {
    let folder = Folder::new();
    let first = folder.file("first", frames(200_000));
    let second = folder.file("second", frames(1));
    let mut feed = ReplayFeed::open([&first, &second], Pace::Max).unwrap();
    std::fs::remove_file(&second).unwrap();
    let mut frames = 0;
    let error = loop {
        match feed.next().await {
            Ok(FeedEvent::Frame { .. }) => frames += 1,
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(frames, 200_000);
    assert!(error.to_string().contains("second"), "{error}");
    assert!(feed.next().await.is_err(), "it stays an error");
}
