//! Replay of the real recordings, where they are.

use std::path::PathBuf;

use binance::{Pace, ReplayFeed};
use domain::frame::Frame;
use domain::{Decimal, Trade};
use ports::{Feed, FeedEvent};

/// The files, or none with a plain word about it.
fn recordings(names: &[&str]) -> Option<Vec<PathBuf>> {
    let folder = std::env::var_os("FULLTAPE_TEST_DATA")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../../shared/data")), PathBuf::from);
    let files: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    if files.iter().all(|file| file.is_file()) {
        return Some(files);
    }
    println!("skipped: the recordings are absent in {} (set FULLTAPE_TEST_DATA)", folder.display());
    None
}

#[derive(Default)]
struct Tape {
    frames: usize,
    damaged: usize,
    trades: Vec<Trade>,
}

async fn play(files: Vec<PathBuf>) -> Tape {
    let mut feed = ReplayFeed::open(files, Pace::Max).unwrap();
    let mut tape = Tape::default();
    loop {
        match feed.next().await.unwrap() {
            FeedEvent::End => return tape,
            FeedEvent::Damaged { .. } => tape.damaged += 1,
            FeedEvent::Frame { bytes, .. } => {
                tape.frames += 1;
                if let Frame::Trade(_, trade) = Frame::decode(&bytes).unwrap() {
                    tape.trades.push(trade);
                }
            }
        }
    }
}

fn sum(of: impl Iterator<Item = Decimal>) -> String {
    of.fold(Decimal::ZERO, |sum, next| sum.checked_add(next).unwrap()).normalized().to_string()
}

fn check(tape: &Tape, first: u64, last: u64, quantity: &str, amount: &str) {
    assert!(tape.trades.iter().map(|trade| trade.id).eq(first..=last), "no gap, no duplicate");
    assert_eq!(sum(tape.trades.iter().map(|trade| trade.quantity)), quantity);
    assert_eq!(sum(tape.trades.iter().map(|trade| trade.price.checked_mul(trade.quantity).unwrap())), amount);
    assert_eq!(tape.damaged, 0);
}

#[tokio::test]
async fn the_btcusdt_frames() {
    let names = ["binance_spot_ws_btcusdt/btcusdt_20240808.gz", "binance_spot_ws_btcusdt/btcusdt_20240809.gz"];
    let Some(files) = recordings(&names) else { return };
    let tape = play(files).await;
    assert_eq!((tape.frames, tape.trades.len()), (99_574, 19_904));
    check(&tape, 3_735_683_259, 3_735_703_162, "437.91552", "27006929.5910348");
}

#[tokio::test]
async fn the_btcusdt_rows() {
    let Some(files) = recordings(&["derived/BTCUSDT-trades-2024-08-08T2354.csv.gz"]) else { return };
    let tape = play(files).await;
    assert_eq!((tape.frames, tape.trades.len()), (19_904, 19_904));
    check(&tape, 3_735_683_259, 3_735_703_162, "437.91552", "27006929.5910348");
}

#[tokio::test]
async fn the_trxusdt_frames_and_rows() {
    for name in ["derived/trxusdt_20250304_us.frames.gz", "derived/TRXUSDT-trades-2025-03-04.csv.gz"] {
        let Some(files) = recordings(&[name]) else { return };
        let tape = play(files).await;
        assert_eq!(tape.frames, 10_000);
        check(&tape, 348_656_870, 348_666_869, "45996895.9", "10666021.10336");
        assert_eq!(tape.trades[0].trade_time.micros(), 1_741_046_401_271_497);
    }
}

#[tokio::test]
async fn the_two_defects_are_left_for_the_ledger() {
    let Some(files) = recordings(&["derived/trxusdt_20250304_us.two-defects.frames.gz"]) else { return };
    let tape = play(files).await;
    assert_eq!((tape.frames, tape.damaged), (10_000, 0));
    assert_eq!(tape.trades[1].id, tape.trades[2].id);
}
