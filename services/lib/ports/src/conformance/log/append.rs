//! Appending.

use bytes::Bytes;
use domain::{Headers, Outgoing, TopicPartition};

use super::{LogUnderTest, all, append, outgoing, range, run, same, values};
use crate::conformance::{done, refused, unique};

/// The positions that an append returns are those of its records, in the order given.
pub async fn positions_are_where_records_stand(log: &dyn LogUnderTest) {
    let topic = log.topic().await;
    for round in 0..3 {
        let records = run(&topic, &format!("round {round}"), 31);
        let positions = append(log, records.clone()).await;
        assert_eq!(positions.len(), records.len(), "one position for each record");
        for (position, record) in positions.iter().zip(&records) {
            assert_eq!(position.at, record.to, "the position is in the record's partition");
            let found = range(log, &position.at, position.offset, position.offset + 1).await;
            assert_eq!(found.len(), 1, "one record stands at offset {} of {}", position.offset, position.at);
            assert_eq!(found[0].position(), *position, "a record knows where it stands");
            same(&found[0], record, "the record at the position returned");
            assert!(found[0].appended_at.date().as_str() > "2000", "appended at {}", found[0].appended_at);
        }
    }
}

/// Records of a partition stand in the order given, over several calls.
pub async fn order_is_kept_over_calls(log: &dyn LogUnderTest) {
    let topic = log.topic().await;
    let records = run(&topic, "order", 600);
    for part in records.chunks(97) {
        append(log, part.to_vec()).await;
    }
    for partition in 0..3 {
        let at = TopicPartition::new(topic.clone(), partition);
        let expected: Vec<_> = (partition..600).step_by(3).map(|n| format!("order {n}")).collect();
        assert_eq!(values(&all(log, &at).await), expected, "order of {at}");
    }
}

/// An absent key or value is not an empty one.
pub async fn absent_is_not_empty(log: &dyn LogUnderTest) {
    let topic = log.topic().await;
    let states = [None, Some(Bytes::new()), Some(Bytes::from_static(b"\0\xff\n"))];
    let mut records = Vec::new();
    for key in &states {
        for value in &states {
            records.push(Outgoing { key: key.clone(), value: value.clone(), ..outgoing(&topic, 1, "") });
        }
    }
    append(log, records.clone()).await;
    let found = all(log, &TopicPartition::new(topic, 1)).await;
    assert_eq!(found.len(), records.len(), "records with absent or empty keys and values are all there");
    for (found, record) in found.iter().zip(&records) {
        same(found, record, "absent is not empty");
    }
}

/// Headers keep names, bytes, order and duplicates.
pub async fn headers_are_verbatim(log: &dyn LogUnderTest) {
    let topic = log.topic().await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let all_kinds = [
        Headers::new(),
        Headers::new().with("origin", "live").with("received_at", "1723161255342000"),
        Headers::new().with("b", "1").with("a", "2").with("b", "3").with("b", "1"),
        Headers::new().with("empty", "").with("every byte", every_byte),
        Headers::new().with("a name of more than twenty-three bytes €", "x".repeat(5_000)),
        (0..300).fold(Headers::new(), |headers, n| headers.with(format!("h{n}"), format!("{n}"))),
    ];
    let records: Vec<_> =
        all_kinds.iter().map(|headers| Outgoing { headers: headers.clone(), ..outgoing(&topic, 0, "x") }).collect();
    append(log, records.clone()).await;
    let found = all(log, &TopicPartition::new(topic, 0)).await;
    assert_eq!(found.len(), records.len(), "records with headers are all there");
    for (found, record) in found.iter().zip(&records) {
        same(found, record, "headers are verbatim");
    }
}

/// Appending nothing does nothing.
pub async fn no_records_is_fine(log: &dyn LogUnderTest) {
    let topic = log.topic().await;
    assert_eq!(append(log, Vec::new()).await, [], "no records have no positions");
    let bounds = done(log.scan().bounds(&topic).await, "bounds");
    assert!(bounds.iter().all(|b| b.first == b.end), "an append of nothing leaves the topic empty: {bounds:?}");
}

/// Unknown topics and partitions and monstrous records are refused, and the writer goes on.
pub async fn what_does_not_fit_is_refused(log: &dyn LogUnderTest) {
    let (topic, writer) = (log.topic().await, log.writer());
    let nowhere = unique("no-such-topic-").into();
    refused(writer.append(vec![outgoing(&nowhere, 0, "x")]).await, "append to an unknown topic");
    refused(writer.append(vec![outgoing(&topic, 1_000, "x")]).await, "append to an unknown partition");
    refused(writer.append(vec![outgoing(&topic, -1, "x")]).await, "append to partition -1");
    let monster = outgoing(&topic, 0, vec![7; 32 << 20]);
    refused(writer.append(vec![monster]).await, "append a record of 32 MiB");
    refused(log.scan().bounds(&nowhere).await, "bounds of an unknown topic");
    append(log, vec![outgoing(&topic, 0, "after refusals")]).await;
    let found = all(log, &TopicPartition::new(topic, 0)).await;
    assert_eq!(values(&found), ["after refusals"], "the writer stays usable");
}
