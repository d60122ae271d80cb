//! One connection to the stream, from its first subscription to its end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures::SinkExt;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tracing::debug;

use crate::hub::{Inbox, Parcel};
use crate::lines::Peer;
use crate::request::{self, Names, Request};
use crate::shared::Shared;
use crate::text::{Kind, Unit};

/// Frames that are written before the connection is looked after again.
const FRAMES_AT_ONCE: usize = 4_096;

/// The close code for clients that break the rules.
const POLICY_VIOLATION: u16 = 1008;

/// The close code for an end that is the server's own.
const GOING_AWAY: u16 = 1001;

/// How a connection begins.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) names: Names,
    pub(crate) combined: bool,
    pub(crate) unit: Unit,
    pub(crate) peer: Peer,
}

/// Why a connection ends.
enum End {
    /// The client left, or the network did.
    Gone,
    /// The client broke a rule or its time is over: a close code and its reason.
    Closed(u16, &'static str),
    /// The client does not read or answer: no good-bye would reach it.
    Dropped(&'static str),
    /// It is to stay open, but silent.
    Silenced,
}

impl End {
    const fn reason(&self) -> &'static str {
        match self {
            Self::Gone => "the client left",
            Self::Closed(_, reason) | Self::Dropped(reason) => reason,
            Self::Silenced => "silenced",
        }
    }
}

struct Session {
    shared: Arc<Shared>,
    socket: WebSocket,
    inbox: Inbox,
    names: Names,
    combined: bool,
    unit: Unit,
    /// Pings without a pong: their payloads and deadlines.
    pings: VecDeque<(Bytes, Instant)>,
    pings_sent: u64,
    /// When the client's last messages came.
    messages: VecDeque<Instant>,
}

/// Serves a connection until it ends.
pub(crate) async fn run(shared: Arc<Shared>, socket: WebSocket, opening: Opening) {
    let inbox = shared.hub.open(opening.unit);
    let mailbox = Arc::clone(&inbox.mailbox);
    let mut session = Session {
        shared: Arc::clone(&shared),
        socket,
        inbox,
        names: opening.names,
        combined: opening.combined,
        unit: opening.unit,
        pings: VecDeque::new(),
        pings_sent: 0,
        messages: VecDeque::new(),
    };
    let streams = known_streams(&shared, &session.names.list());
    shared.hub.subscribe(&mailbox, &streams);
    let end = tokio::select! {
        end = session.serve() => end,
        () = opening.peer.fate.silence.cancelled() => End::Silenced,
        () = mailbox.too_slow().cancelled() => End::Dropped("the client reads too slowly"),
        () = shared.stop.cancelled() => End::Closed(GOING_AWAY, "the server stops"),
    };
    shared.hub.close(&mailbox);
    debug!(peer = %opening.peer.address, reason = end.reason(), "connection ends");
    session.end(end).await;
}

impl Session {
    async fn serve(&mut self) -> End {
        let config = &self.shared.config;
        let ping = Duration::from_millis(config.ping_ms);
        let dies_at = Instant::now() + Duration::from_millis(config.lifetime_ms);
        let mut pings = interval_at(Instant::now() + ping, ping);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let overdue = self.pings.front().map_or(dies_at, |(_, deadline)| *deadline);
            let step = tokio::select! {
                Some(parcel) = self.inbox.parcels.recv() => self.hand_over(parcel).await,
                message = self.socket.recv() => match message {
                    Some(Ok(message)) => self.take(message).await,
                    Some(Err(_)) | None => Err(End::Gone),
                },
                _ = pings.tick() => self.ping().await,
                () = sleep_until(overdue), if !self.pings.is_empty() => Err(End::Dropped("no pong")),
                () = sleep_until(dies_at) => Err(End::Closed(GOING_AWAY, "the connection is too old")),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// Writes a parcel and those that wait behind it.
    async fn hand_over(&mut self, first: Parcel) -> Result<(), End> {
        let (mut frames, mut next) = (0, Some(first));
        while let Some(parcel) = next {
            frames += self.feed(&parcel).await?;
            self.inbox.mailbox.done(&parcel);
            next = if frames < FRAMES_AT_ONCE { self.inbox.parcels.try_recv().ok() } else { None };
        }
        let patience = self.patience();
        in_time(patience, self.socket.flush()).await
    }

    async fn feed(&mut self, parcel: &Parcel) -> Result<usize, End> {
        let patience = self.patience();
        match parcel {
            Parcel::Batch(batch) => {
                let frames = batch.frames(self.combined);
                let socket = &mut self.socket;
                let all = async {
                    for frame in frames {
                        socket.feed(Message::Text(frame)).await?;
                    }
                    Ok::<(), axum::Error>(())
                };
                in_time(patience, all).await?;
                Ok(batch.len())
            }
            Parcel::ServerShutdown(event_us) => {
                let event = format!(r#"{{"e":"serverShutdown","E":{}}}"#, self.unit.of(*event_us));
                let combined = format!(r#"{{"stream":"!serverShutdown","data":{event}}}"#);
                let frame = Message::text(if self.combined { combined } else { event });
                in_time(patience, self.socket.feed(frame)).await?;
                Ok(1)
            }
        }
    }

    async fn take(&mut self, message: Message) -> Result<(), End> {
        if !matches!(message, Message::Close(_)) {
            self.count_message(Instant::now())?;
        }
        match message {
            Message::Text(text) => self.answer(&text).await,
            Message::Pong(payload) => {
                self.take_pong(&payload);
                Ok(())
            }
            // The socket answers pings and closes by itself.
            Message::Ping(_) | Message::Close(_) => Ok(()),
            Message::Binary(_) => Err(End::Closed(POLICY_VIOLATION, "expected text")),
        }
    }

    /// Every message counts: requests, pings and pongs.
    fn count_message(&mut self, now: Instant) -> Result<(), End> {
        let allowed = self.shared.config.client_messages_per_second as usize;
        while self.messages.front().is_some_and(|came| now - *came >= Duration::from_secs(1)) {
            self.messages.pop_front();
        }
        self.messages.push_back(now);
        if self.messages.len() > allowed { Err(End::Closed(POLICY_VIOLATION, "Too many requests")) } else { Ok(()) }
    }

    /// Only the payload of a ping keeps the connection alive; it answers the pings before it, too.
    fn take_pong(&mut self, payload: &Bytes) {
        if let Some(place) = self.pings.iter().position(|(sent, _)| sent == payload) {
            self.pings.drain(..=place);
        }
    }

    async fn ping(&mut self) -> Result<(), End> {
        self.pings_sent += 1;
        let payload = Bytes::from(format!("{}-{}", self.shared.now_us() / 1_000, self.pings_sent));
        self.pings.push_back((payload.clone(), Instant::now() + self.patience()));
        let patience = self.patience();
        in_time(patience, self.socket.send(Message::Ping(payload))).await
    }

    async fn answer(&mut self, text: &Utf8Bytes) -> Result<(), End> {
        let answer = match request::parse(text) {
            Ok((id, request)) => self.carry_out(&id, request),
            Err(refusal) => refusal,
        };
        let patience = self.patience();
        in_time(patience, self.socket.send(Message::text(answer))).await
    }

    fn carry_out(&mut self, id: &Value, request: Request) -> String {
        let (hub, mailbox) = (&self.shared.hub, &self.inbox.mailbox);
        let result = match request {
            Request::Subscribe(names) => {
                let most = self.shared.config.max_streams_per_connection;
                if !self.names.add(&names, most) {
                    let message = format!("Invalid request: a connection has at most {most} streams");
                    return request::refusal(2, &message, Some(id));
                }
                hub.subscribe(mailbox, &known_streams(&self.shared, &names));
                Value::Null
            }
            Request::Unsubscribe(names) => {
                self.names.remove(&names);
                hub.unsubscribe(mailbox, &known_streams(&self.shared, &names));
                Value::Null
            }
            Request::List => json!(self.names.list()),
            Request::SetCombined(combined) => {
                self.combined = combined;
                Value::Null
            }
            Request::GetCombined => json!(self.combined),
        };
        request::answer(id, result)
    }

    /// How long a write may stay without progress, and a ping without its pong.
    fn patience(&self) -> Duration {
        Duration::from_millis(self.shared.config.pong_timeout_ms)
    }

    async fn end(mut self, end: End) {
        match end {
            End::Gone | End::Dropped(_) => {}
            End::Closed(code, reason) => {
                let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
                let good_bye = async {
                    let _ = self.socket.send(Message::Close(Some(frame))).await;
                    while let Some(Ok(_)) = self.socket.recv().await {}
                };
                let _ = timeout(Duration::from_secs(1), good_bye).await;
            }
            End::Silenced => self.stay_silent().await,
        }
    }

    /// Reads and forgets, so that the client's end is noticed. What the socket writes is swallowed below.
    async fn stay_silent(mut self) {
        let lifetime = Duration::from_millis(self.shared.config.lifetime_ms);
        let reading = async { while let Some(Ok(_)) = self.socket.recv().await {} };
        tokio::select! {
            _ = timeout(lifetime, reading) => {}
            () = self.shared.stop.cancelled() => {}
        }
    }
}

async fn in_time<E>(patience: Duration, write: impl Future<Output = Result<(), E>>) -> Result<(), End> {
    match timeout(patience, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Gone),
        Err(_) => Err(End::Dropped("a write without progress")),
    }
}

/// Those of the names that have events, as the hub knows them.
fn known_streams(shared: &Shared, names: &[impl AsRef<str>]) -> Vec<(usize, Kind)> {
    let known = |name: &str| {
        let (symbol, suffix) = name.split_once('@')?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.suffix() == suffix)?;
        // Stream names are in lower case; others are accepted, and silent.
        let upper = symbol.to_uppercase();
        (upper.to_lowercase() == symbol).then(|| shared.market.place(&upper)).flatten().map(|place| (place, kind))
    };
    names.iter().filter_map(|name| known(name.as_ref())).collect()
}
