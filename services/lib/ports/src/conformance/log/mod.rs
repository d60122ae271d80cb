//! What every log does: [`LogWriter`], [`LogReader`] and [`LogScan`] over one system.

mod append;
mod groups;
mod member;
mod read;
mod scan;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{Outgoing, Position, Record, Topic, TopicPartition};

use super::done;
use crate::{LogReader, LogScan, LogWriter};

pub use append::*;
pub use groups::*;
pub use read::*;
pub use scan::*;

/// A log, as the suite needs it.
#[async_trait]
pub trait LogUnderTest: Send + Sync {
    /// A writer.
    fn writer(&self) -> Arc<dyn LogWriter>;

    /// A scan.
    fn scan(&self) -> Arc<dyn LogScan>;

    /// A new member of a group, subscribed to a topic. Dropping it leaves the group.
    async fn reader(&self, group: &str, topic: &Topic) -> Box<dyn LogReader>;

    /// A topic that nobody else uses: empty, with three partitions or more.
    async fn topic(&self) -> Topic;

    /// Whether a group can have several members.
    fn supports_groups(&self) -> bool;

    /// Deletes the records before a position, as retention would; false if the log cannot.
    async fn delete_before(&self, _position: &Position) -> bool {
        false
    }
}

/// All cases, one after the other.
pub async fn suite(log: &dyn LogUnderTest) {
    positions_are_where_records_stand(log).await;
    order_is_kept_over_calls(log).await;
    absent_is_not_empty(log).await;
    headers_are_verbatim(log).await;
    no_records_is_fine(log).await;
    what_does_not_fit_is_refused(log).await;

    ranges_are_respected(log).await;
    bounds_follow_the_records(log).await;

    readers_start_where_told(log).await;
    nothing_comes_before_the_answer(log).await;
    commits_are_only_hints(log).await;
    seeking_goes_both_ways(log).await;
    places_behind_the_end_are_refused(log).await;
    dropping_next_loses_nothing(log).await;
    groups_are_independent(log).await;
    large_runs_arrive_whole(log).await;
    deleted_records_are_reported(log).await;

    if log.supports_groups() {
        members_share_without_loss(log).await;
        a_member_that_leaves_is_replaced(log).await;
    }
}

fn outgoing(topic: &Topic, partition: i32, value: impl Into<Bytes>) -> Outgoing {
    Outgoing {
        to: TopicPartition::new(topic.clone(), partition),
        key: Some(Bytes::from_static(b"BTCUSDT")),
        value: Some(value.into()),
        headers: domain::Headers::new().with("origin", "live"),
    }
}

/// `count` records over the partitions 0, 1 and 2 in turn, with values that tell them apart.
fn run(topic: &Topic, name: &str, count: usize) -> Vec<Outgoing> {
    (0_i32..).take(count).map(|n| outgoing(topic, n % 3, format!("{name} {n}"))).collect()
}

async fn append(log: &dyn LogUnderTest, records: Vec<Outgoing>) -> Vec<Position> {
    done(log.writer().append(records).await, "append")
}

/// All records of a partition.
async fn all(log: &dyn LogUnderTest, at: &TopicPartition) -> Vec<Record> {
    let bounds = done(log.scan().bounds(&at.topic).await, "bounds");
    let bounds = bounds.iter().find(|b| b.at == *at).unwrap_or_else(|| panic!("bounds leave out {at}"));
    range(log, at, bounds.first, bounds.end).await
}

/// The records of a partition from `from` on and below `end`.
async fn range(log: &dyn LogUnderTest, at: &TopicPartition, from: i64, end: i64) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    let mut next = Position { at: at.clone(), offset: from };
    loop {
        let part = done(log.scan().read(&next, end).await, "read a range");
        let Some(last) = part.last() else { return records };
        next.offset = last.offset + 1;
        for record in part {
            let before = records.last().map_or(from - 1, |record| record.offset);
            assert!(record.at == *at, "asked for {at}, got a record of {}", record.at);
            assert!(record.offset > before && record.offset < end, "expected {before} < {} < {end}", record.offset);
            records.push(record);
        }
    }
}

fn same(record: &Record, outgoing: &Outgoing, what: &str) {
    assert_eq!(record.at, outgoing.to, "{what}: partition");
    assert_eq!(record.key, outgoing.key, "{what}: key");
    assert!(record.value == outgoing.value, "{what}: value");
    assert_eq!(record.headers, outgoing.headers, "{what}: headers");
}

fn values(records: &[Record]) -> Vec<String> {
    let text = |record: &Record| String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
    records.iter().map(text).collect()
}
