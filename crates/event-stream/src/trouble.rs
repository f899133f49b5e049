//! What keeps a client from its brokers.

use std::sync::{Mutex, PoisonError};

use rdkafka::Statistics;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

/// The last thing that went wrong between a client and its brokers, in librdkafka's words; nothing while one of them is
/// connected. Errors come from the client's own callback, connections from its statistics.
#[derive(Debug, Default)]
pub struct Trouble(Mutex<Option<Told>>);

#[derive(Clone, Debug)]
struct Told {
    words: String,
    /// Somebody has to mend it; waiting does not help.
    is_refusal: bool,
}

impl Trouble {
    /// Takes an error of the client and the words to it.
    pub fn tell(&self, error: &KafkaError, words: &str) {
        let remedy = match error.rdkafka_error_code() {
            Some(Code::Authentication) => "; see user, password and mechanism in the file of --kafka-config",
            Some(Code::SSL) => "; see the properties `ssl.` in the file of --kafka-config",
            Some(Code::BrokerTransportFailure | Code::Resolve) => "",
            // What else there is follows these, which say why, or concerns no connection.
            _ => return,
        };
        self.put(Some(Told { words: format!("{words}{remedy}"), is_refusal: !remedy.is_empty() }));
    }

    /// Takes the client's statistics.
    pub fn observe(&self, statistics: &Statistics) {
        if brokers_up(statistics) > 0 {
            self.put(None);
        }
    }

    /// What it is now. It may pass by itself, or be no more than a connection that ended for want of use.
    pub fn now(&self) -> Option<String> {
        self.told().map(|told| told.words)
    }

    /// What it is now, where somebody has to mend it: brokers refuse us, or we them.
    pub fn refusal(&self) -> Option<String> {
        self.told().filter(|told| told.is_refusal).map(|told| told.words)
    }

    fn told(&self) -> Option<Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, told: Option<Told>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }
}

/// Brokers with a connection.
pub(crate) fn brokers_up(statistics: &Statistics) -> u64 {
    statistics.brokers.values().map(|broker| u64::from(broker.state == "UP" && broker.nodeid >= 0)).sum()
}

#[cfg(test)]
mod tests {
    use rdkafka::statistics::Broker;

    use super::*;

    #[test]
    fn a_refused_password_is_told_until_a_broker_is_connected() {
        let trouble = Trouble::default();
        trouble.tell(&KafkaError::Global(Code::Authentication), "broker 1: invalid credentials");
        trouble.tell(&KafkaError::Global(Code::AllBrokersDown), "1/1 brokers are down");
        trouble.tell(&KafkaError::Global(Code::UnknownTopicOrPartition), "no such topic");
        let told = trouble.refusal().unwrap();
        assert!(told.starts_with("broker 1: invalid credentials; see user, password"), "{told}");
        let broker = |state: &str| Broker { state: state.into(), nodeid: 1, ..Broker::default() };
        let statistics = |state| Statistics {
            brokers: [("b:1/1".to_string(), broker(state))].into(),
            ..Statistics::default()
        };
        trouble.observe(&statistics("AUTH_REQ"));
        assert!(trouble.now().is_some());
        trouble.observe(&statistics("UP"));
        assert_eq!(trouble.now(), None);
        trouble.tell(&KafkaError::Global(Code::BrokerTransportFailure), "connection refused");
        assert_eq!((trouble.now().as_deref(), trouble.refusal()), (Some("connection refused"), None));
    }
}
