"""Histories: what processes did with rings, caches and locks while some were killed, checked for the promised order.

Six processes work on three rings (one of each policy), a cache with less room than values, and a lock with a number
under it. Each writes down what it is about to do, when, and what came of it, by one `write` before and one after: so
what a killed one had begun is known. Some are killed at a random instant, some at a labelled kill point; each is
replaced. After some seconds, a *voyage*, all end in order, and `history.py` looks whether any order of instants
explains what was written down.

`make histories` does that for long; `python tests/histories.py --seconds 5` prints the same figures sooner. What the
random numbers say depends on the seed alone; what the scheduler does with it does not.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import history
import ndshare as nds
from campaign import FORK, host, keep, places
from campaign_workers import HANG
from helpers import stack_of
from ndshare import _native

CREW = 6
VOYAGE_S = 5.0
KEYS = 24
VALUE = 512  # items of 8 bytes
CACHE = "64 KiB"  # room for more values than the crew can look at or load at once, and for fewer than there are keys
RINGS = {
    "wait": history.RingKind(8, "wait", 4),
    "drop_oldest": history.RingKind(6, "drop_oldest", 2),
    "drop_newest": history.RingKind(6, "drop_newest", 0),
}
GROUPS = ("g", "h")
# What lies on the way of what the crew does.
LABELS = tuple(
    label
    for label in _native.KILL_POINTS
    if label.startswith(("ring:", "cache:", "block-lock:", "renew:", "adopt:", "take:", "quick:", "drop:", "warm:"))
)
PERISH = 0.003  # of the times that one is inside of a lock, of a load or of a frame
MOST_TOLD = 20


class Log:
    """A file to which a process writes what it does, in a way that outlives it."""

    def __init__(self, folder: Path, process: int) -> None:
        self.process, self.numbers = process, itertools.count()
        self.file = os.open(folder / str(process), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def begin(self, kind: str, on: str, *said: Any) -> int:
        number = next(self.numbers)
        self._write("b", number, kind, on, *said)
        return number

    def end(self, number: int, *found: Any) -> None:
        self._write("e", number, *found)

    def _write(self, what: str, number: int, *rest: Any) -> None:
        # The time is taken before the operation begins, and after it has ended.
        os.write(self.file, (json.dumps([what, number, time.monotonic_ns(), *rest]) + "\n").encode())


class World:
    """What the processes of one voyage share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.arena = nds.Arena("32 MiB")
        make: Any = nds.Ring  # any text for `when_full`
        self.rings: dict[str, Any] = {
            name: make(slots=kind.slots, dtype=np.uint64, when_full=kind.when_full, keep=kind.keep, arena=self.arena)
            for name, kind in RINGS.items()
        }
        self.cache = nds.Cache(CACHE, arena=self.arena)
        self.number = nds.zeros(1, np.int64, arena=self.arena)
        # Groups begin with the first frame.
        for ring, group in itertools.product(self.rings.values(), GROUPS):
            ring.reader(group=group).close()
        words = np.frombuffer(mmap.mmap(-1, 1 << 16), np.int64)  # ordinary shared memory
        self.is_over, self.has_closed = words[:1], words[1:]  # the second by process


class Member:
    """A reader of one of the crew, and the frame that it has in hand."""

    def __init__(self, reader: Any, name: str) -> None:
        self.reader, self.name, self.frame, self.is_closed = reader, name, None, False

    def is_unchanged(self) -> bool:
        return self.frame is None or is_whole(self.frame)


def is_whole(x: Any) -> bool:
    """Say whether an array is, from end to end, what `content` makes."""
    return bool((x == x[0] + np.arange(x.size, dtype=np.uint64)).all())


def content(number: int, size: int) -> Any:
    return np.uint64(number) + np.arange(size, dtype=np.uint64)


class Hand:
    """One of the crew: operation after operation, each written down."""

    def __init__(self, world: World, process: int, seed: int) -> None:
        self.world, self.log, self.rng = world, Log(world.folder, process), random.Random(seed)
        self.writers = {name: ring.writer() for name, ring in world.rings.items()}
        self.members: list[Member] = []
        self.ring_of: dict[str, str] = {}
        self.contents = itertools.count(process << 32, 1000)  # frames and values have numbers of their own
        self.names = itertools.count()
        steps = ((6, self.put), (7, self.get), (1, self.make), (6, self.look_up), (2, self.lock))
        self.weights, self.steps = [weight for weight, _ in steps], [step for _, step in steps]

    def work(self, label: str | None, nth: int) -> None:
        """Work until the voyage is over, and come home."""
        countdown = self.rng.randrange(5, 200)
        while not self.world.is_over[0]:
            countdown -= 1
            if countdown == 0 and label is not None:
                self.log.begin("arm", label)
                _native.kill_at(label, nth)
            self.rng.choices(self.steps, self.weights)[0]()
            time.sleep(0.001 * self.rng.random())  # no condition: two processors are to be enough for six
        self.come_home()

    def perish(self) -> None:
        """Die here, now and then: where others wait for this process, and where a random instant is too seldom."""
        if self.log.process and not self.world.is_over[0] and self.rng.random() < PERISH:
            self.log.begin("perish", "itself")
            os.kill(os.getpid(), signal.SIGKILL)

    def come_home(self) -> None:
        """Close everything in order, and read all streams to their end."""
        for writer in self.writers.values():
            writer.close()
        self.world.has_closed[self.log.process] = 1
        self.drain()

    def drain(self) -> None:
        """Get what is left of all streams, from each reader in turn: one may wait for what another has in hand."""
        end = time.monotonic() + HANG
        while left := [member for member in self.members if not member.is_closed]:
            for member in left:
                self.get_one(member, 0.005)
            if time.monotonic() > end:
                rings = {self.ring_of[member.name] for member in left}
                stats = {name: self.world.rings[name].stats() for name in rings}
                raise AssertionError(f"a stream does not end: {stats}")

    def close(self) -> None:
        os.close(self.log.file)
        self.members.clear()
        self.writers.clear()

    # ---- rings

    def put(self) -> None:
        self.put_into(self.rng.choice(list(RINGS)))

    def put_into(self, name: str) -> None:
        x = content(next(self.contents), 1 << self.rng.randrange(1, 9))
        dice, writer = self.rng.random(), self.writers[name]
        number = self.log.begin("put", name, int(x[0]))
        try:
            if dice < 0.2:
                seq = writer.put(nds.array(x, arena=self.world.arena), timeout=0.02)
            elif dice < 0.7:
                seq = writer.put(x, timeout=0.02)
            else:
                with writer.write(x.size, timeout=0.02) as frame:
                    frame[:] = x
                    self.perish()
                    if dice > 0.97:
                        raise InterruptedError
                seq = frame.seq
        except nds.Full:
            self.log.end(number, "full")
        except InterruptedError:
            self.log.end(number, "thrown")
        else:
            self.log.end(number, *(("dropped",) if seq is None else ("seq", seq)))

    def make(self) -> None:
        """Make a reader, or leave with one."""
        if len(self.members) > 3 or (self.members and self.rng.random() < 0.4):
            self.leave(self.members.pop(self.rng.randrange(len(self.members))))
            return
        ring = self.rng.choice(list(RINGS))
        mode = self.rng.choice(("every", "latest", "group", "group"))
        group = self.rng.choice(GROUPS) if mode == "group" else None
        self.join(ring, mode, group, self.rng.choice(("next", "oldest")))

    def join(self, ring: str, mode: str, group: str | None, start: Any) -> None:
        name = f"{self.log.process}.{next(self.names)}"
        number = self.log.begin("make", name, ring, mode, group, start)
        reader = self.world.rings[ring].reader(latest=mode == "latest", group=group, start=start)
        self.log.end(number, "made")
        self.members.append(Member(reader, name))
        self.ring_of[name] = ring

    def leave(self, member: Member) -> None:
        """Close a reader, with its last frame in hand or done."""
        if is_dropped := self.rng.random() < 0.5:
            member.frame = None
        number = self.log.begin("leave", member.name, "dropped" if is_dropped else "in hand")
        member.reader.close()
        self.log.end(number, "left")

    def get(self) -> None:
        for member in self.members:
            for _ in range(self.rng.choice((0, 1, 4))):
                if not self.get_one(member, self.rng.choice((0, 0, 0.002))):
                    break

    def get_one(self, member: Member, timeout: float) -> bool:
        """Get a frame, and say whether there was one."""
        reader = member.reader
        number = self.log.begin("get", member.name, member.is_unchanged())
        try:
            frame = reader.get(timeout=timeout)
        except nds.Empty:
            self.log.end(number, "empty")
        except nds.WriterDied:
            self.log.end(number, "died")
        except nds.Closed:
            self.log.end(number, "closed", reader.missed)
            member.is_closed = True
        else:
            self.log.end(number, "frame", frame.seq, int(frame[0]), is_whole(frame))
            member.frame = frame
            return True
        member.frame = None
        return False

    # ---- the cache

    def look_up(self) -> None:
        key = min(self.rng.randrange(KEYS), self.rng.randrange(KEYS), self.rng.randrange(KEYS))
        dice = self.rng.random()
        if dice < 0.35:
            self.look(key)
        elif dice < 0.80:
            self.fetch(key)
        elif dice < 0.92:
            self.store(key)
        elif dice < 0.995:
            self.delete(key)
        else:
            number = self.log.begin("clear", "all")
            self.world.cache.clear()
            self.log.end(number, "cleared")

    def look(self, key: int) -> None:
        number = self.log.begin("look", str(key))
        value = self.world.cache.get(key)
        self.log.end(number, *(("miss",) if value is None else ("hit", int(value[0]), is_whole(value))))

    def fetch(self, key: int) -> None:
        name, dice = f"{self.log.process}.{next(self.names)}", self.rng.random()
        number = self.log.begin("fetch", str(key), name)

        def load(_: Any) -> Any:
            mine = next(self.contents)
            loading = self.log.begin("load", str(key), mine, name)
            time.sleep(0.002 * dice)  # no condition: others are to come meanwhile
            self.perish()
            if dice < 0.1:
                self.log.end(loading, "raised")
                raise ZeroDivisionError("by intent")
            value = content(mine, VALUE)
            self.log.end(loading, "loaded")
            return value

        try:
            value = self.world.cache.fetch(key, load, timeout=HANG)
        except nds.LoadError as error:
            self.log.end(number, "failed", error.pid)
        except ZeroDivisionError:
            self.log.end(number, "raised")
        else:
            self.log.end(number, "hit", int(value[0]), is_whole(value))

    def store(self, key: int) -> None:
        mine = next(self.contents)
        number = self.log.begin("store", str(key), mine)
        self.world.cache[key] = content(mine, VALUE)
        self.log.end(number, "stored")

    def delete(self, key: int) -> None:
        number = self.log.begin("delete", str(key))
        try:
            del self.world.cache[key]
        except KeyError:
            self.log.end(number, "absent")
        else:
            self.log.end(number, "deleted")

    # ---- the lock

    def lock(self) -> None:
        if not self.enter(False):
            self.enter(True)

    def enter(self, recovers: bool) -> bool:
        """Add one under the lock; say whether that is done."""
        name, number = f"{self.log.process}.{next(self.names)}", self.world.number
        entering, leaving = self.log.begin("enter", "number", name, recovers), -1
        try:
            with nds.locked(number, timeout=HANG, recover=recovers):
                self.log.end(entering, "in", int(number[0]))
                time.sleep(0.0005 * self.rng.random())  # no condition: others are to come meanwhile
                self.perish()
                number[0] += 1
                leaving = self.log.begin("leave lock", "number", name)
        except nds.OwnerDied:
            self.log.end(entering, "told")
            return False
        self.log.end(leaving, "out")
        return True


def work(world: World, process: int, seed: int, label: str | None, nth: int) -> None:
    """Be one of the crew."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(VOYAGE_S + 3 * HANG))
    try:
        try:
            hand = Hand(world, process, seed)
        except nds.Closed:
            assert world.is_over[0], "a ring is closed"
            return
        hand.work(label, nth)
    except BaseException as error:
        os.write(2, f"one of the crew, process {process}: {error!r}\n".encode())
        raise


class Report:
    """What is counted."""

    def __init__(self, seed: int, form: str) -> None:
        self.seed, self.form, self.begun = seed, form, time.monotonic()
        self.voyages = self.processes = self.random_kills = self.inner_kills = self.pending = self.failed = 0
        self.operations: Counter[str] = Counter()
        self.results: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.violations: Counter[str] = Counter()
        self.told: list[str] = []
        self.facts: Counter[str] = Counter()
        self.evictions = 0
        self.check_s = 0.0

    def tell(self, what: str) -> None:
        if len(self.told) < MOST_TOLD:
            line = f"voyage {self.voyages}, seed {self.seed}: {what}"
            self.told.append(line)
            sys.stderr.write(line + "\n")

    def kills(self) -> int:
        return self.random_kills + self.inner_kills + self.labels.total()

    def is_bad(self) -> bool:
        return bool(self.violations or self.failed)

    def add(self, past: history.History) -> bool:
        """Count the operations of a voyage, and check them; say whether they violate a rule."""
        for op in past.ops:
            self.operations[op.kind] += 1
            self.pending += op.found is None
            if op.found is not None:
                self.results[f"{op.kind} {op.found[0]}"] += 1
        self.facts += history.facts(past)
        start = time.monotonic()
        found = history.check(past)
        for rule, texts in found.items():
            self.violations[rule] += len(texts)
            self.tell(f"{rule}: {texts[0]}, and {len(texts) - 1} more")
        self.check_s += time.monotonic() - start
        return bool(found)

    def value(self) -> dict[str, Any]:
        """Return all figures."""
        return {
            "form": self.form,
            "date": time.strftime("%Y-%m-%d"),
            "host": host(),
            "seed": self.seed,
            "seconds": round(time.monotonic() - self.begun, 1),
            "check_seconds": round(self.check_s, 1),
            "voyages": self.voyages,
            "processes": self.processes,
            "kills": {
                "random": self.random_kills, "inside": self.inner_kills, "labelled": self.labels.total(),
                "labels": len(self.labels), "of": len(LABELS),
            },
            "operations": self.operations.total(),
            "by_kind": dict(self.operations),
            "results": dict(sorted(self.results.items())),
            "pending": self.pending,
            "facts": dict(self.facts),
            "evictions": self.evictions,
            "rules": len(history.RULES),
            "violations": dict(self.violations),
            "failed": self.failed,
            "told": self.told,
        }  # fmt: skip


class Voyage:
    """Some seconds of six processes, of which one after another dies."""

    def __init__(self, report: Report, rng: random.Random, labels: Iterator[str], kept: Path) -> None:
        self.report, self.rng, self.labels, self.kept = report, rng, labels, kept
        self.numbers = itertools.count(1)
        self.crew: dict[int, Any] = {}
        self.dead: set[int] = set()
        self.killed: dict[int, int] = {}  # when
        self.pids: dict[int, int] = {}

    def run(self, seconds: float) -> None:
        """Let them work and die, and check what they wrote down; it is kept if it violates a rule."""
        self.report.voyages += 1
        with places() as folder, logs() as written:
            del folder
            self.world = World(written)
            # The streams go on until this process closes its writers, which are its own since it has used them.
            self.first = Hand(self.world, 0, self.rng.getrandbits(32))
            for name in RINGS:
                self.first.put_into(name)
            try:
                for _ in range(CREW):
                    self.recruit()
                end = time.monotonic() + seconds
                while time.monotonic() < end and not self.report.failed:
                    time.sleep(self.rng.uniform(0.02, 0.12))
                    self.bury()
                    if self.rng.random() < 0.5:
                        self.kill(self.rng.choice(list(self.crew)))
                self.come_home()
            finally:
                for process in self.crew.values():
                    process.kill()
                    process.join(HANG)
            self.report.evictions += self.world.cache.info()["evictions"]
            del self.world
            if self.report.add(self.read(written)):
                shutil.copytree(written, self.kept / f"{self.report.seed}-{self.report.voyages}", dirs_exist_ok=True)

    def recruit(self) -> None:
        number = next(self.numbers)
        label = next(self.labels, None) if self.rng.random() < 0.6 else None
        args = (self.world, number, self.rng.getrandbits(32), label, self.rng.choice((1, 1, 2, 5)))
        process: Any = FORK.Process(target=work, args=args, daemon=True)
        process.start()
        self.crew[number], self.pids[number] = process, process.pid
        self.report.processes += 1

    def kill(self, number: int) -> None:
        """Kill one at this instant, and replace it."""
        if self.crew[number].is_alive():
            self.killed[number] = time.monotonic_ns()
            self.crew[number].kill()
            self.crew[number].join(HANG)
        self.end(number)
        self.recruit()

    def bury(self) -> None:
        """Replace those that died at a kill point, or by their own hand."""
        for number in [number for number, process in self.crew.items() if not process.is_alive()]:
            self.end(number)
            self.recruit()

    def end(self, number: int) -> None:
        """Note how one has ended."""
        process = self.crew.pop(number)
        if process.exitcode == -signal.SIGKILL:
            self.dead.add(number)
        elif process.exitcode != 0 or not self.world.is_over[0]:
            self.fail(number, process.exitcode)
        process.close()

    def fail(self, number: int, code: int | None) -> None:
        self.report.failed += 1
        self.report.tell(f"process {number} ended with status {code}")

    def come_home(self) -> None:
        """End in order: no more puts, all read to the end, and at last this process reads what is left of groups."""
        world = self.world
        world.is_over[0] = 1
        # A stream whose last writer dies has no end, so this process has the last ones.
        end = time.monotonic() + HANG
        while time.monotonic() < end and any(
            one.is_alive() and not world.has_closed[number] for number, one in self.crew.items()
        ):
            time.sleep(0.001)
        for writer in self.first.writers.values():
            writer.close()
        for number, process in list(self.crew.items()):
            process.join(max(0.0, end - time.monotonic()))
            if process.is_alive():
                self.report.tell(f"process {number} does not come to an end:\n{stack_of(process.pid)}")
                process.kill()
                process.join(HANG)
            self.end(number)
        last = self.first
        for ring, group in itertools.product(RINGS, GROUPS):
            last.join(ring, "group", group, "next")
        last.come_home()
        for name, ring in world.rings.items():
            number = last.log.begin("books", name)
            stats = ring.stats()
            last.log.end(number, stats["written"], stats["dropped"])
        last.close()

    def read(self, folder: Path) -> history.History:
        """Read what all wrote down, and of what the dead died."""
        ops: list[history.Op] = []
        deaths: dict[int, int] = {}
        for path in folder.iterdir():
            number = int(path.name)
            mine, last = history.read(number, path.read_text())
            ops += [op for op in mine if op.kind not in {"arm", "perish"}]
            if number in self.dead:
                deaths[number] = self.why(number, {op.kind: op.on for op in mine}, last)
        return history.History(ops, deaths, RINGS, self.pids)

    def why(self, number: int, notes: dict[str, str], last: int) -> int:
        """Count a death, and return when it was at the earliest."""
        if "perish" in notes:
            self.report.inner_kills += 1
        elif number in self.killed:
            self.report.random_kills += 1
            # One that was on its way to a kill point may have come to it just before.
            return last if "arm" in notes else max(last, self.killed[number])
        elif "arm" in notes:
            self.report.labels[notes["arm"]] += 1
        else:
            self.fail(number, -signal.SIGKILL)
        return last


@contextlib.contextmanager
def logs() -> Iterator[Path]:
    """Have a folder for what is written down."""
    folder = Path(tempfile.mkdtemp(prefix="ndshare-tests-histories-", dir="/dev/shm"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(*, seconds: float, seed: int, form: str, kept: Path, least: int = 0) -> Report:
    """Make one voyage after another for so long, and until so many were killed; keep below `kept` what is wrong."""
    report, rng = Report(seed, form), random.Random(seed)
    end = time.monotonic() + seconds
    labels = list(LABELS)
    rng.shuffle(labels)
    turns = itertools.cycle(labels)
    while ((left := end - time.monotonic()) > 0 or report.kills() < least) and not report.failed:
        Voyage(report, rng, turns, kept).run(min(VOYAGE_S, max(left, 1.0)))
    return report


def show(value: dict[str, Any]) -> str:
    """Return the figures as lines."""
    kinds, kills, results, facts = value["by_kind"], value["kills"], value["results"], Counter[str](value["facts"])
    frames = results.get("put seq", 0)
    return "\n".join(
        (
            f"histories, {value['form']} form, seed {value['seed']}, {value['date']}, {value['host']['cpu']}",
            f"processes   {value['processes']} in {value['voyages']} voyages, {value['seconds']} s",
            f"kills       {kills['random']} at random, {kills['inside']} inside of a lock, a load or a frame, "
            f"{kills['labelled']} at {kills['labels']} of {kills['of']} labels",
            f"operations  {value['operations']}, {value['pending']} of them cut off by a kill",
            f"puts        {kinds.get('put', 0)}, {frames} published, {results.get('put dropped', 0)} dropped",
            f"gets        {kinds.get('get', 0)} of {kinds.get('make', 0)} readers, "
            f"{results.get('get frame', 0)} frames; {facts['skipped']} skipped, "
            f"{facts['handed over']} handed over by members of groups",
            f"cache       {kinds.get('look', 0) + kinds.get('fetch', 0)} looks, {kinds.get('load', 0)} loads, "
            f"{kinds.get('store', 0)} stores, {kinds.get('delete', 0)} deletions, {value['evictions']} evictions",
            f"lock        {results.get('enter in', 0)} times inside, {results.get('enter told', 0)} told of a death",
            f"violations  {sum(value['violations'].values())} of {value['rules']} rules; "
            f"processes that failed: {value['failed']}",
        )
    )


def main() -> int:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("target/histories.json"))
    wanted = parser.parse_args()
    form = "quick" if wanted.seconds < 30 else "long"
    report = run(seconds=wanted.seconds, seed=wanted.seed, form=form, kept=wanted.out.with_suffix(""))
    value = report.value()
    keep(value, wanted.out)
    print(show(value))
    return 1 if report.is_bad() else 0


if __name__ == "__main__":
    sys.exit(main())
