//! More than the servers can take, for long: does memory stay where its limits are?

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use e2e::{checkout, pause};
use serde_json::Value;

use crate::judge::is_clean;
use crate::scene::{Market, Role, Scene};
use crate::table::seconds;

/// About the most that ingest takes from the simulator while it has two cores for itself.
const RATE: u64 = 25_000;

/// How long servers are away in the middle.
const AWAY: Duration = Duration::from_secs(300);

/// How often to look whether all has come in.
const BETWEEN_AUDITS: Duration = Duration::from_secs(30);

/// Those that nobody can do without. Without brokers nothing would come in, so they go for a part of it only.
const STORES: [&str; 3] = ["cassandra-1", "cassandra-2", "namenode"];
const BROKERS: [&str; 2] = ["kafka-1", "kafka-2"];

/// An overload of so many minutes; how much memory each role had at most.
///
/// # Errors
/// If something does not come back.
pub fn run(minutes: u64) -> anyhow::Result<ExitCode> {
    let caps = caps()?;
    let length = Duration::from_secs(minutes * 60);
    let trades = Some(RATE * length.as_secs());
    let mut scene = Scene::open(Market { rate: RATE, trades, ..Market::default() }, false)?;
    let mut most: BTreeMap<Role, u64> = BTreeMap::new();
    let before = (length.saturating_sub(AWAY)) / 2;
    let started = Instant::now();
    watch(&mut scene, before, &mut most)?;
    for server in STORES {
        scene.cluster(&["kill", server, "TERM"])?;
    }
    watch(&mut scene, AWAY / 2, &mut most)?;
    for broker in BROKERS {
        scene.cluster(&["kill", broker])?;
    }
    watch(&mut scene, AWAY / 2, &mut most)?;
    for server in BROKERS.into_iter().chain(STORES) {
        scene.cluster(&["start", server])?;
    }
    watch(&mut scene, length.saturating_sub(started.elapsed()), &mut most)?;
    let over = started.elapsed();
    // The market is at its end: now all that waits comes in, and all that was skipped.
    let report = settled(&mut scene, length, &mut most)?;
    let later = seconds(started.elapsed() - over);
    println!("{RATE} trades a second for {}, servers away for {}, at rest {later} later", seconds(over), seconds(AWAY));
    let mut is_within = true;
    for role in Role::ALL {
        let (most, cap) = (*most.get(&role).context("a role whose memory nobody saw")?, caps[&role]);
        is_within &= most <= cap;
        let done = scene.done(role, 0)?;
        println!("{:<10} {most:>4} MiB at most, of {cap} MiB; {done} trades done", role.name());
    }
    let ended = scene.ended();
    println!("ended by themselves: {ended:?}");
    println!("audit: {} pending, findings: {}", report["pending"], report["findings"]);
    scene.forget();
    let is_well = is_within && ended.is_empty() && is_clean(&report);
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What an audit says when nothing is pending, or patience is over.
fn settled(scene: &mut Scene, patience: Duration, most: &mut BTreeMap<Role, u64>) -> anyhow::Result<Value> {
    let started = Instant::now();
    loop {
        watch(scene, BETWEEN_AUDITS, most)?;
        let report = scene.audit()?.context("the audit cannot be done")?;
        if (is_clean(&report) && report["pending"] == 0) || started.elapsed() > patience {
            return Ok(report);
        }
    }
}

fn watch(scene: &mut Scene, length: Duration, most: &mut BTreeMap<Role, u64>) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut told = Instant::now();
    while started.elapsed() < length {
        for role in Role::ALL {
            let process = scene.id(role, 0)?;
            // One that has just ended by itself is started again below, and told in the end.
            let Some(rss) = rss_mib(process) else { continue };
            let known = most.entry(role).or_default();
            *known = rss.max(*known);
        }
        if told.elapsed() > Duration::from_secs(60) {
            told = Instant::now();
            eprintln!("{most:?}");
        }
        pause(Duration::from_millis(500));
        scene.revive()?;
    }
    Ok(())
}

fn rss_mib(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()?.div_ceil(1024))
}

/// What docker-compose.yml allows each role, in MiB.
fn caps() -> anyhow::Result<BTreeMap<Role, u64>> {
    let text = std::fs::read_to_string(checkout().join("docker-compose.yml"))?;
    let cap = |role: Role| {
        let service = text.split_once(&format!("\n  {}:\n", role.name())).context("no such service")?.1;
        let limit = service.lines().find_map(|line| line.trim().strip_prefix("mem_limit: ")).context("no limit")?;
        let mebibytes = limit.trim().strip_suffix('m').context("a limit in MiB was expected")?;
        anyhow::Ok((role, mebibytes.parse()?))
    };
    Role::ALL.into_iter().map(cap).collect()
}
