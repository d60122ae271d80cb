//! One connection from handshake to good-bye.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use domain::frame::Frame;
use futures::{SinkExt, StreamExt};
use memchr::memmem;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};
use tracing::{debug, info, warn};

use super::Shared;
use super::rhythm::Rhythm;
use super::socket::{self, End, Socket};
use super::subscription::{self, MESSAGE_SPACING, Progress, Subscription};
use crate::config::millis;

/// The announcement has about 110 bytes; looking for it in longer frames would be waste.
const SHUTDOWN_FRAME_BYTES: usize = 256;

/// How long the exchange's good-bye is answered.
const GOOD_BYE: Duration = Duration::from_secs(1);

/// What a session tells its keeper while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The session is subscribed and delivers.
    Ready(u64),
    /// The exchange announced that it will end this connection.
    Leaving(u64),
}

/// What a session needs.
pub(crate) struct Session {
    pub(crate) id: u64,
    pub(crate) shard: usize,
    pub(crate) streams: Arc<[String]>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) rhythm: Arc<Mutex<Rhythm>>,
    pub(crate) reports: mpsc::Sender<Report>,
    /// Resolves when the successor has taken over.
    pub(crate) retire: oneshot::Receiver<()>,
}

impl Session {
    /// Lives through one connection; gives back why it ended.
    pub(crate) async fn run(self) -> End {
        let config = &self.shared.config;
        self.shared.attempts.permit().await;
        metrics::counter!(crate::telemetry::CONNECT_ATTEMPTS).increment(1);
        let (path, in_url) = subscription::path(&self.streams, config.time_unit.name());
        let url = format!("{}{path}", config.ws_url.trim_end_matches('/'));
        let socket = match socket::open(&url, millis(config.connect_timeout_ms)).await {
            Ok(socket) => socket,
            Err(end) => return end,
        };
        info!(shard = self.shard, connection = self.id, streams = self.streams.len(), "connected to the exchange");
        let conversation = Subscription::new(&self.streams, in_url);
        Connection::new(self, socket, conversation).run().await
    }
}

/// An open connection and where it stands.
struct Connection {
    session: Session,
    socket: Socket,
    conversation: Subscription,
    opened_at: Instant,
    last_frame_at: Option<Instant>,
    next_message_at: Instant,
    confirmed_at: Option<Instant>,
    ready: bool,
    /// When to say good-bye, and after that when to stop waiting for the answer.
    close_at: Option<Instant>,
    closing: bool,
}

impl Connection {
    fn new(session: Session, socket: Socket, conversation: Subscription) -> Self {
        let now = Instant::now();
        Self {
            session,
            socket,
            conversation,
            opened_at: now,
            last_frame_at: None,
            next_message_at: now,
            confirmed_at: None,
            ready: false,
            close_at: None,
            closing: false,
        }
    }

    async fn run(mut self) -> End {
        let mut timer = Box::pin(sleep_until(self.next_message_at));
        let mut retired = false;
        loop {
            let step = tokio::select! {
                biased;
                _ = &mut self.session.retire, if !retired => {
                    retired = true;
                    self.close_at = Some(Instant::now() + millis(self.config().overlap_linger_ms));
                    Ok(true)
                }
                () = &mut timer => self.timers().await.map(|()| true),
                message = self.socket.next() => self.message(message).await,
            };
            match step {
                // Frames only push deadlines back, so the timer is left alone: it looks again when it fires.
                Ok(false) => {}
                Ok(true) => self.arm(timer.as_mut()),
                Err(end) => return if self.closing { End::Retired } else { end },
            }
        }
    }

    fn config(&self) -> &crate::BinanceConfig {
        &self.session.shared.config
    }

    /// Sets the timer to the next thing that has a time.
    fn arm(&self, timer: Pin<&mut Sleep>) {
        let silence = self.last_sign() + self.rhythm().threshold();
        let message = self.conversation.has_message().then_some(self.next_message_at);
        let ready = self.confirmed_at.filter(|_| !self.ready).map(|at| at + millis(self.config().overlap_max_ms));
        let next = [Some(silence), message, self.confirm_by(), ready, self.close_at];
        timer.reset(next.into_iter().flatten().min().unwrap_or(silence));
    }

    /// Does whatever is due.
    async fn timers(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if self.close_at.is_some_and(|at| now >= at) {
            self.close(now).await?;
        }
        let silence = now.duration_since(self.last_sign());
        if silence >= self.rhythm().threshold() {
            self.rhythm().given_up();
            return Err(End::Silent(silence));
        }
        if self.confirm_by().is_some_and(|at| now >= at) {
            self.unanswered().await?;
        }
        if self.conversation.has_message() && now >= self.next_message_at {
            self.ask(now).await?;
        }
        let patience = millis(self.config().overlap_max_ms);
        if self.confirmed_at.is_some_and(|at| now >= at + patience) {
            self.become_ready().await;
        }
        Ok(())
    }

    /// Takes what came from the socket; true if deadlines may have become earlier.
    async fn message(&mut self, message: Option<Result<Message, Error>>) -> Result<bool, End> {
        match message {
            Some(Ok(Message::Text(text))) => self.text(Bytes::from(text)).await,
            Some(Ok(Message::Binary(bytes))) => {
                self.session.shared.damaged(&bytes, format!("binary message of {} bytes: expected text", bytes.len()));
                Ok(false)
            }
            // The library has queued the pong with the ping's payload; the next read sends it.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(false),
            Some(Ok(Message::Close(frame))) => {
                // The library has queued the answer; a peer that does not take it is not waited for.
                let _ = timeout(GOOD_BYE, self.socket.flush()).await;
                let reason = frame.map_or_else(String::new, |frame| format!(" with {} {}", frame.code, frame.reason));
                Err(End::Lost(format!("closed by the exchange{reason}")))
            }
            Some(Err(error @ (Error::Capacity(_) | Error::Utf8(_)))) => {
                let reason = format!("{error}: expected UTF-8 text of at most {} bytes", crate::MAX_FRAME_BYTES);
                self.session.shared.damaged(&[], reason.clone());
                Err(End::Damaged(reason))
            }
            Some(Err(error)) => Err(End::Lost(error.to_string())),
            None => Err(End::Lost("end of stream".to_owned())),
        }
    }

    async fn text(&mut self, frame: Bytes) -> Result<bool, End> {
        if !self.conversation.is_confirmed() && !frame.starts_with(br#"{"stream""#) {
            match self.conversation.frame(&frame) {
                Progress::NotOurs => {}
                Progress::Going => return Ok(true),
                Progress::Confirmed(missing) => return self.confirmed(&missing).await.map(|()| true),
                Progress::Refused(words) => return self.refused(words).await.map(|()| true),
            }
        }
        let leaving = is_server_shutdown(&frame);
        self.session.shared.frame(&frame);
        if leaving {
            info!(shard = self.session.shard, connection = self.session.id, "the exchange announced a shutdown");
            self.report(Report::Leaving(self.session.id)).await;
            return Ok(false);
        }
        self.note_frame(Instant::now());
        if !self.ready && self.confirmed_at.is_some() {
            self.become_ready().await;
        }
        Ok(false)
    }

    fn note_frame(&mut self, now: Instant) {
        let pause = now.duration_since(self.last_sign());
        if Rhythm::counts(pause) || self.last_frame_at.is_none() {
            self.rhythm().frame_after(pause);
            self.last_frame_at = Some(now);
        }
    }

    fn last_sign(&self) -> Instant {
        self.last_frame_at.unwrap_or(self.opened_at)
    }

    fn rhythm(&self) -> MutexGuard<'_, Rhythm> {
        self.session.rhythm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the next request.
    async fn ask(&mut self, now: Instant) -> Result<(), End> {
        let Some(text) = self.conversation.next_message() else { return Ok(()) };
        debug!(shard = self.session.shard, connection = self.session.id, bytes = text.len(), "request");
        self.next_message_at = now + MESSAGE_SPACING;
        self.send(Message::text(text)).await
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        let deadline = millis(self.config().close_timeout_ms);
        match timeout(deadline, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(End::Lost(format!("cannot send: {error}"))),
            Err(_) => Err(End::Lost(format!("cannot send within {deadline:?}"))),
        }
    }

    /// By when the open requests must be answered, counted from the last one sent.
    fn confirm_by(&self) -> Option<Instant> {
        let waiting = !self.conversation.is_confirmed() && !self.conversation.has_message();
        waiting.then(|| self.next_message_at + millis(self.config().subscribe_timeout_ms))
    }

    async fn unanswered(&mut self) -> Result<(), End> {
        let waited = millis(self.config().subscribe_timeout_ms);
        self.refused(format!("no answer within {waited:?}")).await
    }

    /// Goes on without the list, which is only a check; but not without subscriptions.
    async fn refused(&mut self, words: String) -> Result<(), End> {
        if !self.conversation.only_list_is_open() {
            return Err(End::Unsubscribed(words));
        }
        warn!(
            shard = self.session.shard,
            connection = self.session.id,
            answer = words,
            "cannot check the subscriptions"
        );
        self.conversation.confirm_without_list();
        self.confirmed(&[]).await
    }

    async fn confirmed(&mut self, missing: &[String]) -> Result<(), End> {
        let (shard, connection) = (self.session.shard, self.session.id);
        if missing.len() == self.session.streams.len() {
            return Err(End::Unsubscribed("none of the streams is in the exchange's list".to_owned()));
        }
        if !missing.is_empty() {
            warn!(shard, connection, ?missing, "the exchange does not list these streams");
        }
        info!(shard, connection, streams = self.session.streams.len() - missing.len(), "subscribed");
        self.confirmed_at = Some(Instant::now());
        if self.last_frame_at.is_some() {
            self.become_ready().await;
        }
        Ok(())
    }

    async fn become_ready(&mut self) {
        if !self.ready {
            self.ready = true;
            self.report(Report::Ready(self.session.id)).await;
        }
    }

    async fn report(&self, report: Report) {
        // Without a keeper this task is about to be aborted.
        let _ = self.session.reports.send(report).await;
    }

    /// Says good-bye, and goes on reading what is still under way until the exchange answers.
    async fn close(&mut self, now: Instant) -> Result<(), End> {
        if self.closing {
            return Err(End::Retired);
        }
        self.closing = true;
        self.close_at = Some(now + millis(self.config().close_timeout_ms));
        self.send(Message::Close(None)).await
    }
}

fn is_server_shutdown(frame: &Bytes) -> bool {
    frame.len() <= SHUTDOWN_FRAME_BYTES
        && memmem::find(frame, b"serverShutdown").is_some()
        && Frame::decode(frame) == Ok(Frame::ServerShutdown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_announcement_in_both_forms() {
        let frame = |text: &'static str| Bytes::from_static(text.as_bytes());
        assert!(is_server_shutdown(&frame(r#"{"e":"serverShutdown","E":1778025600000}"#)));
        let combined = r#"{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1778025600000}}"#;
        assert!(is_server_shutdown(&frame(combined)));
        assert!(!is_server_shutdown(&frame(r#"{"e":"trade","s":"serverShutdown"}"#)));
    }
}
