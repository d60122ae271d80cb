//! A group member that checks, event by event, what it is told.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::{Position, Record, Topic, TopicPartition};

use super::LogUnderTest;
use crate::conformance::unique;
use crate::{Assignment, LogEvent, LogReader, PortError, Revocation, Start};

/// How long the suite waits for what has to happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// How long the suite waits for what must not happen.
pub(super) const QUIET: Duration = Duration::from_millis(1_500);

/// A member, and what it owns, holds and has read.
pub(super) struct Member {
    pub(super) reader: Box<dyn LogReader>,
    pub(super) group: String,
    /// The partitions it has, with the least offset that the next record may have.
    pub(super) owned: BTreeMap<TopicPartition, i64>,
    /// Where to start partitions; those not named start at the earliest record.
    pub(super) starts: BTreeMap<TopicPartition, i64>,
    /// What it has read.
    pub(super) records: Vec<Record>,
    /// Whether to keep revocations instead of acknowledging them at once.
    pub(super) holds_on: bool,
    pub(super) held: Vec<Revocation>,
}

impl Member {
    /// A member of a new group.
    pub(super) async fn join(log: &dyn LogUnderTest, group: &str, topic: &Topic) -> Self {
        Self::join_group(log, &unique(&format!("group-{group}-")), topic).await
    }

    /// A member of a group.
    pub(super) async fn join_group(log: &dyn LogUnderTest, group: &str, topic: &Topic) -> Self {
        Self {
            reader: log.reader(group, topic).await,
            group: group.to_owned(),
            owned: BTreeMap::new(),
            starts: BTreeMap::new(),
            records: Vec::new(),
            holds_on: false,
            held: Vec::new(),
        }
    }

    /// Starts a partition at a position, once it is assigned.
    pub(super) fn start_at(&mut self, position: Position) {
        self.starts.insert(position.at, position.offset);
    }

    /// Waits for one event, not longer than `patience`; whether there was one.
    pub(super) async fn step(&mut self, patience: Duration) -> bool {
        match tokio::time::timeout(patience, self.reader.next()).await {
            Err(_elapsed) => false,
            Ok(Ok(event)) => {
                self.take(event);
                true
            }
            Ok(Err(error)) => panic!("next: {error}"),
        }
    }

    /// Reads until it has read `count` records in all, and no more.
    pub(super) async fn read(&mut self, count: usize) {
        while self.records.len() < count {
            let so_far = self.records.len();
            assert!(self.step(PATIENCE).await, "expected {count} records, after {so_far} no more came");
        }
        assert_eq!(self.records.len(), count, "more records than were written");
    }

    /// Waits for the first assignment.
    pub(super) async fn assigned(&mut self) {
        while self.owned.is_empty() {
            assert!(self.step(PATIENCE).await, "expected to be assigned partitions");
        }
    }

    /// Takes what comes until there is an error.
    pub(super) async fn error(&mut self) -> PortError {
        loop {
            match tokio::time::timeout(PATIENCE, self.reader.next()).await {
                Err(_elapsed) => panic!("expected an error from next, nothing came"),
                Ok(Ok(event)) => self.take(event),
                Ok(Err(error)) => return error,
            }
        }
    }

    pub(super) fn take(&mut self, event: LogEvent) {
        match event {
            LogEvent::Assigned(assignment) => self.accept(assignment),
            LogEvent::Records(records) => records.into_iter().for_each(|record| self.keep(record)),
            LogEvent::Revoked(revocation) => {
                for at in revocation.partitions() {
                    let next = self.owned.remove(at).unwrap_or_else(|| panic!("{at} was revoked but not assigned"));
                    self.starts.insert(at.clone(), next);
                }
                if self.holds_on { self.held.push(revocation) } else { revocation.done() }
            }
        }
    }

    pub(super) fn accept(&mut self, assignment: Assignment) {
        let mut places = Vec::new();
        for at in assignment.partitions() {
            let start = self.starts.get(at).copied();
            let before = self.owned.insert(at.clone(), start.unwrap_or(0));
            assert!(before.is_none(), "{at} was assigned twice");
            places.push(match start {
                Some(offset) => Start::At(Position { at: at.clone(), offset }),
                None => Start::Earliest(at.clone()),
            });
        }
        assignment.start(places);
    }

    fn keep(&mut self, record: Record) {
        let at = &record.at;
        let next = self.owned.get_mut(at).unwrap_or_else(|| panic!("a record of {at}, which is not assigned"));
        assert!(record.offset >= *next, "{at}: offset {} came where {next} or a later one was due", record.offset);
        *next = record.offset + 1;
        self.records.push(record);
    }
}
