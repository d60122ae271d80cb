//! What the services made of what was issued. Shares no code with the audit.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use audit::Finding;
use bytes::Bytes;
use domain::headers::parsed;
use domain::lake::{self, PartName};
use domain::ledger::{GapState, LedgerEvent};
use domain::record::{DEAD_OFFSET, DEAD_PARTITION, DEAD_TOPIC};
use domain::{IdRange, IdSet, Position, Record, Symbol, Timestamp, Trade, TradeRow, topics};
use ports::{LogScan, TableQuery};
use processor::ProcessorConfig;

use crate::world::World;

/// Whether log, tables and archive have everything there is.
pub async fn is_settled(world: &World) -> bool {
    let mut settled = everything_logged(world);
    for topic in [topics::TRADES, topics::GAPS] {
        for bounds in world.log.bounds(topic).await.unwrap_or_default() {
            let checkpoint = world.tables.load_checkpoint(processor::ROLE, &bounds.at).await.ok().flatten();
            settled &= checkpoint.map_or(0, |checkpoint| checkpoint.next.offset) >= bounds.end;
        }
    }
    let archived: usize = archived_raw(world).values().map(Vec::len).sum();
    settled && archived >= world.log.records(topics::TRADES).len() && no_gap_is_open(world).await
}

async fn no_gap_is_open(world: &World) -> bool {
    for symbol in world.exchange.issued().keys() {
        let gaps = world.tables.gaps(symbol).await.unwrap_or_default();
        if gaps.iter().any(|gap| gap.state == GapState::Open) {
            return false;
        }
    }
    true
}

fn everything_logged(world: &World) -> bool {
    let logged = logged(world);
    expected(world).iter().all(|(symbol, events)| {
        let ids = logged.get(symbol);
        events.keys().all(|id| ids.is_some_and(|ids| ids.contains_key(id)))
    })
}

/// Everything that is not as it should be.
pub async fn judge(world: &World) -> Vec<String> {
    let mut violations = Vec::new();
    log_has_what_was_issued(world, &mut violations);
    tables_have_what_the_log_has(world, &mut violations);
    archive_has_what_the_log_has(world, &mut violations);
    gaps_tell_what_is_missing(world, &mut violations).await;
    completeness_tells_the_truth(world, &mut violations).await;
    duplicates_are_counted(world, &mut violations).await;
    dead_letters_stand_once(world, &mut violations);
    audit_agrees(world, &mut violations).await;
    violations
}

/// What must be in the log: everything issued from the first trade that the stream showed, except
/// what the exchange keeps to itself.
fn expected(world: &World) -> BTreeMap<Symbol, BTreeMap<u64, Bytes>> {
    let (mut issued, withheld, logged) = (world.exchange.issued(), world.exchange.withheld(), logged(world));
    for (symbol, events) in &mut issued {
        let first = logged.get(symbol).and_then(|ids| ids.first_key_value()).map_or(0, |(id, _)| *id);
        events.retain(|id, _| *id >= first && !withheld.get(symbol).is_some_and(|ids| ids.contains(*id)));
    }
    issued
}

/// The log's valid records, by symbol and id.
fn logged(world: &World) -> BTreeMap<Symbol, BTreeMap<u64, Vec<Record>>> {
    let mut logged: BTreeMap<Symbol, BTreeMap<u64, Vec<Record>>> = BTreeMap::new();
    for record in world.log.records(topics::TRADES) {
        if let Some(trade) = record.value.as_deref().and_then(|value| Trade::from_event(value).ok()) {
            logged.entry(trade.symbol).or_default().entry(trade.id).or_default().push(record);
        }
    }
    logged
}

/// Trades of appends that were carried out late: they cannot be seen coming, so another may have been made meanwhile.
fn landed_late(world: &World) -> BTreeMap<Symbol, IdSet> {
    let late: BTreeSet<Position> = world.log.landed_late().into_iter().collect();
    let mut trades: BTreeMap<Symbol, IdSet> = BTreeMap::new();
    for (symbol, ids) in logged(world) {
        let is_late = |record: &Record| late.contains(&Position { at: record.at.clone(), offset: record.offset });
        let late = ids.into_iter().filter(|(_, records)| records.iter().any(is_late));
        trades.entry(symbol).or_default().extend(late.map(|(id, _)| IdRange::one(id)));
    }
    trades
}

fn log_has_what_was_issued(world: &World, violations: &mut Vec<String>) {
    let (expected, logged, landed_late) = (expected(world), logged(world), landed_late(world));
    let may_double = |symbol: &Symbol| landed_late.get(symbol).cloned().unwrap_or_default();
    for (symbol, events) in &expected {
        let Some(ids) = logged.get(symbol) else {
            violations.push(format!("log: nothing of {symbol}"));
            continue;
        };
        let may_double = may_double(symbol);
        for (id, event) in events {
            match ids.get(id).map(Vec::as_slice) {
                None => violations.push(format!("log: {symbol} {id} is lost")),
                Some(records) => {
                    if records.iter().any(|record| record.value.as_ref() != Some(event)) {
                        violations.push(format!("log: {symbol} {id} is not what was issued"));
                    }
                    if records.len() > 1 && !may_double.contains(*id) {
                        violations.push(format!("log: {symbol} {id} stands {} times", records.len()));
                    }
                }
            }
        }
        let surplus = ids.keys().filter(|id| !events.contains_key(id));
        violations.extend(surplus.map(|id| format!("log: {symbol} {id} was never issued")));
    }
}

fn tables_have_what_the_log_has(world: &World, violations: &mut Vec<String>) {
    let mut stored: BTreeMap<(Symbol, u64), Vec<TradeRow>> = BTreeMap::new();
    for row in world.tables.all_trades() {
        stored.entry((row.trade.symbol.clone(), row.trade.id)).or_default().push(row);
    }
    for (symbol, ids) in logged(world) {
        for (id, records) in ids {
            let rows = stored.remove(&(symbol.clone(), id)).unwrap_or_default();
            let from_log: Vec<TradeRow> =
                records.iter().filter_map(|record| TradeRow::from_record(record).ok()).collect();
            if rows.len() != 1 || !from_log.iter().any(|row| row.trade == rows[0].trade) {
                violations.push(format!("tables: {symbol} {id} stands {} times or differs", rows.len()));
            }
        }
    }
    violations.extend(stored.keys().map(|(symbol, id)| format!("tables: {symbol} {id} is not in the log")));
}

/// The archive's verbatim records by partition, in order of file and row.
fn archived_raw(world: &World) -> BTreeMap<i32, Vec<Record>> {
    let mut records: BTreeMap<i32, Vec<Record>> = BTreeMap::new();
    for (name, bytes) in parts(world, &lake::raw_dataset(topics::TRADES)) {
        let rows = columns::decode_raw(bytes).into_iter().flatten().filter_map(Result::ok);
        records.entry(name.partition).or_default().extend(rows);
    }
    records
}

fn parts(world: &World, dataset: &str) -> Vec<(PartName, Bytes)> {
    let named = world.archive.files().into_iter().filter_map(|(path, bytes)| Some((PartName::parse(&path)?, bytes)));
    let mut parts: Vec<_> = named.filter(|(name, _)| name.dataset == dataset).collect();
    parts.sort_by_key(|(name, _)| (name.partition, name.start_offset));
    parts
}

fn archive_has_what_the_log_has(world: &World, violations: &mut Vec<String>) {
    let mut log: BTreeMap<i32, Vec<Record>> = BTreeMap::new();
    for record in world.log.records(topics::TRADES) {
        log.entry(record.at.partition).or_default().push(record);
    }
    let raw = archived_raw(world);
    for (partition, records) in &log {
        if raw.get(partition) != Some(records) {
            let archived = raw.get(partition).map_or(0, Vec::len);
            violations.push(format!(
                "archive: raw partition {partition} has {archived} records, not the log's {}",
                records.len()
            ));
        }
    }
    let mut typed: Vec<(i32, i64, TradeRow)> = Vec::new();
    for (_, bytes) in parts(world, lake::TRADES) {
        let rows = columns::decode_trades(bytes).into_iter().flatten().filter_map(Result::ok);
        typed.extend(rows.map(|archived| (archived.partition, archived.offset, archived.row)));
    }
    let all = log.into_values().flatten();
    let expected: Vec<(i32, i64, TradeRow)> = all
        .filter_map(|record| Some((record.at.partition, record.offset, TradeRow::from_record(&record).ok()?)))
        .collect();
    if typed != expected {
        violations.push(format!("archive: trades have {} rows, not the log's {}", typed.len(), expected.len()));
    }
}

async fn gaps_tell_what_is_missing(world: &World, violations: &mut Vec<String>) {
    let logged = logged(world);
    for (symbol, withheld) in world.exchange.withheld() {
        let Some(ids) = logged.get(&symbol) else { continue };
        // Of what comes before the first trade and after the last one nobody can know.
        let known = ids.first_key_value().zip(ids.last_key_value()).map(|((first, _), (last, _))| *first..*last);
        let is_known = |id: &u64| known.as_ref().is_some_and(|known| known.contains(id));
        let gaps = world.tables.gaps(&symbol).await.unwrap_or_default();
        for id in withheld.ranges().flat_map(|ids| ids.from..=ids.to).filter(is_known) {
            let told =
                gaps.iter().any(|gap| gap.state == GapState::Unfillable && (gap.ids.from..=gap.ids.to).contains(&id));
            if !told {
                violations.push(format!("gaps: {symbol} {id} is missing without a row"));
            }
        }
        let open = gaps.iter().filter(|gap| gap.state == GapState::Open);
        violations.extend(open.map(|gap| format!("gaps: {symbol} {} is still open", gap.ids)));
    }
}

/// Every hour counts what the log has of it, and what is nowhere since the hour before.
async fn completeness_tells_the_truth(world: &World, violations: &mut Vec<String>) {
    let late = late_trades(world);
    for (symbol, ids) in logged(world) {
        let mut hours: BTreeMap<Timestamp, BTreeSet<u64>> = BTreeMap::new();
        for (id, records) in &ids {
            let row = TradeRow::from_record(&records[0]).expect("a valid record");
            hours.entry(row.hour()).or_default().insert(*id);
        }
        let mut before = None;
        for (hour, present) in hours {
            let (first, last) = (present.first().expect("not empty"), *present.last().expect("not empty"));
            let from = before.filter(|before| before < first).map_or(*first, |before| before + 1);
            let missing = (from..=last).filter(|id| !ids.contains_key(id)).count() as u64;
            let rows = world.tables.completeness(&symbol, hour.day()).await.unwrap_or_default();
            let row = rows.into_iter().find(|row| row.hour == hour).and_then(|row| row.trades);
            let told = row.map(|row| (row.first_id, row.last_id, row.present, row.missing, row.late));
            let late = late.get(&(symbol.clone(), hour)).copied().unwrap_or(0);
            let expected = (*first, last, present.len() as u64, missing, late);
            if told != Some(expected) {
                violations.push(format!("completeness: {symbol} {hour} is {expected:?}, the table says {told:?}"));
            }
            before = Some(last);
        }
    }
}

/// Every hour counts the duplicates that the ledger says were dropped, each time it says so once.
async fn duplicates_are_counted(world: &World, violations: &mut Vec<String>) {
    let mut dropped: BTreeMap<(Symbol, Timestamp), u64> = BTreeMap::new();
    for record in world.log.records(topics::GAPS) {
        let event = record.value.as_deref().and_then(|value| LedgerEvent::from_json(value).ok());
        if let Some(LedgerEvent::Duplicates { symbol, hour, count, .. }) = event {
            *dropped.entry((symbol, hour)).or_default() += count;
        }
    }
    for ((symbol, hour), expected) in dropped {
        let rows = world.tables.completeness(&symbol, hour.day()).await.unwrap_or_default();
        let row = rows.into_iter().find(|row| row.hour == hour).and_then(|row| row.duplicates);
        let told = row.map(|row| row.dropped);
        if told != Some(expected) {
            violations.push(format!("duplicates: {symbol} {hour} had {expected}, the table says {told:?}"));
        }
    }
}

/// How many trades of each hour stand in the log behind much later ones.
fn late_trades(world: &World) -> BTreeMap<(Symbol, Timestamp), u64> {
    let watermark = ProcessorConfig::default().watermark_ms;
    let mut newest: BTreeMap<Symbol, Timestamp> = BTreeMap::new();
    let mut late = BTreeMap::new();
    for record in world.log.records(topics::TRADES) {
        let Ok(row) = TradeRow::from_record(&record) else { continue };
        let newest = newest.entry(row.trade.symbol.clone()).or_default();
        *newest = row.trade.trade_time.max(*newest);
        if row.trade.trade_time.plus(Duration::from_millis(watermark)) < *newest {
            *late.entry((row.trade.symbol.clone(), row.hour())).or_default() += 1;
        }
    }
    late
}

/// Every record that is no trade has one dead letter. Two owners of a partition who look and append at the
/// same time make two: without fencing nobody can stop the one who does not know that it is a zombie.
fn dead_letters_stand_once(world: &World, violations: &mut Vec<String>) {
    let is_trade = |record: &Record| TradeRow::from_record(record).is_ok();
    let unusable = world.log.records(topics::TRADES).into_iter().filter(|record| !is_trade(record));
    let mut expected: BTreeSet<(String, String)> =
        unusable.map(|record| (record.at.partition.to_string(), record.offset.to_string())).collect();
    for letter in world.log.records(topics::DEAD_LETTER) {
        let header = |name| parsed::<String>(letter.headers.get(name));
        // Those of ingest have no place in the log they could be told by.
        if header(DEAD_TOPIC).is_none() {
            continue;
        }
        let Some(place) = header(DEAD_PARTITION).zip(header(DEAD_OFFSET)) else { continue };
        let may_double = world.appends_land_late() || world.log.zombies(processor::ROLE) > 0;
        if !expected.remove(&place) && !may_double {
            violations.push(format!("dead letters: {place:?} stands twice, or is none"));
        }
    }
    violations.extend(expected.iter().map(|place| format!("dead letters: {place:?} has none")));
}

/// The audit is a checker too: it must see what this one sees, also when it remembers what it has
/// proved, and when it does not trust that.
async fn audit_agrees(world: &World, violations: &mut Vec<String>) {
    let mut first = None;
    for deep in [false, false, true] {
        match audited(world, deep).await {
            Ok(findings) if first.is_none() => {
                violations.extend(findings.iter().map(|finding| format!("audit: {finding}")));
                first = Some(findings);
            }
            Ok(findings) if first.as_ref() == Some(&findings) => {}
            Ok(findings) => violations.push(format!("audit: first {first:?}, then {findings:?}")),
            Err(error) => violations.push(error),
        }
    }
}

/// What an audit finds that it should not.
///
/// # Errors
/// If it cannot be done.
pub async fn audited(world: &World, deep: bool) -> Result<Vec<Finding>, String> {
    let scope = audit::Scope { deep, ..audit::Scope::default() };
    let report = audit::audit(&audit_ports(world), &audited_topics(), &scope, &|_| {}).await;
    let mut findings = report.map_err(|error| format!("audit: {error}"))?.findings;
    let landed_late = landed_late(world);
    let may_double =
        |symbol: &Symbol, ids: IdRange| landed_late.get(symbol).is_some_and(|late| late.holes(ids).is_empty());
    findings.retain(|finding| match finding {
        Finding::Missing { cause, .. } => !cause.starts_with("unfillable"),
        Finding::Duplicate { store, symbol, ids } => *store == "tables" || !may_double(symbol, *ids),
        _ => true,
    });
    Ok(findings)
}

/// What the audit reads.
pub fn audit_ports(world: &World) -> audit::AuditPorts {
    audit::AuditPorts {
        scan: std::sync::Arc::new(world.log.clone()),
        query: std::sync::Arc::new(world.tables.clone()),
        archive: world.archive.clone(),
    }
}

/// What the audit compares.
pub fn audited_topics() -> audit::Topics {
    audit::Topics { stream: topics::TRADES.into(), role: processor::ROLE.to_owned() }
}
