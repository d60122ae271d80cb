"""The README's table, from what bench/results has."""

import json

from .report import medians, number

# What is compared; results of which benchmark, of what, which figure and its unit; the other side and how it is called.
SPARK = ("spark", "Spark")
LIMIT = ("bare loop", "bare loop")
ROWS = [
    ("2,000,000 trades from log to tables and archive", "drain", "tables and archive", "cpu_us_per_event", "µs", SPARK),
    ("", "drain", "tables and archive", "per_second", "trades/s", SPARK),
    ("1,000 trades a second, processor time", "steady", "1000 trades/s", "cpu_us_per_event", "µs", SPARK),
    ("memory", "steady", "1000 trades/s", "peak_rss_mib", "MiB", SPARK),
    ("event to table, p99", "steady", "1000 trades/s", "event_to_table_ms.p99", "ms", SPARK),
    ("10,000 trades a second, event to table, p99", "steady", "10000 trades/s", "event_to_table_ms.p99", "ms", SPARK),
    ("start to first row", "footprint", "first row", "start_to_row_s", "s", SPARK),
    (
        "exchange to log, processor time",
        "ingest",
        "5000 messages/s",
        "cpu_us_per_event",
        "µs",
        ("sensible", "Python client"),
    ),
    ("", "ingest", "5000 messages/s", "cpu_us_per_event", "µs", LIMIT),
    ("log to tables", "drain", "tables", "per_second", "trades/s", LIMIT),
    ("log to archive", "drain", "archive", "per_second", "trades/s", LIMIT),
    ("replay in one process", "embedded", "replay", "per_second", "trades/s", LIMIT),
]


def summary(folder):
    """Markdown: ours, theirs, and theirs as a multiple of ours."""
    files = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    found = {name: medians(content["results"]) for name, content in files.items()}
    lines = ["| | fulltape | beside it | ratio |", "|---|---|---|---|"]
    for label, bench, what, figure, unit, (side, called) in ROWS:
        sides = [found.get(bench, {}).get((what, name), {}).get(figure) for name in ("fulltape", side)]
        if None in sides:
            continue
        (ours, *_), (theirs, *_) = sides
        shown = [f"{number(value)} {unit}" for value in (ours, theirs)]
        lines.append(f"| {label} | {shown[0]} | {called}: {shown[1]} | {theirs / ours:.2g} |")
    for name, content in sorted(files.items()):
        machine = content["machine"]
        size = f"{machine['cores']} cores, {machine['memory_gib']} GiB"
        lines.append(f"<!-- {name}: {content['command']}, {content['date']}, {size}, commit {content['commit']} -->")
    return "\n".join(lines)
