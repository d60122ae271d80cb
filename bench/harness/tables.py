"""A log into tables alone: what the processor takes of what Cassandra gives, beside a bare loop."""

from .drain import TRADES, rounds


def run(site, options):
    trades = options.trades or (200_000 if options.quick else TRADES)
    return rounds(site, options, "tables", trades, table="trades")
