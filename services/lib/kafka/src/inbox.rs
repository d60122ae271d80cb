//! What the polling thread has for the service: a queue bounded in bytes.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::{Record, TopicPartition};
use ports::{LogEvent, PortError};
use tokio::sync::Notify;

/// A batch is what is there, up to these limits.
pub(crate) const BATCH_RECORDS: usize = 8_192;
pub(crate) const BATCH_BYTES: usize = 4 << 20;

/// Filled by the worker, emptied by the reader.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    content: Mutex<Content>,
    arrived: Notify,
    taken: Condvar,
}

#[derive(Debug, Default)]
struct Content {
    items: VecDeque<Item>,
    bytes: usize,
    closed: bool,
}

#[derive(Debug)]
struct Item {
    event: Result<LogEvent, PortError>,
    /// What its records weigh.
    bytes: usize,
}

impl Inbox {
    /// The oldest item, records together with those behind them; `None` when the worker is gone and nothing is left.
    pub async fn take(&self) -> Option<Result<LogEvent, PortError>> {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut content = self.content();
                if let Some(event) = content.pop() {
                    self.taken.notify_all();
                    return Some(event);
                }
                if content.closed {
                    return None;
                }
            }
            arrived.await;
        }
    }

    /// Puts what weighs nothing.
    pub fn put(&self, event: Result<LogEvent, PortError>) {
        self.add(Item { event, bytes: 0 });
    }

    /// Puts records, and what they weigh together.
    pub fn put_records(&self, records: Vec<Record>, bytes: usize) {
        debug_assert_eq!(bytes, weight(&records));
        self.add(Item { event: Ok(LogEvent::Records(records)), bytes });
    }

    fn add(&self, item: Item) {
        let mut content = self.content();
        content.bytes += item.bytes;
        content.items.push_back(item);
        drop(content);
        self.arrived.notify_one();
    }

    /// Nothing follows.
    pub fn close(&self) {
        self.content().closed = true;
        self.arrived.notify_one();
    }

    pub fn bytes(&self) -> usize {
        self.content().bytes
    }

    /// Waits until at most `bytes` are left, or for `limit`; says which.
    pub fn wait_below(&self, bytes: usize, limit: Duration) -> bool {
        let content = self.content();
        let waited = self.taken.wait_timeout_while(content, limit, |content| content.bytes > bytes);
        waited.unwrap_or_else(PoisonError::into_inner).0.bytes <= bytes
    }

    /// Drops the records of a partition.
    pub fn drop_records_of(&self, at: &TopicPartition) {
        self.retain(|record| record.at != *at);
    }

    /// Drops all records, for all partitions are taken away; also an assignment that nobody has seen.
    /// Says whether there was one.
    pub fn drop_records_and_assignment(&self) -> bool {
        self.retain(|_| false);
        let mut content = self.content();
        let before = content.items.len();
        content.items.retain(|item| !matches!(item.event, Ok(LogEvent::Assigned(_))));
        content.items.len() < before
    }

    fn retain(&self, keep: impl Fn(&Record) -> bool) {
        let mut content = self.content();
        for item in &mut content.items {
            if let Ok(LogEvent::Records(records)) = &mut item.event {
                records.retain(&keep);
                item.bytes = weight(records);
            }
        }
        content.items.retain(|item| !matches!(&item.event, Ok(LogEvent::Records(records)) if records.is_empty()));
        content.bytes = content.items.iter().map(|item| item.bytes).sum();
        self.taken.notify_all();
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn pop(&mut self) -> Option<Result<LogEvent, PortError>> {
        let Item { mut event, mut bytes } = self.items.pop_front()?;
        if let Ok(LogEvent::Records(records)) = &mut event {
            while let Some(Item { event: Ok(LogEvent::Records(more)), bytes: weight }) = self.items.front_mut() {
                if records.len() + more.len() > BATCH_RECORDS || bytes + *weight > BATCH_BYTES {
                    break;
                }
                records.append(more);
                bytes += *weight;
                self.items.pop_front();
            }
        }
        self.bytes -= bytes;
        Some(event)
    }
}

fn weight(records: &[Record]) -> usize {
    records.iter().map(Record::weight).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Headers, Timestamp};
    use ports::Assignment;

    fn record(partition: i32, offset: i64) -> Record {
        Record {
            at: TopicPartition::new("t", partition),
            offset,
            appended_at: Timestamp::from_millis(0),
            key: None,
            value: None,
            headers: Headers::new(),
        }
    }

    fn put(inbox: &Inbox, records: Vec<Record>) {
        let bytes = weight(&records);
        inbox.put_records(records, bytes);
    }

    #[tokio::test]
    async fn keeps_order_and_counts_bytes() {
        let inbox = Inbox::default();
        put(&inbox, vec![record(0, 1), record(1, 1)]);
        put(&inbox, vec![record(0, 2)]);
        assert_eq!(inbox.bytes(), 3 * record(0, 0).weight());
        inbox.drop_records_of(&TopicPartition::new("t", 0));
        assert_eq!(inbox.bytes(), record(0, 0).weight());
        let Some(Ok(LogEvent::Records(left))) = inbox.take().await else { panic!("records expected") };
        assert_eq!(left, [record(1, 1)]);
        assert_eq!(inbox.bytes(), 0);
        inbox.close();
        assert!(inbox.take().await.is_none());
    }

    #[tokio::test]
    async fn what_waits_is_taken_together_up_to_a_bound_and_never_across_a_rebalance() {
        let inbox = Inbox::default();
        let put_all = |offsets: std::ops::Range<i64>| put(&inbox, offsets.map(|at| record(0, at)).collect());
        put_all(0..10);
        put_all(10..8_000);
        put_all(8_000..9_000);
        inbox.put(Ok(LogEvent::Assigned(Assignment::new(Vec::new()).0)));
        put_all(9_000..9_001);
        let mut taken = Vec::new();
        for _ in 0..4 {
            taken.push(match inbox.take().await {
                Some(Ok(LogEvent::Records(records))) => records.len(),
                _ => 0,
            });
        }
        assert_eq!((taken, inbox.bytes()), (vec![8_000, 1_000, 0, 1], 0));
    }

    #[test]
    fn an_assignment_that_nobody_saw_is_taken_back() {
        let inbox = Inbox::default();
        inbox.put(Ok(LogEvent::Assigned(Assignment::new(Vec::new()).0)));
        put(&inbox, vec![record(0, 1)]);
        assert!(inbox.drop_records_and_assignment());
        assert!(!inbox.drop_records_and_assignment());
        assert!(inbox.wait_below(0, Duration::ZERO));
    }
}
