//! The vocabulary of fulltape: what a trade is, how it is named, numbered and placed.
//!
//! Pure: no I/O, no clock, no randomness. Time and seeds arrive as arguments.
//!
//! In the order in which a trade meets them: [`frame`] (what the exchange sent), [`trade`]
//! (what it means), [`ledger`] (whether we have it already), [`record`] (its place in the log),
//! [`row`] (its place in the tables) and [`lake`] (its place in the archive).

pub mod decimal;
pub mod frame;
pub mod headers;
pub mod id_set;
pub mod lake;
pub mod ledger;
pub mod record;
pub mod row;
mod spelling;
pub mod symbol;
pub mod time;
pub mod topics;
pub mod trade;

pub use decimal::Decimal;
pub use headers::Headers;
pub use id_set::{IdRange, IdSet};
pub use record::{Origin, Outgoing, Position, Record, TopicPartition};
pub use row::{CompletenessRow, DuplicatesRow, GapRow, TradeRow};
pub use symbol::{BySymbol, Symbol};
pub use time::Timestamp;
pub use topics::{Topic, Topics};
pub use trade::Trade;
