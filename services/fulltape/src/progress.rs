//! How the tape is doing, and how an audit gets on: a status line at a terminal; otherwise a log line of the tape
//! now and then.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use runtime::CancellationToken;
use runtime::telemetry::Metrics;
use tokio::time::Instant;

use crate::tables::grouped;

const LINE_INTERVAL: Duration = Duration::from_millis(500);
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The figures of the status line.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    published: u64,
    stored: u64,
    archived: u64,
    missing: u64,
}

/// Shows how the tape is doing until `stop`.
pub async fn show(metrics: Metrics, stop: CancellationToken) {
    let terminal = std::io::stderr().is_terminal();
    let interval = if terminal { LINE_INTERVAL } else { LOG_INTERVAL };
    let line = terminal.then(status_line);
    let (mut last, mut at) = (figures(&metrics), Instant::now());
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = tokio::time::sleep(interval) => {}
        }
        let now = figures(&metrics);
        let per_second = (now.published - last.published) as f64 / at.elapsed().as_secs_f64();
        (last, at) = (now, Instant::now());
        report(line.as_ref(), now, per_second);
    }
    if let Some(line) = line {
        line.finish_and_clear();
    }
}

fn status_line() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style)
}

fn report(line: Option<&ProgressBar>, now: Figures, per_second: f64) {
    let lag = now.published.saturating_sub(now.stored);
    match line {
        Some(line) => {
            line.set_message(format!(
                "{per_second:.0} trades/s · lag {} · stored {} · archived {} · missing {}",
                grouped(lag),
                grouped(now.stored),
                grouped(now.archived),
                grouped(now.missing),
            ));
            line.tick();
        }
        None => tracing::info!(
            trades_per_second = per_second.round(),
            lag,
            stored = now.stored,
            archived = now.archived,
            missing = now.missing,
            "tape"
        ),
    }
}

fn figures(metrics: &Metrics) -> Figures {
    let figure = |name| metrics.sum(name).max(0.0) as u64;
    Figures {
        published: figure(ingest::metrics::TRADES_PUBLISHED),
        stored: figure(processor::metrics::TRADES_STORED),
        archived: figure(archiver::TRADES_ARCHIVED),
        missing: figure(ingest::metrics::TRADES_MISSING),
    }
}

/// A progress bar at a terminal, gone when it is dropped; nothing otherwise.
pub struct AuditLine(Option<ProgressBar>);

impl AuditLine {
    /// With nothing to show yet.
    pub fn new() -> Self {
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
        let bar = || ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(std::io::stderr().is_terminal().then(bar))
    }

    /// Shows how far the audit has come.
    pub fn show(&self, progress: audit::Progress) {
        if let Some(bar) = &self.0 {
            bar.set_message(progress.what);
            bar.set_length(progress.of);
            bar.set_position(progress.done);
        }
    }
}

impl Drop for AuditLine {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
