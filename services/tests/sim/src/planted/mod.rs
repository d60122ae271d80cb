//! Bugs that the simulation must find: a checker that has never caught one is not trusted.
//!
//! Each is planted between a service and its server, where it does to the protocol what a mistake in
//! the service would.

mod archive;
mod log;
mod tables;

pub use archive::MistakenArchive;
pub use log::{AutoCommitted, MistakenReader, MistakenScan, MistakenWriter};
pub use tables::{MistakenQuery, MistakenTables};

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The processor saves its checkpoint while rows are still on their way.
    CheckpointBeforeStore,
    /// The archiver publishes over an existing file.
    RenameWithOverwrite,
    /// The archiver takes a rename without an answer for done.
    HopeAfterTimeout,
    /// Ingest forgets at a restart which gaps are open.
    ForgetOpenGaps,
    /// Ingest appends again what may have been appended, without looking.
    AppendAgainBlindly,
    /// The checkpoint does not say how far the output partitions had come.
    CheckpointWithoutOutputs,
    /// Trades of one time are taken for one trade.
    DedupeByTime,
    /// A record that cannot be read takes the rest of its batch with it.
    SkipOnDeadLetter,
    /// Readers start where the group's commit is, which is made by itself as records are handed out.
    ResumeAtGroupCommit,
    /// Late trades are counted again when they are read again: a count without its position.
    CountedTwice,
    /// An old hour is counted without the hours beside it.
    ForgetNeighbours,
    /// Ingest believes a silent stream.
    BelieveSilence,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::CheckpointBeforeStore,
        Self::RenameWithOverwrite,
        Self::HopeAfterTimeout,
        Self::ForgetOpenGaps,
        Self::AppendAgainBlindly,
        Self::CheckpointWithoutOutputs,
        Self::DedupeByTime,
        Self::SkipOnDeadLetter,
        Self::ResumeAtGroupCommit,
        Self::CountedTwice,
        Self::ForgetNeighbours,
        Self::BelieveSilence,
    ];
}
