"""The checker of histories finds each fault and agrees with a search through all orders; processes keep the rules."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import histories
import history
from helpers import ROUNDS
from history import NEVER, History, Op, Register, RingKind

# ---- one history that keeps all rules, and one fault for each -------------------------------------------------------

KINDS = {"w": RingKind(2, "wait", 1), "d": RingKind(2, "drop_oldest"), "n": RingKind(2, "drop_newest")}
# Process 2 dies at 700, process 9 at 65. The second number of a frame is its content.
LIVES = {2: 700, 9: 65}
GOOD: dict[str, Op] = {
    # A ring that waits: a reader of every frame, one of the latest, one that begins with the oldest, and a group.
    "make every": Op(1, "make", "e", 0, 2, ("w", "every", None, "next"), ("made",)),
    "make latest": Op(1, "make", "l", 3, 4, ("w", "latest", None, "next"), ("made",)),
    "make one": Op(2, "make", "g1", 5, 6, ("w", "group", "g", "next"), ("made",)),
    "make other": Op(3, "make", "g2", 7, 8, ("w", "group", "g", "next"), ("made",)),
    "put 0": Op(1, "put", "w", 10, 12, (100,), ("seq", 0)),
    "get 0": Op(1, "get", "e", 13, 14, (True,), ("frame", 0, 100, True)),
    "one gets 0": Op(2, "get", "g1", 15, 16, (True,), ("frame", 0, 100, True)),
    "put 1": Op(9, "put", "w", 60, NEVER, (101,)),
    "get 1": Op(1, "get", "e", 61, 72, (True,), ("frame", 1, 101, True)),
    "one gets 1": Op(2, "get", "g1", 73, 75, (True,), ("frame", 1, 101, True)),
    "make oldest": Op(4, "make", "o", 76, 77, ("w", "every", None, "oldest"), ("made",)),
    "oldest gets 1": Op(4, "get", "o", 78, 79, (True,), ("frame", 1, 101, True)),
    "put 2": Op(1, "put", "w", 80, 82, (102,), ("seq", 2)),
    "thrown": Op(1, "put", "w", 83, 84, (103,), ("thrown",)),
    "get 2": Op(1, "get", "e", 85, 86, (True,), ("frame", 2, 102, True)),
    "oldest gets 2": Op(4, "get", "o", 87, 88, (True,), ("frame", 2, 102, True)),
    "latest gets 2": Op(1, "get", "l", 87, 88, (True,), ("frame", 2, 102, True)),
    "latest is empty": Op(1, "get", "l", 89, 90, (True,), ("empty",)),
    "other gets 2": Op(3, "get", "g2", 91, 92, (True,), ("frame", 2, 102, True)),
    "other gets 1": Op(3, "get", "g2", 701, 702, (True,), ("frame", 1, 101, True)),
    "writer died": Op(1, "get", "e", 703, 704, (True,), ("died",)),
    "every closed": Op(1, "get", "e", 705, 706, (True,), ("closed", 0)),
    "latest closed": Op(1, "get", "l", 705, 706, (True,), ("closed", 0)),
    "oldest closed": Op(4, "get", "o", 705, 706, (True,), ("closed", 0)),
    "other closed": Op(3, "get", "g2", 705, 706, (True,), ("closed", 0)),
    "books": Op(0, "books", "w", 710, 711, (), (3, 0)),
    # Rings that drop: of three frames the reader misses the first, and the third is never published.
    "d reader": Op(5, "make", "de", 0, 2, ("d", "every", None, "next"), ("made",)),
    **{f"d put {n}": Op(5, "put", "d", 10 * n + 3, 10 * n + 5, (200 + n,), ("seq", n)) for n in range(3)},
    "d get 1": Op(5, "get", "de", 50, 51, (True,), ("frame", 1, 201, True)),
    "d get 2": Op(5, "get", "de", 52, 53, (True,), ("frame", 2, 202, True)),
    "d closed": Op(5, "get", "de", 705, 706, (True,), ("closed", 1)),
    "n reader": Op(6, "make", "ne", 0, 2, ("n", "every", None, "next"), ("made",)),
    **{f"n put {n}": Op(6, "put", "n", 10 * n + 3, 10 * n + 5, (300 + n,), ("seq", n)) for n in range(2)},
    "n member": Op(7, "make", "ng", 0, 2, ("n", "group", "g", "next"), ("made",)),
    **{
        f"n get {n}": Op(7, "get", "ng", 10 * n + 6, 10 * n + 7, (True,), ("frame", n, 300 + n, True)) for n in range(2)
    },
    "n closed": Op(7, "get", "ng", 705, 706, (True,), ("closed", 0)),
    "n dropped": Op(6, "put", "n", 50, 51, (302,), ("dropped",)),
    "n books": Op(0, "books", "n", 710, 711, (), (2, 1)),
    # A key of a cache: stored, found, deleted; loaded, found by another that waited; a load that fails.
    "store": Op(1, "store", "k", 800, 802, (400,), ("stored",)),
    "look": Op(3, "look", "k", 803, 804, (), ("hit", 400, True)),
    "look again": Op(3, "look", "k", 805, 806, (), ("hit", 400, True)),
    "delete": Op(1, "delete", "k", 807, 808, (), ("deleted",)),
    "miss": Op(3, "look", "k", 809, 810, (), ("miss",)),
    "fetch": Op(1, "fetch", "k", 811, 830, ("1.1",), ("hit", 401, True)),
    "load": Op(1, "load", "k", 812, 820, (401, "1.1"), ("loaded",)),
    "wait": Op(3, "fetch", "k", 815, 831, ("3.1",), ("hit", 401, True)),
    "look at load": Op(3, "look", "k", 832, 833, (), ("hit", 401, True)),
    "clear": Op(1, "clear", "all", 834, 835, (), ("cleared",)),
    "fetch in vain": Op(1, "fetch", "k", 840, 860, ("1.2",), ("raised",)),
    "load in vain": Op(1, "load", "k", 841, 850, (402, "1.2"), ("raised",)),
    "wait in vain": Op(3, "fetch", "k", 845, 861, ("3.2",), ("failed", 1001)),
    # A lock with a number under it, in which process 2 dies.
    "enter": Op(1, "enter", "x", 600, 602, ("1.5", False), ("in", 0)),
    "out": Op(1, "leave lock", "x", 610, 611, ("1.5",), ("out",)),
    "enter 2": Op(2, "enter", "x", 603, 620, ("2.5", False), ("in", 1)),
    "told": Op(3, "enter", "x", 690, 702, ("3.5", False), ("told",)),
    "recover": Op(3, "enter", "x", 703, 704, ("3.6", True), ("in", 1)),
    "recovered": Op(3, "leave lock", "x", 705, 706, ("3.6",), ("out",)),
}


def checked(ops: Iterable[Op]) -> dict[str, list[str]]:
    return history.check(History(list(ops), LIVES, KINDS, {1: 1001, 3: 1003}))


def changed(name: str, **what: Any) -> Callable[[dict[str, Op]], None]:
    def change(ops: dict[str, Op]) -> None:
        ops[name] = replace(ops[name], **what)

    return change


def without(name: str) -> Callable[[dict[str, Op]], None]:
    return lambda ops: ops.pop(name) and None


def added(*args: Any) -> Callable[[dict[str, Op]], None]:
    return lambda ops: ops.setdefault("added", Op(*args)) and None


def frame(n: int, content: int, whole: bool = True) -> tuple[Any, ...]:
    return ("frame", n, content, whole)


FAULTS: list[tuple[str, str, Callable[[dict[str, Op]], None]]] = [
    ("puts in order", "a later put has the lower number", added(1, "put", "w", 100, 101, (109,), ("seq", 0))),
    ("puts in order", "known before it began", changed("put 2", begin=92, end=93)),
    ("numbers without gaps", "two puts have one number", changed("d put 1", found=("seq", 0))),
    ("numbers without gaps", "a number of nobody", changed("n put 1", found=("seq", 2))),
    ("contents are whole", "torn", changed("get 2", found=frame(2, 102, False))),
    ("contents are whole", "nobody put it", changed("get 0", found=frame(0, 999))),
    ("contents are whole", "it was thrown away", changed("get 2", found=frame(2, 103))),
    ("contents are whole", "another number", changed("get 2", found=frame(2, 100))),
    ("contents are whole", "from the future", changed("get 1", begin=50, end=55)),
    ("contents are whole", "changed in hand", changed("get 1", said=(False,))),
    ("numbers ascend", "twice", added(1, "get", "e", 87, 88, (True,), frame(2, 102))),
    ("numbers ascend", "back", changed("get 2", found=frame(0, 100))),
    ("numbers ascend", "back in a group without a death", changed("other gets 1", found=frame(0, 100))),
    ("every frame", "one is left out", without("get 1")),
    ("every frame", "a gap that is not counted", changed("d closed", found=("closed", 0))),
    ("every frame", "a miss that was none", changed("d closed", found=("closed", 2))),
    ("readers begin in time", "too late", without("get 0")),
    ("readers begin in time", "too early", changed("make every", begin=20, end=21)),
    ("readers begin in time", "not with what is kept", without("oldest gets 1")),
    ("the newest", "an old one", changed("latest gets 2", found=frame(0, 100))),
    ("empty is empty", "a frame was there", changed("latest is empty", begin=84, end=86)),
    ("empty is empty", "every frame", added(1, "get", "e", 83, 84, (True,), ("empty",))),
    ("the window holds", "nobody waited", changed("get 0", begin=83, end=84)),
    ("the end comes last", "closed too soon", without("get 2")),
    ("the end comes last", "nobody had died", changed("writer died", begin=40, end=41)),
    ("one member each", "two have it", changed("other gets 2", found=frame(0, 100))),
    ("one member each", "before the death", changed("other gets 1", begin=93, end=94)),
    ("a group gets all", "a frame is lost", without("n get 0")),
    ("a group gets all", "a miss that was none", changed("other closed", found=("closed", 3))),
    ("books are right", "too many", changed("books", found=(4, 0))),
    ("books are right", "a dropped one is not counted", changed("n books", found=(2, 0))),
    ("values were written", "a stranger", changed("look", found=("hit", 999, True))),
    ("values were written", "torn", changed("look", found=("hit", 400, False))),
    ("values were written", "from the future", changed("look", begin=790, end=795)),
    ("values were written", "before the loader came back", changed("look at load", begin=813, end=814)),
    ("no stale value", "after the deletion", changed("miss", found=("hit", 400, True))),
    ("no stale value", "after another was stored", added(1, "store", "k", 803, 804, (409,), ("stored",))),
    ("no stale value", "it comes back after a miss", changed("miss", begin=803, end=804)),
    ("no stale value", "after all was cleared", added(3, "look", "k", 836, 837, (), ("hit", 401, True))),
    ("no stale value", "a load that was beaten", added(3, "delete", "k", 813, 814, (), ("absent",))),
    ("no stale value", "by turns", added(3, "look", "k", 836, 837, (), ("hit", 400, True))),
    ("one load at a time", "two", changed("load in vain", begin=815)),
    ("failures are told", "of another process", changed("wait in vain", found=("failed", 1003))),
    ("failures are told", "of none", changed("load in vain", found=("loaded",))),
    ("one inside", "two", changed("enter 2", end=605)),
    ("numbers are kept", "a number is lost", changed("enter 2", found=("in", 0))),
    ("deaths are told", "not told", changed("recover", said=("3.6", False))),
    ("deaths are told", "told too soon", changed("told", begin=605, end=606)),
]  # fmt: skip


def test_a_good_history_keeps_all_rules() -> None:
    assert checked(GOOD.values()) == {}


@pytest.mark.parametrize(("rule", "what", "plant"), FAULTS, ids=[f"{rule}: {what}" for rule, what, _ in FAULTS])
def test_a_planted_fault_is_found(rule: str, what: str, plant: Callable[[dict[str, Op]], None]) -> None:
    ops = dict(GOOD)
    plant(ops)
    assert rule in checked(ops.values())


def test_each_rule_has_a_fault_that_it_finds() -> None:
    assert {rule for rule, _, _ in FAULTS} == set(history.RULES)


# ---- the twin: all orders of a small history of one key -------------------------------------------------------------

Event = tuple[int, int, str, int]  # begin, end, what happens, and to which value


def events(ops: Iterable[Op]) -> list[Event]:
    """Return what happens in a history at one instant each: a load gets its place, and later its value comes."""
    found: list[Event] = []
    fetch_of = {op.said[0]: op for op in ops if op.kind == "fetch"}
    for op in ops:
        if op.kind == "load":
            fetch = fetch_of[op.said[1]]
            found += [(fetch.begin, op.begin, "place", op.said[0]), (op.end, fetch.end, "come", op.said[0])]
        elif op.kind == "look":
            assert op.found is not None
            found.append((op.begin, op.end, op.found[0], op.found[1] if len(op.found) > 1 else 0))
        elif op.kind != "fetch":
            found.append((op.begin, op.end, op.kind, op.said[0] if op.said else 0))
    return found


def explains(left: list[Event], value: int, loading: int) -> bool:
    """Say whether some order of what is left fits, with this value there, and this one under way (0: none)."""
    soonest = min((end for _, end, *_ in left), default=0)
    if soonest == NEVER or not left:
        return True
    for place, (begin, _, what, which) in enumerate(left):
        if begin > soonest:
            continue  # another one has ended before
        rest = left[:place] + left[place + 1 :]
        match what:
            case "hit":
                ways = [(value, loading)] if value == which else []
            case "miss":
                ways = [(0, loading)]
            case "store":
                ways = [(which, 0)]
            case "delete":
                ways = [(0, 0)]
            case "place":
                ways = [(0, which)]
            case _:
                ways = [(which, 0), (value, 0)] if loading == which else [(value, loading)]
        if any(explains(rest, *way) for way in ways):
            return True
    return False


def is_explained(ops: list[Op]) -> bool:
    """Search through all orders; what has no end may have happened, or not."""
    sure = [event for event in events(ops) if event[1] < NEVER]
    perhaps = [event for event in events(ops) if event[1] == NEVER]
    return any(
        explains([*sure, *some], 0, 0)
        for count in range(len(perhaps) + 1)
        for some in itertools.combinations(perhaps, count)
    )


@st.composite
def small_histories(draw: st.DrawFn) -> list[Op]:
    """Make some operations of one key, with whatever times and results."""
    times, ops, values = st.integers(0, 14), list[Op](), [0]
    for number in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["store", "store", "load", "delete", "look", "look", "look", "look"]))
        begin, loading, loaded, end = sorted(draw(st.tuples(times, times, times, times)))
        if kind in {"store", "delete"} and draw(st.integers(0, 5)) == 0:
            end = NEVER
        match kind:
            case "store":
                values.append(number + 1)
                found = ("stored",) if end < NEVER else None
                ops.append(Op(1, "store", "k", begin, end, (number + 1,), found))
            case "load":
                values.append(number + 1)
                name = f"{number}"
                ops.append(Op(1, "fetch", "k", begin, end, (name,), ("hit", number + 1, True)))
                ops.append(Op(1, "load", "k", loading, loaded, (number + 1, name), ("loaded",)))
            case "delete":
                ops.append(Op(1, "delete", "k", begin, end, (), ("deleted",) if end < NEVER else None))
            case _:
                value = draw(st.sampled_from(values))
                ops.append(Op(1, "look", "k", begin, end, (), ("hit", value, True) if value else ("miss",)))
    return ops


@settings(max_examples=60 if ROUNDS == 1 else 3000)
@given(small_histories())
def test_the_check_of_registers_agrees_with_a_search_through_all_orders(ops: list[Op]) -> None:
    register = Register(History(ops), "k")
    found = [*history.values_were_written(register), *history.no_stale_value(register)]
    assert (not found) == is_explained(ops), (found, [str(op) for op in ops])


# ---- random histories of a ring that keeps all rules ----------------------------------------------------------------


class Model:
    """A ring in plain Python, which random processes use; each operation takes effect at one instant of its time."""

    def __init__(self, kind: RingKind, seed: int) -> None:
        self.kind, self.rng, self.now = kind, random.Random(seed), 0
        self.ops: list[Op] = []
        self.deaths: dict[int, int] = {}
        self.free_at = dict.fromkeys(range(1, 5), 0)
        self.names = itertools.count(1)
        self.frames: list[int] = []
        self.dropped = 0
        self.readers: dict[str, dict[str, Any]] = {}
        self.open: set[int] = set()  # frames that no member of the group has had, or that came back
        self.held: dict[int, str] = {}  # which member has a frame in hand
        self.floor = self.lost = 0

    def note(self, process: int, kind: str, on: str, said: tuple[Any, ...], found: tuple[Any, ...]) -> None:
        """Write an operation down whose effect is now; its process may die by it."""
        begin = self.rng.randint(self.free_at[process], self.now)
        end = self.now + self.rng.randrange(30)
        if process and self.rng.random() < 0.03:
            self.ops.append(Op(process, kind, on, begin, NEVER, said))
            self.die(process)
        else:
            self.ops.append(Op(process, kind, on, begin, end, said, found))
            self.free_at[process] = end + 1

    def die(self, process: int) -> None:
        self.deaths[process] = self.now
        for name, reader in list(self.readers.items()):
            if reader["process"] == process:
                self.gone(name)
        del self.free_at[process]
        self.free_at[next(self.names) + 100] = self.now

    def gone(self, name: str) -> None:
        del self.readers[name]
        for seq, member in list(self.held.items()):
            if member == name:
                del self.held[seq]
                self.open |= {seq} if seq >= self.floor else set()

    def step(self) -> None:
        self.now += self.rng.randrange(1, 12)
        ready = [process for process, time in self.free_at.items() if time <= self.now and process]
        if not ready:
            return
        process = self.rng.choice(ready)
        mine = [name for name, reader in self.readers.items() if reader["process"] == process]
        dice = self.rng.random()
        if dice < 0.35:
            self.put(process)
        elif dice < 0.45 or not mine:
            self.make(process)
        elif dice < 0.48:
            name = self.rng.choice(mine)
            self.gone(name)
            self.note(process, "leave", name, ("in hand",), ("left",))
        else:
            self.get(process, self.rng.choice(mine))

    def put(self, process: int) -> None:
        content = next(self.names) + 1000
        found = self.publish(content)
        self.note(process, "put", "r", (content,), found)

    def publish(self, content: int) -> tuple[Any, ...]:
        floor = len(self.frames) + 1 - self.kind.slots
        places = [reader["next"] for reader in self.readers.values() if reader["mode"] == "every"]
        if any(reader["mode"] == "group" for reader in self.readers.values()):
            places += [*self.open, *self.held]
        if min(places, default=floor) < floor:
            if self.kind.when_full == "wait":
                return ("full",)
            if self.kind.when_full == "drop_newest":
                self.dropped += 1
                return ("dropped",)
        for reader in self.readers.values():
            if reader["mode"] == "every":
                reader["missed"] += max(0, floor - reader["next"])
                reader["next"] = max(reader["next"], floor)
        gone = {seq for seq in self.open if seq < floor}
        self.open, self.lost, self.floor = self.open - gone, self.lost + len(gone), max(self.floor, floor)
        self.frames.append(content)
        self.open.add(len(self.frames) - 1)
        return ("seq", len(self.frames) - 1)

    def make(self, process: int, mode: str | None = None) -> str:
        name, mode = f"reader {next(self.names)}", mode or self.rng.choice(("every", "latest", "group"))
        start, total = self.rng.choice(("next", "oldest")), len(self.frames)
        begin = total if start == "next" else max(0, total - self.kind.keep)
        self.readers[name] = {"process": process, "mode": mode, "next": begin, "missed": 0}
        self.note(process, "make", name, ("r", mode, "g" if mode == "group" else None, start), ("made",))
        return name

    def get(self, process: int, name: str, otherwise: str = "empty") -> bool:
        """Get a frame, and say whether there was one."""
        reader, seq = self.readers[name], None
        if reader["mode"] == "group":
            for done in [seq for seq, member in self.held.items() if member == name]:
                del self.held[done]
            if self.open:
                seq = min(self.open)
                self.open.remove(seq)
                self.held[seq] = name
        elif reader["next"] < len(self.frames):
            seq = reader["next"] if reader["mode"] == "every" else len(self.frames) - 1
            reader["next"] = seq + 1
        missed = self.lost if reader["mode"] == "group" else reader["missed"]
        found = frame(seq, self.frames[seq]) if seq is not None else (otherwise, missed)
        self.note(process, "get", name, (True,), found)
        return seq is not None and name in self.readers

    def end(self) -> History:
        """Read everything to its end, those that are left and one more member of the group."""
        self.now += 100
        self.free_at[0] = self.now
        self.make(0, "group")
        while self.readers:
            for name, reader in list(self.readers.items()):
                process = reader["process"]
                self.now = max(self.now, self.free_at.get(process, 0)) + 1
                if name in self.readers and not self.get(process, name, "closed"):
                    self.readers.pop(name, None)
        self.now += 100
        self.note(0, "books", "r", (), (len(self.frames), self.dropped))
        return History(self.ops, self.deaths, {"r": self.kind})


@pytest.mark.parametrize("when_full", ["wait", "drop_oldest", "drop_newest"])
def test_random_histories_of_a_good_ring_keep_all_rules(when_full: str) -> None:
    seen = 0
    for seed in range(30 * ROUNDS):
        model = Model(RingKind(3, when_full, 1), seed)
        for _ in range(150):
            model.step()
        past = model.end()
        assert history.check(past) == {}, seed
        seen += history.facts(past)["handed over"]
    assert seen > 0, "nobody died with a frame in hand"


# ---- real processes -------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_what_processes_did_while_some_were_killed_is_explained_by_an_order(tmp_path: Path) -> None:
    report = histories.run(seconds=2.5 if ROUNDS == 1 else 30, seed=5, form="quick", kept=tmp_path, least=3)
    value = report.value()
    print(histories.show(value))
    assert not report.is_bad(), report.told
    assert report.kills() >= 3
    assert {"put", "get", "make", "look", "fetch", "enter"} <= set(value["by_kind"])


def test_what_a_process_did_not_finish_to_write_down_is_not_known() -> None:
    ops, last = history.read(
        3, '["b", 0, 5, "put", "w", 7]\n["e", 0, 6, "seq", 0]\n["b", 1, 8, "put", "w", 8]\n["e", 1, 9'
    )
    assert ops == [Op(3, "put", "w", 5, 6, (7,), ("seq", 0)), Op(3, "put", "w", 8, NEVER, (8,))]
    assert last == 8
