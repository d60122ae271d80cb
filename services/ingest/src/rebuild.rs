//! The ledger made from the log itself, at start.
//!
//! The gaps topic says which ids were ever missing; the stream's tail says how far each symbol has
//! come and which of the missing ids have arrived since. A gap remembers where the stream ended
//! when it opened, so the tail reaches back at least that far. A hole in the tail that no gap
//! explains was left by an append that a crash cut short: it becomes a gap of its own.

use std::collections::{BTreeMap, BTreeSet};

use domain::ledger::{GapState, Ledger, LedgerEvent};
use domain::record::ORIGIN;
use domain::topics::partition_of;
use domain::{IdRange, IdSet, Origin, Position, Record, Symbol, Topics, Trade};
use ports::{Bounds, LogScan, PortError, persist};

use crate::config::IngestConfig;
use crate::sequence::{OpenGap, Sequencer, SymbolLedger};

/// How many records are read at once, going backward.
const STRIDE: i64 = 100_000;

/// What the gaps topic tells of a symbol.
#[derive(Default)]
struct Gaps {
    open: Vec<(OpenGap, IdSet)>,
    unfillable: IdSet,
}

/// What the stream's tail tells of a symbol.
#[derive(Default)]
struct Tail {
    seen: IdSet,
    /// The first id that did not come by backfill: from here on, ids came in order.
    in_order_from: Option<u64>,
    /// Whether the tail reaches back to the log's very first record.
    whole: bool,
}

/// Reads the ledgers of all symbols from the log.
///
/// # Errors
/// If the log cannot be read for a reason that waiting does not mend.
pub async fn rebuild(scan: &dyn LogScan, topics: &Topics, config: &IngestConfig) -> Result<Sequencer, PortError> {
    let gaps = read_gaps(scan, topics).await?;
    let bounds = persist("stream bounds", || scan.bounds(&topics.stream)).await?;
    let partitions = i32::try_from(bounds.len()).unwrap_or(i32::MAX);
    let mut tails = BTreeMap::new();
    for partition in &bounds {
        let here = |symbol: &Symbol| partition_of(symbol.as_str().as_bytes(), partitions) == partition.at.partition;
        let search = Search {
            back_to: gaps.iter().filter(|(symbol, _)| here(symbol)).filter_map(|(_, gaps)| gaps.earliest()).min(),
            wanted: config.symbols.iter().filter(|symbol| here(symbol)).collect(),
            any_symbol: config.symbols.is_empty(),
            limit: i64::try_from(config.rebuild_records).unwrap_or(i64::MAX),
        };
        search.read(scan, partition, &mut tails).await?;
    }
    let ends = bounds.iter().map(|partition| partition.end).collect();
    Ok(Sequencer::new(merged(gaps, tails), ends))
}

/// How far back the tail of one partition is read.
struct Search<'a> {
    back_to: Option<i64>,
    wanted: Vec<&'a Symbol>,
    any_symbol: bool,
    limit: i64,
}

impl Search<'_> {
    async fn read(
        &self,
        scan: &dyn LogScan,
        partition: &Bounds,
        tails: &mut BTreeMap<Symbol, Tail>,
    ) -> Result<(), PortError> {
        let mut found: BTreeMap<Symbol, Tail> = BTreeMap::new();
        let mut end = partition.end;
        while end > partition.first && !self.satisfied(partition, end, &found) {
            let start = (end - STRIDE).max(partition.first);
            let mut stride = BTreeMap::new();
            let from = Position { at: partition.at.clone(), offset: start };
            for_each(scan, from, end, |record| note_trade(record, &mut stride)).await?;
            stride.into_iter().for_each(|(symbol, earlier)| found.entry(symbol).or_default().precede(earlier));
            end = start;
        }
        let missed: Vec<_> = self.wanted.iter().filter(|symbol| !found.contains_key(**symbol)).collect();
        if end > partition.first && !missed.is_empty() {
            tracing::warn!(partition = %partition.at, symbols = missed.len(), "no trade of these symbols near the log's end, starting afresh");
        }
        found.values_mut().for_each(|tail| tail.whole = end == 0);
        tails.append(&mut found);
        Ok(())
    }

    fn satisfied(&self, partition: &Bounds, read_back_to: i64, found: &BTreeMap<Symbol, Tail>) -> bool {
        let reached = self.back_to.is_none_or(|offset| read_back_to <= offset.max(partition.first));
        let all_found = !self.any_symbol && self.wanted.iter().all(|symbol| found.contains_key(*symbol));
        reached && (all_found || partition.end - read_back_to >= self.limit)
    }
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

fn note_trade(record: &Record, found: &mut BTreeMap<Symbol, Tail>) {
    let trade = record.value.as_deref().and_then(|value| Trade::from_event(value).ok());
    if let Some(trade) = trade {
        let tail = found.entry(trade.symbol).or_default();
        tail.seen.insert(trade.id);
        if record.headers.parsed(ORIGIN) != Some(Origin::Backfill) {
            tail.in_order_from.get_or_insert(trade.id);
        }
    }
}

impl Tail {
    /// Takes in what stands right before.
    fn precede(&mut self, earlier: Self) {
        self.seen.extend(earlier.seen.ranges());
        self.in_order_from = earlier.in_order_from.or(self.in_order_from);
    }

    /// Ids up to `high` that should be here and are not.
    fn holes(&self, high: u64) -> Vec<IdRange> {
        let from = if self.whole { self.seen.first() } else { self.in_order_from };
        let span = from.and_then(|from| IdRange::new(from, high));
        span.map_or_else(Vec::new, |span| self.seen.holes(span))
    }
}

async fn read_gaps(scan: &dyn LogScan, topics: &Topics) -> Result<BTreeMap<Symbol, Gaps>, PortError> {
    let mut gaps: BTreeMap<Symbol, Gaps> = BTreeMap::new();
    for Bounds { at, first, end } in persist("gaps bounds", || scan.bounds(&topics.gaps)).await? {
        for_each(scan, Position { at, offset: first }, end, |record| {
            let event = record.value.as_deref().map(LedgerEvent::from_json);
            if let Some(Ok(event)) = event {
                gaps.entry(event.symbol().clone()).or_default().note(event);
            }
        })
        .await?;
    }
    Ok(gaps)
}

impl Gaps {
    fn note(&mut self, event: LedgerEvent) {
        let LedgerEvent::Gap { ids, state, cause, detected_at, stream_offset, .. } = event else { return };
        match state {
            GapState::Open => {
                let gap = OpenGap { ids, cause, detected_at, stream_offset, given_up: IdSet::new() };
                self.open.push((gap, IdSet::new()));
            }
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

    fn settle(&mut self, ids: IdRange) {
        for (gap, settled) in &mut self.open {
            settled.extend(gap.ids.intersection(ids));
        }
        self.open.retain(|(gap, settled)| !settled.holes(gap.ids).is_empty());
    }

    fn earliest(&self) -> Option<i64> {
        self.open.iter().map(|(gap, _)| gap.stream_offset).min()
    }
}

fn merged(mut gaps: BTreeMap<Symbol, Gaps>, mut tails: BTreeMap<Symbol, Tail>) -> BTreeMap<Symbol, SymbolLedger> {
    let symbols: BTreeSet<Symbol> = gaps.keys().chain(tails.keys()).cloned().collect();
    symbols
        .into_iter()
        .map(|symbol| {
            let gaps = gaps.remove(&symbol).unwrap_or_default();
            let tail = tails.remove(&symbol).unwrap_or_default();
            (symbol, ledger_of(gaps, &tail))
        })
        .collect()
}

fn ledger_of(gaps: Gaps, tail: &Tail) -> SymbolLedger {
    let open: Vec<OpenGap> = gaps.open.into_iter().map(|(gap, _)| gap).collect();
    let mut ever_missing = gaps.unfillable.clone();
    ever_missing.extend(open.iter().map(|gap| gap.ids));
    // An announced gap counts as seen even if the trades around it were never appended.
    let high = tail.seen.last().max(ever_missing.last());
    ever_missing.extend(high.into_iter().flat_map(|high| tail.holes(high)));
    let missing = ever_missing.difference(&tail.seen);
    let low = if tail.whole { tail.seen.first().min(ever_missing.first().or(tail.seen.first())) } else { Some(0) };
    let bounds = low.zip(high).and_then(|(low, high)| IdRange::new(low, high));
    SymbolLedger { ledger: Ledger::rebuilt(bounds, missing), open, unfillable: gaps.unfillable }
}
