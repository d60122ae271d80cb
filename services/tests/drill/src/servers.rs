//! What happens to the servers.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::pause;

use crate::faults::{Acted, Lengths, length};
use crate::judge::is_clean;
use crate::scene::Scene;

/// One server after the other goes and comes back.
pub fn each(scene: &mut Scene, servers: &[&str], signal: &str, lengths: Lengths) -> anyhow::Result<Acted> {
    let mut outage = Duration::ZERO;
    for server in servers {
        let started = Instant::now();
        scene.cluster(&["kill", server, signal])?;
        pause(length(scene, lengths));
        scene.cluster(&["start", server])?;
        outage += started.elapsed();
    }
    Ok(Acted { outage, recoveries: Vec::new() })
}

/// All of some servers are away at the same time.
pub fn down(scene: &mut Scene, servers: &[&str], lengths: Lengths) -> anyhow::Result<Acted> {
    let started = Instant::now();
    for server in servers {
        scene.cluster(&["kill", server])?;
    }
    pause(length(scene, lengths));
    for server in servers {
        scene.cluster(&["start", server])?;
    }
    Ok(Acted::lasted(started))
}

/// Servers that neither answer nor break the connection.
pub fn freeze(scene: &mut Scene, servers: &[&str], lengths: Lengths) -> anyhow::Result<Acted> {
    let started = Instant::now();
    for server in servers {
        scene.cluster(&["kill", server, "STOP"])?;
    }
    pause(length(scene, lengths));
    for server in servers {
        scene.cluster(&["kill", server, "CONT"])?;
    }
    Ok(Acted::lasted(started))
}

pub fn safe_mode(scene: &mut Scene) -> anyhow::Result<Acted> {
    let started = Instant::now();
    scene.cluster(&["hdfs", "dfsadmin", "-safemode", "enter"])?;
    pause(length(scene, (20, 60)));
    scene.cluster(&["hdfs", "dfsadmin", "-safemode", "leave"])?;
    Ok(Acted::lasted(started))
}

pub fn quota(scene: &mut Scene) -> anyhow::Result<Acted> {
    let started = Instant::now();
    scene.cluster(&["hdfs", "dfsadmin", "-setSpaceQuota", "1", "/crypto_data"])?;
    pause(length(scene, (20, 60)));
    scene.cluster(&["hdfs", "dfsadmin", "-clrSpaceQuota", "/crypto_data"])?;
    Ok(Acted::lasted(started))
}

/// A column comes and goes while rows are written.
pub fn schema_change(scene: &mut Scene) -> anyhow::Result<Acted> {
    let started = Instant::now();
    for _ in 0..if scene.long { 10 } else { 2 } {
        scene.cluster(&["cqlsh", "-e", "ALTER TABLE crypto_ks.trades ADD drilled text"])?;
        pause(length(scene, (3, 10)));
        scene.cluster(&["cqlsh", "-e", "ALTER TABLE crypto_ks.trades DROP drilled"])?;
        pause(length(scene, (3, 10)));
    }
    Ok(Acted::lasted(started))
}

/// The brokers forget a producer that was silent, and then it has much to say.
pub fn idle_producer(scene: &mut Scene) -> anyhow::Result<Acted> {
    let started = Instant::now();
    let forgetful = ["producer.id.expiration.ms=2000", "producer.id.expiration.check.interval.ms=1000"];
    let restart = |scene: &Scene, settings: &[&str]| -> anyhow::Result<()> {
        for broker in ["kafka-1", "kafka-2"] {
            scene.cluster(&["kill", broker, "TERM"])?;
            scene.cluster(&[&["start", broker], settings].concat())?;
        }
        Ok(())
    };
    restart(scene, &forgetful)?;
    for _ in 0..if scene.long { 10 } else { 2 } {
        pause(length(scene, (5, 10)));
        scene.exchange_fault(r#"{"kind":"stall","seconds":8}"#)?;
        pause(Duration::from_secs(8));
    }
    restart(scene, &[])?;
    Ok(Acted::lasted(started))
}

/// A bit of a block is another one: first in one replica, which HDFS hides from readers; then in both, which the
/// audit finds and mends.
pub fn flipped_bit(scene: &mut Scene) -> anyhow::Result<Acted> {
    let started = Instant::now();
    let name = largest_block(scene)?;
    let first = replicas(scene, &name)?;
    flip(first.first().context("no DataNode has the block")?, 1)?;
    ensure!(is_clean(&scene.audit_deeply(&[])?), "a deep audit cannot do with one good replica");
    // HDFS may just be making the bad replica anew from the good one: then both are damaged once more. Each time it is
    // another bit, for the same one twice would be none.
    let mut is_seen = false;
    for bit in [2, 4, 8] {
        for replica in replicas(scene, &name)? {
            flip(&replica, bit)?;
        }
        is_seen = !is_clean(&scene.audit_deeply(&[])?);
        if is_seen {
            break;
        }
    }
    ensure!(is_seen, "a deep audit does not see that both replicas are damaged");
    let mended = scene.audit_deeply(&["--repair"])?;
    let count = mended["mended"].as_array().map_or(0, Vec::len);
    ensure!(is_clean(&mended) && count > 0, "{count} mended, and then {}", mended["findings"]);
    Ok(Acted::lasted(started))
}

/// The largest block of a published file. Whatever else the file system has, proofs of the audit among it, comes and
/// goes, and is nothing that an audit has to miss.
fn largest_block(scene: &Scene) -> anyhow::Result<String> {
    let listing = scene.cluster(&["hdfs", "fsck", "/crypto_data/trades", "-files", "-blocks"])?;
    let blocks = listing.lines().filter_map(|line| {
        // "0. BP-…:blk_1073741825_1001 len=5120 Live_repl=2"
        let (name, more) = line.split_once(":blk_")?.1.split_once('_')?;
        let length = more.split_once("len=")?.1.split_whitespace().next()?;
        Some((length.parse::<u64>().ok()?, format!("blk_{name}")))
    });
    Ok(blocks.max().context("the archive has no block")?.1)
}

/// Where a block is now, on both DataNodes.
fn replicas(scene: &Scene, block: &str) -> anyhow::Result<Vec<PathBuf>> {
    let is_it = |path: &Path| path.file_name().is_some_and(|name| name == block);
    let nodes = ["datanode-1", "datanode-2"].map(|node| scene.cluster_folder().join(node));
    Ok(nodes.iter().map(|node| find(node, &is_it)).collect::<anyhow::Result<Vec<_>>>()?.concat())
}

fn flip(block: &Path, bit: u8) -> anyhow::Result<()> {
    let mut bytes = std::fs::read(block)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= bit;
    Ok(std::fs::write(block, bytes)?)
}

fn find(folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(find(&path, wanted)?);
        } else if wanted(&path) {
            found.push(path);
        }
    }
    Ok(found)
}
