//! The keeper of one shard: it always has one connection that delivers, or is on the way to it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::Shared;
use super::backoff::Backoff;
use super::rhythm::Rhythm;
use super::session::{Report, Session};
use super::socket::End;
use crate::config::millis;
use crate::telemetry;

/// Reports under way; each connection makes at most a few.
const REPORTS: usize = 64;

/// The state of one shard.
pub(crate) struct Keeper {
    shard: usize,
    streams: Arc<[String]>,
    shared: Arc<Shared>,
    rhythm: Arc<Mutex<Rhythm>>,
    backoff: Backoff,
    /// All connections, those that say good-bye included; dropping it aborts them.
    sessions: JoinSet<(u64, End)>,
    reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    next_id: u64,
    current: Option<Connected>,
    successor: Option<Connected>,
    /// When to open the next connection.
    open_at: Option<Instant>,
}

/// A connection that is or will be the shard's.
struct Connected {
    id: u64,
    ready_at: Option<Instant>,
    /// Dropping it has the session say good-bye, too.
    retire: oneshot::Sender<()>,
}

impl Connected {
    /// For how long it has been delivering.
    fn delivered(&self) -> Duration {
        self.ready_at.map_or(Duration::ZERO, |at| at.elapsed())
    }
}

/// A feed that is given up takes its connections with it.
impl Drop for Keeper {
    fn drop(&mut self) {
        if self.current.as_ref().is_some_and(|current| current.ready_at.is_some()) {
            metrics::gauge!(telemetry::CONNECTIONS).decrement(1.0);
        }
    }
}

/// What a keeper waits for.
enum Event {
    Due,
    Report(Report),
    Ended(u64, End),
}

impl Keeper {
    pub(crate) fn new(shard: usize, streams: Arc<[String]>, shared: Arc<Shared>) -> Self {
        let config = &shared.config;
        Self {
            shard,
            streams,
            rhythm: Arc::new(Mutex::new(Rhythm::new(millis(config.silence_floor_ms), config.silence_factor))),
            backoff: Backoff::new(millis(config.backoff_min_ms), millis(config.backoff_max_ms)),
            sessions: JoinSet::new(),
            reports: mpsc::channel(REPORTS),
            next_id: 1,
            current: None,
            successor: None,
            open_at: Some(Instant::now()),
            shared,
        }
    }

    /// Keeps the shard connected until it is aborted.
    pub(crate) async fn run(mut self) {
        loop {
            match self.next_event().await {
                Event::Due => self.due(Instant::now()),
                Event::Report(Report::Ready(id)) => self.ready(id),
                Event::Report(Report::Leaving(id)) => self.leaving(id),
                Event::Ended(id, end) => self.ended(id, &end),
            }
        }
    }

    async fn next_event(&mut self) -> Event {
        let due = [self.open_at, self.rotate_at()].into_iter().flatten().min();
        tokio::select! {
            biased;
            Some(report) = self.reports.1.recv() => Event::Report(report),
            Some(ended) = self.sessions.join_next() => {
                // A session is only aborted together with its keeper, so an error is a panic: pass it on.
                let (id, end) = ended.expect("a session ended by panic");
                Event::Ended(id, end)
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Event::Due,
        }
    }

    /// When the current connection is due to be replaced, unless that is under way.
    fn rotate_at(&self) -> Option<Instant> {
        let ready_at = self.current.as_ref().filter(|_| self.successor.is_none() && self.open_at.is_none())?.ready_at?;
        Some(ready_at + millis(self.shared.config.connection_lifetime_ms))
    }

    fn due(&mut self, now: Instant) {
        if self.rotate_at().is_some_and(|at| now >= at) {
            info!(shard = self.shard, "connection is old, opening its successor");
            self.open_at = Some(now);
        }
        if self.open_at.is_some_and(|at| now >= at) {
            self.open_at = None;
            self.open();
        }
    }

    fn open(&mut self) {
        let id = self.next_id;
        self.next_id += 1;
        let (retire, retired) = oneshot::channel();
        let session = Session {
            id,
            shard: self.shard,
            streams: Arc::clone(&self.streams),
            shared: Arc::clone(&self.shared),
            rhythm: Arc::clone(&self.rhythm),
            reports: self.reports.0.clone(),
            retire: retired,
        };
        self.sessions.spawn(async move { (id, session.run().await) });
        let connected = Connected { id, ready_at: None, retire };
        match self.current {
            None => self.current = Some(connected),
            Some(_) => self.successor = Some(connected),
        }
    }

    fn ready(&mut self, id: u64) {
        if let Some(successor) = self.successor.take_if(|successor| successor.id == id) {
            info!(shard = self.shard, connection = id, "successor delivers, closing the old connection");
            if let Some(old) = self.current.replace(successor) {
                metrics::gauge!(telemetry::CONNECTIONS).decrement(f64::from(u8::from(old.ready_at.is_some())));
                // A session that has ended by itself needs no good-bye.
                let _ = old.retire.send(());
            }
        }
        if let Some(current) = self.current.as_mut().filter(|current| current.id == id) {
            current.ready_at = Some(Instant::now());
            metrics::gauge!(telemetry::CONNECTIONS).increment(1.0);
        }
    }

    /// Opens a successor at once, unless one is under way or shutdowns come in a row.
    fn leaving(&mut self, id: u64) {
        let Some(current) = self.current.as_ref().filter(|current| current.id == id) else { return };
        if self.successor.is_some() || self.open_at.is_some() {
            return;
        }
        let delivered = current.delivered();
        let wait = if self.is_steady(delivered) { Duration::ZERO } else { self.backoff.next_wait(delivered) };
        self.open_at = Some(Instant::now() + wait);
    }

    fn ended(&mut self, id: u64, end: &End) {
        if let Some(lost) = self.current.take_if(|current| current.id == id) {
            metrics::gauge!(telemetry::CONNECTIONS).decrement(f64::from(u8::from(lost.ready_at.is_some())));
            self.current = self.successor.take();
            let successor_is_under_way = self.current.is_some();
            self.lost(&lost, end, successor_is_under_way);
        } else if let Some(lost) = self.successor.take_if(|successor| successor.id == id) {
            self.lost(&lost, end, false);
        } else {
            debug!(shard = self.shard, connection = id, end = %end, "old connection closed");
        }
    }

    /// Plans the next connection, unless one is under way.
    fn lost(&mut self, lost: &Connected, end: &End, successor_is_under_way: bool) {
        let (shard, connection) = (self.shard, lost.id);
        metrics::counter!(telemetry::CONNECTIONS_LOST, "reason" => end.label()).increment(1);
        let delivered = lost.delivered();
        if self.is_steady(delivered) {
            self.backoff.reset();
        }
        if successor_is_under_way {
            info!(shard, connection, reason = %end, "connection ended, its successor is under way");
            return;
        }
        let wait = self.backoff.next_wait(delivered).max(end.wait());
        self.open_at = Some(Instant::now() + wait);
        let (attempt, wait_ms) = (self.backoff.failures(), wait.as_millis());
        match end {
            End::Unreachable { reason, .. } => warn!(shard, attempt, wait_ms, reason, "exchange unreachable"),
            end => warn!(shard, connection, attempt, wait_ms, reason = %end, "connection to the exchange lost"),
        }
    }

    /// Whether a connection delivered for long enough to say that the trouble before it is over.
    fn is_steady(&self, delivered: Duration) -> bool {
        delivered >= millis(self.shared.config.backoff_max_ms)
    }
}
