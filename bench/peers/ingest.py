"""A Python client from the exchange's streams to Kafka, in four ways.

    tutorial   websockets, json, kafka-python: parse, pick the fields, serialise, send; each message flushed
    sensible   the same, batched by the client
    tuned      websockets, orjson, confluent-kafka (librdkafka)
    cryptofeed the library of that name, with its own backend for Kafka

Prints a line of JSON: messages acknowledged, and how long each took from socket to acknowledgement.
"""

import argparse
import asyncio
import json
import time

import websockets


class Counter:
    """What is acknowledged, and when; the first tenth is to get warm."""

    def __init__(self, messages):
        self.messages, self.sent, self.done, self.warm, self.micros = messages, 0, 0, None, []

    def add(self, read_at):
        self.micros.append(int((time.perf_counter() - read_at) * 1e6))
        self.done += 1
        if self.done == self.messages // 10:
            self.warm = (time.perf_counter(), time.process_time())

    def line(self):
        wall, processor = time.perf_counter() - self.warm[0], time.process_time() - self.warm[1]
        counted = self.done - self.messages // 10
        ordered = sorted(self.micros)
        at = lambda share: ordered[int((len(ordered) - 1) * share)] / 1000
        return json.dumps(
            {
                "events": self.done,
                "per_second": counted / wall,
                "cpu_us_per_event": processor / counted * 1e6,
                "cores": processor / wall,
                "socket_to_ack_ms": {"p50": at(0.5), "p99": at(0.99), "p99.9": at(0.999), "max": at(1)},
            }
        )


def row(event):
    return {
        "symbol": event["s"],
        "trade_id": event["t"],
        "price": event["p"],
        "quantity": event["q"],
        "time": event["T"],
        "buyer_is_maker": event["m"],
    }


class WithKafkaPython:
    def __init__(self, options, counter, batching):
        from kafka import KafkaProducer

        settings = {"linger_ms": 20, "batch_size": 1 << 18} if batching else {}
        self.producer = KafkaProducer(
            bootstrap_servers=options.brokers.split(","),
            acks="all",
            key_serializer=str.encode,
            value_serializer=lambda value: json.dumps(value).encode(),
            **settings,
        )
        self.topic, self.counter, self.batching = options.topic, counter, batching

    def send(self, message, read_at):
        event = json.loads(message)["data"]
        sent = self.producer.send(self.topic, key=event["s"], value=row(event))
        if self.batching:
            sent.add_callback(lambda _: self.counter.add(read_at))
        else:
            self.producer.flush()
            self.counter.add(read_at)

    def flush(self):
        self.producer.flush()


class WithLibrdkafka:
    def __init__(self, options, counter):
        import orjson
        from confluent_kafka import Producer

        settings = {"linger.ms": 20, "compression.type": "lz4", "acks": "all", "enable.idempotence": True}
        self.producer = Producer({"bootstrap.servers": options.brokers, **settings})
        self.topic, self.counter, self.orjson, self.sent = options.topic, counter, orjson, 0

    def send(self, message, read_at):
        event = self.orjson.loads(message)["data"]
        acknowledged = lambda error, _: error or self.counter.add(read_at)
        value = self.orjson.dumps(event)
        while True:
            try:
                self.producer.produce(self.topic, value, event["s"], on_delivery=acknowledged)
                break
            except BufferError:
                self.producer.poll(0.01)
        self.sent += 1
        if self.sent % 100 == 0:
            self.producer.poll(0)

    def flush(self):
        self.producer.flush(60)


async def feed(url, producer, counter, enough):
    async with websockets.connect(url, compression=None) as socket:
        async for message in socket:
            producer.send(message, time.perf_counter())
            counter.sent += 1
            if counter.sent >= counter.messages:
                enough.set()
                return


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=["tutorial", "sensible", "tuned", "cryptofeed"])
    parser.add_argument("--url", action="append", required=True)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--messages", type=int, required=True)
    options = parser.parse_args()
    counter = Counter(options.messages)
    if options.way == "cryptofeed":
        from with_cryptofeed import run

        return run(options, counter)
    ways = {
        "tutorial": lambda: WithKafkaPython(options, counter, batching=False),
        "sensible": lambda: WithKafkaPython(options, counter, batching=True),
        "tuned": lambda: WithLibrdkafka(options, counter),
    }
    producer = ways[options.way]()

    async def all_feeds():
        enough = asyncio.Event()
        feeds = [asyncio.create_task(feed(url, producer, counter, enough)) for url in options.url]
        waiting = asyncio.create_task(enough.wait())
        done, _ = await asyncio.wait([waiting, *feeds], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        for task in feeds:
            task.cancel()

    asyncio.run(all_feeds())
    producer.flush()
    print(counter.line(), flush=True)


if __name__ == "__main__":
    main()
