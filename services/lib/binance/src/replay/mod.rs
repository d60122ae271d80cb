//! Replay: recordings and public archive files as a feed.
//!
//! ```text
//!  path ─▶ unpack (plain, gzip, zip) ─▶ lines ─▶ content (frames, rows) ─▶ reader thread
//!                                                                            │ chunks, bounded
//!                                                    ReplayFeed::next ◀─ pace ◀┘
//! ```
//!
//! Nothing is lost: the reader waits for a slow consumer, and what cannot be read is reported as
//! damaged, with its place.

mod content;
mod lines;
mod open;
mod pace;
mod reader;
mod unpack;

use std::collections::VecDeque;
use std::path::PathBuf;

use async_trait::async_trait;
use ports::{Feed, FeedEvent, PortError};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::BinanceError;
use pace::Schedule;
pub use pace::{Pace, PaceError};

/// Chunks under way between reader and consumer.
const CHUNKS: usize = 4;

/// Recordings, one after the other.
///
/// Takes lines `<receive time in ns> <frame>` and rows of the exchange's public archive
/// (`id,price,qty,quoteQty,time,isBuyerMaker,isBestMatch`), plain, gzipped or zipped; content
/// decides, not names, except that a row's symbol stands in its file's name.
pub struct ReplayFeed {
    chunks: mpsc::Receiver<reader::Chunk>,
    /// What has arrived and was not handed over yet.
    pending: VecDeque<FeedEvent>,
    schedule: Schedule,
    /// Why there is nothing more, if it is not the end.
    failed: Option<String>,
    ended: bool,
}

impl ReplayFeed {
    /// Looks at all files and starts to read them ahead.
    ///
    /// # Errors
    /// [`BinanceError::Replay`] with everything that makes replay impossible: files that are
    /// missing, folders, empty or of unknown content, each with what was expected.
    pub fn open<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>, pace: Pace) -> Result<Self, BinanceError> {
        let recordings = open::recordings(paths.into_iter().map(Into::into).collect())?;
        let (sender, chunks) = mpsc::channel(CHUNKS);
        reader::start(recordings, sender).map_err(|error| BinanceError::Replay(vec![error]))?;
        let schedule = Schedule::new(pace);
        Ok(Self { chunks, pending: VecDeque::new(), schedule, failed: None, ended: false })
    }

    fn take(&mut self, chunk: Option<reader::Chunk>) {
        match chunk {
            Some(reader::Chunk::Events(events)) => self.pending = events.into(),
            Some(reader::Chunk::Failed(reason)) => self.failed = Some(reason),
            Some(reader::Chunk::End) => self.ended = true,
            None => self.failed = Some("the reader stopped without reaching the end".to_owned()),
        }
    }
}

#[async_trait]
impl Feed for ReplayFeed {
    async fn next(&mut self) -> Result<FeedEvent, PortError> {
        // Nothing is taken out of the feed before its last wait, so a dropped call loses nothing.
        while self.pending.is_empty() {
            if let Some(reason) = &self.failed {
                return Err(PortError::refused("recording", reason));
            }
            if self.ended {
                return Ok(FeedEvent::End);
            }
            let chunk = self.chunks.recv().await;
            self.take(chunk);
        }
        if let Some(due) = self.pending.front().and_then(|event| self.schedule.due(event)) {
            sleep_until(due).await;
        }
        self.schedule.passed();
        Ok(self.pending.pop_front().unwrap_or(FeedEvent::End))
    }
}
