//! binance.
