//! The loop: read, account, store, and now and then a checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::ledger::{GapState, LedgerEvent};
use domain::{GapRow, Position, Record, Timestamp, TopicPartition, Topics, Trade};
use futures::{StreamExt, TryStreamExt, stream};
use ports::{
    Assignment, Clock, LogEvent, LogReader, LogScan, LogWriter, PortError, Revocation, Start, TableQuery, Tables,
    persist,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::checkpoint;
use crate::completeness::Completeness;
use crate::config::ProcessorConfig;
use crate::dead_letter::DeadLetters;
use crate::decode::{self, Decoded};
use crate::recall::{Duplicates, Recall};
use crate::store::Unstored;
use crate::{ProcessorError, ROLE, metrics};

/// How many checkpoints are on their way at the same time.
const CHECKPOINTS_IN_FLIGHT: usize = 16;

/// While the log has more, what is left over of a table partition waits for it: with many symbols, no batch of the log
/// has enough of any of them for a write. But not more than so many trades…
const MOST_WAITING: usize = 65_536;

/// …no longer than this…
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// …and not if so long nothing comes.
const SILENCE: Duration = Duration::from_millis(50);

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
        config,
        partitions: BTreeMap::new(),
    };
    let mut checkpoint_due = Instant::now() + processor.config.checkpoint_interval();
    loop {
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = tokio::time::sleep_until(checkpoint_due) => Event::CheckpointDue,
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
                Event::Log(LogEvent::Records(records)) => processor.store(records).await,
                Event::Log(LogEvent::Revoked(revocation)) => processor.let_go(revocation, reader.as_mut()).await,
                Event::Silence => processor.store_all().await,
                Event::CheckpointDue => {
                    // Trades that waited are none of what the checkpoint takes.
                    processor.store_all().await?;
                    let began = Instant::now();
                    let stored = processor.checkpoint().await;
                    checkpoint_due = Instant::now() + processor.config.checkpoint_pause(began.elapsed());
                    commit(reader.as_mut(), stored?).await
                }
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
        stored = processor.checkpoint() => commit(reader.as_mut(), stored?).await,
        () = out_of_time(&stop) => Ok(()),
    }
}

enum Event {
    Log(LogEvent),
    /// Trades wait for more of their kind, and nothing comes.
    Silence,
    CheckpointDue,
}

async fn out_of_time(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(DRAIN).await;
    tracing::warn!("stopped before everything was stored, it is done again at the next start");
}

async fn commit(reader: &mut dyn LogReader, next: Vec<Position>) -> Result<(), ProcessorError> {
    if !next.is_empty()
        && let Err(error) = reader.commit(&next).await
    {
        tracing::debug!(%error, "group commit failed, the checkpoint counts");
    }
    Ok(())
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
}

/// One partition that this processor owns.
struct Partition {
    /// The position to be read next.
    next: i64,
    /// Whether there is something that no checkpoint has.
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

    /// Saves how far each partition is stored.
    async fn checkpoint(&mut self) -> Result<Vec<Position>, ProcessorError> {
        self.store_all().await?;
        let changed = || self.partitions.values().filter(|partition| partition.changed);
        let rows: Vec<_> =
            changed().flat_map(|partition| partition.completeness.changed_rows(partition.next - 1)).collect();
        if !rows.is_empty() {
            persist("store completeness", || self.tables.write_completeness(&rows)).await?;
        }
        let duplicates: Vec<_> = changed().flat_map(|partition| partition.duplicates.values().cloned()).collect();
        if !duplicates.is_empty() {
            persist("store duplicates", || self.tables.write_duplicates(&duplicates)).await?;
        }
        let mut checkpoints = Vec::new();
        for (at, partition) in self.partitions.iter_mut().filter(|(_, partition)| partition.changed) {
            partition.completeness.written();
            let next = Position { at: at.clone(), offset: partition.next };
            let output = partition.dead_letters.output(partition.next);
            checkpoints.push(checkpoint::encoded(next, &partition.completeness, vec![output]));
        }
        let tables = &self.tables;
        let saves = checkpoints.into_iter().map(|checkpoint| async move {
            persist("save checkpoint", || tables.save_checkpoint(&checkpoint)).await?;
            Ok::<_, PortError>(checkpoint.next)
        });
        let saved: Vec<_> = stream::iter(saves).buffer_unordered(CHECKPOINTS_IN_FLIGHT).try_collect().await?;
        // Only now: a checkpoint may be cut short anywhere before.
        for partition in self.partitions.values_mut() {
            partition.duplicates.clear();
            partition.changed = false;
        }
        ::metrics::counter!(metrics::CHECKPOINTS_SAVED).increment(saved.len() as u64);
        Ok(saved)
    }

    /// Stores what is known of partitions and forgets them. If that takes too long they go all the
    /// same: the successor does the rest again.
    async fn let_go(&mut self, revocation: Revocation, reader: &mut dyn LogReader) -> Result<(), ProcessorError> {
        match tokio::time::timeout(self.config.revoke_patience(), self.checkpoint()).await {
            Ok(stored) => commit(reader, stored?).await?,
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
