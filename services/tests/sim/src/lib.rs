//! The simulation: ingest, processors and archivers over servers in memory, on one thread, in
//! virtual time, with misfortune drawn from a seed.
//!
//! [`exchange`] issues trades and loses some on the way; [`world`] runs, crashes and restarts the
//! services; [`verdict`] compares what they made of it with what was issued; [`planted`] has the bugs
//! that the verdict must find, and [`damage`] what the audit must find and mend. A seed is a story: told twice, it is the same.

pub mod damage;
pub mod exchange;
pub mod planted;
pub mod verdict;
pub mod world;

pub use damage::Damage;
pub use planted::Bug;
pub use world::{Outcome, Plan, run};
