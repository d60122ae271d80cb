//! Reading as the only member of a group.

use std::time::Duration;

use domain::{Outgoing, Position, Record, TopicPartition};
use futures::FutureExt;

use super::member::{Member, PATIENCE, QUIET};
use super::{LogUnderTest, all, append, outgoing, run, same, values};
use crate::LogEvent;
use crate::conformance::{done, refused};

/// A reader starts at the earliest record, in the middle or at the end, as it was told.
pub async fn readers_start_where_told(log: &dyn LogUnderTest) {
    let topic = log.topic().await;
    append(log, run(&topic, "old", 90)).await;
    let places = [0, 1, 2].map(|partition| TopicPartition::new(topic.clone(), partition));
    let (whole, end) = (all(log, &places[1]).await, all(log, &places[2]).await[29].offset + 1);

    let mut member = Member::join(log, "start", &topic).await;
    member.start_at(whole[12].position());
    member.start_at(Position { at: places[2].clone(), offset: end });
    member.read(30 + 18).await;
    append(log, run(&topic, "new", 9)).await;
    member.read(30 + 18 + 9).await;
    let of = |partition: usize| -> Vec<Record> {
        member.records.iter().filter(|record| record.at == places[partition]).cloned().collect()
    };
    assert!(of(0) == all(log, &places[0]).await, "earliest: all records, as a scan has them");
    assert!(of(1) == all(log, &places[1]).await[12..], "in the middle: that record and all behind it");
    assert_eq!(values(&of(2)), ["new 2", "new 5", "new 8"], "at the end: only what came later");
}

/// No record of a partition comes before the reader has said where to start.
pub async fn nothing_comes_before_the_answer(log: &dyn LogUnderTest) {
    let topic = log.topic().await;
    append(log, run(&topic, "early", 30)).await;
    let mut member = Member::join(log, "answer", &topic).await;
    let first = tokio::time::timeout(PATIENCE, member.reader.next()).await;
    let Ok(Ok(LogEvent::Assigned(assignment))) = first else {
        panic!("expected to be assigned partitions first, got: {first:?}");
    };
    assert!(assignment.partitions().len() >= 3, "the only member gets all partitions");
    let early = tokio::time::timeout(QUIET, member.reader.next()).await;
    assert!(early.is_err(), "an event came before the assignment was answered: {early:?}");
    member.accept(assignment);
    member.read(30).await;
}

/// Committing changes nothing about what is read, now or by the next reader of the group.
pub async fn commits_are_only_hints(log: &dyn LogUnderTest) {
    let topic = log.topic().await;
    append(log, run(&topic, "hint", 60)).await;
    let mut member = Member::join(log, "hint", &topic).await;
    member.assigned().await;
    let far: Vec<_> = member.owned.keys().map(|at| Position { at: at.clone(), offset: 15 }).collect();
    done(member.reader.commit(&far).await, "commit ahead of what was read");
    done(member.reader.commit(&[]).await, "commit nothing");
    member.read(60).await;

    let (group, first) = (member.group.clone(), std::mem::take(&mut member.records));
    drop(member);
    let mut successor = Member::join_group(log, &group, &topic).await;
    successor.read(60).await;
    let sorted = |mut records: Vec<Record>| {
        records.sort_by_key(Record::position);
        records
    };
    assert!(sorted(successor.records) == sorted(first), "the next reader of the group starts where it says");
}

/// After seeking, the next record of the partition is the one that was asked for.
pub async fn seeking_goes_both_ways(log: &dyn LogUnderTest) {
    let topic = log.topic().await;
    let many = |n: usize| outgoing(&topic, if n.is_multiple_of(10) { 1 } else { 0 }, format!("seek {n}"));
    for part in (0..3_000).collect::<Vec<_>>().chunks(500) {
        append(log, part.iter().map(|n| many(*n)).collect()).await;
    }
    let at = TopicPartition::new(topic.clone(), 0);
    let whole = all(log, &at).await;
    let mut member = Member::join(log, "seek", &topic).await;
    let elsewhere = Position { at: TopicPartition::new(topic.clone(), 9_999), offset: 0 };
    refused(member.reader.seek(&elsewhere).await, "seek in a partition that is not assigned");
    member.assigned().await;
    refused(member.reader.seek(&elsewhere).await, "seek in a partition that is not assigned");

    // Sought at once, forward, back, to the first, and to the end: what is on its way must not come.
    for target in [2_000, 2_600, 5, 0, 1_300, 2_700, 2_699] {
        let to = whole.get(target).map_or(whole[2_699].offset + 1, |record| record.offset);
        done(member.reader.seek(&Position { at: at.clone(), offset: to }).await, "seek");
        member.owned.insert(at.clone(), to);
        member.records.clear();
        let mut found = Vec::new();
        let expected = &whole[target..(target + 300).min(whole.len())];
        while found.len() < expected.len() {
            assert!(member.step(PATIENCE).await, "expected records behind offset {to}");
            found.extend(member.records.drain(..).filter(|record| record.at == at));
        }
        found.truncate(expected.len());
        assert!(found == expected, "seek to {to}: the record there and those behind it, without a hole");
    }
    append(log, vec![outgoing(&topic, 0, "at the end")]).await;
    while member.records.last().is_none_or(|record| record.value.as_deref() != Some(b"at the end")) {
        assert!(member.step(PATIENCE).await, "expected the record behind the end");
    }
}

/// Whoever wants to go on behind the end has read another log, or one that has lost its end: what comes there some day
/// is not what was meant.
pub async fn places_behind_the_end_are_refused(log: &dyn LogUnderTest) {
    let topic = log.topic().await;
    let at = TopicPartition::new(topic.clone(), 0);
    append(log, (0..20).map(|n| outgoing(&topic, 0, format!("early {n}"))).collect()).await;
    let whole = all(log, &at).await;
    let end = whole[19].offset + 1;
    let mut member = Member::join(log, "behind", &topic).await;
    member.start_at(Position { at: at.clone(), offset: end + 480 });
    refused(Err::<(), _>(member.error().await), "a start behind the end");
    done(member.reader.seek(&Position { at: at.clone(), offset: end + 1 }).await, "seek");
    refused(Err::<(), _>(member.error().await), "a place behind the end");
    done(member.reader.seek(&whole[19].position()).await, "seek");
    member.owned.insert(at, whole[19].offset);
    member.read(1).await;
    assert!(member.records == whole[19..], "the last record is read from where it is");
}

/// A reader whose `next` is dropped again and again gets every record once, in order.
pub async fn dropping_next_loses_nothing(log: &dyn LogUnderTest) {
    let topic = log.topic().await;
    let records = run(&topic, "dropped", 400);
    let mut member = Member::join(log, "dropped", &topic).await;
    let mut unwritten = records.chunks(7);
    let mut rounds = 0_u64;
    let give_up = tokio::time::Instant::now() + PATIENCE;
    while member.records.len() < records.len() {
        if let Some(part) = unwritten.next() {
            append(log, part.to_vec()).await;
        }
        // Polled once and dropped, and dropped after a moment.
        if let Some(event) = member.reader.next().now_or_never() {
            member.take(done(event, "next"));
        }
        member.step(Duration::from_micros(rounds % 13 * 250)).await;
        rounds += 1;
        let so_far = member.records.len();
        assert!(tokio::time::Instant::now() < give_up, "expected {} records, got {so_far}", records.len());
    }
    complete(&member.records, &records, "records read by a next that was often dropped");
}

/// Two groups read the same records, each all of them.
pub async fn groups_are_independent(log: &dyn LogUnderTest) {
    let topic = log.topic().await;
    let records = run(&topic, "both", 60);
    let mut one = Member::join(log, "one", &topic).await;
    let mut two = Member::join(log, "two", &topic).await;
    append(log, records.clone()).await;
    one.read(60).await;
    two.read(60).await;
    complete(&one.records, &records, "one group");
    complete(&two.records, &records, "another group");
}

/// Many megabytes arrive whole, in order, from appends that were under way at the same time.
pub async fn large_runs_arrive_whole(log: &dyn LogUnderTest) {
    let topic = log.topic().await;
    let body = |n: usize| {
        let mut body = format!("{n} ").into_bytes();
        body.resize(500 + n * 37 % 20_000, b'.');
        body
    };
    let partition = |n: usize| i32::try_from(n / 200 % 3).expect("small");
    let records: Vec<Outgoing> = (0..3_000).map(|n| outgoing(&topic, partition(n), body(n))).collect();
    // Several appends at a time, each of one partition and only one per partition.
    for three in records.chunks(600) {
        let appends = three.chunks(200).map(|part| append(log, part.to_vec()));
        futures::future::join_all(appends).await;
    }
    let mut member = Member::join(log, "large", &topic).await;
    member.read(records.len()).await;
    complete(&member.records, &records, "a run of many megabytes, read by a group");
    let mut scanned = Vec::new();
    for partition in 0..3 {
        scanned.extend(all(log, &TopicPartition::new(topic.clone(), partition)).await);
    }
    complete(&scanned, &records, "a run of many megabytes, scanned");
}

/// Checks that `found` holds each record of `written` once, those of a partition in order.
pub(super) fn complete(found: &[Record], written: &[Outgoing], what: &str) {
    assert_eq!(found.len(), written.len(), "{what}: how many records");
    let mut places: Vec<_> = written.iter().map(|record| &record.to).collect();
    places.sort();
    places.dedup();
    for at in places {
        let found = found.iter().filter(|record| record.at == *at);
        let written = written.iter().filter(|record| record.to == *at);
        assert_eq!(found.clone().count(), written.clone().count(), "{what}: how many records of {at}");
        for (found, written) in found.zip(written) {
            same(found, written, what);
        }
    }
}
