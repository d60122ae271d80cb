//! WebSocket to Kafka: socket, parse, produce.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use futures::StreamExt;
use rdkafka::client::ClientContext;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio_tungstenite::connect_async;

use crate::event::Event;
use crate::kafka::{now_micros, producer_config, send};
use crate::meter::Meter;
use crate::observe::quantiles;
use crate::{Topic, runtime};

const PATIENCE: Duration = Duration::from_secs(60);

/// From an exchange to a topic.
#[derive(Debug, Args)]
pub struct Ingest {
    #[command(flatten)]
    to: Topic,
    /// Combined streams of trades; a connection each.
    #[arg(long = "url", required = true)]
    urls: Vec<String>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Notes when what was read at a time, in microseconds since the start, is acknowledged.
struct Acknowledged {
    started: Instant,
    latencies: Mutex<Vec<u64>>,
    meter: Arc<Mutex<Meter>>,
}

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, read_at: usize) {
        if result.is_ok() {
            let took = (self.started.elapsed().as_micros() as u64).saturating_sub(read_at as u64);
            self.latencies.lock().unwrap_or_else(PoisonError::into_inner).push(took);
            self.meter.lock().unwrap_or_else(PoisonError::into_inner).add(1);
        }
    }
}

impl Ingest {
    pub fn run(self) -> anyhow::Result<Value> {
        let started = Instant::now();
        let meter = Arc::new(Mutex::new(Meter::of(self.to.trades)));
        let context = Acknowledged { started, latencies: Mutex::default(), meter: meter.clone() };
        let producer: Arc<ThreadedProducer<Acknowledged>> =
            Arc::new(producer_config(&self.to.brokers).create_with_context(context)?);
        runtime()?.block_on(async {
            let (topic, producer, meter) = (&self.to.topic, &producer, &meter);
            let feeds = self.urls.iter().map(|url| feed(url, topic, started, producer, meter));
            futures::future::try_join_all(feeds).await
        })?;
        producer.flush(PATIENCE)?;
        let mut line = meter.lock().unwrap_or_else(PoisonError::into_inner).line()?;
        let latencies =
            std::mem::take(&mut *producer.context().latencies.lock().unwrap_or_else(PoisonError::into_inner));
        line["socket_to_ack_ms"] = quantiles(latencies);
        Ok(line)
    }
}

async fn feed(
    url: &str,
    topic: &str,
    started: Instant,
    producer: &ThreadedProducer<Acknowledged>,
    meter: &Mutex<Meter>,
) -> anyhow::Result<()> {
    let (mut socket, _) = connect_async(url).await?;
    while !meter.lock().unwrap_or_else(PoisonError::into_inner).is_done() {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.context("no frame for a minute")?;
        let message = message.context("the exchange has closed the connection")??;
        if !message.is_text() {
            continue;
        }
        let read_at = started.elapsed().as_micros() as usize;
        let text = message.to_text()?;
        let Ok(Envelope { data }) = serde_json::from_str::<Envelope<'_>>(text) else { continue };
        let event = Event::read(data.get().as_bytes())?;
        let received_at = now_micros().to_string();
        let headers = OwnedHeaders::new()
            .insert(Header { key: "origin", value: Some("live") })
            .insert(Header { key: "received_at", value: Some(&received_at) })
            .insert(Header { key: "source", value: Some("bench") });
        let record = BaseRecord::with_opaque_to(topic, read_at).key(event.symbol).payload(data.get()).headers(headers);
        send(producer, record)?;
    }
    Ok(())
}
