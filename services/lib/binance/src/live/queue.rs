//! The queue between sockets and consumer: bounded in frames and bytes, and never waiting.
//!
//! A socket that waits for its consumer misses the exchange's pings and is cut. So a frame that
//! does not fit is dropped and counted: the ledger sees the gap and fetches it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use metrics::counter;
use ports::FeedEvent;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::telemetry;

/// The sockets' end.
#[derive(Clone)]
pub(crate) struct Sender {
    frames: mpsc::Sender<FeedEvent>,
    level: Arc<Level>,
}

/// The consumer's end.
pub(crate) struct Receiver {
    frames: mpsc::Receiver<FeedEvent>,
    level: Arc<Level>,
}

struct Level {
    max_bytes: usize,
    bytes: AtomicUsize,
    /// Frames dropped since the queue last accepted one.
    dropped: AtomicU64,
}

/// A queue for at most `max_frames` frames of together at most `max_bytes`.
pub(crate) fn bounded(max_frames: usize, max_bytes: usize) -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::channel(max_frames);
    let level = Arc::new(Level { max_bytes, bytes: AtomicUsize::new(0), dropped: AtomicU64::new(0) });
    (Sender { frames: sender, level: Arc::clone(&level) }, Receiver { frames: receiver, level })
}

impl Sender {
    /// Hands over an event, or drops it if the queue is full.
    pub(crate) fn push(&self, event: FeedEvent) {
        let weight = weight(&event);
        let before = self.level.bytes.fetch_add(weight, Ordering::Relaxed);
        if before + weight > self.level.max_bytes || self.frames.try_send(event).is_err() {
            self.level.bytes.fetch_sub(weight, Ordering::Relaxed);
            return self.dropped();
        }
        if self.level.dropped.load(Ordering::Relaxed) > 0 {
            let frames = self.level.dropped.swap(0, Ordering::Relaxed);
            info!(frames, "the consumer caught up, frames were dropped meanwhile");
        }
    }

    fn dropped(&self) {
        counter!(telemetry::FRAMES_DROPPED).increment(1);
        if self.level.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
            let queued_bytes = self.level.bytes.load(Ordering::Relaxed);
            warn!(queued_bytes, "the consumer is slow, dropping frames until it catches up");
        }
    }
}

impl Receiver {
    /// The next event; `None` when all senders are gone. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<FeedEvent> {
        let event = self.frames.recv().await?;
        Some(self.taken(event))
    }

    /// The next event, if there is one already.
    pub(crate) fn try_next(&mut self) -> Option<FeedEvent> {
        let event = self.frames.try_recv().ok()?;
        Some(self.taken(event))
    }

    fn taken(&self, event: FeedEvent) -> FeedEvent {
        self.level.bytes.fetch_sub(weight(&event), Ordering::Relaxed);
        event
    }
}

fn weight(event: &FeedEvent) -> usize {
    let payload = match event {
        FeedEvent::Frame { bytes, .. } => bytes.len(),
        FeedEvent::Damaged { bytes, reason, .. } => bytes.len() + reason.len(),
        FeedEvent::End => 0,
    };
    std::mem::size_of::<FeedEvent>() + payload
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use domain::{Origin, Timestamp};

    use super::*;

    fn frame(len: usize) -> FeedEvent {
        FeedEvent::Frame {
            bytes: Bytes::from(vec![b'x'; len]),
            received_at: Timestamp::from_micros(0),
            origin: Origin::Live,
            source: Bytes::new(),
            place: None,
        }
    }

    #[test]
    fn drops_what_does_not_fit_and_takes_more_when_there_is_room() {
        let (sender, mut receiver) = bounded(2, 10_000);
        for _ in 0..5 {
            sender.push(frame(1));
        }
        assert_eq!(sender.level.dropped.load(Ordering::Relaxed), 3);
        assert!(receiver.try_next().is_some());
        sender.push(frame(2));
        assert_eq!(sender.level.dropped.load(Ordering::Relaxed), 0);
        assert_eq!(receiver.try_next(), Some(frame(1)));
        assert_eq!(receiver.try_next(), Some(frame(2)));
        assert_eq!(receiver.try_next(), None);
        assert_eq!(receiver.level.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn is_bounded_in_bytes_too() {
        let (sender, mut receiver) = bounded(100, 10_000);
        sender.push(frame(9_000));
        sender.push(frame(2_000));
        sender.push(frame(100));
        assert_eq!(receiver.try_next(), Some(frame(9_000)));
        assert_eq!(receiver.try_next(), Some(frame(100)));
        assert_eq!(receiver.try_next(), None);
    }
}
