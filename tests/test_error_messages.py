"""What errors say, word by word, in `error_messages.txt`: the object, what was expected, what was got, what to do next.

``NDSHARE_WRITE_ERRORS=1`` writes that file anew; what changed in it is to be read. What differs from run to run has a
placeholder there.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import ndshare as nds
from helpers import HANG, Child, child, environment, wait_until
from ndshare import _native
from test_strangers import runtime  # noqa: F401  (a registry of names for each test)

ROOT = Path(__file__).resolve().parent.parent
SNAPSHOT = ROOT / "tests" / "error_messages.txt"
NOBODY = 65534
# Here NumPy's, SciPy's or Python's own words are kept, for programs and people that know them.
THEIRS = "theirs"


class Case(NamedTuple):
    """What provokes an error of a kind, as Rust or Python calls that."""

    group: str
    kind: str
    title: str
    provoke: Callable[[Path], object]


CASES: list[Case] = []


def case(
    kind: str, title: str, group: str = "states"
) -> Callable[[Callable[[Path], object]], Callable[[Path], object]]:
    """Add a function as a case."""

    def add(provoke: Callable[[Path], object]) -> Callable[[Path], object]:
        CASES.append(Case(group, kind, title, provoke))
        return provoke

    return add


# ---- states ----------------------------------------------------------------------------------------------------------


@case("ArenaFull", "an array that is larger than its arena")
def _(_: Path) -> object:
    return nds.zeros(1 << 24, arena=nds.Arena("4 MiB"))


@case("Stale", "a reference to what is gone")
def _(_: Path) -> object:
    text = str(nds.ref(nds.zeros(3)))
    return nds.ref(text).open()


@case("Attach", "an arena in a directory that is not there")
def _(folder: Path) -> object:
    return nds.Arena("1 MiB", path=folder / "no" / "arena.nds")


@case("Attach", "an arena where there is a directory")
def _(folder: Path) -> object:
    return nds.Arena("1 MiB", path=folder)


@case("Unreachable", "a reference of a process that has ended")
def _(_: Path) -> object:
    source = "import ndshare as nds; print(nds.ref(nds.zeros(3)))"
    env = environment(NDSHARE_SESSION=None)
    done = subprocess.run([sys.executable, "-c", source], env=env, capture_output=True, text=True, check=True)
    return nds.ref(done.stdout.strip()).open()


@case("Foreign", "an arena of another user")
def _(folder: Path) -> object:
    path = folder / "arena.nds"
    nds.Arena("1 MiB", path=path).close()
    os.chown(path, NOBODY, NOBODY)
    return nds.Arena(path=path)


@case("Timeout", "a name that nobody publishes")
def _(_: Path) -> object:
    return nds.attach("nothing", timeout=0)


@case("Timeout", "a name in an arena that nobody publishes")
def _(folder: Path) -> object:
    arena = nds.Arena("1 MiB", path=folder / "arena.nds")
    arena.publish("something", nds.zeros(3, arena=arena))
    return arena.attach("nothing", timeout=0)


@case("Timeout", "an offer that nobody makes")
def _(_: Path) -> object:
    return nds.attach("nothing", user=os.getuid(), readonly=True, timeout=0)


@case("Timeout", "a lock that another thread has")
def _(_: Path) -> object:
    array = nds.zeros(3)
    with nds.locked(array):
        return in_a_thread(lambda: nds.locked(array, timeout=0).__enter__())


@case("Timeout", "a use of an overlay that another thread keeps away")
def _(_: Path) -> object:
    overlay = nds.Overlay(raw={"A": (3, "f4")}, waves={"B": (3, "f4")})
    with overlay.use("raw"):
        return in_a_thread(lambda: overlay.use("waves", timeout=0).__enter__())


@case("Timeout", "a key that another thread loads")
def _(_: Path) -> object:
    cache, go_on = nds.Cache("1 MiB"), threading.Event()

    def load(key: int) -> Any:
        go_on.wait(HANG)
        return np.zeros(key)

    loading = threading.Thread(target=cache.fetch, args=(3, load))
    loading.start()
    assert wait_until(lambda: cache.info()["misses"] == 1)
    try:
        return cache.fetch(3, load, timeout=0)
    finally:
        go_on.set()
        loading.join(HANG)


@case("Interrupted", "a wait that a signal's handler ends says what the handler says")
def _(_: Path) -> object:
    def interrupt(*_: object) -> None:
        raise InterruptedError("told to stop")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        return nds.Ring(3, slots=2).reader().get(timeout=HANG)
    finally:
        signal.signal(signal.SIGALRM, before)


def die_inside(lock: nds.Lock) -> None:
    lock.acquire()
    os._exit(0)


@case("RecordError", "a recording whose frames change")
def _(folder: Path) -> object:
    ring = nds.Ring(slots=4)
    recording = nds.record(ring, folder / "run.npy")
    ring.put(np.zeros(3, "u1"))
    ring.put(np.zeros(4, "u1"))
    return recording.wait(HANG)


@case("FileExistsError", "a recording where there is one")
def _(folder: Path) -> object:
    np.save(folder / "run.npy", np.zeros(3))
    return nds.record(nds.Ring(3, slots=4), folder / "run.npy")


@case("ValueError", "a recording without a format")
def _(folder: Path) -> object:
    return nds.record(nds.Ring(3, slots=4), folder / "run.mp4")


@case("ValueError", "a replay at its pace of a file without times")
def _(folder: Path) -> object:
    np.save(folder / "run.npy", np.zeros(3))
    return nds.replay(folder / "run.npy")


@case("OwnerDied", "a lock whose owner died inside")
def _(_: Path) -> object:
    lock = nds.Lock()
    with child(die_inside, lock) as process:
        process.join(HANG)
        return lock.acquire(timeout=HANG)


@case("Empty", "no frame, and nobody who writes")
def _(_: Path) -> object:
    return nds.Ring(3, slots=2).reader().get(timeout=0)


@case("Empty", "no frame of a writer that is there")
def _(_: Path) -> object:
    ring = nds.Ring(3, slots=2)
    with ring.writer():
        return ring.reader().get(timeout=0.01)


@case("Empty", "no frame that is young enough, and none at all")
def _(_: Path) -> object:
    return nds.Ring(3, slots=2).reader().newest(timeout=0)


@case("Empty", "no frame that is young enough")
def _(_: Path) -> object:
    ring = nds.Ring(1, slots=2)
    ring.put([1])
    with ring.reader(latest=True) as frames:
        return frames.newest(max_age=0, timeout=0.01)


@case("Empty", "no set of frames")
def _(_: Path) -> object:
    rings = {"left": nds.Ring(1, slots=2), "right": nds.Ring(1, slots=2)}
    with nds.join({name: ring.reader() for name, ring in rings.items()}) as sets:
        rings["left"].put([1])
        return sets.get(timeout=0)


@case("InvalidValue", "a stamp that goes back")
def _(_: Path) -> object:
    ring = nds.Ring(1, slots=2)
    ring.put([1], time_ns=7)
    return ring.put([1], time_ns=6)


@case("InvalidValue", "a frame without a stamp after one from the future")
def _(_: Path) -> object:
    ring = nds.Ring(1, slots=2)
    ring.put([1], time_ns=1 << 62)
    return ring.put([1])


@case("InvalidValue", "readers of a group that are to be joined")
def _(_: Path) -> object:
    return nds.join([nds.Ring(1, slots=2).reader(group="g")])


@case("InvalidValue", "a field to join by that there is not")
def _(_: Path) -> object:
    return nds.join([nds.Ring(1, slots=2).reader()], by="shot")


@case("Full", "no room, because of a reader that is not used yet")
def _(_: Path) -> object:
    ring = nds.Ring(1, slots=1)
    reader = ring.reader()
    ring.put([1])
    return ring.put([2], timeout=0), reader


@case("Full", "no room, because of a reader that is behind")
def _(_: Path) -> object:
    ring = nds.Ring(1, slots=1)
    reader = ring.reader()
    ring.put([1])
    reader.get()
    ring.put([2])
    return ring.put([3], timeout=0)


@case("Closed", "a ring that was closed, to its writer")
def _(_: Path) -> object:
    ring = nds.Ring(1, slots=1)
    ring.close()
    return ring.put([1])


@case("Closed", "a ring that was closed, to its reader")
def _(_: Path) -> object:
    ring = nds.Ring(1, slots=1)
    reader = ring.reader()
    ring.close()
    return reader.get()


@case("Closed", "a reader that was closed")
def _(_: Path) -> object:
    reader = nds.Ring(1, slots=1).reader()
    reader.close()
    return reader.get()


def die_writing(writer: nds.Writer) -> None:
    writer.put([1, 2, 3])
    os._exit(0)


@case("WriterDied", "a ring whose only writer died")
def _(_: Path) -> object:
    ring = nds.Ring(3, slots=2)
    reader, writer = ring.reader(), ring.writer()
    with child(die_writing, writer) as process:
        process.join(HANG)
    reader.get(timeout=HANG)
    return reader.get(timeout=HANG)


def die(frame: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@case("WorkerDied", "a frame of a pipe that kills its workers")
def _(_: Path) -> object:
    ring = nds.Ring(3, slots=2)
    with nds.pipe(ring.reader(), die, workers=1, mp_context=mp.get_context("fork")), ring:
        return ring.put([1, 2, 3])


@case("Timeout", "a pipe whose stream goes on")
def _(_: Path) -> object:
    pipe = nds.pipe(nds.Ring(3, slots=2).reader(), die, workers=1, mp_context=mp.get_context("fork"))
    try:
        return pipe.wait(timeout=0.01)
    finally:
        pipe.close()


@case("LoadFailed", "a key whose load failed in another thread")
def _(_: Path) -> object:
    cache = nds.Cache("1 MiB")

    def load(_: str) -> Any:
        assert wait_until(lambda: cache.info()["waits"] == 1)
        raise FileNotFoundError(2, "no such tile")

    def fetch() -> None:
        with pytest.raises(FileNotFoundError):
            cache.fetch("x", load)

    loading = threading.Thread(target=fetch)
    loading.start()
    assert wait_until(lambda: cache.info()["misses"] == 1)
    try:
        return cache.fetch("x", np.zeros)
    finally:
        loading.join(HANG)


@case("Misuse", "a lock that this thread has already")
def _(_: Path) -> object:
    array = nds.zeros(3)
    with nds.locked(array), nds.locked(array):
        return None


@case("Misuse", "a lock that nobody holds is released")
def _(_: Path) -> object:
    return nds.Lock().release()


@case("Misuse", "a loader that asks for its own key")
def _(_: Path) -> object:
    cache = nds.Cache("1 MiB")
    return cache.fetch("r", lambda key: cache.fetch(key, np.zeros))


@case("Misuse", "more readers than a ring has room for")
def _(_: Path) -> object:
    ring = nds.Ring(3, slots=2)
    return [ring.reader() for _ in range(65)]


@case("Misuse", "more writers than a ring has room for")
def _(_: Path) -> object:
    ring = nds.Ring(3, slots=2)
    return [ring.writer() for _ in range(65)]


@case("Misuse", "a name that another object has")
def _(_: Path) -> object:
    array, ring = nds.zeros(3), nds.Ring(3, slots=2)
    nds.publish("frames", array)
    return nds.publish("frames", ring)


@case("ReadOnly", "a new array where this process may only read")
def _(_: Path) -> object:
    arena = nds.Arena("4 MiB")
    nds.publish("arena", arena)
    return nds.zeros(3, arena=nds.attach("arena", readonly=True))


def look_as_nobody(conn: Connection) -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    try:
        nds.attach("offered", user=0, readonly=True, timeout=1)
    except nds.Error as error:
        conn.send(error)


@case("Refused", "an offer that is for others")
def _(_: Path) -> object:
    nds.publish("offered", nds.zeros(3, arena=nds.Arena("4 MiB", mode=0o640)), mode=0o640)
    with Child(look_as_nobody) as process:
        raise process.hear()


@case("Poisoned", "an arena in a file that was cut")
def _(folder: Path) -> object:
    path = folder / "arena.nds"
    nds.Arena("1 MiB", path=path).close()
    os.truncate(path, path.stat().st_size // 2)
    return nds.Arena(path=path)


@case("WrongKind", "a lock that is opened as a ring")
def _(_: Path) -> object:
    return _native.open_ring(_native.lock_token(nds.Lock()), None, None)


@case("WrongKind", "an arena where there is a file of something else")
def _(folder: Path) -> object:
    path = folder / "image.pgm"
    path.write_bytes(b"P5 640 480 " * 1000)
    return nds.Arena(path=path)


@case("Os", "what the system does not read")
def _(_: Path) -> object:
    return nds.Arena(path="/proc/self/mem")


@case("CopyWarning", "an array that another pickler copies")
def _(_: Path) -> object:
    nds.warn_copies()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return pickle.dumps(nds.zeros((2, 3)))
    finally:
        nds.warn_copies(False)


@case("BufferError", "a view that outlived its use")
def _(_: Path) -> object:
    overlay = nds.Overlay(raw={"A": (3, "f4")}, waves={"B": (3, "f4")})
    with overlay.use("raw") as v:
        kept = v.A[1:]
    with overlay.use("waves"):
        return kept


@case("Misuse", "a use within another use")
def _(_: Path) -> object:
    overlay = nds.Overlay(raw={"A": (3, "f4")}, waves={"B": (3, "f4")})
    with overlay.use("raw"), overlay.use("waves"):
        return None


@case("Misuse", "a field after its use")
def _(_: Path) -> object:
    overlay = nds.Overlay(raw={"A": (3, "f4")})
    with overlay.use("raw") as v:
        pass
    return v.A


def in_a_thread(work: Callable[[], object]) -> object:
    """Raise here what is raised there."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(HANG)
    raise raised[0]


# ---- arguments -------------------------------------------------------------------------------------------------------


def on_a_ring(work: Callable[[nds.Ring], object]) -> Callable[[Path], object]:
    return lambda _: work(nds.Ring(3, "uint8", slots=2, meta=[("gain", "f4")]))


def with_fields(put: Any) -> Callable[[Path], object]:
    return lambda _: nds.Ring(fields={"a": (3, "u1"), "b": (3, "f4")}, slots=2).put(put)


def note_without_room(_: Path) -> object:
    with nds.Ring(3, "uint8", slots=2).write() as frame:
        frame.note = "x" * 10_000
    return frame


@dataclass
class Pair:
    a: Any
    b: Any


def as_a_tree(kind: Any, name: str = "a") -> Callable[[Path], object]:
    """Ask for a field of a frame as something."""

    def run(_: Path) -> object:
        with nds.Ring(fields={"a": {"x": (3, "u1")}, "b": (3, "u1")}, slots=2).write() as frame:
            return frame[name].tree(kind)

    return run


def in_a_use(work: Callable[[Any], object]) -> Callable[[Path], object]:
    def run(_: Path) -> object:
        with nds.Overlay(raw={"A": (3, "f4")}).use("raw") as v:
            return work(v)

    return run


def named_twice(cls: type, first: Any, second: Any) -> Callable[[Path], object]:
    return lambda _: (cls(name="twice", **first), cls(name="twice", **second))


def lasting(work: Callable[[nds.Arena], object]) -> Callable[[Path], object]:
    return lambda folder: work(nds.Arena("1 MiB", path=folder / "arena.nds"))


class Fewer:
    """A class with too few fields."""


def plan() -> nds.fft.Plan:
    return nds.fft.plan_rfft2((4, 6), "uint16", "complex64")


def wrong(call: Any, *args: Any, **kwargs: Any) -> Callable[[Path], object]:
    return lambda _: call(*args, **kwargs)


def piped(*args: Any, **kwargs: Any) -> Callable[[Path], object]:
    return lambda _: nds.pipe(nds.Ring(3, slots=2).reader(), *args, **kwargs)


def through_a_pipe(f: Any, **options: Any) -> Callable[[Path], object]:
    def provoke(_: Path) -> object:
        ring, context = nds.Ring(3, "u1", slots=2), mp.get_context("fork")
        with nds.pipe(ring.reader(), f, nds.Ring(3, "u1", slots=2), workers=1, mp_context=context, **options), ring:
            return ring.put([1, 2, 3])

    return provoke


def two_of(frame: Any, out: Any = None) -> Any:
    """Return two arrays, or forget the `out` that is there for one."""
    return (frame, frame) if out is None else frame * 2


VALUE, TYPE = "InvalidValue", "InvalidType"
PRIVATE = np.zeros(3)
ARGUMENTS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "zeros: an object": (TYPE, wrong(nds.zeros, 3, object)),
    "zeros: align": (VALUE, wrong(nds.zeros, 3, align=3)),
    "zeros: arena": (TYPE, wrong(nds.zeros, 3, arena=3)),
    "zeros: order": (THEIRS, wrong(nds.zeros, 3, order="X")),
    "zeros: a closed arena": (VALUE, lambda _: closed_arena()),
    "array: copy=False": (VALUE, wrong(nds.array, [1, 2], copy=False)),
    "Arena: a budget that is none": (VALUE, wrong(nds.Arena, "lots")),
    "Arena: a negative budget": (VALUE, wrong(nds.Arena, -1)),
    "Arena: a budget of another type": (TYPE, wrong(nds.Arena, 1.5)),
    "Arena: no budget": (TYPE, wrong(nds.Arena)),
    "Arena: mode": (VALUE, wrong(nds.Arena, "1 MiB", mode=0o666)),
    "Arena: another budget on its path": (VALUE, lasting(lambda a: nds.Arena("2 MiB", path=a.path))),
    "Arena: another budget of its name": (VALUE, named_twice(nds.Arena, {"budget": "1 MiB"}, {"budget": "2 MiB"})),
    "Arena.publish: in memory": (
        VALUE,
        lambda _: nds.Arena("4 MiB").publish("x", nds.zeros(3)),
    ),
    "Arena.publish: of another arena": (
        VALUE,
        lasting(lambda a: a.publish("x", nds.zeros(3, arena=nds.Arena("4 MiB")))),
    ),
    "pipe: no reader": (TYPE, wrong(nds.pipe, [1, 2], die)),
    "pipe: no function": (TYPE, piped(3)),
    "pipe: no ring of results": (TYPE, piped(die, 3)),
    "pipe: no function as initializer": (TYPE, piped(die, initializer=3)),
    "pipe: no workers": (VALUE, piped(die, workers=0)),
    "pipe: timeout": (VALUE, piped(die, timeout=0)),
    "pipe: on_error": (VALUE, piped(die, on_error="stop")),
    "pipe: out without a shape": (TYPE, piped(die, None, out=True)),
    "pipe: another result than out": (TYPE, through_a_pipe(two_of, out=True)),
    "pipe: two results": (TYPE, through_a_pipe(two_of)),
    "publish: an array of NumPy's": (VALUE, wrong(nds.publish, "x", PRIVATE)),
    "publish: something else": (TYPE, wrong(nds.publish, "x", 3)),
    "publish: the name last": (TYPE, wrong(nds.publish, 3, "x")),
    "publish: a name that is none": (VALUE, lambda _: nds.publish("a/b", nds.zeros(3))),
    "publish: a mode for writing": (VALUE, lambda _: nds.publish("x", nds.zeros(3), mode=0o666)),
    "publish: a mode that its arena has not": (
        VALUE,
        lambda _: nds.publish("x", nds.zeros(3, arena=nds.Arena("4 MiB")), mode=0o640),
    ),
    "publish: a group that is none": (VALUE, wrong(nds.publish, "x", PRIVATE, mode=0o640, group="no such group")),
    "publish: a group without a mode": (VALUE, wrong(nds.publish, "x", PRIVATE, group="root")),
    "attach: a user without readonly": (VALUE, wrong(nds.attach, "x", user="root")),
    "attach: timeout": (VALUE, wrong(nds.attach, "x", timeout=-1)),
    "session: a name that is none": (VALUE, wrong(nds.session, "")),
    "session: a name with its @": (VALUE, wrong(nds.session, "@site")),
    "ref: an array of NumPy's": (VALUE, wrong(nds.ref, PRIVATE)),
    "ref: something else": (TYPE, wrong(nds.ref, 3)),
    "ref: a text that is none": (VALUE, wrong(nds.ref, "abc")),
    "Ring: slots": (VALUE, wrong(nds.Ring, 3, slots=0)),
    "Ring: when_full": (VALUE, wrong(nds.Ring, 3, slots=2, when_full="never")),
    "Ring: keep": (VALUE, wrong(nds.Ring, 3, slots=2, keep=9)),
    "Ring: meta": (TYPE, wrong(nds.Ring, 3, slots=2, meta="f4")),
    "Ring: spin": (VALUE, wrong(nds.Ring, 3, slots=2, spin=-1)),
    "Ring: another shape of its name": (
        VALUE,
        named_twice(nds.Ring, {"shape": 3, "slots": 2}, {"shape": 4, "slots": 2}),
    ),
    "Ring.put: a frame that is too large": (VALUE, on_a_ring(lambda ring: ring.put(np.zeros(9, "u1")))),
    "Ring.put: another dtype": (TYPE, on_a_ring(lambda ring: ring.put(np.zeros(3)))),
    "Ring.put: a number that is too large": ("OverflowError", on_a_ring(lambda ring: ring.put([1, 2, 300]))),
    "Ring.put: an unknown field": (TYPE, on_a_ring(lambda ring: ring.put([1, 2, 3], exposure=3))),
    "Ring.put: a field of another kind": (TYPE, on_a_ring(lambda ring: ring.put([1, 2, 3], gain="x"))),
    "Ring.put: meta": (TYPE, on_a_ring(lambda ring: ring.put([1, 2, 3], meta=3))),
    "Ring.put: a field without meta": (TYPE, lambda _: nds.Ring(3, slots=2).put([1, 2, 3], gain=3)),
    "Ring.put: a note that is no JSON": (TYPE, on_a_ring(lambda ring: ring.put([1, 2, 3], note={1, 2}))),
    "Ring: fields and a shape": (TYPE, wrong(nds.Ring, 3, slots=2, fields={"a": (3, "u1")})),
    "Ring: no fields": (VALUE, wrong(nds.Ring, slots=2, fields={})),
    "Ring: a field that is none": (TYPE, wrong(nds.Ring, slots=2, fields={"a": 3})),
    "Ring: fields in the order of NumPy": (TYPE, wrong(nds.Ring, slots=2, fields=[("a", "u1", (3, 4))])),
    "Ring: a field with dtype before shape": (TYPE, wrong(nds.Ring, slots=2, fields={"a": ("u1", (3, 4))})),
    "Ring.put: a missing field": (TYPE, with_fields({"a": [1, 2, 3]})),
    "Ring.put: a field of another shape": (VALUE, with_fields({"a": [1, 2], "b": [1, 2, 3]})),
    "Ring.put: a field of another dtype": (TYPE, with_fields({"a": [1.5, 2, 3], "b": [1, 2, 3]})),
    "Ring.put: an array where fields are": (TYPE, with_fields(np.zeros(3))),
    "Ring.put: an empty level": (VALUE, lambda _: nds.Ring(slots=2).put({"a": {}})),
    "frame.note: no room": (VALUE, note_without_room),
    "frame.tree: another class": (TYPE, as_a_tree(Pair)),
    "frame.tree: no class": (TYPE, as_a_tree(dict)),
    "frame.tree: an array": (TYPE, as_a_tree(Pair, "b")),
    "Ring.reader: latest and group": (VALUE, on_a_ring(lambda ring: ring.reader(latest=True, group="x"))),
    "Ring.reader: start": (VALUE, on_a_ring(lambda ring: ring.reader(start="middle"))),
    "Ring.reader: group": (TYPE, on_a_ring(lambda ring: ring.reader(group=3))),
    "Ring: another pickler": (TYPE, on_a_ring(pickle.dumps)),
    "Cache: another pickler": (TYPE, lambda _: pickle.dumps(nds.Cache("1 MiB"))),
    "Lock: another pickler": (TYPE, lambda _: pickle.dumps(nds.Lock())),
    "Cache: maxsize": (VALUE, wrong(nds.Cache, 0)),
    "Cache: entries": (VALUE, wrong(nds.Cache, "1 MiB", entries=0)),
    "Cache: ttl": (VALUE, wrong(nds.Cache, "1 MiB", ttl=-1)),
    "Cache: load": (TYPE, wrong(nds.Cache, "1 MiB", load=3)),
    "Cache: another size of its name": (VALUE, named_twice(nds.Cache, {"maxsize": "1 MiB"}, {"maxsize": "2 MiB"})),
    "Cache: a key without a value": (THEIRS, lambda _: nds.Cache("1 MiB")["tile"]),
    "Cache: a key that is none": (TYPE, lambda _: nds.Cache("1 MiB")[[1]]),
    "Cache: a value that is none": (TYPE, lambda _: nds.Cache("1 MiB").__setitem__("tile", object())),
    "Cache.fetch: a load that gives nothing": (TYPE, lambda _: nds.Cache("1 MiB").fetch("tile", lambda _: None)),
    "Cache.fetch_many: workers": (VALUE, lambda _: nds.Cache("1 MiB").fetch_many([1], workers=0)),
    "Cache.fetch_many: progress": (TYPE, lambda _: nds.Cache("1 MiB").fetch_many([1], progress=3)),
    "Lock.acquire: timeout": (THEIRS, lambda _: nds.Lock().acquire(timeout=-3)),
    "locked: an array of NumPy's": (VALUE, wrong(nds.locked, PRIVATE)),
    "locked: something else": (TYPE, wrong(nds.locked, 3)),
    "Overlay: no uses": (VALUE, wrong(nds.Overlay)),
    "Overlay: fields that are none": (TYPE, wrong(nds.Overlay, raw={"A": 3})),
    "Overlay: the name of a field": (VALUE, wrong(nds.Overlay, raw={"_a": (3, "f4")})),
    "Overlay: other fields of its name": (
        VALUE,
        named_twice(nds.Overlay, {"raw": {"A": (3, "f4")}}, {"raw": {"A": (4, "f4")}}),
    ),
    "Overlay.use: a use that is none": (VALUE, lambda _: nds.Overlay(raw={"A": (3, "f4")}).use("waves")),
    "Overlay.use: a field without with": (
        "AttributeError",
        lambda _: nds.Overlay(raw={"A": (3, "f4")}).use("raw").A,  # type: ignore[attr-defined]
    ),
    "Overlay.use: a class that does not fit": (
        TYPE,
        lambda _: nds.Overlay(raw={"A": (3, "f4")}).use("raw", fields=Fewer),
    ),
    "Overlay: a field that is none": ("AttributeError", in_a_use(lambda v: v.B)),
    "Overlay: a field is replaced": (TYPE, in_a_use(lambda v: setattr(v, "A", 3))),
    "concatenate: no arrays": (THEIRS, wrong(nds.concatenate, [])),
    "concatenate: workers": (VALUE, wrong(nds.concatenate, [PRIVATE], workers=0)),
    "copyto: something else": (THEIRS, wrong(nds.copyto, 3, PRIVATE)),
    "Canvas: another shape": (THEIRS, lambda _: nds.concatenate([PRIVATE], out=nds.Canvas((2, 2)))),
    "allocating: min_bytes": (VALUE, wrong(nds.allocating, -1)),
    "allocating: left before it is entered": ("Misuse", lambda _: nds.allocating().__exit__()),
    "reclaim: older_than": (VALUE, wrong(nds.reclaim, -1)),
    "enable: a library that is none": (VALUE, wrong(nds.enable, "nothing")),
    "enable: something else": (TYPE, wrong(nds.enable, 3)),
    "load: mmap_mode": (VALUE, wrong(nds.load, "x.npy", "w+")),
    "save: a directory": (
        "OSError",
        lambda folder: (folder.joinpath("d.npy").mkdir(), nds.save(folder / "d.npy", [1])),
    ),
    "fft: dtype": (TYPE, wrong(nds.fft.fft, [1], dtype="f4")),
    "fft: out": (VALUE, wrong(nds.fft.fft, [1, 2], out=np.zeros(3, complex))),
    "fft: norm": (THEIRS, wrong(nds.fft.fft, [1, 2], norm="x")),
    "fft: n": (THEIRS, wrong(nds.fft.fft, [1, 2], n=0)),
    "fft: plan": (VALUE, lambda _: nds.fft.rfft2(np.zeros((3, 3)), plan=plan())),
    "fft: a plan that is none": ("NotImplementedError", wrong(nds.fft.rfft2, np.zeros((3, 3)), plan=3)),
    "plan: a frame of another dtype": (VALUE, lambda _: plan()(np.zeros((4, 6)))),
    "plan: out": (VALUE, lambda _: plan()(np.zeros((4, 6), "u2"), out=np.zeros((4, 6)))),
    "plan_rfft2: shape": (VALUE, wrong(nds.fft.plan_rfft2, (3,))),
    "plan_rfft2: dtype": (TYPE, wrong(nds.fft.plan_rfft2, (3, 3), "S3")),
    "plan_rfft2: result_dtype": (TYPE, wrong(nds.fft.plan_rfft2, (3, 3), "f4", "f4")),
    "Plan.convolve: an image that is too large": (VALUE, lambda _: plan().convolve(np.zeros((9, 9)))),
    "Plan.convolve: another plan": (VALUE, lambda _: nds.fft.plan_fft2((3, 3)).convolve([[1]])),
}
CASES += [Case("arguments", kind, title, provoke) for title, (kind, provoke) in ARGUMENTS.items()]


def closed_arena() -> object:
    arena = nds.Arena("1 MiB")
    arena.close()
    return nds.zeros(3, arena=arena)


# ---- other machines --------------------------------------------------------------------------------------------------

PLACE = "tcp/127.0.0.1:17441"


@contextmanager
def connected() -> Iterator[Any]:
    from ndshare import net

    def load(key: str) -> Any:
        raise FileNotFoundError(2, "no such tile", key)

    with net.serve(PLACE, caches={"tiles": nds.Cache("1 MiB", load)}), net.connect(PLACE) as far:
        yield far


@case("net.Unreachable", "a machine that does not answer", "net")
def _(_: Path) -> object:
    from ndshare import net

    return net.connect("tcp/127.0.0.1:17440", timeout=0.3)


@case("net.FarLoadError", "a loader that fails on the other machine", "net")
def _(_: Path) -> object:
    with connected() as far:
        return nds.Cache("1 MiB", load=far.loader("tiles"))["a"]


@case("net.Unreachable", "a cache that the other machine does not have", "net")
def _(_: Path) -> object:
    with connected() as far:
        return nds.Cache("1 MiB", load=far.loader("nothing"))["a"]


@case("net.NameTaken", "a name that another server has", "net")
def _(_: Path) -> object:
    from ndshare import net

    ring = nds.Ring(3, "uint8", slots=2)
    with net.serve(PLACE, rings={"cam": ring}):
        return net.serve("tcp/127.0.0.1:17442", rings={"cam": ring}, config={"connect": {"endpoints": [PLACE]}})


@case("net.Incompatible", "a server of another protocol", "net")
def _(_: Path) -> object:
    from ndshare import net
    from ndshare.net import _wire
    from test_net import impostor

    with impostor(_wire.told({"protocol": 99, "ndshare": "7.0", "host": "elsewhere"})) as place:
        return net.connect(place, timeout=HANG)


@case(VALUE, "nothing to offer", "net")
def _(_: Path) -> object:
    from ndshare import net

    return net.serve(PLACE)


# ---- what they say ---------------------------------------------------------------------------------------------------

VARIES = {
    r"\b(process|pid) \d+ \([\w.:-]+\)": r"\1 <pid> (<name>)",
    r"\b(process|pid) \d+": r"\1 <pid>",
    r"\b[0-9a-f]{16}\b": "<id>",
    r"0x[0-9a-f]{6,}": "<address>",
    r"block \d+ of generation \d+": "block <index> of generation <generation>",
    r"\buser \d+\b": "user <uid>",
    r"127\.0\.0\.1:\d+": "127.0.0.1:<port>",
    r"of ndshare \d[\w.]*(?= on (?!elsewhere))": "of ndshare <version>",
    r"\bis \d+\.\d+ s old": "is <age> s old",
    r"\bwould be \d+ on the": "would be <time> on the",
    r"\d+ of something else": "<size> of something else",
}


def said(error: BaseException, folder: Path) -> str:
    """Return class and message of an error, without what differs from run to run."""
    cls = type(error)
    text = f"{cls.__name__ if cls.__module__ == 'builtins' else f'{cls.__module__}.{cls.__name__}'}: {error}"
    text = text.replace(str(folder), "<folder>").replace(os.uname().nodename, "<host>")
    for pattern, instead in VARIES.items():
        text = re.sub(pattern, instead, text)
    return text


def raised(one: Case, folder: Path) -> str:
    # A name is for one case only.
    folder = folder / f"case {CASES.index(one)}"
    folder.mkdir()
    try:
        got = one.provoke(folder)
    except (Exception, nds.CopyWarning) as error:
        return said(error, folder)
    finally:
        for name in nds.names():
            nds.unpublish(name)
    raise AssertionError(f"{one.title}: expected an error, got {got!r}")


def kept() -> dict[str, str]:
    """Return what the file says: messages by title."""
    pairs = re.findall(r"^## (.*)\n\n((?:    .*\n)+)", SNAPSHOT.read_text(), re.MULTILINE)
    return {title: "\n".join(line[4:] for line in text.splitlines()) for title, text in pairs}


def write(messages: dict[str, str]) -> None:
    """Write the file anew: what was provoked, and what was there of the rest."""
    known = {**(kept() if SNAPSHOT.exists() else {}), **messages}
    parts = ["What the errors say that users of Python can meet. `test_error_messages.py` writes and checks it.\n"]
    for one in CASES:
        if one.title in known:
            lines = known[one.title].split("\n")
            parts.append(f"## {one.title}\n\n" + "".join(f"    {line}\n" for line in lines))
    SNAPSHOT.write_text("\n".join(parts))


def provokable(group: str) -> list[Case]:
    wants_root = {"Foreign", "Refused"}
    return [one for one in CASES if one.group == group and (os.geteuid() == 0 or one.kind not in wants_root)]


@pytest.fixture
def folder(
    runtime: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """Give a test a place for files, and one for offers that others may go through."""
    place = Path("/dev/shm") / f"ndshare-tests-errors-{os.getpid()}"
    place.mkdir(mode=0o777)
    place.chmod(0o1777)
    monkeypatch.setenv("NDSHARE_OFFERS", str(place))
    yield tmp_path
    for left in sorted(place.rglob("*"), reverse=True):
        left.rmdir() if left.is_dir() else left.unlink()
    place.rmdir()


@pytest.mark.parametrize("group", ["states", "arguments", "net"])
def test_errors_say_what_they_are_known_to_say(group: str, folder: Path) -> None:
    if group == "net":
        pytest.importorskip("zenoh", reason="eclipse-zenoh is not installed")
    messages = {one.title: raised(one, folder) for one in provokable(group)}
    if os.environ.get("NDSHARE_WRITE_ERRORS"):
        write(messages)
    known = kept()
    if np.lib.NumpyVersion(np.__version__) < "2.2.0":  # it says this in other words
        messages.pop("copyto: something else", None)
    assert messages == {title: known.get(title) for title in messages}


# What was expected and what was found, or else what to do.
CLEAR = re.compile(
    r"expected .*\b(got|but|none|neither)\b|[:;.] (make|choose|wait|call|Drop|send|end)\b|has wrong shape", re.DOTALL
)
# What needs no word more: the end of a stream, and what the system said.
ENOUGH = {"a ring that was closed, to its reader", "what the system does not read"}


def test_each_error_says_what_was_expected_or_what_to_do() -> None:
    known = kept()
    assert list(known) == [one.title for one in CASES]
    ours = [one.title for one in CASES if one.kind not in {THEIRS, "Interrupted"} and one.title not in ENOUGH]
    assert [known[title] for title in ours if not CLEAR.search(known[title])] == []
    assert not CLEAR.search("ValueError: bad value")


def test_every_kind_of_error_is_known() -> None:
    source = (ROOT / "crates" / "ndshare" / "src" / "error.rs").read_text()
    variants = source[source.index("variants! {\n    with data:") :].split("}")[0]
    kinds = set(re.findall(r"\b[A-Z]\w+", variants))
    assert len(kinds) > 15
    assert kinds <= {one.kind for one in CASES}
    classes = {
        name for name in nds.__all__ if isinstance(cls := getattr(nds, name), type) and issubclass(cls, Exception)
    }
    far = {
        f"net.{name}"
        for name in re.findall(r"^class (\w+)\(", (ROOT / "python/ndshare/net/_errors.py").read_text(), re.M)
    }
    seen = set(re.findall(r"^    ndshare\.([\w.]+):", SNAPSHOT.read_text(), re.MULTILINE))
    assert (classes | far) - seen == set()
