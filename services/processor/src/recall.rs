//! What the tables know of an hour that is not in mind any more.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use domain::{DuplicatesRow, IdRange, IdSet, Symbol, Timestamp};
use ports::{CompletenessView, PortError, TableQuery, persist};

use crate::completeness::{Completeness, Hour};

/// How many rows are read at once when an hour is read back.
const PAGE: usize = 5_000;

const DAY: Duration = Duration::from_secs(86_400);

/// How many days around an hour the hours beside it are looked for.
const NEIGHBOUR_DAYS: u32 = 7;

/// Dropped duplicates by symbol and hour.
pub type Duplicates = BTreeMap<(Symbol, Timestamp), DuplicatesRow>;

/// Reads back from the tables.
pub struct Recall<'a>(pub &'a dyn TableQuery);

impl Recall<'_> {
    /// Reads an hour back if it is not in mind; of an old one also what is known of the hours beside it, on which its own
    /// count and the next one's depend. Then trades of it can be entered.
    ///
    /// # Errors
    /// If the tables refuse.
    pub async fn hour(
        &self,
        completeness: &mut Completeness,
        symbol: &Symbol,
        hour: Timestamp,
    ) -> Result<(), PortError> {
        let (is_known, lacks_follower) = (completeness.knows(symbol, hour), completeness.lacks_follower(symbol, hour));
        let mut recalled = Vec::new();
        if !is_known {
            let mut stored = self.stored_hour(symbol, hour).await?;
            if lacks_follower {
                stored.before = self.last_id_before(symbol, hour).await?;
            }
            recalled.push((hour, stored));
        }
        if lacks_follower {
            let follower = self.hour_after(symbol, hour).await?;
            let unknown = follower.filter(|follower| !completeness.knows(symbol, *follower));
            if let Some(follower) = unknown {
                recalled.push((follower, self.stored_hour(symbol, follower).await?));
            }
        }
        for (hour, stored) in recalled {
            completeness.restore(symbol, hour, stored);
        }
        if lacks_follower {
            completeness.followed(symbol, hour);
        }
        Ok(())
    }

    /// Reads the count of duplicates back if it is not in mind.
    ///
    /// # Errors
    /// If the tables refuse.
    pub async fn duplicates<'d>(
        &self,
        duplicates: &'d mut Duplicates,
        symbol: Symbol,
        hour: Timestamp,
    ) -> Result<&'d mut DuplicatesRow, PortError> {
        let place = match duplicates.entry((symbol.clone(), hour)) {
            Entry::Occupied(known) => return Ok(known.into_mut()),
            Entry::Vacant(place) => place,
        };
        let rows = self.completeness(&symbol, hour).await?;
        let stored = rows.into_iter().find(|row| row.hour == hour).and_then(|row| row.duplicates);
        Ok(place.insert(stored.unwrap_or(DuplicatesRow { symbol, hour, dropped: 0, version: -1 })))
    }

    /// The last id of the hour before, as the tables have it.
    async fn last_id_before(&self, symbol: &Symbol, hour: Timestamp) -> Result<Option<u64>, PortError> {
        for days in 0..=NEIGHBOUR_DAYS {
            let rows = self.completeness(symbol, hour.minus(DAY * days)).await?;
            let earlier = rows.into_iter().filter(|row| row.hour < hour).filter_map(|row| row.trades);
            if let Some(last) = earlier.last() {
                return Ok(Some(last.last_id));
            }
        }
        Ok(None)
    }

    /// The next hour that the tables know.
    async fn hour_after(&self, symbol: &Symbol, hour: Timestamp) -> Result<Option<Timestamp>, PortError> {
        for days in 0..=NEIGHBOUR_DAYS {
            let rows = self.completeness(symbol, hour.plus(DAY * days)).await?;
            let mut later = rows.into_iter().filter(|row| row.hour > hour && row.trades.is_some());
            if let Some(next) = later.next() {
                return Ok(Some(next.hour));
            }
        }
        Ok(None)
    }

    async fn completeness(&self, symbol: &Symbol, time: Timestamp) -> Result<Vec<CompletenessView>, PortError> {
        persist("read completeness", || self.0.completeness(symbol, time.day())).await
    }

    async fn stored_hour(&self, symbol: &Symbol, hour: Timestamp) -> Result<Hour, PortError> {
        let mut ids = IdSet::new();
        let mut after = None;
        loop {
            let page = persist("read hour", || self.0.trades(symbol, hour, after, PAGE)).await?;
            ids.extend(page.iter().map(|row| IdRange::one(row.trade.id)));
            after = page.last().map(|row| (row.trade.trade_time, row.trade.id));
            if page.len() < PAGE {
                break;
            }
        }
        let rows = self.completeness(symbol, hour).await?;
        let row = rows.into_iter().find(|row| row.hour == hour).and_then(|row| row.trades);
        let (late, counted_to) = row.map_or((0, -1), |row| (row.late, row.version));
        Ok(Hour { ids, late, counted_to, ..Hour::default() })
    }
}
