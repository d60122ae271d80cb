"""A log full of trades, drained to tables and archive: how fast, and for how much of the processors."""

import functools
import time
from decimal import Decimal, localcontext

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .process import Failed
from .sides import Fulltape, Part, Spark, rotated

TRADES = 2_000_000

# A file ends when nothing has come for as long: longer than brokers gather the last records of a drain.
ENDS_SOON = {"archiver": ["idle_ms = 2500"]}


def drained(site, side, trades, patience=900):
    """What a side does with a topic. Rate and CPU are counted from the tenth of the work on, of each part by itself;
    CPU also from the start of the processes, which is all there is of a part that is done at the first look."""
    warm, began = {}, time.monotonic()
    try:
        side.start()
        while True:
            side.check()
            parts = list(side.parts())
            for part in parts:
                if part.name not in warm and part.least >= trades / 10:
                    # With few trades, one may have read them all before it is first looked at.
                    warm[part.name] = (part, time.monotonic()) if part.least < trades else (Part(part.name), began)
                    servers, servers_since = site.servers_cpu_seconds(), time.monotonic()
            if len(warm) == len(parts) and side.done() >= trades:
                break
            if time.monotonic() > began + patience:
                raise Failed(f"{side.name}: {side.done():.0f} of {trades} trades after {patience} s")
            # Not more often than a fiftieth of the time shows: whoever asks for metrics uses the side's processor time.
            time.sleep(max(0.25, (time.monotonic() - began) / 50))
        ended = time.monotonic()
        used = {part.name: part.cpu - warm[part.name][0].cpu for part in side.parts()}
        costs = {name: cpu / (trades - warm[name][0].read) for name, cpu in used.items()}
        whole = side.cpu_seconds() / trades
        servers = (site.servers_cpu_seconds() - servers) / max(time.monotonic() - servers_since, 0.1)
    finally:
        side.stop()
    before, since = max(warm.values(), key=lambda begun: begun[1])
    rate, cost = (trades - before.least) / (ended - since), sum(costs.values())
    return {
        "per_second": rate,
        "cpu_us_per_event": cost * 1e6,
        "cpu_us_per_event_with_start": whole * 1e6,
        "cores": cost * rate,
        "servers_cores": servers,
        "peak_rss_mib": side.peak_mib(),
        "parts_cpu_us_per_event": {name: part * 1e6 for name, part in costs.items()},
    }


def checked(site, issued, table=None, archive=None):
    """Whether what was issued is there: rows lost and doubled, and whether their prices and quantities come to the same
    sums, in the table and in files below a folder."""
    found = {}

    def compare(where, distinct, rows, sums):
        found[f"{where}_lost"], found[f"{where}_doubled"] = issued["events"] - distinct, rows - distinct
        found[f"{where}_sums_wrong"] = int(sums != issued["sums"])

    if table:
        rows = site.rows()
        compare("table", rows["distinct"], rows["rows"], rows["sums"])
    if archive:
        folder = f"{archive}/trades"
        files = site.files(folder)
        found |= {"files": len(files), "mean_file_mib": sum(size for _, size, _ in files) / max(len(files), 1) / 2**20}
        columns = ["symbol", "trade_id", "price", "quantity"]
        rows = pq.read_table(site.fetched(folder), columns=columns, partitioning=None)
        distinct = rows.group_by(["symbol", "trade_id"]).aggregate([]).num_rows
        compare("archive", distinct, rows.num_rows, {name: digits(rows[name]) for name in ("price", "quantity")})
    return found


def digits(numbers):
    """A column's sum as the digits of a number with 18 behind the point."""
    whole = pc.sum(numbers.cast(pa.decimal256(76, 18))).as_py() or Decimal(0)
    with localcontext() as exact:
        exact.prec = 76
        return str(int(whole.scaleb(18)))


def sides(site, topic, trades, table, archive, options):
    """Constructors, in the order of a round."""
    roles = ("processor",) * bool(table) + ("archiver",) * archive
    # What is done can be counted by batches only.
    batches = ("--at-once", trades // 10)

    def fulltape():
        return Fulltape(site, site.config(f"drain-{site.runs}", topic=topic, **ENDS_SOON), roles)

    def spark():
        return Spark(site, "spark", topic, table, archive, more=batches)

    def tutorial():
        return Spark(site, "spark-tutorial", topic, "trades_by_second", archive, standalone=True, more=batches)

    chosen = {"fulltape": fulltape}
    if (table and archive) or not options.quick:
        chosen["spark"] = spark
    if table and archive and not options.quick:
        chosen["spark, as in tutorials"] = tutorial
    return chosen


def run(site, options):
    trades = options.trades or (200_000 if options.quick else TRADES)
    return rounds(site, options, "tables and archive", trades, table="trades", archive=True)


def rounds(site, options, what, trades, table=None, archive=False):
    """Rounds of all sides, in turn, with a log of so many trades."""
    site.warm_up(min(trades, TRADES) // 2)
    topic, issued = site.fill_once(trades)
    results = []

    def of_side(make):
        side = make()
        result = drained(site, side, trades)
        by_second = getattr(side, "table", table) == "trades_by_second"
        result |= checked(site, issued, table and not by_second, archive and side.folder)
        return result | ({"table_lost": trades - tutorial_rows(site)} if by_second else {})

    def of_bare_loop():
        loop, folder = ("tables", None) if table else ("archive", "/bench/limits")
        result = site.limits(loop, "--topic", topic, "--trades", trades)
        return result | checked(site, issued, table, folder)

    made = sides(site, topic, trades, table, archive, options)
    turns = [(name, functools.partial(of_side, make)) for name, make in made.items()]
    # What stands below only one of the roles.
    if not (table and archive):
        turns.append(("bare loop", of_bare_loop))
    for nth in range(options.rounds):
        for name, turn in rotated(turns, nth):
            site.empty_tables()
            results.append({"what": what, "side": name, "round": nth} | turn())
            options.tell(results[-1])
    return results


def tutorial_rows(site):
    told = site.cluster("cqlsh", "--request-timeout=120", "-e", "SELECT count(*) FROM crypto_ks.trades_by_second")
    return next(int(line) for line in told.splitlines() if line.strip().isdigit())
