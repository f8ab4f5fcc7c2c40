"""The works of benches/compare on gevent. Usage: gevent_runtime.py WORK COUNT THREADS SECONDS

As users run it: CPython's garbage collector is on, the loop is gevent's default. A suspended
greenlet has no stack of its own: gevent copies the part in use to the heap. To use 40 KiB of a
stack is here a recursion whose Python frames take about as much.
"""

import sys
import time

import gevent
import gevent.os
from gevent.event import Event
from gevent.lock import Semaphore
from gevent.queue import Queue

TURNS = 1_000
BATCH = 1_000
ROOM = 1_024

# When the first of the sleepers is due, and how much later the last, in seconds.
FIRST_DUE = 1.5
SPREAD = 3.0

# A frame of `use_stack` takes about 120 bytes.
DEPTH = 340


def cannot(why):
    print("cannot", why)
    sys.exit(0)


def report(operations, elapsed_ns, cpu_ns):
    print("operations", operations)
    print("elapsed_ns", elapsed_ns)
    print("cpu_ns", cpu_ns)


def measure(one_pass, count, seconds):
    """Repeats passes, and measures them without the first, which warms up."""
    one_pass(max(count // 10, 1))
    began, cpu = time.monotonic_ns(), time.process_time_ns()
    operations = 0
    while operations == 0 or time.monotonic_ns() - began < seconds * 1e9:
        one_pass(count)
        operations += count
    report(operations, time.monotonic_ns() - began, time.process_time_ns() - cpu)


def stage(name):
    """Says how far it is, and waits until whoever measures has had a look; the hub runs."""
    print("stage", name, flush=True)
    if not gevent.os.nb_read(0, 100):
        cannot("nobody looks")


def number(i):
    return i


def one_by_one(count):
    assert sum(gevent.spawn(number, i).get() for i in range(count)) == sum(range(count))


def in_batches(count):
    for _ in range(count // BATCH):
        all_at_once(BATCH)


def all_at_once(count):
    greenlets = [gevent.spawn(number, i) for i in range(count)]
    assert sum(greenlet.get() for greenlet in greenlets) == sum(range(count))


class Crowd:
    """Greenlets that wait until they are told to act, and again, when all have acted, to end."""

    def __init__(self, count, act):
        """Each is given its number to act. All wait when this returns."""
        first, second, arrived, done = Event(), Event(), Semaphore(0), Semaphore(0)

        def member(i):
            arrived.release()
            first.wait()
            result = act(i)
            done.release()
            second.wait()
            return result

        self.greenlets = [gevent.spawn(member, i) for i in range(count)]
        self.first, self.second, self.done = first, second, done
        for _ in self.greenlets:
            arrived.acquire()

    def act(self):
        """Returns when all have acted."""
        self.first.set()
        for _ in self.greenlets:
            self.done.acquire()

    def end(self):
        """What each has returned."""
        self.second.set()
        return (greenlet.get() for greenlet in self.greenlets)


def turns(count, seconds):
    elapsed = cpu = passes = 0
    while elapsed < seconds * 1e9:
        # The first one warms up.
        each = (count if passes else count // 10) // TURNS

        def turn(_):
            switches = 0
            while switches < each:
                gevent.sleep(0)
                switches += 1
            return switches

        crowd = Crowd(TURNS, turn)
        began, before = time.monotonic_ns(), time.process_time_ns()
        crowd.act()
        if passes:
            elapsed += time.monotonic_ns() - began
            cpu += time.process_time_ns() - before
        passes += 1
        assert sum(crowd.end()) == each * TURNS
    report((passes - 1) * count, elapsed, cpu)


def ping_pong(count):
    there, back = Semaphore(0), Semaphore(0)

    def other():
        for _ in range(count):
            there.acquire()
            back.release()

    other = gevent.spawn(other)
    for _ in range(count):
        there.release()
        back.acquire()
    other.get()


def queue(count):
    items = Queue(ROOM)
    other = gevent.spawn(lambda: sum(items.get() for _ in range(count)))
    for i in range(count):
        items.put(i)
    assert other.get() == sum(range(count))


def round_trips(count):
    there, back = Queue(ROOM), Queue(ROOM)

    def other():
        for _ in range(count):
            back.put(there.get())

    other = gevent.spawn(other)
    for i in range(count):
        there.put(i)
        assert back.get() == i
    other.get()


def timers(count):
    began = None

    def sleep(i):
        part = (i * 2_654_435_761 % 2**32) / (2**32 - 1)
        due = began + FIRST_DUE + SPREAD * part
        gevent.sleep(max(due - time.monotonic(), 0))
        return max(time.monotonic() - due, 0)

    crowd = Crowd(count, sleep)
    began, cpu = time.monotonic(), time.process_time_ns()
    crowd.act()
    elapsed, cpu = time.monotonic() - began, time.process_time_ns() - cpu
    late = sorted(crowd.end())
    report(count, int(elapsed * 1e9), cpu)
    for name, part in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        print(f"late_{name}_ns", int(late[int((count - 1) * part)] * 1e9))


def use_stack(depth=DEPTH):
    return use_stack(depth - 1) + 1 if depth else 0


def parked(count):
    gevent.spawn(use_stack).get()
    gevent.os.make_nonblocking(0)
    stage("ready")
    crowd = Crowd(count, lambda _: use_stack())
    stage("parked")
    crowd.act()
    stage("used")
    assert all(depth == DEPTH for depth in crowd.end())
    print("operations", count)


def main():
    work, count, threads, seconds = sys.argv[1:]
    count, threads, seconds = int(count), int(threads), float(seconds)
    if work == "version":
        print("version", f"{gevent.__version__} on CPython {sys.version.split()[0]}")
        return
    if threads > 1:
        cannot("its queues are for the greenlets of one thread")
    passes = {
        "spawn": one_by_one,
        "spawn1k": in_batches,
        "spawnall": all_at_once,
        "pingpong": ping_pong,
        "queue": queue,
        "roundtrip": round_trips,
    }
    if work in passes:
        # As with the others, a greenlet does it and not the main one.
        gevent.spawn(measure, passes[work], count, seconds).get()
    elif work == "yield":
        gevent.spawn(turns, count, seconds).get()
    elif work == "timers":
        gevent.spawn(timers, count).get()
    elif work == "parked":
        parked(count)
    else:
        cannot("unknown work")


main()
