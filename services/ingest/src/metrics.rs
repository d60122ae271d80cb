//! The names of ingest's metrics.

use ::metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Frames and damaged inputs that came from the feed.
pub const FRAMES_RECEIVED: &str = "frames_received_total";
/// Frames that are for somebody else: other events, answers.
pub const FRAMES_IGNORED: &str = "frames_ignored_total";
/// Input that could not be used, published as dead letters.
pub const FRAMES_DEAD: &str = "frames_dead_total";
/// Trades acknowledged by the log.
pub const TRADES_PUBLISHED: &str = "trades_published_total";
/// From a trade's receipt to the log's acknowledgement, in seconds, of the oldest trade of a batch.
pub const PUBLISH_LATENCY: &str = "publish_latency_seconds";
/// Trades of those that came from the history.
pub const TRADES_BACKFILLED: &str = "trades_backfilled_total";
/// Trades dropped because the log has them.
pub const DUPLICATES_DROPPED: &str = "trades_duplicate_total";
/// Gaps found.
pub const GAPS_OPENED: &str = "gaps_opened_total";
/// Trade ids that are missing now.
pub const TRADES_MISSING: &str = "trades_missing";
/// Appends whose outcome stayed open, so that the log was looked at.
pub const APPENDS_UNCERTAIN: &str = "appends_uncertain_total";

/// Tells the recorder what the names mean.
pub fn describe() {
    describe_counter!(FRAMES_RECEIVED, Unit::Count, "frames that came from the feed");
    describe_counter!(FRAMES_IGNORED, Unit::Count, "frames that are for somebody else: other events, answers");
    describe_counter!(FRAMES_DEAD, Unit::Count, "input that could not be used, published as dead letters");
    describe_counter!(TRADES_PUBLISHED, Unit::Count, "trades acknowledged by the log");
    describe_histogram!(
        PUBLISH_LATENCY,
        Unit::Seconds,
        "from a trade's receipt to the log's acknowledgement, of the oldest trade of a batch"
    );
    describe_counter!(TRADES_BACKFILLED, Unit::Count, "trades of those that came from the history");
    describe_counter!(DUPLICATES_DROPPED, Unit::Count, "trades dropped because the log has them");
    describe_counter!(GAPS_OPENED, Unit::Count, "gaps found");
    describe_gauge!(TRADES_MISSING, Unit::Count, "trade ids that are missing now");
    describe_counter!(
        APPENDS_UNCERTAIN,
        Unit::Count,
        "appends whose outcome stayed open, so that the log was looked at"
    );
}
