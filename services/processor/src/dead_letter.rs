//! Unusable records, kept in the log as they are, with the reason and the place they were read from.
//!
//! That place is also their identity: what a crash makes us do again is looked up in the tail of
//! the output partition first, so that a dead letter stands there once.

use std::collections::BTreeMap;

use domain::record::{DEAD_OFFSET, DEAD_PARTITION, DEAD_TOPIC, DEAD_VALUE_BYTES, REASON, bounded_reason};
use domain::{Headers, Outgoing, Position, Record, Topic, TopicPartition};
use ports::{Bounds, LogScan, LogWriter, PortError, persist};

/// How much of a record's key a letter keeps, in bytes.
const DEAD_KEY_BYTES: usize = 64 * 1_024;

/// How much of a record's headers a letter keeps, in bytes: the first that fit.
const DEAD_HEADERS_BYTES: usize = 64 * 1_024;

/// What a header weighs beside its name and value, at most.
const HEADER_OVERHEAD: usize = 64;

/// The dead letters of one source partition.
#[derive(Debug)]
pub struct DeadLetters {
    /// The output partition and its end as far as we know.
    output: Position,
    /// Offsets of the source partition that are already in the output, and where.
    there: BTreeMap<i64, i64>,
    pending: Vec<(i64, Outgoing)>,
}

impl DeadLetters {
    /// Looks which dead letters of `source` are in the output since `checkpoint`, or, without a
    /// checkpoint, at all.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn recover(
        scan: &dyn LogScan,
        topic: &Topic,
        source: &TopicPartition,
        checkpoint: Option<&Position>,
    ) -> Result<Self, PortError> {
        let bounds = persist("dead letter bounds", || scan.bounds(topic)).await?;
        let place = usize::try_from(source.partition).unwrap_or_default() % bounds.len().max(1);
        let Some(Bounds { at, first, end }) = bounds.into_iter().nth(place) else {
            return Err(PortError::refused("log", format!("topic {topic} has no partitions")));
        };
        let start = checkpoint.map_or(first, |position| position.offset.max(first));
        let mut letters = Self { output: Position { at, offset: start }, there: BTreeMap::new(), pending: Vec::new() };
        letters.look(scan, source, end).await?;
        Ok(letters)
    }

    /// Keeps a record, unless it is kept already.
    pub fn bury(&mut self, record: &Record, reason: String) {
        if self.there.contains_key(&record.offset) {
            return;
        }
        let mut headers = Headers::new()
            .with(REASON, bounded_reason(reason))
            .with(DEAD_TOPIC, record.at.topic.as_str())
            .with(DEAD_PARTITION, record.at.partition.to_string())
            .with(DEAD_OFFSET, record.offset.to_string());
        // A letter must fit the log again; the whole record still stands where the headers say.
        let mut room = DEAD_HEADERS_BYTES;
        for (name, value) in record.headers.iter() {
            if let Some(rest) = room.checked_sub(name.len() + value.len() + HEADER_OVERHEAD) {
                headers = headers.with(name, value);
                room = rest;
            }
        }
        let key = record.key.as_ref().map(|key| key.slice(..key.len().min(DEAD_KEY_BYTES)));
        let value = record.value.as_ref().map(|value| value.slice(..value.len().min(DEAD_VALUE_BYTES)));
        let letter = Outgoing { to: self.output.at.clone(), key, value, headers };
        self.pending.push((record.offset, letter));
    }

    /// Appends what is pending and is not there yet: an earlier attempt without an answer, or another
    /// owner of the partition who does not know yet that it is none any more, may have done it.
    ///
    /// # Errors
    /// If the log refuses.
    pub async fn publish(
        &mut self,
        writer: &dyn LogWriter,
        scan: &dyn LogScan,
        source: &TopicPartition,
    ) -> Result<(), PortError> {
        while !self.pending.is_empty() {
            let bounds = persist("dead letter bounds", || scan.bounds(&self.output.at.topic)).await?;
            let end = bounds.into_iter().find(|bounds| bounds.at == self.output.at).map_or(0, |bounds| bounds.end);
            self.look(scan, source, end).await?;
            self.pending.retain(|(offset, _)| !self.there.contains_key(offset));
            let letters: Vec<Outgoing> = self.pending.iter().map(|(_, letter)| letter.clone()).collect();
            if letters.is_empty() {
                break;
            }
            match writer.append(letters).await {
                Ok(positions) => {
                    let end = positions.into_iter().map(|position| position.offset + 1).max();
                    self.output.offset = self.output.offset.max(end.unwrap_or_default());
                    self.pending.clear();
                }
                Err(error) if error.is_retriable() => {
                    tracing::warn!(%error, at = %self.output.at, "dead letters without acknowledgement, looking for them");
                    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Where to look from, for whoever goes on at `next`: what a predecessor has buried beyond it stands
    /// behind this place.
    pub fn output(&mut self, next: i64) -> Position {
        self.there = self.there.split_off(&next);
        let offset = self.there.values().min().copied().unwrap_or(self.output.offset);
        Position { offset: offset.min(self.output.offset), ..self.output.clone() }
    }

    async fn look(&mut self, scan: &dyn LogScan, source: &TopicPartition, end: i64) -> Result<(), PortError> {
        while self.output.offset < end {
            let records = persist("dead letters", || scan.read(&self.output, end)).await?;
            let Some(last) = records.last() else { break };
            self.output.offset = last.offset + 1;
            let ours = records.iter().filter_map(|record| Some((offset_of(record, source)?, record.offset)));
            for (offset, place) in ours {
                self.there.entry(offset).or_insert(place);
            }
        }
        Ok(())
    }
}

fn offset_of(letter: &Record, source: &TopicPartition) -> Option<i64> {
    // Headers of the original record follow ours, and the last of a name wins: compare the first.
    let first =
        |name: &str| letter.headers.iter().find(|(n, _)| *n == name).and_then(|(_, v)| std::str::from_utf8(v).ok());
    let same_topic = first(DEAD_TOPIC)? == source.topic;
    let same_partition = first(DEAD_PARTITION)?.parse() == Ok(source.partition);
    (same_topic && same_partition).then(|| first(DEAD_OFFSET)?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Timestamp;

    #[test]
    fn a_letter_fits_the_log_whatever_it_keeps() {
        let at = TopicPartition::new("crypto-stream", 0);
        let large = bytes::Bytes::from(vec![b'x'; 900_000]);
        let headers = Headers::new().with("large", large.clone()).with("small", "kept");
        let (key, value) = (Some(large.clone()), Some(large));
        let record = Record { at, offset: 7, appended_at: Timestamp::from_millis(1), key, value, headers };
        let output = Position { at: TopicPartition::new("dead-letter", 0), offset: 0 };
        let mut letters = DeadLetters { output, there: BTreeMap::new(), pending: Vec::new() };
        letters.bury(&record, "no trade".to_owned());
        let (_, letter) = &letters.pending[0];
        let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
        let headers: usize = letter.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(length(&letter.key) + length(&letter.value) + headers < 700_000);
        assert!(letter.headers.iter().any(|(name, value)| name == "small" && value == b"kept"));
    }
}
