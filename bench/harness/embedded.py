"""A replay through the embedded mode, against a bare loop; then its audit."""

import shutil

from .audit import audits
from .process import run as run_command
from .process import timed
from .sides import rotated
from .site import BINARIES


def run(site, options):
    trades = options.trades or (500_000 if options.quick else 5_000_000)
    archive = site.folder / "public"
    run_command([BINARIES / "examples/public_archive", archive, trades])
    files = sorted(archive.glob("*.csv"))
    results = []
    for nth in range(options.rounds):
        data, bare = site.folder / "embedded", site.folder / "bare"
        for folder in (data, bare):
            shutil.rmtree(folder, ignore_errors=True)
        sources = [word for file in files for word in ("--source", f"replay:{file}")]
        sides = {
            "fulltape": [site.binary(), "up", "--once", "--data", data, *sources],
            "bare loop": [
                site.limits_binary(),
                "embedded",
                "--trades",
                trades,
                "--folder",
                bare,
                *files,
            ],
        }
        for name, command in rotated(list(sides.items()), nth):
            results.append({"what": "replay", "side": name, "round": nth} | timed(site, name, command, trades))
            options.tell(results[-1])
        for what, result in audits(site, ["--data", data], trades):
            results.append({"what": what, "side": "fulltape", "round": nth} | result)
            options.tell(results[-1])
    return results
