//! Breaks the real servers and the roles, one fault after the other, and says what became of the tape.
//!
//! `scripts/drill` starts what this needs.

mod exchange;
mod faults;
mod judge;
mod network;
mod overload;
mod proxy;
mod roles;
mod scene;
mod servers;
mod storm;
mod table;

use std::process::ExitCode;

use clap::Parser;

use crate::faults::{FAULTS, Fault};
use crate::scene::{Market, Scene};
use crate::table::{Row, rendered};

/// Faults against the real servers of scripts/cluster, which must be up: what was done, how long it lasted, how
/// soon all was well again, and whether a trade was lost or doubled.
#[derive(Debug, Parser)]
struct Args {
    /// The faults, by name; the short set if none is named.
    faults: Vec<String>,
    /// All faults, each as long as the matrix says.
    #[arg(long)]
    long: bool,
    /// Instead of one fault after the other, anything at any time while so many trades are issued; then the oracle
    /// compares, too. Only on servers that hold no other tape.
    #[arg(long, value_name = "TRADES", conflicts_with = "faults")]
    storm: Option<u64>,
    /// Instead, more than the servers can take for so many minutes: how much memory the roles have.
    #[arg(long, value_name = "MINUTES", conflicts_with_all = ["faults", "storm"])]
    overload: Option<u64>,
    /// Name the faults and exit.
    #[arg(long)]
    list: bool,
    /// Print the table as Markdown.
    #[arg(long)]
    markdown: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if args.list {
        FAULTS.iter().for_each(|fault| println!("{:<24} {}", fault.name, fault.what));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(trades) = args.storm {
        return storm::run(trades);
    }
    if let Some(minutes) = args.overload {
        return overload::run(minutes);
    }
    let chosen = chosen(&args)?;
    let mut scene = Scene::open(Market::default(), args.long)?;
    let mut rows = Vec::new();
    for fault in chosen {
        eprintln!("── {}", fault.name);
        let row = drilled(&mut scene, fault);
        eprintln!("{row}");
        rows.push(row);
    }
    println!("{}", rendered(&rows, args.markdown));
    if rows.iter().all(Row::passed) {
        scene.forget();
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("what the roles said: {}", scene.logs().display());
    Ok(ExitCode::FAILURE)
}

fn chosen(args: &Args) -> anyhow::Result<Vec<&'static Fault>> {
    if args.faults.is_empty() {
        let has_filter = network::has_filter();
        let (chosen, skipped): (Vec<&Fault>, Vec<&Fault>) = FAULTS
            .iter()
            .filter(|fault| args.long || fault.is_short)
            .partition(|fault| has_filter || !fault.needs_filter);
        for fault in skipped {
            println!("skipped: {}: it needs root and iptables", fault.name);
        }
        return Ok(chosen);
    }
    let find = |name: &String| FAULTS.iter().find(|fault| fault.name == name);
    args.faults.iter().map(|name| find(name).ok_or_else(|| anyhow::anyhow!("no fault {name:?}: see --list"))).collect()
}

fn drilled(scene: &mut Scene, fault: &'static Fault) -> Row {
    let outcome = scene.ready().and_then(|()| (fault.act)(scene)).and_then(|acted| {
        let recovered = scene.recovered()?;
        Ok((acted, recovered, scene.verdict()?))
    });
    if outcome.is_err() {
        // What the fault left broken is none of the next one's business.
        scene.heal();
    }
    Row::of(fault, outcome)
}
