//! Whose trades a tape holds: decided by the first who asks, and kept in a file beside it. Between
//! the ids of two exchanges would be gaps that nobody can fill.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// The file's name, in the data folder.
const FILE: &str = "exchange.json";

/// Where the trades of a tape come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exchange {
    /// An exchange that people trade on, live or recorded.
    Real,
    /// A simulated one.
    Simulated {
        /// When its market began, in ms since 1970: it goes on trading while nobody looks, as a real
        /// one does, and the ids issued meanwhile are fetched at the next start.
        began_ms: i64,
        /// Where it is reached, `host:port`; nowhere if it runs inside the process that collects.
        address: Option<String>,
    },
}

/// The exchange of the tape in `folder`: `wanted`, unless somebody was first.
///
/// # Errors
/// If the folder cannot be used, or holds a file that is not ours.
pub fn exchange_of(folder: &Path, wanted: &Exchange) -> anyhow::Result<Exchange> {
    let file = folder.join(FILE);
    let place = || file.display().to_string();
    if !file.exists() {
        decide(folder, &file, wanted).with_context(place)?;
    }
    let text = std::fs::read_to_string(&file).with_context(place)?;
    serde_json::from_str(&text).with_context(|| format!("{}: expected what fulltape wrote there", file.display()))
}

/// Nobody reads half of it, and of two who decide at once one wins.
fn decide(folder: &Path, file: &Path, wanted: &Exchange) -> anyhow::Result<()> {
    let mut draft = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&mut draft, wanted)?;
    draft.as_file().sync_all()?;
    match draft.persist_noclobber(file) {
        Err(lost) if lost.error.kind() != ErrorKind::AlreadyExists => Err(lost.error.into()),
        _ => Ok(File::open(folder)?.sync_all()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_decides_and_nobody_after() {
        let folder = tempfile::tempdir().unwrap();
        let simulated = Exchange::Simulated { began_ms: 17, address: Some("sim:8080".to_owned()) };
        assert_eq!(exchange_of(folder.path(), &simulated).unwrap(), simulated);
        assert_eq!(exchange_of(folder.path(), &Exchange::Real).unwrap(), simulated);
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [FILE], "nothing else is left behind");
    }

    #[test]
    fn of_many_at_once_one_decides() {
        let folder = tempfile::tempdir().unwrap();
        let began = |began_ms| Exchange::Simulated { began_ms, address: None };
        let decided: Vec<Exchange> = std::thread::scope(|scope| {
            let folder = folder.path();
            let all: Vec<_> = (0..8).map(|n| scope.spawn(move || exchange_of(folder, &began(n)).unwrap())).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(decided.iter().all(|one| *one == decided[0]), "{decided:?}");
    }

    #[test]
    fn a_file_of_somebody_else_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "kraken").unwrap();
        let error = format!("{:#}", exchange_of(folder.path(), &Exchange::Real).unwrap_err());
        assert!(error.contains(FILE) && error.contains("expected what fulltape wrote"), "{error}");
    }
}
