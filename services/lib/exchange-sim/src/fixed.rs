//! Prices and quantities as the exchange writes them: eight decimals, exact.

use std::fmt;

use domain::Decimal;

/// Decimals of every price and quantity on the wire.
pub(crate) const DECIMALS: u8 = 8;

/// A number in units of 10^-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fixed(pub u64);

impl Fixed {
    /// `units / 10^decimals`; `None` if it has more than eight decimals or does not fit.
    pub(crate) fn from_units(units: u64, decimals: u8) -> Option<Self> {
        units.checked_mul(scale(decimals)?).map(Self)
    }

    /// From decimal text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let decimal: Decimal = text.parse().ok()?;
        u64::try_from(decimal.mantissa_at(DECIMALS)?).ok().map(Self)
    }

    /// How many units of `10^-decimals` it has; `None` if digits would be lost.
    pub(crate) fn units(self, decimals: u8) -> Option<u64> {
        let scale = scale(decimals)?;
        self.0.is_multiple_of(scale).then_some(self.0 / scale)
    }

    /// As the vocabulary's exact decimal, with eight decimals.
    pub fn decimal(self) -> Decimal {
        Decimal::new(i128::from(self.0), DECIMALS).expect("eight decimals are in range")
    }
}

/// How many units of 10^-8 a unit of `10^-decimals` has.
pub(crate) fn scale(decimals: u8) -> Option<u64> {
    Some(10_u64.pow(u32::from(DECIMALS.checked_sub(decimals)?)))
}

impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = 10_u64.pow(u32::from(DECIMALS));
        write!(f, "{}.{:08}", self.0 / unit, self.0 % unit)
    }
}
