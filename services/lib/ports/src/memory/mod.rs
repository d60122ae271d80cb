//! The ports in memory: servers for simulation and tests, which survive the crash of their users.
//!
//! Each misbehaves as [`Faults`] say: refuses, delays, does a part, **does it and loses the
//! answer**, or does it later, when nobody expects it any more. The moments come from one seeded
//! generator and the time from tokio's clock, so on a paused single-threaded runtime a seed is a
//! story: told twice, it is the same, which [`Chaos::fingerprint`] proves.
//!
//! ```text
//!             ┌─ MemoryLog ──── groups, rebalances, zombies
//!  Chaos ─────┼─ MemoryTables
//!  (seed)     └─ MemoryArchive          SimClock ── tokio's time plus a base
//! ```
//!
//! A crash is the end of a service's task; these stay, as servers do.

mod archive;
mod chaos;
mod clock;
mod group;
mod log;
mod reader;
mod tables;

pub use archive::MemoryArchive;
pub use chaos::{Chaos, Faults};
pub use clock::SimClock;
pub use log::MemoryLog;
pub use reader::MemoryReader;
pub use tables::MemoryTables;
