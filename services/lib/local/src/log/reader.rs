//! Reading the log as the only member of a group.
//!
//! A thread reads about a megabyte ahead while the batch before is being used; nothing more is held.

use std::pin::pin;
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use domain::{Position, Record, Topic, TopicPartition};
use ports::{Assignment, LogEvent, LogReader, PortError, Start};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::store::Job;
use super::{Inner, READ_BYTES, SYSTEM, scan};

/// The only member of a group. Dropping it leaves the group.
pub struct LocalReader {
    log: Arc<Inner>,
    group: String,
    topics: Vec<Topic>,
    places: Vec<Place>,
    assigned: bool,
    answer: Option<oneshot::Receiver<Vec<Start>>>,
    ahead: Option<JoinHandle<Result<Vec<Part>, PortError>>>,
    /// Which place is read first next time.
    turn: usize,
}

/// A partition, and where it is read next.
struct Place {
    at: TopicPartition,
    /// Indexes of topic and partition.
    index: (usize, usize),
    next: Option<i64>,
    /// How often it was sent elsewhere: what was read for an earlier count is of no use.
    seeks: u64,
}

/// Something to be read.
struct Wanted {
    place: usize,
    seeks: u64,
    topic: i64,
    from: Position,
    end: i64,
}

/// What was read of one place.
struct Part {
    place: usize,
    seeks: u64,
    end: i64,
    records: Result<Vec<Record>, PortError>,
}

impl LocalReader {
    pub(super) fn join(log: Arc<Inner>, group: &str, topics: &[Topic]) -> Result<Self, PortError> {
        let mut places = Vec::new();
        for name in topics {
            let topic = log.shared.topic(name)?;
            for partition in 0..log.shared.topics[topic].ends.len() {
                let at = TopicPartition::new(name.clone(), i32::try_from(partition).unwrap_or(i32::MAX));
                places.push(Place { at, index: (topic, partition), next: None, seeks: 0 });
            }
        }
        {
            let mut members = log.shared.members.lock().unwrap_or_else(PoisonError::into_inner);
            let taken = topics.iter().find(|topic| members.contains(&(group.to_owned(), (*topic).clone())));
            if let Some(topic) = taken {
                let reason =
                    format!("group {group} has a member that reads {topic}: a local log gives a group one member");
                return Err(PortError::refused(SYSTEM, reason));
            }
            members.extend(topics.iter().map(|topic| (group.to_owned(), topic.clone())));
        }
        let (group, topics) = (group.to_owned(), topics.to_vec());
        Ok(Self { log, group, topics, places, assigned: false, answer: None, ahead: None, turn: 0 })
    }

    fn assign(&mut self) -> LogEvent {
        self.assigned = true;
        let partitions = self.places.iter().map(|place| place.at.clone()).collect();
        let (assignment, answer) = Assignment::new(partitions);
        self.answer = Some(answer);
        LogEvent::Assigned(assignment)
    }

    /// Starts where the answer says, if it has come.
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
        for start in starts {
            let (at, offset) = match start {
                Start::Earliest(at) => (at, scan::EARLIEST),
                Start::At(position) => (position.at, position.offset),
            };
            if let Some(place) = self.places.iter_mut().find(|place| place.at == at) {
                place.next = Some(offset);
            }
        }
    }

    /// Begins to read what there is, unless that is under way.
    fn read_ahead(&mut self) {
        if self.ahead.is_some() {
            return;
        }
        let mut wanted: Vec<Wanted> = (0..self.places.len()).filter_map(|place| self.wanted(place)).collect();
        if wanted.is_empty() {
            return;
        }
        let count = wanted.len();
        wanted.rotate_left(self.turn % count);
        self.turn += 1;
        let readers = self.log.scan.readers.clone();
        self.ahead = Some(tokio::task::spawn_blocking(move || {
            let database = readers.database.clone();
            readers.read(|connection| {
                let mut parts = Vec::new();
                let mut budget = READ_BYTES;
                for Wanted { place, seeks, topic, from, end } in wanted {
                    let records = scan::read(&database, connection, topic, &from, end, budget);
                    let records = records.map_err(|trouble| database.trouble(trouble));
                    let weight = records.iter().flatten().map(Record::weight).sum();
                    budget = budget.saturating_sub(weight);
                    parts.push(Part { place, seeks, end, records });
                    if budget == 0 {
                        break;
                    }
                }
                Ok(parts)
            })
        }));
    }

    fn wanted(&self, place: usize) -> Option<Wanted> {
        let Place { at, index: (topic, partition), next, seeks } = &self.places[place];
        let end = self.log.shared.end(*topic, *partition);
        let from = Position { at: at.clone(), offset: (*next).filter(|next| (*next).max(0) < end)? };
        Some(Wanted { place, seeks: *seeks, topic: self.log.shared.topics[*topic].id, from, end })
    }

    /// A place from which nothing can be read: what comes there some day is not what was meant.
    fn stray(&self) -> Option<PortError> {
        self.places.iter().find_map(|Place { at, index: (topic, partition), next, .. }| {
            let (wanted, end) = ((*next)?, self.log.shared.end(*topic, *partition));
            (wanted > end).then(|| PortError::behind_the_end(SYSTEM, at, wanted, end))
        })
    }

    /// Takes over what was read, as far as it is still wanted.
    fn take_over(&mut self, parts: Vec<Part>) -> Result<Option<LogEvent>, PortError> {
        let mut all = Vec::new();
        for Part { place, seeks, end, records } in parts {
            let place = &mut self.places[place];
            if place.seeks != seeks {
                continue;
            }
            let records = match records {
                Ok(records) => records,
                // It will be met again, when there is nothing else to be returned first.
                Err(_) if !all.is_empty() => break,
                Err(error) => return Err(error),
            };
            place.next = Some(records.last().map_or(end, |last| last.offset + 1));
            if all.is_empty() { all = records } else { all.extend(records) }
        }
        self.read_ahead();
        Ok((!all.is_empty()).then_some(LogEvent::Records(all)))
    }
}

#[async_trait]
impl LogReader for LocalReader {
    async fn next(&mut self) -> Result<LogEvent, PortError> {
        if !self.assigned {
            return Ok(self.assign());
        }
        loop {
            let log = self.log.clone();
            let mut appended = pin!(log.shared.appended.notified());
            appended.as_mut().enable();
            self.take_answer();
            if let Some(error) = self.stray() {
                return Err(error);
            }
            self.read_ahead();
            if let Some(ahead) = self.ahead.as_mut() {
                let parts = ahead.await;
                self.ahead = None;
                let parts = parts.unwrap_or_else(|error| Err(PortError::unavailable(SYSTEM, error)))?;
                if let Some(event) = self.take_over(parts)? {
                    return Ok(event);
                }
                continue;
            }
            match self.answer.as_mut() {
                Some(answer) => {
                    let starts = answer.await;
                    self.answer = None;
                    self.start(starts.unwrap_or_default());
                }
                None => appended.await,
            }
        }
    }

    async fn commit(&mut self, next: &[Position]) -> Result<(), PortError> {
        if !next.is_empty() {
            let job = Job::Commit(self.group.clone(), next.to_vec());
            // A hint: nobody waits for it.
            drop(self.log.queue.hand_over(job).await?);
        }
        Ok(())
    }

    async fn seek(&mut self, to: &Position) -> Result<(), PortError> {
        self.take_answer();
        let place = self.places.iter_mut().find(|place| place.at == to.at && place.next.is_some());
        let place = place.ok_or_else(|| PortError::refused(SYSTEM, format!("{} is not assigned", to.at)))?;
        place.next = Some(to.offset);
        place.seeks += 1;
        Ok(())
    }
}

impl Drop for LocalReader {
    fn drop(&mut self) {
        let mut members = self.log.shared.members.lock().unwrap_or_else(PoisonError::into_inner);
        for topic in &self.topics {
            members.remove(&(self.group.clone(), topic.clone()));
        }
    }
}
