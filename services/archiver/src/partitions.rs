//! All partitions that are assigned to us, and what concerns their files as a whole.

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
        self.chains().filter(|(id, _)| some(&id.at)).map(|(id, _)| (id, reason)).collect()
    }

    /// The chains whose file's time has come.
    pub fn due(&self, now: Instant) -> Vec<(ChainId, Reason)> {
        let due = |(id, chain): (ChainId, &Chain)| Some((id, self.policy.due(&chain.filling()?, now)?));
        self.chains().filter_map(due).collect()
    }

    /// When the next file's time comes.
    pub fn deadline(&self) -> Option<Instant> {
        let fillings = self.chains().filter_map(|(_, chain)| chain.filling());
        fillings.map(|filling| self.policy.deadline(&filling)).min()
    }

    /// The chain whose open file takes most memory.
    pub fn largest(&self) -> Option<ChainId> {
        self.chains().max_by_key(|(_, chain)| chain.memory_bytes()).map(|(id, _)| id)
    }

    /// The memory of all open files.
    pub fn memory_bytes(&self) -> usize {
        self.chains().map(|(_, chain)| chain.memory_bytes()).sum()
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

    fn chains(&self) -> impl Iterator<Item = (ChainId, &Chain)> {
        self.held.iter().flat_map(|(at, partition)| {
            let chains = partition.chains().iter().enumerate();
            chains.map(|(nth, chain)| (ChainId { at: at.clone(), nth }, chain))
        })
    }
}
