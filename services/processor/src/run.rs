//! The loop: read, account, store, and now and then a checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::ledger::{GapState, LedgerEvent};
use domain::{GapRow, Position, Record, Timestamp, TopicPartition, Topics, Trade};
use ports::{
    Assignment, Clock, LogEvent, LogReader, LogScan, LogWriter, PortError, Revocation, Start, TableQuery, Tables,
    persist,
};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::{self, Snapshot};
use crate::completeness::Completeness;
use crate::config::ProcessorConfig;
use crate::dead_letter::DeadLetters;
use crate::decode::{self, Decoded};
use crate::recall::{Duplicates, Recall};
use crate::store::Unstored;
use crate::{ProcessorError, ROLE, metrics};

/// While the log has more, what is left over of a table partition waits for it: with many symbols, no batch of the log
/// has enough of any of them for a write. But not more than so many trades…
const MOST_WAITING: usize = 131_072;

/// …no longer than this…
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// …and not if so long nothing comes.
const SILENCE: Duration = Duration::from_millis(50);

/// How long trades are stored while a checkpoint is on its way: what a crash makes us do again, and what is kept in mind
/// meanwhile, are bounded.
const LONGEST_SAVE: Duration = Duration::from_secs(10);

/// How long a stopping processor may take to store what it holds.
const DRAIN: Duration = Duration::from_secs(4);

/// The outside world of the processor.
pub struct ProcessorPorts {
    /// Reads the stream and the gaps, as a member of the group [`ROLE`].
    pub reader: Box<dyn LogReader>,
    /// Where dead letters go.
    pub writer: Arc<dyn LogWriter>,
    /// The same log, to look what is there.
    pub scan: Arc<dyn LogScan>,
    /// Where rows go.
    pub tables: Arc<dyn Tables>,
    /// The same tables, to read an hour back.
    pub query: Arc<dyn TableQuery>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
}

/// Runs the processor until `stop`.
///
/// # Errors
/// If the log or the tables refuse.
pub async fn run(
    ports: ProcessorPorts,
    topics: Topics,
    config: ProcessorConfig,
    stop: CancellationToken,
) -> Result<(), ProcessorError> {
    metrics::describe();
    let ProcessorPorts { mut reader, writer, scan, tables, query, clock } = ports;
    let mut processor = Processor {
        writer,
        scan,
        tables,
        query,
        clock,
        topics,
        unstored: Unstored::new(config.write_bytes),
        waiting_since: None,
        checkpoint_due: Instant::now() + config.checkpoint_interval(),
        saving: JoinSet::new(),
        saving_since: Instant::now(),
        config,
        partitions: BTreeMap::new(),
    };
    loop {
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(saved) = processor.saving.join_next() => Event::Saved(saved),
            () = tokio::time::sleep_until(processor.checkpoint_due), if processor.saving.is_empty() => Event::CheckpointDue,
            event = reader.next() => match event {
                Err(PortError::Truncated { at, wanted, first }) if first > wanted => {
                    processor.skip_deleted(Position { at, offset: first }, wanted, reader.as_mut()).await?;
                    continue;
                }
                event => Event::Log(event?),
            },
            () = tokio::time::sleep(SILENCE), if processor.unstored.waiting() > 0 => Event::Silence,
        };
        // Whatever the outside world keeps us waiting for, the checkpoint has the rest.
        let work = async {
            match event {
                Event::Log(LogEvent::Assigned(assignment)) => processor.load(assignment).await,
                Event::Log(LogEvent::Records(records)) => {
                    if processor.saving_since.elapsed() > LONGEST_SAVE {
                        processor.checkpoint_saved(reader.as_mut()).await?;
                    }
                    processor.store(records).await
                }
                Event::Log(LogEvent::Revoked(revocation)) => processor.let_go(revocation, reader.as_mut()).await,
                Event::Silence => processor.store_all().await,
                Event::CheckpointDue => processor.begin_checkpoint().await,
                Event::Saved(saved) => processor.end_checkpoint(saved, reader.as_mut()).await,
            }
        };
        tokio::select! {
            biased;
            done = work => done?,
            () = out_of_time(&stop) => return Ok(()),
        }
    }
    tokio::select! {
        biased;
        done = processor.checkpoint(reader.as_mut()) => done,
        () = out_of_time(&stop) => Ok(()),
    }
}

enum Event {
    Log(LogEvent),
    /// Trades wait for more of their kind, and nothing comes.
    Silence,
    CheckpointDue,
    Saved(Saved),
}

/// What has become of a checkpoint: how far each partition is stored.
type Saved = Result<Result<Vec<Position>, PortError>, JoinError>;

async fn out_of_time(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(DRAIN).await;
    tracing::warn!("stopped before everything was stored, it is done again at the next start");
}

struct Processor {
    writer: Arc<dyn LogWriter>,
    scan: Arc<dyn LogScan>,
    tables: Arc<dyn Tables>,
    query: Arc<dyn TableQuery>,
    clock: Arc<dyn Clock>,
    topics: Topics,
    config: ProcessorConfig,
    partitions: BTreeMap<TopicPartition, Partition>,
    /// Trades that count as read and are not acknowledged yet: no checkpoint before they are.
    unstored: Unstored,
    /// Since when the first of them wait, and when the log had appended the newest that came with them.
    waiting_since: Option<(Instant, Timestamp)>,
    checkpoint_due: Instant,
    /// The checkpoint on its way, one at most: trades are stored meanwhile.
    saving: JoinSet<Result<Vec<Position>, PortError>>,
    /// When the last one began.
    saving_since: Instant,
}

/// One partition that this processor owns.
struct Partition {
    /// The position to be read next.
    next: i64,
    /// Whether there is something that no checkpoint has, nor the one on its way.
    changed: bool,
    completeness: Completeness,
    duplicates: Duplicates,
    dead_letters: DeadLetters,
}

impl Partition {
    /// Counts a trade that is about to be stored.
    async fn enter(
        &mut self,
        offset: i64,
        trade: &Trade,
        watermark: Duration,
        recall: &Recall<'_>,
    ) -> Result<(), PortError> {
        let late = match self.completeness.enter_known(trade, offset, watermark) {
            Some(late) => late,
            None => {
                recall.hour(&mut self.completeness, &trade.symbol, trade.trade_time.hour()).await?;
                self.completeness.enter(trade, offset, watermark)
            }
        };
        if late {
            ::metrics::counter!(metrics::TRADES_LATE).increment(1);
        }
        Ok(())
    }

    /// Notes what ingest's ledger found; a gap is a row.
    async fn note(
        &mut self,
        offset: i64,
        event: LedgerEvent,
        recall: &Recall<'_>,
    ) -> Result<Option<GapRow>, PortError> {
        match event {
            LedgerEvent::Gap { symbol, ids, state, cause, detected_at, closed_at, .. } => {
                let filled_at = closed_at.filter(|_| state == GapState::Filled);
                // What closes a gap outranks what opened it, even if that lands in the log late.
                let version = detected_at.micros() * 2 + i64::from(state != GapState::Open);
                Ok(Some(GapRow { symbol, ids, state, cause, detected_at, filled_at, version }))
            }
            LedgerEvent::Duplicates { symbol, hour, count, .. } => {
                let row = recall.duplicates(&mut self.duplicates, symbol, hour).await?;
                if row.version < offset {
                    row.dropped += count;
                    row.version = offset;
                }
                Ok(None)
            }
            LedgerEvent::Mark { .. } => Ok(None),
        }
    }

    fn bury(&mut self, record: &Record, reason: String) {
        tracing::warn!(at = %record.at, offset = record.offset, reason, "unusable record kept as a dead letter");
        ::metrics::counter!(metrics::RECORDS_DEAD).increment(1);
        self.dead_letters.bury(record, reason);
    }
}

impl Processor {
    /// Takes over partitions where their checkpoints left them.
    async fn load(&mut self, assignment: Assignment) -> Result<(), ProcessorError> {
        let mut starts = Vec::new();
        for at in assignment.partitions().to_vec() {
            let saved = persist("load checkpoint", || self.query.load_checkpoint(ROLE, &at)).await?;
            let output = saved.as_ref().and_then(|saved| saved.outputs.first());
            let dead_letters = DeadLetters::recover(self.scan.as_ref(), &self.topics.dead_letter, &at, output).await?;
            let completeness = match &saved {
                Some(saved) => checkpoint::decoded(&at, saved)?.completeness,
                None => Completeness::default(),
            };
            let next = saved.map(|saved| saved.next);
            tracing::info!(partition = %at, next = next.as_ref().map(|next| next.offset), "partition taken over");
            let partition = Partition {
                next: next.as_ref().map_or(0, |next| next.offset),
                changed: false,
                completeness,
                duplicates: Duplicates::new(),
                dead_letters,
            };
            self.partitions.insert(at.clone(), partition);
            starts.push(next.map_or(Start::Earliest(at), Start::At));
        }
        assignment.start(starts);
        Ok(())
    }

    /// Goes on behind records that the log deleted before they were stored. Loudly: only an audit can say what
    /// was in them, and only from the archive.
    async fn skip_deleted(
        &mut self,
        first: Position,
        wanted: i64,
        reader: &mut dyn LogReader,
    ) -> Result<(), ProcessorError> {
        // Told twice, or of a partition that has gone to somebody else meanwhile.
        let Some(partition) = self.partitions.get_mut(&first.at).filter(|partition| partition.next < first.offset)
        else {
            return Ok(());
        };
        let lost = first.offset - wanted.max(partition.next);
        tracing::error!(at = %first.at, first = first.offset, lost, "the log deleted records before they were stored");
        ::metrics::counter!(metrics::RECORDS_LOST).increment(lost.unsigned_abs());
        partition.next = first.offset;
        partition.changed = true;
        match reader.seek(&first).await {
            // The partition is being taken away: its revocation comes next.
            Err(PortError::Refused { reason, .. }) => tracing::warn!(at = %first.at, reason, "cannot go on there"),
            sought => sought?,
        }
        Ok(())
    }

    /// Stores what records say: trades as soon as there are enough of a table partition or the log has no more, gaps at
    /// once and all trades before them, the rest with the next checkpoint.
    async fn store(&mut self, records: Vec<Record>) -> Result<(), ProcessorError> {
        let newest = records.iter().map(|record| record.appended_at).max();
        self.waiting_since = self.waiting_since.or_else(|| newest.map(|newest| (Instant::now(), newest)));
        let has_more = records.len() >= self.config.gather_records;
        let mut gaps = Vec::new();
        // Mostly they come partition by partition, and many of one.
        for together in records.chunk_by(|one, next| one.at == next.at) {
            let at = &together[0].at;
            let Some(partition) = self.partitions.get_mut(at) else { continue };
            let decode = if at.topic == self.topics.stream { decode::trade } else { decode::ledger_event };
            let recall = Recall(self.query.as_ref());
            for record in together {
                if record.offset < partition.next {
                    continue;
                }
                match decode(record) {
                    Decoded::Trade(row) => {
                        partition.enter(record.offset, &row.trade, self.config.watermark(), &recall).await?;
                        self.unstored.add(row);
                    }
                    Decoded::Ledger(event) => gaps.extend(partition.note(record.offset, event, &recall).await?),
                    Decoded::Dead(reason) => partition.bury(record, reason),
                }
                partition.next = record.offset + 1;
                partition.changed = true;
            }
        }
        drop(records);
        let waited = self.waiting_since.map_or(Duration::ZERO, |(since, _)| since.elapsed());
        // A filled gap is not to be seen before its trades.
        if has_more && gaps.is_empty() && self.unstored.waiting() <= MOST_WAITING && waited < LONGEST_WAIT {
            self.store_trades().await?;
        } else {
            self.store_all().await?;
        }
        if !gaps.is_empty() {
            persist("store gaps", || self.tables.write_gaps(&gaps)).await?;
        }
        for (at, partition) in &mut self.partitions {
            partition.dead_letters.publish(self.writer.as_ref(), self.scan.as_ref(), at).await?;
        }
        Ok(())
    }

    /// Stores all trades, also those that wait for more.
    async fn store_all(&mut self) -> Result<(), ProcessorError> {
        self.unstored.close();
        self.store_trades().await
    }

    /// Stores the trades that wait for nothing.
    async fn store_trades(&mut self) -> Result<(), ProcessorError> {
        let stored = self.unstored.store(self.tables.as_ref(), self.config.writes_in_flight).await?;
        ::metrics::counter!(metrics::TRADES_STORED).increment(stored as u64);
        if self.unstored.waiting() == 0
            && let Some((_, appended_at)) = self.waiting_since.take()
        {
            let waited = self.clock.now().micros_since(appended_at).max(0);
            ::metrics::histogram!(metrics::STORE_LATENCY).record(waited as f64 / 1e6);
        }
        Ok(())
    }

    /// Sends how far each partition is stored on its way to the tables.
    async fn begin_checkpoint(&mut self) -> Result<(), ProcessorError> {
        // Trades that waited are none of what the checkpoint takes.
        self.store_all().await?;
        let mut snapshot = Snapshot::default();
        for (at, partition) in self.partitions.iter_mut().filter(|(_, partition)| partition.changed) {
            let next = Position { at: at.clone(), offset: partition.next };
            let output = partition.dead_letters.output(partition.next);
            snapshot.add(next, &mut partition.completeness, &partition.duplicates, output);
            partition.changed = false;
        }
        let tables = self.tables.clone();
        self.saving.spawn(async move { snapshot.save(tables.as_ref()).await });
        self.saving_since = Instant::now();
        Ok(())
    }

    /// What a checkpoint has in the tables need not be kept in mind.
    async fn end_checkpoint(&mut self, saved: Saved, reader: &mut dyn LogReader) -> Result<(), ProcessorError> {
        let mut stored = saved.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        self.checkpoint_due = Instant::now() + self.config.checkpoint_pause(self.saving_since.elapsed());
        ::metrics::counter!(metrics::CHECKPOINTS_SAVED).increment(stored.len() as u64);
        stored.retain(|next| {
            // Those that were let go meanwhile are somebody else's.
            let Some(partition) = self.partitions.get_mut(&next.at) else { return false };
            partition.completeness.forget();
            partition.duplicates.retain(|_, row| row.version >= next.offset);
            true
        });
        if !stored.is_empty()
            && let Err(error) = reader.commit(&stored).await
        {
            tracing::debug!(%error, "group commit failed, the checkpoint counts");
        }
        Ok(())
    }

    /// Saves how far each partition is stored, and waits until it is.
    async fn checkpoint(&mut self, reader: &mut dyn LogReader) -> Result<(), ProcessorError> {
        self.checkpoint_saved(reader).await?;
        self.begin_checkpoint().await?;
        self.checkpoint_saved(reader).await
    }

    /// Waits for the checkpoint that is on its way, if one is.
    async fn checkpoint_saved(&mut self, reader: &mut dyn LogReader) -> Result<(), ProcessorError> {
        match self.saving.join_next().await {
            Some(saved) => self.end_checkpoint(saved, reader).await,
            None => Ok(()),
        }
    }

    /// Stores what is known of partitions and forgets them. If that takes too long they go all the
    /// same: the successor does the rest again.
    async fn let_go(&mut self, revocation: Revocation, reader: &mut dyn LogReader) -> Result<(), ProcessorError> {
        match tokio::time::timeout(self.config.revoke_patience(), self.checkpoint(reader)).await {
            Ok(done) => done?,
            Err(_) => tracing::warn!("partitions revoked before they were stored, their next owner does it again"),
        }
        for at in revocation.partitions() {
            tracing::info!(partition = %at, "partition let go");
            self.partitions.remove(at);
        }
        revocation.done();
        Ok(())
    }
}
