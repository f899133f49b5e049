//! Makes topics.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use crate::producer::without_value;
use crate::record::Topics;
use crate::settings::{MAX_RECORD_BYTES, SettingsError};

/// How long the brokers have to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// How topics are made that are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopics {
    /// Partitions of the events' topic; the others have one.
    pub partitions: u16,
    /// Replicas; none: as many as the brokers' own setting says.
    pub replication: Option<u16>,
}

/// Why topics could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    /// Trying again later may help.
    #[error("topics cannot be made now: {0}")]
    Later(String),
    /// The brokers do not let us; somebody else has to make the topic.
    #[error("topic `{topic}` cannot be made: {reason}; make it, or allow it")]
    Refused {
        /// The topic.
        topic: String,
        /// Why.
        reason: String,
    },
}

/// Makes topics where they are missing.
pub struct TopicMaker {
    client: AdminClient<DefaultClientContext>,
    topics: Topics,
    new: NewTopics,
}

impl std::fmt::Debug for TopicMaker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TopicMaker").field("topics", &self.topics).finish_non_exhaustive()
    }
}

impl TopicMaker {
    /// With the settings of [`Settings::admin`](crate::Settings::admin).
    ///
    /// # Errors
    /// librdkafka does not take the settings.
    pub fn open(config: &ClientConfig, topics: Topics, new: NewTopics) -> Result<Self, SettingsError> {
        let client = config.create().map_err(|error| SettingsError::Client(without_value(&error)))?;
        Ok(Self { client, topics, new })
    }

    /// Makes those topics that are missing. One that is there stays as it is.
    ///
    /// # Errors
    /// The brokers are away, or refuse.
    pub async fn make(&self) -> Result<(), TopicsError> {
        let size = MAX_RECORD_BYTES.to_string();
        let Topics { events, dead, checkpoints } = &self.topics;
        let replication = self.new.replication.map_or(-1, i32::from);
        let topic = |name, partitions| {
            NewTopic::new(name, partitions, TopicReplication::Fixed(replication))
                .set("max.message.bytes", &size)
        };
        let wanted = [
            topic(events, i32::from(self.new.partitions)),
            topic(dead, 1),
            topic(checkpoints, 1).set("cleanup.policy", "compact"),
        ];
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
        let results = self.client.create_topics(&wanted, &options).await;
        let results = results.map_err(|error: KafkaError| TopicsError::Later(without_value(&error)))?;
        for result in results {
            match result {
                Ok(topic) => tracing::info!(topic, "topic made"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(refusal(topic, code)),
            }
        }
        Ok(())
    }
}

fn refusal(topic: String, code: RDKafkaErrorCode) -> TopicsError {
    let reason = code.to_string();
    match code {
        RDKafkaErrorCode::TopicAuthorizationFailed
        | RDKafkaErrorCode::ClusterAuthorizationFailed
        | RDKafkaErrorCode::PolicyViolation
        | RDKafkaErrorCode::InvalidReplicationFactor
        | RDKafkaErrorCode::InvalidPartitions
        | RDKafkaErrorCode::InvalidTopic => TopicsError::Refused { topic, reason },
        _ => TopicsError::Later(format!("{topic}: {reason}")),
    }
}
