//! One partition of the log and the chains that its records go to.

use domain::{Position, Record, TopicPartition};
use ports::Start;
use tokio::time::Instant;

use crate::chain::Chain;
use crate::error::ArchiverError;
use crate::roll::{Reason, RollPolicy};

/// A partition that is assigned to us.
///
/// ```text
///  raw     ──────────────published┄┄┄┄┄┄┄┄┄┄┄┄┄next
///  trades  ─────published┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄next
///               ▲ done: told to the group       ▲ position
/// ```
/// Each chain skips what it already has. A chain whose next offset lies before the position lost its
/// buffer to a shorter file of another writer: the partition must be read again from there.
pub struct Partition {
    at: TopicPartition,
    chains: Vec<Chain>,
    position: Option<i64>,
    told: Option<i64>,
}

impl Partition {
    /// A partition, to be read from where the shortest of its chains ends.
    pub fn new(at: TopicPartition, chains: Vec<Chain>) -> Self {
        let position = chains.iter().map(Chain::next).min().flatten();
        Self { at, chains, position, told: None }
    }

    /// Where to start reading it.
    pub fn start(&self) -> Start {
        match self.position {
            Some(offset) => Start::At(Position { at: self.at.clone(), offset }),
            None => Start::Earliest(self.at.clone()),
        }
    }

    /// Its chains.
    pub fn chains(&self) -> &[Chain] {
        &self.chains
    }

    /// One of its chains.
    pub fn chain_mut(&mut self, nth: usize) -> Option<&mut Chain> {
        self.chains.get_mut(nth)
    }

    /// Records that are read and not yet published in every dataset.
    pub fn unpublished(&self) -> u64 {
        let fillings = self.chains.iter().filter_map(Chain::filling);
        fillings.map(|filling| filling.records).max().unwrap_or(0)
    }

    /// Adds a record to each chain that lacks it. Returns a chain that has to be rolled first, and
    /// why: roll it, then push the same record again.
    pub fn push(
        &mut self,
        record: &Record,
        now: Instant,
        policy: &RollPolicy,
    ) -> Result<Option<(usize, Reason)>, ArchiverError> {
        if self.behind().is_some() {
            return Ok(None);
        }
        self.position.get_or_insert(record.offset);
        for (nth, chain) in self.chains.iter_mut().enumerate() {
            if !chain.wants(record) {
                continue;
            }
            if chain.ends_before(record) {
                return Ok(Some((nth, Reason::Date)));
            }
            chain.push(record, now)?;
            if let Some(reason) = chain.filling().and_then(|filling| policy.full(&filling)) {
                return Ok(Some((nth, reason)));
            }
        }
        self.position = self.position.max(Some(record.offset + 1));
        Ok(None)
    }

    /// Where the partition must be read again from, if a chain needs it.
    pub fn behind(&self) -> Option<Position> {
        let offset = self.chains.iter().filter_map(Chain::next).min()?;
        (Some(offset) < self.position).then(|| Position { at: self.at.clone(), offset })
    }

    /// The reader goes on at another offset.
    pub fn sought(&mut self, offset: i64) {
        self.position = Some(offset);
    }

    /// Up to where all chains are published, if that has not been told yet.
    pub fn tell(&mut self) -> Option<Position> {
        let done = self.chains.iter().map(Chain::published).min().flatten();
        if done.is_none() || done == self.told {
            return None;
        }
        self.told = done;
        done.map(|offset| Position { at: self.at.clone(), offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Kind;
    use crate::config::ArchiverConfig;
    use crate::fake::{at, record};
    use crate::publish::Outcome;

    fn partition(trades: Option<i64>, raw: Option<i64>) -> Partition {
        Partition::new(at(), vec![Chain::new(at(), Kind::Trades, trades), Chain::new(at(), Kind::Raw, raw)])
    }

    fn push(partition: &mut Partition, offset: i64, roll_rows: u64) -> Option<(usize, Reason)> {
        let policy = RollPolicy::new(&ArchiverConfig { roll_rows, ..ArchiverConfig::default() });
        partition.push(&record(offset), Instant::now(), &policy).unwrap()
    }

    fn nexts(partition: &Partition) -> Vec<Option<i64>> {
        partition.chains().iter().map(Chain::next).collect()
    }

    /// Rolls a chain, and another writer has published up to `end`.
    fn lose(partition: &mut Partition, nth: usize, end: i64) {
        let chain = partition.chain_mut(nth).unwrap();
        let part = chain.seal("ours").unwrap().unwrap();
        let mut winner = part.footer.clone();
        winner.span.end = end;
        chain.settle(&part, &Outcome::Lost(winner));
    }

    #[test]
    fn it_starts_where_its_shortest_chain_ends() {
        let place = |offset| Start::At(Position { at: at(), offset });
        assert_eq!(partition(Some(5), Some(9)).start(), place(5));
        assert_eq!(partition(None, Some(9)).start(), Start::Earliest(at()));
    }

    #[test]
    fn each_chain_skips_what_it_has() {
        let mut partition = partition(Some(5), Some(7));
        (5..9).for_each(|offset| assert_eq!(push(&mut partition, offset, 99), None));
        let records: Vec<u64> = partition.chains().iter().map(|chain| chain.filling().unwrap().records).collect();
        assert_eq!(records, [4, 2]);
        assert_eq!(partition.unpublished(), 4);
    }

    #[test]
    fn a_record_is_pushed_again_after_each_roll_until_all_chains_have_it() {
        let mut partition = partition(Some(5), Some(5));
        for (nth, end) in [(0, 6), (1, 6)] {
            assert_eq!(push(&mut partition, 5, 1), Some((nth, Reason::Rows)));
            lose(&mut partition, nth, end);
        }
        assert_eq!(push(&mut partition, 5, 1), None);
        assert_eq!((nexts(&partition), partition.behind()), (vec![Some(6), Some(6)], None));
        assert_eq!(partition.tell(), Some(Position { at: at(), offset: 6 }));
        assert_eq!(partition.tell(), None);
    }

    #[test]
    fn a_shorter_winner_sends_it_back_and_a_longer_one_forward() {
        let mut partition = partition(Some(5), Some(5));
        (5..9).for_each(|offset| assert_eq!(push(&mut partition, offset, 99), None));
        lose(&mut partition, 0, 7);
        let back = Position { at: at(), offset: 7 };
        assert_eq!(partition.behind(), Some(back.clone()));
        // What is still under way from before is of no use to the chain that went back.
        assert_eq!(push(&mut partition, 9, 99), None);
        assert_eq!(nexts(&partition), [Some(7), Some(9)]);
        partition.sought(back.offset);
        (7..10).for_each(|offset| assert_eq!(push(&mut partition, offset, 99), None));
        assert_eq!((nexts(&partition), partition.behind()), (vec![Some(10), Some(10)], None));
        lose(&mut partition, 1, 20);
        assert_eq!((nexts(&partition), partition.behind()), (vec![Some(10), Some(20)], None));
    }

    #[test]
    fn a_winner_that_ends_amid_the_record_at_hand_sends_it_back() {
        let mut partition = partition(Some(5), Some(5));
        assert_eq!(push(&mut partition, 5, 2), None);
        assert_eq!(push(&mut partition, 6, 2), Some((0, Reason::Rows)));
        lose(&mut partition, 0, 6);
        // Its record 6 is at hand: no need to go back.
        assert_eq!(push(&mut partition, 6, 2), Some((1, Reason::Rows)));
        assert_eq!(nexts(&partition), [Some(7), Some(7)]);
        lose(&mut partition, 1, 6);
        assert_eq!(push(&mut partition, 6, 2), None);
        assert_eq!((nexts(&partition), partition.behind()), (vec![Some(7), Some(7)], None));
    }
}
