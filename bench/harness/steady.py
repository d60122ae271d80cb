"""Trades at a steady rate: how soon each is in the table and in a file, and what that costs."""

import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .drain import checked
from .process import until
from .sides import Fulltape, Spark, rotated

# How often the observer asks each symbol for its next rows at a rate, in milliseconds: how much too late, at most, it
# sees a row. Asking costs the servers, which have most to do at the highest rate.
ASK_EVERY_MS = {1_000: 20, 5_000: 20, 10_000: 30}
SECONDS = 60
# A job of Spark gets faster for as long: its first batches take ten times what its later ones do. What it has not done
# by then, it may do before the measured minute begins.
WARM_UP_SECONDS = 40
CATCH_UP_SECONDS = 300
SYMBOLS = 10
# How old a file gets, on both sides: the archiver's default.
FILE_SECONDS = 60


def run(site, options):
    warm_up, seconds = (4, 16) if options.quick else (WARM_UP_SECONDS, SECONDS)
    if not options.quick:
        site.warm_up()
        # Small requests are other work than a drain's: for their first minute brokers and tables take both processors.
        steady(site, "fulltape", 1_000, warm_up, seconds)
    results = []
    for rate in (1_000,) if options.quick else ASK_EVERY_MS:
        for nth in range(options.rounds):
            for name in rotated(("fulltape", "spark"), nth):
                result = steady(site, name, rate, warm_up, seconds)
                results.append({"what": f"{rate} trades/s", "side": name, "round": nth} | result)
                options.tell(results[-1])
    return results


def steady(site, name, rate, warm_up, seconds):
    """One side, while so many trades come a second: for a time that counts in nothing, until it has caught up, and then
    for one that is measured."""
    site.empty_tables()
    run_name = f"steady-{site.runs}"
    # The last file gets as old as the others: not because nothing comes any more.
    file_seconds = min(FILE_SECONDS, seconds)
    ages = [f"{name} = {file_seconds * 1_000}" for name in ("max_age_ms", "idle_ms")]
    config, topic = site.config(run_name, archiver=ages), f"{run_name}-stream"
    before, measured = rate * warm_up, rate * seconds
    trades = before + measured
    # On HDFS its small batches would take longer: each of them writes two files.
    checkpoints = ("--checkpoints", f"file://{site.folder}/{run_name}-checkpoints")
    archive = ("--archive-every-seconds", file_seconds)
    side = Fulltape(site, config) if name == "fulltape" else Spark(site, "spark", topic, more=(*checkpoints, *archive))

    def produce(trades, behind):
        words = ["produce", "--topic", topic, "--rate", rate, "--symbols", SYMBOLS]
        return site.start("produce", [site.limits_binary(), *words, "--trades", trades, "--behind", behind])

    try:
        side.start()
        until(lambda: is_ready(side), 120, f"{name} is ready")
        observe = ["observe", "--warm-up", before, "--trades", trades, "--symbols", SYMBOLS]
        observe += ["--patience-seconds", CATCH_UP_SECONDS, "--interval-ms", ASK_EVERY_MS[rate]]
        observer = site.start("observe", [site.limits_binary(), *observe])
        produce(before, 0).result(2 * warm_up + 60)
        began = time.monotonic()
        until(lambda: has_read(side, before), CATCH_UP_SECONDS, f"{name} catches up", pause=0.25)
        since, cpu, servers = time.monotonic(), side.cpu_seconds(), site.servers_cpu_seconds()
        producer = produce(measured, before)
        while producer.child.poll() is None:
            side.check()
            time.sleep(0.05)
        cpu, took = side.cpu_seconds() - cpu, time.monotonic() - since
        servers = site.servers_cpu_seconds() - servers
        issued = producer.result(1) | {"events": trades}
        table = observer.result(CATCH_UP_SECONDS + 60)
        until(lambda: side.done() >= trades, 180, f"{name} archives the rest")
        archived = time.monotonic() - since
    finally:
        side.stop()
    found = {
        "caught_up_after_s": since - began,
        "seconds_until_archived": archived,
        "cpu_us_per_event": cpu / (rate * took) * 1e6,
        "cores": cpu / took,
        "servers_cores": servers / took,
        "peak_rss_mib": side.peak_mib(),
        "seen_lost": table["missing"],
        "event_to_table_ms": table["event_to_table_ms"],
        "event_to_file_s": until_file(site, side, before),
    }
    return found | checked(site, issued, True, side.folder)


def is_ready(side):
    if isinstance(side, Spark):
        return side.is_started()
    side.check()
    return all(side.metrics(role) for role in side.roles)


def has_read(side, trades):
    side.check()
    parts = list(side.parts())
    return bool(parts) and all(part.least >= trades for part in parts)


def until_file(site, side, warm_up):
    """From each trade to the end of its file, in seconds; so many trades at first are left out."""
    folder = f"{side.folder}/trades"
    copy = site.fetched(folder)
    times, ends = [], []
    for name, _, ended in site.files(folder):
        rows = pq.read_table(copy / name.removeprefix(f"{folder}/"), columns=["trade_time"], partitioning=None)
        # Spark writes nanoseconds.
        of_file = rows["trade_time"].cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.int64()).to_numpy() / 1e6
        times.append(of_file)
        ends.append(np.full(len(of_file), ended))
    times, ends = np.concatenate(times), np.concatenate(ends)
    late = (ends - times)[np.argsort(times, kind="stable")][warm_up:]
    found = np.quantile(late, (0.5, 0.99, 0.999, 1), method="higher")
    return dict(zip(("p50", "p99", "p99.9", "max"), map(float, found), strict=True))
