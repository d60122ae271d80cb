//! One bounded GET, and what its answer says about our limits.

use std::sync::Arc;
use std::time::Duration;

use domain::Symbol;
use ports::{Clock, HistoryError};
use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use tracing::warn;

use super::weight::{Blocked, Weight};
use crate::config::{BinanceConfig, millis};
use crate::{BinanceError, tls};

const USED_WEIGHT: &str = "x-mbx-used-weight-1m";
const TIME_UNIT: &str = "x-mbx-time-unit";

/// What a refusal may have in its body.
const REFUSAL_BYTES: usize = 64 * 1024;

/// Waits for answers that ask for one and do not say how long: a minute is the limits' window, two
/// minutes the shortest ban.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);
const DEFAULT_BAN: Duration = Duration::from_secs(120);

/// Codes of the exchange for a symbol it does not have or cannot even read.
const BAD_SYMBOL: i64 = -1121;
const ILLEGAL_CHARACTERS: i64 = -1100;

/// Why a request gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RestError {
    /// The exchange asks us to wait.
    #[error("limited for {wait:?}: {reason}")]
    Limited {
        /// For how long.
        wait: Duration,
        /// What it said.
        reason: String,
    },
    /// The exchange understood and refused.
    #[error("refused with code {code}: {message}")]
    Refused {
        /// Its code.
        code: i64,
        /// Its words.
        message: String,
    },
    /// No usable answer.
    #[error("{0}")]
    Unavailable(String),
}

/// `{"code":-1121,"msg":"Invalid symbol."}`
#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    msg: String,
}

impl RestError {
    /// Whether the exchange does not have the symbol asked for.
    pub(crate) fn is_bad_symbol(&self) -> bool {
        matches!(self, Self::Refused { code: BAD_SYMBOL | ILLEGAL_CHARACTERS, .. })
    }

    /// As the port's error.
    pub(crate) fn about(self, symbol: &Symbol, from_id: u64) -> HistoryError {
        let place = format!("{symbol} from id {from_id}");
        match self {
            Self::Limited { wait, reason } => HistoryError::Limited { wait, reason },
            refused if refused.is_bad_symbol() => HistoryError::Unfillable(format!("{place}: {refused}")),
            other => HistoryError::Unavailable(format!("{place}: {other}")),
        }
    }
}

impl From<Blocked> for RestError {
    fn from(Blocked { wait, reason }: Blocked) -> Self {
        Self::Limited { wait, reason }
    }
}

/// The REST server.
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    time_unit: &'static str,
    max_bytes: usize,
    weight: Weight,
}

impl Client {
    pub(crate) fn new(config: &BinanceConfig, clock: Arc<dyn Clock>) -> Result<Self, BinanceError> {
        let deadline = millis(config.rest_timeout_ms);
        let http = reqwest::Client::builder()
            .user_agent(concat!("fulltape/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(deadline)
            .timeout(deadline)
            .tls_backend_preconfigured(tls::config())
            .redirect(reqwest::redirect::Policy::none())
            // The stream knows no proxy either, and the environment is read elsewhere.
            .no_proxy()
            .build()
            .map_err(|error| BinanceError::Config(vec![format!("rest client: {}", causes(&error))]))?;
        Ok(Self {
            http,
            base: config.rest_url.trim_end_matches('/').to_owned(),
            time_unit: config.time_unit.name(),
            max_bytes: config.rest_answer_bytes,
            weight: Weight::new(clock, config.rest_weight_percent),
        })
    }

    pub(crate) fn weight(&self) -> &Weight {
        &self.weight
    }

    /// The body of a successful answer. Waits until the budget has `cost`.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, String)], cost: u32) -> Result<Vec<u8>, RestError> {
        let reserved = self.weight.reserve(cost).await?;
        let url = format!("{}{path}?{}", self.base, encoded(query));
        let request = self.http.get(&url).header(TIME_UNIT, self.time_unit);
        let answer = request.send().await.map_err(|error| RestError::Unavailable(causes(&error)))?;
        drop(reserved);
        if let Some(used) = number(&answer, USED_WEIGHT) {
            self.weight.used(u32::try_from(used).unwrap_or(u32::MAX));
        }
        if answer.status().is_success() {
            return read(answer, self.max_bytes).await;
        }
        Err(self.refusal(answer).await)
    }

    async fn refusal(&self, answer: Response) -> RestError {
        let status = answer.status();
        let retry_after = number(&answer, RETRY_AFTER.as_str()).map(Duration::from_secs);
        let body = read(answer, REFUSAL_BYTES).await.unwrap_or_default();
        let Refusal { code, msg: message } = serde_json::from_slice(&body).unwrap_or_default();
        let default_wait = match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::FORBIDDEN => DEFAULT_WAIT,
            StatusCode::IM_A_TEAPOT => DEFAULT_BAN,
            _ if status.is_client_error() && code != 0 => return RestError::Refused { code, message },
            _ => return RestError::Unavailable(format!("status {status}, code {code} {message}")),
        };
        let wait = retry_after.unwrap_or(default_wait).min(crate::LONGEST_BAN);
        let reason = format!("status {status}, code {code} {message}");
        warn!(wait_ms = wait.as_millis(), reason, "the exchange asks us to wait");
        self.weight.block(wait, reason.clone());
        RestError::Limited { wait, reason }
    }
}

/// Reads an answer up to a bound.
async fn read(mut answer: Response, max_bytes: usize) -> Result<Vec<u8>, RestError> {
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(None) => return Ok(body),
            Ok(Some(chunk)) if body.len() + chunk.len() <= max_bytes => body.extend_from_slice(&chunk),
            Ok(Some(_)) => {
                return Err(RestError::Unavailable(format!("answer too long: expected at most {max_bytes} bytes")));
            }
            Err(error) => return Err(RestError::Unavailable(format!("answer cut: {}", causes(&error)))),
        }
    }
}

fn number(answer: &Response, header: &str) -> Option<u64> {
    answer.headers().get(header)?.to_str().ok()?.trim().parse().ok()
}

/// An error with its causes: the outermost alone only says that sending failed.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// A query string; everything but letters, digits and `-_.~` is percent-encoded.
fn encoded(query: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (name, value) in query {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => text.push(char::from(byte)),
                other => text.push_str(&format!("%{other:02X}")),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        let query = [("symbols", r#"["BTCUSDT"]"#.to_owned()), ("limit", "5".to_owned())];
        assert_eq!(encoded(&query), "symbols=%5B%22BTCUSDT%22%5D&limit=5");
        assert_eq!(encoded(&[("symbol", "币".to_owned())]), "symbol=%E5%B8%81");
    }
}
