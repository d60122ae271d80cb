//! Faults on demand, as a client sees them.

mod common;

use std::time::{Duration, Instant};

use common::*;
use domain::frame::{Frame, FrameError};
use exchange_sim::{Issued, SimConfig};
use serde_json::{Value, json};
use tokio::time::timeout;

const BTC: &str = "/stream?streams=btcusdt@trade";

/// Too short for a fault to be over, long enough for trades to come if there were any.
const A_WHILE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_cut_ends_all_connections_and_new_ones_go_on() {
    let exchange = start(live(1_000)).await;
    let mut clients = [Client::connect(&exchange, BTC).await, Client::connect(&exchange, "/ws").await];
    let before = id(&clients[0].text().await);
    fault(&exchange, r#"{"kind":"cut"}"#);
    for client in &mut clients {
        assert_eq!(client.end().await, None, "no good-bye");
    }
    let after = id(&Client::connect(&exchange, BTC).await.text().await);
    assert!(after > before);
    assert_eq!(exchange.issued().faults["cut"], 1);
}

#[tokio::test]
async fn a_stall_only_delays() {
    let exchange = start(live(1_000)).await;
    let mut client = Client::connect(&exchange, BTC).await;
    let first = id(&client.text().await);
    fault(&exchange, r#"{"kind":"stall","seconds":1}"#);
    let begun = Instant::now();
    let mut last = first;
    // Beyond the stall, and until trades have gone on.
    while begun.elapsed() < Duration::from_millis(1_500) || last <= first + 100 {
        let next = id(&client.text().await);
        assert_eq!(next, last + 1);
        last = next;
    }
}

#[tokio::test]
async fn a_half_open_connection_is_silent_for_ever_and_new_ones_are_not() {
    let exchange = start(live(1_000)).await;
    let mut client = Client::connect(&exchange, BTC).await;
    client.text().await;
    fault(&exchange, r#"{"kind":"half_open"}"#);
    // What was under way still comes.
    let silence = async { while timeout(A_WHILE, client.message()).await.is_ok() {} };
    timeout(PATIENCE, silence).await.unwrap();
    assert!(timeout(A_WHILE, client.message()).await.is_err(), "neither trades nor an end");
    Client::connect(&exchange, BTC).await.text().await;
}

#[tokio::test]
async fn skipped_trades_are_in_rest_and_withheld_ones_are_nowhere() {
    let exchange = start(only("BTCUSDT", limited(3_000))).await;
    fault(&exchange, r#"{"kind":"skip","symbol":"BTCUSDT","count":40}"#);
    fault(&exchange, r#"{"kind":"skip","count":60,"rest":false}"#);
    let mut client = Client::connect(&exchange, BTC).await;
    let ids: Vec<u64> = client.texts(2_900).await.iter().map(|text| id(text)).collect();
    assert_eq!(ids, (101..=3_000).collect::<Vec<_>>());
    let page = rows(&exchange, "/api/v3/historicalTrades?symbol=BTCUSDT&fromId=1&limit=50").await;
    let fetched: Vec<u64> = page.iter().map(|row| row["id"].as_u64().unwrap()).collect();
    assert_eq!(fetched, (1..=40).chain(101..=110).collect::<Vec<_>>());
    let issued: Issued = serde_json::from_str(&get(&exchange, "/sim/issued").await.body).unwrap();
    let symbol = &issued.symbols[&"BTCUSDT".parse().unwrap()];
    assert_eq!((symbol.first, symbol.last, issued.done), (1, 3_000, true));
    assert_eq!(serde_json::to_value(&symbol.skipped).unwrap(), json!([{"from": 1, "to": 40}]));
    assert_eq!(serde_json::to_value(&symbol.withheld).unwrap(), json!([{"from": 41, "to": 100}]));
}

#[tokio::test]
async fn duplicates_disorder_and_rubbish_are_as_many_as_asked_for() {
    let exchange = start(only("BTCUSDT", limited(1_000))).await;
    for fault_json in
        [r#"{"kind":"duplicate","count":30}"#, r#"{"kind":"reorder","count":20}"#, r#"{"kind":"malformed","count":12}"#]
    {
        fault(&exchange, fault_json);
    }
    let mut client = Client::connect(&exchange, BTC).await;
    let (mut ids, mut damaged) = (Vec::new(), 0);
    while ids.last() != Some(&1_000) {
        match Frame::decode(&client.text().await.into_bytes().into()) {
            Ok(Frame::Trade(_, trade)) => ids.push(trade.id),
            Err(FrameError::Json(_) | FrameError::Trade(_) | FrameError::Unknown) => damaged += 1,
            Ok(other) => panic!("{other:?}"),
        }
    }
    assert_eq!((ids.len(), damaged), (1_030, 12));
    assert_eq!(ids.windows(2).filter(|pair| pair[1] < pair[0]).count(), 20);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids, (1..=1_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_shutdown_is_announced_in_both_forms_and_happens() {
    let exchange = start(SimConfig { shutdown_notice_ms: 300, ..live(10) }).await;
    let mut bare = Client::connect(&exchange, "/ws").await;
    let mut combined = Client::connect(&exchange, "/stream").await;
    fault(&exchange, r#"{"kind":"server_shutdown"}"#);
    let event = bare.json().await;
    assert_eq!(event["e"], json!("serverShutdown"));
    assert!(event["E"].as_i64().unwrap() > 1_700_000_000_000 && event.as_object().unwrap().len() == 2);
    let wrapped = combined.json().await;
    assert_eq!((&wrapped["stream"], &wrapped["data"]["e"]), (&json!("!serverShutdown"), &json!("serverShutdown")));
    let mut late = Client::connect(&exchange, BTC).await;
    assert_eq!(bare.end().await, None);
    assert_eq!(combined.end().await, None);
    late.text().await;
}

#[tokio::test]
async fn refused_connections_are_welcome_later() {
    let exchange = start(live(10)).await;
    fault(&exchange, r#"{"kind":"refuse","seconds":1}"#);
    assert!(Client::try_connect(&exchange, "/ws").await.is_err());
    assert!(try_get(&exchange, "/api/v3/ping", None).await.is_err());
    timeout(PATIENCE, async { while Client::try_connect(&exchange, "/ws").await.is_err() {} }).await.unwrap();
}

#[tokio::test]
async fn a_limit_is_429_with_the_time_to_wait() {
    let exchange = start(live(10)).await;
    let begun = Instant::now();
    fault(&exchange, r#"{"kind":"limit","seconds":30}"#);
    let answer = get(&exchange, "/api/v3/ping").await;
    // A slow machine hears of less than all 30.
    let least = 30_u64.saturating_sub(begun.elapsed().as_secs());
    assert!(answer.status == 429 && answer.retry_after.is_some_and(|wait| (least..=30).contains(&wait)), "{answer:?}");
}

#[tokio::test]
async fn faults_are_asked_for_over_http_and_checked() {
    let exchange = start(live(10)).await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let url = format!("{}/sim/faults", exchange.rest_url());
    let cases = [
        (r#"{"kind":"duplicate","count":3}"#, 200),
        (r#"{"kind":"duplicate","count":0}"#, 400),
        (r#"{"kind":"skip","symbol":"NOSUCH","count":3}"#, 400),
        (r#"{"kind":"stall","seconds":99999}"#, 400),
        (r#"{"kind":"fire"}"#, 400),
        ("", 400),
    ];
    for (body, status) in cases {
        assert_eq!(client.post(&url).body(body).send().await.unwrap().status().as_u16(), status, "{body}");
    }
    let config: Value = serde_json::from_str(&get(&exchange, "/sim/config").await.body).unwrap();
    assert_eq!(config["epoch_ms"], json!(exchange.config().epoch_ms.unwrap()));
    assert_eq!(exchange.issued().faults.values().sum::<u64>(), 1);
}

#[tokio::test]
async fn scheduled_faults_happen_by_themselves() {
    let faults = serde_json::from_value(json!([{"kind": "cut", "every_seconds": 1, "times": 2}])).unwrap();
    let exchange = start(SimConfig { faults, ..live(10) }).await;
    for _ in 0..2 {
        assert_eq!(Client::connect(&exchange, "/ws").await.end().await, None);
    }
    assert_eq!(exchange.issued().faults["cut"], 2);
}

#[tokio::test]
async fn who_comes_after_the_end_is_sent_the_last_trade() {
    let exchange = start(only("BTCUSDT", limited(100))).await;
    let mut first = Client::connect(&exchange, BTC).await;
    first.texts(100).await;
    timeout(PATIENCE, async {
        loop {
            let mut second = Client::connect(&exchange, BTC).await;
            if let Ok(text) = timeout(A_WHILE, second.text()).await {
                assert_eq!(id(&text), 100);
                return;
            }
        }
    })
    .await
    .unwrap();
}
