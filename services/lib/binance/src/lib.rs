//! The exchange: its stream, its memory, and recordings of it.
//!
//! * [`LiveFeed`] keeps the `@trade` streams of all symbols flowing: it connects, subscribes,
//!   answers pings, rotates before the exchange cuts, and comes back after everything that ends a
//!   connection.
//! * [`RestHistory`] fetches past trades by id within the exchange's limits.
//! * [`ReplayFeed`] reads recordings and the exchange's public archive files.
//!
//! All three hand over the exchange's bytes and digits as they are. What a trade means, which are
//! missing and which come twice is decided by the ledger behind the ports.

mod config;
mod error;
mod live;
mod replay;
mod rest;
pub mod telemetry;
mod tls;

pub use config::{BinanceConfig, TimeUnit};
pub use error::BinanceError;
pub use live::LiveFeed;
pub use replay::{Pace, PaceError, ReplayFeed};
pub use rest::RestHistory;

/// The longest that the exchange bans anybody: three days. A `Retry-After` beyond that is damage.
const LONGEST_BAN: std::time::Duration = std::time::Duration::from_secs(3 * 24 * 60 * 60);

/// The longest frame or line that is taken as input.
pub const MAX_FRAME_BYTES: usize = 512 * 1024;

/// How much of an input that cannot be used is kept as evidence.
const EVIDENCE_BYTES: usize = 64 * 1024;
