//! The group member: a thread that never stops polling, so that the group never waits for it.
//!
//! Rebalances are data: the client's callback only notes them. The client then waits in its
//! rebalance until the worker calls assign or unassign, which it does once the service has answered.
//! Meanwhile polling goes on and brings no records.
//!
//! ```text
//!  callback: Assign ─▶ inbox: Assigned ─▶ service answers ─▶ assign, once, with its offsets
//!  callback: Revoke ─▶ inbox: Revoked  ─▶ service answers ─▶ commits, then unassign
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use domain::{Position, Record, TopicPartition};
use ports::{Assignment, LogEvent, PortError, Revocation, Start};
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::oneshot;
use tracing::{debug, error, info, warn};

use crate::client::{consumer_settings, creation, log, watermarks};
use crate::config::KafkaConfig;
use crate::error::{SYSTEM, is_refusal};
use crate::inbox::{BATCH_BYTES, BATCH_RECORDS, Inbox};
use crate::records::Copier;

/// How long one poll waits for the first record; also how long a command may wait.
const POLL: Duration = Duration::from_millis(200);
/// The same while the service is to answer, or to make space.
const SHORT_POLL: Duration = Duration::from_millis(50);
/// How long after its first record a poll waits for more: the client hands over an answer of a broker partition by
/// partition, and each hand-over to the service wakes it.
const GATHER: Duration = Duration::from_millis(2);
/// A member learns of a rebalance by its next heartbeat.
const HEARTBEAT_MS: &str = "1000";
/// How long a full inbox stops polling. Pausing throws away what was fetched ahead, so it is only
/// for a service that really stands still.
const PATIENCE: Duration = Duration::from_secs(1);
const SEEK_TIMEOUT: Duration = Duration::from_secs(10);

/// What the reader asks for. A closed channel means that the reader is gone.
#[derive(Debug)]
pub(crate) enum Command {
    Commit(Vec<Position>),
    Seek(Position, oneshot::Sender<Result<(), PortError>>),
}

/// What the group told us and the service has to answer.
enum Pending {
    Start(Vec<TopicPartition>, oneshot::Receiver<Vec<Start>>),
    LetGo(oneshot::Receiver<()>, Instant),
}

/// A rebalance as the client's callback saw it.
#[derive(Debug)]
enum Rebalance {
    Assign(Vec<TopicPartition>),
    Revoke(Vec<TopicPartition>),
}

#[derive(Debug, Default)]
pub(crate) struct Group {
    rebalances: Mutex<VecDeque<Rebalance>>,
    /// Nobody is left to be asked.
    closing: AtomicBool,
}

impl ClientContext for Group {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "kafka consumer error");
    }
}

impl ConsumerContext for Group {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        if self.closing.load(Ordering::SeqCst) {
            settle(consumer.unassign(), "unassign");
            return;
        }
        let partitions = named(partitions);
        let rebalance = match kind {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assign(partitions),
            _ => Rebalance::Revoke(partitions),
        };
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).push_back(rebalance);
    }
}

pub(crate) struct Worker {
    config: KafkaConfig,
    consumer: BaseConsumer<Group>,
    inbox: Arc<Inbox>,
    commands: mpsc::Receiver<Command>,
    pending: Option<Pending>,
    /// The partitions being read and where each goes on.
    assigned: BTreeMap<TopicPartition, Offset>,
    copier: Copier,
    full_since: Option<Instant>,
    paused: bool,
    dead: bool,
}

/// How a member of a group behaves.
pub(crate) fn member<'a>(settings: &'a mut ClientConfig, config: &KafkaConfig) -> &'a mut ClientConfig {
    settings
        .set("group.protocol", "classic")
        .set("heartbeat.interval.ms", HEARTBEAT_MS)
        .set("session.timeout.ms", config.session_timeout_ms.to_string())
        .set("max.poll.interval.ms", config.max_poll_interval_ms.to_string())
}

impl Worker {
    pub fn join(
        config: KafkaConfig,
        group: &str,
        topics: &[&str],
        inbox: Arc<Inbox>,
        commands: mpsc::Receiver<Command>,
    ) -> Result<Self, PortError> {
        let mut settings = consumer_settings(&config, group);
        member(&mut settings, &config)
            .set("partition.assignment.strategy", "range")
            .set("fetch.min.bytes", config.fetch_enough_bytes.to_string())
            .set("fetch.wait.max.ms", config.fetch_wait_ms.to_string());
        let consumer: BaseConsumer<Group> =
            BaseConsumer::from_config_and_context(&settings, Group::default()).map_err(|error| creation(&error))?;
        consumer.subscribe(topics).map_err(|error| creation(&error))?;
        Ok(Self {
            config,
            consumer,
            inbox,
            commands,
            pending: None,
            assigned: BTreeMap::new(),
            copier: Copier::default(),
            full_since: None,
            paused: false,
            dead: false,
        })
    }

    /// Until the reader is gone or the client cannot go on.
    pub fn run(mut self) {
        while !self.dead {
            let let_go = self.take_answer();
            if !self.obey() {
                break;
            }
            if let_go {
                self.release();
            }
            if self.has_space() {
                self.poll();
                self.note_rebalances();
            }
        }
        self.leave();
    }

    fn leave(mut self) {
        if self.pending.take().is_some() {
            settle(self.consumer.unassign(), "unassign");
        }
        // Dropping the consumer closes it: it lets go of its partitions and leaves the group.
    }

    /// Looks whether the service has answered. An assignment is acted on at once; of a revocation it
    /// says whether to let go, because commits sent before the answer come first.
    fn take_answer(&mut self) -> bool {
        match self.pending.take() {
            None => false,
            Some(Pending::Start(partitions, mut answer)) => {
                match answer.try_recv() {
                    Ok(places) => self.start(&partitions, places),
                    Err(oneshot::error::TryRecvError::Empty) => {
                        self.pending = Some(Pending::Start(partitions, answer));
                    }
                    Err(oneshot::error::TryRecvError::Closed) => {
                        warn!(?partitions, "an assignment was dropped without an answer, nothing is read");
                        self.start(&partitions, Vec::new());
                    }
                }
                false
            }
            Some(Pending::LetGo(mut answer, until)) => {
                let waiting = matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Empty));
                let too_late = Instant::now() >= until;
                if waiting && too_late {
                    warn!("a revocation was not acknowledged in time, the partitions go to others");
                }
                self.pending = Some(Pending::LetGo(answer, until));
                !waiting || too_late
            }
        }
    }

    /// Assigns once, with the service's offsets.
    fn start(&mut self, partitions: &[TopicPartition], places: Vec<Start>) {
        self.assigned = places.into_iter().map(place).filter(|(at, _)| partitions.contains(at)).collect();
        if self.assigned.len() < partitions.len() {
            warn!(given = partitions.len(), started = self.assigned.len(), "not every partition has a start");
        }
        self.assign();
    }

    fn assign(&mut self) {
        let result = list(&self.assigned).and_then(|partitions| self.consumer.assign(&partitions));
        settle(result, "assign");
        self.paused = false;
        self.full_since = None;
    }

    fn release(&mut self) {
        self.pending = None;
        self.assigned.clear();
        self.paused = false;
        self.full_since = None;
        settle(self.consumer.unassign(), "unassign");
    }

    /// Does what the reader asked for; false if the reader is gone.
    fn obey(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Commit(positions)) => self.commit(&positions),
                Ok(Command::Seek(to, answer)) => {
                    // Whoever gave up waiting needs no answer.
                    let _ = answer.send(self.seek(&to));
                }
                Err(mpsc::TryRecvError::Empty) => return true,
                Err(mpsc::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn commit(&self, positions: &[Position]) {
        let mut list = TopicPartitionList::new();
        if positions.is_empty() {
            return;
        }
        for Position { at, offset } in positions {
            if let Err(error) = list.add_partition_offset(&at.topic, at.partition, Offset::Offset(*offset)) {
                debug!(%error, %at, offset, "cannot commit");
                return;
            }
        }
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            debug!(%error, "cannot commit");
        }
    }

    fn seek(&mut self, to: &Position) -> Result<(), PortError> {
        let Some(next) = self.assigned.get_mut(&to.at) else {
            return Err(PortError::refused(SYSTEM, format!("{} is not assigned, cannot seek in it", to.at)));
        };
        *next = Offset::Offset(to.offset);
        self.inbox.drop_records_of(&to.at);
        let sought = self.consumer.seek(&to.at.topic, to.at.partition, Offset::Offset(to.offset), SEEK_TIMEOUT);
        if let Err(error) = sought {
            debug!(%error, at = %to.at, "seek failed, assigning again");
            self.assign();
        }
        Ok(())
    }

    /// Whether to poll: a full inbox makes us wait, and after a while pause.
    fn has_space(&mut self) -> bool {
        let limit = self.config.reader_buffer_bytes;
        if self.paused {
            if self.inbox.bytes() <= limit / 2 {
                self.resume();
            }
            return true;
        }
        if self.inbox.bytes() <= limit {
            self.full_since = None;
            return true;
        }
        let since = *self.full_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= PATIENCE {
            self.pause();
            return true;
        }
        // Waking at half full lets the service work through batches while we fill the rest.
        self.inbox.wait_below(limit / 2, SHORT_POLL);
        false
    }

    fn pause(&mut self) {
        debug!("the service does not take its records, pausing");
        settle(list(&self.assigned).and_then(|partitions| self.consumer.pause(&partitions)), "pause");
        self.paused = true;
    }

    fn resume(&mut self) {
        settle(list(&self.assigned).and_then(|partitions| self.consumer.resume(&partitions)), "resume");
        self.paused = false;
        self.full_since = None;
    }

    /// Waits for one record, then takes what else is there or comes at once.
    fn poll(&mut self) {
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut wait = if self.pending.is_some() || self.paused { SHORT_POLL } else { POLL };
        let mut until: Option<Instant> = None;
        while records.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
            let message = match self.consumer.poll(wait) {
                None => {
                    if until.is_none_or(|until| Instant::now() >= until) {
                        break;
                    }
                    // Not just the rest of it: the client spins through parts of a millisecond.
                    wait = GATHER;
                    continue;
                }
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    self.deliver(records, bytes);
                    return self.trouble(&error);
                }
            };
            wait = Duration::ZERO;
            until.get_or_insert_with(|| Instant::now() + GATHER);
            let record = self.copier.record(&message);
            // Messages of partitions that were taken away may still come.
            if let (Some(next), None) = (self.assigned.get_mut(&record.at), &self.pending) {
                *next = Offset::Offset(record.offset + 1);
                bytes += record.weight();
                records.push(record);
            }
        }
        self.deliver(records, bytes);
    }

    fn deliver(&self, records: Vec<Record>, bytes: usize) {
        if !records.is_empty() {
            self.inbox.put_records(records, bytes);
        }
    }

    fn note_rebalances(&mut self) {
        loop {
            let next = self.consumer.context().rebalances.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match next {
                None => return,
                Some(Rebalance::Assign(partitions)) => self.assigned_to_us(partitions),
                Some(Rebalance::Revoke(partitions)) => self.taken_from_us(partitions),
            }
        }
    }

    fn assigned_to_us(&mut self, partitions: Vec<TopicPartition>) {
        info!(partitions = partitions.len(), "the group gives partitions");
        if partitions.is_empty() {
            return self.start(&[], Vec::new());
        }
        let (assignment, answer) = Assignment::new(partitions.clone());
        self.pending = Some(Pending::Start(partitions, answer));
        self.inbox.put(Ok(LogEvent::Assigned(assignment)));
    }

    fn taken_from_us(&mut self, partitions: Vec<TopicPartition>) {
        info!(partitions = partitions.len(), lost = self.consumer.assignment_lost(), "the group takes partitions");
        let unseen = self.inbox.drop_records_and_assignment();
        if unseen || partitions.is_empty() {
            return self.release();
        }
        let (revocation, answer) = Revocation::new(partitions);
        self.pending = Some(Pending::LetGo(answer, Instant::now() + self.config.revocation_timeout()));
        self.inbox.put(Ok(LogEvent::Revoked(revocation)));
    }

    fn trouble(&mut self, error: &KafkaError) {
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => self.out_of_range(),
            _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => {
                self.inbox.put(Err(PortError::unavailable(SYSTEM, error)));
                self.dead = true;
            }
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
                warn!(%error, "the topic does not exist, waiting for it");
            }
            Some(code) if is_refusal(code) => self.inbox.put(Err(PortError::refused(SYSTEM, error))),
            Some(Code::PollExceeded) => error!(%error, "the reader did not poll and is out of its group"),
            _ => warn!(%error, "kafka consumer"),
        }
    }

    /// A position is out of the log's range, and the client does not say which.
    fn out_of_range(&mut self) {
        let mut found = false;
        for (at, next) in &self.assigned {
            let Offset::Offset(wanted) = *next else { continue };
            let failure = match watermarks(&self.consumer, &self.config, &at.topic, at.partition) {
                Ok((first, _)) if wanted < first => PortError::Truncated { at: at.clone(), wanted, first },
                Ok((_, end)) if wanted > end => PortError::behind_the_end(SYSTEM, at, wanted, end),
                Ok(_) => continue,
                Err(error) => {
                    warn!(%error, "a position is out of range, and the broker does not say of which");
                    continue;
                }
            };
            found = true;
            self.inbox.put(Err(failure));
        }
        if !found {
            warn!("a position was out of range and is not any more, assigning again");
            self.assign();
        }
    }
}

/// Also after a panic, so that the reader does not wait for ever.
impl Drop for Worker {
    fn drop(&mut self) {
        self.consumer.context().closing.store(true, Ordering::SeqCst);
        self.inbox.close();
    }
}

fn place(start: Start) -> (TopicPartition, Offset) {
    match start {
        Start::Earliest(at) => (at, Offset::Beginning),
        Start::At(Position { at, offset }) => (at, Offset::Offset(offset)),
    }
}

fn list(partitions: &BTreeMap<TopicPartition, Offset>) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (at, offset) in partitions {
        list.add_partition_offset(&at.topic, at.partition, *offset)?;
    }
    Ok(list)
}

fn named(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements().iter().map(|element| TopicPartition::new(element.topic(), element.partition())).collect()
}

fn settle(result: KafkaResult<()>, what: &str) {
    if let Err(error) = result {
        error!(%error, what, "the kafka client refused");
    }
}
