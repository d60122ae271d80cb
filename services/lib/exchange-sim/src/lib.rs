//! A Binance look-alike that real clients can use: a seeded market, the stream and REST protocols,
//! and faults on demand.
//!
//! The market is a pure function of the configuration ([`market`]): nothing is stored, REST serves
//! any id at any time, a restart finds the market where a real exchange's would be, and a checker
//! can recompute every trade. Around it, in the order in which a trade meets them: [`pump`] issues
//! trades when their time has come, [`tamper`] loses, doubles, disorders and damages some on demand,
//! [`hub`] hands them to the connections, [`session`] speaks the stream's protocol over [`lines`],
//! which can be cut and stalled, and [`rest`] serves what the stream did not.

mod clock;
pub mod config;
pub mod control;
pub mod faults;
mod fixed;
mod hub;
mod lines;
pub mod market;
mod pump;
mod request;
mod rest;
mod server;
mod session;
mod shared;
mod tamper;
mod text;

pub use config::{MarketConfig, Rate, SimConfig, SimError};
pub use control::{Issued, SymbolIssued};
pub use faults::{Fault, ScheduledFault};
pub use market::Market;
pub use server::{Exchange, Running, serve};
