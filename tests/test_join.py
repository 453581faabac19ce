"""Frames of several rings that belong together: which do is compared with a twin that sees all frames at once.

The stamps are given, so what comes out does not depend on the clock; only freezing does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import select
import signal
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import ndshare as nds
from helpers import HANG, Child, descriptors, wait_until
from ndshare._matching import Matcher, unmatched

MS = 1_000_000
LATER = 1 << 61  # when nothing is due


# ---- the rule, on plain numbers -------------------------------------------------------------------------------------


def twin(streams: Sequence[Sequence[Any]], within: Any) -> list[list[int | None]]:
    """Return for each frame of stream 0 the numbers of its partners: the rule as it is written."""
    leaders = streams[0]
    found: list[list[int | None]] = []
    for number, stamp in enumerate(leaders):
        row: list[int | None] = [number]
        for stream in streams[1:]:
            mine = [
                (abs(at - stamp), index)
                for index, at in enumerate(stream)
                if abs(at - stamp) <= within and number == nearest(leaders, at)
            ]
            row.append(min(mine)[1] if mine else None)
        found.append(row)
    return found


def nearest(leaders: Sequence[Any], at: Any) -> int:
    return min(range(len(leaders)), key=lambda number: (abs(leaders[number] - at), number))


def whole(streams: Sequence[Sequence[Any]], within: Any) -> list[list[int | None]]:
    """Return the same with what is led by the next stream when the leader has ended, and so on.

    What is near to the last frame of the old leader is its own, and of the rest the next stream leads.
    """
    found = twin(streams, within)
    if len(streams) == 1:
        return found
    rest = [[at for at in stamps if not streams[0] or at > streams[0][-1] + within] for stamps in streams[1:]]
    gone = [len(stamps) - len(left) for stamps, left in zip(streams[1:], rest, strict=True)]
    for row in whole(rest, within):
        found.append([None, *(None if n is None else n + g for n, g in zip(row, gone, strict=True))])
    return found


STREAMS = st.lists(st.lists(st.integers(0, 40), max_size=12).map(sorted), min_size=1, max_size=4)


class Fed:
    """A matcher that is fed stream by stream, and what it has given."""

    def __init__(self, streams: Sequence[Sequence[Any]], within: Any, limit: int = 1000, apart: Any = 0) -> None:
        self.streams = streams
        self.matcher = Matcher(len(streams), within, limit, apart)
        self.at = [0] * len(streams)
        self.given: list[list[int | None]] = []
        self.asks_always = True

    def push(self, stream: int, due: int = LATER) -> None:
        at = self.at[stream]
        self.matcher.push(stream, self.streams[stream][at], due, at)
        self.at[stream] = at + 1
        if self.asks_always or self.matcher.may_find():
            self.drain()

    def drain(self, now: int = 0) -> None:
        while match := self.matcher.next(now):
            self.given.append([entry and entry.item for entry in match.entries])
            assert match.missing.keys() == {s for s, entry in enumerate(match.entries) if entry is None}

    def check_books(self) -> None:
        for stream, counts in enumerate(self.matcher.counts):
            waiting = len(self.matcher.queues[stream])
            items = [row[stream] for row in self.given if row[stream] is not None]
            assert counts.frames == self.at[stream]
            assert counts.matched == len(items) == len(set(items))
            assert items == sorted(items), "out of order"
            assert unmatched(counts, waiting) == counts.frames - counts.matched - waiting >= 0
            assert unmatched(counts, waiting) >= counts.late + counts.overrun + counts.disordered


@given(STREAMS, st.integers(0, 8), st.data())
@example([[26, 26], [25, 27]], 1, None)
@example([[0, 0, 1], [1]], 0, None)
def test_it_finds_what_the_twin_finds_however_frames_come(streams: Any, within: int, data: Any) -> None:
    fed = Fed(streams, within)
    pushes = [stream for stream, stamps in enumerate(streams) for _ in stamps]
    for stream in data.draw(st.permutations(pushes)) if data else pushes:
        fed.push(stream)
    expected = twin(streams, within)
    assert fed.given == expected[: len(fed.given)], "before the end"
    for stream in range(len(streams)):
        fed.matcher.end(stream, "closed")
    fed.drain()
    assert fed.given[: len(expected)] == expected
    fed.check_books()


@given(STREAMS.filter(lambda streams: len(streams) > 1), st.integers(0, 8), st.data())
def test_a_camera_that_dies_is_missing_from_then_on(streams: Any, within: int, data: Any) -> None:
    fed = Fed(streams, within)
    dead = data.draw(st.integers(1, len(streams) - 1))
    pushes = data.draw(st.permutations([s for s, stamps in enumerate(streams) for _ in stamps]))
    # Its death is heard of at some time after its last frame.
    last = max((n for n, stream in enumerate(pushes) if stream == dead), default=-1)
    heard = data.draw(st.integers(last + 1, len(pushes)))
    for number, stream in enumerate(pushes):
        if number == heard:
            fed.matcher.end(dead, "died")
            fed.drain()
        fed.push(stream)
    for stream in range(len(streams)):
        fed.matcher.end(stream, "closed")
    fed.drain()
    expected = twin(streams, within)
    assert fed.given[: len(expected)] == expected
    fed.check_books()


@given(STREAMS, st.integers(0, 8), st.integers(0, 3), st.data())
def test_after_the_leader_the_next_one_leads(streams: Any, within: int, cut: int, data: Any) -> None:
    streams = [streams[0][:cut], *streams[1:]]
    fed = Fed(streams, within)
    for stream in data.draw(st.permutations([s for s, stamps in enumerate(streams) for _ in stamps])):
        fed.push(stream)
    for stream in range(len(streams)):
        fed.matcher.end(stream, "closed")
    fed.drain()
    assert fed.given == whole(streams, within)
    fed.check_books()


@given(st.lists(st.integers(0, 60), min_size=2, max_size=4), st.integers(1, 3), st.data())
def test_with_a_promise_a_set_comes_with_its_last_frame(offsets: list[int], within: int, data: Any) -> None:
    apart = 2 * within
    streams = [[n * 100 + data.draw(st.integers(-within // 2, within // 2)) for n in range(4)] for _ in offsets]
    fed = Fed(streams, within, apart=apart)
    for number in range(4):
        for stream in data.draw(st.permutations(range(len(streams)))):
            assert len(fed.given) == number
            fed.push(stream)
        assert len(fed.given) == number + 1
    assert fed.given == twin(streams, within)


@given(STREAMS, st.integers(0, 8), st.integers(2, 5), st.data())
def test_few_frames_wait_and_all_are_counted(streams: Any, within: int, limit: int, data: Any) -> None:
    fed, sparing = Fed(streams, within, limit), Fed(streams, within, limit)
    sparing.asks_always = False
    for stream in data.draw(st.permutations([s for s, stamps in enumerate(streams) for _ in stamps])):
        fed.push(stream), sparing.push(stream)
        assert all(len(queue) <= limit for queue in fed.matcher.queues)
        fed.check_books()
    # Who asks only where there may be something finds the same.
    for one in (fed, sparing):
        for stream in range(len(streams)):
            one.matcher.end(stream, "closed")
        one.drain()
    assert sparing.given == fed.given
    assert [(c.matched, c.overrun, c.late) for c in sparing.matcher.counts] == [
        (c.matched, c.overrun, c.late) for c in fed.matcher.counts
    ]


def test_who_shows_nothing_until_a_set_is_due_is_frozen_until_it_shows_something() -> None:
    fed = Fed([[0, 10, 20, 30, 40, 50], [0, 31, 41], [1, 11, 21, 31, 41, 51]], within=3, apart=6)
    fed.push(0, due=100), fed.push(1), fed.push(2)
    assert fed.given == [[0, 0, 0]]
    fed.push(0, due=110), fed.push(2)
    assert fed.matcher.due() == 110
    fed.drain(now=109)
    assert len(fed.given) == 1
    fed.drain(now=110)
    assert (fed.given[1], fed.matcher.states) == ([1, None, 1], ["live", "frozen", "live"])
    fed.push(0, due=120), fed.push(2)
    assert fed.given[2] == [2, None, 2], "nobody waits for a frozen one"
    fed.push(0, due=130), fed.push(1), fed.push(2)
    assert (fed.given[3], fed.matcher.states[1]) == ([3, 1, 3], "live")
    # Now the leader.
    fed.push(1, due=200), fed.push(2, due=201)
    fed.drain(now=199)
    assert len(fed.given) == 4
    fed.drain(now=200)
    assert (fed.given[4], fed.matcher.states[0]) == ([None, 2, 4], "frozen")
    fed.push(0)  # at 40: its set is out, and so it is late
    assert fed.matcher.counts[0].late == 1
    fed.push(0), fed.push(2)
    fed.matcher.end(1, "died")
    fed.drain()
    assert fed.given[5] == [5, None, 5]


def test_a_leader_freezes_also_when_the_others_are_many() -> None:
    fed = Fed([[500], list(range(0, 400, 10))], within=3, limit=2)
    for number in range(30):
        fed.push(1, due=100 + number)
    fed.drain(now=99)
    assert (fed.given, fed.matcher.due(), fed.matcher.counts[1].overrun) == ([], 100, 28)
    fed.drain(now=100)
    assert (fed.given, fed.matcher.states[0]) == ([[None, 28], [None, 29]], "frozen")
    fed.push(0)
    assert fed.matcher.states[0] == "live"
    fed.check_books()


def test_what_goes_back_or_is_no_number_is_counted() -> None:
    matcher = Matcher(1, 0.5, 10)
    for stamp in (1.0, float("nan"), 0.5, 2.0):
        matcher.push(0, stamp, LATER, None)
    assert (matcher.counts[0].frames, matcher.counts[0].disordered, len(matcher.queues[0])) == (4, 2, 2)


# ---- with rings -----------------------------------------------------------------------------------------------------


def rig(count: int, slots: int = 8, **options: Any) -> list[nds.Ring[Any]]:
    return [nds.Ring(1, "u2", slots=slots, **options) for _ in range(count)]


def numbers(one: nds.FrameSet) -> list[int | None]:
    return [None if frame is None else int(frame[0]) for frame in one]


def stamps_of(rate: float, seconds: float, jitter_ms: float, drops: float, seed: int) -> list[int]:
    """Return when a camera makes its frames: a rate, jitter, and some that it drops."""
    dice = random.Random(seed)
    times = [int(n / rate * 1e9) + int(dice.uniform(0, jitter_ms) * MS) for n in range(int(rate * seconds))]
    return sorted(time for time in times if dice.random() >= drops)


def film(conn: Any, writer: nds.Writer[Any], stamps: list[int], dies: bool) -> None:
    with writer:
        for number, stamp in enumerate(stamps):
            writer.put([number], time_ns=stamp)
        conn.send("done")
        if dies:
            signal.pause()


def test_three_rates_jitter_drops_and_a_killed_camera() -> None:
    streams = [stamps_of(30, 4, 2, 0.1, 1), stamps_of(60, 4, 2, 0.1, 2), stamps_of(100, 2, 2, 0.1, 3)]
    rings = rig(3, slots=512)
    readers = {name: ring.reader() for name, ring in zip("abc", rings, strict=True)}
    writers = [ring.writer() for ring in rings]
    with nds.join(readers, within=0.005, deadline=None, limit=64) as sets:
        children = [Child(film, w, s, s is streams[2]) for w, s in zip(writers, streams, strict=True)]
        del writers
        try:
            # Else more frames of one than may wait could come before the first of another.
            assert [child.hear() for child in children] == ["done"] * 3
            children[2].kill()  # as kill -9 does
            found: list[nds.FrameSet] = []
            with pytest.raises(nds.WriterDied):  # the others have closed theirs
                found.extend(sets)
        finally:
            for child in children:
                child.__exit__()
        stats = sets.stats()
    expected = twin(streams, 5 * MS)
    assert [numbers(one) for one in found[: len(expected)]] == expected
    assert {why for one in found for why in one.missing.values()} <= {"no match", "died", "closed"}
    assert found[len(expected) - 1].missing["c"] == "died"
    last = next(reader for reader in stats["readers"] if reader["name"] == "c")
    assert (last["frames"], last["state"]) == (len(streams[2]), "died")
    for one in found:
        there = [frame.time_ns for frame in one if frame is not None]
        assert one.spread == (max(there) - min(there)) / 1e9 <= 0.010
        assert one.complete == (not one.missing) == (None not in one)
    for column, (name, stamps) in enumerate(zip("abc", streams, strict=True)):
        mine = [numbers(one)[column] for one in found if one[name] is not None]
        of = stats["readers"][column]
        assert (of["matched"], of["unmatched"], of["waiting"]) == (len(mine), len(stamps) - len(mine), 0)
    assert stats["sets"] == len(found) == stats["complete"] + stats["incomplete"]


def beat(conn: Any, writer: nds.Writer[Any]) -> None:
    """Film at 100 Hz by the clock of the machine, each frame with its own time."""
    conn.send("on")
    with writer:
        while not conn.poll(0.01):
            writer.put([0])


@pytest.mark.parametrize("signals", [(signal.SIGSTOP, signal.SIGCONT), (signal.SIGKILL, None)], ids=["stop", "kill"])
def test_a_camera_that_freezes_is_missing_and_comes_back(signals: tuple[Any, Any]) -> None:
    stop, go = signals
    rings = rig(2, when_full="drop_oldest")
    readers = {name: ring.reader() for name, ring in zip(("left", "right"), rings, strict=True)}
    writers = [ring.writer() for ring in rings]
    with (
        nds.join(readers, within=0.5, deadline=0.2) as sets,
        Child(beat, writers[0]) as left,
        Child(beat, writers[1]) as right,
    ):
        del writers
        left.hear(), right.hear()
        assert wait_until(lambda: sets.get(timeout=HANG).complete, HANG)
        os.kill(right.pid, stop)
        why = "frozen" if go else "died"
        assert wait_until(lambda: sets.get(timeout=HANG).missing.get("right") == why, HANG)
        if go:
            os.kill(right.pid, go)
            assert wait_until(lambda: sets.get(timeout=HANG).complete, HANG)
        else:
            with Child(beat, rings[1].writer()) as successor:
                successor.hear()
                assert wait_until(lambda: sets.get(timeout=HANG).complete, HANG)
        # Also when it is the one that leads.
        os.kill(left.pid, signal.SIGSTOP)
        if go:
            assert wait_until(lambda: sets.get(timeout=HANG).lead == "right", HANG)
            os.kill(left.pid, signal.SIGCONT)
            assert wait_until(lambda: sets.get(timeout=HANG).lead == "left", HANG)


def test_a_death_is_told_to_who_cannot_keep_up() -> None:
    """Its sets are due when it asks for them, so it never waits: it was told of a frozen camera, for ever."""
    rings = rig(2, slots=32)
    writer, theirs = [ring.writer() for ring in rings]
    with nds.join([ring.reader() for ring in rings], within=1e-6, deadline=0.001) as sets:
        with Child(beat, theirs) as child:
            del theirs
            child.hear()
            os.kill(child.pid, signal.SIGKILL)
        for number in range(20):
            writer.put([number])
        time.sleep(0.01)
        told = [sets.get(timeout=HANG).missing[1] for _ in range(20)]
        assert told[-1] == "died", told
        assert sets.stats()["readers"][1]["state"] == "died"


def test_what_a_camera_dropped_is_not_missing_because_it_has_ended_since() -> None:
    left, right = rig(2)
    with nds.join([left.reader(), right.reader()], within=0.002) as sets:
        with right:
            for at in 0, 20:
                right.put([at], time_ns=at * MS)
        with pytest.raises(nds.Empty):  # it has heard of the end
            sets.get(timeout=0)
        with left:
            for at in 0, 10, 20, 30:
                left.put([at], time_ns=at * MS)
        assert [one.missing for one in sets] == [{}, {1: "no match"}, {}, {1: "closed"}]


def test_by_number_by_a_field_and_with_a_leader() -> None:
    rings = rig(2, meta=[("shot", "i4"), ("phase", "f4")])
    by_seq, by_shot, by_phase = (
        nds.join([ring.reader() for ring in rings], within=within, by=by, lead=lead)
        for within, by, lead in ((0, "seq", 1), (0.005, "shot", None), (0.25, "phase", 0))
    )
    for place, shots in enumerate(([1, 2, 4], [2, 3, 4])):
        with rings[place] as ring:
            for shot in shots:
                ring.put([shot], shot=shot, phase=shot / 4)
    assert [(numbers(one), one.lead) for one in by_seq] == [([1, 2], 1), ([2, 3], 1), ([4, 4], 1)]
    assert [numbers(one) for one in by_shot] == [[1, None], [2, 2], [4, 4]]
    found = list(by_phase)
    assert [(numbers(one), one.spread) for one in found] == [([1, None], 0), ([2, 2], 0), ([4, 4], 0)]
    assert [one.seq for one in found] == [0, 1, 2]


def test_a_set_is_a_sequence_and_a_mapping() -> None:
    rings = rig(2)
    with nds.join({"a": rings[0].reader(), "b": rings[1].reader()}) as sets:
        for ring, stamp in zip(rings, (7 * MS, 9 * MS), strict=True):
            with ring:
                ring.put([1], time_ns=stamp)
        one = sets.get(timeout=HANG)
    left, right = one
    assert left is one["a"] is one[0] is one.items()[0][1]
    assert (one.names, one.lead, one.time_ns, one.spread, len(one), one[1:]) == (
        ("a", "b"),
        "a",
        7 * MS,
        0.002,
        2,
        (right,),
    )
    assert left in one
    assert dict(one) == {"a": left, "b": right} == dict(**one) == dict(zip(one.keys(), one.values(), strict=True))
    assert (one.get("a"), one.get("c"), one.get("c", 3), "a" in one, "c" in one) == (left, None, 3, True, False)
    match one:
        case {"b": frame}:
            assert frame is right
        case _:
            pytest.fail("no mapping")
    assert (isinstance(one, Mapping), isinstance(one, Sequence), type(one).__mro__[1]) == (True, True, nds.FrameSet)
    tree = nds.Ring(slots=2)
    frames = tree.reader()
    tree.put(one)
    assert frames.get(timeout=HANG).tree() == {"a": [1], "b": [1]}
    assert np.zeros(1) not in one
    assert repr(one) == "<FrameSet 0 of frames {'a': 0, 'b': 0}, spread 0.002>"
    with pytest.raises(KeyError, match="expected one of the readers"):
        one["c"]
    with pytest.raises(nds.Closed, match="was closed"):
        sets.get()


def test_it_says_on_whom_it_waits() -> None:
    rings = rig(2)
    with nds.join({"a": rings[0].reader(), "b": rings[1].reader()}) as sets:
        rings[0].put([1])
        with pytest.raises(nds.Empty, match=r"it waits for 'b' \(live\), and of frames there are 1 of 'a'"):
            sets.get(timeout=0.01)
        assert repr(sets) == "<Join of ['a', 'b'] by time_ns, 0 sets, 1 frames waiting>"
        for timeout in (-1, float("nan")):
            with pytest.raises(ValueError, match="expected a timeout"):
                sets.get(timeout)


class InterruptedWaitError(Exception):
    pass


def test_a_wait_answers_signals_and_lets_others_run() -> None:
    def handler(*_: object) -> None:
        raise InterruptedWaitError

    rings = rig(2)
    with nds.join([ring.reader() for ring in rings]) as sets:
        before = signal.signal(signal.SIGALRM, handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(InterruptedWaitError):
                sets.get()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        got: list[Any] = []
        thread = threading.Thread(target=lambda: got.append(sets.get(timeout=HANG)))
        thread.start()
        for ring in rings:
            with ring:
                ring.put([1], time_ns=5)
        thread.join(HANG)
        assert numbers(got[0]) == [1, 1]


def test_closing_ends_the_waits_and_gives_all_back() -> None:
    rings = rig(2)
    before = descriptors()
    sets = nds.join([ring.reader() for ring in rings])
    rings[0].put([1])
    ended: list[str] = []

    def wait(sets: nds.Join) -> None:
        try:
            sets.get()
        except nds.Closed as error:
            ended.append(str(error))  # the error itself keeps this frame, and in it the join

    waiting = [threading.Thread(target=wait, args=(sets,)) for _ in range(2)]
    for thread in waiting:
        thread.start()
    sets.close()
    for thread in waiting:
        thread.join(HANG)
    assert len(ended) == 2
    assert [ring.stats()["readers"] for ring in rings] == [[], []]
    with pytest.raises(nds.Closed):
        sets.fileno()
    assert list(sets) == []
    del sets
    assert wait_until(lambda: descriptors() <= before)


def test_the_descriptor_is_readable_for_sets_deadlines_and_the_end() -> None:
    rings = rig(2)
    with nds.join([ring.reader() for ring in rings], deadline=0.05, apart=0.01) as sets:

        def readable(timeout: float) -> bool:
            return bool(select.select([sets], [], [], timeout)[0])

        def quiet() -> bool:
            try:
                sets.get(timeout=0)
            except nds.Empty:
                return not readable(0)
            return False

        assert wait_until(quiet)
        for stamp in (1, 2, 3):
            for ring in rings:
                ring.put([stamp], time_ns=stamp * 20 * MS)
        for stamp in (1, 2, 3):
            assert readable(HANG)
            assert numbers(sets.get(timeout=0)) == [stamp, stamp]
        assert wait_until(quiet)
        rings[0].put([4], time_ns=80 * MS)
        # Only the timer tells of this one.
        found: list[Any] = []
        while not found:
            assert readable(HANG)
            try:
                found.append(sets.get(timeout=0))
            except nds.Empty:
                continue
        assert (numbers(found[0]), found[0].missing) == ([4, None], {1: "frozen"})
        for ring in rings:
            ring.close()
        while True:
            assert readable(HANG)
            try:
                sets.get(timeout=0)
            except nds.Empty:
                continue
            except nds.Closed:
                break


def test_asyncio_awaits_sets() -> None:
    async def collect() -> list[Any]:
        rings = rig(2)
        with nds.join([ring.reader() for ring in rings]) as sets:
            loop = asyncio.get_running_loop()
            for stamp in range(3):
                for ring in rings:
                    loop.call_later(
                        0.01 * stamp, lambda ring=ring, stamp=stamp: ring.put([stamp], time_ns=stamp * 50 * MS)
                    )
            loop.call_later(0.05, lambda: [ring.close() for ring in rings])
            return [numbers(one) async for one in sets]

    assert asyncio.run(collect()) == [[0, 0], [1, 1], [2, 2]]


def test_few_frames_are_held() -> None:
    rings = rig(2, when_full="drop_oldest")
    with nds.join([ring.reader() for ring in rings], limit=4, deadline=None) as sets:
        for number in range(20):
            rings[1].put([number], time_ns=number * MS)
            with pytest.raises(nds.Empty):
                sets.get(timeout=0)
        stats = sets.stats()["readers"][1]
        assert (stats["waiting"], stats["overrun"], stats["unmatched"], stats["state"]) == (4, 16, 16, "live")
        assert rings[1].stats()["readers"][0]["held"] == 4
        # The leader's go out without partners instead.
        for number in range(4):
            rings[0].put([number], time_ns=(100 + 20 * number) * MS)
        one = sets.get(timeout=HANG)
        assert (numbers(one), one.missing) == ([0, None], {1: "overrun"})


def test_a_healthy_camera_loses_nothing_while_a_slow_one_is_waited_for() -> None:
    """Stream 1 is three times as fast as the leader, and nothing comes of stream 2 for some time."""
    fed = Fed([list(range(0, 400, 30)), list(range(0, 400, 10)), [0, 300, 330]], within=4, limit=8)
    for stream in (0, 1, 2):
        fed.push(stream)
    for number in range(1, 28):
        fed.push(1, due=1000 + 10 * number)
        if number % 3 == 0:
            fed.push(0, due=1000 + 10 * number)
    # One more of stream 1 would have gone: so sets go out with it, and without waiting for stream 2.
    assert fed.given == [[0, 0, 0], *([number, 3 * number, None] for number in range(1, len(fed.given)))]
    assert (len(fed.given), fed.matcher.counts[1].overrun) == (7, 0)
    assert (fed.matcher.states[2], fed.matcher.due()) == ("live", 1030), "when the first of these was due"
    fed.drain(now=1029)
    assert (fed.matcher.states[2], len(fed.given)) == ("live", 7)
    fed.drain(now=1030)
    assert (fed.matcher.states[2], len(fed.given)) == ("frozen", 10)
    for stream in (2, 1, 1, 1, 0):
        fed.push(stream)
    assert fed.given[7:] == [[7, 21, None], [8, 24, None], [9, 27, None], [10, 30, 1]]
    fed.check_books()


def test_a_slow_camera_is_not_frozen_before_the_deadline() -> None:
    rings = rig(3, when_full="drop_oldest")
    readers = {name: ring.reader() for name, ring in zip("abc", rings, strict=True)}
    with nds.join(readers, within=0.001, deadline=HANG, limit=4) as sets:
        for number in range(12):
            for ring in rings[:2]:
                ring.put([number], time_ns=number * 10 * MS)
            with contextlib.suppress(nds.Empty):
                one = sets.get(timeout=0)
                assert (numbers(one), one.missing) == ([one.seq, one.seq, None], {"c": "overrun"})
        assert [(of["matched"], of["overrun"], of["state"]) for of in sets.stats()["readers"]] == [
            (9, 0, "live"),
            (9, 0, "live"),
            (0, 0, "live"),
        ]


@pytest.mark.parametrize("lead", ["steady", "wall"])
def test_it_says_that_cameras_have_different_clocks(lead: str) -> None:
    rings = dict(zip(("steady", "wall"), rig(2), strict=True))
    with nds.join({name: ring.reader() for name, ring in rings.items()}, lead=lead, limit=2) as sets:
        for _ in range(4):
            rings["steady"].put([0], time_ns=time.monotonic_ns())
            rings["wall"].put([0], time_ns=time.time_ns())
        assert not sets.get(timeout=HANG).complete
        with pytest.warns(RuntimeWarning, match=f"s {'ahead of' if lead == 'steady' else 'behind'} those of '{lead}'"):
            sets.get(timeout=HANG)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            sets.get(timeout=HANG)
        steady, wall = (of["offset"] for of in sets.stats()["readers"])
    ahead = (time.time_ns() - time.monotonic_ns()) / 1e9
    assert steady is not None
    assert wall is not None
    assert abs(steady) < HANG
    assert abs(wall - ahead) < HANG


def test_how_many_wait_follows_the_size_of_frames() -> None:
    for largest, most in ((2, 1024), (1 << 20, 128), (1 << 24, 16)):
        ring = nds.Ring(slots=2)
        with nds.join([ring.reader(), nds.Ring(1, slots=2).reader()]) as sets:
            for number, size in enumerate([1] * 14 + [largest, 1]):
                ring.put(np.empty(size, "u1"), time_ns=number)
                with contextlib.suppress(nds.Empty):
                    sets.get(timeout=0)
            assert sets._matcher.limits[0] == most


def test_the_last_deaths_are_told_once() -> None:
    rings = rig(2)
    writers = [ring.writer() for ring in rings]
    with nds.join([ring.reader() for ring in rings]) as sets:
        with Child(film, writers[0], [5], True) as one, Child(film, writers[1], [6], True) as other:
            del writers
            one.hear(), other.hear()
        assert numbers(sets.get(timeout=HANG)) == [0, 0]
        with pytest.raises(nds.WriterDied):
            sets.get(timeout=HANG)
        with pytest.raises(nds.Empty, match=r"'?0'? \(died\)"):
            sets.get(timeout=0.01)
        for ring in rings:
            with ring:
                ring.put([7], time_ns=50)
        assert numbers(sets.get(timeout=HANG)) == [7, 7]


def test_threads_share_the_sets() -> None:
    rings = rig(3, slots=64)
    sets = nds.join([ring.reader() for ring in rings], apart=0.01)
    got: list[list[int]] = [[], []]

    def take(mine: list[int]) -> None:
        mine.extend(int(one[0][0]) for one in sets if one.complete)  # type: ignore[index]

    threads = [threading.Thread(target=take, args=(mine,)) for mine in got]
    for thread in threads:
        thread.start()
    for number in range(300):
        for ring in rings:
            ring.put([number], time_ns=number * 20 * MS)
    for ring in rings:
        ring.close()
    for thread in threads:
        thread.join(HANG)
    assert not any(thread.is_alive() for thread in threads), "one was not told of the end"
    assert sorted(got[0] + got[1]) == list(range(300))
    assert all(a < b for mine in got for a, b in pairwise(mine))


def test_what_cannot_be_joined_is_refused() -> None:
    ring, other = rig(2, meta=[("shot", "i4"), ("text", "S4")])
    for readers, error, text in (
        ([], ValueError, "expected readers, got none"),
        ([ring], TypeError, "give ring.reader"),
        ([ring.reader(), 3], TypeError, "got int for 1"),
        ([ring.reader(group="g")], ValueError, "a member of a group"),
        ({3: ring.reader()}, TypeError, "names of readers to be str"),
        ([ring.reader()] * 2, ValueError, "each reader once"),
    ):
        with pytest.raises(error, match=text):
            nds.join(readers)  # type: ignore[arg-type]
    pair = [ring.reader(), other.reader()]
    for options, error, text in (
        ({"by": "text"}, ValueError, "a field of numbers"),
        ({"by": "nothing"}, ValueError, "a field of numbers"),
        ({"within": -1}, ValueError, "expected within to be a number, 0 or more, in seconds"),
        ({"within": "5 ms"}, ValueError, "expected within"),
        ({"apart": float("nan")}, ValueError, "expected apart"),
        ({"lead": 2}, ValueError, "expected lead to be one of the readers"),
        ({"deadline": 0}, ValueError, "expected deadline in seconds"),
        ({"limit": 1}, ValueError, "expected a limit of 2"),
    ):
        with pytest.raises(error, match=text):
            nds.join(pair, **options)  # type: ignore[arg-type]
    with nds.join(pair) as sets:
        with pytest.raises(TypeError, match="send the readers"):
            sets.__reduce__()
        pid = os.fork()
        if pid == 0:
            try:
                sets.get(timeout=0)
            except RuntimeError as error:
                os._exit(7 if "belongs to process" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_distances_may_be_numbers_of_numpy() -> None:
    """They were refused as no numbers; and an int8 would overflow beside a stamp."""
    rings = [nds.Ring(1, "u1", slots=4) for _ in range(2)]
    for by, within in (("time_ns", np.float32(0.5)), ("seq", np.int8(1))):
        with nds.join([ring.reader(start="oldest") for ring in rings], within, by) as sets:
            for ring in rings:
                ring.put([1], time_ns=MS)
            assert sets.get(timeout=HANG).complete


def test_a_frame_is_found_in_its_set_by_identity() -> None:
    """`index` and `count` compared arrays item by item: ValueError about the truth of an array."""
    rings = [nds.Ring(2, "u1", slots=4) for _ in range(2)]
    with nds.join([ring.reader() for ring in rings], 1.0) as sets:
        for ring in rings:
            ring.put([1, 2], time_ns=MS)
            ring.close()
        one = sets.get(timeout=HANG)
    assert (one.index(one[1]), one.count(one[1]), one.count(None)) == (1, 1, 0)
    assert (one.index(one[1], -1), one.index(one[0], 0, 1)) == (1, 0)
    with pytest.raises(ValueError, match="expected a frame of this set"):
        one.index(one[0], 1)


def test_a_slow_reader_of_sets_loses_none() -> None:
    """What waits in the rings does not count for the deadline of those that are there."""
    rings = rig(3, slots=64)
    with nds.join([ring.reader() for ring in rings], limit=2, deadline=0.01, apart=0.01) as sets:
        for number in range(30):
            for ring in rings:
                ring.put([number], time_ns=number * 20 * MS)
        time.sleep(0.03)
        for ring in rings:
            ring.close()
        assert [numbers(one) for one in sets] == [[number] * 3 for number in range(30)]


def test_a_distance_may_be_longer_than_any_clock_goes() -> None:
    rings = [nds.Ring(2, "u1", slots=2) for _ in range(2)]
    with nds.join([ring.reader() for ring in rings], within=1e300, deadline=1e300, apart=0) as sets:
        for ring, time_ns in zip(rings, (1, 1 << 60), strict=True):
            ring.put([1, 2], time_ns=time_ns)
            ring.close()
        assert [frame.time_ns for frame in next(sets).values() if frame is not None] == [1, 1 << 60]
