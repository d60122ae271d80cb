//! The archive in HDFS: [`HdfsArchive`] translates [`ports::Archive`] to the NameNode's and
//! DataNodes' protocols, through `hdfs-native`.
//!
//! Files are written whole, under a temporary name, and published by a rename that never
//! overwrites. Nothing is appended, truncated or held open. Every call has a deadline of ours,
//! because the client has none: a stopped NameNode would hang it for ever.

mod archive;
mod config;
mod error;

pub use archive::{HdfsArchive, create_folders};
pub use config::HdfsConfig;
