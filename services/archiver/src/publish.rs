//! Gives a sealed file its name: write it to a temporary path, rename without overwrite, and when
//! the answer is unclear, look.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use columns::Footer;
use domain::{Timestamp, lake};
use ports::{Archive, PortError, Published};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::chain::SealedPart;
use crate::error::ArchiverError;
use crate::footer::{FooterError, look};
use crate::metrics;

/// How a publication ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Our file has the name.
    Won,
    /// Another writer's file has it, with this footer.
    Lost(Footer),
}

/// How long what killed runs have left is kept.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Publishes files of one run of the archiver.
pub struct Publisher {
    archive: Arc<dyn Archive>,
    epoch: String,
    written: AtomicU64,
    retry: (Duration, Duration),
}

/// What one attempt came to.
enum Attempt {
    Settled(Outcome),
    /// Nothing has the name, or nobody can say: try again.
    Unsettled,
}

impl Publisher {
    /// For a run with a unique epoch.
    pub fn new(archive: Arc<dyn Archive>, epoch: String, retry: (Duration, Duration)) -> Self {
        Self { archive, epoch, written: AtomicU64::new(0), retry }
    }

    /// Publishes, however long it takes. Any earlier attempt may still take effect at any time, also
    /// one that we believe lost: no name is ever overwritten, so the first one decides and the
    /// others see it by looking.
    ///
    /// # Errors
    /// If the name is taken by a file that the archiver cannot have written.
    pub async fn publish(&self, part: &SealedPart) -> Result<Outcome, ArchiverError> {
        let started = Instant::now();
        let mut backoff = Backoff::new(self.retry, (&self.epoch, part.name.to_string()));
        let mut abandoned = Vec::new();
        let mut attempt = self.write(part, &mut abandoned).await?;
        loop {
            if let Attempt::Settled(outcome) = attempt {
                ::metrics::histogram!(metrics::PUBLISH_TIME).record(started.elapsed());
                self.remove(&abandoned).await;
                return Ok(outcome);
            }
            ::metrics::counter!(metrics::PUBLISH_FAILURES).increment(1);
            backoff.pause().await;
            attempt = match self.look(part).await {
                // The name is free: write again from memory, whatever became of the last attempt.
                Ok(None) => self.write(part, &mut abandoned).await?,
                seen => settled(part, seen)?,
            };
        }
    }

    /// Removes what this run has left among the temporary files.
    pub async fn clean(&self) {
        let _ = self.archive.remove(&self.folder()).await;
    }

    /// Removes what killed runs have left, some time after they began. One that still goes on writes again what it
    /// misses.
    pub async fn reap(&self, now: Timestamp) {
        let is_old = |name: &str| {
            let began = name.split('-').next().and_then(|micros| micros.parse().ok()).map(Timestamp::from_micros);
            began.is_some_and(|began| began.plus(KEPT) < now)
        };
        let runs = match self.archive.list(lake::TEMPORARY).await {
            Ok(runs) => runs,
            Err(error) => return tracing::warn!(%error, "what killed runs have left stays until the next start"),
        };
        for run in runs.into_iter().filter(|run| run.is_folder && is_old(&run.name) && run.name != self.epoch) {
            let path = format!("{}/{}", lake::TEMPORARY, run.name);
            match self.archive.remove(&path).await {
                Ok(()) => tracing::info!(path, "removed what a killed run has left"),
                Err(error) => tracing::warn!(path, %error, "left by a killed run, and not removed"),
            }
        }
    }

    async fn write(&self, part: &SealedPart, abandoned: &mut Vec<String>) -> Result<Attempt, ArchiverError> {
        let temporary = format!("{}/{}", self.folder(), self.written.fetch_add(1, Ordering::Relaxed));
        let renamed = match self.archive.write(&temporary, part.bytes.clone()).await {
            Ok(()) => self.archive.publish(&temporary, &part.name.to_string()).await,
            Err(error) => {
                complain(part, &error, "file not written, trying again");
                abandoned.push(temporary);
                return Ok(Attempt::Unsettled);
            }
        };
        if matches!(renamed, Ok(Published::Won)) {
            return Ok(Attempt::Settled(Outcome::Won));
        }
        abandoned.push(temporary);
        if let Err(error) = &renamed {
            complain(part, error, "file perhaps not published, looking");
        }
        settled(part, self.look(part).await)
    }

    async fn look(&self, part: &SealedPart) -> Result<Option<Footer>, FooterError> {
        look(&*self.archive, &part.name, &part.footer.span.at.topic).await
    }

    async fn remove(&self, abandoned: &[String]) {
        for path in abandoned {
            // What stays goes with the folder.
            let _ = self.archive.remove(path).await;
        }
    }

    fn folder(&self) -> String {
        format!("{}/{}", lake::TEMPORARY, self.epoch)
    }
}

/// What the file at the name means for us. The same offsets of the same run are the same bytes, so
/// it does not matter which of our attempts put them there.
fn settled(part: &SealedPart, seen: Result<Option<Footer>, FooterError>) -> Result<Attempt, ArchiverError> {
    match seen {
        Ok(Some(footer)) if footer.span == part.footer.span => Ok(Attempt::Settled(Outcome::Won)),
        Ok(Some(winner)) => Ok(Attempt::Settled(Outcome::Lost(winner))),
        Ok(None) => Ok(Attempt::Unsettled),
        Err(FooterError::File(error)) => Err(error),
        Err(FooterError::Archive(error)) => {
            complain(part, &error, "file cannot be looked at, trying again");
            Ok(Attempt::Unsettled)
        }
    }
}

fn complain(part: &SealedPart, error: &PortError, what: &str) {
    tracing::warn!(path = %part.name, %error, "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeArchive, Fate, part};

    const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

    async fn publish(archive: FakeArchive) -> (Arc<FakeArchive>, Outcome) {
        let archive = Arc::new(archive);
        let publisher = Publisher::new(archive.clone(), "ours".to_owned(), RETRY);
        let outcome = publisher.publish(&part("ours", 10, 20)).await.unwrap();
        (archive, outcome)
    }

    /// However the attempts go, our file gets the name once and nothing temporary stays.
    async fn wins(writes: &[Fate], renames: &[Fate], looks: &[Fate]) {
        let (archive, outcome) = publish(FakeArchive::with(writes, renames, looks)).await;
        assert_eq!(outcome, Outcome::Won);
        assert_eq!(archive.paths(), ["trades/date=2024-08-08/part-3-00000000000000000010.parquet"]);
        assert_eq!(archive.footer(&part("ours", 10, 20).name).await.span.end, 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_free_name_is_won() {
        wins(&[], &[], &[]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_was_not_written_is_written_again() {
        wins(&[Fate::Unavailable; 7], &[], &[]).await;
        wins(&[Fate::Unknown, Fate::Unavailable], &[], &[]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_rename_that_did_not_happen_is_made_again() {
        wins(&[], &[Fate::Unavailable; 7], &[]).await;
        wins(&[], &[Fate::Unknown; 3], &[]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_rename_whose_answer_was_lost_is_won() {
        wins(&[], &[Fate::AnswerLost], &[]).await;
        wins(&[], &[Fate::AnswerLost], &[Fate::Unavailable; 3]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_rename_that_happens_later_is_won_whenever_it_does() {
        for calls in 0..12 {
            wins(&[], &[Fate::After(calls)], &[]).await;
            wins(&[], &[Fate::After(calls), Fate::Unknown, Fate::AnswerLost], &[Fate::Done, Fate::Unavailable]).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_writers_file_wins_whatever_its_length() {
        for end in [15, 20, 25] {
            for renames in [&[][..], &[Fate::Unknown], &[Fate::Unavailable, Fate::After(3)]] {
                let archive = FakeArchive::with(&[], renames, &[]);
                let winner = part("theirs", 10, end);
                archive.put(&winner);
                let (archive, outcome) = publish(archive).await;
                assert_eq!(outcome, Outcome::Lost(winner.footer));
                assert_eq!(archive.paths(), [winner.name.to_string()]);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_earlier_assignment_of_this_run_published_is_not_ours_if_it_is_shorter() {
        let archive = FakeArchive::default();
        let earlier = part("ours", 10, 15);
        archive.put(&earlier);
        assert_eq!(publish(archive).await.1, Outcome::Lost(earlier.footer));
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_contradicts_its_name_is_an_error() {
        let archive = FakeArchive::default();
        let mut other = part("theirs", 11, 12);
        other.name.start_offset = 10;
        archive.put(&other);
        let publisher = Publisher::new(Arc::new(archive), "ours".to_owned(), RETRY);
        let error = publisher.publish(&part("ours", 10, 20)).await.unwrap_err().to_string();
        let expected = "expected crypto-stream[3] from offset 10 on, got crypto-stream[3] from offset 11 to 12";
        assert!(error.ends_with(expected), "{error}");
    }
}
