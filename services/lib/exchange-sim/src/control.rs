//! `/sim/…`: what a test may ask of the simulator that no exchange would answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use domain::{IdSet, Symbol};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::info;

use crate::config::SimConfig;
use crate::faults::{Fault, ScheduledFault};
use crate::market::noise::Dice;
use crate::shared::{Shared, lock};

/// Faults executed in a server's life; each may be remembered, so there must be a bound.
const MOST_FAULTS: u64 = 1_000_000;

/// What the exchange has issued so far.
///
/// `{"symbols":{"BTCUSDT":{"first":1,"last":4711,"streamed_from":1,"skipped":[{"from":7,"to":9}],"withheld":[]}},"done":false,"faults":{"skip":1}}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// By symbol.
    pub symbols: BTreeMap<Symbol, SymbolIssued>,
    /// Whether the market has reached its limit.
    pub done: bool,
    /// How often each fault was executed.
    pub faults: BTreeMap<String, u64>,
}

/// What the exchange has issued of one symbol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SymbolIssued {
    /// The first id ever.
    pub first: u64,
    /// The last id so far; 0 if there is none yet.
    pub last: u64,
    /// The first id that this server could stream: earlier ones were issued before it started.
    pub streamed_from: u64,
    /// What was not streamed; REST has it.
    pub skipped: IdSet,
    /// What nobody can have: not streamed, and not in REST.
    pub withheld: IdSet,
}

/// `GET /sim/issued`
pub(crate) async fn issued(State(shared): State<Arc<Shared>>) -> Json<Issued> {
    Json(snapshot(&shared))
}

/// `GET /sim/config`: with the epoch, so that a checker can recompute the market.
pub(crate) async fn config(State(shared): State<Arc<Shared>>) -> Json<SimConfig> {
    Json(shared.config.clone())
}

/// `POST /sim/faults`
pub(crate) async fn fault(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let fault = serde_json::from_slice::<Fault>(&body).map_err(|error| error.to_string());
    match fault.and_then(|fault| execute(&shared, &fault).map(|()| fault.kind())) {
        Ok(kind) => Json(json!({ "executed": kind })).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response(),
    }
}

/// What was issued so far.
pub(crate) fn snapshot(shared: &Shared) -> Issued {
    let symbols = shared.market.symbols().iter().enumerate();
    let done = symbols.clone().all(|(place, market)| market.last_id() == Some(shared.tape.issued(place)));
    let symbol = |place: usize| {
        // The last id first: what is left out is noted before its ids count as issued.
        let last = shared.tape.issued(place);
        let left_out = shared.tape.left_out(place);
        let (skipped, withheld) = (left_out.skipped, left_out.withheld);
        SymbolIssued { first: 1, last, streamed_from: shared.tape.streamed_from(place), skipped, withheld }
    };
    let symbols = symbols.map(|(place, market)| (market.symbol().clone(), symbol(place))).collect();
    let faults = lock(&shared.faults).iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
    Issued { symbols, done, faults }
}

/// Lets a fault happen.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn execute(shared: &Arc<Shared>, fault: &Fault) -> Result<(), String> {
    fault.check()?;
    let executed = count(shared, fault)?;
    info!(kind = fault.kind(), "fault");
    match fault {
        Fault::Cut {} => shared.lines.cut(),
        Fault::Stall { seconds } => shared.lines.stall(Duration::from_secs(*seconds)),
        Fault::HalfOpen {} => shared.lines.silence(),
        Fault::Skip { symbol, count, rest } => {
            let place = match symbol {
                Some(symbol) => {
                    shared.market.place(symbol.as_str()).ok_or_else(|| format!("symbol: no market {symbol}"))?
                }
                None => Dice::new(shared.config.seed, executed).below(shared.market.symbols().len() as u64) as usize,
            };
            shared.tamper.skip(place, *count, *rest);
        }
        Fault::Duplicate { count } => shared.tamper.duplicate(*count),
        Fault::Reorder { count } => shared.tamper.reorder(*count),
        Fault::Malformed { count } => shared.tamper.malformed(*count),
        Fault::ServerShutdown {} => announce_shutdown(shared),
        Fault::Refuse { seconds } => shared.lines.refuse(Duration::from_secs(*seconds)),
        Fault::Limit { seconds } => shared.limits.limit(Duration::from_secs(*seconds)),
    }
    Ok(())
}

/// Counts a fault; how many there were before.
fn count(shared: &Shared, fault: &Fault) -> Result<u64, String> {
    if let Fault::Skip { symbol: Some(symbol), .. } = fault
        && shared.market.place(symbol.as_str()).is_none()
    {
        return Err(format!("symbol: no market {symbol}"));
    }
    let mut faults = lock(&shared.faults);
    let executed = faults.values().sum();
    if executed >= MOST_FAULTS {
        return Err(format!("there have been {MOST_FAULTS} faults already"));
    }
    *faults.entry(fault.kind()).or_default() += 1;
    Ok(executed)
}

/// The present connections end after the notice; those opened meanwhile stay.
fn announce_shutdown(shared: &Arc<Shared>) {
    let fate = shared.lines.leave_present();
    shared.hub.announce_shutdown(shared.now_us());
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let notice = Duration::from_millis(shared.config.shutdown_notice_ms);
        tokio::select! {
            () = tokio::time::sleep(notice) => fate.cut.cancel(),
            () = shared.stop.cancelled() => {}
        }
    });
}

/// Lets a scheduled fault happen again and again.
pub(crate) async fn run_schedule(shared: Arc<Shared>, number: u64, scheduled: ScheduledFault) {
    let mut dice = Dice::new(shared.config.seed, number);
    let mut left = scheduled.times.unwrap_or(u64::MAX);
    while left > 0 {
        tokio::select! {
            () = tokio::time::sleep(scheduled.wait(dice.draw())) => {}
            () = shared.stop.cancelled() => return,
        }
        left -= 1;
        if let Err(error) = execute(&shared, &scheduled.fault) {
            tracing::warn!(kind = scheduled.fault.kind(), error, "a scheduled fault cannot happen");
        }
    }
}
