//! A member of a group of the memory log.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use domain::{Position, Topic, TopicPartition};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::group::News;
use super::log::{Inner, READ_BYTES, SYSTEM};
use crate::{Assignment, LogEvent, LogReader, PortError, Revocation, Start};

/// A member of a group. Dropping it leaves the group.
pub struct MemoryReader {
    log: Arc<Inner>,
    group: String,
    topics: Vec<Topic>,
    member: u64,
    /// The partitions it was told to be its own, with the next offset once it has said where to start.
    owned: BTreeMap<TopicPartition, Option<i64>>,
    answer: Option<oneshot::Receiver<Vec<Start>>>,
    /// Which of its partitions is read first next time.
    turn: usize,
}

impl MemoryReader {
    pub(super) fn join(log: Arc<Inner>, group: &str, topics: &[Topic]) -> Self {
        let (group, topics) = (group.to_owned(), topics.to_vec());
        let mut reader = Self { log, group, topics, member: 0, owned: BTreeMap::new(), answer: None, turn: 0 };
        reader.rejoin();
        reader
    }

    fn rejoin(&mut self) {
        let log = self.log.clone();
        self.member = log.lock().with_group(&self.group, |group, until| group.join(&self.topics, until)).0;
        self.note("joined");
        log.changed.notify_waiters();
    }

    fn note(&self, what: &str) {
        self.log.chaos.note(&format!("member {} of {}: {what}", self.member, self.group));
    }

    /// What there is to be told now.
    fn look(&mut self) -> Result<Option<LogEvent>, PortError> {
        let (member, log) = (self.member, self.log.clone());
        let (_, settled) = log.lock().with_group(&self.group, |_, _| ());
        if settled {
            log.changed.notify_waiters();
        }
        let (news, _) = log.lock().with_group(&self.group, |group, _| group.news(member));
        match news {
            News::Assigned(partitions) => Ok(Some(self.assigned(partitions))),
            News::Revoked(partitions) => Ok(Some(self.revoked(partitions))),
            News::Expelled => Ok(self.expelled()),
            News::Nothing => self.read(),
        }
    }

    fn assigned(&mut self, partitions: Vec<TopicPartition>) -> LogEvent {
        self.note(&format!("assigned {}", list(&partitions)));
        self.owned = partitions.iter().map(|at| (at.clone(), None)).collect();
        let (assignment, answer) = Assignment::new(partitions);
        self.answer = Some(answer);
        LogEvent::Assigned(assignment)
    }

    fn revoked(&mut self, partitions: Vec<TopicPartition>) -> LogEvent {
        self.note(&format!("revoked {}", list(&partitions)));
        self.owned.clear();
        self.answer = None;
        let (revocation, acknowledged) = Revocation::new(partitions);
        let (log, group, member) = (self.log.clone(), self.group.clone(), self.member);
        tokio::spawn(async move {
            // Who drops a revocation has not let go: the group's patience decides.
            if acknowledged.await.is_ok() {
                log.lock().with_group(&group, |group, _| group.released(member));
                log.chaos.note(&format!("member {member} of {group}: let go"));
                log.changed.notify_waiters();
            }
        });
        LogEvent::Revoked(revocation)
    }

    /// The group went on without this member: it hears of it too late, and joins again.
    fn expelled(&mut self) -> Option<LogEvent> {
        self.note("expelled");
        self.rejoin();
        self.answer = None;
        let lost: Vec<TopicPartition> = std::mem::take(&mut self.owned).into_keys().collect();
        let (revocation, _) = Revocation::new(lost);
        (!revocation.partitions().is_empty()).then_some(LogEvent::Revoked(revocation))
    }

    fn read(&mut self) -> Result<Option<LogEvent>, PortError> {
        let mut state = self.log.lock();
        for (at, next) in &self.owned {
            if let Some((wanted, (_, end))) = next.zip(state.ends(at)).filter(|(wanted, (_, end))| wanted > end) {
                return Err(PortError::behind_the_end(SYSTEM, at, wanted, end));
            }
        }
        let behind = |(at, next): (&TopicPartition, &Option<i64>)| {
            next.and_then(|next| state.ends(at).filter(|(_, end)| next < *end).map(|_| (at.clone(), next)))
        };
        let mut places: Vec<(TopicPartition, i64)> = self.owned.iter().filter_map(behind).collect();
        if places.is_empty() {
            return Ok(None);
        }
        if let Some(rotation) = self.log.chaos.rebalances() {
            state.with_group(&self.group, |group, until| group.rotate(rotation, until));
            drop(state);
            self.note("shaken");
            self.log.changed.notify_waiters();
            return self.look();
        }
        let count = places.len();
        places.rotate_left(self.turn % count);
        let (mut budget, portion) = (READ_BYTES, self.log.chaos.portion());
        let mut records = Vec::new();
        for (at, next) in places {
            let at_most = portion.map_or(usize::MAX, |portion| portion.saturating_sub(records.len()));
            let found = match state.read(&at, next, i64::MAX, at_most, &mut budget) {
                Ok(found) => found,
                // What was read of other partitions comes first, the error next time.
                Err(_) if !records.is_empty() => break,
                Err(error) => return Err(error),
            };
            if let Some(last) = found.last() {
                self.owned.insert(at, Some(last.offset + 1));
            }
            records.extend(found);
        }
        drop(state);
        self.turn += 1;
        self.note(&format!("read {} records", records.len()));
        Ok(Some(LogEvent::Records(records)))
    }

    /// Takes the answer to the assignment, if it has come.
    fn take_answer(&mut self) {
        let arrived = self.answer.as_mut().map(oneshot::Receiver::try_recv);
        match arrived {
            Some(Ok(starts)) => self.start(starts),
            Some(Err(oneshot::error::TryRecvError::Closed)) => self.answer = None,
            Some(Err(oneshot::error::TryRecvError::Empty)) | None => {}
        }
    }

    fn start(&mut self, starts: Vec<Start>) {
        self.answer = None;
        let state = self.log.lock();
        for start in starts {
            let (at, next) = match start {
                Start::Earliest(at) => {
                    let first = state.ends(&at).map_or(0, |(first, _)| first);
                    (at, first)
                }
                Start::At(position) => (position.at, position.offset),
            };
            self.owned.entry(at).and_modify(|place| *place = Some(next));
        }
    }
}

#[async_trait]
impl LogReader for MemoryReader {
    async fn next(&mut self) -> Result<LogEvent, PortError> {
        self.log.chaos.wait().await;
        loop {
            let log = self.log.clone();
            let mut changed = pin!(log.changed.notified());
            changed.as_mut().enable();
            self.take_answer();
            if let Some(event) = self.look()? {
                return Ok(event);
            }
            let until = log.lock().with_group(&self.group, |group, _| group.waits_until()).0;
            // Biased: tokio would otherwise draw lots of its own.
            tokio::select! {
                biased;
                answer = arrival(&mut self.answer) => match answer {
                    Ok(starts) => self.start(starts),
                    Err(_) => self.answer = None,
                },
                () = &mut changed => {}
                () = moment(until) => {}
            }
        }
    }

    async fn commit(&mut self, next: &[Position]) -> Result<(), PortError> {
        let (log, group) = (self.log.clone(), self.group.clone());
        let answer = || {
            let mut state = log.lock();
            state.with_group(&group, |group, _| {
                group.committed.extend(next.iter().map(|position| (position.at.clone(), position.offset)));
            });
            Ok(())
        };
        self.log.chaos.ask(SYSTEM, || format!("commit of {group}"), answer).await
    }

    async fn seek(&mut self, to: &Position) -> Result<(), PortError> {
        self.take_answer();
        match self.owned.get_mut(&to.at) {
            Some(Some(next)) => {
                *next = to.offset;
                Ok(())
            }
            _ => Err(PortError::refused(SYSTEM, format!("{} is not assigned", to.at))),
        }
    }
}

impl Drop for MemoryReader {
    fn drop(&mut self) {
        let member = self.member;
        self.log.lock().with_group(&self.group, |group, until| group.leave(member, until));
        self.note("left");
        self.log.changed.notify_waiters();
    }
}

async fn arrival(answer: &mut Option<oneshot::Receiver<Vec<Start>>>) -> Result<Vec<Start>, oneshot::error::RecvError> {
    match answer {
        Some(receiver) => receiver.await,
        None => std::future::pending().await,
    }
}

async fn moment(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

fn list(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
