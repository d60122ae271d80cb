//! Creates topics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ports::PortError;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::RDKafkaErrorCode as Code;
use serde::Deserialize;
use tracing::info;

use crate::client::{Logging, blocking, creation, partitions_of, settings};
use crate::config::KafkaConfig;
use crate::error::{SYSTEM, asking, code, is_refusal};

/// How often to look whether a topic is there yet.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Creating topics makes the brokers write files; that may take longer than a question.
const CREATION_TIMEOUT: Duration = Duration::from_secs(20);

/// A topic as it is to be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: i32,
    /// On how many brokers each record is stored.
    pub replication: i32,
    /// Settings of the topic, for example `retention.ms`. The broker's clock stamps records
    /// (`message.timestamp.type=LogAppendTime`) unless said otherwise here.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
}

/// Creates the topics that do not exist, and waits until they can be used.
///
/// # Errors
/// [`PortError::Refused`] if one exists with another number of partitions, or cannot be as wanted.
pub async fn create_topics(config: &KafkaConfig, topics: &[TopicSpec]) -> Result<(), PortError> {
    let admin = AdminClient::from_config_and_context(&settings(config), Logging).map_err(|error| creation(&error))?;
    let options = AdminOptions::new().request_timeout(Some(CREATION_TIMEOUT)).operation_timeout(Some(CREATION_TIMEOUT));
    let wanted: Vec<NewTopic<'_>> = topics.iter().map(new_topic).collect();
    let results = admin.create_topics(&wanted, &options).await;
    let results = results.map_err(|error| asking(&format!("create topics at {}", config.brokers), &error))?;
    for (topic, result) in topics.iter().zip(results) {
        match result {
            Ok(_) => info!(topic = topic.name, partitions = topic.partitions, "topic created"),
            Err((_, Code::TopicAlreadyExists)) => {}
            Err((name, error)) => return Err(not_created(&name, error)),
        }
    }
    let admin = Arc::new(admin);
    for topic in topics {
        wait_for(&admin, config, topic).await?;
    }
    Ok(())
}

fn new_topic(spec: &TopicSpec) -> NewTopic<'_> {
    let mut topic = NewTopic::new(&spec.name, spec.partitions, TopicReplication::Fixed(spec.replication));
    if !spec.config.contains_key("message.timestamp.type") {
        topic = topic.set("message.timestamp.type", "LogAppendTime");
    }
    spec.config.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
}

/// A creation whose answer was lost may have happened.
fn not_created(name: &str, error: Code) -> PortError {
    let what = format!("create topic {name}");
    if is_refusal(error) { code(&what, error) } else { PortError::unknown(SYSTEM, format!("{what}: {error}")) }
}

/// Brokers learn of a new topic one after the other.
async fn wait_for(admin: &Arc<AdminClient<Logging>>, config: &KafkaConfig, topic: &TopicSpec) -> Result<(), PortError> {
    let give_up = Instant::now() + CREATION_TIMEOUT;
    loop {
        match partitions(admin, config, &topic.name).await {
            Ok(count) if count == topic.partitions => return Ok(()),
            Ok(count) => {
                let (name, wanted) = (&topic.name, topic.partitions);
                let reason = format!("topic {name} has {count} partitions, but {wanted} are configured");
                return Err(PortError::refused(SYSTEM, reason));
            }
            Err(error) if Instant::now() >= give_up => return Err(error),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

async fn partitions(admin: &Arc<AdminClient<Logging>>, config: &KafkaConfig, topic: &str) -> Result<i32, PortError> {
    let (admin, config, topic) = (Arc::clone(admin), config.clone(), topic.to_owned());
    blocking(move || partitions_of(admin.inner(), &config, &topic)).await
}
