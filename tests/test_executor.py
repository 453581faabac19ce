"""The process pool is concurrent.futures' own in every respect but one: arrays are not copied on their way."""

from __future__ import annotations

import concurrent.futures
import contextlib
import gc
import inspect
import multiprocessing as mp
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import ndshare as nds
from helpers import (
    HANG,
    MIB,
    alive,
    environment,
    held,
    note_pause,
    pattern,
    run,
    script,
    settle,
    threads,
    threads_of_a_fork,
    wait_until,
)

Array = np.ndarray[Any, Any]


# ---- what workers do ------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    a: Array
    b: Array


@dataclass
class Holder:
    array: Array
    more: list[Array]


def double(x: Array) -> Array:
    return np.concatenate([x, x])


def describe(*things: Any) -> list[tuple[str, bool, bool]]:
    return [(type(x).__name__, nds.is_shared(x), bool(x.flags.writeable)) for x in things]


def is_shared_inside(thing: Any) -> list[bool]:
    """Say of every array in nested containers whether it is shared."""
    if isinstance(thing, np.ndarray):
        return [nds.is_shared(thing)]
    if isinstance(thing, Holder):
        thing = [thing.array, thing.more]
    parts = thing.values() if isinstance(thing, dict) else thing
    return [found for part in parts for found in is_shared_inside(part)]


def clear(x: Array) -> int:
    x[:] = 0
    return os.getpid()


def totals(x: Array, *, scale: float = 1) -> dict[str, Any]:
    return {"sum": float(x.sum()) * scale, "parts": (x + 1, [x * 2.0]), "small": np.arange(3)}


def same_twice(pair: tuple[Array, Array], again: Array) -> bool:
    return pair[0] is pair[1] is again


def by_hand(n: int) -> tuple[Array, Array]:
    return np.frombuffer(bytes(n), np.uint8), np.ones(n, np.uint8)


def fail(x: Array) -> None:
    raise KeyError(x.size)


def die(x: Array) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def forget(x: Array) -> int:
    return x.size


def pid(_: Any = None) -> int:
    return os.getpid()


_ready = ""


def get_ready(word: str, x: Array) -> None:
    global _ready  # noqa: PLW0603
    _ready = f"{word} {x.sum()}"


def ready() -> str:
    return _ready


class Unreadable:
    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise ValueError("not today")


@contextmanager
def pool_of(method: str = "fork", workers: int = 2, **options: Any) -> Iterator[nds.ProcessPoolExecutor]:
    """Make a pool; nothing of it is left afterwards."""
    before = held()
    with nds.ProcessPoolExecutor(workers, mp.get_context(method), **options) as pool:
        yield pool
    assert nds.stats()["tickets"] == []
    assert settle(before) <= before


# ---- in and out -----------------------------------------------------------------------------------------------------


def test_arrays_go_in_and_out_by_reference(method: str) -> None:
    x = pattern((500, 100), 3)
    with pool_of(method) as pool:
        results = list(pool.map(double, [x, nds.array(x), x[::2], np.asfortranarray(x)]))
        assert all(map(nds.is_shared, results))
        assert {type(result) for result in results} == {np.ndarray}
        for result, expected in zip(results, [x, x, x[::2], x], strict=True):
            np.testing.assert_array_equal(result, double(expected))
        described = pool.submit(describe, x, nds.array(x), x[0, :10], np.ma.ones(10_000)).result()
        del results, result
    assert described == [
        ("ndarray", True, True),
        ("ndarray", True, True),
        ("ndarray", False, True),
        ("MaskedArray", False, True),
    ]


def test_arrays_are_found_wherever_they_are() -> None:
    x = pattern(10_000, 3)
    things = [[x], (x, {"k": x, "l": [(x,)]}), Pair(x, x), Holder(x, [x, x])]
    with pool_of() as pool:
        for thing in things:
            found = pool.submit(is_shared_inside, thing).result()
            assert found
            assert all(found)
        assert pool.submit(same_twice, (x, x), again=x).result()


def test_results_may_hold_arrays_anywhere() -> None:
    x = pattern(10_000, 5, np.float64)
    with pool_of() as pool:
        found = pool.submit(totals, x, scale=2).result()
        assert found["sum"] == 2 * x.sum()
        more, (double_,) = found["parts"]
        assert nds.is_shared(more)
        assert nds.is_shared(double_)
        assert not nds.is_shared(found["small"])
        np.testing.assert_array_equal(more, x + 1)
        np.testing.assert_array_equal(double_, x * 2)
        borrowed, made = pool.submit(by_hand, 10_000).result()
        assert not nds.is_shared(borrowed)
        assert nds.is_shared(made)
        del found, more, double_, borrowed, made


def test_ordinary_arguments_stay_the_callers_and_shared_ones_are_shared() -> None:
    x = np.ones(10_000)
    y = nds.ones(10_000)
    with pool_of() as pool:
        pool.submit(clear, x).result()
        pool.submit(clear, y).result()
        assert x.all()
        assert not y.any()
        del y


@pytest.mark.parametrize(
    "x",
    [
        np.array(["text"] * 5000, object),
        np.zeros(1000, [("a", "i4"), ("b", "f8", 3)]),
        np.zeros(1000, np.dtype("f8", metadata={"unit": "m"})),
        np.array(["x" * 30] * 1000, np.dtypes.StringDType()),
        np.ma.masked_array(np.arange(5000.0), np.arange(5000) % 2),
        np.zeros((0, 5000)),
        np.float64(1.5),
        np.broadcast_to(np.arange(3), (5000, 3)),
        np.arange(10_000)[::-2],
        np.zeros(5000, ">i4"),
        np.zeros(5000, "M8[s]"),
        np.array(5),
    ],
    ids=lambda x: f"{type(x).__name__}-{x.dtype}",
)
def test_every_array_arrives_as_it_does_by_concurrent_futures(x: Any) -> None:
    with pool_of(workers=1) as pool, concurrent.futures.ProcessPoolExecutor(1, mp.get_context("fork")) as stock:
        ours, theirs = (one.submit(list, [x, [x]]).result() for one in (pool, stock))
        for got, expected in ((ours[0], theirs[0]), (ours[1][0], theirs[1][0])):
            assert type(got) is type(expected)
            # NumPy's own pickles give up the byte order.
            assert got.dtype == expected.dtype or got.dtype == x.dtype == expected.dtype.newbyteorder()
            # NumPy 2.0 makes none of it an empty one, on the way by value.
            metadata = expected.dtype.metadata if np.lib.NumpyVersion(np.__version__) >= "2.1.0" else x.dtype.metadata
            assert got.dtype.metadata == metadata
            assert got.shape == expected.shape
            np.testing.assert_array_equal(got, expected)
        del ours, theirs, got, expected


def test_the_least_size_can_be_chosen() -> None:
    with pool_of(min_bytes=100_000) as pool:
        small, large = np.ones(1000), np.ones(20_000)
        assert [shared for _, shared, _ in pool.submit(describe, small, large).result()] == [False, True]
        results = list(pool.map(double, [small, large]))
        assert list(map(nds.is_shared, results)) == [False, True]
        del results
    with pytest.raises(ValueError, match="min_bytes"):
        nds.ProcessPoolExecutor(min_bytes=-1)
    with pytest.raises(TypeError, match="min_bytes"):
        nds.ProcessPoolExecutor(min_bytes="1 MiB")  # type: ignore[arg-type]


FULL = """
    import numpy as np
    import ndshare as nds

    def double(x):
        return np.concatenate([x, x])

    if __name__ == "__main__":
        x = np.arange(1 << 20)
        with nds.ProcessPoolExecutor(2) as pool:
            for y in pool.map(double, [x] * 4):
                assert (y[: x.size] == x).all() and not nds.is_shared(y)
        print("good")
"""


def test_without_room_arrays_go_by_value() -> None:
    assert run(FULL, env=environment(NDSHARE_BUDGET="4 MiB")).clean() == "good\n"


# ---- as concurrent.futures does it ----------------------------------------------------------------------------------


def test_the_signature_is_theirs_and_one_more() -> None:
    ours = inspect.signature(nds.ProcessPoolExecutor.__init__).parameters
    theirs = inspect.signature(concurrent.futures.ProcessPoolExecutor.__init__).parameters
    assert set(ours) == {*theirs, "min_bytes"}
    assert [(p.name, p.kind) for p in ours.values()][: len(theirs)] == [(p.name, p.kind) for p in theirs.values()]
    assert all(ours[name].default == theirs[name].default for name in theirs)
    assert issubclass(nds.ProcessPoolExecutor, concurrent.futures.ProcessPoolExecutor)
    assert nds.ProcessPoolExecutor.__module__ == "ndshare"


def test_an_exception_comes_back(method: str) -> None:
    with pool_of(method) as pool:
        future = pool.submit(fail, np.ones(5000))
        error = future.exception()
        assert isinstance(error, KeyError)
        assert error.args == (5000,)
        assert "fail" in str(error.__cause__)
        assert pool.submit(pid).result() != os.getpid()


def test_what_cannot_be_pickled_is_the_same_error() -> None:
    with pool_of() as pool, concurrent.futures.ProcessPoolExecutor(1, mp.get_context("fork")) as stock:
        errors = [one.submit(lambda x: x, np.ones(5000)).exception() for one in (pool, stock)]
        assert type(errors[0]) is type(errors[1])
        assert isinstance(errors[0], pickle.PicklingError | AttributeError)
        assert "lambda" in str(errors[0])
        assert pool.submit(forget, np.ones(5000)).result() == 5000


def test_what_cannot_be_unpickled_ends_one_call_and_not_the_pool() -> None:
    with pool_of() as pool:
        with pytest.raises(ValueError, match="not today"):
            pool.submit(forget, Unreadable()).result()
        assert pool.submit(forget, np.ones(5000)).result() == 5000


def test_keywords_and_initializers_work(method: str) -> None:
    x = np.ones(10_000)
    with pool_of(method, initializer=get_ready, initargs=("word", x)) as pool:
        assert pool.submit(ready).result() == "word 10000.0"
        assert pool.submit(totals, scale=3, x=x).result()["sum"] == 30_000


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_may_be_replaced(method: str) -> None:
    x = np.ones(10_000)
    with pool_of(method, workers=1, max_tasks_per_child=2) as pool:
        # One after another: with calls waiting, the executor of Python 3.11 may forget to replace a worker.
        results = [pool.submit(double, x).result() for _ in range(6)]
        assert all(nds.is_shared(result) and result.all() for result in results)
        assert len({pool.submit(pid).result() for _ in range(6)}) == 3
        del results


def test_map_with_chunks() -> None:
    x = nds.array(pattern((20, 2000), 4))
    with pool_of() as pool:
        results = list(pool.map(np.add, x, list(x), chunksize=7))
        assert all(map(nds.is_shared, results))
        np.testing.assert_array_equal(results, x + x)
        del results
    del x


# ---- deaths ---------------------------------------------------------------------------------------------------------


def test_a_killed_worker_breaks_the_pool_and_leaves_nothing(method: str) -> None:
    before = held()
    arrays = [np.full(MIB, i, np.uint8) for i in range(10)]
    with nds.ProcessPoolExecutor(2, mp.get_context(method)) as pool:
        assert len(list(pool.map(double, arrays[:2]))) == 2
        futures = [pool.submit(die if i == 3 else double, x) for i, x in enumerate(arrays)]
        assert isinstance(futures[3].exception(), BrokenProcessPool)
        concurrent.futures.wait(futures)
        with pytest.raises(BrokenProcessPool):
            pool.submit(pid).result()
    del futures, pool
    # A result that was on its way when the pool broke belongs to nobody: its sender is dead.
    wait_until(lambda: not any(ticket["sender_alive"] for ticket in nds.stats()["tickets"]))
    nds.reclaim()
    assert settle(before) <= before


def test_a_call_keeps_its_arrays_no_longer_than_it_lasts() -> None:
    before = held()
    with pool_of(workers=1) as pool:
        future = pool.submit(forget, np.ones(MIB))
        assert future.result() == MIB
        assert settle(before) <= before, "the future is still there, and keeps nothing"


def test_cancelled_calls_leave_nothing() -> None:
    before = held()
    pool = nds.ProcessPoolExecutor(1, mp.get_context("fork"))
    futures = [pool.submit(double, np.ones(100_000)) for _ in range(50)]
    pool.shutdown(wait=True, cancel_futures=True)
    assert sum(future.cancelled() for future in futures) > 0
    del futures, pool  # the executor itself keeps calls that were cancelled
    assert nds.stats()["tickets"] == []
    assert settle(before) <= before


def test_the_name_is_imported_late_and_found() -> None:
    source = """
        import sys
        import ndshare as nds
        assert "concurrent.futures.process" not in sys.modules
        from ndshare import ProcessPoolExecutor
        assert nds.ProcessPoolExecutor is ProcessPoolExecutor and "ProcessPoolExecutor" in dir(nds)
        try:
            nds.nothing
        except AttributeError as error:
            print(error)
    """
    assert run(source).clean() == "module 'ndshare' has no attribute 'nothing'\n"


def test_results_outlive_their_pool(tmp_path: Path) -> None:
    with nds.ProcessPoolExecutor(1) as pool:
        result = pool.submit(double, np.arange(10_000)).result()
    assert nds.is_shared(result)
    np.save(tmp_path / "x.npy", result)
    assert result[-1] == 9999


# ---- streams --------------------------------------------------------------------------------------------------------


def test_the_signature_of_map_is_that_of_python_3_14() -> None:
    parameters = inspect.signature(nds.ProcessPoolExecutor.map).parameters
    assert list(parameters) == ["self", "fn", "iterables", "timeout", "chunksize", "buffersize"]
    assert parameters["iterables"].kind is inspect.Parameter.VAR_POSITIONAL
    assert (parameters["timeout"].default, parameters["chunksize"].default) == (None, 1)


class Counted:
    """An iterator that counts what was taken of it."""

    def __init__(self, items: Any) -> None:
        self.items = iter(items)
        self.taken = 0

    def __iter__(self) -> Counted:
        return self

    def __next__(self) -> Any:
        item = next(self.items)
        self.taken += 1
        return item


def test_a_stream_is_worked_on_while_it_runs() -> None:
    """A camera's frames are mapped over. They come for ever, and results come while they do.

    The next frame is not sent before the result of an earlier one is there: this would hang if the stream were
    swallowed first.
    """
    results: Any = None
    sums: list[int] = []

    def camera() -> Iterator[Array]:
        number = 0
        while True:
            # All that two workers may have ahead, and then only as many as results were taken.
            assert number - len(sums) <= 4
            yield np.full(5000, number, np.int64)
            number += 1

    with pool_of(workers=2) as pool:
        results = pool.map(np.sum, camera())
        for result in results:
            sums.append(int(result))
            if len(sums) == 30:
                break
        results.close()
    assert sums == [5000 * n for n in range(30)]


def test_frames_of_a_ring_are_worked_on_and_given_back() -> None:
    ring = nds.Ring(1000, np.uint8, slots=4)
    frames = ring.reader()

    def fill() -> None:
        with ring:
            for number in range(40):
                ring.put(np.full(1000, number, np.uint8), timeout=60)

    with nds.ProcessPoolExecutor(1) as pool:
        pool.submit(pid).result()
        writer = threading.Thread(target=fill)
        writer.start()
        assert list(pool.map(int_sum, frames)) == [1000 * number for number in range(40)]
        writer.join()
    assert ring.stats()["written"] == 40
    frames.close()


def int_sum(x: Array) -> int:
    return int(x.sum())


@pytest.mark.parametrize("buffersize", [1, 2, 4, 8])
@pytest.mark.parametrize("chunksize", [1, 3])
def test_no_more_calls_are_ahead_than_the_buffer_holds(buffersize: int, chunksize: int) -> None:
    counted = Counted(range(50))
    with pool_of(workers=2) as pool:
        results = pool.map(abs, counted, chunksize=chunksize, buffersize=buffersize)
        assert counted.taken == buffersize * chunksize, "as Python 3.14 does, at once"
        for number, result in enumerate(results):
            assert result == number
            assert counted.taken <= number - number % chunksize + buffersize * chunksize


def test_what_the_iterables_are_decides_how_much_is_ahead() -> None:
    with pool_of(workers=2) as pool:
        for items in ([-1] * 20, (-1,) * 20, range(20), np.ones(20), {n: n for n in range(20)}):
            pool.map(abs, items)  # dropped at once, as concurrent.futures lets one do: all is done all the same
        counted = Counted(range(20))
        assert list(pool.map(max, [5] * 20, counted)) == [max(5, n) for n in range(20)]
        for buffersize, taken in (("auto", 4), (None, 20), (7, 7)):
            counted = Counted(range(20))
            results = pool.map(hold_still, counted, buffersize=buffersize)
            assert counted.taken <= taken
            if buffersize != "auto":
                assert counted.taken == taken
            results.close()


def hold_still(_: Any) -> None:
    return None


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (TypeError, {"buffersize": "many"}),
        (TypeError, {"buffersize": 2.0}),
        (ValueError, {"buffersize": 0}),
        (ValueError, {"buffersize": -1}),
        (ValueError, {"chunksize": 0}),
    ],
)
def test_wrong_sizes_are_refused_before_anything_is_taken(error: type[Exception], options: dict[str, Any]) -> None:
    counted = Counted(range(5))
    with pool_of(workers=1) as pool, pytest.raises(error, match=next(iter(options))):
        pool.map(abs, counted, **options)
    assert counted.taken == 0


def test_map_ends_with_the_shortest_and_with_nothing() -> None:
    with pool_of(workers=1) as pool:
        assert list(pool.map(max, Counted([1, 5, 3]), [4, 4])) == [4, 5]
        assert list(pool.map(abs, [])) == []
        assert list(pool.map(abs, iter(()))) == []
        assert list(pool.map(abs)) == []


def wait_for_word(conn: Any) -> str:
    return str(conn.recv())


def test_closing_a_map_cancels_what_has_not_begun() -> None:
    """No word is said before the close: on a busy machine a worker was through with one more call by then."""
    theirs, mine = mp.get_context("fork").Pipe()
    with pool_of(workers=1) as pool:
        counted = Counted([theirs] * 50)
        results = pool.map(wait_for_word, counted, buffersize=20)
        mine.send("first")
        assert next(results) == "first"
        futures = list(results._futures)  # type: ignore[attr-defined]
        results.close()
        begun = [future for future in futures if not future.cancelled()]
        for _ in begun:  # before anything that can fail: the pool waits for them at its end
            mine.send("go on")
        with pytest.raises(StopIteration):
            next(results)
        assert len(begun) <= len(futures) - 16, "a worker has one, and two are on their way"
        assert counted.taken == 20
        concurrent.futures.wait(futures)
    mine.close()
    theirs.close()


def test_a_map_that_is_dropped_after_a_result_cancels_and_says_nothing() -> None:
    with pool_of(workers=1) as pool, warnings.catch_warnings():
        warnings.simplefilter("error")
        # Of a pool that forks, as this one does, Python itself says that where threads of other tests still run.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        counted = Counted(range(1000))
        for result in pool.map(abs, counted):
            assert result == 0
            break
        assert counted.taken <= 4


def test_results_of_a_stream_that_nobody_takes_are_missed_aloud() -> None:
    """``pool.map(save, generator)`` and no more: concurrent.futures works on all of it, this on what was begun."""
    with pool_of(workers=1) as pool:
        with pytest.warns(RuntimeWarning, match="buffersize=None"):
            pool.map(abs, (n for n in range(1000)))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pool.map(abs, (n for n in range(1000)), buffersize=None)
            pool.map(abs, (n for n in range(1000)), buffersize=3)
            pool.map(abs, (n for n in range(0)))


def test_an_error_of_the_stream_comes_after_the_results_before_it() -> None:
    def camera() -> Iterator[int]:
        yield from range(3)
        raise nds.WriterDied("the camera is gone")

    with pool_of(workers=1) as pool:
        results = pool.map(abs, camera())
        assert [next(results), next(results), next(results)] == [0, 1, 2]
        with pytest.raises(nds.WriterDied, match="camera"):
            next(results)
        with pytest.raises(StopIteration):
            next(results)


def test_an_error_of_a_call_ends_the_map() -> None:
    with pool_of(workers=1) as pool:
        counted = Counted([1, 2, "three", *range(100)])
        results = pool.map(abs, counted)
        assert [next(results), next(results)] == [1, 2]
        with pytest.raises(TypeError):
            next(results)
        with pytest.raises(StopIteration):
            next(results)
        assert counted.taken < 10


def test_a_map_that_lasts_too_long() -> None:
    theirs, mine = mp.get_context("fork").Pipe()
    with pool_of(workers=1) as pool:
        results = pool.map(wait_for_word, iter([theirs] * 3), timeout=0.2)
        with pytest.raises(TimeoutError):
            next(results)
        mine.send("the one that was at hand")
        mine.send("and perhaps the one behind it")
    mine.close()
    theirs.close()


def test_a_map_goes_on_without_the_name_of_its_pool_and_not_after_its_end() -> None:
    results = nds.ProcessPoolExecutor(1, mp.get_context("fork")).map(abs, (n for n in range(20)))
    assert list(results) == list(range(20))
    del results
    gc.collect()
    with pool_of(workers=1) as pool:
        results = pool.map(abs, (n for n in range(20)), buffersize=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(RuntimeError, match="after shutdown"):
        next(results)


# ---- a pool's process is killed -------------------------------------------------------------------------------------

ORPHANS = """
    import multiprocessing as mp, os, re, signal, sys, time
    import numpy as np
    import ndshare as nds

    def tell(what):
        with open(os.environ["TELL"], "w") as fifo:
            fifo.write(f"{os.getpid()} {what}\\n")

    def idle(_):
        tell("idle")

    def sleeping(_):
        tell("sleeping")
        time.sleep(1000)

    def in_a_long_call(_):
        tell("in_a_long_call")
        re.match("(a|a)*c", "a" * 60)  # years, and no other thread of the interpreter runs

    def deaf(_):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tell("deaf")
        signal.pause()

    if __name__ == "__main__":
        pool = nds.ProcessPoolExecutor(2, mp.get_context(sys.argv[1]))
        # A sibling that lives on has copies of all that the parent had open.
        if not os.fork():
            os.setsid()
            signal.alarm(100)
            tell("sibling")
            signal.pause()
        futures = [pool.submit(globals()[sys.argv[2]], n) for n in range(2)]
        if sys.argv[2] == "idle":
            [future.result() for future in futures]
        sys.stdin.read()
"""


@pytest.mark.crash
@pytest.mark.parametrize("doing", ["idle", "sleeping", "in_a_long_call", "deaf"])
def test_workers_end_when_their_parent_was_killed(method: str, doing: str, tmp_path: Path) -> None:
    """Idle or busy, also inside a long call that holds the interpreter, and with a sibling that keeps pipes open."""
    fifo = tmp_path / "tell"
    os.mkfifo(fifo)
    told: dict[int, str] = {}
    with (
        open(os.open(fifo, os.O_RDWR)) as lines,
        subprocess.Popen(
            [sys.executable, str(script(ORPHANS)), method, doing],
            env=environment(TELL=str(fifo)),
            stdin=subprocess.PIPE,
        ) as process,
    ):
        try:
            # An idle worker may do both calls.
            while sorted(told.values()) not in (sorted([doing, doing, "sibling"]), ["idle", "sibling"]):
                number, what = lines.readline().split()
                told[int(number)] = what
            sibling = next(number for number, what in told.items() if what == "sibling")
            process.kill()
            process.wait()
            killed = time.monotonic()
            workers = [number for number in told if number != sibling]
            assert wait_until(lambda: not any(map(alive, workers)), HANG), f"{workers} live on"
            note_pause("workers of a killed pool end", time.monotonic() - killed)
            assert alive(sibling)
        finally:
            process.kill()
            for number in told:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)


def fork_and_look(_: Any = None) -> tuple[int, int]:
    """Fork, as a task may; return how many threads the child and then this process have."""
    return threads_of_a_fork(), threads()


def test_a_worker_that_forks_goes_on_watching() -> None:
    """The watching thread ends before a fork, or Python warns, and is there again after it."""
    alone = threads_of_a_fork()
    with pool_of(workers=1) as pool:
        for _ in range(3):
            assert pool.submit(fork_and_look).result() == (alone, alone + 1)


BROKEN_BEGINNING = """
    import multiprocessing as mp
    import os
    from concurrent.futures.process import BrokenProcessPool

    import ndshare as nds


    def begin():
        raise OSError("no camera")


    pool = nds.ProcessPoolExecutor(1, mp.get_context("fork"), begin)
    with pool:
        try: pool.submit(os.getpid).result()
        except BrokenProcessPool: print("broken")
"""


def test_an_initializer_that_fails_breaks_the_pool() -> None:
    """It runs in a program of its own: the standard library writes to the stderr that it found when it was imported."""
    done = run(BROKEN_BEGINNING)
    assert (done.code, done.out) == (0, "broken\n")
    assert "no camera" in done.err
    with pytest.raises(TypeError, match="initializer must be a callable"):
        nds.ProcessPoolExecutor(1, initializer=3)  # type: ignore[arg-type]


def never_end(_: Any = None) -> None:
    signal.pause()


@pytest.mark.crash
def test_every_call_of_a_broken_pool_says_so(method: str) -> None:
    """A worker dies at a call. What was at hand, on its way and submitted ends as broken; nothing hangs."""
    with nds.ProcessPoolExecutor(2, mp.get_context(method)) as pool:
        victim = pool.submit(pid).result()
        futures = [pool.submit(never_end) for _ in range(8)]
        results = pool.map(never_end, iter(range(8)))
        os.kill(victim, signal.SIGKILL)
        assert [type(future.exception(HANG)) for future in futures] == [BrokenProcessPool] * 8
        with pytest.raises(BrokenProcessPool):
            next(results)


@pytest.mark.crash
def test_calls_may_be_cancelled_while_their_pool_breaks(method: str) -> None:
    """A map that ends by a worker's death cancels its other calls, while the pool's thread still tells all of them.

    In Python 3.11 that thread ended at the first that was cancelled: the later ones hung, and workers lived on. Here
    calls are cancelled from inside of that thread, between one and the next.
    """
    with nds.ProcessPoolExecutor(2, mp.get_context(method)) as pool:
        victim = pool.submit(pid).result()
        futures = [pool.submit(never_end) for _ in range(30)]
        cancelled: list[concurrent.futures.Future[Any]] = []

        def cancel(_: Any) -> None:
            cancelled.extend(future for future in futures[1:-1:2] if future.cancel())

        futures[0].add_done_callback(cancel)
        os.kill(victim, signal.SIGKILL)
        assert isinstance(futures[-1].exception(HANG), BrokenProcessPool)
        assert len(cancelled) >= 10
        done, pending = concurrent.futures.wait(futures, HANG)
        assert not pending
        for future in done - set(cancelled):
            assert isinstance(future.exception(), BrokenProcessPool)
        processes = list(pool._processes.values())
    assert not any(process.is_alive() for process in processes)


# ---- without POSIX semaphores ---------------------------------------------------------------------------------------

NO_SEMAPHORES = """
    import multiprocessing as mp, os, signal, sys
    import numpy as np
    import ndshare as nds
    from concurrent.futures.process import BrokenProcessPool

    def double(x):
        return x + x

    def die(_):
        os.kill(os.getpid(), signal.SIGKILL)

    if __name__ == "__main__":
        try:
            mp.get_context("spawn").Lock()
        except OSError as error:
            print(type(error).__name__)
        for method in ("fork", "spawn", "forkserver"):
            context = mp.get_context(method)
            with nds.ProcessPoolExecutor(2, context) as pool:
                for n, y in enumerate(pool.map(double, (np.full(10_000, n) for n in range(40)))):
                    assert nds.is_shared(y) and (y == 2 * n).all()
                assert list(pool.map(abs, range(-300, 0), chunksize=7)) == list(range(300, 0, -1))
                try:
                    pool.submit(die, 0).result()
                except BrokenProcessPool:
                    print(method)
            if method == "spawn":
                with nds.ProcessPoolExecutor(1, context, max_tasks_per_child=2) as pool:
                    assert len({pool.submit(os.getpid).result() for _ in range(4)}) == 2
"""


@pytest.mark.parametrize("what", ["read-only", "missing"])
def test_a_pool_works_without_posix_semaphores(what: str) -> None:
    """They are files in /dev/shm, which a container may have read-only, or not at all."""
    done = run(NO_SEMAPHORES, prefix=without_shm(what))
    assert done.clean().split() == [without_shm_error(what), "fork", "spawn", "forkserver"]


def without_shm_error(what: str) -> str:
    return {"read-only": "OSError", "missing": "FileNotFoundError"}[what]


def without_shm(what: str) -> list[str]:
    """Return the command prefix of a program that cannot make files in /dev/shm; skip where that can't be had."""
    mount = {
        "read-only": "mount -t tmpfs -o ro tmpfs /dev/shm",
        "missing": (
            "mount -t tmpfs tmpfs /mnt && for n in null zero urandom random; do touch /mnt/$n && "
            "mount --bind /dev/$n /mnt/$n; done && mount --move /mnt /dev"
        ),
    }[what]
    for namespace in (["unshare", "-m"], ["unshare", "-r", "-m"]):
        prefix = [*namespace, "sh", "-c", f'{mount} && exec "$@"', "sh"]
        with contextlib.suppress(OSError):
            if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0:
                return prefix
    pytest.skip("this machine permits no mount namespace, so /dev/shm stays as it is")
