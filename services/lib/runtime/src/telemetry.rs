//! Logs and metrics.

use std::io::IsTerminal;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// How often histograms are tidied.
const UPKEEP: Duration = Duration::from_secs(5);

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Whether these directives can be read.
///
/// # Errors
/// Says what cannot be.
pub fn check(directives: &str) -> Result<(), String> {
    filter_of(directives).map(drop)
}

fn filter_of(directives: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(directives).map_err(|error| format!("{directives:?}: {error}"))
}

/// Starts logging to standard error. `directives` are those of `RUST_LOG`, for example `info,ingest=debug`.
///
/// # Errors
/// If the directives cannot be read.
pub fn start_log(directives: &str, format: LogFormat) -> Result<(), String> {
    let filter = filter_of(directives)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    started.map_err(|error| error.to_string())
}

/// The process's metrics, as Prometheus reads them.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Installs the recorder behind the `metrics` macros.
    ///
    /// # Errors
    /// If another one is installed already.
    pub fn install() -> Result<Self, String> {
        PrometheusBuilder::new().install_recorder().map(Self).map_err(|error| error.to_string())
    }

    /// All metrics in Prometheus' text format.
    pub fn rendered(&self) -> String {
        self.0.render()
    }

    /// Tidies what histograms have gathered, for ever: without it, and without anybody who reads the metrics, they
    /// would grow.
    pub async fn keep_up(self) -> ! {
        loop {
            tokio::time::sleep(UPKEEP).await;
            self.0.run_upkeep();
        }
    }

    /// The sum over all labels of a counter or gauge; 0 if it has never been set.
    pub fn sum(&self, name: &str) -> f64 {
        sum_in(&self.rendered(), name)
    }
}

fn sum_in(rendered: &str, name: &str) -> f64 {
    let samples = rendered.lines().filter_map(|line| line.strip_prefix(name));
    let own = samples.filter(|rest| rest.starts_with([' ', '{']));
    own.filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_labels_and_takes_no_other_name() {
        let text = "# TYPE trades_stored_total counter\ntrades_stored_total{p=\"0\"} 3\ntrades_stored_total{p=\"1\"} 4\ntrades_stored_total_x 9\n";
        assert!((sum_in(text, "trades_stored_total") - 7.0).abs() < f64::EPSILON);
        assert!(sum_in(text, "nothing").abs() < f64::EPSILON);
    }
}
