"""Trades at a steady rate: how soon each is in the table and in a file, and what that costs."""

import time

import pyarrow.parquet as pq

from .drain import checked
from .process import until
from .sides import Fulltape, Spark

RATES = (1_000, 5_000, 10_000)
SECONDS = 60
SYMBOLS = 10


def run(site, options):
    site.up()
    results = []
    seconds = 20 if options.quick else SECONDS
    for rate in RATES[:1] if options.quick else RATES:
        for nth in range(options.rounds):
            for name in ("fulltape", "spark"):
                result = {"what": f"{rate} trades/s", "side": name, "round": nth} | steady(site, name, rate, seconds)
                results.append(result)
                options.tell(result)
    return results


def steady(site, name, rate, seconds):
    """One side, while so many trades come."""
    site.empty_tables()
    run_name = f"steady-{site.runs}"
    config, topic, trades = site.config(run_name), f"{run_name}-stream", rate * seconds
    side = Fulltape(site, config) if name == "fulltape" else Spark(site, "spark", topic)
    counted = ["--trades", trades, "--symbols", SYMBOLS]
    try:
        side.start()
        until(lambda: is_ready(side), 120, f"{name} is ready")
        observer = site.start("observe", [site.limits_binary(), "observe", *counted])
        producer = site.start("produce", [site.limits_binary(), "produce", "--topic", topic, "--rate", rate, *counted])
        began = time.monotonic()
        time.sleep(seconds / 5)
        since, cpu = time.monotonic(), side.cpu_seconds()
        while producer.child.poll() is None:
            side.check()
            time.sleep(0.05)
        cpu, took = side.cpu_seconds() - cpu, time.monotonic() - since
        producer.result(1)
        table = observer.result(seconds + 120)
        until(lambda: side.done() >= trades, 180, f"{name} archives the rest")
    finally:
        side.stop()
    found = {
        "produced_seconds": time.monotonic() - began,
        "cpu_us_per_event": cpu / (rate * took) * 1e6,
        "cores": cpu / took,
        "peak_rss_mib": side.peak_mib(),
        "event_to_table_ms": table["event_to_table_ms"],
        "event_to_file_s": until_file(site, side, trades),
    }
    return found | checked(site, side, trades)


def is_ready(side):
    if isinstance(side, Spark):
        return side.is_started()
    side.check()
    return all(side.metrics(role) for role in side.roles)


def until_file(site, side, trades):
    """From each trade to the end of its file, in seconds; the first fifth of trades is left out."""
    folder = f"{side.folder}/trades"
    copy = site.fetched(folder)
    took = []
    for name, _, ended in site.files(folder):
        path = copy / name.removeprefix(f"{folder}/")
        times = pq.read_table(path, columns=["trade_time"], partitioning=None)["trade_time"]
        took += [(time.timestamp(), ended - time.timestamp()) for time in times.to_pylist()]
    took = sorted(took)[trades // 5 :]
    late = sorted(seconds for _, seconds in took)
    at = lambda share: late[int((len(late) - 1) * share)]
    return {"p50": at(0.5), "p99": at(0.99), "p99.9": at(0.999), "max": at(1)}
