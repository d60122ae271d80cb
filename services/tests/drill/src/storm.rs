//! Anything at any time.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::ensure;
use e2e::pause;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::judge::is_clean;
use crate::proxy::Network;
use crate::scene::{Market, Role, Scene};
use crate::table::seconds;

/// How fast the exchange trades.
const RATE: u64 = 4_000;

/// What the exchange does wrong by itself meanwhile.
const FAULTS: &str = "[[sim.faults]]\nkind = \"cut\"\nevery_seconds = 10\n\
    [[sim.faults]]\nkind = \"skip\"\ncount = 40\nevery_seconds = 10\n\
    [[sim.faults]]\nkind = \"duplicate\"\ncount = 100\nevery_seconds = 20\n\
    [[sim.faults]]\nkind = \"reorder\"\ncount = 100\nevery_seconds = 20\n";

const SERVERS: [&str; 7] = ["kafka-1", "kafka-2", "namenode", "datanode-1", "datanode-2", "cassandra-1", "cassandra-2"];

/// A storm of so many trades; what became of them.
///
/// # Errors
/// If something does not come back.
pub fn run(trades: u64) -> anyhow::Result<ExitCode> {
    let seed: u64 = match e2e::setting("FULLTAPE_TEST_SEED") {
        Some(seed) => seed.parse()?,
        None => rand::rng().random(),
    };
    eprintln!("FULLTAPE_TEST_SEED={seed}");
    ensure!(e2e::python().is_some(), "FULLTAPE_TEST_PYTHON: expected a Python with pyarrow, to read the archive");
    let mut scene = Scene::open(Market { rate: RATE, trades: Some(trades), faults: FAULTS }, false)?;
    let outcome = weathered(&mut scene, trades, &mut SmallRng::seed_from_u64(seed));
    if let Ok(true) = outcome {
        scene.forget();
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("what the roles said: {}", scene.logs().display());
    outcome.map(|_| ExitCode::FAILURE)
}

/// Whether nothing was lost or doubled.
fn weathered(scene: &mut Scene, trades: u64, random: &mut SmallRng) -> anyhow::Result<bool> {
    let started = Instant::now();
    let mut faults: BTreeMap<String, u64> = BTreeMap::new();
    while !scene.is_over()? {
        let fault = strike(scene, random)?;
        eprintln!("{:>8} {fault}", seconds(started.elapsed()));
        *faults.entry(fault).or_default() += 1;
        pause(Duration::from_millis(random.random_range(0..3_000)));
    }
    faults.extend(scene.exchange_faults()?.into_iter().map(|(kind, count)| (format!("exchange: {kind}"), count)));
    let over = started.elapsed();
    let recovered = scene.recovered()?;
    let verdict = scene.verdict()?;
    let is_proved = is_clean(&scene.audit_deeply(&[])?);
    scene.compare_with_market()?;
    println!("{} faults: {faults:?}", faults.values().sum::<u64>());
    println!("{trades} trades in {}, all well {} later", seconds(over), seconds(recovered));
    println!(
        "lost {}, doubled {}, deep audit {}",
        verdict.lost,
        verdict.doubled,
        if is_proved { "clean" } else { "not clean" }
    );
    eprintln!("{:?}", verdict.others);
    Ok(verdict.is_clean() && is_proved)
}

/// One misfortune, wholly undone in the end; its name.
fn strike(scene: &mut Scene, random: &mut SmallRng) -> anyhow::Result<String> {
    let server = *SERVERS.choose(random).expect("there are servers");
    let a_moment = Duration::from_millis(random.random_range(200..6_000));
    Ok(match random.random_range(0..100) {
        0..70 => {
            let role = *Role::ALL.choose(random).expect("there are roles");
            scene.kill(role, 0)?;
            scene.start(role, 0)?;
            format!("kill {}", role.name())
        }
        70..78 => {
            scene.cluster(&["kill", server])?;
            pause(a_moment);
            scene.cluster(&["start", server])?;
            format!("kill {server}")
        }
        78..86 => {
            scene.cluster(&["kill", server, "STOP"])?;
            pause(a_moment);
            scene.cluster(&["kill", server, "CONT"])?;
            format!("freeze {server}")
        }
        86..92 => {
            let network = *[Network::LosesAnswers, Network::IsDown, Network::Swallows].choose(random).expect("some");
            scene.name_node.set(network);
            pause(a_moment);
            scene.name_node.set(Network::Works);
            format!("namenode {network:?}")
        }
        _ => {
            let role = *Role::ALL.choose(random).expect("there are roles");
            scene.signal(role, 0, "STOP")?;
            pause(a_moment * 2);
            scene.signal(role, 0, "CONT")?;
            format!("freeze {}", role.name())
        }
    })
}
