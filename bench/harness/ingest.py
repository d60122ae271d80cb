"""From the exchange's streams to the log."""

import sys
import time

from .process import until
from .sides import Fulltape, free_port
from .site import BROKERS, CHECKOUT

SYMBOLS = 10
SECONDS = 20
STEADY = 5_000
ALL_OF_SPOT = 1_600


def run(site, options):
    site.up()
    seconds = 5 if options.quick else SECONDS
    results = []
    for nth in range(options.rounds):
        for name in ("fulltape", "bare loop", "tuned", "sensible", "tutorial"):
            steady = {"what": f"{STEADY} messages/s", "side": name, "round": nth}
            results.append(steady | measured(site, name, SYMBOLS, STEADY, STEADY * seconds))
            options.tell(results[-1])
        for name in ("fulltape", "bare loop", "tuned", "sensible"):
            # As many as the slowest takes in about that time.
            messages = (15_000 if name == "sensible" else 30_000) * seconds
            most = {"what": "as fast as it goes", "side": name, "round": nth}
            results.append(most | measured(site, name, SYMBOLS, "max", messages))
            options.tell(results[-1])
        for name in ("fulltape", "bare loop"):
            spot = {"what": f"{ALL_OF_SPOT} symbols, as fast as it goes", "side": name, "round": nth}
            results.append(spot | measured(site, name, ALL_OF_SPOT, "max", 30_000 * seconds))
            options.tell(results[-1])
    return results


def names(symbols):
    return [f"S{nth:04}USDT" for nth in range(symbols)]


class Exchange:
    """The simulator, as a process of its own."""

    def __init__(self, site, symbols, rate):
        self.symbols, self.port = names(symbols), free_port()
        config = site.folder / f"exchange-{site.runs}.toml"
        config.write_text(
            f"""[source]
symbols = {self.symbols}
[sim]
listen = "127.0.0.1:{self.port}"
rate = {rate if rate != "max" else '"max"'}
density = 10000
weight_per_minute = 1000000
max_streams_per_connection = 1024
"""
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


def measured(site, name, symbols, rate, messages):
    """One client, from a fresh exchange to a fresh topic."""
    run_name = f"ingest-{site.runs}"
    exchange = Exchange(site, symbols, rate)
    wanted = ['from = ["binance"]', f"symbols = {exchange.symbols}"]
    config = site.config(run_name, source=wanted, binance=exchange.settings())
    topic = f"{run_name}-stream"
    try:
        if name == "fulltape":
            return of_fulltape(site, config, messages)
        urls = [word for url in exchange.urls() for word in ("--url", url)]
        if name == "bare loop":
            return site.limits("ingest", "--topic", topic, "--trades", messages, *urls)
        client = [sys.executable, CHECKOUT / "bench/peers/ingest.py", name, "--brokers", BROKERS, "--topic", topic]
        return site.start(name, [*client, "--messages", messages, *urls]).result(300)
    finally:
        exchange.process.stop()


def of_fulltape(site, config, messages):
    side = Fulltape(site, config, ("ingest",))
    published = lambda: side.metrics("ingest").get("trades_published_total", 0)
    try:
        side.start()
        until(lambda: side.check() or published() >= messages / 10, 120, "a tenth is published")
        before, since, cpu = published(), time.monotonic(), side.cpu_seconds()
        until(lambda: side.check() or published() >= messages, 300, "all is published")
        metrics = side.metrics("ingest")
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
    }
