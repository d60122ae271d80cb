//! What goes wrong with the trades on their way into the stream.

use std::collections::VecDeque;
use std::sync::Mutex;

use domain::IdRange;

use crate::market::Tick;
use crate::shared::lock;

/// What is to go wrong next, for whichever trades come.
#[derive(Debug, Default)]
pub(crate) struct Tamper(Mutex<Orders>);

#[derive(Debug, Default)]
struct Orders {
    skips: VecDeque<Skip>,
    duplicate: u64,
    reorder: u64,
    malformed: u64,
    /// Chooses the next malformed frame.
    turn: u64,
}

#[derive(Debug)]
struct Skip {
    place: usize,
    count: u64,
    rest: bool,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Trade(Tick),
    /// Rubbish before a trade; the number chooses its kind.
    Malformed(Tick, u64),
}

/// What becomes of some trades.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) items: Vec<Item>,
    /// What is left out, and whether REST has it.
    pub(crate) left_out: Vec<(IdRange, bool)>,
}

impl Tamper {
    pub(crate) fn skip(&self, place: usize, count: u64, rest: bool) {
        lock(&self.0).skips.push_back(Skip { place, count, rest });
    }

    pub(crate) fn duplicate(&self, count: u64) {
        let mut orders = lock(&self.0);
        orders.duplicate = orders.duplicate.saturating_add(count);
    }

    pub(crate) fn reorder(&self, count: u64) {
        let mut orders = lock(&self.0);
        orders.reorder = orders.reorder.saturating_add(count);
    }

    pub(crate) fn malformed(&self, count: u64) {
        let mut orders = lock(&self.0);
        orders.malformed = orders.malformed.saturating_add(count);
    }

    /// What becomes of a symbol's next trades; `None` if nothing goes wrong with them. A trade that
    /// changes places with the next one is `held` until that comes. The market's last trade is
    /// never left out or held: nothing after it would tell that it is missing.
    pub(crate) fn apply(
        &self,
        place: usize,
        last_id: Option<u64>,
        ticks: &[Tick],
        held: &mut Option<Tick>,
    ) -> Option<Plan> {
        let mut orders = lock(&self.0);
        if held.is_none() && orders.is_quiet(place) {
            return None;
        }
        let mut plan = Plan::default();
        for tick in ticks {
            let is_last = last_id == Some(tick.id);
            if !is_last && let Some(rest) = orders.take_skip(place) {
                plan.leave_out(tick.id, rest);
                continue;
            }
            if !is_last && held.is_none() && take(&mut orders.reorder) {
                *held = Some(*tick);
                continue;
            }
            orders.send(tick, &mut plan);
            if let Some(earlier) = held.take() {
                plan.items.push(Item::Trade(earlier));
            }
        }
        Some(plan)
    }
}

impl Orders {
    fn is_quiet(&self, place: usize) -> bool {
        let skips = self.skips.iter().any(|skip| skip.place == place);
        !skips && self.duplicate == 0 && self.reorder == 0 && self.malformed == 0
    }

    /// Takes one trade of the symbol out; whether REST has it.
    fn take_skip(&mut self, place: usize) -> Option<bool> {
        let at = self.skips.iter().position(|skip| skip.place == place)?;
        let skip = &mut self.skips[at];
        let rest = skip.rest;
        skip.count -= 1;
        if skip.count == 0 {
            self.skips.remove(at);
        }
        Some(rest)
    }

    fn send(&mut self, tick: &Tick, plan: &mut Plan) {
        if take(&mut self.malformed) {
            plan.items.push(Item::Malformed(*tick, self.turn));
            self.turn += 1;
        }
        plan.items.push(Item::Trade(*tick));
        if take(&mut self.duplicate) {
            plan.items.push(Item::Trade(*tick));
        }
    }
}

impl Plan {
    fn leave_out(&mut self, id: u64, rest: bool) {
        match self.left_out.last_mut() {
            Some((ids, same)) if *same == rest && ids.to + 1 == id => ids.to = id,
            _ => self.left_out.push((IdRange::one(id), rest)),
        }
    }
}

fn take(count: &mut u64) -> bool {
    let some = *count > 0;
    *count -= u64::from(some);
    some
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Market, SimConfig};

    fn ticks(count: usize) -> Vec<Tick> {
        let config = SimConfig { epoch_ms: Some(1_700_000_000_000), ..SimConfig::default() };
        Market::new(&config).unwrap().symbols()[0].ticks_from(1).take(count).collect()
    }

    fn ids(plan: &Plan) -> Vec<i64> {
        let id = |item: &Item| match item {
            Item::Trade(tick) => tick.id as i64,
            Item::Malformed(tick, _) => -(tick.id as i64),
        };
        plan.items.iter().map(id).collect()
    }

    #[test]
    fn nothing_asked_for_is_nothing_done() {
        assert!(Tamper::default().apply(0, None, &ticks(3), &mut None).is_none());
    }

    #[test]
    fn skips_concern_their_symbol_and_say_what_was_left_out() {
        let tamper = Tamper::default();
        tamper.skip(1, 2, true);
        tamper.skip(0, 2, false);
        tamper.skip(0, 1, true);
        let plan = tamper.apply(0, None, &ticks(5), &mut None).unwrap();
        assert_eq!(ids(&plan), [4, 5]);
        assert_eq!(plan.left_out, [(IdRange { from: 1, to: 2 }, false), (IdRange::one(3), true)]);
        assert!(tamper.apply(0, None, &ticks(5), &mut None).is_none());
    }

    #[test]
    fn duplicates_disorder_and_rubbish() {
        let tamper = Tamper::default();
        tamper.duplicate(1);
        tamper.reorder(2);
        tamper.malformed(1);
        let (mut held, ticks) = (None, ticks(5));
        let first = tamper.apply(0, Some(5), &ticks[..3], &mut held).unwrap();
        assert_eq!(ids(&first), [-2, 2, 2, 1]);
        let second = tamper.apply(0, Some(5), &ticks[3..], &mut held).unwrap();
        assert_eq!(ids(&second), [4, 3, 5]);
        assert_eq!(held, None);
    }

    #[test]
    fn the_last_trade_is_always_sent() {
        let tamper = Tamper::default();
        tamper.skip(0, 100, false);
        tamper.reorder(100);
        assert_eq!(ids(&tamper.apply(0, Some(5), &ticks(5), &mut None).unwrap()), [5]);
    }
}
