"""The README's tables, from what bench/results has."""

import json

from .report import medians, number

BEGIN, END = "<!-- scripts/bench --plot -->", "<!-- end -->"

# What is compared; results of which benchmark, of what, which figure and its unit; the other side, how it is called,
# and what it did if that is something else.
SPARK = ("spark", "Spark", None)
PYTHON = ("sensible", "Python client", None)
TUNED = ("tuned", "tuned Python client", None)
LIMIT = ("bare loop", "bare loop", None)
ONE_SYMBOL = ("fulltape", "1 symbol", "1 symbols")
TWO_PARTITIONS = ("fulltape", "2 partitions", "2 partitions, 64 symbols")
TWO_PARTITIONS_OF_MORE = ("fulltape", "2 partitions", "2 partitions, 64 symbols, 5000000 trades")
A_TRADE = "log to tables and archive, processor time a trade"
STEADY = "processor and archiver at 1,000 trades a second"
A_MESSAGE = "exchange to log, processor time a message"
TRICKLE, HIGHEST = "5000 messages/s, 10 symbols", "highest rate, 10 symbols"
ROWS = [
    (A_TRADE, "drain", "tables and archive", "cpu_us_per_event", "µs", SPARK),
    (f"{A_TRADE}, with the start", "drain", "tables and archive", "cpu_us_per_event_with_start", "µs", SPARK),
    ("log to tables and archive, rate", "drain", "tables and archive", "per_second", "/s", SPARK),
    (f"{STEADY}, processor time a trade", "steady", "1000 trades/s", "cpu_us_per_event", "µs", SPARK),
    (f"{STEADY}, memory", "steady", "1000 trades/s", "peak_rss_mib", "MiB", SPARK),
    ("event to table at 1,000 a second, p99", "steady", "1000 trades/s", "event_to_table_ms.p99", "ms", SPARK),
    ("event to table at 5,000 a second, p99", "steady", "5000 trades/s", "event_to_table_ms.p99", "ms", SPARK),
    ("event to table at 10,000 a second, p99", "steady", "10000 trades/s", "event_to_table_ms.p99", "ms", SPARK),
    ("event to file at 1,000 a second, p50", "steady", "1000 trades/s", "event_to_file_s.p50", "s", SPARK),
    ("start to first row", "footprint", "first row", "start_to_row_s", "s", SPARK),
    ("exchange to log, highest rate", "ingest", HIGHEST, "per_second", "/s", PYTHON),
    (f"{A_MESSAGE} there", "ingest", HIGHEST, "cpu_us_per_event", "µs", PYTHON),
    (f"{A_MESSAGE} at 5,000 a second", "ingest", TRICKLE, "cpu_us_per_event", "µs", PYTHON),
    (f"{A_MESSAGE} at the highest rate", "ingest", HIGHEST, "cpu_us_per_event", "µs", TUNED),
    (f"{A_MESSAGE} at 5,000 a second", "ingest", TRICKLE, "cpu_us_per_event", "µs", TUNED),
    (f"{A_MESSAGE} at the highest rate", "ingest", HIGHEST, "cpu_us_per_event", "µs", LIMIT),
    (f"{A_MESSAGE} at 5,000 a second", "ingest", TRICKLE, "cpu_us_per_event", "µs", LIMIT),
    ("log to tables, rate", "tables", "tables", "per_second", "/s", LIMIT),
    ("log to archive, rate", "archive", "archive", "per_second", "/s", LIMIT),
    ("replay in one process, rate", "embedded", "replay", "per_second", "/s", LIMIT),
    (f"{A_TRADE}, a million of 1,000 symbols", "scale", "1000 symbols", "cpu_us_per_event", "µs", ONE_SYMBOL),
    (
        f"{A_TRADE}, a million in 64 partitions",
        "scale",
        "64 partitions, 64 symbols",
        "cpu_us_per_event",
        "µs",
        TWO_PARTITIONS,
    ),
    (
        f"{A_TRADE}, five million in 64 partitions",
        "scale",
        "64 partitions, 64 symbols, 5000000 trades",
        "cpu_us_per_event",
        "µs",
        TWO_PARTITIONS_OF_MORE,
    ),
]


def summary(folder):
    """Markdown: ours, theirs, and what that is in ratios; below it where each benchmark's figures come from."""
    files = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    found = {name: medians(content["results"]) for name, content in files.items()}
    lines = ["| | fulltape | beside it | ratio |", "|---|---|---|---|"]
    for label, bench, what, figure, unit, (side, called, other) in ROWS:
        pair = [(what, "fulltape"), (other or what, side)]
        sides = [found.get(bench, {}).get(of, {}).get(figure) for of in pair]
        if None in sides:
            continue
        (ours, *_), (theirs, *_) = sides
        if not ours or not theirs:
            continue
        shown = [f"{number(value)}{unit if unit.startswith('/') else ' ' + unit}" for value in (ours, theirs)]
        is_rate = figure == "per_second"
        lines.append(f"| {label} | {shown[0]} | {called}: {shown[1]} | {ratio(ours, theirs, is_rate, side)} |")
    lines += ["", "| | command | date | machine | commit |", "|---|---|---|---|---|"]
    for name, content in files.items():
        machine = content["machine"]
        size = f"{machine['cores']} cores, {machine['memory_gib']} GiB, {machine['model']}"
        raw = f"[{name}](bench/results/{name}.json)"
        lines.append(f"| {raw} | `{content['command']}` | {content['date']} | {size} | {content['commit']} |")
    return "\n".join(lines)


def into(readme, tables):
    """Puts the tables between the README's two comments."""
    before, rest = readme.read_text().split(BEGIN, 1)
    _, after = rest.split(END, 1)
    readme.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}")


def ratio(ours, theirs, is_rate, side):
    """Of a limit's rate the share that is reached; of all else how many times more or less."""
    times = ours / theirs if is_rate else theirs / ours
    if side == "bare loop" and is_rate:
        return f"{times:.0%} of it"
    factor = max(times, 1 / times)
    shown = f"{factor:.{0 if factor >= 20 else 1 if factor >= 2 else 2}f}"
    if shown == "1.00":
        return "the same"
    return f"{shown} times {'more' if is_rate == (times >= 1) else 'less'}"
