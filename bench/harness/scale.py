"""Whether cost grows linearly: with symbols, with partitions, and with what has gone before."""

import time

from .drain import ENDS_SOON, checked, drained
from .sides import Fulltape

SYMBOLS = (1, 10, 100, 1_000)
PARTITIONS = (2, 6, 64)


def run(site, options):
    trades = options.trades or (100_000 if options.quick else 1_000_000)
    shapes = [("symbols", symbols, 6) for symbols in SYMBOLS] + [("partitions", 64, count) for count in PARTITIONS]
    if options.quick:
        shapes = [shapes[0], shapes[-1]]
    results = []
    for nth in range(options.rounds):
        for what, symbols, partitions in shapes:
            site.empty_tables()
            name = f"scale-{site.runs}"
            config = site.fill(name, trades, symbols, partitions, **ENDS_SOON)
            side = Fulltape(site, config)
            result = drained(site, side, trades) | checked(site, side, trades)
            label = f"{symbols} symbols" if what == "symbols" else f"{partitions} partitions, {symbols} symbols"
            results.append({"what": label, "side": "fulltape", "round": nth} | result)
            options.tell(results[-1])
    if not options.quick:
        results += long_run(site, options, 10 * trades)
    return results


def long_run(site, options, trades):
    """CPU and memory of each tenth of a long drain."""
    site.empty_tables()
    name = f"scale-{site.runs}"
    side = Fulltape(site, site.fill(name, trades))
    results = []
    try:
        side.start()
        before, cpu = 0, 0.0
        for tenth in range(1, 11):
            while (read := side.read()) < trades * tenth / 10:
                side.check()
                time.sleep(0.05)
            now = side.cpu_seconds()
            result = {"cpu_us_per_event": (now - cpu) / (read - before) * 1e6, "rss_mib": side.rss() / 2**20}
            before, cpu = read, now
            results.append({"what": f"tenth {tenth} of {trades}", "side": "fulltape", "round": 0} | result)
            options.tell(results[-1])
    finally:
        side.stop()
    return results
