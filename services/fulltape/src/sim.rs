//! The simulated exchange: as a role of its own, or beside the others in one process.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use exchange_sim::SimConfig;
use runtime::{CancellationToken, Supervisor};

use crate::cli;
use crate::config::{self, Config};
use crate::roles::Admin;
use crate::tape::{Exchange, exchange_of};
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
    let mut sim = with_symbols(&config);
    if let (Some(folder), Some(address)) = (&options.tape, options.address) {
        sim.epoch_ms = Some(began(folder, sim.epoch_ms, Some(address))?);
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
    let mut sim = with_symbols(config);
    sim.weight_per_minute = sim.weight_per_minute.max(GENEROUS_WEIGHT);
    sim.epoch_ms = Some(began(&config.data, sim.epoch_ms, None)?);
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

fn with_symbols(config: &Config) -> SimConfig {
    match config.source.symbols.as_slice() {
        [] => config.sim.clone(),
        symbols => config.sim.clone().with_symbols(symbols),
    }
}

/// Makes the tape in `folder` the simulator's, and returns when its market began: `epoch_ms` if set,
/// else now if this is the first time.
fn began(folder: &Path, epoch_ms: Option<i64>, address: Option<String>) -> anyhow::Result<i64> {
    let wanted = Exchange::Simulated { began_ms: epoch_ms.unwrap_or_else(|| clock().now().millis()), address };
    match exchange_of(folder, &wanted)? {
        Exchange::Simulated { began_ms, .. } => Ok(epoch_ms.unwrap_or(began_ms)),
        Exchange::Real => anyhow::bail!(
            "{} is the tape of a real exchange: simulated trades need a folder, or volumes, of their own",
            folder.display()
        ),
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
