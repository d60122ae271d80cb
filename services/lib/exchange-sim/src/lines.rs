//! The TCP connections, which can be reset, stalled, silenced and refused as a network does it,
//! below anything that the protocols could notice.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tracing::warn;

use crate::shared::lock;

/// How long to wait when the system has no more sockets.
const NO_SOCKETS_PAUSE: Duration = Duration::from_millis(200);

/// All connections.
#[derive(Debug)]
pub(crate) struct Lines(Mutex<State>);

#[derive(Debug)]
struct State {
    present: Fate,
    stalled_until: Option<Instant>,
    refused_until: Option<Instant>,
}

/// What may happen to the connections that exist at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    /// Cancelled when they are reset.
    pub(crate) cut: CancellationToken,
    /// Cancelled when they fall silent for ever.
    pub(crate) silence: CancellationToken,
}

impl Lines {
    pub(crate) fn new() -> Arc<Self> {
        let state = State { present: Fate::default(), stalled_until: None, refused_until: None };
        Arc::new(Self(Mutex::new(state)))
    }

    /// Resets all present connections.
    pub(crate) fn cut(&self) {
        self.leave_present().cut.cancel();
    }

    /// Silences all present connections for ever.
    pub(crate) fn silence(&self) {
        self.leave_present().silence.cancel();
    }

    /// The fate of the present connections, which later ones do not share.
    pub(crate) fn leave_present(&self) -> Fate {
        std::mem::take(&mut lock(&self.0).present)
    }

    /// Sends nothing for a while.
    pub(crate) fn stall(&self, duration: Duration) {
        lock(&self.0).stalled_until = Some(Instant::now() + duration);
    }

    /// Takes no new connections for a while.
    pub(crate) fn refuse(&self, duration: Duration) {
        lock(&self.0).refused_until = Some(Instant::now() + duration);
    }

    pub(crate) fn refuses(&self) -> bool {
        lock(&self.0).refused_until.is_some_and(|until| Instant::now() < until)
    }

    fn stalled_until(&self) -> Option<Instant> {
        let mut state = lock(&self.0);
        state.stalled_until = state.stalled_until.filter(|until| Instant::now() < *until);
        state.stalled_until
    }
}

/// The listener.
pub(crate) struct Gate {
    pub(crate) listener: TcpListener,
    pub(crate) lines: Arc<Lines>,
}

impl Listener for Gate {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) if self.lines.refuses() => reset(&stream),
                Ok((stream, address)) => {
                    // Trades are small and urgent.
                    let _ = stream.set_nodelay(true);
                    return (Line::new(stream, Arc::clone(&self.lines)), address);
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    sleep(NO_SOCKETS_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Makes the end of a connection a reset rather than a good-bye.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) fate: Fate,
}

impl Connected<IncomingStream<'_, Gate>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Gate>) -> Self {
        Self { address: *stream.remote_addr(), fate: stream.io().fate.clone() }
    }
}

/// One connection.
pub(crate) struct Line {
    stream: TcpStream,
    lines: Arc<Lines>,
    fate: Fate,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    stall: Option<Pin<Box<Sleep>>>,
}

impl Line {
    fn new(stream: TcpStream, lines: Arc<Lines>) -> Self {
        let fate = lock(&lines.0).present.clone();
        let cut = Box::pin(fate.cut.clone().cancelled_owned());
        Self { stream, lines, fate, cut, stall: None }
    }

    fn poll_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.cut.as_mut().poll(cx).is_ready() {
            reset(&self.stream);
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(stall) = &mut self.stall {
                std::task::ready!(stall.as_mut().poll(cx));
                self.stall = None;
            }
            match self.lines.stalled_until() {
                Some(until) => self.stall = Some(Box::pin(sleep_until(until))),
                None => return Poll::Ready(()),
            }
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_cut(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_cut(cx)?;
        if self.fate.silence.is_cancelled() {
            return Poll::Ready(Ok(bytes.len()));
        }
        std::task::ready!(self.poll_stall(cx));
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.fate.silence.is_cancelled() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
