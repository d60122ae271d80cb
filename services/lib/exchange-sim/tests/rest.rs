//! REST, as a client sees it.

mod common;

use common::*;
use exchange_sim::{Market, Running, SimConfig};
use serde_json::{Value, json};

/// A market that has come to its end.
async fn finished(config: SimConfig) -> Running {
    let exchange = start(config).await;
    let mut client = Client::connect(&exchange, "/ws/btcusdt@trade").await;
    let last = Market::new(exchange.config()).unwrap().symbols()[0].last_id().unwrap();
    while id(&client.text().await) < last {}
    exchange
}

#[tokio::test]
async fn pages_of_historical_trades_are_the_stream() {
    let exchange = finished(only("BTCUSDT", limited(4_321))).await;
    let market = Market::new(exchange.config()).unwrap();
    let mut from = 1;
    let mut fetched = Vec::new();
    loop {
        let page = rows(&exchange, &format!("/api/v3/historicalTrades?symbol=BTCUSDT&fromId={from}&limit=1000")).await;
        let Some(last) = page.last() else { break };
        from = last["id"].as_u64().unwrap() + 1;
        fetched.extend(page);
    }
    let ticks: Vec<_> = market.symbols()[0].ticks_from(1).collect();
    assert_eq!((fetched.len(), ticks.len()), (4_321, 4_321));
    for (row, tick) in fetched.iter().zip(&ticks) {
        let (price, quantity) = (tick.price.decimal(), tick.quantity.decimal());
        assert_eq!(row["id"], json!(tick.id));
        assert_eq!(row["price"], json!(price.to_string()));
        assert_eq!(row["qty"], json!(quantity.to_string()));
        assert_eq!(row["time"], json!(tick.time_us));
        assert_eq!(row["isBuyerMaker"], json!(tick.buyer_is_maker));
        let quote: domain::Decimal = row["quoteQty"].as_str().unwrap().parse().unwrap();
        assert_eq!(quote, price.checked_mul(quantity).unwrap());
    }
}

#[tokio::test]
async fn without_an_id_the_newest_trades_come() {
    let exchange = finished(only("BTCUSDT", limited(2_000))).await;
    for endpoint in ["trades", "historicalTrades"] {
        for (query, first, count) in [("", 1_501, 500), ("&limit=7", 1_994, 7), ("&limit=9999", 1_001, 1_000)] {
            let page = rows(&exchange, &format!("/api/v3/{endpoint}?symbol=BTCUSDT{query}")).await;
            assert_eq!((page.len(), &page[0]["id"]), (count, &json!(first)));
        }
    }
    for from in [2_001, u64::MAX] {
        assert!(rows(&exchange, &format!("/api/v3/historicalTrades?symbol=BTCUSDT&fromId={from}")).await.is_empty());
    }
}

#[tokio::test]
async fn aggregates_follow_the_rules_of_order() {
    let exchange = finished(only("BTCUSDT", limited(5_000))).await;
    let ask = async |query: &str| rows(&exchange, &format!("/api/v3/aggTrades?symbol=BTCUSDT&{query}")).await;
    let newest = ask("limit=10").await;
    assert_eq!(newest.last().unwrap()["l"], json!(5_000));
    let all = ask("fromId=1&limit=1000").await;
    assert_eq!((all.len(), &all[0]["a"], &all[0]["f"]), (1_000, &json!(1), &json!(1)));
    for pair in all.windows(2) {
        assert_eq!(pair[1]["f"].as_u64().unwrap(), pair[0]["l"].as_u64().unwrap() + 1);
    }
    let time = |place: usize| all[place]["T"].as_i64().unwrap();
    let (start, end) = (time(300), time(600));
    let within: Vec<Value> =
        all.iter().filter(|row| (start..=end).contains(&row["T"].as_i64().unwrap())).cloned().collect();
    assert_eq!(ask(&format!("startTime={start}&endTime={end}&limit=1000")).await, within);
    assert_eq!(ask(&format!("startTime={start}&limit=5")).await, within[..5]);
    let up_to = ask(&format!("endTime={end}&limit=5")).await;
    assert_eq!(up_to, within[within.len() - 5..]);
    assert!(ask("startTime=9000000000000000").await.is_empty());
    assert_eq!(ask("endTime=9000000000000000&limit=10").await, newest);
}

#[tokio::test]
async fn klines_follow_the_rules_of_order() {
    let exchange = finished(only("BTCUSDT", SimConfig { density: 20, ..limited(12_000) })).await;
    let ask = async |query: &str| -> Vec<Value> {
        serde_json::from_str(&get(&exchange, &format!("/api/v3/klines?symbol=BTCUSDT&{query}")).await.body).unwrap()
    };
    let minute = |number: i64| json!(EPOCH_MS + number * 60_000);
    let all = ask("interval=1m").await;
    let count = all.len();
    assert!((10..=12).contains(&count) && all[0][0] == minute(0), "{all:?}");
    assert_eq!(all.iter().map(|row| row[8].as_u64().unwrap()).sum::<u64>(), 12_000);
    assert_eq!(ask("interval=1m&limit=3").await, all[count - 3..]);
    assert_eq!(ask(&format!("interval=1m&limit=2&startTime={}", minute(4))).await, all[4..6]);
    assert_eq!(ask(&format!("interval=1m&limit=2&endTime={}", minute(4))).await, all[3..5]);
    assert_eq!(ask(&format!("interval=1m&startTime={}&endTime={}", minute(2), minute(4))).await, all[2..5]);
    let hour = ask("interval=1h").await;
    assert_eq!(hour.iter().map(|row| row[8].as_u64().unwrap()).sum::<u64>(), 12_000);
}

#[tokio::test]
async fn errors_have_the_documented_codes() {
    let exchange = start(live(10)).await;
    let cases = [
        ("trades", 400, -1102),
        ("trades?symbol=NOSUCH", 400, -1121),
        ("trades?symbol=btcusdt", 400, -1121),
        ("trades?symbol=BTCUSDT&limit=x", 400, -1100),
        ("trades?symbol=BTCUSDT&fromId=1", 400, -1104),
        ("klines?symbol=BTCUSDT&interval=7m", 400, -1120),
        ("exchangeInfo?symbol=NOSUCH", 400, -1121),
        ("aggTrades?symbol=BTCUSDT&fromId=1&startTime=1", 400, -1128),
    ];
    for (path, status, code) in cases {
        let answer = get(&exchange, &format!("/api/v3/{path}")).await;
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, &body["code"]), (status, &json!(code)), "{path}: {body}");
    }
    assert_eq!(get(&exchange, "/api/v3/trades?symbol=NOSUCH").await.body, r#"{"code":-1121,"msg":"Invalid symbol."}"#);
    assert_eq!(get(&exchange, "/api/v3/nosuch").await.status, 404);
    let bad_unit = try_get(&exchange, "/api/v3/time", Some("FORTNIGHT")).await.unwrap();
    assert!(bad_unit.body.contains("-1194"));
}

#[tokio::test]
async fn weights_are_counted_and_limits_kept() {
    let config = SimConfig { weight_per_minute: 60, ban_after: 1, ban_seconds: 3, ..live(10) };
    let exchange = start(config).await;
    let trades = "/api/v3/historicalTrades?symbol=BTCUSDT";
    let asked =
        [("/api/v3/ping", 200, 1), ("/api/v3/time", 200, 2), (trades, 200, 27), (trades, 200, 52), (trades, 429, 77)];
    for (path, status, used) in asked {
        let answer = get(&exchange, path).await;
        assert_eq!((answer.status, answer.used), (status, used), "{path}: {}", answer.body);
        assert_eq!(answer.retry_after.is_some(), status == 429);
    }
    let banned = get(&exchange, trades).await;
    assert_eq!((banned.status, banned.retry_after), (418, Some(3)));
    assert!(banned.body.contains("-1003"));
}

#[tokio::test]
async fn exchange_info_tells_limits_and_symbols() {
    let exchange = start(SimConfig { weight_per_minute: 1_234, ..live(10) }).await;
    let info: Value = serde_json::from_str(&get(&exchange, "/api/v3/exchangeInfo").await.body).unwrap();
    assert_eq!(info["rateLimits"][0]["limit"], json!(1_234));
    assert_eq!(info["symbols"].as_array().unwrap().len(), 5);
    let list = "/api/v3/exchangeInfo?symbols=%5B%22TRXUSDT%22%5D";
    let info: Value = serde_json::from_str(&get(&exchange, list).await.body).unwrap();
    assert_eq!((&info["symbols"][0]["symbol"], &info["symbols"][0]["status"]), (&json!("TRXUSDT"), &json!("TRADING")));
}

#[tokio::test]
async fn rest_may_lag_behind_the_stream() {
    let exchange = start(only("BTCUSDT", SimConfig { rest_lag_ms: 100_000, ..live(2_000) })).await;
    let mut client = Client::connect(&exchange, "/ws/btcusdt@trade").await;
    let id = id(&client.text().await);
    assert!(rows(&exchange, &format!("/api/v3/historicalTrades?symbol=BTCUSDT&fromId={id}")).await.is_empty());
}
