"""Rings, overlays and names against plain Python, in many small programs that Hypothesis makes up.

Caches are in test_cache.py.

Each machine keeps beside the object what a list or a dict would say, and asks both. A program has up to 50 steps, and
each machine runs `NDSHARE_PROGRAMS` of them.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

import ndshare as nds

PROGRAMS = int(os.environ.get("NDSHARE_PROGRAMS", "20"))
ITEMS = 4


class RingAgainstAList(RuleBasedStateMachine):
    """One writer and some readers, of which none waits: who has nothing to do gets Empty or Full."""

    readers: Bundle[int] = Bundle("readers")

    @initialize(slots=st.integers(1, 5), when_full=st.sampled_from(["wait", "drop_oldest", "drop_newest"]))
    def make(self, slots: int, when_full: Any) -> None:
        self.ring: Any = nds.Ring(ITEMS, "u4", slots=slots, when_full=when_full)
        self.slots, self.when_full = slots, when_full
        self.published: list[int] = []
        self.made: dict[int, Any] = {}
        self.next: dict[int, int] = {}
        self.missed: dict[int, int] = {}
        self.numbers, self.values = itertools.count(), 0

    def is_full(self) -> bool:
        return any(len(self.published) - next_ >= self.slots for next_ in self.next.values())

    @rule(target=readers)
    def add_reader(self) -> int:
        number = next(self.numbers)
        self.made[number] = self.ring.reader()
        self.next[number], self.missed[number] = len(self.published), 0
        return number

    @rule(number=consumes(readers))
    def close_reader(self, number: int) -> None:
        self.made[number].close()
        del self.made[number], self.next[number], self.missed[number]

    @rule()
    def put(self) -> None:
        self.values += 1
        array, was_full = np.full(ITEMS, self.values, "u4"), self.is_full()
        if was_full and self.when_full == "wait":
            with pytest.raises(nds.Full):
                self.ring.put(array, timeout=0)
            return
        self.ring.put(array, timeout=0)
        if was_full and self.when_full == "drop_newest":
            return
        self.published.append(self.values)
        for number, next_ in self.next.items():
            least = len(self.published) - self.slots
            self.missed[number] += max(0, least - next_)
            self.next[number] = max(next_, least)

    @rule(number=readers)
    def get(self, number: int) -> None:
        next_ = self.next[number]
        if next_ == len(self.published):
            with pytest.raises(nds.Empty):
                self.made[number].get(timeout=0)
            return
        frame = self.made[number].get(timeout=0)
        assert (int(frame.seq), frame.tolist()) == (next_, [self.published[next_]] * ITEMS)
        self.next[number] += 1

    @rule(number=readers, most=st.integers(1, 8))
    def get_many(self, number: int, most: int) -> None:
        next_ = self.next[number]
        wanted = self.published[next_ : next_ + most]
        if not wanted:
            return
        frames = self.made[number].get_many(most, timeout=0)
        assert [int(frame[0]) for frame in frames] == wanted
        self.next[number] += len(wanted)

    @invariant()
    def tells_the_same(self) -> None:
        if hasattr(self, "ring"):
            assert self.ring.stats()["written"] == len(self.published)
            for number, next_ in self.next.items():
                assert self.made[number].lag == len(self.published) - next_
                assert self.made[number].missed == self.missed[number]

    def teardown(self) -> None:
        if hasattr(self, "ring"):
            self.ring.close()


class OverlayAgainstADict(RuleBasedStateMachine):
    """Uses that a thread enters, again where it is inside, and leaves; another one meanwhile is an error."""

    uses = st.sampled_from(["floats", "ints", "bytes"])

    def __init__(self) -> None:
        super().__init__()
        self.overlay = nds.Overlay(
            floats={"A": ((2, 3), "f4"), "B": (5, "f8")}, ints={"D": (7, "i4")}, bytes={"whole": (80, "u1")}
        )
        self.inside: list[tuple[str, Any, Any]] = []
        self.content = bytes(80)

    @rule(use=uses)
    def enter(self, use: str) -> None:
        entered: Any = self.overlay.use(use, timeout=0)
        if self.inside and self.inside[0][0] != use:
            with pytest.raises(RuntimeError):
                entered.__enter__()
            return
        fields = entered.__enter__()
        assert fields.first == (not self.inside)
        self.inside.append((use, entered, fields))

    @precondition(lambda self: self.inside)
    @rule()
    def leave(self) -> None:
        _, entered, fields = self.inside.pop()
        del fields
        gc.collect()
        entered.__exit__(None, None, None)

    @precondition(lambda self: self.inside and self.inside[0][0] == "bytes")
    @rule(value=st.integers(0, 255), at=st.integers(0, 79))
    def write(self, value: int, at: int) -> None:
        self.inside[-1][2].whole[at] = value
        self.content = self.content[:at] + bytes([value]) + self.content[at + 1 :]

    @precondition(lambda self: self.inside)
    @rule()
    def read(self) -> None:
        use, _, fields = self.inside[-1]
        name, dtype, count = {"floats": ("A", "f4", 6), "ints": ("D", "i4", 7), "bytes": ("whole", "u1", 80)}[use]
        wanted = np.frombuffer(self.content, dtype, count)
        assert getattr(fields, name).tobytes() == wanted.tobytes()

    def teardown(self) -> None:
        while self.inside:
            self.leave()


class NamesAgainstADict(RuleBasedStateMachine):
    """Names that are given, given again, and taken away."""

    some = st.integers(0, 3)
    values = st.integers(0, 9)

    def __init__(self) -> None:
        super().__init__()
        self.prefix = f"stateful {os.getpid()} {id(self)} "
        self.known: dict[int, int] = {}

    @rule(which=some, value=values, replace=st.booleans())
    def publish(self, which: int, value: int, replace: bool) -> None:
        array = nds.full(3, value)
        if which in self.known and not replace:
            with pytest.raises(RuntimeError):
                nds.publish(f"{self.prefix}{which}", array)
            return
        nds.publish(f"{self.prefix}{which}", array, replace=replace)
        self.known[which] = value

    @rule(which=some)
    def unpublish(self, which: int) -> None:
        assert nds.unpublish(f"{self.prefix}{which}") == (self.known.pop(which, None) is not None)

    @rule(which=some)
    def attach(self, which: int) -> None:
        if which not in self.known:
            with pytest.raises(nds.Timeout):
                nds.attach(f"{self.prefix}{which}", timeout=0)
            return
        assert nds.attach(f"{self.prefix}{which}", timeout=0).tolist() == [self.known[which]] * 3

    @invariant()
    def lists_the_same(self) -> None:
        listed = {name for name in nds.names() if name.startswith(self.prefix)}
        assert listed == {f"{self.prefix}{which}" for which in self.known}

    def teardown(self) -> None:
        for which in self.known:
            with contextlib.suppress(nds.Error):
                nds.unpublish(f"{self.prefix}{which}")


for _machine in (RingAgainstAList, OverlayAgainstADict, NamesAgainstADict):
    _machine.TestCase.settings = settings(max_examples=PROGRAMS, stateful_step_count=50, deadline=None)
TestRing = RingAgainstAList.TestCase
TestOverlay = OverlayAgainstADict.TestCase
TestNames = NamesAgainstADict.TestCase
