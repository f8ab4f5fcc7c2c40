"""What nginx does to an idle connection of a server that sends no pings: it is why servers do."""

import ssl
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from cases import arguments, async_test, receive, run

HTTPS, CERTIFICATE, READ_TIMEOUT_MS = arguments("HTTPS_HOST:PORT", "CERTIFICATE", "READ_TIMEOUT_MS")
READ_TIMEOUT = int(READ_TIMEOUT_MS) / 1000


@async_test("nginx cuts an idle connection, without a close frame")
async def _():
    context = ssl.create_default_context(cafile=CERTIFICATE)
    # No pings of the client's either.
    async with connect(f"wss://{HTTPS}/ws", ssl=context, proxy=None, ping_interval=None) as ws:
        began = time.monotonic()
        await ws.send("hello")
        assert await receive(ws) == "hello"
        try:
            await receive(ws)
            raise AssertionError("a message out of nowhere")
        except ConnectionClosed as closed:
            assert closed.rcvd is None, closed
        taken = time.monotonic() - began
        assert READ_TIMEOUT * 0.9 <= taken, f"after {taken:.1f} s"


run("nginx, a silent server")
