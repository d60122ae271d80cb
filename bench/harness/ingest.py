"""From the exchange's streams to the log."""

import importlib.util
import sys
import time

from .process import Failed, until
from .sides import Fulltape, free_port, rotated
from .site import BROKERS, CHECKOUT

SYMBOLS = 10
ALL_OF_SPOT = 1_600
SECONDS = 10
STEADY = 5_000
LOWER = (2_500, 1_000, 500)
HIGHER = (10_000, 20_000, 30_000, 40_000, 60_000, 80_000, 100_000, 130_000)
SIDES = ("fulltape", "bare loop", "tuned", "sensible", "tutorial")
if importlib.util.find_spec("cryptofeed"):
    SIDES += ("cryptofeed",)


def run(site, options):
    site.up()
    seconds, results = 3 if options.quick else SECONDS, []

    def note(what, side, nth, result):
        results.append({"what": what, "side": side, "round": nth} | result)
        options.tell(results[-1])

    for nth in range(options.rounds):
        for symbols, sides in ((SYMBOLS, SIDES), (ALL_OF_SPOT, SIDES[:2])):
            for side in rotated(sides, nth):
                steady = measured(site, side, symbols, STEADY, seconds)
                note(f"{STEADY} messages/s, {symbols} symbols", side, nth, steady)
                if not options.quick:
                    best = highest(site, side, symbols, steady, SECONDS // 2)
                    note(f"highest rate, {symbols} symbols", side, nth, best)
    return results


def highest(site, side, symbols, steady, seconds):
    """The highest of some rates that a side keeps up with: nothing lost or doubled, not cut off, so never more than a
    second behind, acknowledged within a second. The figure is what it did, which at the highest may be what the
    exchange beside it on the same processors could send."""
    if not steady["sustained"]:
        slower = (measured(site, side, symbols, rate, seconds) for rate in LOWER)
        return next((result for result in slower if result["sustained"]), {"per_second": 0})
    best = steady
    for rate in HIGHER:
        result = measured(site, side, symbols, rate, seconds)
        if not result["sustained"]:
            break
        best = result
    return best


def measured(site, side, symbols, rate, seconds):
    """One client, from a fresh exchange to a fresh topic."""
    messages = rate * seconds
    try:
        result = measure(site, side, symbols, rate, messages)
    except Failed as failure:
        if side == "fulltape":
            raise
        return {"sustained": 0, "cut_off": 1, "why": str(failure).strip().rpartition("\n")[2]}
    # At a rate that it cannot keep up with as well: what it lacks there, it has announced.
    if side == "fulltape" and (result["log_doubled"] or (result["log_lost"] and not result["gaps"])):
        raise Failed(f"ingest at {rate} messages/s: the log is not complete: {result}")
    wrong = ("log_lost", "log_doubled", "gaps", "frames_dropped")
    late = result["socket_to_ack_ms"]["p99"] > 1_000
    return result | {"sustained": int(not late and not any(result.get(name, 0) for name in wrong))}


def names(symbols):
    return [f"S{nth:04}USDT" for nth in range(symbols)]


class Exchange:
    """The simulator, as a process of its own; silent after so many trades if `limit` is given.

    Trades come as unevenly as recorded ones. A client that falls behind by more than a second's worth is cut off, as by
    the real exchange."""

    def __init__(self, site, symbols, rate, limit=None):
        self.symbols, self.port = names(symbols), free_port()
        limited = "" if limit is None else f"limit = {limit}\n"
        config = site.folder / f"exchange-{site.runs}.toml"
        config.write_text(
            f"""[source]
symbols = {self.symbols}
[sim]
listen = "127.0.0.1:{self.port}"
rate = {rate}
queue_frames = {max(rate, 4_096)}
weight_per_minute = 1000000
max_streams_per_connection = 1024
{limited}"""
        )
        self.process = site.start("exchange", [site.binary(), "sim", "--config", config])
        until(lambda: self.process.check() or self.process.tail().count("ws://"), 30, "the exchange stands")

    def urls(self):
        """Combined streams, as many as a connection may have."""
        streams = [f"{name.lower()}@trade" for name in self.symbols]
        chunks = [streams[at : at + 1024] for at in range(0, len(streams), 1024)]
        return [f"ws://127.0.0.1:{self.port}/stream?streams={'/'.join(chunk)}" for chunk in chunks]

    def settings(self):
        return [f'ws_url = "ws://127.0.0.1:{self.port}"', f'rest_url = "http://127.0.0.1:{self.port}"']


def measure(site, name, symbols, rate, messages):
    run_name = f"ingest-{site.runs}"
    exchange = Exchange(site, symbols, rate)
    wanted = ['from = ["binance"]', f"symbols = {exchange.symbols}"]
    config = site.config(run_name, source=wanted, binance=exchange.settings())
    topic = f"{run_name}-stream"
    try:
        if name == "fulltape":
            result = of_fulltape(site, config, messages)
        else:
            urls = [word for url in exchange.urls() for word in ("--url", url)]
            result = of_another(site, name, topic, messages, urls)
    finally:
        exchange.process.stop()
    # Some go on for a moment, so that there may be more; of what each symbol has, no id may be left out.
    found = site.limits("recorded", "--topic", topic)
    lost = max(messages - found["distinct"], found["holes"])
    return result | {"log_lost": lost, "log_doubled": found["records"] - found["distinct"]}


def of_another(site, name, topic, messages, urls):
    if name == "bare loop":
        return site.limits("ingest", "--topic", topic, "--trades", messages, *urls)
    client = [sys.executable, CHECKOUT / "bench/peers/ingest.py", name, "--brokers", BROKERS, "--topic", topic]
    return site.start(name, [*client, "--messages", messages, *urls]).result(300)


def of_fulltape(site, config, messages):
    side = Fulltape(site, config, ("ingest",))
    # Not more often: whoever asks for metrics uses its processor time.
    pause = 0.5
    published = lambda: side.metrics("ingest").get("trades_published_total", 0)
    try:
        side.start()
        until(lambda: side.check() or published() >= messages / 10, 120, "a tenth is published", pause)
        before, since, cpu = published(), time.monotonic(), side.cpu_seconds()
        until(lambda: side.check() or published() >= messages, 300, "all is published", pause)
        metrics, latencies = side.metrics("ingest"), dict(side.quantiles("publish_latency_seconds"))
        events, seconds = metrics["trades_published_total"] - before, time.monotonic() - since
        cpu = side.cpu_seconds() - cpu
    finally:
        side.stop()
    return {
        "per_second": events / seconds,
        "cpu_us_per_event": cpu / events * 1e6,
        "cores": cpu / seconds,
        "peak_rss_mib": side.peak_mib(),
        "gaps": metrics.get("gaps_opened_total", 0),
        "missing": metrics.get("trades_missing", 0),
        "frames_dropped": metrics.get("feed_frames_dropped_total", 0),
        "socket_to_ack_ms": {name: latency * 1e3 for name, latency in latencies.items()},
    }
