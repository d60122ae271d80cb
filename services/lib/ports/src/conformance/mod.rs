//! What every adapter of a port has to pass: one suite per port, run against memory, the local
//! files and the real servers.
//!
//! The suites are async functions that panic with what was expected. They name everything they
//! create after the run, so that they can run again and again on a server shared with others.
//! Silence is tested by waiting, so real servers need some patience.

pub mod archive;
pub mod log;
pub mod tables;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Clock, PortError, SystemClock};

/// A name that no other run has: letters and digits in upper case, good for topics, groups, symbols
/// and folders.
pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let (now, process) = (SystemClock.now().micros(), std::process::id());
    format!("{prefix}{now:X}X{process:X}X{:X}", COUNT.fetch_add(1, Ordering::Relaxed))
}

fn refused<T>(result: Result<T, PortError>, what: &str) {
    match result {
        Err(PortError::Refused { .. }) => {}
        Err(other) => panic!("{what}: expected Refused, got: {other}"),
        Ok(_) => panic!("{what}: expected Refused, but it was done"),
    }
}

fn done<T>(result: Result<T, PortError>, what: &str) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {error}"))
}
