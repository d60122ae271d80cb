"""cryptofeed's Binance feed into its own Kafka backend (aiokafka), which waits for each record's acknowledgement.

By itself the feed asks for aggregated trades; here for single ones, so that it takes in what the others do.
"""

import asyncio
import time

import uvloop
from cryptofeed import FeedHandler
from cryptofeed.backends.kafka import TradeKafka
from cryptofeed.connection import WebsocketEndpoint
from cryptofeed.defines import TRADES
from cryptofeed.exchanges import Binance
from cryptofeed.symbols import Symbols
from yapic import json


class OneByOne(Binance):
    websocket_channels = Binance.websocket_channels | {TRADES: "trade"}

    async def _ws_authentication(self, address, options):
        """Called before it connects, which by itself it does over TLS only."""
        return address.replace("wss://", "ws://", 1), options

    async def message_handler(self, msg, conn, timestamp):
        event = json.loads(msg)["data"]
        await self._trade(event | {"a": event["t"]}, timestamp)


class Counted(TradeKafka):
    def __init__(self, topic, counter, **settings):
        super().__init__(value_serializer=self.with_trade_id, **settings)
        self.to, self.counter, self.enough = topic, counter, asyncio.Event()

    @staticmethod
    def with_trade_id(row):
        return json.dumpb(row | {"trade_id": int(row["id"])})

    def topic(self, data):
        return self.to

    async def _connect(self):
        await super()._connect()
        send = self.producer.send

        async def counted(topic, row, *more):
            sent = await send(topic, row, *more)
            sent.add_done_callback(lambda done: done.exception() or self.add(row))
            return sent

        self.producer.send = counted

    def add(self, row):
        self.counter.add(time.perf_counter() - (time.time() - row["receipt_timestamp"]))
        if self.counter.done == self.counter.messages:
            self.enough.set()


def run(options, counter):
    uvloop.run(take_in(options, counter))


async def take_in(options, counter):
    streams = [stream for url in options.url for stream in url.partition("streams=")[2].split("/")]
    names = [stream.partition("@")[0].upper() for stream in streams]
    Symbols.set(Binance.id, {f"{name[:-4]}-{name[-4:]}": name for name in names}, {"instrument_type": {}})
    address = options.url[0].partition("/stream?")[0].replace("ws://", "wss://", 1)
    OneByOne.websocket_endpoints = [WebsocketEndpoint(address, authentication=True)]
    backend = Counted(options.topic, counter, bootstrap_servers=options.brokers.split(","), acks="all")
    symbols = list(Symbols.get(Binance.id)[0])
    handler = FeedHandler(config={"log": {"disabled": True}, "uvloop": False})
    handler.add_feed(OneByOne(symbols=symbols, channels=[TRADES], callbacks={TRADES: backend}))
    handler.run(start_loop=False, install_signal_handlers=False)
    await backend.enough.wait()
    print(counter.line(), flush=True)
    await handler.stop_async()
