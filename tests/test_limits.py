"""What runs out raises ArenaFull, which says what ran out and who holds the rest. No limit sends a signal.

Each limit is a real one: a small tmpfs in a mount namespace, a memory cgroup, setrlimit. Where the machine does
not permit them, the test is skipped and says why. Importing ndshare succeeds under all of them.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from helpers import MIB, Done, Puppet, environment, held, limited, run, wait_until

GIB = 1 << 30


def says_it_all(message: str, limit: str, pid: int) -> None:
    """Insist that a message names the limit and the holder, and gives figures."""
    assert re.search(limit, message, re.IGNORECASE), f"{limit!r} is not named in: {message}"
    assert re.search(rf"\b{pid}\b", message), f"process {pid} is not named in: {message}"
    assert re.search(r"\d", message), message
    assert len(message) > 60, message


# ---- the budget -----------------------------------------------------------------------------------------------------


def test_over_the_budget() -> None:
    with nds.Arena("64 MiB") as arena:
        kept = [nds.zeros(10 * MIB, np.uint8, arena=arena) for _ in range(6)]
        with pytest.raises(nds.ArenaFull) as error:
            nds.zeros(10 * MIB, np.uint8, arena=arena)
        says_it_all(str(error.value), "budget", os.getpid())
        assert isinstance(error.value, MemoryError)
        assert nds.stats(arena)["blocks"] == 6
        del kept[0]
        kept.append(nds.zeros(10 * MIB, np.uint8, arena=arena))
        with pytest.raises(nds.ArenaFull):
            nds.zeros(65 * MIB, np.uint8, arena=arena)


def test_the_largest_holders_come_first() -> None:
    with nds.Arena("64 MiB") as arena, Puppet() as large, Puppet() as small:
        large.do("make", "x", 4 * MIB, 1.0, arena)
        small.do("make", "x", MIB, 1.0, arena)
        with pytest.raises(nds.ArenaFull) as error:
            nds.zeros(40 * MIB, np.uint8, arena=arena)
        message = str(error.value)
        places = [re.search(rf"\b{pid}\b", message) for pid in (large.pid, small.pid)]
        assert places[0], message
        assert not places[1] or places[0].start() < places[1].start()


def test_the_whole_budget_can_be_used() -> None:
    with nds.Arena("64 MiB") as arena:
        x = nds.zeros(64 * MIB, np.uint8, arena=arena)
        x.fill(1)
        del x
        assert held(arena) == 0
        many = [nds.zeros(MIB, np.uint8, arena=arena) for _ in range(64)]
        assert len(many) == 64


def test_warm_blocks_make_room() -> None:
    with nds.Arena("64 MiB") as arena:
        for size in (1, 3, 7, 20, 63):
            for _ in range(3):
                nds.zeros(size * MIB, np.uint8, arena=arena).fill(1)


def test_room_made_by_a_death_is_found() -> None:
    with nds.Arena("64 MiB") as arena:
        for _ in range(5):
            with Puppet() as puppet:
                puppet.do("make", "x", 6 * MIB, 1.0, arena)  # 48 MiB of float64
                puppet.kill()
        assert nds.zeros(60 * MIB, np.uint8, arena=arena).size == 60 * MIB


def test_the_default_budget_is_three_quarters_of_the_memory() -> None:
    out = run("import ndshare as nds; s = nds.stats(); print(s['budget'], s['capacity'])").clean().split()
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert int(out[0]) <= 0.75 * ram + 2 * MIB
    assert int(out[1]) >= 4 * int(out[0]) - 4 * MIB


@pytest.mark.parametrize("text", ["", "lots", "-3", "0", "8 XiB", "1e99 GiB"])
def test_a_nonsensical_budget_never_stops_the_import(text: str) -> None:
    source = """
    import ndshare as nds
    try:
        print(nds.stats()["budget"], nds.zeros(3))
    except (ValueError, nds.Error) as error:
        print("NDSHARE_BUDGET" in str(error))
    """
    done = run(source, env=environment(NDSHARE_BUDGET=text))
    assert done.code == 0, done.err
    assert "False" not in done.out


# ---- /dev/shm -------------------------------------------------------------------------------------------------------

SMALL_SHM = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'


@functools.cache
def small_shm() -> list[str]:
    """Return the command prefix that gives a program a /dev/shm of 64 MiB; skip where none may be had."""
    for namespace in (["unshare", "-m"], ["unshare", "-r", "-m"]):
        prefix = [*namespace, "sh", "-c", SMALL_SHM, "sh"]
        try:
            if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0:
                return prefix
        except OSError:
            break
    pytest.skip("this machine permits no mount namespace, so /dev/shm keeps its size")


@pytest.mark.parametrize("env", [{}, {"NDSHARE_NO_COLLAPSE": "1"}], ids=["collapse", "4 KiB pages"])
def test_a_small_dev_shm_changes_nothing(env: dict[str, str]) -> None:
    source = """
    import os, numpy as np, ndshare as nds
    import multiprocessing as mp
    shm = os.statvfs("/dev/shm")
    assert shm.f_blocks * shm.f_frsize == 64 << 20
    arrays = [nds.empty(64 << 20, np.uint8) for _ in range(8)]
    for i, x in enumerate(arrays):
        x[::4096] = i + 1
    assert all((x[::4096] == i + 1).all() for i, x in enumerate(arrays))
    queue = mp.get_context("fork").Queue()
    queue.put(arrays[3])
    assert np.shares_memory(queue.get(), arrays[3])
    """
    run(source, prefix=small_shm(), env=environment(NDSHARE_BUDGET="1 GiB", **env)).clean()


# ---- cgroups --------------------------------------------------------------------------------------------------------


def memory_groups() -> tuple[Path, str] | None:
    """Return this process's memory cgroup and the name of its limit file, for version 1 or 2."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return Path("/sys/fs/cgroup/memory") / path.lstrip("/"), "memory.limit_in_bytes"
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        base = Path("/sys/fs/cgroup") / path.lstrip("/")
        if number == "0" and not controllers and (base / "memory.max").exists():
            return base, "memory.max"
    return None


@contextmanager
def group(limit: int, *, nested: bool = False) -> Iterator[Path]:
    """Make a memory cgroup with a limit, and if asked one without a limit inside it; remove both."""
    found = memory_groups()
    if found is None:
        pytest.skip("no memory cgroup is mounted")
    base, name = found
    outer = base / f"ndshare-test-{os.getpid()}"
    made: list[Path] = []
    try:
        outer.mkdir()
        made.append(outer)
        (outer / name).write_text(str(limit))
        inner = outer / "inner"
        if nested:
            if name == "memory.max":
                (outer / "cgroup.subtree_control").write_text("+memory")
            inner.mkdir()
            made.append(inner)
    except OSError as error:
        for path in reversed(made):
            path.rmdir()
        pytest.skip(f"this machine permits no memory cgroup of one's own: {error}")
    try:
        yield made[-1]
    finally:
        for path in reversed(made):
            _remove(path)


def _remove(path: Path) -> None:
    def is_removed() -> bool:
        try:
            path.rmdir()
        except OSError:  # until the kernel has let go of the last process
            return False
        return True

    assert wait_until(is_removed), f"{path} is in use still"


def enter(path: Path) -> Any:
    """Return what puts a child into a cgroup before it starts."""
    return lambda: (path / "cgroup.procs").write_text(str(os.getpid()))


FILL_UP = """
import os, re, sys
import numpy as np, ndshare as nds
piece, stop = int(sys.argv[1]), int(sys.argv[2])
kept = []
try:
    while sum(x.nbytes for x in kept) < stop:
        kept.append(nds.empty(piece, np.uint8))
        kept[-1].fill(len(kept) % 251)
except nds.ArenaFull as error:
    message = str(error)
    assert re.search(r"\\b%d\\b" % os.getpid(), message), message
else:
    message = "never full"
assert all((x[::4096] == (i + 1) % 251).all() for i, x in enumerate(kept))  # a comparison takes memory, too
total = sum(x.nbytes for x in kept)
del kept[:]
again = nds.zeros(min(piece, 1 << 20), np.uint8)
print(total, nds.stats()["budget"], message)
"""


def fill_up(path: Path, piece: int, stop: int = 2 * GIB, **env: str) -> tuple[int, int, str]:
    """Fill an arena inside a cgroup; return the bytes that fitted, the budget and the message."""
    done = run(FILL_UP, str(piece), str(stop), env=environment(**env), before=enter(path))
    assert done.code == 0, f"exit status {done.code}\n{done.out}\n{done.err}"
    total, budget, message = done.out.strip().split(" ", 2)
    return int(total), int(budget), message


@pytest.mark.parametrize("nested", [False, True])
def test_the_budget_follows_the_cgroup(nested: bool) -> None:
    with group(256 * MIB, nested=nested) as path:
        total, budget, message = fill_up(path, 16 * MIB)
    assert budget <= 192 * MIB
    assert 64 * MIB <= total <= budget
    assert "cgroup" in message


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("collapse", ["", "1"], ids=["2 MiB pages", "4 KiB pages"])
@pytest.mark.parametrize("piece", [64 * 1024, 3 * MIB, 64 * MIB])
def test_over_a_cgroups_limit_the_process_lives(piece: int, collapse: str, nested: bool) -> None:
    with group(256 * MIB, nested=nested) as path:
        env = {"NDSHARE_NO_COLLAPSE": collapse} if collapse else {}
        total, budget, message = fill_up(path, piece, NDSHARE_BUDGET="1 GiB", **env)
    assert budget == GIB
    assert 64 * MIB <= total <= 256 * MIB
    assert "cgroup" in message


def test_memory_that_the_kernel_can_take_back_does_not_count_as_used(tmp_path: Path) -> None:
    """A program that has read large files has a full cgroup, and can allocate all the same."""
    source = """
    import os, sys, numpy as np, ndshare as nds
    with open(sys.argv[1], "wb") as file:
        for _ in range(100):
            file.write(bytes(2 << 20))
        file.flush()
        os.fsync(file.fileno())
    with open(sys.argv[1], "rb") as file:
        while file.read(1 << 20):
            pass
    kept = []
    for i in range(10):
        kept.append(nds.zeros(16 << 20, np.uint8))
        kept[-1].fill(i)
    print("allocated")
    """
    with group(256 * MIB) as path:
        done = run(source, str(tmp_path / "large"), before=enter(path), env=environment(NDSHARE_BUDGET="1 GiB"))
    assert (done.code, done.out.strip()) == (0, "allocated"), done.err


def test_two_processes_fill_one_cgroup() -> None:
    source = """
    import multiprocessing as mp, os
    import numpy as np, ndshare as nds

    def fill(conn):
        kept = []
        try:
            while True:
                kept.append(nds.empty(4 << 20, np.uint8))
                kept[-1].fill(1)
        except nds.ArenaFull as error:
            conn.send((len(kept), str(error)))
        conn.recv()

    if __name__ == "__main__":
        context = mp.get_context("fork")
        pairs = [context.Pipe() for _ in range(3)]
        processes = [context.Process(target=fill, args=(theirs,)) for _, theirs in pairs]
        for process in processes:
            process.start()
        answers = [mine.recv() for mine, _ in pairs]
        for mine, _ in pairs:
            mine.send(None)
        for process in processes:
            process.join()
            assert process.exitcode == 0, process.exitcode
        assert all("cgroup" in text for _, text in answers), answers
        print(sum(count for count, _ in answers) * 4)
    """
    with group(256 * MIB) as path:
        done = run(source, before=enter(path), env=environment(NDSHARE_BUDGET="1 GiB"))
    assert done.code == 0, done.err
    assert 48 <= int(done.out) <= 256


def test_a_cgroup_entered_after_the_import() -> None:
    source = """
    import os, sys, numpy as np, ndshare as nds
    x = nds.zeros(1 << 20, np.uint8)
    open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
    kept = []
    try:
        for _ in range(100):
            kept.append(nds.empty(8 << 20, np.uint8))
            kept[-1].fill(1)
    except nds.ArenaFull as error:
        print(len(kept), "cgroup" in str(error))
    """
    with group(256 * MIB) as path:
        count, named = run(source, str(path), env=environment(NDSHARE_BUDGET="1 GiB")).clean().split()
    assert 8 <= int(count) <= 32
    assert named == "True"


def test_a_tiny_cgroup_and_the_import_succeeds() -> None:
    """Only a few MiB are left when ndshare is imported."""
    source = """
    import os, sys, numpy as np
    open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
    import ndshare as nds
    try:
        x = nds.zeros(100 << 20, np.uint8)
        x.fill(1)
    except nds.ArenaFull:
        print("full")
    """
    with group(16 * MIB) as path:
        assert run(source, str(path)).clean().strip() == "full"


# ---- setrlimit ------------------------------------------------------------------------------------------------------

ALLOCATE = """
import os, re, resource, sys
import numpy as np
which, value, when = sys.argv[1], int(sys.argv[2]), sys.argv[3]

def limit():
    size = int(open("/proc/self/statm").read().split()[0]) * 4096 if which == "AS" else 0
    resource.setrlimit(getattr(resource, "RLIMIT_" + which), (size + value, size + value))

if when == "before": limit()
import ndshare as nds
if when == "after": limit()
answers = []
for n in (100, 1 << 20, 64 << 20, 512 << 20):
    try:
        x = nds.zeros(n, np.uint8)
        x[::4096] = 1
        assert x[::4096].all()
        answers.append("good")
    except nds.ArenaFull as error:
        message = str(error)
        answers.append("RLIMIT_" + which if "RLIMIT_" + which in message else message)
    x = None
try:
    arena = nds.Arena("64 MiB")
    nds.zeros(32 << 20, np.uint8, arena=arena).fill(1)
    answers.append("good")
except nds.ArenaFull as error:
    answers.append("RLIMIT_" + which if "RLIMIT_" + which in str(error) else str(error))
print("|".join(answers))
"""


def under(which: str, value: int, when: str, **env: str) -> list[str]:
    done: Done = run(ALLOCATE, which, str(value), when, env=environment(NDSHARE_BUDGET="1 GiB", **env))
    assert done.code == 0, f"exit status {done.code}\n{done.out}\n{done.err}"
    return done.out.strip().split("|")


@pytest.mark.parametrize("collapse", ["", "1"], ids=["2 MiB pages", "4 KiB pages"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("which", "value"), [("FSIZE", MIB), ("FSIZE", 0), ("FSIZE", 200 * MIB), ("AS", 300 * MIB)])
def test_small_process_limits(which: str, value: int, when: str, collapse: str) -> None:
    answers = under(which, value, when, **({"NDSHARE_NO_COLLAPSE": "1"} if collapse else {}))
    name = f"RLIMIT_{which}"
    assert set(answers) <= {"good", name}, answers
    if when == "before":
        assert answers[3] == name, "512 MiB can't be had under this limit"
    else:
        assert answers[:4] == ["good"] * 4 or name in answers, "what is mapped already may be used"
    if value >= 200 * MIB:
        assert answers[0] == answers[1] == "good", "small arrays fit under this limit"


def test_a_limit_names_the_holders_too() -> None:
    source = """
    import os, re, resource, sys
    import numpy as np
    resource.setrlimit(resource.RLIMIT_FSIZE, (100 << 20, 100 << 20))
    import ndshare as nds
    kept = []
    try:
        for _ in range(60):
            kept.append(nds.zeros(2 << 20, np.uint8))
    except nds.ArenaFull as error:
        print(len(kept), bool(re.search(r"\\b%d\\b" % os.getpid(), str(error))), error)
    """
    out = run(source).clean()
    assert re.match(r"[1-9]\d* True ", out), out
    assert "RLIMIT_FSIZE" in out


@pytest.mark.parametrize("value", [0, 1, 4096, 10 * MIB])
def test_the_import_succeeds_under_any_file_limit(value: int) -> None:
    source = """
    import ndshare as nds, multiprocessing as mp
    try:
        nds.zeros(1 << 30)
    except nds.ArenaFull as error:
        assert "RLIMIT_FSIZE" in str(error), error
    """
    done = run(source, before=limited(FSIZE=value))
    assert done.code == 0, done.err


WITHOUT_DESCRIPTORS = """
import os, resource, sys
import numpy as np
import multiprocessing.context, multiprocessing.reduction, hashlib
taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(12)]
resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1] + 1, taken[-1] + 1))
for _ in range(int(sys.argv[1])):
    os.close(taken.pop(0))
try:
    import ndshare as nds
except OSError as error:
    print("import:", error)
    sys.exit()
try:
    nds.zeros(10)
    print("good")
except nds.Error as error:
    print(f"{type(error).__name__}: {error}")
for fd in taken:
    os.close(fd)
assert nds.ones(10).sum() == 10
"""


def test_no_descriptor_and_the_interpreter_cannot_open_a_module() -> None:
    assert re.match(r"import: .*Too many open files: '.*/ndshare/__init__.py'", run(WITHOUT_DESCRIPTORS, "0").clean())


def test_one_descriptor_is_enough() -> None:
    """The arena's file needs one; what is opened beside it for a moment is opened in a table of its own."""
    assert run(WITHOUT_DESCRIPTORS, "1").clean() == "good\n"


def test_a_few_descriptors_are_enough() -> None:
    assert run(WITHOUT_DESCRIPTORS, "8").clean() == "good\n"


TABLE_BEFORE_THREADS = """
import re, sys

class Look:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            print(re.search(r"FDSize:\\s+(\\d+)", open("/proc/self/status").read())[1])

sys.meta_path.insert(0, Look())
import ndshare as nds
print(re.search(r"FDSize:\\s+(\\d+)", open("/proc/self/status").read())[1], nds.ones(3).sum())
"""


def test_the_table_of_descriptors_grows_before_numpy_starts_threads() -> None:
    """A process with threads waits 10 to 30 ms for that, a third of what importing ndshare took."""
    assert run(TABLE_BEFORE_THREADS).clean() == "1024\n1024 3.0\n"


TABLE_BESIDE_THREADS = """
import os, re, sys, threading
end = threading.Event()
other = threading.Thread(target=end.wait)
other.start()
limited = sys.argv[1:] == ["limited"]
if limited:
    import _thread
    def none(*_):
        raise RuntimeError("can't start new thread")
    _thread.start_new_thread = none
import ndshare as nds
print(re.search(r"FDSize:\\s+(\\d+)", open("/proc/self/status").read())[1], nds.ones(3).sum())
there = [path for name in os.listdir("/proc/self/fd") if os.path.lexists(path := "/proc/self/fd/" + name)]
print([path for path in there if os.readlink(path) == "/"], threading.active_count())
end.set()
"""


@pytest.mark.parametrize("how", ["free", "limited"])
def test_the_table_of_descriptors_grows_where_threads_run_already(how: str) -> None:
    """A thread waits for it during the import; without one the import waits. The descriptors for it are closed."""
    assert run(TABLE_BESIDE_THREADS, how).clean() == "1024 3.0\n[] 2\n"


def test_a_child_with_less_address_space_than_the_arena() -> None:
    """It can't map what its parent maps. It says so, and lives."""
    source = """
    import resource, sys
    import numpy as np
    size = int(open("/proc/self/statm").read().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (size + (200 << 20), size + (200 << 20)))
    import ndshare as nds
    try:
        nds.ref(sys.argv[1]).open()
    except nds.Error as error:
        print(type(error).__name__, "RLIMIT_AS" in str(error))
    """
    x = nds.ones(1000)
    out = run(source, str(nds.ref(x))).clean().split()
    assert out[0] in ("AttachError", "ArenaFull")
    assert out[1] == "True"
    ref = nds.ref(x)
    inherited = dict(os.environ, PYTHONPATH=environment()["PYTHONPATH"])
    out = run(source, str(ref), env=inherited).clean().split()
    assert out[0] in ("AttachError", "ArenaFull")
    assert out[1] == "True"


# ---- many participants ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_512th_participant_and_the_one_after() -> None:
    source = """
    import os, sys, resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    import numpy as np, ndshare as nds
    x = nds.full(1000, 7.0)
    gate_r, gate_w = os.pipe()
    say_r, say_w = os.pipe()
    children = []

    def live():
        os.close(gate_w)
        good = bool((x == 7).all())
        try:
            mine = nds.ones(100)
            answer = b"a" if good and mine.sum() == 100 else b"?"
        except nds.AttachError as error:
            answer = b"e" if good and len(str(error)) > 30 else b"?"
        os.write(say_w, answer)
        os.read(gate_r, 1)
        if not (x == 7).all():
            os.kill(os.getpid(), 9)

    for i in range(520):
        pid = os.fork()
        if not pid:
            try:
                live()
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        children.append(pid)
    said = b"".join(os.read(say_r, 1) for _ in children)
    stats = nds.stats()
    os.close(gate_r)
    os.close(gate_w)
    codes = {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children}
    print(said.count(b"a"), said.count(b"e"), said.count(b"?"), sum(p["alive"] for p in stats["participants"]), codes)
    y = nds.ones(100)
    assert y.sum() == 100 and nds.stats()["blocks"] == 2, nds.stats()["blocks"]
    """
    done = run(source)
    assert done.code == 0, done
    joined, refused, wrong, listed, codes = done.out.split(" ", 4)
    assert done.err.count("RuntimeWarning") == int(refused)
    assert int(wrong) == 0
    assert codes.strip() == "{0}"
    assert int(joined) + int(refused) == 520
    assert int(joined) >= 511 - 8, "a few slots may be in other hands"
    assert int(joined) <= int(listed) <= 512
