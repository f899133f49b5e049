//! What an error means for a record.

use rdkafka::types::RDKafkaErrorCode as Code;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Send it again, later.
    Retriable,
    /// The broker will never take this record.
    Final,
    /// The client can send nothing any more: begin anew.
    Fatal,
}

/// The class of an error. What is not known to be the record's fault is retried: losing is worse than waiting.
pub fn classify(code: Code) -> Class {
    match code {
        Code::MessageSizeTooLarge
        | Code::InvalidMessageSize
        | Code::BadMessage
        | Code::InvalidTimestamp
        | Code::InvalidRecord => Class::Final,
        Code::Fatal => Class::Fatal,
        _ => Class::Retriable,
    }
}

/// Whether the topic is missing.
pub(crate) fn is_topic_missing(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition | Code::UnknownTopicId
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_records_own_faults_are_final() {
        for code in [Code::MessageSizeTooLarge, Code::InvalidRecord] {
            assert_eq!(classify(code), Class::Final);
        }
        let later = [
            Code::NotEnoughReplicas,
            Code::UnknownTopicOrPartition,
            Code::TopicAuthorizationFailed,
            Code::MessageTimedOut,
            Code::PolicyViolation,
            Code::AllBrokersDown,
        ];
        for code in later {
            assert_eq!(classify(code), Class::Retriable, "{code:?}");
        }
        assert_eq!(classify(Code::Fatal), Class::Fatal);
    }
}
