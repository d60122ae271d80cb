//! How long a pause between frames is normal.

use std::time::Duration;

/// Frames closer together than this count as one: a burst says nothing about pauses.
const ONE_ARRIVAL: Duration = Duration::from_millis(100);

/// No pause longer than this is normal for a connection.
const CEILING: Duration = Duration::from_secs(15 * 60);

/// What the streams of one connection taught us about their pauses, across reconnections.
#[derive(Debug)]
pub(crate) struct Rhythm {
    floor: Duration,
    factor: u32,
    /// Smoothed pause between frames, in seconds.
    usual: Option<f64>,
    /// Connections given up for silence since the last frame: each doubles our patience, since
    /// quiet markets are quiet on every connection.
    given_up: u32,
}

impl Rhythm {
    pub(crate) fn new(floor: Duration, factor: u32) -> Self {
        Self { floor, factor, usual: None, given_up: 0 }
    }

    /// Whether a pause is long enough to be learned from.
    pub(crate) fn counts(pause: Duration) -> bool {
        pause >= ONE_ARRIVAL
    }

    /// Learns from a frame that came after `pause`. The estimate rises fast and falls slowly, so
    /// that a busy minute does not make an ordinary pause look like a dead connection.
    pub(crate) fn frame_after(&mut self, pause: Duration) {
        self.given_up = 0;
        let pause = pause.as_secs_f64();
        self.usual = Some(match self.usual {
            None => pause,
            Some(usual) => usual + if pause > usual { 0.2 } else { 0.02 } * (pause - usual),
        });
    }

    /// Learns that a connection was given up for silence.
    pub(crate) fn given_up(&mut self) {
        self.given_up = self.given_up.saturating_add(1);
    }

    /// The silence after which a connection is given up.
    pub(crate) fn threshold(&self) -> Duration {
        let ceiling = CEILING.max(self.floor);
        let learned = self.usual.unwrap_or(0.0) * f64::from(self.factor);
        let learned = Duration::from_secs_f64(learned.min(ceiling.as_secs_f64()));
        let patience = 1_u32.checked_shl(self.given_up).unwrap_or(u32::MAX);
        self.floor.max(learned).saturating_mul(patience).min(ceiling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: Duration = Duration::from_secs(20);

    #[test]
    fn adapts_to_the_connections_own_rate() {
        let mut rhythm = Rhythm::new(FLOOR, 20);
        assert_eq!(rhythm.threshold(), FLOOR);
        for _ in 0..100 {
            rhythm.frame_after(Duration::from_millis(150));
        }
        assert_eq!(rhythm.threshold(), FLOOR, "a busy stream is judged by the floor");
        for _ in 0..100 {
            rhythm.frame_after(Duration::from_secs(10));
        }
        let quiet = rhythm.threshold();
        assert!(quiet > Duration::from_secs(190) && quiet <= Duration::from_secs(200), "{quiet:?}");
        for _ in 0..5 {
            rhythm.frame_after(Duration::from_millis(150));
        }
        assert!(rhythm.threshold() > Duration::from_secs(170), "a short burst changes little");
        rhythm.frame_after(Duration::from_secs(100_000));
        assert_eq!(rhythm.threshold(), CEILING);
    }

    #[test]
    fn patience_doubles_while_nothing_comes() {
        let mut rhythm = Rhythm::new(FLOOR, 20);
        let mut seconds = Vec::new();
        for _ in 0..8 {
            seconds.push(rhythm.threshold().as_secs());
            rhythm.given_up();
        }
        assert_eq!(seconds, [20, 40, 80, 160, 320, 640, 900, 900]);
        rhythm.frame_after(Duration::from_millis(100));
        assert_eq!(rhythm.threshold(), FLOOR);
    }
}
