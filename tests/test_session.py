"""All processes of a program share one session arena, however they were started and whoever has died.

The root makes it at import. Children find it through multiprocessing's configuration or the environment, and
after that through their parent, so that a chain of processes goes on when its beginning is gone.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import ndshare as nds
import workers
from helpers import HANG, HERE, METHODS, Puppet, environ, environment, run, script

SESSION = "import ndshare as nds; print(nds.stats()['id'])"


def here() -> str:
    return str(nds.stats()["id"])


def inherited(**changes: str) -> dict[str, str]:
    return dict(os.environ, PYTHONPATH=str(HERE), **changes)


def test_children_join_the_session(method: str) -> None:
    with Puppet(method) as puppet:
        assert puppet.do("arena_id") == here()
        pids = {p["pid"] for p in nds.stats()["participants"] if p["alive"]}
        assert {os.getpid(), puppet.pid} <= pids


def test_programs_join_through_the_environment() -> None:
    assert os.environ["NDSHARE_SESSION"].startswith("nds1-")
    assert run(SESSION, env=inherited()).clean().strip() == here()


def test_programs_without_the_environment_have_a_session_of_their_own() -> None:
    assert run(SESSION, env=environment()).clean().strip() != here()


@pytest.mark.parametrize(
    "stale",
    [
        "", "nds1-", "nds1-0123456789abcdef-1-3", "nds1-0123456789abcdef-999999999-3", "nds1-zz-1-1",
        "nds1-0123456789abcdef-HERE-0", "nds1-0123456789abcdef-HERE-9999", " , ,",
    ],
    ids=lambda x: x[:40],
)  # fmt: skip
def test_a_stale_environment_is_not_followed(stale: str) -> None:
    source = "import ndshare as nds; x = nds.ones(1000); print(nds.stats()['id'], int(x.sum()))"
    env = environment(NDSHARE_SESSION=stale.replace("HERE", str(os.getpid())))
    session, total = run(source, env=env).clean().split()
    assert session != here()
    assert total == "1000"


@pytest.mark.parametrize("meant", ["garbage", "site", "\N{SNOWMAN}", "x" * 5000], ids=lambda x: x[:40])
def test_an_environment_that_says_nothing_is_told_of(meant: str) -> None:
    """``NDSHARE_SESSION=site`` lacks the @ of a name: each program had a session of its own, without a word."""
    source = "import ndshare as nds; print(nds.stats()['id'], int(nds.ones(1000).sum()))"
    env = environment(NDSHARE_SESSION=meant)
    done = run(source, env=env)
    own, total = done.out.split()
    assert (own != here(), total, done.code) == (True, "1000", 0)
    assert done.err.count('RuntimeWarning: NDSHARE_SESSION is not followed: expected "@name"') == 1, done.err
    assert meant[:60] in done.err
    assert "with the @" in done.err
    done = run(source, env=env, flags=("-W", "error::RuntimeWarning"))
    assert done.code == 1
    assert "RuntimeWarning: NDSHARE_SESSION is not followed" in done.err


def test_the_environment_of_a_dead_parent() -> None:
    source = """
    import os, subprocess, sys, time
    if sys.argv[1:] == ["child"]:
        while os.getppid() == int(os.environ["PARENT"]): time.sleep(0.01)
        import ndshare as nds
        print(int(nds.ones(1000).sum()), flush=True)
    else:
        import ndshare as nds
        nds.ones(10)
        subprocess.Popen([sys.executable, __file__, "child"], env=dict(os.environ, PARENT=str(os.getpid())))
    """
    with subprocess.Popen(
        [sys.executable, str(script(source))], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment()
    ) as process:
        out, _ = process.communicate(timeout=HANG)
    assert out.split() == [b"1000"]


def test_another_process_at_the_dead_ones_number() -> None:
    """The number in the environment belongs to a process that has nothing to do with it, or has other files there."""
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            for fd in range(5):
                stale = f"nds1-0123456789abcdef-{other.pid}-{fd}"
                assert run(SESSION, env=environment(NDSHARE_SESSION=stale)).clean().strip() != here()
        finally:
            other.kill()


NEST = """
import multiprocessing as mp, os, subprocess, sys
import numpy as np, ndshare as nds

def child(x, methods, conn):
    x += 1
    if not methods:
        conn.send((nds.stats()["id"], nds.full(5, 3.0)))
    elif methods[0] == "popen":
        code = "import sys, ndshare as nds; x = nds.ref(sys.argv[1]).open(); x += 1; print(nds.stats()['id'])"
        out = subprocess.run([sys.executable, "-c", code, str(nds.ref(x))], capture_output=True, text=True, check=True)
        assert out.stdout.strip() == nds.stats()["id"]
        child(x, methods[1:], conn)
        x -= 1
    else:
        process = mp.get_context(methods[0]).Process(target=child, args=(x, methods[1:], conn))
        process.start()
        process.join()
        assert process.exitcode == 0

if __name__ == "__main__":
    x = nds.zeros(10)
    methods = sys.argv[1].split(",")
    mine, theirs = mp.get_context("spawn").Pipe()
    child(x, methods, theirs)
    session, y = mine.recv()
    assert session == nds.stats()["id"] and nds.is_shared(y) and (y == 3).all()
    assert (x == 1 + len(methods)).all(), x
"""


@pytest.mark.parametrize("outer", [*METHODS, "popen"])
@pytest.mark.parametrize("inner", [*METHODS, "popen"])
def test_children_of_children(outer: str, inner: str) -> None:
    run(NEST, f"{outer},{inner}").clean()


def test_a_long_chain_of_everything() -> None:
    run(NEST, "fork,spawn,forkserver,popen,fork,fork,spawn").clean()


def test_a_forkserver_from_before_the_import() -> None:
    source = """
    import multiprocessing as mp, sys

    def nothing(): pass

    if __name__ == "__main__":
        context = mp.get_context("forkserver")
        context.set_forkserver_preload(sys.argv[1:])
        process = context.Process(target=nothing)
        process.start(); process.join()
        import numpy as np, ndshare as nds, workers
        x = nds.zeros(1000)
        queue = context.SimpleQueue()
        for i in range(3):
            process = context.Process(target=workers.put, args=(queue, 10, i))
            process.start(); process.join()
            y = queue.get()
            assert nds.is_shared(y) and (y == i).all()
        with context.Pool(2) as pool:
            assert {pool.apply(workers.arena_id) for _ in range(4)} == {nds.stats()["id"]}
            assert np.shares_memory(pool.apply(workers.add_one, (x,)), x) and (x == 1).all()
    """
    for preload in ([], ["numpy"], ["ndshare"], ["workers"]):
        run(source, *preload).clean()


def test_pools_that_replace_their_workers() -> None:
    x = nds.zeros(100)
    with mp.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for i in range(4):
            assert np.shares_memory(pool.apply(workers.add_one, (x,)), x)
            assert x[0] == i + 1
        pool.close()
        pool.join()


def test_a_process_that_is_started_later() -> None:
    """A Process made before the first array, and started after it."""
    source = """
    import multiprocessing as mp, sys
    import workers_late

    if __name__ == "__main__":
        queue = mp.get_context(sys.argv[1]).SimpleQueue()
        process = mp.get_context(sys.argv[1]).Process(target=workers_late.late, args=(queue,))
        assert "ndshare" not in sys.modules
        import ndshare as nds
        import numpy as np
        x = nds.ones(10)
        process.start()
        queue.put(x)
        process.join()
        assert (x == 2).all()
    """
    late = script("""
    def late(queue):
        x = queue.get()
        import ndshare as nds
        assert nds.is_shared(x)
        x += 1
    """)
    late = late.rename(late.with_name("workers_late.py"))
    for method in METHODS:
        env = environment()
        env["PYTHONPATH"] += f"{os.pathsep}{late.parent}"
        run(source, method, env=env).clean()


def test_two_sessions_exchange_arrays() -> None:
    """A stranger's array arrives beside one's own; what one makes oneself stays in one's own session."""
    source = """
    import sys, ndshare as nds
    mine = nds.ones(10)
    theirs = nds.ref(sys.argv[1]).open()
    theirs[:] = 7
    assert nds.is_shared(mine) and nds.is_shared(theirs)
    assert nds.stats()["blocks"] == 1
    print(nds.stats()["id"])
    """
    x = nds.zeros(1000)
    assert run(source, str(nds.ref(x)), env=environment()).clean().strip() != here()
    assert (x == 7).all()


def test_the_session_is_not_an_argument_of_its_children() -> None:
    """A changed environment changes programs, not multiprocessing's children."""
    with environ(NDSHARE_SESSION="garbage"):
        for method in ("fork", "spawn"):
            with Puppet(method) as puppet:
                assert puppet.do("arena_id") == here()


def test_the_import_is_quiet_quick_and_does_not_change_numpy() -> None:
    source = """
    import sys
    import numpy as np
    before = set(vars(np.ndarray)), np.zeros, np.ndarray
    import ndshare as nds
    assert (set(vars(np.ndarray)), np.zeros, np.ndarray) == before
    import threading, pickle, copyreg
    assert np.ndarray not in copyreg.dispatch_table
    print(sorted({m.split(".")[0] for m in sys.modules} & {"torch", "pandas", "numba", "rich", "scipy", "asyncio"}))
    """
    assert run(source).clean().strip() == "[]"


# What importing ndshare would take long for: parts of it, and of the standard library, that few programs need.
LATE = """
ndshare._clock ndshare._enable ndshare._executor ndshare._html ndshare._join ndshare._meta ndshare._notebook
ndshare._pipe ndshare._progress ndshare._record ndshare._recorder ndshare._replay ndshare._view ndshare.dask
ndshare.fft ndshare.napari ndshare.ndv ndshare.net ndshare.ray ndshare.zarr
argparse asyncio concurrent.futures csv dataclasses decimal email html http inspect json logging numpy.char numpy.ma
pathlib pickle random secrets shutil sqlite3 ssl tempfile unittest uuid
cloudpickle dask joblib matplotlib pandas rich scipy torch zarr zenoh
"""


def test_the_import_leaves_out_what_takes_long() -> None:
    """Some of these NumPy imports, others later ones import: what counts is what comes on top of NumPy."""
    source = """
    import sys
    import numpy as np
    before = set(sys.modules)
    import ndshare as nds
    print(*sorted(set(sys.modules) - before))
    missing = [name for name in nds.__all__ if not hasattr(nds, name)]
    assert not missing, missing
    print(*sorted(set(sys.modules) - before))
    """
    early, late = (set(line.split()) for line in run(source).clean().splitlines())
    assert {"ndshare", "ndshare._native", "multiprocessing"} <= early
    assert not early & set(LATE.split())
    assert {"ndshare.fft", "ndshare._join", "ndshare._pipe", "ndshare._executor"} <= late


def test_reloading_the_package_keeps_the_session() -> None:
    source = """
    import importlib, sys
    import numpy as np, ndshare as nds
    x, before = nds.ones(10), nds.stats()["id"]
    for name in [n for n in sys.modules if n.startswith("ndshare") and n != "ndshare._native"]:
        del sys.modules[name]
    import ndshare as again
    assert again.stats()["id"] == before and again.is_shared(x) and x.sum() == 10
    """
    run(source).clean()


def test_the_locator_in_the_environment_is_short_and_plain() -> None:
    text = os.environ["NDSHARE_SESSION"]
    assert len(text) < 100
    assert text.isascii()
    assert " " not in text
    assert text.split("-")[2] == str(os.getpid())


def test_each_process_names_itself(method: str) -> None:
    """So that its own children find the arena when their grandparent is gone."""
    with Puppet(method) as puppet:
        puppet.do("arena_id")
        theirs = puppet.do("getenv", "NDSHARE_SESSION")
        assert theirs.split("-")[2] == str(puppet.pid)


def test_sessions_do_not_meet_by_accident() -> None:
    ids = {run(SESSION, env=environment()).clean().strip() for _ in range(10)}
    assert len(ids) == 10


def test_a_pickled_session_arena_means_this_session() -> None:
    arena: Any = nds.Arena("8 MiB")
    assert pickle.loads(pickle.dumps(arena)).id == arena.id


def test_an_environment_that_is_no_text() -> None:
    """Python hands such bytes on as lone surrogates, which Rust has no strings for."""
    source = """
    import ndshare as nds
    try:
        print(int(nds.ones(3).sum()))
    except ValueError as error:
        print(str(error).split(":")[0])
    """
    done = run(source, env=environment(NDSHARE_SESSION="\udcff"))
    assert (done.code, done.out) == (0, "3\n")
    assert done.err.count("NDSHARE_SESSION is not followed") == 1
    assert run(source, env=environment(NDSHARE_BUDGET="\udcff")).clean() == "NDSHARE_BUDGET\n"


STRANGER = """
import os, sys, ndshare as nds
nds.zeros(1)
print(os.environ["NDSHARE_SESSION"], flush=True)
sys.stdin.readline()
"""


def test_what_is_passed_on_is_this_session_whatever_else_was_named() -> None:
    """Whatever stood last in the environment was passed on as the root: garbage, or another session.

    A grandchild would have gone there when its parent was gone.
    """
    command = [sys.executable, "-c", STRANGER]
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as stranger:
        assert stranger.stdout
        theirs = stranger.stdout.readline().strip()
        mine = os.environ["NDSHARE_SESSION"]
        source = "import os, ndshare as nds; print(nds.stats()['id'], os.environ['NDSHARE_SESSION'])"
        session, named = run(source, env=inherited(NDSHARE_SESSION=f"{mine},{theirs},garbage")).clean().split()
        stranger.communicate("\n", timeout=HANG)
    assert session == here()
    assert [locator.split("-")[1] for locator in named.split(",")] == [here()] * 2


# To look for many that are not there takes seconds: each look goes through all open files of all processes.
SLOW = """
import os, signal, threading
files = [os.open("/dev/null", os.O_RDONLY) for _ in range(500)]
os.environ["NDSHARE_SESSION"] = ",".join(f"nds1-{i:016x}-1-3" for i in range(4000))
import ndshare as nds
from ndshare import _native

def search():
    nds.zeros(1)

searcher = threading.Thread(target=search, daemon=True)
"""

FORK = """
searcher.start()
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        os.environ["NDSHARE_SESSION"] = ""
        os._exit(3 if nds.ones(3).sum() == 3 else 4)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
print(searcher.is_alive() and _native.session_locators() is None, flush=True)
os._exit(0)
"""


def test_a_fork_while_another_thread_looks_for_the_session() -> None:
    """The child has none of that search, and no lock that nobody will open."""
    assert run(SLOW + FORK).out == "True\n"


CTRL_C = """
over = threading.Event()

def interrupt():
    while not over.wait(0.05):
        os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
try:
    nds.zeros(1)
except KeyboardInterrupt:
    over.set()
    print(_native.session_locators() is None, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("begin", ["", "searcher.start()"], ids=["alone", "beside another thread that searches"])
def test_the_search_for_the_session_answers_ctrl_c(begin: str) -> None:
    assert run(SLOW + begin + CTRL_C).out == "True\n"


LAST_PLACE = """
import os, subprocess, sys
import ndshare as nds
nds.zeros(1)
go = os.pipe()
for _ in range(510):
    if os.fork() == 0:
        os.read(go[0], 1)
        os._exit(0)
done = subprocess.run([sys.executable, "-c", sys.argv[1]], capture_output=True, text=True)
os.write(go[1], b"." * 510)
print(done.stdout, done.stderr)
"""

AT_ONCE = """
import threading
import ndshare as nds
barrier, outcomes = threading.Barrier(8), []

def first():
    barrier.wait()
    try:
        outcomes.append(int(nds.ones(3).sum()))
    except Exception as error:
        outcomes.append(str(error))

threads = [threading.Thread(target=first) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(outcomes, len(nds.stats()["participants"]))
"""


@pytest.mark.timeout(180)
def test_threads_that_come_at_once_take_one_place() -> None:
    """The last one, here: with each on its own, one of them had it and the others were told that there is none."""
    assert run(LAST_PLACE, AT_ONCE, timeout=150).out.strip() == f"{[3] * 8} 512"
