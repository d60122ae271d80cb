//! Where trades come from.

use std::path::PathBuf;

use crate::config::SourceConfig;

/// What a recording's source begins with.
pub const REPLAY: &str = "replay:";

/// What an archive's source begins with.
const LAKE: &str = "lake:";

/// What the source begins with that is whatever exchange the tape in a folder is of.
const TAPE: &str = "tape:";

/// Where trades come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The simulated exchange, in this process.
    Sim,
    /// The exchange that the tape in a folder is of; Binance, if nobody has decided yet.
    Tape(PathBuf),
    /// The exchange, or whatever `binance.ws_url` and `binance.rest_url` name.
    Binance,
    /// Recordings, in order.
    Replay(Vec<PathBuf>),
    /// The verbatim records of an archive.
    Lake(PathBuf),
}

impl Source {
    /// Reads the setting `source.from`.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn parse(config: &SourceConfig) -> Result<Self, String> {
        let expected = "expected sim, binance, lake:FOLDER, tape:FOLDER, or any number of replay:FILE";
        let files: Vec<&str> = config.from.iter().filter_map(|source| source.strip_prefix(REPLAY)).collect();
        match config.from.as_slice() {
            [one] if one == "sim" => Ok(Self::Sim),
            [one] if one == "binance" => Ok(Self::Binance),
            [one] if one.starts_with(LAKE) => Ok(Self::Lake(PathBuf::from(&one[LAKE.len()..]))),
            [one] if one.starts_with(TAPE) => Ok(Self::Tape(PathBuf::from(&one[TAPE.len()..]))),
            several if files.len() == several.len() => {
                // `--source replay: FILE FILE` leaves one without a file.
                let files: Vec<PathBuf> =
                    files.into_iter().filter(|file| !file.is_empty()).map(PathBuf::from).collect();
                if files.is_empty() { Err(format!("source: {expected}, got no file")) } else { Ok(Self::Replay(files)) }
            }
            other => Err(format!("source: {expected}, got {other:?}")),
        }
    }

    /// Whether it comes to an end by itself.
    pub fn ends(&self) -> bool {
        matches!(self, Self::Replay(_) | Self::Lake(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(from: &[&str]) -> Result<Source, String> {
        let from = from.iter().map(|source| (*source).to_owned()).collect();
        Source::parse(&SourceConfig { from, ..SourceConfig::default() })
    }

    #[test]
    fn sources_are_one_kind() {
        assert_eq!(parse(&["sim"]), Ok(Source::Sim));
        assert_eq!(parse(&["lake:data/crypto_data"]), Ok(Source::Lake("data/crypto_data".into())));
        assert_eq!(parse(&["tape:/var/lib/fulltape"]), Ok(Source::Tape("/var/lib/fulltape".into())));
        assert_eq!(parse(&["replay:a", "replay:b"]), Ok(Source::Replay(vec!["a".into(), "b".into()])));
        assert_eq!(parse(&["replay:", "replay:b"]), Ok(Source::Replay(vec!["b".into()])));
        for bad in [&["sim", "replay:a"][..], &["kraken"], &[], &["replay:"], &["sim", "sim"]] {
            assert!(parse(bad).unwrap_err().contains("expected sim"), "{bad:?}");
        }
    }
}
