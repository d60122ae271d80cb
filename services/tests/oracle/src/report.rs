//! What a comparison found.

use std::collections::BTreeMap;
use std::fmt;

use domain::{IdSet, Symbol, Trade};
use serde::Serialize;

/// Differing trades that are kept in full; further ones are only counted by their ids.
const MOST_EXAMPLES: usize = 20;

/// What was found, by source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// By source.
    pub sources: BTreeMap<String, SourceReport>,
}

/// What was found in one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SourceReport {
    /// By symbol.
    pub symbols: BTreeMap<Symbol, SymbolReport>,
}

/// What was found of one symbol in one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SymbolReport {
    /// How many trades are expected.
    pub expected: u64,
    /// How many trades there are, copies included.
    pub observed: u64,
    /// Issued, but not there.
    pub lost: IdSet,
    /// There more than once.
    pub duplicated: IdSet,
    /// There, but not as issued.
    pub differing: IdSet,
    /// There, but not expected: never issued, or withheld.
    pub unexpected: IdSet,
    /// The first differing trades.
    pub differences: Vec<Difference>,
}

/// A trade that is not as it was issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The trade's id.
    pub id: u64,
    /// What the exchange issued.
    pub issued: String,
    /// What is stored.
    pub stored: String,
}

impl SymbolReport {
    /// Whether what is stored is exactly what was issued.
    pub fn is_exact(&self) -> bool {
        [&self.lost, &self.duplicated, &self.differing, &self.unexpected].into_iter().all(IdSet::is_empty)
    }

    pub(crate) fn compare(&mut self, issued: &Trade, stored: &Trade) {
        let same_event_time = stored.event_time.is_none() || stored.event_time == issued.event_time;
        let rest = Trade { event_time: issued.event_time, ..stored.clone() };
        if same_event_time && rest == *issued {
            return;
        }
        self.differing.insert(issued.id);
        if self.differences.len() < MOST_EXAMPLES {
            let (issued, stored, id) = (format!("{issued:?}"), format!("{stored:?}"), issued.id);
            self.differences.push(Difference { id, issued, stored });
        }
    }

    pub(crate) fn count_copies(&mut self, id: u64, copies: usize) {
        match copies {
            0 => self.lost.insert(id),
            1 => false,
            _ => self.duplicated.insert(id),
        };
    }
}

impl Report {
    /// Whether every source has exactly what was issued. A report about nothing is not.
    pub fn is_exact(&self) -> bool {
        let symbols = || self.sources.values().flat_map(|source| source.symbols.values());
        symbols().next().is_some() && symbols().all(SymbolReport::is_exact)
    }

    /// How many trades are expected, in all sources together.
    pub fn expected(&self) -> u64 {
        self.sources.values().flat_map(|source| source.symbols.values()).map(|symbol| symbol.expected).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (source, found) in &self.sources {
            for (symbol, found) in &found.symbols {
                writeln!(f, "{source} {symbol}: {found}")?;
            }
        }
        write!(f, "{}", if self.is_exact() { "exact" } else { "NOT EXACT" })
    }
}

impl fmt::Display for SymbolReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} expected, {} observed", self.expected, self.observed)?;
        let findings = [
            ("lost", &self.lost),
            ("duplicated", &self.duplicated),
            ("differing", &self.differing),
            ("unexpected", &self.unexpected),
        ];
        for (finding, ids) in findings.into_iter().filter(|(_, ids)| !ids.is_empty()) {
            write!(f, ", {} {finding} (", ids.len())?;
            for (place, range) in ids.ranges().take(MOST_EXAMPLES).enumerate() {
                write!(f, "{}{range}", if place > 0 { " " } else { "" })?;
            }
            write!(f, ")")?;
        }
        Ok(())
    }
}
