//! When rows become visible: a reader asks again and again what there is behind the last row that it has seen.
//!
//! Cassandra's write time would not do: fulltape writes rows at the time of the trade, so that a row written again is
//! the same row. What is measured here is up to a question's interval too long, for every side.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use futures::TryStreamExt;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlDecimal, CqlTimestamp};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::event::Sums;
use crate::kafka::now_micros;
use crate::runtime;

const NEXT: &str = "SELECT trade_id, trade_time_us FROM crypto_ks.trades WHERE symbol = ? AND hour = ? \
     AND (trade_time, trade_id) >= (?, ?) ORDER BY trade_time ASC, trade_id ASC LIMIT 5000";

const HOUR_MS: i64 = 3_600_000;

/// Watches the table `trades` while `produce --rate` goes on.
#[derive(Debug, Args)]
pub struct Observe {
    #[arg(long, default_value = "127.0.0.1:9042")]
    contact: String,
    #[arg(long, default_value_t = 10)]
    symbols: usize,
    /// How many will come.
    #[arg(long)]
    trades: u64,
    /// How many of them come while caches and compilers get warm, and are left out of the quantiles.
    #[arg(long)]
    warm_up: u64,
    /// How long each symbol's reader waits before it asks again. Asking costs the servers much: every 20 ms, and rows at
    /// ten thousand a second came twice as late, while their commit log went through the page cache.
    #[arg(long, default_value_t = 50)]
    interval_ms: u64,
    /// How long to wait for the next row before the rest counts as lost.
    #[arg(long, default_value_t = 60)]
    patience_seconds: u64,
}

const ROWS: &str = "SELECT trade_id, price, quantity FROM crypto_ks.trades WHERE symbol = ? AND hour = ?";

/// Counts the rows of the table `trades` that `produce` has issued.
#[derive(Debug, Args)]
pub struct Count {
    #[arg(long, default_value = "127.0.0.1:9042")]
    contact: String,
}

impl Count {
    pub fn run(self) -> anyhow::Result<Value> {
        runtime()?.block_on(async {
            let session: Session = SessionBuilder::new().known_node(&self.contact).build().await?;
            let partitions = session.query_iter("SELECT DISTINCT symbol, hour FROM crypto_ks.trades", ()).await?;
            let partitions: Vec<(String, CqlTimestamp)> = partitions.rows_stream()?.try_collect().await?;
            let all = session.prepare(ROWS).await?;
            let (mut rows, mut distinct, mut sums) = (0_u64, 0_usize, Sums::default());
            let mut of_symbol: BTreeMap<String, HashSet<i64>> = BTreeMap::new();
            for partition in partitions {
                let mut found = session.execute_iter(all.clone(), &partition).await?.rows_stream()?;
                let seen = of_symbol.entry(partition.0).or_default();
                while let Some((id, price, quantity)) = found.try_next().await? {
                    rows += 1;
                    distinct += usize::from(seen.insert(id));
                    sums.add(digits(&price)?, digits(&quantity)?)?;
                }
            }
            Ok(json!({ "rows": rows, "distinct": distinct, "sums": sums.json() }))
        })
    }
}

/// A number's digits, and how many of them are behind the point.
fn digits(number: &CqlDecimal) -> anyhow::Result<(i128, u32)> {
    let (bytes, scale) = number.as_signed_be_bytes_slice_and_exponent();
    let first = bytes.first().copied().context("a number without digits")?;
    let mut wide = [if first < 0x80 { 0 } else { 0xff }; 16];
    let at = wide.len().checked_sub(bytes.len()).context("a number too large")?;
    wide[at..].copy_from_slice(bytes);
    Ok((i128::from_be_bytes(wide), u32::try_from(scale)?))
}

impl Observe {
    pub fn run(self) -> anyhow::Result<Value> {
        let each = self.trades / self.symbols as u64;
        let took = runtime()?.block_on(async {
            let session: Session = SessionBuilder::new().known_node(&self.contact).build().await?;
            let mut next = session.prepare(NEXT).await?;
            next.set_consistency(Consistency::LocalOne);
            next.set_is_idempotent(true);
            let shared = Arc::new((session, next));
            let watch = |nth| tokio::spawn(watched(shared.clone(), nth, each, self.interval_ms, self.patience_seconds));
            let watches: Vec<_> = (0..self.symbols).map(watch).collect();
            let mut took = Vec::new();
            for watch in watches {
                took.push(watch.await??);
            }
            anyhow::Ok(took)
        })?;
        let seen: usize = took.iter().map(|symbol| symbol.iter().flatten().count()).sum();
        let warm_up = (self.warm_up / self.symbols as u64) as usize;
        let late = took.into_iter().flat_map(|symbol| symbol.into_iter().skip(warm_up).flatten());
        Ok(json!({
            "rows": seen,
            "missing": each * self.symbols as u64 - seen as u64,
            "event_to_table_ms": quantiles(late.collect()),
        }))
    }
}

/// How long each trade of a symbol took, in microseconds, in order of ids.
async fn watched(
    shared: Arc<(Session, PreparedStatement)>,
    nth: usize,
    trades: u64,
    interval_ms: u64,
    patience_seconds: u64,
) -> anyhow::Result<Vec<Option<u64>>> {
    const FIRST: i64 = 1_000_000;
    let (session, next) = &*shared;
    let symbol = format!("S{nth:04}USDT");
    let mut took = vec![None; trades as usize];
    let mut ahead = BTreeSet::new();
    let mut contiguous = FIRST;
    // The first may have come while we connected.
    let mut position = (now_micros() / 1_000 - 10_000, 0_i64);
    let mut progress = Instant::now();
    while contiguous < FIRST + trades as i64 && progress.elapsed() < Duration::from_secs(patience_seconds) {
        let now = now_micros() / 1_000;
        for hour in BTreeSet::from([position.0 / HOUR_MS, now / HOUR_MS]) {
            let values = (&symbol, CqlTimestamp(hour * HOUR_MS), CqlTimestamp(position.0), position.1);
            let rows = session.execute_unpaged(next, values).await?.into_rows_result()?;
            let answered = now_micros();
            for row in rows.rows::<(i64, i64)>()? {
                let (id, time_us) = row?;
                if id >= contiguous && ahead.insert((id, time_us)) {
                    took[(id - FIRST) as usize] = Some((answered - time_us).max(0) as u64);
                    progress = Instant::now();
                }
            }
        }
        while let Some(&(id, time_us)) = ahead.first().filter(|(id, _)| *id == contiguous) {
            ahead.pop_first();
            contiguous += 1;
            position = (time_us / 1_000, id);
        }
        tokio::time::sleep(Duration::from_millis(interval_ms)).await;
    }
    Ok(took)
}

/// Quantiles of microseconds, in milliseconds.
pub fn quantiles(mut micros: Vec<u64>) -> Value {
    micros.sort_unstable();
    let at = |share: f64| {
        let last = micros.len().saturating_sub(1);
        micros.get((last as f64 * share).ceil() as usize).map(|micros| *micros as f64 / 1_000.0)
    };
    json!({ "count": micros.len(), "p50": at(0.5), "p99": at(0.99), "p99.9": at(0.999), "max": at(1.0) })
}
