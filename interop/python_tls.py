"""Python's ssl, http.client and websockets, and openssl's s_client, against the example echo_tls."""

import asyncio
import http.client
import socket
import ssl
import subprocess
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from websockets.asyncio.client import connect

from cases import arguments, async_test, data, expect_echo, receive, run, same, test

ECHO, CA = arguments("ECHO_HOST:PORT", "CA_FILE")
HOST, PORT = ECHO.rsplit(":", 1)
MIB = 1 << 20

VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


def context(version=None, alpn=("http/1.1",)):
    tls = ssl.create_default_context(cafile=CA)
    if version is not None:
        tls.minimum_version = tls.maximum_version = VERSIONS[version]
    if alpn:
        tls.set_alpn_protocols(list(alpn))
    return tls


def stream(tls=None, name="localhost", **options):
    """A TLS connection that takes an end without close_notify for an error."""
    tcp = socket.create_connection((HOST, int(PORT)), timeout=20)
    tls = tls or context()
    return tls.wrap_socket(tcp, server_hostname=name, suppress_ragged_eofs=False, **options)


def rest(connection):
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    return answer


def client(tls=None, **options):
    # Not the blocking client: it reads on a thread of its own, and before Python 3.13 two threads at
    # one TLS connection disturb each other: a request is lost, or OpenSSL has an "internal error".
    options = {"compression": None, "max_size": None, "proxy": None, "open_timeout": 20, **options}
    return connect(f"wss://localhost:{PORT}/echo", ssl=tls or context(), **options)


for version in VERSIONS:

    @test(f"{version} is agreed on, with name and protocol")
    def _(version=version):
        with stream(context(version)) as tls:
            assert tls.version() == version
            assert tls.selected_alpn_protocol() == "http/1.1"
            tls.sendall(b"GET /tls HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = rest(tls).decode()
        assert f"\r\n\r\n{version} TLS_" in answer, answer
        assert answer.endswith(", name localhost, protocol http/1.1, scheme https\n"), answer

    @async_test(f"messages of all sizes come back over {version}")
    async def _(version=version):
        async with client(context(version)) as ws:
            for size in [0, 1, 125, 126, 16_383, 16_384, 16_385, 65_536, MIB]:
                await expect_echo(ws, data(size))
                await expect_echo(ws, "x" * size)

    @test(f"a session is resumed over {version}")
    def _(version=version):
        tls = context(version)
        request = b"GET /tls HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        with stream(tls) as first:
            first.sendall(request)
            rest(first)
            session = first.session
        with stream(tls, session=session) as second:
            assert second.session_reused
            second.sendall(request)
            assert rest(second).startswith(b"HTTP/1.1 200 OK\r\n")

    @test(f"openssl s_client verifies and asks over {version}")
    def _(version=version):
        option = "-" + version.lower().replace("v", "").replace(".", "_")
        command = ["openssl", "s_client", "-connect", ECHO, "-servername", "localhost"]
        command += ["-CAfile", CA, "-verify_return_error", "-verify_hostname", "localhost"]
        command += ["-alpn", "h2,http/1.1", "-ign_eof", option]
        done = subprocess.run(
            command,
            input=b"GET /tls HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            capture_output=True,
            timeout=30,
        )
        said = done.stdout.decode()
        assert done.returncode == 0, done.stderr.decode()
        assert "ALPN protocol: http/1.1" in said, said
        assert "Verify return code: 0 (ok)" in said, said
        assert f"{version} TLS_" in said, said


@test("a protocol that the server does not speak is refused")
def _():
    try:
        with stream(context(alpn=["h2"])):
            raise AssertionError("h2 was agreed on")
    except ssl.SSLError as error:
        assert "NO_APPLICATION_PROTOCOL" in str(error).upper().replace(" ", "_"), error


@test("another name is not the server's, and an unknown authority is none")
def _():
    for tls, name in [(context(), "example.org"), (ssl.create_default_context(), "localhost")]:
        try:
            with stream(tls, name):
                raise AssertionError("the certificate was accepted")
        except ssl.SSLCertVerificationError:
            pass


@test("an old version is refused")
def _():
    tls = context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        tls.minimum_version = ssl.TLSVersion.TLSv1
        tls.maximum_version = ssl.TLSVersion.TLSv1_1
    tls.set_ciphers("ALL:@SECLEVEL=0")
    try:
        with stream(tls) as connection:
            raise AssertionError(f"{connection.version()} was agreed on")
    except ssl.SSLError:
        pass


@test("the end is announced by close_notify, in both directions")
def _():
    with stream() as tls:
        tls.sendall(b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert rest(tls).startswith(b"HTTP/1.1 200 OK\r\n")
    with stream() as tls:
        tls.sendall(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert tls.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        # Answered with the same, and then closed.
        tls.unwrap().close()


@test("plain HTTP is closed without an answer")
def _():
    with socket.create_connection((HOST, int(PORT)), timeout=20) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            assert plain.recv(100) == b""
        except ConnectionResetError:
            pass


@test("large bodies pass both ways, ten at a time")
def _():
    def post(seed):
        https = http.client.HTTPSConnection("localhost", int(PORT), timeout=30, context=context())
        with closing(https) as connection:
            for size in [0, 1, 3 * MIB]:
                body = data(size, seed)
                connection.request("POST", "/echo", body)
                same(connection.getresponse().read(), body)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(post, range(10)))


@async_test("websockets with permessage-deflate")
async def _():
    async with client(compression="deflate") as ws:
        assert ws.protocol.extensions, "deflate was not agreed on"
        await expect_echo(ws, "squeeze me " * 10_000)
        await expect_echo(ws, data(100_000))
        for i in range(1000):
            await ws.send(f"message {i}")
        for i in range(1000):
            same(await receive(ws), f"message {i}")
        await ws.close(1000, "done")
        assert ws.protocol.close_rcvd.code == 1000


@async_test("100 connections at once get their own messages")
async def _():
    tls = context()

    async def talk(n):
        async with client(tls) as ws:
            for i in range(10):
                await expect_echo(ws, f"connection {n}, message {i}")

    await asyncio.gather(*(talk(n) for n in range(100)))


run("python tls")
