//! The data folder: one writer at a time, and a format that is known.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The format that this build writes and reads.
const FORMAT: u32 = 1;
const VERSION: &str = "VERSION";
const LOCK: &str = "lock";
const ARCHIVE: &str = "crypto_data";

/// A data folder that may be used.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// Held while the folder is ours.
    _lock: Option<File>,
}

/// Why a data folder cannot be used. All of them need a person.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file, or something else that is no folder.
    #[error("{0} is not a folder: expected a folder for data, or a path where one can be created")]
    NotAFolder(PathBuf),
    /// Nothing there to read.
    #[error("{0} is not a data folder: expected a file VERSION in it")]
    NoData(PathBuf),
    /// A folder with files of somebody else's.
    #[error("{0} is not empty and not a data folder: expected a folder of its own for data")]
    Foreign(PathBuf),
    /// Another process writes there.
    #[error("{path} is in use by another process{holder}: stop it, or use another data folder")]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Who has it, as far as is known.
        holder: String,
    },
    /// Written by a newer build.
    #[error("{path} has format {found}, this build knows up to {FORMAT}: use the newer build that wrote it")]
    Newer {
        /// The folder.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// A version that is no number.
    #[error("{path}: expected a format number, got {found:?}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it holds, shortened.
        found: String,
    },
    /// The operating system refuses.
    #[error("{path}: {cause}")]
    Io {
        /// What it was about.
        path: PathBuf,
        /// What it said.
        cause: io::Error,
    },
}

impl DataFolder {
    /// Creates the folder if need be, and takes it for this process until the value is dropped.
    ///
    /// # Errors
    /// See [`FolderError`]; the folder is as it was.
    pub fn lock(path: impl AsRef<Path>) -> Result<Self, FolderError> {
        let path = path.as_ref().to_path_buf();
        let io = |cause| FolderError::Io { path: path.clone(), cause };
        if path.exists() && !path.is_dir() {
            return Err(FolderError::NotAFolder(path));
        }
        fs::create_dir_all(&path).map_err(io)?;
        let known = version(&path)?.is_some();
        if !known && !is_empty(&path).map_err(io)? {
            return Err(FolderError::Foreign(path));
        }
        let lock = take(&path)?;
        if !known {
            write_version(&path).map_err(io)?;
        }
        Ok(Self { path, _lock: Some(lock) })
    }

    /// A folder to read from, whether or not a process writes there.
    ///
    /// # Errors
    /// See [`FolderError`].
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, FolderError> {
        let path = path.as_ref().to_path_buf();
        if path.exists() && !path.is_dir() {
            return Err(FolderError::NotAFolder(path));
        }
        match version(&path)? {
            Some(_) => Ok(Self { path, _lock: None }),
            None => Err(FolderError::NoData(path)),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where its archive is.
    pub fn archive(&self) -> PathBuf {
        self.path.join(ARCHIVE)
    }
}

/// The folder's format, if it has one that we know.
fn version(folder: &Path) -> Result<Option<u32>, FolderError> {
    let path = folder.join(VERSION);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(FolderError::Io { path, cause }),
    };
    match text.trim().parse::<u32>() {
        Ok(found) if found > FORMAT => Err(FolderError::Newer { path: folder.to_path_buf(), found }),
        Ok(found) => Ok(Some(found)),
        Err(_) => Err(FolderError::Damaged { path, found: text.chars().take(40).collect() }),
    }
}

/// What may stand in a data folder beside its own files: the simulator's tape, a lost+found.
const NEIGHBOURS: [&str; 3] = ["sim", "cluster", "lost+found"];

/// Whether there is nothing in a folder but neighbours and what an earlier start left half done.
fn is_empty(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let is_neighbour = NEIGHBOURS.iter().any(|neighbour| name == *neighbour);
        if name != LOCK && name != "VERSION.new" && !is_neighbour {
            return Ok(false);
        }
    }
    Ok(true)
}

fn take(folder: &Path) -> Result<File, FolderError> {
    let path = folder.join(LOCK);
    let io = |cause| FolderError::Io { path: path.clone(), cause };
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The number is a courtesy; what counts is the lock.
            let _ = file.read_to_string(&mut holder);
            let number = holder.trim().parse::<u32>();
            let holder = number.map(|number| format!(" (process {number})")).unwrap_or_default();
            return Err(FolderError::InUse { path: folder.to_path_buf(), holder });
        }
        Err(TryLockError::Error(cause)) => return Err(io(cause)),
    }
    // Also with a full disk the folder can be locked.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

fn write_version(folder: &Path) -> io::Result<()> {
    let temporary = folder.join("VERSION.new");
    let mut file = File::create(&temporary)?;
    writeln!(file, "{FORMAT}")?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(VERSION))?;
    File::open(folder)?.sync_all()
}
