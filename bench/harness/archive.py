"""A log into the archive alone, beside a bare loop."""

from .drain import rounds

# The archiver waits for more before it ends its files, up to three seconds, which the bare loop does not, for it knows
# how many there are: of two million trades that would be half of the time.
TRADES = 10_000_000


def run(site, options):
    trades = options.trades or (500_000 if options.quick else TRADES)
    return rounds(site, options, "archive", trades, archive=True)
