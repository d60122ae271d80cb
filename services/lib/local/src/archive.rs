//! The archive as files of a folder.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use ports::{Archive, FileInfo, PortError, Published};

const SYSTEM: &str = "archive folder";

/// The archive of the embedded mode. Cloning gives another handle to the same one.
///
/// A file gets its final name as a second name (a hard link), which the file system gives only if
/// nobody has it; then the first is taken away.
#[derive(Clone, Debug)]
pub struct LocalArchive {
    root: PathBuf,
}

impl LocalArchive {
    /// The archive below a folder, which need not exist yet.
    pub fn open(root: impl AsRef<Path>) -> Self {
        Self { root: root.as_ref().to_path_buf() }
    }

    /// The file of a path, which must stay below the root.
    fn file(&self, path: &str) -> Result<PathBuf, PortError> {
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\0', '\\']);
        if !path.split('/').all(plain) {
            let reason = format!("{path:?} is not a path: expected names with single slashes between them");
            return Err(PortError::refused(SYSTEM, reason));
        }
        Ok(self.root.join(path))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(Self) -> Result<T, PortError> + Send + 'static,
    ) -> Result<T, PortError> {
        let archive = self.clone();
        let answer = tokio::task::spawn_blocking(move || act(archive)).await;
        answer.unwrap_or_else(|error| Err(PortError::unknown(SYSTEM, error)))
    }

    /// Makes all names on the way to a file durable, also those that another call is just creating.
    fn sync_folders_of(&self, file: &Path) -> io::Result<()> {
        let above = self.root.parent();
        let folders = file.ancestors().skip(1).take_while(|folder| Some(*folder) != above);
        folders.chain(above).filter(|folder| !folder.as_os_str().is_empty()).try_for_each(sync_folder)
    }

    fn write_now(&self, file: &Path, content: &[u8]) -> io::Result<()> {
        create_folder_of(file)?;
        let mut open = File::create(file)?;
        open.write_all(content)?;
        open.sync_all()
    }

    fn publish_now(&self, from: &Path, to: &Path) -> Result<Published, PortError> {
        if !from.is_file() {
            return Err(PortError::refused(SYSTEM, format!("there is no file {}", from.display())));
        }
        create_folder_of(to).map_err(|error| failed(to, &error))?;
        match fs::hard_link(from, to) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Published::Lost),
            Err(error) if error.kind() == ErrorKind::PermissionDenied || error.kind() == ErrorKind::Unsupported => {
                let reason = format!("{}: {error}: expected a file system with hard links", to.display());
                return Err(PortError::refused(SYSTEM, reason));
            }
            Err(error) => return Err(failed(to, &error)),
        }
        let unknown = |error| PortError::unknown(SYSTEM, format!("{}: {error}", to.display()));
        self.sync_folders_of(to).map_err(unknown)?;
        // The file has its name for good; a temporary name that stays is only untidy.
        if let Err(error) = fs::remove_file(from).and_then(|()| from.parent().map_or(Ok(()), sync_folder)) {
            tracing::warn!(file = %from.display(), %error, "temporary name not removed");
        }
        Ok(Published::Won)
    }
}

#[async_trait]
impl Archive for LocalArchive {
    async fn write(&self, temporary: &str, content: Bytes) -> Result<(), PortError> {
        let file = self.file(temporary)?;
        self.blocking(move |archive| archive.write_now(&file, &content).map_err(|error| failed(&file, &error))).await
    }

    async fn publish(&self, temporary: &str, to: &str) -> Result<Published, PortError> {
        let (from, to) = (self.file(temporary)?, self.file(to)?);
        self.blocking(move |archive| archive.publish_now(&from, &to)).await
    }

    async fn list(&self, folder: &str) -> Result<Vec<FileInfo>, PortError> {
        let folder = if folder.is_empty() { self.root.clone() } else { self.file(folder)? };
        self.blocking(move |_| list(&folder).map_err(|error| failed(&folder, &error))).await
    }

    async fn read(&self, path: &str, start: u64, length: u64) -> Result<Bytes, PortError> {
        let file = self.file(path)?;
        self.blocking(move |_| read(&file, start, length).map_err(|error| failed(&file, &error))).await
    }

    async fn length(&self, path: &str) -> Result<Option<u64>, PortError> {
        let file = self.file(path)?;
        let length = move |_| match fs::metadata(&file) {
            Ok(found) => Ok(found.is_file().then_some(found.len())),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(failed(&file, &error)),
        };
        self.blocking(length).await
    }

    async fn remove(&self, path: &str) -> Result<(), PortError> {
        let file = self.file(path)?;
        self.blocking(move |_| remove(&file).map_err(|error| failed(&file, &error))).await
    }
}

fn list(folder: &Path) -> io::Result<Vec<FileInfo>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let info = match fs::metadata(entry.path()) {
            Ok(info) => info,
            // Removed while we looked.
            Err(error) if is_missing(&error) => continue,
            Err(error) => return Err(error),
        };
        let length = if info.is_dir() { 0 } else { info.len() };
        found.push(FileInfo {
            name: entry.file_name().to_string_lossy().into_owned(),
            is_folder: info.is_dir(),
            length,
        });
    }
    found.sort();
    Ok(found)
}

fn read(file: &Path, start: u64, length: u64) -> io::Result<Bytes> {
    let mut open = File::open(file)?;
    let whole = open.metadata()?.len();
    let expected = length.min(whole.saturating_sub(start));
    open.seek(SeekFrom::Start(start))?;
    let mut content = Vec::with_capacity(usize::try_from(expected).unwrap_or(0));
    open.take(expected).read_to_end(&mut content)?;
    Ok(content.into())
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if is_missing(&error) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => path.parent().map_or(Ok(()), sync_folder),
    }
}

fn create_folder_of(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), fs::create_dir_all)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Not there, or below something that is no folder.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// What an error means that came before a file got its final name.
fn failed(path: &Path, error: &io::Error) -> PortError {
    let reason = format!("{}: {error}", path.display());
    match error.kind() {
        ErrorKind::NotFound
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::InvalidFilename => PortError::refused(SYSTEM, reason),
        _ => PortError::unavailable(SYSTEM, reason),
    }
}
