"""Consumers that only look: `nds.attach(name, readonly=True)`. What they have lies in memory without write permission.

Viewers are strangers: new interpreters with a session of their own. The camera is this process.
"""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from helpers import HANG, NO_DESCRIPTORS, Puppet, environment, held, run, wait_until
from test_strangers import ask, running, said, stranger
from test_strangers import runtime as runtime  # noqa: PLC0414  (a fixture)

# What viewers begin with: `access` of the mapping that an array's first byte is in, and `refused`.
LOOK = """
import ctypes, gc, os, sys, time
import multiprocessing as mp
import numpy as np
import ndshare as nds

def access(array):
    at = array.ctypes.data
    for line in open("/proc/self/maps"):
        span, flags = line.split()[:2]
        first, last = (int(end, 16) for end in span.split("-"))
        if first <= at < last:
            return flags
    raise AssertionError(f"{at:#x} is not mapped")

def refused(call, *args, error=nds.ReadOnly, **kwargs):
    try:
        call(*args, **kwargs)
    except error as caught:
        return str(caught)
    raise AssertionError(f"{call} worked")

def attach(name):
    return nds.attach(name, timeout=20, readonly=True)
"""


def viewer(source: str, *args: str) -> str:
    return stranger(LOOK + source, *args)


ARRAYS = """
a = attach("array")
assert (a.shape, a.strides, a.dtype, access(a)) == ((2, 3), (48, 16), "f8", "r--s")
assert a.tolist() == [[0, 2, 4], [6, 8, 10]] and nds.is_shared(a)
assert "read-only" in repr(a.base) and memoryview(a).readonly and not a.flags.writeable
refused(a.setflags, write=True, error=ValueError)
for view in a, a[1:], a.T, a.view("i8"), np.asarray(a), np.frombuffer(a.base, np.uint8), attach("array"):
    refused(setattr, view.flags, "writeable", True, error=ValueError)
    refused(view.__setitem__, ..., 1, error=ValueError)
refused(np.copyto, a, 1, error=ValueError)
refused(nds.copyto, a, np.ones((2, 3)), error=ValueError)
refused(nds.concatenate, [np.ones((1, 3))] * 2, out=a, error=ValueError)
refused(nds.stack, [np.ones(3)] * 2, out=a, error=ValueError)
refused(nds.fft.fft, np.ones((2, 3)), out=attach("complex"), error=ValueError)
refused(nds.fft.fft, attach("complex"), overwrite_x=False, out=attach("complex"), error=ValueError)
plan = nds.fft.plan_rfft2((4, 4), np.float32, np.complex64)
refused(plan, np.ones((4, 4), np.float32), out=attach("spectrum"), error=ValueError)
assert nds.asarray(a, align=8) is a
# What is made of it here is this process's own, and writable.
own = nds.array(a)
own += 1
assert (nds.concatenate([a, a], axis=1)[0].tolist(), access(own)) == ([0, 2, 4, 0, 2, 4], "rw-s")
with nds.locked(a, timeout=5):
    pass
PROT_READ_WRITE = 3
libc = ctypes.CDLL(None, use_errno=True)
page = a.ctypes.data // 4096 * 4096
assert libc.mprotect(ctypes.c_void_p(page), 4096, PROT_READ_WRITE) == -1 and ctypes.get_errno() == 13
print(a.sum())
"""


def test_an_array_has_no_write_permission_and_cannot_get_it() -> None:
    whole = nds.array(np.arange(12.0).reshape(2, 6))
    nds.publish("array", whole[:, ::2])
    nds.publish("complex", nds.zeros((2, 3), np.complex128))
    nds.publish("spectrum", nds.zeros((4, 3), np.complex64))
    assert viewer(ARRAYS) == "30.0"
    assert whole.tolist() == np.arange(12.0).reshape(2, 6).tolist()


RING = """
ring = attach("ring")
assert (ring.shape, ring.dtype, ring.slots) == ((4,), "uint8", 4)
reader, latest, oldest = ring.reader(), ring.reader(latest=True), ring.reader(start="oldest")
print("ready", flush=True)
frame = reader.get(timeout=20)
assert (frame.seq, frame.tolist(), frame.meta["x"], access(frame)) == (1, [1, 2, 3, 4], 7, "r--s")
refused(frame.setflags, write=True, error=ValueError)
assert oldest.get(timeout=20).tolist() == [9, 9, 9, 9]
assert latest.get(timeout=20).tolist() == [1, 2, 3, 4]
assert ring.stats()["readers"][0]["pid"] == os.getpid()
def write():
    with ring.write():
        pass
for call in write, ring.writer, ring.close, ring.__enter__, lambda: ring.put([1, 2, 3, 4]), lambda: ring.put(frame):
    text = refused(call, error=PermissionError)
    assert "read only" in text and "without readonly" in text, text
refused(reader.get, timeout=0, error=nds.Empty)
print("read", flush=True)
assert [frame.tolist() for frame in reader] == [[5, 6, 7, 8]]
print("end", frame.tolist(), flush=True)
"""


def test_a_reader_without_write_permission_reads_as_others_do() -> None:
    base = held()
    ring = nds.Ring(4, np.uint8, slots=4, keep=1, meta=[("x", "i4")])
    ring.put([9, 9, 9, 9])
    nds.publish("ring", ring)
    with running(LOOK + RING) as other:
        assert said(other) == "ready"
        readers = ring.stats()["readers"]
        assert len(readers) == 3
        ring.put([1, 2, 3, 4], x=7)
        assert said(other) == "read"
        readers = ring.stats()["readers"]
        assert sorted(reader["lag"] for reader in readers) == [0, 0, 1]
        assert all(reader["pid"] == other.pid and reader["alive"] for reader in readers)
        with ring:
            ring.put([5, 6, 7, 8])
        assert said(other) == "end [1, 2, 3, 4]"
        other.wait(HANG)
    assert ring.stats()["readers"] == []
    nds.unpublish("ring")
    del ring
    assert held() == base


WAITS = """
reader = attach("ring").reader()
kept = [reader.get(timeout=20) for _ in range(2)]
print("holds", flush=True)
reader.get()
"""


def test_a_viewer_that_is_killed_holds_nobody_back() -> None:
    ring = nds.Ring(1000, np.uint8, slots=3)
    nds.publish("ring", ring)
    with running(LOOK + WAITS) as other:
        assert wait_until(lambda: len(ring.stats()["readers"]) == 1)
        for number in range(2):
            ring.put(np.full(1000, number, np.uint8))
        assert said(other) == "holds"
        others = [one["pid"] for one in nds.stats()["participants"] if not one["me"]]
        assert others == [other.pid]
        other.kill()
        other.wait(HANG)
    for number in range(10):
        ring.put(np.full(1000, number, np.uint8), timeout=20)
    assert [one["pid"] for one in nds.stats()["participants"]] == [os.getpid()]
    assert ring.stats()["readers"] == []


SCRIBBLES = """
thing = attach(sys.argv[1])
if sys.argv[1] == "ring":
    thing = thing.reader(start="oldest").get(timeout=20)
elif sys.argv[1] == "cache":
    thing = thing["key"]
elif sys.argv[1] == "overlay":
    thing = thing.use("floats").__enter__().A
print(access(thing), thing.flat[0], flush=True)
ctypes.memset(thing.ctypes.data, 0xFF, thing.nbytes)
"""


@pytest.mark.parametrize("kind", ["array", "ring", "cache", "overlay"])
def test_a_write_through_a_pointer_ends_the_viewer_and_damages_nothing(kind: str) -> None:
    array, cache = nds.full(5000, 7.0), nds.Cache("1 MiB")
    ring = nds.Ring(5000, np.float64, slots=3, keep=1)
    overlay = nds.Overlay(floats={"A": (5000, "f8")}, ints={"B": (5000, "i8")})
    ring.put(array)
    cache["key"] = array
    with overlay.use("floats") as fields:
        fields.A[:] = 7
    del fields
    for name, thing in {"array": array, "ring": ring, "cache": cache, "overlay": overlay}.items():
        nds.publish(name, thing)
    done = run(LOOK + SCRIBBLES, kind, env=environment())
    assert (done.code, done.out.strip()) == (-signal.SIGSEGV, "r--s 7.0")
    ring.put(array + 1, timeout=20)
    reader = ring.reader(start="oldest")
    frames = [float(frame.sum()) for frame in (reader.get(timeout=5), reader.get(timeout=5))]
    with overlay.use("floats", timeout=20) as fields:
        assert (fields.A == 7).all()
        assert fields.first
    del fields
    assert (frames, (array == 7).all(), (cache["key"] == 7).all()) == ([35e3, 40e3], True, True)
    assert len(nds.stats()["participants"]) == 1


OTHERS = """
cache = attach("cache")
value = cache["key"]
assert value.tolist() == [0, 1, 2] and access(value) == "r--s" and "key" in cache and len(cache) == 1
assert cache.get("other") is None and cache.info()["hits"] >= 1
refused(lambda: cache["none"], error=KeyError)
for call in (
    lambda: cache.__setitem__("key", np.arange(2)), lambda: cache.__delitem__("key"), cache.clear,
    lambda: cache.resize("2 MiB"), lambda: cache.fetch("new", lambda key: np.arange(2)),
    lambda: cache.__setitem__("key", value),
):
    assert "the cache" in refused(call)
assert cache.fetch("key", lambda key: 1 / 0, timeout=5).tolist() == [0, 1, 2]

overlay = attach("overlay")
with overlay.use("floats", timeout=5) as v:
    assert v.A.tolist() == [1, 1, 1] and access(v.A) == "r--s" and not v.A.flags.writeable
    refused(v.A.setflags, write=True, error=ValueError)
    refused(v.A.__setitem__, 0, 1, error=ValueError)
    print(ask_camera("inside"), flush=True)
with overlay.use("ints", timeout=5) as v:
    assert access(v.B) == "r--s"
del v

lock = attach("lock")
assert lock.locked() and not lock.acquire(timeout=0.01)

arena = attach("arena")
for shape in 3, 100_000:
    for make in nds.empty, nds.zeros, nds.ones:
        assert "a new block" in refused(make, shape, arena=arena)
    refused(nds.full, shape, 1, arena=arena)
    for make in nds.array, nds.asarray:
        refused(make, np.ones(shape), arena=arena)
refused(nds.Ring, 3, np.uint8, slots=2, arena=arena)
refused(nds.Cache, "1 MiB", arena=arena)
refused(nds.Cache, "1 MiB", name="tiles", arena=arena)
refused(nds.Ring, 3, np.uint8, slots=2, name="none", arena=attach("bare"))
refused(nds.Canvas, (3, 3), arena=arena)
refused(nds.Lock, arena=arena)
refused(nds.allocating, arena=arena)
named = nds.Ring(3, np.uint8, slots=2, name="named", arena=arena)
assert named.reader(start="oldest").get(timeout=5).tolist() == [1, 2, 3]
refused(named.put, [1, 2, 3])
assert nds.stats(arena)["id"] == arena.id
"""


def test_caches_overlays_locks_and_arenas_are_looked_at() -> None:
    cache, lock, arena = nds.Cache("1 MiB"), nds.Lock(), nds.Arena("16 MiB")
    overlay = nds.Overlay(floats={"A": (3, "f8")}, ints={"B": (3, "i8")})
    with overlay.use("floats") as v:
        v.A[:] = 1
    del v
    cache["key"] = np.arange(3)
    named = nds.Ring(3, np.uint8, slots=2, keep=1, name="named", arena=arena)
    with pytest.raises(ValueError, match="keep 1"):
        nds.Ring(3, np.uint8, slots=2, name="named", arena=arena)
    del named
    gc.collect()
    named = nds.Ring(3, np.uint8, slots=2, name="named", arena=arena)
    named.put([1, 2, 3])
    bare = nds.Arena("8 MiB")
    for name, thing in {"cache": cache, "lock": lock, "arena": arena, "bare": bare, "overlay": overlay}.items():
        nds.publish(name, thing)
    source = "ask_camera = lambda text: (print(text, flush=True), input())[1]\n"
    with lock, running(LOOK + source + OTHERS) as other:
        assert said(other) == "inside"
        with pytest.raises(nds.Timeout, match="another use"), overlay.use("ints", timeout=0.2):
            pass
        assert ask(other, "go") == "go"
        assert other.wait(HANG) == 0
    assert (cache["key"].tolist(), list(cache)) == ([0, 1, 2], ["key"])
    assert named.put([4, 5, 6], timeout=5) == 1


TRAVELS = """
def seen(array):
    return access(array), array.flags.writeable, float(array.sum())

def refuses(arena):
    return refused(nds.zeros, 3, arena=arena)

def scribble(array):
    ctypes.memset(array.ctypes.data, 0, array.nbytes)

def frames(ring):
    reader = ring.reader(start="oldest")
    print(seen(reader.get(timeout=20)), flush=True)
    return refused(ring.put, np.ones(100))

def run(context, function, argument):
    with context.Pool(1) as pool:
        return pool.apply(function, (argument,))

if __name__ == "__main__":
    array, ring, arena = attach("array"), attach("ring"), attach("arena")
    for method in "fork", "spawn":
        context = mp.get_context(method)
        for thing in array, array[::2], ring.reader(start="oldest").get(timeout=20):
            assert run(context, seen, thing) == ("r--s", False, float(thing.sum())), method
        assert "read only" in run(context, refuses, arena)
        assert "read only" in run(context, frames, ring)
        process = context.Process(target=scribble, args=(array,))
        process.start()
        process.join(20)
        assert process.exitcode == -11, process.exitcode
    # A plain fork has what its parent had.
    pid = os.fork()
    if pid == 0:
        assert access(array) == "r--s" and attach("array").ctypes.data == array.ctypes.data
        refused(ring.writer)
        frame = ring.reader(start="oldest").get(timeout=20)
        ctypes.memset(frame.ctypes.data, 0, 8)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -11
    # By a text to a process that has the arena not at all, and back to the camera.
    reference = nds.ref(array)
    nds.publish("again", array)
    print(reference, flush=True)
    input()
"""


def test_what_a_viewer_sends_on_is_read_only_there() -> None:
    array = nds.ones(100)
    ring, arena = nds.Ring(100, np.float64, slots=4, keep=2), nds.Arena("8 MiB")
    mutable = array[:]  # what a ring has published is read-only by its own name
    ring.put(array)
    for name, thing in {"array": array, "ring": ring, "arena": arena}.items():
        nds.publish(name, thing)
    with running(LOOK + TRAVELS) as other:
        lines = [said(other) for _ in range(3)]
        assert lines[:2] == ["('r--s', False, 100.0)"] * 2
        reference = lines[2]
        opened = "a = nds.ref(sys.argv[1]).open()\nprint(access(a), a.flags.writeable, nds.stats()['id'])"
        flags, writeable, _ = viewer(opened, reference).split()
        assert (flags, writeable) == ("r--s", "False")
        # The camera has the memory with write permission; what it is sent is read-only all the same.
        mine = nds.ref(reference).open()
        assert (mine.ctypes.data, mine.flags.writeable) == (array.ctypes.data, False)
        with pytest.raises(ValueError, match="WRITEABLE"):
            mine.flags.writeable = True
        again = "a = nds.attach('again', timeout=5)\nprint(access(a), len(nds.names()))"
        assert viewer(again) == "r--s 4"
    assert (array == 1).all()
    del mine
    mutable += 1


def test_a_process_that_has_the_memory_has_it_a_second_time() -> None:
    base = held()
    array, ring = nds.zeros(1000), nds.Ring(4, np.uint8, slots=4)
    overlay = nds.Overlay(floats={"A": (3, "f8")})
    for name, thing in {"array": array, "ring": ring, "overlay": overlay}.items():
        nds.publish(name, thing)
    same = nds.attach("array", readonly=True)
    assert same.ctypes.data != array.ctypes.data
    assert nds.attach("array").ctypes.data == array.ctypes.data
    assert nds.attach("array", readonly=True).ctypes.data == same.ctypes.data
    array[:] = 3
    assert same.sum() == 3000
    assert not same.flags.writeable
    assert nds.is_shared(same)
    assert len(nds.stats()["participants"]) == 2
    reader = nds.attach("ring", readonly=True).reader()
    ring.put([1, 2, 3, 4])
    frame = reader.get(timeout=5)
    assert ring.put(frame) == 1, "it is copied"
    assert frame.tolist() == reader.get(timeout=5).tolist() == [1, 2, 3, 4]
    looked = nds.attach("overlay", readonly=True)
    with looked.use("floats") as v, overlay.use("floats") as w:
        assert (v.A.flags.writeable, w.A.flags.writeable) == (False, True)
    del v, w, looked
    with nds.locked(array, same, timeout=5):
        pass
    assert nds.concatenate([array, same]).sum() == 6000
    with Puppet("spawn") as child:
        assert child.do("arena_id") == nds.stats()["id"]
    for name in "array", "ring", "overlay":
        nds.unpublish(name)
    del same, reader, frame, array, ring, overlay, thing
    gc.collect()
    assert len(nds.stats()["participants"]) == 1
    assert held() == base


def test_a_viewer_may_join_the_session_that_it_looked_at() -> None:
    nds.publish("array", nds.zeros(10))
    source = """
    array = attach("array")
    other = nds.attach("array")
    assert (access(array), access(other)) == ("r--s", "rw-s")
    other[:] = 4
    assert array.sum() == 40
    del other
    gc.collect()
    assert nds.attach("array").flags.writeable
    print(nds.zeros(1).sum(), array.sum())
    """
    assert stranger(LOOK + "\n".join(line.removeprefix("    ") for line in source.splitlines())) == "0.0 40.0"
    assert nds.attach("array").sum() == 40


SHORT = (
    """
import resource
array = attach("array")
nds.zeros(1)
"""
    + NO_DESCRIPTORS
    + """for _ in range(8):
    try:
        other = nds.attach("other", timeout=0, readonly=True)
        assert (access(other), other.tolist()) == ("r--s", [5])
        del other
    except nds.Error as error:
        assert "descriptor" in str(error) or "open files" in str(error), error
    os.close(taken.pop())
print(access(array), array.sum(), access(attach("other")), nds.names())
"""
)


def test_without_descriptors_it_is_an_error_and_what_there_is_stays() -> None:
    base = held()
    array, arena = nds.full(10, 2.0), nds.Arena("8 MiB")
    other = nds.array([5], arena=arena)
    nds.publish("array", array)
    nds.publish("other", other)
    assert viewer(SHORT) == "r--s 20.0 r--s {'array': 'array', 'other': 'array'}"
    assert nds.unpublish("array")
    del array
    assert (held(), nds.names()) == (base, {"other": "array"})


def test_names_that_are_looked_for_are_looked_for_as_ever(runtime: Path) -> None:
    with pytest.raises(nds.Timeout, match='"none"'):
        nds.attach("none", timeout=0, readonly=True)
    nds.publish("array", nds.zeros(3))
    array = nds.attach("array", readonly=True)
    assert nds.unpublish("array")
    nds.publish("array", array)
    assert nds.names() == {"array": "array"}
    assert viewer("print(nds.attach('array').flags.writeable)") == "False"
    del array
    assert nds.unpublish("array")
    assert not (runtime / "ndshare").exists()


def test_the_error_is_a_permission_error_of_ours() -> None:
    nds.publish("arena", nds.Arena("8 MiB"))
    arena: Any = nds.attach("arena", readonly=True)
    with pytest.raises(nds.ReadOnly, match=f"arena {arena.id}.*read only.*without readonly") as caught:
        nds.zeros(3, arena=arena)
    assert isinstance(caught.value, nds.Error)
    assert isinstance(caught.value, PermissionError)
    with pytest.raises(TypeError):
        nds.attach("arena", readonly="yes")  # type: ignore[arg-type]
