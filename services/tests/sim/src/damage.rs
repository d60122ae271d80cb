//! Damage by other hands than the services': each must be found, and mended from the log.

use bytes::Bytes;
use domain::lake::{PartName, TEMPORARY};
use domain::{Timestamp, TradeRow};
use ports::{Archive, Tables};
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

use crate::verdict::{audit_ports, audited, audited_topics};
use crate::world::World;

const NOW: Timestamp = Timestamp::from_micros(4_000_000_000_000_000);

/// What happened to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A bit of a file is another one.
    FlippedBit,
    /// A file ends early.
    Truncated,
    /// A file that others follow is gone.
    Removed,
    /// A row of the tables is gone.
    DeletedRow,
    /// A row of the tables has another price.
    ChangedPrice,
    /// A row of the tables that nobody wrote.
    StrangeRow,
}

impl Damage {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::FlippedBit, Self::Truncated, Self::Removed, Self::DeletedRow, Self::ChangedPrice, Self::StrangeRow];
}

/// Damages a settled world, and expects the audit to find that and to mend it; says what went wrong.
pub async fn inflict(world: &World, damage: Damage, rng: &mut SmallRng) -> Vec<String> {
    let what = match damage {
        Damage::FlippedBit | Damage::Truncated | Damage::Removed => harm_file(world, damage, rng).await,
        Damage::DeletedRow | Damage::ChangedPrice | Damage::StrangeRow => harm_row(world, damage, rng).await,
    };
    match audited(world, true).await {
        Ok(findings) if findings.is_empty() => return vec![format!("{damage:?} of {what} was not found")],
        Ok(_) => {}
        Err(error) => return vec![format!("{damage:?} of {what}: {error}")],
    }
    let mut violations = Vec::new();
    if let Err(error) = mend(world).await {
        violations.push(format!("{damage:?} of {what}: repair: {error}"));
    }
    match audited(world, true).await {
        Ok(findings) => {
            violations.extend(findings.iter().map(|finding| format!("{damage:?} of {what} mended: {finding}")));
        }
        Err(error) => violations.push(error),
    }
    violations
}

/// As `audit --repair` does.
async fn mend(world: &World) -> Result<(), audit::AuditError> {
    let (ports, topics) = (audit_ports(world), audited_topics());
    let scope = audit::Scope { deep: true, ..audit::Scope::default() };
    let report = audit::audit(&ports, &topics, &scope, &|_| {}).await?;
    audit::repair(&ports, &world.tables, &topics, &report, NOW).await.map(drop)
}

async fn harm_file(world: &World, damage: Damage, rng: &mut SmallRng) -> String {
    let files: Vec<(String, Bytes)> = world.archive.files().into_iter().collect();
    let named = |path: &str| PartName::parse(path);
    let is_last = |path: &str| {
        let name = named(path).expect("a published file");
        let later = |other: &PartName| other.start_offset > name.start_offset;
        let same_chain = |other: &PartName| (&other.dataset, other.partition) == (&name.dataset, name.partition);
        !files.iter().filter_map(|(path, _)| named(path)).any(|other| same_chain(&other) && later(&other))
    };
    // The end of a chain that is gone, or cannot be read, looks like one that is still to come.
    let candidates: Vec<&(String, Bytes)> =
        files.iter().filter(|(path, _)| named(path).is_some() && !is_last(path)).collect();
    let Some((path, content)) = candidates.choose(rng).copied() else { return "nothing".to_owned() };
    let mut content = content.to_vec();
    match damage {
        Damage::FlippedBit => {
            let at = rng.random_range(0..content.len());
            content[at] ^= 1 << rng.random_range(0..8);
        }
        _ => content.truncate(rng.random_range(0..content.len())),
    }
    world.archive.remove(path).await.expect("no faults now");
    if damage != Damage::Removed {
        let temporary = format!("{TEMPORARY}/harm");
        world.archive.write(&temporary, content.into()).await.expect("no faults now");
        world.archive.publish(&temporary, path).await.expect("no faults now");
    }
    path.clone()
}

async fn harm_row(world: &World, damage: Damage, rng: &mut SmallRng) -> String {
    let rows = world.tables.all_trades();
    let Some(row) = rows.choose(rng) else { return "nothing".to_owned() };
    let mut other: TradeRow = row.clone();
    let (wrong, right) = match damage {
        Damage::DeletedRow => (vec![row.clone()], Vec::new()),
        Damage::ChangedPrice => {
            other.trade.price = "0.00000001".parse().expect("a number");
            (Vec::new(), vec![other])
        }
        _ => {
            other.trade.id += 1 << 40;
            (Vec::new(), vec![other])
        }
    };
    world.tables.mend_trades(&wrong, &right, NOW).await.expect("no faults now");
    format!("{} {}", row.trade.symbol, row.trade.id)
}
