# pyright: reportPrivateUsage=false
"""Frames of one ring, through a function in several processes, into another ring: what users see of it."""

from __future__ import annotations

import atexit
import multiprocessing
import operator
import os
import threading
import traceback
import weakref
from collections.abc import Callable
from multiprocessing import util
from multiprocessing.context import BaseContext
from typing import Any, Self

import numpy as np

from . import _native
from ._errors import Closed, Timeout, WriterDied
from ._native import Reader, Ring
from ._pipe_engine import Engine, OnError, PipeStats, Rules
from ._pipe_worker import Task, Wanted
from ._waiting import slices

_running: weakref.WeakSet[Pipe] = weakref.WeakSet()


def _forget_frames() -> None:
    for pipe in list(_running):
        pipe._engine.drop_frames()


def _close_all() -> None:
    for pipe in list(_running):
        pipe.close()


os.register_at_fork(after_in_child=_forget_frames)
# Registered behind what closes the writers of this process, and so called before it: a stream that is cut off must not
# look as if it had ended.
atexit.register(_close_all)


class Pipe:
    """Frames on their way through a function. Made by `pipe`.

    Leaving ``with`` waits for the end of the stream, as `wait` does; leaving it by an exception, such as Ctrl-C, closes
    the pipe. When that says that the stream of results ended, what ended the pipe is raised from it. A pipe that nobody
    has goes on; at the end of the program it is closed.

    >>> import ndshare as nds
    >>> camera, results = nds.Ring(2, "uint8", slots=4), nds.Ring(slots=4, keep=4)
    >>> with nds.pipe(camera.reader(), abs, into=results, workers=1) as pipe:
    ...     camera.put([1, 2]), camera.close()
    (0, None)
    >>> pipe
    <Pipe of 1 worker, 1 frame read, 1 written, ended>
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pid = os.getpid()
        self._error: BaseException | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ndshare-pipe", daemon=True)
        # Before multiprocessing waits for all children, at the end of a program and of a child of its own.
        self._at_exit = util.Finalize(self, _close_at_exit, (weakref.ref(self),), exitpriority=100)
        _running.add(self)

    def _begin(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            if self._engine.claim():
                self._engine.run()
        except BaseException as error:
            # It would keep frames.
            traceback.clear_frames(error.__traceback__)
            self._error = error
        self._has_ended()

    def _has_ended(self) -> None:
        _running.discard(self)
        self._at_exit.cancel()
        self._ended.set()

    @property
    def closed(self) -> bool:
        """Whether it has ended: its workers are gone, and its writer is closed."""
        return self._ended.is_set()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the stream has ended and all results are published.

        Raises what ended the pipe before that, also when it is asked again: what the function raised, with the number
        of the frame in a note; WorkerDied for a frame whose workers died; WriterDied when the last writer of the ring
        that is read was killed. Raises Timeout when it has not ended `timeout` seconds from now (None: wait for ever).

        >>> import ndshare as nds
        >>> camera = nds.Ring(2, "uint8", slots=4)
        >>> pipe = nds.pipe(camera.reader(), abs, workers=1)
        >>> try:
        ...     pipe.wait(timeout=0)
        ... except TimeoutError:
        ...     camera.close()
        >>> pipe.wait()
        """
        self._check_process()
        if not any(map(self._ended.wait, slices(timeout))):
            raise Timeout(f"expected the pipe to end within {timeout:g} s, but {self._what_it_waits_for()}")
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Stop at once: what is in hand is given up, and workers that work are killed.

        Before the end of the stream that is a death to readers of results: they get WriterDied. To end the stream of
        results in order, close the reader that was given to the pipe: what it had read is worked on and published.

        >>> import ndshare as nds
        >>> with nds.pipe(nds.Ring(2, "uint8", slots=4).reader(), abs, workers=1) as pipe:
        ...     pipe.close()
        """
        if os.getpid() != self._pid:
            return
        self._engine.stop()
        if threading.current_thread() is not self._thread:
            any(map(self._ended.wait, slices(None)))

    def stats(self) -> PipeStats:
        """Return what it has done so far, as a plain dict.

        "read" counts frames that were taken, of which "done" went through the function, "failed" did not, and
        "in_flight" are in hand; "missed" those that went before they were read. "written" counts results that were
        published, "restarted" workers that were replaced. "workers" is a list of dicts: "pid", "state" ("starting",
        "idle", "working"), "seq" of the frame that it works on and for how many "seconds" (else None), and how many it
        has "done".

        >>> import ndshare as nds
        >>> with nds.pipe(nds.Ring(2, "uint8", slots=4).reader(), abs, workers=2) as pipe:
        ...     len(pipe.stats()["workers"]), pipe.stats()["read"], pipe.close()
        (2, 0, None)
        """
        engine = self._engine
        return PipeStats(
            read=engine.read,
            missed=engine.missed,
            done=engine.done,
            written=engine.written,
            failed=engine.failed,
            in_flight=len(engine.jobs),
            restarted=engine.restarted,
            workers=[worker.stats() for worker in list(engine.workers)],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            # Also when Ctrl-C ended the wait.
            self.close()
        if self._engine.has_results and isinstance(error, WriterDied | Closed):
            self._raise_why(error)

    def _raise_why(self, end: BaseException) -> None:
        """Raise what ended the pipe in the place of what the loop over its results made of that."""
        error = self._error
        if error is None or error is end:
            return
        # Where it was in the worker: the traceback shows that, then the loop, then the error itself.
        end.__cause__ = end.__cause__ or error.__cause__
        raise error from end

    def __repr__(self) -> str:
        engine = self._engine
        workers, frames = _counted(engine.rules.workers, "worker"), _counted(engine.read, "frame")
        state = ("failed" if self._error else "ended") if self.closed else "working"
        return f"<Pipe of {workers}, {frames} read, {engine.written} written, {state}>"

    def __reduce__(self) -> Any:
        raise TypeError("expected something that can be sent, got a Pipe, whose threads and workers are here")

    def _what_it_waits_for(self) -> str:
        stats = self.stats()
        if self._engine.is_full:
            return f"the ring of results is full, with {stats['in_flight']} frames in hand: see its readers in stats()"
        busy = [worker for worker in stats["workers"] if worker["state"] == "working"]
        if busy:
            most = max(busy, key=lambda worker: worker["seconds"] or 0)
            return f"worker {most['pid']} has worked on frame {most['seq']} for {most['seconds'] or 0:.1f} s"
        if stats["in_flight"]:
            return f"{stats['in_flight']} frames wait for workers that are starting"
        return f"the stream goes on: {stats['read']} frames were read so far"

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError(
                f"expected the process that made the pipe, {self._pid}, got a fork of it: make one in this process"
            )


def _close_at_exit(reference: weakref.ref[Pipe]) -> None:
    if (pipe := reference()) is not None:
        pipe.close()


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def pipe(
    reader: Reader[Any],
    f: Callable[..., Any],
    into: Ring[Any] | None = None,
    *,
    workers: int | None = None,
    buffersize: int | None = None,
    ordered: bool = True,
    out: bool = False,
    on_error: OnError = "raise",
    tries: int = 3,
    timeout: float | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
    mp_context: BaseContext | None = None,
    min_bytes: int = 4096,
) -> Pipe:
    """Have worker processes call ``f(frame)`` for each frame of a reader, and publish the results in another ring.

    Returns a `Pipe` at once, whose thread goes on until the stream ends. Then the results are published, the workers
    end, and its writer of `into` is closed. Frames and results go by reference; `f` gets each frame as a loop over the
    reader would, with `.seq`, `.time_ns`, `.meta` and `.note`. It returns an array, or a tree of arrays where `into`
    takes them, which is published as `Ring.put` does; that and a mapping with its meta, in a tuple; or None for no
    result. Without `into` what it returns is dropped.

    A result takes along the meta and the note of its frame, as a frame does that is put into another ring, and where
    the ring of results has the fields "source_seq" and "source_time_ns", number and time of the frame.

    `workers` is how many processes there are (None: one for each processor); `buffersize` how many more frames are in
    hand than that (None: as many), waiting for a worker or, with `ordered`, for a result before theirs.
    ``ordered=False`` publishes results as they come. With ``out=True`` it is ``f(frame, out=array)``, which writes its
    result into a block for the ring of results, of its shape and dtype; it may return a mapping with its meta, None or
    `out`. Another array is a TypeError.

    A worker that dies is replaced, and its frame is worked on again, up to `tries` times; `timeout` is how many seconds
    a worker has for a frame before it is killed. What `f` raises, or WorkerDied after the last try, ends the pipe; with
    ``on_error="skip"`` the frame is counted as failed, and with a function that is called, too, as ``on_error(error,
    frame)``, in the pipe's thread. Readers of results get WriterDied when the pipe has failed, or was closed too early.

    `f`, `initializer` and `initargs`, which each worker calls first, are sent as multiprocessing sends a Process's
    target: with spawn and forkserver they must be picklable. `min_bytes` is the size from which results go by
    reference.

    Raises TypeError and ValueError for arguments that are none, and what starting processes raises.

    >>> import numpy as np, ndshare as nds
    >>> camera, results = nds.Ring((2, 2), "uint16", slots=4), nds.Ring(slots=8, meta=[("source_seq", "i8")])
    >>> sums = results.reader()
    >>> with nds.pipe(camera.reader(), np.sum, into=results, workers=2):
    ...     with camera:
    ...         for n in range(3):
    ...             seq = camera.put([[n, n], [n, n]])
    >>> [(int(each), int(each.meta.source_seq)) for each in sums]
    [(0, 0), (4, 1), (8, 2)]
    """
    _check(reader, f, into, initializer)
    count, most = _counts(workers, buffersize, tries)
    _check_policy(on_error, timeout)
    rules = Rules(count, most, bool(ordered), on_error, tries, timeout, _out(into) if out else None)
    wanted = None if into is None else Wanted(into.shape, into.dtype)
    task = Task(f, initializer, initargs, wanted, _native.allocating(min_bytes).min_bytes)
    # Entered, it is this process's before the first result: it counts as closed, or as dead, from now on.
    writer = None if into is None else into.writer().__enter__()
    context = mp_context or multiprocessing.get_context()
    engine = Engine(reader, writer, task, rules, context)
    made = None
    try:
        engine.start_workers()
        made = Pipe(engine)
        made._begin()
    except BaseException:
        # Ctrl-C comes at any place, also when the thread is just about to begin.
        if engine.claim():
            engine.abandon()
            if made is not None:
                # Whoever looks at the exception keeps it until the end of the program, which waits for pipes.
                made._has_ended()
        elif made is not None:
            made.close()
        raise
    return made


def _check(reader: Any, f: Any, into: Any, initializer: Any) -> None:
    if not isinstance(reader, Reader):
        raise TypeError(f"expected a Reader of a ring, as ring.reader() makes it, got {type(reader).__name__}")
    if not callable(f):
        raise TypeError(f"expected a function of a frame, got {type(f).__name__}")
    if into is not None and not isinstance(into, Ring):
        raise TypeError(f"expected a Ring for the results, or None, got {type(into).__name__}")
    if initializer is not None and not callable(initializer):
        raise TypeError(f"expected a function as initializer, or None, got {type(initializer).__name__}")


def _counts(workers: int | None, buffersize: int | None, tries: int) -> tuple[int, int]:
    """Return how many workers there are, and how many frames may be in hand."""
    count = len(os.sched_getaffinity(0)) if workers is None else operator.index(workers)
    ahead = count if buffersize is None else operator.index(buffersize)
    for name, value, least in (("workers", count, 1), ("buffersize", ahead, 0), ("tries", operator.index(tries), 1)):
        if value < least:
            raise ValueError(f"expected {name} of {least} or more, got {value}")
    return count, count + ahead


def _check_policy(on_error: Any, timeout: float | None) -> None:
    if on_error not in {"raise", "skip"} and not callable(on_error):
        raise ValueError(f'expected on_error "raise", "skip" or a function, got {on_error!r}')
    if timeout is not None and not timeout > 0:
        raise ValueError(f"expected a timeout above 0 s, or None, got {timeout}")


def _out(into: Ring[Any] | None) -> tuple[tuple[int, ...], np.dtype[Any]]:
    if into is None or into.shape is None:
        raise TypeError(
            "expected a ring of results that was made with a shape, for out=True, got none: make it with one"
        )
    return into.shape, into.dtype


Pipe.__module__ = pipe.__module__ = "ndshare"
