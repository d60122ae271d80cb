//! One append on its way: which of its records are acknowledged, and where they stand.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, NoCustomPartitioner, ProducerContext};
use tokio::sync::Notify;
use tracing::debug;

use crate::client::log;
use crate::error::{Fate, fate};

/// Hands each delivery report to the append it belongs to.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    waiting_for_space: AtomicUsize,
    space: Notify,
}

impl Deliveries {
    /// Waits for the next delivery of anybody's record, which leaves space in the buffer.
    /// Registered before the buffer is tried again, so that none is missed.
    pub fn next(&self) -> NextDelivery<'_> {
        self.waiting_for_space.fetch_add(1, Ordering::SeqCst);
        let mut notified = Box::pin(self.space.notified());
        notified.as_mut().enable();
        NextDelivery { deliveries: self, notified }
    }
}

pub(crate) struct NextDelivery<'a> {
    deliveries: &'a Deliveries,
    notified: std::pin::Pin<Box<tokio::sync::futures::Notified<'a>>>,
}

impl NextDelivery<'_> {
    pub async fn happened(mut self) {
        self.notified.as_mut().await;
    }
}

impl Drop for NextDelivery<'_> {
    fn drop(&mut self) {
        self.deliveries.waiting_for_space.fetch_sub(1, Ordering::SeqCst);
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "kafka producer error");
    }
}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        match result {
            Ok(message) => ticket.append.delivered(ticket.index, message.offset()),
            Err((error, _)) => ticket.append.failed(error),
        }
        if self.waiting_for_space.load(Ordering::SeqCst) > 0 {
            self.space.notify_waiters();
        }
    }
}

/// Which record of which append.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub append: Arc<Append>,
    pub index: usize,
}

/// The records of one call.
#[derive(Debug, Default)]
pub(crate) struct Append {
    progress: Mutex<Progress>,
    done: Notify,
}

#[derive(Debug, Default)]
struct Progress {
    offsets: Vec<i64>,
    enqueued: usize,
    answered: usize,
    all_enqueued: bool,
    appended: bool,
    failure: Option<(Fate, String)>,
}

/// How an append ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The offset of each record.
    Appended(Vec<i64>),
    /// At least one record failed.
    Failed {
        /// The worst that happened to one.
        fate: Fate,
        /// Whether at least one other is in the log.
        some_appended: bool,
        /// What the client said of the worst.
        reason: String,
    },
}

impl Append {
    pub fn of(records: usize) -> Arc<Self> {
        let append = Self::default();
        append.progress().offsets = vec![-1; records];
        Arc::new(append)
    }

    /// Counts a record before it is handed to the producer, whose report may be faster than we are.
    pub fn enqueue(&self) {
        self.progress().enqueued += 1;
    }

    /// Takes back a record that the producer did not accept.
    pub fn take_back(&self) {
        self.progress().enqueued -= 1;
    }

    /// No record follows. `failure`: why the rest was not enqueued.
    pub fn close(&self, failure: Option<&KafkaError>) {
        let mut progress = self.progress();
        progress.all_enqueued = true;
        if let Some(error) = failure {
            progress.fail(fate(error), error);
        }
        self.wake(&progress);
    }

    /// Waits until each record enqueued has its answer.
    pub async fn outcome(&self) -> Outcome {
        loop {
            let done = self.done.notified();
            {
                let mut progress = self.progress();
                if progress.is_done() {
                    return progress.take();
                }
            }
            done.await;
        }
    }

    fn delivered(&self, index: usize, offset: i64) {
        let mut progress = self.progress();
        progress.offsets[index] = offset;
        progress.appended = true;
        progress.answered += 1;
        self.wake(&progress);
    }

    fn failed(&self, error: &KafkaError) {
        let mut progress = self.progress();
        progress.fail(fate(error), error);
        progress.answered += 1;
        self.wake(&progress);
    }

    fn wake(&self, progress: &Progress) {
        if progress.is_done() {
            self.done.notify_one();
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    fn is_done(&self) -> bool {
        self.all_enqueued && self.answered == self.enqueued
    }

    fn fail(&mut self, fate: Fate, error: &KafkaError) {
        if self.failure.as_ref().is_none_or(|(worst, _)| fate > *worst) {
            self.failure = Some((fate, error.to_string()));
        }
    }

    fn take(&mut self) -> Outcome {
        match self.failure.take() {
            None => Outcome::Appended(std::mem::take(&mut self.offsets)),
            Some((fate, reason)) => Outcome::Failed { fate, some_appended: self.appended, reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::error::RDKafkaErrorCode as Code;

    #[tokio::test]
    async fn an_append_is_done_when_every_record_has_its_answer() {
        let append = Append::of(2);
        append.enqueue();
        append.delivered(0, 7);
        append.enqueue();
        append.close(None);
        assert!(!append.progress().is_done());
        append.delivered(1, 8);
        assert_eq!(append.outcome().await, Outcome::Appended(vec![7, 8]));
    }

    #[tokio::test]
    async fn the_worst_fate_decides() {
        let append = Append::of(3);
        for _ in 0..2 {
            append.enqueue();
        }
        append.close(Some(&KafkaError::MessageProduction(Code::MessageSizeTooLarge)));
        append.delivered(0, 7);
        append.failed(&KafkaError::MessageProduction(Code::MessageTimedOut));
        let outcome = append.outcome().await;
        assert!(matches!(outcome, Outcome::Failed { fate: Fate::Unknown, some_appended: true, .. }), "{outcome:?}");
    }
}
