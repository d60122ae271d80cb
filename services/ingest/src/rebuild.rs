//! The ledger made from the log itself, at start.
//!
//! The gaps topic says which ids were ever missing, and marks how far each partition of the stream had
//! come; the stream's tail says what came since, and which of the missing ids have arrived. A gap
//! remembers where the stream ended when it opened, so the tail reaches back at least that far. A hole
//! that no gap explains was left by an append that a crash cut short: it becomes a gap of its own.
//!
//! ```text
//!   stream  ──────────────────────┬─────────────┬──────────────▶ end
//!                 not read        │ oldest open │  last mark       read: from the earlier of both
//! ```

use std::collections::{BTreeMap, BTreeSet};

use domain::ledger::{GapState, Ledger, LedgerEvent};
use domain::topics::partition_of;
use domain::{IdRange, IdSet, Position, Record, Symbol, Topics, Trade};
use ports::{Bounds, LogScan, PortError, persist};

use crate::sequence::{OpenGap, Sequencer, SymbolLedger};

/// Older marks are of use only if the log lost its end, and with it what newer ones speak of.
const MARKS_KEPT: usize = 4;

/// What the gaps topic tells.
#[derive(Default)]
struct Told {
    gaps: BTreeMap<Symbol, Gaps>,
    /// The marks of each partition, by offset.
    marks: BTreeMap<(i32, i64), BTreeMap<Symbol, IdRange>>,
}

/// The gaps of a symbol.
#[derive(Default)]
struct Gaps {
    open: Vec<(OpenGap, IdSet)>,
    unfillable: IdSet,
}

/// Reads the ledgers of all symbols from the log.
///
/// # Errors
/// If the log cannot be read for a reason that waiting does not mend.
pub async fn rebuild(scan: &dyn LogScan, topics: &Topics) -> Result<Sequencer, PortError> {
    let bounds = persist("stream bounds", || scan.bounds(&topics.stream)).await?;
    let mut told = read_gaps(scan, topics).await?;
    let partitions = i32::try_from(bounds.len()).unwrap_or(i32::MAX);
    let mut symbols = BTreeMap::new();
    let mut marked = Vec::new();
    for Bounds { at, first, end } in &bounds {
        let (offset, mark) = told.last_mark(at.partition, *end).unwrap_or((*first, BTreeMap::new()));
        let here = |symbol: &Symbol| partition_of(symbol.as_str().as_bytes(), partitions) == at.partition;
        let gaps: BTreeMap<Symbol, Gaps> = told.gaps.extract_if(.., |symbol, _| here(symbol)).collect();
        let start = gaps.values().filter_map(Gaps::earliest).min().map_or(offset, |gap| gap.min(offset)).max(*first);
        let seen = ids_from(scan, Position { at: at.clone(), offset: start }, *end).await?;
        symbols.extend(ledgers(gaps, &mark, &seen));
        marked.push(offset);
    }
    let ends = bounds.iter().map(|partition| partition.end).collect();
    Ok(Sequencer::new(symbols, ends, marked))
}

/// Calls `note` with all records of a partition from a position up to `end`.
///
/// # Errors
/// If the log cannot be read.
pub async fn for_each(
    scan: &dyn LogScan,
    mut from: Position,
    end: i64,
    mut note: impl FnMut(&Record),
) -> Result<(), PortError> {
    while from.offset < end {
        let records = persist("log scan", || scan.read(&from, end)).await?;
        let Some(last) = records.last() else { return Ok(()) };
        from.offset = last.offset + 1;
        records.iter().for_each(&mut note);
    }
    Ok(())
}

/// The trade ids of a partition from a position on, by symbol.
async fn ids_from(scan: &dyn LogScan, from: Position, end: i64) -> Result<BTreeMap<Symbol, IdSet>, PortError> {
    let mut seen: BTreeMap<Symbol, IdSet> = BTreeMap::new();
    for_each(scan, from, end, |record| {
        let trade = record.value.as_deref().and_then(|value| Trade::from_event(value).ok());
        if let Some(trade) = trade {
            seen.entry(trade.symbol).or_default().insert(trade.id);
        }
    })
    .await?;
    Ok(seen)
}

async fn read_gaps(scan: &dyn LogScan, topics: &Topics) -> Result<Told, PortError> {
    let mut told = Told::default();
    for Bounds { at, first, end } in persist("gaps bounds", || scan.bounds(&topics.gaps)).await? {
        for_each(scan, Position { at, offset: first }, end, |record| {
            if let Some(Ok(event)) = record.value.as_deref().map(LedgerEvent::from_json) {
                told.note(event);
            }
        })
        .await?;
    }
    Ok(told)
}

impl Told {
    fn note(&mut self, event: LedgerEvent) {
        match event {
            LedgerEvent::Gap { symbol, ids, state, cause, detected_at, stream_offset, .. } => {
                let gap = OpenGap { ids, cause, detected_at, stream_offset, given_up: IdSet::new() };
                self.gaps.entry(symbol).or_default().note(gap, state);
            }
            LedgerEvent::Duplicates { .. } => {}
            LedgerEvent::Mark { partition, stream_offset, symbols } => {
                self.marks.insert((partition, stream_offset), symbols);
                let mut known =
                    self.marks.range((partition, i64::MIN)..=(partition, i64::MAX)).map(|(place, _)| *place);
                if let (Some(oldest), true) = (known.next(), known.count() >= MARKS_KEPT) {
                    self.marks.remove(&oldest);
                }
            }
        }
    }

    /// The last mark of a partition. One beyond the log's end speaks of records that the log has lost.
    fn last_mark(&mut self, partition: i32, end: i64) -> Option<(i64, BTreeMap<Symbol, IdRange>)> {
        let place = *self.marks.range((partition, 0)..=(partition, end)).next_back()?.0;
        self.marks.remove(&place).map(|symbols| (place.1, symbols))
    }
}

impl Gaps {
    fn note(&mut self, gap: OpenGap, state: GapState) {
        let ids = gap.ids;
        match state {
            GapState::Open => self.open.push((gap, IdSet::new())),
            GapState::Filled => {
                self.unfillable.remove_range(ids);
                self.settle(ids);
            }
            GapState::Unfillable => {
                self.unfillable.insert_range(ids);
                self.settle(ids);
            }
        }
    }

    /// A gap is closed by records of its own, which tell parts of it. One that another, larger gap covers
    /// was announced late, by a predecessor, and has to be closed by itself.
    fn settle(&mut self, ids: IdRange) {
        for (gap, settled) in &mut self.open {
            settled.extend(gap.ids.intersection(ids).filter(|part| *part == ids));
        }
        self.open.retain(|(gap, settled)| !settled.holes(gap.ids).is_empty());
    }

    fn earliest(&self) -> Option<i64> {
        self.open.iter().map(|(gap, _)| gap.stream_offset).min()
    }
}

/// The ledgers of one partition: `mark` is what stands before its offset, `seen` what was read.
fn ledgers(
    mut gaps: BTreeMap<Symbol, Gaps>,
    mark: &BTreeMap<Symbol, IdRange>,
    seen: &BTreeMap<Symbol, IdSet>,
) -> BTreeMap<Symbol, SymbolLedger> {
    let symbols: BTreeSet<Symbol> = gaps.keys().chain(mark.keys()).chain(seen.keys()).cloned().collect();
    let ledger = |symbol: Symbol| {
        let (gaps, nothing) = (gaps.remove(&symbol).unwrap_or_default(), IdSet::new());
        let ledger = ledger_of(gaps, mark.get(&symbol).copied(), seen.get(&symbol).unwrap_or(&nothing));
        (symbol, ledger)
    };
    symbols.into_iter().map(ledger).collect()
}

fn ledger_of(gaps: Gaps, marked: Option<IdRange>, seen: &IdSet) -> SymbolLedger {
    let open: Vec<OpenGap> = gaps.open.into_iter().map(|(gap, _)| gap).collect();
    let mut ever_missing = gaps.unfillable.clone();
    ever_missing.extend(open.iter().map(|gap| gap.ids));
    // An announced gap counts as known even if the trades around it were never appended.
    let mut known = seen.clone();
    known.extend(marked);
    known.extend(ever_missing.ranges());
    let bounds = known.first().zip(known.last()).and_then(|(low, high)| IdRange::new(low, high));
    // Holes that nobody announced: an append was cut short.
    ever_missing.extend(bounds.into_iter().flat_map(|bounds| known.holes(bounds)));
    let missing = ever_missing.difference(seen);
    let ledger = Ledger::rebuilt(bounds, missing);
    SymbolLedger { ledger, open, unfillable: gaps.unfillable, ..SymbolLedger::default() }
}
