//! What the client's errors mean: the only place where they are translated.

use ports::PortError;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

pub(crate) const SYSTEM: &str = "kafka";

/// What became of a record that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// It is not in the log, and asking again may help.
    NotAppended,
    /// It is not in the log, and asking again would not help.
    Refused,
    /// It may be in the log, now or soon.
    Unknown,
}

pub(crate) fn fate(error: &KafkaError) -> Fate {
    match error.rdkafka_error_code() {
        Some(Code::QueueFull | Code::PurgeQueue) => Fate::NotAppended,
        Some(code) if is_refusal(code) => Fate::Refused,
        Some(_) => Fate::Unknown,
        None => Fate::Refused,
    }
}

/// An error of asking for something: nothing was changed.
pub(crate) fn asking(what: &str, error: &KafkaError) -> PortError {
    let reason = format!("{what}: {error}");
    match error.rdkafka_error_code() {
        Some(code) if is_refusal(code) => PortError::refused(SYSTEM, reason),
        _ => PortError::unavailable(SYSTEM, reason),
    }
}

pub(crate) fn code(what: &str, code: Code) -> PortError {
    asking(what, &KafkaError::Global(code))
}

pub(crate) fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::InvalidTopic
            | Code::InvalidArgument
            | Code::InvalidRecord
            | Code::InvalidConfig
            | Code::InvalidPartitions
            | Code::InvalidReplicationFactor
            | Code::PolicyViolation
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::SaslAuthenticationFailed
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_was_not_appended_from_what_may_have_been() {
        let of = |code| fate(&KafkaError::MessageProduction(code));
        assert_eq!(of(Code::QueueFull), Fate::NotAppended);
        assert_eq!(of(Code::MessageSizeTooLarge), Fate::Refused);
        assert_eq!(of(Code::MessageTimedOut), Fate::Unknown);
        assert_eq!(of(Code::Fatal), Fate::Unknown);
        assert!(Fate::Unknown > Fate::Refused && Fate::Refused > Fate::NotAppended);
    }
}
