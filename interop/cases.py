"""Runs cases one after the other, each with a time limit, and prints a line for each."""

import asyncio
import random
import signal
import sys
import time
import traceback

LIMIT = 60

_cases = []


def test(name):
    """Notes a case, to be run by `run`."""

    def note(body):
        _cases.append((name, body))
        return body

    return note


def async_test(name):
    """The same for a case that is a coroutine."""

    def note(body):
        test(name)(lambda: asyncio.run(body()))
        return body

    return note


def run(suite):
    """Runs all cases; the process ends with 1 if one has failed."""

    def late(_signal, _frame):
        raise TimeoutError(f"not done within {LIMIT} s")

    signal.signal(signal.SIGALRM, late)
    failed = 0
    for name, body in _cases:
        began = time.monotonic()
        signal.alarm(LIMIT)
        try:
            body()
            taken = round((time.monotonic() - began) * 1000)
            print(f"ok      {suite}: {name} ({taken} ms)", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  {suite}: {name}")
            print(traceback.format_exc(), flush=True)
        finally:
            signal.alarm(0)
    print(f"{len(_cases) - failed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)


def same(actual, expected):
    """Asserts equality of values too long to be printed."""
    assert type(actual) is type(expected), f"{type(actual)} instead of {type(expected)}"
    assert len(actual) == len(expected), f"length {len(actual)} instead of {len(expected)}"
    assert actual == expected, "the content differs"


def data(length, seed=1):
    """Bytes that look random and are the same every time."""
    return random.Random(seed).randbytes(length)


async def receive(ws):
    """The next message of an asyncio client's."""
    return await asyncio.wait_for(ws.recv(), 30)


async def expect_echo(ws, message):
    """Has an asyncio client send a message and asserts that it comes back."""
    await ws.send(message)
    same(await receive(ws), message)


def arguments(*names):
    if len(sys.argv) != len(names) + 1:
        sys.exit(f"usage: {sys.argv[0]} {' '.join(names)}")
    return sys.argv[1:]
