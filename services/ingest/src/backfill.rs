//! Side stage: asks the exchange's history for what the stream skipped, one request per symbol at a
//! time, a few symbols at once. When there is nothing more urgent, also for what came after the last trade of a
//! symbol that is silent: no later trade has told of it, as at a start after a long pause.
//!
//! ```text
//!  gap opens ─▶ waiting (grace) ─▶ asked ─▶ page ─┬─▶ all there: done
//!                  ▲                              ├─▶ more to come: ask on
//!                  └──── wait ◀───────────────────┴─▶ nothing yet, limited, not available
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::Symbol;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use ports::{History, HistoryError};
use tokio::time::Instant;

use crate::config::IngestConfig;
use crate::fence::Fence;
use crate::sequence::Sequencer;

/// How many trades are asked for at once: the most the exchange gives.
pub const PAGE: usize = 1_000;

const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Of a silent symbol the history is asked again after twice as long, up to this many times as long.
const LONGEST_SILENCE: u32 = 16;

/// A silent symbol is asked for soon after the start, when the stream has had time to speak.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// Why the history was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Ids are missing.
    Gap,
    /// The symbol is silent.
    Silence,
}

/// An answer of the history.
pub struct Page {
    /// Which symbol was asked for.
    pub symbol: Symbol,
    /// Why.
    pub asked: Asked,
    /// From which id on.
    pub from: u64,
    /// The trades' events, or why there are none.
    pub answer: Result<Vec<Bytes>, HistoryError>,
}

/// Work on the gaps of one symbol.
struct Job {
    due: Instant,
    running: bool,
    fruitless: u32,
    last_progress: Instant,
}

/// A symbol that may be silent.
struct Quiet {
    /// When the history is asked, if nothing is heard before.
    due: Instant,
    wait: Duration,
    running: bool,
}

/// Asks the history for missing trades.
pub struct Backfill {
    history: Arc<dyn History>,
    jobs: BTreeMap<Symbol, Job>,
    watched: BTreeMap<Symbol, Quiet>,
    /// No watched symbol is due before.
    look_at: Instant,
    silence: Duration,
    running: FuturesUnordered<BoxFuture<'static, Page>>,
    paused_until: Instant,
    grace: Duration,
    patience: Duration,
    in_flight: usize,
}

impl Backfill {
    /// Backfill with nothing to do yet, for a stream that should have trades of the symbols `watched`.
    pub fn new(history: Arc<dyn History>, watched: Vec<Symbol>, config: &IngestConfig) -> Self {
        let silence = config.silence();
        let watched = if silence.is_zero() { Vec::new() } else { watched };
        let due = Instant::now() + FIRST_LOOK.min(silence);
        let watched =
            watched.into_iter().map(|symbol| (symbol, Quiet { due, wait: silence, running: false })).collect();
        Self {
            history,
            jobs: BTreeMap::new(),
            watched,
            look_at: due,
            silence,
            running: FuturesUnordered::new(),
            paused_until: Instant::now(),
            grace: config.gap_grace(),
            patience: config.history_patience(),
            in_flight: config.backfill_in_flight.max(1),
        }
    }

    /// Takes up new gaps, drops closed ones, and sends the requests that are due.
    /// What may be hidden in the log waits.
    pub fn advance(&mut self, sequencer: &Sequencer, fence: &Fence) {
        let now = Instant::now();
        for symbol in sequencer.with_open_gaps() {
            if !self.jobs.contains_key(symbol) {
                let job = Job { due: now + self.grace, running: false, fruitless: 0, last_progress: now };
                self.jobs.insert(symbol.clone(), job);
            }
        }
        if now < self.paused_until {
            return;
        }
        let mut closed = Vec::new();
        for (symbol, job) in &mut self.jobs {
            let free = self.running.len() < self.in_flight;
            match sequencer.first_wanted(symbol) {
                None if !job.running => closed.push(symbol.clone()),
                // Patience begins when there is something to be patient with.
                Some(_) if !fence.is_behind(sequencer.partition(symbol)) => {
                    (job.due, job.last_progress) = (job.due.max(now + FIRST_WAIT), now);
                }
                Some(ids) if free && !job.running && job.due <= now => {
                    job.running = true;
                    self.running.push(ask(Arc::clone(&self.history), symbol.clone(), Asked::Gap, ids.from));
                }
                _ => {}
            }
        }
        self.jobs.retain(|symbol, _| !closed.contains(symbol));
        self.listen(sequencer, fence, now);
    }

    /// Asks for what came after the last trades of silent symbols.
    fn listen(&mut self, sequencer: &Sequencer, fence: &Fence, now: Instant) {
        if now < self.look_at {
            return;
        }
        for (symbol, quiet) in self.watched.iter_mut().filter(|(_, quiet)| !quiet.running && quiet.due <= now) {
            if self.running.len() >= self.in_flight {
                return;
            }
            match sequencer.next_id(symbol).filter(|_| !self.jobs.contains_key(symbol)) {
                Some(_) if !fence.is_behind(sequencer.partition(symbol)) => quiet.due = now + FIRST_WAIT,
                Some(from) => {
                    quiet.running = true;
                    self.running.push(ask(Arc::clone(&self.history), symbol.clone(), Asked::Silence, from));
                }
                // Its tape has not begun, or its gaps come first.
                None => quiet.due = now + LONGEST_WAIT,
            }
        }
        let next = self.watched.values().filter(|quiet| !quiet.running).map(|quiet| quiet.due).min();
        self.look_at = next.unwrap_or(now + self.silence);
    }

    /// The stream has a trade of a symbol.
    pub fn heard(&mut self, symbol: &Symbol) {
        if let Some(quiet) = self.watched.get_mut(symbol) {
            quiet.wait = self.silence;
            quiet.due = Instant::now() + self.silence;
        }
    }

    /// The history had news of a silent symbol, and may have more.
    pub fn look_on(&mut self, symbol: &Symbol) {
        self.look_again(symbol, Duration::ZERO);
    }

    /// The history has no news of a silent symbol: it may be silent for long.
    pub fn unheard(&mut self, symbol: &Symbol) {
        let Some(quiet) = self.watched.get_mut(symbol) else { return };
        quiet.wait = (quiet.wait * 2).min(self.silence * LONGEST_SILENCE);
        let wait = quiet.wait;
        self.look_again(symbol, wait);
    }

    fn look_again(&mut self, symbol: &Symbol, wait: Duration) {
        if let Some(quiet) = self.watched.get_mut(symbol) {
            quiet.due = Instant::now() + wait;
            self.look_at = self.look_at.min(quiet.due);
        }
    }

    /// The next answer, or `None` when a request has become due. Cancel-safe.
    pub async fn next(&mut self) -> Option<Page> {
        let due = self.next_due();
        tokio::select! {
            biased;
            Some(page) = self.running.next() => {
                match page.asked {
                    Asked::Gap => self.jobs.get_mut(&page.symbol).into_iter().for_each(|job| job.running = false),
                    Asked::Silence => {
                        self.watched.get_mut(&page.symbol).into_iter().for_each(|quiet| quiet.running = false);
                    }
                }
                Some(page)
            }
            () = sleep_until(due) => None,
        }
    }

    /// The last page brought something: go on at once.
    pub fn progress(&mut self, symbol: &Symbol) {
        if let Some(job) = self.jobs.get_mut(symbol) {
            job.fruitless = 0;
            job.last_progress = Instant::now();
            job.due = job.last_progress;
        }
    }

    /// The last page brought nothing: ask again later. False if patience is over.
    pub fn wait(&mut self, symbol: &Symbol) -> bool {
        let Some(job) = self.jobs.get_mut(symbol) else { return true };
        job.due = Instant::now() + wait_after(job.fruitless);
        job.fruitless += 1;
        job.last_progress.elapsed() < self.patience
    }

    /// There was no answer, which says nothing about what the history has: patience begins anew.
    pub fn unanswered(&mut self, symbol: &Symbol, asked: Asked) {
        if asked == Asked::Silence {
            self.look_again(symbol, LONGEST_WAIT);
        }
        if let Some(job) = self.jobs.get_mut(symbol) {
            job.last_progress = Instant::now();
        }
    }

    /// The exchange asks for a pause.
    pub fn pause(&mut self, wait: Duration) {
        self.paused_until = self.paused_until.max(Instant::now() + wait);
    }

    fn next_due(&self) -> Option<Instant> {
        if self.running.len() >= self.in_flight {
            return None;
        }
        let jobs = self.jobs.values().filter(|job| !job.running).map(|job| job.due);
        let looks = (!self.watched.is_empty()).then_some(self.look_at);
        Some(jobs.chain(looks).min()?.max(self.paused_until))
    }
}

fn wait_after(fruitless: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << fruitless.min(10)).min(LONGEST_WAIT)
}

fn ask(history: Arc<dyn History>, symbol: Symbol, asked: Asked, from: u64) -> BoxFuture<'static, Page> {
    async move {
        let answer = history.trades(&symbol, from, PAGE).await;
        Page { symbol, asked, from, answer }
    }
    .boxed()
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
