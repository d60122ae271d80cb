//! Group commit: one thread writes to a file, and whatever came while it was syncing goes into the
//! next transaction together.

use std::thread::JoinHandle;
use std::time::Duration;

use ports::PortError;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::database::Database;

/// How many calls wait for the thread, at most; each holds its own rows meanwhile.
const WAITING_CALLS: usize = 256;
/// How long the end waits for readers.
const READERS_PATIENCE: Duration = Duration::from_secs(1);
/// How many bytes go into one transaction, about.
const TRANSACTION_BYTES: usize = 8 << 20;

/// What is done with the jobs.
pub(crate) trait Store: Send + 'static {
    /// What a call wants to be written.
    type Job: Send + 'static;
    /// What it is told.
    type Answer: Send + 'static;

    /// How many bytes a job writes, about.
    fn weight(job: &Self::Job) -> usize;

    /// Writes a job within the transaction.
    fn apply(&mut self, connection: &Connection, job: Self::Job) -> rusqlite::Result<Self::Answer>;

    /// All that was applied is durable.
    fn committed(&mut self) {}

    /// Nothing of what was applied since the last commit is there.
    fn abandoned(&mut self, _connection: &Connection) {}
}

type Reply<S> = oneshot::Sender<Result<<S as Store>::Answer, PortError>>;

/// The way to the thread. Dropping it waits until the thread has written what it was given.
pub(crate) struct Queue<S: Store> {
    system: &'static str,
    sender: Option<mpsc::Sender<(S::Job, Reply<S>)>>,
    thread: Option<JoinHandle<()>>,
}

impl<S: Store> Queue<S> {
    pub(crate) fn start(database: Database, connection: Connection, store: S) -> Result<Self, PortError> {
        let (sender, receiver) = mpsc::channel(WAITING_CALLS);
        let system = database.system;
        let worker = Worker { database, connection, store, receiver };
        let thread = std::thread::Builder::new().name(system.to_owned()).spawn(move || worker.run());
        let thread = thread.map_err(|error| PortError::unavailable(system, error))?;
        Ok(Self { system, sender: Some(sender), thread: Some(thread) })
    }

    /// Hands over a job, and waits until it is durable.
    pub(crate) async fn ask(&self, job: S::Job) -> Result<S::Answer, PortError> {
        let answer = self.hand_over(job).await?;
        answer.await.unwrap_or_else(|_| Err(PortError::unknown(self.system, "the writer stopped")))
    }

    /// Hands over a job without waiting for it.
    pub(crate) async fn hand_over(
        &self,
        job: S::Job,
    ) -> Result<oneshot::Receiver<Result<S::Answer, PortError>>, PortError> {
        let stopped = || PortError::unavailable(self.system, "the writer stopped");
        let (reply, answer) = oneshot::channel();
        let sender = self.sender.as_ref().ok_or_else(stopped)?;
        sender.send((job, reply)).await.map_err(|_| stopped())?;
        Ok(answer)
    }
}

impl<S: Store> Drop for Queue<S> {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

struct Worker<S: Store> {
    database: Database,
    connection: Connection,
    store: S,
    receiver: mpsc::Receiver<(S::Job, Reply<S>)>,
}

impl<S: Store> Worker<S> {
    fn run(mut self) {
        let (mut jobs, mut replies) = (Vec::new(), Vec::new());
        while let Some((job, reply)) = self.receiver.blocking_recv() {
            let mut weight = S::weight(&job);
            jobs.push(job);
            replies.push(reply);
            while weight < TRANSACTION_BYTES
                && let Ok((job, reply)) = self.receiver.try_recv()
            {
                weight += S::weight(&job);
                jobs.push(job);
                replies.push(reply);
            }
            // Who asked may be gone; what it asked for is done nevertheless.
            match self.write(jobs.drain(..)) {
                Ok(answers) => replies.drain(..).zip(answers).for_each(|(reply, answer)| drop(reply.send(Ok(answer)))),
                Err(failure) => {
                    replies.drain(..).for_each(|reply| drop(reply.send(Err(failure.to_error(&self.database)))))
                }
            }
        }
        self.settle();
    }

    /// Puts all that was written into the file itself, which can then be copied, and read where nothing can be
    /// written. Readers may be in the way: then it is beside it, as it is while the file is in use.
    fn settle(&self) {
        let settle = || {
            self.connection.busy_timeout(READERS_PATIENCE)?;
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
        };
        match settle() {
            Ok(0) => {}
            Ok(_) => tracing::info!(
                system = self.database.system,
                "somebody reads: what was written last stays beside the file"
            ),
            Err(error) => tracing::warn!(%error, "what was written last stays beside the file"),
        }
    }

    fn write(&mut self, jobs: impl Iterator<Item = S::Job>) -> Result<Vec<S::Answer>, Failure> {
        let result = self.transaction(jobs);
        if result.is_ok() {
            self.store.committed();
        } else {
            if !self.connection.is_autocommit() {
                // If even this fails, the next BEGIN says so.
                let _ = self.connection.execute_batch("ROLLBACK");
            }
            self.store.abandoned(&self.connection);
        }
        result
    }

    fn transaction(&mut self, jobs: impl Iterator<Item = S::Job>) -> Result<Vec<S::Answer>, Failure> {
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(Failure::Before)?;
        let mut answers = Vec::new();
        for job in jobs {
            answers.push(self.store.apply(&self.connection, job).map_err(Failure::Before)?);
        }
        self.connection.execute_batch("COMMIT").map_err(Failure::Committing)?;
        Ok(answers)
    }
}

enum Failure {
    Before(rusqlite::Error),
    Committing(rusqlite::Error),
}

impl Failure {
    fn to_error(&self, database: &Database) -> PortError {
        match self {
            Self::Before(error) => database.error(error),
            Self::Committing(error) => database.commit_error(error),
        }
    }
}
