//! The simulated exchange: as a role of its own, or beside the others in one process.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use exchange_sim::{Exchange, SimConfig};
use runtime::{CancellationToken, Supervisor};

use crate::config::{self, Config};
use crate::wire::clock;

/// The file in the data folder that says when the simulated market began: it goes on trading while
/// nobody looks, as a real one does, and the ids issued meanwhile are fetched at the next start.
const EPOCH_FILE: &str = "simulated-market-began";

/// Weight per minute of a simulator of one's own: enough to fetch a long pause.
const GENEROUS_WEIGHT: u32 = 600_000;

/// The role sim.
///
/// # Errors
/// If the settings cannot work or the address is taken.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let sim = with_symbols(&config);
    let started = |address| {
        println!("ws://{address}/ws and /stream, http://{address}/api/v3, faults at http://{address}/sim/faults");
    };
    exchange_sim::serve(sim, stop, started).await?;
    Ok(ExitCode::SUCCESS)
}

/// The data folder if nobody named one: the simulator has its own, since its ids are not the exchange's.
pub fn default_folder() -> PathBuf {
    Path::new(config::DATA).join("sim")
}

/// Refuses to mix simulated trades with others: between their ids would be gaps that nobody can fill.
///
/// # Errors
/// Names the folder, and what to do.
pub fn refuse_to_mix(config: &Config, is_sim: bool, had_trades: bool) -> anyhow::Result<()> {
    let (data, simulated) = (config.data.display(), config.data.join(EPOCH_FILE).exists());
    anyhow::ensure!(is_sim || !simulated, "{data} holds simulated trades: use another folder (--data) for others");
    let others = had_trades && !simulated && config.sim.epoch_ms.is_none();
    anyhow::ensure!(
        !is_sim || !others,
        "{data} holds trades of an exchange: use another folder (--data) for simulated ones"
    );
    Ok(())
}

/// Starts an exchange in this process, and points the settings of the source at it.
///
/// # Errors
/// If the settings cannot work.
pub async fn start_beside(config: &mut Config, supervisor: &mut Supervisor) -> anyhow::Result<()> {
    let mut sim = with_symbols(config);
    sim.weight_per_minute = sim.weight_per_minute.max(GENEROUS_WEIGHT);
    if sim.epoch_ms.is_none() {
        sim.epoch_ms = Some(began(&config.data.join(EPOCH_FILE))?);
    }
    let symbols = sim.symbols.iter().map(|market| market.symbol.clone()).collect();
    let running = Exchange::start(sim).await?;
    config.binance.ws_url = format!("ws://{}", running.address);
    config.binance.rest_url = format!("http://{}", running.address);
    config.binance.source = "sim".to_owned();
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
    match config.symbols() {
        symbols if symbols.is_empty() => config.sim.clone(),
        symbols => config.sim.clone().with_symbols(&symbols),
    }
}

/// When the market of this data folder began, in ms since 1970; now, if it has none yet.
fn began(file: &Path) -> anyhow::Result<i64> {
    match std::fs::read_to_string(file) {
        Ok(text) => text.trim().parse().with_context(|| format!("{}: expected ms since 1970", file.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let now = clock().now().millis();
            std::fs::write(file, now.to_string()).with_context(|| file.display().to_string())?;
            Ok(now)
        }
        Err(error) => Err(error).with_context(|| file.display().to_string()),
    }
}
