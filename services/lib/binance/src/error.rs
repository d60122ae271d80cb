//! What can go wrong before a feed or a history can do its work.

use domain::Symbol;

/// Why a feed or a history could not be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BinanceError {
    /// Settings that cannot work; all of them.
    #[error("binance settings: {}", .0.join("; "))]
    Config(Vec<String>),
    /// Recordings that cannot be read; all of them.
    #[error("cannot replay: {}", .0.join("; "))]
    Replay(Vec<String>),
    /// Symbols that the exchange does not list; all of them.
    #[error("the exchange does not know {}: expected symbols it lists, for example BTCUSDT", names(.0))]
    UnknownSymbols(Vec<Symbol>),
    /// The exchange could not be asked. It may be reachable later.
    #[error("the exchange could not be asked: {0}")]
    Unreachable(String),
}

impl BinanceError {
    /// Whether starting anyway makes no sense.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::Unreachable(_))
    }
}

fn names(symbols: &[Symbol]) -> String {
    symbols.iter().map(Symbol::as_str).collect::<Vec<_>>().join(", ")
}
