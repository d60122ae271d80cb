//! How services repeat idempotent calls to the outside world: with back-off, for as long as it takes.
//!
//! The bound is the caller's: whoever waits here does not read on, so the log holds what comes.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};

use crate::PortError;

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Repeats an idempotent call until it succeeds or is refused.
///
/// # Errors
/// The first error that asking again would not mend.
pub async fn persist<T, Call, Answer>(what: &'static str, call: Call) -> Result<T, PortError>
where
    Call: FnMut() -> Answer,
    Answer: Future<Output = Result<T, PortError>>,
{
    let waits = ExponentialBuilder::new().with_min_delay(FIRST_WAIT).with_max_delay(LONGEST_WAIT).without_max_times();
    call.retry(waits)
        .when(PortError::is_retriable)
        .notify(|error, wait| tracing::warn!(what, %error, wait_ms = wait.as_millis(), "trying again"))
        .await
}

/// Repeats an idempotent call like [`persist`], but not for ever.
///
/// # Errors
/// The first error that asking again would not mend, or the one that `patience` ended with.
pub async fn persist_for<T, Call, Answer>(
    patience: Duration,
    what: &'static str,
    mut call: Call,
) -> Result<T, PortError>
where
    Call: FnMut() -> Answer,
    Answer: Future<Output = Result<T, PortError>>,
{
    match tokio::time::timeout(patience, persist(what, &mut call)).await {
        Ok(answer) => answer,
        Err(_) => call().await,
    }
}
