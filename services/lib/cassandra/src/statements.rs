//! The prepared statements: all CQL there is.

use std::sync::Arc;

use ports::PortError;
use scylla::client::session::Session;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::statement::Statement;
use scylla::statement::prepared::PreparedStatement;

use crate::config::CassandraConfig;
use crate::error::{Kind, prepare, timed_out};

#[derive(Debug)]
pub(crate) struct Statements {
    pub insert_trade: PreparedStatement,
    pub delete_trade: PreparedStatement,
    pub insert_gap: PreparedStatement,
    pub insert_completeness: PreparedStatement,
    pub insert_duplicates: PreparedStatement,
    pub insert_checkpoint: PreparedStatement,
    pub select_checkpoint: PreparedStatement,
    pub select_trades: PreparedStatement,
    pub select_trades_after: PreparedStatement,
    pub count_trades: PreparedStatement,
    pub select_gaps: PreparedStatement,
    pub select_completeness: PreparedStatement,
}

const INSERT_TRADE: &str = "INSERT INTO {ks}.trades (symbol, hour, trade_time, trade_id, price, quantity, \
     trade_time_us, event_time_us, received_at_us, buyer_is_maker, origin) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";

const DELETE_TRADE: &str = "DELETE FROM {ks}.trades USING TIMESTAMP ? \
     WHERE symbol = ? AND hour = ? AND trade_time = ? AND trade_id = ?";

const INSERT_GAP: &str = "INSERT INTO {ks}.gaps (symbol, from_id, to_id, state, cause, detected_at, filled_at) \
     VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";

const INSERT_COMPLETENESS: &str = "INSERT INTO {ks}.completeness \
     (symbol, day, hour, first_id, last_id, expected, present, missing, late) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";

const INSERT_DUPLICATES: &str = "INSERT INTO {ks}.completeness (symbol, day, hour, duplicates_dropped) \
     VALUES (?, ?, ?, ?) USING TIMESTAMP ?";

const INSERT_CHECKPOINT: &str = "INSERT INTO {ks}.checkpoints (role, topic, partition, next_offset, state, positions) \
     VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";

const SELECT_CHECKPOINT: &str = "SELECT next_offset, state, positions, WRITETIME(state) FROM {ks}.checkpoints \
     WHERE role = ? AND topic = ? AND partition = ?";

const SELECT_TRADES: &str = "SELECT trade_id, price, quantity, trade_time_us, event_time_us, received_at_us, \
     buyer_is_maker, origin FROM {ks}.trades WHERE symbol = ? AND hour = ? \
     ORDER BY trade_time ASC, trade_id ASC LIMIT ?";

const SELECT_TRADES_AFTER: &str = "SELECT trade_id, price, quantity, trade_time_us, event_time_us, received_at_us, \
     buyer_is_maker, origin FROM {ks}.trades WHERE symbol = ? AND hour = ? AND (trade_time, trade_id) > (?, ?) \
     ORDER BY trade_time ASC, trade_id ASC LIMIT ?";

const COUNT_TRADES: &str = "SELECT count(*) FROM {ks}.trades \
     WHERE symbol = ? AND hour = ? AND trade_time >= ? AND trade_time < ?";

const SELECT_GAPS: &str = "SELECT from_id, to_id, state, cause, detected_at, filled_at, WRITETIME(filled_at), \
     WRITETIME(state) FROM {ks}.gaps WHERE symbol = ?";

const SELECT_COMPLETENESS: &str = "SELECT hour, first_id, last_id, expected, present, missing, late, \
     WRITETIME(present), duplicates_dropped, WRITETIME(duplicates_dropped) FROM {ks}.completeness \
     WHERE symbol = ? AND day = ?";

impl Statements {
    pub async fn prepare(session: &Session, config: &CassandraConfig) -> Result<Self, PortError> {
        let read = |cql| prepared(session, config, cql, Kind::Read);
        let write = |cql| prepared(session, config, cql, Kind::Write);
        // A checkpoint is read as surely as it is written: the last one saved has to be seen even if
        // only some replicas have it.
        Ok(Self {
            insert_trade: write(INSERT_TRADE).await?,
            delete_trade: write(DELETE_TRADE).await?,
            insert_gap: write(INSERT_GAP).await?,
            insert_completeness: write(INSERT_COMPLETENESS).await?,
            insert_duplicates: write(INSERT_DUPLICATES).await?,
            insert_checkpoint: write(INSERT_CHECKPOINT).await?,
            select_checkpoint: write(SELECT_CHECKPOINT).await?,
            select_trades: read(SELECT_TRADES).await?,
            select_trades_after: read(SELECT_TRADES_AFTER).await?,
            count_trades: read(COUNT_TRADES).await?,
            select_gaps: read(SELECT_GAPS).await?,
            select_completeness: read(SELECT_COMPLETENESS).await?,
        })
    }
}

/// Every statement is idempotent. A read that a node fails goes on to the next replica; a write
/// needs its replicas, so the caller is told at once.
async fn prepared(
    session: &Session,
    config: &CassandraConfig,
    cql: &str,
    kind: Kind,
) -> Result<PreparedStatement, PortError> {
    let cql = cql.replace("{ks}", &config.keyspace);
    let limit = config.connect_timeout();
    let answer = tokio::time::timeout(limit, session.prepare(Statement::new(cql.as_str()))).await;
    let answer = answer.map_err(|_| timed_out(Kind::Read, &cql, limit))?;
    let mut statement = answer.map_err(|error| prepare(&error))?;
    statement.set_is_idempotent(true);
    let level = match kind {
        Kind::Read => config.read_consistency,
        Kind::Write => config.write_consistency,
    };
    statement.set_consistency(level.into());
    if kind == Kind::Write {
        statement.set_retry_policy(Some(Arc::new(FallthroughRetryPolicy::new())));
    }
    Ok(statement)
}
