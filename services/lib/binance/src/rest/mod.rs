//! The exchange's memory: past trades by id, within its limits.

mod client;
mod info;
mod trades;
mod weight;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use domain::Symbol;
use ports::{Clock, History, HistoryError};
use tracing::{debug, info, warn};

use crate::config::BinanceConfig;
use crate::{BinanceError, telemetry};
use client::{Client, RestError};

/// The exchange's bound on trades per answer.
const MAX_LIMIT: usize = 1_000;

/// Weights of the requests, as documented.
const TRADES_WEIGHT: u32 = 25;
const INFO_WEIGHT: u32 = 20;

/// Symbols per question, which keeps URL and answer small.
const SYMBOLS_PER_QUESTION: usize = 50;

/// `historicalTrades` of the exchange, one weight budget for all symbols.
pub struct RestHistory {
    client: Client,
}

impl RestHistory {
    /// A history that has not asked anything yet.
    ///
    /// # Errors
    /// Settings that cannot work.
    pub fn new(config: &BinanceConfig, clock: Arc<dyn Clock>) -> Result<Self, BinanceError> {
        config.validate()?;
        telemetry::describe();
        Ok(Self { client: Client::new(config, clock)? })
    }

    /// Asks the exchange which of `symbols` it does not list.
    ///
    /// # Errors
    /// [`BinanceError::Unreachable`] says that it could not be asked.
    pub async fn unlisted(&self, symbols: &[Symbol]) -> Result<Vec<Symbol>, BinanceError> {
        let mut unlisted = Vec::new();
        let mut questions: Vec<&[Symbol]> = symbols.chunks(SYMBOLS_PER_QUESTION).collect();
        while let Some(question) = questions.pop() {
            match self.ask_for(question).await {
                Ok(missing) => unlisted.extend(missing),
                Err(error) if !error.is_bad_symbol() => return Err(BinanceError::Unreachable(error.to_string())),
                Err(_) if question.len() == 1 => unlisted.extend_from_slice(question),
                // The refusal does not say which one, so halve the question until it does.
                Err(_) => {
                    let (first, second) = question.split_at(question.len() / 2);
                    questions.extend([second, first]);
                }
            }
        }
        Ok(unlisted)
    }

    /// Asks about some symbols; gives back those that the answer lacks.
    async fn ask_for(&self, symbols: &[Symbol]) -> Result<Vec<Symbol>, RestError> {
        let info = self.info(symbols).await?;
        for (symbol, status) in info.not_trading(symbols) {
            warn!(%symbol, status, "the exchange does not trade this symbol now");
        }
        Ok(symbols.iter().filter(|symbol| !info.lists(symbol)).cloned().collect())
    }

    /// Reads limits and symbols.
    async fn info(&self, symbols: &[Symbol]) -> Result<info::ExchangeInfo, RestError> {
        let query = match symbols {
            [one] => ("symbol", one.to_string()),
            many => ("symbols", serde_json::to_string(many).expect("symbols are strings")),
        };
        let body = self.client.get("/api/v3/exchangeInfo", &[query], INFO_WEIGHT).await?;
        let info = info::ExchangeInfo::parse(&body)?;
        if let Some(limit) = info.weight_per_minute() {
            info!(limit, "read the exchange's request weight per minute");
            self.client.weight().set_limit(limit, info.server_time);
        }
        Ok(info)
    }

    /// Reads the limits once; while they cannot be read, the documented ones hold.
    async fn know_limits(&self, symbol: &Symbol) -> Result<(), RestError> {
        if !self.client.weight().is_to_be_asked() {
            return Ok(());
        }
        match self.info(std::slice::from_ref(symbol)).await {
            Err(error @ (RestError::Limited { .. } | RestError::Refused { .. })) => Err(error),
            Err(error) => {
                warn!(reason = %error, "cannot read the exchange's limits, assuming the documented ones");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    async fn page(&self, symbol: &Symbol, from_id: u64, limit: usize) -> Result<Vec<Bytes>, RestError> {
        self.know_limits(symbol).await?;
        let query = [("symbol", symbol.to_string()), ("fromId", from_id.to_string()), ("limit", limit.to_string())];
        let body = self.client.get("/api/v3/historicalTrades", &query, TRADES_WEIGHT).await?;
        trades::events(symbol, from_id, limit, &body)
    }
}

#[async_trait]
impl History for RestHistory {
    async fn trades(&self, symbol: &Symbol, from_id: u64, limit: usize) -> Result<Vec<Bytes>, HistoryError> {
        let limit = limit.min(MAX_LIMIT);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let events = self.page(symbol, from_id, limit).await.map_err(|error| error.about(symbol, from_id))?;
        debug!(%symbol, from_id, trades = events.len(), "fetched past trades");
        Ok(events)
    }
}
