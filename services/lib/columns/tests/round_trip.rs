//! What is written comes back: values, footer, and errors that name what was expected.

use bytes::Bytes;
use columns::{
    ArchivedTrade, ColumnsError, Footer, PartEncoder, RawEncoder, Span, TAIL, Tail, TradeEncoder, WRITER, decode_raw,
    decode_trades, read_footer, writer_of,
};
use domain::{Decimal, Headers, Origin, Record, Timestamp, TopicPartition, Trade, TradeRow};
use parquet::file::reader::{FileReader, SerializedFileReader};
use proptest::prelude::*;

const EVENT: &str = r#"{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}"#;
const APPENDED: Timestamp = Timestamp::from_millis(1_723_161_255_999);

fn at() -> TopicPartition {
    TopicPartition::new("crypto-stream", 3)
}

fn span(start: i64, end: i64) -> Span {
    Span { at: at(), start, end, epoch: "run-7".to_owned() }
}

fn record(offset: i64, value: impl Into<Bytes>) -> Record {
    let headers = Headers::new().with("origin", "backfill").with("received_at", "1723161255400123");
    let key = Some(Bytes::from_static(b"BTCUSDT"));
    Record { at: at(), offset, appended_at: APPENDED, key, value: Some(value.into()), headers }
}

fn event(id: u64) -> String {
    EVENT.replace("3735683259", &id.to_string())
}

fn complete(end_of_file: &[u8]) -> Footer {
    match read_footer(end_of_file).unwrap() {
        Tail::Complete(footer) => *footer,
        Tail::Need(bytes) => panic!("needs {bytes}"),
    }
}

fn trades() -> impl Strategy<Value = ArchivedTrade> {
    let digits = 1..10_i128.pow(38);
    let market = prop_oneof!["[A-Z0-9]{1,12}", Just("币安人生USDT".to_owned())];
    let origin = prop_oneof![Just(Origin::Live), Just(Origin::Backfill), Just(Origin::Replay)];
    let time = any::<i64>().prop_map(Timestamp::from_micros);
    let trade = (market, 0..=i64::MAX as u64, digits.clone(), digits, time, proptest::option::of(any::<i64>()));
    (trade, any::<bool>(), origin, any::<(i64, i32, i64, i64)>()).prop_map(|(trade, maker, origin, ours)| {
        ArchivedTrade {
            row: TradeRow {
                trade: Trade {
                    symbol: trade.0.parse().unwrap(),
                    id: trade.1,
                    price: Decimal::new(trade.2, 18).unwrap(),
                    quantity: Decimal::new(trade.3, 18).unwrap(),
                    trade_time: trade.4,
                    event_time: trade.5.map(Timestamp::from_micros),
                    buyer_is_maker: maker,
                },
                origin,
                received_at: Timestamp::from_micros(ours.0),
            },
            partition: ours.1,
            offset: ours.2,
            appended_at: Timestamp::from_micros(ours.3),
        }
    })
}

fn records() -> impl Strategy<Value = Record> {
    let payload = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
    let headers = proptest::collection::vec((".{0,8}", proptest::collection::vec(any::<u8>(), 0..20)), 0..4);
    (payload(), payload(), headers, any::<(i64, i64)>()).prop_map(|(key, value, headers, (offset, time))| Record {
        at: at(),
        offset,
        appended_at: Timestamp::from_micros(time),
        key: key.map(Bytes::from),
        value: value.map(Bytes::from),
        headers: headers.into_iter().fold(Headers::new(), |all, (name, value)| all.with(name, value)),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn trades_round_trip(trades in proptest::collection::vec(trades(), 0..60)) {
        let mut encoder = Box::new(TradeEncoder::new());
        for trade in &trades {
            encoder.push_row(trade).unwrap();
        }
        let (footer, file) = encoder.finish(span(0, 99)).unwrap();
        prop_assert_eq!(&complete(&file), &footer);
        prop_assert_eq!(footer.rows, trades.len() as u64);
        for trade in &trades {
            let ids = footer.ids[&trade.row.trade.symbol];
            prop_assert!((ids.from..=ids.to).contains(&trade.row.trade.id));
        }
        let again: Vec<_> = decode_trades(file).unwrap().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(again, trades);
    }

    #[test]
    fn records_round_trip(records in proptest::collection::vec(records(), 0..60)) {
        let mut encoder = Box::new(RawEncoder::new());
        for record in &records {
            encoder.push(record).unwrap();
        }
        let (footer, file) = encoder.finish(span(0, 99)).unwrap();
        prop_assert_eq!(complete(&file), footer);
        let again: Vec<_> = decode_raw(file).unwrap().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(again, records);
    }
}

/// A file that is cut off anywhere is an error. Flipped bits are for the file system to find: HDFS keeps
/// a checksum of every block.
#[test]
fn a_cut_off_file_is_an_error_and_never_a_panic() {
    let file = small_file();
    for end in 0..file.len() {
        let cut = file.slice(..end);
        assert!(!matches!(read_footer(&cut), Ok(Tail::Complete(_))), "footer of {end} bytes");
        assert!(decode_trades(cut).is_err(), "{end} of {} bytes", file.len());
    }
}

fn small_file() -> Bytes {
    let mut encoder = Box::new(TradeEncoder::new());
    (0..10).for_each(|n| encoder.push(&record(n, event(n as u64))).unwrap());
    encoder.finish(span(0, 10)).unwrap().1
}

#[test]
fn a_record_becomes_a_row_and_what_is_no_trade_is_counted() {
    let mut encoder = Box::new(TradeEncoder::new());
    encoder.push(&record(10, event(7))).unwrap();
    encoder.push(&record(11, "not json")).unwrap();
    encoder.push(&Record { value: None, ..record(12, "") }).unwrap();
    encoder.push(&record(14, event(5))).unwrap();
    let (footer, file) = encoder.finish(span(10, 15)).unwrap();
    assert_eq!((footer.rows, footer.skipped, footer.holes()), (2, 2, 1));
    let ids = footer.ids[&"BTCUSDT".parse().unwrap()];
    assert_eq!((ids.from, ids.to), (5, 7));
    let rows: Vec<ArchivedTrade> = decode_trades(file).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows[0].row, TradeRow::from_record(&record(10, event(7))).unwrap());
    assert_eq!(rows[0].row.origin, Origin::Backfill);
    assert_eq!(rows[0].row.received_at.micros(), 1_723_161_255_400_123);
    assert_eq!((rows[1].partition, rows[1].offset, rows[1].appended_at), (3, 14, APPENDED));
}

#[test]
fn a_record_without_our_headers_is_live_and_received_when_appended() {
    let row = TradeRow::from_record(&Record { headers: Headers::new(), ..record(1, EVENT) }).unwrap();
    assert_eq!((row.origin, row.received_at), (Origin::Live, APPENDED));
}

#[test]
fn the_last_header_of_a_name_counts_even_if_it_says_nothing() {
    for bad in [&b"yesterday"[..], b"\xff"] {
        let Record { headers, .. } = record(1, EVENT);
        let headers = headers.with("origin", bad).with("received_at", bad);
        let row = TradeRow::from_record(&Record { headers, ..record(1, EVENT) }).unwrap();
        assert_eq!((row.origin, row.received_at), (Origin::Live, APPENDED));
    }
}

#[test]
fn rows_of_several_batches_keep_their_own_headers() {
    let with_headers = |n: i64| Record {
        headers: Headers::of((0..n as usize % 4).map(|nth| (format!("h{nth}"), n.to_string()))),
        ..record(n, EVENT)
    };
    let mut encoder = Box::new(RawEncoder::new());
    (0..20_000).for_each(|n| encoder.push(&with_headers(n)).unwrap());
    let (_, file) = encoder.finish(span(0, 20_000)).unwrap();
    assert!(decode_raw(file).unwrap().map(Result::unwrap).eq((0..20_000).map(with_headers)));
}

#[test]
fn the_same_records_give_the_same_bytes() {
    assert_eq!(small_file(), small_file());
}

/// The audit compares bytes of files of its own writer. If this fails, the bytes have changed, for example
/// with the Parquet library: give `columns::WRITER` a new number, and put the new bytes' sums here.
#[test]
fn this_writer_gives_these_bytes() {
    let mut raw = Box::new(RawEncoder::new());
    // More than a page of each column.
    (0..25_000).for_each(|n| raw.push(&record(n, event(n as u64))).unwrap());
    let raw = raw.finish(span(0, 25_000)).unwrap().1;
    // FNV-1a.
    let sum = |bytes: &Bytes| {
        bytes
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
    };
    assert_eq!(
        (WRITER, sum(&small_file()), sum(&raw)),
        ("fulltape 4", 7_950_479_677_001_456_074, 13_635_345_611_657_085_868)
    );
    assert_eq!(writer_of(&raw).as_deref(), Some(WRITER));
}

#[test]
fn raw_files_have_statistics_of_numbers_only() {
    let mut raw = Box::new(RawEncoder::new());
    raw.push(&record(0, EVENT)).unwrap();
    let raw = SerializedFileReader::new(raw.finish(span(0, 1)).unwrap().1).unwrap();
    let columns = raw.metadata().row_group(0).columns();
    let told = columns.iter().filter(|column| column.statistics().is_some());
    let told: Vec<String> = told.map(|column| column.column_path().string()).collect();
    assert_eq!(told, ["appended_at", "partition", "offset"]);
}

#[test]
fn a_long_footer_is_read_in_two_steps() {
    let mut encoder = Box::new(TradeEncoder::new());
    (0..6_000).for_each(|n| {
        let value = event(n).replace("BTCUSDT", &format!("COIN{n}USDT"));
        encoder.push(&record(n as i64, value)).unwrap();
    });
    let (footer, file) = encoder.finish(span(0, 6_000)).unwrap();
    let end = |bytes: u64| &file[file.len().saturating_sub(bytes as usize)..];
    let Tail::Need(bytes) = read_footer(end(TAIL)).unwrap() else { panic!("the footer should be longer") };
    assert!(bytes > TAIL && bytes < file.len() as u64);
    assert_eq!(complete(end(bytes)), footer);
}

#[test]
fn a_long_file_has_row_groups_of_bounded_size_and_estimates_its_length() {
    let mut encoder = Box::new(RawEncoder::new());
    let mut noise = 1_u64;
    for n in 0..40_000 {
        let value = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (noise >> 33) as u8
        });
        encoder.push(&record(n, value.take(1_000).collect::<Vec<u8>>())).unwrap();
    }
    let (estimate, memory) = (encoder.encoded_bytes(), encoder.memory_bytes());
    let (footer, file) = encoder.finish(span(0, 40_000)).unwrap();
    assert!(estimate.abs_diff(file.len()) < file.len() / 20, "{estimate} for {}", file.len());
    assert!(memory < 3 * file.len(), "{memory} for {}", file.len());
    assert_eq!(complete(&file[file.len() - 64 * 1024..]), footer);
    assert_eq!(decode_raw(file).unwrap().count(), 40_000);
}

#[test]
fn errors_say_what_was_expected() {
    let text = |error: ColumnsError| error.to_string();
    assert!(text(read_footer(b"PAR1").unwrap_err()).contains("expected a Parquet file"));
    assert!(text(read_footer(&[0; 100]).unwrap_err()).contains("expected a Parquet file"));
    let raw = Box::new(RawEncoder::new()).finish(span(0, 0)).unwrap().1;
    let error = decode_trades(raw).map(|_| ()).unwrap_err();
    assert_eq!(text(error), "column symbol: expected Utf8, got no such column");
}
