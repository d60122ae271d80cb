"""The log of `drain` into tables alone, and into the archive alone: what each store takes, beside its bare loop."""

from .drain import rounds


def run(site, options):
    return rounds(site, options, (("tables", "trades", False), ("archive", None, True)))
