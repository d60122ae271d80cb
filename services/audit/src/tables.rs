//! What the tables hold.

use domain::{Symbol, Timestamp, TradeRow};
use ports::{PortError, TableQuery};

use crate::insist;

/// How many rows are read at once.
const PAGE: usize = 5_000;

/// Calls `each` with every stored trade of a symbol and hour.
///
/// # Errors
/// If the tables cannot be read.
pub async fn for_each_trade(
    query: &dyn TableQuery,
    symbol: &Symbol,
    hour: Timestamp,
    mut each: impl FnMut(&TradeRow),
) -> Result<(), PortError> {
    let mut after = None;
    loop {
        let page = insist("read trades", || query.trades(symbol, hour, after, PAGE)).await?;
        page.iter().for_each(&mut each);
        after = page.last().map(|row| (row.trade.trade_time, row.trade.id));
        if page.len() < PAGE {
            return Ok(());
        }
    }
}
