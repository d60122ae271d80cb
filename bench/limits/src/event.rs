//! Trade events: made, and read with as little ado as serde_json allows.

use anyhow::Context;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Amount;
use crate::meter::Meter;

/// Digits behind the point in prices and quantities, as the exchange writes them.
pub const SCALE: u32 = 8;

const UNIT: u64 = 10_u64.pow(SCALE);

/// Digits behind the point in the lake.
const LAKE_SCALE: u32 = 18;

/// A market that issues trades of several symbols in turn, ids without a gap.
pub struct Tape {
    symbols: Vec<Listing>,
    issued: u64,
    sums: Sums,
    random: SmallRng,
}

struct Listing {
    name: String,
    next: u64,
    price: u64,
}

impl Tape {
    /// A market of so many symbols.
    pub fn of(symbols: usize) -> Self {
        let listing = |n| Listing { name: format!("S{n:04}USDT"), next: 1_000_000, price: (n as u64 % 97 + 1) * UNIT };
        Self {
            symbols: (0..symbols).map(listing).collect(),
            issued: 0,
            sums: Sums::default(),
            random: SmallRng::seed_from_u64(7),
        }
    }

    /// Writes the next event; returns its symbol's number and name.
    pub fn issue(&mut self, time_ms: i64, event: &mut String) -> (usize, &str) {
        use std::fmt::Write;
        let nth = (self.issued % self.symbols.len() as u64) as usize;
        self.issued += 1;
        let listing = &mut self.symbols[nth];
        let id = listing.next;
        listing.next += 1;
        let step = UNIT / 1_000;
        listing.price = (listing.price + self.random.random_range(0..=2) * step).saturating_sub(step).max(step);
        let (price, quantity) = (listing.price, self.random.random_range(1..100_000_u64) * (UNIT / 100_000));
        let sums = self.sums.add((price.into(), SCALE), (quantity.into(), SCALE));
        sums.expect("the lake has more digits");
        event.clear();
        write!(
            event,
            r#"{{"e":"trade","E":{},"s":"{}","t":{id},"p":"{}.{:08}","q":"{}.{:08}","T":{time_ms},"m":{},"M":true}}"#,
            time_ms + 1,
            listing.name,
            price / UNIT,
            price % UNIT,
            quantity / UNIT,
            quantity % UNIT,
            id.is_multiple_of(3),
        )
        .expect("text takes what is written");
        (nth, &self.symbols[nth].name)
    }

    /// Of all that it has issued.
    pub fn sums(&self) -> Sums {
        self.sums
    }
}

/// A trade event, read in place.
#[derive(Deserialize)]
pub struct Event<'a> {
    #[serde(rename = "s")]
    pub symbol: &'a str,
    #[serde(rename = "t")]
    pub id: i64,
    #[serde(rename = "p")]
    pub price: &'a str,
    #[serde(rename = "q")]
    pub quantity: &'a str,
    #[serde(rename = "T")]
    pub time_ms: i64,
    #[serde(rename = "E")]
    pub event_ms: i64,
    #[serde(rename = "m")]
    pub buyer_is_maker: bool,
}

impl<'a> Event<'a> {
    /// # Errors
    /// If it is none.
    pub fn read(bytes: &'a [u8]) -> anyhow::Result<Self> {
        serde_json::from_slice(bytes).context("a trade event")
    }
}

/// The digits of a number with [`SCALE`] digits behind the point.
///
/// # Errors
/// If it is no such number.
pub fn digits(text: &str) -> anyhow::Result<i64> {
    let (whole, rest) = text.split_once('.').context("a number with a point")?;
    anyhow::ensure!(rest.len() == SCALE as usize, "expected {SCALE} digits behind the point, got {text:?}");
    Ok(whole.parse::<i64>()? * UNIT as i64 + rest.parse::<i64>()?)
}

/// The digits of a number at the scale of the lake.
///
/// # Errors
/// If it is no number, or has more digits behind the point.
pub fn lake_digits(text: &str) -> anyhow::Result<i128> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let missing = LAKE_SCALE.checked_sub(rest.len() as u32).with_context(|| format!("too many digits in {text:?}"))?;
    let fraction = if rest.is_empty() { 0 } else { rest.parse::<i128>()? };
    Ok(whole.parse::<i128>()? * 10_i128.pow(LAKE_SCALE) + fraction * 10_i128.pow(missing))
}

/// Sums of prices and of quantities, at the scale of the lake: what every store must come to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    price: i128,
    quantity: i128,
}

impl Sums {
    /// Adds a trade's digits, so many of them behind the point.
    ///
    /// # Errors
    /// If there are more than the lake has.
    pub fn add(&mut self, price: (i128, u32), quantity: (i128, u32)) -> anyhow::Result<()> {
        let at_lake = |(digits, scale): (i128, u32)| {
            let missing = LAKE_SCALE.checked_sub(scale).context("too many digits behind the point")?;
            digits.checked_mul(10_i128.pow(missing)).context("a number too large")
        };
        self.price += at_lake(price)?;
        self.quantity += at_lake(quantity)?;
        Ok(())
    }

    /// As text: JSON's numbers would be rounded.
    pub fn json(self) -> Value {
        json!({ "price": self.price.to_string(), "quantity": self.quantity.to_string() })
    }
}

/// Parses events that are in memory.
///
/// # Errors
/// If one cannot be read.
pub fn parse_all(amount: &Amount) -> anyhow::Result<Value> {
    let mut tape = Tape::of(amount.symbols);
    let mut event = String::new();
    let sample: Vec<String> = (0..100_000)
        .map(|n| {
            tape.issue(1_700_000_000_000 + n, &mut event);
            event.clone()
        })
        .collect();
    let mut meter = Meter::of(amount.trades);
    let mut sum = 0_i64;
    while !meter.is_done() {
        for text in &sample {
            let event = Event::read(text.as_bytes())?;
            sum = sum.wrapping_add(event.id ^ digits(event.price)? ^ digits(event.quantity)?);
        }
        meter.add(sample.len() as u64);
    }
    std::hint::black_box(sum);
    meter.line()
}
