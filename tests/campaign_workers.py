"""What the processes of the crash campaign and of the soak do: everything at once, until they are killed.

Each member of the crew takes a random step after another: arrays, letters with arrays in them, locks, overlays, rings
with writers, readers and groups, caches, names, canvases, forks and execs. Whatever it finds it checks: an array says
in each place which one it is. A step that fails ends the process with status 1 and a traceback.

`strike` leads a process to one kill point, by the way on which that point lies.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np

import cache_workers
import ndshare as nds
import workers
from ndshare import _native

KIB, MIB = 1 << 10, 1 << 20
CREW = 8
HANG = 60.0
HUNG_S = 0.1  # a wait that is longer than that, by our own doing, counts as hung
LETTER = 512  # bytes; a pipe takes and gives them as a whole
STRUCK_IN_CHILD = 77  # how a process ends whose child died at the kill point
USES: dict[str, Any] = {"ints": {"D": (64, "i8")}, "floats": {"A": (64, "f8")}}
TOO_MUCH = (nds.ArenaFull, nds.Stale, nds.Timeout, nds.WriterDied)


class World:
    """What they share: one arena with one of everything, and a second arena in which few die at a time."""

    def __init__(self, folder: Path, notes: Notes) -> None:
        self.folder, self.notes = folder, notes
        self.arena = nds.Arena("48 MiB")
        self.side = nds.Arena("16 MiB")
        self.ring = nds.Ring(slots=16, dtype=np.uint64, meta=[("stamp", "u8")], arena=self.arena)
        # Made for the stream: it goes on until this one is closed.
        self.writer = self.ring.writer()
        self.cache = nds.Cache(64 * KIB, entries=64, arena=self.arena)
        self.other_cache = nds.Cache(64 * KIB, entries=64, arena=self.arena)  # of those who are about to die
        self.side_cache = nds.Cache(64 * KIB, entries=64, arena=self.side)
        self.overlay = nds.Overlay(**USES, arena=self.arena)
        self.inside = nds.zeros((2, CREW + 2), np.int64, arena=self.arena)
        self.pair = nds.zeros(3, np.int64, arena=self.arena)
        self.canvas = nds.Canvas((64, 256), np.uint8, arena=self.arena)
        self.tiles = [nds.full((64, 64), number, np.uint8, arena=self.arena) for number in range(8)]
        self.kept = [workers.stamped(n, n, self.arena) for n in (10, 1000, 50_000)]
        self.letters = os.pipe2(os.O_NONBLOCK | os.O_DIRECT | os.O_CLOEXEC)
        nds.concatenate(self.tiles[:4], axis=1, out=self.canvas)
        with self.ring.reader(group="g"):
            pass

    def send(self, x: Any) -> None:
        """Put an array into the box from which anybody takes letters; it is dropped when that is full."""
        letter = bytes(ForkingPickler.dumps(x))
        try:
            # Twice: who comes second takes what the first one, or the sender, still has.
            for _ in range(2):
                os.write(self.letters[1], len(letter).to_bytes(2, "little") + letter)
        except BlockingIOError:
            with contextlib.suppress(nds.Stale):  # the first one may be open already
                ForkingPickler.loads(letter)

    def receive(self) -> Any | None:
        """Take one letter, if there is one; its array."""
        try:
            letter = os.read(self.letters[0], LETTER)
        except BlockingIOError:
            return None
        return ForkingPickler.loads(letter[2 : 2 + int.from_bytes(letter[:2], "little")])


class Notes:
    """Numbers that all processes see, in ordinary shared memory: they do not hang on what is tested."""

    SLOTS = 4096

    def __init__(self) -> None:
        self.map = mmap.mmap(-1, 1 << 20)
        words = np.frombuffer(self.map, np.int64)
        self.counts = words[: 64 * (CREW + 2)].reshape(CREW + 2, 64)  # by place: steps, forks, execs, hung, longest
        self.began = words[1024:1025]  # how many pauses have begun
        self.stopped = words[1032:1033]  # how many processes stand still
        self.pids = words[1040 : 1040 + CREW]
        # From when to when nobody can be asked to go on (ns, monotonic), and why: 1 stopped, 2 and 3 the scheduler.
        self.pauses = words[2048 : 2048 + 3 * self.SLOTS].reshape(self.SLOTS, 3)
        self.delays = words[20_000:20_002]  # the bystander's: how many sleeps, and the longest delay in ns
        self.histogram = words[20_100:20_200]  # its delays by their size in ms, the last one for all longer

    def pause(self, start: int, end: int, why: int) -> int:
        """Note a pause, as the only process that does; returns its place, so that its end can be noted later."""
        place = int(self.began[0]) % self.SLOTS
        self.pauses[place] = start, end, why
        self.began[0] += 1
        return place

    def paused(self, start: int, end: int) -> int:
        """Return for how long not everybody could go on between two times, in ns."""
        known = self.pauses[self.pauses[:, 0] > 0]
        ends = np.where(known[:, 1] == 0, end, known[:, 1])
        total, until = 0, start
        for begin, over in sorted(zip(known[:, 0].tolist(), ends.tolist(), strict=True)):
            total += max(0, min(over, end) - max(begin, until))
            until = max(until, min(over, end))
        return total


STEPS, FORKS, EXECS, HUNG, LONGEST, LAST = range(6)


def stand_by(notes: Notes, orders: int) -> None:
    """Sleep 1 ms again and again, and note by how much each sleep was longer.

    It also lets others go on that were stopped: `orders` is a pipe of process numbers and times in ns.
    """
    os.set_blocking(orders, False)
    stopped: list[tuple[int, int, int]] = []  # until when, who, and where that is noted
    waited: dict[int, int] = {}
    while True:
        start = time.monotonic_ns()
        time.sleep(0.001)
        end = time.monotonic_ns()
        _note_delay(notes, start, end)
        _note_who_waits(notes, waited)
        for one in [one for one in stopped if one[0] <= end]:
            with contextlib.suppress(ProcessLookupError):  # it was killed meanwhile
                os.kill(one[1], signal.SIGCONT)
            notes.pauses[one[2], 1] = time.monotonic_ns()
            stopped.remove(one)
        with contextlib.suppress(BlockingIOError):
            pid, length = np.frombuffer(os.read(orders, 16), np.int64).tolist()
            stopped.append((end + length, pid, notes.pause(start, 0, 1)))
        notes.stopped[0] = len(stopped)


def _note_delay(notes: Notes, start: int, end: int) -> None:
    delay = end - start - 1_000_000
    notes.delays[:] = notes.delays[0] + 1, max(notes.delays[1], delay)
    notes.histogram[min(99, max(0, delay) // 1_000_000)] += 1
    if delay > 2_000_000:
        notes.pause(start, end, 2)


def _note_who_waits(notes: Notes, before: dict[int, int]) -> None:
    """Note when one of the crew was ready to run and got no processor: others may have waited for just that one."""
    for pid in notes.pids.tolist():
        with contextlib.suppress(OSError, IndexError):
            waited = int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])
            if (longer := waited - before.get(pid, waited)) > 2_000_000:
                now = time.monotonic_ns()
                notes.pause(now - longer - 2_000_000, now, 3)
            before[pid] = waited


def run_delay_ns() -> int:
    """Return how long this thread was ready to run and could not."""
    with open("/proc/thread-self/schedstat", "rb") as file:
        return int(file.read().split()[1])


class Sailor:
    """One of the crew: what it keeps, and the steps that it takes."""

    def __init__(self, world: World, place: int, seed: int) -> None:
        self.world, self.place, self.rng = world, place, random.Random(seed)
        self.notes, self.counts = world.notes, world.notes.counts[place]
        self.mine: list[Any] = []
        self.frames: list[tuple[Any, int]] = []
        self.values: list[Any] = []
        self.readers: list[nds.Reader] = []
        self.few_descriptors = 0
        self.steps: list[tuple[int, Callable[[], None]]] = [
            (6, self.arrays), (3, self.letters), (3, self.locks), (2, self.overlay), (4, self.write), (5, self.read),
            (4, self.look_up), (1, self.names), (1, self.canvas),
        ]  # fmt: skip
        self.weights = [weight for weight, _ in self.steps]

    def sail(self, conn: Connection) -> None:
        """Take steps until told otherwise, or killed."""
        while True:
            if conn.poll():
                self.obey(conn, conn.recv())
            self.step()

    def obey(self, conn: Connection, order: Any) -> None:
        match order:
            case ("strike", label, nth):
                limit_descriptors(None)
                strike(self.world, label, nth)
                conn.send("survived")
            case "calm":
                self.drop()
                conn.send("calm")
                conn.recv()
            case "go on":
                pass
            case _:
                raise ValueError(order)

    def drop(self) -> None:
        """Give everything up."""
        self.mine.clear()
        self.frames.clear()
        self.values.clear()
        for reader in self.readers:
            reader.close()
        self.readers.clear()

    def step(self) -> None:
        dice = self.rng.random()
        self.counts[STEPS] += 1
        if dice < 0.004 and self.few_descriptors:
            pass  # the system starts no program without descriptors
        elif dice < 0.003:
            self.fork()
        elif dice < 0.004:
            self.execute()
        elif dice < 0.008 and self.place == 0:
            self.go_short()
        else:
            (which,) = self.rng.choices(range(len(self.steps)), self.weights)
            self.counts[LAST] = which
            self.timed(self.steps[which][1])
        if self.few_descriptors:
            self.few_descriptors -= 1
            if not self.few_descriptors:
                limit_descriptors(None)
        time.sleep(0.004 * self.rng.random())  # no condition: two processors are to be enough for eight

    def timed(self, step: Callable[[], None]) -> None:
        """Take a step, and count it as hung if it waited long, and nobody was stopped or short of a processor."""
        start, busy, ready = (
            time.monotonic_ns(),
            time.thread_time_ns(),
            run_delay_ns() if not self.few_descriptors else 0,
        )
        try:
            with contextlib.suppress(*TOO_MUCH):
                step()
        except (OSError, nds.Error):
            if not self.few_descriptors:
                raise
        end = time.monotonic_ns()
        if end - start < HUNG_S * 1e9 or self.few_descriptors:
            return
        took = end - start - (time.thread_time_ns() - busy) - (run_delay_ns() - ready)
        time.sleep(0.02)  # the bystander is to have noted all of it
        waited = took - self.notes.paused(start, end)
        self.counts[LONGEST] = max(self.counts[LONGEST], waited)
        if waited > HUNG_S * 1e9:
            self.counts[HUNG] += 1
            sys.stderr.write(
                f"hung: {step.__name__} waited {waited / 1e6:.0f} of {(end - start) / 1e6:.0f} ms, place {self.place}\n"
            )

    # ---- steps

    def arrays(self) -> None:
        rng, mine = self.rng, self.mine
        if len(mine) < 8 or rng.random() < 0.5:
            mine.append(workers.stamped(rng.getrandbits(32), int(2 ** rng.uniform(3, 14)), self.world.arena))
        else:
            workers.check_stamp(mine.pop(rng.randrange(len(mine))))
        if len(mine) > 24:
            del mine[:12]
        workers.check_stamp(rng.choice(self.world.kept))

    def letters(self) -> None:
        if self.mine and self.rng.random() < 0.5:
            self.world.send(self.rng.choice(self.mine))
        elif (x := self.world.receive()) is not None:
            workers.check_stamp(x)
            self.mine.append(x)

    def locks(self) -> None:
        pair = self.world.pair
        try:
            with nds.locked(pair, timeout=HANG):
                assert pair[0] == pair[1], "two were under one lock"
                pair[0] += 1
                pair[1] += 1
        except nds.OwnerDied:
            with nds.locked(pair, timeout=HANG, recover=True):
                pair[1] = pair[0]

    def overlay(self) -> None:
        this = self.rng.randrange(2)
        inside, me = self.world.inside, os.getpid()
        name, field = (("ints", "D"), ("floats", "A"))[this]
        with self.world.overlay.use(name, timeout=HANG) as view:
            inside[this, self.place] = me
            view[field][self.place] = me
            others = [int(pid) for pid in inside[1 - this] if pid]
            assert not any(is_alive(pid) for pid in others), "two uses went on at once"
            time.sleep(0.001 * self.rng.random())  # no condition: others shall come and wait
            assert view[field][self.place] == me, "a field changed under its user"
            inside[this, self.place] = 0

    def write(self) -> None:
        stamp, size = self.rng.getrandbits(60), 1 << self.rng.randrange(1, 11)
        content = np.arange(size, dtype=np.uint64) + np.uint64(stamp)
        if self.rng.random() < 0.2:
            self.world.ring.put(nds.array(content, arena=self.world.arena), timeout=0.05, stamp=stamp)
            return
        if self.rng.random() < 0.1:
            with self.world.ring.writer() as writer:
                writer.put(content, timeout=0.05, stamp=stamp)
            return
        with contextlib.suppress(InterruptedError), self.world.ring.write(size, timeout=0.05) as frame:
            frame[:] = content
            frame.meta["stamp"] = stamp
            if self.rng.random() < 0.05:
                raise InterruptedError

    def read(self) -> None:
        if not self.readers or self.rng.random() < 0.02:
            kinds: list[dict[str, Any]] = [{}, {"latest": True}, {"group": "g"}]
            if self.readers:
                self.readers.pop().close()
            self.readers.append(self.world.ring.reader(**self.rng.choice(kinds)))
        for _ in range(8):
            frame = self.readers[-1].get(timeout=0.005)
            stamp = int(frame.meta["stamp"])
            assert (frame == np.uint64(stamp) + np.arange(frame.size, dtype=np.uint64)).all(), "a frame is torn"
            if self.rng.random() < 0.05:
                self.frames.append((frame, stamp))
            del frame
        while len(self.frames) > 3:
            frame, stamp = self.frames.pop()
            assert frame[-1] == np.uint64(stamp + frame.size - 1), "a frame changed while somebody had it"

    def look_up(self) -> None:
        cache_workers.storm_once(self.world.cache, self.rng, self.values)

    def names(self) -> None:
        cache = nds.Cache(16 * KIB, name=f"name {self.rng.randrange(3)}", arena=self.world.arena)
        key = self.rng.randrange(20)
        assert cache_workers.is_whole(key, cache.fetch(key, cache_workers.content, timeout=HANG)), "torn"

    def canvas(self) -> None:
        world = self.world
        nds.concatenate(self.rng.sample(world.tiles, 4), axis=1, out=world.canvas)
        try:
            with nds.locked(world.canvas.array, timeout=HANG):
                tiles = world.canvas.array.reshape(64, 4, 64)
                assert (tiles == tiles[:1, :, :1]).all(), "a tile is torn"
        except nds.OwnerDied:
            nds.concatenate(world.tiles[:4], axis=1, out=world.canvas)

    # ---- what processes do to themselves

    def fork(self) -> None:
        self.counts[FORKS] += 1

        def live() -> None:
            if self.mine:
                workers.check_stamp(self.mine[0])
            workers.check_stamp(workers.stamped(1, 1000, self.world.arena))
            self.mine.clear()

        wait_for(forked(live))

    def execute(self) -> None:
        self.counts[EXECS] += 1
        wait_for(forked(lambda: os.execv("/bin/true", ["true"])))

    def go_short(self) -> None:
        """Have no free descriptor for the next few steps."""
        self.few_descriptors = 5
        limit_descriptors(3)


def limit_descriptors(most: int | None) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if most is None else most, hard))


def is_alive(pid: int) -> bool:
    """Say whether a process lives; a killed one loses its address space before anything else."""
    try:
        return Path(f"/proc/{pid}/statm").read_text().split()[0] != "0"
    except OSError:
        return False


def forked(what: Callable[[], object]) -> int:
    """Do it in a forked child, which ends with status 1 if it fails; its process number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        signal.alarm(int(HANG))
        with contextlib.suppress(*TOO_MUCH):
            what()
        code = 0
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        os._exit(code)


def wait_for(child: int) -> int:
    """Wait for the end of a child, which fails here if it failed there; its exit status, negative for a signal."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), f"a child ended with status {code}"
    return code


def sail(world: World, conn: Connection, place: int, seed: int, life: int) -> None:
    """Be one of the crew."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(life)
    try:
        world.inside[:, place] = 0
        world.notes.pids[place] = os.getpid()
        Sailor(world, place, seed).sail(conn)
    except BaseException as error:
        os.write(2, f"one of the crew, place {place}: {error!r}\n".encode())
        raise


# ---- the way to each kill point -------------------------------------------------------------------------------------


def strike(world: World, label: str, nth: int) -> None:
    """Go where the kill point lies until this process dies there; return when it never does."""
    lead = next(lead for prefixes, lead in LEADS if label.startswith(prefixes))
    end = time.monotonic() + HANG / 6
    armed = lead(world, label, nth)
    while time.monotonic() < end and next(armed, None) is not None:
        pass


Lead = Callable[[World, str, int], Iterator[str]]


def _in_the_arena(world: World, label: str, nth: int) -> Iterator[str]:
    workers.SIZES = (1, 100, 5_000, 70_000, 300_000, MIB)
    _native.kill_at(label, nth)
    while True:
        for step in (workers._allocate, workers._many, workers._tickets, workers._crowd, workers._ask):
            with contextlib.suppress(*TOO_MUCH):
                step(world.arena, [])
            yield "went"


def _among(world: World, label: str, nth: int) -> Iterator[str]:
    shared = {
        "ring": nds.Ring(slots=8, when_full="drop_oldest", arena=world.arena),
        "cache": world.other_cache,
        "arena": world.arena,
        "overlay": nds.Overlay(a={"A": (9, "u1")}, b={"B": (9, "u1")}, arena=world.arena),
        "array": world.pair,
    }
    sailor = Sailor(world, CREW, nth)
    _native.kill_at(label, nth)
    try:
        while True:
            for step in (*[step for _, step in sailor.steps], lambda: workers.use_everything(shared, HANG)):
                with contextlib.suppress(*TOO_MUCH, nds.OwnerDied):
                    step()
                yield "went"
    finally:
        # Who survives says that it is calm later, and this one is in a circle with its steps.
        sailor.drop()


def _beside(world: World, label: str, nth: int) -> Iterator[str]:
    """Make an arena of one's own, with everything in it, and give it up."""
    _native.kill_at(label, nth)
    while True:
        with nds.Arena("8 MiB") as arena:
            for step in (workers._many, workers._tickets):
                step(arena, [])
            blocks = [nds.empty(10, np.uint8, arena=arena) for _ in range(1500)]
            nds.Cache(16 * KIB, name="x", arena=arena)["key"] = np.ones(10)
            del blocks
        del arena
        yield "went"


LEAVING = """
import ndshare as nds
from ndshare import _native
nds.zeros(3)
_native.kill_at("leave:unnamed", 1)
"""


def _leaving(world: World, label: str, nth: int) -> Iterator[str]:
    """End as an interpreter does that has nothing left: another one, for this one has what it was forked with."""
    os.execv(sys.executable, [sys.executable, "-c", LEAVING])
    yield "never"


def _waiting(world: World, label: str, nth: int) -> Iterator[str]:
    """Wait for a lock that another thread of this process has."""
    x = nds.zeros(3, arena=world.side)
    _native.kill_at(label, nth)
    while True:
        inside = threading.Event()

        def hold(inside: threading.Event = inside) -> None:
            with nds.locked(x):
                inside.set()
                time.sleep(0.003)

        thread = threading.Thread(target=hold)
        thread.start()
        inside.wait()
        with nds.locked(x, timeout=HANG):
            pass
        thread.join()
        yield "went"


def _forking(world: World, label: str, nth: int) -> Iterator[str]:
    mine = workers.stamped(1, 100, world.arena)
    _native.kill_at(label, nth if label != "fork:child" else 1)
    while True:
        if wait_for(forked(lambda: workers.check_stamp(mine))) < 0:
            os._exit(STRUCK_IN_CHILD)
        yield "went"


def _after_a_death(world: World, label: str, nth: int) -> Iterator[str]:
    """Clear up after a child that died in the second arena, in whatever way."""
    mine, locked = nds.zeros(10, arena=world.side), nds.zeros(10, arena=world.side)
    workers.SIZES = (1, 100, 5_000, 70_000)

    def die_inside() -> None:
        with nds.locked(locked, recover=True):
            os.kill(os.getpid(), signal.SIGKILL)

    def die_at(point: str) -> None:
        _native.kill_at(point, 1)
        for step in (workers._allocate, workers._many, workers._tickets):
            step(world.side, [])

    ways: list[Callable[[], None]] = [lambda: workers._die_untidily(world.side), die_inside]
    ways += [lambda point=point: die_at(point) for point in ("split:span", "alloc:committed", "free:claimed")]
    _native.kill_at(label, nth)
    while True:
        for way in ways:
            wait_for(forked(way))
            ForkingPickler.loads(bytes(ForkingPickler.dumps(mine)))
            nds.stats(world.side)
            nds.reclaim(arena=world.side)
            yield "went"


def _after_a_death_in_a_cache(world: World, label: str, nth: int) -> Iterator[str]:
    for key in range(40):
        world.side_cache.fetch(key, cache_workers.content)
    with nds.Arena("8 MiB") as fresh:
        _native.kill_at(label, nth)
        while True:
            wait_for(forked(lambda: (_native.kill_at("cache:freed", 1), cache_workers.tour(world.side_cache, fresh))))
            cache_workers.tour(world.side_cache, fresh)
            yield "went"


def _by_a_path(world: World, label: str, nth: int) -> Iterator[str]:
    """Mend an arena with a path that somebody died in."""
    path = world.folder / "a.nds"

    def die() -> None:
        arena = nds.Arena("8 MiB", path=path)
        if "x" not in arena.names():
            arena.publish("x", nds.full(1000, 7, np.uint8, arena=arena))
        _native.kill_at("split:reserved", 1)
        nds.zeros(100_000, np.uint8, arena=arena)

    _native.kill_at(label, nth)
    while True:
        wait_for(forked(die))
        nds.Arena("8 MiB", path=path).close()
        yield "went"


def _in_the_registry(world: World, label: str, nth: int) -> Iterator[str]:
    if is_made := label == "directory:made":
        fresh = world.folder / f"run of {os.getpid()}"
        fresh.mkdir(0o700)
        os.environ["XDG_RUNTIME_DIR"] = str(fresh)
    x = nds.array([1], arena=world.side)
    _native.kill_at(label, 1 if is_made else nth)
    while True:
        nds.publish("x", x, replace=True)
        nds.unpublish("x")
        yield "went"


def _to_other_users(world: World, label: str, nth: int) -> Iterator[str]:
    arena = nds.Arena("8 MiB", mode=0o640)
    _native.kill_at(label, 1 if label == "offer:folder" else nth)
    while True:
        nds.publish("y", nds.ones(3, arena=arena), mode=0o640)
        nds.unpublish("y")
        yield "went"


# By what a label begins with, the first that fits; the rest lies in the arena.
LEADS: tuple[tuple[tuple[str, ...], Lead], ...] = (
    (("cache:ended", "cache:forgotten", "cache:requeued"), _after_a_death_in_a_cache),
    (("ring:", "cache:", "overlay:", "canvas:", "block-lock:", "renew:", "adopt:", "take:", "remove:children"), _among),
    (("leave:",), _leaving),
    (("make:", "join:", "root:", "name:", "grow:"), _beside),
    (("lock:marked",), _waiting),
    (("fork:",), _forking),
    (("sweep:",), _after_a_death),
    (("mend:",), _by_a_path),
    (("directory:",), _in_the_registry),
    (("offer:",), _to_other_users),
    (("",), _in_the_arena),
)
# Those that die with the crew around them, in its arena; for the others a process of its own is started.
WITH_THE_CREW = (_among, _in_the_arena, _waiting)


def is_of_the_crew(label: str) -> bool:
    """Say whether one of the crew can go there."""
    return next(lead for prefixes, lead in LEADS if label.startswith(prefixes)) in WITH_THE_CREW
