"""Frames through a pipe are those of a loop in one process, whoever dies meanwhile; and nothing is left."""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

import ndshare as nds
import pipe_workers
from helpers import HANG, Child, alive, held, run, settle, wait_until
from ndshare._pipe_engine import Engine
from ndshare._pipe_worker import Answer, _packed, unpacked
from pipe_workers import fill

FORK = mp.get_context("fork")
META = [("total", "i8"), ("said", "S8"), ("gain", "f4"), ("source_seq", "i8"), ("source_time_ns", "i8")]


@contextmanager
def camera(
    numbers: range, shape: int = 8, slots: int = 8, meta: Any = None, **fields: Any
) -> Iterator[nds.Reader[Any]]:
    """Yield a reader of a ring that a thread fills as soon as there is room."""
    ring = nds.Ring(shape, "u2", slots=slots, meta=meta)
    reader, writer = ring.reader(), ring.writer()
    thread = threading.Thread(target=fill, args=(writer, numbers), kwargs=fields)
    thread.start()
    try:
        yield reader
    finally:
        # What nobody reads holds the camera up.
        reader.close()
        thread.join()


def results(slots: int = 8, **options: Any) -> tuple[nds.Ring[Any], nds.Reader[Any]]:
    ring = nds.Ring(slots=slots, **options)
    return ring, ring.reader()


def firsts(frames: nds.Reader[Any]) -> list[int]:
    """Return the first item of each frame until the end."""
    return [int(frame.flat[0]) for frame in frames]


def passed(numbers: range, f: Callable[..., Any], **options: Any) -> tuple[list[np.ndarray[Any, Any]], nds.Pipe]:
    """Pass frames full of numbers through a pipe; return copies of the results, and the pipe."""
    into, frames = results(slots=len(numbers))
    with camera(numbers) as reader, nds.pipe(reader, f, into, **{"workers": 1, "mp_context": FORK, **options}) as pipe:
        pass
    return [frame.copy() for frame in frames], pipe


def busy(pipe: nds.Pipe) -> list[int]:
    return [worker["pid"] or 0 for worker in pipe.stats()["workers"] if worker["state"] == "working"]


# ---- the naive twin -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "ordered"), [("fork", True), ("fork", False), ("spawn", True), ("forkserver", True)]
)
def test_a_pipe_does_what_a_loop_does(method: str, ordered: bool) -> None:
    numbers, gain = range(30), float
    with camera(numbers, meta=[("gain", "f4")], gain=gain) as reader:
        wanted = {frame.seq: (frame.time_ns, pipe_workers.work(frame)) for frame in reader}
    into, frames = results(meta=META)
    got: list[int] = []
    options: dict[str, Any] = {"workers": 2, "ordered": ordered, "mp_context": mp.get_context(method)}
    with (
        camera(numbers, meta=[("gain", "f4")], gain=gain) as reader,
        nds.pipe(reader, pipe_workers.work, into, **options) as pipe,
    ):
        for frame in frames:
            got.append(int(frame.meta.source_seq))
            _, (array, meta) = wanted[got[-1]]
            assert np.array_equal(frame, array)
            assert frame.dtype == array.dtype
            assert frame.meta.gain == got[-1]
            assert frame.meta.total == meta["total"]
            assert frame.meta.said.decode() == meta["said"]
            assert 0 < frame.meta.source_time_ns <= frame.time_ns
    assert got == list(numbers) if ordered else sorted(got) == list(numbers)
    stats = pipe.stats()
    assert (stats["read"], stats["done"], stats["written"], stats["failed"], stats["in_flight"]) == (30, 30, 30, 0, 0)
    assert pipe.closed
    assert repr(pipe) == "<Pipe of 2 workers, 30 frames read, 30 written, ended>"


@pytest.mark.parametrize(
    "f", [pipe_workers.itself, pipe_workers.part, pipe_workers.total, pipe_workers.listed, pipe_workers.ordinary]
)
def test_any_result_is_what_put_would_publish(f: Callable[..., Any]) -> None:
    got, _ = passed(range(12), f)
    assert len(got) == 12
    for number, array in enumerate(got):
        assert np.array_equal(array, np.asarray(f(np.full(8, number, "u2"))))


@pytest.mark.parametrize("f", [pipe_workers.kept, pipe_workers.kept_view])
def test_an_array_that_the_function_keeps_is_copied(f: Callable[..., Any]) -> None:
    """It was born shared, and the next call fills it again: a frame that is published does not change."""
    got, _ = passed(range(12), f, min_bytes=1)
    assert [int(array.min()) for array in got] == [int(array.max()) for array in got] == list(range(12))


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_several_arrays_are_a_frame_of_a_ring_with_fields(method: str) -> None:
    into = nds.Ring(fields={"low": (2, "f4"), "high": (3, "u1")}, slots=8, meta=[("total", "i8")])
    frames = into.reader()
    context = mp.get_context(method)
    with camera(range(6)) as reader, nds.pipe(reader, pipe_workers.paired, into, workers=1, mp_context=context):
        pass
    got = [(frame.low.tolist(), frame.high.tolist(), int(frame.meta.total)) for frame in frames]
    assert got == [([n] * 2, [n] * 3, 7 * (n % 3 == 2)) for n in range(6)]


def test_several_arrays_are_a_tree_in_a_ring_of_any_frames() -> None:
    for f in (pipe_workers.two, pipe_workers.two_and_meta):
        into, frames = results(meta=[("total", "i8")])
        with camera(range(3)) as reader, nds.pipe(reader, f, into, workers=1, mp_context=FORK):
            pass
        for number, frame in enumerate(frames):
            one, other = frame.tree()
            assert (one.tolist(), frame.meta.total) == ([number] * 8, 0 if f is pipe_workers.two else 7)
            assert (other if f is pipe_workers.two else other["twice"]).tolist() == [2 * number] * 8
    got, _ = passed(range(3), pipe_workers.array_and_none)
    assert [array.tolist() for array in got] == [[n] * 8 for n in range(3)]


@pytest.mark.parametrize(
    ("f", "into", "error", "text"),
    [
        (pipe_workers.two, {"shape": (2, 8)}, TypeError, r"expected one array for a ring .* \(2, 8\) .* a tuple of 2"),
        (pipe_workers.paired, {"shape": 8}, TypeError, r"expected one array for a ring .* \(8,\) .* got a dict"),
        (pipe_workers.of_short, {"fields": {"low": (2, "f4"), "high": (3, "u1")}}, ValueError, "low"),
        (pipe_workers.of_short, {"fields": {"low": (1, "f4")}}, TypeError, "expected the fields low, got .* 'high'"),
    ],
)
def test_several_arrays_that_do_not_fit(f: Callable[..., Any], into: Any, error: Any, text: str) -> None:
    """They are not stacked in silence, and what `put` says of a tree is said."""
    with (
        camera(range(2)) as reader,
        pytest.raises(error, match=text) as told,
        nds.pipe(reader, f, nds.Ring(**into, slots=4), workers=1, mp_context=FORK),
    ):
        pass
    assert "of frame 0, in worker" in told.value.__notes__[0]


class _MuteError(Exception):
    """An exception whose text is an error itself."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class _NumberError(Exception):
    """An exception that comes out of a pickle as a number."""

    def __reduce__(self) -> Any:
        return int, (3,)


def test_an_exception_without_a_text_or_of_an_odd_pickle_is_an_exception_on_the_other_side() -> None:
    assert type(unpacked(_packed(_MuteError()))) is _MuteError
    with pytest.raises(RuntimeError, match="_NumberError: why"):
        raise unpacked(_packed(_NumberError("why")))


def test_a_worker_that_was_killed_gets_no_frame_after_its_last_error() -> None:
    for why, is_idle in (("more than timeout=1 s", False), (None, True)):
        engine, worker = MagicMock(_idle=[]), MagicMock(why=why)
        Engine._note(engine, worker, Answer(error=_packed(ValueError("last"))))
        assert (worker in engine._idle) == is_idle
        engine._fail.assert_called_once()


def test_notes_go_along() -> None:
    """As meta does; but the function may give another one, or none, also beside a long one."""
    for note in ("short", {"text": "x" * 1000}):
        ring = nds.Ring(8, "u2", slots=4)
        into, frames = results(meta=[("total", "i8")])
        with nds.pipe(ring.reader(), pipe_workers.noted, into, workers=1, mp_context=FORK), ring:
            for number in range(4):
                ring.put([number] * 8, note=note)
        got = [(int(frame[0]), frame.note, int(frame.meta.total)) for frame in frames]
        assert got == [(0, note, 0), (2, note, 0), (2, {"of": note}, 7), (3, None, 0)]


def test_a_note_that_is_too_long_to_be_sent_is_an_error_of_its_frame() -> None:
    ring, (into, frames) = nds.Ring(8, "u2", slots=4), results()
    with nds.pipe(ring.reader(), pipe_workers.itself, into, workers=1, on_error="skip", mp_context=FORK) as pipe, ring:
        for number in range(4):
            ring.put([number] * 8, note="x" * (200_000 * (number % 2)))
    assert firsts(frames) == [0, 2]
    assert pipe.stats()["failed"] == 2


def test_no_result_is_no_frame() -> None:
    got, pipe = passed(range(10), pipe_workers.even_only)
    assert [int(array[0]) for array in got] == [0, 2, 4, 6, 8]
    assert (pipe.stats()["done"], pipe.stats()["written"]) == (10, 5)


def test_without_a_ring_of_results_the_function_is_called_and_no_more() -> None:
    counts = nds.zeros(20, np.int64)

    def count(frame: Any) -> str:
        counts[frame.seq] += 1
        return "dropped"

    with camera(range(20)) as reader, nds.pipe(reader, count, workers=2, mp_context=FORK) as pipe:
        pass
    assert counts.tolist() == [1] * 20
    assert pipe.stats()["done"] == 20
    assert pipe.stats()["written"] == 0


@pytest.mark.parametrize("f", [pipe_workers.double_into, pipe_workers.describe_into])
def test_a_function_with_out_writes_into_the_ring_of_results(f: Callable[..., Any]) -> None:
    into = nds.Ring(8, "i4", slots=20, meta=[("total", "i8")])
    frames = into.reader()
    with camera(range(20)) as reader, nds.pipe(reader, f, into, workers=2, out=True, mp_context=FORK):
        pass
    factor = 2 if f is pipe_workers.double_into else 1
    for number, frame in enumerate(frames):
        assert frame.tolist() == [factor * number] * 8
        assert frame.dtype == np.int32
        assert frame.meta.total == (8 * number if f is pipe_workers.describe_into else 0)


def test_a_function_that_forgets_its_out_is_told_so() -> None:
    """What it returns is not taken for the result, and nothing is published that it did not write."""
    for f in (pipe_workers.doubled_beside_out, pipe_workers.total_beside_out):
        into = nds.Ring(8, "f8", slots=4)
        frames = into.reader()
        text = r"expected the result in out, .* got (an array of shape \(8,\)|a float64) beside it: fill out,"
        with (
            camera(range(2)) as reader,
            pytest.raises(TypeError, match=text) as told,
            nds.pipe(reader, f, into, workers=1, out=True, mp_context=FORK),
        ):
            pass
        assert "of frame 0" in told.value.__notes__[0]
        with pytest.raises(nds.WriterDied):
            frames.get(timeout=HANG)


def test_a_function_may_return_its_out() -> None:
    into = nds.Ring(8, "i4", slots=4, meta=[("total", "i8")])
    frames = into.reader()
    with (
        camera(range(4)) as reader,
        nds.pipe(reader, pipe_workers.out_itself, into, workers=1, out=True, mp_context=FORK),
    ):
        pass
    assert [(frame.tolist(), int(frame.meta.total)) for frame in frames] == [([n] * 8, 16 * (n == 2)) for n in range(4)]


@pytest.mark.parametrize("out", [False, True])
def test_neither_frame_nor_result_is_copied(out: bool) -> None:
    ring = nds.Ring(10_000, "u2", slots=8)
    into = nds.Ring(10_000, "u2", slots=8, meta=[("source", "i8"), ("result", "i8")])
    looks, frames = ring.reader(), into.reader()
    f = pipe_workers.blocks_with_out if out else pipe_workers.blocks
    with nds.pipe(ring.reader(), f, into, workers=2, out=out, mp_context=FORK):
        fill(ring.writer(), range(5))
    pairs = list(zip(looks, frames, strict=True))
    assert len(pairs) == 5
    for source, result in pairs:
        assert (result.meta["source"], result.meta["result"]) == tuple(map(pipe_workers.block_of, (source, result)))


def test_a_plan_of_a_transform_is_such_a_function() -> None:
    plan = nds.fft.plan_rfft2((16, 16), np.uint16, np.complex64)
    ring, into = nds.Ring((16, 16), "u2", slots=4), nds.Ring((16, 9), np.complex64, slots=4)
    frames, image = into.reader(), np.arange(256, dtype=np.uint16).reshape(16, 16)
    with nds.pipe(ring.reader(), plan, into, workers=1, out=True, mp_context=FORK), ring:
        ring.put(image)
    np.testing.assert_allclose(frames.get(timeout=HANG), np.fft.rfft2(image), rtol=1e-4)


def test_pipes_in_a_row_keep_order_and_the_number_of_the_first_frame() -> None:
    first, between = results(meta=[("source_seq", "i8")])
    second, frames = results(meta=[("source_seq", "i8")])
    # One frame in two, so numbers of the second ring are others.
    with (
        camera(range(40)) as reader,
        nds.pipe(reader, pipe_workers.even_only, first, workers=2, mp_context=FORK),
        nds.pipe(between, pipe_workers.itself, second, workers=2, mp_context=FORK),
    ):
        got = [(frame.seq, int(frame.meta.source_seq), int(frame[0])) for frame in frames]
    assert got == [(n, 2 * n, 2 * n) for n in range(20)]


def test_initializers_and_closures(method: str) -> None:
    context = mp.get_context(method)
    options: dict[str, Any] = {"initializer": pipe_workers.remember, "initargs": ("add", 5), "mp_context": context}
    got, _ = passed(range(3), pipe_workers.remembered, **options)
    assert [int(array[0]) for array in got] == [5, 6, 7]
    if method == "fork":
        assert [int(array[0]) for array in passed(range(3), lambda frame: frame + 1)[0]] == [1, 2, 3]
        return
    before = mp.active_children()
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError), match=r"pickle|local object"):
        nds.pipe(nds.Ring(8, slots=4).reader(), lambda frame: frame, workers=1, mp_context=context)
    assert mp.active_children() == before


# ---- order, and what is in hand -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False])
def test_a_frame_that_takes_long(ordered: bool) -> None:
    """In order, the frames behind it wait, as many as may be in hand; else they overtake it."""
    here, there = FORK.Pipe()
    into, frames = results(slots=40)
    with camera(range(30), slots=4) as reader:
        gate = pipe_workers.Gate(there, held=(0,))
        options: dict[str, Any] = {"workers": 2, "buffersize": 3, "ordered": ordered, "mp_context": FORK}
        with nds.pipe(reader, gate, into, **options) as pipe:
            pid, number = here.recv()
            assert number == 0
            if ordered:
                assert wait_until(lambda: pipe.stats()["done"] == 4, HANG)
                assert (pipe.stats()["read"], pipe.stats()["in_flight"], pipe.stats()["written"]) == (5, 5, 0)
            else:
                assert wait_until(lambda: pipe.stats()["written"] == 29, HANG)
            assert busy(pipe) == [pid]
            with pytest.raises(nds.Timeout, match=f"worker {pid} has worked on frame 0 for"):
                pipe.wait(timeout=0.01)
            here.send(None)
    assert firsts(frames) == (list(range(30)) if ordered else [*range(1, 30), 0])


def test_a_full_ring_of_results_holds_the_pipe_up_and_no_more() -> None:
    into, frames = results(slots=2)
    with (
        camera(range(30), slots=4) as reader,
        nds.pipe(reader, pipe_workers.itself, into, workers=2, mp_context=FORK) as pipe,
    ):
        assert wait_until(lambda: pipe.stats()["done"] == 6, HANG)
        assert (pipe.stats()["read"], pipe.stats()["written"], pipe.stats()["in_flight"]) == (6, 2, 4)
        with pytest.raises(nds.Timeout, match="the ring of results is full"):
            pipe.wait(timeout=0.05)
        assert firsts(frames) == list(range(30))


@pytest.mark.parametrize("latest", [True, False])
def test_frames_that_a_slow_pipe_does_not_get(latest: bool) -> None:
    """A reader of the newest frames holds no camera up; in a ring that drops the oldest, they are counted as missed."""
    here, there = FORK.Pipe()
    ring = nds.Ring(8, "u2", slots=2, when_full="wait" if latest else "drop_oldest")
    into, frames = results()
    gate = pipe_workers.Gate(there, held=(0,))
    with nds.pipe(ring.reader(latest=latest), gate, into, workers=1, buffersize=0, mp_context=FORK) as pipe:
        ring.put(np.zeros(8, np.uint16))
        here.recv()
        fill(ring.writer(), range(1, 20))
        here.send(None)
    assert firsts(frames) == ([0, 19] if latest else [0, 18, 19])
    assert (pipe.stats()["read"], pipe.stats()["missed"]) == ((2, 0) if latest else (3, 17))


def test_a_pipe_in_a_process_of_its_own() -> None:
    """Reader and ring are sent there; the process may have children, so it is no daemon."""
    into, frames = results(slots=40)
    with camera(range(30)) as reader, Child(run_to_the_end, reader, into, method="forkserver") as child:
        assert child.hear() == 30
        child.end()
    assert firsts(frames) == list(range(30))


def run_to_the_end(conn: Any, reader: nds.Reader[Any], into: nds.Ring[Any]) -> None:
    with nds.pipe(reader, pipe_workers.itself, into, workers=1) as pipe:
        pipe.wait()
    conn.send(pipe.stats()["written"])


# ---- deaths ---------------------------------------------------------------------------------------------------------


@pytest.mark.crash
@pytest.mark.parametrize("out", [False, True])
def test_each_frame_is_published_once_and_in_order_whoever_dies(out: bool) -> None:
    """Workers are killed from outside, at any instant, and stopped for good, while frames pass."""
    before = held()
    frames_in_all, dice = 200, random.Random(7)
    into = nds.Ring(1000, "i8", slots=8)
    frames, got = into.reader(), list[int]()
    f = pipe_workers.double_into if out else stumbling
    with camera(range(frames_in_all), shape=1000) as reader:
        options: dict[str, Any] = {"workers": 3, "tries": 50, "out": out, "timeout": 0.5, "mp_context": FORK}
        with nds.pipe(reader, f, into, **options) as pipe:
            for frame in frames:
                assert frame.min() == frame.max() == (2 if out else 3) * len(got)
                got.append(frame.seq)
                workers = pipe.stats()["workers"]
                if len(got) % 10 == 0 and workers:
                    hit(dice.choice(workers), signal.SIGKILL if len(got) % 100 else signal.SIGSTOP)
            del frame
            for worker in pipe.stats()["workers"]:
                # One that was stopped while it was idle has not been missed.
                hit(worker, signal.SIGCONT)
    assert got == list(range(frames_in_all))
    stats = pipe.stats()
    assert (stats["read"], stats["done"], stats["written"], stats["failed"]) == (200, 200, 200, 0)
    assert stats["restarted"] >= 10
    del into, frames, reader
    assert settle(before) <= before


def hit(worker: Any, number: int) -> None:
    """Send a signal to a worker, which may have died of another."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker["pid"], number)


def stumbling(frame: Any) -> Any:
    return pipe_workers.stumble(frame)


@pytest.mark.crash
@pytest.mark.parametrize(
    ("f", "how"), [(pipe_workers.die_at_three, "SIGKILL"), (pipe_workers.leave_at_three, "exit code 7")]
)
def test_a_frame_that_kills_its_workers_is_given_up(f: Callable[..., Any], how: str, tmp_path: Path) -> None:
    into, frames = results(slots=20)
    options: dict[str, Any] = {"initializer": pipe_workers.remember, "initargs": ("path", tmp_path / "over")}
    text = f"of frame 3, but each of 3 workers .*: {how}, {how}, {how};"
    with (
        camera(range(10)) as reader,
        pytest.raises(nds.WorkerDied, match=text) as told,
        nds.pipe(reader, f, into, workers=2, mp_context=FORK, **options),
    ):
        pass
    (tmp_path / "over").touch()
    assert told.value.seq == 3
    assert told.value.pid
    with pytest.raises(nds.WriterDied):
        firsts(frames)


@pytest.mark.crash
@pytest.mark.parametrize("ordered", [True, False])
def test_what_fails_is_counted_and_skipped(ordered: bool) -> None:
    met: list[tuple[str, int]] = []

    def note(error: BaseException, frame: Any) -> None:
        met.append((type(error).__name__, frame.seq))

    for f in (pipe_workers.die_at_three, pipe_workers.fail_at_three):
        got, pipe = passed(range(10), f, on_error=note, tries=2, ordered=ordered)
        assert sorted(int(array[0]) for array in got) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
        stats = pipe.stats()
        assert (stats["read"], stats["done"], stats["failed"]) == (10, 9, 1)
        assert stats["restarted"] == (2 if f is pipe_workers.die_at_three else 0)
    assert met == [("WorkerDied", 3), ("KeyError", 3)]
    assert len(passed(range(10), pipe_workers.fail_at_three, on_error="skip", ordered=ordered)[0]) == 9


@pytest.mark.crash
def test_a_worker_that_takes_too_long_is_replaced(tmp_path: Path) -> None:
    """It is stopped by SIGSTOP, and its frame is worked on again."""
    initargs = ("path", str(tmp_path / "was here"))
    options: dict[str, Any] = {"timeout": 0.5, "initializer": pipe_workers.remember, "initargs": initargs}
    got, pipe = passed(range(6), pipe_workers.sleepy, **options)
    assert [int(array[0]) for array in got] == list(range(6))
    assert pipe.stats()["restarted"] == 1
    with pytest.raises(nds.WorkerDied, match=r"more than timeout=0\.1 s, more than timeout=0\.1 s;"):
        passed(range(2), pipe_workers.never, timeout=0.1, tries=2)


@pytest.mark.crash
def test_deaths_are_noticed_where_there_are_no_pidfds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    got, pipe = passed(range(6), pipe_workers.die_at_three, on_error="skip")
    assert [int(array[0]) for array in got] == [0, 1, 2, 4, 5]
    assert pipe.stats()["restarted"] == 3


@pytest.mark.crash
def test_workers_that_never_begin_end_the_pipe() -> None:
    with pytest.raises(RuntimeError, match=r"expected workers that begin, got 4 in a row .* by exit code 9"):
        passed(range(2), pipe_workers.itself, initializer=pipe_workers.end_now)


def run_a_pipe(conn: Any, ring: nds.Ring[Any], into: nds.Ring[Any]) -> None:
    with nds.pipe(ring.reader(), pipe_workers.never_but_first, into, workers=2) as pipe:
        conn.send(None)
        wait_until(lambda: len(busy(pipe)) == 2 and pipe.stats()["written"] == 1, HANG)
        conn.send(busy(pipe))


@pytest.mark.crash
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_end_with_the_process_that_has_the_pipe(method: str) -> None:
    before = held()
    ring = nds.Ring(8, "u2", slots=8)
    into, frames = results()
    with Child(run_a_pipe, ring, into, method=method) as child:
        child.hear()
        for number in range(3):
            ring.put(np.full(8, number, "u2"))
        workers = child.hear()
        assert len(workers) == 2
        child.kill()
        assert wait_until(lambda: not any(map(alive, workers)), HANG), f"{workers} live on"
    assert int(frames.get(timeout=HANG)[0]) == 0
    with pytest.raises(nds.WriterDied):
        frames.get(timeout=HANG)
    del ring, into, frames
    assert settle(before) <= before


def write_and_die(conn: Any, writer: nds.Writer) -> None:
    for number in range(5):
        writer.put([number] * 8)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.crash
def test_the_death_of_the_camera_passes_through() -> None:
    ring = nds.Ring(8, "u2", slots=8)
    into, frames = results()
    pipe = nds.pipe(ring.reader(), pipe_workers.itself, into, workers=2, mp_context=FORK)
    with Child(write_and_die, ring.writer()), pytest.raises(nds.WriterDied):
        pipe.wait()
    assert [int(frames.get(timeout=HANG)[0]) for _ in range(5)] == list(range(5))
    with pytest.raises(nds.WriterDied):
        frames.get(timeout=HANG)


# ---- errors ---------------------------------------------------------------------------------------------------------


def test_an_error_ends_the_pipe_and_says_where_it_was() -> None:
    into, frames = results(slots=20)
    with camera(range(10)) as reader:
        pipe = nds.pipe(reader, pipe_workers.fail_at_three, into, workers=1, mp_context=FORK)
        for _ in range(2):
            with pytest.raises(KeyError, match="three") as told:
                pipe.wait()
        assert "nds.pipe: of frame 3, in worker" in told.value.__notes__[0]
        assert 'raise KeyError("three")' in str(told.value.__cause__)
        assert "failed" in repr(pipe)
        assert pipe.closed
    assert [int(frames.get(timeout=HANG)[0]) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(nds.WriterDied):
        frames.get(timeout=HANG)


def test_a_loop_over_the_results_ends_by_the_error_of_the_function() -> None:
    """Not by the end of the stream that is its consequence; the traceback has where it was, and the loop."""
    into, frames = results(slots=20)
    got: list[int] = []
    with (
        camera(range(10)) as reader,
        pytest.raises(KeyError, match="three") as told,
        nds.pipe(reader, pipe_workers.fail_at_three, into, workers=1, mp_context=FORK) as pipe,
    ):
        got += [int(frame[0]) for frame in frames]
    assert "nds.pipe: of frame 3, in worker" in told.value.__notes__[0]
    shown = "".join(traceback.format_exception(told.value))
    places = [shown.index(text) for text in ('raise KeyError("three")', "ndshare.WriterDied", "KeyError: 'three'\nnds")]
    assert places == sorted(places)
    with pytest.raises(KeyError, match="three"):
        pipe.wait()


def test_other_exceptions_leave_the_block_as_they_are() -> None:
    for kind, into in ((LookupError, results()[0]), (nds.WriterDied, None)):
        with camera(range(10)) as reader:
            pipe = nds.pipe(reader, pipe_workers.fail_at_three, into, workers=1, mp_context=FORK)
            assert wait_until(lambda pipe=pipe: pipe.closed, HANG)
            with pytest.raises(kind, match="mine") as told, pipe:
                raise kind("mine")
            assert told.value.__cause__ is None


@pytest.mark.parametrize(
    ("f", "error", "text"),
    [
        (pipe_workers.fail_oddly, RuntimeError, "OddError: 0 and xxx"),
        (pipe_workers.objects, TypeError, "expected a dtype of plain bytes"),
        (pipe_workers.much_beside, ValueError, "expected at most 131072 bytes to go with a frame"),
        (pipe_workers.remembered, KeyError, "add"),
        (pipe_workers.generated, TypeError, "cannot pickle 'generator'"),
        (pipe_workers.code_beside, Exception, "local object .*code_beside.<locals>.<lambda>"),
    ],
)
def test_what_cannot_be_sent_or_published_is_an_error_of_its_frame(f: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text) as told:
        passed(range(2), f)
    assert "of frame 0" in told.value.__notes__[-1]  # before it since 3.14 are those of pickle
    assert passed(range(4), f, on_error="skip")[1].stats()["failed"] == 4


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_child_of_the_function_has_no_part_in_the_pipe(method: str) -> None:
    """It answered as well, and its result passed for that of the next frame."""
    options = {"mp_context": mp.get_context(method)}
    assert [int(one[0]) for one in passed(range(6), pipe_workers.forked, **options)[0]] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("ordered", [True, False])
def test_in_order_results_behind_an_error_are_dropped(ordered: bool) -> None:
    here, there = FORK.Pipe()
    into, frames = results()
    gate = pipe_workers.Gate(there, held=(0,))

    def fail_at_last(frame: Any) -> Any:
        if gate(frame).seq == 0:
            raise KeyError("zero")
        return frame

    options: dict[str, Any] = {"workers": 2, "ordered": ordered, "mp_context": FORK}
    with camera(range(3)) as reader:
        pipe = nds.pipe(reader, fail_at_last, into, **options)
        assert wait_until(lambda: pipe.stats()["done" if ordered else "written"] == 2, HANG)
        here.send(None)
        with pytest.raises(KeyError):
            pipe.wait()
    assert pipe.stats()["written"] == (0 if ordered else 2)
    for _ in range(pipe.stats()["written"]):
        assert int(frames.get(timeout=HANG)[0]) > 0
    with pytest.raises(nds.WriterDied):
        frames.get(timeout=HANG)


def test_an_error_in_on_error_ends_the_pipe() -> None:
    def refuse(error: BaseException, frame: Any) -> None:
        raise LookupError(frame.seq)

    with pytest.raises(LookupError, match="3"):
        passed(range(10), pipe_workers.fail_at_three, on_error=refuse)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"reader": [1, 2]}, TypeError, "expected a Reader of a ring"),
        ({"f": 3}, TypeError, "expected a function of a frame, got int"),
        ({"into": 3}, TypeError, "expected a Ring for the results"),
        ({"initializer": 3}, TypeError, "expected a function as initializer"),
        ({"workers": 0}, ValueError, "expected workers of 1 or more, got 0"),
        ({"workers": 1.5}, TypeError, "float"),
        ({"buffersize": -1}, ValueError, "expected buffersize of 0 or more"),
        ({"tries": 0}, ValueError, "expected tries of 1 or more"),
        ({"timeout": 0}, ValueError, "expected a timeout above 0 s"),
        ({"on_error": "ignore"}, ValueError, 'expected on_error "raise", "skip" or a function'),
        ({"out": True}, TypeError, "made with a shape, for out=True"),
        ({"min_bytes": -1}, ValueError, "min_bytes"),
    ],
)
def test_arguments_that_are_none(options: dict[str, Any], error: Any, text: str) -> None:
    ring, into = nds.Ring(8, slots=4), nds.Ring(slots=4)
    given: dict[str, Any] = {"reader": ring.reader(), "f": pipe_workers.itself, "into": into, **options}
    with pytest.raises(error, match=text):
        nds.pipe(given.pop("reader"), given.pop("f"), given.pop("into"), **given)
    assert into.stats()["writers"] == []


# ---- the end --------------------------------------------------------------------------------------------------------


def test_closing_gives_up_what_is_in_hand() -> None:
    before = held()
    into, frames = results()
    with camera(range(10)) as reader:
        pipe = nds.pipe(reader, pipe_workers.never, into, workers=2, mp_context=FORK)
        assert wait_until(lambda: len(busy(pipe)) == 2, HANG)
        workers = busy(pipe)
        pipe.close()
        pipe.close()
        assert not any(map(alive, workers))
        assert pipe.closed
        assert pipe.stats()["workers"] == []
        pipe.wait()
        with pytest.raises(nds.WriterDied):
            frames.get(timeout=HANG)
    del into, frames, reader
    assert settle(before) <= before


def test_a_pipe_whose_writer_is_closed_leaves_no_workers_behind() -> None:
    """At the end of a program writers close in order; then the pipe could not die, and its workers waited for ever."""
    into, _ = results()
    pipe = nds.pipe(nds.Ring(8, "u2", slots=4).reader(), pipe_workers.itself, into, workers=1, mp_context=FORK)
    (worker,) = pipe.stats()["workers"]
    writer = pipe._engine._writer  # pyright: ignore[reportPrivateUsage]
    assert writer is not None
    writer.close()
    pipe.close()
    assert not alive(worker["pid"] or 0)
    pipe.wait()


LEAVES_IT_OPEN = """
import multiprocessing.util, sys
import numpy as np, ndshare as nds
ring, into = nds.Ring(8, "u2", slots=4), nds.ref(sys.argv[1]).open()
frames = into.reader()
pipe = nds.pipe(ring.reader(), abs, into, workers=1, mp_context=multiprocessing.get_context("fork"))
ring.put(np.ones(8, "u2"))
frames.get(timeout=60)
"""


def test_the_end_of_a_program_with_an_open_pipe_is_no_end_of_the_stream_of_results() -> None:
    """Where multiprocessing was imported first, writers closed before the pipe, and half a stream was a whole one."""
    into, frames = results()
    subprocess.run([sys.executable, "-c", LEAVES_IT_OPEN, str(nds.ref(into))], check=True, timeout=HANG)
    assert frames.get(timeout=HANG).tolist() == [1] * 8
    with pytest.raises(nds.WriterDied):
        frames.get(timeout=HANG)


def test_closing_from_on_error_and_by_an_exception() -> None:
    into, _ = results(slots=20)
    pipes: list[nds.Pipe] = []
    with camera(range(10), slots=2) as reader:
        pipes.append(
            nds.pipe(
                reader,
                pipe_workers.fail_at_three,
                into,
                workers=1,
                on_error=lambda *_: pipes[0].close(),
                mp_context=FORK,
            )
        )
        pipes[0].wait(HANG)
    with camera(range(10)) as reader:
        with pytest.raises(ZeroDivisionError), nds.pipe(reader, pipe_workers.never, workers=1, mp_context=FORK) as pipe:
            _ = 1 / 0
        assert pipe.closed


@pytest.mark.parametrize("how", ["close", "exception", "idle"])
def test_an_early_end_is_none_of_the_stream_of_results(how: str) -> None:
    """Of half a stream nobody takes it for a whole one; and the ring of results takes another pipe."""
    here, there = FORK.Pipe()
    ring = nds.Ring(8, "u2", slots=8)
    into, frames = results()
    gate = pipe_workers.Gate(there, held=() if how == "idle" else (2,))
    pipe = nds.pipe(ring.reader(), gate, into, workers=1, mp_context=FORK)
    for number in range(2 if how == "idle" else 4):
        ring.put(np.full(8, number, "u2"))
    assert [int(frames.get(timeout=HANG)[0]) for _ in range(2)] == [0, 1]
    if how == "exception":
        with pytest.raises(KeyboardInterrupt), pipe:
            raise KeyboardInterrupt
    pipe.close()
    with pytest.raises(nds.WriterDied):
        frames.get(timeout=HANG)
    here.close()
    with nds.pipe(ring.reader(start="oldest"), pipe_workers.itself, into, workers=1, mp_context=FORK), ring:
        pass
    assert firsts(frames) == list(range(2 if how == "idle" else 4))


def test_workers_that_cannot_be_started_end_no_stream_of_results() -> None:
    ring, (into, frames) = nds.Ring(8, "u2", slots=8), results()
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError), match=r"pickle|local object"):
        nds.pipe(ring.reader(), lambda frame: frame, into, workers=1, mp_context=mp.get_context("spawn"))
    with pytest.raises(nds.WriterDied):
        frames.get(timeout=HANG)
    into.put(np.zeros(8))


def test_a_reader_that_is_closed_ends_the_stream_in_order() -> None:
    """What was read before is worked on and published, and then the stream of results ends."""
    here, there = FORK.Pipe()
    ring, (into, frames) = nds.Ring(8, "u2", slots=8), results()
    reader = ring.reader()
    gate = pipe_workers.Gate(there, held=(0,))
    pipe = nds.pipe(reader, gate, into, workers=1, buffersize=1, mp_context=FORK)
    for number in range(4):
        ring.put(np.full(8, number, "u2"))
    here.recv()
    assert wait_until(lambda: pipe.stats()["read"] == 2, HANG)
    assert "working" in repr(pipe)
    reader.close()
    here.send(None)
    pipe.wait(HANG)
    assert firsts(frames) == [0, 1]


def in_a_fork(conn: Any, pipe: nds.Pipe) -> None:
    try:
        pipe.wait(0)
    except RuntimeError as error:
        conn.send(str(error))
    pipe.close()


def test_a_fork_has_no_part_in_a_pipe() -> None:
    here, there = FORK.Pipe()
    into, frames = results(slots=20)
    with camera(range(10), slots=2) as reader:
        gate = pipe_workers.Gate(there, held=(2,))
        with nds.pipe(reader, gate, into, workers=1, mp_context=FORK) as pipe:
            here.recv()
            with Child(in_a_fork, pipe) as child:
                assert "expected the process that made the pipe" in child.hear()
                child.end()
            here.send(None)
    assert firsts(frames) == list(range(10))


SCRIPT = """
import os, signal, sys, threading, time
import numpy as np
import ndshare as nds

def f(frame):
    time.sleep(1000)

if __name__ == "__main__":
    ring = nds.Ring(8, "u2", slots=4)
    pipe = nds.pipe(ring.reader(), f, workers=2)
    ring.put(np.zeros(8, "u2"))
    while not any(worker["seq"] == 0 for worker in pipe.stats()["workers"]):
        time.sleep(0.01)
    if sys.argv[1] == "interrupt":
        # As a terminal does it: everybody gets it.
        threading.Timer(0.2, os.killpg, (os.getpid(), signal.SIGINT)).start()
        try:
            with pipe:
                pass
        except KeyboardInterrupt:
            print("interrupted", pipe.closed)
    else:
        print("left")
"""


@pytest.mark.parametrize("how", ["interrupt", "leave"])
def test_ctrl_c_and_the_end_of_the_program_end_a_pipe(how: str) -> None:
    """Both at once, and in silence."""
    began = time.monotonic()
    assert run(SCRIPT, how).clean() == ("interrupted True\n" if how == "interrupt" else "left\n")
    assert time.monotonic() - began < HANG


def test_nothing_is_left_of_a_pipe() -> None:
    """No descriptor, no thread, no process, no byte."""
    passed(range(3), pipe_workers.itself)
    before = len(os.listdir("/proc/self/fd")), threading.active_count(), mp.active_children(), held()
    for _ in range(3):
        passed(range(20), pipe_workers.kept, workers=2, min_bytes=1)
        with pytest.raises(KeyError):
            passed(range(20), pipe_workers.fail_at_three)
    assert settle(before[3]) <= before[3]
    assert wait_until(lambda: threading.active_count() == before[1])
    assert (len(os.listdir("/proc/self/fd")), threading.active_count(), mp.active_children()) == before[:3]
