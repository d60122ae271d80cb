//! Exact decimal numbers: money goes from text to decimal to storage to text, never through
//! floating point.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Div, Rem};
use std::str::FromStr;

/// The scale of every price and quantity in the archive: `decimal(38,18)`.
pub const LAKE_SCALE: u8 = 18;

/// The precision of every price and quantity in the archive: `decimal(38,18)`.
pub const LAKE_PRECISION: u8 = 38;

/// The largest scale that a product of two parsed decimals can have.
const MAX_SCALE: u8 = 2 * LAKE_SCALE;

/// An exact decimal: `mantissa / 10^scale`.
///
/// The scale is kept as it was written (`0.02000000` prints as `0.02000000`), while comparison
/// and hashing go by value (`0.02 == 0.020`).
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    mantissa: i128,
    scale: u8,
}

/// Why a text is not a decimal that fulltape can keep exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Not `[-]digits[.digits]`. Exponents, `NaN` and signs other than `-` are not accepted.
    #[error("expected digits with at most one point")]
    NotANumber,
    /// More than 18 decimals or more than 20 digits before the point.
    #[error("does not fit decimal(38,18)")]
    OutOfRange,
}

impl Decimal {
    /// Zero.
    pub const ZERO: Self = Self { mantissa: 0, scale: 0 };

    /// `mantissa / 10^scale`; `None` if the scale is beyond what a product of two lake decimals has.
    pub fn new(mantissa: i128, scale: u8) -> Option<Self> {
        (scale <= MAX_SCALE).then_some(Self { mantissa, scale })
    }

    /// The digits without the point.
    pub fn mantissa(self) -> i128 {
        self.mantissa
    }

    /// How many of the digits stand behind the point.
    pub fn scale(self) -> u8 {
        self.scale
    }

    /// Whether the value is greater than zero.
    pub fn is_positive(self) -> bool {
        self.mantissa > 0
    }

    /// The mantissa this value has at `scale`, or `None` if digits would be lost.
    pub fn mantissa_at(self, scale: u8) -> Option<i128> {
        match scale.cmp(&self.scale) {
            Ordering::Equal => Some(self.mantissa),
            Ordering::Greater => self.mantissa.checked_mul(pow10(scale - self.scale)?),
            Ordering::Less => {
                let unit = pow10(self.scale - scale)?;
                (self.mantissa % unit == 0).then_some(self.mantissa / unit)
            }
        }
    }

    /// Exact sum, or `None` on overflow.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let scale = self.scale.max(other.scale);
        let mantissa = self.mantissa_at(scale)?.checked_add(other.mantissa_at(scale)?)?;
        Some(Self { mantissa, scale })
    }

    /// Exact product, or `None` on overflow.
    pub fn checked_mul(self, other: Self) -> Option<Self> {
        let scale = self.scale + other.scale;
        let mantissa = self.mantissa.checked_mul(other.mantissa)?;
        Self::new(mantissa, scale)
    }

    /// The same value without zeros at the end.
    pub fn normalized(self) -> Self {
        // Division of 128 bits costs several times that of 64, and prices hardly ever need it.
        match i64::try_from(self.mantissa) {
            Ok(mantissa) => {
                let (mantissa, scale) = without_zeros(mantissa, self.scale, 10);
                Self { mantissa: i128::from(mantissa), scale }
            }
            Err(_) => {
                let (mantissa, scale) = without_zeros(self.mantissa, self.scale, 10);
                Self { mantissa, scale }
            }
        }
    }
}

fn without_zeros<N>(mut mantissa: N, mut scale: u8, ten: N) -> (N, u8)
where
    N: Copy + Default + PartialEq + Div<Output = N> + Rem<Output = N>,
{
    while scale > 0 && mantissa % ten == N::default() {
        mantissa = mantissa / ten;
        scale -= 1;
    }
    (mantissa, scale)
}

/// Powers of ten that 128 bits hold.
const POWERS: [i128; 39] = {
    let mut powers = [1; 39];
    let mut exponent = 1;
    while exponent < powers.len() {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

fn pow10(exponent: u8) -> Option<i128> {
    POWERS.get(usize::from(exponent)).copied()
}

/// Texts of up to so many characters have a mantissa of 64 bits, and fit the lake if their scale does.
const SHORT: usize = 19;

impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, scale) = if digits.len() <= SHORT {
            let (mantissa, scale) = read(digits, 0_u64, |mantissa, digit| Some(mantissa * 10 + u64::from(digit)))?;
            (i128::from(mantissa), scale)
        } else {
            read(digits, 0_i128, |mantissa, digit| mantissa.checked_mul(10)?.checked_add(i128::from(digit)))?
        };
        let parsed = Self { mantissa: if negative { -mantissa } else { mantissa }, scale };
        let fits = |at_lake_scale: i128| at_lake_scale.abs() < POWERS[usize::from(LAKE_PRECISION)];
        if digits.len() <= SHORT || parsed.mantissa_at(LAKE_SCALE).is_some_and(fits) {
            Ok(parsed)
        } else {
            Err(DecimalError::OutOfRange)
        }
    }
}

/// Digits with at most one point between them, as mantissa and scale.
fn read<M>(digits: &str, zero: M, push: impl Fn(M, u8) -> Option<M>) -> Result<(M, u8), DecimalError> {
    let (mut mantissa, mut seen, mut point) = (zero, 0_usize, None);
    for byte in digits.bytes() {
        match byte {
            b'0'..=b'9' => {
                seen += 1;
                mantissa = push(mantissa, byte - b'0').ok_or(DecimalError::OutOfRange)?;
            }
            b'.' if point.is_none() && seen > 0 => point = Some(seen),
            _ => return Err(DecimalError::NotANumber),
        }
    }
    let decimals = seen - point.unwrap_or(seen);
    if seen == 0 || (point.is_some() && decimals == 0) {
        return Err(DecimalError::NotANumber);
    }
    let scale = u8::try_from(decimals).ok().filter(|scale| *scale <= LAKE_SCALE);
    scale.map(|scale| (mantissa, scale)).ok_or(DecimalError::OutOfRange)
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let digits = self.mantissa.unsigned_abs().to_string();
        let scale = usize::from(self.scale);
        if scale == 0 {
            return write!(f, "{sign}{digits}");
        }
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        write!(f, "{sign}{whole}.{fraction}")
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.normalized(), other.normalized());
        a.mantissa == b.mantissa && a.scale == b.scale
    }
}

impl Eq for Decimal {}

impl Hash for Decimal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let normal = self.normalized();
        normal.mantissa.hash(state);
        normal.scale.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keeps_the_scale_it_was_written_with() {
        for text in ["0.02000000", "61837.63000000", "0", "0.0", "-1.50", "5", "0.000000000000000001"] {
            assert_eq!(text.parse::<Decimal>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_it_cannot_keep_exactly() {
        for text in ["", "-", ".", "1.", ".5", "1e5", "NaN", "inf", "+1", "1.2.3", "1,5", " 1", "0x1", "١"] {
            assert_eq!(text.parse::<Decimal>(), Err(DecimalError::NotANumber), "{text:?}");
        }
        for text in ["0.0000000000000000001", "100000000000000000000", &"9".repeat(60)] {
            assert_eq!(text.parse::<Decimal>(), Err(DecimalError::OutOfRange), "{text:?}");
        }
        assert!("99999999999999999999.999999999999999999".parse::<Decimal>().is_ok());
    }

    #[test]
    fn compares_by_value() {
        let parse = |text: &str| text.parse::<Decimal>().unwrap();
        assert_eq!(parse("0.02"), parse("0.02000000"));
        assert_ne!(parse("0.02"), parse("0.2"));
    }

    #[test]
    fn multiplies_exactly() {
        let price: Decimal = "61837.63000000".parse().unwrap();
        let quantity: Decimal = "0.02000000".parse().unwrap();
        assert_eq!(price.checked_mul(quantity).unwrap().normalized().to_string(), "1236.7526");
    }

    proptest! {
        #[test]
        fn text_round_trips(mantissa in -10_i128.pow(20)..10_i128.pow(20), scale in 0_u8..=18) {
            let decimal = Decimal::new(mantissa, scale).unwrap();
            let again: Decimal = decimal.to_string().parse().unwrap();
            prop_assert_eq!((again.mantissa(), again.scale()), (mantissa, scale));
        }

        #[test]
        fn zeros_at_the_end_change_nothing(mantissa in -10_i128.pow(26)..10_i128.pow(26), short in any::<i32>(), zeros in 0_u8..=10) {
            for mantissa in [mantissa, i128::from(short)] {
                let plain = Decimal::new(mantissa, 8).unwrap().normalized();
                let padded = Decimal::new(mantissa * 10_i128.pow(u32::from(zeros)), 8 + zeros).unwrap().normalized();
                prop_assert_eq!((plain.mantissa(), plain.scale()), (padded.mantissa(), padded.scale()));
                prop_assert!(plain.scale() == 0 || plain.mantissa() % 10 != 0);
            }
        }

        #[test]
        fn the_lake_scale_keeps_the_value(mantissa in 0_i128..10_i128.pow(20), scale in 0_u8..=18) {
            let decimal = Decimal::new(mantissa, scale).unwrap();
            let stored = Decimal::new(decimal.mantissa_at(LAKE_SCALE).unwrap(), LAKE_SCALE).unwrap();
            prop_assert_eq!(stored, decimal);
            prop_assert_eq!(stored.mantissa_at(scale), Some(mantissa));
        }

        #[test]
        fn addition_agrees_with_integers(a in -10_i128.pow(30)..10_i128.pow(30), b in -10_i128.pow(30)..10_i128.pow(30)) {
            let sum = Decimal::new(a, 8).unwrap().checked_add(Decimal::new(b, 8).unwrap()).unwrap();
            prop_assert_eq!(sum.mantissa(), a + b);
        }
    }
}
