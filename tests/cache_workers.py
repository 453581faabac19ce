"""What the other processes of the tests of caches and canvases do. Each ends by itself, whatever its parent does."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from typing import Any

import numpy as np

import ndshare as nds
from ndshare import _native
from ring_workers import LIFE, end_by_itself

# ---- canvases -------------------------------------------------------------------------------------------------------


def view(array: Any, stop: Any, conn: Any) -> None:
    """Look at a canvas under its lock until told to stop; tell how often, and how often two numbers were there."""
    end_by_itself()
    looks = halves = 0
    conn.send("ready")
    while not stop[0]:
        with nds.locked(array):
            halves += bool((array != array[0, 0]).any())
        looks += 1
        time.sleep(0)
    conn.send((looks, halves))
    conn.close()


def fill_reversed(canvas: Any, values: list[Any]) -> None:
    end_by_itself()
    nds.concatenate(values[::-1], axis=1, out=canvas)


class Deadly:
    """An array whose reading ends the process."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


def fill_and_be_killed(canvas: Any, values: list[Any]) -> None:
    """Die under the lock of a canvas."""
    end_by_itself()
    nds.concatenate([*values[:1], Deadly()], axis=1, out=canvas)


def fill_and_be_killed_at(label: str, canvas: Any, values: list[Any]) -> None:
    """Die at a kill point while a canvas is filled."""
    end_by_itself()
    _native.kill_at(label, 1)
    nds.concatenate(values, axis=1, out=canvas)


# ---- caches ---------------------------------------------------------------------------------------------------------


def load(_: Any) -> Any:
    return np.full(10, 7)


def keep(array: Any) -> None:
    """Hold an array."""
    end_by_itself()
    time.sleep(LIFE)
    array[:] = 0


def use(cache: nds.Cache, conn: Any) -> None:
    """Read what is there, load something, and tell."""
    end_by_itself()
    sums = int(cache["mine"].sum()), int(cache["loaded there"].sum())
    conn.send((*sums, len(cache)))
    conn.poll(LIFE)


def find(name: str, conn: Any) -> None:
    """Find a cache by its name, and tell what is in it."""
    end_by_itself()
    conn.send(int(nds.Cache("1 MiB", name=name)["sent"].sum()))


def load_for_ever(cache: nds.Cache, key: Any, conn: Any = None) -> None:
    """Begin a load that never ends."""
    end_by_itself()

    def load(_: Any) -> Any:
        if conn is not None:
            conn.send("loading")
        time.sleep(LIFE)

    cache.fetch(key, load)


def fail_when_awaited(cache: nds.Cache, conn: Any) -> None:
    """Fail to load as soon as somebody waits for it, and tell what came of it here."""
    end_by_itself()

    def load(_: Any) -> Any:
        conn.send("loading")
        while cache.info()["waits"] == 0:
            time.sleep(0.001)
        raise ZeroDivisionError("by intent")

    try:
        cache.fetch("x", load)
    except ZeroDivisionError as error:
        conn.send(repr(error))


def decode_many(cache: nds.Cache, folder: Any, seed: int, log: Any, go: Any, conn: Any) -> None:  # noqa: PLR0917
    """Look at images by Zipf's law; note when which was decoded, and tell how many were wrong."""
    from PIL import Image

    end_by_itself()
    rng = np.random.default_rng(seed)
    keys = (rng.zipf(1.2, 1500) - 1) % 1024
    count = wrong = 0

    def load(key: Any) -> Any:
        nonlocal count
        start = time.monotonic_ns()
        array = np.array(Image.open(folder / f"{key}.png"))
        log[count] = key, start, time.monotonic_ns()
        count += 1
        return array

    conn.send("ready")
    while not go[0]:
        time.sleep(0.001)
    for key in keys:
        image = cache.fetch(int(key), load)
        wrong += bool((image[0] != (key % 256, key // 256, 0, 255)).any())
        del image
    conn.send((count, wrong))
    while go[0] < 2:
        time.sleep(0.001)


def find_all(cache: Any, keys: list[Any], conn: Any) -> None:
    """Send what a cache has for keys, and check that the keys that it lists are these."""
    # True is 1 there, as in a dict.
    assert sorted(map(_native.key_bytes, cache)) == sorted(map(_native.key_bytes, keys))
    conn.send([int(cache.get(key, -1)) for key in keys])


def allocate(arena: Any, size: int, conn: Any) -> None:
    """Take memory of an arena, and send how much there was."""
    conn.send(nds.zeros(size, np.uint8, arena=arena).nbytes)


def pss_of(pid: int, arena: str) -> int:
    """Return the bytes of an arena that count for a process, shared pages by their parts."""
    total, ours = 0, False
    with open(f"/proc/{pid}/smaps") as lines:
        for line in lines:
            if "-" in line.split(" ", 1)[0]:
                ours = f"ndshare:{arena}" in line
            elif ours and line.startswith("Pss:"):
                total += int(line.split()[1]) << 10
    return total


# ---- deaths ---------------------------------------------------------------------------------------------------------


def content(key: int) -> Any:
    """Return the value that every process gives a key."""
    return np.arange(key, key + 200 + 100 * (key % 7), dtype=np.int64)


def is_whole(key: int, value: Any) -> bool:
    return bool(np.array_equal(value, content(key)))


def fail(_: Any) -> Any:
    raise LookupError("by intent")


def give_up(_: Any) -> Any:
    raise SystemExit


def tour(cache: nds.Cache, fresh: nds.Arena) -> None:
    """Do everything there is to do with a cache that is nearly full."""
    for key in range(1000, 1040):
        assert is_whole(key, cache.fetch(key, content))
    for key in range(1000, 1020):
        cache[key] = content(key)
    cache["a long key" * 50] = content(1)
    for load in (fail, give_up):
        with contextlib.suppress(LookupError, SystemExit):
            cache.fetch("bad", load)
    for key in list(cache)[:5]:
        with contextlib.suppress(KeyError):
            del cache[key]
    cache.resize(cache.maxsize)
    nds.Cache("64 KiB", name="on tour", arena=fresh)
    cache.clear()


def tour_and_die(cache: nds.Cache, fresh: nds.Arena, label: str, nth: int) -> None:
    """Die at a kill point, the first ones with the lock of the cache left by another death."""
    from ndshare import _native

    end_by_itself()
    if (pid := os.fork()) == 0:
        _native.kill_at("cache:freed", 1)
        tour(cache, fresh)
        os._exit(0)
    os.waitpid(pid, 0)
    _native.kill_at(label, nth)
    tour(cache, fresh)
    os._exit(0)


def die_loading(cache: nds.Cache, key: Any) -> None:
    end_by_itself()
    cache.fetch(key, lambda _: os.kill(os.getpid(), signal.SIGKILL))


def storm(cache: nds.Cache, seed: int, label: str | None, nth: int) -> None:
    """Load, store, delete, look and keep at random, until killed."""
    from ndshare import _native

    end_by_itself()
    if label:
        _native.kill_at(label, nth)
    rng = random.Random(seed)
    kept: list[Any] = []
    while True:
        storm_once(cache, rng, kept)


def storm_once(cache: nds.Cache, rng: random.Random, kept: list[Any]) -> None:
    key, dice = int(rng.paretovariate(0.5)) % 200, rng.random()
    if dice < 0.6:
        value = cache.fetch(key, content, timeout=30)
        assert is_whole(key, value), "torn"
        if rng.random() < 0.1:
            kept.append((key, value[::3]))
    elif dice < 0.75:
        cache[key] = content(key)
    elif dice < 0.85:
        with contextlib.suppress(KeyError):
            del cache[key]
    elif dice < 0.9:
        with contextlib.suppress(LookupError, SystemExit, nds.LoadError):
            cache.fetch(("bad", key), rng.choice([fail, give_up]), timeout=30)
    elif dice < 0.98:
        value = cache.get(key)
        assert value is None or is_whole(key, value), "torn"
    elif rng.random() < 0.05:
        cache.clear()
    if len(kept) > 5:
        assert all((value == content(key)[::3]).all() for key, value in kept), "a pinned value changed"
        kept.clear()
