//! Reads as a member of a group. The member itself is a thread, see [`crate::worker`].

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use async_trait::async_trait;
use domain::Position;
use ports::{LogEvent, LogReader, PortError};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::error;

use crate::config::KafkaConfig;
use crate::error::SYSTEM;
use crate::inbox::Inbox;
use crate::worker::{Command, Worker};

/// How many commands may wait. The thread takes them several times a second, and one that is turned
/// away is a hint lost.
const COMMANDS: usize = 256;

/// A member of a consumer group.
///
/// Dropping it leaves the group at once, without waiting for what was not acknowledged. Inside a
/// tokio runtime the runtime's own shutdown waits until that is done.
#[derive(Debug)]
pub struct KafkaReader {
    inbox: Arc<Inbox>,
    /// Closed to end the thread.
    commands: Option<mpsc::SyncSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl KafkaReader {
    /// Joins `group` to read `topics`.
    ///
    /// # Errors
    /// [`PortError::Refused`] if the settings cannot be used.
    pub fn new(config: KafkaConfig, group: &str, topics: &[&str]) -> Result<Self, PortError> {
        let inbox = Arc::new(Inbox::default());
        let (commands, received) = mpsc::sync_channel(COMMANDS);
        let worker = Worker::join(config, group, topics, Arc::clone(&inbox), received)?;
        let thread = std::thread::Builder::new().name("kafka-reader".to_owned()).spawn(move || worker.run());
        let thread = thread.map_err(|error| PortError::unavailable(SYSTEM, error))?;
        Ok(Self { inbox, commands: Some(commands), thread: Some(thread) })
    }

    /// Leaves the group and waits until it is done.
    pub async fn close(mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let joined = tokio::task::spawn_blocking(move || join(thread)).await;
            if let Err(error) = joined {
                error!(%error, "cannot wait for a kafka reader to end");
            }
        }
    }

    fn tell(&self, command: Command) -> Result<(), PortError> {
        self.commands.as_ref().and_then(|commands| commands.try_send(command).ok()).ok_or_else(gone)
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        self.commands = None;
        if let (Some(thread), Ok(runtime)) = (self.thread.take(), Handle::try_current()) {
            runtime.spawn_blocking(move || join(thread));
        }
    }
}

#[async_trait]
impl LogReader for KafkaReader {
    async fn next(&mut self) -> Result<LogEvent, PortError> {
        self.inbox.take().await.unwrap_or_else(|| Err(gone()))
    }

    async fn commit(&mut self, next: &[Position]) -> Result<(), PortError> {
        self.tell(Command::Commit(next.to_vec()))
    }

    async fn seek(&mut self, to: &Position) -> Result<(), PortError> {
        let (answer, answered) = oneshot::channel();
        self.tell(Command::Seek(to.clone(), answer))?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

pub(crate) fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        error!("a kafka client's thread panicked");
    }
}

fn gone() -> PortError {
    PortError::unavailable(SYSTEM, "the reader does not take commands: it has left its group, or has too much to do")
}
