//! What the trades entered lately were, to tell a repeated trade from another one of the same id.

use std::hash::{DefaultHasher, Hash, Hasher};

use domain::Trade;

/// How many ids of a symbol are remembered. Sockets that overlap repeat the latest seconds; of older
/// ids the log keeps what it has, whatever comes.
const REMEMBERED: u64 = 4096;

/// A print of what the exchange said of a trade, by every road and in every format: the event's own time is not in
/// all of them, nor are microseconds.
pub fn print_of(trade: &Trade) -> u64 {
    let mut hasher = DefaultHasher::new();
    (trade.price, trade.quantity, trade.trade_time.micros() / 1_000, trade.buyer_is_maker).hash(&mut hasher);
    hasher.finish()
}

/// The prints of one symbol's latest trades, each in the place of its id.
#[derive(Clone, Debug, Default)]
pub struct Recent(Vec<Option<(u64, u64)>>);

impl Recent {
    /// Notes a trade.
    pub fn note(&mut self, id: u64, print: u64) {
        let place = place(id);
        if self.0.len() <= place {
            self.0.resize(place + 1, None);
        }
        self.0[place] = Some((id, print));
    }

    /// Whether the id was noted lately with another print.
    pub fn contradicts(&self, id: u64, print: u64) -> bool {
        self.0.get(place(id)).copied().flatten().is_some_and(|(known, noted)| known == id && noted != print)
    }
}

fn place(id: u64) -> usize {
    usize::try_from(id % REMEMBERED).expect("a small number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_remembered_is_contradicted() {
        let mut recent = Recent::default();
        assert!(!recent.contradicts(7, 1));
        recent.note(7, 1);
        assert!(!recent.contradicts(7, 1) && recent.contradicts(7, 2));
        assert!(!recent.contradicts(7 + REMEMBERED, 2));
        recent.note(7 + REMEMBERED, 3);
        assert!(!recent.contradicts(7, 2));
    }
}
