//! The tables as an SQLite file.

mod query;
mod store;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use domain::{CompletenessRow, DuplicatesRow, GapRow, Symbol, Timestamp, TopicPartition, TradeRow};
use ports::{Checkpoint, CompletenessView, PortError, TableQuery, Tables};

use crate::database::{Database, Readers};
use crate::queue::Queue;
use store::{Job, TableStore};

pub use query::LocalQuery;

const SYSTEM: &str = "table file";
const FILE: &str = "tables.sqlite";

/// The tables of the embedded mode. Cloning gives another handle to the same ones.
#[derive(Clone)]
pub struct LocalTables {
    queue: Arc<Queue<TableStore>>,
    query: LocalQuery,
}

impl LocalTables {
    /// Opens the tables in a data folder.
    ///
    /// # Errors
    /// Refused if the file is damaged.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, PortError> {
        let database = Database::new(SYSTEM, folder.as_ref().join(FILE));
        let connection = database.open(store::SCHEMA)?;
        let query = LocalQuery::new(Readers::open(database.clone())?);
        let queue = Queue::start(database, connection, TableStore::default())?;
        Ok(Self { queue: Arc::new(queue), query })
    }

    /// The tables in a data folder, to be read only; another process may be writing them.
    ///
    /// # Errors
    /// Refused if there are none, or the file is damaged.
    pub fn open_read_only(folder: impl AsRef<Path>) -> Result<LocalQuery, PortError> {
        let database = Database::new(SYSTEM, folder.as_ref().join(FILE));
        Ok(LocalQuery::new(Readers::open(database)?))
    }

    async fn write<R: Clone>(&self, rows: &[R], job: fn(Vec<R>) -> Job) -> Result<(), PortError> {
        if rows.is_empty() { Ok(()) } else { self.queue.ask(job(rows.to_vec())).await }
    }
}

fn of_one_hour<'a>(mut rows: impl Iterator<Item = &'a TradeRow>) -> Result<(), PortError> {
    let Some(first) = rows.next() else { return Ok(()) };
    if rows.all(|row| row.trade.symbol == first.trade.symbol && row.hour() == first.hour()) {
        return Ok(());
    }
    Err(PortError::refused(SYSTEM, "trades of several symbols or hours in one batch"))
}

#[async_trait]
impl Tables for LocalTables {
    async fn write_trades(&self, rows: &[TradeRow]) -> Result<(), PortError> {
        self.write(rows, Job::Trades).await
    }

    async fn mend_trades(&self, wrong: &[TradeRow], right: &[TradeRow], _: Timestamp) -> Result<(), PortError> {
        of_one_hour(wrong.iter().chain(right))?;
        self.queue.ask(Job::Mend { wrong: wrong.to_vec(), right: right.to_vec() }).await
    }

    async fn write_gaps(&self, rows: &[GapRow]) -> Result<(), PortError> {
        self.write(rows, Job::Gaps).await
    }

    async fn write_completeness(&self, rows: &[CompletenessRow]) -> Result<(), PortError> {
        self.write(rows, Job::Completeness).await
    }

    async fn write_duplicates(&self, rows: &[DuplicatesRow]) -> Result<(), PortError> {
        self.write(rows, Job::Duplicates).await
    }

    async fn save_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), PortError> {
        self.queue.ask(Job::Checkpoint(checkpoint.clone())).await
    }
}

#[async_trait]
impl TableQuery for LocalTables {
    async fn load_checkpoint(&self, role: &str, at: &TopicPartition) -> Result<Option<Checkpoint>, PortError> {
        self.query.load_checkpoint(role, at).await
    }

    async fn trades(
        &self,
        symbol: &Symbol,
        hour: Timestamp,
        after: Option<(Timestamp, u64)>,
        limit: usize,
    ) -> Result<Vec<TradeRow>, PortError> {
        self.query.trades(symbol, hour, after, limit).await
    }

    async fn count_trades(&self, symbol: &Symbol, hour: Timestamp) -> Result<u64, PortError> {
        self.query.count_trades(symbol, hour).await
    }

    async fn gaps(&self, symbol: &Symbol) -> Result<Vec<GapRow>, PortError> {
        self.query.gaps(symbol).await
    }

    async fn completeness(&self, symbol: &Symbol, day: Timestamp) -> Result<Vec<CompletenessView>, PortError> {
        self.query.completeness(symbol, day).await
    }
}
