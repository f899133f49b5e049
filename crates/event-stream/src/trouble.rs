//! What keeps a client from its brokers.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::Statistics;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

/// The last thing that went wrong between a client and its brokers, in librdkafka's words: with the connection, until one of
/// them is connected, and with what the user may do, until it is done. Errors come from the client's own callback,
/// connections from its statistics.
#[derive(Debug, Default)]
pub struct Trouble(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    connection: Option<Told>,
    /// What the brokers do not allow.
    right: Option<Told>,
}

#[derive(Clone, Debug)]
struct Told {
    words: String,
    /// Somebody has to mend it; waiting does not help.
    is_refusal: bool,
}

impl Trouble {
    /// Of a client that is nobody's until a broker is connected.
    pub fn until_connected() -> Self {
        let connection = Some(Told { words: "no broker has answered yet".into(), is_refusal: false });
        Self(Mutex::new(State { connection, right: None }))
    }

    /// Takes an error of the client and the words to it.
    pub fn tell(&self, error: &KafkaError, words: &str) {
        let Some(code) = error.rdkafka_error_code() else {
            return;
        };
        let remedy = match code {
            Code::Authentication => "; see user, password and mechanism in the file of --kafka-config",
            Code::SSL => "; see the properties `ssl.` in the file of --kafka-config",
            Code::BrokerTransportFailure | Code::Resolve => "",
            // It follows those that say why, but nothing else tells of brokers that do not answer at all.
            Code::AllBrokersDown if self.state().connection.is_none() => "",
            // What else there is concerns no connection.
            _ => return self.forbid(code, words),
        };
        self.state().connection =
            Some(Told { words: format!("{words}{remedy}"), is_refusal: !remedy.is_empty() });
    }

    /// Takes an error and the words to it, if it is that the user may not do something.
    pub fn forbid(&self, code: Code, words: &str) {
        if is_forbidden(code) {
            let words =
                format!("{words}; allow it to the user of --kafka-config (docs/audit.md has the rights)");
            self.state().right = Some(Told { words, is_refusal: true });
        }
    }

    /// The user may do what the client is for.
    pub fn allow(&self) {
        self.state().right = None;
    }

    /// A broker does what the client is for.
    pub fn served(&self) {
        *self.state() = State::default();
    }

    /// Takes the client's statistics.
    pub fn observe(&self, statistics: &Statistics) {
        if brokers_up(statistics) > 0 {
            self.state().connection = None;
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
        let state = self.state();
        state.connection.clone().or_else(|| state.right.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the brokers do not allow something to the user.
pub(crate) fn is_forbidden(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed
    )
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

    #[test]
    fn what_is_not_allowed_is_told_until_it_is_though_brokers_are_connected() {
        let trouble = Trouble::until_connected();
        assert_eq!((trouble.now().as_deref(), trouble.refusal()), (Some("no broker has answered yet"), None));
        trouble.tell(&KafkaError::Global(Code::GroupAuthorizationFailed), "group authorization failed");
        let broker = Broker { state: "UP".into(), nodeid: 1, ..Broker::default() };
        let statistics =
            Statistics { brokers: [("b:1/1".to_string(), broker)].into(), ..Statistics::default() };
        trouble.observe(&statistics);
        let told = trouble.refusal().unwrap();
        assert!(told.starts_with("group authorization failed; allow it to the user"), "{told}");
        trouble.allow();
        assert_eq!(trouble.now(), None);
        let trouble = Trouble::until_connected();
        trouble.served();
        assert_eq!(trouble.now(), None, "also before the first statistics");
    }

    #[test]
    fn brokers_that_do_not_answer_are_told_of_though_nothing_says_why() {
        let trouble = Trouble::default();
        trouble.tell(&KafkaError::Global(Code::AllBrokersDown), "1/1 brokers are down");
        assert_eq!((trouble.now().as_deref(), trouble.refusal()), (Some("1/1 brokers are down"), None));
    }
}
