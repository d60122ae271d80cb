//! An exchange that issues trades, and a stream of them that loses, doubles, disorders and damages
//! some on their way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{IdSet, Origin, Symbol, Timestamp};
use ports::{Clock, Feed, FeedEvent, History, HistoryError, PortError};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc;

/// How many frames wait for a slow reader before the stream drops them.
const QUEUE: usize = 64;

/// How fast the market's time runs, from a day ago on: a story of a minute has trades of many hours, and some
/// of them come hours late.
const PACE: i64 = 1_000;
const A_DAY: Duration = Duration::from_secs(86_400);

/// The exchange. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Exchange(Arc<Mutex<State>>);

struct State {
    rng: SmallRng,
    opened_at: Option<Timestamp>,
    issued: BTreeMap<Symbol, BTreeMap<u64, Bytes>>,
    withheld: BTreeMap<Symbol, IdSet>,
    held_back: Option<Bytes>,
    stream: Option<mpsc::Sender<Bytes>>,
}

impl Exchange {
    /// An exchange for some symbols.
    pub fn new(seed: u64, symbols: &[Symbol]) -> Self {
        let issued = symbols.iter().map(|symbol| (symbol.clone(), BTreeMap::new())).collect();
        Self(Arc::new(Mutex::new(State {
            rng: SmallRng::seed_from_u64(seed ^ 0x5eed),
            opened_at: None,
            issued,
            withheld: BTreeMap::new(),
            held_back: None,
            stream: None,
        })))
    }

    /// Issues trades for a while, and streams them as streams do: not all of them arrive.
    pub async fn trade_for(&self, duration: Duration, clock: Arc<dyn Clock>) {
        let end = tokio::time::Instant::now() + duration;
        while tokio::time::Instant::now() < end {
            let pause = self.lock().rng.random_range(0..400);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.issue(clock.now());
        }
    }

    /// Connects to the stream; an earlier connection ends.
    pub fn connect(&self, clock: Arc<dyn Clock>) -> Stream {
        let (sender, frames) = mpsc::channel(QUEUE);
        self.lock().stream = Some(sender);
        Stream { frames, clock }
    }

    /// What was issued of each symbol from the first id that the stream showed: ids and events.
    pub fn issued(&self) -> BTreeMap<Symbol, BTreeMap<u64, Bytes>> {
        self.lock().issued.clone()
    }

    /// Ids that nobody can get from anywhere.
    pub fn withheld(&self) -> BTreeMap<Symbol, IdSet> {
        self.lock().withheld.clone()
    }

    fn issue(&self, now: Timestamp) {
        let mut state = self.lock();
        let symbols = state.issued.len();
        let nth = state.rng.random_range(0..symbols);
        let symbol = state.issued.keys().nth(nth).cloned().expect("there are symbols");
        for _ in 0..state.rng.random_range(1..8) {
            let frame = state.next_trade(&symbol, now);
            state.stream_out(&symbol, frame);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_trade(&mut self, symbol: &Symbol, now: Timestamp) -> Bytes {
        let trades = self.issued.get_mut(symbol).expect("a symbol of ours");
        let id = trades.last_key_value().map_or(1_000, |(id, _)| id + 1);
        let (price, quantity) = (self.rng.random_range(1..9_999), self.rng.random_range(1..999));
        let opened_at = *self.opened_at.get_or_insert(now);
        let time = opened_at.minus(A_DAY).micros() + now.micros_since(opened_at) * PACE;
        let event = format!(
            r#"{{"e":"trade","E":{time},"s":"{symbol}","t":{id},"p":"{price}.10000000","q":"0.{quantity:08}","T":{time},"m":true,"M":true}}"#,
        );
        let event = Bytes::from(event);
        trades.insert(id, event.clone());
        event
    }

    fn stream_out(&mut self, symbol: &Symbol, frame: Bytes) {
        match self.rng.random_range(0..100) {
            0..4 => {}
            4 => self.withhold(symbol),
            5..8 => {
                self.send(frame.clone());
                self.send(frame);
            }
            8..11 => self.held_back = Some(frame),
            11 => {
                self.send(frame.slice(..frame.len() / 2));
                self.send(frame);
            }
            _ => {
                self.send(frame);
                if let Some(late) = self.held_back.take() {
                    self.send(late);
                }
            }
        }
    }

    /// The trade just issued exists, and neither the stream nor the history will ever tell.
    fn withhold(&mut self, symbol: &Symbol) {
        let last = self.issued.get(symbol).and_then(|trades| trades.last_key_value());
        if let Some((&id, _)) = last {
            self.withheld.entry(symbol.clone()).or_default().insert(id);
        }
    }

    fn send(&mut self, frame: Bytes) {
        // A full queue loses the frame, as a slow reader of a real exchange does.
        let _ = self.stream.as_ref().map(|stream| stream.try_send(frame));
    }
}

/// A connection to the stream.
pub struct Stream {
    frames: mpsc::Receiver<Bytes>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Feed for Stream {
    async fn next(&mut self) -> Result<FeedEvent, PortError> {
        match self.frames.recv().await {
            Some(bytes) => {
                let (received_at, source) = (self.clock.now(), Bytes::from_static(b"exchange"));
                Ok(FeedEvent::Frame { bytes, received_at, origin: Origin::Live, source, place: None })
            }
            // Another instance has connected: this one is a zombie.
            None => std::future::pending().await,
        }
    }
}

#[async_trait]
impl History for Exchange {
    async fn trades(&self, symbol: &Symbol, from_id: u64, limit: usize) -> Result<Vec<Bytes>, HistoryError> {
        let wait = self.lock().rng.random_range(0..200);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let mut state = self.lock();
        match state.rng.random_range(0..20) {
            0 => return Err(HistoryError::Unavailable("simulated failure".to_owned())),
            1 => return Err(HistoryError::Limited { wait: Duration::from_secs(2), reason: "simulated".to_owned() }),
            2 => return Ok(Vec::new()),
            _ => {}
        }
        let nothing = IdSet::new();
        let withheld = state.withheld.get(symbol).unwrap_or(&nothing);
        let trades = state.issued.get(symbol).into_iter().flat_map(|trades| trades.range(from_id..));
        Ok(trades
            .filter(|(id, _)| !withheld.contains(**id))
            .map(|(_, event)| event.clone())
            .take(limit.min(20))
            .collect())
    }
}
