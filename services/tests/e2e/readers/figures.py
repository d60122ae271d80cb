"""What independent readers find: pyarrow in the archive, SQLite in the tables. No code of ours.

usage: figures.py trades ROOT        figures of the dataset `trades` below an archive's root
       figures.py tables FILE        figures of the table `trades` of tables.sqlite
       figures.py rows ROOT          the dataset `trades` as lines symbol,id,price,quantity,time_us,maker
       figures.py raw ROOT FILE...   compares raw/crypto-stream with the trade events of recordings

All sums are exact: decimals, never floats.
"""

import decimal
import glob
import gzip
import json
import sqlite3
import sys

import pyarrow.parquet

decimal.getcontext().prec = 100


def parts(root, dataset):
    """The dataset's files by partition and start offset."""
    files = glob.glob(f"{root}/{dataset}/date=*/part-*.parquet")
    return sorted(files, key=lambda file: [int(n) for n in file.rsplit("part-", 1)[1].split(".")[0].split("-")])


def columns(root, dataset, names):
    for file in parts(root, dataset):
        # One file, not a dataset: the folder's `date=` is not a column of ours.
        table = pyarrow.parquet.ParquetFile(file).read(columns=names)
        yield from zip(*(table.column(name).to_pylist() for name in names))


def figures(rows):
    found = {}
    for symbol, trade_id, price, quantity in rows:
        one = found.setdefault(symbol, {"ids": set(), "count": 0, "q": decimal.Decimal(0), "pq": decimal.Decimal(0)})
        one["ids"].add(trade_id)
        one["count"] += 1
        one["q"] += quantity
        one["pq"] += price * quantity
    return {
        symbol: {
            "count": one["count"],
            "distinct": len(one["ids"]),
            "first": min(one["ids"]),
            "last": max(one["ids"]),
            "sum_q": plain(one["q"]),
            "sum_pq": plain(one["pq"]),
        }
        for symbol, one in found.items()
    }


def plain(number):
    return format(number.normalize(), "f")


def trades(root):
    return figures(columns(root, "trades", ["symbol", "trade_id", "price", "quantity"]))


def tables(file):
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    rows = connection.execute("SELECT symbol, trade_id, price, quantity FROM trades")
    return figures((s, i, decimal.Decimal(p), decimal.Decimal(q)) for s, i, p, q in rows)


def micros(time):
    # Arrow gives datetimes, whose timestamps are floats: integers instead.
    day = time.toordinal() - 719163
    return ((day * 24 + time.hour) * 60 + time.minute) * 60_000_000 + time.second * 1_000_000 + time.microsecond


def rows(root):
    names = ["symbol", "trade_id", "price", "quantity", "trade_time", "buyer_is_maker"]
    for symbol, trade_id, price, quantity, time, maker in columns(root, "trades", names):
        print(f"{symbol},{trade_id},{plain(price)},{plain(quantity)},{micros(time)},{str(maker).lower()}")


def recorded_events(files):
    for file in files:
        with gzip.open(file) as lines:
            for line in lines:
                if b'@trade"' in line:
                    yield line.rstrip(b"\n").split(b'"data":', 1)[1][:-1]


def raw(root, files):
    """Compares byte for byte; one symbol is in one partition, so the order is that of the recording."""
    archived = [bytes(value) for (value,) in columns(root, "raw/crypto-stream", ["value"])]
    recorded = list(recorded_events(files))
    same = sum(a == b for a, b in zip(archived, recorded))
    return {"archived": len(archived), "recorded": len(recorded), "same": same}


def main(what, *arguments):
    if what == "rows":
        rows(*arguments)
    else:
        found = {"trades": trades, "tables": tables, "raw": lambda root, *files: raw(root, files)}[what](*arguments)
        print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
