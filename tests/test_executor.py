"""The process pool is concurrent.futures' own in every respect but one: arrays are not copied on their way."""

from __future__ import annotations

import concurrent.futures
import inspect
import multiprocessing as mp
import os
import pickle
import signal
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import ndshare as nds
from helpers import MIB, held, pattern, run, settle, wait_until

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
            assert got.dtype.metadata == expected.dtype.metadata
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
    from helpers import environment

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
    with pool_of(workers=1) as pool:
        future = pool.submit(forget, np.ones(MIB))
        assert future.result() == MIB
        assert settle(0) == 0 or held() < MIB  # the future is still there, and keeps nothing


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
