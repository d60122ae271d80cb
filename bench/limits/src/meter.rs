//! How long something takes, and how much of the processors: from the tenth of the work on, so that connections,
//! first fetches and caches do not count.

use std::time::Instant;

use anyhow::Context;
use serde_json::{Value, json};

/// Ticks of `/proc/self/stat` per second, on every Linux that we know.
const TICKS: f64 = 100.0;

/// Counts what is done.
pub struct Meter {
    total: u64,
    done: u64,
    warm: Option<(u64, Instant, f64)>,
}

impl Meter {
    /// Of so many events.
    pub fn of(total: u64) -> Self {
        Self { total, done: 0, warm: None }
    }

    /// So many more are done.
    pub fn add(&mut self, events: u64) {
        self.done += events;
        if self.warm.is_none() && self.done >= self.total / 10 {
            self.warm = Some((self.done, Instant::now(), cpu_seconds().unwrap_or_default()));
        }
    }

    /// Whether all is done.
    pub fn is_done(&self) -> bool {
        self.done >= self.total
    }

    /// How much is done.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// The result.
    ///
    /// # Errors
    /// If too little was done to say anything.
    pub fn line(&self) -> anyhow::Result<Value> {
        let (before, since, cpu) = self.warm.context("less than a tenth was done")?;
        let (events, seconds) = ((self.done - before) as f64, since.elapsed().as_secs_f64());
        let cpu = cpu_seconds()? - cpu;
        Ok(json!({
            "events": self.done,
            "per_second": events / seconds,
            "cpu_us_per_event": cpu / events * 1e6,
            "cores": cpu / seconds,
        }))
    }
}

/// User and system time of this process.
///
/// # Errors
/// If the system does not say.
pub fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("/proc/self/stat: Linux is needed")?;
    let fields = stat.rsplit_once(')').context("/proc/self/stat")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / TICKS)
}
