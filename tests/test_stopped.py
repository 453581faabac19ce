"""A process that is stopped is alive, and may stay so for hours: a debugger, a paused container, Ctrl-Z.

It can stand still anywhere, also where it has the arena's lock, which is meant to be held for less than a microsecond.
The others drop arrays and ask for reports all the same; what has to wait for it answers signals, keeps to its timeout,
and says for whom it waits. When the process goes on, all memory comes back.

The sharp tests stop a process at a labelled point, the blunt one at random instants.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from helpers import MIB, Puppet, child, children, held, wait_until
from ndshare import _native

POINTS: tuple[str, ...] = tuple(_native.KILL_POINTS)
# Points that are passed under the arena's lock.
UNDER_THE_LOCK = (
    "lock:taken",
    "list:",
    "split:",
    "warm:",
    "free:grown",
    "free:word",
    "free:merged",
    "free:counted",
    "issue:",
)
UNDER_THE_LOCK += ("remove:free", "remove:ext", "remove:counted", "grow:ready", "sweep:taken-over", "sweep:rebuil")
LOCKED = tuple(point for point in POINTS if point.startswith(UNDER_THE_LOCK))
# Points at which nothing is locked and something is half-way.
HALFWAY = ("join:done", "lock:freed", "free:punched", "take:bit", "quick:cleared", "drop:cleared", "fork:bits")
# Points of what has a lock of its own.
AMONG = tuple(point for point in POINTS if point.startswith(("block-lock:", "ring:", "cache:", "name:", "root:")))
AMONG += ("remove:children", "adopt:marked", "renew:bit", "renew:done")

needs_points = pytest.mark.skipif(not POINTS, reason="this build has no kill points; build with --features killpoints")


def is_stopped(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] in "Tt"


def stopped_among(pid: int) -> int | None:
    """Return the process that stands still: this one, or a child of it."""
    with contextlib.suppress(OSError):
        for one in (pid, *children(pid)):
            if is_stopped(one):
                return one
    return None


@contextmanager
def standing_still(puppet: Puppet, *call: Any) -> Iterator[int | None]:
    """Have a puppet do something that stops it, give its pid for a while, and have it go on and end well."""
    puppet.start(*call)
    assert wait_until(lambda: stopped_among(puppet.pid) is not None or puppet.conn.poll(), 60)
    pid = stopped_among(puppet.pid)
    try:
        yield pid
    finally:
        if pid:
            os.kill(pid, signal.SIGCONT)
    assert puppet.answer() == "survived"


@needs_points
@pytest.mark.parametrize("label", [*LOCKED, *HALFWAY])
def test_a_stopped_process_holds_up_no_drop_and_no_report(label: str) -> None:
    """Once a process that was stopped inside `reserve` froze its neighbour inside `del`, deaf to Ctrl-C."""
    with nds.Arena(64 * MIB) as arena, Puppet() as victim, Puppet() as other:
        kept = nds.full(1000, 5, arena=arena)
        gifts = [bytes(ForkingPickler.dumps(nds.zeros(50_000, arena=arena)))]
        other.do("hold_some", arena)
        base = held(arena)
        mine = [nds.ones(n, np.uint8, arena=arena) for n in (2 * MIB, 100_000, 100)]
        with standing_still(victim, "stand_still", label, arena, gifts) as pid:
            assert pid, f"the tour does not pass {label}"
            mine.clear()
            assert other.do("drop_some") == "dropped"
            look = nds.stats(arena)["lock"]
            if label in LOCKED:
                assert look is not None
                assert (look["pid"], look["stopped"]) == (pid, True)
            else:
                assert look is None
            outcomes = {other.do("in_time", 0.15, what, arena)[0] for what in ("allocate_some", "send_some")}
            assert outcomes <= ({"interrupted"} if label in LOCKED else {"done", "ArenaFull"})
            assert other.do("fork_some", arena) == 7
        other.do("hold_some", arena)
        nds.reclaim(arena=arena)
        assert wait_until(lambda: held(arena) <= base), f"bytes are lost: {nds.stats(arena)}, at first {base}"
        assert other.do("in_time", 30.0, "allocate_some", arena) == ("done", "")
        assert (kept == 5).all()
        other.do("drop_some")
        del kept
        assert wait_until(lambda: held(arena) == 0), f"bytes are lost: {nds.stats(arena)}"


@needs_points
def test_who_waits_long_learns_for_whom() -> None:
    """The note of an interrupt and the text of a timeout name the process that has the lock, and that it is stopped."""
    with nds.Arena(64 * MIB) as arena, Puppet() as victim, Puppet() as other:
        ring = nds.Ring(slots=4, arena=arena)
        other.do("keep", "ring", ring)
        other.do("put_some", 1000, 30)
        with standing_still(victim, "stand_still", "split:span", arena, []) as pid:
            outcome, note = other.do("in_time", 1.3, "allocate_some", arena)
            assert outcome == "interrupted"
            assert f"pid {pid} (" in note
            assert "stopped" in note
            outcome, text = other.do("in_time", 30.0, "put_some", 400_000, 1.3)
            assert outcome in {"Timeout", "Full"}
            assert f"pid {pid} (" in text
            assert "stopped" in text
        assert other.do("in_time", 30.0, "put_some", 400_000, 30) == ("done", "")
        ring.close()


@needs_points
def test_numpy_gets_ordinary_memory_while_the_arena_is_busy() -> None:
    """NumPy's allocations cannot be interrupted, so they do not wait; each one that is not shared is counted."""
    with nds.Arena(64 * MIB) as arena, Puppet() as victim, Puppet() as other:
        with standing_still(victim, "stand_still", "split:span", arena, []):
            arrays, fallbacks = other.do("fill_in_scope", arena)
            assert fallbacks >= 20
            assert arrays < fallbacks
        arrays, fallbacks = other.do("fill_in_scope", arena)
        assert fallbacks == 0


@needs_points
def test_what_is_dropped_beside_a_stopped_process_is_there_for_others() -> None:
    """Who dropped it may sleep from then on: memory that nobody keeps is found by whoever needs it."""
    with nds.Arena(32 * MIB) as arena, Puppet() as victim, Puppet() as sleeper:
        sleeper.do("make", "most", 3 * MIB, 1.0, arena)
        with standing_still(victim, "stand_still", "issue:written", arena, []):
            sleeper.do("forget", "most")
        os.kill(sleeper.pid, signal.SIGSTOP)
        try:
            wait_until(lambda: is_stopped(sleeper.pid))
            big = nds.empty(28 * MIB, np.uint8, arena=arena)
            big[::4096] = 1
            del big
        finally:
            os.kill(sleeper.pid, signal.SIGCONT)


@needs_points
def test_a_stopped_process_that_is_killed_gives_all_back() -> None:
    """What could not be given back while it stood still comes back after its death, too."""
    with nds.Arena(64 * MIB) as arena, Puppet() as victim:
        mine = [nds.ones(n, np.uint8, arena=arena) for n in (2 * MIB, 100_000, 100)]
        victim.start("stand_still", "free:word", arena, [])
        assert wait_until(lambda: stopped_among(victim.pid) is not None)
        mine.clear()
        victim.kill()
        nds.reclaim(arena=arena)
        assert wait_until(lambda: held(arena) == 0), f"bytes are lost: {nds.stats(arena)}"


@needs_points
@pytest.mark.parametrize("label", AMONG)
def test_waits_for_a_stopped_process_in_rings_and_caches_answer(label: str) -> None:
    """Whatever a process is in the middle of when it is stopped, the others' calls end by their timeout or a signal."""
    with nds.Arena(64 * MIB) as arena, Puppet() as victim, Puppet() as other:
        shared: dict[str, Any] = {"ring": nds.Ring(slots=4, when_full="drop_oldest", arena=arena)}
        shared |= {"cache": nds.Cache("256 KiB", arena=arena), "arena": arena}
        shared |= {"overlay": nds.Overlay(a={"x": (10, "f4")}), "array": nds.zeros(10, arena=arena)}
        other.do("hold_some", arena)
        other.do("in_time", 60.0, "use_everything", shared, 30)
        with standing_still(victim, "stand_still_among", label, shared) as pid:
            assert pid, f"nobody passes {label}"
            for _ in range(2):
                other.do("in_time", 0.15, "use_everything", shared, 0.05)
            assert other.do("drop_some") == "dropped"
            assert other.do("fork_some", arena) == 7
            nds.stats(arena)
        outcome = other.do("in_time", 60.0, "use_everything", shared, 30)
        assert outcome == ("done", "")


@needs_points
@pytest.mark.parametrize("label", ["issue:written", "split:span", "remove:free"])
def test_a_cache_is_free_while_the_arena_is_not(label: str) -> None:
    """Once a value that ended waited for the arena's lock, for ever and with the cache's lock in hand.

    What ends now is owed and ends later. What is to be stored waits where others can pass, and answers signals.
    """
    with nds.Arena(64 * MIB) as arena, Puppet() as victim, Puppet() as storing, Puppet() as other:
        cache = nds.Cache("4 MiB", arena=arena)
        for key in range(100):
            cache[key] = np.full(1000, key)
        base = held(arena)
        gifts = [bytes(ForkingPickler.dumps(nds.zeros(50_000, arena=arena)))]
        storing.do("make_ready", arena)
        for puppet in (storing, other):
            puppet.do("keep", "cache", cache)
        with standing_still(victim, "stand_still", label, arena, gifts) as pid:
            assert pid, f"the tour does not pass {label}"
            storing.start("in_time", 2.0, "store_ready")
            assert other.do("make_way", range(40)) == 60
            for _ in range(20):
                assert other.do("look_into") == (60, 40)
            outcome, note = storing.answer()
            assert outcome == "interrupted"
            assert f"pid {pid} (" in note
            assert "ready" not in cache
            cache.clear()
            assert cache.info()["bytes"] == 0
        assert storing.do("in_time", 30.0, "store_ready") == ("done", "")
        assert (cache["ready"] == 9).all()
        del cache["ready"]
        storing.kill()
        nds.reclaim(arena=arena)
        assert wait_until(lambda: held(arena) <= base - 100 * 8000), f"values are lost: {nds.stats(arena)}, {base}"
        del cache


# ---- random instants ------------------------------------------------------------------------------------------------


def make_and_drop(arena: nds.Arena) -> None:
    while True:
        nds.empty(MIB, np.uint8, arena=arena)


def make_and_drop_and_answer(arena: nds.Arena, beat: Any) -> None:
    """Count rounds, and answers to Ctrl-C."""
    while True:
        try:
            while True:
                nds.empty(MIB, np.uint8, arena=arena)
                beat[0] += 1
        except KeyboardInterrupt:
            beat[1] += 1


def test_a_neighbour_that_is_stopped_at_random_instants() -> None:
    """Whoever waits for it answers Ctrl-C. No signal would be answered inside a `del`."""
    rng, beat = random.Random(3), nds.zeros(2, np.int64)
    with (
        nds.Arena(64 * MIB) as arena,
        child(make_and_drop, arena) as one,
        child(make_and_drop_and_answer, arena, beat) as other,
    ):
        assert wait_until(lambda: beat[0] > 0)
        for _ in range(25):
            time.sleep(rng.random() * 0.01)
            os.kill(one.pid, signal.SIGSTOP)
            assert wait_until(lambda: is_stopped(one.pid))
            rounds, answers = beat[0], beat[1]
            if not wait_until(lambda rounds=rounds: beat[0] > rounds + 1, 0.1):
                os.kill(other.pid, signal.SIGINT)
                assert wait_until(lambda answers=answers: beat[1] > answers), "it is deaf to Ctrl-C"
            os.kill(one.pid, signal.SIGCONT)
