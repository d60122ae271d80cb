//! The server: routes, tasks, start and stop.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::clock::now_micros;
use crate::config::{Rate, SimConfig, SimError};
use crate::control::{self, Issued};
use crate::faults::Fault;
use crate::hub::Hub;
use crate::lines::{Gate, Lines, Peer};
use crate::market::Market;
use crate::pump;
use crate::request::Names;
use crate::rest::limits::Limits;
use crate::rest::{self, ApiError};
use crate::session::{self, Opening};
use crate::shared::{Shared, Tape};
use crate::tamper::Tamper;
use crate::text::Unit;

/// The largest message that a client may send.
const MAX_MESSAGE_BYTES: usize = 256 * 1024;

/// How long connections may take to end when the server stops.
const PATIENCE: Duration = Duration::from_secs(2);

/// The simulated exchange.
#[derive(Clone, Copy, Debug)]
pub struct Exchange;

/// An exchange that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

/// Runs an exchange until `shutdown`. `on_start` is called with the bound address before anything happens.
///
/// # Errors
/// If the settings cannot work or the address cannot be had.
pub async fn serve(
    config: SimConfig,
    shutdown: CancellationToken,
    on_start: impl FnOnce(SocketAddr),
) -> Result<(), SimError> {
    let running = Exchange::start(config).await?;
    on_start(running.address);
    shutdown.cancelled().await;
    running.stop().await;
    Ok(())
}

impl Exchange {
    /// Binds the address and starts trading.
    ///
    /// # Errors
    /// If the settings cannot work or the address cannot be had.
    pub async fn start(mut config: SimConfig) -> Result<Running, SimError> {
        config.epoch_ms.get_or_insert_with(|| now_micros() / 1_000);
        let market = Market::new(&config)?;
        let listener =
            TcpListener::bind(config.listen).await.map_err(|error| SimError::Listen(config.listen, error))?;
        let address = listener.local_addr().map_err(|error| SimError::Listen(config.listen, error))?;
        let shared = Arc::new(shared(config, market));
        let mut tasks = JoinSet::new();
        tasks.spawn(pump::run(Arc::clone(&shared)));
        for (number, scheduled) in shared.config.faults.iter().enumerate() {
            tasks.spawn(control::run_schedule(Arc::clone(&shared), number as u64, scheduled.clone()));
        }
        tasks.spawn(listen(listener, Arc::clone(&shared)));
        info!(%address, rate = %shared.config.rate, symbols = shared.market.symbols().len(), "exchange simulator");
        Ok(Running { address, shared, tasks })
    }
}

fn shared(config: SimConfig, market: Market) -> Shared {
    let start_us = match config.rate {
        Rate::PerSecond(_) => now_micros(),
        Rate::Max => config.epoch_ms.unwrap_or_default() * 1_000,
    };
    Shared {
        tape: Tape::new(&market, start_us),
        hub: Hub::new(market.symbols().len(), config.queue_frames),
        tamper: Tamper::default(),
        lines: Lines::new(),
        limits: Limits::default(),
        faults: Mutex::default(),
        stop: CancellationToken::new(),
        market,
        config,
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let router = Router::new()
        .route("/ws", get(bare))
        .route("/ws/{*stream}", get(bare_stream))
        .route("/stream", get(combined))
        .route("/api/v3/{endpoint}", get(rest::serve))
        .route("/sim/faults", post(control::fault))
        .route("/sim/issued", get(control::issued))
        .route("/sim/config", get(control::config))
        .with_state(Arc::clone(&shared));
    let gate = Gate { listener, lines: Arc::clone(&shared.lines) };
    let service = router.into_make_service_with_connect_info::<Peer>();
    let stop = shared.stop.clone().cancelled_owned();
    let serving = axum::serve(gate, service).with_graceful_shutdown(stop);
    // Serving ends when the last connection has; a client that stays must not keep the server.
    let patience = async {
        shared.stop.cancelled().await;
        tokio::time::sleep(PATIENCE).await;
    };
    tokio::select! {
        _ = serving.into_future() => {}
        () = patience => {}
    }
}

/// `/ws`: streams are subscribed by request, events come bare.
async fn bare(
    state: State<Arc<Shared>>,
    peer: ConnectInfo<Peer>,
    query: RawQuery,
    upgrade: WebSocketUpgrade,
) -> Response {
    open(&state.0, peer.0, query.0.as_deref(), upgrade, "", false)
}

/// `/ws/<stream>`: one stream (or several, separated by slashes), events come bare.
async fn bare_stream(
    state: State<Arc<Shared>>,
    peer: ConnectInfo<Peer>,
    Path(streams): Path<String>,
    query: RawQuery,
    upgrade: WebSocketUpgrade,
) -> Response {
    open(&state.0, peer.0, query.0.as_deref(), upgrade, &streams, false)
}

/// `/stream?streams=<a>/<b>`: events come in envelopes.
async fn combined(
    state: State<Arc<Shared>>,
    peer: ConnectInfo<Peer>,
    query: RawQuery,
    upgrade: WebSocketUpgrade,
) -> Response {
    open(&state.0, peer.0, query.0.as_deref(), upgrade, "", true)
}

fn open(
    shared: &Arc<Shared>,
    peer: Peer,
    query: Option<&str>,
    upgrade: WebSocketUpgrade,
    streams: &str,
    combined: bool,
) -> Response {
    if shared.lines.refuses() {
        return ApiError::unavailable().into_response();
    }
    if !shared.limits.connect(peer.address.ip(), &shared.config) {
        return (StatusCode::TOO_MANY_REQUESTS, "Too many connection attempts.").into_response();
    }
    let opening = match opening(shared, peer, query.unwrap_or_default(), streams, combined) {
        Ok(opening) => opening,
        Err(error) => return error.into_response(),
    };
    let shared = Arc::clone(shared);
    upgrade
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .on_upgrade(move |socket| session::run(shared, socket, opening))
}

fn opening(shared: &Shared, peer: Peer, query: &str, streams: &str, combined: bool) -> Result<Opening, ApiError> {
    let query = rest::query::Query::parse(query)?;
    let unit = match query.text("timeUnit") {
        None => Unit::default(),
        Some(text) => Unit::parse(text).ok_or_else(rest::bad_unit)?,
    };
    let streams = if combined { query.text("streams").unwrap_or_default() } else { streams };
    let wanted: Vec<String> = streams.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let mut names = Names::default();
    let most = shared.config.max_streams_per_connection;
    if !names.add(&wanted, most) {
        return Err(ApiError::bad(-1100, format!("A connection has at most {most} streams.")));
    }
    Ok(Opening { names, combined, unit, peer })
}

impl Running {
    /// Where clients find the streams: `ws://host:port`.
    pub fn ws_url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Where clients find REST and `/sim`: `http://host:port`.
    pub fn rest_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The settings, with the epoch that was taken.
    pub fn config(&self) -> &SimConfig {
        &self.shared.config
    }

    /// What was issued so far.
    pub fn issued(&self) -> Issued {
        control::snapshot(&self.shared)
    }

    /// Lets a fault happen.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn fault(&self, fault: &Fault) -> Result<(), String> {
        control::execute(&self.shared, fault)
    }

    /// Says good-bye to all connections and ends. Takes some two seconds at most.
    pub async fn stop(mut self) {
        self.shared.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let _ = timeout(2 * PATIENCE, ended).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}
