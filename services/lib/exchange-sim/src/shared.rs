//! What all parts of the server know.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::{IdRange, IdSet};
use tokio_util::sync::CancellationToken;

use crate::clock::now_micros;
use crate::config::{Rate, SimConfig};
use crate::hub::Hub;
use crate::lines::Lines;
use crate::market::Market;
use crate::rest::limits::Limits;
use crate::tamper::Tamper;

/// Locks, also after a panic elsewhere: what is behind the locks here is never left half-changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The server.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: SimConfig,
    pub(crate) market: Market,
    pub(crate) tape: Tape,
    pub(crate) tamper: Tamper,
    pub(crate) hub: Hub,
    pub(crate) lines: Arc<Lines>,
    pub(crate) limits: Limits,
    /// How often each fault was executed.
    pub(crate) faults: Mutex<BTreeMap<&'static str, u64>>,
    pub(crate) stop: CancellationToken,
}

impl Shared {
    /// The exchange's time: the wall clock's, or the virtual one.
    pub(crate) fn now_us(&self) -> i64 {
        match self.config.rate {
            Rate::PerSecond(_) => now_micros(),
            Rate::Max => self.tape.now_us(),
        }
    }

    /// The last id of a symbol that REST has.
    pub(crate) fn visible(&self, place: usize) -> u64 {
        let issued = self.tape.issued(place);
        if self.config.rest_lag_ms == 0 {
            return issued;
        }
        let lag_us = i64::try_from(self.config.rest_lag_ms).unwrap_or(i64::MAX / 1_000).saturating_mul(1_000);
        issued.min(self.market.symbols()[place].issued_at(self.now_us().saturating_sub(lag_us)))
    }
}

/// How far the market is, and what of it the stream left out.
#[derive(Debug)]
pub(crate) struct Tape {
    now_us: AtomicI64,
    symbols: Vec<SymbolTape>,
}

#[derive(Debug)]
struct SymbolTape {
    streamed_from: u64,
    issued: AtomicU64,
    left_out: Mutex<LeftOut>,
}

/// Ids that were not streamed.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeftOut {
    /// REST has them.
    pub(crate) skipped: IdSet,
    /// Nobody has them, ever.
    pub(crate) withheld: IdSet,
}

impl Tape {
    /// A tape that was issued up to `now_us` before anyone could listen.
    pub(crate) fn new(market: &Market, now_us: i64) -> Self {
        let symbol = |issued: u64| SymbolTape {
            streamed_from: issued + 1,
            issued: AtomicU64::new(issued),
            left_out: Mutex::default(),
        };
        let symbols = market.symbols().iter().map(|one| symbol(one.issued_at(now_us))).collect();
        Self { now_us: AtomicI64::new(now_us), symbols }
    }

    pub(crate) fn now_us(&self) -> i64 {
        self.now_us.load(Ordering::Acquire)
    }

    pub(crate) fn set_now_us(&self, now_us: i64) {
        self.now_us.store(now_us, Ordering::Release);
    }

    /// The last id of a symbol that was issued; 0 if none.
    pub(crate) fn issued(&self, place: usize) -> u64 {
        self.symbols[place].issued.load(Ordering::Acquire)
    }

    /// The first id that this server could stream.
    pub(crate) fn streamed_from(&self, place: usize) -> u64 {
        self.symbols[place].streamed_from
    }

    /// Notes what is left out before the ids become visible, so that REST never shows what it must not.
    pub(crate) fn leave_out(&self, place: usize, ids: IdRange, rest: bool) {
        let mut left_out = lock(&self.symbols[place].left_out);
        if rest { left_out.skipped.insert_range(ids) } else { left_out.withheld.insert_range(ids) }
    }

    pub(crate) fn issue(&self, place: usize, last_id: u64) {
        self.symbols[place].issued.store(last_id, Ordering::Release);
    }

    pub(crate) fn left_out(&self, place: usize) -> LeftOut {
        lock(&self.symbols[place].left_out).clone()
    }
}
