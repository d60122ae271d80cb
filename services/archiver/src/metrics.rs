//! The archiver's metrics, by name, and the lines of the log that go with them.

use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use columns::Footer;

use crate::chain::SealedPart;
use crate::roll::Reason;

/// Rows of the dataset `trades` in published files.
pub const TRADES_ARCHIVED: &str = "trades_archived_total";
/// Records taken into open files; those read again count again.
pub const RECORDS_READ: &str = "archive_records_read_total";
/// Published files, by dataset and by what ended them.
pub const FILES: &str = "archive_files_total";
/// Bytes of published files, by dataset.
pub const BYTES: &str = "archive_bytes_total";
/// Files that another writer had published first, by dataset.
pub const PUBLISH_LOST: &str = "archive_publish_lost_total";
/// Attempts to write or publish a file that failed.
pub const PUBLISH_FAILURES: &str = "archive_publish_failures_total";
/// From the end of a file to its publication, in seconds.
pub const PUBLISH_TIME: &str = "archive_publish_seconds";
/// Records that have no row in a typed dataset, by reason.
pub const RECORDS_SKIPPED: &str = "archive_records_skipped_total";
/// Offsets that the log did not have any more, or never had, by dataset.
pub const OFFSETS_MISSING: &str = "archive_offsets_missing_total";
/// Files found that do not start where the one before them ends, by dataset.
pub const CHAIN_BREAKS: &str = "archive_chain_breaks_total";
/// Memory of all open files.
pub const BUFFER_BYTES: &str = "archive_buffer_bytes";
/// Records read and not yet published in every dataset.
pub const LAG_RECORDS: &str = "archive_lag_records";
/// Age of the oldest record that is read and not yet published, since the log appended it.
pub const LAG_SECONDS: &str = "archive_lag_seconds";

/// Tells the recorder what the names mean.
pub fn describe() {
    describe_counter!(TRADES_ARCHIVED, Unit::Count, "trades in published files");
    describe_counter!(RECORDS_READ, Unit::Count, "records taken into open files");
    describe_counter!(FILES, Unit::Count, "published files");
    describe_counter!(BYTES, Unit::Bytes, "bytes of published files");
    describe_counter!(PUBLISH_LOST, Unit::Count, "files that another writer had published first");
    describe_counter!(PUBLISH_FAILURES, Unit::Count, "attempts to publish a file that failed");
    describe_histogram!(PUBLISH_TIME, Unit::Seconds, "from the end of a file to its publication");
    describe_counter!(RECORDS_SKIPPED, Unit::Count, "records without a row in a typed dataset");
    describe_counter!(OFFSETS_MISSING, Unit::Count, "offsets that the log does not have");
    describe_counter!(CHAIN_BREAKS, Unit::Count, "files that do not start where the one before them ends");
    describe_gauge!(BUFFER_BYTES, Unit::Bytes, "memory of all open files");
    describe_gauge!(LAG_RECORDS, Unit::Count, "records read and not yet published");
    describe_gauge!(LAG_SECONDS, Unit::Seconds, "age of the oldest record read and not yet published");
}

/// A file of ours has its name.
pub fn published(part: &SealedPart, reason: Reason) {
    let (dataset, footer) = (&part.name.dataset, &part.footer);
    if dataset == domain::lake::TRADES {
        counter!(TRADES_ARCHIVED).increment(footer.rows);
        counter!(RECORDS_SKIPPED, "reason" => "not_a_trade").increment(footer.skipped);
    }
    counter!(FILES, "dataset" => dataset.clone(), "reason" => reason.as_str()).increment(1);
    counter!(BYTES, "dataset" => dataset.clone()).increment(part.bytes.len() as u64);
    let (rows, skipped, bytes) = (footer.rows, footer.skipped, part.bytes.len());
    tracing::debug!(path = %part.name, rows, skipped, bytes, reason = reason.as_str(), "file published");
}

/// Another writer's file has the name that ours should get.
pub fn lost(part: &SealedPart, winner: &Footer) {
    counter!(PUBLISH_LOST, "dataset" => part.name.dataset.clone()).increment(1);
    let (ours, theirs, epoch) = (part.footer.span.end, winner.span.end, &winner.span.epoch);
    tracing::warn!(path = %part.name, ours, theirs, epoch, "another writer published first, going on behind it");
}

/// What is read and not yet published.
pub fn held(memory_bytes: usize, records: u64, lag_micros: i64) {
    gauge!(BUFFER_BYTES).set(memory_bytes as f64);
    gauge!(LAG_RECORDS).set(records as f64);
    gauge!(LAG_SECONDS).set(lag_micros.max(0) as f64 / 1e6);
}
