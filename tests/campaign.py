"""The crash campaign: eight processes do everything at once, and one after another dies, as long as one likes.

Each round one process dies: at a labelled kill point, one label after another, or by SIGKILL at a random instant. It
is replaced, and the others go on. Beside that processes are stopped and go on (SIGSTOP, SIGCONT), fork, exec, and
have no descriptor left. After each round `ndshare check` looks at the arenas, and this process does at once what a
program would do next; how long that took is the recovery. Everybody checks whatever it finds.

After so many rounds (`VOYAGE`) all give up what they have, and not a byte of an arena and no file may be left; then
all begins anew in new arenas. What the random numbers say depends on the seed alone; what the scheduler does with it
does not.

`make campaign` runs 100,000 rounds; `python tests/campaign.py --quick` some seconds of it. Both print the same
figures and write them as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import json
import multiprocessing as mp
import os
import platform
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np

import cache_workers
import campaign_workers as crew
import ndshare as nds
from campaign_workers import CREW, HANG, STRUCK_IN_CHILD, World, sail, strike
from helpers import held, stack_of, wait_until
from ndshare import _native

FORK = mp.get_context("fork")
LABELS: tuple[str, ...] = tuple(_native.KILL_POINTS)
VOYAGE = 400  # rounds in one pair of arenas
CALM_EVERY = 40  # rounds
WRONG_ENOUGH = 20  # failures after which it is no use to go on


class Hand:
    """One of the crew, and the pipe to it."""

    def __init__(self, world: World, place: int, seed: int) -> None:
        self.place = place
        self.conn, theirs = mp.Pipe()
        self.process: Any = FORK.Process(target=sail, args=(world, theirs, place, seed, 3600), daemon=True)
        self.process.start()
        theirs.close()

    def kill(self) -> int:
        """Kill it if it lives, and return how it ended."""
        self.process.kill()
        self.process.join(HANG)
        code = int(self.process.exitcode)
        self.process.close()
        self.conn.close()
        return code


class Report:
    """What is counted."""

    def __init__(self, seed: int, form: str) -> None:
        self.seed, self.form, self.begun = seed, form, time.monotonic()
        self.worlds = 1
        self.rounds = self.random_deaths = self.corrupted = self.findings = self.hung = self.bytes_lost = 0
        self.stops = self.voyages = 0
        self.deaths: Counter[str] = Counter()
        self.survived: Counter[str] = Counter()  # rounds in which nobody came to the label
        self.files_left: list[str] = []
        self.recovery: list[float] = []
        self.slowest = "none"
        self.told: list[str] = []
        self.counts = np.zeros(64, np.int64)
        self.histogram = np.zeros(100, np.int64)
        self.sleeps, self.longest_delay = 0, 0

    def tell(self, what: str) -> None:
        """Keep and say what went wrong, with all that is needed to see it again."""
        line = f"round {self.rounds}, seed {self.seed}: {what}"
        self.told.append(line)
        sys.stderr.write(line + "\n")

    def add(self, notes: crew.Notes) -> None:
        """Take over what the processes of a voyage counted."""
        self.counts += notes.counts.sum(axis=0)
        self.counts[crew.LONGEST] = max(self.counts[crew.LONGEST], notes.counts[:, crew.LONGEST].max())
        self.hung += int(notes.counts[:, crew.HUNG].sum())
        self.histogram += notes.histogram
        self.sleeps += int(notes.delays[0])
        self.longest_delay = max(self.longest_delay, int(notes.delays[1]))

    def take_over(self, other: Report) -> None:
        """Add what was counted in another world."""
        for name in ("worlds", "rounds", "random_deaths", "corrupted", "findings", "hung", "bytes_lost", "stops"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("voyages", "deaths", "survived", "files_left", "told", "histogram", "sleeps"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if max(other.recovery, default=0) > max(self.recovery, default=0):
            self.slowest = other.slowest
        self.recovery += other.recovery
        longest = max(self.counts[crew.LONGEST], other.counts[crew.LONGEST])
        self.counts += other.counts
        self.counts[crew.LONGEST] = longest
        self.longest_delay = max(self.longest_delay, other.longest_delay)

    def is_wrong(self) -> bool:
        """Return whether something is wrong, however slow the machine is."""
        return bool(self.corrupted or self.findings or self.bytes_lost or self.files_left)

    def is_bad(self) -> bool:
        return self.is_wrong() or self.hung > 0

    def value(self) -> dict[str, Any]:
        """Return all figures."""
        hits = [self.deaths[label] for label in LABELS]
        ms = [1000 * seconds for seconds in self.recovery]
        return {
            "form": self.form,
            "date": time.strftime("%Y-%m-%d"),
            "host": host(),
            "seed": self.seed,
            "worlds": self.worlds,
            "seconds": round(time.monotonic() - self.begun, 1),
            "rounds": self.rounds,
            "deaths": {
                "labelled": sum(hits), "random": self.random_deaths, "labels": len(LABELS), "min": min(hits),
                "median": statistics.median(hits), "survived": sum(self.survived.values()), "per_label": self.deaths,
            },
            "corrupted": self.corrupted,
            "findings": self.findings,
            "hung": self.hung,
            "bytes_lost": self.bytes_lost,
            "files_left": len(self.files_left),
            "recovery_ms": {
                "p50": percentile(ms, 50), "p99": percentile(ms, 99), "max": percentile(ms, 100), "measured": len(ms),
                "slowest": self.slowest,
            },
            "steps": int(self.counts[crew.STEPS]),
            "stops": self.stops,
            "forks": int(self.counts[crew.FORKS]),
            "execs": int(self.counts[crew.EXECS]),
            "scheduler_ms": {
                "p99": int(np.searchsorted(np.cumsum(self.histogram), 0.99 * self.sleeps)),
                "max": round(self.longest_delay / 1e6, 1),
            },
            "told": self.told,
        }  # fmt: skip


def percentile(values: list[float], which: float) -> float | None:
    return round(float(np.percentile(values, which)), 2) if values else None


def host() -> dict[str, Any]:
    """Say on what machine this runs."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {"cpu": names[0] if names else platform.machine(), "cpus": os.cpu_count(), "kernel": platform.release()}


class Campaign:
    """A world, the crew in it, and the rounds."""

    def __init__(self, seed: int, form: str, longest_stop_s: float) -> None:
        self.rng = random.Random(seed)
        self.report, self.longest_stop_s = Report(seed, form), longest_stop_s
        self.labels = itertools.cycle(LABELS)
        self.stopped_until = 0.0

    @contextlib.contextmanager
    def voyage(self) -> Iterator[None]:
        """Have a world and a crew for some rounds; everything is given back at the end."""
        with places() as folder:
            notes, (orders, self.orders) = crew.Notes(), os.pipe()
            self.bystander: Any = FORK.Process(target=crew.stand_by, args=(notes, orders), daemon=True)
            self.bystander.start()  # before there are arenas, so that it takes no part in them
            self.world = World(folder, notes)
            self.hands = [self.recruit(place) for place in range(CREW)]
            self.base = [held(self.world.arena), held(self.world.side)]
            try:
                yield
                self.come_home(folder)
            finally:
                for one in self.hands:
                    one.kill()
                self.bystander.kill()
                self.bystander.join(HANG)
                self.report.add(notes)
                for end in (orders, self.orders, *self.world.letters):
                    os.close(end)
                del self.world
        self.report.voyages += 1

    def recruit(self, place: int) -> Hand:
        return Hand(self.world, place, self.rng.getrandbits(32))

    # ---- one round

    def round(self) -> None:
        """Let one process die, and see what the others make of it."""
        self.report.rounds += 1
        if self.rng.random() < 0.05:
            self.stop_one()
        place = self.rng.randrange(CREW)
        if self.rng.random() < 0.2:
            self.kill_one(place)
            name = "at random"
        else:
            name = next(self.labels)
            nth = self.rng.choice((1, 1, 2, 3, 7))
            is_struck = self.strike_one(place, name, nth) if crew.is_of_the_crew(name) else self.strike_apart(name, nth)
            (self.report.deaths if is_struck else self.report.survived)[name] += 1
        self.world.inside[:, CREW] = 0  # whoever died at a label; its number may soon be somebody else's
        self.go_on(name)
        self.look(name)
        self.replace_the_failed()

    def stop_one(self) -> None:
        """Stop one of the crew; the bystander lets it go on after a while."""
        self.report.stops += 1
        length_s = 10 ** self.rng.uniform(-2, np.log10(self.longest_stop_s))
        pid = self.rng.choice(self.hands).process.pid
        self.stopped_until = time.monotonic() + length_s
        # Here and not there: as long as nobody has asked for its end, its number is nobody else's.
        os.kill(pid, signal.SIGSTOP)
        os.write(self.orders, np.array([pid, int(length_s * 1e9)], np.int64).tobytes())

    def kill_one(self, place: int) -> None:
        time.sleep(0.01 * self.rng.random())
        self.bury(place)
        self.report.random_deaths += 1

    def strike_one(self, place: int, label: str, nth: int) -> bool:
        """Let one of the crew die at a label; say whether it did."""
        one = self.hands[place]
        with contextlib.suppress(OSError):
            one.conn.send(("strike", label, nth))
        return self.await_death(one.process, one.conn, label) and self.bury(place)

    def strike_apart(self, label: str, nth: int) -> bool:
        """Let a process of its own die at a label."""
        process: Any = FORK.Process(target=strike, args=(self.world, label, nth), daemon=True)
        process.start()
        self.await_death(process, None, label)
        process.kill()
        process.join(HANG)
        code = process.exitcode
        process.close()
        if code not in (0, -signal.SIGKILL, STRUCK_IN_CHILD):
            self.fail(f"the process that was to die at {label} ended with status {code}")
        return code in (-signal.SIGKILL, STRUCK_IN_CHILD)

    def await_death(self, process: Any, conn: Connection | None, label: str) -> bool:
        """Wait until it is dead, or says that it has survived."""
        ends = [process.sentinel, *([conn] if conn else [])]
        # Twice: should all have been stopped meanwhile, this process and the other, the first wait is over at once.
        ready = wait(ends, HANG) or wait(ends, HANG)
        if not ready:
            self.report.hung += 1
            self.fail(f"process {process.pid}, which was to die at {label}, hangs:\n{stack_of(process.pid)}")
        if process.sentinel in ready or conn is None:
            return process.sentinel in ready
        with contextlib.suppress(EOFError, OSError):
            conn.recv()  # that it survived
        return not process.is_alive()

    def bury(self, place: int) -> bool:
        """End one of the crew, replace it, and say whether it was killed, by whomever."""
        pid = self.hands[place].process.pid
        code = self.hands[place].kill()
        if code not in (-signal.SIGKILL, STRUCK_IN_CHILD):
            last = int(self.world.notes.counts[place, crew.LAST])
            self.fail(
                f"one of the crew, process {pid} at place {place}, ended with status {code}; its last step: {last}"
            )
        self.hands[place] = self.recruit(place)
        return code in (-signal.SIGKILL, STRUCK_IN_CHILD)

    def fail(self, what: str) -> None:
        self.report.corrupted += 1
        self.report.tell(what)

    def replace_the_failed(self) -> None:
        for place, one in enumerate(self.hands):
            if not one.process.is_alive():
                self.bury(place)

    # ---- what the survivors find

    def go_on(self, name: str) -> None:
        """Do what a program would do next, and note how long that took, if nobody stands still."""
        stopped, start, times = self.world.notes.stopped, time.perf_counter(), dict[str, float]()
        is_measured = not stopped[0] and time.monotonic() > self.stopped_until
        try:
            for step in (self.allocate, self.lock, self.fetch, self.use, self.write):
                begun = time.perf_counter()
                step()
                times[step.__name__] = time.perf_counter() - begun
        except nds.ArenaFull:
            return
        except (nds.Error, AssertionError) as error:
            self.fail(f"after a death at {name}: {type(error).__name__}: {error}")
        took = time.perf_counter() - start
        if is_measured and not stopped[0]:
            if took > max(self.report.recovery, default=0):
                self.report.slowest = (
                    f"after a death at {name}, most of it to {max(times, key=lambda step: times[step])}"
                )
            self.report.recovery.append(took)

    def allocate(self) -> None:
        x = nds.full(20_000, 3, np.uint8, arena=self.world.arena)
        for kept in self.world.kept:
            crew.workers.check_stamp(kept)
        assert (x == 3).all(), "bytes changed"

    def lock(self) -> None:
        with nds.locked(self.world.pair, timeout=HANG, recover=True):
            self.world.pair[1] = self.world.pair[0]

    def fetch(self) -> None:
        value = self.world.cache.fetch(7, cache_workers.content, timeout=HANG)
        assert cache_workers.is_whole(7, value), "a torn value"

    def use(self) -> None:
        with self.world.overlay.use("ints", timeout=HANG):
            pass

    def write(self) -> None:
        with contextlib.suppress(nds.Full):
            self.world.writer.put(np.arange(5, dtype=np.uint64), timeout=0, stamp=0)

    def look(self, name: str) -> None:
        """Let `ndshare check` look at both arenas; now and then with everybody calm."""
        if self.report.rounds % CALM_EVERY == 0:
            self.calm()
        for arena in (self.world.arena, self.world.side):
            if found := self.findings(arena):
                self.report.findings += len(found)
                self.report.tell(f"after a death at {name} ndshare check finds {found}")

    @staticmethod
    def findings(arena: nds.Arena) -> list[str]:
        """Look into an arena whose last user may have died with its lock; its next use clears up."""
        nds.empty(70_000, np.uint8, arena=arena)
        try:
            return _native.findings(arena)
        except RuntimeError:
            nds.empty(70_000, np.uint8, arena=arena)
            return _native.findings(arena)

    def calm(self) -> None:
        """Let everybody give up what it has: only what is named is there, and only who lives."""
        if self.all_calm():
            self.settle()
        for one in self.hands:
            with contextlib.suppress(OSError):
                one.conn.send("go on")

    def all_calm(self) -> bool:
        for one in self.hands:
            with contextlib.suppress(OSError):
                one.conn.send("calm")
        # Each is heard, whatever the others say: an answer left in its pipe would be taken for that of the next time.
        are_calm = [self.is_calm(one) for one in self.hands]
        return all(are_calm)

    def is_calm(self, one: Hand) -> bool:
        if one.conn.poll(HANG) and self.heard(one) == "calm":
            return True
        if one.process.is_alive():
            self.report.hung += 1
            self.fail(f"one of the crew does not come to rest:\n{stack_of(one.process.pid)}")
        return False

    @staticmethod
    def heard(one: Hand) -> Any:
        try:
            return one.conn.recv()
        except (EOFError, OSError):
            return None

    def settle(self) -> None:
        """See that the places of the dead, the tickets and the blocks of arrays come back."""
        world = self.world
        with contextlib.suppress(nds.Error):
            while world.receive() is not None:
                pass
        world.cache.clear()
        world.side_cache.clear()
        world.other_cache.clear()
        alive = {os.getpid(), *(one.process.pid for one in self.hands)}

        def is_settled() -> bool:
            gc.collect()
            for arena in (world.arena, world.side):
                nds.reclaim(arena=arena)
            stats = nds.stats(world.arena)
            there = {one["pid"] for one in stats["participants"]}
            return there <= alive and not stats["tickets"] and not world.ring.stats()["readers"]

        if not wait_until(is_settled, HANG / 3):
            stats = nds.stats(world.arena)
            self.fail(
                f"the dead do not go: {stats['participants']}, {stats['tickets']}, {world.ring.stats()['readers']}"
            )
        # What a ring keeps are blocks of its frames; what the rest keeps does not grow.
        if held(world.side) > self.base[1]:
            self.report.bytes_lost += held(world.side) - self.base[1]
            self.report.tell(f"{held(world.side) - self.base[1]} bytes of the second arena are lost")

    def come_home(self, folder: Path) -> None:
        """End the voyage: the crew goes, everything goes, and nothing may be left."""
        for one in self.hands:
            if (code := one.kill()) != -signal.SIGKILL:
                self.fail(f"one of the crew ended with status {code}")
        self.hands.clear()
        self.settle()
        world = self.world
        for name in (
            "writer",
            "ring",
            "cache",
            "other_cache",
            "side_cache",
            "overlay",
            "inside",
            "pair",
            "canvas",
            "tiles",
            "kept",
        ):
            delattr(world, name)
        for arena in (world.arena, world.side):

            def is_empty(arena: nds.Arena = arena) -> bool:
                gc.collect()
                nds.reclaim(arena=arena)
                return held(arena) == 0

            if not wait_until(is_empty, HANG / 3):
                self.report.bytes_lost += held(arena)
                self.report.tell(f"{held(arena)} bytes of an arena are lost: {nds.stats(arena)}")
            arena.close()
        # What the dead have left in the registries goes with the next one who looks there.
        with nds.Arena("8 MiB", mode=0o640) as mine:
            nds.publish("z", nds.ones(1, arena=mine), mode=0o640)
            nds.unpublish("z")
            nds.names()
        left = [path for path in folder.rglob("*") if not path.is_dir() and path.name not in {"a.nds", "lock"}]
        if left:
            self.report.files_left += map(str, left)
            self.report.tell(f"files are left: {left}")


@contextlib.contextmanager
def places() -> Iterator[Path]:
    """Have a registry, a place for offers and one for files of one's own."""
    folder = Path(tempfile.mkdtemp(prefix="ndshare-tests-campaign-", dir="/dev/shm"))
    (folder / "run").mkdir(0o700)
    (folder / "offers").mkdir()
    (folder / "offers").chmod(0o1777)
    before = {name: os.environ.get(name) for name in ("XDG_RUNTIME_DIR", "NDSHARE_OFFERS")}
    os.environ.update(XDG_RUNTIME_DIR=str(folder / "run"), NDSHARE_OFFERS=str(folder / "offers"))
    try:
        yield folder
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)


def run(*, rounds: int, seconds: float, seed: int, form: str, longest_stop_s: float) -> Report:
    """Sail until so many rounds are over, or so much time; report what was seen."""
    campaign = Campaign(seed, form, longest_stop_s)
    report, end = campaign.report, time.monotonic() + seconds
    while report.rounds < rounds and time.monotonic() < end and report.corrupted < WRONG_ENOUGH:
        with campaign.voyage():
            for _ in range(min(VOYAGE, rounds - report.rounds)):
                campaign.round()
                if time.monotonic() > end or report.corrupted >= WRONG_ENOUGH:
                    break
    return report


def run_worlds(worlds: int, *, rounds: int, seed: int, **rest: Any) -> Report:
    """Run as many campaigns at a time, each in processes of its own with the next seed; report what all of them saw."""

    def sail_alone(report: Connection, seed: int) -> None:
        report.send(run(rounds=-(-rounds // worlds), seed=seed, **rest))

    reports = []
    for number in range(worlds):
        ours, theirs = mp.Pipe(duplex=False)
        # Not a daemon, for such a one has no children.
        process: Any = FORK.Process(target=sail_alone, args=(theirs, seed + number))
        process.start()
        theirs.close()
        reports.append(ours)
    total, *others = [report.recv() for report in reports]
    for other in others:
        total.take_over(other)
    return total


def show(value: dict[str, Any]) -> str:
    """Return the figures as lines."""
    deaths, recovery, delays = value["deaths"], value["recovery_ms"], value["scheduler_ms"]
    last = value["seed"] + value["worlds"] - 1
    seeds = f"seed {last}" if value["worlds"] == 1 else f"seeds {value['seed']} to {last} at a time"
    return "\n".join(
        (
            f"crash campaign, {value['form']} form, {seeds}, {value['date']}, {value['host']['cpu']}",
            f"rounds            {value['rounds']} in {value['seconds']} s, {value['steps']} steps of the crew",
            f"deaths            {deaths['labelled']} at {deaths['labels']} labels (min {deaths['min']}, median "
            f"{deaths['median']:g} each), {deaths['random']} at random; {deaths['survived']} rounds came to no label",
            f"beside            {value['stops']} stops, {value['forks']} forks, {value['execs']} execs",
            f"corrupted         {value['corrupted']}; findings of ndshare check: {value['findings']}",
            f"hung              {value['hung']}",
            f"bytes lost        {value['bytes_lost']}; files left: {value['files_left']}",
            f"recovery          p50 {recovery['p50']} ms, p99 {recovery['p99']} ms, max {recovery['max']} ms "
            f"({recovery['slowest']})",
            f"scheduler's delay p99 {delays['p99']} ms, max {delays['max']} ms",
        )
    )


def keep(value: dict[str, Any], out: Path) -> None:
    """Write what a run found into a file, in a folder that may have to be made."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(value, indent=1))


def main() -> int:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="as many rounds as go into some seconds")
    parser.add_argument("--rounds", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=None, help="end after so long, whatever the rounds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--worlds", type=int, default=1, help="so many campaigns at a time, with this seed and the next"
    )
    parser.add_argument("--out", type=Path, default=Path("target/campaign.json"))
    wanted = parser.parse_args()
    if not LABELS:
        parser.error("this build has no kill points; build with --features killpoints")
    seconds = wanted.seconds or (40 if wanted.quick else float("inf"))
    form, longest = ("quick", 0.2) if wanted.quick else ("long", 5.0)
    report = run_worlds(
        wanted.worlds,
        rounds=wanted.rounds,
        seconds=seconds,
        seed=wanted.seed,
        form=form,
        longest_stop_s=longest,
    )
    value = report.value()
    keep(value, wanted.out)
    print(show(value))
    return 1 if report.is_bad() else 0


if __name__ == "__main__":
    sys.exit(main())
