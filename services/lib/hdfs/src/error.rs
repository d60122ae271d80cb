//! What the file system's errors mean: the only place where they are translated.

use std::io::ErrorKind;

use hdfs_native::HdfsError;
use ports::PortError;

pub(crate) const SYSTEM: &str = "hdfs";

/// Exceptions with which a NameNode says that it did nothing and that a later call may succeed.
const NOT_NOW: [&str; 4] = ["SafeModeException", "StandbyException", "RetriableException", "RetryStartFileException"];

/// Exceptions with which a NameNode refuses for good: a person has to change something.
const NEVER: [&str; 12] = [
    "FileNotFoundException",
    "FileAlreadyExistsException",
    "ParentNotDirectoryException",
    "PathIsNotDirectoryException",
    "InvalidPathException",
    "HadoopIllegalArgumentException",
    "AccessControlException",
    "AuthorizationException",
    "UnsupportedOperationException",
    "NSQuotaExceededException",
    "DSQuotaExceededException",
    "PathComponentTooLongException",
];

/// The errors of connecting: no request was sent.
const NOT_CONNECTED: [ErrorKind; 6] = [
    ErrorKind::ConnectionRefused,
    ErrorKind::AddrNotAvailable,
    ErrorKind::HostUnreachable,
    ErrorKind::NetworkUnreachable,
    ErrorKind::NotConnected,
    ErrorKind::NotFound,
];

/// What a call met. A read that failed did not happen; of a change nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Change,
}

pub(crate) fn translate(kind: Kind, error: &HdfsError, what: &str) -> PortError {
    let reason = format!("{what}: {error}");
    match error {
        HdfsError::IOError(io) if NOT_CONNECTED.contains(&io.kind()) => PortError::unavailable(SYSTEM, reason),
        HdfsError::RPCError(class, _) | HdfsError::FatalRPCError(class, _) if is_not_now(class) => {
            PortError::unavailable(SYSTEM, reason)
        }
        HdfsError::RPCError(class, _) | HdfsError::FatalRPCError(class, _) if is_never(class) => {
            PortError::refused(SYSTEM, reason)
        }
        HdfsError::InvalidPath(_)
        | HdfsError::InvalidArgument(_)
        | HdfsError::UrlParseError(_)
        | HdfsError::XmlParseError(_)
        | HdfsError::AlreadyExists(_)
        | HdfsError::FileNotFound(_)
        | HdfsError::IsADirectoryError(_)
        | HdfsError::UnsupportedFeature(_)
        | HdfsError::UnsupportedErasureCodingPolicy(_)
        | HdfsError::SASLError(_)
        | HdfsError::GSSAPIError(..)
        | HdfsError::NoSASLMechanism => PortError::refused(SYSTEM, reason),
        _ => ambiguous(kind, reason),
    }
}

pub(crate) fn timed_out(kind: Kind, what: &str, after: std::time::Duration) -> PortError {
    ambiguous(kind, format!("{what}: no answer within {after:?}"))
}

/// Whether a file or folder is not there.
pub(crate) fn is_not_found(error: &HdfsError) -> bool {
    match error {
        HdfsError::FileNotFound(_) => true,
        HdfsError::RPCError(class, _) => class.ends_with(".FileNotFoundException"),
        _ => false,
    }
}

fn is_never(class: &str) -> bool {
    NEVER.iter().any(|name| class.ends_with(name))
}

fn ambiguous(kind: Kind, reason: String) -> PortError {
    match kind {
        Kind::Read => PortError::unavailable(SYSTEM, reason),
        Kind::Change => PortError::unknown(SYSTEM, reason),
    }
}

fn is_not_now(class: &str) -> bool {
    NOT_NOW.iter().any(|name| class.ends_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rpc(class: &str, message: &str) -> HdfsError {
        HdfsError::RPCError(class.to_owned(), message.to_owned())
    }

    #[test]
    fn tells_what_did_not_happen_from_what_may_have() {
        let refused = HdfsError::IOError(ErrorKind::ConnectionRefused.into());
        let reset = HdfsError::IOError(ErrorKind::ConnectionReset.into());
        let safe_mode = rpc("org.apache.hadoop.hdfs.server.namenode.SafeModeException", "Cannot rename");
        let missing = rpc("java.io.FileNotFoundException", "rename source /x is not found.");
        let nodes = rpc("java.io.IOException", "could only be written to 0 of the 1 minReplication nodes");
        let change = |error: &HdfsError| translate(Kind::Change, error, "rename");
        assert!(matches!(change(&refused), PortError::Unavailable { .. }));
        assert!(matches!(change(&safe_mode), PortError::Unavailable { .. }));
        assert!(matches!(change(&reset), PortError::Unknown { .. }));
        assert!(matches!(change(&nodes), PortError::Unknown { .. }));
        assert!(matches!(change(&missing), PortError::Refused { .. }));
        assert!(matches!(translate(Kind::Read, &reset, "read"), PortError::Unavailable { .. }));
    }
}
