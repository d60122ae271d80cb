//! The names of ingest's metrics.

/// Frames that came from the feed.
pub const FRAMES_RECEIVED: &str = "frames_received_total";
/// Frames that are for somebody else: other events, answers.
pub const FRAMES_IGNORED: &str = "frames_ignored_total";
/// Input that could not be used, published as dead letters.
pub const FRAMES_DEAD: &str = "frames_dead_total";
/// Trades acknowledged by the log.
pub const TRADES_PUBLISHED: &str = "trades_published_total";
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
