//! The admin endpoint of every role: `/metrics`, `/healthz` (the process lives) and `/readyz` (it
//! does its work).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::telemetry::Metrics;

/// How long the end waits for clients that are connected, whether they ask for anything or not.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Whether the role does its work. Shared with the role, which says so.
#[derive(Clone, Default)]
pub struct Readiness(Arc<RwLock<Option<Condition>>>);

type Condition = Box<dyn Fn() -> bool + Send + Sync>;

impl Readiness {
    /// From now on the role does its work.
    pub fn now(&self) {
        self.when(|| true);
    }

    /// From now on the role does its work as long as `condition` holds. The last call decides.
    pub fn when(&self, condition: impl Fn() -> bool + Send + Sync + 'static) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(condition));
    }

    fn holds(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|condition| condition())
    }
}

/// Binds the endpoint, so that a taken address is an error before any work.
///
/// # Errors
/// Names the address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address).await.map_err(|error| format!("admin endpoint {address}: {error}"))?;
    let bound = listener.local_addr().unwrap_or(address);
    tracing::info!(%bound, "admin endpoint: /metrics, /healthz, /readyz");
    Ok(listener)
}

/// Serves the endpoint until `stop`.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    ready: Readiness,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/metrics", get(|State((metrics, _)): State<(Metrics, Readiness)>| async move { metrics.rendered() }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state((metrics, ready));
    let serving = axum::serve(listener, routes).with_graceful_shutdown(stop.clone().cancelled_owned());
    let out_of_time = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        served = serving => served,
        () = out_of_time => Ok(()),
    }
}

async fn readyz(State((_, ready)): State<(Metrics, Readiness)>) -> (StatusCode, &'static str) {
    if ready.holds() { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}

/// Asks the role behind `address` whether it does its work. A health check in an image that holds
/// nothing but this binary.
///
/// # Errors
/// If there is no answer within `deadline`.
pub async fn ask(address: SocketAddr, deadline: Duration) -> std::io::Result<bool> {
    // Whoever listens everywhere listens on loopback.
    let everywhere = address.ip().is_unspecified() && address.is_ipv4();
    let asked = if everywhere { (Ipv4Addr::LOCALHOST, address.port()).into() } else { address };
    let exchange = async {
        let mut stream = TcpStream::connect(asked).await?;
        stream.write_all(format!("GET /readyz HTTP/1.0\r\nHost: {asked}\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(1_024).read_to_end(&mut answer).await?;
        Ok(answer.split(|byte| *byte == b' ').nth(1) == Some(b"200"))
    };
    tokio::time::timeout(deadline, exchange).await?
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn is_ready_while_the_role_says_so() {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ready, stop) = (Readiness::default(), CancellationToken::new());
        let server = tokio::spawn(serve(listener, Metrics::install().unwrap(), ready.clone(), stop.clone()));
        assert!(!ask(address, DEADLINE).await.unwrap(), "nobody has said so");
        let connected = Arc::new(AtomicBool::new(true));
        let seen = Arc::clone(&connected);
        ready.when(move || seen.load(Ordering::Relaxed));
        assert!(ask(address, DEADLINE).await.unwrap());
        connected.store(false, Ordering::Relaxed);
        assert!(!ask(address, DEADLINE).await.unwrap());
        let mut silent = TcpStream::connect(address).await.unwrap();
        silent.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
        assert!(!ask(address, DEADLINE).await.unwrap(), "by now the half of a question has come as well");
        stop.cancel();
        tokio::time::timeout(DEADLINE, server).await.expect("a client does not keep the role").unwrap().unwrap();
        assert!(ask(address, DEADLINE).await.is_err(), "nobody answers");
        drop(silent);
    }
}
