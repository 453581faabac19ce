"""Any process may be killed at any instant, and nothing leaks, nothing hangs, nothing is torn.

The sharp tests arm one labelled kill point, let a process do everything there is to do until it dies just there,
and then look at what a survivor finds: its own bytes unchanged, everything still working, and all memory back.
The blunt tests kill at random. `NDSHARE_CRASH_ROUNDS` makes both longer (`make crash`).

How soon survivors go on is measured and reported, and not asserted: a loaded machine would fail the test. What
hangs is caught by a time limit of many seconds.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing as mp
import os
import random
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest

import ndshare as nds
import workers
from helpers import (
    HANG,
    MIB,
    ROUNDS,
    Puppet,
    alive,
    environment,
    held,
    inodes,
    litter,
    note_pause,
    ours,
    run,
    script,
    settle,
    shared_pattern,
    users,
    wait_until,
)
from ndshare import _native

POINTS: tuple[str, ...] = tuple(_native.KILL_POINTS)
SIZE = 64 * MIB  # small enough that the tour fills it quickly
# Points that only other things pass, whose own tests arm them.
ELSEWHERE = (
    "block-lock:",
    "sweep:named",
    "sweep:unlocked",
    "remove:children",
    "make:",
    "adopt:",
    "overlay:",
    "canvas:",
    "renew:",
    "ring:",
    "cache:",
    "name:",
    "root:",
    "directory:",
    "offer:",
    "mend:",
)
HERE = tuple(point for point in POINTS if not point.startswith(ELSEWHERE))

pytestmark = pytest.mark.crash
needs_points = pytest.mark.skipif(not POINTS, reason="this build has no kill points; build with --features killpoints")


# ---- survivors ------------------------------------------------------------------------------------------------------


class Witness:
    """What survivors hold while others die, and what they insist on afterwards."""

    def __init__(self, size: int = SIZE) -> None:
        self.arena = nds.Arena(size)
        self.arrays = [shared_pattern(n, n, self.arena) for n in (1, 1000, 100_000)]
        self.sums = [zlib.crc32(x) for x in self.arrays]
        self.other = Puppet()
        for i, x in enumerate(self.arrays):
            self.other.do("keep", str(i), x)
        self.base = held(self.arena)

    def gifts(self) -> list[bytes]:
        """Return tickets for the victim to open."""
        return [bytes(ForkingPickler.dumps(x)) for x in [*self.arrays, nds.zeros(50_000, arena=self.arena)]]

    def go_on(self, label: str) -> None:
        """Do at once what a program would do next, and note how long that took."""
        start = time.perf_counter()
        x = nds.full(MIB, 3, np.uint8, arena=self.arena)
        y = ForkingPickler.loads(ForkingPickler.dumps(x))
        note_pause(label, time.perf_counter() - start)
        assert np.shares_memory(x, y)
        assert (y == 3).all()

    def check(self) -> None:
        """Insist that nothing is torn, everything works in every survivor, and all bytes are back."""
        assert [zlib.crc32(x) for x in self.arrays] == self.sums
        assert [self.other.do("checksum", str(i)) for i in range(len(self.sums))] == self.sums
        nds.reclaim(arena=self.arena)
        assert wait_until(self._all_back), f"bytes are lost: {nds.stats(self.arena)}, at first {self.base}"
        assert self.other.do("dumps_new", 1000, self.arena)
        assert nds.reclaim(arena=self.arena) > 0
        room = nds.stats(self.arena)["budget"] - self.base - 4 * MIB
        big = nds.empty(room, np.uint8, arena=self.arena)
        big[::4096] = 1
        del big
        assert held(self.arena) == self.base
        many = [nds.empty(1, np.uint8, arena=self.arena) for _ in range(2000)]  # every block has a turn
        del many
        assert held(self.arena) == self.base
        assert [zlib.crc32(x) for x in self.arrays] == self.sums

    def _all_back(self) -> bool:
        gc.collect()
        nds.reclaim(arena=self.arena)
        stats = nds.stats(self.arena)
        others = [p for p in stats["participants"] if p["alive"] and p["pid"] not in (os.getpid(), self.other.pid)]
        return bool(stats["bytes"] == self.base and not stats["tickets"] and not others)

    def close(self) -> None:
        self.other.kill()
        self.arrays.clear()
        self.arena.close()


@pytest.fixture(scope="module")
def witness() -> Iterator[Witness]:
    one = Witness()
    yield one
    one.close()


# ---- every kill point -----------------------------------------------------------------------------------------------


def victim(witness: Witness, label: str, nth: int, method: str, *, clearing: bool = False) -> str:
    """Let a process die at a kill point; return "killed", or what it says if it survives.

    If `clearing`, then children of the victim die at every other point, and it clears up after them.
    """
    arena: Any = witness.arena if method == "fork" else bytes(ForkingPickler.dumps(witness.arena))
    with Puppet(method) as puppet:
        others = tuple(point for point in HERE if point != label) if clearing else ()
        puppet.start("strike", label, nth, arena, witness.gifts(), others)
        try:
            return str(puppet.answer())
        except (EOFError, ConnectionResetError):
            puppet.process.join(HANG)
            assert puppet.process.exitcode == -signal.SIGKILL, f"exit status {puppet.process.exitcode}"
            return "killed"


@needs_points
@pytest.mark.parametrize("nth", range(1, ROUNDS + 1))
@pytest.mark.parametrize("label", HERE)
def test_killed_at(label: str, nth: int, witness: Witness) -> None:
    for method, clearing in (("fork", False), ("spawn", False), ("fork", True)):
        outcome = victim(witness, label, nth, method, clearing=clearing)
        witness.go_on(label)
        witness.check()
        if outcome != "survived":
            return
    if nth == 1:
        assert roots_die_at(label), f"nothing passes {label}: lead the tour there, or name it in ELSEWHERE and test it"


ROOT = """
import os, sys
import numpy as np
import ndshare as nds, workers
print("born", flush=True)
arena = nds.Arena("96 MiB")
workers.tour(arena, [], ())
nds.reclaim(arena=arena)  # what the tour left in flight would keep the arena
del arena
"""


def roots_die_at(label: str) -> bool:
    """Say whether a process that makes a session of its own passes this point."""
    done = run(ROOT, env=environment(NDSHARE_KILL_AT=f"{label}:1"))
    assert done.code in (0, -signal.SIGKILL), done.err
    return done.code != 0


@needs_points
@pytest.mark.parametrize("label", [point for point in POINTS if point.startswith("make:")])
def test_killed_while_it_makes_an_arena(label: str) -> None:
    """Nobody else has it yet, so it goes with its maker."""
    before = litter()
    assert roots_die_at(label), f"nothing passes {label}"
    assert not ours(litter() - before)


JOIN = """
import os, sys
import numpy as np
struck = 0
for label in sys.argv[1:]:
    if not (child := os.fork()):
        os.environ["NDSHARE_KILL_AT"] = label + ":1"
        import ndshare as nds
        x = nds.ones(1000)
        assert nds.stats()["id"] == os.environ["SESSION_ID"]
        del x
        sys.exit()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -9), (label, code)
    struck += code != 0
assert "ndshare" not in sys.modules
print(struck)
"""


@needs_points
def test_a_joining_process_dies_at_every_step() -> None:
    """Programs that join the session die while they do; the others notice nothing."""
    x = shared_pattern(1000, 4)
    total = zlib.crc32(x)
    base, before = held(), living()
    env = dict(os.environ, PYTHONPATH=environment()["PYTHONPATH"], SESSION_ID=nds.stats()["id"])
    struck = int(run(JOIN, *HERE, env=env).clean())
    assert struck >= 5, "a join has several steps"
    assert zlib.crc32(x) == total
    assert nds.full(1000, 1.0).sum() == 1000
    assert settle(base) == base
    assert wait_until(lambda: living() == before)


def living() -> set[int]:
    """Return the processes that take part in the session and live."""
    return {p["pid"] for p in nds.stats()["participants"] if p["alive"]}


@needs_points
@pytest.mark.timeout(60 + 30 * ROUNDS)
def test_killed_while_clearing_up_after_a_death(witness: Witness) -> None:
    """Two deaths, one on top of the other, at random points; long runs walk through many pairs."""
    rng = random.Random(11)
    for _ in range(8 if ROUNDS == 1 else 20 * ROUNDS):
        first, second = rng.choice(HERE), rng.choice(HERE)
        with Puppet() as puppet:
            puppet.start("strike", second, rng.randint(1, 3), witness.arena, witness.gifts(), (first,))
            with contextlib.suppress(EOFError, ConnectionResetError):
                puppet.answer()
            puppet.kill()
        witness.go_on(f"{first}, then {second}")
        witness.check()


@needs_points
def test_unknown_kill_points_are_refused() -> None:
    with pytest.raises(ValueError, match="kill point"):
        _native.kill_at("no such label", 1)


# ---- random instants ------------------------------------------------------------------------------------------------


@pytest.mark.timeout(120 + 60 * ROUNDS)
def test_a_storm_of_deaths() -> None:
    """Processes allocate, send and drop at random, and are killed at random; what comes through is whole."""
    witness = Witness(512 * MIB)
    crew = [Sailor(witness, seed) for seed in range(6)]
    try:
        _storm(witness, crew, 10 if ROUNDS == 1 else 100 * ROUNDS)
    finally:
        for sailor in crew:
            sailor.kill()
    witness.check()
    witness.close()


def _storm(witness: Witness, crew: list[Sailor], kills: int) -> None:
    """Kill so many sailors, replace them, and pass on what they send."""
    rng, deaths = random.Random(3), 0
    kept: list[Any] = []
    while deaths < kills:
        for i, sailor in enumerate(crew):
            if rng.random() < 0.03:
                sailor.kill()
                witness.go_on("a storm")
                deaths += 1
                crew[i] = Sailor(witness, 100 + deaths)
            for x in sailor.received():
                workers.check_stamp(x)
                kept.append(x)
        if len(kept) > 30:
            for x in kept:
                workers.check_stamp(x)
            _pass_on(rng, crew, kept)
            kept.clear()


def _pass_on(rng: random.Random, crew: list[Sailor], kept: list[Any]) -> None:
    """Send a few arrays to others, unless their pipes are full."""
    for x in kept[:10]:
        sailor = rng.choice(crew)
        if not sailor.busy():
            sailor.send(x)


class Sailor:
    """A process of the storm. Its pipe takes a few tokens at a time, so that nobody ever blocks."""

    def __init__(self, witness: Witness, seed: int) -> None:
        self.conn, theirs = mp.Pipe()
        context = mp.get_context("fork")
        self.process = context.Process(target=workers.churn, args=(seed, witness.arena, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.sent = 0

    def received(self) -> list[Any]:
        found = []
        with contextlib.suppress(EOFError, OSError, nds.Stale):
            while self.conn.poll() and len(found) < 20:
                found.append(self.conn.recv())
        return found

    def busy(self) -> bool:
        return self.sent > 50

    def send(self, x: Any) -> None:
        self.sent += 1
        with contextlib.suppress(OSError):
            self.conn.send(x)

    def kill(self) -> None:
        assert self.process.pid
        assert self.process.exitcode is None, f"a sailor ended: {self.process.exitcode}"
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join(HANG)
        for x in self.received():
            workers.check_stamp(x)
        self.conn.close()


# ---- who dies -------------------------------------------------------------------------------------------------------


def test_a_holder_is_killed() -> None:
    with nds.Arena("256 MiB") as arena:
        shared = shared_pattern(1000, 1, arena)
        base = held(arena)
        for _ in range(5):
            with Puppet() as puppet:
                puppet.do("make", "x", 10 * MIB, 1.0, arena)
                puppet.do("keep", "y", shared)
                puppet.do("keep", "z", shared[::2])
                assert held(arena) >= base + 80 * MIB
                puppet.kill()
            assert settle(base, arena) == base
        assert (shared == shared_pattern(1000, 1)).all()


def test_a_killed_holder_is_not_the_only_one() -> None:
    with Puppet() as maker, Puppet() as holder:
        maker.do("make", "x", 1000, 6.0)
        holder.do("keep", "x", maker.do("give", "x"))
        maker.kill()
        for _ in range(50):
            nds.full(1000, 9.0)
        assert (holder.do("give", "x") == 6).all()
        x = holder.do("give", "x")
        holder.kill()
        assert (x == 6).all()


def test_the_sender_of_a_ticket_is_killed(method: str) -> None:
    context = mp.get_context(method)
    before = held()
    for i in range(5):
        queue = context.SimpleQueue()
        process = context.Process(target=workers.send_and_be_killed, args=(queue, i))
        process.start()
        process.join(HANG)
        assert process.exitcode == -signal.SIGKILL
        x = queue.get()
        assert nds.is_shared(x)
        assert (x == i).all()
        queue.close()
        del x
    assert settle(before) == before


def test_the_receiver_of_a_ticket_is_killed() -> None:
    before = held()
    with Puppet() as puppet:
        os.kill(puppet.pid, signal.SIGSTOP)
        puppet.start("keep", "x", nds.zeros(100_000))
        assert held() > before
        puppet.kill()
    assert held() > before, "nobody opened it: it waits for its receiver"
    assert nds.reclaim() >= 800_000
    assert settle(before) == before


TREE = """
import multiprocessing as mp, os, signal, sys, time
import numpy as np, ndshare as nds
import workers

def member(i, x, links, report):
    signal.alarm(60)
    keep = [x, nds.full(1000, i, np.int64)]
    links[i].send(keep[1])
    report.send((os.getpid(), nds.stats()["id"]))
    while not os.path.exists(sys.argv[2]): time.sleep(0.001)  # until the root is dead
    x[i] = i
    fresh = nds.full(50_000, i, np.int64)
    assert not nds.zeros(3 << 20, np.uint8).any()
    process = mp.get_context(sys.argv[1]).Process(target=offspring, args=(fresh, x, i))
    process.start()
    process.join()
    assert process.exitcode == 0 and (fresh == i + 1).all()
    report.send(int(keep[1].sum()))

def offspring(fresh, x, i):
    fresh += 1
    x[i + 4] = nds.ones(10).sum()

if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    x = nds.zeros(8)
    pairs = [context.Pipe(duplex=False) for _ in range(4)]
    reports = [context.Pipe(duplex=False) for _ in range(4)]
    processes = [context.Process(target=member, args=(i, x, [w for _, w in pairs], reports[i][1])) for i in range(4)]
    for process in processes: process.start()
    told = [reader.recv() for reader, _ in reports]
    assert {session for _, session in told} == {nds.stats()["id"]}
    print(*[pid for pid, _ in told], nds.ref(x), flush=True)
    sys.stdin.read()
"""


def test_the_root_is_killed(method: str, tmp_path: Any) -> None:
    """Its children go on: they allocate, start processes that join, and keep what they share."""
    go = tmp_path / "go"
    with subprocess.Popen(
        [sys.executable, str(script(TREE)), method, str(go)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
        start_new_session=True,
    ) as root:  # fmt: skip
        try:
            assert root.stdout
            *pids, ref = root.stdout.readline().split()
            x = nds.ref(ref).open()
            os.kill(root.pid, signal.SIGKILL)
            root.wait()
            go.touch()
            assert wait_until(lambda: not any(alive(int(pid)) for pid in pids), HANG)
            assert list(x) == [0, 1, 2, 3, 10, 10, 10, 10], root.communicate()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(root.pid, signal.SIGKILL)


EVERYBODY = """
import multiprocessing as mp, os, signal, sys
import numpy as np, ndshare as nds
import workers

def live(queue, x):
    signal.alarm(60)  # should nobody kill it after all
    rng = np.random.default_rng(os.getpid())
    kept = []
    while True:
        kept.append(nds.full(int(rng.integers(1, 300_000)), 1, np.uint8))
        queue.put(kept[-1]) if rng.integers(3) == 0 else x.__iadd__(1)
        if len(kept) > 50: del kept[:25]

if __name__ == "__main__":
    x = nds.ones(1 << 20)
    queues = []
    for method in ("fork", "spawn", "forkserver"):
        for _ in range(2):
            queues.append(mp.get_context(method).Queue(20))
            mp.get_context(method).Process(target=live, args=(queues[-1], x)).start()
    print("ready", flush=True)
    signal.alarm(60)
    while True:
        for queue in queues:
            if not queue.empty(): queue.get()
        y = nds.zeros(100_000)
"""


def test_everybody_is_killed(tmp_path: Any) -> None:
    """Nothing is left: no process, no memory, no file."""
    before = litter()
    env = environment(TMPDIR=str(tmp_path))
    for pause in (0.0, 0.05, 0.3):
        with subprocess.Popen(
            [sys.executable, str(script(EVERYBODY))], stdout=subprocess.PIPE, text=True, env=env, cwd=tmp_path,
            start_new_session=True,
        ) as root:  # fmt: skip
            try:
                assert root.stdout
                assert root.stdout.readline() == "ready\n"
                arenas = inodes(root.pid)
                assert arenas
                assert wait_until(lambda arenas=arenas: len(users(arenas)) >= 7, HANG)
                time.sleep(pause)  # no condition: whatever they do by then is what they are killed at
            finally:
                _kill_session(root.pid)
        assert wait_until(lambda arenas=arenas: not users(arenas)), "somebody still maps the arena"
    mine = [name for name in ours(litter() - before) if "sem." not in name and "psm_" not in name]
    assert not mine
    assert not [name for name in os.listdir(tmp_path) if not name.startswith("pymp-")], "pymp- is multiprocessing's"


def _kill_session(leader: int) -> None:
    """Kill every process of a session, the forkserver's children included, as often as new ones appear."""

    def nobody_is_left() -> bool:
        members = [int(p) for p in os.listdir("/proc") if p.isdigit() and _session_of(int(p)) == leader]
        if not any(alive(pid) for pid in members):
            return True
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return False

    assert wait_until(nobody_is_left, HANG), "somebody of the session can't be killed"


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return -1


FOUR_HUNDRED = """
import gc, multiprocessing as mp, os, signal, sys
import numpy as np, ndshare as nds

def hold(n):
    kept = [nds.empty(n // 4, np.uint8) for _ in range(4)]
    for x in kept: x[::4096] = 1
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    for i in range(int(sys.argv[2])):
        process = context.Process(target=hold, args=(400 << 20,))
        process.start()
        process.join()
        assert process.exitcode == -9, process.exitcode
    x = nds.empty(700 << 20, np.uint8)
    x[::4096] = 1
    assert nds.stats()["blocks"] == 1
    print("fits")
"""


@pytest.mark.parametrize(("start", "rounds"), [("fork", 25), ("spawn", 6), ("forkserver", 6)])
def test_all_bytes_come_back(start: str, rounds: int) -> None:
    """400 MiB of 1 GiB are taken by processes that die, again and again; then 700 MiB fit."""
    done = run(FOUR_HUNDRED, start, str(rounds * ROUNDS), env=environment(NDSHARE_BUDGET="1 GiB"))
    assert done.clean().strip() == "fits"


def test_a_killed_processs_pages_go_back_to_the_system() -> None:
    """A device may still write to a dead process's blocks, so they are never kept warm."""
    with nds.Arena("256 MiB") as arena:
        nds.zeros(1000, arena=arena)
        before = nds.stats(arena)["warm"]
        with Puppet() as puppet:
            puppet.do("make", "x", 8 * MIB, 1.0, arena)
            puppet.kill()
        assert settle(0, arena) == 0
        assert nds.stats(arena)["warm"] <= before + 4 * MIB


def test_killed_while_many_wait() -> None:
    """Threads of a survivor allocate all the time; none of them stops for good."""
    with nds.Arena("128 MiB") as arena:
        stop = threading.Event()
        counts = [0] * 4

        def work(i: int) -> None:
            while not stop.is_set():
                nds.zeros(70_000 + i, np.uint8, arena=arena)
                counts[i] += 1

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        try:
            for seed in range(15):
                conn, theirs = mp.Pipe()
                process = mp.get_context("fork").Process(target=workers.churn, args=(seed, arena, theirs), daemon=True)
                process.start()
                time.sleep(0.02 + 0.01 * (seed % 5))  # no condition: the same
                assert process.pid
                os.kill(process.pid, signal.SIGKILL)
                process.join(HANG)
                seen = list(counts)
                assert wait_until(lambda seen=seen: all(a > b for a, b in zip(counts, seen, strict=True)), HANG)
                conn.close()
                theirs.close()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        nds.reclaim(arena=arena)
        assert settle(0, arena) == 0


def test_an_interrupted_program_ends_as_programs_do() -> None:
    source = """
    import os, signal, sys, threading, time
    import numpy as np, ndshare as nds
    kept = [nds.zeros(1000)]
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    try:
        while True:
            kept.append(nds.zeros(1000))
            if len(kept) > 100: kept.clear()
    except KeyboardInterrupt:
        print("interrupted")
    """
    assert run(source).clean().strip() == "interrupted"


def test_connections_of_the_dead_are_closed() -> None:
    """A pipe's end in a killed child is gone with it: nothing of ours keeps a copy open."""
    ours_end, theirs = mp.Pipe()
    process = mp.get_context("fork").Process(target=workers.hold_and_sleep, args=(theirs, ours_end))
    process.start()
    theirs.close()
    ours_end.recv()
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join(HANG)
    with pytest.raises((EOFError, ConnectionResetError)):
        ours_end.recv()
    ours_end.close()
