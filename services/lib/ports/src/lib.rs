//! The seams between fulltape's services and the outside world.
//!
//! Each port is narrow and carries its hard semantics in writing: what is acknowledged, what may
//! have happened when an answer is lost, what a reader may never see. Adapters translate and never
//! decide: no retry policy, dedupe, batching or roll rule lives inside one. Each port has one
//! [`conformance`] suite, which every adapter passes: [`memory`], local and the real servers.
//!
//! ```text
//!  Feed ─┐                                      ┌─▶ Tables ─▶ TableQuery
//!        ├─▶ ingest ─▶ LogWriter ─▶ LogReader ──┤
//!  History ┘                  └───▶ LogScan     └─▶ Archive
//! ```

pub mod archive;
pub mod clock;
pub mod conformance;
pub mod error;
pub mod feed;
pub mod log;
pub mod memory;
pub mod retry;
pub mod tables;

pub use archive::{Archive, FileInfo, Published};
pub use clock::{Clock, SystemClock};
pub use error::PortError;
pub use feed::{Feed, FeedEvent, History, HistoryError};
pub use log::{Assignment, Bounds, LogEvent, LogReader, LogScan, LogWriter, Revocation, Start};
pub use retry::{persist, persist_for};
pub use tables::{Checkpoint, CompletenessView, TableQuery, Tables};
