"""Commands, and what they take of the machine."""

import json
import os
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Failed(Exception):
    """A side that did not do its work; the message says which and why."""


class Process:
    """A command with all that it starts: a session of its own, its output in a file."""

    def __init__(self, name, command, folder, environment=None):
        self.name, self.log = name, Path(folder) / f"{name}.log"
        self.offset = 0
        self.stopped = False
        self.peak, self.began = 0, time.monotonic()
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | (environment or {}),
                start_new_session=True,
            )
        self.watcher = threading.Thread(target=self._watch, daemon=True)
        self.watcher.start()

    def lines(self):
        """The lines of JSON that it has printed since the last call."""
        with open(self.log, "rb") as log:
            log.seek(self.offset)
            text = log.read()
        whole = text.rfind(b"\n") + 1
        self.offset += whole
        return [json.loads(line) for line in text[:whole].splitlines() if line.startswith(b"{")]

    def members(self):
        """The ids of its processes, and the fields of their stat behind the name."""
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            try:
                fields = stat(entry.name)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if int(fields[3]) == self.child.pid:
                yield int(entry.name), fields

    def cpu_seconds(self):
        """User and system time, of children that have ended as well."""
        return sum(used(fields) for _, fields in self.members())

    def rss(self):
        """Bytes."""
        return sum(int(fields[21]) * PAGE for _, fields in self.members())

    def check(self):
        """Raises Failed if it has ended."""
        if self.child.poll() is not None:
            raise Failed(f"{self.name} ended with {self.child.returncode}:\n{self.tail()}")

    def tail(self):
        return self.log.read_text(errors="replace")[-2_000:]

    def status(self, patience):
        """Waits for its end; its status."""
        try:
            return self.child.wait(patience)
        except subprocess.TimeoutExpired:
            self.stop(signal.SIGKILL)
            raise Failed(f"{self.name} was not done after {patience} s:\n{self.tail()}") from None

    def result(self, patience):
        """Waits for its end; the last line of JSON."""
        status = self.status(patience)
        lines = self.lines()
        if status or not lines:
            raise Failed(f"{self.name} ended with {status}:\n{self.tail()}")
        return lines[-1]

    def stop(self, by=signal.SIGTERM, patience=30):
        """Ends it, and what it has started."""
        if self.stopped:
            return
        self.stopped = True
        for last in (by, signal.SIGKILL):
            if self.child.poll() is not None:
                break
            try:
                os.killpg(self.child.pid, last)
            except ProcessLookupError:
                pass
            try:
                self.child.wait(patience)
                break
            except subprocess.TimeoutExpired:
                continue
        for member, _ in self.members():
            try:
                os.kill(member, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def _watch(self):
        while self.child.poll() is None:
            members = list(self.members())
            # Of a single one the kernel knows better than whoever looks now and then.
            known = highest(members[0][0]) if len(members) == 1 else 0
            self.peak = max(self.peak, known, sum(int(fields[21]) * PAGE for _, fields in members))
            time.sleep(0.2 if time.monotonic() < self.began + 10 else 0.5)


def stat(process):
    """The fields of a process's stat behind its name."""
    return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()


def used(fields):
    """User and system time, that of its ended children as well, in seconds."""
    return sum(map(int, fields[11:15])) / TICKS


def highest(process):
    """The most memory that a process has had, in bytes."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def run(command, environment=None, patience=600):
    """What a command prints; Failed if it does not succeed."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patience,
            env=os.environ | (environment or {}),
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(map(str, command))} was not done after {patience} s") from None
    if done.returncode:
        raise Failed(
            f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-1000:]}{done.stderr[-2000:]}"
        )
    return done.stdout


def until(condition, patience, what, pause=0.05):
    """Waits until the condition holds, and returns what it has returned."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(pause)
    raise Failed(f"{what} did not happen within {patience} s")


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
