//! Whose trades a tape holds: decided by the first who asks, and kept in a file beside it. Between
//! the ids of two exchanges would be gaps that nobody can fill.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use exchange_sim::{MarketConfig, Rate};
use ports::{Feed, FeedEvent, PortError};
use serde::{Deserialize, Serialize};

/// The file's name, in the data folder.
const FILE: &str = "exchange.json";

/// How often to look whether somebody has decided meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where the trades of a tape come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exchange {
    /// An exchange that people trade on, live or recorded.
    Real,
    /// A simulated one.
    Simulated {
        /// Its market.
        market: Market,
        /// Where it is reached, `host:port`; nowhere if it runs inside the process that collects.
        address: Option<String>,
    },
}

/// What decides every trade of a simulated market.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Market {
    /// When it began, in ms since 1970: it goes on trading while nobody looks, as a real one does,
    /// and the ids issued meanwhile are fetched at the next start.
    pub epoch_ms: i64,
    /// The settings of the simulator that have the same names.
    pub seed: u64,
    pub rate: Rate,
    pub density: u64,
    pub limit: Option<u64>,
    pub symbols: Vec<MarketConfig>,
}

impl Market {
    /// The name of the first setting that makes it another market than `other`.
    pub fn differs_from(&self, other: &Self) -> Option<&'static str> {
        let differences = [
            ("sim.epoch_ms", self.epoch_ms != other.epoch_ms),
            ("sim.seed", self.seed != other.seed),
            ("sim.rate", self.rate != other.rate),
            ("sim.density", self.density != other.density),
            ("sim.limit", self.limit != other.limit),
            ("source.symbols or sim.symbols", self.symbols != other.symbols),
        ];
        differences.into_iter().find(|(_, differs)| *differs).map(|(name, _)| name)
    }
}

/// The exchange of the tape in `folder`: `wanted`, unless somebody was first.
///
/// # Errors
/// If the folder cannot be used, or holds a file that is not ours.
pub fn exchange_of(folder: &Path, wanted: &Exchange) -> anyhow::Result<Exchange> {
    if let Some(decided) = decided(folder)? {
        return Ok(decided);
    }
    let file = folder.join(FILE);
    decide(folder, &file, wanted).with_context(|| file.display().to_string())?;
    decided(folder)?.with_context(|| format!("{}: gone", file.display()))
}

/// The exchange of the tape in `folder`, if somebody has decided.
///
/// # Errors
/// If the file cannot be read, or is not ours.
pub fn decided(folder: &Path) -> anyhow::Result<Option<Exchange>> {
    let file = folder.join(FILE);
    let text = match std::fs::read_to_string(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| file.display().to_string())?,
    };
    let exchange = serde_json::from_str(&text);
    exchange.map(Some).with_context(|| format!("{}: expected what fulltape wrote there", file.display()))
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

/// The feed of a real exchange for a tape that is nobody's yet: its first frame decides. If a simulator
/// is first, the feed ends, and the next start finds the simulator.
pub struct Undecided<F> {
    feed: F,
    folder: PathBuf,
    is_ours: bool,
}

impl<F: Feed> Undecided<F> {
    /// Decides for the tape in `folder` at the first frame of `feed`.
    pub fn new(feed: F, folder: PathBuf) -> Self {
        Self { feed, folder, is_ours: false }
    }

    fn refuse_simulated(exchange: Option<&Exchange>) -> Result<(), PortError> {
        match exchange {
            Some(Exchange::Simulated { .. }) => Err(PortError::refused("tape", "has become a simulated exchange's")),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl<F: Feed> Feed for Undecided<F> {
    async fn next(&mut self) -> Result<FeedEvent, PortError> {
        let unusable = |error: anyhow::Error| PortError::refused("tape", format!("{error:#}"));
        while !self.is_ours {
            tokio::select! {
                event = self.feed.next() => {
                    let event = event?;
                    let exchange = exchange_of(&self.folder, &Exchange::Real).map_err(unusable)?;
                    Self::refuse_simulated(Some(&exchange))?;
                    self.is_ours = true;
                    return Ok(event);
                }
                () = tokio::time::sleep(LOOK_EVERY) => {
                    Self::refuse_simulated(decided(&self.folder).map_err(unusable)?.as_ref())?;
                }
            }
        }
        self.feed.next().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simulated(seed: u64) -> Exchange {
        let market = Market {
            epoch_ms: 17,
            seed,
            rate: Rate::PerSecond(100),
            density: 1_000,
            limit: None,
            symbols: vec![MarketConfig::named(&"BTCUSDT".parse().unwrap())],
        };
        Exchange::Simulated { market, address: Some("sim:8080".to_owned()) }
    }

    #[test]
    fn the_first_decides_and_nobody_after() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(decided(folder.path()).unwrap(), None);
        assert_eq!(exchange_of(folder.path(), &simulated(1)).unwrap(), simulated(1));
        assert_eq!(exchange_of(folder.path(), &Exchange::Real).unwrap(), simulated(1));
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [FILE], "nothing else is left behind");
    }

    #[test]
    fn of_many_at_once_one_decides() {
        let folder = tempfile::tempdir().unwrap();
        let decided: Vec<Exchange> = std::thread::scope(|scope| {
            let folder = folder.path();
            let all: Vec<_> =
                (0..8).map(|n| scope.spawn(move || exchange_of(folder, &simulated(n)).unwrap())).collect();
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

    /// A feed of so many ends, and silence after them.
    struct Frames(usize);

    #[async_trait]
    impl Feed for Frames {
        async fn next(&mut self) -> Result<FeedEvent, PortError> {
            if self.0 == 0 {
                std::future::pending::<()>().await;
            }
            self.0 -= 1;
            Ok(FeedEvent::End)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_frame_decides() {
        let folder = tempfile::tempdir().unwrap();
        let mut feed = Undecided::new(Frames(1), folder.path().to_owned());
        assert_eq!(decided(folder.path()).unwrap(), None, "a feed without frames decides nothing");
        feed.next().await.unwrap();
        assert_eq!(decided(folder.path()).unwrap(), Some(Exchange::Real));
    }

    #[tokio::test(start_paused = true)]
    async fn a_feed_without_frames_makes_room_for_a_simulator() {
        let folder = tempfile::tempdir().unwrap();
        let mut feed = Undecided::new(Frames(0), folder.path().to_owned());
        let waiting = tokio::spawn(async move { feed.next().await });
        tokio::time::sleep(LOOK_EVERY * 3).await;
        assert!(!waiting.is_finished());
        exchange_of(folder.path(), &simulated(1)).unwrap();
        let error = waiting.await.unwrap().unwrap_err().to_string();
        assert!(error.contains("simulated"), "{error}");
    }
}
