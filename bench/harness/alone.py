"""What the libraries and servers underneath can do, each alone."""


def run(site, options):
    trades = options.trades or (200_000 if options.quick else 2_000_000)
    site.warm_up(trades // 2)
    results = []
    for nth in range(options.rounds):
        config, _ = site.fill(f"alone-{nth}", trades, symbols=10)
        topic = f"{config.stem}-stream"
        site.empty_tables()
        folder = site.folder / "sqlite"
        measures = {
            "librdkafka, produce": ("produce", "--topic", topic, "--trades", trades),
            "librdkafka, consume": ("consume", "--topic", topic, "--trades", trades),
            "serde_json, parse": ("parse", "--trades", trades),
            "parquet, encode both datasets": ("encode", "--trades", trades),
            "scylla driver, insert": ("cassandra", "--trades", trades),
            "hdfs-native, write (events are bytes)": ("hdfs", "--mebibytes", 256 if options.quick else 1024),
            "SQLite, insert": ("sqlite", "--trades", trades, "--folder", folder),
        }
        for what, words in measures.items():
            results.append({"what": what, "side": "library", "round": nth} | site.limits(*words))
            options.tell(results[-1])
    return results
