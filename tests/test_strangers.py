"""Programs without a parent in common: sessions by name, objects by name, and a registry that is not fooled.

Strangers are new interpreters with a clean environment. Each test has a registry of its own, below XDG_RUNTIME_DIR.
"""

from __future__ import annotations

import ast
import gc
import multiprocessing as mp
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from helpers import HANG, NO_DESCRIPTORS, Puppet, environment, held, label, run, script, wait_until
from ndshare import _native
from test_rust_session import output, program

POINTS = [point for point in _native.KILL_POINTS if point.startswith("directory:")]
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
needs_points = pytest.mark.skipif(not POINTS, reason="this build has no kill points; build with --features killpoints")


def needs_interpreter(user: int, group: int) -> None:
    if not may_run(user, group):
        pytest.skip(f"user {user} may not run {sys.executable} with this package")


@cache
def may_run(user: int, group: int) -> bool:
    """Say whether another user reaches the interpreter and the package: not where they are in somebody's home."""
    command = [sys.executable, "-c", "import ndshare"]
    try:
        done = subprocess.run(
            command, user=user, group=group, extra_groups=[], cwd="/", capture_output=True, check=False
        )
    except PermissionError:
        return False
    return done.returncode == 0


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give each test a directory for a registry of its own."""
    path = tmp_path / "runtime"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    yield path
    for name in nds.names():
        nds.unpublish(name)
    gc.collect()
    assert [entry for entry in entries(path) if entry.startswith(".")] == [], entries(path)


def entries(runtime: Path) -> list[str]:
    folder = runtime / "ndshare"
    return sorted(os.listdir(folder)) if folder.exists() else []


def stranger(source: str, *args: str, **env: str) -> str:
    """Return what a program printed that was started by nobody."""
    return run(source, *args, env=environment(**env)).clean().strip()


@contextmanager
def running(source: str, *args: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program that was started by nobody; it is gone after the block."""
    command = [sys.executable, str(script(source)), *args]
    with subprocess.Popen(
        command, env=environment(**env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def ask(process: subprocess.Popen[str], text: str = "") -> str:
    assert process.stdin
    process.stdin.write(text + "\n")
    process.stdin.flush()
    return said(process)


# ---- names for strangers --------------------------------------------------------------------------------------------


ATTACH = """
import numpy as np
import ndshare as nds
a = nds.attach("array", timeout=5)
assert (a.shape, a.strides, a.dtype.descr) == ((2, 3), (36, 12), [("x", "<f4"), ("y", "<i2")])
assert a.flags.writeable and nds.is_shared(a)
a["x"] += 1
fixed = nds.attach("fixed", timeout=5)
assert not fixed.flags.writeable and fixed.tolist() == [1, 2]
ring = nds.attach("ring")
assert (ring.shape, ring.dtype, ring.slots, ring.name) == ((4,), "uint8", 8, None)
with nds.attach("ring") as writing:
    ring.put([1, 2, 3, 4])
cache = nds.attach("cache")
assert cache["key"].tolist() == [0, 1, 2]
cache["other"] = np.arange(5)
lock = nds.attach("lock")
assert lock.locked() and not lock.acquire(timeout=0)
with nds.attach("overlay").use("ints") as v:
    assert v.D.dtype == "int32" and v.D[0] == 0x3F800000
    v.D[1] = 5
arena = nds.attach("arena")
x = nds.full(1000, 7, arena=arena)
nds.publish("made by a stranger", x)
print(sorted(nds.names().items()), arena.id, nds.stats()["id"], flush=True)
input()
"""


OBJECTS = ("ring", "cache", "lock", "arena", "overlay")


def test_two_programs_share_each_kind_by_name() -> None:
    base = held()
    whole = nds.zeros((2, 6), [("x", "f4"), ("y", "i2")])
    view = whole[:, ::2]
    fixed = nds.array([1, 2])
    fixed.flags.writeable = False
    ring, cache, lock, arena = nds.Ring(4, np.uint8, slots=8), nds.Cache("1 MiB"), nds.Lock(), nds.Arena("8 MiB")
    overlay = nds.Overlay(floats={"A": ((3, 4), "f4"), "B": (2, "f8")}, ints={"D": (10, "i4")})
    with overlay.use("floats") as v:
        v.A[:] = 1
    del v
    cache["key"] = np.arange(3)
    frames = ring.reader()
    objects: dict[str, Any] = {
        "array": view,
        "fixed": fixed,
        "ring": ring,
        "cache": cache,
        "lock": lock,
        "arena": arena,
        "overlay": overlay,
    }
    for name, thing in objects.items():
        nds.publish(name, thing)
    with lock, running(ATTACH) as other:
        listed, arena_id, session = said(other).rsplit(" ", 2)
        kinds = {"array": "array", "fixed": "array"} | {name: name for name in OBJECTS}
        assert ast.literal_eval(listed) == sorted({**kinds, "made by a stranger": "array"}.items())
        assert (arena_id, session != nds.stats()["id"]) == (arena.id, True)
        assert (view["x"] == 1).all()
        assert (whole["x"][:, 1::2] == 0).all()
        assert [frame.tolist() for frame in frames] == [[1, 2, 3, 4]]
        assert cache["other"].tolist() == [0, 1, 2, 3, 4]
        with overlay.use("ints") as v:
            assert v.D[1] == 5
        del v
        theirs = nds.attach("made by a stranger", timeout=0)
        assert (theirs.sum(), nds.stats(arena)["blocks"]) == (7000, 1)
        del theirs
    for name in objects:
        assert nds.unpublish(name)
        assert not nds.unpublish(name)
    objects.clear()
    del view, fixed, overlay, ring, cache, lock, frames, whole, thing
    assert held() == base


def test_who_attaches_waits_until_somebody_publishes() -> None:
    source = """
    import ndshare as nds
    print("waits", flush=True)
    print(nds.attach("late", timeout=60).tolist())
    """
    with running(source) as other:
        assert said(other) == "waits"
        nds.publish("late", nds.array([1, 2]))
        assert said(other) == "[1, 2]"


def test_a_timeout_says_which_names_there_are(runtime: Path) -> None:
    with pytest.raises(nds.Timeout, match=r'"x".*there are no names'):
        nds.attach("x", timeout=0)
    assert entries(runtime) == []
    nds.publish("camera", nds.zeros(1))
    with pytest.raises(nds.Timeout, match=f'"x".*there are "camera" in {runtime}/ndshare') as caught:
        nds.attach("x", timeout=0.05)
    assert "publish" in str(caught.value)


PUBLISH = """
import os, sys, ndshare as nds
array = nds.array([3, 4])
nds.publish("x", array, replace="replace" in sys.argv)
print(os.getpid(), flush=True)
for line in sys.stdin:
    print(eval(line), flush=True)
"""


def test_a_name_outlives_its_publisher_and_ends_with_the_last_who_has_the_object(runtime: Path) -> None:
    with running(PUBLISH) as publisher:
        said(publisher)
        array = nds.attach("x", timeout=5)
        publisher.kill()
        publisher.wait(HANG)
    assert nds.names() == {"x": "array"}
    assert stranger("import ndshare as nds; print(nds.attach('x', timeout=0))") == "[3 4]"
    del array
    assert nds.names() == {}
    assert entries(runtime) == []
    assert not (runtime / "ndshare").exists(), "nothing is left behind"


DIES = """
import os, signal
import numpy as np
import ndshare as nds
nds.publish("array", nds.zeros(5))
nds.publish("ring", nds.Ring(2, np.uint8, slots=2))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("first", ["names", "attach", "publish"])
def test_a_publisher_that_was_killed_leaves_no_name_though_its_session_lives_on(first: str, runtime: Path) -> None:
    mine = nds.zeros(3)
    command = [sys.executable, str(script(DIES))]
    assert subprocess.run(command, timeout=HANG, check=False).returncode == -signal.SIGKILL
    assert entries(runtime) == ["name-array", "name-ring"]
    for name in "array", "ring":
        if first == "attach":
            with pytest.raises(nds.Timeout, match=f'"{name}"'):
                nds.attach(name, timeout=0)
        elif first == "publish":
            nds.publish(name, mine)
            assert nds.attach(name).shape == (3,)
    assert nds.names() == ({"array": "array", "ring": "array"} if first == "publish" else {})


ENDS = """
import ndshare as nds
from ndshare import _native
nds.publish("x", nds.ones(3))
print("published", flush=True)
input()
_native.stop_at("directory:locked")
"""


@contextmanager
def stopped_at_its_end() -> Iterator[subprocess.Popen[str]]:
    """Run a program that publishes an array, and is stopped as it takes the name back, with the registry locked."""
    with running(ENDS) as publisher:
        assert said(publisher) == "published"
        assert publisher.stdin
        publisher.stdin.write("\n")
        publisher.stdin.flush()
        state = Path(f"/proc/{publisher.pid}/stat")
        assert wait_until(lambda: state.read_text().rsplit(")", 1)[1].split()[0] == "T")
        yield publisher


@needs_points
def test_who_attaches_while_the_publisher_ends_keeps_the_name(runtime: Path) -> None:
    with stopped_at_its_end() as publisher:
        kept = nds.attach("x", timeout=0)
        publisher.send_signal(signal.SIGCONT)
        publisher.wait(HANG)
    assert entries(runtime) == ["name-x"]
    assert kept.tolist() == [1, 1, 1]


@needs_points
@pytest.mark.parametrize("call", ["publish", "unpublish"])
def test_who_waits_for_the_registry_keeps_to_a_timeout_and_learns_who_has_it(call: str, runtime: Path) -> None:
    """Once it waited for ever, and without a word, for a process that was stopped."""
    with stopped_at_its_end() as publisher:
        mine = nds.ones(2)
        waiting = {"publish": lambda: nds.publish("y", mine, timeout=0.1), "unpublish": lambda: nds.unpublish("x", 0.1)}
        with pytest.raises(nds.Timeout, match=rf"names .* It is held by pid {publisher.pid} \(.*, stopped\)"):
            waiting[call]()
        assert entries(runtime) == ["name-x"]
        publisher.send_signal(signal.SIGCONT)
        publisher.wait(HANG)
    for wrong in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            nds.publish("y", mine, timeout=wrong)
    nds.publish("y", mine, timeout=HANG)
    assert nds.unpublish("y", timeout=None)


SHORT = (
    """
import os, resource, sys
import ndshare as nds
nds.zeros(1)
"""
    + NO_DESCRIPTORS
    + """for descriptor in taken[: int(sys.argv[1])]:
    os.close(descriptor)
try:
    names = nds.names()
    assert names == {"x": "array"}, names
    assert nds.attach("x", timeout=0).tolist() == [1]
except nds.Timeout as error:
    sys.exit(str(error))
except nds.Error as error:
    assert "descriptor" in str(error) or "open files" in str(error), error
"""
)


@pytest.mark.parametrize("free", [2, 3, 4])
def test_who_has_no_descriptors_left_takes_no_living_name_away(free: int, runtime: Path) -> None:
    with running("import ndshare as nds\na = nds.ones(1)\nnds.publish('x', a)\nprint(1, flush=True)\ninput()") as one:
        assert said(one) == "1"
        kept = nds.attach("x")
    stranger(SHORT, str(free))
    assert entries(runtime) == ["name-x"]
    assert kept.tolist() == [1]


def test_who_published_keeps_the_object_until_it_is_replaced_or_taken_away() -> None:
    base = held()
    nds.publish("x", nds.zeros(10_000))
    gc.collect()
    assert held() > base
    assert nds.attach("x", timeout=0).shape == (10_000,)
    nds.publish("x", nds.zeros(1000), replace=True)
    assert nds.attach("x").shape == (1000,)
    assert stranger("import ndshare as nds; print(nds.unpublish('x'), nds.names())") == "True {}"
    assert held() > base, "it has not looked yet"
    assert nds.names() == {}
    assert held() == base


def test_a_name_that_lives_is_not_taken_but_by_replacing_it() -> None:
    mine = nds.zeros(3)
    nds.publish("x", mine)
    nds.publish("x", mine)
    with pytest.raises(RuntimeError, match=f'"x" to be free.*one that lives .array of process {os.getpid()}'):
        nds.publish("x", nds.zeros(3))
    with running(PUBLISH, "replace") as other:
        said(other)
        assert nds.attach("x").tolist() == [3, 4]
        with pytest.raises(RuntimeError, match="to be free"):
            nds.publish("x", mine)
    nds.publish("x", mine)
    assert nds.attach("x").tolist() == [0, 0, 0], "the other one is gone"


def test_forked_children_keep_a_name_as_they_keep_the_object() -> None:
    nds.publish("x", nds.array([5]))
    with Puppet("fork") as child:
        child.do("arena_id")
        assert nds.unpublish("x")
        assert nds.names() == {}
        assert child.do("getenv", "XDG_RUNTIME_DIR") == os.environ["XDG_RUNTIME_DIR"]


def test_what_is_not_shared_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a shared array to publish.*nds\.asarray"):
        nds.publish("x", np.zeros(3))


@pytest.mark.parametrize("thing", ["text", 7, None, {}, memoryview(b"abc")], ids=label)
def test_what_cannot_be_shared_is_refused(thing: Any) -> None:
    with pytest.raises(TypeError, match="expected a shared array, a Ring, a Cache"):
        nds.publish("x", thing)
    ring = nds.Ring(1, slots=2)
    with pytest.raises(TypeError, match="Reader"):
        nds.publish("x", ring.reader())


BAD = ["", ".", "..", "a/b", "/", "../../etc/passwd", "a\0b", "line\n", "\x1b[2J", "a,b", "x" * 201, "é" * 150]


@pytest.mark.parametrize("name", BAD, ids=repr)
def test_names_that_cannot_be(name: str, runtime: Path) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: nds.publish(name, nds.zeros(1)),
        lambda: nds.attach(name, timeout=0),
        lambda: nds.unpublish(name),
        lambda: nds.session(name),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="expected a name of 1 to 200 bytes without slashes"):
            call()
    assert entries(runtime) == []


@pytest.mark.parametrize("name", ["a b", "...", "-rf", "%2F", "x" * 200, "\N{SNOWMAN}" * 66, "..x", "a:b", "~", "*"])
def test_names_that_can_be(name: str) -> None:
    nds.publish(name, nds.array([7]))
    assert nds.names() == {name: "array"}
    assert stranger("import sys, ndshare as nds; print(nds.attach(sys.argv[1], 5)[0])", name) == "7"


# ---- a registry that is not fooled ----------------------------------------------------------------------------------


def squat(runtime: Path, how: str) -> Path:
    """Put something in the place of the name x that we would not have made."""
    folder = runtime / "ndshare"
    nds.publish("keeps the folder", nds.zeros(1))
    nds.publish("x", nds.zeros(1))
    mine = folder / "name-x"
    text = mine.read_bytes()
    if how == "hard link":
        os.link(mine, runtime / "other")
        return mine
    mine.unlink()
    if how == "symlink":
        (runtime / "theirs").write_bytes(text)
        (runtime / "theirs").chmod(0o600)
        mine.symlink_to(runtime / "theirs")
    elif how == "directory":
        mine.mkdir(mode=0o700)
    elif how == "fifo":
        os.mkfifo(mine, 0o600)
    elif how == "socket":
        os.mknod(mine, stat.S_IFSOCK | 0o600)
    else:
        mine.write_bytes(b"x" * 100_000 if how == "huge" else b"garbage" if how == "garbage" else text)
        mine.chmod(0o622 if how == "writable by others" else 0o640 if how == "readable by others" else 0o600)
    if how == "foreign":
        os.chown(mine, NOBODY, NOBODY)
    return mine


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ("symlink", "symbolic link"),
        ("hard link", "several hard links"),
        ("writable by others", "mode 622"),
        ("readable by others", "mode 640"),
        ("directory", "something else than a file"),
        ("fifo", "something else than a file"),
        ("socket", "something else than a file"),
        ("huge", "larger"),
        ("garbage", "7 other bytes"),
        pytest.param("foreign", "belongs to uid 65534", marks=needs_root),
    ],
)
def test_squatted_names_are_refused(how: str, match: str, runtime: Path) -> None:
    place = squat(runtime, how)
    with pytest.raises(nds.AttachError, match=match):
        nds.attach("x", timeout=0)
    with pytest.raises((nds.AttachError, RuntimeError), match=match if how != "garbage" else "another version"):
        nds.publish("x", nds.zeros(2))
    assert nds.names() == {"keeps the folder": "array"}, "the others go on"
    assert stat.S_IFMT(place.lstat().st_mode) == {
        "symlink": stat.S_IFLNK,
        "directory": stat.S_IFDIR,
        "fifo": stat.S_IFIFO,
        "socket": stat.S_IFSOCK,
    }.get(how, stat.S_IFREG)
    if how == "directory":
        place.rmdir()
    else:
        place.unlink()
    nds.publish("x", nds.array([1]))
    assert nds.attach("x").tolist() == [1]


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ("symlink", "symbolic link or a file"),
        ("file", "symbolic link or a file"),
        ("world-writable", "mode 777"),
        ("readable by others", "mode 755"),
        pytest.param("foreign", "belongs to uid 65534", marks=needs_root),
    ],
)
def test_a_registry_that_others_reach_is_refused(how: str, match: str, runtime: Path) -> None:
    folder = runtime / "ndshare"
    if how == "symlink":
        (runtime / "real").mkdir(mode=0o700)
        folder.symlink_to(runtime / "real")
    elif how == "file":
        folder.write_text("")
    else:
        folder.mkdir()
        folder.chmod({"world-writable": 0o777, "readable by others": 0o755}.get(how, 0o700))
    if how == "foreign":
        os.chown(folder, NOBODY, NOBODY)
    calls: list[Callable[[], Any]] = [
        lambda: nds.publish("x", nds.zeros(1)),
        lambda: nds.attach("x", timeout=0),
        lambda: nds.unpublish("x"),
        lambda: nds.session("x"),
        nds.names,
    ]
    for call in calls:
        with pytest.raises(nds.AttachError, match=match):
            call()
    assert run("import ndshare as nds; nds.zeros(1)", env=environment(NDSHARE_SESSION="@x")).code == 1
    if how in ("symlink", "file"):
        folder.unlink()
    else:
        assert list(folder.iterdir()) == []
        folder.rmdir()


SHOW = """
import os, sys
os.umask(int(sys.argv[1], 8))
import ndshare as nds
nds.publish("x", nds.array([7]))
print(nds.attach("x", timeout=0)[0], nds.names(), flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("umask", ["000", "022", "077", "277", "777"])
def test_every_umask_serves(umask: str, runtime: Path) -> None:
    """As root it does by itself; for other users the same is tested in Rust."""
    with running(SHOW, umask) as process:
        assert said(process) == "7 {'x': 'array'}"
        folder = runtime / "ndshare"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(entry.stat().st_mode) for entry in folder.iterdir()} == {0o600}
        assert process.stdin
        process.stdin.close()
        assert process.wait(HANG) == 0
    assert not folder.exists(), "who ends in order takes its names along"


def test_a_runtime_directory_that_is_not_ones_own_is_not_used(runtime: Path) -> None:
    runtime.chmod(0o755)
    name = f"test of ndshare {os.getpid()}"  # other programs, and other runs, have names there
    nds.publish(name, nds.zeros(1))
    assert entries(runtime) == []
    places = [Path(f"/run/user/{os.geteuid()}/ndshare"), Path(f"/dev/shm/ndshare-{os.geteuid()}")]
    assert any((place / f"name-{name}").exists() for place in places)
    assert stranger("import sys, ndshare as nds; print(nds.unpublish(sys.argv[1]))", name) == "True"
    assert not any((place / f"name-{name}").exists() for place in places)
    runtime.chmod(0o700)


def test_a_dtype_of_too_many_fields_is_refused_by_who_publishes(runtime: Path) -> None:
    """It was published, and nobody could attach to it."""
    many = nds.zeros(2, [(f"field{number}", "f4") for number in range(5000)])
    with pytest.raises(ValueError, match=r"expected an array that is said in 65536 bytes, got \d{5,}: take a dtype"):
        nds.publish("many", many)
    assert nds.names() == {}
    some = nds.zeros(2, [(f"field{number}", "f4") for number in range(1000)])
    nds.publish("some", some)
    assert stranger("import ndshare as nds; print(len(nds.attach('some', timeout=5).dtype))") == "1000"
    assert entries(runtime) == ["name-some"]


# ---- deaths ---------------------------------------------------------------------------------------------------------


@needs_points
@pytest.mark.crash
@pytest.mark.parametrize("point", POINTS)
def test_who_dies_in_the_registry_hinders_nobody(point: str, runtime: Path) -> None:
    source = """
    import sys, ndshare as nds
    from ndshare import _native
    _native.kill_at(sys.argv[1])
    nds.publish("x", nds.array([1]))
    nds.publish("x", nds.array([2]), replace=True)
    nds.unpublish("x")
    """
    mine = nds.array([9])
    if point != "directory:made":
        nds.publish("mine", mine)
    done = run(source, point, env=environment())
    assert done.code == -signal.SIGKILL, done
    assert nds.names() in ({}, {"mine": "array"})
    nds.publish("x", nds.array([3]))
    assert stranger("import ndshare as nds; print(nds.attach('x', timeout=0)[0])") == "3"
    assert [entry for entry in entries(runtime) if entry.startswith(".")] == []


def test_a_child_that_is_forked_in_the_midst_does_not_keep_the_registry(runtime: Path) -> None:
    """The lock goes with the thread that has it, which a child does not have."""
    stop = threading.Event()
    array = nds.zeros(1)

    def publish() -> None:
        while not stop.is_set():
            nds.publish("x", array, replace=True)

    thread = threading.Thread(target=publish)
    thread.start()
    context, children = mp.get_context("fork"), []
    gate = context.Event()
    for _ in range(20):
        child = context.Process(target=workers_wait, args=(gate,))
        child.start()
        children.append(child)
    stop.set()
    thread.join(HANG)
    assert stranger("import ndshare as nds; nds.publish('y', nds.zeros(1)); print(len(nds.names()))") == "2"
    gate.set()
    for child in children:
        child.join(HANG)
        assert child.exitcode == 0


def workers_wait(gate: Any) -> None:
    assert nds.unpublish("z") is False, "a child may go to the registry itself"
    gate.wait(HANG)


def test_publishers_that_are_killed_at_random_leave_nothing_that_hinders(runtime: Path) -> None:
    source = """
    import itertools, ndshare as nds
    print("born", flush=True)
    for number in itertools.count():
        nds.publish(f"n{number % 5}", nds.full(10, number), replace=True)
        if number % 3 == 0:
            nds.unpublish(f"n{number % 5}")
    """
    for round_ in range(10):
        with running(source) as process:
            said(process)
            threading.Event().wait(0.005 * round_)
            process.kill()
            process.wait(HANG)
        nds.publish("mine", nds.array([round_]), replace=True)
        assert nds.attach("mine").tolist() == [round_]
        assert nds.names() == {"mine": "array"}
        assert entries(runtime) == ["name-mine"]


# ---- sessions by name -----------------------------------------------------------------------------------------------


SESSION = "import ndshare as nds; nds.zeros(1); print(nds.stats()['id'])"

SERVE = """
import os, sys
import numpy as np
import ndshare as nds
if len(sys.argv) > 1:
    nds.session(sys.argv[1])
cache = nds.Cache("1 MiB", name="tiles", load=lambda key: np.full(2, os.getpid()))
ring = nds.Ring(2, "i8", slots=4, name="frames")
lock = nds.Lock(name="guard")
arena = nds.Arena("8 MiB", name="large")
print(nds.stats()["id"], os.environ["NDSHARE_SESSION"].split(",")[-1], flush=True)
for line in sys.stdin:
    print(eval(line), flush=True)
"""


def test_programs_that_say_a_name_share_everything_with_a_name() -> None:
    with running(SERVE, NDSHARE_SESSION="@lab") as first, running(SERVE, "lab") as second:
        [(session, named), other] = [said(one).split() for one in (first, second)]
        assert (named, other) == ("@lab", [session, "@lab"])
        loaded = ask(first, "int(cache[1][0])")
        assert ask(second, "int(cache[1][0]), cache.info()['loads']") == f"({loaded}, 1)"
        ask(first, "exec('frames = ring.reader()')")
        assert ask(second, "ring.put([1, 2])") == "0"
        assert ask(first, "frames.get(5).tolist()") == "[1, 2]"
        assert ask(first, "lock.acquire()") == "True"
        assert ask(second, "lock.acquire(timeout=0)") == "False"
        assert ask(first, "arena.id") == ask(second, "arena.id")
        assert ask(first, "nds.session('lab')") == "None"
        first.kill()
        first.wait(HANG)
        with running(SERVE, NDSHARE_SESSION="@lab") as third:
            assert said(third).split()[0] == session, "it goes on without the one that made it"
            assert ask(third, "int(cache[1][0])") == ask(second, "int(cache[1][0])")
    assert stranger(SESSION, NDSHARE_SESSION="@lab") != session, "it ended with the last"


CHILDREN = """
import multiprocessing as mp, subprocess, sys
import ndshare as nds

def tell(queue):
    queue.put((nds.stats()["id"], sorted(nds.Cache("1 MiB", name="tiles"))))

if __name__ == "__main__":
    nds.session("lab")
    cache = nds.Cache("1 MiB", name="tiles")
    cache["a"] = nds.zeros(1)
    expected = nds.stats()["id"], ["a"]
    for method in ("fork", "spawn", "forkserver"):
        context = mp.get_context(method)
        queue = context.Queue()
        child = context.Process(target=tell, args=(queue,))
        child.start()
        assert queue.get(timeout=60) == expected, method
        child.join()
    program = "import ndshare as nds; print(nds.stats()['id'], *nds.Cache('1 MiB', name='tiles'))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == f"{expected[0]} a\\n"
    print("good")
"""


def test_children_inherit_a_session_with_a_name() -> None:
    assert stranger(CHILDREN) == "good"


def test_a_session_that_was_used_is_not_left() -> None:
    source = """
    import ndshare as nds
    x = nds.zeros(1)
    try:
        nds.session("lab")
    except RuntimeError as error:
        print(error)
    nds.session("mine")
    try:
        nds.session("lab")
    except RuntimeError as error:
        print(error)
    """
    with running(SERVE, NDSHARE_SESSION="@lab") as other:
        said(other)
        first, second = stranger(source).splitlines()
    assert "before the first use" in first
    assert "NDSHARE_SESSION=@lab" in first
    assert 'in session "mine"' in second


def test_what_is_no_name_in_the_environment_is_an_error() -> None:
    done = run(SESSION, env=environment(NDSHARE_SESSION="@a/b"))
    assert done.code == 1
    assert "ValueError: expected a name of 1 to 200 bytes without slashes" in done.err


def test_a_session_that_may_be_elsewhere_says_which_file_names_it(runtime: Path) -> None:
    stranger("import os, ndshare as nds; nds.session('s'); os._exit(0)")
    entry = runtime / "ndshare" / "session-s"
    locator, numbering = entry.read_text().split()
    entry.write_text(f"{locator} {int(numbering) + 1}\n")  # as a container writes that is gone
    done = run("import ndshare as nds; nds.session('s')", env=environment())
    assert done.code == 1
    assert 'AttachError: the session "s" cannot be joined' in done.err
    assert f"remove {entry}" in done.err
    assert entry.exists()


ONE_OF_MANY = """
import sys, ndshare as nds
sys.stdin.readline()
ring = nds.Ring(2, "i8", slots=16, name="frames", keep=16)
lock, cache = nds.Lock(name="guard"), nds.Cache("1 MiB", name="tiles")
arena = nds.Arena("8 MiB", name="large")
ring.put([0, 0])
with lock:
    cache[nds.stats()["id"]] = nds.zeros(1)
print(nds.stats()["id"], arena.id, flush=True)
sys.stdin.readline()
print(ring.stats()["written"], len(cache), flush=True)
"""


def test_of_those_who_make_a_name_at_once_all_get_one_object() -> None:
    command = [sys.executable, str(script(ONE_OF_MANY))]
    many = [
        subprocess.Popen(
            command, env=environment(NDSHARE_SESSION="@race"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    try:
        for process in many:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        assert len({said(process) for process in many}) == 1
        assert {ask(process) for process in many} == {"6 1"}
    finally:
        for process in many:
            process.kill()
            process.communicate()


# ---- name= ----------------------------------------------------------------------------------------------------------


def test_a_name_finds_the_same_object_as_long_as_somebody_has_it() -> None:
    base = held()
    ring, lock, arena = nds.Ring(2, slots=4, name="r"), nds.Lock(name="l"), nds.Arena("4 MiB", name="a")
    frames = nds.Ring(2, slots=4, name="r").reader()
    ring.put([1, 2])
    assert frames.get(5).tolist() == [1, 2]
    with lock:
        assert nds.Lock(name="l").locked()
        assert not nds.Lock(name="other").locked()
    assert nds.Arena("4 MiB", name="a") == arena
    assert nds.Arena("4 MiB") != arena
    with Puppet("spawn") as other:
        other.do("keep", "arena", arena)
        identity = arena.id
        arena.close()
        del arena
        assert nds.Arena("4 MiB", name="a").id == identity, "whoever it was sent to keeps its name"
    assert nds.Arena("4 MiB", name="a").id != identity
    scratch = nds.Overlay(u={"x": (2, "f4")}, v={"x": (2, "f4")}, name="o")
    with scratch.use("u") as inside:
        again = nds.Overlay(name="o", u={"x": (2, "f4")}, v={"x": (2, "f4")})
        with again.use("u") as same:
            same.x[0] = 3
        assert inside.x[0] == 3
    with nds.Overlay(name={"x": (2, "f4")}).use("name") as other_use:
        assert other_use.x.tolist() == [0, 0]
    del ring, lock, frames, scratch, again, inside, same, other_use
    assert nds.Ring(3, slots=2, name="r").shape == (3,), "the name is free again"
    gc.collect()
    assert held() == base


DIFFERENT: list[tuple[str, Callable[[], Any], Callable[[], Any], str]] = [
    ("shape", lambda: nds.Ring(2, slots=4, name="x"), lambda: nds.Ring(3, slots=4, name="x"), r"\[2\].*\[3\]"),
    ("dtype", lambda: nds.Ring(2, "u1", slots=4, name="x"), lambda: nds.Ring(2, "u2", slots=4, name="x"), "u1.*u2"),
    ("slots", lambda: nds.Ring(2, slots=4, name="x"), lambda: nds.Ring(2, slots=5, name="x"), "slots 4.*slots 5"),
    (
        "overlay",
        lambda: nds.Overlay(u={"x": (2, "f4")}, name="x"),
        lambda: nds.Overlay(u={"x": (3, "f4")}, name="x"),
        r"u\(x \[2\] <f4\).*u\(x \[3\] <f4\)",
    ),
    ("cache", lambda: nds.Cache("1 MiB", name="x"), lambda: nds.Cache("2 MiB", name="x"), "1.*2"),
    ("arena", lambda: nds.Arena("1 MiB", name="x"), lambda: nds.Arena("2 MiB", name="x"), "1048576.*2097152"),
    ("kind", lambda: nds.Cache("1 MiB", name="x"), lambda: nds.Lock(name="x"), "kind lock.*kind cache"),
    ("other kind", lambda: nds.Lock(name="x"), lambda: nds.Ring(2, slots=4, name="x"), "kind ring.*kind lock"),
]


@pytest.mark.parametrize(
    ("make", "make_other", "match"), [one[1:] for one in DIFFERENT], ids=[one[0] for one in DIFFERENT]
)
def test_what_differs_is_an_error_that_shows_both(
    make: Callable[[], Any], make_other: Callable[[], Any], match: str
) -> None:
    first = make()
    with pytest.raises(ValueError, match=f'"x".*{match}'):
        make_other()
    del first


def test_a_ring_that_was_closed_gives_its_name_up() -> None:
    ring = nds.Ring(2, slots=4, name="r")
    with ring:
        ring.put([1, 2])
    again = nds.Ring(2, slots=4, name="r")
    assert ring.closed
    assert not again.closed
    assert again.put([3, 4]) == 0


@pytest.mark.parametrize("name", ["", "x" * 241])
def test_names_within_a_session_that_cannot_be(name: str) -> None:
    for make in (lambda: nds.Ring(1, slots=2, name=name), lambda: nds.Lock(name=name), lambda: nds.Arena(1, name=name)):
        with pytest.raises(ValueError, match="expected a name of 1 to 240 bytes"):
            make()


# ---- Rust -----------------------------------------------------------------------------------------------------------


def test_rust_and_python_find_each_other_by_name() -> None:
    ring = nds.Ring((480, 640), np.uint16, slots=8)
    nds.publish("from python", ring)
    assert output(program("names"), "list", env=environment()) == "ring from python"
    with subprocess.Popen(
        [program("names"), "view", "from python"], env=environment(), stdout=subprocess.PIPE, text=True
    ) as viewer:
        assert wait_until(lambda: len(ring.stats()["readers"]) == 1)
        with ring:
            for n in range(5):
                ring.put(np.full((480, 640), n, np.uint16), timeout=HANG)
        out, _ = viewer.communicate(timeout=HANG)
    assert out.splitlines() == [f"{n} {n * 480 * 640}" for n in range(5)]
    with subprocess.Popen([program("names"), "camera", "from rust"], env=environment()) as camera:
        frames = [(frame.seq, int(frame[3, 4])) for frame in nds.attach("from rust", timeout=HANG).reader()]
        assert camera.wait(HANG) == 0
    assert frames == [(n, n) for n in range(100)]
    assert nds.names() == {"from python": "ring"}


def test_what_is_in_the_way_of_a_new_entry_is_said(runtime: Path) -> None:
    x = nds.zeros(3)
    nds.publish("first", x)
    (blocked := runtime / "ndshare" / ".next").mkdir()
    with pytest.raises(nds.Error, match=r"/ndshare/\.next is in the way, and is no file of ours: remove it"):
        nds.publish("second", x)
    assert nds.names() == {"first": "array"}
    blocked.rmdir()
    nds.publish("second", x)
