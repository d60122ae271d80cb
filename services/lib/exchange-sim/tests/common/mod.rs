//! What the integration tests share: a server, a client, and patience.
#![allow(dead_code, missing_docs)]

use std::time::Duration;

use exchange_sim::market::Tick;
use exchange_sim::{Exchange, Fault, Rate, Running, SimConfig};
use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

pub const PATIENCE: Duration = Duration::from_secs(20);

/// A whole number of minutes, and in the past.
pub const EPOCH_MS: i64 = 1_723_161_240_000;

/// Trades on demand, and an end.
pub fn limited(limit: u64) -> SimConfig {
    SimConfig { rate: Rate::Max, limit: Some(limit), epoch_ms: Some(EPOCH_MS), ..SimConfig::default() }
}

/// Trades by the clock.
pub fn live(rate: u64) -> SimConfig {
    SimConfig { rate: Rate::PerSecond(rate), ..SimConfig::default() }
}

/// Only one symbol.
pub fn only(symbol: &str, config: SimConfig) -> SimConfig {
    config.with_symbols(&[symbol.parse().unwrap()])
}

pub async fn start(config: SimConfig) -> Running {
    Exchange::start(config).await.unwrap()
}

pub struct Client(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    pub async fn connect(exchange: &Running, path: &str) -> Self {
        Self::try_connect(exchange, path).await.unwrap()
    }

    pub async fn try_connect(exchange: &Running, path: &str) -> Result<Self, Error> {
        let url = format!("{}{path}", exchange.ws_url());
        Ok(Self(timeout(PATIENCE, connect_async(url)).await.unwrap()?.0))
    }

    /// The next message, whatever it is; `None` at the end.
    pub async fn message(&mut self) -> Option<Result<Message, Error>> {
        timeout(PATIENCE, self.0.next()).await.expect("a message or the end")
    }

    /// The next text.
    pub async fn text(&mut self) -> String {
        loop {
            match self.message().await {
                Some(Ok(Message::Text(text))) => return text.to_string(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("expected text, got {other:?}"),
            }
        }
    }

    pub async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::with_capacity(count);
        while texts.len() < count {
            texts.push(self.text().await);
        }
        texts
    }

    pub async fn json(&mut self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    pub async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// Sends a request and returns the answer, skipping events.
    pub async fn ask(&mut self, text: &str) -> String {
        self.send(text).await;
        loop {
            let text = self.text().await;
            if text.starts_with(r#"{"result""#) || text.starts_with(r#"{"code""#) {
                return text;
            }
        }
    }

    /// Reads to the end; the close frame's code, if there was one.
    pub async fn end(&mut self) -> Option<u16> {
        let mut code = None;
        while let Some(Ok(message)) = self.message().await {
            if let Message::Close(frame) = message {
                code = frame.map(|frame| frame.code.into());
            }
        }
        code
    }
}

/// An answer of REST.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub used: u32,
    pub retry_after: Option<u64>,
    pub body: String,
}

pub async fn try_get(exchange: &Running, path: &str, unit: Option<&str>) -> reqwest::Result<Answer> {
    // Only the first one counts; without it the client refuses to be made.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
    let request = client.get(format!("{}{path}", exchange.rest_url()));
    let request = unit.into_iter().fold(request, |request, unit| request.header("X-MBX-TIME-UNIT", unit));
    let response = request.send().await?;
    let header = |name: &str| response.headers().get(name)?.to_str().ok()?.parse::<u64>().ok();
    let (used, retry_after) = (header("X-MBX-USED-WEIGHT-1M").unwrap_or(0) as u32, header("Retry-After"));
    let status = response.status().as_u16();
    Ok(Answer { status, used, retry_after, body: response.text().await? })
}

pub async fn get(exchange: &Running, path: &str) -> Answer {
    try_get(exchange, path, None).await.unwrap()
}

pub async fn rows(exchange: &Running, path: &str) -> Vec<Value> {
    let answer = try_get(exchange, path, Some("MICROSECOND")).await.unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

pub fn fault(exchange: &Running, json: &str) {
    exchange.fault(&serde_json::from_str::<Fault>(json).unwrap()).unwrap();
}

/// The event that a trade must be, written independently of the server.
pub fn event(symbol: &str, tick: &Tick, micros: bool) -> String {
    let unit = if micros { 1 } else { 1_000 };
    format!(
        r#"{{"e":"trade","E":{},"s":"{symbol}","t":{},"p":"{}","q":"{}","T":{},"m":{},"M":true}}"#,
        tick.event_us / unit,
        tick.id,
        tick.price.decimal(),
        tick.quantity.decimal(),
        tick.time_us / unit,
        tick.buyer_is_maker,
    )
}

pub fn id(event: &str) -> u64 {
    let value: Value = serde_json::from_str(event).unwrap();
    value.get("data").unwrap_or(&value)["t"].as_u64().unwrap()
}
