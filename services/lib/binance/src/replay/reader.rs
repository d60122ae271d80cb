//! The thread that reads recordings ahead of the consumer.

use std::io::Read;
use std::ops::ControlFlow;
use std::thread;

use bytes::Bytes;
use domain::{Origin, Timestamp};
use ports::FeedEvent;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::content::Decoder;
use super::lines::{Broken, Line, Lines};
use super::open::Recording;
use super::unpack;
use crate::{EVIDENCE_BYTES, MAX_FRAME_BYTES, telemetry};

/// A chunk goes to the consumer when it has so many events, or so many bytes.
const CHUNK_EVENTS: usize = 1_024;
const CHUNK_BYTES: usize = 256 * 1024;

/// What the reader sends.
pub(crate) enum Chunk {
    /// Events, in order.
    Events(Vec<FeedEvent>),
    /// A recording that was there cannot be read any more.
    Failed(String),
    /// All recordings are read.
    End,
}

/// Starts reading; stops when the consumer is gone.
pub(crate) fn start(recordings: Vec<Recording>, chunks: mpsc::Sender<Chunk>) -> Result<(), String> {
    telemetry::describe();
    let read = move || {
        let mut out = Out { chunks, events: Vec::new(), bytes: 0 };
        for recording in recordings {
            if Reading::new(recording, &mut out).run().is_break() {
                return;
            }
        }
        let _ = out.send(Chunk::End);
    };
    // Reading blocks, and is busy for as long as the recordings last: not a task for the runtime's threads.
    let thread = thread::Builder::new().name("replay".to_owned()).spawn(read);
    thread.map(drop).map_err(|error| format!("cannot start the reader: {error}"))
}

/// Gathers events into chunks. A break means that the consumer is gone.
struct Out {
    chunks: mpsc::Sender<Chunk>,
    events: Vec<FeedEvent>,
    bytes: usize,
}

impl Out {
    fn push(&mut self, event: FeedEvent, bytes: usize) -> ControlFlow<()> {
        self.events.push(event);
        self.bytes += bytes;
        if self.events.len() >= CHUNK_EVENTS || self.bytes >= CHUNK_BYTES {
            self.flush()
        } else {
            ControlFlow::Continue(())
        }
    }

    fn flush(&mut self) -> ControlFlow<()> {
        if self.events.is_empty() {
            return ControlFlow::Continue(());
        }
        let events = std::mem::replace(&mut self.events, Vec::with_capacity(CHUNK_EVENTS));
        self.bytes = 0;
        self.send(Chunk::Events(events))
    }

    fn send(&mut self, chunk: Chunk) -> ControlFlow<()> {
        match self.chunks.blocking_send(chunk) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

/// The reading of one recording.
struct Reading<'a> {
    recording: Recording,
    out: &'a mut Out,
    source: Bytes,
    /// When the recorder had the last line: what is damaged has no time of its own.
    last_time: Timestamp,
    frames: u64,
    damaged: u64,
}

impl<'a> Reading<'a> {
    fn new(recording: Recording, out: &'a mut Out) -> Self {
        let source = Bytes::copy_from_slice(recording.name.as_bytes());
        let last_time = recording.written_at;
        Self { recording, out, source, last_time, frames: 0, damaged: 0 }
    }

    fn run(mut self) -> ControlFlow<()> {
        let (path, entries) = (self.recording.path.clone(), std::mem::take(&mut self.recording.entries));
        let mut entries = entries.into_iter();
        let mut flow = ControlFlow::Continue(());
        let walked = unpack::walk(&path, &mut |name, content| {
            if let Some(Some(decoder)) = entries.next() {
                flow = self.entry(name, decoder, content);
            }
            flow
        });
        flow?;
        match walked {
            Ok(None) => {}
            Ok(Some(damage)) => self.damage(Bytes::new(), format!("{}: {damage}", self.recording.name))?,
            Err(error) => {
                self.out.flush()?;
                self.out.send(Chunk::Failed(format!("{}: {error}", path.display())))?;
                return ControlFlow::Break(());
            }
        }
        let (frames, damaged) = (self.frames, self.damaged);
        info!(file = self.recording.name, frames, damaged, "recording read to its end");
        self.out.flush()
    }

    fn entry(&mut self, name: Option<&str>, mut decoder: Decoder, content: &mut dyn Read) -> ControlFlow<()> {
        let place = match name {
            None => self.recording.name.clone(),
            Some(entry) => format!("{}: entry {entry}", self.recording.name),
        };
        let mut lines = Lines::new(content);
        while let Some(line) = lines.next_line() {
            self.line(&place, lines.number(), line, &mut decoder)?;
        }
        match lines.broken() {
            None => ControlFlow::Continue(()),
            Some(broken) => self.broken(&place, broken),
        }
    }

    fn line(&mut self, place: &str, number: u64, line: Line, decoder: &mut Decoder) -> ControlFlow<()> {
        let line = match line {
            Line::Whole(line) => line,
            Line::Overlong { head, length } => {
                let expected = format!("expected a line of at most {MAX_FRAME_BYTES} bytes, got {length}");
                return self.damage(head, format!("{place}: line {number}: {expected}"));
            }
        };
        match decoder.decode(number, &line) {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some((bytes, received_at))) => self.frame(number, bytes, received_at),
            Err(expected) => {
                let evidence = Bytes::copy_from_slice(&line[..line.len().min(EVIDENCE_BYTES)]);
                self.damage(evidence, format!("{place}: line {number}: {expected}"))
            }
        }
    }

    fn frame(&mut self, number: u64, bytes: Bytes, received_at: Timestamp) -> ControlFlow<()> {
        self.frames += 1;
        self.last_time = received_at;
        let (weight, source) = (bytes.len(), self.source.clone());
        let place = Some(number);
        self.out.push(FeedEvent::Frame { bytes, received_at, origin: Origin::Replay, source, place }, weight)
    }

    fn broken(&mut self, place: &str, broken: Broken) -> ControlFlow<()> {
        let Broken { number, position, rest, error } = broken;
        let reason = format!(
            "{place}: line {number}, byte {position} of the unpacked content: expected more, the file is damaged: {error}"
        );
        warn!(reason, "recording is damaged");
        self.damage(rest, reason)
    }

    fn damage(&mut self, bytes: Bytes, reason: String) -> ControlFlow<()> {
        self.damaged += 1;
        metrics::counter!(telemetry::INPUT_DAMAGED).increment(1);
        let (weight, received_at, source) = (bytes.len(), self.last_time, self.source.clone());
        self.out.push(FeedEvent::Damaged { bytes, received_at, source, reason }, weight)
    }
}
