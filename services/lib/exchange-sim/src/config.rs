//! What is traded, how fast, how the server treats its clients, and when it fails.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use domain::Symbol;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::faults::ScheduledFault;
use crate::fixed::Fixed;
use crate::market::noise;

/// Trades per second that the market may have at most.
const MAX_RATE: u64 = 10_000_000;

/// Times on the wire have 13 or 16 digits: from 2001 to 2286, less room for the market to run.
const EPOCHS_MS: std::ops::RangeInclusive<i64> = 1_000_000_000_000..=9_000_000_000_000;

/// A market that is one of the defaults: symbol, base price, decimals of price and quantity, share.
const DEFAULT_MARKETS: [(&str, &str, u8, u8, u32); 5] = [
    ("BTCUSDT", "61837.63", 2, 5, 40),
    ("ETHUSDT", "2643.17", 2, 4, 25),
    ("SOLUSDT", "153.42", 2, 3, 15),
    ("XRPUSDT", "0.6132", 4, 1, 12),
    ("TRXUSDT", "0.2446", 4, 1, 8),
];

/// The settings of the simulated exchange.
///
/// Equal `seed`, `rate`, `density`, `epoch_ms`, `limit` and `symbols` give equal trades.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What the market is made from.
    pub seed: u64,
    /// Trades per second over all symbols, or `max`: as fast as the subscribers take them, in
    /// virtual time that stands still while nobody subscribes to trades.
    pub rate: Rate,
    /// Trades per second of virtual time over all symbols if the rate is `max`.
    pub density: u64,
    /// When every symbol's first trade may happen, in ms since 1970; if not set, when the server
    /// starts. To go on after a restart, it must be set.
    pub epoch_ms: Option<i64>,
    /// How many trades there are in total, counted from the epoch and shared among the symbols as
    /// the rate is; afterwards the market is silent. If not set, it never ends.
    pub limit: Option<u64>,
    /// What is traded.
    pub symbols: Vec<MarketConfig>,
    /// How long after the stream REST has a trade, in ms of the market's time.
    pub rest_lag_ms: u64,
    /// How often the server pings.
    pub ping_ms: u64,
    /// How long a ping may stay without its pong, and a write without progress, before the server disconnects.
    pub pong_timeout_ms: u64,
    /// How long a connection may live.
    pub lifetime_ms: u64,
    /// Messages a client may send per second, pings and pongs included.
    pub client_messages_per_second: u32,
    /// Streams per connection.
    pub max_streams_per_connection: usize,
    /// Connection attempts per address in five minutes.
    pub connections_per_five_minutes: u32,
    /// Frames that wait for a slow client; at a finite rate one more disconnects it.
    pub queue_frames: usize,
    /// REST weight per minute and address.
    pub weight_per_minute: u32,
    /// How many answers 429 a client may ignore within a minute before it is banned with 418.
    pub ban_after: u32,
    /// How long the first ban takes; each further one takes twice as long, up to three days.
    pub ban_seconds: u64,
    /// How many milliseconds pass between `serverShutdown` and the end of the connections.
    pub shutdown_notice_ms: u64,
    /// Faults that happen by themselves.
    pub faults: Vec<ScheduledFault>,
}

/// What a symbol trades like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarketConfig {
    /// The symbol.
    pub symbol: Symbol,
    /// The price around which it moves, as decimal text.
    pub price: String,
    /// Decimals of its prices, at most 8: the tick.
    pub price_decimals: u8,
    /// Decimals of its quantities, at most 8: the lot.
    pub quantity_decimals: u8,
    /// Its part of all trades, relative to the other symbols' shares.
    pub share: u32,
}

/// How fast trades are issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// So many a second, over all symbols.
    PerSecond(u64),
    /// As fast as the subscribers take them.
    Max,
}

/// Why the exchange cannot start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// Settings that cannot work, all of them.
    #[error("{}", .0.join("\n"))]
    Config(Vec<String>),
    /// The address cannot be had.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            seed: 1,
            rate: Rate::PerSecond(100),
            density: 1_000,
            epoch_ms: None,
            limit: None,
            symbols: DEFAULT_MARKETS.iter().map(|market| known(*market)).collect(),
            rest_lag_ms: 0,
            ping_ms: 20_000,
            pong_timeout_ms: 60_000,
            lifetime_ms: 24 * 60 * 60 * 1_000,
            client_messages_per_second: 5,
            max_streams_per_connection: 1_024,
            connections_per_five_minutes: 300,
            queue_frames: 65_536,
            weight_per_minute: 6_000,
            ban_after: 10,
            ban_seconds: 120,
            shutdown_notice_ms: 2_000,
            faults: Vec::new(),
        }
    }
}

fn known((symbol, price, price_decimals, quantity_decimals, share): (&str, &str, u8, u8, u32)) -> MarketConfig {
    let symbol = symbol.parse().expect("the default symbols are symbols");
    MarketConfig { symbol, price: price.to_owned(), price_decimals, quantity_decimals, share }
}

impl MarketConfig {
    /// The market of a symbol by its name alone: one of the defaults, or one made up from the name.
    pub fn named(symbol: &Symbol) -> Self {
        let default = DEFAULT_MARKETS.into_iter().find(|market| market.0 == symbol.as_str());
        default.map_or_else(|| Self::made_up(symbol), known)
    }

    fn made_up(symbol: &Symbol) -> Self {
        let drawn = noise::hash_text(symbol.as_str());
        let (price_decimals, quantity_decimals) = [(2, 3), (3, 2), (4, 1), (4, 0)][(drawn % 4) as usize];
        let ticks = 10_000 + (drawn >> 8) % 90_000;
        let price = Fixed::from_units(ticks, price_decimals).map_or_else(|| "1".to_owned(), |price| price.to_string());
        Self { symbol: symbol.clone(), price, price_decimals, quantity_decimals, share: 10 }
    }

    fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        let name = &self.symbol;
        if self.price_decimals > 8 || self.quantity_decimals > 8 {
            findings.push(format!("symbols: {name}: expected at most 8 decimals"));
        } else {
            let ticks = Fixed::parse(&self.price).and_then(|price| price.units(self.price_decimals));
            // Below a hundred ticks a price could not move; above 10^12 sums could overflow.
            if !ticks.is_some_and(|ticks| (100..=1_000_000_000_000).contains(&ticks)) {
                findings.push(format!(
                    "symbols: {name}: price: expected a decimal of 100 to 10^12 ticks of {} decimals, got {:?}",
                    self.price_decimals, self.price
                ));
            }
        }
        if !(1..=1_000_000).contains(&self.share) {
            findings.push(format!("symbols: {name}: share: expected 1 to 1000000, got {}", self.share));
        }
        findings
    }
}

impl SimConfig {
    /// The same exchange trading these symbols.
    #[must_use]
    pub fn with_symbols(mut self, symbols: &[Symbol]) -> Self {
        self.symbols = symbols.iter().map(MarketConfig::named).collect();
        self
    }

    /// Trades per second of the market's own time, over all symbols.
    pub(crate) fn trades_per_second(&self) -> u64 {
        match self.rate {
            Rate::PerSecond(rate) => rate,
            Rate::Max => self.density,
        }
    }

    /// Finds everything that cannot work.
    ///
    /// # Errors
    /// [`SimError::Config`] with all findings, each naming the setting and what it expects.
    pub fn validate(&self) -> Result<(), SimError> {
        let mut findings: Vec<String> = self.symbols.iter().flat_map(MarketConfig::findings).collect();
        findings.extend(
            self.faults
                .iter()
                .enumerate()
                .filter_map(|(place, fault)| fault.check().err().map(|finding| format!("faults: {place}: {finding}"))),
        );
        let mut expect = |holds: bool, finding: String| {
            if !holds {
                findings.push(finding);
            }
        };
        let rate = self.trades_per_second();
        expect((1..=MAX_RATE).contains(&rate), format!("rate, density: expected 1 to {MAX_RATE}, got {rate}"));
        expect(!self.symbols.is_empty(), "symbols: expected at least one".to_owned());
        let mut names: Vec<&Symbol> = self.symbols.iter().map(|market| &market.symbol).collect();
        names.sort();
        expect(names.windows(2).all(|pair| pair[0] != pair[1]), "symbols: expected each one once".to_owned());
        if let Some(epoch) = self.epoch_ms {
            expect(EPOCHS_MS.contains(&epoch), format!("epoch_ms: expected ms since 1970, after 2001, got {epoch}"));
        }
        let queue = self.queue_frames;
        expect((1_024..=1 << 24).contains(&queue), format!("queue_frames: expected 1024 to {}, got {queue}", 1 << 24));
        for (name, value) in self.positive() {
            expect(value > 0, format!("{name}: expected more than zero"));
        }
        if findings.is_empty() { Ok(()) } else { Err(SimError::Config(findings)) }
    }

    fn positive(&self) -> [(&'static str, u64); 8] {
        [
            ("ping_ms", self.ping_ms),
            ("pong_timeout_ms", self.pong_timeout_ms),
            ("lifetime_ms", self.lifetime_ms),
            ("client_messages_per_second", u64::from(self.client_messages_per_second)),
            ("max_streams_per_connection", self.max_streams_per_connection as u64),
            ("connections_per_five_minutes", u64::from(self.connections_per_five_minutes)),
            ("weight_per_minute", u64::from(self.weight_per_minute)),
            ("ban_seconds", self.ban_seconds),
        ]
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerSecond(rate) => write!(f, "{rate}"),
            Self::Max => f.write_str("max"),
        }
    }
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        text.parse().map(Self::PerSecond).map_err(|_| format!("expected trades per second or \"max\", got {text:?}"))
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::PerSecond(rate) => serializer.serialize_u64(*rate),
            Self::Max => serializer.serialize_str("max"),
        }
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected trades per second or \"max\"")]
        enum Either {
            Number(u64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(rate) => Ok(Self::PerSecond(rate)),
            Either::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_work_and_unknown_keys_are_errors() {
        SimConfig::default().validate().unwrap();
        let config: SimConfig = serde_json::from_str(r#"{"rate":"max","limit":100000}"#).unwrap();
        assert_eq!((config.rate, config.limit), (Rate::Max, Some(100_000)));
        let again = serde_json::to_value(&config).unwrap();
        assert_eq!(serde_json::from_value::<SimConfig>(again).unwrap(), config);
        assert!(serde_json::from_str::<SimConfig>(r#"{"rates":1}"#).is_err());
        assert!(serde_json::from_str::<SimConfig>(r#"{"rate":"fast"}"#).is_err());
    }

    #[test]
    fn all_findings_are_reported_together() {
        let mut config = SimConfig { rate: Rate::PerSecond(0), ping_ms: 0, epoch_ms: Some(17), ..SimConfig::default() };
        config.symbols[0].price = "1e5".to_owned();
        config.symbols[1].symbol = config.symbols[0].symbol.clone();
        let Err(SimError::Config(findings)) = config.validate() else { panic!("expected findings") };
        assert_eq!(findings.len(), 5, "{findings:?}");
    }

    #[test]
    fn any_symbol_has_a_market() {
        for name in ["BTCUSDT", "币安人生USDT", "1000SATSUSDT"] {
            let config = SimConfig::default().with_symbols(&[name.parse().unwrap()]);
            config.validate().unwrap();
        }
    }
}
