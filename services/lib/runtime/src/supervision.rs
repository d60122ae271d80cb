//! Supervision: every task is critical. When one ends, the others are asked to stop.

use std::fmt::Display;
use std::future::Future;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Runs named tasks until one fails or all are done.
pub struct Supervisor {
    stop: CancellationToken,
    tasks: JoinSet<(&'static str, Result<(), String>)>,
}

/// A task that failed.
#[derive(Debug, thiserror::Error)]
#[error("{task}: {reason}")]
pub struct TaskFailed {
    /// Its name.
    pub task: &'static str,
    /// What it said.
    pub reason: String,
}

impl Supervisor {
    /// Supervises tasks that stop when `stop` is cancelled.
    pub fn new(stop: CancellationToken) -> Self {
        Self { stop, tasks: JoinSet::new() }
    }

    /// The token that asks all tasks to stop.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task.
    pub fn spawn<E: Display>(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.tasks.spawn(async move { (name, task.await.map_err(|error| error.to_string())) });
    }

    /// Waits until all tasks have ended. The first failure or panic stops the others.
    ///
    /// # Errors
    /// The first failure.
    pub async fn join(mut self) -> Result<(), TaskFailed> {
        let mut first = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            let failure = match ended {
                Ok((_, Ok(()))) => continue,
                Ok((task, Err(reason))) => TaskFailed { task, reason },
                Err(panic) => TaskFailed { task: "a task", reason: panic.to_string() },
            };
            tracing::error!(task = failure.task, reason = failure.reason, "task failed");
            self.stop.cancel();
            first = first.and(Err(failure));
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_failure_stops_the_others_and_is_reported() {
        let mut supervisor = Supervisor::new(CancellationToken::new());
        let stop = supervisor.stop();
        supervisor.spawn("waits", async move {
            stop.cancelled().await;
            Ok::<(), String>(())
        });
        supervisor.spawn("fails", async { Err::<(), _>("disk on fire") });
        assert_eq!(supervisor.join().await.unwrap_err().to_string(), "fails: disk on fire");
    }
}
