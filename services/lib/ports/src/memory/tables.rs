//! Tables in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use domain::{CompletenessRow, DuplicatesRow, GapRow, Symbol, Timestamp, TopicPartition, TradeRow};

use super::chaos::{Chaos, Extent, Kind};
use crate::{Checkpoint, CompletenessView, PortError, TableQuery, Tables};

const SYSTEM: &str = "memory tables";
const WRITE: Kind = Kind { system: SYSTEM, partial: true, late: true };

/// Tables in memory. Cloning gives another handle to the same ones.
#[derive(Clone)]
pub struct MemoryTables {
    state: Arc<Mutex<State>>,
    chaos: Chaos,
}

type Key = (Symbol, Timestamp);

#[derive(Default)]
struct State {
    trades: BTreeMap<Key, BTreeMap<(i64, u64), TradeRow>>,
    gaps: BTreeMap<(Symbol, u64), GapRow>,
    completeness: BTreeMap<Key, CompletenessView>,
    checkpoints: BTreeMap<(String, TopicPartition), Checkpoint>,
    conflicts: u64,
}

impl MemoryTables {
    /// Empty tables.
    pub fn new(chaos: &Chaos) -> Self {
        Self { state: Arc::default(), chaos: chaos.clone() }
    }

    /// All trades, in order of symbol, time and id, without any misfortune: for checkers.
    pub fn all_trades(&self) -> Vec<TradeRow> {
        lock(&self.state).trades.values().flat_map(BTreeMap::values).cloned().collect()
    }

    /// How often a trade was written over with another content, which a correct service never does.
    pub fn conflicts(&self) -> u64 {
        lock(&self.state).conflicts
    }

    async fn write<R: Clone + Send + 'static>(
        &self,
        what: &str,
        rows: &[R],
        put: fn(&mut State, R),
    ) -> Result<(), PortError> {
        let (state, rows) = (self.state.clone(), rows.to_vec());
        let count = rows.len();
        let act = move |mut extent: Extent| {
            let mut state = lock(&state);
            rows.into_iter().filter(|_| extent.includes()).for_each(|row| put(&mut state, row));
            Ok(())
        };
        self.chaos.perform(WRITE, || format!("write {count} {what}"), act).await
    }
}

#[async_trait]
impl Tables for MemoryTables {
    async fn write_trades(&self, rows: &[TradeRow]) -> Result<(), PortError> {
        let put = |state: &mut State, row: TradeRow| {
            let hour = state.trades.entry((row.trade.symbol.clone(), row.hour())).or_default();
            let before = hour.insert((row.trade.trade_time.millis(), row.trade.id), row.clone());
            let conflict = before.is_some_and(|before| before.trade != row.trade);
            state.conflicts += u64::from(conflict);
        };
        self.write("trades", rows, put).await
    }

    async fn mend_trades(&self, wrong: &[TradeRow], right: &[TradeRow], _: Timestamp) -> Result<(), PortError> {
        let keys: BTreeSet<_> = wrong.iter().chain(right).map(|row| (&row.trade.symbol, row.hour())).collect();
        if keys.len() > 1 {
            return Err(PortError::refused(SYSTEM, "trades of several symbols or hours to be mended together"));
        }
        let take = |state: &mut State, row: TradeRow| {
            let hour = state.trades.entry((row.trade.symbol.clone(), row.hour())).or_default();
            hour.remove(&(row.trade.trade_time.millis(), row.trade.id));
        };
        self.write("wrong trades", wrong, take).await?;
        self.write_trades(right).await
    }

    async fn write_gaps(&self, rows: &[GapRow]) -> Result<(), PortError> {
        let put = |state: &mut State, row: GapRow| {
            let gap = state.gaps.entry((row.symbol.clone(), row.ids.from)).or_insert_with(|| row.clone());
            if gap.version <= row.version {
                *gap = row;
            }
        };
        self.write("gaps", rows, put).await
    }

    async fn write_completeness(&self, rows: &[CompletenessRow]) -> Result<(), PortError> {
        let put = |state: &mut State, row: CompletenessRow| {
            let view = state.view(&row.symbol, row.hour);
            if view.trades.as_ref().is_none_or(|before| before.version <= row.version) {
                view.trades = Some(row);
            }
        };
        self.write("rows of completeness", rows, put).await
    }

    async fn write_duplicates(&self, rows: &[DuplicatesRow]) -> Result<(), PortError> {
        let put = |state: &mut State, row: DuplicatesRow| {
            let view = state.view(&row.symbol, row.hour);
            if view.duplicates.as_ref().is_none_or(|before| before.version <= row.version) {
                view.duplicates = Some(row);
            }
        };
        self.write("rows of duplicates", rows, put).await
    }

    async fn save_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), PortError> {
        let put = |state: &mut State, saved: Checkpoint| {
            let key = (saved.role.clone(), saved.next.at.clone());
            let known = state.checkpoints.entry(key).or_insert_with(|| saved.clone());
            if known.next.offset <= saved.next.offset {
                *known = saved;
            }
        };
        let what = format!("checkpoint of {} at {}@{}", checkpoint.role, checkpoint.next.at, checkpoint.next.offset);
        self.write(&what, std::slice::from_ref(checkpoint), put).await
    }
}

#[async_trait]
impl TableQuery for MemoryTables {
    async fn load_checkpoint(&self, role: &str, at: &TopicPartition) -> Result<Option<Checkpoint>, PortError> {
        let answer = || Ok(lock(&self.state).checkpoints.get(&(role.to_owned(), at.clone())).cloned());
        self.chaos.ask(SYSTEM, || format!("load checkpoint of {role} at {at}"), answer).await
    }

    async fn trades(
        &self,
        symbol: &Symbol,
        hour: Timestamp,
        after: Option<(Timestamp, u64)>,
        limit: usize,
    ) -> Result<Vec<TradeRow>, PortError> {
        let answer = || {
            let state = lock(&self.state);
            let after = after.map(|(time, id)| (time.millis(), id));
            let rows = state.trades.get(&(symbol.clone(), hour)).into_iter().flatten();
            let behind = rows.filter(|(key, _)| after.is_none_or(|after| **key > after));
            Ok(behind.take(limit).map(|(_, row)| row.clone()).collect())
        };
        self.chaos.ask(SYSTEM, || format!("query trades of {symbol} {hour}"), answer).await
    }

    async fn count_trades(&self, symbol: &Symbol, hour: Timestamp) -> Result<u64, PortError> {
        let answer = || Ok(lock(&self.state).trades.get(&(symbol.clone(), hour)).map_or(0, |rows| rows.len() as u64));
        self.chaos.ask(SYSTEM, || format!("count trades of {symbol} {hour}"), answer).await
    }

    async fn gaps(&self, symbol: &Symbol) -> Result<Vec<GapRow>, PortError> {
        let answer = || {
            let state = lock(&self.state);
            let rows = state.gaps.range((symbol.clone(), 0)..=(symbol.clone(), u64::MAX));
            Ok(rows.map(|(_, row)| row.clone()).collect())
        };
        self.chaos.ask(SYSTEM, || format!("query gaps of {symbol}"), answer).await
    }

    async fn completeness(&self, symbol: &Symbol, day: Timestamp) -> Result<Vec<CompletenessView>, PortError> {
        let answer = || {
            let state = lock(&self.state);
            let from_day = state.completeness.range((symbol.clone(), day)..);
            let of_day = from_day.take_while(|((of, hour), _)| of == symbol && hour.day() == day);
            Ok(of_day.map(|(_, view)| view.clone()).collect())
        };
        self.chaos.ask(SYSTEM, || format!("query completeness of {symbol} {day}"), answer).await
    }
}

impl State {
    fn view(&mut self, symbol: &Symbol, hour: Timestamp) -> &mut CompletenessView {
        let empty = || CompletenessView { hour, trades: None, duplicates: None };
        self.completeness.entry((symbol.clone(), hour)).or_insert_with(empty)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
