//! The client's messages as our records.

use bytes::{BufMut, Bytes, BytesMut};
use domain::{Headers, Record, Timestamp, Topic, TopicPartition};
use rdkafka::message::{BorrowedMessage, Headers as _, Message, Timestamp as MessageTime};

/// Records share blocks of this size: one allocation for many, and a record that is kept holds
/// little beside itself.
const BLOCK_BYTES: usize = 64 << 10;

/// Headers are put where so much is left; longer ones get a block of their own.
const HEADERS_BYTES: usize = 1 << 10;

/// Copies messages out of the client's memory.
#[derive(Debug, Default)]
pub(crate) struct Copier {
    block: BytesMut,
    topic: Topic,
}

impl Copier {
    pub fn record(&mut self, message: &BorrowedMessage<'_>) -> Record {
        Record {
            at: TopicPartition { topic: self.topic(message.topic()), partition: message.partition() },
            offset: message.offset(),
            appended_at: appended_at(message.timestamp()),
            key: message.key().map(|key| self.bytes(key)),
            value: message.payload().map(|value| self.bytes(value)),
            headers: self.headers(message),
        }
    }

    /// Names over 23 bytes are on the heap; consecutive records share them.
    fn topic(&mut self, name: &str) -> Topic {
        if self.topic != name {
            self.topic = Topic::new(name);
        }
        self.topic.clone()
    }

    fn headers(&mut self, message: &BorrowedMessage<'_>) -> Headers {
        let Some(found) = message.headers() else { return Headers::new() };
        if self.block.capacity() < HEADERS_BYTES {
            self.block = BytesMut::with_capacity(BLOCK_BYTES);
        }
        let headers = (0..found.count()).map(|nth| found.get(nth));
        Headers::cut_from(&mut self.block, headers.map(|header| (header.key, header.value.unwrap_or_default())))
    }

    fn bytes(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.is_empty() {
            return Bytes::new();
        }
        if bytes.len() > BLOCK_BYTES / 4 {
            return Bytes::copy_from_slice(bytes);
        }
        if self.block.capacity() < bytes.len() {
            self.block = BytesMut::with_capacity(BLOCK_BYTES);
        }
        self.block.put_slice(bytes);
        self.block.split().freeze()
    }
}

/// Brokers count milliseconds.
fn appended_at(time: MessageTime) -> Timestamp {
    match time {
        MessageTime::LogAppendTime(millis) | MessageTime::CreateTime(millis) => Timestamp::from_millis(millis),
        MessageTime::NotAvailable => Timestamp::from_millis(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_share_blocks_and_stay_apart() {
        let mut copier = Copier::default();
        let copies: Vec<(Vec<u8>, Bytes)> = (0..50_000_usize)
            .map(|n| {
                let bytes = n.to_le_bytes().repeat(n % 40);
                let copy = copier.bytes(&bytes);
                (bytes, copy)
            })
            .collect();
        assert!(copies.iter().all(|(bytes, copy)| bytes == copy));
        let large = vec![7; BLOCK_BYTES * 2];
        assert_eq!(copier.bytes(&large), large);
    }
}
