//! Scanning without a group.

use domain::{Position, TopicPartition};

use super::{LogUnderTest, all, append, range, run, values};
use crate::PortError;
use crate::conformance::done;

/// A range holds the records from its start on and below its end, however it is asked for.
pub async fn ranges_are_respected(log: &dyn LogUnderTest) {
    let topic = log.topic().await;
    append(log, run(&topic, "range", 300)).await;
    let at = TopicPartition::new(topic.clone(), 1);
    let whole = all(log, &at).await;
    assert_eq!(whole.len(), 100, "a third of the records is in partition 1");
    for (from, to) in [(0, 100), (0, 1), (99, 100), (17, 60), (50, 50), (60, 17)] {
        let end = whole.get(to).map_or(whole[99].offset + 1, |record| record.offset);
        let expected = if from < to { &whole[from..to] } else { &[] };
        let found = range(log, &at, whole[from].offset, end).await;
        assert_eq!(values(&found), values(expected), "records {from} to {to} of {at}");
        assert!(found == expected, "records {from} to {to} of {at}, with times and headers");
    }
    let end = whole[99].offset + 1;
    assert_eq!(range(log, &at, end, end).await, [], "nothing at the end");
    let empty = log.topic().await;
    assert_eq!(range(log, &TopicPartition::new(empty, 2), 0, 0).await, [], "nothing in an empty partition");
}

/// Bounds name each partition in order, and grow with it.
pub async fn bounds_follow_the_records(log: &dyn LogUnderTest) {
    let topic = log.topic().await;
    let before = done(log.scan().bounds(&topic).await, "bounds");
    assert!(before.len() >= 3, "a topic for the suite has three partitions or more, got {}", before.len());
    for (n, bounds) in (0_i32..).zip(&before) {
        assert_eq!(bounds.at, TopicPartition::new(topic.clone(), n), "partitions come in order");
        assert_eq!(bounds.first, bounds.end, "a new partition is empty");
    }
    append(log, run(&topic, "bounds", 7)).await;
    let after = done(log.scan().bounds(&topic).await, "bounds");
    let grown: Vec<i64> = before.iter().zip(&after).map(|(before, after)| after.end - before.end).collect();
    assert_eq!(grown[..3], [3, 2, 2], "ends count the records");
    assert!(grown[3..].iter().all(|grown| *grown == 0), "other partitions stay empty: {grown:?}");
    assert!(before.iter().zip(&after).all(|(b, a)| a.first == b.first), "the first offsets stay");
}

/// Asking for records that retention has deleted is an error, for scans and readers alike.
pub async fn deleted_records_are_reported(log: &dyn LogUnderTest) {
    let topic = log.topic().await;
    append(log, run(&topic, "deleted", 90)).await;
    let at = TopicPartition::new(topic.clone(), 0);
    let whole = all(log, &at).await;
    let (deleted, kept) = (whole[3].position(), whole[10].position());
    if !log.delete_before(&kept).await {
        return;
    }
    let bounds = done(log.scan().bounds(&topic).await, "bounds");
    assert_eq!(bounds[0].first, kept.offset, "the first offset is the first record's that is left");
    let is_told = |error: &PortError| match error {
        PortError::Truncated { at: place, wanted, first } => {
            *place == at && *wanted == deleted.offset && *first == kept.offset
        }
        _ => false,
    };
    let scanned = log.scan().read(&deleted, kept.offset + 5).await;
    assert!(scanned.as_ref().is_err_and(is_told), "expected Truncated, got {scanned:?}");
    assert_eq!(range(log, &at, kept.offset, kept.offset + 1).await.len(), 1, "what is left can be read");

    let mut member = super::member::Member::join(log, "deleted", &topic).await;
    member.start_at(Position { at: at.clone(), offset: deleted.offset });
    let read = member.error().await;
    assert!(is_told(&read), "expected Truncated, got {read:?}");
    let mut member = super::member::Member::join(log, "earliest", &topic).await;
    member.read(90 - 10).await;
    assert!(member.records.iter().all(|record| record.at != at || record.offset >= kept.offset));
}
