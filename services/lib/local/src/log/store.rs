//! Writing the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use domain::{Outgoing, Position, Topic};
use ports::{Clock, PortError};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::Notify;

use super::{SYSTEM, Shared, TopicEnds};
use crate::database::Database;
use crate::queue::Store;

pub(super) const SCHEMA: &str = r#"
CREATE TABLE IF NOT EXISTS topics (
  id         INTEGER PRIMARY KEY,
  name       TEXT NOT NULL UNIQUE,
  partitions INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS records (
  topic          INTEGER NOT NULL,  -- topics.id
  partition      INTEGER NOT NULL,
  "offset"       INTEGER NOT NULL,
  appended_at_us INTEGER NOT NULL,  -- never goes back within a partition
  key            BLOB,
  value          BLOB,
  headers        BLOB,              -- count, then name and value of each; null for none
  PRIMARY KEY (topic, partition, "offset")
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS groups (
  name        TEXT NOT NULL,
  topic       TEXT NOT NULL,
  partition   INTEGER NOT NULL,
  next_offset INTEGER NOT NULL,     -- a hint for people; positions live with the data they describe
  PRIMARY KEY (name, topic, partition)
) WITHOUT ROWID;
CREATE VIEW IF NOT EXISTS log AS
  SELECT name AS topic, partition, "offset",
         strftime('%Y-%m-%dT%H:%M:', appended_at_us / 1000000, 'unixepoch')
           || printf('%09.6fZ', (appended_at_us % 60000000) / 1e6) AS appended_at,
         CAST(key AS TEXT) AS key, CAST(value AS TEXT) AS value
  FROM records JOIN topics ON topics.id = records.topic;
"#;

const INSERT: &str = r#"INSERT INTO records (topic, partition, "offset", appended_at_us, key, value, headers)
  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"#;
const COMMIT: &str = "INSERT OR REPLACE INTO groups (name, topic, partition, next_offset) VALUES (?1, ?2, ?3, ?4)";
const LAST: &str = r#"SELECT "offset", appended_at_us FROM records WHERE topic = ?1 AND partition = ?2
  ORDER BY "offset" DESC LIMIT 1"#;

/// What is written.
pub(super) enum Job {
    /// Records of known topics and partitions.
    Append(Vec<Outgoing>),
    /// What a group has committed.
    Commit(String, Vec<Position>),
}

/// The end of a partition.
#[derive(Clone, Copy, Default)]
struct End {
    next: i64,
    appended_at: i64,
}

/// The writing thread's view of the log.
pub(super) struct LogStore {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    /// The ends of all partitions with what is applied so far.
    ends: Vec<Vec<End>>,
    /// The same as of the last commit.
    durable: Vec<Vec<End>>,
}

/// Adds the topics that are missing, and knows all that there are.
pub(super) fn prepare(
    database: &Database,
    connection: &Connection,
    topics: &[(Topic, i32)],
) -> Result<Shared, PortError> {
    for (name, partitions) in topics {
        add(connection, name, *partitions).map_err(|error| database.error(&error))??;
    }
    let all = || -> rusqlite::Result<Vec<TopicEnds>> {
        let mut statement = connection.prepare("SELECT name, id, partitions FROM topics ORDER BY id")?;
        let topic = |row: &rusqlite::Row<'_>| {
            let ends = (0..row.get::<_, i64>(2)?).map(|_| AtomicI64::new(0)).collect();
            Ok(TopicEnds { name: row.get::<_, String>(0)?.into(), id: row.get(1)?, ends })
        };
        statement.query_map([], topic)?.collect()
    };
    let topics = all().map_err(|error| database.error(&error))?;
    Ok(Shared { topics, appended: Notify::new(), members: Default::default() })
}

fn add(connection: &Connection, name: &str, partitions: i32) -> rusqlite::Result<Result<(), PortError>> {
    let select = "SELECT partitions FROM topics WHERE name = ?1";
    let known: Option<i32> = connection.query_row(select, [name], |row| row.get(0)).optional()?;
    match known {
        // A symbol's trades, and what is known of them, are in the partition that its name and their number decide.
        Some(known) if known != partitions => {
            let reason = format!(
                "topic {name}: expected {partitions} partitions, found {known}: it keeps the number that its tape began with"
            );
            return Ok(Err(PortError::refused(SYSTEM, reason)));
        }
        Some(_) => {}
        None => {
            connection.execute("INSERT INTO topics (name, partitions) VALUES (?1, ?2)", params![name, partitions])?;
        }
    }
    Ok(Ok(()))
}

impl LogStore {
    pub(super) fn new(connection: &Connection, shared: Arc<Shared>, clock: Arc<dyn Clock>) -> rusqlite::Result<Self> {
        let ends = read_ends(connection, &shared)?;
        let mut store = Self { shared, clock, durable: Vec::new(), ends };
        store.committed();
        Ok(store)
    }

    fn append(&mut self, connection: &Connection, records: Vec<Outgoing>) -> rusqlite::Result<Vec<Position>> {
        let mut statement = connection.prepare_cached(INSERT)?;
        let now = self.clock.now().micros();
        let mut positions = Vec::with_capacity(records.len());
        for record in records {
            // Checked before the job was handed over.
            let Ok((topic, partition)) = self.shared.find(&record.to) else { continue };
            let end = &mut self.ends[topic][partition];
            end.appended_at = end.appended_at.max(now);
            let headers = record.headers.as_bytes();
            statement.execute(params![
                self.shared.topics[topic].id,
                record.to.partition,
                end.next,
                end.appended_at,
                record.key.as_deref(),
                record.value.as_deref(),
                (!headers.is_empty()).then_some(&headers[..]),
            ])?;
            positions.push(Position { at: record.to, offset: end.next });
            end.next += 1;
        }
        Ok(positions)
    }
}

impl Store for LogStore {
    type Job = Job;
    type Answer = Vec<Position>;

    fn weight(job: &Job) -> usize {
        match job {
            Job::Append(records) => {
                let body = |record: &Outgoing| record.value.as_ref().map_or(0, |value| value.len()) + 100;
                records.iter().map(body).sum()
            }
            Job::Commit(_, positions) => positions.len() * 50,
        }
    }

    fn apply(&mut self, connection: &Connection, job: Job) -> rusqlite::Result<Vec<Position>> {
        match job {
            Job::Append(records) => self.append(connection, records),
            Job::Commit(group, positions) => {
                let mut statement = connection.prepare_cached(COMMIT)?;
                for Position { at, offset } in positions {
                    statement.execute(params![group, at.topic.as_str(), at.partition, offset])?;
                }
                Ok(Vec::new())
            }
        }
    }

    fn committed(&mut self) {
        self.durable.clone_from(&self.ends);
        for (topic, ends) in self.shared.topics.iter().zip(&self.ends) {
            for (shared, end) in topic.ends.iter().zip(ends) {
                shared.store(end.next, Ordering::Release);
            }
        }
        self.shared.appended.notify_waiters();
    }

    fn abandoned(&mut self, connection: &Connection) {
        // After a commit that failed half-way only the file knows.
        match read_ends(connection, &self.shared) {
            Ok(ends) => {
                self.ends = ends;
                self.committed();
            }
            Err(_) => self.ends.clone_from(&self.durable),
        }
    }
}

fn read_ends(connection: &Connection, shared: &Shared) -> rusqlite::Result<Vec<Vec<End>>> {
    let mut statement = connection.prepare_cached(LAST)?;
    let mut end = |topic: i64, partition: usize| {
        let end = |row: &rusqlite::Row<'_>| Ok(End { next: row.get::<_, i64>(0)? + 1, appended_at: row.get(1)? });
        Ok(statement.query_row(params![topic, partition], end).optional()?.unwrap_or_default())
    };
    let ends = |topic: &TopicEnds, end: &mut dyn FnMut(i64, usize) -> rusqlite::Result<End>| {
        (0..topic.ends.len()).map(|partition| end(topic.id, partition)).collect()
    };
    shared.topics.iter().map(|topic| ends(topic, &mut end)).collect()
}
