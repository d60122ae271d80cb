//! The right to be the one who does something: one process has it, any number stand by.
//!
//! ```text
//!  applying ──joined──▶ standing by ──the holder left, or was silent──▶ held ──▶ lost, for good
//! ```
//!
//! It is the one partition of a topic that nobody writes to, given by the group to one of its members. A holder
//! that was stopped, or cut off from the group, for as long as the group waits for a member, has lost it: both
//! sides count from the last heartbeat. What the holder handed to its producer just before stays possible, for
//! about as long as the producer lingers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use domain::{Outgoing, Position};
use ports::{LogWriter, PortError};
use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
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
    looked_at: Arc<Mutex<Instant>>,
    /// How old a look may be.
    trusted: Duration,
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
        let (told, state) = watch::channel(LeaseState::Applying);
        let consumer: BaseConsumer<Applicant> =
            BaseConsumer::from_config_and_context(&settings, Applicant { state: told })
                .map_err(|error| creation(&error))?;
        consumer.subscribe(&[topic]).map_err(|error| creation(&error))?;
        let trusted = Duration::from_millis(config.session_timeout_ms) / 2;
        let guard = LeaseGuard { state: state.clone(), looked_at: Arc::new(Mutex::new(Instant::now())), trusted };
        let (leaving, watched) = (Arc::new(AtomicBool::new(false)), guard.clone());
        let asked = Arc::clone(&leaving);
        let thread = std::thread::Builder::new().name("kafka-lease".to_owned());
        let thread = thread.spawn(move || attend(&consumer, &watched, &asked));
        let thread = Some(thread.map_err(|error| PortError::unavailable(SYSTEM, error))?);
        Ok(Self { state, guard, leaving, thread })
    }

    /// Waits until it is held, or was. Cancel-safe.
    pub async fn held(&mut self) {
        self.until(|state| matches!(state, LeaseState::Held | LeaseState::Lost)).await;
    }

    /// Waits until it is lost. Cancel-safe.
    pub async fn lost(&mut self) {
        self.until(|state| *state == LeaseState::Lost).await;
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
        // Whoever stands by waits for our goodbye; the runtime's own shutdown waits until it is said.
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

    /// Whether it is held. After a standstill of the process the answer is no.
    pub fn is_held(&self) -> bool {
        self.state() == LeaseState::Held && self.age() < self.trusted
    }

    /// How long ago the group was last asked. Time that the process spent stopped counts.
    fn age(&self) -> Duration {
        self.looked_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn look(&self) {
        *self.looked_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
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

fn attend(consumer: &BaseConsumer<Applicant>, guard: &LeaseGuard, leaving: &AtomicBool) {
    while !leaving.load(Ordering::SeqCst) {
        if let Some(Err(error)) = consumer.poll(POLL) {
            debug!(%error, "kafka lease");
        }
        if guard.state() == LeaseState::Held && guard.age() >= guard.trusted {
            consumer.context().state.send_replace(LeaseState::Lost);
        }
        guard.look();
    }
}

struct Applicant {
    state: watch::Sender<LeaseState>,
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
        let concerns_it = partitions.count() > 0;
        let settled = match is_given {
            true => partitions.set_all_offsets(Offset::End).and_then(|()| consumer.incremental_assign(partitions)),
            false => consumer.incremental_unassign(partitions),
        };
        if let Err(error) = settled {
            debug!(%error, "kafka lease");
        }
        self.state.send_modify(|state| {
            *state = match (*state, is_given, concerns_it) {
                (LeaseState::Applying | LeaseState::StandingBy, true, true) => LeaseState::Held,
                (LeaseState::Applying, true, false) => LeaseState::StandingBy,
                (LeaseState::Held, false, true) => LeaseState::Lost,
                (state, ..) => state,
            }
        });
    }
}
