"""Runs benchmarks by name; see scripts/bench."""

import argparse
import datetime
import functools
import importlib
import signal
import sys

from . import report
from .process import Failed
from .sides import fetch_connectors
from .site import CHECKOUT, Site, Stolen, commit, machine

BENCHES = {
    "drain": "a log of 2,000,000 trades into tables and archive, against Spark",
    "tables": "the same log into tables alone, against Spark and a bare loop",
    "archive": "a log of 10,000,000 trades into the archive alone, against Spark and a bare loop",
    "steady": "1,000, 5,000 and 10,000 trades a second for a minute, against Spark",
    "ingest": "WebSocket to Kafka, against Python clients and a bare loop",
    "embedded": "a replay of 5,000,000 trades in one process, against a bare loop; and its audit",
    "audit": "the audit of 2,000,000 trades on the servers",
    "alone": "the libraries and servers underneath",
    "scale": "1 to 1,000 symbols, 2 to 64 partitions, ten million trades",
    "footprint": "start-up, and what idle roles need",
}


def tell(result, stolen):
    """Adds what the host took meanwhile, and shows the result."""
    result["stolen_share"] = stolen.share()
    figures = ", ".join(f"{name} {report.number(value)}" for name, value in report.flat(result))
    print(f"  {result['what']}, {result['side']}, round {result['round'] + 1}: {figures}", file=sys.stderr, flush=True)
    wrong = [name for name in result if name.endswith(("_lost", "_doubled", "_sums_wrong")) and result[name]]
    if wrong and result["side"] == "fulltape":
        raise Failed(f"{result['what']}: the tape is not complete: {', '.join(wrong)}")


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(BENCHES) + "; all of them if none is named")
    parser.add_argument("--rounds", type=int, help="3 unless told, 1 with --quick; fewer than 3 write no results")
    parser.add_argument("--trades", type=int, help="so many in those that drain or replay; writes no results")
    parser.add_argument("--quick", action="store_true", help="less of everything, one round: whether it works")
    parser.add_argument(
        "--plot", action="store_true", help="renew the README's picture and tables from bench/results, and exit"
    )
    parser.add_argument("--list", action="store_true", help="name the benchmarks and exit")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{name:<10} {what}" for name, what in BENCHES.items()))
        return 0
    if options.plot:
        from .plot import plot
        from .summary import into, summary

        plot(CHECKOUT / "bench/results")
        into(CHECKOUT / "README.md", summary(CHECKOUT / "bench/results"))
        return 0
    if unknown := [name for name in options.names if name not in BENCHES]:
        parser.error(f"unknown: {', '.join(unknown)}; expected one of {', '.join(BENCHES)}")
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.tell = functools.partial(tell, stolen=Stolen())
    # As an interrupt, so that everything started is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    fetch_connectors()
    facts = {"command": " ".join(["scripts/bench", *sys.argv[1:]]), "commit": commit(), "machine": machine()}
    failed, site = [], Site()
    try:
        for name in options.names or BENCHES:
            print(f"── {name}: {BENCHES[name]}", file=sys.stderr, flush=True)
            try:
                results = importlib.import_module(f".{name}", __package__).run(site, options)
            except Failed as failure:
                print(f"{name}: {failure}", file=sys.stderr)
                failed.append(name)
                continue
            print(report.table(results), flush=True)
            # What the README shows are medians of rounds of the whole.
            if not options.quick and options.rounds >= 3 and not options.trades:
                day = datetime.date.today().isoformat()
                report.write(CHECKOUT / f"bench/results/{name}.json", name, results, facts | {"date": day})
    finally:
        site.close()
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
