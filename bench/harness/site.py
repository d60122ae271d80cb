"""The servers and the folders of a run: everything that the sides have in common."""

import os
import shutil
import tempfile
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from .process import Failed, Process, run, stat, used

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fulltape"
BINARIES = Path(os.environ["FULLTAPE_BENCH_BINARIES"])
BROKERS = "127.0.0.1:19092,127.0.0.1:29092"
HDFS = "hdfs://127.0.0.1:8020"

SPARK_TABLE = """CREATE TABLE IF NOT EXISTS crypto_ks.trades_by_second (
  symbol text, time timestamp, price decimal, quantity decimal, PRIMARY KEY (symbol, time))"""


class Site:
    """A folder, and the servers of scripts/cluster once somebody needs them."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="fulltape-bench."))
        self.environment = {"FULLTAPE_CLUSTER_DIR": str(self.folder / "cluster"), "FULLTAPE_BIN": str(self.binary())}
        self.is_up = self.is_warm = self.to_wipe = False
        # What is in topics that several benchmarks read, by name.
        self.filled = {}
        self.servers = []
        self.processes = []
        self.runs = 0

    @staticmethod
    def binary():
        return BINARIES / "fulltape"

    def up(self):
        if not self.is_up:
            self.to_wipe = True
            self.cluster("up")
            self.cluster("cqlsh", "-e", SPARK_TABLE)
            status = [line.split() for line in self.cluster("status").splitlines()]
            self.servers = [int(words[1]) for words in status[1:]]
            self.is_up = True

    def warm_up(self, trades=1_000_000):
        """So much work for the servers that counts in nothing: freshly started they take ten times as long, at the cost
        of whoever comes first."""
        self.up()
        if not self.is_warm:
            self.is_warm = True
            config, _ = self.fill("warm-up", trades)
            self.empty_tables()
            for loop in ("tables", "archive"):
                self.limits(loop, "--topic", f"{config.stem}-stream", "--trades", trades)

    def servers_cpu_seconds(self):
        """What brokers, tables and file system have used of the processors so far."""
        self.up()
        try:
            return sum(used(stat(server)) for server in self.servers)
        except FileNotFoundError:
            raise Failed("a server of scripts/cluster has ended") from None

    def close(self):
        # Whatever a failure has left running.
        for process in self.processes:
            process.stop()
        if self.to_wipe:
            self.cluster("wipe")
        shutil.rmtree(self.folder, ignore_errors=True)

    def cluster(self, *words):
        return run([CHECKOUT / "scripts/cluster", *words], self.environment)

    def limits(self, name, *words, patience=900):
        """A bare loop, from its start to its end."""
        return self.start(f"limits-{name}", [self.limits_binary(), name, *words]).result(patience)

    @staticmethod
    def limits_binary():
        return BINARIES / "limits"

    def start(self, name, command, environment=None):
        self.runs += 1
        self.processes.append(Process(f"{self.runs:03}-{name}", command, self.folder, environment))
        return self.processes[-1]

    def config(self, name, **settings):
        """A file of settings for the roles: those of scripts/cluster, topics and archive of its own."""
        self.up()
        self.forget_topics()
        topic = settings.pop("topic", f"{name}-stream")
        partitions = settings.pop("partitions", 6)
        more = "\n".join(f"[{section}]\n" + "\n".join(lines) for section, lines in settings.items())
        path = self.folder / f"{name}.toml"
        path.write_text(
            f"""[log]
kind = "kafka"
stream = "{topic}"
gaps = "{name}-gaps"
dead_letter = "{name}-dead-letter"
lease = "{name}-lease"
partitions = {partitions}
replication = 2
kafka.brokers = "{BROKERS}"
[tables]
kind = "cassandra"
cassandra.contact_points = ["127.0.0.1:9042", "127.0.0.2:9042"]
[archive]
kind = "hdfs"
hdfs.url = "{HDFS}"
hdfs.root = "/bench/{name}"
{more}
"""
        )
        run([self.binary(), "init", "--config", path])
        return path

    def fill(self, name, trades, symbols=10, partitions=6, **settings):
        """A topic with so many trades; its settings file, and what was issued."""
        config = self.config(name, partitions=partitions, **settings)
        return config, self.limits("produce", "--topic", f"{name}-stream", "--trades", trades, "--symbols", symbols)

    def fill_once(self, trades):
        """The same, for benchmarks that read the same topic: its name, and what was issued."""
        name = f"drain-of-{trades}"
        if f"{name}-stream" not in self.filled:
            _, issued = self.fill(name, trades)
            self.filled[f"{name}-stream"] = issued
        return f"{name}-stream", self.filled[f"{name}-stream"]

    def forget_topics(self):
        """Deletes what earlier runs used: with 636 partitions more the brokers took 1.1 cores instead of 0.5 for 1,000
        trades a second, and whoever waited for them took seconds."""
        admin = AdminClient({"bootstrap.servers": BROKERS, "log_level": 4})
        try:
            topics = [topic for topic in admin.list_topics(timeout=30).topics if topic not in self.filled]
            # Kafka's own, and those of scripts/cluster.
            topics = [topic for topic in topics if not topic.startswith(("__", "crypto-"))]
            for deleted in admin.delete_topics(topics, operation_timeout=30).values() if topics else ():
                deleted.result()
        except KafkaException as error:
            raise Failed(f"topics of earlier runs: {error}") from error

    def empty_tables(self):
        self.up()
        tables = ("trades", "trades_by_second", "checkpoints", "completeness", "gaps")
        self.cluster("cqlsh", "-e", " ".join(f"TRUNCATE crypto_ks.{table};" for table in tables))

    def rows(self):
        """Rows of the table, and how many ids they have."""
        return self.limits("count")

    def files(self, folder):
        """The Parquet files below a folder on HDFS: name, bytes, time of their end in seconds."""
        listed = self.cluster("hdfs", "dfs", "-find", folder, "-name", "*.parquet")
        names = [line for line in listed.splitlines() if line.startswith("/") and "/_" not in line]
        if not names:
            return []
        told = self.cluster("hdfs", "dfs", "-stat", "%n %b %Y", *names)
        stats = [line.split() for line in told.splitlines() if line.count(" ") == 2]
        return [(name, int(size), int(at) / 1000) for name, (_, size, at) in zip(names, stats, strict=True)]

    def fetched(self, folder):
        """A local copy of a folder on HDFS."""
        copy = self.folder / f"copy-{self.runs}"
        shutil.rmtree(copy, ignore_errors=True)
        self.cluster("hdfs", "dfs", "-get", folder, copy)
        return copy


def commit():
    words = ["git", "-C", CHECKOUT, "describe", "--always", "--dirty", "--exclude=*"]
    return run(words).strip()


def machine():
    """What the figures depend on."""
    info = Path("/proc/cpuinfo").read_text()
    models = [line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")]
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    return {"cores": os.cpu_count(), "model": models[0] if models else "unknown", "memory_gib": round(memory)}


class Stolen:
    """How much of the processors a virtual machine's host gave to others: latencies mean little where it is much."""

    def __init__(self):
        self.before = self._ticks()

    @staticmethod
    def _ticks():
        ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(ticks), ticks[7]

    def share(self):
        """Since it was asked the last time."""
        (all_before, stolen_before), self.before = self.before, self._ticks()
        everything, stolen = self.before
        return (stolen - stolen_before) / max(everything - all_before, 1)
