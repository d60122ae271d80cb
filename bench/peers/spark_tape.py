"""The tape as a Spark job: Kafka to Cassandra and to Parquet on HDFS, by Structured Streaming.

Prints a line of JSON after each batch: which query, how many rows so far. Ends by SIGTERM.
"""

import argparse
import json

from pyspark.sql import SparkSession
from pyspark.sql import functions as f
from pyspark.sql.streaming import StreamingQueryListener

EVENT = "s string, t long, p string, q string, T long, E long, m boolean"
NUMBER = "decimal(38, 18)"


class Progress(StreamingQueryListener):
    def __init__(self):
        self.rows = {}

    def onQueryStarted(self, event):
        pass

    def onQueryProgress(self, event):
        name, rows = event.progress.name, event.progress.numInputRows
        self.rows[name] = self.rows.get(name, 0) + rows
        if rows:
            print(json.dumps({"query": name, "rows": self.rows[name]}), flush=True)

    def onQueryIdle(self, event):
        pass

    def onQueryTerminated(self, event):
        if event.exception:
            print(json.dumps({"failed": event.exception[:2000]}), flush=True)


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--master", required=True)
    parser.add_argument("--jars", required=True)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--hdfs", required=True)
    parser.add_argument("--folder", required=True, help="of the job, on HDFS")
    parser.add_argument("--checkpoints", help="a folder's URL; inside --folder unless told")
    parser.add_argument("--table", help="of the keyspace crypto_ks")
    parser.add_argument("--archive", action="store_true")
    parser.add_argument("--archive-every-seconds", type=int, default=0, help="all there is; 0: as soon as it can")
    parser.add_argument("--at-once", type=int, default=200_000, help="records of a batch at most")
    chosen = parser.parse_args()
    chosen.checkpoints = chosen.checkpoints or f"{chosen.folder}/checkpoints"
    return chosen


def session(options):
    builder = SparkSession.builder.appName("tape").master(options.master)
    settings = {
        "spark.jars": options.jars,
        "spark.ui.enabled": "false",
        # `e` is the event's type and `E` its time.
        "spark.sql.caseSensitive": "true",
        "spark.sql.session.timeZone": "UTC",
        "spark.hadoop.fs.defaultFS": options.hdfs,
        "spark.hadoop.dfs.replication": "2",
        # A large batch of one query does not hold up the other.
        "spark.scheduler.mode": "FAIR",
        "spark.cassandra.connection.host": "127.0.0.1",
        "spark.cassandra.output.consistency.level": "LOCAL_QUORUM",
        "spark.cassandra.output.concurrent.writes": "64",
        "spark.cassandra.output.batch.size.rows": "100",
        "spark.cassandra.output.batch.grouping.buffer.size": "2000",
    }
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def trades(spark, options, at_once):
    log = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", options.brokers)
        .option("subscribe", options.topic)
        .option("startingOffsets", "earliest")
    )
    log = (log.option("maxOffsetsPerTrigger", at_once) if at_once else log).load()
    event = f.from_json(f.col("value").cast("string"), EVENT).alias("event")
    time = f.timestamp_millis(f.col("event.T"))
    return log.select(event, "partition", "offset", "timestamp").select(
        f.col("event.s").alias("symbol"),
        f.date_trunc("hour", time).alias("hour"),
        time.alias("trade_time"),
        f.col("event.t").alias("trade_id"),
        f.col("event.p").cast(NUMBER).alias("price"),
        f.col("event.q").cast(NUMBER).alias("quantity"),
        (f.col("event.T") * 1000).alias("trade_time_us"),
        (f.col("event.E") * 1000).alias("event_time_us"),
        f.unix_micros("timestamp").alias("received_at_us"),
        f.col("event.m").alias("buyer_is_maker"),
        f.lit("live").alias("origin"),
        "partition",
        "offset",
        "timestamp",
    )


def to_table(rows, options):
    columns = rows.drop("partition", "offset", "timestamp")
    if options.table == "trades_by_second":
        # As the tutorials key it.
        columns = columns.select("symbol", f.date_trunc("second", "trade_time").alias("time"), "price", "quantity")
    return (
        columns.writeStream.queryName("table")
        .format("org.apache.spark.sql.cassandra")
        .option("keyspace", "crypto_ks")
        .option("table", options.table)
        .option("checkpointLocation", f"{options.checkpoints}/table")
        .outputMode("append")
    )


def to_archive(rows, options):
    return (
        rows.drop("hour")
        .withColumn("date", f.to_date("timestamp"))
        .writeStream.queryName("archive")
        .format("parquet")
        .option("path", f"{options.folder}/trades")
        .option("compression", "zstd")
        .option("checkpointLocation", f"{options.checkpoints}/archive")
        .partitionBy("date")
        .trigger(processingTime=f"{options.archive_every_seconds} seconds")
        .outputMode("append")
    )


def main():
    chosen = options()
    spark = session(chosen)
    spark.streams.addListener(Progress())
    queries = {}
    if chosen.table:
        queries["table"] = to_table(trades(spark, chosen, chosen.at_once), chosen)
    if chosen.archive:
        # With a bound, what comes in a minute might take more than one.
        at_once = None if chosen.archive_every_seconds else chosen.at_once
        queries["archive"] = to_archive(trades(spark, chosen, at_once), chosen)
    for name, query in queries.items():
        spark.sparkContext.setLocalProperty("spark.scheduler.pool", name)
        query.start()
    print(json.dumps({"started": len(queries)}), flush=True)
    spark.streams.awaitAnyTermination()


if __name__ == "__main__":
    main()
