//! Looking at all recordings before any of them is read.

use std::fs;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use domain::Symbol;

use super::content::{Decoder, Kind};
use super::lines::{Line, Lines};
use super::unpack;
use crate::BinanceError;

/// A recording begins with damage in at most this many lines.
const LOOK_AT_LINES: usize = 100;

/// A file that can be replayed.
pub(crate) struct Recording {
    pub(crate) path: PathBuf,
    /// The file's name without folders.
    pub(crate) name: String,
    /// When the file was last written: no line of it was received later.
    pub(crate) written_at: domain::Timestamp,
    /// How to read each of its entries; `None` for an empty one. Only archives have several.
    pub(crate) entries: Vec<Option<Decoder>>,
}

/// All recordings, or everything that is wrong with them.
pub(crate) fn recordings(paths: Vec<PathBuf>) -> Result<Vec<Recording>, BinanceError> {
    if paths.is_empty() {
        return Err(BinanceError::Replay(vec!["no file given: expected at least one".to_owned()]));
    }
    let mut findings = Vec::new();
    let mut recordings = Vec::new();
    for path in paths {
        match recording(&path) {
            Ok(recording) => recordings.push(recording),
            Err(finding) => findings.push(format!("{}: {finding}", path.display())),
        }
    }
    if findings.is_empty() { Ok(recordings) } else { Err(BinanceError::Replay(findings)) }
}

fn recording(path: &Path) -> Result<Recording, String> {
    let expected = Kind::EXPECTED;
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => format!("cannot be read: {error}"),
    })?;
    if metadata.is_dir() {
        return Err("is a folder: expected a file".to_owned());
    }
    if !metadata.is_file() {
        return Err("is not a regular file: expected one that can be read twice".to_owned());
    }
    if metadata.len() == 0 {
        return Err(format!("is empty: expected {expected}"));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let written_at = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let written_at = domain::Timestamp::default().plus(written_at.unwrap_or_default());
    let entries = entries(path, &name)?;
    if entries.iter().all(Option::is_none) {
        return Err(format!("has no content: expected {expected}"));
    }
    Ok(Recording { path: path.to_owned(), name, written_at, entries })
}

/// What an entry has.
enum Found {
    Content(Decoder),
    Nothing,
    /// Its content breaks before it shows what it is.
    Broken(String),
}

fn entries(path: &Path, name: &str) -> Result<Vec<Option<Decoder>>, String> {
    let mut found = Vec::new();
    let mut findings = Vec::new();
    unpack::walk(path, &mut |entry, reader| {
        let place = entry.map(|entry| format!("entry {entry}: ")).unwrap_or_default();
        match look(entry, name, reader) {
            Ok(content) => found.push(content),
            Err(finding) => findings.push(format!("{place}{finding}")),
        }
        ControlFlow::Continue(())
    })
    .map_err(|error| format!("cannot be read: {error}"))?;
    if !findings.is_empty() {
        return Err(findings.join(", "));
    }
    let readable = found.iter().any(|found| matches!(found, Found::Content(_)));
    let decoder = |found| match found {
        Found::Content(decoder) => Ok(Some(decoder)),
        Found::Nothing => Ok(None),
        // Beside content, reading it reports the damage at its place.
        Found::Broken(_) if readable => Ok(Some(Decoder::Frames)),
        Found::Broken(finding) => Err(finding),
    };
    found.into_iter().map(decoder).collect()
}

/// Looks at the first lines of an entry.
fn look(entry: Option<&str>, name: &str, reader: &mut dyn Read) -> Result<Found, String> {
    let mut lines = Lines::new(reader);
    let mut unknown = 0;
    while unknown < LOOK_AT_LINES {
        let kind = match lines.next_line() {
            None => break,
            Some(Line::Whole(line)) if line.is_empty() => continue,
            Some(Line::Whole(line)) => Kind::of(&line),
            Some(Line::Overlong { .. }) => None,
        };
        match kind {
            Some(Kind::Frames) => return Ok(Found::Content(Decoder::Frames)),
            Some(Kind::Rows) => return rows(entry, name).map(Found::Content),
            None => unknown += 1,
        }
    }
    match lines.broken() {
        Some(broken) => Ok(Found::Broken(format!("nothing in it can be read: {}", broken.error))),
        None if unknown == 0 => Ok(Found::Nothing),
        None => Err(format!("has unknown content: expected {}", Kind::EXPECTED)),
    }
}

fn rows(entry: Option<&str>, name: &str) -> Result<Decoder, String> {
    const UNKNOWN: &str = "has trades of an unknown symbol: expected a name such as BTCUSDT-trades-2024-08-08.csv.gz";
    let symbol = entry.and_then(symbol).or_else(|| symbol(name)).ok_or(UNKNOWN)?;
    Ok(Decoder::Rows { symbol, micros: None })
}

/// The symbol in `BTCUSDT-trades-2024-08-08.csv`.
fn symbol(name: &str) -> Option<Symbol> {
    let file = name.rsplit('/').next()?;
    file.split_once("-trades-")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_symbol_stands_in_the_name() {
        for name in ["BTCUSDT-trades-2024-08-08.csv", "data/BTCUSDT-trades-2024-08.zip", "BTCUSDT-trades-x.csv.gz"] {
            assert_eq!(symbol(name).unwrap().as_str(), "BTCUSDT");
        }
        for name in ["trades.csv", "btcusdt-trades-2024.csv", "-trades-2024.csv", "BTCUSDT-aggTrades-2024.csv"] {
            assert_eq!(symbol(name), None, "{name}");
        }
    }
}
