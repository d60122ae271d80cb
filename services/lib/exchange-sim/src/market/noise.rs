//! Seeded randomness that never changes: the market's bytes must be the same in every build, which
//! a library's generator does not promise. Integers only.

/// Steps of the generator: 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of splitmix64: every input bit reaches every output bit.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number drawn by `number` in the sequence `seed`.
pub(crate) const fn hash(seed: u64, number: u64) -> u64 {
    mix(seed ^ mix(number.wrapping_add(1).wrapping_mul(GOLDEN)))
}

/// A number drawn by a text.
pub(crate) fn hash_text(text: &str) -> u64 {
    text.bytes().fold(GOLDEN, |sum, byte| hash(sum, u64::from(byte)))
}

/// A sequence of draws: splitmix64.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64, number: u64) -> Self {
        Self(hash(seed, number))
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `bound`, which must not be zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }

    pub(crate) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    /// A draw from a distribution given by its quantiles: (where in 1,024, value), ascending.
    pub(crate) fn quantile(&mut self, table: &[(u64, u64)]) -> u64 {
        let drawn = self.draw();
        // The upper bits choose the place, in units of 2^-20 of the table's unit.
        quantile(table, drawn >> 34)
    }
}

/// The value of a distribution at `place`, of 2^30.
fn quantile(table: &[(u64, u64)], place: u64) -> u64 {
    let above = table.partition_point(|(at, _)| (at << 20) <= place).clamp(1, table.len() - 1);
    let ((from, low), (to, high)) = (table[above - 1], table[above]);
    let part = place.saturating_sub(from << 20);
    low + (u128::from(high - low) * u128::from(part) / u128::from((to - from) << 20)) as u64
}

/// A line through seeded points `period` apart, within `amplitude` of zero.
pub(crate) fn wave(seed: u64, at: u64, period: u64, amplitude: i64) -> i64 {
    let point = |number: u64| {
        let width = 2 * amplitude.unsigned_abs() + 1;
        Dice::new(seed, number).below(width) as i64 - amplitude
    };
    let (number, part) = (at / period, at % period);
    let (from, to) = (point(number), point(number + 1));
    from + (i128::from(to - from) * i128::from(part) / i128::from(period)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_never_change() {
        // The known first values of splitmix64 from state 0.
        let mut dice = Dice(0);
        assert_eq!(dice.draw(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(dice.draw(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn a_distribution_is_what_its_quantiles_say() {
        let table = [(0, 10), (512, 20), (1024, 120)];
        assert_eq!([0, 1 << 28, 1 << 29, (1 << 30) - 1].map(|place| quantile(&table, place)), [10, 15, 20, 119]);
    }

    #[test]
    fn a_wave_is_continuous_and_bounded() {
        let heights: Vec<i64> = (0..10_000).map(|at| wave(7, at, 100, 1_000)).collect();
        assert!(heights.iter().all(|height| height.abs() <= 1_000));
        assert!(heights.windows(2).all(|pair| (pair[1] - pair[0]).abs() <= 21));
        assert!(heights.iter().max() > heights.iter().min());
    }
}
