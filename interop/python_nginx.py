"""The asyncio client of `websockets` and http.client, through nginx, against the example
behind_nginx."""

import asyncio
import http.client
import ssl

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from cases import arguments, async_test, data, expect_echo, receive, run, same, test

HTTP, HTTPS, CERTIFICATE = arguments("HTTP_HOST:PORT", "HTTPS_HOST:PORT", "CERTIFICATE")
MIB = 1 << 20
CONTEXT = ssl.create_default_context(cafile=CERTIFICATE)


def client(path="/ws", secure=True, **options):
    # Not the blocking client: before Python 3.13 its two threads disturb each other by TLS.
    options = {"max_size": None, "proxy": None, "open_timeout": 20, **options}
    if secure:
        return connect(f"wss://{HTTPS}{path}", ssl=CONTEXT, **options)
    return connect(f"ws://{HTTP}{path}", **options)


for secure in [False, True]:
    for compression in [None, "deflate"]:

        @async_test(f"{'wss' if secure else 'ws'}, compression {compression}")
        async def _(secure=secure, compression=compression):
            async with client(secure=secure, compression=compression) as ws:
                assert len(ws.protocol.extensions) == (1 if compression else 0)
                # Compressing keeps this client busy: not for as long as proxy_read_timeout.
                largest = 4 * MIB if compression else 16 * MIB
                for size in [0, 1, 125, 126, 65_535, 65_536, MIB, largest]:
                    await expect_echo(ws, data(size))
                    await expect_echo(ws, "x" * size)


@async_test("fragments are put together")
async def _():
    async with client() as ws:
        pieces = [data(n, n) for n in [1, 0, 125, 70_000, 3, 300_000]]
        await ws.send(iter(pieces))
        same(await receive(ws), b"".join(pieces))


@async_test("pings are answered")
async def _():
    async with client() as ws:
        pongs = [await ws.ping() for _ in range(100)]
        await asyncio.wait_for(asyncio.gather(*pongs), 20)


@async_test("close codes pass")
async def _():
    for code in [1000, 1001, 1011, 3000, 4999]:
        async with client() as ws:
            await ws.close(code, "ö" * 61)
            assert ws.protocol.close_rcvd.code == code
    async with client("/elsewhere") as ws:
        try:
            await receive(ws)
            raise AssertionError("a message instead of a close")
        except ConnectionClosed as closed:
            assert closed.rcvd.code == 1008, closed
            assert closed.rcvd.reason == "the WebSocket is at /ws", closed


@async_test("a message over the limit is answered with 1009")
async def _():
    async with client(compression=None) as ws:
        try:
            await ws.send(data(16 * MIB + 1))
            await receive(ws)
            raise AssertionError("a message instead of a close")
        except ConnectionClosed as closed:
            assert closed.rcvd.code == 1009, closed


@test("requests on one connection")
def _():
    connection = http.client.HTTPSConnection(HTTPS, timeout=20, context=CONTEXT)
    for length in [0, 1, 100_000] * 30:
        body = data(length)
        connection.request("POST", "/body", body)
        response = connection.getresponse()
        assert response.status == 200
        same(response.read(), body)
    connection.request("POST", "/body", iter([b"in ", b"chunks"]), encode_chunked=True)
    same(connection.getresponse().read(), b"in chunks")
    connection.close()


run("nginx, websockets and http.client")
