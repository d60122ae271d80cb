//! The name of a market.

use std::fmt;
use std::str::FromStr;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// The longest symbol accepted, in bytes. The exchange's are below 20 characters, which may be non-ASCII.
const MAX_BYTES: usize = 64;

/// A market's name as the exchange writes it in payloads, for example `BTCUSDT`.
///
/// Cloning is cheap: names up to 23 bytes are stored inline.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "SmolStr", into = "SmolStr")]
pub struct Symbol(SmolStr);

/// What belongs to each of many symbols, or to keys that begin with one: found by its hash, as there are a thousand and it
/// is looked for with every trade; in the order of their coming, so that the same input gives the same output.
pub type BySymbol<V, Key = Symbol> = IndexMap<Key, V, foldhash::fast::RandomState>;

/// A text that cannot be a symbol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a symbol: expected 1 to {MAX_BYTES} bytes of letters and digits in upper case")]
pub struct SymbolError(SmolStr);

impl Symbol {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as stream names have it, for example `btcusdt`.
    pub fn lowercase(&self) -> String {
        self.0.to_lowercase()
    }
}

impl FromStr for Symbol {
    type Err = SymbolError;

    fn from_str(text: &str) -> Result<Self, SymbolError> {
        let fits = (1..=MAX_BYTES).contains(&text.len());
        let plain = |c: char| (c.is_alphanumeric() && !c.is_lowercase()) || c == '_' || c == '-';
        if fits && text.chars().all(plain) {
            Ok(Self(SmolStr::new(text)))
        } else {
            Err(SymbolError(text.chars().take(MAX_BYTES).collect()))
        }
    }
}

impl TryFrom<SmolStr> for Symbol {
    type Error = SymbolError;

    fn try_from(text: SmolStr) -> Result<Self, SymbolError> {
        text.parse()
    }
}

impl From<Symbol> for SmolStr {
    fn from(symbol: Symbol) -> Self {
        symbol.0
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_the_exchange_lists_and_nothing_that_could_be_a_path() {
        for good in ["BTCUSDT", "1000SATSUSDT", "币安人生USDT", "BTC_250328"] {
            assert_eq!(good.parse::<Symbol>().unwrap().as_str(), good);
        }
        for bad in ["", "btcusdt", "BTC/USDT", "../X", "A B", "A\n", &"A".repeat(65)] {
            assert!(bad.parse::<Symbol>().is_err(), "{bad:?}");
        }
    }
}
