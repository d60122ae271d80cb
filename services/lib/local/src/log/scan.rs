//! Reading the log, from this process or another.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::BytesMut;
use domain::{Headers, Position, Record, Timestamp, TopicPartition};
use ports::{Bounds, LogScan, PortError};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, params};

use super::{READ_BYTES, SYSTEM};
use crate::database::{Database, Readers, Trouble};

const READ: &str = r#"SELECT "offset", appended_at_us, key, value, headers FROM records
  WHERE topic = ?1 AND partition = ?2 AND "offset" >= ?3 AND "offset" < ?4 ORDER BY "offset""#;
const FIRST: &str = r#"SELECT min("offset") FROM records WHERE topic = ?1 AND partition = ?2"#;
const LAST: &str = r#"SELECT max("offset") FROM records WHERE topic = ?1 AND partition = ?2"#;

/// Stands for the first offset there is, whichever that may be.
pub(super) const EARLIEST: i64 = i64::MIN;

/// Reads the log without a group. Cloning gives another handle.
#[derive(Clone)]
pub struct LocalScan {
    pub(super) readers: Arc<Readers>,
}

impl LocalScan {
    pub(super) fn new(readers: Arc<Readers>) -> Self {
        Self { readers }
    }
}

#[async_trait]
impl LogScan for LocalScan {
    async fn bounds(&self, topic: &str) -> Result<Vec<Bounds>, PortError> {
        let topic = topic.to_owned();
        let act = move |connection: &Connection| {
            // One transaction, so that the bounds belong together.
            let transaction = connection.unchecked_transaction()?;
            let (id, partitions) = topic_id(connection, &topic)?;
            let mut all = Vec::new();
            for partition in 0..partitions {
                let one = |sql| -> rusqlite::Result<Option<i64>> {
                    connection.prepare_cached(sql)?.query_row(params![id, partition], |row| row.get(0))
                };
                let end = one(LAST)?.map_or(0, |last| last + 1);
                let first = one(FIRST)?.unwrap_or(end);
                all.push(Bounds { at: TopicPartition::new(topic.as_str(), partition), first, end });
            }
            transaction.finish()?;
            Ok(all)
        };
        self.readers.ask(act).await
    }

    async fn read(&self, from: &Position, end: i64) -> Result<Vec<Record>, PortError> {
        let (database, from) = (self.readers.database.clone(), from.clone());
        let act = move |connection: &Connection| {
            let (id, partitions) = topic_id(connection, &from.at.topic)?;
            if !(0..partitions).contains(&from.at.partition) {
                return Err(PortError::refused(SYSTEM, format!("there is no partition {}", from.at)).into());
            }
            read(&database, connection, id, &from, end, READ_BYTES)
        };
        self.readers.ask(act).await
    }
}

fn topic_id(connection: &Connection, topic: &str) -> Result<(i64, i32), Trouble> {
    let mut statement = connection.prepare_cached("SELECT id, partitions FROM topics WHERE name = ?1")?;
    let found = statement.query_row([topic], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    found.ok_or_else(|| PortError::refused(SYSTEM, format!("there is no topic {topic}")).into())
}

/// Records of one partition from a position on and below `end`, about `budget` bytes of them.
pub(super) fn read(
    database: &Database,
    connection: &Connection,
    topic: i64,
    from: &Position,
    end: i64,
    budget: usize,
) -> Result<Vec<Record>, Trouble> {
    let mut statement = connection.prepare_cached(READ)?;
    let mut rows = statement.query(params![topic, from.at.partition, from.offset, end])?;
    let mut batch = Batch::default();
    while let Some(row) = rows.next()? {
        batch.add(row)?;
        if batch.weight() >= budget {
            break;
        }
    }
    let begins_later = batch.rows.first().is_none_or(|first| first.offset > from.offset);
    if begins_later && from.offset != EARLIEST && from.offset < end {
        let first: Option<i64> =
            connection.prepare_cached(FIRST)?.query_row(params![topic, from.at.partition], |row| row.get(0))?;
        if let Some(first) = first.filter(|first| *first > from.offset) {
            return Err(PortError::Truncated { at: from.at.clone(), wanted: from.offset, first }.into());
        }
    }
    Ok(batch.into_records(database, &from.at)?)
}

/// Rows whose bytes stand one behind the other, so that a batch is one allocation.
#[derive(Default)]
struct Batch {
    bytes: BytesMut,
    rows: Vec<Row>,
}

struct Row {
    offset: i64,
    appended_at: i64,
    key: Option<usize>,
    value: Option<usize>,
    headers: Option<usize>,
}

impl Batch {
    fn add(&mut self, row: &rusqlite::Row<'_>) -> rusqlite::Result<()> {
        let mut blob = |column| match row.get_ref(column)? {
            ValueRef::Null => Ok(None),
            ValueRef::Blob(bytes) | ValueRef::Text(bytes) => {
                self.bytes.extend_from_slice(bytes);
                Ok(Some(bytes.len()))
            }
            other => Err(rusqlite::Error::InvalidColumnType(column, "blob".to_owned(), other.data_type())),
        };
        let (key, value, headers) = (blob(2)?, blob(3)?, blob(4)?);
        self.rows.push(Row { offset: row.get(0)?, appended_at: row.get(1)?, key, value, headers });
        Ok(())
    }

    fn weight(&self) -> usize {
        self.bytes.len() + self.rows.len() * std::mem::size_of::<Record>()
    }

    fn into_records(self, database: &Database, at: &TopicPartition) -> Result<Vec<Record>, PortError> {
        let mut bytes = self.bytes.freeze();
        let mut records = Vec::with_capacity(self.rows.len());
        for row in self.rows {
            let mut part = |length: Option<usize>| length.map(|length| bytes.split_to(length));
            let (key, value, encoded) = (part(row.key), part(row.value), part(row.headers));
            let headers = Headers::from_bytes(encoded.unwrap_or_default());
            let headers = headers.ok_or_else(|| database.damaged(format!("headers of {at}@{}", row.offset)))?;
            let appended_at = Timestamp::from_micros(row.appended_at);
            records.push(Record { at: at.clone(), offset: row.offset, appended_at, key, value, headers });
        }
        Ok(records)
    }
}
