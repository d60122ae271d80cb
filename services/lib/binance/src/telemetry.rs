//! The names of this crate's metrics.

use metrics::{Unit, describe_counter, describe_gauge};

/// Frames that did not fit the queue in front of a slow consumer.
pub const FRAMES_DROPPED: &str = "feed_frames_dropped_total";
/// Input that is no frame.
pub const INPUT_DAMAGED: &str = "feed_input_damaged_total";
/// Attempts to connect to the stream.
pub const CONNECT_ATTEMPTS: &str = "feed_connect_attempts_total";
/// Connections that ended without our wish, by `reason`.
pub const CONNECTIONS_LOST: &str = "feed_connections_lost_total";
/// Connections that are confirmed and delivering.
pub const CONNECTIONS: &str = "feed_connections";
/// Request weight used in the exchange's current minute.
pub const REST_WEIGHT_USED: &str = "history_weight_used";
/// Times the exchange asked us to wait.
pub const REST_LIMITED: &str = "history_limited_total";

/// Gives the metrics their descriptions.
pub(crate) fn describe() {
    describe_counter!(FRAMES_DROPPED, Unit::Count, "frames dropped because the consumer was slow");
    describe_counter!(INPUT_DAMAGED, Unit::Count, "inputs that are no frames");
    describe_counter!(CONNECT_ATTEMPTS, Unit::Count, "attempts to connect to the stream");
    describe_counter!(CONNECTIONS_LOST, Unit::Count, "stream connections lost, by reason");
    describe_gauge!(CONNECTIONS, Unit::Count, "stream connections that deliver");
    describe_gauge!(REST_WEIGHT_USED, Unit::Count, "request weight used in the exchange's minute");
    describe_counter!(REST_LIMITED, Unit::Count, "times the exchange asked us to wait");
}
