//! The tables: what people query. Every row is a function of the log, so writing it again writes
//! the same.

use async_trait::async_trait;
use domain::{CompletenessRow, DuplicatesRow, GapRow, Position, Symbol, Timestamp, TopicPartition, TradeRow};

use crate::PortError;

/// Writes rows. All methods are idempotent; when one returns, the rows survive a crash.
#[async_trait]
pub trait Tables: Send + Sync {
    /// Stores trades, all or, after an error, any part of them. A row that is there already is written over with the
    /// same content. They are best of one symbol and hour.
    ///
    /// # Errors
    /// [`PortError::Refused`] if they are too many for the store.
    async fn write_trades(&self, rows: &[TradeRow]) -> Result<(), PortError>;

    /// Makes trades of one symbol and hour right: takes `wrong` rows away and then puts `right` ones in,
    /// whatever was written or deleted there by other hands up to `now`. Only for repairs: no later
    /// [`write_trades`](Self::write_trades) can change these rows.
    ///
    /// # Errors
    /// [`PortError::Refused`] if the rows are of several symbols or hours, or too many for the store; after an error any
    /// part of it may have happened.
    async fn mend_trades(&self, wrong: &[TradeRow], right: &[TradeRow], now: Timestamp) -> Result<(), PortError>;

    /// Stores gaps. A row never replaces one of a higher version.
    ///
    /// # Errors
    /// As the store has them.
    async fn write_gaps(&self, rows: &[GapRow]) -> Result<(), PortError>;

    /// Stores what the stream of trades tells of completeness. A row never replaces one of a higher
    /// version, and leaves the duplicates alone.
    ///
    /// # Errors
    /// As the store has them.
    async fn write_completeness(&self, rows: &[CompletenessRow]) -> Result<(), PortError>;

    /// Stores how many duplicates were dropped. A row never replaces one of a higher version.
    ///
    /// # Errors
    /// As the store has them.
    async fn write_duplicates(&self, rows: &[DuplicatesRow]) -> Result<(), PortError>;

    /// Stores a checkpoint. It never replaces one of a higher offset.
    ///
    /// # Errors
    /// As the store has them.
    async fn save_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), PortError>;
}

/// How far a role has come with a partition, and what it had in mind there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which role, for example `processor`.
    pub role: String,
    /// The position to be read next: everything before it is stored.
    pub next: Position,
    /// The role's own state at that position.
    pub state: Vec<u8>,
    /// The ends of the partitions that the role writes to, at that position.
    pub outputs: Vec<Position>,
}

/// Reads rows.
#[async_trait]
pub trait TableQuery: Send + Sync {
    /// The checkpoint of a role and a partition, if there is one.
    ///
    /// # Errors
    /// As the store has them.
    async fn load_checkpoint(&self, role: &str, at: &TopicPartition) -> Result<Option<Checkpoint>, PortError>;

    /// Trades of a symbol and hour, in order of (trade time in ms, trade id), behind `after` if
    /// given, at most `limit`.
    ///
    /// # Errors
    /// As the store has them.
    async fn trades(
        &self,
        symbol: &Symbol,
        hour: Timestamp,
        after: Option<(Timestamp, u64)>,
        limit: usize,
    ) -> Result<Vec<TradeRow>, PortError>;

    /// How many trades of a symbol and hour there are.
    ///
    /// # Errors
    /// As the store has them.
    async fn count_trades(&self, symbol: &Symbol, hour: Timestamp) -> Result<u64, PortError>;

    /// All gaps of a symbol, in order.
    ///
    /// # Errors
    /// As the store has them.
    async fn gaps(&self, symbol: &Symbol) -> Result<Vec<GapRow>, PortError>;

    /// The completeness of a symbol's day (its start), in order of hour.
    ///
    /// # Errors
    /// As the store has them.
    async fn completeness(&self, symbol: &Symbol, day: Timestamp) -> Result<Vec<CompletenessView>, PortError>;
}

/// A whole row of `completeness`: both parts, as far as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletenessView {
    /// The start of the hour.
    pub hour: Timestamp,
    /// What the stream of trades tells.
    pub trades: Option<CompletenessRow>,
    /// What ingest's ledger tells.
    pub duplicates: Option<DuplicatesRow>,
}
