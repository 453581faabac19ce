"""What children do in the tests of locks and overlays."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

import ndshare as nds
from helpers import HANG

Array = np.ndarray[Any, Any]
# What they do with locks


@contextmanager
def guarded(guard: Any, **how: Any) -> Iterator[None]:
    """Enter a Lock or the lock of an array, whichever it is."""
    if isinstance(guard, nds.Lock):
        if not guard.acquire(timeout=how.get("timeout", -1), recover=how.get("recover", False)):
            raise nds.Timeout("not free in time")
        try:
            yield
        finally:
            guard.release()
    else:
        with nds.locked(guard, **how):
            yield


def hold(conn: Connection, guard: Any) -> None:
    """Enter, say so, stay until told, leave, and say so."""
    with guarded(guard):
        conn.send("inside")
        conn.recv()
    conn.send("outside")


def wait(conn: Connection, guard: Any) -> None:
    """Say that it waits, wait, and say how that ended and when."""
    conn.send("waiting")
    try:
        with guarded(guard):
            conn.send(("entered", time.monotonic()))
            conn.recv()
    except nds.OwnerDied:
        conn.send(("OwnerDied", time.monotonic()))


def release_it(conn: Connection, lock: nds.Lock) -> None:
    """Try to release what another process holds."""
    try:
        lock.release()
        conn.send(None)
    except RuntimeError as error:
        conn.send(str(error))


def use_it(conn: Connection, lock: nds.Lock, x: Array) -> None:
    """Use a lock that was sent."""
    with lock:
        x += 1
    conn.send(lock.locked())


def count(conn: Connection, guard: Any, x: Array, times: int, threads: int) -> None:
    """Count up in several threads under a guard, with a step that is not atomic; say the longest wait in seconds."""
    longest = [0.0] * threads

    def work(i: int) -> None:
        clock, worst = time.perf_counter, 0.0
        lock = guard if isinstance(guard, nds.Lock) else nds.locked(guard)
        for _ in range(times):
            start = clock()
            with lock:
                waited = clock() - start
                value = x.item(0)
                x[0] = value + 1
            worst = max(worst, waited)
        longest[i] = worst

    team = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    conn.recv()
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    conn.send(max(longest))


def hog(conn: Connection, guard: Any) -> None:
    """Enter again and again, and be inside nearly all the time."""
    conn.send("started")
    while not conn.poll():
        with guarded(guard):
            end = time.perf_counter() + 0.002
            while time.perf_counter() < end:
                pass


def two_orders(conn: Connection, a: Array, b: Array, times: int) -> None:
    """Lock two arrays, in the order given, again and again."""
    for _ in range(times):
        with nds.locked(a, b):
            a[0] += 1
            b[0] += 1
    conn.send("done")


def hold_many(conn: Connection, locks: list[nds.Lock], arrays: list[Array]) -> None:
    """Enter all of them, and stay."""
    for lock in locks:
        lock.acquire()
    all_of_them = nds.locked(*arrays)
    all_of_them.__enter__()
    conn.send("inside")
    conn.recv()


def fork_inside(conn: Connection, guard: Any) -> None:
    """Fork while inside; the child lives on and tries to leave, and this process stays inside until told."""
    with guarded(guard):
        if not os.fork():
            conn.send(("child", os.getpid()))
            time.sleep(HANG)
            os._exit(0)
        conn.send(("parent", os.getpid()))
        conn.recv()
    conn.send("outside")


def hold_with_memory(conn: Connection, guard: Any, nbytes: int) -> None:
    """Enter, with many small pages of one's own to be taken down at the end."""
    import mmap

    pages = mmap.mmap(-1, nbytes)
    pages.madvise(mmap.MADV_NOHUGEPAGE)
    x = np.frombuffer(pages, np.uint8)
    x[::4096] = 1
    hold(conn, guard)


def pairs(guard: Any, x: Array, rounds: int, inside: float = 0.0) -> None:
    """Change two words together under a guard; whoever finds an owner dead puts them in order."""
    for _ in range(rounds):
        try:
            with guarded(guard, timeout=HANG):
                if x[0] != x[1]:
                    x[2] += 1
                x[0] += 1
                if inside:
                    time.sleep(inside)
                x[1] += 1
        except nds.OwnerDied:
            with guarded(guard, recover=True):
                x[1] = x[0]


def strike(conn: Connection, label: str, nth: int, guard: Any, x: Array) -> None:
    """Do the same until a kill point strikes; say so if it never does."""
    from ndshare import _native

    conn.send("started")
    _native.kill_at(label, nth)
    end = time.monotonic() + HANG
    while time.monotonic() < end:
        pairs(guard, x, 10)
    conn.send("survived")


def wait_and_die(conn: Connection, label: str, nth: int, guard: Any) -> None:
    """Wait with a kill point armed; say what came if it did not strike."""
    from ndshare import _native

    conn.send("waiting")
    _native.kill_at(label, nth)
    try:
        with guarded(guard):
            conn.send("entered")
    except nds.OwnerDied:
        conn.send("OwnerDied")


def pairs_for_ever(guard: Any, x: Array, seed: int) -> None:
    """Do the same until killed, resting now and then."""
    rng = random.Random(seed)
    while True:
        pairs(guard, x, rng.randint(1, 20))
        time.sleep(rng.random() * 0.0002)  # no condition: others shall come in between


# What they do with overlays


def use_overlay(conn: Connection, overlay: nds.Overlay, use: str) -> None:
    """Say that it waits, enter a use, say so, stay until told, leave, and say so."""
    conn.send("waiting")
    with overlay.use(use):
        conn.send("inside")
        conn.recv()
    conn.send("outside")


def read_ints(conn: Connection, overlay: nds.Overlay) -> None:
    with overlay.use("ints") as v:
        conn.send(v.D.tolist())


def add_in_use(task: tuple[nds.Overlay, str, str]) -> None:
    """Change a field of a use."""
    overlay, use, field = task
    with overlay.use(use, timeout=HANG) as v:
        v[field][:] = 1


def come_again(conn: Connection, overlay: nds.Overlay, use: str) -> None:
    """Enter a use again and again until told; say how often."""
    conn.send("started")
    turns = 0
    while not conn.poll():
        with overlay.use(use, timeout=HANG):
            time.sleep(0.002)  # no condition: how long a turn lasts
        turns += 1
    conn.send(turns)


def keep_array(conn: Connection, x: Array) -> None:
    """Write to an array that was inherited, and keep it until told."""
    x[:] = 2
    conn.send("kept")
    conn.recv()


def strike_in_use(conn: Connection, label: str, nth: int, overlay: nds.Overlay) -> None:
    """Enter and leave uses with a kill point armed; say so if it never strikes."""
    from ndshare import _native

    _native.kill_at(label, nth)
    for use in ("ints", "floats", "ints", "chars"):
        with overlay.use(use, timeout=HANG) as v, overlay.use(use):
            assert v.first
    conn.send("survived")


def strike_before_a_use(conn: Connection, label: str, overlay: nds.Overlay, use: str) -> None:
    """Enter one use with a kill point armed; say so if it never strikes."""
    from ndshare import _native

    _native.kill_at(label, 1)
    with overlay.use(use, timeout=HANG):
        conn.send("survived")


def check_uses(conn: Connection, overlay: nds.Overlay, x: Array, seed: int) -> None:
    """Enter uses at random, and end if anybody who lives is in another one."""
    rng, me = random.Random(seed), os.getpid()
    while True:
        this = rng.randrange(2)
        with overlay.use(("ints", "floats")[this], timeout=HANG):
            x[this, me % 512] = me
            time.sleep(rng.random() * 0.001)
            for other in x[1 - this]:
                if other and _lives(int(other)):
                    os._exit(1)
            x[this, me % 512] = 0


def _lives(pid: int) -> bool:
    """Say whether a process has an address space still; a killed one loses it before anything else."""
    try:
        with open(f"/proc/{pid}/statm") as sizes:
            return sizes.read().split()[0] != "0"
    except OSError:
        return False
