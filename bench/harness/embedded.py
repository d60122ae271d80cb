"""A replay through the embedded mode, against a bare loop; then its audit."""

import json
import resource
import shutil
import time

from .process import Failed
from .process import run as run_command
from .site import TARGET


def run(site, options):
    trades = options.trades or (500_000 if options.quick else 5_000_000)
    archive = site.folder / "public"
    run_command([TARGET / "examples/public_archive", archive, trades])
    files = sorted(archive.glob("*.csv"))
    results = []
    for nth in range(options.rounds):
        data = site.folder / "embedded"
        shutil.rmtree(data, ignore_errors=True)
        sources = [word for file in files for word in ("--source", f"replay:{file}")]
        sides = {
            "fulltape": [site.binary(), "up", "--once", "--data", data, *sources],
            "bare loop": [
                site.limits_binary(),
                "embedded",
                "--trades",
                trades,
                "--folder",
                site.folder / "bare",
                *files,
            ],
        }
        for name, command in sides.items():
            results.append({"what": "replay", "side": name, "round": nth} | timed(site, name, command, trades))
            options.tell(results[-1])
        for what, more in (("first audit", []), ("second audit", []), ("deep audit", ["--deep"])):
            result = timed(site, "audit", [site.binary(), "audit", "--data", data, *more], trades)
            results.append({"what": what, "side": "fulltape", "round": nth} | result)
            options.tell(results[-1])
        report = json.loads(run_command([site.binary(), "audit", "--json", "--data", data]))
        if report["findings"]:
            raise Failed(f"the audit found: {report['findings']}")
    return results


def timed(site, name, command, trades):
    """From a process's start to its end."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = site.start(name, command)
    status = process.status(3_600)
    seconds, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if status:
        raise Failed(f"{name} ended with {status}:\n{process.tail()}")
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return {
        "events": trades,
        "per_second": trades / seconds,
        "cpu_us_per_event": cpu / trades * 1e6,
        "cores": cpu / seconds,
        "peak_rss_mib": process.peak / 2**20,
    }
