//! What the cluster's errors mean: the only place where they are translated.

use std::fmt::Display;
use std::time::Duration;

use ports::PortError;
use scylla::errors::{
    DbError, ExecutionError, MetadataError, NewSessionError, NextPageError, NextRowError, PagerExecutionError,
    PrepareError, RequestAttemptError, RequestError, SchemaAgreementError,
};

pub(crate) const SYSTEM: &str = "cassandra";

/// What a call met. A read that failed did not happen; of a write nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
}

pub(crate) fn ambiguous(kind: Kind, reason: impl ToString) -> PortError {
    match kind {
        Kind::Read => PortError::unavailable(SYSTEM, reason),
        Kind::Write => PortError::unknown(SYSTEM, reason),
    }
}

pub(crate) fn timed_out(kind: Kind, what: &str, after: Duration) -> PortError {
    ambiguous(kind, format!("{what}: no answer within {after:?}"))
}

/// The store holds something that we never wrote.
pub(crate) fn corrupt(what: impl Display) -> PortError {
    PortError::refused(SYSTEM, format!("unexpected content: {what}"))
}

pub(crate) fn execution(kind: Kind, error: &ExecutionError) -> PortError {
    match error {
        ExecutionError::LastAttemptError(error) => attempt(kind, error),
        ExecutionError::BadQuery(_) => PortError::refused(SYSTEM, error),
        ExecutionError::EmptyPlan | ExecutionError::ConnectionPoolError(_) => PortError::unavailable(SYSTEM, error),
        ExecutionError::PrepareError(error) => prepare(error),
        _ => ambiguous(kind, error),
    }
}

pub(crate) fn prepare(error: &PrepareError) -> PortError {
    match error {
        PrepareError::AllAttemptsFailed { first_attempt } => attempt(Kind::Read, first_attempt),
        _ => PortError::unavailable(SYSTEM, error),
    }
}

pub(crate) fn new_session(error: &NewSessionError) -> PortError {
    match error {
        NewSessionError::EmptyKnownNodesList | NewSessionError::IllegalConfig(_) => PortError::refused(SYSTEM, error),
        NewSessionError::MetadataError(MetadataError::FetchError(_)) => PortError::unavailable(SYSTEM, error),
        _ => PortError::unavailable(SYSTEM, error),
    }
}

pub(crate) fn agreement(error: &SchemaAgreementError) -> PortError {
    PortError::unknown(SYSTEM, error)
}

pub(crate) fn pager(error: &PagerExecutionError) -> PortError {
    match error {
        PagerExecutionError::PrepareError(error) => prepare(error),
        PagerExecutionError::SerializationError(_) => PortError::refused(SYSTEM, error),
        PagerExecutionError::NextPageError(error) => page(error),
        _ => PortError::unavailable(SYSTEM, error),
    }
}

pub(crate) fn row(error: &NextRowError) -> PortError {
    match error {
        NextRowError::NextPageError(error) => page(error),
        _ => corrupt(error),
    }
}

fn page(error: &NextPageError) -> PortError {
    match error {
        NextPageError::RequestFailure(RequestError::LastAttemptError(error)) => attempt(Kind::Read, error),
        NextPageError::PartitionKeyError(_) | NextPageError::TypeCheckError(_) => PortError::refused(SYSTEM, error),
        _ => PortError::unavailable(SYSTEM, error),
    }
}

fn attempt(kind: Kind, error: &RequestAttemptError) -> PortError {
    match error {
        RequestAttemptError::DbError(db_error, _) => database(kind, db_error, error),
        RequestAttemptError::SerializationError(_) | RequestAttemptError::CqlRequestSerialization(_) => {
            PortError::refused(SYSTEM, error)
        }
        RequestAttemptError::UnableToAllocStreamId => PortError::unavailable(SYSTEM, error),
        _ => ambiguous(kind, error),
    }
}

fn database(kind: Kind, error: &DbError, whole: &RequestAttemptError) -> PortError {
    match error {
        DbError::SyntaxError
        | DbError::Invalid
        | DbError::AlreadyExists { .. }
        | DbError::FunctionFailure { .. }
        | DbError::AuthenticationError
        | DbError::Unauthorized
        | DbError::ConfigError => PortError::refused(SYSTEM, whole),
        DbError::Unavailable { .. } | DbError::Overloaded | DbError::IsBootstrapping | DbError::Unprepared { .. } => {
            PortError::unavailable(SYSTEM, whole)
        }
        _ => ambiguous(kind, whole),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scylla::errors::WriteType;
    use scylla::statement::Consistency;

    fn said(error: DbError) -> ExecutionError {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, "because".to_owned()))
    }

    #[test]
    fn tells_what_did_not_happen_from_what_may_have() {
        let unavailable = said(DbError::Unavailable { consistency: Consistency::LocalQuorum, required: 2, alive: 1 });
        let timeout = said(DbError::WriteTimeout {
            consistency: Consistency::LocalQuorum,
            received: 1,
            required: 2,
            write_type: WriteType::UnloggedBatch,
        });
        assert!(matches!(execution(Kind::Write, &unavailable), PortError::Unavailable { .. }));
        assert!(matches!(execution(Kind::Write, &timeout), PortError::Unknown { .. }));
        assert!(matches!(execution(Kind::Read, &timeout), PortError::Unavailable { .. }));
        assert!(matches!(execution(Kind::Write, &said(DbError::Invalid)), PortError::Refused { .. }));
        assert!(matches!(execution(Kind::Write, &ExecutionError::EmptyPlan), PortError::Unavailable { .. }));
    }
}
