"""Locks exclude, outlive their holders, and otherwise behave as `threading.Lock` does.

How long things take is printed (`pytest -rP` shows it), and not asserted: a loaded machine would fail the test. What
hangs is caught by limits of many seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import importlib.util
import multiprocessing as mp
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pytest

import lock_workers
import ndshare as nds
from helpers import HANG, ROUNDS, Child, wait_for_sleeper, when_asleep
from lock_workers import guarded
from ndshare import _native

POINTS: tuple[str, ...] = tuple(_native.KILL_POINTS)
KILLS = 150 if ROUNDS == 1 else 10_000
KINDS = ("Lock", "locked")


def make(kind: str) -> Any:
    """Return something to guard with: a Lock, or an array."""
    return nds.Lock() if kind == "Lock" else nds.zeros(8)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of lock in turn."""
    return str(request.param)


def is_free(guard: Any) -> bool:
    with contextlib.suppress(nds.Timeout), guarded(guard, timeout=0):
        return True
    return False


def report(what: str, seconds: float) -> None:
    print(f"{what}: {1000 * seconds:.2f} ms")


# Exclusion


@pytest.mark.parametrize(("kind", "times"), [("Lock", 100_000), ("locked", 25_000)])
def test_four_processes_of_two_threads_exclude_each_other(kind: str, times: int) -> None:
    """10^6 acquisitions in all: 8 times 100,000 of a Lock and 8 times 25,000 of an array."""
    lock, x = make(kind), nds.zeros(1, np.int64)
    children = [Child(lock_workers.count, lock, x, times, 2) for _ in range(4)]
    start = time.perf_counter()
    for one in children:
        one.tell("go")
    longest = [one.hear(2 * HANG) for one in children]
    took = time.perf_counter() - start
    for one in children:
        one.end()
    assert x[0] == 8 * times
    assert is_free(lock)
    report(f"{kind}: longest of {8 * times} waits", max(longest))
    report(f"{kind}: a thousand acquisitions", took / (8 * times) * 1000)


def test_who_waits_gets_its_turn(kind: str) -> None:
    """Two processes are inside nearly all the time; a third still gets in."""
    guard = make(kind)
    longest = 0.0
    with Child(lock_workers.hog, guard) as one, Child(lock_workers.hog, guard) as two:
        assert one.hear() == two.hear() == "started"
        for _ in range(30):
            start = time.perf_counter()
            with guarded(guard, timeout=HANG):
                longest = max(longest, time.perf_counter() - start)
        one.tell()
        two.tell()
        one.end()
        two.end()
    report("longest wait beside two hogs", longest)


def test_threads_of_one_process_exclude_each_other(kind: str) -> None:
    guard = make(kind)
    entered = threading.Event()
    times: list[float] = []

    def wait() -> None:
        entered.set()
        with guarded(guard):
            times.append(time.monotonic())

    with guarded(guard):
        thread = threading.Thread(target=wait)
        thread.start()
        assert entered.wait(HANG)
        wait_for_sleeper(None, thread.native_id)
        assert not times
        left = time.monotonic()
    thread.join(HANG)
    assert times[0] >= left


def test_another_process_waits(kind: str, method: str) -> None:
    guard = make(kind)
    with Child(lock_workers.hold, guard, method=method) as one:
        assert one.hear() == "inside"
        assert not is_free(guard)
        one.tell()
        assert one.hear() == "outside"
        assert is_free(guard)


# Locks of arrays


def test_who_waits_for_an_array_learns_who_has_it() -> None:
    """Also after a short wait; it was told after a second only."""
    array = nds.zeros(4)
    with Child(lock_workers.hold, array) as one:
        assert one.hear() == "inside"
        told = rf"the lock was not free before the timeout.* is still held by pid {one.pid} \("
        with pytest.raises(nds.Timeout, match=told), nds.locked(array, timeout=0.02):
            pass
        one.tell()
        assert one.hear() == "outside"


def test_views_share_the_lock_of_their_block() -> None:
    a, b = nds.zeros((10, 10)), nds.zeros(10)
    for view in (a, a[3:], a.T, a[::-1, ::2], a.view(np.uint8), a[2:2]):
        with nds.locked(view):
            assert not is_free_elsewhere(a)
            assert is_free_elsewhere(b)
    assert is_free_elsewhere(a)


def is_free_elsewhere(array: np.ndarray[Any, Any]) -> bool:
    """Return whether another thread could lock it now."""
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(is_free(array)))
    thread.start()
    thread.join(HANG)
    return found[0]


def test_the_same_block_named_twice_is_locked_once() -> None:
    a = nds.zeros(10)
    with nds.locked(a, a, a[5:], timeout=0):
        assert not is_free_elsewhere(a)
    assert is_free_elsewhere(a)


def test_two_orders_do_not_wait_for_each_other() -> None:
    a, b = nds.zeros(1), nds.zeros(1)
    with Child(lock_workers.two_orders, a, b, 5000) as one, Child(lock_workers.two_orders, b, a, 5000) as two:
        assert one.hear() == two.hear() == "done"
    assert a[0] == b[0] == 10_000


def test_all_or_none() -> None:
    arrays = [nds.zeros(4) for _ in range(5)]
    with Child(lock_workers.hold, arrays[3]) as one:
        assert one.hear() == "inside"
        with pytest.raises(nds.Timeout), nds.locked(*arrays, timeout=0.01):
            pass
        assert [is_free(array) for array in arrays] == [True, True, True, False, True]


def test_arrays_of_several_arenas() -> None:
    with nds.Arena("64 MiB") as arena:
        a, b = nds.zeros(4), nds.zeros(4, arena=arena)
        with nds.locked(b, a):
            assert not is_free_elsewhere(a)
            assert not is_free_elsewhere(b)
        del b


def test_entering_twice_in_one_thread_is_refused() -> None:
    a, b = nds.zeros(4), nds.zeros(4)
    with nds.locked(a):
        for again in (nds.locked(a), nds.locked(b, a[1:]), nds.locked(a, timeout=0)):
            with pytest.raises(RuntimeError, match="already"), again:
                pass
        assert is_free_elsewhere(b)
        with nds.locked(b):
            assert not is_free_elsewhere(b)
        assert not is_free_elsewhere(a)
    assert is_free_elsewhere(a)


def test_it_may_be_used_again_and_from_threads() -> None:
    a = nds.zeros(1)
    lock = nds.locked(a)

    def work() -> None:
        for _ in range(1000):
            with lock:
                a[0] = a[0] + 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert a[0] == 4000
    assert "unlocked" in repr(lock)
    with lock:
        assert "<locked" in repr(lock)


@pytest.mark.parametrize("wrong", [3, "text", b"bytes", None, [1.0], memoryview(b"abc")])
def test_only_arrays_can_be_locked(wrong: Any) -> None:
    with pytest.raises(TypeError, match="shared arrays"):
        nds.locked(nds.zeros(1), wrong)


def test_only_shared_arrays_can_be_locked() -> None:
    with pytest.raises(ValueError, match=r"shape \[3\]"):
        nds.locked(np.zeros(3))
    with pytest.raises(ValueError, match="at least one"):
        nds.locked()


@pytest.mark.parametrize("wrong", [-1, -0.001, float("nan"), float("-inf")])
def test_wrong_timeouts_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        nds.locked(nds.zeros(1), timeout=wrong)
    with pytest.raises(TypeError):
        nds.locked(nds.zeros(1), timeout="1")  # type: ignore[arg-type]


def test_leaving_what_was_not_entered_is_refused() -> None:
    lock = nds.locked(nds.zeros(1))
    with pytest.raises(RuntimeError, match="entered"):
        lock.__exit__(None, None, None)


def test_a_forgotten_lock_is_freed() -> None:
    a = nds.zeros(1)
    lock = nds.locked(a)
    lock.__enter__()
    assert not is_free_elsewhere(a)
    del lock
    assert is_free_elsewhere(a)


# Exceptions, signals, clocks


class OwnError(Exception):
    """A user's own exception."""


@pytest.mark.parametrize("error_type", [OwnError, KeyboardInterrupt, SystemExit, GeneratorExit, nds.Timeout])
def test_the_users_exception_arrives_unchanged(kind: str, error_type: type[BaseException]) -> None:
    guard, error = make(kind), error_type("x")
    manager = guard if isinstance(guard, nds.Lock) else nds.locked(guard)
    with pytest.raises(error_type) as caught, manager:
        raise error
    assert caught.value is error
    assert error.__context__ is None
    assert is_free(guard)


@pytest.mark.parametrize("timeout", [None, 30.0])
def test_an_interrupt_ends_a_wait(kind: str, timeout: float | None) -> None:
    guard = make(kind)
    with Child(lock_workers.hold, guard) as one:
        assert one.hear() == "inside"
        sent: list[float] = []

        def interrupt() -> None:
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        timer = when_asleep(interrupt)
        how = {} if timeout is None else {"timeout": timeout}
        with pytest.raises(KeyboardInterrupt), guarded(guard, **how):
            pass
        report("from Ctrl-C to KeyboardInterrupt", time.monotonic() - sent[0])
        timer.join()
        one.tell()
        assert one.hear() == "outside"
    assert is_free(guard)


@pytest.mark.parametrize("timeout", [0.0, 0.001, 0.015, 0.1, 0.5])
def test_timeouts_last_as_long_as_they_say(kind: str, timeout: float) -> None:
    guard = make(kind)
    with Child(lock_workers.hold, guard) as one:
        assert one.hear() == "inside"
        start = time.monotonic()
        with pytest.raises(nds.Timeout) as caught, guarded(guard, timeout=timeout):
            pass
        took = time.monotonic() - start
        assert took >= timeout
        report(f"beyond a timeout of {timeout} s", took - timeout)
    assert isinstance(caught.value, TimeoutError)


def test_a_taker_that_gave_up_leaves_no_trace(kind: str) -> None:
    """After a long wait that ended in a timeout, the lock is as it was."""
    guard = make(kind)
    with Child(lock_workers.hold, guard) as one:
        assert one.hear() == "inside"
        with pytest.raises(nds.Timeout), guarded(guard, timeout=0.1):
            pass
        one.tell()
        assert one.hear() == "outside"
        assert is_free(guard)
        assert is_free_elsewhere(guard)


def test_a_killed_waiter_leaves_no_trace(kind: str) -> None:
    guard = make(kind)
    with Child(lock_workers.hold, guard) as one:
        assert one.hear() == "inside"
        with Child(lock_workers.wait, guard) as two:
            assert two.hear() == "waiting"
            wait_for_sleeper(two.pid)
            two.kill()
        one.tell()
        assert one.hear() == "outside"
        assert is_free(guard)
        with guarded(guard, timeout=HANG):
            pass
        assert is_free(guard)


# Deaths


def test_a_killed_holder_is_reported_until_somebody_recovers(kind: str) -> None:
    guard = make(kind)
    with Child(lock_workers.hold, guard) as victim:
        assert victim.hear() == "inside"
        waiters = [Child(lock_workers.wait, guard) for _ in range(3)]
        assert [one.hear() for one in waiters] == ["waiting"] * 3
        for one in waiters:
            wait_for_sleeper(one.pid)
        killed = victim.kill()
    ends = [one.hear() for one in waiters]
    assert {how for how, _ in ends} == {"OwnerDied"}
    report("from kill to OwnerDied", max(when for _, when in ends) - killed)
    for one in waiters:
        one.end()
    for _ in range(2):
        with pytest.raises(nds.OwnerDied), guarded(guard):
            pass
        with pytest.raises(nds.OwnerDied), guarded(guard, timeout=0):
            pass
    with guarded(guard, recover=True):
        assert not is_free_elsewhere(guard)
    with guarded(guard):
        pass


def test_owner_died_is_an_error_with_advice() -> None:
    guard = nds.zeros(1)
    with Child(lock_workers.hold, guard) as victim:
        assert victim.hear() == "inside"
        victim.kill()
    with pytest.raises(nds.OwnerDied, match="recover=True") as caught, nds.locked(guard):
        pass
    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value, nds.Error)
    with contextlib.suppress(OwnError), nds.locked(guard, recover=True):
        raise OwnError
    with pytest.raises(nds.OwnerDied), nds.locked(guard):
        pass
    with nds.locked(guard, recover=True):
        pass
    with nds.locked(guard):
        pass


def test_owner_died_names_the_process_until_somebody_recovers(kind: str) -> None:
    guard, pids = make(kind), list[int]()
    for _ in range(2):
        with Child(lock_workers.hold, guard) as victim:
            assert victim.hear() == "inside"
            victim.kill()
            pids.append(victim.pid)
        for _ in range(2):
            said = f"process {pids[-1]}, .*pass recover=True"
            with pytest.raises(nds.OwnerDied, match=said) as caught, guarded(guard):
                pass
            assert caught.value.pid == pids[-1]
            assert pickle.loads(pickle.dumps(caught.value)).pid == pids[-1]
        with guarded(guard, recover=True):
            pass
    assert pids[0] != pids[1]


def test_what_is_no_lock_is_not_opened_as_one() -> None:
    token = _native.ticket(nds.zeros(3))
    with pytest.raises(ValueError, match="expected a lock of version 1, got a block that begins with 0x0"):
        _native.open_lock(token)
    token = _native.lock_token(nds.Lock())
    with pytest.raises(ValueError, match="expected a ring of version 5, got a lock of version 1: open it as a lock"):
        _native.open_ring(token, None, None)
    with pytest.raises(ValueError, match="expected an overlay of version 1, got a lock"):
        _native.open_overlay(_native.lock_token(nds.Lock()))
    assert isinstance(_native.open_reference(_native.lock_token(nds.Lock())), nds.Lock)


def test_a_dead_owners_lock_is_not_locked() -> None:
    lock = nds.Lock()
    with Child(lock_workers.hold, lock) as victim:
        assert victim.hear() == "inside"
        assert lock.locked()
        victim.kill()
    assert not lock.locked()
    with pytest.raises(nds.OwnerDied):
        lock.acquire(blocking=False)
    assert not lock.locked()
    assert lock.acquire(blocking=False, recover=True)
    lock.release()
    assert lock.acquire()
    lock.release()


def test_a_death_among_several_locks_holds_none() -> None:
    arrays = [nds.zeros(4) for _ in range(3)]
    with Child(lock_workers.hold, arrays[1]) as victim:
        assert victim.hear() == "inside"
        victim.kill()
    with pytest.raises(nds.OwnerDied), nds.locked(*arrays):
        pass
    assert is_free_elsewhere(arrays[0])
    assert is_free_elsewhere(arrays[2])
    with nds.locked(*arrays, recover=True):
        pass
    with nds.locked(*arrays):
        pass


def test_a_stopped_holder_is_not_robbed(kind: str) -> None:
    guard = make(kind)
    with Child(lock_workers.hold, guard) as one:
        assert one.hear() == "inside"
        os.kill(one.pid, signal.SIGSTOP)
        with pytest.raises(nds.Timeout), guarded(guard, timeout=0.3):
            pass
        os.kill(one.pid, signal.SIGCONT)
        one.tell()
        assert one.hear() == "outside"
        with guarded(guard):
            pass


def test_a_holder_that_forks_keeps_its_lock(kind: str) -> None:
    guard = make(kind)
    with Child(lock_workers.fork_inside, guard) as one:
        offspring = dict([one.hear(), one.hear()])["child"]
        assert not is_free(guard)
        os.kill(offspring, signal.SIGKILL)
        with pytest.raises(nds.Timeout), guarded(guard, timeout=0.1):
            pass
        one.tell()
        assert one.hear() == "outside"
        with guarded(guard):
            pass


def test_a_holder_dies_although_its_child_lives(kind: str) -> None:
    guard = make(kind)
    with Child(lock_workers.fork_inside, guard) as one:
        offspring = dict([one.hear(), one.hear()])["child"]
        try:
            os.kill(one.pid, signal.SIGKILL)
            with pytest.raises(nds.OwnerDied), guarded(guard, timeout=HANG):
                pass
        finally:
            os.kill(offspring, signal.SIGKILL)


def test_ten_thousand_locks_of_one_dead_process() -> None:
    locks, arrays = [nds.Lock() for _ in range(9000)], [nds.zeros(1) for _ in range(1000)]
    with Child(lock_workers.hold_many, locks, arrays) as victim:
        assert victim.hear() == "inside"
        killed = victim.kill()
    with pytest.raises(nds.OwnerDied):
        locks[0].acquire()
    report("from kill to the first of 10,000", time.monotonic() - killed)
    assert not any(lock.locked() for lock in locks)
    for lock in locks:
        with pytest.raises(nds.OwnerDied):
            lock.acquire()
        assert lock.acquire(recover=True)
        lock.release()
        assert lock.acquire(blocking=False)
    report("until all are recovered", time.monotonic() - killed)
    with pytest.raises(nds.OwnerDied), nds.locked(*arrays):
        pass
    with nds.locked(*arrays, recover=True):
        pass
    with nds.locked(*arrays):
        pass


@pytest.mark.crash
@pytest.mark.timeout(300)
def test_a_victim_with_many_small_pages() -> None:
    """Only the end of the address space counts, and the kernel takes its time for that."""
    guard = nds.zeros(1)
    with Child(lock_workers.hold_with_memory, guard, (64 << 20) if ROUNDS == 1 else (1 << 30)) as victim:
        assert victim.hear() == "inside"
        start = time.monotonic()
        os.kill(victim.pid, signal.SIGKILL)
        with pytest.raises(nds.OwnerDied), nds.locked(guard, timeout=HANG):
            pass
        report("from kill to OwnerDied", time.monotonic() - start)
        with nds.locked(guard, recover=True):
            pass


# Deaths at every step

STEPS = tuple(point for point in POINTS if point.startswith("block-lock:") or point == "lock:marked")
SWEEPS = tuple(point for point in POINTS if point.startswith("sweep:"))
needs_points = pytest.mark.skipif(not POINTS, reason="this build has no kill points; build with --features killpoints")


@pytest.fixture(scope="module")
def survivor_waits() -> Iterator[dict[str, float]]:
    """Collect how long survivors waited after a death at each kill point, and print the longest."""
    waits: dict[str, float] = {}
    yield waits
    if waits:
        worst = max(waits, key=lambda name: waits[name])
        sys.__stderr__.write(f"\nafter a death at a kill point survivors waited {waits[worst]:.1f} ms ({worst})\n")


@pytest.mark.crash
@needs_points
@pytest.mark.parametrize("label", STEPS)
def test_killed_at_every_step(label: str, kind: str, survivor_waits: dict[str, float]) -> None:
    """A process dies while it takes a lock or frees it, and another one takes the same lock all the time."""
    guard, x = make(kind), nds.zeros(3, np.int64)
    with Child(slow_pairs, guard, x) as other:
        for nth in (1, 2, 7) if ROUNDS == 1 else range(1, 40):
            with Child(lock_workers.strike, label, nth, guard, x) as victim:
                assert victim.hear() == "started"
                with pytest.raises((EOFError, ConnectionResetError)):
                    victim.hear()
                start = time.monotonic()
                lock_workers.pairs(guard, x, 20)
                survivor_waits[label] = max(survivor_waits.get(label, 0.0), 1000 * (time.monotonic() - start))
            assert other.process.is_alive()
    assert x[2] == 0, "two words that change together were seen apart without OwnerDied"


@pytest.mark.crash
@needs_points
@pytest.mark.parametrize("label", SWEEPS)
def test_killed_while_sweeping_a_dead_holder(label: str, kind: str, survivor_waits: dict[str, float]) -> None:
    """A waiter notices that the holder is dead, and dies while it clears up."""
    guard = make(kind)
    for nth in (1, 2) if ROUNDS == 1 else range(1, 10):
        with Child(lock_workers.hold, guard) as holder:
            assert holder.hear() == "inside"
            with Child(lock_workers.wait_and_die, label, nth, guard) as victim:
                assert victim.hear() == "waiting"
                holder.kill()
                with contextlib.suppress(EOFError, ConnectionResetError):
                    assert victim.hear() == "OwnerDied"
                start = time.monotonic()
                with pytest.raises(nds.OwnerDied), guarded(guard, timeout=HANG):
                    pass
                survivor_waits[label] = max(survivor_waits.get(label, 0.0), 1000 * (time.monotonic() - start))
        with guarded(guard, recover=True):
            pass
        assert is_free(guard)


def slow_pairs(conn: Any, guard: Any, x: Any) -> None:
    """Be inside so long that others have to sleep."""
    while True:
        lock_workers.pairs(guard, x, 1, inside=0.0005)


@pytest.mark.crash
@pytest.mark.timeout(900)
def test_a_storm_of_kills(kind: str) -> None:
    """Takers are killed at random instants; nobody sees half-done work without being told."""
    guard, x = make(kind), nds.zeros(3, np.int64)
    rng = random.Random(7)
    crew = [fork_taker(guard, x, seed) for seed in range(3)]
    longest = 0.0
    for kill in range(KILLS // 2):
        time.sleep(rng.random() * 0.003)  # no condition: whatever it does by then is what it is killed at
        victim = rng.randrange(len(crew))
        os.kill(crew[victim], signal.SIGKILL)
        start = time.monotonic()
        lock_workers.pairs(guard, x, 1)
        longest = max(longest, time.monotonic() - start)
        os.waitpid(crew[victim], 0)
        crew[victim] = fork_taker(guard, x, kill + 100)
    for pid in crew:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    lock_workers.pairs(guard, x, 2)
    assert x[2] == 0
    report(f"{kind}: longest wait of a survivor in {KILLS // 2} kills", longest)
    print(f"{int(x[0])} changes")


def fork_taker(guard: Any, x: Any, seed: int) -> int:
    """Fork a process that takes the lock until it is killed."""
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            lock_workers.pairs_for_ever(guard, x, seed)
        os._exit(1)
    return pid


# Lock, as threading has it

CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((True,), {}),
    ((1,), {}),
    ((False,), {}),
    ((0,), {}),
    ((True, 1), {}),
    ((True, -1), {}),
    ((False, -1), {}),
    ((False, 1), {}),
    ((False, 0), {}),
    ((True, -2), {}),
    ((True, -0.5), {}),
    ((), {"timeout": 1e100}),
    ((), {"timeout": threading.TIMEOUT_MAX + 1}),
    ((), {"timeout": threading.TIMEOUT_MAX}),
    ((), {"timeout": float("nan")}),
    ((), {"timeout": float("inf")}),
    ((), {"timeout": None}),
    ((), {"timeout": "1"}),
    ((), {"blocking": False, "timeout": 2}),
    ((1, 2, 3), {}),
    ((), {"wrong": 1}),
]


@pytest.mark.parametrize(("args", "kwargs"), CALLS)
def test_arguments_are_those_of_threading(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    def call(lock: Any) -> Any:
        try:
            return lock.acquire(*args, **kwargs)
        except Exception as error:
            return next(one for one in (OverflowError, ValueError, TypeError) if isinstance(error, one))

    assert call(nds.Lock()) == call(threading.Lock())


def test_blocking_is_read_by_its_truth() -> None:
    lock = nds.Lock()
    assert lock.acquire("x")
    assert not lock.acquire(None)
    assert not lock.acquire([])


def test_a_lock_has_everything_that_threadings_has() -> None:
    wanted = {name for name in dir(threading.Lock()) if not name.startswith("__") and not name.endswith("_lock")}
    assert wanted <= set(dir(nds.Lock()))


def test_a_lock_does_what_threadings_does() -> None:
    lock = nds.Lock()
    assert not lock.locked()
    assert lock.acquire()
    assert lock.locked()
    assert not lock.acquire(False)
    assert not lock.acquire(timeout=0.01)
    lock.release()
    with pytest.raises(RuntimeError):
        lock.release()
    with lock as entered:
        assert entered is True
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join(HANG)
    assert not lock.locked()
    with pytest.raises(TypeError):
        nds.Lock(1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        type("Sub", (nds.Lock,), {})


def test_a_repr_is_one_line() -> None:
    lock = nds.Lock()
    assert repr(lock) == f"<unlocked ndshare.Lock object at {id(lock):#x}>"
    with lock:
        assert repr(lock) == f"<locked ndshare.Lock object at {id(lock):#x}>"


def test_weak_references_to_a_lock() -> None:
    lock = nds.Lock()
    reference = weakref.ref(lock)
    assert reference() is lock
    del lock
    assert reference() is None


def test_a_condition_over_a_lock() -> None:
    condition = threading.Condition(nds.Lock())  # type: ignore[arg-type]
    ready: list[int] = []

    def produce() -> None:
        with condition:
            ready.append(1)
            condition.notify()

    with condition:
        thread = threading.Thread(target=produce)
        thread.start()
        assert condition.wait_for(lambda: ready, timeout=HANG)
    thread.join(HANG)


def test_asyncio_through_an_executor() -> None:
    lock, x = nds.Lock(), [0]

    async def work() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(20):
            assert await loop.run_in_executor(None, lock.acquire)
            value = x[0]
            await asyncio.sleep(0)
            x[0] = value + 1
            lock.release()

    async def main() -> None:
        await asyncio.gather(*[work() for _ in range(5)])

    asyncio.run(main())
    assert x[0] == 100


def test_a_lock_in_an_arena_of_its_own() -> None:
    with nds.Arena("64 MiB") as arena:
        lock = nds.Lock(arena=arena)
        assert nds.stats(arena)["blocks"] == 1
        with lock:
            pass
        del lock
        assert nds.stats(arena)["blocks"] == 0


def test_releasing_what_another_process_holds_is_refused(method: str) -> None:
    lock = nds.Lock()
    with lock, Child(lock_workers.release_it, lock, method=method) as one:
        assert "another process" in one.hear()
    assert not lock.locked()


def test_a_forked_child_leaves_nothing_of_its_parent(kind: str) -> None:
    guard = make(kind)
    manager = guard if kind == "Lock" else nds.locked(guard)
    codes: list[int] = []
    with manager:
        for fails in (False, True):
            pid = os.fork()
            if not pid:
                os._exit(leave_in_child(manager, fails))
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            assert not is_free_elsewhere(guard)
    assert codes == [1, 2], "RuntimeError without an exception, and the exception itself with one"
    assert is_free(guard)


def test_what_a_forked_child_inherits_frees_nothing_of_its_own() -> None:
    """The child's copy of an entered lock is dropped while the child is inside by itself."""
    a = nds.zeros(1)
    manager = nds.locked(a)
    manager.__enter__()
    with Child(enter_and_drop, manager, a) as one:
        assert one.hear() == "waiting"
        manager.__exit__(None, None, None)
        assert one.hear() == "inside"
        assert not is_free(a)
        one.tell()
        one.end()
    assert is_free(a)


def enter_and_drop(conn: Any, manager: nds.locked, a: Any) -> None:
    conn.send("waiting")
    # Entering again drops what the parent had entered.
    with manager:
        conn.send("inside")
        conn.recv()


def leave_in_child(manager: Any, fails: bool) -> int:
    error = (OwnError, OwnError(), None) if fails else (None, None, None)
    try:
        manager.__exit__(*error)
    except RuntimeError:
        return 1
    return 2 if fails else 0


def test_a_lock_travels_by_every_start_method(method: str) -> None:
    lock, x = nds.Lock(), nds.zeros(1)
    with lock, Child(lock_workers.use_it, lock, x, method=method) as one:
        wait_for_sleeper(one.pid)
        assert x[0] == 0
        lock.release()
        assert one.hear() is False
        assert lock.acquire()
    assert x[0] == 1


def test_a_lock_travels_through_queues_and_pools(method: str) -> None:
    context = mp.get_context(method)
    lock, x = nds.Lock(), nds.zeros(1)
    queue = context.SimpleQueue()
    queue.put(lock)
    again = queue.get()
    with lock:
        assert again.locked()
    queue.close()
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        list(pool.map(add_one, [(lock, x)] * 20))
    assert x[0] == 20


def add_one(task: tuple[nds.Lock, Any]) -> None:
    lock, x = task
    with lock:
        x[0] = x[0] + 1


@pytest.mark.parametrize("refuse", [pickle.dumps, copy.copy, copy.deepcopy])
def test_other_picklers_refuse_a_lock(refuse: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="multiprocessing"):
        refuse(nds.Lock())


def test_a_lock_that_nobody_held_is_stale() -> None:
    from multiprocessing.reduction import ForkingPickler

    data = bytes(ForkingPickler.dumps(nds.Lock()))
    assert not ForkingPickler.loads(data).locked()
    with pytest.raises(nds.Stale):
        ForkingPickler.loads(data)


CPYTHON = """
import unittest
from test import lock_tests
import ndshare as nds

class LockTests(lock_tests.LockTests):
    locktype = staticmethod(nds.Lock)

if __name__ == "__main__":
    unittest.main(verbosity=1)
"""


@pytest.mark.skipif(
    importlib.util.find_spec("test") is None or importlib.util.find_spec("test.lock_tests") is None,
    reason="this Python comes without its own tests",
)
def test_cpythons_own_tests_of_locks(tmp_path: Any) -> None:
    program = tmp_path / "own.py"
    program.write_text(CPYTHON)
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=2 * HANG, check=False)
    assert done.returncode == 0, done.stderr
    assert "OK" in done.stderr
