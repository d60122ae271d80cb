//! The loop: read, account, store, and now and then a checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::ledger::{GapState, LedgerEvent};
use domain::{DuplicatesRow, GapRow, IdSet, Position, Record, Symbol, Timestamp, TopicPartition, Topics, TradeRow};
use futures::{StreamExt, TryStreamExt, stream};
use ports::{
    Assignment, Clock, CompletenessView, LogEvent, LogReader, LogScan, LogWriter, PortError, Revocation, Start,
    TableQuery, Tables, persist,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::checkpoint;
use crate::completeness::{Completeness, Hour};
use crate::config::ProcessorConfig;
use crate::dead_letter::DeadLetters;
use crate::decode::{self, Decoded};
use crate::store::store_trades;
use crate::{ProcessorError, ROLE, metrics};

/// How many rows are read at once when an hour is read back.
const PAGE: usize = 5_000;

/// How many checkpoints are on their way at the same time.
const CHECKPOINTS_IN_FLIGHT: usize = 16;

const DAY: Duration = Duration::from_secs(86_400);

/// How many days around an hour the hours beside it are looked for.
const NEIGHBOUR_DAYS: u32 = 7;

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
    let mut processor = Processor { writer, scan, tables, query, clock, topics, config, partitions: BTreeMap::new() };
    let mut checkpoint_due = Instant::now() + processor.config.checkpoint_interval();
    loop {
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = tokio::time::sleep_until(checkpoint_due) => None,
            event = reader.next() => match event {
                Err(PortError::Truncated { at, wanted, first }) if first > wanted => {
                    processor.skip_deleted(Position { at, offset: first }, wanted, reader.as_mut()).await?;
                    continue;
                }
                event => Some(event?),
            },
        };
        // Whatever the outside world keeps us waiting for, the checkpoint has the rest.
        let work = async {
            match event {
                Some(LogEvent::Assigned(assignment)) => processor.load(assignment).await,
                Some(LogEvent::Records(records)) => processor.store(records).await,
                Some(LogEvent::Revoked(revocation)) => processor.let_go(revocation, reader.as_mut()).await,
                None => {
                    let stored = processor.checkpoint().await;
                    checkpoint_due = Instant::now() + processor.config.checkpoint_interval();
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
}

/// One partition that this processor owns.
struct Partition {
    /// The position to be read next.
    next: i64,
    /// Whether there is something that no checkpoint has.
    changed: bool,
    completeness: Completeness,
    duplicates: BTreeMap<(Symbol, Timestamp), DuplicatesRow>,
    dead_letters: DeadLetters,
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
                duplicates: BTreeMap::new(),
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

    /// Stores what records say: trades and gaps at once, the rest with the next checkpoint.
    async fn store(&mut self, records: Vec<Record>) -> Result<(), ProcessorError> {
        let newest = records.iter().map(|record| record.appended_at).max();
        let mut rows = Vec::with_capacity(records.len());
        let mut gaps = Vec::new();
        for record in &records {
            let Some(partition) = self.partitions.get(&record.at).filter(|at| at.next <= record.offset) else {
                continue;
            };
            let decode = if record.at.topic == self.topics.stream { decode::trade } else { decode::ledger_event };
            let decoded = decode(record);
            match &decoded {
                Decoded::Trade(row) if !partition.completeness.is_ready(&row.trade.symbol, row.hour()) => {
                    self.recall_hour(&record.at, &row.trade.symbol, row.hour()).await?;
                }
                Decoded::Ledger(LedgerEvent::Duplicates { symbol, hour, .. }) => {
                    self.recall_duplicates(&record.at, symbol, *hour).await?;
                }
                _ => {}
            }
            self.account(record, decoded, &mut rows, &mut gaps);
        }
        drop(records);
        self.write(rows, gaps).await?;
        if let Some(appended_at) = newest {
            let waited = self.clock.now().micros_since(appended_at).max(0);
            ::metrics::histogram!(metrics::STORE_LATENCY).record(waited as f64 / 1e6);
        }
        Ok(())
    }

    /// Notes what a record says, without any waiting.
    fn account(&mut self, record: &Record, decoded: Decoded, rows: &mut Vec<TradeRow>, gaps: &mut Vec<GapRow>) {
        let Some(partition) = self.partitions.get_mut(&record.at) else { return };
        partition.next = record.offset + 1;
        partition.changed = true;
        match decoded {
            Decoded::Trade(row) => {
                let late = partition.completeness.enter(&row.trade, record.offset, self.config.watermark());
                if late {
                    ::metrics::counter!(metrics::TRADES_LATE).increment(1);
                }
                rows.push(row);
            }
            Decoded::Ledger(LedgerEvent::Gap { symbol, ids, state, cause, detected_at, closed_at, .. }) => {
                let filled_at = closed_at.filter(|_| state == GapState::Filled);
                // What closes a gap outranks what opened it, even if that lands in the log late.
                let version = detected_at.micros() * 2 + i64::from(state != GapState::Open);
                gaps.push(GapRow { symbol, ids, state, cause, detected_at, filled_at, version });
            }
            Decoded::Ledger(LedgerEvent::Duplicates { symbol, hour, count, .. }) => {
                let row = partition.duplicates.get_mut(&(symbol, hour));
                if let Some(row) = row.filter(|row| row.version < record.offset) {
                    row.dropped += count;
                    row.version = record.offset;
                }
            }
            Decoded::Ledger(LedgerEvent::Mark { .. }) => {}
            Decoded::Dead(reason) => {
                tracing::warn!(at = %record.at, offset = record.offset, reason, "unusable record kept as a dead letter");
                ::metrics::counter!(metrics::RECORDS_DEAD).increment(1);
                partition.dead_letters.bury(record, reason);
            }
        }
    }

    async fn write(&mut self, rows: Vec<TradeRow>, gaps: Vec<GapRow>) -> Result<(), ProcessorError> {
        let stored = rows.len() as u64;
        store_trades(self.tables.as_ref(), rows, &self.config).await?;
        ::metrics::counter!(metrics::TRADES_STORED).increment(stored);
        if !gaps.is_empty() {
            persist("store gaps", || self.tables.write_gaps(&gaps)).await?;
        }
        for (at, partition) in &mut self.partitions {
            partition.dead_letters.publish(self.writer.as_ref(), self.scan.as_ref(), at).await?;
        }
        Ok(())
    }

    /// Saves how far each partition is stored. Only to be called when all rows are acknowledged.
    async fn checkpoint(&mut self) -> Result<Vec<Position>, ProcessorError> {
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

    /// Reads an hour back from the tables if it is not in mind; of an old one also what is known of the
    /// hours beside it, on which its own count and the next one's depend.
    async fn recall_hour(&mut self, at: &TopicPartition, symbol: &Symbol, hour: Timestamp) -> Result<(), PortError> {
        let Some(completeness) = self.partitions.get(at).map(|partition| &partition.completeness) else {
            return Ok(());
        };
        let (is_known, lacks_follower) = (completeness.knows(symbol, hour), completeness.lacks_follower(symbol, hour));
        let mut recalled = Vec::new();
        if !is_known {
            let mut stored = self.stored_hour(symbol, hour).await?;
            if lacks_follower {
                stored.before = self.last_id_before(symbol, hour).await?;
            }
            recalled.push((hour, stored));
        }
        if lacks_follower {
            let follower = self.hour_after(symbol, hour).await?;
            let unknown = follower.filter(|follower| !completeness.knows(symbol, *follower));
            if let Some(follower) = unknown {
                recalled.push((follower, self.stored_hour(symbol, follower).await?));
            }
        }
        if let Some(Partition { completeness, .. }) = self.partitions.get_mut(at) {
            for (hour, stored) in recalled {
                completeness.restore(symbol, hour, stored);
            }
            if lacks_follower {
                completeness.followed(symbol, hour);
            }
        }
        Ok(())
    }

    /// The last id of the hour before, as the tables have it.
    async fn last_id_before(&self, symbol: &Symbol, hour: Timestamp) -> Result<Option<u64>, PortError> {
        for days in 0..=NEIGHBOUR_DAYS {
            let rows = self.completeness(symbol, hour.minus(DAY * days)).await?;
            let earlier = rows.into_iter().filter(|row| row.hour < hour).filter_map(|row| row.trades);
            if let Some(last) = earlier.last() {
                return Ok(Some(last.last_id));
            }
        }
        Ok(None)
    }

    /// The next hour that the tables know.
    async fn hour_after(&self, symbol: &Symbol, hour: Timestamp) -> Result<Option<Timestamp>, PortError> {
        for days in 0..=NEIGHBOUR_DAYS {
            let rows = self.completeness(symbol, hour.plus(DAY * days)).await?;
            let mut later = rows.into_iter().filter(|row| row.hour > hour && row.trades.is_some());
            if let Some(next) = later.next() {
                return Ok(Some(next.hour));
            }
        }
        Ok(None)
    }

    async fn completeness(&self, symbol: &Symbol, time: Timestamp) -> Result<Vec<CompletenessView>, PortError> {
        persist("read completeness", || self.query.completeness(symbol, time.day())).await
    }

    async fn stored_hour(&self, symbol: &Symbol, hour: Timestamp) -> Result<Hour, PortError> {
        let mut ids = IdSet::new();
        let mut after = None;
        loop {
            let page = persist("read hour", || self.query.trades(symbol, hour, after, PAGE)).await?;
            ids.extend(page.iter().map(|row| domain::IdRange::one(row.trade.id)));
            after = page.last().map(|row| (row.trade.trade_time, row.trade.id));
            if page.len() < PAGE {
                break;
            }
        }
        let rows = self.completeness(symbol, hour).await?;
        let row = rows.into_iter().find(|row| row.hour == hour).and_then(|row| row.trades);
        let (late, counted_to) = row.map_or((0, -1), |row| (row.late, row.version));
        Ok(Hour { ids, late, counted_to, ..Hour::default() })
    }

    /// Reads the count of duplicates back from the tables if it is not in mind.
    async fn recall_duplicates(
        &mut self,
        at: &TopicPartition,
        symbol: &Symbol,
        hour: Timestamp,
    ) -> Result<(), PortError> {
        let key = (symbol.clone(), hour);
        let known = self.partitions.get(at).is_none_or(|partition| partition.duplicates.contains_key(&key));
        if known {
            return Ok(());
        }
        let rows = self.completeness(symbol, hour).await?;
        let stored = rows.into_iter().find(|row| row.hour == hour).and_then(|row| row.duplicates);
        let none = DuplicatesRow { symbol: symbol.clone(), hour, dropped: 0, version: -1 };
        if let Some(partition) = self.partitions.get_mut(at) {
            partition.duplicates.insert(key, stored.unwrap_or(none));
        }
        Ok(())
    }
}
