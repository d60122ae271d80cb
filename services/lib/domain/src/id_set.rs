//! Sets of trade ids, kept as intervals: ids are consecutive per symbol, so a day of trades
//! without a gap is one interval.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Consecutive trade ids, both ends included. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IdRange {
    /// The first id.
    pub from: u64,
    /// The last id.
    pub to: u64,
}

impl IdRange {
    /// The ids `from..=to`; `None` if there are none.
    pub fn new(from: u64, to: u64) -> Option<Self> {
        (from <= to).then_some(Self { from, to })
    }

    /// One id.
    pub fn one(id: u64) -> Self {
        Self { from: id, to: id }
    }

    /// How many ids; saturates for the whole of `u64`.
    pub fn count(self) -> u64 {
        (self.to - self.from).saturating_add(1)
    }

    /// The ids that both ranges have.
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.from.max(other.from), self.to.min(other.to))
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to { write!(f, "{}", self.from) } else { write!(f, "{}-{}", self.from, self.to) }
    }
}

/// A set of trade ids.
///
/// Memory and the cost of most operations depend on the number of gaps, not on the number of ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<IdRange>", into = "Vec<IdRange>")]
pub struct IdSet {
    /// First id to last id of each interval; neither overlapping nor adjacent.
    intervals: BTreeMap<u64, u64>,
}

impl IdSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an id; false if it was there.
    pub fn insert(&mut self, id: u64) -> bool {
        // Nearly all ids come in order.
        if let Some(mut last) = self.intervals.last_entry()
            && last.get().checked_add(1) == Some(id)
        {
            last.insert(id);
            return true;
        }
        if self.contains(id) {
            return false;
        }
        self.insert_range(IdRange::one(id));
        true
    }

    /// Adds ids, of which some may be there.
    pub fn insert_range(&mut self, range: IdRange) {
        let (mut from, mut to) = (range.from, range.to);
        if let Some((&before, &end)) = self.intervals.range(..=from).next_back()
            && end.saturating_add(1) >= from
        {
            from = before;
            to = to.max(end);
        }
        while let Some((&next, &end)) = self.intervals.range(from..=to.saturating_add(1)).next() {
            to = to.max(end);
            self.intervals.remove(&next);
        }
        self.intervals.insert(from, to);
    }

    /// Takes an id out; false if it was not there.
    pub fn remove(&mut self, id: u64) -> bool {
        let found = self.contains(id);
        if found {
            self.remove_range(IdRange::one(id));
        }
        found
    }

    /// Takes ids out, of which some may not be there.
    pub fn remove_range(&mut self, range: IdRange) {
        for overlap in self.within(range) {
            let (from, to) = self.interval_of(overlap.from);
            self.intervals.remove(&from);
            if from < overlap.from {
                self.intervals.insert(from, overlap.from - 1);
            }
            if overlap.to < to {
                self.intervals.insert(overlap.to + 1, to);
            }
        }
    }

    /// Whether an id is in the set.
    pub fn contains(&self, id: u64) -> bool {
        self.intervals.range(..=id).next_back().is_some_and(|(_, &to)| id <= to)
    }

    /// The ids of the set that lie in `range`, in order.
    pub fn within(&self, range: IdRange) -> Vec<IdRange> {
        let start = self.intervals.range(..=range.from).next_back().map_or(range.from, |(&from, _)| from);
        let overlapping = self.intervals.range(start..=range.to);
        overlapping.filter_map(|(&from, &to)| IdRange { from, to }.intersection(range)).collect()
    }

    /// The ids of `range` that the set does not have, in order.
    pub fn holes(&self, range: IdRange) -> Vec<IdRange> {
        let mut holes = Vec::new();
        let mut next = Some(range.from);
        for present in self.within(range) {
            if let Some(from) = next
                && from < present.from
            {
                holes.push(IdRange { from, to: present.from - 1 });
            }
            next = present.to.checked_add(1);
        }
        holes.extend(next.and_then(|from| IdRange::new(from, range.to)));
        holes
    }

    /// The ids of this set that `other` does not have.
    pub fn difference(&self, other: &Self) -> Self {
        self.ranges().flat_map(|range| other.holes(range)).collect()
    }

    /// The intervals, in order.
    pub fn ranges(&self) -> impl Iterator<Item = IdRange> + '_ {
        self.intervals.iter().map(|(&from, &to)| IdRange { from, to })
    }

    /// How many ids.
    pub fn len(&self) -> u64 {
        self.ranges().fold(0, |sum, range| sum.saturating_add(range.count()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// The smallest id.
    pub fn first(&self) -> Option<u64> {
        self.intervals.first_key_value().map(|(&from, _)| from)
    }

    /// The largest id.
    pub fn last(&self) -> Option<u64> {
        self.intervals.last_key_value().map(|(_, &to)| to)
    }

    fn interval_of(&self, id: u64) -> (u64, u64) {
        let interval = self.intervals.range(..=id).next_back();
        interval.map(|(&from, &to)| (from, to)).expect("the id is in the set")
    }
}

impl From<Vec<IdRange>> for IdSet {
    fn from(ranges: Vec<IdRange>) -> Self {
        ranges.into_iter().collect()
    }
}

impl From<IdSet> for Vec<IdRange> {
    fn from(set: IdSet) -> Self {
        set.ranges().collect()
    }
}

impl FromIterator<IdRange> for IdSet {
    fn from_iter<I: IntoIterator<Item = IdRange>>(ranges: I) -> Self {
        let mut set = Self::new();
        set.extend(ranges);
        set
    }
}

impl Extend<IdRange> for IdSet {
    fn extend<I: IntoIterator<Item = IdRange>>(&mut self, ranges: I) {
        for range in ranges {
            self.insert_range(range);
        }
    }
}

impl fmt::Display for IdSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, range) in self.ranges().enumerate() {
            write!(f, "{}{range}", if n == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[derive(Clone, Debug)]
    enum Change {
        One(u64),
        Insert(u64, u64),
        Remove(u64, u64),
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let range = (0_u64..60, 0_u64..8);
        let change = prop_oneof![
            3 => (0_u64..60).prop_map(Change::One),
            2 => range.clone().prop_map(|(from, more)| Change::Insert(from, from + more)),
            1 => range.prop_map(|(from, more)| Change::Remove(from, from + more)),
        ];
        proptest::collection::vec(change, 0..40)
    }

    fn ids(ranges: impl IntoIterator<Item = IdRange>) -> Vec<u64> {
        ranges.into_iter().flat_map(|range| range.from..=range.to).collect()
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_single_ids(changes in changes(), from in 0_u64..60, more in 0_u64..20, id in 0_u64..70) {
            let mut set = IdSet::new();
            let mut model = BTreeSet::new();
            for change in changes {
                match change {
                    Change::One(id) => prop_assert_eq!(set.insert(id), model.insert(id)),
                    Change::Insert(from, to) => { set.insert_range(IdRange { from, to }); model.extend(from..=to); }
                    Change::Remove(from, to) => {
                        set.remove_range(IdRange { from, to });
                        model.retain(|id| !(from..=to).contains(id));
                    }
                }
            }
            let window = IdRange { from, to: from + more };
            let inside: Vec<u64> = model.range(from..=from + more).copied().collect();
            let outside: Vec<u64> = (from..=from + more).filter(|id| !model.contains(id)).collect();
            prop_assert_eq!(ids(set.ranges()), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(ids(set.within(window)), inside);
            prop_assert_eq!(ids(set.holes(window)), outside);
            prop_assert_eq!(set.len(), model.len() as u64);
            prop_assert_eq!(set.first(), model.first().copied());
            prop_assert_eq!(set.last(), model.last().copied());
            prop_assert_eq!(set.contains(id), model.contains(&id));
            prop_assert_eq!(set.clone().insert(id), !model.contains(&id));
            prop_assert_eq!(set.clone().remove(id), model.contains(&id));
            let gaps = set.ranges().zip(set.ranges().skip(1)).all(|(a, b)| a.to + 1 < b.from);
            prop_assert!(gaps, "adjacent intervals are merged");
        }
    }

    #[test]
    fn holds_the_largest_id() {
        let mut set = IdSet::new();
        set.insert(u64::MAX);
        set.insert_range(IdRange { from: 0, to: 3 });
        assert_eq!(set.to_string(), format!("0-3, {}", u64::MAX));
        assert_eq!(set.holes(IdRange { from: u64::MAX - 1, to: u64::MAX }), vec![IdRange::one(u64::MAX - 1)]);
    }
}
