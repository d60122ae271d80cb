//! Pauses between attempts: doubling, capped, with a jitter that a seed decides.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// The pauses of one operation.
pub struct Backoff {
    next: Duration,
    longest: Duration,
    rng: SmallRng,
}

impl Backoff {
    /// Pauses from `shortest` to `longest`. Different names give different jitter, the same name the same.
    pub fn new((shortest, longest): (Duration, Duration), name: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self { next: shortest, longest, rng: SmallRng::seed_from_u64(hasher.finish()) }
    }

    /// Pauses: between half of the current length and all of it.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.length()).await;
    }

    fn length(&mut self) -> Duration {
        let length = self.next.mul_f64(self.rng.random_range(0.5..=1.0));
        self.next = (self.next * 2).min(self.longest);
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_repeat_for_the_same_name() {
        let limits = (Duration::from_millis(100), Duration::from_secs(1));
        let lengths = |name: &str| {
            let mut backoff = Backoff::new(limits, name);
            (0..10).map(|_| backoff.length()).collect::<Vec<_>>()
        };
        let first = lengths("run-1");
        assert!(first[0] >= limits.0 / 2 && first[0] <= limits.0);
        assert!(first[9] >= limits.1 / 2 && first[9] <= limits.1);
        assert_eq!(first, lengths("run-1"));
        assert_ne!(first, lengths("run-2"));
    }
}
