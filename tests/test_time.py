"""When frames were made and published, what that is in UTC, and the newest frame again and again."""

from __future__ import annotations

import os
import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from helpers import HANG, Child, wait_until


def camera(**options: Any) -> nds.Ring[Any]:
    return nds.Ring(4, "u1", **{"slots": 8, **options})


# ---- time_ns


def test_a_writer_says_when_a_frame_was_made() -> None:
    ring = camera()
    frames = ring.reader()
    before = time.monotonic_ns()
    ring.put([1] * 4, time_ns=np.uint32(5))
    with ring.write() as frame:
        assert (frame.time_ns, frame.published_ns, frame.age) == (None, None, None)
        frame.time_ns = 7
        assert frame.time_ns == 7
    assert frame.time_ns == 7
    shared = nds.zeros(4, "u1")
    ring.put(shared, time_ns=7)
    got = [frames.get(timeout=HANG) for _ in range(3)]
    assert [one.time_ns for one in got] == [5, 7, 7]
    published = [one.published_ns for one in got]
    assert before <= published[0] <= published[1] <= published[2] <= time.monotonic_ns()
    assert got[0][1:].time_ns == 5, "a view of a frame has its time"
    with pytest.raises(ValueError, match="this one is read-only"):
        got[0].time_ns = 9
    with pytest.raises(ValueError, match="this one is read-only"):
        frame.time_ns = 9


def test_without_a_word_the_time_is_that_of_publication() -> None:
    ring = camera()
    frames = ring.reader()
    ring.put([1] * 4)
    frame = frames.get(timeout=HANG)
    assert frame.time_ns == frame.published_ns
    assert 0 <= frame.age <= (time.monotonic_ns() - frame.time_ns) / 1e9 + 1e-9


def test_times_of_one_writer_do_not_go_back() -> None:
    ring = camera()
    frames, first, second = ring.reader(), ring.writer(), ring.writer()
    first.put([1] * 4, time_ns=100)
    second.put([2] * 4, time_ns=50)
    with pytest.raises(ValueError, match=r"time_ns=100, got time_ns=99"):
        first.put([3] * 4, time_ns=99)
    with pytest.raises(ValueError, match=r"time_ns=50, got time_ns=0"), second.write() as frame:
        frame.time_ns = 0
    assert ring.stats()["written"] == 2
    second.put([4] * 4, time_ns=1 << 62)
    with pytest.raises(ValueError, match="or none"):
        second.put([5] * 4)
    first.put([6] * 4, time_ns=100)
    assert [frames.get(timeout=HANG).time_ns for _ in range(4)] == [100, 50, 1 << 62, 100]


@pytest.mark.parametrize(
    ("given", "error"), [(-1, ValueError), (1 << 63, ValueError), (1.5, TypeError), ("7", TypeError)]
)
def test_what_is_no_time_is_refused(given: Any, error: type[Exception]) -> None:
    ring = camera()
    with pytest.raises(error, match="expected time_ns to be"):
        ring.put([1] * 4, time_ns=given)
    assert ring.stats()["written"] == 0


def test_a_field_of_meta_is_no_argument_of_put() -> None:
    with pytest.raises(ValueError, match='"time_ns": choose another name'):
        camera(meta=[("time_ns", "i8")])


# ---- the clock


def test_the_clock_maps_to_utc_and_back() -> None:
    ring = camera()
    frames = ring.reader()
    before = time.time_ns()
    ring.put([1] * 4)
    after = time.time_ns()
    frame, clock = frames.get(timeout=HANG), ring.clock
    slack = clock.uncertainty_ns + 1_000_000  # the wall clock is slewed meanwhile
    assert before - slack <= clock.utc_ns(frame.time_ns) <= after + slack
    assert 0 < clock.uncertainty_ns < 1_000_000_000
    assert clock.monotonic_ns(clock.utc_ns(frame.time_ns)) == frame.time_ns
    told = clock.datetime(frame.time_ns)
    assert told.tzinfo is UTC
    utc = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=clock.utc_ns(frame.time_ns) // 1000)
    assert told == utc
    assert clock == nds.Clock(*clock)


# ---- newest


@pytest.mark.parametrize("kind", [{}, {"latest": True}, {"group": "workers"}], ids=["every", "latest", "group"])
def test_the_newest_frame_comes_again_and_is_not_taken(kind: dict[str, Any]) -> None:
    ring = camera(keep=1)
    frames = ring.reader(**kind)
    for number in range(3):
        ring.put([number] * 4)
    lag = frames.lag
    assert [int(frames.newest(max_age=HANG)[0]) for _ in range(3)] == [2, 2, 2]
    assert frames.lag == lag
    expected = 2 if kind.get("latest") else 0
    assert int(frames.get(timeout=HANG)[0]) == expected
    assert frames.newest().seq == 2


def test_a_member_keeps_its_frame_while_it_looks_at_the_newest() -> None:
    ring = camera()
    one, other = ring.reader(group="g"), ring.reader(group="g")
    for number in range(2):
        ring.put([number] * 4)
    mine = one.get(timeout=HANG)
    assert one.newest().seq == 1
    with pytest.raises(nds.Empty):
        one.newest(max_age=0, timeout=0.01)
    # Had it done with its frame by that, nobody would get it when this member leaves.
    one.close()
    assert sorted([other.get(timeout=HANG).seq, other.get(timeout=HANG).seq]) == [0, 1]
    del mine


def test_looking_holds_no_writer_back() -> None:
    ring = camera(slots=2)
    frames = ring.reader(latest=True)
    for number in range(50):
        ring.put([number] * 4, timeout=HANG)
        kept = frames.newest()
        assert kept.seq == number
    assert ring.stats()["missed"] == 0


def test_a_frame_that_is_too_old_is_waited_out() -> None:
    ring = camera()
    frames = ring.reader(latest=True)
    with pytest.raises(nds.Empty, match="there is none yet"):
        frames.newest(timeout=0)
    ring.put([1] * 4, time_ns=1 << 62)  # its writer's clock counts for nothing here
    time.sleep(0.02)
    with pytest.raises(nds.Empty, match=r"the newest, frame 0, is 0\.\d+ s old, and one writer is there"):
        frames.newest(max_age=0.01, timeout=0.02)
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(frames.newest(max_age=0.01, timeout=HANG)))
    thread.start()
    # Again and again: on a slow machine one may be too old when the thread comes to it.
    while thread.is_alive():
        ring.put([2] * 4, time_ns=1 << 62)
        thread.join(0.002)
    assert got[0].seq > 0


def test_the_end_of_a_ring_leaves_the_newest() -> None:
    ring = camera()
    frames = ring.reader(latest=True)
    with ring:
        ring.put([1] * 4)
    assert frames.newest().seq == 0
    time.sleep(0.005)
    with pytest.raises(nds.Closed, match="frame 0, is"):
        frames.newest(max_age=0.001)
    frames.close()
    with pytest.raises(nds.Closed, match="the reader was closed"):
        frames.newest()


@pytest.mark.parametrize("age", [-1, float("nan")])
def test_an_age_is_a_number_of_seconds(age: float) -> None:
    with pytest.raises(ValueError, match="expected max_age in seconds"):
        camera().reader().newest(max_age=age)


def test_threads_look_at_once() -> None:
    ring = camera(slots=4)
    frames = ring.reader(latest=True)
    ring.put([0] * 4)
    stop, torn = threading.Event(), []

    def look() -> None:
        last = 0
        while not stop.is_set():
            frame = frames.newest()
            torn.extend([frame.seq] if len(set(frame.tolist())) != 1 or frame.seq < last else [])
            last = frame.seq

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(1000):
        ring.put([number % 256] * 4)
    stop.set()
    for thread in threads:
        thread.join(HANG)
    assert not torn


def _films(conn: Any, writer: nds.Writer[Any]) -> None:
    writer.put([1] * 4)
    conn.send("on")
    conn.recv()


def test_a_death_is_told_once_to_who_waits_for_a_newer_frame() -> None:
    ring = camera()
    frames, writer = ring.reader(latest=True), ring.writer()
    with Child(_films, writer) as child:
        del writer
        child.hear()
        assert frames.newest(timeout=HANG).seq == 0
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(nds.WriterDied):
            frames.newest(max_age=0, timeout=HANG)
        assert frames.newest().seq == 0, "what is there is there"
        with pytest.raises(nds.Empty, match="no writer is there"):
            frames.newest(max_age=0, timeout=0.01)
    ring.put([2] * 4)
    assert wait_until(lambda: frames.newest(timeout=HANG).seq == 1)
