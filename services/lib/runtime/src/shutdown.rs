//! Shutdown: SIGTERM and Ctrl-C ask for a drained end, a second one ends at once.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a drained end may take, from the signal to the exit.
pub const PATIENCE: Duration = Duration::from_secs(9);

/// Signals within this time are one.
const ONE_WISH: Duration = Duration::from_millis(500);

/// The exit status when the drained end took too long or was cut short by a second signal.
const CUT_SHORT: i32 = 130;

/// Returns a token that is cancelled by the first SIGTERM or SIGINT.
///
/// # Errors
/// If the process cannot handle signals.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        received(&mut terminate, &mut interrupt).await;
        tracing::info!("stopping");
        asked.cancel();
        let first = Instant::now();
        let second = async {
            // A process and its group may both be signalled: that is one wish, not two.
            while first.elapsed() < ONE_WISH {
                received(&mut terminate, &mut interrupt).await;
            }
        };
        match tokio::time::timeout(PATIENCE, second).await {
            Ok(()) => tracing::error!("a second signal: stopped before everything was drained"),
            Err(_) => tracing::error!(patience_s = PATIENCE.as_secs(), "stopped before everything was drained"),
        }
        std::process::exit(CUT_SHORT);
    });
    Ok(stop)
}

async fn received(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
