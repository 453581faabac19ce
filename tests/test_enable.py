"""Other libraries send arrays by reference where they copied, once `nds.enable` has named them.

Each program has an interpreter of its own, because what is enabled stays enabled, and works with the real library.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import ndshare as nds
from helpers import environment, run, script

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("billiard", "cloudpickle", "dask", "distributed", "joblib", "loky", "multiprocess", "ray", "torch")

# What the programs share. `left` waits until nothing is in flight; what was sent a moment ago may be on its way.
SHARED = """
    import contextlib, gc, os, pickle, signal, sys, time
    import numpy as np
    import ndshare as nds

    def left(seconds=60):
        deadline = time.monotonic() + seconds
        while nds.stats()["tickets"] and time.monotonic() < deadline:
            time.sleep(0.05)
        return nds.stats()["tickets"]

    def same(x, y):
        return x.__array_interface__["data"] == y.__array_interface__["data"] and x.strides == y.strides

    def work(a):
        a[...] += 1
        return nds.array(a * 2), a[::-2], nds.is_shared(a)

    def look(a):
        return type(a).__name__, nds.is_shared(a), a.flags.writeable, float(a.sum())

    def check(send, size=300_000):
        '''Send an array, by whatever way, and look at what came back.'''
        a = nds.zeros(size)
        twice, view, was_shared = send(work, a)
        assert was_shared and a.sum() == size, (was_shared, a)
        assert nds.is_shared(twice) and twice.sum() == 2 * size
        assert same(view, a[::-2]), view.strides
        view[0] = 9
        assert a[-1] == 9
        readonly = a.view(np.matrix)
        readonly.flags.writeable = False
        assert send(look, readonly) == ("matrix", True, False, size + 8.0)
        assert send(look, a + 0)[1] is False
        del twice, view
        assert left() == [], nds.stats()
"""


def told(source: str, *args: str, env: dict[str, str] | None = None) -> str:
    """Run a program that begins with what the programs share, and return what it printed."""
    done = run(SHARED + source, *args, env=env)
    assert done.code == 0, f"{done.out}\n{done.err}"
    return done.out


# ---- enabling -------------------------------------------------------------------------------------------------------


def test_nothing_is_imported_before_it_is_enabled() -> None:
    source = f"import sys, ndshare; print([name for name in {NAMES} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout == "[]\n"


def test_other_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected names of 'billiard', .* 'torch', got 'spark'"):
        nds.enable("joblib", "spark")
    with pytest.raises(ValueError, match="expected at least one name"):
        nds.enable()
    done = run("import ndshare", env=environment(NDSHARE_ENABLE="joblib,spark"))
    assert done.code == 0
    assert "RuntimeWarning: expected NDSHARE_ENABLE to have names of 'billiard'" in done.err, done.err
    assert "got 'spark': left out" in done.err
    # A blank after a comma is none of the name.
    done = run("import ndshare", env=environment(NDSHARE_ENABLE="joblib, cloudpickle"))
    assert (done.code, done.err) == (0, "")


def test_a_library_that_is_not_there_is_named_and_nothing_is_enabled() -> None:
    pytest.importorskip("multiprocess")
    source = """
    sys.modules["billiard"] = None
    import multiprocess.reduction
    before = vars(multiprocess.reduction.ForkingPickler).copy()
    try:
        nds.enable("multiprocess", "billiard")
    except ImportError as error:
        print(error.name, error)
    print(before == vars(multiprocess.reduction.ForkingPickler), os.environ.get("NDSHARE_ENABLE"))
    """
    first, second = told(source).splitlines()
    assert first.startswith("billiard expected billiard for ndshare.enable('billiard'), and it can't be imported")
    assert second == "True None"


def test_a_second_call_changes_nothing() -> None:
    pytest.importorskip("multiprocess")
    pytest.importorskip("cloudpickle")
    source = """
    nds.enable("multiprocess", "cloudpickle")
    import cloudpickle, multiprocess.reduction
    picklers = cloudpickle.Pickler, multiprocess.reduction.ForkingPickler
    before = [vars(pickler).copy() for pickler in picklers]
    nds.enable("cloudpickle")
    nds.enable("cloudpickle", "multiprocess")
    print(before == [vars(pickler) for pickler in picklers], os.environ["NDSHARE_ENABLE"])
    """
    assert told(source) == "True cloudpickle,multiprocess\n"


# ---- multiprocess and billiard ---------------------------------------------------------------------------------------


def like_multiprocessing(package: str) -> None:
    """Skip where a package is not there, or cannot pickle a function: dill 0.4.1 does not know Python 3.15."""
    pytest.importorskip(package)
    if package == "multiprocess":
        try:
            pytest.importorskip("dill").dumps(lambda: None)
        except AttributeError as error:
            pytest.skip(f"dill does not know this Python: {error}")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("package", ["multiprocess", "billiard"])
def test_what_is_like_multiprocessing_sends_by_reference(package: str, method: str) -> None:
    like_multiprocessing(package)
    source = f"""
    nds.enable("{package}")
    import {package} as mp

    if __name__ == "__main__":
        pool = mp.get_context("{method}").Pool(1)
        check(lambda function, a: pool.apply(function, (a,)))
        with nds.Ring(3, np.uint8, slots=2) as ring:
            reader = ring.reader()
            assert pool.apply(np.sum, ([1, 2],)) == 3
            pool.apply(nds.Ring.put, (ring, [1, 2, 3]))
            print(reader.get(timeout=60).tolist())
        pool.terminate()
        pool.join()
    """
    assert told(source) == "[1, 2, 3]\n"


@pytest.mark.parametrize("package", ["multiprocess", "billiard"])
def test_what_a_dead_process_never_read_is_taken_back(package: str) -> None:
    like_multiprocessing(package)
    source = f"""
    nds.enable("{package}")
    import {package} as mp

    if __name__ == "__main__":
        a = nds.zeros(1000)
        os.environ["PYTHONHOME"] = "/nowhere"  # so the child ends before it reads anything
        process = mp.get_context("spawn").Process(target=work, args=(a,))
        process.start()
        process.join()
        print(process.exitcode != 0, left())
        del process  # billiard's has its arguments still
        there, here = mp.Pipe()
        here.send(a)
        del a
        (ticket,) = nds.stats()["tickets"]
        print(ticket["bytes"], nds.reclaim() == ticket["bytes"], nds.stats()["blocks"])
        try:
            there.recv()
        except nds.Stale:
            print("stale")
    """
    assert told(source).splitlines() == ["True []", "8192 True 0", "stale"]


# ---- joblib and loky -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
@pytest.mark.parametrize("size", [100, 1_000_000])
def test_joblib_sends_by_reference_below_and_above_its_threshold(backend: str, size: int, tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    source = f"""
    nds.enable("joblib")
    from joblib import Parallel, delayed

    if __name__ == "__main__":
        with Parallel(2, backend="{backend}", temp_folder=sys.argv[1]) as parallel:
            check(lambda function, a: parallel([delayed(function)(a)])[0], {size})
            a = nds.zeros({size})
            parallel(delayed(np.put)(a, i, i) for i in range(20))
            print(a[:20].sum(), left())
        files = [name for _, _, names in os.walk(sys.argv[1]) for name in names]
        print(len(files))
    """
    # What `check` sends by value is put into a file above the threshold, as ever.
    lines = told(source, str(tmp_path)).splitlines()
    assert lines[0] == "190.0 []"
    assert int(lines[1]) <= 1


def test_functions_of_joblib_take_their_arrays_by_reference() -> None:
    pytest.importorskip("joblib")
    source = """
    nds.enable("joblib")
    import joblib

    if __name__ == "__main__":
        a = nds.zeros(1_000_000)
        def here(i):
            a[i] = i
            return nds.is_shared(a)
        before = joblib.hash(a)
        print(joblib.Parallel(2)(joblib.delayed(here)(i) for i in (1, 2)), a[:3], left())
        joblib.dump(a[:3], sys.argv[1])
        print(nds.is_shared(joblib.load(sys.argv[1])), joblib.hash(a) != before, joblib.hash(a) == joblib.hash(a + 0))
    """
    lines = told(source, str(script("")) + ".pkl").splitlines()
    assert lines == ["[True, True] [0. 1. 2.] []", "False True True"]


def test_a_worker_of_joblib_that_is_killed_leaks_nothing() -> None:
    pytest.importorskip("joblib")
    source = """
    nds.enable("joblib")
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    def die(a):
        b = nds.ones(1000)
        os.kill(os.getpid(), signal.SIGKILL)

    if __name__ == "__main__":
        a = nds.zeros(1_000_000)
        with contextlib.suppress(TerminatedWorkerError):
            Parallel(2)(delayed(die)(a) for _ in range(2))
            print("no error")
        nds.reclaim()
        del a
        deadline = time.monotonic() + 60
        while nds.stats()["blocks"] and time.monotonic() < deadline:
            nds.reclaim()
            time.sleep(0.1)
        print(nds.stats()["blocks"])
    """
    assert told(source) == "0\n"


def test_loky_sends_by_reference() -> None:
    pytest.importorskip("loky")
    source = """
    nds.enable("loky")
    import loky

    if __name__ == "__main__":
        with loky.ProcessPoolExecutor(1) as pool:
            check(lambda function, a: pool.submit(function, a).result())
    """
    told(source)


def test_another_pickler_of_loky_sends_by_reference_too() -> None:
    """It is a new class, which nobody had taught: workers wrote into copies without a word."""
    pytest.importorskip("loky")
    source = """
    nds.enable("loky")
    import loky

    if __name__ == "__main__":
        for name in ("pickle", "cloudpickle"):
            loky.set_loky_pickler(name)
            with loky.ProcessPoolExecutor(1) as pool:
                a = nds.zeros(1000)
                print(name, pool.submit(nds.is_shared, a).result(), pool.submit(np.add.at, a, 3, 2).result(), a[3])
    """
    assert told(source) == "pickle True None 2.0\ncloudpickle True None 2.0\n"


# ---- cloudpickle -----------------------------------------------------------------------------------------------------


def test_cloudpickle_writes_a_message_for_one_receiver() -> None:
    pytest.importorskip("cloudpickle")
    source = """
    import cloudpickle
    plain = np.arange(6.0)
    before = [cloudpickle.dumps(plain, protocol) for protocol in range(6)]
    nds.enable("cloudpickle")
    assert before == [cloudpickle.dumps(plain, protocol) for protocol in range(6)]
    a = nds.zeros(1000)
    for protocol in range(2, 6):
        data = cloudpickle.dumps(lambda: (a, a[1:]), protocol)
        whole, part = pickle.loads(data)()
        assert same(whole, a) and same(part, a[1:]), protocol
    assert same(pickle.loads(data)()[0], a)  # again, while somebody has it
    assert left() == []
    assert not nds.is_shared(pickle.loads(pickle.dumps(a)))
    data = cloudpickle.dumps([a, a[:5]])
    assert len(nds.stats()["tickets"]) == 1 and len(data) < 600, len(data)
    del a, whole, part
    back = pickle.loads(data)  # the bytes have kept it
    assert same(back[0][:5], back[1])
    del back
    try:
        pickle.loads(data)
    except nds.Stale:
        print("stale")
    class Fails:
        def __reduce__(self): raise ZeroDivisionError
    with contextlib.suppress(ZeroDivisionError):
        cloudpickle.dumps([nds.zeros(10), Fails()])
    print(nds.stats()["tickets"], nds.stats()["blocks"])
    """
    assert told(source) == "stale\n[] 0\n"


def test_what_is_pickled_within_a_message_that_fails_is_taken_back_with_it() -> None:
    """Each of these left a ticket, which kept a block."""
    pytest.importorskip("joblib")
    pytest.importorskip("cloudpickle")
    source = """
    nds.enable("joblib", "cloudpickle")
    import cloudpickle
    from joblib.externals.loky import wrap_non_picklable_objects
    from joblib.externals.loky.backend import reduction
    class Fails:
        def __reduce__(self): raise ZeroDivisionError
    class Nested:
        def __init__(self, a): self.a = a
        def __reduce__(self): return cloudpickle.loads, (cloudpickle.dumps(self.a),)
    for dumps in (cloudpickle.dumps, reduction.dumps):
        for inner in (Nested(nds.zeros(10)), wrap_non_picklable_objects(lambda a=nds.zeros(10): a)):
            with contextlib.suppress(ZeroDivisionError):
                dumps([inner, Fails()])
            print(nds.stats()["tickets"])
    """
    assert told(source) == "[]\n" * 4


@pytest.mark.parametrize("package", ["cloudpickle", "multiprocess", "dask"])
def test_what_a_process_imports_later_is_enabled_as_the_parent_has_it(package: str) -> None:
    """A worker whose program imports ndshare first went by value."""
    pytest.importorskip(package)
    source = f"""
    import ndshare
    from ndshare import _enable
    assert not _enable.is_enabled({package!r})
    import {package}
    print(_enable.is_enabled({package!r}))
    """
    done = run(source, env=environment(NDSHARE_ENABLE=package))
    assert (done.out, done.err) == ("True\n", "")


def test_what_is_imported_by_another_is_enabled_and_a_look_for_it_changes_nothing(tmp_path: Path) -> None:
    """Joblib 1.5 imports cloudpickle only when it is taught, and waited for itself."""
    pytest.importorskip("cloudpickle")
    package = tmp_path / "billiard"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "context.py").write_text("from multiprocessing.context import _tls")
    pickler = "class ForkingPickler(multiprocessing.reduction.ForkingPickler): pass"
    (package / "reduction.py").write_text(f"import cloudpickle, multiprocessing.reduction\n{pickler}\n")
    source = """
    import importlib.util, sys
    import ndshare
    from ndshare import _enable
    sys.path.insert(0, sys.argv[1])
    assert importlib.util.find_spec("billiard").origin.startswith(sys.argv[1])
    assert importlib.util.find_spec("cloudpickle") and "cloudpickle" not in sys.modules
    import billiard
    print(sorted(_enable._enabled))
    """
    done = run(source, str(tmp_path), env=environment(NDSHARE_ENABLE="billiard,cloudpickle"))
    assert (done.out, done.err) == ("['billiard', 'cloudpickle']\n", "")


# ---- Dask ------------------------------------------------------------------------------------------------------------


def test_the_scheduler_of_processes_sends_by_reference() -> None:
    pytest.importorskip("dask")
    source = """
    nds.enable("dask")
    import dask
    from dask.tokenize import tokenize

    if __name__ == "__main__":
        def send(function, a):
            task = dask.delayed(function, pure=False)(a)
            return dask.compute(task, scheduler="processes", num_workers=1)[0]
        check(send)
        a = nds.zeros(10)
        f = lambda: a
        assert tokenize(f) == tokenize(f)
        print(nds.stats()["tickets"])
    """
    assert told(source) == "[]\n"


@pytest.mark.parametrize("processes", [True, False])
def test_a_cluster_on_this_machine_sends_by_reference(processes: bool) -> None:
    pytest.importorskip("distributed")
    source = f"""
    nds.enable("dask")
    from distributed import Client, LocalCluster

    def mark(a, i):
        a[i] = i
        return a

    if __name__ == "__main__":
        with (
            LocalCluster(n_workers=2, threads_per_worker=1, processes={processes}, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            a = nds.zeros(1000)
            check(lambda function, a: client.submit(function, a, pure=False).result())
            workers = list(client.scheduler_info()["workers"])
            first = client.submit(mark, a, 1, workers=workers[0])
            second = client.submit(mark, first, 2, workers=workers[1])
            assert same(second.result(), a) and a[:3].tolist() == [0, 1, 2]
            scattered = client.scatter(a, broadcast=True)
            assert client.submit(mark, {{"x": [scattered]}}["x"][0], 3, workers=workers[1]).result()[3] == 3
            both = client.gather([client.submit(look, [a][0], workers=worker, pure=False) for worker in workers])
            assert [x[1] for x in both] == [True, True], both
            assert client.submit(lambda: nds.is_shared(a)).result()
            data = client.submit(lambda x: {{"list": [x, x[1:]]}}, a).result()
            assert same(data["list"][1], a[1:]) and a[3] == 3
            from distributed.protocol import deserialize_bytes, serialize_bytelist
            spilled = deserialize_bytes(b"".join(serialize_bytelist(a)))
            assert not nds.is_shared(spilled) and (spilled == a).all()
            del first, second, scattered, both, data
            print(left())
        del a, spilled
        deadline = time.monotonic() + 60
        while nds.stats()["blocks"] and time.monotonic() < deadline:
            gc.collect()  # Dask's objects name each other
            nds.reclaim()  # a busy cluster ends with a message that nobody has read
            time.sleep(0.1)
        print(nds.stats()["blocks"])
    """
    assert told(source) == "[]\n0\n"


def test_what_dask_keeps_goes_by_value_whatever_else_is_enabled() -> None:
    """A worker spills by the same functions as it sends; with cloudpickle enabled it spilled references."""
    pytest.importorskip("distributed")
    source = """
    nds.enable("dask", "cloudpickle")
    from distributed.protocol import deserialize_bytes, serialize_bytelist
    from distributed.protocol.pickle import dumps, loads
    a = nds.ones(1000)
    kept = b"".join(map(bytes, serialize_bytelist(a)))
    back = deserialize_bytes(kept)
    print(len(kept) > a.nbytes, nds.is_shared(back), back.sum(), nds.is_shared(loads(dumps(a))), nds.stats()["tickets"])
    """
    assert told(source) == "True False 1000.0 False []\n"


def test_exceptions_come_back_from_workers_of_dask() -> None:
    # Tblib, which Dask imports, pickles them its own way, and could not read those again that are MemoryErrors, too.
    pytest.importorskip("tblib")
    pytest.importorskip("zenoh")
    source = """
    import ndshare.net
    from tblib import pickling_support

    pickling_support.install()
    left, made = [nds.Error], 0
    while left:
        kind = left.pop()
        left += kind.__subclasses__()
        error = kind("OSError", "no such tile") if issubclass(kind, nds.LoadError) else kind("what happened")
        error.note = 7
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.args, again.note) == (kind, str(error), error.args, 7), kind
        made += 1
    print(made)
    """
    assert int(told(source)) >= 16


def test_a_worker_of_dask_that_is_killed_leaks_nothing() -> None:
    pytest.importorskip("distributed")
    source = """
    nds.enable("dask")
    import logging
    from distributed import Client, LocalCluster
    from distributed.scheduler import KilledWorker

    def die(a):
        b = nds.ones(1000)
        os.kill(os.getpid(), signal.SIGKILL)

    if __name__ == "__main__":
        with (
            LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL) as c,
            Client(c) as client,
        ):
            a = nds.zeros(1000)
            try:
                client.submit(die, a, retries=0, pure=False).result()
            except KilledWorker:
                print("killed")
            check(lambda function, x: client.submit(function, x, pure=False).result(), 100)
        # Dask itself keeps the arguments of a task that failed, here in this process.
        print(left(), [process for process in nds.stats()["participants"] if not process["me"]])
    """
    env = environment(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    assert told(source, env=env) == "killed\n[] []\n"


@pytest.fixture
def machines() -> Iterator[tuple[str, str, str]]:
    """Make two machines with a link between them: the commands to run on each, and the first one's address."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("two machines need root, and the command ip")
    names = [f"nds{os.getpid()}{letter}" for letter in "ab"]
    with_links = [
        *(f"ip netns add {name}" for name in names),
        f"ip link add {names[0]} netns {names[0]} type veth peer name {names[1]} netns {names[1]}",
        *(f"ip -n {name} address add 10.219.7.{i + 1}/24 dev {name}" for i, name in enumerate(names)),
        *(f"ip -n {name} link set {link} up" for name in names for link in (name, "lo")),
    ]
    try:
        for command in with_links:
            done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"no network namespaces here: {command}: {done.stderr}")
        yield f"ip netns exec {names[0]}", f"ip netns exec {names[1]}", "10.219.7.1"
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


FAR = """
    import subprocess
    nds.enable("dask")
    from distributed import Client, LocalCluster

    # A worker that ends with this program, in whatever way.
    WORKER = "import os, sys, threading; from dask.__main__ import main; "
    WORKER += "threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0))).start(); main()"

    def make(n):
        return nds.full(n, 7.0)

    def mark(a):
        a = a if a.flags.writeable else a.copy()
        a[0] = 5
        return nds.is_shared(a), a

    if __name__ == "__main__":
        host, far, flags = sys.argv[1:]
        env = {name: value for name, value in os.environ.items() if not name.startswith("NDSHARE_")}
        with (
            LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, host=host) as cluster,
            Client(cluster) as client,
        ):
            worker = [sys.executable, "-c", WORKER, "worker", cluster.scheduler_address, "--name", "far"]
            options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", *flags.split()]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            process = subprocess.Popen([*far.split(), *worker, *options], env=env, **pipes)
            try:
                client.wait_for_workers(2, timeout=100)
                a = nds.zeros(300_000)
                was_shared, near = client.submit(mark, a, workers=[0], pure=False).result()
                assert was_shared and same(near, a) and a[0] == 5
                a[0] = 1
                for send in (a, client.scatter(a, workers=[0]), client.submit(np.negative, -a, workers=[0])):
                    was_shared, back = client.submit(mark, send, workers=["far"], pure=False).result()
                    assert not was_shared and not nds.is_shared(back) and (back[0], back[1:].any()) == (5, False)
                assert a[0] == 1
                made = client.submit(make, 1000, workers=["far"], pure=False)
                assert client.submit(look, made, workers=[0]).result() == ("ndarray", False, True, 7000.0)
                assert look(made.result())[1::2] == (False, 7000.0)
                del near, back, made, send
                print(left())
            finally:
                process.kill()
                process.wait()
"""


@pytest.mark.parametrize("flags", ["--preload ndshare.dask", ""])
def test_a_worker_of_another_session_gets_the_value(flags: str) -> None:
    pytest.importorskip("distributed")
    assert told(FAR, "127.0.0.1", "env", flags) == "[]\n"


def test_a_worker_on_another_machine_gets_the_value(machines: tuple[str, str, str]) -> None:
    pytest.importorskip("distributed")
    near, far, host = machines
    done = run(SHARED + FAR, host, far, "--preload ndshare.dask", prefix=near.split())
    assert (done.code, done.out) == (0, "[]\n"), done.err


# ---- Ray -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ray() -> Iterator[dict[str, str]]:
    """Return an environment in which Ray leaves its files in a folder that goes; its sockets need a short path."""
    pytest.importorskip("ray")
    with tempfile.TemporaryDirectory(prefix="nds", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield environment(RAY_TMPDIR=folder, RAY_USAGE_STATS_ENABLED="0")


RAY = """
    nds.enable("ray")
    import ray

    def init(**options):
        ray.init(include_dashboard=False, logging_level="ERROR", log_to_driver=False, **options)

    def blocks(expected):
        deadline = time.monotonic() + 60
        while nds.stats()["blocks"] != expected and time.monotonic() < deadline:
            time.sleep(0.05)
        return nds.stats()["blocks"]

    @ray.remote
    class Actor:
        def keep(self, a):
            self.a = a
        def make(self, n):
            return nds.full(n, 3.0)
        def call(self, function, a):
            return function(a)
"""


def test_ray_sends_by_reference_and_knows_when_nobody_reads_any_more(ray: dict[str, str]) -> None:
    source = """
    if __name__ == "__main__":
        init(num_cpus=2, object_store_memory=100 << 20)
        check(lambda function, a: ray.get(ray.remote(function).remote(a)))
        actor = Actor.remote()
        check(lambda function, a: ray.get(actor.call.remote(function, a)))
        a = nds.zeros(1000)
        kept = ray.put({"a": a[1:], "plain": np.arange(9)})
        again = [ray.get(kept) for _ in range(2)]
        assert all(same(x["a"], a[1:]) for x in again) and not nds.is_shared(again[0]["plain"])
        del a, again
        assert blocks(1) == 1  # Ray has it, and anybody may still ask
        assert ray.get(actor.call.remote(look, ray.get(kept)["a"]))[1]
        del kept
        assert blocks(0) == 0
        made = actor.make.remote(1000)
        assert ray.get(ray.remote(look).remote(made)) == ("ndarray", True, True, 3000.0)
        x = ray.get(made)
        ray.get(actor.keep.remote(nds.zeros(1000)))
        ray.kill(actor)
        del made
        assert blocks(1) == 1 and x.sum() == 3000
        del x
        print(blocks(0), nds.stats()["tickets"])
        a = nds.zeros(10)
        function = ray.remote(lambda: nds.is_shared(a))  # every node gets a function, so what it closes over is copied
        print(ray.get(function.remote()))
        ray.shutdown()
    """
    assert told(RAY + source, env=ray).splitlines() == ["0 []", "False"]


def test_ray_keeps_what_nobody_else_has_until_it_is_read(ray: dict[str, str]) -> None:
    """Ray has no reference of its own to what is inside an argument before the call is on its way."""
    source = """
    @ray.remote
    class Made:
        def __init__(self, a, b):
            self.sum = a.sum() + b["b"].sum()
        def get(self):
            return self.sum

    if __name__ == "__main__":
        init(num_cpus=2, object_store_memory=100 << 20)
        actor, task = Actor.remote(), ray.remote(look)
        for _ in range(50):
            assert ray.get(actor.call.remote(look, nds.ones(10)))[1]
            assert ray.get(task.remote(nds.ones(10)))[1]
            assert ray.get(ray.put(nds.ones(10))).sum() == 10
            assert ray.get(actor.make.remote(10)).sum() == 30
        made = Made.remote(nds.ones(10), {"b": nds.ones(10)})
        calls = [task.remote(nds.ones(10)) for _ in range(20)]
        print(ray.get(made.get.remote()), sum(x[3] for x in ray.get(calls)))
        from ray.dag import InputNode
        with InputNode() as given:
            graph = actor.call.bind(look, given).experimental_compile()
        print(ray.get(graph.execute(nds.ones(10)))[1::2])  # in a compiled graph nothing would keep it
        graph.teardown()
        ray.shutdown()
    """
    assert told(RAY + source, env=ray) == "20.0 200.0\n(False, 10.0)\n"


def test_what_an_actor_made_ends_with_the_actor(ray: dict[str, str]) -> None:
    source = """
    if __name__ == "__main__":
        init(num_cpus=1, object_store_memory=100 << 20)
        actor = Actor.remote()
        made = actor.make.remote(1000)
        ray.wait([made])
        ray.kill(actor)
        assert blocks(0) == 0
        try:
            ray.get(made)
        except ray.exceptions.RayError as error:
            print("ndshare.Stale" in str(error))
        ray.shutdown()
    """
    assert told(RAY + source, env=ray) == "True\n"


def test_ray_sends_the_value_to_another_node(ray: dict[str, str]) -> None:
    source = """
    from ray.cluster_utils import Cluster

    if __name__ == "__main__":
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 << 20})
        cluster.add_node(num_cpus=1, resources={"far": 1}, object_store_memory=100 << 20)
        init(address=cluster.address)
        a = nds.full(1000, 2.0)
        far = ray.remote(resources={"far": 1})(look)
        print(ray.get(far.remote(a)), ray.get(far.remote([a][0].view(np.matrix))))
        actor = Actor.options(resources={"far": 1}).remote()  # what it made ends with it
        away = ray.get(actor.make.remote(1000))
        print(nds.is_shared(away), away.sum(), ray.get(ray.remote(look).remote(a))[1])
        del a, away
        print(blocks(0))
        ray.shutdown()
        cluster.shutdown()
    """
    lines = told(RAY + source, env=ray).splitlines()
    assert lines[0] == "('ndarray', False, False, 2000.0) ('matrix', False, False, 2000.0)"
    assert lines[1:] == ["False 3000.0 True", "0"]


def test_workers_of_ray_need_no_session_in_common(ray: dict[str, str]) -> None:
    source = """
    from ray.cluster_utils import Cluster

    @ray.remote
    def make():
        return nds.ones(10), nds.stats()["id"]

    if __name__ == "__main__":
        session = os.environ.pop("NDSHARE_SESSION")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 << 20})
        os.environ["NDSHARE_SESSION"] = session
        init(address=cluster.address)
        made, where = ray.get(make.remote())
        assert nds.is_shared(made) and made.sum() == 10 and where != nds.stats()["id"]
        check(lambda function, a: ray.get(ray.remote(function).remote(a)))
        ray.shutdown()
        cluster.shutdown()
    """
    told(RAY + source, env=ray)


# ---- torch -----------------------------------------------------------------------------------------------------------


def test_batches_of_torch_come_by_reference() -> None:
    pytest.importorskip("torch")
    source = """
    import torch
    from torch.utils.data import DataLoader

    def batch(items):
        return nds.array(np.stack(items))

    if __name__ == "__main__":
        images = [np.full((8, 8), i, np.float32) for i in range(4)]
        for got in DataLoader(images, batch_size=2, num_workers=1, collate_fn=batch):
            tensor = torch.from_numpy(got)
            assert nds.is_shared(got) and nds.is_shared(tensor) and tensor.shape == (2, 8, 8)
        assert left() == []
    """
    told(source)


def test_tensors_of_shared_arrays_are_sent_as_these_once_torch_is_enabled() -> None:
    pytest.importorskip("torch")
    source = """
    import multiprocessing as mp
    import torch
    nds.enable("torch")

    def work(tensor, others, answers):
        tensor += 1
        answers.put((nds.is_shared(tensor), [float(other.detach().float().sum()) for other in others]))
        answers.put(torch.from_numpy(nds.full(3, 7.0)))
        answers.get()

    if __name__ == "__main__":
        context = mp.get_context("spawn")
        answers, a = context.SimpleQueue(), nds.zeros((1000, 4), np.float32)
        tensor = torch.from_numpy(a)
        others = [torch.ones(3), torch.from_numpy(a[:2]).view(torch.bfloat16), torch.nn.Parameter(torch.ones(2))]
        process = context.Process(target=work, args=(tensor[::2].t(), others, answers))
        process.start()
        assert answers.get() == (True, [3.0, 0.0, 2.0])
        assert a[::2].min() == 1 and a[1::2].max() == 0
        back = answers.get()
        assert nds.is_shared(back) and back.tolist() == [7, 7, 7]
        a[5] = 3
        assert nds.is_shared(tensor) and tensor[5, 0] == 3
        answers.put(None)
        process.join()
        assert left() == []
    """
    told(source)


# ---- the page --------------------------------------------------------------------------------------------------------


def test_the_example_for_ray_runs(ray: dict[str, str]) -> None:
    page = (ROOT / "docs" / "enable.md").read_text()
    (code,) = re.findall(r"^```py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (output,) = re.findall(r"^```py\n.*?^```\n\s*^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    done = run(code, env=ray)
    assert (done.code, done.out) == (0, output), done.err


def test_a_wrong_name_in_the_environment_is_a_warning_that_names_it() -> None:
    done = run("import ndshare", env={**environment(), "NDSHARE_ENABLE": "jobib,joblib"})
    assert done.code == 0
    assert "RuntimeWarning: expected NDSHARE_ENABLE" in done.err
    assert "got 'jobib'" in done.err


def test_names_to_enable_are_texts() -> None:
    with pytest.raises(TypeError, match=r"got \['joblib'\]"):
        nds.enable(["joblib"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
