//! Kafka behind the ingest, where what a broker answers is chosen: librdkafka's own broker for tests.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::support::{Server, TOKEN, batch, with_token};

type Brokers = MockCluster<'static, DefaultProducerContext>;

fn brokers() -> Brokers {
    let brokers = MockCluster::new(1).unwrap();
    for topic in ["mcp.events", "mcp.events.dead", "mcp.checkpoints"] {
        brokers.create_topic(topic, 1, 1).unwrap();
    }
    brokers
}

/// How often each event is in the topic, by its `ce_id`; waits until there are `count` events.
fn records(brokers: &Brokers, count: usize) -> BTreeMap<String, usize> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers.bootstrap_servers()).set("group.id", "test");
    config.set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut place = rdkafka::TopicPartitionList::new();
    place.add_partition_offset("mcp.events", 0, rdkafka::Offset::Beginning).unwrap();
    consumer.assign(&place).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    let mut found = BTreeMap::new();
    loop {
        match consumer.poll(Duration::from_millis(500)) {
            Some(message) => {
                let message = message.unwrap();
                let id = message.headers().unwrap().iter().find(|header| header.key == "ce_id").unwrap();
                *found.entry(String::from_utf8(id.value.unwrap().to_vec()).unwrap()).or_default() += 1;
            }
            None if found.len() >= count => return found,
            None => assert!(std::time::Instant::now() < deadline, "{} of {count} events", found.len()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_lost_its_place_ends_the_ingest_and_the_next_one_brings_what_was_acknowledged() {
    let brokers = brokers();
    let bootstrap = format!("--kafka={}", brokers.bootstrap_servers());
    let flags = [bootstrap.as_str(), "--kafka-partitions=0"];
    let server = Server::start_with_flags(&flags).await;
    server.client().await.emit(with_token(batch(1, 50), TOKEN)).await.unwrap();
    assert_eq!(records(&brokers, 50).len(), 50);
    // The broker knows nothing of what came before: only the client's end is sure not to repeat or to lose anything.
    let lost_place = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    brokers.request_errors(RDKafkaApiKey::Produce, &[lost_place]);
    let answer = server.client().await.emit(with_token(batch(51, 80), TOKEN)).await.unwrap();
    assert_eq!(answer.into_inner().durable_seq, 80, "acknowledging needs no Kafka");
    let Server { folder, task, .. } = server;
    let ended = tokio::time::timeout(Duration::from_secs(20), task).await.unwrap().unwrap();
    let told = format!("{:#}", ended.unwrap_err());
    assert!(
        told.contains("kafka client cannot go on") && told.contains("sequence desynchronization"),
        "{told}"
    );
    // As a supervisor starts it again.
    let server = Server::run(folder, &flags).await;
    server.client().await.emit(with_token(batch(71, 100), TOKEN)).await.unwrap();
    let found = records(&brokers, 100);
    assert_eq!(found.len(), 100, "every event, and no other");
    let copies = found.values().filter(|copies| **copies > 1).count();
    assert!(copies <= 80, "only what was not noted as delivered is there again, under its own id: {copies}");
}
