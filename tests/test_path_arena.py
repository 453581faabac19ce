"""Arenas on a path: what has a name in the file is found again by the next process, however the last one ended.

Each test works on a RAM drive and on a disk. Children are forked, or new interpreters; nobody has the file open when it
is opened again, unless the test says so.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing as mp
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from helpers import HANG, MIB, NO_DESCRIPTORS, ROUNDS, Tables, environment, held, planted, run, script, wait_until
from ndshare import _native
from test_strangers import running, said

SHM = Path("/dev/shm")
KINDS = ("mend:", "name:", "ring:", "cache:", "block-lock:", "split:", "warm:", "alloc:", "free:", "issue:", "remove:")
POINTS: list[str] = [point for point in _native.KILL_POINTS if not point.startswith(("directory:", "offer:", "fork:"))]
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else, and mount")
needs_points = pytest.mark.skipif(not POINTS, reason="this build has no kill points; build with --features killpoints")


@pytest.fixture(params=["ram", "disk"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Give the path of a file that is not there yet."""
    if request.param == "disk":
        yield tmp_path / "a.nds"
        return
    folder = Path(tempfile.mkdtemp(prefix="path-test-", dir=SHM))
    yield folder / "a.nds"
    shutil.rmtree(folder)


def forked(work: Callable[[], None], *, dies: bool = False) -> None:
    """Do something in a child, which must not fail; or which must be killed."""
    if not (child := os.fork()):
        signal.alarm(60)
        try:
            work()
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)
            gc.collect()
            code = 0
        except BaseException:
            traceback.print_exc()
            code = 1
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == (-signal.SIGKILL if dies else 0)


# ---- found again ----------------------------------------------------------------------------------------------------

USES: dict[str, dict[str, tuple[Any, str]]] = {"floats": {"A": (6, "f4")}, "ints": {"D": (6, "i4")}}


def fill(path: Path) -> None:
    """Make one of each in a new arena."""
    arena = nds.Arena("64 MiB", path=path)
    whole = nds.zeros((4, 6), [("x", "f4"), ("y", "i2")], arena=arena)
    whole["x"] = np.arange(24).reshape(4, 6)
    arena.publish("view", whole[::-1, ::2])
    fixed = nds.array([1, 2], arena=arena)
    fixed.flags.writeable = False
    arena.publish("fixed", fixed)
    cache = nds.Cache("4 MiB", arena=arena)
    for key in range(10):
        cache[key] = np.full(1000, key)
    arena.publish("cache", cache)
    ring = nds.Ring((100, 100), np.uint16, slots=8, keep=3, when_full="drop_oldest", arena=arena, name="ring")
    frames = ring.reader()
    for number in range(10):
        ring.put(np.full((100, 100), number, np.uint16))
    next(frames)
    lock = nds.Lock(arena=arena)
    arena.publish("lock", lock)
    overlay = nds.Overlay(**USES, arena=arena)
    with overlay.use("floats") as v:
        v.A[:] = 1
    arena.publish("overlay", overlay)
    nds.zeros(1000, arena=arena)  # has no name, and goes


def check(path: Path) -> None:
    """Find them again, whole, and use them."""
    with nds.Arena(path=path) as arena:
        kinds = {
            "view": "array",
            "fixed": "array",
            "cache": "cache",
            "ring": "ring",
            "lock": "lock",
            "overlay": "overlay",
        }
        assert list(arena.names().items()) == sorted(kinds.items())
        view = arena.attach("view")
        assert (view.shape, view.dtype.descr) == ((4, 3), [("x", "<f4"), ("y", "<i2")])
        assert view["x"].tolist() == np.arange(24).reshape(4, 6)[::-1, ::2].tolist()
        view["y"] += 1
        fixed = arena.attach("fixed", timeout=0)
        assert not fixed.flags.writeable
        assert fixed.tolist() == [1, 2]
        cache = arena.attach("cache")
        assert [int(cache[key][-1]) for key in range(10)] == list(range(10))
        cache["new"] = np.arange(3)
        assert cache.fetch("other", lambda _: np.ones(2)).tolist() == [1, 1]
        ring = arena.attach("ring")
        assert (ring.shape, ring.dtype, ring.slots) == ((100, 100), "uint16", 8)
        first = ring.stats()["written"]
        frames = ring.reader(start="oldest")
        kept = [frames.get(timeout=0)]
        while kept[-1].seq < first - 1:
            kept.append(frames.get(timeout=0))
        assert [frame.seq for frame in kept] == list(range(kept[0].seq, first))
        assert len(kept) >= 3
        assert all((frame == frame[0, 0]).all() for frame in kept)
        with arena.attach("lock"):
            pass
        with arena.attach("overlay").use("floats", timeout=5) as v:
            assert (v.A == 1).all()


@pytest.mark.parametrize("dies", [False, True])
def test_each_kind_is_found_by_the_next_process(path: Path, dies: bool) -> None:
    forked(lambda: fill(path), dies=dies)
    before = held()
    check(path)
    gc.collect()
    forked(lambda: check(path), dies=dies)
    assert held() == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_names_of_objects_and_those_of_the_arena_are_the_same(path: Path) -> None:
    def first() -> None:
        arena = nds.Arena("64 MiB", path=path)
        nds.Cache("1 MiB", name="tiles", arena=arena)["k"] = np.arange(4)
        nds.Lock(name="lock", arena=arena)
        nds.Overlay(**USES, name="memory", arena=arena)

    forked(first)
    with nds.Arena("64 MiB", path=path) as arena:
        assert arena.names() == {"lock": "lock", "memory": "overlay", "tiles": "cache"}
        assert nds.Cache("1 MiB", name="tiles", arena=arena)["k"].tolist() == [0, 1, 2, 3]
        with pytest.raises(ValueError, match="expected the sizes of the cache"):
            nds.Cache("2 MiB", name="tiles", arena=arena)
        with pytest.raises(ValueError, match="kind cache"):
            nds.Lock(name="tiles", arena=arena)


def test_the_stream_of_a_ring_goes_on_after_a_restart(path: Path) -> None:
    """Readers and writers of dead processes are gone, the last frames are there, and numbers go on."""

    def writer(first: int) -> None:
        with nds.Arena("64 MiB", path=path) as arena:
            ring = nds.Ring(4, np.int64, slots=4, keep=2, name="ring", arena=arena)
            stays = ring.reader()  # holds the ring back, until this process is dead
            ring.__enter__()
            for number in range(first, first + 4):
                assert ring.put(np.full(4, number), timeout=10) == number
            os.kill(os.getpid(), signal.SIGKILL)
            del stays

    forked(lambda: writer(0), dies=True)
    forked(lambda: writer(4), dies=True)
    with nds.Arena(path=path) as arena:
        ring = arena.attach("ring")
        stats = ring.stats()
        frames = ring.reader(start="oldest")
        seen = [int(frames.get(timeout=0)[0]) for _ in range(4)]
        assert (stats["written"], seen) == (8, [4, 5, 6, 7])
        with pytest.raises((nds.Empty, nds.WriterDied)):
            frames.get(timeout=0.01)
        assert [reader["alive"] for reader in ring.stats()["readers"]] == [True]
        with ring:
            ring.put(np.full(4, 8))
        assert int(frames.get(timeout=5)[0]) == 8


def test_a_name_keeps_and_unpublish_gives_back(path: Path) -> None:
    with nds.Arena("32 MiB", path=path) as arena:
        arena.publish("small", nds.zeros(10, arena=arena))
        assert arena.unpublish("small")
        gc.collect()
        base = nds.stats(arena)["bytes"]
        arena.publish("x", nds.ones(MIB, np.uint8, arena=arena))
        assert nds.stats(arena)["bytes"] >= base + MIB
        other = nds.full(MIB, 2, np.uint8, arena=arena)
        with pytest.raises(RuntimeError, match=r'"x" to be free in this arena, got array.*replace=True'):
            arena.publish("x", other)
        arena.publish("x", other, replace=True)
        arena.publish("y", other)
        del other
        assert (arena.attach("x") == 2).all()
        assert np.shares_memory(arena.attach("x"), arena.attach("y"))
        assert arena.unpublish("x")
        assert not arena.unpublish("x")
        assert arena.names() == {"y": "array"}
        assert (arena.attach("y") == 2).all()
        assert arena.unpublish("y")
        gc.collect()
        assert nds.stats(arena)["bytes"] == base
        with pytest.raises(nds.Timeout, match="there are no names in <Arena"):
            arena.attach("x", timeout=0)


def test_what_cannot_have_a_name(path: Path) -> None:
    with nds.Arena("32 MiB", path=path) as arena, nds.Arena("8 MiB") as memory:
        with pytest.raises(ValueError, match=r"expected an object in <Arena .* at .*, got one in <Arena"):
            arena.publish("x", nds.zeros(3))
        with pytest.raises(ValueError, match="expected a shared array"):
            arena.publish("x", np.zeros(3))
        with pytest.raises(TypeError, match="expected a shared array"):
            arena.publish("x", 3)
        with pytest.raises(ValueError, match="got an arena"):
            arena.publish("x", memory)
        for bad in ("", "x" * 241):
            with pytest.raises(ValueError, match="1 to 240 bytes"):
                arena.publish(bad, nds.zeros(3, arena=arena))
        for call in (
            lambda: memory.publish("x", nds.zeros(3, arena=memory)),
            lambda: memory.attach("x", timeout=0),
            lambda: memory.unpublish("x"),
            memory.names,
        ):
            with pytest.raises(ValueError, match="expected an arena on a path"):
                call()
        assert arena.names() == {}
        many = nds.zeros(3, arena=arena)
        for number in range(256):
            arena.publish(f"name {number}", many)
        with pytest.raises(RuntimeError, match="at most 256 names"):
            arena.publish("one more", many)
        arena.publish("name 7", nds.ones(3, arena=arena), replace=True)
        assert arena.attach("name 7").sum() == 3


def test_a_process_that_sends_an_array_of_it_and_one_that_has_never_opened_it(path: Path, method: str) -> None:
    with nds.Arena("32 MiB", path=path) as arena:
        x = nds.zeros(1000, arena=arena)
        context = mp.get_context(method)
        conn, theirs = context.Pipe()
        process = context.Process(target=add_one, args=(theirs, x, arena))
        process.start()
        theirs.close()
        y = conn.recv()
        process.join(HANG)
        assert process.exitcode == 0
        assert (x == 1).all()
        assert (y == 2).all()
        assert nds.is_shared(y)
        with nds.Arena(path=path) as same:
            assert same == arena
            assert same.path == arena.path == path
        del x, y


def add_one(conn: Any, x: Any, arena: nds.Arena) -> None:
    x += 1
    conn.send(nds.full(10, 2, arena=arena))
    conn.close()


MAKER = """
import sys, time
import ndshare as nds
path, start = sys.argv[1], float(sys.argv[2])
while time.time() < start: pass
arena = nds.Arena("16 MiB", path=path)
lock = nds.Lock(name="lock", arena=arena)
with lock:
    x = arena.attach("x", timeout=0) if "x" in arena.names() else nds.zeros(1, "i8", arena=arena)
    arena.publish("x", x)
    x += 1
"""


def test_of_many_who_come_at_once_one_makes_it(path: Path) -> None:
    program, start = script(MAKER), time.time() + 1
    command = [sys.executable, str(program), str(path), str(start)]
    makers = [subprocess.Popen(command, env=environment()) for _ in range(4)]
    assert [maker.wait(HANG) for maker in makers] == [0] * 4
    with nds.Arena(path=path) as arena:
        assert arena.attach("x")[0] == 4
    assert [entry.name for entry in path.parent.iterdir()] == ["a.nds"]


def test_the_file_may_be_moved_and_removed_while_it_is_used(path: Path) -> None:
    with nds.Arena("16 MiB", path=path) as arena:
        x = nds.ones(100, arena=arena)
        arena.publish("x", x)
        moved = path.with_name("b.nds")
        path.rename(moved)
        with nds.Arena(path=moved) as same:
            assert same == arena
        with nds.Arena("8 MiB", path=path) as other:
            assert other != arena
            assert other.names() == {}
        moved.unlink()
        assert nds.ones(100, arena=arena).sum() == x.sum() == 100


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_each_file_that_is_none_is_an_error_of_its_own(path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a budget for the new arena .*a.nds"):
        nds.Arena(path=path)
    with pytest.raises(TypeError, match="expected a budget such as"):
        nds.Arena()
    with pytest.raises(ValueError, match="a name or a path, got both"):
        nds.Arena("8 MiB", path=path, name="x")
    nds.Arena("8 MiB", path=path).close()
    gc.collect()
    whole = path.open("rb").read(4096)
    with pytest.raises(ValueError, match=r"8388608 bytes, got 16777216: give the same, or none"):
        nds.Arena("16 MiB", path=path)

    def head(at: int, data: bytes) -> None:
        with path.open("r+b") as file:
            file.write(whole)
            file.seek(at)
            file.write(data)

    for version, word in ((1, "older"), (1 << 20, "newer")):
        head(40, version.to_bytes(4, "little"))
        with pytest.raises(
            ValueError, match=rf"expected an arena of version \d+ in .*a.nds.*version {version},.*{word}"
        ):
            nds.Arena(path=path)
    head(0, b"P5 640 480")
    with pytest.raises(ValueError, match=r"expected an arena in .*a.nds, got .* something else"):
        nds.Arena(path=path)
    head(16, b"\xff" * 40)
    with pytest.raises((nds.Poisoned, ValueError)):
        nds.Arena(path=path)
    head(24, b"\xff" * 8)
    with pytest.raises(nds.Poisoned, match=r"arena in .*a.nds is damaged.*remove the file"):
        nds.Arena(path=path)
    head(0, b"")
    size = path.stat().st_size
    os.truncate(path, size // 2)
    with pytest.raises(nds.Poisoned, match=rf"expected {size} bytes, got {size // 2} .*cut"):
        nds.Arena(path=path)
    os.truncate(path, 0)
    with pytest.raises(ValueError, match="got 0 bytes of something else"):
        nds.Arena(path=path)


def test_what_is_no_file_is_refused(path: Path) -> None:
    def refused(match: str) -> None:
        with pytest.raises(nds.AttachError, match=match):
            nds.Arena("8 MiB", path=path)

    path.mkdir()
    refused("a directory")
    path.rmdir()
    os.mkfifo(path)
    refused("a FIFO")
    path.unlink()
    path.symlink_to(path.with_name("elsewhere"))
    refused("a symbolic link")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        refused("a socket")
    path.unlink()
    nds.Arena("8 MiB", path=path).close()
    path.chmod(0o622)
    refused("mode 622")
    path.chmod(0o600)
    with pytest.raises(nds.AttachError, match="make the directory first"):
        nds.Arena("8 MiB", path=path.parent / "no" / "x")


@needs_root
def test_another_users_file_and_one_without_rights(path: Path) -> None:
    nds.Arena("8 MiB", path=path).close()
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(nds.AttachError, match=f"belongs to uid {NOBODY}, and this process is uid 0"):
        nds.Arena(path=path)
    os.chown(path, 0, 0)
    path.parent.chmod(0o755)
    program = """
import os, sys
import numpy as np
import ndshare as nds
os.setuid(65534)
for name in sys.argv[1:]:
    try: nds.Arena("8 MiB", path=name)
    except nds.AttachError as error: print(error)
"""
    private = path.parent / "private"
    private.mkdir(mode=0o700)
    (private / "b.nds").touch()
    reachable = "/dev/shm" in str(path)
    text = run(program, str(path), str(private / "b.nds"), env=environment(PYTHONDONTWRITEBYTECODE="1")).clean()
    if reachable:
        assert "belongs to uid 0, and this process is uid 65534" in text
    assert "rights to read and write" in text


@pytest.fixture
def small_drive(tmp_path: Path) -> Iterator[Path]:
    """Give a RAM drive of 96 MiB."""
    place = tmp_path / "drive"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("no RAM drive can be mounted here")
    yield place
    gc.collect()
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_drive_is_an_error_and_no_signal(small_drive: Path) -> None:
    path = small_drive / "a.nds"
    with nds.Arena("1 GiB", path=path) as arena:
        kept = nds.full(32 * MIB, 7, np.uint8, arena=arena)
        arena.publish("kept", kept)
        (small_drive / "other").write_bytes(bytes(40 * MIB))
        for size in (48 * MIB, 33 * MIB):
            with pytest.raises(nds.ArenaFull, match=r"the file system of .*a.nds"):
                nds.zeros(size, np.uint8, arena=arena)
        # What fits can be had, to the last page, and is written without a signal.
        many: list[Any] = []
        with contextlib.suppress(nds.ArenaFull):
            many.extend(nds.ones(100_000, np.uint8, arena=arena) for _ in range(10_000))
        with pytest.raises(nds.ArenaFull):
            nds.ones(100_000, np.uint8, arena=arena)
        assert all(x.all() for x in many)
        assert len(many) > 50
        del many
        gc.collect()
        (small_drive / "other").unlink()
        assert not nds.zeros(40 * MIB, np.uint8, arena=arena).any()
        assert (kept == 7).all()
        del kept
    (small_drive / "other").write_bytes(bytes(small_drive_rest(small_drive)))
    with pytest.raises(nds.ArenaFull, match=r"the file system of .*b.nds"):
        nds.Arena("1 GiB", path=small_drive / "b.nds")
    assert not (small_drive / "b.nds").exists()
    (small_drive / "other").unlink()


def small_drive_rest(place: Path) -> int:
    facts = os.statvfs(place)
    return facts.f_bavail * facts.f_frsize


def test_a_file_that_is_cut_while_it_is_used(path: Path) -> None:
    with nds.Arena("8 MiB", path=path) as arena:
        nds.zeros(10_000, arena=arena)
        size = path.stat().st_size
        os.truncate(path, size - 4096)
        with pytest.raises(nds.Poisoned, match=f"to have {size} bytes, got {size - 4096}"):
            nds.zeros(10_000, arena=arena)
        os.truncate(path, size)
        nds.zeros(10_000, arena=arena)


# ---- deaths ---------------------------------------------------------------------------------------------------------


def tour(path: Path) -> None:
    """Do what a process does in such an arena, beside what is there."""
    arena = nds.Arena(path=path)
    ring, cache, lock = arena.attach("ring"), arena.attach("cache"), arena.attach("lock")
    frames = ring.reader()
    grouped = ring.reader(group="workers")
    for number in range(20):
        ring.put(np.full((100, 100), number, np.uint16))
        assert (frames.get(timeout=10) == number).all()
        frame = grouped.get(timeout=10)  # perhaps one that a dead member had in hand
        assert (frame == frame[0, 0]).all()
    frames.close()
    grouped.close()
    for key in range(10, 14):
        cache.fetch(key, lambda key: np.full(400_000, key))
        cache[f"own {key}"] = np.full(50_000, key)
    with contextlib.suppress(KeyError):  # it may be evicted
        del cache["own 10"]
    for number in range(3):
        x = nds.full(number * 100_000 + 10, number, arena=arena)
        arena.publish("mine", x, replace=True)
        with nds.locked(x, timeout=10, recover=True):
            x += 1
        del x
    arena.unpublish("mine")
    with lock:
        nds.zeros((3, MIB), np.uint8, arena=arena)
    with arena.attach("overlay").use("ints", timeout=10) as v:
        v.D[:] = 0
    with arena.attach("overlay").use("floats", timeout=10) as v:
        v.A[:] = 1
    del v
    nds.Cache("1 MiB", name="second", arena=arena)["k"] = np.ones(10)
    arena.unpublish("second")
    gc.collect()


def strike(work: Callable[[], None], label: str, nth: int) -> bool:
    """Say whether a process that does something dies at this point; it must not fail otherwise."""
    if not (child := os.fork()):
        signal.alarm(60)
        code = 1
        try:
            _native.kill_at(label, nth)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), (label, nth, code)
    return code != 0


def check_after_a_death(path: Path) -> None:
    """Find everything whole whose name was there, and use it."""
    with nds.Arena(path=path) as arena:
        names = arena.names()
        assert set(names) - {"mine", "second"} == {"view", "fixed", "cache", "ring", "lock", "overlay"}
        assert arena.attach("view")["x"].tolist() == np.arange(24).reshape(4, 6)[::-1, ::2].tolist()
        assert arena.attach("fixed").tolist() == [1, 2]
        cache = arena.attach("cache")
        for key in [key for key in cache if key != "fresh"]:
            value = cache.get(key)
            assert value is None or (value == int(str(key).removeprefix("own "))).all()
        cache.fetch("fresh", lambda _: np.ones(1000))
        ring = arena.attach("ring")
        written, frames = ring.stats()["written"], ring.reader(start="oldest")
        seen = []
        while not seen or seen[-1] < written - 1:
            frame = frames.get(timeout=0)
            seen.append(frame.seq)
            assert (frame == frame[0, 0]).all()
        assert seen == list(range(seen[0], written))
        assert len(seen) >= 3
        assert ring.put(np.full((100, 100), 7, np.uint16), timeout=10) == written
        assert (frames.get(timeout=10) == 7).all()
        lock = arena.attach("lock")
        assert lock.acquire(timeout=10, recover=True)
        lock.release()
        with arena.attach("overlay").use("floats", timeout=10) as v:
            v.A[:] = 1
        for name in ("mine", "second"):
            arena.unpublish(name)
        assert not nds.zeros(4 * MIB, np.uint8, arena=arena).any()


# What stands in a file does not depend on where it lies; a disk is only slower.
PLACES = ["ram"] if ROUNDS == 1 else ["ram", "disk"]


@needs_points
@pytest.mark.crash
@pytest.mark.parametrize("path", PLACES, indirect=True)
@pytest.mark.timeout(300 + 300 * ROUNDS)
def test_killed_at_any_point_and_found_whole(path: Path) -> None:
    forked(lambda: fill(path))
    struck = []
    for nth in range(1, ROUNDS + 1):
        for label in POINTS:
            if strike(lambda: tour(path), label, nth):
                struck.append(label)
            check_after_a_death(path)
            gc.collect()
    for kind in KINDS:
        assert any(label.startswith(kind) for label in struck), f"nobody died at {kind}"
    # Nothing has leaked: without names there is nothing but the table of names.
    with nds.Arena(path=path) as arena:
        for name in arena.names():
            arena.unpublish(name)
        gc.collect()
        wait_until(lambda: nds.stats(arena)["blocks"] <= 1)
        assert nds.stats(arena)["blocks"] == 1


@needs_points
@pytest.mark.crash
@pytest.mark.parametrize("path", PLACES, indirect=True)
def test_killed_while_it_is_made(path: Path) -> None:
    """The file is there as a whole or not at all, and whoever comes next makes the rest."""
    struck = []
    for label in POINTS:
        if strike(lambda: fill(path), label, 1):
            struck.append(label)
        with nds.Arena("64 MiB", path=path) as arena:
            for name in arena.names():
                arena.attach(name, timeout=0)
                arena.unpublish(name)
            gc.collect()
            # Once, on a busy machine, the first look took the dead one for a living one; why is not known.
            assert wait_until(lambda arena=arena: nds.stats(arena)["blocks"] == 1, HANG), label
        gc.collect()
        assert [entry.name for entry in path.parent.iterdir()] == ["a.nds"]
        if label not in struck or len(struck) % 2:  # every other one goes on in the same file
            path.unlink()
    for kind in ("join:", "root:", "name:", "split:", "ring:", "cache:"):
        assert any(label.startswith(kind) for label in struck), f"nobody died at {kind}"


# ---- files that were written over -----------------------------------------------------------------------------------


def few(path: Path) -> None:
    """Make one of each kind in a small arena."""
    arena = nds.Arena("8 MiB", path=path)
    arena.publish("mask", nds.full(100_000, 7, np.uint8, arena=arena))
    nds.Cache("1 MiB", name="tiles", arena=arena)["key"] = np.full(1000, 3)
    ring = nds.Ring(1000, np.uint16, slots=4, keep=3, name="camera", arena=arena)
    for number in range(5):
        ring.put(np.full(1000, number, np.uint16))
    arena.publish("lock", nds.Lock(arena=arena))
    overlay = nds.Overlay(**USES, arena=arena)
    arena.publish("overlay", overlay)
    with overlay.use("floats") as v:
        v.A[:] = 1


GENERATION = 3  # which half word behind the first eight bytes of a record
NAMES_OF_FEW = {"camera": "ring", "lock": "lock", "mask": "array", "overlay": "overlay", "tiles": "cache"}


def check_few(arena: nds.Arena, but: str | None = None) -> None:
    """Find and use them all, but for one."""
    assert arena.names() == NAMES_OF_FEW
    if but != "mask":
        mask = arena.attach("mask", timeout=0)
        assert (mask == 7).all()
    if but != "tiles":
        value = arena.attach("tiles").get("key")
        assert value is None or (value == 3).all()
    if but != "camera":
        frames = arena.attach("camera").reader(start="oldest")
        for _ in range(4):
            try:
                frame = frames.get(timeout=0)
            except nds.Poisoned as error:  # what kept this frame was written over
                assert 'an entry of the ring "camera" never settles' in str(error)  # noqa: PT017
            else:
                assert (frame == frame.seq).all()
    if but != "lock":
        with arena.attach("lock"):
            pass
    if but != "overlay":
        with arena.attach("overlay").use("floats", timeout=5) as v:
            assert (v.A == 1).all()
    assert not nds.zeros(MIB, np.uint8, arena=arena).any()


def test_a_record_that_was_written_over_loses_nothing_that_has_a_name(path: Path) -> None:
    """One record kept each object of a name; who opened the file next gave the object away, and said nothing."""
    forked(lambda: few(path))
    whole = path.with_name("whole")
    subprocess.run(["cp", "--sparse=always", path, whole], check=True)
    with path.open("r+b") as file:
        tables = Tables(file.fileno())
        taken = [at for at in range(tables.records_at, tables.records_at + 4000, 40) if tables.words[at // 8]]
        own = [at for at in taken if tables.halves[at // 4 + 4] == tables.halves[at // 4 + 7]]
    assert len(taken) >= 10
    assert len(own) == 1
    for at in taken:
        # All of it, or half a word of it: what keeps, which block, and for whom.
        for place, value in [(0, bytes(40)), (0, b"\xff" * 40)] + [
            (8 + 4 * n, b"\x11\x00\x00\x00") for n in (0, 2, 3, 4, 5)
        ]:
            subprocess.run(["cp", "--sparse=always", whole, path], check=True)
            with path.open("r+b") as file:
                file.seek(at + place)
                file.write(value)
            # Without its own record the table of names is none to be trusted.
            refused = pytest.raises(nds.Poisoned, match="the root keeps blocks and not itself")
            is_own = at in own and place != 8 + 4 * GENERATION
            with refused if is_own else contextlib.nullcontext(), nds.Arena(path=path) as arena:
                check_few(arena)
            gc.collect()


@pytest.mark.parametrize("how", ["entry", "block of a head"])
def test_what_is_gone_is_told_by_its_name_and_the_others_stay(how: str, path: Path) -> None:
    forked(lambda: few(path))
    what, at = (b"mask\0\0\0\0", -16) if how == "entry" else (b"nds\x08", 8)
    planted(path, what, at, b"\x99\x09\x00\x00")
    if how == "entry":
        command = [sys.executable, "-m", "ndshare", "check", str(path)]
        done = subprocess.run(command, env=environment(), capture_output=True, check=False, text=True)
        assert '"mask" has the name of a block that is gone' in done.stdout
    for _ in range(2):  # whoever looked at it has taken nothing away
        with nds.Arena(path=path) as arena:
            check_few(arena, but="mask")
            for ask in (
                lambda: arena.attach("mask", timeout=0),
                lambda: nds.Lock(name="mask", arena=arena),
                lambda: arena.publish("mask", nds.zeros(3, arena=arena)),
            ):
                with pytest.raises(
                    nds.Poisoned, match=r'the name "mask" in <Arena .* is gone.*unpublish it, or replace it'
                ):
                    ask()
        gc.collect()
    with nds.Arena(path=path) as arena:
        if how == "entry":
            assert arena.unpublish("mask")
            assert "mask" not in arena.names()
        arena.publish("mask", nds.full(100_000, 7, np.uint8, arena=arena), replace=True)
        check_few(arena)


# ---- NumPy's own files ----------------------------------------------------------------------------------------------


def test_save_and_load_are_numpys_and_whole(path: Path) -> None:
    target = path.with_name("x.npy")
    array = np.arange(12, dtype=">i4").reshape(3, 4)
    nds.save(path.with_name("x"), array)
    nds.save(target, array.T)
    mapped = nds.load(target)
    assert type(mapped) is np.ndarray
    assert (mapped == array.T).all()
    assert mapped.dtype == ">i4"
    assert not mapped.flags.writeable
    assert np.load(target).tolist() == array.T.tolist()
    nds.save(target, np.zeros(3))  # in its place: who has the old one keeps it
    assert (mapped == array.T).all()
    nds.load(target, "r+")[:] = 5
    changed = nds.load(target, mmap_mode="c")
    changed[0] = 6
    assert nds.load(target).tolist() == [5, 5, 5]
    assert [entry.name for entry in path.parent.iterdir()] == ["x.npy"]
    with pytest.raises(ValueError, match=r"Object arrays|allow_pickle"):
        nds.save(target, np.array([object()]))
    assert [entry.name for entry in path.parent.iterdir()] == ["x.npy"]
    with pytest.raises(FileNotFoundError):
        nds.load(path.with_name("y.npy"))
    with pytest.raises(ValueError, match="mmap_mode"):
        nds.load(target, "w+")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    target.write_bytes(b"something else, long enough")
    with pytest.raises(ValueError, match="magic"):
        nds.load(target)
    with pytest.raises(FileNotFoundError):
        nds.save(path.parent / "no" / "x.npy", array)
    for other in (np.zeros(()), np.zeros((0, 3)), nds.ones(4)):
        nds.save(target, other)
        assert nds.load(target).tolist() == other.tolist()


WHERE = """
import sys
import ndshare as nds
x = nds.ref(sys.argv[1]).open()
x[:] = 7
arena = nds.attach(sys.argv[2], timeout=10)
print(arena.path)
print(nds.Arena(path=arena.path).attach("x").tolist())
"""


def test_who_has_the_arena_by_reference_knows_its_path(path: Path) -> None:
    """The file was made without a name; /proc called it "#123 (deleted)" for ever, and another arena was made there."""
    name = f"where {os.getpid()} {path.parent.name}"
    with nds.Arena("8 MiB", path=path) as arena:
        x = nds.zeros(3, np.uint8, arena=arena)
        arena.publish("x", x)
        nds.publish(name, arena)
        command = [sys.executable, "-c", WHERE, str(nds.ref(x)), name]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=HANG).stdout.splitlines()
        assert told == [str(path), "[7, 7, 7]"]
        assert nds.unpublish(name)
        assert len([one for one in nds.stats(arena)["participants"] if one["alive"]]) == 1
        del x


def test_who_only_looks_takes_no_name_away(path: Path) -> None:
    name = f"looks {os.getpid()} {path.parent.name}"
    with nds.Arena("8 MiB", path=path) as arena:
        arena.publish("x", nds.zeros(3, np.uint8, arena=arena))
        lock = nds.Lock(arena=arena)
        nds.publish(name, arena)
        viewer = nds.attach(name, readonly=True)
        with pytest.raises(nds.ReadOnly):
            viewer.unpublish("x")
        with pytest.raises(nds.ReadOnly):
            viewer.publish("lock", lock)
        assert viewer.names() == arena.names() == {"x": "array"}
        assert nds.unpublish(name)
        viewer.close()


def test_save_keeps_the_mode_and_follows_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "a.npy", tmp_path / "b.npy"
    nds.save(path, np.arange(2))
    path.chmod(0o640)
    link.symlink_to(path)
    nds.save(link, np.arange(3))
    assert link.is_symlink()
    assert np.load(path).tolist() == [0, 1, 2]
    assert path.stat().st_mode & 0o7777 == 0o640


def test_save_takes_names_as_long_as_there_are(path: Path) -> None:
    for name in ("x" * 251, "\U0001f40b" * 62 + "xyz"):
        target = path.with_name(name + ".npy")
        for number in range(2):
            nds.save(target, np.full(3, number))
            assert np.load(target).tolist() == [number] * 3
        assert [one.name for one in path.parent.iterdir()] == [target.name]
        target.unlink()


@pytest.mark.parametrize("what", ["a directory", "a FIFO", "a socket", "a link to a FIFO"])
def test_save_replaces_files_alone(what: str, path: Path) -> None:
    target = path.with_name("x.npy")
    if what == "a directory":
        target.mkdir()
    elif what == "a socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(target))
    else:
        fifo = path.with_name("fifo.npy") if what == "a link to a FIFO" else target
        os.mkfifo(fifo)
        if fifo != target:
            target.symlink_to(fifo)
    before = target.stat()
    error = IsADirectoryError if what == "a directory" else FileExistsError
    with pytest.raises(error, match=f"got {what.removeprefix('a link to ')}: choose another path"):
        nds.save(target, np.zeros(3))
    assert (target.stat().st_ino, target.stat().st_mode) == (before.st_ino, before.st_mode)
    assert all(not one.name.startswith(".") for one in path.parent.iterdir())


# ---- a descriptor for selectors -------------------------------------------------------------------------------------

WRITER = """
import sys
import numpy as np
import ndshare as nds

arena = nds.Arena(path=sys.argv[1])
writer = arena.attach("camera").writer()
writer.put(np.zeros(4, np.uint8))
print(arena.id, flush=True)
input()
"""


def by_another_name(path: Path, how: str) -> Path:
    """Give the file another name, by which the next process opens it."""
    other = path.with_name("other.nds")
    if how == "a symbolic link":
        (link := path.parent / "link").symlink_to(path.parent, target_is_directory=True)
        return link / path.name
    if how == "a hard link":
        other.hardlink_to(path)
    if how == "another name by now":
        path.rename(other)
    return other


@pytest.mark.parametrize("how", ["a symbolic link", "a hard link", "another name by now"])
def test_a_descriptor_wakes_for_nothing_by_no_name_of_the_file(how: str, path: Path) -> None:
    """The writer was looked for by the path of the file in `/proc`, so a timer took the place of its end."""
    with nds.Arena("16 MiB", path=path) as arena:
        ring = nds.Ring(4, np.uint8, slots=4, name="camera", arena=arena)
        with ring.reader() as reader, running(WRITER, str(by_another_name(path, how))) as writer:
            assert said(writer) == arena.id
            assert reader.get(timeout=HANG).tolist() == [0] * 4

            def is_quiet() -> bool:
                with contextlib.suppress(nds.Empty):
                    reader.get(timeout=0)
                return not select.select([reader.fileno()], [], [], 1)[0]

            assert wait_until(is_quiet)
            assert writer.poll() is None
            # Its end wakes, as the end of any writer.
            writer.kill()
            assert select.select([reader.fileno()], [], [], HANG)[0]
            with pytest.raises(nds.WriterDied):
                reader.get(timeout=HANG)


# ---- what is said, and what is left ---------------------------------------------------------------------------------

DIES_WHILE_IT_SAVES = """
import resource, signal, sys
import numpy as np
import ndshare as nds

signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
nds.save(sys.argv[1], np.zeros(1_000_000))
"""


@pytest.mark.parametrize("is_there", [False, True])
def test_who_is_killed_while_it_saves_leaves_nothing(is_there: bool, path: Path) -> None:
    target = path.with_name("a.npy")
    if is_there:
        nds.save(target, np.arange(3))
    done = subprocess.run(
        [sys.executable, "-c", DIES_WHILE_IT_SAVES, str(target)], env=environment(), check=False, timeout=HANG
    )
    assert done.returncode == -signal.SIGXFSZ
    assert [one.name for one in path.parent.iterdir()] == [target.name] * is_there
    nds.save(target, np.arange(4))
    assert np.load(target).tolist() == [0, 1, 2, 3]
    assert [one.name for one in path.parent.iterdir()] == [target.name]


def test_save_works_where_a_file_needs_a_name(path: Path) -> None:
    """Such as a file system without O_TMPFILE: a /proc that is out of sight takes the same way."""
    program = """
        import os, sys
        import numpy as np
        import ndshare as nds
        os.path.isdir = lambda path: False
        for number in range(3):
            nds.save(sys.argv[1], np.full(1000, number))
            assert np.load(sys.argv[1])[-1] == number
        print(os.listdir(os.path.dirname(sys.argv[1])))
    """
    assert run(program, str(path.with_name("a.npy"))).clean() == "['a.npy']\n"


NOTHING_FREE = f"""
import os, resource, sys
import ndshare as nds
{NO_DESCRIPTORS}
for budget in ("16 MiB", None):
    try:
        nds.Arena(budget, path=sys.argv[1])
    except nds.AttachError as error:
        print(error)
"""


def test_without_a_descriptor_it_says_what_to_do(path: Path) -> None:
    with nds.Arena("16 MiB", path=path):
        told = run(NOTHING_FREE, str(path)).clean().splitlines()
    assert len(told) == 2
    assert all("no descriptor is free: close files, or raise ulimit -n" in one for one in told), told


def test_a_bool_is_no_size(path: Path) -> None:
    for make in (nds.Arena, lambda size: nds.Arena(size, path=path), nds.Cache, nds.Cache("1 MiB").resize):
        for size in (True, False):
            with pytest.raises(TypeError, match="number of bytes, got <class 'bool'>"):
                make(size)  # type: ignore[operator]
    assert not path.exists()


STOPS_AT_THE_DOOR = """
import sys
import ndshare as nds
from ndshare import _native
_native.stop_at(sys.argv[2], 1)
nds.Arena(path=sys.argv[1])
"""


@needs_points
def test_ctrl_c_at_the_door_says_who_has_the_file(path: Path) -> None:
    forked(lambda: fill(path))
    point = next(point for point in POINTS if point.startswith("mend:"))
    with subprocess.Popen([sys.executable, "-c", STOPS_AT_THE_DOOR, str(path), point], env=environment()) as stopped:
        try:
            state = Path(f"/proc/{stopped.pid}/stat")
            assert wait_until(lambda: state.read_text().rsplit(")", 1)[1].split()[0] == "T")
            with pytest.raises(KeyboardInterrupt) as raised:
                interrupted(lambda: nds.Arena(path=path))
            (note,) = raised.value.__notes__
            assert f"{path} is open in pid {stopped.pid} (" in note
            assert ", stopped)" in note
        finally:
            stopped.kill()
    check(path)


def interrupted(work: Callable[[], object]) -> None:
    """Press Ctrl-C again and again while something waits."""
    over = threading.Event()

    def press() -> None:
        while not over.wait(0.2):
            os.kill(os.getpid(), signal.SIGINT)

    pressing = threading.Thread(target=press)
    pressing.start()
    try:
        work()
    finally:
        over.set()
        pressing.join()
