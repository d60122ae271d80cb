//! The conversation that starts a connection: subscribe in chunks, then ask what is subscribed.
//!
//! What the exchange answers for a symbol it does not have is not documented, so an answer alone
//! proves nothing: the list of subscriptions does.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

/// Streams per SUBSCRIBE request, which keeps a request below 4 KiB.
const CHUNK: usize = 100;

/// A list of streams up to this long is written into the URL.
const URL_STREAMS: usize = 1_000;

/// Time between two messages of ours: four a second, which leaves one for a pong.
pub(crate) const MESSAGE_SPACING: Duration = Duration::from_millis(250);

/// The path and query that open a connection, and whether they subscribe its streams.
pub(crate) fn path(streams: &[String], time_unit: &str) -> (String, bool) {
    let list = streams.join("/");
    if list.len() <= URL_STREAMS && list.is_ascii() {
        (format!("/stream?streams={list}&timeUnit={time_unit}"), true)
    } else {
        (format!("/stream?timeUnit={time_unit}"), false)
    }
}

/// What is asked in a request.
#[derive(Debug)]
enum Request {
    Subscribe(Vec<String>),
    List,
}

/// Where the conversation stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Not an answer to a request of ours.
    NotOurs,
    /// One request less is open.
    Going,
    /// All is subscribed, except for what is listed here.
    Confirmed(Vec<String>),
    /// A request was refused, in the exchange's words.
    Refused(String),
}

/// `{"result":null,"id":1}`, `{"result":["btcusdt@trade"],"id":3}` or `{"code":2,"msg":"…","id":1}`
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    id: Option<Value>,
    #[serde(default)]
    result: Option<Value>,
    #[serde(default)]
    code: Option<i64>,
    #[serde(default)]
    msg: Option<String>,
    #[serde(default)]
    e: Option<Value>,
}

/// The requests of one connection and their answers.
#[derive(Debug)]
pub(crate) struct Subscription {
    wanted: Vec<String>,
    to_send: VecDeque<Request>,
    open: HashMap<u64, Request>,
    next_id: u64,
    asked_again: bool,
    confirmed: bool,
}

impl Subscription {
    /// The conversation about `streams`; `in_url` if the URL subscribes them.
    pub(crate) fn new(streams: &[String], in_url: bool) -> Self {
        let chunks = streams.chunks(CHUNK).filter(|_| !in_url);
        let mut to_send: VecDeque<Request> = chunks.map(|chunk| Request::Subscribe(chunk.to_vec())).collect();
        to_send.push_back(Request::List);
        let (open, wanted) = (HashMap::new(), streams.to_vec());
        Self { wanted, to_send, open, next_id: 1, asked_again: false, confirmed: false }
    }

    /// Whether the conversation is over.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// Whether only the list is missing, the subscriptions themselves being acknowledged.
    pub(crate) fn only_list_is_open(&self) -> bool {
        self.to_send.is_empty() && self.open.values().all(|request| matches!(request, Request::List))
    }

    /// Ends the conversation without the list.
    pub(crate) fn confirm_without_list(&mut self) {
        self.open.clear();
        self.confirmed = true;
    }

    /// Whether there is something to send. The list is asked for when all else is answered.
    pub(crate) fn has_message(&self) -> bool {
        match self.to_send.front() {
            Some(Request::Subscribe(_)) => true,
            Some(Request::List) => self.open.is_empty(),
            None => false,
        }
    }

    /// The next request.
    pub(crate) fn next_message(&mut self) -> Option<String> {
        if !self.has_message() {
            return None;
        }
        let request = self.to_send.pop_front()?;
        let id = self.next_id;
        self.next_id += 1;
        let text = match &request {
            Request::Subscribe(streams) => json!({ "method": "SUBSCRIBE", "params": streams, "id": id }),
            Request::List => json!({ "method": "LIST_SUBSCRIPTIONS", "id": id }),
        };
        self.open.insert(id, request);
        Some(text.to_string())
    }

    /// Takes a frame that may be an answer.
    pub(crate) fn frame(&mut self, frame: &[u8]) -> Progress {
        let Ok(answer) = serde_json::from_slice::<Answer>(frame) else { return Progress::NotOurs };
        if answer.e.is_some() {
            return Progress::NotOurs;
        }
        if let Some(code) = answer.code {
            // Most refusals have no id; while requests are open, they are about one of them.
            return Progress::Refused(format!("{code}: {}", answer.msg.unwrap_or_default()));
        }
        let request = answer.id.and_then(|id| id.as_u64()).and_then(|id| self.open.remove(&id));
        match request {
            None => Progress::NotOurs,
            Some(Request::Subscribe(_)) => Progress::Going,
            Some(Request::List) => self.listed(&answer.result.unwrap_or_default()),
        }
    }

    fn listed(&mut self, list: &Value) -> Progress {
        let listed: HashSet<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let missing: Vec<String> =
            self.wanted.iter().filter(|stream| !listed.contains(stream.as_str())).cloned().collect();
        if missing.is_empty() || self.asked_again {
            self.confirmed = true;
            return Progress::Confirmed(missing);
        }
        self.asked_again = true;
        self.to_send.extend(missing.chunks(CHUNK).map(|chunk| Request::Subscribe(chunk.to_vec())));
        self.to_send.push_back(Request::List);
        Progress::Going
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("s{n}usdt@trade")).collect()
    }

    #[test]
    fn a_short_list_goes_into_the_url_and_a_long_one_does_not() {
        let (path_, in_url) = path(&["btcusdt@trade".to_owned(), "ethusdt@trade".to_owned()], "MICROSECOND");
        assert_eq!(
            (path_.as_str(), in_url),
            ("/stream?streams=btcusdt@trade/ethusdt@trade&timeUnit=MICROSECOND", true)
        );
        assert_eq!(path(&streams(1_024), "MILLISECOND"), ("/stream?timeUnit=MILLISECOND".to_owned(), false));
        assert!(!path(&["币安人生usdt@trade".to_owned()], "MILLISECOND").1);
    }

    #[test]
    fn subscribes_in_chunks_and_then_asks_for_the_list() {
        let all = streams(250);
        let mut talk = Subscription::new(&all, false);
        let mut asked = Vec::new();
        for expected_id in 1..=3_u64 {
            let message: Value = serde_json::from_str(&talk.next_message().unwrap()).unwrap();
            assert_eq!(message["method"], "SUBSCRIBE");
            assert_eq!(message["id"], expected_id);
            asked.extend(message["params"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()));
        }
        assert_eq!(asked, all);
        assert_eq!(talk.next_message(), None, "the list waits for the answers");
        for id in 1..=3 {
            assert_eq!(talk.frame(format!(r#"{{"result":null,"id":{id}}}"#).as_bytes()), Progress::Going);
        }
        assert_eq!(talk.next_message().unwrap(), r#"{"id":4,"method":"LIST_SUBSCRIPTIONS"}"#);
        let answer = json!({ "result": all, "id": 4 }).to_string();
        assert_eq!(talk.frame(answer.as_bytes()), Progress::Confirmed(Vec::new()));
        assert!(talk.is_confirmed());
    }

    #[test]
    fn what_the_list_lacks_is_asked_for_once_more_and_then_named() {
        let mut talk = Subscription::new(&streams(3), true);
        talk.next_message().unwrap();
        assert_eq!(talk.frame(br#"{"result":["s0usdt@trade"],"id":1}"#), Progress::Going);
        let again: Value = serde_json::from_str(&talk.next_message().unwrap()).unwrap();
        assert_eq!(again["params"], json!(["s1usdt@trade", "s2usdt@trade"]));
        assert_eq!(talk.frame(br#"{"result":null,"id":2}"#), Progress::Going);
        talk.next_message().unwrap();
        let progress = talk.frame(br#"{"result":["s0usdt@trade","s2usdt@trade"],"id":3}"#);
        assert_eq!(progress, Progress::Confirmed(vec!["s1usdt@trade".to_owned()]));
    }

    #[test]
    fn knows_what_is_no_answer() {
        let mut talk = Subscription::new(&streams(1), true);
        talk.next_message().unwrap();
        for frame in [r#"{"e":"trade","id":1}"#, r#"{"result":null,"id":77}"#, "17", "", r#"{"stream":"x","data":{}}"#]
        {
            assert_eq!(talk.frame(frame.as_bytes()), Progress::NotOurs, "{frame}");
        }
        let refused = Progress::Refused("2: Invalid request".to_owned());
        assert_eq!(talk.frame(br#"{"code":2,"msg":"Invalid request"}"#), refused);
        assert!(talk.only_list_is_open());
    }
}
