//! The simulated exchange: as a role of its own, or beside the others in one process.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use exchange_sim::SimConfig;
use runtime::{CancellationToken, Supervisor};

use crate::cli;
use crate::config::{self, Config};
use crate::roles::Admin;
use crate::tape::{Exchange, Market, exchange_of};
use crate::wire::clock;

/// The simulator's name as a source of records.
pub const SIM: &str = "sim";

/// Weight per minute of a simulator of one's own: enough to fetch a long pause.
const GENEROUS_WEIGHT: u32 = 600_000;

/// The role sim.
///
/// # Errors
/// If the settings cannot work, the address is taken, or the tape is another exchange's.
pub async fn run(config: Config, options: cli::Sim, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let mut sim = config.simulated();
    if let (Some(folder), Some(address)) = (&options.tape, options.address) {
        sim.epoch_ms = Some(began(folder, &sim, Some(address))?);
    }
    let mut supervisor = Supervisor::new(stop);
    let admin = Admin::start(&config, &mut supervisor).await?;
    let stop = supervisor.stop();
    supervisor.spawn("sim", async move {
        let started = |address| {
            admin.ready.now();
            println!("ws://{address}/ws and /stream, http://{address}/api/v3, faults at http://{address}/sim/faults");
        };
        exchange_sim::serve(sim, stop, started).await
    });
    supervisor.join().await?;
    Ok(ExitCode::SUCCESS)
}

/// The data folder if nobody named one: the simulator has its own, since its ids are not the exchange's.
pub fn default_folder() -> PathBuf {
    Path::new(config::DATA).join("sim")
}

/// Starts an exchange in this process, and points the settings of the source at it.
///
/// # Errors
/// If the settings cannot work.
pub async fn start_beside(config: &mut Config, supervisor: &mut Supervisor) -> anyhow::Result<()> {
    let mut sim = config.simulated();
    sim.weight_per_minute = sim.weight_per_minute.max(GENEROUS_WEIGHT);
    sim.epoch_ms = Some(began(&config.data, &sim, None)?);
    let symbols = sim.symbols.iter().map(|market| market.symbol.clone()).collect();
    let running = exchange_sim::Exchange::start(sim).await?;
    config.binance.ws_url = format!("ws://{}", running.address);
    config.binance.rest_url = format!("http://{}", running.address);
    SIM.clone_into(&mut config.binance.source);
    config.binance.symbols = symbols;
    let stop = supervisor.stop();
    supervisor.spawn("sim", async move {
        stop.cancelled().await;
        running.stop().await;
        anyhow::Ok(())
    });
    Ok(())
}

/// Makes the tape in `folder` this simulator's, and returns when its market began: now, if this is the
/// first time and nothing else is set.
fn began(folder: &Path, sim: &SimConfig, address: Option<String>) -> anyhow::Result<i64> {
    let market = |epoch_ms| Market {
        epoch_ms: sim.epoch_ms.unwrap_or(epoch_ms),
        seed: sim.seed,
        rate: sim.rate,
        density: sim.density,
        limit: sim.limit,
        symbols: sim.symbols.clone(),
    };
    let wanted = Exchange::Simulated { market: market(clock().now().millis()), address };
    let place = folder.display();
    match exchange_of(folder, &wanted)? {
        Exchange::Simulated { market: decided, .. } => match decided.differs_from(&market(decided.epoch_ms)) {
            None => Ok(decided.epoch_ms),
            Some(setting) => anyhow::bail!(
                "{setting}: {place} is the tape of a market with another value, whose ids are other trades: \
                 expected the same, or a folder, or volumes, of its own"
            ),
        },
        Exchange::Real => {
            anyhow::bail!(
                "{place} is the tape of a real exchange: simulated trades need a folder, or volumes, of their own"
            )
        }
    }
}

/// Refuses to add an exchange's trades to a simulator's.
///
/// # Errors
/// Names the folder, and what to do.
pub fn refuse_others(folder: &Path) -> anyhow::Result<()> {
    let is_real = exchange_of(folder, &Exchange::Real)? == Exchange::Real;
    anyhow::ensure!(is_real, "{} holds simulated trades: use another folder (--data) for others", folder.display());
    Ok(())
}
