//! The spine: one loop over what the log and the clock can do.

use std::sync::Arc;
use std::time::Duration;

use domain::{Position, Record, Topic, TopicPartition};
use futures::stream::{self, StreamExt};
use ports::{Archive, Assignment, Clock, LogEvent, LogReader, PortError, Revocation, Start};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chain::SealedPart;
use crate::config::{ArchiverConfig, Topics};
use crate::error::ArchiverError;
use crate::metrics;
use crate::partitions::{ChainId, Partitions};
use crate::publish::{Outcome, Publisher};
use crate::recover::Recovery;
use crate::roll::{Reason, RollPolicy};

/// How many files are on their way at the same time. Most of each one's time is a wait for HDFS: its block has to be
/// known to the NameNode before the file can be closed, and the client asks again after half a second.
const PUBLISHING_AT_ONCE: usize = 32;

/// How long tidying up may take at the end.
const CLEANING_PATIENCE: Duration = Duration::from_millis(500);

/// The outside world.
pub struct ArchiverDeps {
    /// The log.
    pub reader: Box<dyn LogReader>,
    /// The archive.
    pub archive: Arc<dyn Archive>,
    /// The time of day, for telling how old the records are.
    pub clock: Arc<dyn Clock>,
    /// Names this run in paths and footers: unique per start of the process, a path's component.
    pub epoch: String,
}

/// Archives what the log delivers until `stop`, then publishes what it holds.
///
/// # Errors
/// If the log cannot be read or a published file is not what the archiver writes. What was not
/// published is read again by the next run.
pub async fn run(
    deps: ArchiverDeps,
    topics: Topics,
    config: ArchiverConfig,
    stop: CancellationToken,
) -> Result<(), ArchiverError> {
    metrics::describe();
    let mut archiver = Archiver::new(deps, topics, config, stop);
    let (stop, patience) = (archiver.stop.clone(), archiver.config.drain_patience());
    let _ = tokio::time::timeout(CLEANING_PATIENCE, archiver.publisher.reap(archiver.clock.now())).await;
    let result = tokio::select! {
        biased;
        result = archiver.archive() => result,
        () = out_of_time(&stop, patience) => {
            tracing::warn!("stopped before everything was archived, the next run does it again");
            Ok(())
        }
    };
    let _ = tokio::time::timeout(CLEANING_PATIENCE, archiver.publisher.clean()).await;
    result
}

async fn out_of_time(stop: &CancellationToken, patience: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(patience).await;
}

enum Event {
    Log(LogEvent),
    Deadline,
    Stopped,
}

struct Archiver {
    reader: Box<dyn LogReader>,
    archive: Arc<dyn Archive>,
    clock: Arc<dyn Clock>,
    epoch: String,
    stream: Topic,
    config: ArchiverConfig,
    publisher: Publisher,
    partitions: Partitions,
    stop: CancellationToken,
}

/// A file that was ended, why, and whose chain it continues.
struct Rolled {
    id: ChainId,
    reason: Reason,
    part: SealedPart,
}

impl Archiver {
    fn new(deps: ArchiverDeps, topics: Topics, config: ArchiverConfig, stop: CancellationToken) -> Self {
        let ArchiverDeps { reader, archive, clock, epoch } = deps;
        Self {
            partitions: Partitions::new(RollPolicy::new(&config)),
            publisher: Publisher::new(archive.clone(), epoch.clone(), config.retry()),
            stream: topics.stream,
            reader,
            archive,
            clock,
            epoch,
            config,
            stop,
        }
    }

    async fn archive(&mut self) -> Result<(), ArchiverError> {
        loop {
            match self.next().await? {
                Event::Log(LogEvent::Assigned(assignment)) => self.take_on(assignment).await?,
                Event::Log(LogEvent::Records(batch)) => self.fill(&batch).await?,
                Event::Log(LogEvent::Revoked(revocation)) => self.let_go(revocation).await?,
                Event::Deadline => self.roll(self.partitions.due(Instant::now())).await?,
                Event::Stopped => return self.drain().await,
            }
            self.read_again().await?;
            self.tell().await;
            self.measure();
        }
    }

    async fn next(&mut self) -> Result<Event, ArchiverError> {
        let deadline = self.partitions.deadline();
        loop {
            let event = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(Event::Stopped),
                () = reached(deadline) => return Ok(Event::Deadline),
                event = self.reader.next() => event,
            };
            match event {
                Err(PortError::Truncated { at, wanted, first }) if first > wanted => {
                    self.skip_deleted(at, wanted, first).await?;
                }
                event => return Ok(Event::Log(event?)),
            }
        }
    }

    /// Chains go on behind what is deleted, and their files cover its offsets: the names stay the
    /// same for every writer, and the footers' counts tell that records are missing.
    async fn skip_deleted(&mut self, at: TopicPartition, wanted: i64, first: i64) -> Result<(), ArchiverError> {
        tracing::error!(%at, wanted, first, "the log deleted records before they were archived");
        self.seek(&Position { at, offset: first }).await.map(drop)
    }

    async fn take_on(&mut self, assignment: Assignment) -> Result<(), ArchiverError> {
        let recovery =
            Recovery { archive: &*self.archive, stream: &self.stream, epoch: &self.epoch, retry: self.config.retry() };
        let partitions = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(()),
            partitions = recovery.partitions(assignment.partitions()) => partitions?,
        };
        let starts: Vec<Start> = partitions.iter().map(|(_, partition)| partition.start()).collect();
        for (at, partition) in partitions {
            self.partitions.insert(at, partition);
        }
        tracing::info!(?starts, "partitions taken on");
        assignment.start(starts);
        Ok(())
    }

    async fn fill(&mut self, batch: &[Record]) -> Result<(), ArchiverError> {
        let now = Instant::now();
        for record in batch {
            while let Some(chain) = self.partitions.push(record, now)? {
                self.roll(vec![chain]).await?;
            }
        }
        ::metrics::counter!(metrics::RECORDS_READ).increment(batch.len() as u64);
        if self.partitions.memory_bytes() > self.config.memory_bytes {
            self.roll(self.partitions.largest_beyond(self.config.memory_kept())).await?;
        }
        Ok(())
    }

    async fn let_go(&mut self, revocation: Revocation) -> Result<(), ArchiverError> {
        let gone = revocation.partitions();
        let chains = self.partitions.all_of(|at| gone.contains(at), Reason::Revoked);
        match tokio::time::timeout(self.config.revoke_patience(), self.roll(chains)).await {
            Ok(rolled) => rolled?,
            Err(_) => tracing::warn!(?gone, "let go before everything was archived, the next owner does it again"),
        }
        self.tell().await;
        self.partitions.remove(gone);
        tracing::info!(?gone, "partitions let go");
        revocation.done();
        Ok(())
    }

    async fn drain(&mut self) -> Result<(), ArchiverError> {
        self.roll(self.partitions.all_of(|_| true, Reason::Stopped)).await?;
        self.tell().await;
        self.measure();
        Ok(())
    }

    /// Ends the open files of these chains and publishes them.
    async fn roll(&mut self, chains: Vec<(ChainId, Reason)>) -> Result<(), ArchiverError> {
        let rolled = self.seal(chains)?;
        let publications: Vec<_> = rolled.iter().map(|rolled| self.publisher.publish(&rolled.part)).collect();
        let outcomes: Vec<_> = stream::iter(publications).buffered(PUBLISHING_AT_ONCE).collect().await;
        for (rolled, outcome) in rolled.iter().zip(outcomes) {
            self.settle(rolled, &outcome?);
        }
        Ok(())
    }

    fn seal(&mut self, chains: Vec<(ChainId, Reason)>) -> Result<Vec<Rolled>, ArchiverError> {
        let mut rolled = Vec::new();
        for (id, reason) in chains {
            let Some(chain) = self.partitions.chain_mut(&id) else { continue };
            if let Some(part) = chain.seal(&self.epoch)? {
                rolled.push(Rolled { id, reason, part });
            }
        }
        Ok(rolled)
    }

    fn settle(&mut self, rolled: &Rolled, outcome: &Outcome) {
        match outcome {
            Outcome::Won => metrics::published(&rolled.part, rolled.reason),
            Outcome::Lost(winner) => metrics::lost(&rolled.part, winner),
        }
        if let Some(chain) = self.partitions.chain_mut(&rolled.id) {
            chain.settle(&rolled.part, outcome);
        }
    }

    /// Goes back where another writer's file was shorter than our lost buffer.
    async fn read_again(&mut self) -> Result<(), ArchiverError> {
        for position in self.partitions.behind() {
            if self.seek(&position).await? {
                self.partitions.sought(&position);
            }
        }
        Ok(())
    }

    async fn seek(&mut self, to: &Position) -> Result<bool, ArchiverError> {
        match self.reader.seek(to).await {
            Ok(()) => Ok(true),
            // The partition is being taken away: its revocation comes next.
            Err(PortError::Refused { reason, .. }) => {
                tracing::warn!(at = %to.at, offset = to.offset, reason, "cannot go on there");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The group's position is a hint for lag monitors: losing it loses nothing.
    async fn tell(&mut self) {
        let done = self.partitions.tell();
        if done.is_empty() {
            return;
        }
        if let Err(error) = self.reader.commit(&done).await {
            tracing::debug!(%error, "position not committed");
        }
    }

    fn measure(&self) {
        let now = self.clock.now();
        let lag = self.partitions.oldest().map_or(0, |oldest| now.micros_since(oldest));
        metrics::held(self.partitions.memory_bytes(), self.partitions.unpublished(), lag);
    }
}

async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_be_spawned() {
        fn is_send<T: Send>(_: impl FnOnce(ArchiverDeps) -> T) {}
        is_send(|deps| run(deps, Topics::default(), ArchiverConfig::default(), CancellationToken::new()));
    }
}
