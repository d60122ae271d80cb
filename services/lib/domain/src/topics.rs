//! The names of the log's topics. They are configuration; these are the defaults.

use smol_str::SmolStr;

/// A topic of the log.
pub type Topic = SmolStr;

/// Trade events of the exchange, verbatim, keyed by symbol.
pub const TRADES: &str = "crypto-stream";

/// What the ledger of ingest found: gaps and their states, duplicates dropped. Keyed by symbol.
pub const GAPS: &str = "crypto-gaps";

/// Input that could not be used, with the reason in its headers.
pub const DEAD_LETTER: &str = "dead-letter";

/// Nothing is ever written there: whoever has its one partition is the ingest that works.
pub const INGEST_LEASE: &str = "ingest-lease";

/// The topics of the tape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// The topic of trades.
    pub stream: Topic,
    /// The topic of ledger events.
    pub gaps: Topic,
    /// The topic of unusable input.
    pub dead_letter: Topic,
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            stream: Topic::new_static(TRADES),
            gaps: Topic::new_static(GAPS),
            dead_letter: Topic::new_static(DEAD_LETTER),
        }
    }
}

/// The default number of partitions of each topic.
pub const DEFAULT_PARTITIONS: i32 = 6;

/// The partition of a key: the murmur2 hash that Java's Kafka clients use by default, so that
/// every client agrees and embedded mode and cluster place a symbol alike.
///
/// Source: Apache Kafka, `org.apache.kafka.common.utils.Utils.murmur2`.
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    debug_assert!(partitions > 0);
    let positive = murmur2(key) & 0x7fff_ffff;
    i32::try_from(positive).expect("31 bits fit") % partitions
}

fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = SEED ^ length;
    let mut words = data.chunks_exact(4);
    for word in words.by_ref() {
        let mut k = u32::from_le_bytes(word.try_into().expect("four bytes")).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (n, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * n);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn agrees_with_the_java_client() {
        let vectors: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, expected) in vectors {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), expected, "{key}");
        }
    }
}
