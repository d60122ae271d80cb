//! How far each partition can be compared: the log is always ahead of what is derived from it.

use std::time::Duration;

use domain::{TopicPartition, lake};
use ports::{Archive, Bounds, LogScan, TableQuery};
use tokio::time::Instant;

use crate::chain::Chain;
use crate::report::Finding;
use crate::scope::Topics;
use crate::{AuditError, AuditPorts, insist};

/// How long to wait before looking again how far tables and archive have come.
const PAUSE: Duration = Duration::from_millis(500);

/// How far one partition has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lag {
    /// Which partition.
    pub at: TopicPartition,
    /// The first offset the log has.
    pub first: i64,
    /// The log's end.
    pub end: i64,
    /// The next offset that the tables want.
    pub stored_to: i64,
    /// The next offset that the archive wants.
    pub archived_to: i64,
}

impl Lag {
    /// The end of what can be compared.
    pub fn limit(&self) -> i64 {
        self.end.min(self.stored_to).min(self.archived_to).max(self.first)
    }

    /// What is ahead of the log, which nothing can be.
    pub fn ahead(&self) -> Vec<Finding> {
        let stores = [("tables", self.stored_to), ("archive", self.archived_to)].into_iter();
        let ahead = stores.filter(|(_, next)| *next > self.end.max(self.first));
        let finding = |(store, next)| Finding::Ahead { store, partition: self.at.clone(), next, end: self.end };
        ahead.map(finding).collect()
    }

    /// Records that are in the log, and not yet in the tables or the archive.
    pub fn pending(&self) -> u64 {
        u64::try_from(self.end - self.limit()).unwrap_or(0)
    }
}

/// Asks the log, the tables and the archive how far they have come.
///
/// # Errors
/// If one of them cannot be read.
pub async fn lag(
    scan: &dyn LogScan,
    query: &dyn TableQuery,
    archive: &dyn Archive,
    topics: &Topics,
) -> Result<Vec<Lag>, AuditError> {
    let mut lags = Vec::new();
    let bounds = insist("log bounds", || scan.bounds(&topics.stream)).await?;
    let trades = Chain::ends(archive, lake::TRADES).await?;
    let raw = Chain::ends(archive, &lake::raw_dataset(&topics.stream)).await?;
    let mut stored = Vec::new();
    for Bounds { at, first, .. } in bounds {
        let checkpoint = insist("checkpoint", || query.load_checkpoint(&topics.role, &at)).await?;
        stored.push(checkpoint.map_or(first, |checkpoint| checkpoint.next.offset));
    }
    // The log's end is asked for last: so it is ahead of the others, however fast trades come.
    let bounds = insist("log bounds", || scan.bounds(&topics.stream)).await?;
    for (Bounds { at, first, end }, stored_to) in bounds.into_iter().zip(stored) {
        let archived = |ends: &std::collections::BTreeMap<i32, i64>| ends.get(&at.partition).copied().unwrap_or(first);
        let archived_to = archived(&trades).min(archived(&raw));
        lags.push(Lag { at, first, end, stored_to, archived_to });
    }
    Ok(lags)
}

/// Waits until an audit compares all that the log has now.
///
/// # Errors
/// If that takes longer than `patience`, or a store cannot be read.
pub async fn settled(ports: &AuditPorts, topics: &Topics, patience: Duration) -> Result<(), AuditError> {
    let deadline = Instant::now() + patience;
    let now = || lag(ports.scan.as_ref(), ports.query.as_ref(), ports.archive.as_ref(), topics);
    let reached = |goal: Vec<i64>, come: fn(&Lag) -> i64| async move {
        loop {
            let lags = now().await?;
            let behind: i64 = goal.iter().zip(&lags).map(|(goal, lag)| (goal - come(lag)).max(0)).sum();
            if behind == 0 {
                return Ok(lags);
            }
            if Instant::now() >= deadline {
                return Err(AuditError::Unsettled { seconds: patience.as_secs(), behind });
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let ends = now().await?.iter().map(|lag| lag.end).collect();
    let archived = reached(ends, |lag| lag.archived_to.max(lag.first)).await?;
    // Files are compared whole, and the last one may go on behind what the log had.
    reached(archived.iter().map(|lag| lag.archived_to).collect(), |lag| lag.stored_to.max(lag.first)).await?;
    Ok(())
}
