//! The archive's files: of each dataset and partition a chain, in which each starts where the one
//! before it ended.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;
use columns::{ColumnsError, Footer, TAIL, Tail, read_footer};
use domain::TopicPartition;
use domain::lake::PartName;
use ports::{Archive, PortError};

use crate::{AuditError, insist};

/// A file of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveFile {
    /// Its name.
    pub name: PartName,
    /// Its length in bytes.
    pub length: u64,
}

/// The files of one dataset.
#[derive(Debug, Default)]
pub struct Chain {
    /// By partition and start offset.
    files: BTreeMap<(i32, i64), ArchiveFile>,
    /// Those that start where another one does, on an earlier date: readers see both.
    pub twins: Vec<ArchiveFile>,
    /// Files beside them that are none of ours: readers see them, too.
    pub strangers: Vec<String>,
}

impl Chain {
    /// Lists a dataset's files.
    ///
    /// # Errors
    /// If the archive cannot be read.
    pub async fn list(archive: &dyn Archive, dataset: &str) -> Result<Self, PortError> {
        let mut chain = Self::default();
        for day in insist("list archive", || archive.list(dataset)).await? {
            let folder = format!("{dataset}/{}", day.name);
            for file in insist("list archive", || archive.list(&folder)).await? {
                let path = format!("{folder}/{}", file.name);
                match PartName::parse(&path) {
                    Some(name) => chain.add(ArchiveFile { name, length: file.length }),
                    None if is_read(&day.name) && is_read(&file.name) => chain.strangers.push(path),
                    None => {}
                }
            }
        }
        Ok(chain)
    }

    fn add(&mut self, file: ArchiveFile) {
        match self.files.entry((file.name.partition, file.name.start_offset)) {
            Entry::Vacant(place) => drop(place.insert(file)),
            Entry::Occupied(_) => self.twins.push(file),
        }
    }

    /// The end of each partition's chain: the end of its last file. A file that cannot be read
    /// archives nothing, so the chain ends where it starts.
    ///
    /// # Errors
    /// If the archive cannot be read.
    pub async fn ends(archive: &dyn Archive, dataset: &str) -> Result<BTreeMap<i32, i64>, AuditError> {
        let chain = Self::list(archive, dataset).await?;
        let mut last = BTreeMap::new();
        for ((partition, _), file) in &chain.files {
            last.insert(*partition, file);
        }
        let mut ends = BTreeMap::new();
        for (partition, file) in last {
            let footer = footer(archive, file).await?;
            ends.insert(partition, footer.map_or(file.name.start_offset, |footer| footer.span.end));
        }
        Ok(ends)
    }

    /// The files of a partition, in order.
    pub fn of(&self, partition: i32) -> impl Iterator<Item = &ArchiveFile> {
        self.files.range((partition, i64::MIN)..=(partition, i64::MAX)).map(|(_, file)| file)
    }
}

/// Whether those who read a dataset read a file or folder of this name: they leave out hidden ones.
fn is_read(name: &str) -> bool {
    !name.starts_with(['_', '.'])
}

/// What a file says of itself; or, within, why it cannot be one of ours.
///
/// # Errors
/// If the archive cannot be read.
pub async fn footer(archive: &dyn Archive, file: &ArchiveFile) -> Result<Result<Footer, ColumnsError>, PortError> {
    let path = file.name.to_string();
    let mut wanted = TAIL;
    loop {
        let start = file.length.saturating_sub(wanted);
        let end_of_file = insist("read footer", || archive.read(&path, start, file.length - start)).await?;
        match read_footer(&end_of_file) {
            Ok(Tail::Complete(footer)) => return Ok(fits(file, *footer)),
            Ok(Tail::Need(bytes)) if bytes > wanted && wanted < file.length => wanted = bytes,
            Ok(Tail::Need(_)) => return Ok(Err(ColumnsError::NotParquet("the footer is cut off".to_owned()))),
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// A footer that contradicts the file's name is damage, too.
fn fits(file: &ArchiveFile, footer: Footer) -> Result<Footer, ColumnsError> {
    let TopicPartition { partition, .. } = footer.span.at;
    if (partition, footer.span.start) == (file.name.partition, file.name.start_offset) {
        return Ok(footer);
    }
    let found = format!("the footer says partition {partition} from offset {}", footer.span.start);
    Err(ColumnsError::NotParquet(found))
}

/// All of a file.
///
/// # Errors
/// If the archive cannot be read.
pub async fn content(archive: &dyn Archive, file: &ArchiveFile) -> Result<Bytes, PortError> {
    let path = file.name.to_string();
    insist("read file", || archive.read(&path, 0, file.length)).await
}
