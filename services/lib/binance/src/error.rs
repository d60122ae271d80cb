//! What can go wrong before a feed or a history can do its work.

/// Why a feed or a history could not be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BinanceError {
    /// Settings that cannot work; all of them.
    #[error("binance settings: {}", .0.join("; "))]
    Config(Vec<String>),
    /// Recordings that cannot be read; all of them.
    #[error("cannot replay: {}", .0.join("; "))]
    Replay(Vec<String>),
    /// The exchange could not be asked. It may be reachable later.
    #[error("the exchange could not be asked: {0}")]
    Unreachable(String),
}
