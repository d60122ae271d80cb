//! Issues trades when their time has come, and hands them to whoever listens.

use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use crate::clock::now_micros;
use crate::config::Rate;
use crate::hub::Parcel;
use crate::market::candle::Candle;
use crate::market::{SECOND_US, SymbolMarket, Tick, Ticks};
use crate::shared::Shared;
use crate::tamper::{Item, Plan};
use crate::text::{Aggregate, Composer, Kind, Unit};

/// Trades per batch.
const CHUNK: usize = 512;

/// The least time between two wake-ups.
const LEAST_PAUSE_US: i64 = 2_000;

/// The most: klines have their times too.
const MOST_PAUSE_US: i64 = 200_000;

/// How far time goes at once, so that symbols take turns also when there is much to catch up with.
const STEP_US: i64 = 250_000;

const MINUTE_US: i64 = 60 * SECOND_US;

/// How often a kline is sent while it is open.
const KLINE_EVERY_US: i64 = 2 * SECOND_US;

/// A minute is over for certain this long after its end: all its trades were issued.
const KLINE_PATIENCE_US: i64 = 2_000;

/// Runs the market until the server stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut pump = Pump::new(&shared);
    tokio::select! {
        () = shared.stop.cancelled() => {}
        () = pump.trade() => {}
    }
}

struct Pump<'a> {
    shared: &'a Shared,
    symbols: Vec<Cursor<'a>>,
    now_us: i64,
}

/// Where one symbol is.
struct Cursor<'a> {
    place: usize,
    last_id: Option<u64>,
    ticks: Ticks<'a>,
    due: Vec<Tick>,
    held: Option<Tick>,
    aggregate: Option<Aggregate>,
    candle: Candle,
    is_over: bool,
    /// By kind and unit.
    composers: [[Composer; 2]; 3],
}

impl<'a> Pump<'a> {
    fn new(shared: &'a Shared) -> Self {
        let now_us = shared.tape.now_us();
        let symbols = shared.market.symbols().iter().enumerate();
        let symbols = symbols.map(|(place, market)| Cursor::new(shared, place, market, now_us)).collect();
        Self { shared, symbols, now_us }
    }

    async fn trade(&mut self) {
        match self.shared.config.rate {
            Rate::PerSecond(_) => self.trade_by_the_clock().await,
            Rate::Max => self.trade_on_demand().await,
        }
    }

    async fn trade_by_the_clock(&mut self) {
        loop {
            let now_us = now_micros();
            while self.now_us < now_us {
                self.advance(now_us.min(self.now_us + STEP_US)).await;
            }
            let next_us = self.symbols.iter_mut().filter_map(|symbol| Some(symbol.ticks.peek()?.event_us)).min();
            let pause_us = next_us.map_or(MOST_PAUSE_US, |next| next - now_us).clamp(LEAST_PAUSE_US, MOST_PAUSE_US);
            tokio::time::sleep(Duration::from_micros(pause_us.unsigned_abs())).await;
        }
    }

    /// Time goes on as fast as the subscribers take the trades, and stands still without any.
    async fn trade_on_demand(&mut self) {
        let mut listeners = self.shared.hub.listeners();
        while self.symbols.iter().any(|symbol| !symbol.is_over) {
            if listeners.wait_for(|count| *count > 0).await.is_err() {
                return;
            }
            self.advance(self.now_us + STEP_US).await;
            // Subscribers with room for everything would otherwise never let the others run.
            tokio::task::yield_now().await;
        }
        self.shared.stop.cancelled().await;
    }

    async fn advance(&mut self, until_us: i64) {
        self.shared.tape.set_now_us(until_us);
        for symbol in &mut self.symbols {
            symbol.advance(self.shared, self.now_us, until_us).await;
        }
        self.now_us = until_us;
    }
}

impl<'a> Cursor<'a> {
    fn new(shared: &Shared, place: usize, market: &'a SymbolMarket, now_us: i64) -> Self {
        let issued = shared.tape.issued(place);
        let minute_us = now_us - now_us.rem_euclid(MINUTE_US);
        Self {
            place,
            last_id: market.last_id(),
            ticks: market.ticks_from(issued + 1),
            due: Vec::with_capacity(CHUNK),
            held: None,
            aggregate: None,
            candle: market.candle(minute_us, MINUTE_US, issued),
            is_over: false,
            composers: Kind::ALL.map(|kind| Unit::ALL.map(|unit| Composer::new(market.symbol(), kind, unit))),
        }
    }

    async fn advance(&mut self, shared: &Shared, from_us: i64, until_us: i64) {
        loop {
            self.due.clear();
            self.ticks.take_issued(until_us, CHUNK, &mut self.due);
            if self.due.is_empty() {
                break;
            }
            self.issue(shared).await;
        }
        while self.candle.to_us + KLINE_PATIENCE_US <= until_us {
            self.end_candle(shared).await;
        }
        if from_us.div_euclid(KLINE_EVERY_US) != until_us.div_euclid(KLINE_EVERY_US) {
            let event_us = until_us - until_us.rem_euclid(KLINE_EVERY_US);
            self.send_candle(shared, event_us, false).await;
        }
        if !self.is_over && self.ticks.peek().is_none() {
            self.end(shared);
        }
    }

    /// Issues what is due: first what is left out is noted, then REST may have the rest, then it is sent.
    async fn issue(&mut self, shared: &Shared) {
        let plan = shared.tamper.apply(self.place, self.last_id, &self.due, &mut self.held);
        for (ids, rest) in plan.iter().flat_map(|plan| &plan.left_out) {
            shared.tape.leave_out(self.place, *ids, *rest);
        }
        if let Some(last) = self.due.last() {
            shared.tape.issue(self.place, last.id);
        }
        self.send_trades(shared, plan.as_ref()).await;
        self.send_aggregates(shared).await;
        self.fill_candles(shared).await;
    }

    async fn send_trades(&mut self, shared: &Shared, plan: Option<&Plan>) {
        let due = &self.due;
        let compose = |composer: &mut Composer| match plan {
            None => due.iter().for_each(|tick| composer.trade(tick)),
            Some(plan) => plan.items.iter().for_each(|item| match item {
                Item::Trade(tick) => composer.trade(tick),
                Item::Malformed(tick, kind) => composer.malformed(tick, *kind),
            }),
        };
        send(shared, self.place, Kind::Trade, &mut self.composers, compose).await;
    }

    async fn send_aggregates(&mut self, shared: &Shared) {
        let mut whole = Vec::new();
        for tick in &self.due {
            match &mut self.aggregate {
                Some(open) if open.last.aggregate == tick.aggregate => open.add(tick),
                open => whole.extend(open.replace(Aggregate::of_one(tick))),
            }
        }
        let next = self.ticks.peek().map(|tick| tick.aggregate);
        if self.aggregate.as_ref().map(|open| open.last.aggregate) != next {
            whole.extend(self.aggregate.take());
        }
        let compose = |composer: &mut Composer| whole.iter().for_each(|aggregate| composer.aggregate(aggregate));
        send(shared, self.place, Kind::AggTrade, &mut self.composers, compose).await;
    }

    async fn fill_candles(&mut self, shared: &Shared) {
        let mut next = 0;
        while next < self.due.len() {
            let ends_us = self.candle.to_us;
            let end = next + self.due[next..].partition_point(|tick| tick.time_us < ends_us);
            self.due[next..end].iter().for_each(|tick| self.candle.add(tick));
            if end < self.due.len() {
                self.end_candle(shared).await;
            }
            next = end;
        }
    }

    async fn end_candle(&mut self, shared: &Shared) {
        self.send_candle(shared, self.candle.to_us + KLINE_PATIENCE_US, true).await;
        self.candle = self.candle.following();
    }

    async fn send_candle(&mut self, shared: &Shared, event_us: i64, closed: bool) {
        let candle = self.candle;
        let compose = |composer: &mut Composer| composer.kline(&candle, event_us, closed);
        send(shared, self.place, Kind::Kline, &mut self.composers, compose).await;
    }

    /// The symbol falls silent. Whoever subscribes later is sent its last trade again: without
    /// anything after it, nobody could notice a gap before it.
    fn end(&mut self, shared: &Shared) {
        self.is_over = true;
        let market = &shared.market.symbols()[self.place];
        info!(symbol = %market.symbol(), trades = shared.tape.issued(self.place), "the market has reached its limit");
        let Some(last) = self.last_id.and_then(|id| market.tick(id)) else { return };
        for (unit, composer) in Unit::ALL.into_iter().zip(&mut self.composers[Kind::Trade as usize]) {
            composer.trade(&last);
            if let Some(batch) = composer.take() {
                shared.hub.set_final(self.place, unit, Arc::new(batch));
            }
        }
    }
}

/// Composes frames once per unit that someone listens to, and hands the same bytes to all.
async fn send(
    shared: &Shared,
    place: usize,
    kind: Kind,
    composers: &mut [[Composer; 2]; 3],
    mut compose: impl FnMut(&mut Composer),
) {
    for (unit, composer) in Unit::ALL.into_iter().zip(&mut composers[kind as usize]) {
        let lane = shared.hub.lane(place, kind, unit);
        if lane.is_empty() {
            continue;
        }
        compose(composer);
        let Some(batch) = composer.take().map(Arc::new) else { continue };
        for mailbox in lane.iter() {
            let parcel = Parcel::Batch(Arc::clone(&batch));
            match shared.config.rate {
                Rate::PerSecond(_) => mailbox.offer(parcel),
                Rate::Max => mailbox.deliver(parcel).await,
            }
        }
    }
}
