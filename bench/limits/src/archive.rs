//! The Parquet encoder and hdfs-native: both datasets of the archive, in files of its length.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Decimal128Builder, Int32Builder, Int64Builder, ListBuilder, RecordBatch,
    StringBuilder, StructBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;
use clap::Args;
use columns::{raw_schema, trades_schema};
use futures::{StreamExt, TryStreamExt, stream};
use hdfs_native::{Client, ClientBuilder, WriteOptions};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use rdkafka::Message;
use rdkafka::message::{Header, Headers};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::event::{Event, Tape, lake_digits};
use crate::meter::Meter;
use crate::{Amount, Topic, kafka, runtime};

/// The length of a file.
const FILE_BYTES: usize = 64 << 20;

/// The length of a row group.
const GROUP_BYTES: usize = 16 << 20;

/// Rows that are encoded at once.
const BATCH_ROWS: usize = 8 * 1024;

/// Files that wait for HDFS at most.
const WAITING: usize = 2;

/// Files on their way to HDFS at once, as the archiver's.
const AT_ONCE: usize = 32;

/// Kafka to Parquet on HDFS.
#[derive(Debug, Args)]
pub struct Drain {
    #[command(flatten)]
    from: Topic,
    #[arg(long, default_value = "hdfs://127.0.0.1:8020")]
    hdfs: String,
    #[arg(long, default_value = "/bench/limits")]
    folder: String,
}

/// Bytes in memory to HDFS.
#[derive(Debug, Args)]
pub struct Alone {
    #[arg(long, default_value = "hdfs://127.0.0.1:8020")]
    hdfs: String,
    #[arg(long, default_value = "/bench/limits-hdfs")]
    folder: String,
    /// How much, in files as long as the archive's.
    #[arg(long, default_value_t = 512)]
    mebibytes: usize,
}

/// What the log says of a trade beside the event.
#[derive(Clone, Copy)]
pub struct Stamp {
    /// Which partition.
    pub partition: i32,
    /// Which offset in it.
    pub offset: i64,
    /// When the log appended it.
    pub appended_us: i64,
    /// When it was received.
    pub received_us: i64,
}

/// A trade, as its row wants it.
pub struct Row<'a> {
    /// The market.
    pub symbol: &'a str,
    /// The id.
    pub id: i64,
    /// The price as text.
    pub price: &'a str,
    /// The quantity as text.
    pub quantity: &'a str,
    /// When it was matched.
    pub time_us: i64,
    /// When the exchange sent it.
    pub event_us: Option<i64>,
    /// Which side.
    pub buyer_is_maker: bool,
    /// How it came.
    pub origin: &'a str,
}

impl<'a> From<&Event<'a>> for Row<'a> {
    fn from(event: &Event<'a>) -> Self {
        Self {
            symbol: event.symbol,
            id: event.id,
            price: event.price,
            quantity: event.quantity,
            time_us: event.time_ms * 1_000,
            event_us: Some(event.event_ms * 1_000),
            buyer_is_maker: event.buyer_is_maker,
            origin: "live",
        }
    }
}

/// Both datasets of one partition.
pub struct Datasets {
    trades: Dataset,
    raw: Dataset,
    columns: Columns,
    waiting: usize,
}

/// A file that is full: the dataset's name, and what is in it.
pub type Full = (&'static str, Bytes);

struct Dataset {
    name: &'static str,
    schema: SchemaRef,
    properties: WriterProperties,
    writer: ArrowWriter<Vec<u8>>,
}

impl Datasets {
    /// # Errors
    /// If the encoder refuses its settings.
    pub fn new() -> anyhow::Result<Self> {
        let rising = ["trade_id", "trade_time", "event_time", "received_at", "appended_at", "offset"];
        let trades = Dataset::new("trades", trades_schema(), rising.into_iter().fold(properties(), growing).build())?;
        let header = |part: &str| ColumnPath::new(["headers", "list", "element", part].map(str::to_owned).to_vec());
        let (value, header_value) = (ColumnPath::from("value"), header("value"));
        let raw = ["appended_at", "offset"].into_iter().fold(properties(), growing);
        let raw = raw.set_column_dictionary_enabled(value.clone(), false);
        let raw = raw.set_column_dictionary_enabled(header_value.clone(), false);
        let raw = [ColumnPath::from("key"), value, header("name"), header_value]
            .into_iter()
            .fold(raw, |raw, path| raw.set_column_statistics_enabled(path, EnabledStatistics::None));
        let raw = Dataset::new("raw", raw_schema(), raw.build())?;
        Ok(Self { trades, raw, columns: Columns::new(), waiting: 0 })
    }

    /// Adds a trade and its record; returns files that are full.
    ///
    /// # Errors
    /// If a number does not fit, or the encoder fails.
    pub fn push<'h>(
        &mut self,
        row: &Row<'_>,
        value: &[u8],
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
        stamp: Stamp,
    ) -> anyhow::Result<Vec<Full>> {
        self.columns.push(row, value, headers, stamp)?;
        self.waiting += 1;
        if self.waiting < BATCH_ROWS {
            return Ok(Vec::new());
        }
        self.encode()?;
        let mut full = Vec::new();
        for dataset in [&mut self.trades, &mut self.raw] {
            if dataset.writer.bytes_written() + dataset.writer.in_progress_size() >= FILE_BYTES {
                full.push(dataset.finished()?);
            }
        }
        Ok(full)
    }

    fn encode(&mut self) -> anyhow::Result<()> {
        self.waiting = 0;
        let (trades, raw) = self.columns.finish();
        self.trades.writer.write(&RecordBatch::try_new(self.trades.schema.clone(), trades)?)?;
        self.raw.writer.write(&RecordBatch::try_new(self.raw.schema.clone(), raw)?)?;
        Ok(())
    }

    /// The last files.
    ///
    /// # Errors
    /// If the encoder fails.
    pub fn finish(mut self) -> anyhow::Result<Vec<Full>> {
        self.encode()?;
        Ok(vec![self.trades.finished()?, self.raw.finished()?])
    }
}

impl Dataset {
    fn new(name: &'static str, schema: SchemaRef, properties: WriterProperties) -> anyhow::Result<Self> {
        let writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties.clone()))?;
        Ok(Self { name, schema, properties, writer })
    }

    fn finished(&mut self) -> anyhow::Result<Full> {
        let next = ArrowWriter::try_new(Vec::new(), self.schema.clone(), Some(self.properties.clone()))?;
        Ok((self.name, std::mem::replace(&mut self.writer, next).into_inner()?.into()))
    }
}

fn properties() -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_bytes(Some(GROUP_BYTES))
}

fn growing(properties: WriterPropertiesBuilder, column: &str) -> WriterPropertiesBuilder {
    let path = ColumnPath::from(column);
    properties
        .set_column_dictionary_enabled(path.clone(), false)
        .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
}

struct Columns {
    symbol: StringBuilder,
    trade_id: Int64Builder,
    numbers: [Decimal128Builder; 2],
    times: [TimestampMicrosecondBuilder; 4],
    buyer_is_maker: BooleanBuilder,
    origin: StringBuilder,
    partition: Int32Builder,
    offset: Int64Builder,
    value: BinaryBuilder,
    headers: ListBuilder<StructBuilder>,
}

impl Columns {
    fn new() -> Self {
        let schema = raw_schema();
        let DataType::List(element) = schema.field(2).data_type().clone() else { unreachable!("headers are a list") };
        let DataType::Struct(header) = element.data_type().clone() else { unreachable!("a header is a struct") };
        let header = StructBuilder::new(header, vec![Box::new(StringBuilder::new()), Box::new(BinaryBuilder::new())]);
        let number = || Decimal128Builder::new().with_data_type(DataType::Decimal128(38, 18));
        let time = || TimestampMicrosecondBuilder::new().with_timezone("UTC");
        Self {
            symbol: StringBuilder::new(),
            trade_id: Int64Builder::new(),
            numbers: [number(), number()],
            times: [time(), time(), time(), time()],
            buyer_is_maker: BooleanBuilder::new(),
            origin: StringBuilder::new(),
            partition: Int32Builder::new(),
            offset: Int64Builder::new(),
            value: BinaryBuilder::new(),
            headers: ListBuilder::new(header).with_field(element),
        }
    }

    fn push<'h>(
        &mut self,
        row: &Row<'_>,
        value: &[u8],
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
        stamp: Stamp,
    ) -> anyhow::Result<()> {
        self.symbol.append_value(row.symbol);
        self.trade_id.append_value(row.id);
        self.numbers[0].append_value(lake_digits(row.price)?);
        self.numbers[1].append_value(lake_digits(row.quantity)?);
        self.times[0].append_value(row.time_us);
        self.times[1].append_option(row.event_us);
        self.times[2].append_value(stamp.received_us);
        self.times[3].append_value(stamp.appended_us);
        self.buyer_is_maker.append_value(row.buyer_is_maker);
        self.origin.append_value(row.origin);
        self.partition.append_value(stamp.partition);
        self.offset.append_value(stamp.offset);
        self.value.append_value(value);
        let header = self.headers.values();
        for (name, value) in headers {
            header.field_builder::<StringBuilder>(0).context("a name")?.append_value(name);
            header.field_builder::<BinaryBuilder>(1).context("a value")?.append_value(value);
            header.append(true);
        }
        self.headers.append(true);
        Ok(())
    }

    fn finish(&mut self) -> (Vec<ArrayRef>, Vec<ArrayRef>) {
        let symbol = self.symbol.finish();
        // Keys are the symbols' bytes.
        let key = arrow::array::BinaryArray::from(symbol.clone());
        let [price, quantity] = self.numbers.each_mut().map(|column| Arc::new(column.finish()) as ArrayRef);
        let [time, event, received, appended] =
            self.times.each_mut().map(|column| Arc::new(column.finish()) as ArrayRef);
        let (partition, offset): (ArrayRef, ArrayRef) =
            (Arc::new(self.partition.finish()), Arc::new(self.offset.finish()));
        let trades: Vec<ArrayRef> = vec![
            Arc::new(symbol),
            Arc::new(self.trade_id.finish()),
            price,
            quantity,
            time,
            event,
            Arc::new(self.buyer_is_maker.finish()),
            Arc::new(self.origin.finish()),
            received,
            partition.clone(),
            offset.clone(),
            appended.clone(),
        ];
        let raw: Vec<ArrayRef> = vec![
            Arc::new(key),
            Arc::new(self.value.finish()),
            Arc::new(self.headers.finish()),
            appended,
            partition,
            offset,
        ];
        (trades, raw)
    }
}

impl Drain {
    pub fn run(self) -> anyhow::Result<Value> {
        let (files, written) = mpsc::channel(WAITING);
        let (url, folder) = (self.hdfs, self.folder);
        let writer = std::thread::spawn(move || runtime()?.block_on(write(&url, &folder, written)));
        let mut meter = Meter::of(self.from.trades);
        let mut partitions: BTreeMap<i32, Datasets> = BTreeMap::new();
        kafka::each(&self.from, |message| {
            let value = message.payload().context("a value")?;
            let event = Event::read(value)?;
            let stamp = Stamp {
                partition: message.partition(),
                offset: message.offset(),
                appended_us: message.timestamp().to_millis().unwrap_or_default() * 1_000,
                received_us: event.event_ms * 1_000,
            };
            let datasets = match partitions.entry(stamp.partition) {
                std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
                std::collections::btree_map::Entry::Vacant(free) => free.insert(Datasets::new()?),
            };
            let none = None.into_iter();
            let full = match message.headers() {
                Some(headers) => {
                    let pairs = headers.iter().map(|Header { key, value }| (key, value.unwrap_or_default()));
                    datasets.push(&Row::from(&event), value, pairs, stamp)?
                }
                None => datasets.push(&Row::from(&event), value, none, stamp)?,
            };
            meter.add(1);
            full.into_iter().try_for_each(|file| Ok(files.blocking_send(file)?))
        })?;
        for file in partitions.into_values().map(Datasets::finish).collect::<anyhow::Result<Vec<_>>>()?.concat() {
            files.blocking_send(file)?;
        }
        drop(files);
        writer.join().expect("the writer panicked")?;
        meter.line()
    }
}

async fn write(url: &str, folder: &str, files: mpsc::Receiver<Full>) -> anyhow::Result<()> {
    let client = ClientBuilder::new().with_url(url).with_user("fulltape").build()?;
    client.delete(folder, true).await?;
    let files = stream::unfold(files, |mut files| async move { Some((files.recv().await?, files)) }).enumerate();
    let put = |(nth, (dataset, file))| put(&client, format!("{folder}/{dataset}/{nth}.parquet"), file);
    files.map(put).buffer_unordered(AT_ONCE).try_collect().await
}

async fn put(client: &Client, path: String, content: Bytes) -> anyhow::Result<()> {
    let options = WriteOptions::default().overwrite(true).create_parent(true).replication(2);
    let mut writer = client.create(&path, options).await?;
    writer.write_bytes(content).await?;
    Ok(writer.close().await?)
}

impl Alone {
    pub fn run(self) -> anyhow::Result<Value> {
        runtime()?.block_on(async {
            let client = ClientBuilder::new().with_url(&self.hdfs).with_user("fulltape").build()?;
            client.delete(&self.folder, true).await?;
            let content = Bytes::from(vec![7; FILE_BYTES]);
            let files = (self.mebibytes << 20).div_ceil(FILE_BYTES).max(2);
            let mut meter = Meter::of((files * FILE_BYTES) as u64);
            for nth in 0..files {
                put(&client, format!("{}/{nth}", self.folder), content.clone()).await?;
                meter.add(content.len() as u64);
            }
            client.delete(&self.folder, true).await?;
            meter.line()
        })
    }
}

/// Encodes trades that are in memory.
///
/// # Errors
/// If the encoder fails.
pub fn encode_all(amount: &Amount) -> anyhow::Result<Value> {
    let (mut tape, mut text, mut datasets) = (Tape::of(amount.symbols), String::new(), Datasets::new()?);
    let mut meter = Meter::of(amount.trades);
    let mut bytes = 0;
    let began = 1_700_000_000_000;
    for n in 0..amount.trades as i64 {
        tape.issue(began + n, &mut text);
        let event = Event::read(text.as_bytes())?;
        let us = (began + n) * 1_000;
        let stamp = Stamp { partition: 0, offset: n, appended_us: us, received_us: us };
        let received = us.to_string();
        let headers = [("origin", "live"), ("received_at", &received), ("source", "bench")];
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        let full = datasets.push(&Row::from(&event), text.as_bytes(), headers, stamp)?;
        bytes += full.iter().map(|(_, file)| file.len()).sum::<usize>();
        meter.add(1);
    }
    bytes += datasets.finish()?.iter().map(|(_, file)| file.len()).sum::<usize>();
    let mut line = meter.line()?;
    line["bytes_per_event"] = json!(bytes as f64 / amount.trades as f64);
    Ok(line)
}
