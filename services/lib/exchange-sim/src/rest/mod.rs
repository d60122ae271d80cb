//! REST: the documented answers of the public market data endpoints.

mod candles;
mod info;
pub(crate) mod limits;
pub(crate) mod query;
mod trades;

use std::sync::Arc;

use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::lines::Peer;
use crate::shared::Shared;
use crate::text::Unit;
use query::Query;

/// An answer that says what is wrong.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) code: i64,
    pub(crate) message: String,
    pub(crate) retry_after: Option<u64>,
}

impl ApiError {
    pub(crate) fn bad(code: i64, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message: message.into(), retry_after: None }
    }

    /// 503, while the server takes no connections.
    pub(crate) fn unavailable() -> Self {
        let message = "Service unavailable from a restricted simulation.".to_owned();
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code: -1016, message, retry_after: None }
    }
}

impl IntoResponse for ApiError {
    /// `{"code":-1121,"msg":"Invalid symbol."}`
    fn into_response(self) -> Response {
        let body = format!(r#"{{"code":{},"msg":{}}}"#, self.code, serde_json::Value::from(self.message));
        let mut response = json(body);
        *response.status_mut() = self.status;
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

fn json(body: String) -> Response {
    ([(CONTENT_TYPE, "application/json;charset=UTF-8")], body).into_response()
}

/// What an endpoint costs; `None` if there is none of that name.
fn weight(endpoint: &str) -> Option<u32> {
    match endpoint {
        "ping" | "time" => Some(1),
        "exchangeInfo" => Some(20),
        "trades" | "historicalTrades" => Some(25),
        "aggTrades" => Some(4),
        "klines" | "uiKlines" => Some(2),
        _ => None,
    }
}

/// `/api/v3/{endpoint}`
pub(crate) async fn serve(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(endpoint): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    if shared.lines.refuses() {
        return ApiError::unavailable().into_response();
    }
    let Some(weight) = weight(&endpoint) else { return StatusCode::NOT_FOUND.into_response() };
    let charged = shared.limits.charge(peer.address.ip(), weight, &shared.config);
    let mut response = match charged.refused {
        Some(error) => error.into_response(),
        None => answer(&shared, endpoint, query, &headers).await.map_or_else(IntoResponse::into_response, json),
    };
    for name in ["x-mbx-used-weight", "x-mbx-used-weight-1m"] {
        response.headers_mut().insert(name, HeaderValue::from(charged.used));
    }
    response
}

async fn answer(
    shared: &Arc<Shared>,
    endpoint: String,
    query: Option<String>,
    headers: &HeaderMap,
) -> Result<String, ApiError> {
    let unit = unit(headers)?;
    let query = Query::parse(query.as_deref().unwrap_or_default())?;
    let shared = Arc::clone(shared);
    // Some answers take a while to compute, which must not hold up the stream.
    let work = move || match endpoint.as_str() {
        "ping" => query.only(&[]).map(|()| "{}".to_owned()),
        "time" => query.only(&[]).map(|()| format!(r#"{{"serverTime":{}}}"#, unit.of(shared.now_us()))),
        "exchangeInfo" => info::exchange_info(&shared, &query, unit),
        "trades" => trades::latest(&shared, &query, unit),
        "historicalTrades" => trades::historical(&shared, &query, unit),
        "aggTrades" => trades::aggregates(&shared, &query, unit),
        _ => candles::klines(&shared, &query, unit),
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(ApiError::bad(-1000, "An unknown error occurred.")))
}

fn unit(headers: &HeaderMap) -> Result<Unit, ApiError> {
    match headers.get("x-mbx-time-unit") {
        None => Ok(Unit::Millisecond),
        Some(text) => text.to_str().ok().and_then(Unit::parse).ok_or_else(bad_unit),
    }
}

/// The answer to a unit of time that there is not.
pub(crate) fn bad_unit() -> ApiError {
    ApiError::bad(-1194, "Invalid value for time unit; expected either MICROSECOND or MILLISECOND.")
}
