//! All partitions that are assigned to us, and what concerns their files as a whole.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use domain::{Position, Record, Timestamp, TopicPartition};
use tokio::time::Instant;

use crate::chain::Chain;
use crate::error::ArchiverError;
use crate::partition::Partition;
use crate::roll::{Reason, RollPolicy};

/// One of a partition's chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainId {
    /// The partition.
    pub at: TopicPartition,
    /// Which of its chains.
    pub nth: usize,
}

/// The partitions that are assigned to us.
pub struct Partitions {
    held: BTreeMap<TopicPartition, Partition>,
    policy: RollPolicy,
}

impl Partitions {
    /// None yet.
    pub fn new(policy: RollPolicy) -> Self {
        Self { held: BTreeMap::new(), policy }
    }

    /// One more.
    pub fn insert(&mut self, at: TopicPartition, partition: Partition) {
        self.held.insert(at, partition);
    }

    /// Some less, with what they have buffered.
    pub fn remove(&mut self, gone: &[TopicPartition]) {
        self.held.retain(|at, _| !gone.contains(at));
    }

    /// Adds a record. Returns a chain that has to be rolled first, and why: then push it again.
    pub fn push(&mut self, record: &Record, now: Instant) -> Result<Option<(ChainId, Reason)>, ArchiverError> {
        let Some(partition) = self.held.get_mut(&record.at) else { return Ok(None) };
        let rolls = partition.push(record, now, &self.policy)?;
        Ok(rolls.map(|(nth, reason)| (ChainId { at: record.at.clone(), nth }, reason)))
    }

    /// A chain, if its partition is still held.
    pub fn chain_mut(&mut self, id: &ChainId) -> Option<&mut Chain> {
        self.held.get_mut(&id.at).and_then(|partition| partition.chain_mut(id.nth))
    }

    /// The chains of some partitions, to be rolled for a reason.
    pub fn all_of(&self, some: impl Fn(&TopicPartition) -> bool, reason: Reason) -> Vec<(ChainId, Reason)> {
        self.chains().filter(|(place, _)| some(place.at)).map(|(place, _)| (place.id(), reason)).collect()
    }

    /// The chains whose file's time has come.
    pub fn due(&self, now: Instant) -> Vec<(ChainId, Reason)> {
        let due = |(place, chain): (Place<'_>, &Chain)| Some((place.id(), self.policy.due(&chain.filling()?, now)?));
        self.chains().filter_map(due).collect()
    }

    /// When the next file's time comes.
    pub fn deadline(&self) -> Option<Instant> {
        let fillings = self.chains().filter_map(|(_, chain)| chain.filling());
        fillings.map(|filling| self.policy.deadline(&filling)).min()
    }

    /// The memory of all open files.
    pub fn memory_bytes(&self) -> usize {
        self.chains().map(|(_, chain)| chain.memory_bytes()).sum()
    }

    /// The chains with the largest open files: without them, all take no more memory than `bytes`.
    pub fn largest_beyond(&self, bytes: usize) -> Vec<(ChainId, Reason)> {
        let mut left = self.memory_bytes();
        let mut chains: Vec<_> = self.chains().map(|(place, chain)| (chain.memory_bytes(), place)).collect();
        chains.sort_by_key(|(memory, _)| Reverse(*memory));
        let needed = chains.into_iter().take_while(|(memory, _)| {
            let is_needed = left > bytes;
            left = left.saturating_sub(*memory);
            is_needed
        });
        needed.map(|(_, place)| (place.id(), Reason::Memory)).collect()
    }

    /// Records that are read and not yet published in every dataset.
    pub fn unpublished(&self) -> u64 {
        self.held.values().map(Partition::unpublished).sum()
    }

    /// When the log appended the oldest of them.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.chains().filter_map(|(_, chain)| chain.oldest()).min()
    }

    /// Where partitions must be read again from.
    pub fn behind(&self) -> Vec<Position> {
        self.held.values().filter_map(Partition::behind).collect()
    }

    /// The reader goes on there.
    pub fn sought(&mut self, to: &Position) {
        if let Some(partition) = self.held.get_mut(&to.at) {
            partition.sought(to.offset);
        }
    }

    /// Up to where partitions are published, as far as that has not been told yet.
    pub fn tell(&mut self) -> Vec<Position> {
        self.held.values_mut().filter_map(Partition::tell).collect()
    }

    fn chains(&self) -> impl Iterator<Item = (Place<'_>, &Chain)> {
        self.held.iter().flat_map(|(at, partition)| {
            let chains = partition.chains().iter().enumerate();
            chains.map(move |(nth, chain)| (Place { at, nth }, chain))
        })
    }
}

/// A [`ChainId`] that is only looked at.
struct Place<'a> {
    at: &'a TopicPartition,
    nth: usize,
}

impl Place<'_> {
    fn id(&self) -> ChainId {
        ChainId { at: self.at.clone(), nth: self.nth }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Kind;
    use crate::config::ArchiverConfig;
    use crate::fake::record;

    /// Partitions 0, 1, 2 and so on whose only chain has so many records in its open file.
    fn filled(records: &[i64]) -> Partitions {
        let mut partitions = Partitions::new(RollPolicy::new(&ArchiverConfig::default()));
        for (nth, count) in records.iter().enumerate() {
            let at = TopicPartition::new(record(0).at.topic, i32::try_from(nth).unwrap());
            partitions.insert(at.clone(), Partition::new(at.clone(), vec![Chain::new(at.clone(), Kind::Raw, None)]));
            for offset in 0..*count {
                let record = Record { at: at.clone(), ..record(offset) };
                assert_eq!(partitions.push(&record, Instant::now()).unwrap(), None);
            }
        }
        partitions
    }

    #[test]
    fn the_largest_files_are_ended_and_no_more_than_needed() {
        let partitions = filled(&[2, 5, 0, 3]);
        let all = partitions.memory_bytes();
        let ended = |bytes| -> Vec<i32> {
            let chains = partitions.largest_beyond(bytes);
            chains.into_iter().map(|(chain, _)| chain.at.partition).collect()
        };
        let none: Vec<i32> = Vec::new();
        assert_eq!(ended(all), none);
        assert_eq!(ended(all - 1), [1]);
        assert_eq!(ended(all / 2), [1]);
        assert_eq!(ended(all / 2 - 1), [1, 3]);
        assert_eq!(ended(0), [1, 3, 0]);
    }
}
