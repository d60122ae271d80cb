//! The loop: feed, history and log, until the feed ends or somebody asks to stop.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::ledger::Verdict;
use domain::trade::claimed_id;
use domain::{IdRange, Origin, Symbol, Topic, Topics, Trade};
use ports::{Clock, Feed, History, HistoryError, LogScan, LogWriter, PortError, persist};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use crate::IngestError;
use crate::backfill::{Asked, Backfill, Page};
use crate::config::IngestConfig;
use crate::decode::{Arrival, DeadInput, Decoded, decode};
use crate::fence::Fence;
use crate::metrics;
use crate::publish::{Ends, Log, Partitions, Publisher};
use crate::rebuild::rebuild;
use crate::sequence::{Batch, Sequencer};

/// The outside world of ingest.
pub struct IngestPorts {
    /// Where frames come from.
    pub feed: Box<dyn Feed>,
    /// Where skipped trades may be had; `None` if the source has no memory.
    pub history: Option<Arc<dyn History>>,
    /// The symbols that the feed is about: of those that are silent the history is asked for news.
    pub watched: Vec<Symbol>,
    /// Symbols that were asked for and that the exchange does not list: delisted if the tape has them, an error
    /// otherwise.
    pub unlisted: Vec<Symbol>,
    /// Where trades go.
    pub writer: Arc<dyn LogWriter>,
    /// The same log, to look what is there.
    pub scan: Arc<dyn LogScan>,
    /// For how long the log may hide what others have appended: it shows a record when all replicas have it.
    pub hidden_for: Duration,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
}

/// What ingest did, from start to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Trades acknowledged by the log.
    pub published: u64,
    /// Trades dropped because the log had them.
    pub duplicates: u64,
    /// Trade ids that are missing in the end.
    pub missing: u64,
    /// Inputs that could not be used.
    pub dead: u64,
}

/// Runs ingest until the feed ends and everything is settled, or until `stop`.
///
/// # Errors
/// If the log refuses, or the feed cannot go on.
pub async fn run(
    ports: IngestPorts,
    topics: Topics,
    config: IngestConfig,
    stop: CancellationToken,
) -> Result<Summary, IngestError> {
    metrics::describe();
    let starting = Ingest::start(ports, topics, config);
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(Summary::default()),
        ingest = starting => ingest?.run(&stop).await,
    }
}

/// What the loop waits for.
enum Event {
    Stop,
    Gathered,
    Published(Batch),
    Refused(PortError),
    Page(Option<Page>),
    Feed(Decoded),
}

struct Ingest {
    feed: Box<dyn Feed>,
    clock: Arc<dyn Clock>,
    stream: Topic,
    config: IngestConfig,
    sequencer: Sequencer,
    backfill: Option<Backfill>,
    fence: Fence,
    publisher: Publisher,
    batch: Batch,
    /// When the batch goes to the log at the latest, unless it is empty.
    due: Option<Pin<Box<Sleep>>>,
    /// The ledgers' bounds when the batch on its way was closed, to be marked when it is there.
    to_mark: BTreeMap<i32, BTreeMap<Symbol, IdRange>>,
    ended: bool,
    summary: Summary,
}

impl Ingest {
    async fn start(ports: IngestPorts, topics: Topics, config: IngestConfig) -> Result<Self, IngestError> {
        let IngestPorts { feed, history, watched, unlisted, writer, scan, hidden_for, clock } = ports;
        let mut ends = Ends::new();
        let partitions = Partitions {
            stream: partitions_of(scan.as_ref(), &topics.stream, &mut ends).await?,
            gaps: partitions_of(scan.as_ref(), &topics.gaps, &mut ends).await?,
            dead_letter: partitions_of(scan.as_ref(), &topics.dead_letter, &mut ends).await?,
        };
        let mut sequencer = rebuild(scan.as_ref(), &topics).await?;
        let (delisted, unknown): (Vec<Symbol>, _) =
            unlisted.into_iter().partition(|symbol| sequencer.next_id(symbol).is_some());
        if !unknown.is_empty() {
            return Err(IngestError::UnknownSymbols(unknown));
        }
        for symbol in delisted {
            tracing::warn!(%symbol, "the exchange lists this symbol no more, the tape keeps what it has");
        }
        let mut batch = Batch::default();
        sequencer.open_silent(clock.now());
        sequencer.settle(clock.now(), &mut batch);
        tracing::info!(missing = sequencer.missing(), "ledger rebuilt from the log");
        let backfill = history.map(|history| Backfill::new(history, watched, &config));
        let fence = Fence::new(hidden_for);
        let stream = topics.stream.clone();
        let publisher = Publisher::new(Log { writer, scan, hidden_for }, topics, partitions, ends);
        Ok(Self {
            feed,
            clock,
            stream,
            config,
            sequencer,
            backfill,
            fence,
            publisher,
            batch,
            due: None,
            to_mark: BTreeMap::new(),
            ended: false,
            summary: Summary::default(),
        })
    }

    async fn run(mut self, stop: &CancellationToken) -> Result<Summary, IngestError> {
        loop {
            self.publish_in_time();
            if self.is_done() {
                return Ok(self.summary());
            }
            let event = match self.next(stop).await {
                Ok(event) => event,
                // What is in hand is handed over first.
                Err(error) => return self.drained().await.and(Err(error.into())),
            };
            match event {
                Event::Stop => return self.drained().await,
                Event::Gathered => {}
                Event::Published(batch) => self.published(&batch),
                // What is in hand stands behind what the log does not have.
                Event::Refused(error) => return Err(error.into()),
                Event::Page(Some(page)) => self.page(page),
                Event::Page(None) => {}
                Event::Feed(decoded) => self.arrived(decoded),
            }
        }
    }

    async fn next(&mut self, stop: &CancellationToken) -> Result<Event, PortError> {
        let room = self.has_room();
        let is_busy = self.publisher.is_busy();
        if let Some(backfill) = self.backfill.as_mut().filter(|_| room) {
            backfill.advance(&self.sequencer, &self.fence);
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(Event::Stop),
            batch = self.publisher.done() => Ok(batch.map_or_else(Event::Refused, Event::Published)),
            () = over(self.due.as_mut()), if !is_busy => Ok(Event::Gathered),
            page = next_page(self.backfill.as_mut()), if room => Ok(Event::Page(page)),
            event = self.feed.next(), if room && !self.ended => Ok(Event::Feed(decode(event?, self.clock.now()))),
        }
    }

    fn has_room(&self) -> bool {
        self.batch.bytes < self.config.pending_bytes
    }

    /// Publishes when something has waited for long enough, or nothing more can come.
    fn publish_in_time(&mut self) {
        let is_due = match self.due.as_ref() {
            _ if self.batch.is_empty() => false,
            Some(due) => due.is_elapsed() || self.ended || !self.has_room(),
            None => {
                self.due = Some(Box::pin(tokio::time::sleep(self.config.gather())));
                false
            }
        };
        if is_due || self.fence.is_due() {
            self.publish();
        }
    }

    fn publish(&mut self) {
        if self.publisher.is_busy() {
            return;
        }
        if self.fence.is_due() {
            self.publisher.look();
            self.fence.looking();
        } else if !self.batch.is_empty() {
            self.to_mark = self.sequencer.unmarked(i64::from(self.config.mark_records));
            self.publisher.publish(std::mem::take(&mut self.batch));
            self.due = None;
        }
    }

    fn is_done(&self) -> bool {
        self.ended && !self.publisher.is_busy() && self.batch.is_empty() && self.sequencer.with_open_gaps().is_empty()
    }

    fn arrived(&mut self, decoded: Decoded) {
        if decoded != Decoded::End {
            ::metrics::counter!(metrics::FRAMES_RECEIVED).increment(1);
        }
        match decoded {
            Decoded::Trade(arrival) => {
                if let Some(backfill) = self.backfill.as_mut() {
                    backfill.heard(&arrival.symbol);
                }
                self.enter(arrival);
            }
            Decoded::Ignored => ::metrics::counter!(metrics::FRAMES_IGNORED).increment(1),
            Decoded::Dead(dead) => self.bury(dead),
            Decoded::End => {
                self.ended = true;
                self.give_up_what_nobody_has();
            }
        }
    }

    fn enter(&mut self, arrival: Arrival) {
        let contradiction = self.sequencer.contradicts(&arrival).then(|| {
            let reason = format!("field t: trade {} of {} has come before as another", arrival.id, arrival.symbol);
            DeadInput::new(arrival.event.clone(), arrival.received_at, arrival.source.clone(), reason)
        });
        let symbol = arrival.symbol.clone();
        match self.sequencer.enter(arrival, self.clock.now(), &mut self.batch) {
            Verdict::New | Verdict::Filling => {}
            Verdict::NewAfterGap(ids) => {
                ::metrics::counter!(metrics::GAPS_OPENED).increment(1);
                tracing::warn!(%symbol, %ids, count = ids.count(), "gap opened");
            }
            Verdict::Duplicate => {
                self.summary.duplicates += 1;
                ::metrics::counter!(metrics::DUPLICATES_DROPPED).increment(1);
            }
        }
        if let Some(dead) = contradiction {
            self.bury(dead);
        }
    }

    fn bury(&mut self, dead: DeadInput) {
        tracing::warn!(reason = dead.reason, source = %String::from_utf8_lossy(&dead.source), "unusable input");
        ::metrics::counter!(metrics::FRAMES_DEAD).increment(1);
        self.summary.dead += 1;
        self.batch.bury(dead);
    }

    /// Takes what a page brings, and decides when to ask on.
    fn page(&mut self, Page { symbol, asked, from, answer }: Page) {
        let Some(backfill) = self.backfill.as_mut() else { return };
        match answer {
            Ok(events) if asked == Asked::Silence => self.take_news(&symbol, from, &events),
            Ok(events) => self.take_page(&symbol, from, &events),
            Err(HistoryError::Unfillable(reason)) => {
                backfill.unheard(&symbol);
                self.give_up(&symbol, EVERY_ID, &reason);
            }
            Err(HistoryError::Limited { wait, reason }) => {
                tracing::warn!(wait_ms = wait.as_millis(), reason, "backfill paused by the exchange");
                backfill.unanswered(&symbol, asked);
                backfill.pause(wait);
            }
            Err(HistoryError::Unavailable(reason)) => {
                tracing::warn!(%symbol, reason, "history is not available, asking again later");
                backfill.wait(&symbol);
                backfill.unanswered(&symbol, asked);
            }
        }
    }

    /// Takes what came after the last trade of a silent symbol. If it speaks again meanwhile, what it skipped is a
    /// gap like any other.
    fn take_news(&mut self, symbol: &Symbol, from: u64, events: &[Bytes]) {
        let is_silent = self.sequencer.next_id(symbol) == Some(from);
        if is_silent {
            for event in events {
                self.take_past_trade(symbol, event, Asked::Silence);
            }
        }
        let news = self.sequencer.next_id(symbol).filter(|next| is_silent && *next > from);
        if let Some(next) = news {
            tracing::warn!(%symbol, count = next - from, "the stream said nothing of trades that the history has");
        }
        match self.backfill.as_mut() {
            Some(backfill) if news.is_some() => backfill.look_on(symbol),
            Some(backfill) => backfill.unheard(symbol),
            None => {}
        }
    }

    fn take_page(&mut self, symbol: &Symbol, from: u64, events: &[Bytes]) {
        let missing_before = self.sequencer.missing();
        let mut last = None;
        for event in events {
            last = last.max(self.take_past_trade(symbol, event, Asked::Gap));
        }
        // The history is past these ids and does not have them.
        if let Some(absent) = last.and_then(|last| IdRange::new(from, last)) {
            self.give_up(symbol, absent, "the exchange's history has no usable trades of these ids");
        }
        let progress = self.sequencer.missing() < missing_before || last.is_some();
        let patient = match self.backfill.as_mut() {
            Some(backfill) if progress => {
                backfill.progress(symbol);
                true
            }
            Some(backfill) => backfill.wait(symbol),
            None => true,
        };
        if !patient && let Some(ids) = self.sequencer.first_wanted(symbol) {
            self.give_up(symbol, ids, "the exchange's history does not reach them");
        }
    }

    /// Enters a trade of the history if it is missing, or news; its id in any case.
    fn take_past_trade(&mut self, symbol: &Symbol, event: &Bytes, asked: Asked) -> Option<u64> {
        let now = self.clock.now();
        match Trade::from_event(event) {
            Ok(trade) => {
                let is_news =
                    asked == Asked::Silence && self.sequencer.next_id(symbol).is_some_and(|next| next <= trade.id);
                if is_news || self.sequencer.is_missing(symbol, trade.id) {
                    let source = Bytes::from_static(b"history");
                    self.enter(Arrival::new(event.clone(), &trade, Origin::Backfill, now, source));
                    ::metrics::counter!(metrics::TRADES_BACKFILLED).increment(1);
                }
                Some(trade.id)
            }
            Err(error) => {
                let id = claimed_id(event);
                let is_wanted = asked == Asked::Silence || id.is_none_or(|id| self.sequencer.is_missing(symbol, id));
                if is_wanted {
                    let (bytes, source) = (event.clone(), Bytes::from_static(b"history"));
                    self.bury(DeadInput::new(bytes, now, source, error.to_string()));
                }
                id
            }
        }
    }

    fn give_up(&mut self, symbol: &Symbol, ids: IdRange, reason: &str) {
        let settled = self.batch.settled.len();
        self.sequencer.give_up(symbol, ids, reason, self.clock.now(), &mut self.batch);
        let closed = self.batch.settled.len() - settled;
        if closed > 0 {
            tracing::debug!(%symbol, closed, "gaps settled");
        }
    }

    /// At the end of a source without history, what is missing stays so.
    fn give_up_what_nobody_has(&mut self) {
        if self.backfill.is_none() {
            let reason = "the source does not have them and has no history";
            self.sequencer.give_up_all(reason, self.clock.now(), &mut self.batch);
        }
    }

    fn published(&mut self, batch: &Batch) {
        for (at, end) in self.publisher.ends().iter().filter(|(at, _)| at.topic == self.stream) {
            self.sequencer.acknowledged(at.partition, *end);
        }
        let now = self.clock.now();
        for (symbol, ids) in self.publisher.take_foreign() {
            self.sequencer.noticed(&symbol, &ids, now, &mut self.batch);
            // The bounds were taken before anybody knew of these.
            self.to_mark.clear();
            if self.ended {
                self.give_up_what_nobody_has();
            }
        }
        self.fence.settled();
        for arrival in &batch.arrivals {
            self.fence.appended(self.sequencer.partition(&arrival.symbol));
        }
        self.sequencer.mark(std::mem::take(&mut self.to_mark), &mut self.batch);
        let trades = batch.arrivals.len() as u64;
        self.summary.published += trades;
        ::metrics::counter!(metrics::TRADES_PUBLISHED).increment(trades);
        // Of a recording, the time of receipt is long ago.
        if let Some(oldest) = batch.arrivals.iter().find(|arrival| arrival.origin != Origin::Replay) {
            let waited = now.micros_since(oldest.received_at).max(0);
            ::metrics::histogram!(metrics::PUBLISH_LATENCY).record(waited as f64 / 1e6);
        }
        ::metrics::gauge!(metrics::TRADES_MISSING).set(self.sequencer.missing() as f64);
    }

    /// Hands over what is there, within the time there is.
    async fn drained(mut self) -> Result<Summary, IngestError> {
        let deadline = Instant::now() + self.config.drain();
        while self.publisher.is_busy() || !self.batch.is_empty() {
            self.publish();
            match tokio::time::timeout_at(deadline, self.publisher.done()).await {
                Ok(batch) => self.published(&batch?),
                Err(_) => {
                    tracing::warn!("stopped before the log answered, the ids are looked for at the next start");
                    break;
                }
            }
        }
        Ok(self.summary())
    }

    fn summary(&self) -> Summary {
        Summary { missing: self.sequencer.missing(), ..self.summary }
    }
}

const EVERY_ID: IdRange = IdRange { from: 0, to: u64::MAX };

async fn over(due: Option<&mut Pin<Box<Sleep>>>) {
    match due {
        Some(due) => due.await,
        None => std::future::pending().await,
    }
}

async fn next_page(backfill: Option<&mut Backfill>) -> Option<Page> {
    match backfill {
        Some(backfill) => backfill.next().await,
        None => std::future::pending().await,
    }
}

async fn partitions_of(scan: &dyn LogScan, topic: &str, ends: &mut Ends) -> Result<i32, PortError> {
    let bounds = persist("topic", || scan.bounds(topic)).await?;
    let partitions = i32::try_from(bounds.len()).unwrap_or(i32::MAX);
    ends.extend(bounds.into_iter().map(|bounds| (bounds.at, bounds.end)));
    Ok(partitions)
}
