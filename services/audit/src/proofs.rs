//! What earlier audits have proved, so that it need not be read again.
//!
//! Kept in the archive, under `_audit`, a file per day: of a file of the archive, that it is what the
//! log makes of its span, and which trades those are; of a symbol's hour, that the tables have
//! exactly its trades. Files never change, so a file of the same name and length stands as proved.
//! Tables may be changed by hand, so their rows are counted each time. Whoever trusts neither audits
//! deep.
//!
//! A lost, damaged or half-written file of proofs costs only time.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use domain::lake::{self, PartName};
use domain::{Origin, Symbol, Timestamp, Trade, TradeRow};
use ports::{Archive, PortError};
use serde::{Deserialize, Serialize};

use crate::insist;
use crate::tally::{Tallies, Tally};

/// What is proved of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileProof {
    /// The file's length in bytes.
    pub length: u64,
    /// Where it ends, and the next one starts.
    pub end: i64,
    /// Records in its span that are no trades.
    pub unusable: u64,
    /// The trades in it; none for a raw file.
    pub trades: Vec<(Symbol, Timestamp, Tally)>,
}

impl FileProof {
    /// The trades in it.
    pub fn tallies(&self) -> Tallies {
        let mut tallies = Tallies::default();
        self.trades.iter().for_each(|(symbol, hour, tally)| tallies.put(symbol, *hour, tally));
        tallies
    }
}

/// What is proved of a symbol's hour in the tables: that they had these trades.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HourProof {
    rows: u64,
    fingerprint: u64,
}

impl From<&Tally> for HourProof {
    fn from(tally: &Tally) -> Self {
        Self { rows: tally.rows, fingerprint: tally.fingerprint }
    }
}

/// Everything that is proved.
#[derive(Debug, Default)]
pub struct Proofs {
    days: BTreeMap<String, Day>,
    changed: BTreeSet<String>,
}

/// What is proved of one day: of the files appended, and of the trades made.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Day {
    /// Of another value, the proofs cannot be compared with what this program reads.
    reference: u64,
    files: BTreeMap<String, FileProof>,
    hours: BTreeMap<Symbol, BTreeMap<Timestamp, HourProof>>,
}

impl Proofs {
    /// Reads what is proved.
    ///
    /// # Errors
    /// If the archive cannot say which files of proofs there are.
    pub async fn load(archive: &dyn Archive) -> Result<Self, PortError> {
        let mut days = BTreeMap::new();
        for file in insist("list proofs", || archive.list(lake::AUDIT)).await? {
            let path = format!("{}/{}", lake::AUDIT, file.name);
            let content = match insist("read proofs", || archive.read(&path, 0, file.length)).await {
                Ok(content) => content,
                Err(error) => {
                    // It may be the servers: waiting for the file of each day would take hours.
                    tracing::warn!(path, %error, "proofs cannot be read, proving this day and all later ones again");
                    break;
                }
            };
            match serde_json::from_slice::<Day>(&content) {
                Ok(day) if day.reference == reference() => {
                    let name = file.name.strip_suffix(".json").unwrap_or(&file.name);
                    days.insert(name.to_owned(), day);
                }
                _ => tracing::warn!(path, "proofs of another version or cut off, proving again"),
            }
        }
        Ok(Self { days, changed: BTreeSet::new() })
    }

    /// What is proved of a file of this length.
    pub fn file(&self, name: &PartName, length: u64) -> Option<&FileProof> {
        self.days.get(&name.date)?.files.get(&name.to_string()).filter(|proof| proof.length == length)
    }

    /// Remembers what is proved of a file, or forgets it.
    pub fn note_file(&mut self, name: &PartName, proof: Option<FileProof>) {
        let path = name.to_string();
        match proof {
            Some(proof) => {
                self.day(&name.date).files.insert(path, proof);
            }
            None if self.days.get(&name.date).is_some_and(|day| day.files.contains_key(&path)) => {
                self.day(&name.date).files.remove(&path);
            }
            None => {}
        }
    }

    /// Whether the tables are proved to have had exactly these trades.
    pub fn has_hour(&self, symbol: &Symbol, hour: Timestamp, tally: &Tally) -> bool {
        self.hour(symbol, hour).is_some_and(|proof| *proof == HourProof::from(tally))
    }

    /// Remembers what is proved of an hour, or forgets it.
    pub fn note_hour(&mut self, symbol: &Symbol, hour: Timestamp, tally: Option<&Tally>) {
        let proof = tally.map(HourProof::from);
        if self.hour(symbol, hour) == proof.as_ref() {
            return;
        }
        let hours = self.day(&hour.date()).hours.entry(symbol.clone()).or_default();
        match proof {
            Some(proof) => hours.insert(hour, proof),
            None => hours.remove(&hour),
        };
    }

    fn hour(&self, symbol: &Symbol, hour: Timestamp) -> Option<&HourProof> {
        self.days.get(&hour.date())?.hours.get(symbol)?.get(&hour)
    }

    /// Keeps what is proved for the next audit.
    ///
    /// # Errors
    /// If the archive cannot be written: nothing is lost but time.
    pub async fn save(&mut self, archive: &dyn Archive) -> Result<(), PortError> {
        for date in std::mem::take(&mut self.changed) {
            let Some(day) = self.days.get(&date) else { continue };
            let json = Bytes::from(serde_json::to_vec(day).map_err(|error| PortError::refused("proofs", error))?);
            let path = format!("{}/{date}.json", lake::AUDIT);
            insist("write proofs", || archive.write(&path, json.clone())).await?;
        }
        Ok(())
    }

    fn day(&mut self, date: &str) -> &mut Day {
        self.changed.insert(date.to_owned());
        let empty = || Day { reference: reference(), ..Day::default() };
        self.days.entry(date.to_owned()).or_insert_with(empty)
    }
}

/// The fingerprint of one fixed trade: fingerprints are only comparable within one version.
fn reference() -> u64 {
    let number = |text: &str| text.parse().expect("a number");
    let trade = Trade {
        symbol: "BTCUSDT".parse().expect("a symbol"),
        id: 3_735_683_259,
        price: number("61837.63"),
        quantity: number("0.02"),
        trade_time: Timestamp::from_millis(1_723_161_255_342),
        event_time: None,
        buyer_is_maker: true,
    };
    TradeRow { trade, origin: Origin::Live, received_at: Timestamp::from_micros(0) }.fingerprint()
}
