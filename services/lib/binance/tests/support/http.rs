//! A tiny HTTP server: one answer per request, from a function.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A request: its target and all of its head in lower case.
#[derive(Clone, Debug)]
pub struct Request {
    pub target: String,
    pub head: String,
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    pub delay: Duration,
}

pub fn answer(status: u16, body: impl Into<String>) -> Answer {
    Answer { status, headers: Vec::new(), body: body.into(), delay: Duration::ZERO }
}

impl Answer {
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut text =
            format!("HTTP/1.1 {} X\r\ncontent-length: {}\r\nconnection: close\r\n", self.status, self.body.len());
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        format!("{text}\r\n{}", self.body).into_bytes()
    }
}

pub struct Server {
    pub url: String,
    pub requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub async fn new(respond: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (noted, respond) = (Arc::clone(&requests), Arc::new(respond));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (noted, respond) = (Arc::clone(&noted), Arc::clone(&respond));
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte);
                    }
                    let head = String::from_utf8(head).unwrap();
                    let target = head.split(' ').nth(1).unwrap().to_owned();
                    let request = Request { target, head: head.to_lowercase() };
                    let answer = respond(&request);
                    noted.lock().unwrap().push(request);
                    tokio::time::sleep(answer.delay).await;
                    let _ = stream.write_all(&answer.bytes()).await;
                });
            }
        });
        Self { url, requests }
    }

    pub fn targets(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|request| request.target.clone()).collect()
    }
}
