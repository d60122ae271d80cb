//! How to reach the cluster, how sure a write has to be, and how long to wait.

use std::fmt;
use std::time::Duration;

use scylla::statement::Consistency;
use serde::{Deserialize, Serialize};

/// The settings of [`CassandraTables`](crate::CassandraTables).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CassandraConfig {
    /// Nodes to ask for the others, `host` or `host:port`.
    pub contact_points: Vec<String>,
    /// The keyspace of all tables.
    pub keyspace: String,
    /// The data centre to talk to.
    pub local_dc: String,
    /// The user, if the cluster wants one.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<String>,
    /// TCP connections to each node. The driver's own default is one, since Cassandra has no shards.
    pub connections_per_host: usize,
    /// How many replicas have to have a row before its write is acknowledged.
    pub write_consistency: ConsistencyLevel,
    /// How many replicas a read asks. With writes on all replicas, one is always up to date.
    pub read_consistency: ConsistencyLevel,
    /// How long to wait for the first connection, and for each statement to be prepared.
    pub connect_timeout_ms: u64,
    /// How long to wait for one write. Longer than the server's own limit (2 s by default), so that
    /// it is the server who says what happened.
    pub write_timeout_ms: u64,
    /// How long to wait for one read, all its pages included.
    pub read_timeout_ms: u64,
    /// How long a change of the schema may take until all nodes agree.
    pub schema_timeout_ms: u64,
}

/// How many replicas take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsistencyLevel {
    /// Any one.
    One,
    /// Any one of the local data centre.
    LocalOne,
    /// More than half of all.
    Quorum,
    /// More than half of the local data centre's.
    LocalQuorum,
    /// All.
    All,
}

impl From<ConsistencyLevel> for Consistency {
    fn from(level: ConsistencyLevel) -> Self {
        match level {
            ConsistencyLevel::One => Self::One,
            ConsistencyLevel::LocalOne => Self::LocalOne,
            ConsistencyLevel::Quorum => Self::Quorum,
            ConsistencyLevel::LocalQuorum => Self::LocalQuorum,
            ConsistencyLevel::All => Self::All,
        }
    }
}

impl Default for CassandraConfig {
    fn default() -> Self {
        Self {
            contact_points: vec!["127.0.0.1:9042".to_owned()],
            keyspace: "crypto_ks".to_owned(),
            local_dc: "datacenter1".to_owned(),
            username: None,
            password: None,
            connections_per_host: 4,
            write_consistency: ConsistencyLevel::LocalQuorum,
            read_consistency: ConsistencyLevel::LocalOne,
            connect_timeout_ms: 10_000,
            write_timeout_ms: 10_000,
            read_timeout_ms: 30_000,
            schema_timeout_ms: 60_000,
        }
    }
}

impl CassandraConfig {
    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(crate) fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout_ms)
    }

    pub(crate) fn read_timeout(&self) -> Duration {
        Duration::from_millis(self.read_timeout_ms)
    }

    pub(crate) fn schema_timeout(&self) -> Duration {
        Duration::from_millis(self.schema_timeout_ms)
    }
}

impl fmt::Debug for CassandraConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CassandraConfig")
            .field("contact_points", &self.contact_points)
            .field("keyspace", &self.keyspace)
            .field("local_dc", &self.local_dc)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fill_what_is_not_given_and_unknown_keys_are_errors() {
        let config: CassandraConfig = serde_json::from_str(r#"{"write_consistency": "local_one"}"#).unwrap();
        let expected = CassandraConfig { write_consistency: ConsistencyLevel::LocalOne, ..CassandraConfig::default() };
        assert_eq!(config, expected);
        let error = serde_json::from_str::<CassandraConfig>(r#"{"contact_point": []}"#).unwrap_err();
        assert!(error.to_string().contains("contact_point"), "{error}");
    }

    #[test]
    fn never_shows_the_password() {
        let config = CassandraConfig { password: Some("hunter2".to_owned()), ..CassandraConfig::default() };
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
