//! The parameters of a request, checked as the exchange checks them.

use super::ApiError;
use crate::market::SymbolMarket;
use crate::shared::Shared;

const DEFAULT_LIMIT: usize = 500;
const MAX_LIMIT: usize = 1_000;

/// Times below this are milliseconds, others microseconds.
const FIRST_MICROS: i64 = 100_000_000_000_000;

/// Parameters by name.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = || Some((decode(name)?, decode(value)?));
            decoded().ok_or_else(|| ApiError::bad(-1100, format!("Illegal characters found in parameter '{name}'.")))
        };
        pairs.map(pair).collect::<Result<Vec<_>, _>>().map(Self)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// Refuses parameters that the endpoint does not have.
    pub(crate) fn only(&self, names: &[&str]) -> Result<(), ApiError> {
        let (read, sent) = (self.0.iter().filter(|(key, _)| names.contains(&key.as_str())).count(), self.0.len());
        if read == sent {
            return Ok(());
        }
        let message = format!("Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'.");
        Err(ApiError::bad(-1104, message))
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let number = |text: &str| {
            text.parse().map_err(|_| {
                let message =
                    format!("Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.");
                ApiError::bad(-1100, message)
            })
        };
        self.text(name).map(number).transpose()
    }

    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        match self.number("limit")? {
            None => Ok(DEFAULT_LIMIT),
            Some(0) => Err(ApiError::bad(-1130, "Data sent for parameter 'limit' is not valid.")),
            Some(limit) => Ok(usize::try_from(limit).unwrap_or(MAX_LIMIT).min(MAX_LIMIT)),
        }
    }

    /// A time in ms or µs as µs, and the last µs that the text means.
    pub(crate) fn time_us(&self, name: &str) -> Result<Option<(i64, i64)>, ApiError> {
        let micros = |value: u64| {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            if value < FIRST_MICROS { (value * 1_000, value * 1_000 + 999) } else { (value, value) }
        };
        Ok(self.number(name)?.map(micros))
    }

    /// The symbol's place and market.
    pub(crate) fn symbol<'a>(&self, shared: &'a Shared) -> Result<(usize, &'a SymbolMarket), ApiError> {
        let missing =
            || ApiError::bad(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.");
        let name = self.text("symbol").ok_or_else(missing)?;
        let place = shared.market.place(name).ok_or_else(|| ApiError::bad(-1121, "Invalid symbol."))?;
        Ok((place, &shared.market.symbols()[place]))
    }
}

/// Percent-encoding; `None` if the bytes are not text.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let (high, low) = (rest.next()?, rest.next()?);
                u8::from_str_radix(std::str::from_utf8(&[high, low]).ok()?, 16).ok()?
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_checked_as_documented() {
        let query = Query::parse("symbol=BTC%55SDT&limit=5000&startTime=1700000000000&fromId=x&empty=").unwrap();
        assert_eq!(query.text("symbol"), Some("BTCUSDT"));
        assert_eq!(query.limit().unwrap(), 1_000);
        assert_eq!(query.time_us("startTime").unwrap(), Some((1_700_000_000_000_000, 1_700_000_000_000_999)));
        assert_eq!(query.number("fromId").unwrap_err().code, -1100);
        assert_eq!(query.text("empty"), None);
        assert_eq!(query.only(&["symbol"]).unwrap_err().code, -1104);
        assert_eq!(Query::parse("symbol=%zz").unwrap_err().code, -1100);
    }
}
