//! What every [`Tables`] does, as seen through [`TableQuery`].

use domain::ledger::GapState;
use domain::{
    CompletenessRow, Decimal, DuplicatesRow, GapRow, IdRange, Origin, Position, Symbol, Timestamp, TopicPartition,
    Trade, TradeRow,
};

use super::{done, refused, unique};
use crate::{Checkpoint, CompletenessView, TableQuery, Tables};

/// 2024-08-08T23:00:00Z.
const HOUR: i64 = 1_723_158_000_000_000;
const MICROS_PER_HOUR: i64 = 3_600_000_000;
/// Rows in one call: what fits a batch of any store.
const BATCH: usize = 40;

/// All cases, one after the other.
pub async fn suite(tables: &dyn Tables, query: &dyn TableQuery) {
    trades_come_back_exactly(tables, query).await;
    trades_written_twice_are_there_once(tables, query).await;
    trades_of_several_partitions(tables, query).await;
    trades_come_in_order_and_pages(tables, query).await;
    mended_trades_are_right(tables, query).await;
    nothing_is_fine(tables, query).await;
    gaps_never_go_back(tables, query).await;
    completeness_never_goes_back(tables, query).await;
    completeness_parts_are_independent(tables, query).await;
    checkpoints_come_back(tables, query).await;
    checkpoints_never_go_back(tables, query).await;
}

/// Microseconds, digits of decimals, absent event times, origins: all as they were written.
pub async fn trades_come_back_exactly(tables: &dyn Tables, query: &dyn TableQuery) {
    let symbol = fresh("币安人生");
    let numbers = [
        ("61837.63000000", "0.02000000"),
        ("0.000000000000000001", "99999999999999999999.999999999999999999"),
        ("1", "0.1"),
        ("1.000000000000000000", "5"),
        ("12345678901234567890.5", "0.00000001"),
    ];
    let mut rows = Vec::new();
    for (n, (price, quantity)) in (0_i64..).zip(numbers) {
        let mut row = trade(&symbol, 100 + n.unsigned_abs(), HOUR + n * 1_000 + 7 * n);
        row.trade.price = decimal(price);
        row.trade.quantity = decimal(quantity);
        row.trade.event_time = (n % 2 == 0).then(|| Timestamp::from_micros(HOUR + n * 1_000 + 613));
        row.trade.buyer_is_maker = n % 2 == 1;
        row.origin = [Origin::Live, Origin::Backfill, Origin::Replay][rows.len() % 3];
        row.received_at = Timestamp::from_micros(HOUR + MICROS_PER_HOUR * 30 + n);
        rows.push(row);
    }
    rows.push(trade(&symbol, i64::MAX.unsigned_abs(), HOUR + MICROS_PER_HOUR - 1));
    done(tables.write_trades(&rows).await, "write trades");
    let found = all_trades(query, &symbol, HOUR).await;
    same_trades(&found, &rows, "trades come back exactly");
}

/// Writing a batch again, or another that overlaps it, changes nothing.
pub async fn trades_written_twice_are_there_once(tables: &dyn Tables, query: &dyn TableQuery) {
    let symbol = fresh("TWICE");
    let rows: Vec<TradeRow> = (0..30).map(|n| trade(&symbol, 1_000 + n, HOUR + 5_000_000)).collect();
    for part in [&rows[..20], &rows[..20], &rows[10..], &rows[..]] {
        done(tables.write_trades(part).await, "write trades");
    }
    same_trades(&all_trades(query, &symbol, HOUR).await, &rows, "overlapping batches leave each trade once");
}

/// Trades of several symbols and hours may come together; what is mended is of one.
pub async fn trades_of_several_partitions(tables: &dyn Tables, query: &dyn TableQuery) {
    let (symbol, other) = (fresh("MIXED"), fresh("OTHER"));
    let rows = [
        trade(&symbol, 1, HOUR + MICROS_PER_HOUR - 1),
        trade(&other, 1, HOUR),
        trade(&symbol, 2, HOUR + MICROS_PER_HOUR),
        trade(&other, 2, HOUR),
    ];
    done(tables.write_trades(&rows).await, "write trades of two symbols and hours");
    same_trades(&all_trades(query, &symbol, HOUR).await, &rows[..1], "the first hour");
    same_trades(&all_trades(query, &symbol, HOUR + MICROS_PER_HOUR).await, &rows[2..3], "the second hour");
    same_trades(&all_trades(query, &other, HOUR).await, &[rows[1].clone(), rows[3].clone()], "the other symbol");
    refused(tables.mend_trades(&[], &rows[..2], at(HOUR)).await, "mend trades of two symbols");
    refused(tables.mend_trades(&rows[..1], &rows[2..3], at(HOUR)).await, "mend trades of two hours");
}

/// In order of (millisecond, id), in pages of any size, of this hour and symbol only.
pub async fn trades_come_in_order_and_pages(tables: &dyn Tables, query: &dyn TableQuery) {
    let (symbol, other) = (fresh("PAGES"), fresh("PAGESB"));
    let mut rows = Vec::new();
    // 150 trades of one millisecond, in which a later id has an earlier microsecond.
    rows.extend((0..150_i64).map(|n| trade(&symbol, 5_000 + n.unsigned_abs(), HOUR + 80_000_000 + 999 - n)));
    rows.extend((0..20_i64).map(|n| trade(&symbol, 6_000 + n.unsigned_abs(), HOUR + 81_000_000 + n * 777)));
    // A later id with an earlier time, as exchanges sometimes have it.
    rows.push(trade(&symbol, 7_000, HOUR));
    rows.push(trade(&symbol, 4_000, HOUR + MICROS_PER_HOUR - 1));
    let mut shuffled = rows.clone();
    shuffled.sort_by_key(|row| (row.trade.id.wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 32);
    for batch in shuffled.chunks(BATCH) {
        done(tables.write_trades(batch).await, "write trades");
    }
    done(tables.write_trades(&[trade(&other, 1, HOUR + 80_000_000)]).await, "write another symbol");
    let neighbours = [(8_000, HOUR + MICROS_PER_HOUR), (3_000, HOUR - 1)];
    for (id, time) in neighbours {
        done(tables.write_trades(&[trade(&symbol, id, time)]).await, "write another hour");
    }

    rows.sort_by_key(|row| (row.trade.trade_time.millis(), row.trade.id));
    same_trades(&all_trades(query, &symbol, HOUR).await, &rows, "order of (millisecond, id)");
    for limit in [1, 7, 100, rows.len(), rows.len() + 1] {
        same_trades(&paged(query, &symbol, limit).await, &rows, &format!("in pages of {limit}"));
    }
    let next_hour = all_trades(query, &symbol, HOUR + MICROS_PER_HOUR).await;
    assert_eq!(next_hour.len(), 1, "the first microsecond of the next hour is of the next hour");
    let last = rows.last().map(|row| (row.trade.trade_time, row.trade.id));
    let behind = done(query.trades(&symbol, at(HOUR), last, 10).await, "query behind the last");
    same_trades(&behind, &[], "nothing is behind the last trade");
}

/// A repair takes rows away, puts others in and replaces some; what was written the usual way before
/// does not come back.
pub async fn mended_trades_are_right(tables: &dyn Tables, query: &dyn TableQuery) {
    let symbol = fresh("MENDED");
    let rows: Vec<TradeRow> = (0..6).map(|n| trade(&symbol, 100 + n, HOUR + 7_000_000)).collect();
    let mut wrong = rows[1].clone();
    wrong.trade.price = decimal("0.5");
    wrong.trade.event_time = Some(Timestamp::from_micros(HOUR + 9_000_000));
    let surplus = trade(&symbol, 999, HOUR + 8_000_000);
    let stored = [rows[0].clone(), wrong.clone(), rows[3].clone(), surplus.clone()];
    done(tables.write_trades(&stored).await, "write trades, one wrong, one too many");
    assert_eq!(done(query.count_trades(&symbol, at(HOUR)).await, "count trades"), 4, "four rows");
    // Later than any write so far, by whatever clock it was stamped.
    let now = Timestamp::from_micros(4_000_000_000_000_000);
    let right = [rows[1].clone(), rows[2].clone()];
    done(tables.mend_trades(&[wrong, surplus.clone()], &right, now).await, "mend trades");
    same_trades(&all_trades(query, &symbol, HOUR).await, &rows[..4], "as they should be");
    assert_eq!(done(query.count_trades(&symbol, at(HOUR)).await, "count trades"), 4, "four rows again");
    done(tables.write_trades(&rows).await, "do it again");
    same_trades(&all_trades(query, &symbol, HOUR).await, &rows, "doing it again changes nothing");
    assert_eq!(done(query.count_trades(&symbol, at(HOUR + MICROS_PER_HOUR)).await, "count none"), 0, "none");
}

/// Writing no rows is fine, and reading what was never written finds nothing.
pub async fn nothing_is_fine(tables: &dyn Tables, query: &dyn TableQuery) {
    let symbol = fresh("NONE");
    done(tables.write_trades(&[]).await, "write no trades");
    done(tables.write_gaps(&[]).await, "write no gaps");
    done(tables.write_completeness(&[]).await, "write no completeness");
    done(tables.write_duplicates(&[]).await, "write no duplicates");
    same_trades(&all_trades(query, &symbol, HOUR).await, &[], "no trades");
    assert_eq!(done(query.gaps(&symbol).await, "query gaps"), [], "no gaps");
    assert_eq!(done(query.completeness(&symbol, at(HOUR).day()).await, "query completeness"), [], "no completeness");
}

/// Gaps come in order, and the highest version stays, in whatever order they are written.
pub async fn gaps_never_go_back(tables: &dyn Tables, query: &dyn TableQuery) {
    let symbol = fresh("GAPS");
    let open = gap(&symbol, 500, 510, GapState::Open, 0);
    let filled = gap(&symbol, 500, 507, GapState::Filled, 7);
    let refuted = gap(&symbol, 500, 510, GapState::Unfillable, 12);
    for (written, expected) in [
        (vec![open.clone()], [open.clone()]),
        (vec![filled.clone()], [filled.clone()]),
        (vec![open.clone()], [filled.clone()]),
        (vec![filled.clone()], [filled.clone()]),
        (vec![refuted.clone(), open.clone()], [refuted.clone()]),
        (vec![filled.clone()], [refuted.clone()]),
    ] {
        done(tables.write_gaps(&written).await, "write gaps");
        let found = done(query.gaps(&symbol).await, "query gaps");
        assert_eq!(found, expected, "the highest version of a gap stays, whole");
    }
    let others = [gap(&symbol, 900, 900, GapState::Open, 3), gap(&symbol, 20, 30, GapState::Filled, 4)];
    done(tables.write_gaps(&others).await, "write gaps");
    done(tables.write_gaps(&[gap(&fresh("OTHER"), 1, 2, GapState::Open, 1)]).await, "write another symbol's gap");
    let found = done(query.gaps(&symbol).await, "query gaps");
    assert_eq!(found, [others[1].clone(), refuted, others[0].clone()], "a symbol's gaps in order");
}

/// Completeness comes in order of hour, and the highest version stays.
pub async fn completeness_never_goes_back(tables: &dyn Tables, query: &dyn TableQuery) {
    let symbol = fresh("COMPLETE");
    let row = |hour, version| complete(&symbol, hour, version);
    done(tables.write_completeness(&[row(22, 5), row(3, 6)]).await, "write completeness");
    done(tables.write_completeness(&[row(22, 4), row(3, 9), row(24, 1), row(-1, 1)]).await, "write completeness");
    done(tables.write_completeness(&[row(3, 8)]).await, "write completeness");
    let found = completeness(query, &symbol).await;
    let expected: Vec<CompletenessView> = [row(3, 9), row(22, 5)]
        .map(|row| CompletenessView { hour: row.hour, trades: Some(row), duplicates: None })
        .into();
    assert_eq!(found, expected, "the day's hours in order, each in its highest version");
}

/// The two parts of a row have versions of their own, and neither touches the other.
pub async fn completeness_parts_are_independent(tables: &dyn Tables, query: &dyn TableQuery) {
    let symbol = fresh("PARTS");
    let dropped = |dropped, version| DuplicatesRow { symbol: symbol.clone(), hour: hour_of_day(1), dropped, version };
    let view = |trades, duplicates| CompletenessView { hour: hour_of_day(1), trades, duplicates };
    done(tables.write_duplicates(&[dropped(3, 1_000)]).await, "write duplicates");
    let found = completeness(query, &symbol).await;
    assert_eq!(found, [view(None, Some(dropped(3, 1_000)))], "duplicates alone");
    let trades = complete(&symbol, 1, 5);
    done(tables.write_completeness(std::slice::from_ref(&trades)).await, "write completeness");
    let both = [view(Some(trades.clone()), Some(dropped(3, 1_000)))];
    assert_eq!(completeness(query, &symbol).await, both, "completeness of a lower version beside duplicates");
    done(tables.write_duplicates(&[dropped(2, 999)]).await, "write duplicates");
    assert_eq!(completeness(query, &symbol).await, both, "duplicates never go back");
    done(tables.write_duplicates(&[dropped(4, 1_001)]).await, "write duplicates");
    let both = [view(Some(trades), Some(dropped(4, 1_001)))];
    assert_eq!(completeness(query, &symbol).await, both, "newer duplicates leave completeness alone");
}

/// State and outputs come back; roles and partitions are apart; what is missing is `None`.
pub async fn checkpoints_come_back(tables: &dyn Tables, query: &dyn TableQuery) {
    let (role, other, topic) = (unique("role-"), unique("role-"), unique("topic-"));
    let place = TopicPartition::new(topic.as_str(), 3);
    assert_eq!(load(query, &role, &place).await, None, "a checkpoint that was never saved");
    let outputs = (0..4).map(|n| Position { at: TopicPartition::new("crypto-features", n), offset: i64::MAX - 1 });
    let full = Checkpoint {
        role: role.clone(),
        next: Position { at: place.clone(), offset: 17 },
        state: (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect(),
        outputs: outputs.collect(),
    };
    let empty = checkpoint(&other, &place, 0, b"", 0);
    let elsewhere = checkpoint(&role, &TopicPartition::new(topic.as_str(), 4), 99, b"x", 1);
    for saved in [&full, &empty, &elsewhere] {
        done(tables.save_checkpoint(saved).await, "save a checkpoint");
    }
    for saved in [full, empty, elsewhere] {
        let found = load(query, &saved.role, &saved.next.at).await;
        assert!(found.as_ref() == Some(&saved), "a checkpoint comes back: {} {}", saved.role, saved.next.at);
    }
    assert_eq!(load(query, &other, &TopicPartition::new(topic.as_str(), 4)).await, None, "another role's checkpoint");
}

/// The checkpoint of the highest offset stays, whole.
pub async fn checkpoints_never_go_back(tables: &dyn Tables, query: &dyn TableQuery) {
    let (role, place) = (unique("role-"), TopicPartition::new(unique("topic-"), 0));
    let (old, new) = (checkpoint(&role, &place, 5, b"old and long", 3), checkpoint(&role, &place, 9, b"new", 1));
    for (saved, expected) in [(&old, &old), (&new, &new), (&old, &new), (&new, &new)] {
        done(tables.save_checkpoint(saved).await, "save a checkpoint");
        let found = load(query, &role, &place).await;
        assert_eq!(found.as_ref(), Some(expected), "the checkpoint of the highest offset stays, whole");
    }
}

fn fresh(prefix: &str) -> Symbol {
    unique(prefix).parse().expect("letters and digits in upper case are a symbol")
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn hour_of_day(hour: i64) -> Timestamp {
    at(at(HOUR).day().micros() + hour * MICROS_PER_HOUR)
}

fn decimal(text: &str) -> Decimal {
    text.parse().expect("a decimal")
}

fn trade(symbol: &Symbol, id: u64, micros: i64) -> TradeRow {
    let trade = Trade {
        symbol: symbol.clone(),
        id,
        price: decimal("61837.63000000"),
        quantity: decimal("0.02000000"),
        trade_time: at(micros),
        event_time: Some(at(micros + 1_000)),
        buyer_is_maker: id.is_multiple_of(2),
    };
    TradeRow { trade, origin: Origin::Live, received_at: at(micros + 2_345) }
}

fn gap(symbol: &Symbol, from: u64, to: u64, state: GapState, version: i64) -> GapRow {
    GapRow {
        symbol: symbol.clone(),
        ids: IdRange { from, to },
        state,
        cause: format!("it's the stream's \"jump\", version {version} €"),
        // Cassandra's timestamps keep milliseconds.
        detected_at: at(HOUR + version * 1_000),
        filled_at: (state == GapState::Filled).then(|| at(HOUR + version * 1_000 + 11_000)),
        version,
    }
}

fn complete(symbol: &Symbol, hour: i64, version: i64) -> CompletenessRow {
    let n = version.unsigned_abs();
    CompletenessRow {
        symbol: symbol.clone(),
        hour: hour_of_day(hour),
        first_id: 100 + n,
        last_id: 200 + n,
        expected: 101 + n,
        present: 99 + n,
        missing: 2,
        late: n,
        version,
    }
}

fn checkpoint(role: &str, at: &TopicPartition, offset: i64, state: &[u8], outputs: i32) -> Checkpoint {
    let outputs = (0..outputs).map(|n| Position { at: TopicPartition::new("out", n), offset: offset + 1 }).collect();
    Checkpoint { role: role.to_owned(), next: Position { at: at.clone(), offset }, state: state.to_vec(), outputs }
}

async fn load(query: &dyn TableQuery, role: &str, at: &TopicPartition) -> Option<Checkpoint> {
    done(query.load_checkpoint(role, at).await, "load a checkpoint")
}

async fn all_trades(query: &dyn TableQuery, symbol: &Symbol, hour: i64) -> Vec<TradeRow> {
    done(query.trades(symbol, at(hour), None, 10_000).await, "query trades")
}

async fn paged(query: &dyn TableQuery, symbol: &Symbol, limit: usize) -> Vec<TradeRow> {
    let mut rows: Vec<TradeRow> = Vec::new();
    loop {
        let after = rows.last().map(|row| (row.trade.trade_time, row.trade.id));
        let page = done(query.trades(symbol, at(HOUR), after, limit).await, "query a page of trades");
        assert!(page.len() <= limit, "asked for at most {limit} trades, got {}", page.len());
        if page.is_empty() {
            return rows;
        }
        rows.extend(page);
        assert!(rows.len() < 1_000, "pages of {limit} come to no end: the last trade is {:?}", rows.last());
    }
}

async fn completeness(query: &dyn TableQuery, symbol: &Symbol) -> Vec<CompletenessView> {
    done(query.completeness(symbol, at(HOUR).day()).await, "query completeness")
}

/// Decimals are equal by value; here the digits have to be the same too.
fn same_trades(found: &[TradeRow], expected: &[TradeRow], what: &str) {
    let ids = |rows: &[TradeRow]| rows.iter().map(|row| row.trade.id).collect::<Vec<_>>();
    assert_eq!(ids(found), ids(expected), "{what}: ids");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected, "{what}");
        let digits = |row: &TradeRow| (row.trade.price.to_string(), row.trade.quantity.to_string());
        assert_eq!(digits(found), digits(expected), "{what}: digits as they were written");
    }
}
