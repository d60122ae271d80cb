"""What a role needs before there is anything to do: time until the first row, memory, processors, disk."""

import time

from .ingest import SYMBOLS, Exchange
from .process import run as run_command
from .process import until
from .sides import Fulltape, Spark, rotated

IDLE_SECONDS = 30
FIRST = 10


def run(site, options):
    results = [{"what": "binary", "side": "fulltape", "round": 0, "mib": shipped_bytes(site) / 2**20}]
    for nth in range(options.rounds):
        for name in rotated(("fulltape", "spark"), nth):
            results.append({"what": "first row", "side": name, "round": nth} | first_row(site, name))
            options.tell(results[-1])
        for role in ("processor", "archiver", "ingest"):
            results.append({"what": f"idle {role}", "side": "fulltape", "round": nth} | idle(site, role, options))
            options.tell(results[-1])
        results.append({"what": "idle job", "side": "spark", "round": nth} | idle(site, "spark", options))
        options.tell(results[-1])
    return results


def shipped_bytes(site):
    """The size of the binary as the image holds it: without what a debugger needs."""
    stripped = site.folder / "fulltape-stripped"
    run_command(["strip", "--strip-debug", "-o", stripped, site.binary()])
    return stripped.stat().st_size


def first_row(site, name):
    """From the start of the process until the trades that wait for it are in the table."""
    config, _ = site.fill(f"first-{site.runs}", FIRST)
    site.empty_tables()
    topic = f"{config.stem}-stream"
    side = Fulltape(site, config, ("processor",)) if name == "fulltape" else Spark(site, "spark", topic, archive=False)
    began = time.monotonic()
    try:
        side.start()
        until(lambda: side.check() or side.done() >= FIRST, 120, f"{name} stores a row", pause=0.005)
        return {"start_to_row_s": time.monotonic() - began}
    finally:
        side.stop()


def idle(site, role, options):
    """A role with nothing to do: an exchange that says nothing any more, a log to which nothing is added."""
    site.up()
    name = f"idle-{site.runs}"
    settings, exchange = {}, None
    if role == "ingest":
        exchange = Exchange(site, SYMBOLS, 1_000, limit=0)
        settings = {
            "source": ['from = ["binance"]', f"symbols = {exchange.symbols}"],
            "binance": exchange.settings(),
        }
    config = site.config(name, **settings)
    side = Spark(site, "spark", f"{name}-stream") if role == "spark" else Fulltape(site, config, (role,))
    try:
        side.start()
        time.sleep(20 if role == "spark" else 5)
        side.check()
        cpu, seconds = side.cpu_seconds(), 5 if options.quick else IDLE_SECONDS
        time.sleep(seconds)
        return {"rss_mib": side.rss() / 2**20, "cores": (side.cpu_seconds() - cpu) / seconds}
    finally:
        side.stop()
        if exchange:
            exchange.process.stop()
