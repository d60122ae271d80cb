//! Seeded misfortune, and the record of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use crate::PortError;

/// How many lines of the trace are kept for reading.
const TRACE_LINES: usize = 20_000;

/// What goes wrong, and how often. Probabilities are per operation, from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// Nothing is done; the answer is `Unavailable`.
    pub fail: f64,
    /// Nothing is done; the answer is `Unknown`.
    pub lose_request: f64,
    /// It is done, but the answer is `Unknown`.
    pub lose_answer: f64,
    /// A random part is done, and the answer is `Unknown`.
    pub partial: f64,
    /// The answer is `Unknown`, and it is done some time later.
    pub late: f64,
    /// How much later, at most.
    pub late_by: Duration,
    /// It takes a while before it is done, and again before it is answered.
    pub delay: f64,
    /// How long each of them, at most.
    pub delay_by: Duration,
    /// The group gives its partitions out anew; per batch read.
    pub rebalance: f64,
}

impl Faults {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self {
            fail: 0.0,
            lose_request: 0.0,
            lose_answer: 0.0,
            partial: 0.0,
            late: 0.0,
            late_by: Duration::ZERO,
            delay: 0.0,
            delay_by: Duration::ZERO,
            rebalance: 0.0,
        }
    }

    /// Everything goes wrong now and then.
    pub fn some() -> Self {
        Self {
            fail: 0.05,
            lose_request: 0.02,
            lose_answer: 0.05,
            partial: 0.03,
            late: 0.02,
            late_by: Duration::from_secs(30),
            delay: 0.3,
            delay_by: Duration::from_secs(2),
            rebalance: 0.01,
        }
    }
}

/// The generator of misfortune that the servers of one simulation share.
///
/// Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Chaos {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    faults: Faults,
    rng: SmallRng,
    started: Instant,
    trace: VecDeque<String>,
    fingerprint: u64,
}

/// How much of an operation is done.
pub(super) enum Extent {
    Whole,
    /// All of it, when nobody expects it any more.
    Late,
    Part(SmallRng),
}

impl Extent {
    /// Whether the next item is done.
    pub(super) fn includes(&mut self) -> bool {
        match self {
            Self::Whole | Self::Late => true,
            Self::Part(rng) => rng.random_bool(0.5),
        }
    }

    /// How many bytes of `length` are done.
    pub(super) fn prefix(&mut self, length: usize) -> usize {
        match self {
            Self::Whole | Self::Late => length,
            Self::Part(rng) => rng.random_range(0..=length),
        }
    }
}

enum Fate {
    Good,
    Fails,
    LosesRequest,
    LosesAnswer,
    Partial(SmallRng),
    Late(Duration),
}

/// What can befall a kind of operation.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) system: &'static str,
    pub(super) partial: bool,
    pub(super) late: bool,
}

impl Chaos {
    /// Misfortune from a seed. Call it inside the runtime, whose clock it reads.
    pub fn new(seed: u64, faults: Faults) -> Self {
        let inner = Inner {
            faults,
            rng: SmallRng::seed_from_u64(seed),
            started: Instant::now(),
            trace: VecDeque::new(),
            fingerprint: 0xcbf2_9ce4_8422_2325,
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// A world in which nothing goes wrong.
    pub fn none() -> Self {
        Self::new(0, Faults::none())
    }

    /// From now on other things go wrong. What is under way stays as it was decided.
    pub fn set(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Adds a line to the trace, with the time since the beginning.
    pub fn note(&self, what: &str) {
        let mut inner = self.lock();
        let line = format!("{:>12} {what}", inner.started.elapsed().as_micros());
        for byte in line.bytes().chain([b'\n']) {
            inner.fingerprint = (inner.fingerprint ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if inner.trace.len() == TRACE_LINES {
            inner.trace.pop_front();
        }
        inner.trace.push_back(line);
    }

    /// What happened, one line per operation; of a long story the end.
    pub fn trace(&self) -> Vec<String> {
        self.lock().trace.iter().cloned().collect()
    }

    /// A fingerprint of all that happened: equal for equal stories.
    pub fn fingerprint(&self) -> u64 {
        self.lock().fingerprint
    }

    /// Whether the group should be shaken, and if so how to rotate its members.
    pub(super) fn rebalances(&self) -> Option<usize> {
        let mut inner = self.lock();
        let probability = inner.faults.rebalance;
        inner.happens(probability).then(|| inner.rng.random_range(0..1_000))
    }

    /// How much of what is there a read returns: all when nothing goes wrong.
    pub(super) fn portion(&self) -> Option<usize> {
        let mut inner = self.lock();
        (inner.faults != Faults::none()).then(|| inner.rng.random_range(1..=500))
    }

    /// Asks something: it may fail and take its time, nothing else.
    pub(super) async fn ask<T>(
        &self,
        system: &'static str,
        what: impl FnOnce() -> String,
        answer: impl FnOnce() -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        self.wait().await;
        let fails = {
            let mut inner = self.lock();
            let probability = inner.faults.fail;
            inner.happens(probability)
        };
        if fails {
            self.note(&format!("{}: failed", what()));
            return Err(PortError::unavailable(system, "simulated failure"));
        }
        answer()
    }

    /// Does something, or not, or in part, or later, and says so, or not.
    pub(super) async fn perform<T: Send + 'static>(
        &self,
        kind: Kind,
        what: impl FnOnce() -> String,
        act: impl FnOnce(Extent) -> Result<T, PortError> + Send + 'static,
    ) -> Result<T, PortError> {
        self.wait().await;
        let fate = self.lock().fate(kind);
        let unknown = |reason| Err(PortError::unknown(kind.system, reason));
        let result = match fate {
            Fate::Good => {
                let result = act(Extent::Whole);
                self.note(&format!("{}: {}", what(), if result.is_ok() { "done" } else { "refused" }));
                result
            }
            Fate::Fails => {
                self.note(&format!("{}: failed", what()));
                Err(PortError::unavailable(kind.system, "simulated failure"))
            }
            Fate::LosesRequest => {
                self.note(&format!("{}: request lost", what()));
                unknown("simulated loss of the request")
            }
            Fate::LosesAnswer => {
                act(Extent::Whole)?;
                self.note(&format!("{}: done, answer lost", what()));
                unknown("simulated loss of the answer")
            }
            Fate::Partial(rng) => {
                act(Extent::Part(rng))?;
                self.note(&format!("{}: done in part", what()));
                unknown("simulated failure half-way")
            }
            Fate::Late(by) => {
                let what = what();
                self.note(&format!("{what}: late by {} us", by.as_micros()));
                let chaos = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(by).await;
                    let outcome = if act(Extent::Late).is_ok() { "done" } else { "refused" };
                    chaos.note(&format!("{what}: {outcome}, late"));
                });
                unknown("simulated time-out")
            }
        };
        self.wait().await;
        result
    }

    /// Takes a while, or not.
    pub(super) async fn wait(&self) {
        let by = {
            let mut inner = self.lock();
            let (probability, at_most) = (inner.faults.delay, inner.faults.delay_by);
            if inner.happens(probability) { inner.up_to(at_most) } else { Duration::ZERO }
        };
        if !by.is_zero() {
            tokio::time::sleep(by).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Draws only for what can happen, so that switching one fault off changes little.
    fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.rng.random_bool(probability.min(1.0))
    }

    fn up_to(&mut self, at_most: Duration) -> Duration {
        let micros = u64::try_from(at_most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.rng.random_range(0..=micros))
    }

    fn fate(&mut self, kind: Kind) -> Fate {
        let Faults { fail, lose_request, lose_answer, partial, late, late_by, .. } = self.faults.clone();
        if self.happens(fail) {
            Fate::Fails
        } else if self.happens(lose_request) {
            Fate::LosesRequest
        } else if self.happens(lose_answer) {
            Fate::LosesAnswer
        } else if kind.partial && self.happens(partial) {
            Fate::Partial(SmallRng::seed_from_u64(self.rng.random()))
        } else if kind.late && self.happens(late) {
            Fate::Late(self.up_to(late_by))
        } else {
            Fate::Good
        }
    }
}
