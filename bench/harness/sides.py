"""The two ways from the log to tables and archive."""

import shutil
import socket
import sys
import urllib.request
from dataclasses import dataclass

from .process import Failed, run
from .site import BROKERS, CACHE, CHECKOUT, HDFS

CONNECTORS = CACHE / "bench" / "connectors"


def rotated(sides, nth):
    """Who begins is another in each round: what comes first finds servers in another state than what comes last."""
    first = nth % len(sides)
    return sides[first:] + sides[:first]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True)
class Part:
    """What works by itself: trades that it has read, those of its slowest query, and its processor time so far."""

    name: str
    read: float = 0
    least: float = 0
    cpu: float = 0


class Side:
    """Something that brings a topic to tables, to the archive, or to both."""

    def __init__(self, site, name):
        self.site, self.name, self.processes = site, name, []

    def check(self):
        for process in self.processes:
            process.check()

    def cpu_seconds(self):
        return sum(process.cpu_seconds() for process in self.processes)

    def parts(self):
        """What works by itself, as far as it is."""
        raise NotImplementedError

    def rss(self):
        return sum(process.rss() for process in self.processes)

    def peak_mib(self):
        return sum(process.peak for process in self.processes) / 2**20

    def stop(self):
        for process in self.processes:
            process.stop()


class Fulltape(Side):
    """A process for each role."""

    def __init__(self, site, config, roles=("processor", "archiver")):
        super().__init__(site, "fulltape")
        self.config, self.roles, self.ports = config, roles, {}
        self.folder = f"/bench/{config.stem}"

    def start(self):
        for role in self.roles:
            self.ports[role] = free_port()
            command = [self.site.binary(), role, "--config", self.config]
            listen = {"FULLTAPE__ADMIN__LISTEN": f"127.0.0.1:{self.ports[role]}"}
            self.processes.append(self.site.start(role, command, listen))

    def samples(self, role):
        """What the role tells Prometheus: names with labels, and values."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[role]}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            self.check()
            return []
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#")]
        return [(name, float(value)) for name, value in lines]

    def metrics(self, role):
        """Sums over labels, by name."""
        found = {}
        for name, value in self.samples(role):
            name = name.split("{")[0]
            found[name] = found.get(name, 0) + value
        return found

    def quantiles(self, name):
        """Of a histogram of the first role: 0.99 is p99."""
        for sample, value in self.samples(self.roles[0]):
            if sample.startswith(f'{name}{{quantile="'):
                share = sample.split('"')[1]
                yield {"1": "max", "0": "min"}.get(share, f"p{float(share) * 100:g}"), value

    def parts(self):
        # What is read is in the table a moment later, but in a file only when that is full.
        read = {"processor": "trades_stored_total", "archiver": "archive_records_read_total"}
        for role, process in zip(self.roles, self.processes, strict=True):
            done = self.metrics(role).get(read[role], 0)
            yield Part(role, done, done, process.cpu_seconds())

    def done(self):
        """Trades that are where they belong."""
        there = {"processor": "trades_stored_total", "archiver": "trades_archived_total"}
        return min(self.metrics(role).get(there[role], 0) for role in self.roles)


class Spark(Side):
    """One job with a query for each sink. `local[2]` is its best on two cores; the tutorials have a master and two
    workers, and a table keyed by second."""

    def __init__(self, site, name, topic, table="trades", archive=True, standalone=False, more=()):
        super().__init__(site, name)
        self.topic, self.table, self.archive, self.standalone, self.more = topic, table, archive, standalone, more
        self.queries = (1 if table else 0) + (1 if archive else 0)
        self.folder = f"/bench/{name}-{site.runs}"
        self.rows, self.started = {}, 0

    def start(self):
        import pyspark

        home = pyspark.__path__[0]
        environment = {"SPARK_LOCAL_IP": "127.0.0.1", "HADOOP_USER_NAME": "fulltape", "SPARK_HOME": home}
        # What a job that is killed leaves behind goes with the site.
        environment["SPARK_LOCAL_DIRS"] = str(self.site.folder)
        # Four tries for each task, as on a cluster.
        master, memory = "local[2,4]", "--driver-memory 2g"
        if self.standalone:
            master, memory = self._workers(home, environment), "--driver-memory 1g --executor-memory 1g"
        scratch = f"--driver-java-options -Djava.io.tmpdir={self.site.folder}"
        environment["PYSPARK_SUBMIT_ARGS"] = f"{memory} {scratch} pyspark-shell"
        job = [
            sys.executable,
            CHECKOUT / "bench/peers/spark_tape.py",
            *("--master", master, "--jars", ",".join(map(str, sorted(CONNECTORS.glob("*.jar"))))),
            *("--brokers", BROKERS, "--topic", self.topic, "--hdfs", HDFS, "--folder", self.folder),
            *(("--table", self.table) if self.table else ()),
            *(("--archive",) if self.archive else ()),
            *self.more,
        ]
        self.job = self.site.start(self.name, job, environment)
        self.processes.append(self.job)

    def _workers(self, home, environment):
        port = free_port()
        bind = ["--host", "127.0.0.1"]
        spark = f"{home}/bin/spark-class"
        master = [spark, "org.apache.spark.deploy.master.Master", *bind, "--port", port, "--webui-port", free_port()]
        self.processes.append(self.site.start("spark-master", master, environment))
        for nth in range(2):
            work = self.site.folder / f"spark-work-{self.site.runs}-{nth}"
            worker = [spark, "org.apache.spark.deploy.worker.Worker", *bind, "--port", free_port()]
            worker += ["--webui-port", free_port(), "--cores", 1, "--memory", "1g", "--work-dir", work]
            worker += [f"spark://127.0.0.1:{port}"]
            self.processes.append(self.site.start(f"spark-worker-{nth}", worker, environment))
        return f"spark://127.0.0.1:{port}"

    def _listen(self):
        for line in self.job.lines():
            if "failed" in line:
                raise Failed(f"{self.name}: {line['failed']}")
            self.started = max(self.started, line.get("started", 0))
            if "query" in line:
                self.rows[line["query"]] = line["rows"]

    def is_started(self):
        self._listen()
        return self.started == self.queries

    def done(self):
        self._listen()
        return min(self.rows.values()) if len(self.rows) == self.queries else 0

    def parts(self):
        # One process has all queries, so that only their mean can be set beside its processor time.
        self._listen()
        yield Part(self.name, sum(self.rows.values()) / self.queries, self.done(), self.cpu_seconds())


def fetch_connectors():
    """Spark's connectors from Maven, pinned by the pom beside the job."""
    pom = CHECKOUT / "bench/peers/pom.xml"
    kept = CONNECTORS / "pom.xml"
    if kept.exists() and kept.read_text() == pom.read_text():
        return
    shutil.rmtree(CONNECTORS, ignore_errors=True)
    copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={CONNECTORS}"]
    run(["mvn", "-B", "-q", "-f", pom, *copy], patience=1800)
    shutil.copy(pom, kept)
