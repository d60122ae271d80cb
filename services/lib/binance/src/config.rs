//! Where the exchange is, what is wanted of it, and how patient to be.

use std::time::Duration;

use domain::Symbol;
use serde::{Deserialize, Serialize};

use crate::BinanceError;

/// The exchange's bound on streams per connection.
const MAX_STREAMS: usize = 1_024;

/// The exchange cuts a connection after a day.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// The settings of a [`LiveFeed`](crate::LiveFeed) and a [`RestHistory`](crate::RestHistory).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BinanceConfig {
    /// The stream's server: `wss://host[:port]`, or `ws://` for a simulator.
    pub ws_url: String,
    /// The REST server: `https://host[:port]`. It must have `historicalTrades`, which the
    /// exchange's data-only host has not.
    pub rest_url: String,
    /// The name under which the feed's records say where they come from.
    pub source: String,
    /// The markets to follow.
    pub symbols: Vec<Symbol>,
    /// The unit of times in frames and answers.
    pub time_unit: TimeUnit,
    /// Streams per connection; the exchange allows 1,024.
    pub max_streams_per_connection: usize,
    /// When a connection is replaced by a fresh one; the exchange cuts after 24 h.
    pub connection_lifetime_ms: u64,
    /// How long the old connection stays after the new one delivers.
    pub overlap_linger_ms: u64,
    /// How long the new connection may stay without a frame before it counts as delivering all
    /// the same: quiet markets have nothing to deliver.
    pub overlap_max_ms: u64,
    /// A connection without frames for this long is never given up, however busy it was.
    pub silence_floor_ms: u64,
    /// A connection is given up after this many times its usual pause between frames.
    pub silence_factor: u32,
    /// The bound of the first random wait before reconnecting; it doubles with each failure.
    pub backoff_min_ms: u64,
    /// The largest bound of the random wait before reconnecting.
    pub backoff_max_ms: u64,
    /// How many frames wait for a slow consumer before new ones are dropped and counted.
    pub queue_frames: usize,
    /// How many bytes of frames wait for a slow consumer before new ones are dropped and counted.
    pub queue_bytes: usize,
    /// Deadline for name, TCP, TLS and WebSocket handshake together.
    pub connect_timeout_ms: u64,
    /// Deadline for the answers to a connection's requests.
    pub subscribe_timeout_ms: u64,
    /// Deadline for sending a message, and for the good-bye of a connection.
    pub close_timeout_ms: u64,
    /// Deadline for one REST answer, the server's own being 10 s.
    pub rest_timeout_ms: u64,
    /// The share of the exchange's REST weight per minute that may be used, in percent.
    pub rest_weight_percent: u32,
    /// The largest REST answer that is read.
    pub rest_answer_bytes: usize,
}

/// The unit of times in frames and answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    /// Milliseconds, 13 digits.
    Millisecond,
    /// Microseconds, 16 digits.
    #[default]
    Microsecond,
}

impl TimeUnit {
    /// How the exchange spells it, in URLs and headers.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Millisecond => "MILLISECOND",
            Self::Microsecond => "MICROSECOND",
        }
    }
}

impl Default for BinanceConfig {
    fn default() -> Self {
        Self {
            ws_url: "wss://data-stream.binance.vision".to_owned(),
            rest_url: "https://api.binance.com".to_owned(),
            source: "binance".to_owned(),
            symbols: Vec::new(),
            time_unit: TimeUnit::default(),
            max_streams_per_connection: MAX_STREAMS,
            connection_lifetime_ms: DAY_MS - 10 * 60 * 1_000,
            overlap_linger_ms: 2_000,
            overlap_max_ms: 60_000,
            silence_floor_ms: 20_000,
            silence_factor: 20,
            backoff_min_ms: 500,
            backoff_max_ms: 60_000,
            queue_frames: 65_536,
            queue_bytes: 64 * 1024 * 1024,
            connect_timeout_ms: 10_000,
            subscribe_timeout_ms: 10_000,
            close_timeout_ms: 5_000,
            rest_timeout_ms: 15_000,
            rest_weight_percent: 80,
            rest_answer_bytes: 16 * 1024 * 1024,
        }
    }
}

impl BinanceConfig {
    /// Finds everything that cannot work.
    ///
    /// # Errors
    /// [`BinanceError::Config`] with all findings, each naming the setting and what it expects.
    pub fn validate(&self) -> Result<(), BinanceError> {
        let mut findings = Vec::new();
        let mut expect = |holds: bool, finding: String| {
            if !holds {
                findings.push(finding);
            }
        };
        expect(has_scheme(&self.ws_url, &["wss", "ws"]), url_finding("ws_url", &self.ws_url, "wss:// or ws://"));
        expect(
            has_scheme(&self.rest_url, &["https", "http"]),
            url_finding("rest_url", &self.rest_url, "https:// or http://"),
        );
        expect(!self.source.is_empty(), "source: expected a name, got none".to_owned());
        expect(!self.symbols.is_empty(), "symbols: expected at least one, for example BTCUSDT".to_owned());
        let streams = self.max_streams_per_connection;
        expect(
            (1..=MAX_STREAMS).contains(&streams),
            format!("max_streams_per_connection: expected 1 to {MAX_STREAMS}, got {streams}"),
        );
        let lifetime = self.connection_lifetime_ms;
        expect(
            (1..DAY_MS).contains(&lifetime),
            format!("connection_lifetime_ms: expected less than a day ({DAY_MS}), got {lifetime}"),
        );
        let (min, max) = (self.backoff_min_ms, self.backoff_max_ms);
        expect(min <= max, format!("backoff_min_ms: expected at most backoff_max_ms ({max}), got {min}"));
        let percent = self.rest_weight_percent;
        expect((1..=100).contains(&percent), format!("rest_weight_percent: expected 1 to 100, got {percent}"));
        let bytes = self.queue_bytes;
        let least = crate::MAX_FRAME_BYTES;
        expect(bytes >= least, format!("queue_bytes: expected at least one frame ({least}), got {bytes}"));
        for (name, value) in self.positive() {
            expect(value > 0, format!("{name}: expected more than zero"));
        }
        if findings.is_empty() { Ok(()) } else { Err(BinanceError::Config(findings)) }
    }

    fn positive(&self) -> [(&'static str, u64); 9] {
        [
            ("silence_floor_ms", self.silence_floor_ms),
            ("silence_factor", u64::from(self.silence_factor)),
            ("backoff_min_ms", self.backoff_min_ms),
            ("queue_frames", self.queue_frames as u64),
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("subscribe_timeout_ms", self.subscribe_timeout_ms),
            ("close_timeout_ms", self.close_timeout_ms),
            ("rest_timeout_ms", self.rest_timeout_ms),
            ("rest_answer_bytes", self.rest_answer_bytes as u64),
        ]
    }
}

/// Milliseconds of a setting as a duration.
pub(crate) fn millis(setting: u64) -> Duration {
    Duration::from_millis(setting)
}

fn has_scheme(url: &str, schemes: &[&str]) -> bool {
    url.split_once("://").is_some_and(|(scheme, rest)| schemes.contains(&scheme) && !rest.is_empty())
}

fn url_finding(setting: &str, url: &str, expected: &str) -> String {
    format!("{setting}: expected {expected} and a host, got {url:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_only_lack_symbols() {
        let error = BinanceConfig::default().validate().unwrap_err().to_string();
        assert_eq!(error, "binance settings: symbols: expected at least one, for example BTCUSDT");
        let symbols = vec!["BTCUSDT".parse().unwrap()];
        assert_eq!(BinanceConfig { symbols, ..BinanceConfig::default() }.validate(), Ok(()));
    }

    #[test]
    fn all_findings_are_reported_together() {
        let config = BinanceConfig {
            ws_url: "http://x".to_owned(),
            rest_url: String::new(),
            max_streams_per_connection: 1_025,
            connection_lifetime_ms: DAY_MS,
            queue_frames: 0,
            ..BinanceConfig::default()
        };
        let Err(BinanceError::Config(findings)) = config.validate() else { panic!() };
        assert_eq!(findings.len(), 6, "{findings:?}");
        assert!(findings[0].starts_with("ws_url: expected wss:// or ws://"));
    }

    #[test]
    fn settings_have_names_and_unknown_ones_are_errors() {
        let config: BinanceConfig =
            serde_json::from_str(r#"{"symbols":["BTCUSDT"],"time_unit":"millisecond"}"#).unwrap();
        assert_eq!((config.symbols.len(), config.time_unit), (1, TimeUnit::Millisecond));
        assert!(serde_json::from_str::<BinanceConfig>(r#"{"simbols":[]}"#).is_err());
        assert!(serde_json::from_str::<BinanceConfig>(r#"{"symbols":["btcusdt"]}"#).is_err());
    }
}
