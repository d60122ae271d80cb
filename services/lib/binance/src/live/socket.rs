//! Opening a socket, and the words for how it ends.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::http::{Response, header::RETRY_AFTER};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::MAX_FRAME_BYTES;

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Requests are small: what does not leave within this bound never will.
const WRITE_BUFFER_BYTES: usize = 256 * 1024;

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum End {
    /// No connection came about; the exchange may have said how long to wait.
    #[error("{reason}")]
    Unreachable {
        /// What happened.
        reason: String,
        /// The exchange's `Retry-After`.
        wait: Option<Duration>,
    },
    /// The streams could not be subscribed.
    #[error("not subscribed: {0}")]
    Unsubscribed(String),
    /// No frame for too long.
    #[error("no frame for {0:?}")]
    Silent(Duration),
    /// The connection broke, or the exchange closed it.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The exchange sent what no frame can be.
    #[error("unusable input: {0}")]
    Damaged(String),
    /// Its successor took over.
    #[error("replaced by its successor")]
    Retired,
}

impl End {
    /// The word for metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Unsubscribed(_) => "unsubscribed",
            Self::Silent(_) => "silent",
            Self::Lost(_) => "lost",
            Self::Damaged(_) => "damaged",
            Self::Retired => "retired",
        }
    }

    /// How long the exchange asked us to stay away.
    pub(crate) fn wait(&self) -> Duration {
        match self {
            Self::Unreachable { wait, .. } => wait.unwrap_or_default(),
            _ => Duration::ZERO,
        }
    }
}

/// Opens a socket within a deadline that covers name, TCP, TLS and WebSocket handshake.
pub(crate) async fn open(url: &str, deadline: Duration) -> Result<Socket, End> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_FRAME_BYTES))
        .max_frame_size(Some(MAX_FRAME_BYTES))
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_BYTES);
    match timeout(deadline, connect_async_with_config(url, Some(config), true)).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(Error::Http(response))) => Err(refused(&response)),
        Ok(Err(error)) => Err(End::Unreachable { reason: error.to_string(), wait: None }),
        Err(_) => Err(End::Unreachable { reason: format!("no connection within {deadline:?}"), wait: None }),
    }
}

fn refused(response: &Response<Option<Vec<u8>>>) -> End {
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    End::Unreachable {
        reason: format!("handshake refused with status {}", response.status()),
        wait: seconds.map(|seconds| Duration::from_secs(seconds).min(crate::LONGEST_BAN)),
    }
}
