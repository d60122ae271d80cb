//! The tables in Cassandra: [`CassandraTables`] translates [`ports::Tables`] and
//! [`ports::TableQuery`] to CQL, through the `scylla` driver.
//!
//! Every write says `USING TIMESTAMP` with a number from the log, so a replay or a zombie can only
//! write what is already there. No counters, no lightweight transactions, no read before a write.
//! The only DDL is in `cassandra/*.cql`; [`apply_schema`] runs it.

mod config;
mod error;
mod query;
mod schema;
mod session;
mod statements;
mod values;
mod write;

pub use config::{CassandraConfig, ConsistencyLevel};
pub use schema::apply_schema;
pub use session::CassandraTables;
