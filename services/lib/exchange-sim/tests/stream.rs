//! The stream's protocol, as a client sees it.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::*;
use exchange_sim::{Market, Rate, SimConfig};
use futures::SinkExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Bytes, Message};

const ALL: &str = "btcusdt@trade/ethusdt@trade/solusdt@trade/xrpusdt@trade/trxusdt@trade";

#[tokio::test]
async fn every_trade_is_streamed_once_byte_for_byte_as_the_market_says() {
    let exchange = start(limited(50_000)).await;
    let mut client = Client::connect(&exchange, &format!("/stream?streams={ALL}&timeUnit=MICROSECOND")).await;
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for frame in client.texts(50_000).await {
        let (stream, event) = frame.split_once(r#"","data":"#).unwrap();
        seen.entry(stream[11..].to_owned()).or_default().push(event[..event.len() - 1].to_owned());
    }
    let market = Market::new(exchange.config()).unwrap();
    for symbol in market.symbols() {
        let events: Vec<String> =
            symbol.ticks_from(1).map(|tick| event(symbol.symbol().as_str(), &tick, true)).collect();
        assert_eq!(seen[&format!("{}@trade", symbol.symbol().lowercase())], events);
    }
    assert!(exchange.issued().done);
    exchange.stop().await;
}

#[tokio::test]
async fn the_same_seed_gives_the_same_bytes() {
    let mut both = Vec::new();
    for _ in 0..2 {
        let exchange = start(limited(5_000)).await;
        let mut client = Client::connect(&exchange, "/ws/btcusdt@trade").await;
        let texts = client.texts(2_000).await;
        assert!(texts[0].starts_with(r#"{"e":"trade","E":17231612"#), "{}", texts[0]);
        both.push(texts);
    }
    assert_eq!(both[0], both[1]);
}

#[tokio::test]
async fn live_trades_come_when_their_time_has_come() {
    let exchange = start(live(1_000)).await;
    let mut client = Client::connect(&exchange, "/ws/btcusdt@trade").await;
    let mut last = 0;
    for text in client.texts(500).await {
        let event: Value = serde_json::from_str(&text).unwrap();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
        assert!(event["E"].as_i64().unwrap() <= now && event["T"].as_i64() < event["E"].as_i64());
        let id = event["t"].as_u64().unwrap();
        assert!(last == 0 || id == last + 1);
        last = id;
    }
}

#[tokio::test]
async fn a_restart_finds_the_market_where_it_would_be() {
    let epoch_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64 - 1_000_000;
    let config = SimConfig { epoch_ms: Some(epoch_ms), ..live(1_000) };
    let mut last = 0;
    for _ in 0..2 {
        let exchange = start(config.clone()).await;
        let mut client = Client::connect(&exchange, "/ws/btcusdt@trade").await;
        let first = id(&client.text().await);
        assert!(first > 300_000 && first > last, "{first}");
        last = id(&client.text().await);
        exchange.stop().await;
    }
}

#[tokio::test]
async fn requests_are_answered_as_documented() {
    let exchange = start(SimConfig { client_messages_per_second: 100, ..live(500) }).await;
    let mut client = Client::connect(&exchange, "/ws").await;
    let cases = [
        (r#"{"method":"SUBSCRIBE","params":["btcusdt@trade","nosuch@depth"],"id":1}"#, r#"{"result":null,"id":1}"#),
        (r#"{"method":"LIST_SUBSCRIPTIONS","id":3}"#, r#"{"result":["btcusdt@trade","nosuch@depth"],"id":3}"#),
        (r#"{"method":"GET_PROPERTY","params":["combined"],"id":"x"}"#, r#"{"result":false,"id":"x"}"#),
        (r#"{"method":"SET_PROPERTY","params":["combined",true],"id":5}"#, r#"{"result":null,"id":5}"#),
        (r#"{"method":"GET_PROPERTY","params":["combined"],"id":6}"#, r#"{"result":true,"id":6}"#),
        (
            r#"{"method":"SET_PROPERTY","params":["color",true],"id":7}"#,
            r#"{"code":0,"msg":"Unknown property","id":7}"#,
        ),
        ("{", r#"{"code":3,"msg":"Invalid JSON: expected value at line 1 column 1"}"#),
    ];
    for (request, expected) in cases {
        assert_eq!(client.ask(request).await, expected);
    }
    assert!(client.text().await.starts_with(r#"{"stream":"btcusdt@trade","data":{"e":"trade""#));
    let unsubscribe = r#"{"method":"UNSUBSCRIBE","params":["btcusdt@trade"],"id":8}"#;
    assert_eq!(client.ask(unsubscribe).await, r#"{"result":null,"id":8}"#);
    // Nothing comes any more but the answer.
    client.send(r#"{"method":"LIST_SUBSCRIPTIONS","id":9}"#).await;
    assert_eq!(client.text().await, r#"{"result":["nosuch@depth"],"id":9}"#);
}

#[tokio::test]
async fn more_than_five_messages_a_second_end_the_connection() {
    let exchange = start(live(1)).await;
    let mut client = Client::connect(&exchange, "/ws").await;
    for _ in 0..6 {
        client.0.send(Message::Ping(Bytes::new())).await.unwrap();
    }
    assert_eq!(client.end().await, Some(1008));
}

#[tokio::test]
async fn a_connection_has_a_bounded_number_of_streams() {
    let exchange = start(SimConfig { max_streams_per_connection: 2, ..live(1) }).await;
    let mut client = Client::connect(&exchange, "/stream?streams=a@trade/b@trade").await;
    let answer = client.ask(r#"{"method":"SUBSCRIBE","params":["c@trade"],"id":1}"#).await;
    assert!(answer.starts_with(r#"{"code":2,"#), "{answer}");
    assert!(Client::try_connect(&exchange, "/stream?streams=a/b/c").await.is_err());
    assert!(Client::try_connect(&exchange, "/stream?timeUnit=FORTNIGHT").await.is_err());
}

#[tokio::test]
async fn pings_are_answered_with_their_payload_or_the_connection_ends() {
    let config = SimConfig { ping_ms: 50, pong_timeout_ms: 400, client_messages_per_second: 1_000, ..live(1) };
    let exchange = start(config).await;
    let mut client = Client::connect(&exchange, "/ws").await;
    let mut payloads = Vec::new();
    // Longer than a pong may take. The client's socket answers with the same payload by itself.
    while payloads.len() < 20 {
        if let Some(Ok(Message::Ping(payload))) = client.message().await {
            payloads.push(payload);
        }
    }
    payloads.dedup();
    assert_eq!(payloads.len(), 20, "payloads differ");

    let mut silent = raw(&exchange).await;
    // An unsolicited pong: masked, empty.
    silent.write_all(&[0x8a, 0x80, 1, 2, 3, 4]).await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, silent.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest.len() > 20, "there were pings");
}

/// A connection that answers nothing by itself.
async fn raw(exchange: &exchange_sim::Running) -> TcpStream {
    let mut stream = TcpStream::connect(exchange.address).await.unwrap();
    let request = "GET /ws/btcusdt@trade HTTP/1.1\r\nHost: sim\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    stream
}

#[tokio::test]
async fn who_reads_too_slowly_is_disconnected() {
    let exchange = start(SimConfig { queue_frames: 1_024, ..live(500_000) }).await;
    let mut slow = raw(&exchange).await;
    let issued = || exchange.issued().symbols.values().next().unwrap().last;
    // The queue and the system's buffers hold far less than this.
    timeout(PATIENCE, async {
        while issued() < 300_000 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    let mut rest = Vec::new();
    // The end may be a reset, since there was more to send.
    let _ = timeout(PATIENCE, slow.read_to_end(&mut rest)).await.unwrap();
    assert!(!rest.is_empty());
}

#[tokio::test]
async fn connections_end_with_age_and_with_the_server() {
    let exchange = start(SimConfig { lifetime_ms: 200, ..live(1) }).await;
    assert_eq!(Client::connect(&exchange, "/ws").await.end().await, Some(1001));
    let exchange = start(live(1)).await;
    let mut client = Client::connect(&exchange, "/ws").await;
    let (_, code) = tokio::join!(exchange.stop(), client.end());
    assert_eq!(code, Some(1001));
}

#[tokio::test]
async fn connection_attempts_are_limited() {
    let exchange = start(SimConfig { connections_per_five_minutes: 2, ..live(1) }).await;
    for expected in [true, true, false] {
        assert_eq!(Client::try_connect(&exchange, "/ws").await.is_ok(), expected);
    }
}

#[tokio::test]
async fn aggregates_of_the_stream_are_those_of_rest() {
    let exchange = start(only("BTCUSDT", limited(3_000))).await;
    let mut client = Client::connect(&exchange, "/ws/btcusdt@aggTrade?timeUnit=MICROSECOND").await;
    let mut streamed = Vec::new();
    while streamed.last().is_none_or(|row: &Value| row["l"] != json!(3_000)) {
        streamed.push(client.json().await);
    }
    let mut fetched = Vec::new();
    while fetched.len() < streamed.len() {
        let path = format!("/api/v3/aggTrades?symbol=BTCUSDT&limit=1000&fromId={}", fetched.len() + 1);
        fetched.extend(rows(&exchange, &path).await);
    }
    for (streamed, fetched) in streamed.into_iter().zip(fetched) {
        let Value::Object(mut event) = streamed else { panic!("expected an object") };
        for key in ["e", "E", "s"] {
            event.remove(key).unwrap();
        }
        assert_eq!(Value::Object(event), fetched);
    }
}

#[tokio::test]
async fn closed_klines_of_the_stream_are_those_of_rest() {
    let config = SimConfig { rate: Rate::Max, density: 50, epoch_ms: Some(EPOCH_MS), ..SimConfig::default() };
    let exchange = start(only("BTCUSDT", config)).await;
    let mut client = Client::connect(&exchange, "/ws/btcusdt@kline_1m").await;
    let mut closed = Vec::new();
    let mut open = 0;
    while closed.len() < 3 {
        let event = client.json().await;
        if event["k"]["x"] == json!(true) { closed.push(event["k"].clone()) } else { open += 1 }
    }
    assert!((80..100).contains(&open), "every two seconds, got {open} in three minutes");
    let path = format!("/api/v3/klines?symbol=BTCUSDT&interval=1m&startTime={EPOCH_MS}&limit=3");
    let answer: Vec<Value> = serde_json::from_str(&get(&exchange, &path).await.body).unwrap();
    for (kline, row) in closed.iter().zip(answer) {
        let keys = ["t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q", "B"];
        assert_eq!(Value::from(keys.map(|key| kline[key].clone()).to_vec()), row);
        assert_eq!(kline["L"].as_u64().unwrap() - kline["f"].as_u64().unwrap() + 1, kline["n"].as_u64().unwrap());
    }
}
