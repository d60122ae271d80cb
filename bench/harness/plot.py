"""The results at a glance: what the README shows."""

import json

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from .report import medians, number

COLOURS = {"fulltape": "#0b7285", "spark": "#e8590c", "sensible": "#e8590c", "bare loop": "#adb5bd"}
NAMES = {"spark": "Spark", "sensible": "Python client"}

# Title; results of which benchmark; figure; the bars: what was done, by whom, and how that is called.
PANELS = [
    (
        "Processor time, µs per trade\n(less is better; logarithmic)",
        "cpu_us_per_event",
        [
            ("drain", "tables and archive", "log to tables\nand archive", ("fulltape", "spark")),
            ("steady", "1000 trades/s", "log to tables\nand archive,\n1,000 a second", ("fulltape", "spark")),
            ("ingest", "5000 messages/s, 10 symbols", "exchange\nto log", ("fulltape", "sensible")),
        ],
    ),
    (
        "Event to table, p99 in ms\n(less is better; logarithmic)",
        "event_to_table_ms.p99",
        [
            ("steady", f"{rate} trades/s", f"{rate:,}\na second", ("fulltape", "spark"))
            for rate in (1_000, 5_000, 10_000)
        ],
    ),
    (
        "Memory, MiB\n(less is better; logarithmic)",
        "peak_rss_mib",
        [("steady", f"{rate} trades/s", f"{rate:,}\na second", ("fulltape", "spark")) for rate in (1_000, 10_000)],
    ),
]


def plot(folder):
    """Draws the results that are in a folder; returns the picture's path."""
    found = {}
    for path in folder.glob("*.json"):
        found[path.stem] = medians(json.loads(path.read_text())["results"])
    figure, axes = plt.subplots(1, len(PANELS), figsize=(11, 3.4), width_ratios=[len(bars) for *_, bars in PANELS])
    plt.rcParams["svg.hashsalt"] = "fulltape"
    for axis, (title, name, bars) in zip(axes, PANELS, strict=True):
        draw(axis, title, name, bars, found)
    shown = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, handle)
    figure.legend(shown.values(), shown.keys(), loc="upper center", ncols=len(shown), frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.92))
    picture = folder / "overview.svg"
    figure.savefig(picture, metadata={"Date": None})
    return picture


def draw(axis, title, name, bars, found):
    bars = [bar for bar in bars if (bar[1], "fulltape") in found.get(bar[0], {})]
    for nth, (bench, what, _, sides) in enumerate(bars):
        for at, side in enumerate(sides):
            median = found.get(bench, {}).get((what, side), {}).get(name, (None,))[0]
            if median is None:
                continue
            bar = axis.bar(nth + (at - 0.5) * 0.38, median, 0.36, color=COLOURS[side], label=NAMES.get(side, side))
            axis.bar_label(bar, [number(median)], fontsize=8)
    axis.set_title(title, fontsize=10)
    axis.set_xticks(range(len(bars)), [label for _, _, label, _ in bars], fontsize=8)
    axis.set_yscale("log")
    axis.set_yticks([])
    axis.minorticks_off()
    axis.margins(y=0.2)
    axis.spines[["top", "right", "left"]].set_visible(False)
