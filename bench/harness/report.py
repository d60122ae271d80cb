"""Raw results into medians, spread and ratios: a table, a file."""

import json
import statistics


def medians(results):
    """By what was done and by side: figure → (median, least, most)."""
    grouped = {}
    for result in results:
        group = grouped.setdefault((result["what"], result["side"]), {})
        for name, value in flat(result):
            group.setdefault(name, []).append(value)
    return {
        key: {name: (statistics.median(values), min(values), max(values)) for name, values in group.items()}
        for key, group in grouped.items()
    }


def flat(result, prefix=""):
    """Figures of a result, those inside others by path."""
    for name, value in result.items():
        if name in ("what", "side", "round"):
            continue
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value


def table(results):
    """A line for each figure: the sides beside each other, and how many times fulltape's the others are."""
    found = medians(results)
    lines = []
    for what in dict.fromkeys(what for what, _ in found):
        sides = {side: figures for (of, side), figures in found.items() if of == what}
        ours = sides.get("fulltape", {})
        lines.append(f"\n{what}")
        for name in dict.fromkeys(name for figures in sides.values() for name in figures):
            cells = []
            for side, figures in sides.items():
                if name in figures:
                    median, least, most = figures[name]
                    ratio = ""
                    if side != "fulltape" and ours.get(name, (0,))[0]:
                        ratio = f"  {median / ours[name][0]:.2f}×"
                    cells.append(f"{side} {number(median)} ({number(least)}–{number(most)}){ratio}")
            lines.append(f"  {name:<26} " + "  |  ".join(cells))
    return "\n".join(lines)


def number(value):
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def write(path, name, results, facts):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"bench": name} | facts | {"results": results}, indent=1) + "\n")
