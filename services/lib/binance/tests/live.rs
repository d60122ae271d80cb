//! The live feed against a server that each test drives step by step.

mod support;

use std::time::{Duration, Instant};

use binance::TimeUnit;
use domain::Origin;
use futures::{SinkExt, StreamExt};
use ports::FeedEvent;
use serde_json::json;
use support::ws::{Server, feed, next, next_frame, trade, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::{Bytes, Message};

const STREAM: &[&str] = &["btcusdt@trade"];
const SHUTDOWN: &str = r#"{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1778025600000}}"#;

#[tokio::test]
async fn frames_arrive_byte_for_byte() {
    let server = Server::new().await;
    let mut feed = feed(server.config(&["BTCUSDT", "ETHUSDT", "BTCUSDT"]));
    let mut connection = server.accept_subscribed(&["btcusdt@trade", "ethusdt@trade"]).await;
    assert_eq!(connection.uri, "/stream?streams=btcusdt@trade/ethusdt@trade&timeUnit=MICROSECOND");
    let odd = r#"{ "stream" : "x" , "data" : {"e":"trade","p":"0.10"} }  "#;
    for text in [trade(1).as_str(), odd, r#"{"unknown":"币"}"#] {
        connection.send(text).await;
        let event = next(&mut feed).await;
        let FeedEvent::Frame { bytes, received_at, origin, source, .. } = event else { panic!("{event:?}") };
        assert_eq!(bytes, text.as_bytes());
        assert_eq!((origin, source.as_ref()), (Origin::Live, b"binance".as_slice()));
        assert!(received_at.micros() > 1_700_000_000_000_000);
    }
}

#[tokio::test]
async fn a_ping_is_answered_with_its_payload() {
    let server = Server::new().await;
    let _feed = feed(server.config(&["BTCUSDT"]));
    let mut connection = server.accept_subscribed(STREAM).await;
    for payload in ["1723161255343", "", "another"] {
        connection.socket.send(Message::Ping(Bytes::from_static(payload.as_bytes()))).await.unwrap();
        assert_eq!(connection.message().await, Message::Pong(Bytes::from_static(payload.as_bytes())));
    }
}

#[tokio::test]
async fn long_lists_are_subscribed_in_chunks_at_the_allowed_rate() {
    let server = Server::new().await;
    let names: Vec<String> = (0..250).map(|n| format!("SYMBOL{n}USDT")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let config = binance::BinanceConfig { time_unit: TimeUnit::Millisecond, ..server.config(&names) };
    let mut feed = feed(config);
    let mut connection = server.accept().await;
    assert_eq!(connection.uri, "/stream?timeUnit=MILLISECOND");
    let mut times = Vec::new();
    let mut asked = Vec::new();
    for _ in 0..3 {
        let request = connection.request().await;
        times.push(Instant::now());
        assert_eq!(request["method"], "SUBSCRIBE");
        asked.extend(request["params"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()));
        connection.send(&json!({ "result": null, "id": request["id"] }).to_string()).await;
    }
    let expected: Vec<String> = names.iter().map(|name| format!("{}@trade", name.to_lowercase())).collect();
    assert_eq!(asked, expected);
    for pair in times.windows(2) {
        assert!(pair[1].duration_since(pair[0]) >= Duration::from_millis(200), "at most five a second");
    }
    let listed: Vec<&str> = expected.iter().map(String::as_str).collect();
    connection.answer_list(&listed).await;
    connection.send(&trade(1)).await;
    assert_eq!(next_frame(&mut feed).await, trade(1), "answers are not frames");
}

#[tokio::test]
async fn streams_are_spread_over_connections() {
    let server = Server::new().await;
    let config = server.config(&["A", "B", "C", "D", "E"]);
    let _feed = feed(binance::BinanceConfig { max_streams_per_connection: 2, ..config });
    let connections = [server.accept().await, server.accept().await, server.accept().await];
    let mut uris = connections.each_ref().map(|connection| connection.uri.clone());
    uris.sort();
    let path = |streams: &str| format!("/stream?streams={streams}&timeUnit=MICROSECOND");
    assert_eq!(uris, [path("a@trade/b@trade"), path("c@trade/d@trade"), path("e@trade")]);
    assert!(server.is_quiet(Duration::from_millis(300)).await);
}

#[tokio::test]
async fn a_planned_rotation_overlaps() {
    let server = Server::new().await;
    let config = binance::BinanceConfig { connection_lifetime_ms: 400, ..server.config(&["BTCUSDT"]) };
    let mut feed = feed(config);
    let mut old = server.accept_subscribed(STREAM).await;
    old.send(&trade(1)).await;
    assert_eq!(next_frame(&mut feed).await, trade(1));

    let mut new = server.accept_subscribed(STREAM).await;
    // Longer than the old one would linger if the new one delivered.
    let wait = Duration::from_millis(500);
    assert!(tokio::time::timeout(wait, old.socket.next()).await.is_err(), "no good-bye before the new one delivers");
    old.send(&trade(2)).await;
    assert_eq!(next_frame(&mut feed).await, trade(2), "the old one still delivers");
    new.send(&trade(2)).await;
    assert_eq!(next_frame(&mut feed).await, trade(2), "so does the new one");
    old.send(&trade(3)).await;
    assert_eq!(next_frame(&mut feed).await, trade(3), "what was under way on the old one is not lost");
    assert!(old.until_closed().await, "the old one is closed politely");
    new.send(&trade(4)).await;
    assert_eq!(next_frame(&mut feed).await, trade(4));
}

#[tokio::test]
async fn a_successor_that_fails_is_tried_again_while_the_old_one_delivers() {
    let server = Server::new().await;
    let config = binance::BinanceConfig { connection_lifetime_ms: 300, ..server.config(&["BTCUSDT"]) };
    let mut feed = feed(config);
    let mut old = server.accept_subscribed(STREAM).await;
    old.send(&trade(1)).await;
    next_frame(&mut feed).await;
    drop(server.accept().await);
    drop(server.accept().await);
    old.send(&trade(2)).await;
    assert_eq!(next_frame(&mut feed).await, trade(2));
    let mut new = server.accept_subscribed(STREAM).await;
    new.send(&trade(3)).await;
    assert_eq!(next_frame(&mut feed).await, trade(3));
    assert!(old.until_closed().await);
}

#[tokio::test]
async fn an_announced_shutdown_opens_the_successor_at_once() {
    let server = Server::new().await;
    let mut feed = feed(server.config(&["BTCUSDT"]));
    let mut old = server.accept_subscribed(STREAM).await;
    old.send(&trade(1)).await;
    next_frame(&mut feed).await;
    old.send(SHUTDOWN).await;
    assert_eq!(next_frame(&mut feed).await, SHUTDOWN);
    let mut new = server.accept_subscribed(STREAM).await;
    old.send(&trade(2)).await;
    new.send(&trade(2)).await;
    assert_eq!(next_frame(&mut feed).await, trade(2));
    assert_eq!(next_frame(&mut feed).await, trade(2));
    // The exchange closes before the successor would have had it closed: no third connection.
    drop(old);
    assert!(server.is_quiet(Duration::from_millis(400)).await);
    new.send(&trade(3)).await;
    assert_eq!(next_frame(&mut feed).await, trade(3));
}

#[tokio::test]
async fn a_connection_that_is_cut_is_opened_again() {
    let server = Server::new().await;
    let mut feed = feed(server.config(&["BTCUSDT"]));
    for id in 1..=4 {
        let mut connection = server.accept_subscribed(STREAM).await;
        connection.send(&trade(id)).await;
        assert_eq!(next_frame(&mut feed).await, trade(id));
        if id % 2 == 0 {
            connection.socket.close(None).await.unwrap();
            connection.until_closed().await;
        }
    }
}

#[tokio::test]
async fn a_silent_connection_is_given_up() {
    let server = Server::new().await;
    let mut feed = feed(binance::BinanceConfig { silence_floor_ms: 300, ..server.config(&["BTCUSDT"]) });
    let mut silent = server.accept_subscribed(STREAM).await;
    silent.send(&trade(1)).await;
    next_frame(&mut feed).await;
    let since = Instant::now();
    let mut fresh = server.accept_subscribed(STREAM).await;
    assert!(since.elapsed() >= Duration::from_millis(250), "{:?}", since.elapsed());
    fresh.send(&trade(2)).await;
    assert_eq!(next_frame(&mut feed).await, trade(2));
}

#[tokio::test]
async fn a_frame_beyond_the_bound_ends_the_connection_and_is_told() {
    let server = Server::new().await;
    let mut feed = feed(server.config(&["BTCUSDT"]));
    let mut connection = server.accept_subscribed(STREAM).await;
    let fits = "x".repeat(512 * 1024);
    connection.send(&fits).await;
    assert_eq!(next_frame(&mut feed).await, fits);
    // The client may be gone before all of it is written.
    let _ = connection.socket.send(Message::text(format!("{fits}x"))).await;
    let event = next(&mut feed).await;
    let FeedEvent::Damaged { reason, .. } = event else { panic!("{event:?}") };
    assert!(reason.contains("at most 524288 bytes"), "{reason}");
    let mut again = server.accept_subscribed(STREAM).await;
    again.send(&trade(1)).await;
    assert_eq!(next_frame(&mut feed).await, trade(1));
}

#[tokio::test]
async fn a_binary_message_is_damage_and_the_connection_goes_on() {
    let server = Server::new().await;
    let mut feed = feed(server.config(&["BTCUSDT"]));
    let mut connection = server.accept_subscribed(STREAM).await;
    connection.socket.send(Message::Binary(Bytes::from(vec![7; 100_000]))).await.unwrap();
    connection.send(&trade(1)).await;
    let event = next(&mut feed).await;
    let FeedEvent::Damaged { bytes, reason, .. } = event else { panic!("{event:?}") };
    assert_eq!((bytes.len(), reason.as_str()), (64 * 1024, "binary message of 100000 bytes: expected text"));
    assert_eq!(next_frame(&mut feed).await, trade(1));
}

#[tokio::test]
async fn a_slow_consumer_does_not_block_the_socket() {
    let server = Server::new().await;
    let mut feed = feed(binance::BinanceConfig { queue_frames: 10, ..server.config(&["BTCUSDT"]) });
    let mut connection = server.accept_subscribed(STREAM).await;
    for id in 1..=5_000 {
        connection.send(&trade(id)).await;
    }
    connection.socket.send(Message::Ping(Bytes::from_static(b"there?"))).await.unwrap();
    assert_eq!(connection.message().await, Message::Pong(Bytes::from_static(b"there?")));
    for id in 1..=10 {
        assert_eq!(next_frame(&mut feed).await, trade(id), "the oldest are kept");
    }
    connection.send(&trade(5_001)).await;
    assert_eq!(next_frame(&mut feed).await, trade(5_001));
}

#[tokio::test]
async fn dropping_the_feed_ends_its_connections() {
    let server = Server::new().await;
    let feed = feed(server.config(&["BTCUSDT"]));
    let connection = server.accept_subscribed(STREAM).await;
    drop(feed);
    connection.until_closed().await;
    assert!(server.is_quiet(Duration::from_millis(300)).await);
}

#[tokio::test]
async fn an_exchange_out_of_reach_is_tried_until_it_is_there() {
    let server = Server::new().await;
    let config = server.config(&["BTCUSDT"]);
    let address = server.listener.local_addr().unwrap();
    drop(server);
    let mut feed = feed(config);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let server = Server { listener: tokio::net::TcpListener::bind(address).await.unwrap() };
    let mut connection = server.accept_subscribed(STREAM).await;
    connection.send(&trade(1)).await;
    assert_eq!(next_frame(&mut feed).await, trade(1));
}

#[tokio::test]
async fn a_refused_handshake_obeys_retry_after() {
    let server = Server::new().await;
    let _feed = feed(server.config(&["BTCUSDT"]));
    let (mut stream, _) = within("accept", server.listener.accept()).await.unwrap();
    let _ = stream.read(&mut [0; 4096]).await.unwrap();
    let refusal = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(refusal.as_bytes()).await.unwrap();
    let refused = Instant::now();
    server.accept().await;
    assert!(refused.elapsed() >= Duration::from_millis(950), "{:?}", refused.elapsed());
}

#[tokio::test]
async fn a_handshake_that_does_not_come_has_a_deadline() {
    let server = Server::new().await;
    let _feed = feed(binance::BinanceConfig { connect_timeout_ms: 200, ..server.config(&["BTCUSDT"]) });
    let _mute = within("accept", server.listener.accept()).await.unwrap();
    server.accept().await;
}

#[tokio::test]
async fn a_list_that_is_not_answered_is_done_without_but_subscriptions_are_not() {
    let server = Server::new().await;
    let config = binance::BinanceConfig { subscribe_timeout_ms: 200, ..server.config(&["BTCUSDT"]) };
    let mut feed_ = feed(config.clone());
    let mut connection = server.accept().await;
    connection.send(&trade(1)).await;
    assert_eq!(next_frame(&mut feed_).await, trade(1));
    assert!(server.is_quiet(Duration::from_millis(700)).await, "only the check is missing");
    drop(feed_);

    let names: Vec<String> = (0..150).map(|n| format!("SYMBOL{n}USDT")).collect();
    let symbols = names.iter().map(|name| name.parse().unwrap()).collect();
    let _feed = feed(binance::BinanceConfig { symbols, ..config });
    let connection = server.accept().await;
    server.accept().await;
    connection.until_closed().await;
}

#[tokio::test]
async fn wss_speaks_tls() {
    let server = Server::new().await;
    let config = server.config(&["BTCUSDT"]);
    let _feed = feed(binance::BinanceConfig { ws_url: config.ws_url.replace("ws://", "wss://"), ..config });
    let (mut stream, _) = within("accept", server.listener.accept()).await.unwrap();
    let mut hello = [0; 3];
    stream.read_exact(&mut hello).await.unwrap();
    assert_eq!(hello, [0x16, 3, 1], "a TLS handshake record");
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    within("again", server.listener.accept()).await.unwrap();
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let server = Server::new().await;
    let config = binance::BinanceConfig { symbols: Vec::new(), ..server.config(&[]) };
    assert!(binance::LiveFeed::new(config, std::sync::Arc::new(ports::SystemClock)).is_err());
}
