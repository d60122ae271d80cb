//! What `exchangeInfo` says about limits and symbols.

use std::collections::HashMap;

use domain::Symbol;
use serde::Deserialize;

use super::client::RestError;

/// `{"serverTime":1565246363776,"rateLimits":[…],"symbols":[…]}`
#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(rename = "serverTime", default)]
    server_time: Option<i64>,
    #[serde(rename = "rateLimits", default)]
    rate_limits: Vec<RateLimit>,
    #[serde(default)]
    symbols: Vec<Market>,
}

/// `{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":6000}`
#[derive(Debug, Deserialize)]
struct RateLimit {
    #[serde(rename = "rateLimitType")]
    kind: String,
    interval: String,
    #[serde(rename = "intervalNum")]
    interval_num: u32,
    limit: u32,
}

/// `{"symbol":"ETHBTC","status":"TRADING",…}`
#[derive(Debug, Deserialize)]
struct Market {
    symbol: String,
    #[serde(default)]
    status: String,
}

/// Limits and symbols.
#[derive(Debug)]
pub(crate) struct ExchangeInfo {
    /// The exchange's time, in its unit.
    pub(crate) server_time: Option<i64>,
    rate_limits: Vec<RateLimit>,
    statuses: HashMap<String, String>,
}

impl ExchangeInfo {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, RestError> {
        let answer: Answer = serde_json::from_slice(body)
            .map_err(|error| RestError::Unavailable(format!("exchangeInfo: not the documented answer: {error}")))?;
        let statuses = answer.symbols.into_iter().map(|market| (market.symbol, market.status)).collect();
        Ok(Self { server_time: answer.server_time, rate_limits: answer.rate_limits, statuses })
    }

    /// The request weight that is allowed per minute.
    pub(crate) fn weight_per_minute(&self) -> Option<u32> {
        let per_minute = |limit: &&RateLimit| {
            limit.kind == "REQUEST_WEIGHT" && limit.interval == "MINUTE" && limit.interval_num == 1
        };
        self.rate_limits.iter().find(per_minute).map(|limit| limit.limit)
    }

    /// Whether a symbol is listed.
    pub(crate) fn lists(&self, symbol: &Symbol) -> bool {
        self.statuses.contains_key(symbol.as_str())
    }

    /// Those of `symbols` that are listed but not traded, with their status.
    pub(crate) fn not_trading<'a>(&'a self, symbols: &'a [Symbol]) -> impl Iterator<Item = (&'a Symbol, &'a str)> {
        symbols.iter().filter_map(|symbol| {
            let status = self.statuses.get(symbol.as_str())?;
            (!status.is_empty() && status != "TRADING").then_some((symbol, status.as_str()))
        })
    }
}
