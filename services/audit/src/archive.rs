//! What the archive holds: the chain of files of each partition, and the trades in them.

use std::collections::BTreeMap;

use bytes::Bytes;
use columns::{Footer, TAIL, Tail, decode_trades, read_footer};
use domain::lake::PartName;
use domain::{Position, TradeRow};
use ports::{Archive, PortError};

use crate::AuditError;
use crate::insist;
use crate::report::Finding;

/// The files of one dataset, by partition and start offset.
#[derive(Debug, Default)]
pub struct Chain(BTreeMap<(i32, i64), PartName>);

impl Chain {
    /// Lists a dataset's files.
    ///
    /// # Errors
    /// If the archive cannot be read.
    pub async fn list(archive: &dyn Archive, dataset: &str) -> Result<Self, AuditError> {
        let mut files = BTreeMap::new();
        for day in insist("list archive", || archive.list(dataset)).await? {
            let folder = format!("{dataset}/{}", day.name);
            for file in insist("list archive", || archive.list(&folder)).await? {
                if let Some(name) = PartName::parse(&format!("{folder}/{}", file.name)) {
                    files.insert((name.partition, name.start_offset), name);
                }
            }
        }
        Ok(Self(files))
    }

    /// The end of each partition's chain: the end of its last file.
    ///
    /// # Errors
    /// If the archive cannot be read.
    pub async fn ends(archive: &dyn Archive, dataset: &str) -> Result<BTreeMap<i32, i64>, AuditError> {
        let chain = Self::list(archive, dataset).await?;
        let mut last = BTreeMap::new();
        for ((partition, _), name) in &chain.0 {
            last.insert(*partition, name);
        }
        let mut ends = BTreeMap::new();
        for (partition, name) in last {
            ends.insert(partition, footer(archive, name).await?.span.end);
        }
        Ok(ends)
    }

    /// The files of a partition, in order.
    pub fn of(&self, partition: i32) -> impl Iterator<Item = &PartName> {
        self.0.range((partition, i64::MIN)..=(partition, i64::MAX)).map(|(_, name)| name)
    }

    /// Whether each file of a partition starts where the one before it ended, up to `limit`.
    ///
    /// # Errors
    /// If the archive cannot be read.
    pub async fn check(&self, archive: &dyn Archive, from: &Position, limit: i64) -> Result<Vec<Finding>, AuditError> {
        let mut findings = Vec::new();
        let mut next = None;
        for name in self.of(from.at.partition).filter(|name| name.start_offset < limit) {
            let expected = next.unwrap_or(from.offset);
            let too_late = name.start_offset > expected;
            let overlaps = next.is_some() && name.start_offset < expected;
            if too_late || overlaps {
                let file = name.to_string();
                findings.push(Finding::BrokenChain { file, expected_start: expected, start: name.start_offset });
            }
            next = Some(footer(archive, name).await?.span.end);
        }
        Ok(findings)
    }
}

/// Reads a file's footer.
///
/// # Errors
/// If the file cannot be read, or is not one of ours.
pub async fn footer(archive: &dyn Archive, name: &PartName) -> Result<Footer, AuditError> {
    let path = name.to_string();
    let damaged = |source| AuditError::File { path: path.clone(), source };
    let length = length_of(archive, &path).await?;
    let mut wanted = TAIL;
    loop {
        let start = length.saturating_sub(wanted);
        let end_of_file = insist("read footer", || archive.read(&path, start, length - start)).await?;
        match read_footer(&end_of_file).map_err(damaged)? {
            Tail::Complete(footer) => return Ok(*footer),
            Tail::Need(bytes) if bytes > wanted && wanted < length => wanted = bytes,
            Tail::Need(_) => return Err(PortError::refused("archive", format!("{path}: the footer is cut off")).into()),
        }
    }
}

/// Calls `each` with every row of a file below offset `limit`.
///
/// # Errors
/// If the file cannot be read, or is not one of ours.
pub async fn for_each_row(
    archive: &dyn Archive,
    name: &PartName,
    limit: i64,
    mut each: impl FnMut(i64, &TradeRow),
) -> Result<(), AuditError> {
    let path = name.to_string();
    let damaged = |source| AuditError::File { path: path.clone(), source };
    let content = whole(archive, &path).await?;
    for archived in decode_trades(content).map_err(damaged)? {
        let archived = archived.map_err(damaged)?;
        if archived.offset < limit {
            each(archived.offset, &archived.row);
        }
    }
    Ok(())
}

async fn whole(archive: &dyn Archive, path: &str) -> Result<Bytes, AuditError> {
    let length = length_of(archive, path).await?;
    Ok(insist("read file", || archive.read(path, 0, length)).await?)
}

async fn length_of(archive: &dyn Archive, path: &str) -> Result<u64, AuditError> {
    let length = insist("file length", || archive.length(path)).await?;
    length.ok_or_else(|| PortError::refused("archive", format!("{path} is gone")).into())
}
