//! What the integration tests share: a WebSocket server that a test drives step by step, and a
//! tiny HTTP server.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod http;
pub mod ws;
