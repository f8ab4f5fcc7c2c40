"""What nginx does to an idle connection of a server that sends no pings: it is why servers do."""

import ssl
import time

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from cases import arguments, run, test

HTTPS, CERTIFICATE, READ_TIMEOUT_MS = arguments("HTTPS_HOST:PORT", "CERTIFICATE", "READ_TIMEOUT_MS")
READ_TIMEOUT = int(READ_TIMEOUT_MS) / 1000


@test("nginx cuts an idle connection, without a close frame")
def _():
    context = ssl.create_default_context(cafile=CERTIFICATE)
    # No pings of the client's either.
    with connect(f"wss://{HTTPS}/ws", ssl=context, proxy=None, ping_interval=None) as ws:
        began = time.monotonic()
        ws.send("hello")
        assert ws.recv(timeout=20) == "hello"
        try:
            ws.recv(timeout=30)
            raise AssertionError("a message out of nowhere")
        except ConnectionClosed as closed:
            assert closed.rcvd is None, closed
        taken = time.monotonic() - began
        assert READ_TIMEOUT * 0.9 <= taken, f"after {taken:.1f} s"


run("nginx, a silent server")
