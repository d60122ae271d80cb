//! What is done for every single trade: `cargo bench -p limits`.

#![allow(missing_docs, reason = "the macro of criterion makes public functions")]

use std::hint::black_box;

use bytes::Bytes;
use columns::{PartEncoder, RawEncoder, TradeEncoder};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use domain::frame::Frame;
use domain::ledger::Ledger;
use domain::record::{ORIGIN, RECEIVED_AT, SOURCE};
use domain::{Decimal, Headers, IdSet, Record, Timestamp, TopicPartition, Trade, TradeRow};

const EVENT: &str = r#"{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}"#;

/// Records of an encoder's run: enough for some pages.
const RECORDS: i64 = 20_000;

fn record(offset: i64) -> Record {
    let headers = Headers::new().with(ORIGIN, "live").with(RECEIVED_AT, "1723161255343000").with(SOURCE, "binance");
    let event = EVENT.replace("3735683259", &(3_735_683_259 + offset).to_string());
    Record {
        at: TopicPartition::new("crypto-stream", 0),
        offset,
        appended_at: Timestamp::from_millis(1_723_161_255_343 + offset),
        key: Some(Bytes::from_static(b"BTCUSDT")),
        value: Some(event.into()),
        headers,
    }
}

fn reading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read");
    let combined = Bytes::from(format!(r#"{{"stream":"btcusdt@trade","data":{EVENT}}}"#));
    let record = record(0);
    group.bench_function("decimal", |bench| bench.iter(|| black_box("61837.63000000").parse::<Decimal>()));
    group.bench_function("event", |bench| bench.iter(|| Trade::from_event(black_box(EVENT.as_bytes()))));
    group.bench_function("frame", |bench| bench.iter(|| Frame::decode(black_box(&combined))));
    group.bench_function("row", |bench| bench.iter(|| TradeRow::from_record(black_box(&record))));
    group.finish();
}

fn accounting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("account");
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("ids in order", |bench| {
        bench.iter(|| {
            let mut ids = IdSet::new();
            (0..RECORDS as u64).for_each(|id| {
                ids.insert(id);
            });
            ids
        });
    });
    group.bench_function("ledger", |bench| {
        bench.iter(|| {
            let mut ledger = Ledger::default();
            (0..RECORDS as u64).for_each(|id| {
                ledger.enter(id);
            });
            ledger
        });
    });
    group.finish();
}

fn encoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(RECORDS as u64)).sample_size(20);
    let records: Vec<Record> = (0..RECORDS).map(record).collect();
    group.bench_function("trades", |bench| bench.iter(|| encoded(&mut TradeEncoder::new(), &records)));
    group.bench_function("raw", |bench| bench.iter(|| encoded(&mut RawEncoder::new(), &records)));
    group.finish();
}

fn encoded(encoder: &mut dyn PartEncoder, records: &[Record]) -> usize {
    for record in records {
        encoder.push(record).expect("a trade can be encoded");
    }
    encoder.encoded_bytes()
}

criterion_group!(benches, reading, accounting, encoding);
criterion_main!(benches);
