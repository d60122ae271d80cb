//! The Cassandra driver: batches of one partition, so many in flight.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use futures::StreamExt;
use rdkafka::Message;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlDecimal, CqlTimestamp};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::event::{Event, SCALE, Tape, digits};
use crate::meter::Meter;
use crate::{Amount, Topic, kafka, runtime};

/// Rows of a batch, as the processor has them by default.
const ROWS: usize = 100;

/// Batches on their way at once.
const IN_FLIGHT: usize = 32;

const HOUR_MS: i64 = 3_600_000;

const INSERT: &str = "INSERT INTO crypto_ks.trades (symbol, hour, trade_time, trade_id, price, quantity, \
     trade_time_us, event_time_us, received_at_us, buyer_is_maker, origin) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";

type Values =
    (Arc<str>, CqlTimestamp, CqlTimestamp, i64, CqlDecimal, CqlDecimal, i64, i64, i64, bool, &'static str, i64);

/// Kafka to Cassandra.
#[derive(Debug, Args)]
pub struct Drain {
    #[command(flatten)]
    from: Topic,
    #[arg(long, default_value = "127.0.0.1:9042")]
    contact: String,
}

/// Rows in memory to Cassandra.
#[derive(Debug, Args)]
pub struct Alone {
    #[command(flatten)]
    amount: Amount,
    #[arg(long, default_value = "127.0.0.1:9042")]
    contact: String,
}

impl Drain {
    pub fn run(self) -> anyhow::Result<Value> {
        let total = self.from.trades;
        // Reading and parsing have a thread of their own; the driver has the rest.
        let (batches, written) = mpsc::channel(2 * IN_FLIGHT);
        let reader = std::thread::spawn(move || {
            let mut open = Grouped::default();
            kafka::each(&self.from, |message| {
                let event = Event::read(message.payload().context("a value")?)?;
                let received_at = message.timestamp().to_millis().unwrap_or_default() * 1_000;
                open.add(&event, received_at)?.map_or(Ok(()), |full| Ok(batches.blocking_send(full)?))
            })?;
            for rest in open.0.into_values() {
                batches.blocking_send(rest)?;
            }
            anyhow::Ok(())
        });
        let line = runtime()?.block_on(write(&self.contact, total, written))?;
        reader.join().expect("the reader panicked")?;
        Ok(line)
    }
}

impl Alone {
    pub fn run(self) -> anyhow::Result<Value> {
        let (batches, written) = mpsc::channel(2 * IN_FLIGHT);
        let amount = self.amount.clone();
        let maker = std::thread::spawn(move || {
            let (mut tape, mut text, mut open) = (Tape::of(amount.symbols), String::new(), Grouped::default());
            for n in 0..amount.trades {
                // Hours that no other measurement writes.
                tape.issue(1_600_000_000_000 + n as i64, &mut text);
                if let Some(full) = open.add(&Event::read(text.as_bytes())?, 0)? {
                    batches.blocking_send(full)?;
                }
            }
            for rest in open.0.into_values() {
                batches.blocking_send(rest)?;
            }
            anyhow::Ok(())
        });
        let line = runtime()?.block_on(write(&self.contact, self.amount.trades, written))?;
        maker.join().expect("the maker panicked")?;
        Ok(line)
    }
}

/// Rows by table partition, until there are enough for a batch.
#[derive(Default)]
struct Grouped(HashMap<(Arc<str>, i64), Vec<Values>>);

impl Grouped {
    fn add(&mut self, event: &Event<'_>, received_at: i64) -> anyhow::Result<Option<Vec<Values>>> {
        let (symbol, hour): (Arc<str>, i64) = (event.symbol.into(), event.time_ms / HOUR_MS * HOUR_MS);
        let rows = self.0.entry((symbol.clone(), hour)).or_insert_with(|| Vec::with_capacity(ROWS));
        rows.push((
            symbol,
            CqlTimestamp(hour),
            CqlTimestamp(event.time_ms),
            event.id,
            decimal(event.price)?,
            decimal(event.quantity)?,
            event.time_ms * 1_000,
            event.event_ms * 1_000,
            received_at,
            event.buyer_is_maker,
            "live",
            event.time_ms * 1_000,
        ));
        Ok((rows.len() == ROWS).then(|| std::mem::replace(rows, Vec::with_capacity(ROWS))))
    }
}

fn decimal(text: &str) -> anyhow::Result<CqlDecimal> {
    Ok(CqlDecimal::from_signed_be_bytes_and_exponent(digits(text)?.to_be_bytes().to_vec(), SCALE as i32))
}

async fn write(contact: &str, total: u64, batches: mpsc::Receiver<Vec<Values>>) -> anyhow::Result<Value> {
    let session: Session = SessionBuilder::new().known_node(contact).build().await?;
    let mut insert = session.prepare(INSERT).await?;
    insert.set_is_idempotent(true);
    let mut meter = Meter::of(total);
    let written = futures::stream::unfold(batches, |mut batches| async move { Some((batches.recv().await?, batches)) })
        .map(|rows| write_batch(&session, &insert, rows))
        .buffer_unordered(IN_FLIGHT);
    let mut written = std::pin::pin!(written);
    while let Some(rows) = written.next().await {
        meter.add(rows? as u64);
    }
    anyhow::ensure!(meter.is_done(), "{} rows of {total}", meter.done());
    meter.line()
}

async fn write_batch(session: &Session, insert: &PreparedStatement, rows: Vec<Values>) -> anyhow::Result<usize> {
    let statements = vec![BatchStatement::PreparedStatement(insert.clone()); rows.len()];
    let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements);
    batch.set_consistency(Consistency::LocalQuorum);
    batch.set_is_idempotent(true);
    session.batch(&batch, &rows).await?;
    Ok(rows.len())
}
