"""Whether cost grows linearly: with symbols, with partitions, and with what has gone before."""

import time

from .drain import checked, drained
from .process import Failed
from .sides import Fulltape

SYMBOLS = (1, 10, 100, 1_000)
PARTITIONS = (2, 6, 64)
# Of a million trades, a good part of what partitions cost is what each of them costs once. Of more, only these two: at
# 30,000 a second the tables take three minutes for each.
PARTITIONS_OF_MORE = (2, 64)
MORE = 5
PATIENCE = 3_600

# A file ends when nothing has come for as long: longer than the turns that 64 partitions take, so that each has one.
ENDS_SOON = {"archiver": ["idle_ms = 5000"]}


def run(site, options):
    trades = options.trades or (100_000 if options.quick else 1_000_000)
    shapes = [(f"{symbols} symbols", trades, symbols, 6) for symbols in SYMBOLS]
    shapes += [(f"{count} partitions, 64 symbols", trades, 64, count) for count in PARTITIONS]
    if options.quick:
        shapes = [shapes[0], shapes[-1]]
    else:
        more = MORE * trades
        shapes += [(f"{count} partitions, 64 symbols, {more} trades", more, 64, count) for count in PARTITIONS_OF_MORE]
    site.warm_up(trades)
    results = []
    for nth in range(options.rounds):
        for what, trades_of_it, symbols, partitions in shapes:
            site.empty_tables()
            name = f"scale-{site.runs}"
            config, issued = site.fill(name, trades_of_it, symbols, partitions, **ENDS_SOON)
            side = Fulltape(site, config)
            result = drained(site, side, trades_of_it) | checked(site, issued, True, side.folder)
            results.append({"what": what, "side": "fulltape", "round": nth} | result)
            options.tell(results[-1])
    if not options.quick:
        results += long_run(site, options, 10 * trades)
    return results


def long_run(site, options, trades):
    """CPU and memory of each role in each tenth of a long drain."""
    site.empty_tables()
    name = f"scale-{site.runs}"
    config, issued = site.fill(name, trades)
    side = Fulltape(site, config)
    results, tenths, deadline = [], {}, time.monotonic() + PATIENCE
    try:
        side.start()
        processes = dict(zip(side.roles, side.processes, strict=True))
        while any(tenth < 10 for tenth, *_ in tenths.values()) or not tenths:
            side.check()
            if time.monotonic() > deadline:
                raise Failed(f"{side.name}: {tenths} of {trades} trades after {PATIENCE} s")
            for part in side.parts():
                role = part.name
                tenth, before, used = tenths.setdefault(role, (0, 0, 0.0))
                if part.read < trades * (tenth + 1) / 10 or tenth == 10:
                    continue
                tenths[role] = (tenth + 1, part.read, part.cpu)
                cost = (part.cpu - used) / (part.read - before)
                result = {"cpu_us_per_event": cost * 1e6, "rss_mib": processes[role].rss() / 2**20}
                what = f"{role}, tenth {tenth + 1} of {trades}"
                results.append({"what": what, "side": "fulltape", "round": 0} | result)
                options.tell(results[-1])
            time.sleep(0.25)
        while side.done() < trades:
            side.check()
            if time.monotonic() > deadline:
                raise Failed(f"{side.name}: {side.done():.0f} of {trades} trades stored after {PATIENCE} s")
            time.sleep(0.25)
    finally:
        side.stop()
    whole = checked(site, issued, True, side.folder)
    results.append({"what": f"all of {trades}", "side": "fulltape", "round": 0} | whole)
    options.tell(results[-1])
    return results
