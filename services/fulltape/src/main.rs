//! fulltape: the full tape of the crypto market. One binary, one role per subcommand.

mod cli;
mod config;
mod progress;
mod roles;
mod sim;
mod sources;
mod standby;
mod tables;
mod tape;
mod up;
mod wire;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use runtime::{shutdown, telemetry};

use crate::cli::{Cli, Command};
use crate::config::Config;

/// For us and for the C libraries. Most of what one thread allocates another one frees, and glibc keeps all that a burst
/// took: 143 MiB of ingest, 10 of them in use, half a minute after brokers had been away. This one gives it back: 55.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The exit status for a command line or a configuration that cannot be used (`EX_USAGE`).
const USAGE: u8 = 64;

/// The exit status of an audit that could not be done: unlike 1, it says nothing about the data.
const NOT_AUDITED: u8 = 2;

/// How long the end waits for blocking calls of clients that were given up.
const LAST_CALLS: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => {
            // Help and version are answers too.
            let status = if answer.use_stderr() { USAGE } else { 0 };
            let _ = answer.print();
            return ExitCode::from(status);
        }
    };
    let config = match cli.config() {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(USAGE);
        }
    };
    if cli.print_config {
        print!("{}", runtime::configuration::printed(&config));
        return ExitCode::SUCCESS;
    }
    if let Err(error) = telemetry::start_log(&config.telemetry.log, config.telemetry.format) {
        eprintln!("telemetry.log: {error}");
        return ExitCode::from(USAGE);
    }
    let failure = match &cli.command {
        Command::Audit(_) => ExitCode::from(NOT_AUDITED),
        _ => ExitCode::FAILURE,
    };
    let runtime = match runtime_of(&cli.command) {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("fulltape: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(run(cli.command, config));
    // A blocking call that nobody waits for any more must not keep the process alive.
    runtime.shutdown_timeout(LAST_CALLS);
    ended.unwrap_or_else(|error| {
        eprintln!("fulltape: {error:#}");
        failure
    })
}

/// The processor is one loop that mostly waits: on several threads, a tenth of its processor time went into their waking
/// each other.
fn runtime_of(command: &Command) -> std::io::Result<tokio::runtime::Runtime> {
    match command {
        Command::Processor => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        _ => tokio::runtime::Runtime::new(),
    }
}

async fn run(command: Command, config: Config) -> anyhow::Result<ExitCode> {
    let stop = shutdown::on_signal()?;
    match command {
        Command::Up(up) => up::run(config, up.once, stop).await,
        Command::Ingest(ingest) => roles::ingest(config, ingest.once, stop).await,
        Command::Processor => roles::processor(config, stop).await,
        Command::Archiver => roles::archiver(config, stop).await,
        Command::Audit(audit) => roles::audit(config, audit, stop).await,
        Command::Init(init) => roles::init(config, init).await,
        Command::Sim(options) => sim::run(config, options, stop).await,
        Command::Health => roles::health(&config).await,
    }
}
