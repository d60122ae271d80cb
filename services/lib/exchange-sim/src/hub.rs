//! From the market to the connections: who listens to what.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::shared::lock;
use crate::text::{Batch, Kind, Unit};

/// What a connection is handed.
#[derive(Clone, Debug)]
pub(crate) enum Parcel {
    /// Frames.
    Batch(Arc<Batch>),
    /// The announcement that the server goes down, with its event time in µs.
    ServerShutdown(i64),
}

/// The queue of one connection, bounded in frames.
#[derive(Debug)]
pub(crate) struct Mailbox {
    id: u64,
    unit: Unit,
    parcels: mpsc::Sender<Parcel>,
    room: Semaphore,
    too_slow: CancellationToken,
}

/// The connection's end of its queue.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) parcels: mpsc::Receiver<Parcel>,
}

/// All connections and their subscriptions.
#[derive(Debug)]
pub(crate) struct Hub {
    queue_frames: usize,
    state: Mutex<State>,
    listeners: watch::Sender<usize>,
}

/// Those who listen to one stream in one unit. Shared, so that sending needs no lock.
pub(crate) type Lane = Arc<Vec<Arc<Mailbox>>>;

#[derive(Debug)]
struct State {
    next_id: u64,
    mailboxes: BTreeMap<u64, Arc<Mailbox>>,
    /// By symbol, kind and unit.
    lanes: Vec<[[Lane; 2]; 3]>,
    /// What newcomers get of symbols that have fallen silent for good.
    finals: Vec<[Option<Arc<Batch>>; 2]>,
}

impl Mailbox {
    /// Hands over what fits. A connection that cannot keep up is ended, as the exchange does.
    pub(crate) fn offer(&self, parcel: Parcel) {
        let frames = parcel.frames();
        let fits = match self.room.try_acquire_many(frames) {
            Ok(permit) => {
                permit.forget();
                self.parcels.try_send(parcel).is_ok()
            }
            Err(_) => false,
        };
        if !fits {
            self.too_slow.cancel();
        }
    }

    /// Hands over when there is room; not at all if the connection has ended.
    pub(crate) async fn deliver(&self, parcel: Parcel) {
        if let Ok(permit) = self.room.acquire_many(parcel.frames()).await {
            permit.forget();
            // A closed queue belongs to a connection that has just ended.
            let _ = self.parcels.send(parcel).await;
        }
    }

    /// Gives the room of a parcel back.
    pub(crate) fn done(&self, parcel: &Parcel) {
        self.room.add_permits(parcel.frames() as usize);
    }

    /// Cancelled when the connection could not keep up.
    pub(crate) fn too_slow(&self) -> &CancellationToken {
        &self.too_slow
    }
}

impl Parcel {
    fn frames(&self) -> u32 {
        match self {
            Self::Batch(batch) => batch.len() as u32,
            Self::ServerShutdown(_) => 1,
        }
    }
}

impl Hub {
    pub(crate) fn new(symbols: usize, queue_frames: usize) -> Self {
        let state = State {
            next_id: 0,
            mailboxes: BTreeMap::new(),
            lanes: vec![Default::default(); symbols],
            finals: vec![Default::default(); symbols],
        };
        Self { queue_frames, state: Mutex::new(state), listeners: watch::Sender::new(0) }
    }

    /// A queue for a new connection.
    pub(crate) fn open(&self, unit: Unit) -> Inbox {
        let (sender, parcels) = mpsc::channel(self.queue_frames);
        let mut state = lock(&self.state);
        state.next_id += 1;
        let mailbox = Arc::new(Mailbox {
            id: state.next_id,
            unit,
            parcels: sender,
            room: Semaphore::new(self.queue_frames),
            too_slow: CancellationToken::new(),
        });
        state.mailboxes.insert(mailbox.id, Arc::clone(&mailbox));
        Inbox { mailbox, parcels }
    }

    /// Subscribes to all of these at once, so that no trade falls between two of them.
    pub(crate) fn subscribe(&self, mailbox: &Arc<Mailbox>, streams: &[(usize, Kind)]) {
        let mut state = lock(&self.state);
        for (place, kind) in streams {
            let lane = &mut state.lanes[*place][*kind as usize][mailbox.unit as usize];
            if lane.iter().all(|other| other.id != mailbox.id) {
                Arc::make_mut(lane).push(Arc::clone(mailbox));
                self.listeners.send_modify(|count| *count += 1);
            }
            if let (Kind::Trade, Some(batch)) = (*kind, &state.finals[*place][mailbox.unit as usize]) {
                mailbox.offer(Parcel::Batch(Arc::clone(batch)));
            }
        }
    }

    pub(crate) fn unsubscribe(&self, mailbox: &Mailbox, streams: &[(usize, Kind)]) {
        let mut state = lock(&self.state);
        for (place, kind) in streams {
            self.leave(&mut state.lanes[*place][*kind as usize][mailbox.unit as usize], mailbox);
        }
    }

    /// Forgets a connection.
    pub(crate) fn close(&self, mailbox: &Mailbox) {
        mailbox.room.close();
        let mut state = lock(&self.state);
        state.mailboxes.remove(&mailbox.id);
        for lane in state.lanes.iter_mut().flatten() {
            self.leave(&mut lane[mailbox.unit as usize], mailbox);
        }
    }

    fn leave(&self, lane: &mut Lane, mailbox: &Mailbox) {
        if lane.iter().any(|other| other.id == mailbox.id) {
            Arc::make_mut(lane).retain(|other| other.id != mailbox.id);
            self.listeners.send_modify(|count| *count -= 1);
        }
    }

    /// Those who listen to a stream.
    pub(crate) fn lane(&self, place: usize, kind: Kind, unit: Unit) -> Lane {
        Arc::clone(&lock(&self.state).lanes[place][kind as usize][unit as usize])
    }

    /// How many subscriptions to streams with events there are, and when that changes.
    pub(crate) fn listeners(&self) -> watch::Receiver<usize> {
        self.listeners.subscribe()
    }

    /// Sets what newcomers get of a symbol that has fallen silent for good.
    pub(crate) fn set_final(&self, place: usize, unit: Unit, batch: Arc<Batch>) {
        lock(&self.state).finals[place][unit as usize] = Some(batch);
    }

    /// Tells all connections that the server goes down.
    pub(crate) fn announce_shutdown(&self, event_us: i64) {
        for mailbox in lock(&self.state).mailboxes.values() {
            mailbox.offer(Parcel::ServerShutdown(event_us));
        }
    }
}
