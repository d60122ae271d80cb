//! SQLite inserts, alone and beside Parquet: the bare loop of the embedded mode.

use std::path::PathBuf;
use std::sync::mpsc;

use anyhow::Context;
use clap::Args;
use rusqlite::{Connection, params};
use serde_json::Value;

use crate::archive::{Datasets, Full, Row, Stamp};
use crate::event::{Event, Tape};
use crate::meter::Meter;
use crate::{Amount, empty_folder};

/// Rows of a transaction.
const ROWS: usize = 5_000;

const HOUR_US: i64 = 3_600_000_000;

const SCHEMA: &str = r#"
CREATE TABLE records (
  topic INTEGER NOT NULL, partition INTEGER NOT NULL, "offset" INTEGER NOT NULL, appended_at_us INTEGER NOT NULL,
  key BLOB, value BLOB, headers BLOB, PRIMARY KEY (topic, partition, "offset")) WITHOUT ROWID;
CREATE TABLE trades (
  symbol TEXT NOT NULL, hour_us INTEGER NOT NULL, trade_time_ms INTEGER NOT NULL, trade_id INTEGER NOT NULL,
  price TEXT NOT NULL, quantity TEXT NOT NULL, trade_time_us INTEGER NOT NULL, event_time_us INTEGER,
  received_at_us INTEGER NOT NULL, buyer_is_maker INTEGER NOT NULL, origin TEXT NOT NULL,
  PRIMARY KEY (symbol, hour_us, trade_time_ms, trade_id)) WITHOUT ROWID;
"#;

const INSERT_RECORD: &str = "INSERT INTO records VALUES (1, ?, ?, ?, ?, ?, ?)";
const INSERT_TRADE: &str = "INSERT INTO trades VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// Rows in memory to a table.
#[derive(Debug, Args)]
pub struct Alone {
    #[command(flatten)]
    amount: Amount,
    /// Emptied first.
    #[arg(long)]
    folder: PathBuf,
}

/// Public archive files to log, table and archive.
#[derive(Debug, Args)]
pub struct Embedded {
    /// How many trades the files have.
    #[arg(long)]
    trades: u64,
    /// Emptied first, at the cost of this run if there is anything.
    #[arg(long)]
    folder: PathBuf,
    /// Named SYMBOL-trades-DATE.csv.
    files: Vec<PathBuf>,
}

/// A row of the table, in order of its columns.
#[derive(Clone)]
struct Owned {
    symbol: String,
    id: i64,
    price: String,
    quantity: String,
    time_us: i64,
    event_us: Option<i64>,
    buyer_is_maker: bool,
    value: Vec<u8>,
    headers: Vec<u8>,
}

fn open(path: &PathBuf) -> anyhow::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
    connection.pragma_update(None, "cache_size", -65_536)?;
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}

fn insert_trades(connection: &mut Connection, rows: &[Owned]) -> anyhow::Result<()> {
    let transaction = connection.transaction()?;
    let mut insert = transaction.prepare_cached(INSERT_TRADE)?;
    for row in rows {
        let (hour, ms) = (row.time_us / HOUR_US * HOUR_US, row.time_us / 1_000);
        let Owned { symbol, id, price, quantity, time_us, event_us, buyer_is_maker, .. } = row;
        insert.execute(params![
            symbol,
            hour,
            ms,
            id,
            price,
            quantity,
            time_us,
            event_us,
            time_us,
            buyer_is_maker,
            "replay"
        ])?;
    }
    drop(insert);
    Ok(transaction.commit()?)
}

fn insert_records(connection: &mut Connection, first: i64, rows: &[Owned]) -> anyhow::Result<()> {
    let transaction = connection.transaction()?;
    let mut insert = transaction.prepare_cached(INSERT_RECORD)?;
    for (offset, row) in (first..).zip(rows) {
        insert.execute(params![0, offset, row.time_us, row.symbol.as_bytes(), row.value, row.headers])?;
    }
    drop(insert);
    Ok(transaction.commit()?)
}

impl Alone {
    pub fn run(self) -> anyhow::Result<Value> {
        empty_folder(&self.folder)?;
        let mut connection = open(&self.folder.join("tables.sqlite"))?;
        let (mut tape, mut text) = (Tape::of(self.amount.symbols), String::new());
        let mut meter = Meter::of(self.amount.trades);
        let mut time_ms = 1_700_000_000_000;
        while !meter.is_done() {
            let mut rows = Vec::with_capacity(ROWS);
            for _ in 0..ROWS {
                time_ms += 1;
                tape.issue(time_ms, &mut text);
                let event = Event::read(text.as_bytes())?;
                rows.push(Owned {
                    symbol: event.symbol.to_owned(),
                    id: event.id,
                    price: event.price.to_owned(),
                    quantity: event.quantity.to_owned(),
                    time_us: time_ms * 1_000,
                    event_us: Some(event.event_ms * 1_000),
                    buyer_is_maker: event.buyer_is_maker,
                    value: Vec::new(),
                    headers: Vec::new(),
                });
            }
            insert_trades(&mut connection, &rows)?;
            meter.add(ROWS as u64);
        }
        meter.line()
    }
}

impl Embedded {
    pub fn run(self) -> anyhow::Result<Value> {
        empty_folder(&self.folder)?;
        // A thread for each store, as the three roles have.
        let (to_table, for_table) = mpsc::sync_channel::<(i64, std::sync::Arc<Vec<Owned>>)>(4);
        let (to_archive, for_archive) = mpsc::sync_channel::<(i64, std::sync::Arc<Vec<Owned>>)>(4);
        let mut table = open(&self.folder.join("tables.sqlite"))?;
        let table = std::thread::spawn(move || {
            for_table.into_iter().try_for_each(|(_, rows)| insert_trades(&mut table, &rows))
        });
        let folder = self.folder.clone();
        let archive = std::thread::spawn(move || archive(&folder, for_archive));
        let mut log = open(&self.folder.join("log.sqlite"))?;
        let mut meter = Meter::of(self.trades);
        let mut offset = 0;
        let mut send = |rows: Vec<Owned>, log: &mut Connection| {
            insert_records(log, offset, &rows)?;
            let rows = std::sync::Arc::new(rows);
            to_table.send((offset, rows.clone()))?;
            offset += rows.len() as i64;
            meter.add(rows.len() as u64);
            anyhow::Ok(to_archive.send((offset - rows.len() as i64, rows))?)
        };
        let mut rows = Vec::with_capacity(ROWS);
        for path in &self.files {
            let name = path.file_name().and_then(|name| name.to_str()).context("a file's name")?;
            let symbol = name.split('-').next().context("a symbol")?;
            for line in std::io::BufRead::lines(std::io::BufReader::new(std::fs::File::open(path)?)) {
                rows.push(owned(symbol, &line?)?);
                if rows.len() == ROWS {
                    send(std::mem::replace(&mut rows, Vec::with_capacity(ROWS)), &mut log)?;
                }
            }
        }
        send(rows, &mut log)?;
        drop((to_table, to_archive));
        table.join().expect("the table's thread panicked")?;
        archive.join().expect("the archive's thread panicked")?;
        anyhow::ensure!(meter.done() == self.trades, "{} trades of {}", meter.done(), self.trades);
        meter.line()
    }
}

fn owned(symbol: &str, line: &str) -> anyhow::Result<Owned> {
    let fields: Vec<&str> = line.split(',').collect();
    let [id, price, quantity, _, time, maker, _] = fields[..] else { anyhow::bail!("expected 7 fields: {line}") };
    let buyer_is_maker = maker == "True";
    let value = format!(
        r#"{{"e":"trade","s":"{symbol}","t":{id},"p":"{price}","q":"{quantity}","T":{time},"m":{buyer_is_maker},"M":true}}"#
    );
    Ok(Owned {
        symbol: symbol.to_owned(),
        id: id.parse()?,
        price: price.to_owned(),
        quantity: quantity.to_owned(),
        time_us: time.parse()?,
        event_us: None,
        buyer_is_maker,
        value: value.into_bytes(),
        headers: format!("origin replay received_at {time} source {symbol}").into_bytes(),
    })
}

fn archive(folder: &std::path::Path, batches: mpsc::Receiver<(i64, std::sync::Arc<Vec<Owned>>)>) -> anyhow::Result<()> {
    let mut datasets = Datasets::new()?;
    let mut nth = 0;
    let mut put = |(dataset, file): Full| {
        let mut open = std::fs::File::create(folder.join(format!("{dataset}-{nth}.parquet")))?;
        nth += 1;
        std::io::Write::write_all(&mut open, &file)?;
        anyhow::Ok(open.sync_all()?)
    };
    for (first, rows) in batches {
        for (offset, row) in (first..).zip(rows.iter()) {
            let stamp = Stamp { partition: 0, offset, appended_us: row.time_us, received_us: row.time_us };
            let trade = Row {
                symbol: &row.symbol,
                id: row.id,
                price: &row.price,
                quantity: &row.quantity,
                time_us: row.time_us,
                event_us: None,
                buyer_is_maker: row.buyer_is_maker,
                origin: "replay",
            };
            let headers = [("headers", row.headers.as_slice())];
            for file in datasets.push(&trade, &row.value, headers.into_iter(), stamp)? {
                put(file)?;
            }
        }
    }
    datasets.finish()?.into_iter().try_for_each(put)
}
