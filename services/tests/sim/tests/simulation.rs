//! Thousands of seeds, each a story of crashes, rebalances, lost answers and zombies.
//!
//! `SIM_SEEDS=20000 cargo test --release -p sim` runs more; `SIM_SEED=17` runs one,
//! and `SIM_TRACE=FILE` writes down what happened in the first that failed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use sim::{Bug, Damage, Outcome, Plan, run};

/// How many seeds run by default.
const SEEDS: u64 = 2_000;

#[expect(clippy::disallowed_methods, reason = "the test's own switch")]
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}: expected a number, got {text:?}")))
}

/// Runs seeds on all cores; returns those that failed.
fn failures(seeds: std::ops::Range<u64>, plan: impl Fn(u64) -> Plan + Sync) -> Vec<(u64, Outcome)> {
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let outcome = run(plan(seed));
                    if !outcome.violations.is_empty() {
                        failed.lock().unwrap().push((seed, outcome));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort_by_key(|(seed, _)| *seed);
    failed
}

#[expect(clippy::disallowed_methods, reason = "the test's own switch")]
#[test]
fn no_seed_loses_or_doubles_a_trade() {
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(SEEDS),
    };
    let count = seeds.end - seeds.start;
    let failed = failures(seeds, Plan::seed);
    for (seed, outcome) in failed.iter().take(5) {
        eprintln!(
            "seed {seed}: {} violations, the first: {:#?}",
            outcome.violations.len(),
            &outcome.violations[..outcome.violations.len().min(5)]
        );
    }
    if let (Ok(file), Some((_, outcome))) = (std::env::var("SIM_TRACE"), failed.first()) {
        std::fs::write(
            &file,
            outcome.violations.iter().chain(&outcome.trace).map(String::as_str).collect::<Vec<_>>().join("\n"),
        )
        .unwrap();
    }
    assert!(failed.is_empty(), "{} of {count} seeds failed; run one with SIM_SEED={}", failed.len(), failed[0].0);
    println!("{count} seeds without a violation");
}

#[test]
fn a_seed_told_twice_is_the_same_story() {
    for seed in 0..20 {
        let plan = Plan::seed(seed);
        let (once, again) = (run(plan), run(plan));
        assert_eq!(once, again, "seed {seed}");
        assert!(once.trades > 100 && once.crashes > 3, "seed {seed} is a dull story: {once:?}");
    }
}

#[test]
fn planted_bugs_are_found() {
    for bug in Bug::ALL {
        // Some need a rare coincidence.
        let found = [0..60, 60..400].into_iter().find_map(|seeds| {
            let among = seeds.end - seeds.start;
            let failed = failures(seeds, |seed| Plan { bug: Some(bug), ..Plan::seed(seed) });
            let (first, outcome) = failed.first()?;
            Some(format!("by {} of {among} seeds, first {first}: {}", failed.len(), outcome.violations[0]))
        });
        println!("{bug:?}: found {}", found.unwrap_or_else(|| panic!("{bug:?} was not found in 400 seeds")));
    }
}

#[test]
fn damage_is_found_and_mended() {
    for damage in Damage::ALL {
        let failed = failures(0..12, |seed| Plan { damage: Some(damage), ..Plan::seed(seed) });
        let violations = failed.iter().map(|(seed, outcome)| format!("seed {seed}: {}", outcome.violations[0]));
        assert!(failed.is_empty(), "{}", violations.collect::<Vec<_>>().join("\n"));
    }
}
