//! What a stream's client asks, and the answers in the exchange's words.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// The longest id that is a string.
const MAX_ID_CHARS: usize = 36;

/// The longest stream name kept.
const MAX_NAME_BYTES: usize = 128;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Subscribe(Vec<String>),
    Unsubscribe(Vec<String>),
    List,
    SetCombined(bool),
    GetCombined,
}

/// What a connection is subscribed to, by name, whether or not such a stream exists.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(BTreeSet<String>);

impl Names {
    /// Adds names, all or none; false if there would be more than `most`.
    pub(crate) fn add(&mut self, names: &[String], most: usize) -> bool {
        let new: BTreeSet<&String> = names.iter().filter(|name| !self.0.contains(*name)).collect();
        if self.0.len() + new.len() > most {
            return false;
        }
        self.0.extend(new.into_iter().cloned().collect::<Vec<_>>());
        true
    }

    pub(crate) fn remove(&mut self, names: &[String]) {
        names.iter().for_each(|name| {
            self.0.remove(name);
        });
    }

    pub(crate) fn list(&self) -> Vec<&String> {
        self.0.iter().collect()
    }
}

/// Reads a request: its id and what is asked.
///
/// # Errors
/// The answer that says what is wrong.
pub(crate) fn parse(text: &str) -> Result<(Value, Request), String> {
    let value: Value = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        refusal(3, &format!("Invalid JSON: expected value at line {line} column {column}"), None)
    })?;
    let invalid = |message: &str| refusal(2, &format!("Invalid request: {message}"), None);
    let end = format!("at line 1 column {}", text.len());
    let request = value.as_object().ok_or_else(|| invalid("expected an object"))?;
    let id = request.get("id").cloned().unwrap_or(Value::Null);
    if !is_id(&id) {
        return Err(invalid("request ID must be an unsigned integer"));
    }
    let method = request.get("method").ok_or_else(|| invalid(&format!("missing field `method` {end}")))?;
    let params = request.get("params");
    let asked = match method.as_str() {
        Some("SUBSCRIBE") => {
            Request::Subscribe(names(params).ok_or_else(|| invalid("expected a list of stream names"))?)
        }
        Some("UNSUBSCRIBE") => {
            Request::Unsubscribe(names(params).ok_or_else(|| invalid("expected a list of stream names"))?)
        }
        Some("LIST_SUBSCRIPTIONS") => Request::List,
        Some("SET_PROPERTY") => set_property(&id, params)?,
        Some("GET_PROPERTY") => get_property(&id, params)?,
        _ => {
            let variants = "`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`";
            let found = method.as_str().map_or_else(|| method.to_string(), |method| format!("`{method}`"));
            return Err(invalid(&format!("unknown variant {found}, expected one of {variants} {end}")));
        }
    };
    Ok((id, asked))
}

fn is_id(id: &Value) -> bool {
    match id {
        Value::Null => true,
        Value::Number(number) => number.is_i64(),
        Value::String(text) => text.chars().count() <= MAX_ID_CHARS && text.chars().all(char::is_alphanumeric),
        _ => false,
    }
}

fn names(params: Option<&Value>) -> Option<Vec<String>> {
    let name = |value: &Value| value.as_str().filter(|name| name.len() <= MAX_NAME_BYTES).map(str::to_owned);
    params?.as_array()?.iter().map(name).collect()
}

fn set_property(id: &Value, params: Option<&Value>) -> Result<Request, String> {
    let params = property(id, params, 2)?;
    match params.get(1) {
        Some(Value::Bool(combined)) => Ok(Request::SetCombined(*combined)),
        _ => Err(refusal(1, "Invalid value type: expected Boolean", None)),
    }
}

fn get_property(id: &Value, params: Option<&Value>) -> Result<Request, String> {
    property(id, params, 1).map(|_| Request::GetCombined)
}

/// The parameters of a request about the only property there is.
fn property<'a>(id: &Value, params: Option<&'a Value>, most: usize) -> Result<&'a [Value], String> {
    let invalid = |message: &str| Err(refusal(2, &format!("Invalid request: {message}"), None));
    let params = params.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    match params.first() {
        Some(Value::String(_)) if params.len() > most => invalid("too many parameters"),
        Some(Value::String(name)) if name == "combined" => Ok(params),
        Some(Value::String(_)) => Err(refusal(0, "Unknown property", Some(id))),
        _ => invalid("property name must be a string"),
    }
}

/// The answer to a request that was carried out.
pub(crate) fn answer(id: &Value, result: Value) -> String {
    // The exchange writes the result first, which a JSON map would not keep.
    format!(r#"{{"result":{result},"id":{id}}}"#)
}

/// The answer to a request that was not.
pub(crate) fn refusal(code: i64, message: &str, id: Option<&Value>) -> String {
    let id = id.map_or_else(String::new, |id| format!(r#","id":{id}"#));
    format!(r#"{{"code":{code},"msg":{}{id}}}"#, json!(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_documented() {
        let subscribe = parse(r#"{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}"#).unwrap();
        assert_eq!(subscribe, (json!(1), Request::Subscribe(vec!["btcusdt@trade".to_owned()])));
        let set = parse(r#"{"method":"SET_PROPERTY","params":["combined",true],"id":"a5"}"#).unwrap();
        assert_eq!(set, (json!("a5"), Request::SetCombined(true)));
        assert_eq!(parse(r#"{"method":"LIST_SUBSCRIPTIONS"}"#).unwrap(), (Value::Null, Request::List));
    }

    #[test]
    fn refusals_have_the_documented_codes() {
        let cases = [
            (
                r#"{"method":"SET_PROPERTY","params":["colour",true],"id":7}"#,
                r#"{"code":0,"msg":"Unknown property","id":7}"#,
            ),
            (
                r#"{"method":"SET_PROPERTY","params":["combined",1],"id":7}"#,
                r#"{"code":1,"msg":"Invalid value type: expected Boolean"}"#,
            ),
            (
                r#"{"method":"GET_PROPERTY","params":[7]}"#,
                r#"{"code":2,"msg":"Invalid request: property name must be a string"}"#,
            ),
            (
                r#"{"method":"GET_PROPERTY","params":["combined",1]}"#,
                r#"{"code":2,"msg":"Invalid request: too many parameters"}"#,
            ),
            (
                r#"{"method":"SUBSCRIBE","params":["x"],"id":1.5}"#,
                r#"{"code":2,"msg":"Invalid request: request ID must be an unsigned integer"}"#,
            ),
            (
                r#"{"params":["x"]}"#,
                r#"{"code":2,"msg":"Invalid request: missing field `method` at line 1 column 16"}"#,
            ),
            ("hello", r#"{"code":3,"msg":"Invalid JSON: expected value at line 1 column 1"}"#),
        ];
        for (request, expected) in cases {
            assert_eq!(parse(request), Err(expected.to_owned()), "{request}");
        }
        assert!(parse(r#"{"method":"SING"}"#).unwrap_err().contains("unknown variant `SING`"));
        assert!(parse(r#"{"method":"SUBSCRIBE","params":[1],"id":1}"#).is_err());
    }

    #[test]
    fn names_are_bounded() {
        let mut names = Names::default();
        let some = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(names.add(&some(&["a", "b"]), 3));
        assert!(!names.add(&some(&["c", "d"]), 3));
        assert!(names.add(&some(&["b", "c", "c"]), 3));
        names.remove(&some(&["a", "z"]));
        assert_eq!(names.list(), ["b", "c"]);
    }
}
