//! Second stage: the ledger of every symbol. New trades go on, known ones are dropped and counted,
//! jumps open gaps.

use std::collections::{BTreeMap, BTreeSet};

use domain::ledger::{GapState, Ledger, LedgerEvent, Verdict};
use domain::topics::partition_of;
use domain::{IdRange, IdSet, Symbol, Timestamp};

use crate::decode::{Arrival, DeadInput};
use crate::recent::Recent;

/// Ids that the history is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenGap {
    /// All ids of the gap, as it was when it opened.
    pub ids: IdRange,
    /// Why they are missing.
    pub cause: String,
    /// When that was noticed.
    pub detected_at: Timestamp,
    /// The end of the symbol's partition then.
    pub stream_offset: i64,
    /// Ids of it that the history does not have.
    pub given_up: IdSet,
}

/// The ledger of a symbol and the gaps it works on.
#[derive(Clone, Debug, Default)]
pub struct SymbolLedger {
    /// Which ids the log has.
    pub ledger: Ledger,
    /// Gaps that are neither filled nor given up.
    pub open: Vec<OpenGap>,
    /// Ids given up before this run.
    pub unfillable: IdSet,
    /// What was entered lately.
    pub recent: Recent,
}

/// Duplicates by symbol and hour: how many, and the smallest and largest id.
pub type Duplicates = BTreeMap<(Symbol, Timestamp), (u64, IdRange)>;

/// What is to be published together.
///
/// Gaps are published before the trades behind them, and closed after the trades that fill them: so
/// the log never has a hole that no record announces, and never calls one filled that is not.
#[derive(Debug, Default)]
pub struct Batch {
    /// Gaps that opened: published first.
    pub opened: Vec<LedgerEvent>,
    /// New trades.
    pub arrivals: Vec<Arrival>,
    /// Unusable input.
    pub dead: Vec<DeadInput>,
    /// Gaps that closed: published last.
    pub settled: Vec<LedgerEvent>,
    /// Duplicates dropped, by symbol and hour: count, smallest and largest id.
    pub duplicates: Duplicates,
    /// What the trades and the unusable input weigh.
    pub bytes: usize,
}

impl Batch {
    /// Whether there is nothing to publish.
    pub fn is_empty(&self) -> bool {
        self.opened.is_empty()
            && self.arrivals.is_empty()
            && self.dead.is_empty()
            && self.settled.is_empty()
            && self.duplicates.is_empty()
    }

    fn count_duplicates(&mut self, key: (Symbol, Timestamp), more: u64, added: IdRange) {
        let (count, ids) = self.duplicates.entry(key).or_insert((0, added));
        *count += more;
        *ids = IdRange { from: ids.from.min(added.from), to: ids.to.max(added.to) };
    }

    /// Adds unusable input.
    pub fn bury(&mut self, dead: DeadInput) {
        self.bytes += dead.weight();
        self.dead.push(dead);
    }
}

/// The ledgers of all symbols.
#[derive(Debug)]
pub struct Sequencer {
    symbols: BTreeMap<Symbol, SymbolLedger>,
    /// Those that have open gaps: usually none, and every turn of the loop asks.
    with_open_gaps: BTreeSet<Symbol>,
    /// The next offset of each partition of the stream, as far as acknowledged.
    ends: Vec<i64>,
    /// The offset of each partition's last mark.
    marked: Vec<i64>,
    /// Gaps that a rebuild found, and no record of the log announces yet.
    unannounced: Vec<LedgerEvent>,
}

impl Sequencer {
    /// From ledgers, partition ends and marks as the log has them.
    pub fn new(symbols: BTreeMap<Symbol, SymbolLedger>, ends: Vec<i64>, marked: Vec<i64>) -> Self {
        assert!(!ends.is_empty(), "the stream has partitions");
        let mut sequencer = Self { symbols, with_open_gaps: BTreeSet::new(), ends, marked, unannounced: Vec::new() };
        sequencer.look_for_open_gaps();
        sequencer
    }

    fn look_for_open_gaps(&mut self) {
        let open = self.symbols.iter().filter(|(_, ledger)| !ledger.open.is_empty());
        self.with_open_gaps = open.map(|(symbol, _)| symbol.clone()).collect();
    }

    fn look_for_open_gaps_of(&mut self, symbol: &Symbol) {
        if self.symbols.get(symbol).is_some_and(|ledger| !ledger.open.is_empty()) {
            self.with_open_gaps.insert(symbol.clone());
        } else {
            self.with_open_gaps.remove(symbol);
        }
    }

    /// The ledgers' bounds in the partitions that have not been marked for `every` records. Once
    /// everything that the ledgers have now is acknowledged, they can be [`Sequencer::mark`]s.
    pub fn unmarked(&self, every: i64) -> BTreeMap<i32, BTreeMap<Symbol, IdRange>> {
        let far = |(end, marked): (&i64, &i64)| end - marked >= every;
        let due: Vec<bool> = self.ends.iter().zip(&self.marked).map(far).collect();
        let mut bounds: BTreeMap<i32, BTreeMap<Symbol, IdRange>> = BTreeMap::new();
        if due.contains(&true) {
            for (symbol, ledger) in &self.symbols {
                let partition = self.partition(symbol);
                if due[index(partition)]
                    && let Some(ids) = ledger.ledger.bounds()
                {
                    bounds.entry(partition).or_default().insert(symbol.clone(), ids);
                }
            }
        }
        bounds
    }

    /// Marks how far partitions have come, now that what `bounds` speaks of is acknowledged.
    pub fn mark(&mut self, bounds: BTreeMap<i32, BTreeMap<Symbol, IdRange>>, batch: &mut Batch) {
        for (partition, symbols) in bounds {
            let stream_offset = self.ends[index(partition)];
            self.marked[index(partition)] = stream_offset;
            batch.settled.push(LedgerEvent::Mark { partition, stream_offset, symbols });
        }
    }

    /// Adds gaps that nobody has announced: ids of which an append that was cut short left no trace.
    pub fn open_silent(&mut self, now: Timestamp) {
        for (symbol, ledger) in &mut self.symbols {
            let mut announced: IdSet = ledger.open.iter().map(|gap| gap.ids).collect();
            announced.extend(ledger.unfillable.ranges());
            let end = self.ends[index(partition_in(symbol, &self.ends))];
            // A crash came between the trade and the word that it is there after all.
            for ids in ledger.unfillable.difference(ledger.ledger.missing()).ranges() {
                let gap = OpenGap::found(ids, now, end);
                self.unannounced.push(gap.event(symbol, ids, GapState::Filled, Some(now)));
            }
            for ids in ledger.ledger.missing().difference(&announced).ranges() {
                let gap = OpenGap { cause: "an append was cut short".to_owned(), ..OpenGap::found(ids, now, end) };
                self.unannounced.push(gap.event(symbol, ids, GapState::Open, None));
                ledger.open.push(gap);
            }
        }
        self.look_for_open_gaps();
    }

    /// The partition of a symbol.
    pub fn partition(&self, symbol: &Symbol) -> i32 {
        partition_in(symbol, &self.ends)
    }

    /// Whether a trade has the id of one that was entered lately, and is another.
    pub fn contradicts(&self, arrival: &Arrival) -> bool {
        self.symbols.get(&arrival.symbol).is_some_and(|symbol| symbol.recent.contradicts(arrival.id, arrival.print))
    }

    /// Enters a trade: into the batch if it is new, into the count of duplicates if not.
    pub fn enter(&mut self, arrival: Arrival, now: Timestamp, batch: &mut Batch) -> Verdict {
        let partition = self.partition(&arrival.symbol);
        let end = self.ends[index(partition)];
        let symbol = self.symbols.entry(arrival.symbol.clone()).or_default();
        let verdict = symbol.ledger.enter(arrival.id);
        match verdict {
            Verdict::New => {}
            Verdict::NewAfterGap(ids) => {
                let gap = OpenGap::found(ids, now, end);
                batch.opened.push(gap.event(&arrival.symbol, ids, GapState::Open, None));
                symbol.open.push(gap);
            }
            Verdict::Filling => symbol.filled(&arrival.symbol, arrival.id, now, end, batch),
            Verdict::Duplicate => {
                batch.count_duplicates((arrival.symbol, arrival.hour), 1, IdRange::one(arrival.id));
                return verdict;
            }
        }
        symbol.recent.note(arrival.id, arrival.print);
        if verdict != Verdict::New {
            self.look_for_open_gaps_of(&arrival.symbol);
        }
        batch.bytes += arrival.weight();
        batch.arrivals.push(arrival);
        verdict
    }

    /// Enters trades that others have appended: they are there, and what they skip is a gap.
    pub fn noticed(&mut self, symbol: &Symbol, ids: &IdSet, now: Timestamp, batch: &mut Batch) {
        let end = self.ends[index(self.partition(symbol))];
        let ledger = self.symbols.entry(symbol.clone()).or_default();
        let high = ledger.ledger.high().unwrap_or(0);
        // Away from what is known, so that only what is between them is a gap.
        let (above, below): (Vec<u64>, Vec<u64>) =
            ids.ranges().flat_map(|ids| ids.from..=ids.to).partition(|id| *id > high);
        for id in above.into_iter().chain(below.into_iter().rev()) {
            match ledger.ledger.enter(id) {
                Verdict::New | Verdict::Duplicate => {}
                Verdict::NewAfterGap(ids) => {
                    let gap = OpenGap::found(ids, now, end);
                    batch.opened.push(gap.event(symbol, ids, GapState::Open, None));
                    ledger.open.push(gap);
                }
                Verdict::Filling => ledger.filled(symbol, id, now, end, batch),
            }
        }
        self.look_for_open_gaps_of(symbol);
    }

    /// The id after the last one that is known of a symbol.
    pub fn next_id(&self, symbol: &Symbol) -> Option<u64> {
        self.symbols.get(symbol)?.ledger.high()?.checked_add(1)
    }

    /// Whether an id is missing.
    pub fn is_missing(&self, symbol: &Symbol, id: u64) -> bool {
        self.symbols.get(symbol).is_some_and(|symbol| symbol.ledger.missing().contains(id))
    }

    /// Gives up those of the ids that are still missing: the source does not have them.
    pub fn give_up(&mut self, symbol: &Symbol, ids: IdRange, reason: &str, now: Timestamp, batch: &mut Batch) {
        let Some(ledger) = self.symbols.get_mut(symbol) else { return };
        for gap in &mut ledger.open {
            let lost = gap.ids.intersection(ids).map(|lost| ledger.ledger.missing().within(lost)).unwrap_or_default();
            if !lost.is_empty() {
                gap.given_up.extend(lost);
                reason.clone_into(&mut gap.cause);
            }
        }
        ledger.settle(symbol, now, batch);
        self.look_for_open_gaps_of(symbol);
    }

    /// Gives up whatever is missing: the source is at its end and has no history.
    pub fn give_up_all(&mut self, reason: &str, now: Timestamp, batch: &mut Batch) {
        for symbol in self.with_open_gaps.clone() {
            self.give_up(&symbol, IdRange { from: 0, to: u64::MAX }, reason, now, batch);
        }
    }

    /// Announces what a rebuild found, and closes gaps that turn out to be filled already.
    pub fn settle(&mut self, now: Timestamp, batch: &mut Batch) {
        batch.opened.append(&mut self.unannounced);
        for (symbol, ledger) in &mut self.symbols {
            ledger.settle(symbol, now, batch);
        }
        self.look_for_open_gaps();
    }

    /// The symbols that have open gaps.
    pub fn with_open_gaps(&self) -> &BTreeSet<Symbol> {
        &self.with_open_gaps
    }

    /// The first ids that the history has to be asked for.
    pub fn first_wanted(&self, symbol: &Symbol) -> Option<IdRange> {
        let ledger = self.symbols.get(symbol)?;
        ledger.open.iter().flat_map(|gap| ledger.wanted(gap)).min()
    }

    /// How many ids are missing.
    pub fn missing(&self) -> u64 {
        self.symbols.values().map(|symbol| symbol.ledger.missing().len()).sum()
    }

    /// Notes how far the log acknowledged a partition of the stream.
    pub fn acknowledged(&mut self, partition: i32, next: i64) {
        if let Some(end) = usize::try_from(partition).ok().and_then(|at| self.ends.get_mut(at)) {
            *end = next.max(*end);
        }
    }
}

fn index(partition: i32) -> usize {
    usize::try_from(partition).expect("partitions are not negative")
}

fn partition_in(symbol: &Symbol, ends: &[i64]) -> i32 {
    let partitions = i32::try_from(ends.len()).expect("Kafka counts partitions in 32 bits");
    partition_of(symbol.as_str().as_bytes(), partitions)
}

impl SymbolLedger {
    /// Ids of a gap that are missing and not given up.
    fn wanted(&self, gap: &OpenGap) -> Vec<IdRange> {
        let missing = self.ledger.missing().within(gap.ids);
        missing.into_iter().flat_map(|ids| gap.given_up.holes(ids)).collect()
    }

    fn filled(&mut self, symbol: &Symbol, id: u64, now: Timestamp, end: i64, batch: &mut Batch) {
        if self.open.iter().any(|gap| gap.ids.intersection(IdRange::one(id)).is_some()) {
            self.settle(symbol, now, batch);
        } else {
            self.resurrected(symbol, id, now, end, batch);
        }
    }

    /// An id arrived after it was given up: its range is split around it.
    fn resurrected(&self, symbol: &Symbol, id: u64, now: Timestamp, end: i64, batch: &mut Batch) {
        let missing = self.ledger.missing();
        let neighbours = IdRange { from: id.saturating_sub(1), to: id.saturating_add(1) };
        let around = missing.ranges().filter(|ids| ids.intersection(neighbours).is_some());
        let gap = OpenGap::found(IdRange::one(id), now, end);
        let still = around.map(|ids| gap.event(symbol, ids, GapState::Unfillable, Some(now)));
        batch.settled.extend(still);
        batch.settled.push(gap.event(symbol, gap.ids, GapState::Filled, Some(now)));
    }

    fn settle(&mut self, symbol: &Symbol, now: Timestamp, batch: &mut Batch) {
        let (open, closed) = std::mem::take(&mut self.open).into_iter().partition(|gap| !self.wanted(gap).is_empty());
        self.open = open;
        for gap in closed {
            let missing = self.ledger.missing();
            let filled = missing.holes(gap.ids).into_iter().map(|ids| (ids, GapState::Filled));
            let lost = missing.within(gap.ids).into_iter().map(|ids| (ids, GapState::Unfillable));
            batch.settled.extend(filled.chain(lost).map(|(ids, state)| gap.event(symbol, ids, state, Some(now))));
        }
    }
}

impl OpenGap {
    fn found(ids: IdRange, now: Timestamp, stream_offset: i64) -> Self {
        let cause = "the stream skipped ids".to_owned();
        Self { ids, cause, detected_at: now, stream_offset, given_up: IdSet::new() }
    }

    fn event(&self, symbol: &Symbol, ids: IdRange, state: GapState, closed_at: Option<Timestamp>) -> LedgerEvent {
        LedgerEvent::Gap {
            symbol: symbol.clone(),
            ids,
            state,
            cause: self.cause.clone(),
            detected_at: self.detected_at,
            closed_at,
            stream_offset: self.stream_offset,
        }
    }
}
