//! The outside world of the embedded mode, in one ordinary folder: log and tables as SQLite files,
//! the archive as files.
//!
//! ```text
//!  <data folder>/VERSION           what wrote it
//!                lock              held while somebody writes
//!                log.sqlite        LocalLog: topics, records, groups
//!                tables.sqlite     LocalTables: trades, gaps, completeness, checkpoints
//!                crypto_data/      LocalArchive: trades/date=…/part-….parquet, …
//! ```
//!
//! `sqlite3` opens the two files while everything runs; the views with readable times are for that.
//! Whatever a call has acknowledged survives the loss of power: SQLite runs in WAL mode with
//! `synchronous=FULL`, files and their folders are synced.

mod archive;
mod database;
mod folder;
mod log;
mod queue;
mod tables;

pub use archive::LocalArchive;
pub use folder::{DataFolder, FolderError};
pub use log::{LocalLog, LocalReader, LocalScan};
pub use tables::{LocalQuery, LocalTables};
