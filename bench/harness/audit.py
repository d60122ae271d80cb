"""How many trades a second an audit proves: log, tables and archive compared with each other."""

import json

from .drain import ENDS_SOON, drained
from .process import Failed, timed
from .process import run as run_command
from .sides import Fulltape

TRADES = 2_000_000


def run(site, options):
    trades = options.trades or (200_000 if options.quick else TRADES)
    results = []
    for nth in range(options.rounds):
        site.empty_tables()
        config, _ = site.fill(f"audit-{site.runs}", trades, **ENDS_SOON)
        side = Fulltape(site, config)
        drained(site, side, trades)
        for what, result in audits(site, ["--config", side.config], trades):
            results.append({"what": f"on the servers, {what}", "side": "fulltape", "round": nth} | result)
            options.tell(results[-1])
    return results


def audits(site, where, trades):
    """A first one, one that remembers it, and one that trusts nothing. All of them must find every trade everywhere."""
    for what, more in (("first audit", []), ("second audit", []), ("deep audit", ["--deep"])):
        yield what, timed(site, "audit", [site.binary(), "audit", *where, *more], trades)
    report = json.loads(run_command([site.binary(), "audit", "--json", *where]))
    found = [sum(hour[store] for hour in report["hours"]) for store in ("log", "tables", "archive")]
    if report["findings"] or found != [trades] * 3:
        raise Failed(f"the audit found {found} of {trades} trades, and: {report['findings']}")
