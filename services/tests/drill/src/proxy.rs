//! A TCP proxy between a client and its server that does what networks do.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use e2e::pause;

/// How soon a connection notices that the network has changed.
const GLANCE: Duration = Duration::from_millis(50);

/// What the network does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Its job.
    #[default]
    Works,
    /// Its job, but each way takes so long.
    Delays(Duration),
    /// Nothing arrives, and nobody is told.
    Swallows,
    /// What the client says arrives; what the server says does not, and then the connection is cut.
    LosesAnswers,
    /// So many bytes a second arrive.
    Drips(usize),
    /// Connections are cut, and no new one is made.
    IsDown,
}

/// A proxy. It lives as long as the process.
#[derive(Clone)]
pub struct Proxy {
    address: SocketAddr,
    network: Arc<Mutex<Network>>,
}

impl Proxy {
    /// Stands before a server, which need not be there yet.
    ///
    /// # Errors
    /// If no port is free.
    pub fn before(server: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let proxy = Self { address: listener.local_addr()?, network: Arc::default() };
        let accepting = proxy.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let proxy = accepting.clone();
                thread::spawn(move || proxy.connect(client, server));
            }
        });
        Ok(proxy)
    }

    /// Where clients find it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the network does this, also to present connections.
    pub fn set(&self, network: Network) {
        *self.lock() = network;
    }

    fn lock(&self) -> MutexGuard<'_, Network> {
        self.network.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Network {
        *self.lock()
    }

    fn connect(&self, client: TcpStream, server: SocketAddr) {
        if self.now() == Network::IsDown {
            return;
        }
        let Ok(server) = TcpStream::connect(server) else { return };
        let Ok((back_to, back_from)) = client.try_clone().and_then(|c| Ok((c, server.try_clone()?))) else { return };
        let answers = self.clone();
        thread::spawn(move || answers.pump(back_from, back_to, true));
        self.pump(client, server, false);
    }

    /// Carries bytes one way until one side ends, or the network cuts the connection.
    fn pump(&self, mut from: TcpStream, mut to: TcpStream, is_answer: bool) {
        let mut buffer = [0; 16 * 1024];
        let mut lost = false;
        let _ = from.set_read_timeout(Some(GLANCE));
        loop {
            let network = self.now();
            if network == Network::IsDown || (lost && network != Network::LosesAnswers) {
                break;
            }
            let most = if let Network::Drips(bytes) = network { (bytes / 20).max(1) } else { buffer.len() };
            let count = match from.read(&mut buffer[..most]) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(_) => break,
            };
            // It may have changed while we waited for bytes.
            match self.now() {
                Network::Delays(by) => pause(by),
                Network::Drips(_) => pause(GLANCE),
                Network::LosesAnswers if is_answer => {
                    lost = true;
                    continue;
                }
                // What was swallowed is not there when the network works again: like a cut, but silent.
                Network::Swallows => {
                    while self.now() == Network::Swallows {
                        pause(GLANCE);
                    }
                    break;
                }
                Network::IsDown => break,
                _ => {}
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says everything twice, behind a proxy.
    fn parrot() -> (Proxy, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = Proxy::before(listener.local_addr().unwrap()).unwrap();
        thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut word = [0; 4];
                    while client.read_exact(&mut word).is_ok() && client.write_all(&[word, word].concat()).is_ok() {}
                });
            }
        });
        let client = TcpStream::connect(proxy.address()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
        (proxy, client)
    }

    fn ask(client: &mut TcpStream) -> std::io::Result<[u8; 8]> {
        client.write_all(b"word")?;
        let mut answer = [0; 8];
        client.read_exact(&mut answer).map(|()| answer)
    }

    #[test]
    fn it_carries_both_ways() {
        let (proxy, mut client) = parrot();
        assert_eq!(&ask(&mut client).unwrap(), b"wordword");
        proxy.set(Network::Delays(Duration::from_millis(100)));
        assert_eq!(&ask(&mut client).unwrap(), b"wordword");
        proxy.set(Network::Drips(200));
        assert_eq!(&ask(&mut client).unwrap(), b"wordword");
    }

    #[test]
    fn what_is_lost_is_lost() {
        for network in [Network::Swallows, Network::LosesAnswers, Network::IsDown] {
            let (proxy, mut client) = parrot();
            assert!(ask(&mut client).is_ok());
            proxy.set(network);
            assert!(ask(&mut client).is_err(), "{network:?}");
            proxy.set(Network::Works);
            let mut again = TcpStream::connect(proxy.address()).unwrap();
            assert_eq!(&ask(&mut again).unwrap(), b"wordword");
        }
    }
}
