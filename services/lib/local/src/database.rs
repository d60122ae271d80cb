//! An SQLite file: how it is opened, how it is read, and what its errors mean.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ports::PortError;
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// How long to wait for another connection: `sqlite3` in a shell, or recovery after a crash.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many connections for reading are kept open while they are not used.
const IDLE_CONNECTIONS: usize = 8;

/// An SQLite file, and what to call it.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    pub(crate) system: &'static str,
    path: PathBuf,
}

/// What can go wrong while a connection is used.
pub(crate) enum Trouble {
    Sql(rusqlite::Error),
    Port(PortError),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<PortError> for Trouble {
    fn from(error: PortError) -> Self {
        Self::Port(error)
    }
}

impl Database {
    pub(crate) fn new(system: &'static str, path: PathBuf) -> Self {
        Self { system, path }
    }

    /// The connection that writes; there is one at a time.
    pub(crate) fn open(&self, schema: &str) -> Result<Connection, PortError> {
        let open = || {
            let connection = Connection::open(&self.path)?;
            connection.busy_timeout(PATIENCE)?;
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.pragma_update(None, "synchronous", "full")?;
            // Pages of 4 KiB: 16 MiB of log between checkpoints, 64 MiB of cache.
            connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
            connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
            connection.pragma_update(None, "cache_size", -65_536)?;
            connection.execute_batch(schema)?;
            Ok(connection)
        };
        let connection = open().map_err(|error| self.error(&error))?;
        // SQLite opens what it cannot write, and says so only at the first write.
        if connection.is_readonly("main").map_err(|error| self.error(&error))? {
            return Err(PortError::refused(self.system, format!("{} cannot be written", self.path.display())));
        }
        Ok(connection)
    }

    fn open_to_read(&self) -> Result<Connection, PortError> {
        if !self.path.exists() {
            return Err(PortError::refused(self.system, format!("there is no file {}", self.path.display())));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let prepare = |connection: Connection| {
            connection.busy_timeout(PATIENCE)?;
            // The first thing that touches the file.
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
            Ok(connection)
        };
        let opened = Connection::open_with_flags(&self.path, flags).and_then(prepare);
        let cannot = |error: &rusqlite::Error| {
            matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
        };
        let opened = match opened {
            // On a read-only disk, and nobody else has it open: it does not change.
            Err(error) if cannot(&error) && self.is_at_rest() => {
                let flags = flags | OpenFlags::SQLITE_OPEN_URI;
                Connection::open_with_flags(self.immutable_uri(), flags).and_then(prepare)
            }
            opened => opened,
        };
        opened.map_err(|error| self.error(&error))
    }

    /// Whether all that was written is in the file itself.
    fn is_at_rest(&self) -> bool {
        let mut wal = self.path.clone().into_os_string();
        wal.push("-wal");
        std::fs::metadata(wal).map_or(true, |wal| wal.len() == 0)
    }

    fn immutable_uri(&self) -> String {
        let path = self.path.display().to_string();
        let escaped = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        format!("file:{escaped}?immutable=1")
    }

    /// What an error means that came before anything was committed.
    pub(crate) fn error(&self, error: &rusqlite::Error) -> PortError {
        let reason = format!("{}: {error}", self.path.display());
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OutOfMemory
                | ErrorCode::CannotOpen,
            ) => PortError::unavailable(self.system, reason),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                PortError::refused(self.system, format!("{} is damaged: {error}", self.path.display()))
            }
            _ => PortError::refused(self.system, reason),
        }
    }

    /// What an error of a commit means: when the disk fails half-way, nobody knows.
    pub(crate) fn commit_error(&self, error: &rusqlite::Error) -> PortError {
        match error.sqlite_error_code() {
            Some(ErrorCode::SystemIoFailure) => {
                PortError::unknown(self.system, format!("{}: {error}", self.path.display()))
            }
            _ => self.error(error),
        }
    }

    pub(crate) fn trouble(&self, trouble: Trouble) -> PortError {
        match trouble {
            Trouble::Sql(error) => self.error(&error),
            Trouble::Port(error) => error,
        }
    }

    /// A row that we did not write.
    pub(crate) fn damaged(&self, what: impl std::fmt::Display) -> PortError {
        PortError::refused(self.system, format!("{} is damaged: {what}", self.path.display()))
    }
}

/// Connections for reading, used from blocking threads.
pub(crate) struct Readers {
    pub(crate) database: Database,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    /// Opens the first connection, so that what is wrong with the file is known at once.
    pub(crate) fn open(database: Database) -> Result<Arc<Self>, PortError> {
        let first = database.open_to_read()?;
        Ok(Arc::new(Self { database, idle: Mutex::new(vec![first]) }))
    }

    /// Reads, here and now.
    pub(crate) fn read<T>(&self, act: impl FnOnce(&Connection) -> Result<T, Trouble>) -> Result<T, PortError> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = idle().pop();
        let connection = match waiting {
            Some(connection) => connection,
            None => self.database.open_to_read()?,
        };
        let result = act(&connection).map_err(|trouble| self.database.trouble(trouble));
        let mut idle = idle();
        if idle.len() < IDLE_CONNECTIONS {
            idle.push(connection);
        }
        result
    }

    /// Reads in a thread that may block.
    pub(crate) async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce(&Connection) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, PortError> {
        let readers = self.clone();
        let system = self.database.system;
        let answer = tokio::task::spawn_blocking(move || readers.read(act)).await;
        answer.unwrap_or_else(|error| Err(PortError::unavailable(system, error)))
    }
}
