"""How to measure fairly: contestants take turns, medians are reported, and results are checked.

A benchmark is a generator function under `@bench`. It prepares, yields its contestants, and cleans up. A contestant
is a function that does the work once and returns the seconds of the timed part for one operation; it checks what
it timed, outside the clock. The first contestant is ours, the second the peer that the target speaks of, and the
others are there for context. A bench of a `series` is one point of a plot, at its `x`; the contestant that is its
`limit` is drawn as one. With `best` the peer is the best one of those whose labels do not end with `context`:
these do less work than ours. Contestants that are `alone`, each in a process of its own, warm up by themselves.
"""

from __future__ import annotations

import gc
import multiprocessing as mp
import os
import statistics
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

Contestants = dict[str, Callable[[], float]]
Prepare = Callable[[], Iterator[Contestants]]


@dataclass(frozen=True)
class Target:
    """What is promised: `kind` is "faster" (peer / ours at least), "at most" (ours / peer), "extra" (seconds more).

    "within" is in seconds, whatever a peer takes.
    """

    kind: str
    value: float

    def measure(self, ours: float, peer: float) -> float:
        """Return the figure that the promise is about, from two times in seconds."""
        if self.kind == "faster":
            return peer / ours
        if self.kind == "within":
            return ours
        return ours / peer if self.kind == "at most" else ours - peer

    def met(self, ours: float, peer: float) -> bool:
        """Say whether the promise is kept."""
        figure = self.measure(ours, peer)
        return figure >= self.value if self.kind == "faster" else figure <= self.value

    def text(self) -> str:
        """Return the promise in words."""
        if self.kind == "faster":
            return f"≥ {self.value:g} times faster"
        if self.kind == "within":
            return f"≤ {1e6 * self.value:g} µs"
        return f"≤ {self.value:g} times" if self.kind == "at most" else f"≤ {1000 * self.value:g} ms more"


@dataclass(frozen=True)
class Bench:
    """One benchmark: its name for `--only`, one line about the work, the promise, and how often to run it."""

    name: str
    work: str
    target: Target | None
    rounds: int
    note: str
    prepare: Prepare
    best: bool = False
    context: str = ""
    alone: bool = False
    series: str = ""
    x: int = 0
    limit: str = ""


@dataclass
class Result:
    """What came out: for each contestant the seconds of every round, and how long all of it took."""

    bench: Bench
    times: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    took: float = 0.0

    def median(self, label: str) -> float:
        """Return a contestant's median in seconds."""
        return statistics.median(self.times[label])

    def spread(self, label: str) -> tuple[float, float]:
        """Return a contestant's quartiles in seconds."""
        times = self.times[label]
        if len(times) < 2:
            return times[0], times[0]
        low, _, high = statistics.quantiles(times, n=4, method="inclusive")
        return low, high

    @property
    def labels(self) -> list[str]:
        """Return the contestants: ours, the peer, the others."""
        return list(self.times)


BENCHES: dict[str, Bench] = {}


def bench(
    name: str,
    work: str,
    *,
    target: Target | None = None,
    rounds: int = 50,
    note: str = "",
    best: bool = False,
    context: str = "",
    alone: bool = False,
    series: str = "",
    x: int = 0,
    limit: str = "",
) -> Callable[[Prepare], Prepare]:
    """Register a benchmark under a name; the options are told above."""

    def register(prepare: Prepare) -> Prepare:
        made = Bench(name, work, target, rounds, note, prepare, best, context, alone, series, x, limit)
        BENCHES[name] = made
        return prepare

    return register


FEWEST, FEWEST_ALONE = 3, 2  # rounds, however short the time is; a process of its own tells medians already
TO_WARM_UP = 0.2  # of the time, at most


def run(one: Bench, share: float = 1.0, seconds: float = inf) -> Result:
    """Warm up, then let the contestants take turns, each round starting with the next one.

    The rounds end when another one would not fit into the seconds, but not before there are some.
    """
    result, begin = Result(one), perf_counter()
    with _prepared(one) as contestants:
        result.times = {label: [] for label in contestants}
        rounds = max(FEWEST, round(one.rounds * share))
        _warm_up(contestants, 0 if one.alone else max(1, min(5, rounds // 10)), begin + TO_WARM_UP * seconds)
        _take_turns(contestants, result.times, rounds, FEWEST_ALONE if one.alone else FEWEST, begin + seconds)
    if one.best:
        ours, *peers = result.labels
        # Without a context every label ends like it, and the medians decide.
        peers.sort(key=lambda label: (label.endswith(one.context), result.median(label)))
        result.times = {label: result.times[label] for label in [ours, *peers]}
    result.took = perf_counter() - begin
    return result


def _warm_up(contestants: Contestants, rounds: int, until: float) -> None:
    """Let each contestant have its turn once, and so often if there is time."""
    for number in range(rounds):
        if number and perf_counter() > until:
            return
        for go in contestants.values():
            go()


def _take_turns(
    contestants: Contestants, times: dict[str, list[float]], rounds: int, fewest: int, until: float
) -> None:
    """Add the seconds of each round to those before."""
    order, longest = list(contestants), 0.0
    for number in range(rounds):
        start = perf_counter()
        if number >= fewest and start + longest > until:
            return
        for label in order:
            times[label].append(_quietly(contestants[label]))
        order.append(order.pop(0))
        longest = max(longest, perf_counter() - start)


def _quietly(go: Callable[[], float]) -> float:
    """Run one round while the collector of cycles rests."""
    gc.collect()
    gc.disable()
    try:
        return go()
    finally:
        gc.enable()


@contextmanager
def _prepared(one: Bench) -> Generator[Contestants]:
    """Run a benchmark's preparation and, whatever happens, its clean-up."""
    steps = one.prepare()
    contestants = next(steps)
    try:
        yield contestants
    finally:
        for _ in steps:
            raise RuntimeError(f"{one.name} yields more than once")


def clock(work: Callable[[], object], times: int = 1) -> float:
    """Do the work `times` times and return the seconds of one."""
    start = perf_counter()
    for _ in range(times):
        work()
    return (perf_counter() - start) / times


def cpus() -> list[int]:
    """Return the CPUs that this program may use, as it was started."""
    return _ALLOWED


_ALLOWED = sorted(os.sched_getaffinity(0))


def pin(which: int | None) -> None:
    """Stay on one of our CPUs (0 for the first, -1 for the last), or with None on any of them."""
    os.sched_setaffinity(0, _ALLOWED if which is None else {_ALLOWED[which]})


@contextmanager
def partner(target: Callable[..., None], *args: Any) -> Generator[Connection]:
    """Run the other side: `target` is called with its end of a pipe, ours, the last CPU and `args`; None ends it."""
    context = mp.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, mine, cpus()[-1], *args), daemon=True)
    process.start()
    theirs.close()
    try:
        yield mine
    finally:
        mine.send(None)
        process.join()
        mine.close()


@contextmanager
def pinned(which: int | None) -> Generator[None]:
    """Stay on one CPU for a while; children started meanwhile inherit it."""
    before = os.sched_getaffinity(0)
    pin(which)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
