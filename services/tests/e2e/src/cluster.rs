//! The servers of `scripts/cluster`, and what other programs find in them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use domain::{Symbol, Trade};
use exchange_sim::{Issued, SimConfig};

use crate::market::compare;
use crate::{checkout, python, read_independently, trade_of};

/// Runs `scripts/cluster` with some arguments; returns what it printed.
///
/// # Errors
/// What it said, if it failed.
pub fn tool(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(checkout().join("scripts/cluster")).args(arguments).output();
    let output = output.map_err(|error| format!("scripts/cluster: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    Err(format!("{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Everything that HDFS holds, copied into a folder for readers that know nothing of HDFS; where it is.
///
/// # Panics
/// If it cannot be copied.
#[must_use]
pub fn download(into: &Path) -> String {
    let root = into.join("crypto_data");
    std::fs::create_dir(&root).expect("a folder");
    let to = root.to_str().expect("a path in UTF-8").to_owned();
    tool(&["hdfs", "dfs", "-get", "/crypto_data/*", &to]).expect("HDFS can be read");
    to
}

/// The values of all records of the stream, a line each, as Kafka's own consumer reads them; the file.
///
/// # Panics
/// If they cannot be read.
fn stream(folder: &Path) -> PathBuf {
    let topic = ["--topic", "crypto-stream"];
    let ends = tool(&[&["kafka", "get-offsets"], &topic[..]].concat()).expect("Kafka knows its offsets");
    let count: u64 = ends.lines().filter_map(|line| line.rsplit(':').next()?.trim().parse::<u64>().ok()).sum();
    let file = folder.join("stream.txt");
    let mut command = Command::new(checkout().join("scripts/cluster"));
    command.args(["kafka", "console-consumer"]).args(topic);
    command.args(["--from-beginning", "--max-messages", &count.to_string()]);
    let status = command.stdout(File::create(&file).expect("a file")).stderr(Stdio::null()).status();
    assert!(status.expect("the console consumer").success(), "the console consumer failed");
    file
}

/// The oracle computes the market again, and compares it with what others read in the log, in the tables and in the
/// archive: of these symbols.
///
/// # Panics
/// If anything is missing, too much or different.
pub fn compare_independently(sim: &SimConfig, issued: &Issued, folder: &Path, symbols: &[Symbol]) {
    let lines = BufReader::new(File::open(stream(folder)).expect("the stream")).lines();
    // What is no trade is for the audit to tell.
    let trades = lines.filter_map(|line| Trade::from_event(line.expect("text").as_bytes()).ok());
    compare("log", trades, sim, issued, symbols);
    let rows = folder.join("trades.csv");
    let columns = "symbol, trade_id, price, quantity, trade_time_us, buyer_is_maker";
    let copy = format!("COPY crypto_ks.trades ({columns}) TO '{}'", rows.display());
    tool(&["cqlsh", "-e", &copy]).expect("cqlsh can copy");
    let rows = std::fs::read_to_string(&rows).expect("the copy");
    compare("tables", rows.lines().map(|row| trade_of(row, ',')), sim, issued, symbols);
    if let Some(python) = python() {
        let rows = read_independently(&python, &["rows".to_owned(), download(folder)]);
        compare("archive", rows.lines().map(|row| trade_of(row, ',')), sim, issued, symbols);
    }
}
