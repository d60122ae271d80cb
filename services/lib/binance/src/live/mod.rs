//! The live feed: `@trade` streams over as many connections as they need.
//!
//! ```text
//!  keeper (one per 1,024 streams) ── opens, rotates, backs off
//!    ├─ session: current connection ─┐
//!    └─ session: its successor ──────┴─▶ queue ─▶ LiveFeed::next
//! ```
//!
//! A session owns one socket from handshake to good-bye and never waits for the consumer. Before a
//! planned end its successor delivers already; what both deliver is dropped by the ledger.

mod backoff;
mod keeper;
mod queue;
mod rhythm;
mod session;
mod socket;
mod subscription;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use domain::Origin;
use ports::{Clock, Feed, FeedEvent, PortError};
use tokio::task::JoinSet;

use crate::config::BinanceConfig;
use crate::{BinanceError, telemetry, tls};
use backoff::Attempts;
use keeper::Keeper;

/// The trades of the configured symbols, as they happen.
///
/// Keeps itself connected. Dropping it ends all its tasks and connections.
pub struct LiveFeed {
    frames: queue::Receiver,
    /// End only by panic; dropping the set aborts them, and their sessions with them.
    keepers: JoinSet<()>,
}

/// What all connections of a feed share.
struct Shared {
    config: BinanceConfig,
    source: Bytes,
    clock: Arc<dyn Clock>,
    attempts: Attempts,
    frames: queue::Sender,
}

impl LiveFeed {
    /// Starts connecting. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Only settings that cannot work; an exchange that is out of reach is tried again and again.
    pub fn new(config: BinanceConfig, clock: Arc<dyn Clock>) -> Result<Self, BinanceError> {
        config.validate()?;
        tls::install_provider();
        telemetry::describe();
        let (sender, frames) = queue::bounded(config.queue_frames, config.queue_bytes);
        let shards = shards(&config);
        let source = Bytes::from(config.source.clone());
        let shared = Arc::new(Shared { config, source, clock, attempts: Attempts::new(), frames: sender });
        let mut keepers = JoinSet::new();
        for (shard, streams) in shards.into_iter().enumerate() {
            keepers.spawn(Keeper::new(shard, streams, Arc::clone(&shared)).run());
        }
        Ok(Self { frames, keepers })
    }
}

impl Shared {
    /// Hands over a frame exactly as it came, in memory of its own: in the socket's buffer it lies beside others, and
    /// whoever keeps one of them keeps all, uncounted.
    fn frame(&self, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        let (received_at, source) = (self.clock.now(), self.source.clone());
        self.frames.push(FeedEvent::Frame { bytes, received_at, origin: Origin::Live, source, place: None });
    }

    /// Hands over what is no frame.
    fn damaged(&self, bytes: &[u8], reason: String) {
        metrics::counter!(telemetry::INPUT_DAMAGED).increment(1);
        let bytes = Bytes::copy_from_slice(&bytes[..bytes.len().min(crate::EVIDENCE_BYTES)]);
        let (received_at, source) = (self.clock.now(), self.source.clone());
        self.frames.push(FeedEvent::Damaged { bytes, received_at, source, reason });
    }
}

/// The stream names of each connection, as even as possible: the load is, too.
fn shards(config: &BinanceConfig) -> Vec<Arc<[String]>> {
    let mut seen = std::collections::HashSet::new();
    let symbols = config.symbols.iter().filter(|symbol| seen.insert((*symbol).clone()));
    let streams: Vec<String> = symbols.map(|symbol| format!("{}@trade", symbol.lowercase())).collect();
    let connections = streams.len().div_ceil(config.max_streams_per_connection);
    let size = streams.len().div_ceil(connections.max(1)).max(1);
    streams.chunks(size).map(Arc::from).collect()
}

#[async_trait]
impl Feed for LiveFeed {
    async fn next(&mut self) -> Result<FeedEvent, PortError> {
        if let Some(event) = self.frames.try_next() {
            return Ok(event);
        }
        let reason = tokio::select! {
            biased;
            event = self.frames.next() => match event {
                Some(event) => return Ok(event),
                None => "all connections are gone".to_owned(),
            },
            Some(ended) = self.keepers.join_next() => {
                // Half a tape is no tape: the others end, too, and every later call is an error.
                self.keepers.abort_all();
                format!("the keeper of a connection ended: {ended:?}")
            }
        };
        Err(PortError::refused("binance stream", reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_spread_evenly_and_named_once() {
        let symbols = (0..2_500).map(|n| format!("S{}", n % 2_100).parse().unwrap()).collect();
        let config = BinanceConfig { symbols, ..BinanceConfig::default() };
        let sizes: Vec<usize> = shards(&config).iter().map(|shard| shard.len()).collect();
        assert_eq!(sizes, [700, 700, 700]);
        assert_eq!(shards(&config)[0][1], "s1@trade");
    }
}
