//! The names of the processor's metrics.

use ::metrics::{Unit, describe_counter, describe_histogram};

/// Trades acknowledged by the tables.
pub const TRADES_STORED: &str = "trades_stored_total";
/// Records that could not be read, kept as dead letters.
pub const RECORDS_DEAD: &str = "records_dead_total";
/// Trades that came behind their symbol's watermark.
pub const TRADES_LATE: &str = "trades_late_total";
/// Records that the log deleted before they were stored.
pub const RECORDS_LOST: &str = "records_lost_total";
/// Checkpoints saved.
pub const CHECKPOINTS_SAVED: &str = "checkpoints_saved_total";
/// From the log's append to the row's acknowledgement, in seconds, of the newest record of a batch; if some of
/// its trades waited for others, until those were stored.
pub const STORE_LATENCY: &str = "store_latency_seconds";

/// Tells the recorder what the names mean.
pub fn describe() {
    describe_counter!(TRADES_STORED, Unit::Count, "trades acknowledged by the tables");
    describe_counter!(RECORDS_DEAD, Unit::Count, "records that could not be read, kept as dead letters");
    describe_counter!(TRADES_LATE, Unit::Count, "trades that came behind their symbol's watermark");
    describe_counter!(RECORDS_LOST, Unit::Count, "records that the log deleted before they were stored");
    describe_counter!(CHECKPOINTS_SAVED, Unit::Count, "checkpoints saved");
    describe_histogram!(
        STORE_LATENCY,
        Unit::Seconds,
        "from the log's append to the row's acknowledgement, in seconds, of the newest record of a batch"
    );
}
