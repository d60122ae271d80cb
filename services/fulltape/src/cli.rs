//! The command line.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use domain::{Symbol, Timestamp};
use runtime::{ConfigErrors, configuration};

use crate::config::{self, Config};
use crate::sim;
use crate::sources::Source;

/// The full tape of the crypto market: every trade, stored exactly once, archived for good, and
/// proved complete.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// A TOML file with settings; variables named FULLTAPE__SECTION__KEY override it.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the settings in force, secrets masked, and exit.
    #[arg(long, global = true)]
    pub print_config: bool,
}

/// The roles and tools.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Everything in one process, without any server.
    Up(Up),
    /// Feed to log: decode, sequence, publish, backfill.
    Ingest(Ingest),
    /// Log to tables.
    Processor,
    /// Log to archive.
    Archiver,
    /// Compare log, tables and archive; status 1 on any difference, 2 if they cannot be compared.
    Audit(Audit),
    /// Create topics, tables and the archive's root; harmless if they exist.
    Init(Init),
    /// An exchange that looks like Binance, with a seeded market and faults on demand.
    Sim(Sim),
    /// Ask the role at admin.listen whether it does its work; status 1 if it does not.
    Health,
}

/// Where trades come from.
#[derive(Debug, Default, Args)]
pub struct SourceArgs {
    /// Where trades come from: sim, binance, replay:FILE, lake:FOLDER for an archive, or
    /// tape:FOLDER for the exchange that FOLDER names. Several replays are read in order.
    #[arg(long = "source", value_name = "SOURCE")]
    sources: Vec<String>,
    /// More recordings for a replay, read in order behind those of --source.
    #[arg(value_name = "FILE")]
    files: Vec<String>,
    /// The pace of a replay: recorded, 10x (any factor), or max.
    #[arg(long, value_name = "PACE")]
    rate: Option<String>,
    /// The symbols to collect, for example BTCUSDT,ETHUSDT.
    #[arg(long, value_name = "SYMBOLS", value_delimiter = ',')]
    symbols: Vec<Symbol>,
}

/// Options of `up`.
#[derive(Debug, Args)]
pub struct Up {
    #[command(flatten)]
    source: SourceArgs,
    /// The folder for everything that is stored; ./data, and ./data/sim for simulated trades.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// End when a replay is read, stored and archived, and print a summary.
    #[arg(long)]
    pub once: bool,
}

/// Options of `ingest`.
#[derive(Debug, Args)]
pub struct Ingest {
    #[command(flatten)]
    source: SourceArgs,
    /// End when a replay is read and published, and print a summary.
    #[arg(long)]
    pub once: bool,
}

/// Options of `audit`.
#[derive(Debug, Args)]
pub struct Audit {
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    /// The folder of an embedded installation: ./data, or ./data/sim if there is no other.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Wait up to this many seconds until all that the log has is stored and archived.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub wait: u64,
    /// Only these symbols, for example BTCUSDT,ETHUSDT.
    #[arg(long = "symbol", value_name = "SYMBOLS", value_delimiter = ',')]
    symbols: Vec<Symbol>,
    /// Only hours from this day or time on, for example 2026-11-21 or 2026-11-21T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Only hours before this day or time.
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// Compare every row again, also what earlier audits have proved.
    #[arg(long)]
    deep: bool,
    /// Derive again from the log what is not as it should be, then audit again.
    #[arg(long)]
    pub repair: bool,
}

impl Audit {
    /// What is to be audited.
    pub fn scope(&self) -> audit::Scope {
        let symbols = self.symbols.iter().cloned().collect();
        audit::Scope { symbols, from: self.from, to: self.to, deep: self.deep }
    }
}

/// Options of `init`.
#[derive(Debug, Args)]
pub struct Init {
    /// A folder of numbered .cql files to apply.
    #[arg(long, value_name = "DIR")]
    pub schema: Option<PathBuf>,
    /// Wait up to this many seconds for servers that do not answer yet.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub wait: u64,
}

/// Options of `sim`.
#[derive(Debug, Args)]
pub struct Sim {
    /// Make the tape in this folder the simulator's; its market then goes on after a restart.
    #[arg(long, value_name = "FOLDER", requires = "address")]
    pub tape: Option<PathBuf>,
    /// Where others reach the simulator, host:port: `--source tape:FOLDER` looks it up.
    #[arg(long, value_name = "ADDRESS", requires = "tape")]
    pub address: Option<String>,
}

impl Cli {
    /// The settings in force: defaults, file, variables, command line.
    ///
    /// # Errors
    /// Everything that is wrong with them, together.
    pub fn config(&self) -> Result<Config, ConfigErrors> {
        let mut config: Config = configuration::load(self.config.as_deref(), configuration::environment())?;
        match &self.command {
            Command::Up(up) => {
                up.source.apply(&mut config);
                if Source::parse(&config.source) == Ok(Source::Sim) && config.data == Path::new(config::DATA) {
                    config.data = sim::default_folder();
                }
                apply_data(up.data.as_ref(), &mut config);
            }
            Command::Ingest(ingest) => ingest.source.apply(&mut config),
            Command::Audit(audit) => {
                if config.data == Path::new(config::DATA) && !config.data.join("VERSION").exists() {
                    config.data = sim::default_folder();
                }
                apply_data(audit.data.as_ref(), &mut config);
            }
            _ => {}
        }
        let mut errors: Vec<String> = config.check().err().into_iter().flat_map(ConfigErrors::into_list).collect();
        errors.extend(self.contradiction(&config));
        if errors.is_empty() { Ok(config) } else { Err(ConfigErrors::new(errors)) }
    }

    /// What the command line says that cannot be.
    fn contradiction(&self, config: &Config) -> Option<String> {
        let ends = Source::parse(&config.source).is_ok_and(|source| source.ends());
        match &self.command {
            Command::Up(Up { once: true, .. }) | Command::Ingest(Ingest { once: true, .. }) if !ends => {
                Some("--once: expected a source that ends, for example --source replay:FILE".to_owned())
            }
            Command::Audit(Audit { from: Some(from), to: Some(to), .. }) if from >= to => {
                Some(format!("--from: expected a time before that of --to, got {from} and {to}"))
            }
            _ => None,
        }
    }
}

impl SourceArgs {
    fn apply(&self, config: &mut Config) {
        if !self.sources.is_empty() || !self.files.is_empty() {
            let files = self.files.iter().map(|file| format!("{}{file}", crate::sources::REPLAY));
            config.source.from = self.sources.iter().cloned().chain(files).collect();
        }
        if let Some(pace) = &self.rate {
            config.source.pace.clone_from(pace);
        }
        if !self.symbols.is_empty() {
            config.source.symbols.clone_from(&self.symbols);
        }
    }
}

fn apply_data(folder: Option<&PathBuf>, config: &mut Config) {
    if let Some(folder) = folder {
        config.data.clone_from(folder);
    }
}
