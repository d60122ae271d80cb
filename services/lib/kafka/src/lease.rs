//! The right to be the one who does something: one process has it, any number stand by.
//!
//! ```text
//!  applying ──joined──▶ standing by ──the holder left, or was silent──▶ held ──▶ lost, for good
//! ```
//!
//! It is the one partition of a topic that nobody writes to, given by the group to one of its members. That is no
//! proof for later: while a member applies anew it keeps its partition and sends no heartbeats. So the holder commits
//! a position there every second. The group accepts that of a living member only, and keeps such a one for the session
//! time-out from then on: that long, less a margin, the lease is held after the commit was *sent*.
//!
//! What the holder has handed to the brokers just before it loses the lease stays possible.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use domain::{Outgoing, Position};
use ports::{LogWriter, PortError};
use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::debug;

use crate::client::{consumer_settings, creation, log};
use crate::config::KafkaConfig;
use crate::error::SYSTEM;
use crate::reader::join;
use crate::worker::member;

const POLL: Duration = Duration::from_millis(100);

/// How often the holder asks for a proof.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How much sooner than the group we let go.
const MARGIN: Duration = Duration::from_millis(1_500);

/// The partition that is the lease.
const PARTITION: i32 = 0;

/// The position that is committed, which means nothing.
const POSITION: Offset = Offset::Offset(0);

/// Where an application for the lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// The group has not answered yet.
    Applying,
    /// Another has it.
    StandingBy,
    /// We have it.
    Held,
    /// We had it. It is not given to this application again.
    Lost,
}

/// An application for the right to be the only one. Dropping it gives the right to the next.
#[derive(Debug)]
pub struct KafkaLease {
    state: watch::Receiver<LeaseState>,
    guard: LeaseGuard,
    leaving: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Says whether the lease is held now.
#[derive(Clone, Debug)]
pub struct LeaseGuard {
    state: watch::Receiver<LeaseState>,
    proof: Arc<Mutex<Proof>>,
    /// How old a proof may be.
    trusted: Duration,
}

/// What the group has said of us.
#[derive(Debug, Default)]
struct Proof {
    /// Whether it has given us the partition.
    is_ours: bool,
    /// When we last asked what it then confirmed.
    confirmed_at: Option<Instant>,
    /// Whether a proof has ever been too old. A later one does not mend that: whoever has been refused has given up.
    is_broken: bool,
}

impl KafkaLease {
    /// Applies for the one partition of `topic`, as a member of the group of the same name.
    ///
    /// # Errors
    /// [`PortError::Refused`] if the settings cannot be used.
    pub fn apply(config: &KafkaConfig, topic: &str) -> Result<Self, PortError> {
        let mut settings = consumer_settings(config, topic);
        // Sticky: who joins does not take it away from who has it.
        member(&mut settings, config).set("partition.assignment.strategy", "cooperative-sticky");
        settings.set("socket.timeout.ms", config.session_timeout_ms.to_string());
        let (told, state) = watch::channel(LeaseState::Applying);
        let proof = Arc::<Mutex<Proof>>::default();
        let applicant = Applicant { state: told, proof: Arc::clone(&proof) };
        let consumer: BaseConsumer<Applicant> =
            BaseConsumer::from_config_and_context(&settings, applicant).map_err(|error| creation(&error))?;
        consumer.subscribe(&[topic]).map_err(|error| creation(&error))?;
        let trusted = Duration::from_millis(config.session_timeout_ms).saturating_sub(MARGIN);
        let guard = LeaseGuard { state: state.clone(), proof, trusted };
        let leaving = Arc::new(AtomicBool::new(false));
        let member = Member { consumer, topic: topic.to_owned(), guard: guard.clone(), leaving: Arc::clone(&leaving) };
        let thread = std::thread::Builder::new().name("kafka-lease".to_owned()).spawn(move || member.attend());
        let thread = Some(thread.map_err(|error| PortError::unavailable(SYSTEM, error))?);
        Ok(Self { state, guard, leaving, thread })
    }

    /// Waits until it is held, or was. Cancel-safe.
    pub async fn held(&mut self) {
        self.until(|state| matches!(state, LeaseState::Held | LeaseState::Lost)).await;
    }

    /// Waits until it is lost. Cancel-safe.
    pub async fn lost(&mut self) {
        let guard = self.guard.clone();
        // The thread may wait long for an answer. Whoever takes over does not wait for the thread.
        let expired = async {
            while guard.state() != LeaseState::Held || guard.is_held() {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::select! {
            () = self.until(|state| *state == LeaseState::Lost) => {}
            () = expired => {}
        }
    }

    async fn until(&mut self, wanted: impl FnMut(&LeaseState) -> bool) {
        if self.state.wait_for(wanted).await.is_err() {
            std::future::pending().await
        }
    }

    /// Says whether it is held, without waiting.
    pub fn guard(&self) -> LeaseGuard {
        self.guard.clone()
    }
}

impl Drop for KafkaLease {
    fn drop(&mut self) {
        self.leaving.store(true, Ordering::SeqCst);
        // Whoever stands by is glad of our goodbye. One that is not said in time costs the session time-out.
        if let (Some(thread), Ok(runtime)) = (self.thread.take(), Handle::try_current()) {
            runtime.spawn_blocking(move || join(thread));
        }
    }
}

impl LeaseGuard {
    /// Where the application stands.
    pub fn state(&self) -> LeaseState {
        *self.state.borrow()
    }

    /// Whether it is held. After a standstill of the process the answer is no; and after a no it is no for ever.
    pub fn is_held(&self) -> bool {
        if self.state() != LeaseState::Held {
            return false;
        }
        let mut proof = locked(&self.proof);
        let is_fresh = proof.confirmed_at.is_some_and(|at| at.elapsed() < self.trusted);
        proof.is_broken |= !is_fresh;
        !proof.is_broken
    }
}

fn locked(proof: &Mutex<Proof>) -> MutexGuard<'_, Proof> {
    proof.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Appends as long as the lease is held.
pub struct GuardedWriter {
    writer: Arc<dyn LogWriter>,
    guard: LeaseGuard,
}

impl GuardedWriter {
    /// Guards a writer.
    pub fn new(writer: Arc<dyn LogWriter>, guard: LeaseGuard) -> Self {
        Self { writer, guard }
    }
}

#[async_trait]
impl LogWriter for GuardedWriter {
    async fn append(&self, records: Vec<Outgoing>) -> Result<Vec<Position>, PortError> {
        if !self.guard.is_held() {
            return Err(PortError::refused(SYSTEM, "the lease is lost: another process may be writing"));
        }
        self.writer.append(records).await
    }
}

/// The thread that is a member of the group.
struct Member {
    consumer: BaseConsumer<Applicant>,
    topic: String,
    guard: LeaseGuard,
    leaving: Arc<AtomicBool>,
}

impl Member {
    fn attend(&self) {
        while !self.leaving.load(Ordering::SeqCst) {
            if let Some(Err(error)) = self.consumer.poll(POLL) {
                debug!(%error, "kafka lease");
            }
            let now = Instant::now();
            if self.is_due(now) {
                self.ask(now);
            }
        }
    }

    /// Whether it is time for a proof.
    fn is_due(&self, now: Instant) -> bool {
        let proof = locked(&self.guard.proof);
        proof.is_ours && proof.confirmed_at.is_none_or(|at| now.saturating_duration_since(at) >= ASK_EVERY)
    }

    /// Asks for a proof. However long the answer takes: meanwhile the last one grows old.
    fn ask(&self, asked_at: Instant) {
        let mut list = TopicPartitionList::new();
        let asked = list.add_partition_offset(&self.topic, PARTITION, POSITION);
        match asked.and_then(|()| self.consumer.commit(&list, CommitMode::Sync)) {
            Ok(()) => locked(&self.guard.proof).confirmed_at = Some(asked_at),
            Err(error) => return debug!(%error, "kafka lease"),
        }
        self.state().send_if_modified(|state| {
            let begins = matches!(state, LeaseState::Applying | LeaseState::StandingBy);
            if begins {
                *state = LeaseState::Held;
            }
            begins
        });
    }

    fn state(&self) -> &watch::Sender<LeaseState> {
        &self.consumer.context().state
    }
}

struct Applicant {
    state: watch::Sender<LeaseState>,
    proof: Arc<Mutex<Proof>>,
}

impl ClientContext for Applicant {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "kafka lease");
    }
}

impl ConsumerContext for Applicant {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let is_given = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let concerns_it = partitions.elements().iter().any(|element| element.partition() == PARTITION);
        let settled = match is_given {
            true => partitions.set_all_offsets(Offset::End).and_then(|()| consumer.incremental_assign(partitions)),
            false => consumer.incremental_unassign(partitions),
        };
        if let Err(error) = settled {
            debug!(%error, "kafka lease");
        }
        if concerns_it {
            let mut proof = locked(&self.proof);
            (proof.is_ours, proof.confirmed_at) = (is_given, None);
        }
        self.state.send_if_modified(|state| {
            let next = match (*state, is_given, concerns_it) {
                (LeaseState::Applying, true, false) => LeaseState::StandingBy,
                (LeaseState::Held, false, true) => LeaseState::Lost,
                (state, ..) => state,
            };
            std::mem::replace(state, next) != next
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_was_in_doubt_once_is_lost() {
        let (_told, state) = watch::channel(LeaseState::Held);
        let trusted = Duration::from_secs(5);
        let guard = LeaseGuard { state, proof: Arc::default(), trusted };
        let confirm = |at: Instant| locked(&guard.proof).confirmed_at = Some(at);
        confirm(Instant::now());
        assert!(guard.is_held());
        confirm(Instant::now().checked_sub(trusted).expect("the machine runs for longer"));
        assert!(!guard.is_held());
        confirm(Instant::now());
        assert!(!guard.is_held(), "an append has been refused meanwhile");
    }
}
