"""The asyncio client of `websockets` against the servers of the examples."""

import asyncio

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from cases import arguments, async_test, data, expect_echo, receive, run, same

ECHO, BENCH = arguments("ECHO_HOST:PORT", "BENCH_HOST:PORT")
MIB = 1 << 20


def client(address=ECHO, path="/echo", **options):
    options = {"compression": None, "max_size": None, "proxy": None, "open_timeout": 20, **options}
    return connect(f"ws://{address}{path}", **options)


@async_test("text and binary come back as they were")
async def _():
    async with client() as ws:
        for message in ["hello", "", "grün wie der Wald", "🌲" * 1000, b"", b"\0\xff", data(1000)]:
            await expect_echo(ws, message)


for size in [0, 1, 125, 126, 65_535, 65_536, MIB, 16 * MIB]:

    @async_test(f"{size} bytes, binary and text")
    async def _(size=size):
        async with client(BENCH) as ws:
            await expect_echo(ws, data(size))
            await expect_echo(ws, "x" * size)


for name, deflate in {
    "by default": ClientPerMessageDeflateFactory(client_max_window_bits=True),
    "without context": ClientPerMessageDeflateFactory(
        server_no_context_takeover=True, client_no_context_takeover=True
    ),
    "with small windows": ClientPerMessageDeflateFactory(
        server_max_window_bits=9, client_max_window_bits=9
    ),
    "with the smallest window": ClientPerMessageDeflateFactory(server_max_window_bits=8),
}.items():

    @async_test(f"messages are compressed {name}")
    async def _(deflate=deflate):
        async with client(extensions=[deflate]) as ws:
            assert len(ws.protocol.extensions) == 1, ws.protocol.extensions
            for _ in range(3):
                for size in [0, 1, 125, 1_023, 1_024, 65_536, MIB]:
                    await expect_echo(ws, data(size))
                    await expect_echo(ws, "grün wie der Wald, " * (size // 20))


@async_test("fragments are put together")
async def _():
    async def pieces():
        for n in [1, 0, 125, 70_000, 3, 300_000]:
            yield data(n, n)
            await asyncio.sleep(0.01)

    async with client(BENCH) as ws:
        await ws.send(pieces())
        same(await receive(ws), b"".join([piece async for piece in pieces()]))


@async_test("pings are answered")
async def _():
    async with client() as ws:
        pongs = [await ws.ping() for _ in range(100)]
        await asyncio.wait_for(asyncio.gather(*pongs), 20)


@async_test("keep-alive pings of the client keep the connection")
async def _():
    async def answered(ws):
        while ws.latency == 0:
            await asyncio.sleep(0.05)

    async with client(ping_interval=0.05, ping_timeout=20) as ws:
        await asyncio.wait_for(answered(ws), 30)
        await expect_echo(ws, "still here")


for code in [1000, 1001, 1003, 1011, 3000, 4999]:

    @async_test(f"close {code} is answered with the same code")
    async def _(code=code):
        async with client() as ws:
            await ws.close(code, "ö" * 61)
            assert ws.protocol.close_rcvd.code == code, ws.protocol.close_rcvd


@async_test("the server's own close comes with code and reason")
async def _():
    async with client(path="/") as ws:
        await asyncio.wait_for(ws.wait_closed(), 20)
        assert (ws.close_code, ws.close_reason) == (1008, "the WebSocket is at /echo")


@async_test("a message over the limit is answered with 1009")
async def _():
    async with client() as ws:
        try:
            await ws.send(data(MIB + 1))
            await receive(ws)
            raise AssertionError("a message instead of a close")
        except ConnectionClosed as closed:
            assert closed.rcvd.code == 1009, closed


@async_test("1,000 messages come back in order, read by iteration")
async def _():
    async with client() as ws:
        messages = [data(i, i) if i % 2 else f"message {i}" for i in range(1000)]

        async def send():
            for message in messages:
                await ws.send(message)

        sending = asyncio.create_task(send())
        expected = iter(messages)
        last = messages[-1]
        async for message in ws:
            same(message, next(expected))
            if message == last:
                break
        assert next(expected, None) is None
        await sending


@async_test("100 connections at once get their own messages")
async def _():
    async def talk(n):
        async with client() as ws:
            for i in range(20):
                await expect_echo(ws, f"connection {n}, message {i}")

    await asyncio.gather(*[talk(n) for n in range(100)])


@async_test("permessage-deflate is declined when offered, and messages pass")
async def _():
    async with client(BENCH, compression="deflate") as ws:
        assert ws.protocol.extensions == []
        await expect_echo(ws, "squeeze me " * 10_000)
        await expect_echo(ws, data(100_000))


run("websockets, asyncio")
