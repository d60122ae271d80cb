"""A log full of trades, drained to tables and archive: how fast, and for how much of the processors."""

import time

import pyarrow.compute as pc
import pyarrow.parquet as pq

from .process import Failed
from .sides import Fulltape, Spark

TRADES = 2_000_000

# A file ends when nothing has come for as long: at the end of a drain there is nothing more to come.
ENDS_SOON = {"archiver": ["idle_ms = 200"]}


def drained(site, side, trades, patience=900):
    """What a side does with a topic. Rate and CPU are counted from the tenth of the work on, on all sides."""
    warm, deadline = None, time.monotonic() + patience
    try:
        side.start()
        while True:
            side.check()
            if warm is None and (read := side.read()) >= trades / 10:
                warm = (read, time.monotonic(), side.cpu_seconds())
            if warm and side.done() >= trades:
                break
            if time.monotonic() > deadline:
                raise Failed(f"{side.name}: {side.done():.0f} of {trades} trades after {patience} s")
            time.sleep(0.05)
        before, since, cpu = warm
        seconds, cpu = time.monotonic() - since, side.cpu_seconds() - cpu
    finally:
        side.stop()
    events = trades - before
    return {
        "per_second": events / seconds,
        "cpu_us_per_event": cpu / events * 1e6,
        "cores": cpu / seconds,
        "peak_rss_mib": side.peak_mib(),
    }


def checked(site, side, trades, table=True, archive=True):
    """Whether the side did its work: rows lost and doubled, in the table and in files."""
    found = {}
    if table:
        rows = site.rows()
        found |= {"table_lost": trades - rows["distinct"], "table_doubled": rows["rows"] - rows["distinct"]}
    if archive:
        folder = f"{side.folder}/trades"
        files = site.files(folder)
        ids = pq.read_table(site.fetched(folder), columns=["symbol", "trade_id"], partitioning=None)
        distinct = ids.group_by(["symbol", "trade_id"]).aggregate([]).num_rows
        found |= {"files": len(files), "mean_file_mib": sum(size for _, size, _ in files) / max(len(files), 1) / 2**20}
        found |= {"archive_lost": trades - distinct, "archive_doubled": ids.num_rows - distinct}
        assert pc.count(ids["trade_id"]).as_py() == ids.num_rows
    return found


def sides(site, trades, tables, archive, everything):
    """Constructors, in the order of a round."""
    roles = ("processor",) * tables + ("archiver",) * archive
    table = "trades" if tables else None
    # What is done can be counted by batches only.
    batches = ("--at-once", trades // 10)

    def fulltape(nth):
        config = site.config(f"drain-{site.runs}-{nth}", topic="drain-stream", **ENDS_SOON)
        return Fulltape(site, config, roles)

    chosen = {
        "fulltape": fulltape,
        "spark": lambda nth: Spark(site, "spark", "drain-stream", table, archive, more=batches),
    }
    if everything:
        chosen["spark, as in tutorials"] = lambda nth: Spark(
            site, "spark-tutorial", "drain-stream", "trades_by_second", archive, standalone=True, more=batches
        )
    return chosen


def run(site, options):
    """Rounds of all sides, in turn."""
    trades = options.trades or (200_000 if options.quick else TRADES)
    site.fill("drain", trades)
    results = []
    for what, tables, archive in (("tables and archive", 1, 1), ("tables", 1, 0), ("archive", 0, 1)):
        chosen = sides(site, trades, tables, archive, everything=tables and archive)
        for nth in range(options.rounds):
            for name, make in chosen.items():
                site.empty_tables()
                side = make(nth)
                result = drained(site, side, trades)
                result |= checked(site, side, trades, table=tables and "tutorials" not in name, archive=archive)
                if "tutorials" in name and tables:
                    result["table_lost"] = trades - tutorial_rows(site)
                results.append({"what": what, "side": name, "round": nth} | result)
                options.tell(results[-1])
            for loop in ["tables"] * (not archive) + ["archive"] * (not tables):
                site.empty_tables()
                result = site.limits(loop, "--topic", "drain-stream", "--trades", trades)
                results.append({"what": what, "side": "bare loop", "round": nth} | result)
                options.tell(results[-1])
    return results


def tutorial_rows(site):
    told = site.cluster("cqlsh", "--request-timeout=120", "-e", "SELECT count(*) FROM crypto_ks.trades_by_second")
    return next(int(line) for line in told.splitlines() if line.strip().isdigit())
