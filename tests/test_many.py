"""Many frames in one call are as if they were put and got one by one: a twin does that, and both see the same."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from helpers import HANG, METHODS
from ndshare import _native
from ring_workers import end_by_itself

LINES = np.arange(12, dtype=np.uint8).reshape(4, 3)
META = [("gain", "f4"), ("line", "i4")]
POINTS = tuple(point for point in _native.KILL_POINTS if point.startswith("ring:"))


def started(method: str, target: Any, *args: Any) -> Any:
    """Start a child that ends by itself."""
    process: Any = mp.get_context(method).Process(target=target, args=args, daemon=True)
    process.start()
    return process


def told(frames: list[Any]) -> list[tuple[Any, ...]]:
    """Return all that frames say but when they were published."""
    return [
        (f.seq, f.shape, f.dtype, str(f.tolist()), None if f.meta is None else f.meta.tolist(), f.note) for f in frames
    ]


def drained(reader: nds.Reader[Any]) -> list[Any]:
    """Return what there is, one by one."""
    frames: list[Any] = []
    try:
        while True:
            frames.append(reader.get(timeout=0))
    except (nds.Empty, nds.Closed):
        return frames


# ---- beside the twin


@pytest.mark.parametrize(
    ("ring", "frames"),
    [
        ({"shape": 3, "dtype": "u1"}, LINES),
        ({"shape": 3, "dtype": "u1"}, LINES[::-2]),
        ({"shape": 3, "dtype": "u1"}, np.asfortranarray(LINES)),
        ({"shape": 3, "dtype": "u1"}, LINES[:, ::-1]),
        ({"shape": 3, "dtype": "u1"}, list(LINES)),
        ({"shape": 3, "dtype": "u1"}, [[1, 2, 3], (4, 5, 6)]),
        ({"shape": 3, "dtype": "u1"}, (line for line in LINES)),
        ({"shape": 3, "dtype": "u1"}, LINES[:, :2]),
        ({"shape": 3, "dtype": "f4"}, LINES),
        ({"shape": 3, "dtype": "f4"}, [LINES[0], [0.5, 1, 2]]),
        ({"shape": 3, "dtype": ">u2"}, LINES.astype(np.uint16)),
        ({"shape": 3, "dtype": "u1"}, np.broadcast_to(LINES[0], (5, 3))),
        ({"shape": 3, "dtype": "u1"}, np.zeros((0, 3), np.uint8)),
        ({"shape": 3, "dtype": "u1"}, []),
        ({"shape": (), "dtype": "f8"}, np.arange(3.0)),
        ({"shape": (2, 0), "dtype": "u1"}, np.zeros((3, 2, 0), np.uint8)),
        ({}, [np.arange(3), np.zeros((2, 2), "f4"), np.array("ab"), np.float32(7)]),
        ({}, np.arange(12.0).reshape(2, 3, 2)),
        ({"fields": {"x": ((), "f4"), "n": (2, "i4")}}, np.zeros(3, [("x", "f4"), ("n", "i4", 2)])),
    ],
)
@pytest.mark.parametrize("is_writer", [False, True])
def test_many_are_as_if_put_and_got_one_by_one(ring: dict[str, Any], frames: Any, is_writer: bool) -> None:
    frames = list(frames) if isinstance(frames, Iterator) else frames
    many, twin = (nds.Ring(slots=8, **ring) for _ in range(2))
    reader, other = many.reader(), twin.reader()
    sink: Any = many.writer() if is_writer else many
    assert sink.put_many(frames) == [twin.put(frame) for frame in frames]
    expected = drained(other)
    assert told(reader.get_many(100, timeout=0) if expected else []) == told(expected)
    with pytest.raises(nds.Empty):
        reader.get_many(1, timeout=0)


@pytest.mark.parametrize("mode", [{}, {"latest": True}, {"group": "g"}, {"start": "oldest"}])
@pytest.mark.parametrize("when_full", ["wait", "drop_oldest", "drop_newest"])
def test_every_kind_of_reader_gets_the_same_by_batches_of_every_size(mode: dict[str, Any], when_full: Any) -> None:
    rings = [nds.Ring(3, "u1", slots=4, when_full=when_full, keep=2) for _ in range(2)]
    readers = [ring.reader(**mode) for ring in rings]
    for size in (1, 2, 3, 5, 100):
        for frames in (LINES[:3], LINES[:1], LINES):
            puts = [ring.put_many(frames) for ring in rings]
            assert puts[0] == puts[1]
            got: list[Any] = []
            while batch := _some(readers[0], size):
                assert len(batch) <= size
                got += told(batch)
                del batch
            assert got == told(drained(readers[1]))


def _some(reader: nds.Reader[Any], size: int) -> list[Any]:
    try:
        return reader.get_many(size, timeout=0)
    except nds.Empty:
        return []


@pytest.mark.parametrize("when_full", ["drop_oldest", "drop_newest"])
def test_more_than_there_is_room_for(when_full: Any) -> None:
    many, twin = (nds.Ring(3, "u1", slots=3, when_full=when_full) for _ in range(2))
    reader, other = many.reader(), twin.reader()
    assert many.put_many(LINES) == [twin.put(line) for line in LINES]
    assert told(reader.get_many(10)) == told(drained(other))
    assert (reader.missed, many.stats()["dropped"]) == (other.missed, twin.stats()["dropped"])


def test_meta_and_times_go_with_each() -> None:
    records = np.array([(0.5, 1), (1.5, 2), (2.5, 3)], META)
    times = np.array([10, 20, 20])
    mappings = [{"gain": 0.5, "line": 1}, {"gain": 1.5, "line": 2}, {"gain": 2.5, "line": 3}]
    for meta in (records, list(records), mappings, records[::-1][::-1]):
        ring = nds.Ring(3, "u1", slots=4, meta=META)
        reader = ring.reader()
        ring.put_many(LINES[:3], meta=meta, time_ns=times if meta is records else times.tolist())
        frames = reader.get_many(4)
        assert [frame.meta.tolist() for frame in frames] == records.tolist()
        assert [frame.time_ns for frame in frames] == [10, 20, 20]
    reader = ring.reader()
    ring.put_many(LINES[:2])
    assert [frame.meta.tolist() for frame in reader.get_many(4)] == [(0, 0), (0, 0)]


def test_received_frames_take_meta_and_notes_along() -> None:
    first, second = (
        nds.Ring(3, "u1", slots=4, meta=META),
        nds.Ring(3, "u2", slots=4, meta=[("line", "i4"), ("x", "u1")]),
    )
    frames, reader = first.reader(), second.reader()
    first.put(LINES[0], line=7, note="a note that is long enough not to be beside the others" * 20)
    first.put(LINES[1], line=8)
    received = frames.get_many(2)
    second.put_many([*received, LINES[2]])
    assert [(f.meta["line"], f.note) for f in reader.get_many(3)] == [(7, received[0].note), (8, None), (0, None)]
    second.put_many(received, meta=[{"x": 1}, {"line": 1}])
    assert [f.meta.tolist() for f in reader.get_many(3)] == [(7, 1), (1, 0)]


def test_shared_arrays_are_copied_and_stay_writable() -> None:
    ring, lines = nds.Ring(3, "u1", slots=4), nds.array(LINES)
    reader = ring.reader()
    ring.put_many(lines)
    lines[:] = 99
    assert [frame.tolist() for frame in reader.get_many(4)] == LINES.tolist()


# ---- what is refused


@pytest.mark.parametrize(
    ("frames", "said", "error"),
    [
        ([LINES[0], LINES[0].astype("f8")], {}, TypeError),
        ([LINES[0], np.array([None])], {}, TypeError),
        ([[1, 2, 3], [4, 5, 300]], {}, OverflowError),
        ([LINES[0], np.zeros(4, "u1")], {}, ValueError),
        (np.zeros((2, 4), "u1"), {}, ValueError),
        (np.uint8(7), {}, TypeError),
        (7, {}, TypeError),
        ("text", {}, TypeError),
        (LINES, {"time_ns": [1, 2, 3]}, ValueError),
        (LINES, {"time_ns": [1, 2, 4, 3]}, ValueError),
        (LINES, {"time_ns": [1, 2, 3, -4]}, ValueError),
        (LINES, {"time_ns": [1, 2, 3, 4.5]}, TypeError),
        (LINES, {"time_ns": 7}, TypeError),
        (LINES, {"meta": [{"line": 1}] * 3}, ValueError),
        (LINES, {"meta": [{"line": 1}] * 3 + [{"line": 1 << 40}]}, OverflowError),
        (LINES, {"meta": np.zeros(3, META)}, ValueError),
        (LINES, {"timeout": -1}, ValueError),
    ],
)
def test_what_cannot_be_put_is_refused_before_the_first(frames: Any, said: Any, error: type[Exception]) -> None:
    ring = nds.Ring(3, "u1", slots=8, meta=META)
    with pytest.raises(error):
        ring.put_many(frames, **said)
    assert ring.stats()["written"] == 0
    assert ring.put_many(LINES) == [0, 1, 2, 3]


def test_trees_and_meta_without_a_place_are_refused() -> None:
    ring = nds.Ring(slots=4)
    with pytest.raises(TypeError, match="one by one"):
        ring.put_many([{"a": LINES}])
    with pytest.raises(TypeError, match="made without meta="):
        ring.put_many(LINES, meta=[{}] * 4)
    for n in (0, -1):
        with pytest.raises(ValueError, match="1 or more"):
            ring.reader().get_many(n)


# ---- ends on the way


def test_full_half_way_says_what_was_published() -> None:
    ring = nds.Ring(3, "u1", slots=3)
    reader = ring.reader()
    with pytest.raises(nds.Full) as caught:
        ring.put_many(LINES, timeout=0.01)
    assert caught.value.published == [0, 1, 2]
    assert caught.value.__notes__ == ["3 of 4 frames were published before"]
    assert [frame.tolist() for frame in reader.get_many(9)] == LINES[:3].tolist()
    assert ring.put_many(LINES[3:], timeout=0) == [3]
    assert nds.Full("anything").published is None


def test_a_deadline_is_for_all_and_room_lets_the_call_go_on() -> None:
    ring = nds.Ring(3, "u1", slots=2)
    reader = ring.reader()
    numbers: list[int | None] = []
    writer = threading.Thread(target=lambda: numbers.extend(ring.put_many(LINES, timeout=HANG)))
    writer.start()
    got: list[Any] = []
    while len(got) < len(LINES):
        got += reader.get_many(9, timeout=HANG)
    writer.join()
    assert numbers == [0, 1, 2, 3]
    assert [frame.tolist() for frame in got] == LINES.tolist()


def test_closed_half_way_says_what_was_published() -> None:
    ring = nds.Ring(3, "u1", slots=2)
    reader, raised = ring.reader(), list[nds.Closed]()

    def put() -> None:
        try:
            ring.put_many(LINES)
        except nds.Closed as closed:
            raised.append(closed)

    thread = threading.Thread(target=put)
    thread.start()
    first = reader.get_many(1, timeout=HANG)
    while ring.stats()["written"] < 3:
        pass
    ring.close()
    thread.join()
    assert raised[0].published == [0, 1, 2]
    assert [frame.seq for frame in [*first, *reader.get_many(9)]] == [0, 1, 2]
    with pytest.raises(nds.Closed):
        reader.get_many(9)


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    def stop(_signum: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_ctrl_c_says_what_was_published() -> None:
    ring = nds.Ring(3, "u1", slots=2)
    reader = ring.reader()
    with pytest.raises(KeyboardInterrupt) as caught, interrupted_after(0.05):
        ring.put_many(LINES)
    assert caught.value.published == [0, 1]  # type: ignore[attr-defined]
    assert "2 of 4 frames were published before" in caught.value.__notes__
    assert len(reader.get_many(9)) == 2
    with pytest.raises(KeyboardInterrupt), interrupted_after(0.05):
        reader.get_many(9)


def test_ctrl_c_ends_a_call_that_never_waits() -> None:
    ring = nds.Ring(1, "u1", slots=2)
    many = np.broadcast_to(np.zeros(1, "u1"), (3_000_000, 1))
    with pytest.raises(KeyboardInterrupt) as caught, interrupted_after(0.2):
        ring.put_many(many)
    published = caught.value.published  # type: ignore[attr-defined]
    assert len(published) == ring.stats()["written"] < len(many)


# ---- deaths


def put_and_die(writer: nds.Writer[Any], label: str, nth: int) -> None:
    end_by_itself()
    _native.kill_at(label, nth)
    for _ in range(3):
        writer.put_many(LINES)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(not POINTS, reason="this build has no kill points")
@pytest.mark.parametrize("label", [p for p in POINTS if p in ("ring:busy", "ring:filled", "ring:head", "ring:picked")])
def test_a_writer_that_is_killed_half_way_leaves_the_first_ones_whole(label: str) -> None:
    ring = nds.Ring(3, "u1", slots=32)
    reader = ring.reader()
    writer = started("fork", put_and_die, ring.writer(), label, 6)
    writer.join(HANG)
    assert writer.exitcode == -signal.SIGKILL
    frames = reader.get_many(100, timeout=HANG)
    # A label may stand on the way of a frame more than once.
    assert 2 <= len(frames) <= 6
    assert [(frame.seq, frame.tolist()) for frame in frames] == [(n, LINES[n % 4].tolist()) for n in range(len(frames))]
    with pytest.raises(nds.WriterDied):
        reader.get_many(100, timeout=HANG)
    assert ring.put_many(LINES) == [len(frames) + n for n in range(4)]
    assert [frame.seq for frame in reader.get_many(100)] == [len(frames) + n for n in range(4)]


def get_and_stay(reader: nds.Reader[Any], conn: Any) -> None:
    end_by_itself()
    frames = reader.get_many(3)
    conn.send([frame.seq for frame in frames])
    signal.pause()


def test_frames_that_a_killed_member_had_in_hand_come_again() -> None:
    ring = nds.Ring(3, "u1", slots=8)
    mine, theirs = mp.Pipe()
    member = ring.reader(group="g")
    ring.put_many(LINES)
    process = started("fork", get_and_stay, ring.reader(group="g", start="oldest"), theirs)
    assert mine.recv() == [0, 1, 2]
    assert [frame.seq for frame in member.get_many(9)] == [3]
    process.kill()
    process.join()
    seqs: list[int] = []
    while len(seqs) < 3:
        seqs += [frame.seq for frame in member.get_many(9, timeout=HANG)]
    assert seqs == [0, 1, 2]


def write_lines(writer: nds.Writer[Any], count: int) -> None:
    end_by_itself()
    lines = np.arange(count, dtype=np.uint32)[:, None]
    with writer:
        for first in range(0, count, 100):
            writer.put_many(np.repeat(lines[first : first + 100], 4, axis=1))


@pytest.mark.parametrize("method", METHODS[:2])
def test_all_of_many_come_from_several_processes_in_each_ones_order(method: str) -> None:
    ring = nds.Ring(4, "u4", slots=64)
    reader, writers, count = ring.reader(), [ring.writer() for _ in range(2)], 3000
    processes = [started(method, write_lines, writers.pop(), count) for _ in range(2)]
    numbers: list[int] = []
    try:
        while True:
            numbers += [_number(frame) for frame in reader.get_many(30, timeout=HANG)]
    except nds.Closed:
        pass
    for process in processes:
        process.join()
    assert sorted(numbers) == sorted([*range(count)] * 2)
    assert reader.missed == 0


def _number(frame: Any) -> int:
    assert (frame == frame[0]).all()
    return int(frame[0])


# ---- idle frames


@pytest.mark.parametrize("hold", [0, 1, 5, 40])
def test_frames_that_are_held_are_never_written_however_they_are_let_go(hold: int) -> None:
    """A twin remembers what each held frame said. More than the ring's own frames may be held."""
    ring = nds.Ring(1, "u4", slots=8)
    readers = [ring.reader() for _ in range(2)]
    kept: list[tuple[Any, int]] = []
    dice = np.random.default_rng(1)
    for round_ in range(60):
        numbers = np.arange(dice.integers(1, 9), dtype=np.uint32)[:, None] + 1000 * round_
        ring.put_many(numbers)
        for reader in readers:
            kept += [(frame, int(frame[0])) for frame in reader.get_many(8)]
        dice.shuffle(kept)  # type: ignore[arg-type]
        del kept[hold:]
        assert all(frame[0] == number for frame, number in kept)


def test_a_ring_takes_no_more_blocks_than_it_had_frames_at_once() -> None:
    arena = nds.Arena("8 MiB")
    ring = nds.Ring(1 << 16, "u1", slots=64, arena=arena)
    reader = ring.reader()
    frames, sizes = np.zeros((5, 1 << 16), np.uint8), set[int]()
    for _ in range(40):
        ring.put_many(frames)
        assert len(reader.get_many(5)) == 5
        with pytest.raises(ZeroDivisionError), ring.write():
            raise ZeroDivisionError
        sizes.add(nds.stats(arena)["bytes"])
    # The frames that a batch in hand keeps, those that are written meanwhile, and the newest.
    assert max(sizes) <= (1 << 16) * 12 + (1 << 20)
