"""Servers by PyPI's `websockets` for the example `interop_client`, which says what they have to do.
The first line tells where they are."""

import asyncio
import base64
import http
import logging
import re
import ssl
import urllib.parse

from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Response

from cases import arguments

CERTFILE, KEYFILE = arguments("CERTFILE", "KEYFILE")
MIB = 1 << 20
PERIOD = bytes(range(251))

closed = {"last": ""}


def pattern(length):
    """What the client makes and expects."""
    return (PERIOD * (length // 251 + 1))[:length]


async def echo(ws):
    async for message in ws:
        await ws.send(message)


async def greet(ws):
    await ws.send("first")
    await ws.send("second")


async def ping(ws):
    await (await ws.ping("are you there"))
    await ws.send("pong: are you there")
    await ws.wait_closed()


async def close(ws):
    code, reason = re.search(r"\?(\d+),(.*)$", ws.request.path).groups()
    await ws.close(int(code), urllib.parse.unquote(reason))


async def note_close(ws):
    await ws.wait_closed()
    closed["last"] = f"{ws.close_code} {ws.close_reason}"


async def last(ws):
    await ws.send(closed["last"])


async def headers(ws):
    lines = [f"{name.lower()}: {value}" for name, value in ws.request.headers.raw_items()]
    await ws.send("\n".join([f"target: {ws.request.path}", *lines]))
    await ws.wait_closed()


async def auth(ws):
    await ws.send("welcome")
    await ws.wait_closed()


async def fragments(ws):
    await ws.send(["one ", "", "two ", "three"])
    data = pattern(300_000)
    await ws.send(data[at : at + 70_000] for at in range(0, len(data), 70_000))
    await ws.send("whole")
    await ws.wait_closed()


async def count(ws):
    at, right = 0, True
    async for piece in ws.recv_streaming():
        start = at % 251
        right = right and piece == pattern(start + len(piece))[start:]
        at += len(piece)
    await ws.send(f"{at} {str(right).lower()}")
    await ws.wait_closed()


async def stream(ws):
    length = int(re.search(r"\?(\d+)$", ws.request.path).group(1))
    piece = pattern(251 * 1024)

    async def pieces():
        for at in range(0, length, len(piece)):
            yield piece[: length - at]

    await ws.send(pieces())
    await ws.wait_closed()


PATHS = {
    "/echo": echo,
    "/greet": greet,
    "/ping": ping,
    "/close": close,
    "/closed": note_close,
    "/last": last,
    "/headers": headers,
    "/auth": auth,
    "/fragments": fragments,
    "/count": count,
    "/stream": stream,
}


async def handler(ws):
    try:
        await PATHS[ws.request.path.partition("?")[0]](ws)
    except ConnectionClosed:
        pass


def refusal(status, body, **more):
    lines = Headers({"Content-Length": str(len(body))})
    for name, value in more.items():
        lines[name.replace("_", "-")] = value
    return Response(status, http.HTTPStatus(status).phrase, lines, body.encode())


def refused(_connection, request):
    path = request.path.partition("?")[0]
    basic = "Basic " + base64.b64encode(b"me:5ec ret").decode()
    if path == "/auth" and request.headers.get("Authorization") != basic:
        return refusal(401, "who are you", WWW_Authenticate="Basic realm=x")
    if path == "/forbidden":
        return refusal(403, "not you")
    if path == "/moved":
        return refusal(302, "", Location="/echo")
    if path == "/chunked":
        lines = Headers({"Transfer-Encoding": "chunked"})
        body = b"5\r\ncome \r\na\r\nback later\r\n0\r\n\r\n"
        return Response(503, "Service Unavailable", lines, body)
    if path not in PATHS:
        return refusal(404, "nothing here")
    return None


def select(_connection, offered):
    return next((name for name in ("chat.v2", "chat.v1") if name in offered), None)


async def listen(**options):
    """Listens at a free port; gives its number."""
    server = await serve(
        handler,
        "127.0.0.1",
        0,
        process_request=refused,
        select_subprotocol=select,
        max_size=512 * MIB,
        **options,
    )
    return server.sockets[0].getsockname()[1]


async def main():
    # The vanishing of clients is not worth a word.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    small = ServerPerMessageDeflateFactory(
        server_no_context_takeover=True, server_max_window_bits=9, client_max_window_bits=9
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(CERTFILE, KEYFILE)
    urls = {
        "plain": f"ws://127.0.0.1:{await listen(compression=None)}",
        "deflate": f"ws://127.0.0.1:{await listen()}",
        "small": f"ws://127.0.0.1:{await listen(extensions=[small])}",
        "secure": f"wss://localhost:{await listen(ssl=tls)}",
    }
    print(*(f"{name}={url}" for name, url in urls.items()), flush=True)
    await asyncio.get_running_loop().create_future()


asyncio.run(main())
