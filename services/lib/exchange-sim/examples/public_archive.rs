//! Writes a day of the simulated market as the files of the exchange's public archive, one per symbol:
//! `cargo run --release -p exchange-sim --example public_archive -- FOLDER 20000000`.

use std::fs::{File, create_dir_all};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use exchange_sim::{Market, Rate, SimConfig};

/// 2025-11-20T00:00:00Z.
const EPOCH_MS: i64 = 1_763_596_800_000;
const SECONDS_PER_DAY: u64 = 86_400;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "archive".to_owned()));
    let trades: u64 = arguments.next().as_deref().unwrap_or("1000000").parse()?;
    let (rate, density) = (Rate::Max, trades.div_ceil(SECONDS_PER_DAY));
    let config = SimConfig { rate, density, limit: Some(trades), epoch_ms: Some(EPOCH_MS), ..SimConfig::default() };
    create_dir_all(&folder)?;
    for market in Market::new(&config)?.symbols() {
        let path = folder.join(format!("{}-trades-2025-11-20.csv", market.symbol()));
        let mut file = BufWriter::new(File::create(&path)?);
        for tick in market.ticks_from(1) {
            let trade = tick.trade(market.symbol());
            let (time, maker) = (trade.trade_time.micros(), if trade.buyer_is_maker { "True" } else { "False" });
            writeln!(file, "{},{},{},0,{time},{maker},True", trade.id, trade.price, trade.quantity)?;
        }
        file.flush()?;
        println!("{}", path.display());
    }
    Ok(())
}
