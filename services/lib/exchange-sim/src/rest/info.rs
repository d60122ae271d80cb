//! `exchangeInfo`.

use serde_json::{Value, json};

use super::ApiError;
use super::query::Query;
use crate::config::MarketConfig;
use crate::fixed::Fixed;
use crate::shared::Shared;
use crate::text::Unit;

/// The quote assets that a symbol's name may end with.
const QUOTES: [&str; 6] = ["USDT", "USDC", "FDUSD", "BTC", "ETH", "TRY"];

/// Limits, symbols and their filters.
pub(crate) fn exchange_info(shared: &Shared, query: &Query, unit: Unit) -> Result<String, ApiError> {
    query.only(&["symbol", "symbols", "permissions", "symbolStatus", "showPermissionSets"])?;
    let wanted = wanted(query)?;
    let unknown = |name: &&String| shared.market.place(name).is_none();
    if wanted.iter().flatten().any(|name| unknown(&name)) {
        return Err(ApiError::bad(-1121, "Invalid symbol."));
    }
    let is_wanted = |market: &MarketConfig| {
        wanted.as_ref().is_none_or(|names| names.iter().any(|name| name == market.symbol.as_str()))
    };
    let symbols: Vec<Value> = shared.config.symbols.iter().filter(|market| is_wanted(market)).map(symbol).collect();
    let info = json!({
        "timezone": "UTC",
        "serverTime": unit.of(shared.now_us()),
        "rateLimits": [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": shared.config.weight_per_minute},
            {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 300_000},
        ],
        "exchangeFilters": [],
        "symbols": symbols,
    });
    Ok(info.to_string())
}

/// The names asked for; `None` for all.
fn wanted(query: &Query) -> Result<Option<Vec<String>>, ApiError> {
    match (query.text("symbol"), query.text("symbols")) {
        (Some(_), Some(_)) => Err(ApiError::bad(-1128, "Combination of optional parameters invalid.")),
        (Some(one), None) => Ok(Some(vec![one.to_owned()])),
        (None, Some(list)) => serde_json::from_str(list)
            .map(Some)
            .map_err(|_| ApiError::bad(-1100, "Illegal characters found in parameter 'symbols'.")),
        (None, None) => Ok(None),
    }
}

fn symbol(market: &MarketConfig) -> Value {
    let name = market.symbol.as_str();
    let quote = QUOTES.into_iter().find(|quote| name.len() > quote.len() && name.ends_with(quote)).unwrap_or("USDT");
    let base = name.strip_suffix(quote).unwrap_or(name);
    let unit = |decimals| Fixed::from_units(1, decimals).unwrap_or_default().to_string();
    json!({
        "symbol": name,
        "status": "TRADING",
        "baseAsset": base,
        "baseAssetPrecision": 8,
        "quoteAsset": quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"],
        "isSpotTradingAllowed": true,
        "isMarginTradingAllowed": false,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": unit(market.price_decimals), "maxPrice": "1000000.00000000", "tickSize": unit(market.price_decimals)},
            {"filterType": "LOT_SIZE", "minQty": unit(market.quantity_decimals), "maxQty": "9000000.00000000", "stepSize": unit(market.quantity_decimals)},
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
    })
}
