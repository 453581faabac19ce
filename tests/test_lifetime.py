"""Memory lives until the last view dies, and not a moment longer, whatever else has died before.

Most tests here are programs of their own: they must end with status 0 and write nothing to stderr, because an
"Exception ignored" at exit or a signal is just what is looked for.
"""

from __future__ import annotations

import gc
import multiprocessing as mp
import os
import signal
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ndshare as nds
import workers
from helpers import HANG, MIB, Puppet, alive, environment, held, pattern, run, settle, shared_pattern, wait_until

# ---- inside one process ---------------------------------------------------------------------------------------------


def test_the_last_view_keeps_the_block() -> None:
    before = held()
    x = shared_pattern(10_000, 3)
    view = x.reshape(100, 100)[::-2, 5:]
    expected = view.copy()
    size = held()
    del x
    assert held() == size
    assert (view == expected).all()
    buffer = memoryview(view)
    del view
    assert held() == size
    assert buffer.shape == expected.shape
    buffer.release()
    del buffer
    assert held() == before


def test_every_kind_of_view_keeps_it() -> None:
    before = held()
    for derive in (
        lambda x: x.view(np.uint8),
        lambda x: np.frombuffer(x, np.uint8),
        np.from_dlpack,
        memoryview,
        lambda x: x.__dlpack__(),
        np.ma.masked_array,
        lambda x: x.flat,
        np.nditer,
        np.ctypeslib.as_ctypes,
        lambda x: x.base,
        iter,
    ):
        view = derive(shared_pattern(1000, 1))
        assert held() > before
        del view
        assert held() == before


def test_cycles_are_collected() -> None:
    class Node:
        def __init__(self) -> None:
            self.array = nds.zeros(1000)
            self.me = self

    before = held()
    gc.disable()
    try:
        watch = weakref.ref(Node())
        assert nds.stats()["bytes"] > before
    finally:
        gc.enable()
    gc.collect()
    assert watch() is None
    assert held() == before


def test_an_arena_closed_under_its_views() -> None:
    arena = nds.Arena("64 MiB")
    x = shared_pattern(1000, 1, arena)
    arena.close()
    arena.close()
    assert arena.closed
    assert "closed" in repr(arena)
    assert (x == pattern(1000, 1)).all()
    x += 1
    with pytest.raises((nds.Error, ValueError), match="closed"):
        nds.zeros(3, arena=arena)
    del arena
    gc.collect()
    assert (x == pattern(1000, 1) + 1).all()
    assert nds.is_shared(x)
    with Puppet() as puppet:
        assert np.shares_memory(puppet.do("echo", x), x)


def test_an_arena_collected_under_its_views() -> None:
    x = nds.full(1000, 3.0, arena=nds.Arena("64 MiB"))
    gc.collect()
    assert (x == 3).all()
    assert nds.is_shared(x)
    y = nds.zeros_like(x)
    assert nds.is_shared(y)


def test_an_owner_in_another_process_ends() -> None:
    with Puppet() as puppet:
        puppet.do("make", "x", 1000, 4.0)
        x = puppet.do("give", "x")
        puppet.end()
    assert (x == 4).all()
    size = held()
    x[0] = 1
    y = x[1:]
    del x
    assert held() == size
    assert (y == 4).all()


def test_what_a_child_held_is_given_back() -> None:
    before = held()
    with Puppet() as puppet:
        puppet.do("make", "x", 100_000, 4.0)
        assert held() >= before + 800_000
    assert settle(before) == before


# ---- interpreter exit -----------------------------------------------------------------------------------------------

EXITS = {
    "globals": """
        x = nds.zeros(1000)
        views = [x[::2], memoryview(x), x.T, {"a": x}]
    """,
    "cycles": """
        class Node: pass
        a, b = Node(), Node()
        a.b, b.a, a.x, b.x = b, a, nds.zeros(1000), nds.ones((1000, 3)).T
        a.x2 = a.x[::-1]
        gc.disable()
    """,
    "modules": """
        np.our_array = nds.zeros(100)
        sys.our_array = np.our_array[1:]
        nds.our_array = nds.ones(5)
        import builtins
        builtins.our_array = nds.ones(6)
    """,
    "destructors": """
        assert np.ones(3).all()  # NumPy imports a part of itself at the first time
        class Late:
            def __init__(self): self.x = nds.full(1000, 5.0)
            def __del__(self):
                assert (self.x == 5).all()
                self.y = self.x[1:] + 1
        late, later = Late(), [Late()]
        later.append(later)
    """,
    "destructors that allocate": """
        assert np.ones(3).sum() == 3  # NumPy imports a part of itself at the first time
        class Late:
            def __del__(self, nds=nds):
                try:
                    assert nds.ones(10).sum() == 10
                except (nds.Error, RuntimeError, TypeError, AttributeError):
                    pass
        late = Late()
    """,
    "atexit": """
        import atexit
        x = nds.ones(1000)
        atexit.register(lambda: print(x.sum(), nds.zeros(3).sum(), nds.stats()["blocks"] > 0))
    """,
    "threads": """
        import threading
        local = threading.local()
        local.x = nds.zeros(1000)
        def run(gate):
            y = nds.zeros(1000)
            gate.set()
            while True: y += 1
        gate = threading.Event()
        threading.Thread(target=run, args=(gate,), daemon=True).start()
        gate.wait()
    """,
    "allocating threads": """
        import threading
        def run(gate):
            while True:
                nds.zeros(1000)
                gate.set()
        gate = threading.Event()
        for _ in range(4):
            threading.Thread(target=run, args=(gate,), daemon=True).start()
        gate.wait()
    """,
    "arenas": """
        arena = nds.Arena("8 MiB")
        x = nds.zeros(100, arena=arena)
        other = nds.Arena("8 MiB")
        other.close()
        ref = nds.ref(x)
    """,
    "undelivered": """
        from multiprocessing.reduction import ForkingPickler
        tickets = [ForkingPickler.dumps(nds.zeros(100)) for _ in range(10)]
    """,
    "queues": """
        import multiprocessing as mp
        queue = mp.Queue()
        for i in range(10): queue.put(nds.zeros(100))
    """,
    "sys.exit": "x = nds.zeros(100); sys.exit(0)",
    "os._exit": "x = nds.zeros(100); sys.stdout.flush(); os._exit(0)",
    "exec": "x = nds.zeros(100); os.execv(sys.executable, [sys.executable, '-c', 'pass'])",
    "nothing at all": "",
}


@pytest.mark.parametrize("flags", [(), ("-X", "dev"), ("-W", "error")], ids=["plain", "dev", "error"])
@pytest.mark.parametrize("name", EXITS)
def test_interpreter_exit(name: str, flags: tuple[str, ...]) -> None:
    import textwrap

    source = "import gc, os, sys\nimport numpy as np\nimport ndshare as nds\n" + textwrap.dedent(EXITS[name])
    run(source, flags=flags).clean()


@pytest.mark.parametrize("how", ["return", "sys.exit", "os._exit", "raise"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_child_exit_with_views(method: str, how: str) -> None:
    source = """
    import multiprocessing as mp, os, sys
    import numpy as np, ndshare as nds

    def leave(x, how):
        global kept, cycle
        kept = [x, x[::2], nds.zeros(100)]
        cycle = [kept]; cycle.append(cycle)
        x += 1
        if how == "sys.exit": sys.exit(0)
        if how == "os._exit": os._exit(0)
        if how == "raise": raise SystemExit

    if __name__ == "__main__":
        x = nds.zeros(1000)
        process = mp.get_context(sys.argv[1]).Process(target=leave, args=(x, sys.argv[2]))
        process.start()
        process.join()
        assert process.exitcode == 0, process.exitcode
        assert (x == 1).all()
    """
    run(source, method, how, flags=("-X", "dev")).clean()


def test_importing_and_leaving_writes_nothing() -> None:
    for flags in ((), ("-X", "dev"), ("-W", "error"), ("-b",), ("-OO",)):
        assert not run("import ndshare", flags=flags).clean()


def test_no_thread_and_no_process_of_ours() -> None:
    source = """
    import os
    count = lambda: (len(os.listdir("/proc/self/task")), open(f"/proc/self/task/{os.getpid()}/children").read().split())
    import numpy as np
    np.ones((500, 500)) @ np.ones((500, 500))
    before = count()
    import ndshare as nds
    from multiprocessing.reduction import ForkingPickler
    x = nds.zeros(1 << 26, np.uint8)
    keep = [ForkingPickler.loads(ForkingPickler.dumps(x)), nds.ref(x).open(), nds.Arena("8 MiB")]
    nds.stats(); nds.reclaim()
    assert count() == before, (before, count())
    import sys
    assert "multiprocessing.resource_tracker" not in sys.modules or (
        sys.modules["multiprocessing.resource_tracker"]._resource_tracker._pid is None)
    """
    run(source).clean()


# ---- fork -----------------------------------------------------------------------------------------------------------


def test_fork_with_live_views() -> None:
    x = shared_pattern(100_000, 8)
    view = x[::-3]
    expected = view.copy()
    child = os.fork()
    if not child:
        good = (view == expected).all() and nds.is_shared(view)
        x[0] = 77
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert x[0] == 77


def test_a_forked_child_keeps_what_its_parent_drops() -> None:
    with nds.Arena("64 MiB") as arena:
        x = shared_pattern(10_000, 8, arena)
        reader, writer = os.pipe()
        done_reader, done_writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(writer)
            os.read(reader, 1)  # until the parent has dropped it and tried to overwrite it
            os._exit(0 if (x == pattern(10_000, 8)).all() else 1)
        del x
        gc.collect()
        assert held(arena) >= 40_000
        for _ in range(20):
            nds.full(10_000, 0xFFFFFFFF, np.uint32, arena=arena)
        os.close(writer)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert settle(0, arena) == 0
        for fd in (reader, done_reader, done_writer):
            os.close(fd)


def test_a_forked_child_that_ends_at_once_is_an_ordinary_death() -> None:
    with nds.Arena("64 MiB") as arena:
        x = nds.zeros(1000, arena=arena)
        for _ in range(200):
            child = os.fork()
            if not child:
                os._exit(0)
            os.waitpid(child, 0)
        assert nds.stats(arena)["blocks"] == 1
        del x
        assert settle(0, arena) == 0
        assert len([p for p in nds.stats(arena)["participants"] if p["alive"]]) == 1


def test_a_forked_childs_new_arrays_are_its_own() -> None:
    reader, writer = os.pipe()
    with nds.Arena("64 MiB") as arena:
        child = os.fork()
        if not child:
            x = nds.ones(1000, arena=arena)
            os.write(writer, bytes(str(nds.ref(x)), "ascii"))
            os.read(reader, 0)
            signal.pause()
        ref = os.read(reader, 1000).decode()
        y = nds.ref(ref).open()
        assert (y == 1).all()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        z = nds.zeros(1000, arena=arena)
        assert (y == 1).all()
        assert not np.shares_memory(y, z)
    os.close(reader)
    os.close(writer)


def test_fork_while_threads_allocate() -> None:
    source = """
    import os, sys, threading, warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    import numpy as np, ndshare as nds
    from multiprocessing.reduction import ForkingPickler
    stop = threading.Event()
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        alive = []
        while not stop.is_set():
            x = nds.full(int(rng.integers(1, 30_000)), seed, np.uint8)
            alive.append(ForkingPickler.loads(ForkingPickler.dumps(x)) if rng.integers(4) == 0 else x)
            if len(alive) > 30:
                if not (alive.pop(int(rng.integers(30))) == seed).all():
                    wrong.append(seed)

    def child(i, mine):
        assert (mine == 9).all()
        for n in (10, 5000, 300_000):
            x = nds.full(n, i % 251, np.uint8)
            assert (ForkingPickler.loads(ForkingPickler.dumps(x)) == i % 251).all()
        if not (pid := os.fork()):
            nds.zeros(100)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 4)]
    for thread in threads: thread.start()
    mine = nds.full(10_000, 9, np.uint8)
    for i in range(100):
        pid = os.fork()
        if not pid:
            try:
                if i % 3: child(i, mine)
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0, i
    stop.set()
    for thread in threads: thread.join()
    assert not wrong and (mine == 9).all()
    """
    run(source).clean()


def test_nested_forks_without_exec() -> None:
    x = nds.zeros(20, np.int64)

    def descend(depth: int) -> None:
        if depth == 20:
            return
        child = os.fork()
        if not child:
            x[depth] = depth + nds.ones(10).sum() - 10
            descend(depth + 1)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            os._exit(1)

    child = os.fork()
    if not child:
        descend(0)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (x == np.arange(20)).all()


def test_a_daemon_that_closes_everything() -> None:
    source = """
    import os, sys, time
    import numpy as np, ndshare as nds
    x = nds.zeros(1000)
    out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    if not os.fork():
        os.setsid()
        if not os.fork():
            os.dup2(out, 0)
            os.closerange(1, 1000)
            while os.getppid() != 1 and not x[1]: time.sleep(0.001)
            try:
                x[0] = 5
                y = nds.ones(10_000)
                z = nds.zeros(3 << 20, np.uint8)
                z.fill(1)
                os.write(0, b"good" if y.sum() == 10_000 and x[0] == 5 and nds.stats()["blocks"] == 3 else b"bad")
            except BaseException as error:
                os.write(0, repr(error).encode())
        os._exit(0)
    x[1] = 1
    os.wait()
    """
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        run(source, file.name).clean()
        assert wait_until(lambda: bool(Path(file.name).read_text()))
        assert Path(file.name).read_text() == "good"


# ---- descriptors taken away -----------------------------------------------------------------------------------------


def test_closerange_while_views_live() -> None:
    source = """
    import os, sys, gc
    import numpy as np, ndshare as nds
    from multiprocessing.reduction import ForkingPickler
    x = nds.array(np.arange(100_000))
    view = x[::-2]
    os.closerange(3, 1000)
    assert (view == np.arange(100_000)[::-2]).all()
    view += 1
    y = nds.ones((3 << 20,), np.uint8)
    assert y.sum() == 3 << 20 and not nds.zeros(5 << 20, np.uint8).any()
    z = ForkingPickler.loads(ForkingPickler.dumps(x))
    assert np.shares_memory(x, z) and np.shares_memory(nds.ref(x).open(), x)
    if not (pid := os.fork()):
        x[0] = 42
        assert nds.ones(10).sum() == 10
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert x[0] == 42
    assert nds.stats()["blocks"] == 2
    del x, view, z
    gc.collect()
    assert nds.stats()["blocks"] == 1
    del y
    gc.collect()
    assert nds.stats()["bytes"] == 0
    """
    run(source, flags=("-X", "dev")).clean()


def test_a_strangers_file_at_our_descriptor_is_left_alone() -> None:
    """After closerange the number may belong to a file of the user's. A child must not take it for the arena."""
    source = """
    import os, subprocess, sys
    import multiprocessing as mp
    import ndshare as nds, numpy as np
    import workers

    if __name__ == "__main__":
        x = nds.ones(1000)
        os.closerange(3, 1000)
        files = [open(f"{sys.argv[1]}/file{i}", "w+b") for i in range(20)]
        for file in files:
            file.write(bytes(range(256)) * 1000)
            file.flush()
        ref = nds.ref(x)
        code = (
            "import sys, ndshare as nds\\n"
            "try: print(nds.ref(sys.argv[1]).open().sum())\\n"
            "except nds.AttachError as error: print('AttachError')\\n"
            "print(nds.ones(10).sum())"
        )
        out = subprocess.run([sys.executable, "-c", code, str(ref)], capture_output=True, text=True)
        assert out.returncode == 0 and not out.stderr, out.stderr
        assert out.stdout.split() in (["1000.0", "10.0"], ["AttachError", "10.0"]), out.stdout
        for file in files:
            file.seek(0)
            assert file.read() == bytes(range(256)) * 1000
    """
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        run(source, directory).clean()


def test_standard_streams_closed() -> None:
    source = """
    import os, sys
    out = os.dup(1)
    for fd in (0, 1, 2): os.close(fd)
    import numpy as np, ndshare as nds
    x = nds.ones(1000)
    if not (pid := os.fork()):
        os._exit(int(nds.ones(5).sum()) - 5)
    assert os.waitpid(pid, 0)[1] == 0
    os.write(out, b"good")
    os._exit(0)
    """
    assert run(source).clean() == "good"


# ---- exec and signals -----------------------------------------------------------------------------------------------


def test_exec_gives_everything_back() -> None:
    with nds.Arena("64 MiB") as arena:
        child = os.fork()
        if not child:
            x = nds.ones(MIB, arena=arena)
            os.execv("/bin/sleep", ["sleep", "60" if x.sum() else "0"])
        try:
            assert wait_until(lambda: Path(f"/proc/{child}/comm").read_text().strip() == "sleep")
            assert settle(0, arena) == 0
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_a_stopped_process_is_alive() -> None:
    before = held()
    with Puppet() as puppet:
        puppet.do("make", "x", 100_000, 4.0)
        os.kill(puppet.pid, signal.SIGSTOP)
        try:
            for _ in range(100):
                nds.full(100_000, 1.0)
            assert held() >= before + 800_000
        finally:
            os.kill(puppet.pid, signal.SIGCONT)
        assert (puppet.do("give", "x") == 4).all()


def test_signals_between_all_steps() -> None:
    """A handler that allocates, run between any two bytecodes of code that allocates."""
    counts = [0]

    def handler(*_: Any) -> None:
        x = nds.full(100, 3.0)
        assert (x == 3).all()
        counts[0] += 1

    old = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for i in range(20_000):
            x = nds.full(10, float(i))
            assert x[9] == i
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert counts[0] > 10


def test_children_of_a_killed_parent_go_on() -> None:
    ours, theirs = mp.Pipe()
    x = nds.zeros(100)
    process = mp.get_context("fork").Process(target=workers.grandchildren, args=(1, "fork", theirs, x))
    process.start()
    process.join(HANG)
    pid, _, result = ours.recv()
    assert (result == 1).all()
    assert wait_until(lambda: not alive(pid))
    assert (result == 1).all()


def test_a_world_readable_arena_it_is_not() -> None:
    """Another user's process must not be able to open the memory."""
    nds.zeros(1)
    modes = []
    for fd in os.listdir("/proc/self/fd"):
        path = f"/proc/self/fd/{fd}"
        if os.path.exists(path) and os.readlink(path).startswith("/memfd:ndshare"):
            modes.append(os.stat(path).st_mode & 0o777)
    assert set(modes) <= {0o600}


def test_sealed_against_those_who_would_shrink_it() -> None:
    source = """
    import os, ndshare as nds
    x = nds.ones(1000)
    tried = 0
    for fd in os.listdir("/proc/self/fd"):
        path = "/proc/self/fd/" + fd
        if os.path.exists(path) and os.readlink(path).startswith("/memfd:ndshare"):
            tried += 1
            for size in (0, 1 << 50):
                try:
                    os.ftruncate(int(fd), size)
                except OSError:
                    continue
                raise SystemExit("a sealed file changed its size")
    assert x.sum() == 1000 and tried
    """
    run(source).clean()


@pytest.mark.parametrize("version", ["dev"])
def test_many_sessions_one_after_another(version: str) -> None:
    source = "import ndshare as nds; x = nds.ones(100_000); print(x.sum())"
    for _ in range(5):
        assert run(source, flags=("-X", version), env=environment()).clean().strip() == "100000.0"
    assert sys.executable
