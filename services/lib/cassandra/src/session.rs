//! The session: connections to all nodes and the statements prepared on them.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Mutex;

use ports::PortError;
use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::DefaultPolicy;

use domain::TopicPartition;

use crate::config::CassandraConfig;
use crate::error::{Kind, SYSTEM, new_session, timed_out};
use crate::statements::Statements;

/// The tables of one keyspace.
///
/// Whoever saves checkpoints loads them through the same value: it counts those of one offset.
#[derive(Debug)]
pub struct CassandraTables {
    pub(crate) config: CassandraConfig,
    pub(crate) session: Session,
    pub(crate) statements: Statements,
    /// The write timestamp last used for the checkpoint of a role and partition: checkpoints of one
    /// offset follow each other, and the later one has to win.
    pub(crate) checkpoints: Mutex<HashMap<(String, TopicPartition), i64>>,
}

impl CassandraTables {
    /// Connects and prepares all statements; the tables have to exist.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if no node answers, [`PortError::Refused`] if the settings are wrong
    /// or a table is missing.
    pub async fn connect(config: CassandraConfig) -> Result<Self, PortError> {
        let session = connect(&config).await?;
        let statements = Statements::prepare(&session, &config).await?;
        Ok(Self { config, session, statements, checkpoints: Mutex::default() })
    }
}

pub(crate) async fn connect(config: &CassandraConfig) -> Result<Session, PortError> {
    check_keyspace(&config.keyspace)?;
    let limit = config.connect_timeout();
    let answer = tokio::time::timeout(limit, builder(config)?.build()).await;
    let answer = answer.map_err(|_| timed_out(Kind::Read, "connect", limit))?;
    answer.map_err(|error| new_session(&error))
}

fn builder(config: &CassandraConfig) -> Result<SessionBuilder, PortError> {
    let connections = NonZeroUsize::new(config.connections_per_host)
        .ok_or_else(|| PortError::refused(SYSTEM, "connections_per_host is 0, expected 1 or more"))?;
    let policy = DefaultPolicy::builder().prefer_datacenter(config.local_dc.clone()).token_aware(true).build();
    // Our own deadlines are stricter than any statement's; the driver's must not fire first.
    let profile = ExecutionProfile::builder().load_balancing_policy(policy).request_timeout(None).build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&config.contact_points)
        .pool_size(PoolSize::PerHost(connections))
        .connection_timeout(config.connect_timeout())
        .schema_agreement_timeout(config.schema_timeout())
        .default_execution_profile_handle(profile.into_handle());
    if let (Some(username), Some(password)) = (&config.username, &config.password) {
        builder = builder.user(username, password);
    }
    Ok(builder)
}

/// The keyspace's name becomes part of every statement.
fn check_keyspace(name: &str) -> Result<(), PortError> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain && !name.is_empty() && name.len() <= 48 {
        Ok(())
    } else {
        Err(PortError::refused(SYSTEM, format!("{name:?} is no keyspace: expected letters, digits and _")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyspaces_are_plain_names() {
        assert!(check_keyspace("crypto_ks").is_ok());
        for bad in ["", "a b", "a;b", "é", &"a".repeat(49)] {
            assert!(check_keyspace(bad).is_err(), "{bad:?}");
        }
    }
}
