"""What other users are offered: `nds.publish(name, obj, mode=...)` and `nds.attach(name, user=..., readonly=True)`.

This process, or a child of its user, publishes. Who reads is another user, which only root can start.
"""

from __future__ import annotations

import gc
import multiprocessing as mp
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from helpers import HANG, MIB, environment, held, run, threads, threads_of_a_fork, wait_until
from ndshare import _native
from test_strangers import NOBODY, ask, needs_interpreter, needs_root, running, said
from test_strangers import runtime as runtime  # noqa: PLC0414  (a fixture)

# What readers begin with. `take` speaks to who offers without the library, and gives the file.
READ = """
import ctypes, errno, fcntl, mmap, os, socket, struct, sys, time
import numpy as np
import ndshare as nds

libc = ctypes.CDLL(None, use_errno=True)

def attach(name, timeout=20):
    return nds.attach(name, user=0, readonly=True, timeout=timeout)

def take(name):
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.connect(f"{os.environ['NDSHARE_OFFERS']}/ndshare-0-offers/offer-{name}")
    letter, files, _, _ = socket.recv_fds(line, 1 << 16, 4)
    return line, letter, files

def refused(error, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except error as caught:
        return str(caught)
    raise AssertionError(f"{call} worked")

def heard(text):
    print(text, flush=True)
    return input()
"""


@pytest.fixture(autouse=True)
def offers(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give each test a place for offers that other users may go through."""
    place = Path(tempfile.mkdtemp(prefix="ndshare-tests-offers-", dir="/dev/shm"))
    place.chmod(0o1777)
    monkeypatch.setenv("NDSHARE_OFFERS", str(place))
    yield place / f"ndshare-{os.geteuid()}-offers"
    for name in nds.names():
        nds.unpublish(name)
    shutil.rmtree(place)


def others_environment() -> dict[str, str]:
    return environment(NDSHARE_OFFERS=os.environ["NDSHARE_OFFERS"], XDG_RUNTIME_DIR=None)


@contextmanager
def reading(source: str, *args: str, user: int = NOBODY, group: int = NOBODY) -> Iterator[subprocess.Popen[str]]:
    """Run a program of another user; it is gone after the block."""
    needs_interpreter(user, group)
    with subprocess.Popen(
        [sys.executable, "-c", READ + source, *args],
        env=others_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        user=user,
        group=group,
        extra_groups=[],
        cwd="/",
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read(source: str, *args: str, user: int = NOBODY, group: int = NOBODY) -> str:
    """Return what a program of another user printed, which ended well."""
    with reading(source, *args, user=user, group=group) as process:
        out, _ = process.communicate(timeout=2 * HANG)
        assert process.returncode == 0, out
    return out.strip()


def own(source: str, *args: str) -> str:
    """Return what a program of this user printed that was started by nobody."""
    return run(READ + source, *args, env=own_environment()).clean().strip()


def own_environment() -> dict[str, str]:
    return environment(NDSHARE_OFFERS=os.environ["NDSHARE_OFFERS"])


# ---- arenas with a mode ---------------------------------------------------------------------------------------------


def test_an_arena_with_a_mode_is_an_arena_as_others() -> None:
    arena = nds.Arena("16 MiB", mode=0o640)
    assert (arena.mode, nds.Arena("8 MiB").mode) == (0o640, None)
    array = nds.full((300, 1000), 7.0, arena=arena)
    small = nds.array([1, 2, 3], arena=arena)
    ring = nds.Ring(4, np.uint8, slots=4, keep=1, arena=arena)
    ring.put([1, 2, 3, 4])
    for name, thing in {"array": array, "ring": ring, "arena": arena}.items():
        nds.publish(name, thing)
    source = """
    import multiprocessing as mp
    array, ring, arena = (nds.attach(name, timeout=20) for name in ("array", "ring", "arena"))
    array += 1
    assert arena.mode == 0o640 and nds.is_shared(array)
    print(array[0, 0], ring.reader(start="oldest").get(timeout=5).tolist(), nds.full(9, 2, arena=arena).sum())
    view = nds.attach("array", timeout=20, readonly=True)
    assert view.sum() == 8.0 * view.size and not view.flags.writeable
    view = nds.ref(sys.argv[1]).open()
    assert view.sum() == 6
    """
    assert own(unindented(source), str(nds.ref(small))) == "8.0 [1, 2, 3, 4] 18"
    assert (array == 8).all()
    for method in "fork", "spawn", "forkserver":
        with mp.get_context(method).Pool(1) as pool:
            assert pool.apply(np.sum, (array,)) == 8 * array.size
            other = pool.apply(nds.full, (1000, 3.0), {"arena": arena})
            assert nds.is_shared(other)
            assert other.sum() == 3000
    pid = os.fork()
    if pid == 0:
        array[:] = 9
        os._exit(int(nds.zeros(10, arena=arena).sum()))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (array == 9).all()


def test_an_arena_with_a_mode_has_its_data_in_a_file_of_their_own() -> None:
    arena = nds.Arena("16 MiB", mode=0o604)
    array = nds.ones(MIB, arena=arena)
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if arena.id in line]
    whole = {line.split()[-2]: line.split()[2] for line in lines if "rw-s" in line}
    assert whole == {f"/memfd:ndshare:{arena.id}": "00000000", f"/memfd:ndshare-data:{arena.id}": "00000000"}
    data = next(line for line in lines if "ndshare-data" in line)
    first, last = (int(end, 16) for end in data.split()[0].split("-"))
    assert first <= array.ctypes.data < last
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    files = [link for link in links if os.path.islink(link) and arena.id in os.readlink(link)]
    assert len(files) == 2
    assert {os.stat(file).st_mode & 0o777 for file in files} == {0o600}


def test_a_mode_is_for_reading_alone_and_for_memory(tmp_path: Path) -> None:
    for mode in 0, 0o600, 0o646, 0o660, 0o666, 0o750, 0o1640, 0o444:
        with pytest.raises(ValueError, match="0o640"):
            nds.Arena("8 MiB", mode=mode)
    with pytest.raises(ValueError, match="a path and a mode"):
        nds.Arena("8 MiB", path=tmp_path / "a.nds", mode=0o640)
    one = nds.Arena("8 MiB", name="one", mode=0o640)
    assert nds.Arena("8 MiB", name="one", mode=0o640) == one
    for mode in None, 0o644:
        with pytest.raises(ValueError, match="0o640"):
            nds.Arena("8 MiB", name="one", mode=mode)


def test_the_command_line_sees_such_an_arena() -> None:
    arena = nds.Arena("16 MiB", mode=0o640)
    array = nds.ones(MIB, arena=arena)
    command = [sys.executable, "-m", "ndshare"]
    shown = subprocess.run(
        [*command, "ls", "--json"], env=own_environment(), capture_output=True, text=True, check=True
    )
    assert arena.id in shown.stdout
    checked = subprocess.run(
        [*command, "check", arena.id], env=own_environment(), capture_output=True, text=True, check=False
    )
    assert (checked.returncode, arena.id in checked.stdout) == (0, True), checked
    del array


def unindented(text: str) -> str:
    return "\n".join(line.removeprefix("    ") for line in text.splitlines())


# ---- publishing -----------------------------------------------------------------------------------------------------


def test_what_cannot_be_offered_says_what_to_do(offers: Path) -> None:
    arena = nds.Arena("16 MiB", mode=0o640)
    array = nds.zeros(10, arena=arena)
    with pytest.raises(ValueError, match="mode=0o640"):
        nds.publish("x", nds.zeros(10), mode=0o640)
    with pytest.raises(ValueError, match="others are never let to write"):
        nds.publish("x", array, mode=0o660)
    with pytest.raises(ValueError, match="within that of the arena, 0o640"):
        nds.publish("x", array, mode=0o644)
    with pytest.raises(ValueError, match="group="):
        nds.publish("x", array, group=0)
    with pytest.raises(ValueError, match="no such group"):
        nds.publish("x", array, mode=0o640, group="no such group")
    with pytest.raises(ValueError, match="no such user"):
        nds.attach("x", user="no such user", readonly=True, timeout=0)
    with pytest.raises(ValueError, match="readonly=True"):
        nds.attach("x", user=0, timeout=0)
    overlay = nds.Overlay(floats={"A": (3, "f8")}, arena=arena)
    for thing in nds.Cache("1 MiB", arena=arena), nds.Lock(arena=arena), arena, overlay:
        with pytest.raises(TypeError, match="an array or a"):
            nds.publish("x", thing, mode=0o640)
    assert nds.names() == {}
    assert not offers.exists()


def is_offered(array: np.ndarray[Any, Any]) -> bool:
    base: Any = array.base
    return bool(base.offered)


def test_a_name_is_offered_until_it_is_taken_back(offers: Path) -> None:
    threads = threading.active_count()
    tasks = len(os.listdir("/proc/self/task"))
    base = held()
    arena = nds.Arena("16 MiB", mode=0o640)
    array = nds.array(np.arange(12.0).reshape(3, 4), arena=arena)
    nds.publish("array", array[:, ::2], mode=0o640)
    assert (offers.stat().st_mode & 0o7777, os.listdir(offers)) == (0o711, ["offer-array"])
    assert (offers / "offer-array").stat().st_mode & 0o777 == 0o660
    assert len(os.listdir("/proc/self/task")) == tasks + 1
    assert threading.active_count() == threads
    mine = nds.attach("array", user=os.geteuid(), readonly=True, timeout=5)
    assert mine.tolist() == [[0, 2], [4, 6], [8, 10]]
    assert not nds.is_shared(mine)
    array[0, 0] = 5
    assert mine[0, 0] == 5
    with pytest.raises(RuntimeError, match="replace"):
        nds.publish("array", nds.zeros(1, arena=arena), mode=0o640)
    nds.publish("array", array, mode=0o640, replace=True)
    assert not is_offered(mine)
    same = nds.attach("array", user=os.geteuid(), readonly=True, timeout=5)
    assert (same.shape, same.base.offered) == ((3, 4), True)
    # Without a mode it is this user's alone again.
    nds.publish("array", array, replace=True)
    assert not is_offered(same)
    assert not offers.exists()
    assert len(os.listdir("/proc/self/task")) == tasks
    nds.publish("array", array, mode=0o640, replace=True)
    nds.publish("other", array[0], mode=0o640)
    assert sorted(os.listdir(offers)) == ["offer-array", "offer-other"]
    assert nds.unpublish("array")
    assert os.listdir(offers) == ["offer-other"]
    assert nds.unpublish("other")
    with pytest.raises(nds.Timeout, match=r"to offer an object under the name .array."):
        nds.attach("array", user=os.geteuid(), readonly=True, timeout=0)
    assert mine[0, 0] == 5, "it is mapped still"
    assert not offers.exists()
    assert len(os.listdir("/proc/self/task")) == tasks
    del array, arena, mine, same
    gc.collect()
    assert held() == base


@needs_root
def test_an_array_of_another_user_can_be_read_and_nothing_else() -> None:
    arena = nds.Arena("16 MiB", mode=0o604)
    array = nds.zeros((3, 4), [("x", "f4"), ("y", "i2")], arena=arena)
    array["x"] = 2
    nds.publish("array", array[:, 1:], mode=0o604, group=0)
    source = """
    a = attach("array")
    assert (a.shape, a.strides, a.dtype.descr) == ((3, 3), (24, 6), [("x", "<f4"), ("y", "<i2")]), a
    assert not a.flags.writeable and not nds.is_shared(a) and "read-only" in repr(a.base)
    for view in a, a[1:], a.T, np.asarray(a), np.frombuffer(a.base, np.uint8):
        refused(ValueError, setattr, view.flags, "writeable", True)
        refused(ValueError, view.__setitem__, ..., 1)
    assert heard(a["x"].sum()) == "go" and a["x"].sum() == 45
    assert a.base.offered
    print(nds.asarray(a)["x"].sum(), nds.concatenate([a["x"], a["x"]]).shape)
    """
    with reading(unindented(source)) as other:
        assert said(other) == "18.0"
        array["x"] = 5
        assert ask(other, "go") == "45.0 (6, 3)"
        assert other.wait(HANG) == 0
    array["x"] = 1


@needs_root
def test_who_may_not_read_is_refused() -> None:
    arena = nds.Arena("16 MiB", mode=0o644)
    array = nds.ones(5, arena=arena)
    source = """
    try:
        print(attach("array", 5).sum())
    except PermissionError as error:
        print(type(error).__name__, "refusal" in str(error), isinstance(error, nds.Refused))
    """
    source = unindented(source)
    refusal = "Refused True True"
    for mode, group, expected in (
        (0o640, 0, refusal),
        (0o640, 4321, refusal),
        (0o640, NOBODY, "5.0"),
        (0o604, 0, "5.0"),
        (0o604, NOBODY, refusal),
        (0o644, NOBODY, "5.0"),
        (0o644, 0, "5.0"),
    ):
        nds.publish("array", array, mode=mode, group=group, replace=True)
        assert read(source) == expected, (oct(mode), group)
    # Also who gets past the mode of the socket is known to the kernel.
    nds.publish("array", array, mode=0o640, group=0, replace=True)
    (Path(os.environ["NDSHARE_OFFERS"]) / "ndshare-0-offers" / "offer-array").chmod(0o666)
    assert read(source) == refusal
    assert read("print(take('array')[1:])").endswith("[])")


@needs_root
def test_a_group_by_name_and_supplementary_groups_count() -> None:
    import grp

    needs_interpreter(NOBODY, NOBODY)
    arena = nds.Arena("16 MiB", mode=0o640)
    nds.publish("array", nds.ones(5, arena=arena), mode=0o640, group=grp.getgrgid(0).gr_name)
    source = READ + "print(attach('array').sum())"
    command = [sys.executable, "-c", source]
    done = subprocess.run(
        command,
        check=False,
        env=others_environment(),
        user=NOBODY,
        group=NOBODY,
        extra_groups=[7, 0],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "5.0", done.stderr


def test_a_long_name_and_two_names_in_one_arena() -> None:
    arena = nds.Arena("16 MiB", mode=0o640)
    long = "é" * 100
    one, two = nds.full(3, 1.0, arena=arena), nds.full(3, 2.0, arena=arena)
    nds.publish(long, one, mode=0o640)
    nds.publish("a name with spaces", two, mode=0o640)
    me = os.geteuid()
    assert nds.attach(long, user=me, readonly=True, timeout=5).sum() == 3
    assert nds.attach("a name with spaces", user=me, readonly=True, timeout=5).sum() == 6
    with pytest.raises(ValueError, match="bytes"):
        nds.attach("é" * 101, user=me, readonly=True, timeout=5)


# ---- rings ----------------------------------------------------------------------------------------------------------


RING = """
ring = attach("ring")
assert (ring.shape, ring.dtype, ring.slots) == ((4,), "uint8", 4), (ring.shape, ring.dtype, ring.slots)
refused(nds.Empty, ring.get, timeout=0)
newest = ring.latest(timeout=0)
assert (newest.seq, newest.tolist(), newest.meta["x"]) == (1, [2] * 4, 8)
refused(nds.Empty, ring.latest, timeout=0)
assert heard("ready") == "go"
frame = ring.get(timeout=20)
assert (frame.seq, frame.tolist(), int(frame.meta["x"]), type(frame)) == (2, [1, 2, 3, 4], 7, nds.Frame)
assert frame.time_ns <= time.monotonic_ns() and not frame.flags.writeable and not nds.is_shared(frame)
assert ring.stats() == {"written": 3, "missed": 0, "lag": 0, "closed": False}
print("read", flush=True)
assert [frame.seq for frame in ring] == [3]
assert ring.stats()["closed"]
refused(nds.Closed, ring.get)
print("end", frame.tolist(), flush=True)
"""


@needs_root
def test_a_ring_of_another_user_is_read_to_its_end() -> None:
    arena = nds.Arena("16 MiB", mode=0o604)
    ring = nds.Ring(4, np.uint8, slots=4, keep=2, meta=[("x", "i4")], arena=arena)
    ring.put([1] * 4, x=9)
    ring.put([2] * 4, x=8)
    nds.publish("ring", ring, mode=0o604, group=0)
    with reading(RING) as other:
        assert said(other) == "ready"
        assert ring.stats()["readers"] == []
        ring.put([1, 2, 3, 4], x=7)
        assert ask(other, "go") == "read"
        with ring:
            ring.put([5, 6, 7, 8])
        assert said(other) == "end [1, 2, 3, 4]"
        assert other.wait(HANG) == 0


CONTAINER = """
import os
import numpy as np
import ndshare as nds

array = nds.attach("array", user=os.getuid(), readonly=True, timeout=20)
print(array.tolist(), flush=True)
ring = nds.attach("ring", user=os.getuid(), readonly=True, timeout=20)
print("ready", flush=True)
print(ring.get(timeout=20).tolist(), flush=True)
try:
    nds.attach("array", timeout=20)
except nds.AttachError as error:
    print(error, flush=True)
"""


def test_another_container_of_the_same_user_reads_what_is_offered_and_is_told_what_is_missing_for_the_rest() -> None:
    container = ["unshare", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*container, "true"], check=False).returncode != 0:
        pytest.skip("this machine permits no pid namespace")
    arena = nds.Arena("16 MiB", mode=0o640)
    array = nds.array([1, 2, 3], np.int32, arena=arena)
    ring = nds.Ring(2, np.uint8, slots=4, arena=arena)
    nds.publish("array", array, mode=0o640)
    nds.publish("ring", ring, mode=0o640)
    command = [*container, sys.executable, "-c", CONTAINER]
    env = environment(NDSHARE_OFFERS=os.environ["NDSHARE_OFFERS"])
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert said(other) == "[1, 2, 3]"
        assert said(other) == "ready"
        ring.put([4, 5])
        assert said(other) == "[4, 5]"
        assert f"process {os.getpid()}, which published it, is in another container (pid namespace)" in said(other)
        assert other.wait(HANG) == 0


@needs_root
def test_a_slow_reader_holds_nobody_back_and_gets_no_torn_frame() -> None:
    arena = nds.Arena("64 MiB", mode=0o604)
    ring = nds.Ring(100_000, np.uint32, slots=3, arena=arena)
    nds.publish("ring", ring, mode=0o604, group=0)
    source = """
    ring = attach("ring")
    print("ready", flush=True)
    seqs = []
    for frame in ring:
        assert (frame == frame.seq).all(), "torn"
        seqs.append(frame.seq)
    assert seqs == sorted(set(seqs)) and len(seqs) + ring.stats()["missed"] == ring.stats()["written"]
    print(len(seqs) > 10, ring.stats()["missed"])
    """
    with reading(unindented(source)) as other:
        assert said(other) == "ready"
        mine = ring.reader()
        with ring:
            end, number = time.monotonic() + 3, 0
            while time.monotonic() < end or number < 2000:
                with ring.write(timeout=20) as frame:
                    frame[:] = number
                number += 1
                assert mine.get(timeout=20).seq == number - 1
        assert said(other).startswith("True ")
        assert other.wait(HANG) == 0


def test_frames_of_any_shape_and_those_that_were_put_as_they_are() -> None:
    arena = nds.Arena("32 MiB", mode=0o640)
    ring = nds.Ring(slots=4, arena=arena)
    nds.publish("ring", ring, mode=0o640)
    view = nds.attach("ring", user=os.geteuid(), readonly=True, timeout=5)
    assert (view.shape, view.dtype) == (None, None)
    base = nds.array(np.arange(24, dtype="i4").reshape(4, 6), arena=arena)
    base.flags.writeable = False
    for array in (base, base[::-2, ::3], np.array(3.5), np.zeros((0, 3)), np.array(["é", "abc"])):
        ring.put(array)
        frame = view.get(timeout=5)
        assert (frame.dtype, frame.shape) == (array.dtype, array.shape)
        assert (frame == array).all()
    view.close()
    with pytest.raises(nds.Closed):
        view.get(timeout=0)
    assert (view.closed, "closed" in repr(view)) == (True, True)


def test_a_wait_for_a_frame_is_ended_by_a_signal() -> None:
    arena = nds.Arena("16 MiB", mode=0o640)
    ring = nds.Ring(4, np.uint8, slots=4, arena=arena)
    nds.publish("ring", ring, mode=0o640)
    view = nds.attach("ring", user=os.geteuid(), readonly=True, timeout=5)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            view.get()
    finally:
        signal.signal(signal.SIGALRM, before)


# ---- ends -----------------------------------------------------------------------------------------------------------

PUBLISH = """
arena = nds.Arena("16 MiB", mode=0o604)
array = nds.full(1000, 7.0, arena=arena)
ring = nds.Ring(4, np.uint8, slots=4, keep=1, arena=arena)
nds.publish("array", array, mode=0o604, group=0)
nds.publish("ring", ring, mode=0o604, group=0)
print("ready", flush=True)
while True:
    exec(input())
"""


@contextmanager
def publishing() -> Iterator[subprocess.Popen[str]]:
    with running(READ + PUBLISH, NDSHARE_OFFERS=os.environ["NDSHARE_OFFERS"]) as process:
        assert said(process) == "ready"
        yield process


WAITS = """
array, ring = attach("array"), attach("ring")
print(array.sum(), flush=True)
try:
    ring.get(timeout=60)
except nds.Error as error:
    # Each has a connection of its own, and the kernel ends them one by one.
    while array.base.offered:
        time.sleep(0.001)
    print(type(error).__name__, getattr(error, "pid", None), array.sum() is not None, flush=True)
try:
    ring.get(timeout=0)
except nds.Error as error:
    print(type(error).__name__, flush=True)
"""


@needs_root
@pytest.mark.parametrize("how", ["kill", "unpublish", "exit"])
def test_readers_hear_of_the_end_at_once(how: str) -> None:
    with publishing() as camera, reading(WAITS) as other:
        assert said(other) == "7000.0"
        begun = time.monotonic()
        if how == "kill":
            camera.kill()
            expected = ["WriterDied", str(camera.pid), "True"]
        else:
            assert camera.stdin
            code = "raise SystemExit" if how == "exit" else "nds.unpublish('array'); nds.unpublish('ring')"
            camera.stdin.write(code + "\n")
            camera.stdin.flush()
            expected = ["Closed", "None", "True"]
        assert said(other).split() == expected
        assert time.monotonic() - begun < 5
        assert said(other) == expected[0]
        assert other.wait(HANG) == 0


@needs_root
def test_a_name_of_the_dead_is_free() -> None:
    with publishing() as camera:
        camera.kill()
        camera.wait()
    arena = nds.Arena("16 MiB", mode=0o604)
    assert read("refused(nds.Timeout, attach, 'array', 0.1)") == ""
    nds.publish("array", nds.full(3, 2.0, arena=arena), mode=0o604, group=0)
    assert read("print(attach('array').sum())") == "6.0"
    folder = Path(os.environ["NDSHARE_OFFERS"]) / "ndshare-0-offers"
    assert os.listdir(folder) == ["offer-array"], "the other one of the dead is gone as well"


@needs_root
def test_a_name_that_another_process_replaces_is_offered_no_more(offers: Path) -> None:
    with publishing() as camera:
        assert sorted(os.listdir(offers)) == ["offer-array", "offer-ring"]
        nds.publish("array", nds.zeros(3), replace=True)
        assert os.listdir(offers) == ["offer-ring"]
        assert nds.unpublish("ring")
        assert not offers.exists()
        assert camera.poll() is None


@needs_root
def test_a_reader_that_is_killed_leaves_nothing() -> None:
    arena = nds.Arena("16 MiB", mode=0o604)
    ring = nds.Ring(4, np.uint8, slots=4, arena=arena)
    nds.publish("ring", ring, mode=0o604, group=0)
    before = sockets()
    for _ in range(3):
        with reading("ring = attach('ring'); print('waits', flush=True); ring.get()") as other:
            assert said(other) == "waits"
            assert sockets() == before + 1
            other.kill()
        assert wait_until(lambda: sockets() == before)
    for number in range(20):
        assert ring.put([number] * 4, timeout=5) == number
    assert len(nds.stats(arena)["participants"]) == 1


def test_who_publishes_may_fork() -> None:
    alone = threads_of_a_fork()
    arena = nds.Arena("16 MiB", mode=0o640)
    array, ring = nds.ones(5, arena=arena), nds.Ring(4, np.uint8, slots=4, keep=1, arena=arena)
    nds.publish("array", array, mode=0o640)
    nds.publish("ring", ring, mode=0o640)
    me = os.geteuid()
    view = nds.attach("ring", user=me, readonly=True, timeout=5)
    assert sockets() == 4
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            # The child has its own end of `view` alone, and no thread of ours.
            os.write(writer, bytes([sockets(), threads()]))
            array.fill(2)
            os.write(writer, bytes([int(nds.attach("array", user=me, readonly=True, timeout=20).sum() == 10)]))
            signal.pause()
        finally:
            traceback.print_exc()
            os._exit(1)
    os.close(writer)
    try:
        assert os.read(reader, 2) == bytes([1, alone])
        assert os.read(reader, 1) == b"\1"
        assert nds.attach("array", user=me, readonly=True, timeout=20).sum() == 10
        ring.put([1, 2, 3, 4])
        assert view.get(timeout=20).tolist() == [1, 2, 3, 4]
        assert nds.unpublish("ring")
        with pytest.raises(nds.Closed):
            view.get(timeout=20)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reader)
    for method in "fork", "spawn":
        with mp.get_context(method).Pool(2) as pool:
            assert pool.map(np.sum, [array] * 4) == [10] * 4
    assert nds.attach("array", user=me, readonly=True, timeout=20).sum() == 10


def links() -> list[str]:
    found: list[str] = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue
    return found


def sockets() -> int:
    return sum(link.startswith("socket:") for link in links())


CLOSES = """
arena = nds.Arena("16 MiB", mode=0o640)
nds.publish("array", nds.ones(3, arena=arena), mode=0o640)
os.closerange(3, 4096)
time.sleep(0.2)
files = [open("/dev/null") for _ in range(20)]
nds.publish("again", nds.ones(3, arena=nds.Arena("16 MiB", mode=0o640)), mode=0o640)
print(nds.attach("again", user=os.geteuid(), readonly=True, timeout=20).sum())
nds.unpublish("array")
nds.unpublish("again")
assert all(file.read() == "" for file in files)
"""


def test_a_program_that_closes_everything_may_offer_again() -> None:
    assert own(CLOSES) == "3.0"


# ---- clients that do not know how to behave -------------------------------------------------------------------------


@contextmanager
def connected(offers: Path, name: str, count: int) -> Iterator[list[socket.socket]]:
    lines: list[socket.socket] = []
    try:
        for _ in range(count):
            line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            line.connect(str(offers / f"offer-{name}"))
            line.settimeout(20)
            lines.append(line)
        yield lines
    finally:
        for line in lines:
            line.close()


def answer(line: socket.socket) -> tuple[int, int]:
    """Return what a letter says, and how many files came along."""
    letter, files, _, _ = socket.recv_fds(line, 1 << 16, 4)
    for file in files:
        os.close(file)
    assert letter.startswith(b"ndsoffer")
    return struct.unpack_from("<I", letter, 12)[0], len(files)


def is_over(line: socket.socket) -> bool:
    """Read on to the end of a connection."""
    try:
        while line.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return True


def test_who_says_nothing_and_who_says_too_much_hinder_nobody(offers: Path) -> None:
    arena = nds.Arena("16 MiB", mode=0o640)
    array = nds.ones(5, arena=arena)
    nds.publish("array", array, mode=0o640)
    me = os.geteuid()
    with connected(offers, "array", 3) as (silent, loud, gone):
        gone.close()
        loud.send(b"x" * 10_000)
        assert nds.attach("array", user=me, readonly=True, timeout=5).sum() == 5
        assert answer(silent) == (0, 1)
        assert answer(loud) == (0, 1), "who speaks is not listened to"
        assert nds.attach("array", user=me, readonly=True, timeout=5).base.offered
        assert nds.unpublish("array")
        assert (silent.recv(100), silent.recv(100)) == (b"withdrawn", b"")
        assert is_over(loud)


def test_of_300_readers_as_many_are_let_in_as_there_is_room_for(offers: Path) -> None:
    arena = nds.Arena("16 MiB", mode=0o640)
    nds.publish("array", nds.ones(5, arena=arena), mode=0o640)
    import resource

    most = min(256, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
    me = os.geteuid()
    with ExitStack() as stack:
        answers = [answer(stack.enter_context(connected(offers, "array", 1))[0]) for _ in range(300)]
        assert sorted(answers) == [(0, 1)] * most + [(2, 0)] * (300 - most)
        with pytest.raises(nds.Timeout, match="as many as there can be"):
            nds.attach("array", user=me, readonly=True, timeout=0.2)
    assert nds.attach("array", user=me, readonly=True, timeout=20).sum() == 5


def test_letters_that_nobody_reads_are_few(offers: Path) -> None:
    """Files on their way count for the user, in all its processes: it could be stopped from sending any."""
    arena = nds.Arena("16 MiB", mode=0o640)
    nds.publish("array", nds.ones(5, arena=arena), mode=0o640)
    me = os.geteuid()
    before = sockets()
    with connected(offers, "array", 60) as lines:
        # One end alone is no end: the letter would stay on its way, and the place be free.
        lines[0].shutdown(socket.SHUT_WR)
        assert [answer(line) for line in lines[32:]] == [(2, 0)] * 28
        with pytest.raises(nds.Timeout, match="as many as there can be"):
            nds.attach("array", user=me, readonly=True, timeout=0.2)
        assert wait_until(lambda: sockets() == before + 60 + 32)
        assert answer(lines[0]) == (0, 1)
        assert nds.attach("array", user=me, readonly=True, timeout=20).sum() == 5
    assert wait_until(lambda: sockets() == before)


def test_a_publish_that_is_refused_leaves_what_is_offered(offers: Path) -> None:
    arena = nds.Arena("16 MiB", mode=0o640)
    array, me = nds.ones(5, arena=arena), os.geteuid()
    nds.publish("array", array, mode=0o640)
    mine = nds.attach("array", user=me, readonly=True, timeout=5)
    with pytest.raises(RuntimeError, match="replace"):
        nds.publish("array", nds.zeros(1, arena=arena), mode=0o640)
    assert is_offered(mine)
    assert nds.attach("array", user=me, readonly=True, timeout=0).sum() == 5, "also at once"
    assert os.listdir(offers) == ["offer-array"]


def test_a_name_that_another_process_takes_away_is_offered_no_more() -> None:
    arena = nds.Arena("16 MiB", mode=0o640)
    nds.publish("array", nds.ones(5, arena=arena), mode=0o640)
    mine = nds.attach("array", user=os.geteuid(), readonly=True, timeout=5)
    other = "import ndshare as nds; assert nds.unpublish('array')"
    command = [sys.executable, "-c", other]
    subprocess.run(command, env=environment(NDSHARE_OFFERS=os.environ["NDSHARE_OFFERS"]), check=True)
    assert wait_until(lambda: not is_offered(mine))


def test_the_same_object_again_leaves_what_is_offered(offers: Path) -> None:
    arena = nds.Arena("16 MiB", mode=0o640)
    array = nds.full(5, 2.0, arena=arena)
    nds.publish("array", array, mode=0o640)
    mine = nds.attach("array", user=os.geteuid(), readonly=True, timeout=5)
    nds.publish("array", array)
    assert os.listdir(offers) == ["offer-array"]
    again = "import ndshare as nds; x = nds.attach('array', timeout=5); nds.publish('array', x); print(x.sum())"
    assert own(again) == "10.0"
    assert nds.names() == {"array": "array"}
    assert is_offered(mine)
    assert nds.attach("array", user=os.geteuid(), readonly=True, timeout=0).sum() == 10
    with pytest.raises(RuntimeError, match="replace"):
        nds.publish("array", array[:2])
    assert is_offered(mine)
    nds.publish("array", array, replace=True)
    assert not is_offered(mine)


def test_names_are_looked_after_once_a_second_and_not_with_each_reader(offers: Path) -> None:
    arena = nds.Arena("16 MiB", mode=0o640)
    begun = time.monotonic()
    nds.publish("array", nds.ones(5, arena=arena), mode=0o640)
    (offers / "offer-array").rename(offers / "offer-other")
    with connected(offers, "other", 1) as lines:
        assert answer(lines[0]) == (0, 1)
        assert is_over(lines[0])
        assert 0.9 < time.monotonic() - begun < HANG


POINTS = [point for point in _native.KILL_POINTS if point.startswith("offer:")]


@pytest.mark.crash
@pytest.mark.skipif(not POINTS, reason="this build has no kill points; build with --features killpoints")
@pytest.mark.parametrize("point", POINTS)
def test_who_dies_while_it_offers_hinders_nobody(point: str, offers: Path) -> None:
    source = """
    from ndshare import _native
    arena = nds.Arena("16 MiB", mode=0o640)
    _native.kill_at(sys.argv[1])
    nds.publish("x", nds.ones(3, arena=arena), mode=0o640)
    nds.unpublish("x")
    """
    done = run(READ + unindented(source), point, env=own_environment())
    assert done.code == -signal.SIGKILL, done
    with pytest.raises(nds.Timeout):
        nds.attach("x", user=os.geteuid(), readonly=True, timeout=0)
    arena = nds.Arena("16 MiB", mode=0o640)
    nds.publish("x", nds.full(3, 2.0, arena=arena), mode=0o640)
    assert nds.attach("x", user=os.geteuid(), readonly=True, timeout=5).sum() == 6
    assert os.listdir(offers) == ["offer-x"], "what the dead one left is gone"


# ---- squatters and liars --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ("symlink", "symbolic link"),
        ("file", "symbolic link or a file"),
        ("writable", "mode 40?777|mode 777"),
        pytest.param("foreign", "belongs to user 65534", marks=needs_root),
    ],
)
def test_a_squatted_directory_is_refused(how: str, match: str, offers: Path, tmp_path: Path) -> None:
    if how == "symlink":
        offers.symlink_to(tmp_path)
    elif how == "file":
        offers.write_bytes(b"")
    else:
        offers.mkdir()
        offers.chmod(0o777 if how == "writable" else 0o711)
    if how == "foreign":
        os.chown(offers, NOBODY, NOBODY)
    arena = nds.Arena("16 MiB", mode=0o640)
    with pytest.raises(nds.AttachError, match=match):
        nds.publish("x", nds.ones(3, arena=arena), mode=0o640)
    with pytest.raises(nds.AttachError, match=match):
        nds.attach("x", user=os.geteuid(), readonly=True, timeout=0)
    assert nds.names() == {}


@pytest.mark.parametrize(
    ("how", "match"),
    [("file", "something else than a socket"), pytest.param("foreign", "belongs to user 65534", marks=needs_root)],
)
def test_a_squatted_socket_is_refused(how: str, match: str, offers: Path) -> None:
    offers.mkdir(mode=0o711)
    place = offers / "offer-x"
    if how == "file":
        place.write_bytes(b"")
    else:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as squatter:
            squatter.bind(str(place))
        os.chown(place, NOBODY, NOBODY)
    with pytest.raises(nds.AttachError, match=match):
        nds.attach("x", user=os.geteuid(), readonly=True, timeout=0)


@needs_root
def test_a_place_where_others_may_replace_things_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    monkeypatch.setenv("NDSHARE_OFFERS", str(tmp_path))
    arena = nds.Arena("16 MiB", mode=0o640)
    with pytest.raises(nds.AttachError, match="NDSHARE_OFFERS"):
        nds.publish("x", nds.ones(3, arena=arena), mode=0o640)


@needs_root
@pytest.mark.parametrize("mode", [0o1777, 0o755])
def test_a_place_of_somebody_elses_is_refused(mode: int, offers: Path) -> None:
    """Its owner may put something else in the place of what is there, whatever the mode says."""
    os.chown(offers.parent, NOBODY, NOBODY)
    offers.parent.chmod(mode)
    arena = nds.Arena("16 MiB", mode=0o640)
    for call in (
        lambda: nds.publish("x", nds.ones(3, arena=arena), mode=0o640),
        lambda: nds.attach("x", user=0, readonly=True, timeout=0),
    ):
        with pytest.raises(nds.AttachError, match="set NDSHARE_OFFERS to one of root's or of user 0's"):
            call()
    assert nds.names() == {}
    # To its owner it is as good as any.
    assert (
        read("a = nds.Arena('8 MiB', mode=0o640); nds.publish('x', nds.ones(3, arena=a), mode=0o640); print(1)") == "1"
    )


MEMFD_SIZE = 4 * MIB


def memory_file(seals: bool = True, size: int = MEMFD_SIZE) -> int:
    import fcntl

    file = os.memfd_create("lie", os.MFD_ALLOW_SEALING)
    os.ftruncate(file, size)
    if seals:
        fcntl.fcntl(file, 1033, 2 | 4)  # F_ADD_SEALS: shrink and grow
    return file


def read_only(file: int) -> int:
    return os.open(f"/proc/self/fd/{file}", os.O_RDONLY)


DOUBLES = bytes([1, 100, 16]) + b"<f8"


def letter(
    *,
    magic: bytes = b"ndsoffer",
    version: int = 1,
    what: int = 0,
    size: int = MEMFD_SIZE,
    place: int = 0,
    length: int = 1024,
    offset: int = 0,
    kind: int = 0,
    name: bytes = b"x",
    description: bytes = DOUBLES,
) -> bytes:
    """Return the letter of an array of 100 float64 named x."""
    head = magic + struct.pack("<2I4Q", version, what, size, place, length, offset)
    return head + struct.pack("<4I", kind, len(name), len(description), 0) + name + description


@contextmanager
def lying(offers: Path, message: bytes, files: list[int]) -> Iterator[None]:
    """Answer the next one who connects with a message and files of one's own."""
    offers.mkdir(mode=0o711, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(offers / "offer-x"))
        listener.listen()
        kept: list[socket.socket] = []

        def work() -> None:
            line, _ = listener.accept()
            kept.append(line)
            if message:
                socket.send_fds(line, [message], files)
            else:
                line.close()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            thread.join()
            for line in kept:
                line.close()
            os.unlink(offers / "offer-x")


def attach_x(timeout: float = 5) -> Any:
    return nds.attach("x", user=os.geteuid(), readonly=True, timeout=timeout)


def test_a_letter_that_is_true_is_believed(offers: Path) -> None:
    file = memory_file()
    os.pwrite(file, np.arange(100.0).tobytes(), 1024)
    opened = read_only(file)
    with lying(offers, letter(place=1024), [opened]):
        array = attach_x()
    os.close(opened)
    os.close(file)
    assert array.sum() == 4950
    assert not array.base.offered


BAD_LETTERS: dict[str, bytes] = {
    "longer data": letter(size=MEMFD_SIZE + 4096),
    "shorter data": letter(size=4096),
    "a place outside": letter(place=MEMFD_SIZE),
    "a place at the end of numbers": letter(place=(1 << 64) - 1024),
    "a place between blocks": letter(place=8),
    "a length outside": letter(length=MEMFD_SIZE + 1024),
    "no length": letter(length=0),
    "an odd length": letter(length=801),
    "an offset outside": letter(offset=512),
    "a huge offset": letter(offset=(1 << 64) - 8),
    "another name": letter(name=b"y"),
    "a name that is no text": letter(name=b"\xff"),
    "no description": letter(description=b""),
    "no dtype": letter(description=bytes([1, 100, 16])),
    "a shape outside": letter(description=bytes([1, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 16]) + b"<f8"),
    "strides outside": letter(description=bytes([1, 100, 0xFF, 0xFF, 0xFF, 0x7F]) + b"<f8"),
    "a dtype that there is not": letter(description=bytes([1, 100, 16]) + b"<q9"),
    "an object": letter(description=bytes([1, 100, 16]) + b"|O"),
    "a cache": letter(kind=2),
    "an arena": letter(kind=5),
    "a kind that there is not": letter(kind=77),
    "a ring without a head": letter(kind=1),
    "another version": letter(version=2),
    "another magic": letter(magic=b"nottrue!"),
    "an answer that there is not": letter(what=9),
    "half a letter": letter()[:40],
    "a longer letter": letter() + b"more",
    "one byte": b"x",
    "too long a letter": letter() + bytes(70_000),
}


@pytest.mark.parametrize("message", BAD_LETTERS.values(), ids=BAD_LETTERS.keys())
def test_a_letter_that_lies_is_an_error(message: bytes, offers: Path) -> None:
    file = memory_file()
    opened = read_only(file)
    with lying(offers, message, [opened]), pytest.raises((nds.AttachError, ValueError)):
        attach_x()
    os.close(opened)
    os.close(file)


@pytest.mark.parametrize("how", ["none", "two", "writable", "no seals", "a pipe", "a path", "shorter", "foreign"])
def test_a_file_that_is_not_what_it_should_be_is_an_error(how: str, offers: Path, tmp_path: Path) -> None:
    file = memory_file(seals=how != "no seals", size=4096 if how == "shorter" else MEMFD_SIZE)
    if how == "foreign":
        if os.geteuid() != 0:
            pytest.skip("only root can be somebody else")
        os.fchown(file, NOBODY, NOBODY)
    (tmp_path / "file").write_bytes(bytes(MEMFD_SIZE))
    files = (
        {
            "none": [],
            "two": [read_only(file), read_only(file)],
            "writable": [os.dup(file)],
            "a pipe": list(os.pipe())[:1],
            "a path": [os.open(tmp_path / "file", os.O_RDONLY)],
        }.get(how)
        if how not in ("no seals", "shorter", "foreign")
        else [read_only(file)]
    )
    before = len(links())
    with lying(offers, letter(), files or []), pytest.raises(nds.AttachError, match=r"one file|sealed memory file"):
        attach_x()
    assert wait_until(lambda: len(links()) <= before), "what was handed over is closed"
    for one in [file, *(files or [])]:
        os.close(one)


def test_who_hangs_up_may_be_there_again_soon(offers: Path) -> None:
    with lying(offers, b"", []), pytest.raises(nds.Timeout):
        attach_x(0.3)


def test_who_listens_and_never_answers_is_a_timeout(offers: Path) -> None:
    offers.mkdir(mode=0o711)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(offers / "offer-x"))
        listener.listen()
        begun = time.monotonic()
        with pytest.raises(nds.Timeout, match=f"process {os.getpid()}"):
            attach_x(0.3)
        assert time.monotonic() - begun < 5


def test_a_ring_that_is_written_over_is_an_error_or_nothing(offers: Path) -> None:
    arena = nds.Arena("16 MiB", mode=0o640)
    ring = nds.Ring(16, np.uint8, slots=2, keep=2, arena=arena)
    ring.put(np.zeros(16, np.uint8))
    nds.publish("ring", ring, mode=0o640)
    file = copy_of_data(offers, "ring")
    message, data = file
    rng = np.random.default_rng(0)
    place = struct.unpack_from("<Q", message, 24)[0]
    length = struct.unpack_from("<Q", message, 32)[0]
    nds.unpublish("ring")
    lie = memory_file(size=len(data))
    message = message.replace(b"ring", b"x", 1)
    message = message[:52] + struct.pack("<I", 1) + message[56:]
    for round_ in range(300):
        os.pwrite(lie, data[place : place + length], place)
        for _ in range(rng.integers(1, 6)):
            word = rng.integers(0, 2000 if round_ % 2 else length // 8)
            values = [0, 1, 2, 1 << 63, (1 << 64) - 1, int(rng.integers(0, 1 << 62)), 1 << 20]
            os.pwrite(lie, struct.pack("<Q", values[rng.integers(0, len(values))]), place + 8 * int(word))
        opened = read_only(lie)
        with lying(offers, message, [opened]):
            try:
                view = attach_x()
                for call in (view.latest, view.get, view.stats):
                    try:
                        call(timeout=0) if call != view.stats else call()
                    except (nds.Error, ValueError):
                        continue
            except (nds.Error, ValueError, TypeError):
                pass
        os.close(opened)
    os.close(lie)


def copy_of_data(offers: Path, name: str) -> tuple[bytes, bytes]:
    """Return the letter of an offer, and its data."""
    with connected(offers, name, 1) as (line,):
        message, files, _, _ = socket.recv_fds(line, 1 << 16, 4)
        data = os.pread(files[0], os.fstat(files[0]).st_size, 0)
        os.close(files[0])
    return message, data


# ---- twelve attacks -------------------------------------------------------------------------------------------------

ATTACKS: dict[str, str] = {
    "reopen": "fails(errno.EACCES, os.open, f'/proc/self/fd/{file}', os.O_RDWR)",
    "mmap": """
fails(errno.EACCES, mmap.mmap, file, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
private = mmap.mmap(file, 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
private[:8] = b"mine only"[:8]
""",
    "mprotect": """
shared = libc.mmap
shared.restype = ctypes.c_void_p
shared.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
address = shared(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, file, 0)
assert address not in (None, ctypes.c_void_p(-1).value)
says(errno.EACCES, libc.mprotect(ctypes.c_void_p(address), 4096, mmap.PROT_READ | mmap.PROT_WRITE))
MADV_REMOVE = 9
says(errno.EACCES, libc.madvise(ctypes.c_void_p(address), 4096, MADV_REMOVE))
""",
    "truncate": "fails(errno.EINVAL, os.ftruncate, file, 0)",
    "grow": """
fails(errno.EINVAL, os.ftruncate, file, 2 * os.fstat(file).st_size)
fails(errno.EBADF, os.posix_fallocate, file, os.fstat(file).st_size, 4096)
""",
    "punch": """
for mode in 1 | 2, 0, 0x10 | 1:
    says(errno.EBADF, libc.fallocate(file, mode, ctypes.c_long(0), ctypes.c_long(4096)))
""",
    "write": """
fails(errno.EBADF, os.write, file, b"x")
fails(errno.EBADF, os.pwrite, file, b"x", 0)
fails(errno.EBADF, os.copy_file_range, os.memfd_create("x"), file, 1)
""",
    "seals": """
F_ADD_SEALS = 1033
for seal in 1, 8, 16:
    fails(errno.EPERM, fcntl.fcntl, file, F_ADD_SEALS, seal)
""",
    "fchmod": """
fails(errno.EPERM, os.fchmod, file, 0o666)
fails(errno.EPERM, os.fchown, file, os.getuid(), -1)
fails(errno.EPERM, os.chmod, f"/proc/self/fd/{file}", 0o666)
fails(errno.EACCES, fcntl.fcntl, file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
""",
    "mem": """
fails(errno.EACCES, open, f"/proc/{publisher}/mem", "r+b")
fails(errno.EACCES, os.listdir, f"/proc/{publisher}/fd")
""",
    "pidfd": """
pidfd = os.pidfd_open(publisher)
for number in range(0, 2000):
    assert libc.syscall(438, pidfd, number, 0) == -1 and ctypes.get_errno() in (errno.EPERM, errno.EBADF)
""",
}

ATTACK = """
def fails(code, call, *args):
    try:
        call(*args)
    except OSError as error:
        assert error.errno == code, error
    else:
        raise AssertionError(f"{call} worked")

def says(code, result):
    assert result == -1 and ctypes.get_errno() == code, (result, os.strerror(ctypes.get_errno()))

publisher = int(sys.argv[1])
line, letter, (file,) = take("array")
assert os.pread(file, 8, struct.unpack_from("<Q", letter, 24)[0]) == struct.pack("<d", 7.0)
"""


@needs_root
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_an_attack_is_refused(attack: str) -> None:
    arena = nds.Arena("16 MiB", mode=0o604)
    array = nds.full(1000, 7.0, arena=arena)
    nds.publish("array", array, mode=0o604, group=0)
    before = nds.stats(arena)
    assert read(ATTACK + attack + "\nprint('refused')", str(os.getpid())) == "refused"
    unharmed(arena, array, before)


def unharmed(arena: nds.Arena, array: np.ndarray[Any, Any], before: Any) -> None:
    assert (array == 7).all()
    after = nds.stats(arena)
    for key in "id", "bytes", "blocks", "tickets":
        assert after[key] == before[key]
    assert [one["pid"] for one in after["participants"]] == [os.getpid()]
    array[0] = 8
    array[0] = 7
    source = "a = nds.attach('array', timeout=20)\nprint(a.sum(), nds.unpublish('array'))"
    assert own(source) == "7000.0 True"
    assert nds.zeros(100, arena=arena).sum() == 0


STORM = """
line, letter, (file,) = take("ring")
F_OFD_SETLK = 37
lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
fcntl.fcntl(file, F_OFD_SETLK, lock)
fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
size = os.fstat(file).st_size
mapping = libc.mmap
mapping.restype = ctypes.c_void_p
mapping.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
address = mapping(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file, 0)
place, length = struct.unpack_from("<2Q", letter, 24)
FUTEX, WAKE, REQUEUE = 202, 1, 3
words = [ctypes.c_void_p(address + place + 8 * word) for word in range(48)]
print("storm", flush=True)
count = 0
moved = 0
while True:
    for word in words[:-1]:
        if count % 4 == 0:
            libc.syscall(FUTEX, word, WAKE, 1 << 20, None, None, 0)
        # Nobody wakes them there.
        moved += max(libc.syscall(FUTEX, word, REQUEUE, 0, ctypes.c_void_p(1 << 20), words[-1], 0), 0)
    count += 1
    if moved and count % 2000 == 0:
        print("moved", flush=True)
        moved = 0
"""

WORKS = """
import multiprocessing as mp
ring, lock = nds.attach("ring", timeout=20), nds.attach("lock", timeout=20)
reader = ring.reader()
print("ready", flush=True)
for number in range(int(sys.argv[1])):
    frame = reader.get(timeout=20)
    with lock:
        assert frame.seq == number and (frame == number % 200).all()
print("done", flush=True)
"""


@needs_root
@pytest.mark.timeout(300)
def test_a_storm_of_wakes_and_requeues_stops_nobody() -> None:
    """Whoever waits on a word of the data looks again soon, also if it was moved to another word."""
    arena = nds.Arena("16 MiB", mode=0o604)
    ring, lock = nds.Ring(1000, np.uint8, slots=2, arena=arena), nds.Lock(arena=arena)
    nds.publish("ring", ring, mode=0o604, group=0)
    nds.publish("lock", lock)
    count = 300
    with reading(STORM) as storm, running(READ + WORKS, str(count)) as worker:
        assert said(storm) == "storm"
        assert said(worker) == "ready"
        longest = 0.0
        for number in range(count):
            begun = time.monotonic()
            # Now the reader waits, now this writer does.
            if number % 10 == 0:
                time.sleep(0.01)
            ring.put(np.full(1000, number % 200, np.uint8), timeout=20)
            with lock:
                pass
            longest = max(longest, time.monotonic() - begun)
        assert said(worker) == "done"
        assert worker.wait(HANG) == 0
        assert longest < 2, longest
        # Joins, deaths and sweeps go on: the locks that tell who lives are on another file.
        with running(
            READ + "reader = nds.attach('ring').reader()\nrefused(nds.Empty, reader.get, timeout=0)\nheard('in')"
        ) as other:
            assert said(other) == "in"
            assert [one["pid"] for one in ring.stats()["readers"]] == [other.pid]
            other.kill()
            other.wait(HANG)
        for _ in range(10):
            ring.put(np.zeros(1000, np.uint8), timeout=20)
        assert ring.stats()["readers"] == []
        assert [one["pid"] for one in nds.stats(arena)["participants"]] == [os.getpid()]
        assert said(storm) == "moved"
        assert storm.poll() is None
