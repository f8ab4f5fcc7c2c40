"""The blocking client of `websockets` against the servers of the examples."""

from concurrent.futures import ThreadPoolExecutor

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from cases import arguments, data, run, same, test

ECHO, BENCH = arguments("ECHO_HOST:PORT", "BENCH_HOST:PORT")
MIB = 1 << 20


def client(address=ECHO, path="/echo", **options):
    options = {"compression": None, "max_size": None, "proxy": None, "open_timeout": 20, **options}
    return connect(f"ws://{address}{path}", **options)


def expect_echo(ws, message):
    ws.send(message)
    same(ws.recv(timeout=30), message)


def answer_to_close(code, reason=""):
    with client() as ws:
        ws.close(code, reason)
        return ws.protocol.close_rcvd


@test("text and binary come back as they were")
def _():
    with client() as ws:
        for message in ["hello", "", "grün wie der Wald", "🌲" * 1000, b"", b"\0\xff", data(1000)]:
            expect_echo(ws, message)


for size in [0, 1, 125, 126, 65_535, 65_536, MIB, 16 * MIB]:

    @test(f"{size} bytes, binary and text")
    def _(size=size):
        with client(BENCH) as ws:
            expect_echo(ws, data(size))
            expect_echo(ws, "x" * size)


@test("fragments are put together")
def _():
    with client(BENCH) as ws:
        pieces = [data(n, n) for n in [1, 0, 125, 70_000, 3, 300_000]]
        ws.send(iter(pieces))
        same(ws.recv(timeout=30), b"".join(pieces))
        ws.send(iter(["grün ", "", "wie ", "der Wald"]))
        same(ws.recv(timeout=30), "grün wie der Wald")


@test("pings are answered")
def _():
    with client() as ws:
        for payload in [b"", b"are you there", data(125)]:
            assert ws.ping(payload).wait(20), "no pong"
        assert all(pong.wait(20) for pong in [ws.ping() for _ in range(100)])


for code in [1000, 1001, 1003, 1011, 3000, 4999]:

    @test(f"close {code} is answered with the same code")
    def _(code=code):
        assert answer_to_close(code, "ö" * 61).code == code


@test("the server's own close comes with code and reason")
def _():
    with client(path="/") as ws:
        try:
            ws.recv(timeout=20)
            raise AssertionError("a message instead of a close")
        except ConnectionClosed as closed:
            assert closed.rcvd.code == 1008, closed
            assert closed.rcvd.reason == "the WebSocket is at /echo", closed


@test("a message over the limit is answered with 1009")
def _():
    with client() as ws:
        try:
            ws.send(data(MIB + 1))
            ws.recv(timeout=20)
            raise AssertionError("a message instead of a close")
        except ConnectionClosed as closed:
            assert closed.rcvd.code == 1009, closed


@test("1,000 messages come back in order")
def _():
    with client() as ws:
        messages = [data(i, i) if i % 2 else f"message {i}" for i in range(1000)]
        for message in messages:
            ws.send(message)
        for message in messages:
            same(ws.recv(timeout=20), message)


@test("100 connections at once get their own messages")
def _():
    def talk(n):
        with client() as ws:
            for i in range(10):
                expect_echo(ws, f"connection {n}, message {i}")

    with ThreadPoolExecutor(100) as pool:
        list(pool.map(talk, range(100)))


@test("permessage-deflate is declined when offered, and messages pass")
def _():
    with client(BENCH, compression="deflate") as ws:
        assert ws.request.headers["Sec-WebSocket-Extensions"].startswith("permessage-deflate")
        assert ws.protocol.extensions == []
        expect_echo(ws, "squeeze me " * 10_000)
        expect_echo(ws, data(100_000))


@test("a handshake with two versions is refused")
def _():
    try:
        with client(additional_headers={"Sec-WebSocket-Version": "12"}):
            raise AssertionError("connected with two versions")
    except InvalidStatus as refused:
        assert refused.response.status_code in (400, 426), refused


run("websockets, blocking")
