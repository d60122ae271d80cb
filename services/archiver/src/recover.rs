//! Where each chain of a dataset ends: list the names, newest date first, and read the last footer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use columns::Footer;
use domain::lake::PartName;
use domain::{Topic, TopicPartition};
use ports::{Archive, PortError};

use crate::backoff::Backoff;
use crate::chain::{Chain, Kind};
use crate::error::ArchiverError;
use crate::footer::{FooterError, look};
use crate::metrics;
use crate::partition::Partition;

/// Finds where chains end.
pub struct Recovery<'a> {
    /// Where the files are.
    pub archive: &'a dyn Archive,
    /// The topic whose records are trades.
    pub stream: &'a Topic,
    /// This run.
    pub epoch: &'a str,
    /// The shortest and the longest pause when the archive cannot be read.
    pub retry: (Duration, Duration),
}

impl Recovery<'_> {
    /// Partitions with chains that go on where their last files end. Tries until the archive answers.
    ///
    /// # Errors
    /// If a file is damaged or contradicts its name.
    pub async fn partitions(
        &self,
        assigned: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, Partition)>, ArchiverError> {
        let mut topics: BTreeMap<&Topic, BTreeSet<i32>> = BTreeMap::new();
        for at in assigned {
            topics.entry(&at.topic).or_default().insert(at.partition);
        }
        let mut chains: BTreeMap<TopicPartition, Vec<Chain>> = BTreeMap::new();
        for (topic, partitions) in topics {
            for kind in self.kinds(topic) {
                let last = self.last_files(*kind, topic, &partitions).await?;
                for partition in &partitions {
                    let at = TopicPartition::new(topic.clone(), *partition);
                    let end = last.get(partition).map(|footer| footer.span.end);
                    chains.entry(at.clone()).or_default().push(Chain::new(at, *kind, end));
                }
            }
        }
        Ok(chains.into_iter().map(|(at, chains)| (at.clone(), Partition::new(at, chains))).collect())
    }

    fn kinds(&self, topic: &Topic) -> &'static [Kind] {
        if topic == self.stream { &[Kind::Trades, Kind::Raw] } else { &[Kind::Raw] }
    }

    /// A dataset's last file of each partition that has any.
    async fn last_files(
        &self,
        kind: Kind,
        topic: &Topic,
        partitions: &BTreeSet<i32>,
    ) -> Result<BTreeMap<i32, Footer>, ArchiverError> {
        let dataset = kind.dataset(topic);
        let mut backoff = Backoff::new(self.retry, (self.epoch, &dataset));
        loop {
            match last_files(self.archive, &dataset, topic, partitions).await {
                Ok(found) => return Ok(found),
                Err(FooterError::File(error)) => return Err(error),
                Err(FooterError::Archive(error)) => {
                    tracing::warn!(dataset, %error, "archive cannot be read, trying again");
                    backoff.pause().await;
                }
            }
        }
    }
}

async fn last_files(
    archive: &dyn Archive,
    dataset: &str,
    topic: &Topic,
    partitions: &BTreeSet<i32>,
) -> Result<BTreeMap<i32, Footer>, FooterError> {
    let mut found = BTreeMap::new();
    for (partition, names) in newest_names(archive, dataset, partitions).await? {
        let mut newest_first = names.into_iter().rev();
        let Some(last) = newest_first.next() else { continue };
        // Gone since it was listed: the archive is being changed by hand.
        let Some(footer) = look(archive, &last, topic).await? else { continue };
        if let Some(before) = newest_first.next() {
            check_link(look(archive, &before, topic).await?.as_ref(), &footer, &last);
        }
        found.insert(partition, footer);
    }
    Ok(found)
}

/// The names of the newest files of each partition, in order of offset.
///
/// Clocks of brokers differ, so around midnight the newest date need not have the last offset: one
/// folder more is listed than is needed to find a file.
async fn newest_names(
    archive: &dyn Archive,
    dataset: &str,
    partitions: &BTreeSet<i32>,
) -> Result<BTreeMap<i32, Vec<PartName>>, PortError> {
    let mut names: BTreeMap<i32, Vec<PartName>> = BTreeMap::new();
    for folder in newest_folders(archive, dataset).await? {
        let one_more = partitions.iter().all(|partition| names.contains_key(partition));
        for file in archive.list(&folder).await? {
            let name = PartName::parse(&format!("{folder}/{}", file.name));
            if let Some(name) = name.filter(|name| partitions.contains(&name.partition)) {
                names.entry(name.partition).or_default().push(name);
            }
        }
        if one_more {
            break;
        }
    }
    names.values_mut().for_each(|names| names.sort_by_key(|name| name.start_offset));
    Ok(names)
}

async fn newest_folders(archive: &dyn Archive, dataset: &str) -> Result<Vec<String>, PortError> {
    let entries = archive.list(dataset).await?;
    let days = entries.into_iter().filter(|entry| entry.is_folder && entry.name.starts_with("date="));
    let mut folders: Vec<String> = days.map(|day| format!("{dataset}/{}", day.name)).collect();
    folders.sort_by(|a, b| b.cmp(a));
    Ok(folders)
}

fn check_link(before: Option<&Footer>, last: &Footer, name: &PartName) {
    let Some(before) = before.filter(|before| before.span.end != last.span.start) else { return };
    ::metrics::counter!(metrics::CHAIN_BREAKS, "dataset" => name.dataset.clone()).increment(1);
    let (expected, found) = (before.span.end, last.span.start);
    tracing::error!(path = %name, expected, found, "file does not start where the one before it ends");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeArchive, Fate, at, part};

    async fn start_of(archive: &FakeArchive, epoch: &str) -> Result<ports::Start, ArchiverError> {
        let stream = at().topic;
        let retry = (Duration::from_millis(100), Duration::from_secs(5));
        let recovery = Recovery { archive, stream: &stream, epoch, retry };
        let partitions = recovery.last_files(Kind::Trades, &stream, &BTreeSet::from([3, 4])).await?;
        assert_eq!(partitions.get(&4), None);
        let end = partitions.get(&3).map(|footer| footer.span.end);
        Ok(Partition::new(at(), vec![Chain::new(at(), Kind::Trades, end)]).start())
    }

    fn place(offset: i64) -> ports::Start {
        ports::Start::At(domain::Position { at: at(), offset })
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_chain_starts_at_the_beginning() {
        let start = start_of(&FakeArchive::default(), "ours").await.unwrap();
        assert_eq!(start, ports::Start::Earliest(at()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_chain_goes_on_at_the_end_of_its_last_file_when_the_archive_answers() {
        let archive = FakeArchive::with(&[], &[], &[Fate::Unavailable; 9]);
        archive.put(&part("theirs", 0, 5));
        archive.put(&part("theirs", 5, 12));
        assert_eq!(start_of(&archive, "ours").await.unwrap(), place(12));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_file_may_be_of_the_day_before_when_clocks_differ() {
        let archive = FakeArchive::default();
        let mut ahead = part("theirs", 0, 5);
        ahead.name.date = "2024-08-09".to_owned();
        archive.put(&ahead);
        archive.put(&part("theirs", 5, 12));
        assert_eq!(start_of(&archive, "ours").await.unwrap(), place(12));
    }

    #[tokio::test(start_paused = true)]
    async fn a_damaged_file_is_an_error_that_names_it() {
        let archive = FakeArchive::default();
        let mut damaged = part("theirs", 0, 5);
        damaged.bytes = damaged.bytes.slice(..damaged.bytes.len() - 1);
        archive.put(&damaged);
        let error = start_of(&archive, "ours").await.unwrap_err();
        let expected = format!("{}: damaged or of another writer: ", damaged.name);
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}
