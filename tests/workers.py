"""What children do in the tests. They import only this, so that they start quickly under every start method."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing as mp
import os
import signal
import sys
import time
import zlib
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np

import ndshare as nds

Array = np.ndarray[Any, Any]
kept: dict[str, Any] = {}  # what a puppet holds between calls


def obey(conn: Connection) -> None:
    """Call what is asked for until told to stop."""
    signal.alarm(1200)  # should the tests be killed, and another child keep the pipe open
    while (task := conn.recv()) is not None:
        name, args = task
        try:
            answer = (True, globals()[name](*args))
        except Exception as error:
            answer = (False, error)
        del task, args
        conn.send(answer)
        del answer
    kept.clear()


# ---- small things a puppet does -------------------------------------------------------------------------------------


def pid() -> int:
    return os.getpid()


def getenv(name: str) -> str | None:
    return os.environ.get(name)


def arena_id(arena: nds.Arena | None = None) -> str:
    return str(nds.stats(arena)["id"])


def make(name: str, shape: Any, fill: float, arena: nds.Arena | None = None) -> str:
    kept[name] = nds.full(shape, fill, np.float64, arena=arena)
    return name


def allocate(count: int) -> Array:
    """Make an array in shared memory as NumPy would make one."""
    with nds.allocating():
        return np.arange(count)


def exit_with_arrays(queue: Any) -> None:
    """Send an array, and exit with others in globals and an open scope."""
    nds.allocating(100).__enter__()
    kept["arrays"] = [np.arange(100) for _ in range(10)]
    queue.put(kept["arrays"][0])


def keep(name: str, value: Any) -> None:
    kept[name] = value


def forget(name: str) -> None:
    del kept[name]
    gc.collect()


def give(name: str) -> Any:
    return kept[name]


def echo(value: Any) -> Any:
    return value


def describe(x: Array) -> dict[str, Any]:
    """Say everything about an array that should survive travelling."""
    return {
        "type": type(x).__name__,
        "shape": x.shape,
        "strides": x.strides,
        "dtype": x.dtype.descr if x.dtype.names else x.dtype.str,
        "writeable": bool(x.flags.writeable),
        "shared": nds.is_shared(x),
        "bytes": x.tobytes(),
    }


def store(x: Array, index: Any, value: Any) -> None:
    x[index] = value


def add_one(x: Array) -> Array:
    """Change the array in place and send it back."""
    x += 1
    return x


def total(x: Array) -> float:
    return float(x.sum())


def made(n: int) -> Array:
    return nds.full(n, n, np.int64)


def checksum(name: str) -> int:
    return zlib.crc32(kept[name])


def stats(arena: nds.Arena | None = None) -> dict[str, Any]:
    return nds.stats(arena)


def open_ref(ref: Any) -> Array:
    return (nds.ref(ref) if isinstance(ref, str) else ref).open()


def loads(data: bytes) -> Any:
    return ForkingPickler.loads(data)


def dumps(name: str) -> bytes:
    return bytes(ForkingPickler.dumps(kept[name]))


def dumps_new(nbytes: int, arena: nds.Arena | None = None) -> bytes:
    return bytes(ForkingPickler.dumps(nds.zeros(nbytes, np.uint8, arena=arena)))


def issue(data: bytes, nbytes: int) -> None:
    """Open an arena, send an array of it to nobody, and say no more."""
    kept["ticket"] = ForkingPickler.dumps(nds.zeros(nbytes, np.uint8, arena=ForkingPickler.loads(data)))


def go(name: str, args: tuple[Any, ...]) -> Any:
    """Call another function of this module: what pools and executors are given."""
    return globals()[name](*args)


# ---- targets of processes -------------------------------------------------------------------------------------------


def wait_for_file(path: str) -> str:
    """Return when there is such a file."""
    deadline = time.monotonic() + 60
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody made {path}")
        time.sleep(0.005)
    return path


def write_sum(_: Any, x: Array, path: str, *_more: Any) -> None:
    with open(path, "w") as file:
        file.write(str(int(x.sum())))


def put_frames(ring: nds.Ring, count: int) -> int:
    for n in range(count):
        ring.put([n] * 4, timeout=60)
    return int(ring.stats()["written"])


def add_one_to_all(views: list[Array]) -> int:
    for view in views:
        view[...] += 1
    return len(views)


def sum_of(data: bytes) -> int:
    return int(ForkingPickler.loads(data).sum())


def fill_in_arena(data: bytes, n: int, value: float) -> float:
    return float(nds.full(n, value, arena=ForkingPickler.loads(data)).sum())


def still_maps(name: str) -> bool:
    """Say whether an arena is mapped here after the next one was made."""
    nds.Arena("8 MiB").close()
    with open("/proc/self/maps") as maps:
        return name in maps.read()


def put(queue: Any, n: int, value: int) -> None:
    """Allocate, put the array in a queue, and return at once."""
    queue.put(nds.full(n, value, np.int64))


def put_and_vanish(queue: Any, n: int, value: int) -> None:
    """Do the same, and end without any clean-up."""
    queue.put(nds.full(n, value, np.int64))
    os._exit(0)


def fill_column(x: Array, column: int, ready: Any, leave: Any) -> None:
    """Write one column in place, say so, and stay until told to leave."""
    x[:, column] = np.arange(x.shape[0]) % (column + 2) == 0
    ready.send(os.getpid())
    leave.wait()


def work(queue: Any, x: Array) -> None:
    while (task := queue.get()) is not None:
        i, array = task
        x[i] = array.sum()
        queue.task_done()


def add_and_pass_on(source: Any, sink: Any) -> None:
    while (x := source.get()) is not None:
        x += 1
        sink.put(x)
    sink.put(None)


def send_and_be_killed(queue: Any, value: int) -> None:
    queue.put(nds.full(100_000, value, np.int32))
    os.kill(os.getpid(), signal.SIGKILL)


def hold_and_sleep(conn: Connection, other: Connection) -> None:
    other.close()
    x = nds.zeros(1000)
    conn.send(x.size)
    time.sleep(60)


def grandchildren(depth: int, method: str, conn: Connection, array: Array, parent: int = 0) -> None:
    """Start a child that does the same, down to `depth`, and die at once, so that the last has no ancestors."""
    if depth:
        import multiprocessing as mp

        process = mp.get_context(method).Process(
            target=grandchildren, args=(depth - 1, method, conn, array, os.getpid())
        )
        process.start()
        os._exit(0)
    while os.getppid() == parent:
        time.sleep(0.001)
    array += 1
    mine = nds.array(array)
    conn.send((os.getpid(), nds.stats()["id"], mine))


# ---- a tour of everything that changes shared words -----------------------------------------------------------------

SIZES = (1, 100, 5_000, 70_000, 300_000, 1 << 20, 5 << 20)


def tour(arena: nds.Arena | bytes, gifts: list[bytes], points: tuple[str, ...] = ()) -> str:
    """Do everything that a process can do in an arena. Returns "survived", or who was struck instead.

    `gifts` are tickets to claim. `points` are labels at which children of this process die, so that it has
    every kind of death to clear up after.
    """
    arena = ForkingPickler.loads(arena) if isinstance(arena, bytes) else arena
    struck = False
    for step in (_allocate, _many, _tickets, _crowd, _ask):
        step(arena, gifts)
    struck |= _forked(lambda: _allocate(arena, []))
    struck |= _forked(lambda: _die_untidily(arena))
    _ask(arena, gifts)
    mine = nds.zeros(10, arena=arena)
    for point in points:
        struck |= _forked(lambda label=point: _die_at(label, arena))
        # A hand-over takes the lock without looking for deaths before: it may be the dead child's.
        ForkingPickler.loads(bytes(ForkingPickler.dumps(mine)))
        _allocate(arena, gifts)
        _ask(arena, gifts)
    del mine
    gc.collect()
    return "a child was struck" if struck else "survived"


def _allocate(arena: nds.Arena, _: list[bytes]) -> None:
    """Make new blocks, warm blocks, cleared blocks, and views that outlive their arrays."""
    for _round in range(2):
        arrays = [nds.full(n, n % 251, np.uint8, arena=arena) for n in SIZES]
        views = [x[n // 2 :] for x, n in zip(arrays, SIZES, strict=True)]
        del arrays
        for view, n in zip(views, SIZES, strict=True):
            assert (view == n % 251).all()
        del view, views
        for n in SIZES:
            assert not nds.zeros(n, np.uint8, arena=arena, align=4096).any()


def _many(arena: nds.Arena, _: list[bytes]) -> None:
    """More blocks than any list that a process keeps for itself."""
    blocks = [nds.empty(n % 900, np.uint8, arena=arena) for n in range(600)]
    del blocks[::2]
    blocks += [nds.empty(64, np.uint8, arena=arena) for _ in range(50)]


def _tickets(arena: nds.Arena, gifts: list[bytes]) -> None:
    """Hand-overs issued and claimed, claimed twice, left behind, and taken back."""
    mine = nds.full(1000, 7, np.uint16, arena=arena)
    data = bytes(ForkingPickler.dumps(mine))
    first, second = ForkingPickler.loads(data), ForkingPickler.loads(data)
    del mine
    assert (first == 7).all()
    assert (second == 7).all()
    for gift in gifts:
        with contextlib.suppress(nds.Stale):
            ForkingPickler.loads(gift)
    ref = nds.ref(first)
    del first, second
    assert (nds.ref(str(ref)).open() == 7).all()
    text = str(ref)
    del ref
    for gone in (lambda: ForkingPickler.loads(data), lambda: nds.ref(text).open()):
        with contextlib.suppress(nds.Stale):
            raise AssertionError(f"nobody holds it, and it can be opened: {gone()}")
    ForkingPickler.dumps(nds.zeros(9000, np.uint8, arena=arena))
    _start_in_vain(arena)
    kept["left behind"] = ForkingPickler.dumps(nds.zeros(100, np.uint8, arena=arena))


class NeverStarted:
    """What stands for a process while multiprocessing pickles for it; this one ends before it reads."""

    pid = 0

    def poll(self, flag: int = 0) -> int:
        return flag


def _start_in_vain(arena: nds.Arena) -> None:
    """Pickle for a process that is over before it has read anything."""
    popen = NeverStarted()
    mp.context.set_spawning_popen(popen)  # type: ignore[attr-defined]
    try:
        ForkingPickler.dumps(nds.zeros(7000, np.uint8, arena=arena))
    finally:
        mp.context.set_spawning_popen(None)  # type: ignore[attr-defined]
    popen.pid = os.getpid()
    popen.poll()


def _crowd(arena: nds.Arena, _: list[bytes]) -> None:
    """Take all there is, so that warm blocks and dead processes' hand-overs are given up first."""
    crowd = []
    with contextlib.suppress(nds.ArenaFull):
        for _block in range(1000):
            crowd.append(nds.zeros(3 << 20, np.uint8, arena=arena))
    crowd.clear()


def _ask(arena: nds.Arena, _: list[bytes]) -> None:
    nds.stats(arena)
    nds.reclaim(older_than=60.0, arena=arena)


def _die_untidily(arena: nds.Arena) -> None:
    """Leave live blocks, views and hand-overs behind."""
    blocks = [nds.full(n, 1, np.uint8, arena=arena) for n in SIZES]
    kept["tickets"] = [ForkingPickler.dumps(x) for x in blocks[:3]]
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at(label: str, arena: nds.Arena) -> None:
    from ndshare import _native

    _native.kill_at(label, 1)
    for step in (_allocate, _many, _tickets, _crowd, _ask):
        step(arena, [])


def _forked(what: Any) -> bool:
    """Do it in a forked child; True when the child never got as far as doing it."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, b".")
            what()
        except BaseException as error:
            if not isinstance(error, (nds.Error, MemoryError)):
                sys.excepthook(type(error), error, error.__traceback__)
                os._exit(99)
        finally:
            os._exit(0)
    os.close(writer)
    started = os.read(reader, 1)
    os.close(reader)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == 99:
        raise AssertionError("a forked child failed; its traceback is above")
    return not started


def strike(label: str, nth: int, arena: nds.Arena | bytes, gifts: list[bytes], points: tuple[str, ...]) -> str:
    """Arm one kill point and make the tour."""
    from ndshare import _native

    _native.kill_at(label, nth)
    return tour(arena, gifts, points)


def churn(seed: int, arena: nds.Arena, conn: Connection) -> None:
    """Allocate, check, send and drop at random until killed, or until the parent is gone."""
    rng = np.random.default_rng(seed)
    parent = os.getppid()
    mine: list[Array] = []
    while os.getppid() == parent:
        _churn_once(rng, mine, arena, conn)


def _churn_once(rng: np.random.Generator, mine: list[Array], arena: nds.Arena, conn: Connection) -> None:
    choice = rng.integers(10)
    with contextlib.suppress(nds.ArenaFull, nds.Stale):
        if choice < 4 or not mine:
            mine.append(stamped(int(rng.integers(1 << 32)), int(2 ** rng.uniform(3, 18)), arena))
        elif choice < 7:
            check_stamp(mine.pop(int(rng.integers(len(mine)))))
        elif choice < 8:
            conn.send(mine[int(rng.integers(len(mine)))])
        elif choice < 9 and conn.poll():
            mine.append(conn.recv())
        else:
            nds.stats(arena)
    if len(mine) > 40:
        del mine[:20]


def stamped(seed: int, n: int, arena: nds.Arena | None = None) -> Array:
    """Return an array of uint64 that says in every place which array it is."""
    x = nds.empty(max(n, 2), np.uint64, arena=arena)
    x[:] = np.arange(x.size, dtype=np.uint64) + np.uint64(seed)
    return x


def check_stamp(x: Array) -> None:
    """Insist that the array is whole: one array's places, in order."""
    assert (x == x[0] + np.arange(x.size, dtype=np.uint64)).all(), "the bytes of two arrays are mixed"


# ---- canvases -------------------------------------------------------------------------------------------------------


def look_at_canvas(canvas: Array, clock: Array, rounds: int) -> None:
    """Wait for each round on the clock, and fail when any byte of the canvas is not of that round."""
    for i in range(1, rounds + 1):
        while clock[0] < i:
            time.sleep(0)
        if not (canvas == i % 251).all():
            sys.exit(1)
        clock[1] = i


def look_at_locked_canvas(canvas: Array, clock: Array, rounds: int) -> None:
    """Look under the lock until the last round, and fail when a byte is not of the round on the clock."""
    while clock[1] < rounds:
        with nds.locked(canvas):
            i = int(clock[0])
            if not (canvas == i % 251).all():
                sys.exit(1)
        clock[1] = i


def transform(x: Array) -> Array:
    """Transform on two threads."""
    return nds.fft.fft2(x, workers=2)


# ---- beside a stopped process ---------------------------------------------------------------------------------------


class EnoughError(Exception):
    """What a signal handler of these tests raises, as Ctrl-C raises KeyboardInterrupt."""


def _enough(*_: object) -> None:
    raise EnoughError


def stand_still(label: str, arena: nds.Arena, gifts: list[bytes]) -> str:
    """Stop at one point of the tour; say so when all of it is over."""
    from ndshare import _native

    _native.stop_at(label)
    # Tables are put in order only after a death in their midst.
    tour(arena, gifts, ("split:span",) if label.startswith(("sweep:", "fork:")) else ())
    return "survived"


def stand_still_among(label: str, shared: dict[str, Any]) -> str:
    """Do the same with rings, caches, overlays and locks, as often as it takes to pass there."""
    from ndshare import _native

    if label in {"cache:ended", "cache:forgotten", "cache:requeued"}:
        # A cache is put in order only after a death in its midst.
        _forked(lambda: (_native.kill_at("cache:freed"), use_everything(shared, HANG)))
    _native.stop_at(label)
    for _ in range(3):
        use_everything(shared, HANG, 2)
    return "survived"


def _fail(_: Any) -> Any:
    raise LookupError("by intent")


def _give_up(_: Any) -> Any:
    raise SystemExit


HANG = 60.0


def use_everything(shared: dict[str, Any], timeout: float, scale: int = 1) -> None:
    """Do with rings, caches, overlays and locks what changes their words; `scale` is that of the frames."""
    ring, cache, arena = shared["ring"], shared["cache"], shared["arena"]
    for key in (*range(60), "long" * 200):
        cache[key] = np.full(800, 7)
    for key in (*range(20, 60), *range(100, 120)):
        cache.fetch(key, lambda key: np.full(800, key), timeout)
    for load in (_fail, _give_up):
        with contextlib.suppress(LookupError, SystemExit):
            cache.fetch("bad", load, timeout)
    with contextlib.suppress(KeyError):
        del cache[3]
    cache.clear()
    cache.resize(cache.info()["maxsize"])
    with shared["overlay"].use("a", timeout=timeout), nds.locked(shared["array"], timeout=timeout):
        pass
    with ring.reader(start="oldest") as reader, ring.reader(group=f"crew {os.getpid()}") as member:
        for size in (10 * scale, 3000 * scale, 300_000 * scale):
            with ring.write(size, np.uint8, timeout=timeout) as frame:
                frame[:] = 1
            ring.put(nds.full(size, 2, np.uint8, arena=arena), timeout=timeout)
        for one in (reader, member):
            for _ in range(4):
                frame = one.get(timeout)
                del frame
    ring.stats()
    _stream(arena, timeout)
    nds.Cache("64 KiB", name=f"made by {os.getpid()}", arena=arena)


def _stream(arena: nds.Arena, timeout: float) -> None:
    """Write a stream to its end, with a writer that was made for it and a reader whose descriptor is waited for."""
    ring = nds.Ring(slots=4, when_full="drop_oldest", arena=arena)
    with ring.reader() as reader, ring.writer() as writer:
        reader.fileno()
        with contextlib.suppress(nds.Empty):
            reader.get(timeout=0)
        for _ in range(140):  # more than two periods after which sizes are looked at
            writer.put(np.ones(10, np.uint8), timeout=timeout)


def hold_some(arena: nds.Arena) -> None:
    """Keep arrays of all sizes, so that they can be dropped beside a stopped process."""
    kept["some"] = [nds.full(n, 1, np.uint8, arena=arena) for n in SIZES[:-1]]


def drop_some() -> str:
    """Drop them: it never waits."""
    kept.pop("some", None)
    gc.collect()
    return "dropped"


def make_ready(arena: nds.Arena) -> None:
    """Make an array that a cache can keep as it is."""
    kept["ready"] = nds.full(1000, 9, arena=arena)
    kept["ready"].flags.writeable = False


def store_ready() -> None:
    """Store it in the cache that is kept here under a new key: nothing is allocated, the cache only has to keep it."""
    kept["cache"]["ready"] = kept["ready"]


def make_way(keys: range) -> int:
    """End values of a cache, and say how many are left."""
    for key in keys:
        del kept["cache"][key]
    return len(kept["cache"])


def look_into() -> tuple[int, int]:
    """Look for what is there and for what is not, and count both."""
    found = [kept["cache"].get(key) is not None for key in range(100)]
    return sum(found), len(found) - sum(found)


def in_time(seconds: float, what: str, *args: Any) -> tuple[str, str]:
    """Call a function of this module, and have a signal handler end it if that takes longer.

    Returns "done", "interrupted", or the name of the exception, and what the exception and its notes say.
    """
    signal.signal(signal.SIGALRM, _enough)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        globals()[what](*args)
    except EnoughError as error:
        return "interrupted", "\n".join(getattr(error, "__notes__", []))
    except nds.Error as error:
        return type(error).__name__, str(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "done", ""


def allocate_some(arena: nds.Arena) -> None:
    """Take a block that no process keeps ready."""
    nds.empty(300_000, np.uint8, arena=arena)


def send_some(arena: nds.Arena) -> None:
    ForkingPickler.loads(bytes(ForkingPickler.dumps(nds.empty(5000, np.uint8, arena=arena))))


def put_some(size: int, timeout: float) -> None:
    """Publish a frame of a new size, which needs a new block."""
    kept["ring"].put(np.zeros(size, np.uint8), timeout=timeout)


def fill_in_scope(arena: nds.Arena) -> tuple[int, int]:
    """Let NumPy allocate; return how often in the arena, and how often elsewhere."""
    with nds.allocating(arena=arena) as scope:
        for _ in range(20):
            assert (np.ones(100_000) * 2 == 2).all()
    return scope.arrays, scope.fallbacks


def lock_owner(arena: nds.Arena) -> Any:
    return nds.stats(arena)["lock"]


def fork_some(arena: nds.Arena) -> int:
    """Fork, and look around in the child."""
    child = os.fork()
    if not child:
        try:
            nds.stats(arena)
            drop_some()
            os._exit(7)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
