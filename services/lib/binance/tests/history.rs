//! The history against a tiny HTTP server.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use binance::{BinanceConfig, BinanceError, RestHistory, TimeUnit};
use domain::{Symbol, Timestamp, Trade};
use ports::{Clock, History, HistoryError, SystemClock};
use support::http::{Answer, Request, Server, answer};

fn symbol(name: &str) -> Symbol {
    name.parse().unwrap()
}

fn config(server: &Server) -> BinanceConfig {
    BinanceConfig { rest_url: server.url.clone(), symbols: vec![symbol("BTCUSDT")], ..BinanceConfig::default() }
}

fn history(server: &Server) -> RestHistory {
    RestHistory::new(&config(server), Arc::new(SystemClock)).unwrap()
}

fn info(limit: u32, symbols: &[&str]) -> Answer {
    let symbols: Vec<_> =
        symbols.iter().map(|name| serde_json::json!({ "symbol": name, "status": "TRADING" })).collect();
    let body = serde_json::json!({
        "rateLimits": [
            { "rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 1 },
            { "rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": limit },
        ],
        "symbols": symbols,
    });
    answer(200, body.to_string())
}

fn item(id: u64) -> String {
    format!(
        r#"{{"id":{id},"price":"61837.63000000","qty":"0.02000000","quoteQty":"1236.7526","time":1723161255342,"isBuyerMaker":true,"isBestMatch":true}}"#
    )
}

fn parameter(request: &Request, name: &str) -> Option<u64> {
    let start = request.target.find(&format!("{name}="))? + name.len() + 1;
    request.target[start..].split('&').next()?.parse().ok()
}

/// A server with the trades 100 to 2,599, except 1,500 to 1,599.
async fn exchange() -> Server {
    Server::new(|request| {
        if request.target.starts_with("/api/v3/exchangeInfo") {
            return info(6_000, &["BTCUSDT"]);
        }
        let (from, limit) = (parameter(request, "fromId").unwrap(), parameter(request, "limit").unwrap());
        let ids = (from.max(100)..2_600).filter(|id| !(1_500..1_600).contains(id)).take(limit as usize);
        answer(200, format!("[{}]", ids.map(item).collect::<Vec<_>>().join(","))).with("x-mbx-used-weight-1m", 45)
    })
    .await
}

/// A server that knows the limits and answers all else with `respond`.
async fn answering(respond: impl Fn() -> Answer + Send + Sync + 'static) -> Server {
    Server::new(move |request| match request.target.starts_with("/api/v3/exchangeInfo") {
        true => info(6_000, &["BTCUSDT"]),
        false => respond(),
    })
    .await
}

async fn error_of(server: &Server) -> HistoryError {
    history(server).trades(&symbol("BTCUSDT"), 100, 1_000).await.unwrap_err()
}

#[tokio::test]
async fn pages_through_past_trades() {
    let server = exchange().await;
    let history = history(&server);
    let mut ids = Vec::new();
    let mut from = 1;
    loop {
        let page = history.trades(&symbol("BTCUSDT"), from, 5_000).await.unwrap();
        let page: Vec<u64> = page.iter().map(|event| Trade::from_event(event).unwrap().id).collect();
        let Some(last) = page.last() else { break };
        from = last + 1;
        ids.extend(page);
    }
    let expected: Vec<u64> = (100..2_600).filter(|id| !(1_500..1_600).contains(id)).collect();
    assert_eq!(ids, expected);
    let targets = server.targets();
    assert_eq!(targets[0], "/api/v3/exchangeInfo?symbol=BTCUSDT");
    assert_eq!(targets[1], "/api/v3/historicalTrades?symbol=BTCUSDT&fromId=1&limit=1000");
    assert_eq!(targets.len(), 1 + 4, "limits are read once");
    assert_eq!(history.trades(&symbol("BTCUSDT"), 1, 0).await, Ok(Vec::new()));
    assert_eq!(history.trades(&symbol("BTCUSDT"), 1, 7).await.unwrap().len(), 7);
}

#[tokio::test]
async fn the_unit_of_times_is_asked_for() {
    let server = exchange().await;
    history(&server).trades(&symbol("BTCUSDT"), 100, 1).await.unwrap();
    let micro = server.requests.lock().unwrap().clone();
    assert!(micro.iter().all(|request| request.head.contains("x-mbx-time-unit: microsecond")));
    let config = BinanceConfig { time_unit: TimeUnit::Millisecond, ..config(&server) };
    let history = RestHistory::new(&config, Arc::new(SystemClock)).unwrap();
    let events = history.trades(&symbol("BTCUSDT"), 100, 1).await.unwrap();
    assert!(server.requests.lock().unwrap().last().unwrap().head.contains("x-mbx-time-unit: millisecond"));
    let event = r#"{"e":"trade","s":"BTCUSDT","t":100,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}"#;
    assert_eq!(events[0], event);
}

#[tokio::test]
async fn obeys_retry_after_without_asking_again() {
    for (status, seconds, expected) in
        [(429, Some(7), 7), (418, Some(259_200), 259_200), (429, None, 60), (418, None, 120)]
    {
        let server = answering(move || {
            let refused = answer(status, r#"{"code":-1003,"msg":"Too much request weight used"}"#);
            match seconds {
                Some(seconds) => refused.with("Retry-After", seconds),
                None => refused,
            }
        })
        .await;
        let history = history(&server);
        for _ in 0..3 {
            let error = history.trades(&symbol("BTCUSDT"), 100, 1_000).await.unwrap_err();
            let HistoryError::Limited { wait, reason } = error else { panic!("{error:?}") };
            assert!(wait <= Duration::from_secs(expected) && wait > Duration::from_secs(expected - 2), "{wait:?}");
            assert!(reason.contains("-1003 Too much request weight"), "{reason}");
        }
        assert_eq!(server.targets().len(), 2, "one look at the limits, one refusal");
    }
}

#[tokio::test]
async fn asks_again_when_the_wait_is_over() {
    let asked = AtomicU64::new(0);
    let server = answering(move || match asked.fetch_add(1, Ordering::Relaxed) {
        0 => answer(429, "").with("Retry-After", 1),
        _ => answer(200, "[]"),
    })
    .await;
    let history = history(&server);
    let btc = symbol("BTCUSDT");
    let trades = || history.trades(&btc, 100, 1_000);
    let Err(HistoryError::Limited { wait, .. }) = trades().await else { panic!() };
    tokio::time::sleep(wait).await;
    assert_eq!(trades().await, Ok(Vec::new()));
}

#[tokio::test]
async fn an_unknown_symbol_is_unfillable_even_before_limits_are_known() {
    let server = Server::new(|_| answer(400, r#"{"code":-1121,"msg":"Invalid symbol."}"#)).await;
    let error = error_of(&server).await;
    let HistoryError::Unfillable(reason) = error else { panic!("{error:?}") };
    assert_eq!(reason, "BTCUSDT from id 100: refused with code -1121: Invalid symbol.");
}

#[tokio::test]
async fn answers_that_cannot_be_used_name_the_place() {
    let cases = [
        (answer(500, "oops"), "status 500"),
        (answer(504, r#"{"code":-1007,"msg":"Timeout"}"#), "code -1007 Timeout"),
        (answer(404, "<html>"), "status 404"),
        (answer(302, ""), "status 302"),
        (answer(400, r#"{"code":-1102,"msg":"Mandatory parameter"}"#), "code -1102: Mandatory parameter"),
        (answer(200, "<html>"), "expected a list of trades"),
        (answer(200, format!("[{},{}]", item(100), item(100))), "item 1: ids out of order"),
        (answer(200, format!("[{}]", item(99))), "item 0: ids out of order, expected 100"),
        (answer(200, format!("[{}]", item(100).replace("\"61837.63000000\"", "61837.63"))), "item 0: invalid type"),
        (answer(200, format!("[{}", item(100))), "expected a list of trades"),
    ];
    for (reply, expected) in cases {
        let reply = std::sync::Mutex::new(Some(reply));
        let server = answering(move || reply.lock().unwrap().take().expect("asked once")).await;
        let error = error_of(&server).await;
        let HistoryError::Unavailable(reason) = error else { panic!("{error:?}") };
        assert!(reason.starts_with("BTCUSDT from id 100: ") && reason.contains(expected), "{expected}: {reason}");
    }
}

#[tokio::test]
async fn answers_are_bounded_in_bytes_and_time() {
    let server = answering(|| answer(200, " ".repeat(100_000))).await;
    let small = BinanceConfig { rest_answer_bytes: 50_000, ..config(&server) };
    let history = RestHistory::new(&small, Arc::new(SystemClock)).unwrap();
    let error = history.trades(&symbol("BTCUSDT"), 1, 1).await.unwrap_err();
    assert!(error.to_string().contains("expected at most 50000 bytes"), "{error}");

    let server = answering(|| Answer { delay: Duration::from_secs(60), ..answer(200, "[]") }).await;
    let quick = BinanceConfig { rest_timeout_ms: 200, ..config(&server) };
    let history = RestHistory::new(&quick, Arc::new(SystemClock)).unwrap();
    let error = history.trades(&symbol("BTCUSDT"), 1, 1).await.unwrap_err();
    assert!(matches!(error, HistoryError::Unavailable(_)), "{error}");

    let nobody = BinanceConfig { rest_url: "http://127.0.0.1:1".to_owned(), ..quick };
    let history = RestHistory::new(&nobody, Arc::new(SystemClock)).unwrap();
    let error = history.trades(&symbol("BTCUSDT"), 1, 1).await.unwrap_err();
    assert!(error.to_string().contains("onnect"), "{error}");
    let error = history.unlisted(&[symbol("BTCUSDT")]).await.unwrap_err();
    assert!(matches!(error, BinanceError::Unreachable(_)), "{error}");
}

#[tokio::test]
async fn limits_that_cannot_be_read_do_not_stop_the_history() {
    let server = Server::new(|request| match request.target.starts_with("/api/v3/exchangeInfo") {
        true => answer(503, ""),
        false => answer(200, "[]"),
    })
    .await;
    let history = history(&server);
    for _ in 0..3 {
        assert_eq!(history.trades(&symbol("BTCUSDT"), 1, 1).await, Ok(Vec::new()));
    }
    assert_eq!(server.targets().len(), 4, "they are not asked for each time");
}

#[tokio::test]
async fn https_speaks_tls() {
    use tokio::io::AsyncReadExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rest_url = format!("https://{}", listener.local_addr().unwrap());
    let symbols = vec![symbol("BTCUSDT")];
    let config = BinanceConfig { rest_url, symbols: symbols.clone(), ..BinanceConfig::default() };
    let history = RestHistory::new(&config, Arc::new(SystemClock)).unwrap();
    let asking = tokio::spawn(async move { history.unlisted(&symbols).await });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut hello = [0; 3];
    stream.read_exact(&mut hello).await.unwrap();
    assert_eq!(hello, [0x16, 3, 1], "a TLS handshake record");
    drop(stream);
    assert!(matches!(asking.await.unwrap(), Err(BinanceError::Unreachable(_))));
}

/// A clock that starts at a chosen second of a minute and then runs.
struct From(Timestamp, Instant);

impl Clock for From {
    fn now(&self) -> Timestamp {
        self.0.plus(self.1.elapsed())
    }
}

#[tokio::test]
async fn waits_for_the_next_minute_when_its_share_is_used_up() {
    let server = answering(|| answer(200, "[]").with("X-MBX-USED-WEIGHT-1M", 4_790)).await;
    let second_59 = Timestamp::from_millis(1_723_161_240_000 + 59_000);
    let history = RestHistory::new(&config(&server), Arc::new(From(second_59, Instant::now()))).unwrap();
    let start = Instant::now();
    history.trades(&symbol("BTCUSDT"), 1, 1).await.unwrap();
    history.trades(&symbol("BTCUSDT"), 1, 1).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(1_000), "4,790 + 25 is more than 80 % of 6,000");
}

#[tokio::test]
async fn names_all_symbols_that_the_exchange_does_not_have() {
    let known = ["BTCUSDT", "ETHUSDT", "TRXUSDT", "BNBUSDT"];
    let server = Server::new(move |request| {
        let names: Vec<&str> = request.target.split(['=', '%', ',']).filter(|part| part.contains("USD")).collect();
        let names: Vec<&str> = names.iter().map(|name| name.trim_start_matches("22")).collect();
        match names.iter().all(|name| known.contains(name)) {
            true => info(6_000, &names),
            false => answer(400, r#"{"code":-1121,"msg":"Invalid symbol."}"#),
        }
    })
    .await;
    let history = history(&server);
    let ask = |names: &[&str]| names.iter().map(|name| symbol(name)).collect::<Vec<_>>();
    assert_eq!(history.unlisted(&ask(&known)).await, Ok(Vec::new()));
    let unlisted = history.unlisted(&ask(&["BTCUSDT", "BTCUSD", "ETHUSDT", "TRXUSDT", "XUSDT"])).await;
    assert_eq!(unlisted, Ok(ask(&["BTCUSD", "XUSDT"])));
}

#[tokio::test]
async fn a_symbol_that_the_answer_lacks_is_unknown_too() {
    let server = Server::new(|_| info(6_000, &["BTCUSDT"])).await;
    let unlisted = history(&server).unlisted(&[symbol("BTCUSDT"), symbol("XUSDT")]).await;
    assert_eq!(unlisted, Ok(vec![symbol("XUSDT")]));
}
