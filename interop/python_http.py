"""Python's http.client, and raw sockets, against the example echo."""

import http.client
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from cases import arguments, data, run, same, test

(ECHO,) = arguments("ECHO_HOST:PORT")
HOST, PORT = ECHO.rsplit(":", 1)


def connect():
    return closing(http.client.HTTPConnection(HOST, int(PORT), timeout=20))


def request(connection, method, path, body=None, **options):
    connection.request(method, path, body, **options)
    response = connection.getresponse()
    return response, response.read()


def raw(sent):
    """Everything that the server answers to some bytes, until it closes."""
    with socket.create_connection((HOST, int(PORT)), timeout=20) as stream:
        stream.sendall(sent)
        answer = b""
        while piece := stream.recv(65536):
            answer += piece
        return answer


@test("GET has the page, HEAD its headers alone")
def _():
    with connect() as connection:
        get, page = request(connection, "GET", "/")
        head, nothing = request(connection, "HEAD", "/")
    assert (get.status, head.status) == (200, 200)
    assert page.startswith(b"<!doctype html>")
    assert nothing == b""
    for name in ["Content-Length", "Content-Type", "Cache-Control"]:
        assert head.headers[name] == get.headers[name], name
    assert int(get.headers["Content-Length"]) == len(page)


@test("100 requests go over one connection")
def _():
    kinds = [("GET", "/", 200), ("GET", "/nowhere", 404), ("POST", "/", 405)]
    with connect() as connection:
        connection.connect()
        ours = connection.sock.getsockname()
        for i in range(100):
            method, path, status = kinds[i % 3]
            response, _body = request(connection, method, path)
            assert response.status == status
            assert connection.sock is not None, f"closed after request {i}"
            assert connection.sock.getsockname() == ours


@test("bodies come back, with a length and chunked")
def _():
    with connect() as connection:
        for length in [0, 1, 8191, 65_536, 5_000_000]:
            body = data(length)
            response, answer = request(connection, "POST", "/echo", body)
            assert response.status == 200
            same(answer, body)
            pieces = (body[at : at + 9973] for at in range(0, length, 9973))
            response, answer = request(connection, "POST", "/echo", pieces, encode_chunked=True)
            assert response.status == 200
            same(answer, body)


@test("pipelined requests are answered in order")
def _():
    one = f"GET /nowhere HTTP/1.1\r\nHost: {ECHO}\r\n\r\n"
    post = f"POST /echo HTTP/1.1\r\nHost: {ECHO}\r\nContent-Length: 5\r\n\r\nhello"
    last = f"GET /echo HTTP/1.1\r\nHost: {ECHO}\r\nConnection: close\r\n\r\n"
    answer = raw((one * 50 + post + one + last).encode())
    lines = [line for line in answer.split(b"\r\n") if b"HTTP/1.1 " in line]
    statuses = [int(line.split(b"HTTP/1.1 ")[1][:3]) for line in lines]
    assert statuses == [404] * 50 + [200, 404, 426], statuses
    assert b"\r\n\r\nhello" in answer


@test("100 Continue comes before the body is sent")
def _():
    head = f"POST /echo HTTP/1.1\r\nHost: {ECHO}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    stream = socket.create_connection((HOST, int(PORT)), timeout=20)
    with stream, stream.makefile("rb") as reader:
        stream.sendall(head.encode())
        assert reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert reader.readline() == b"\r\n"
        stream.sendall(b"later")
        assert reader.readline() == b"HTTP/1.1 200 OK\r\n"
        while reader.readline() != b"\r\n":
            pass
        assert reader.read(5) == b"later"


@test("HTTP/1.0 gets an answer and the end")
def _():
    answer = raw(b"GET /nowhere HTTP/1.0\r\n\r\n")
    assert b" 404 Not Found\r\n" in answer.split(b"\r\n\r\n")[0] + b"\r\n", answer
    assert b"chunked" not in answer.lower()


for what, sent, status in [
    ("no host", b"GET / HTTP/1.1\r\n\r\n", 400),
    ("two lengths", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    ("a length and chunks", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("garbage", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    ("a long line", b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    ("a body over the limit", b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n", 413),
]:

    @test(f"{what} is answered with {status} and the end")
    def _(sent=sent, status=status):
        answer = raw(sent)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer[:200]


@test("100 connections at once")
def _():
    def talk(_n):
        with connect() as connection:
            for _ in range(5):
                response, page = request(connection, "GET", "/")
                assert response.status == 200 and page.endswith(b"</html>\n")

    with ThreadPoolExecutor(100) as pool:
        list(pool.map(talk, range(100)))


run("http.client")
