//! First stage: what a feed's event is.

use bytes::Bytes;
use domain::frame::Frame;
use domain::{Origin, Symbol, Timestamp, Trade, record};
use ports::FeedEvent;

use crate::recent::print_of;

/// A trade made this much later than it was received, in µs, was not made then: clocks differ by less.
const A_DAY: i64 = 24 * 60 * 60 * 1_000_000;

/// A trade on its way to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The exchange's event, verbatim.
    pub event: Bytes,
    /// The market.
    pub symbol: Symbol,
    /// The trade id.
    pub id: u64,
    /// The hour in which the trade was made.
    pub hour: Timestamp,
    /// How it reached us.
    pub origin: Origin,
    /// When it reached us.
    pub received_at: Timestamp,
    /// The source's name.
    pub source: Bytes,
    /// What the exchange said of it, see [`print_of`].
    pub print: u64,
}

impl Arrival {
    /// A trade whose event has been read.
    pub fn new(event: Bytes, trade: &Trade, origin: Origin, received_at: Timestamp, source: Bytes) -> Self {
        let (symbol, hour) = (trade.symbol.clone(), trade.trade_time.hour());
        Self { event, symbol, id: trade.id, hour, origin, received_at, source, print: print_of(trade) }
    }

    /// What it weighs in a buffer that is bounded in bytes.
    pub fn weight(&self) -> usize {
        std::mem::size_of::<Self>() + self.event.len()
    }
}

/// Input that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadInput {
    /// The input, possibly cut by the feed.
    pub bytes: Bytes,
    /// When it reached us.
    pub received_at: Timestamp,
    /// The source's name.
    pub source: Bytes,
    /// What was expected, and where.
    pub reason: String,
}

impl DeadInput {
    /// Input that cannot be used, and why. Some errors quote the input, so their text is bounded.
    pub fn new(bytes: Bytes, received_at: Timestamp, source: Bytes, reason: String) -> Self {
        Self { bytes, received_at, source, reason: record::bounded_reason(reason) }
    }

    /// What it weighs in a buffer that is bounded in bytes.
    pub fn weight(&self) -> usize {
        std::mem::size_of::<Self>() + self.bytes.len() + self.source.len() + self.reason.len()
    }
}

/// What a feed's event is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A trade.
    Trade(Arrival),
    /// Nothing for the tape.
    Ignored,
    /// Unusable.
    Dead(DeadInput),
    /// The feed is at its end.
    End,
}

/// Tells what a feed's event is; rows of an archive have no other time than their own, so they are compared with `now`.
pub fn decode(event: FeedEvent, now: Timestamp) -> Decoded {
    let placed = |source: &[u8], place: Option<u64>, error: String| match place {
        Some(place) => format!("{}:{place}: {error}", String::from_utf8_lossy(source)),
        None => error,
    };
    match event {
        FeedEvent::Frame { bytes, received_at, origin, source, place } => match Frame::decode(&bytes) {
            Ok(Frame::Trade(_, trade)) if trade.trade_time.micros_since(received_at.min(now)) > A_DAY => {
                let error = format!("field T: expected a time before tomorrow's, got {}", trade.trade_time);
                let reason = placed(&source, place, error);
                Decoded::Dead(DeadInput::new(bytes, received_at, source, reason))
            }
            Ok(Frame::Trade(event, trade)) => Decoded::Trade(Arrival::new(event, &trade, origin, received_at, source)),
            Ok(Frame::Refusal { code, message }) => {
                tracing::warn!(code, message, "the exchange refused a request");
                Decoded::Ignored
            }
            Ok(Frame::Other(_) | Frame::ServerShutdown) => Decoded::Ignored,
            Err(error) => {
                let reason = placed(&source, place, error.to_string());
                Decoded::Dead(DeadInput::new(bytes, received_at, source, reason))
            }
        },
        FeedEvent::Damaged { bytes, received_at, source, reason } => {
            Decoded::Dead(DeadInput::new(bytes, received_at, source, reason))
        }
        FeedEvent::End => Decoded::End,
    }
}
