//! A WebSocket server that a test drives step by step.

use std::time::Duration;

use binance::{BinanceConfig, LiveFeed};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use ports::{Feed, FeedEvent, SystemClock};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

/// No step of a test takes longer.
const DEADLINE: Duration = Duration::from_secs(10);

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

pub struct Server {
    pub listener: TcpListener,
}

pub struct Connection {
    pub socket: WebSocketStream<TcpStream>,
    pub uri: String,
}

impl Server {
    pub async fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub fn config(&self, symbols: &[&str]) -> BinanceConfig {
        BinanceConfig {
            ws_url: format!("ws://{}", self.listener.local_addr().unwrap()),
            symbols: symbols.iter().map(|symbol| symbol.parse().unwrap()).collect(),
            backoff_min_ms: 20,
            backoff_max_ms: 100,
            overlap_linger_ms: 200,
            close_timeout_ms: 1_000,
            ..BinanceConfig::default()
        }
    }

    /// The next connection, before any frame.
    pub async fn accept(&self) -> Connection {
        within("accept", async {
            let (stream, _) = self.listener.accept().await.unwrap();
            let mut uri = String::new();
            #[allow(clippy::result_large_err, reason = "the library's signature")]
            let note = |request: &Request, response: Response| {
                uri = request.uri().to_string();
                Ok(response)
            };
            let socket = accept_hdr_async(stream, note).await.unwrap();
            Connection { socket, uri }
        })
        .await
    }

    /// The next connection, with its list of subscriptions answered.
    pub async fn accept_subscribed(&self, streams: &[&str]) -> Connection {
        let mut connection = self.accept().await;
        connection.answer_list(streams).await;
        connection
    }

    /// Whether nobody connects for a while.
    pub async fn is_quiet(&self, wait: Duration) -> bool {
        timeout(wait, self.listener.accept()).await.is_err()
    }
}

impl Connection {
    pub async fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The client's next request.
    pub async fn request(&mut self) -> Value {
        loop {
            match self.message().await {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("expected a request, got {other:?}"),
            }
        }
    }

    pub async fn message(&mut self) -> Message {
        within("message", self.socket.next()).await.expect("a message").unwrap()
    }

    pub async fn answer_list(&mut self, streams: &[&str]) {
        let request = self.request().await;
        assert_eq!(request["method"], "LIST_SUBSCRIPTIONS");
        self.send(&json!({ "result": streams, "id": request["id"] }).to_string()).await;
    }

    /// Waits until the client has gone, politely or not.
    pub async fn until_closed(mut self) -> bool {
        within("close", async {
            let mut polite = false;
            while let Some(Ok(message)) = self.socket.next().await {
                polite |= matches!(message, Message::Close(_));
            }
            polite
        })
        .await
    }
}

/// A trade frame as the combined stream has it.
pub fn trade(id: u64) -> String {
    format!(
        r#"{{"stream":"btcusdt@trade","data":{{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":{id},"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}}}"#
    )
}

pub fn feed(config: BinanceConfig) -> LiveFeed {
    LiveFeed::new(config, Arc::new(SystemClock)).unwrap()
}

pub async fn next(feed: &mut LiveFeed) -> FeedEvent {
    within("event", feed.next()).await.unwrap()
}

pub async fn next_frame(feed: &mut LiveFeed) -> Bytes {
    match next(feed).await {
        FeedEvent::Frame { bytes, .. } => bytes,
        other => panic!("expected a frame, got {other:?}"),
    }
}
