//! What every role needs around its work: configuration, telemetry, an admin endpoint,
//! supervision and shutdown.
//!
//! The only crate that reads the environment. It knows nothing of trades.

pub mod admin;
pub mod configuration;
pub mod shutdown;
pub mod supervision;
pub mod telemetry;

pub use configuration::ConfigErrors;
pub use supervision::Supervisor;
pub use tokio_util::sync::CancellationToken;
