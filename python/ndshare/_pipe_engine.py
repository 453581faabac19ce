# pyright: reportPrivateUsage=false
"""Frames of one ring, through a function in several processes, into another ring: acquisition, processing, results.

One thread of the calling process does all that needs an order, and nothing that takes long: it reads frames, gives each
to a worker, and publishes what comes back. So each frame is published once, whoever dies: a frame whose worker died is
given to another one, and a result counts when this thread has it. Frames in hand are bounded; more stay in the ring
that is read, which then does what it does when it is full.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from multiprocessing import resource_tracker
from multiprocessing.context import BaseContext
from typing import Any, Final, Literal, NamedTuple, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from . import _native
from ._errors import Closed, Empty, Full, Stale, WorkerDied, WriterDied
from ._meta import SOURCE_SEQ, SOURCE_TIME, _fits_always
from ._native import Reader, Writer
from ._pipe_worker import END, TAKEN, Answer, Line, Order, Task, serve, unpacked
from ._ring import Frame

# What a function may give beside meta: `put` has an argument of that name, so no field of meta has it.
NOTE: Final = "note"

_LOOK_EVERY: Final = 0.25  # seconds: a reader that somebody closes wakes nobody
_NAP: Final = 0.02  # seconds: as long as the other ring is full, workers are heard so often
_MOST_LOOKS: Final = 40
_LEAVE: Final = 10.0  # seconds that workers have to end in order
_MOST_FALSE_STARTS: Final = 4  # workers in a row that end before they begin

OnError = Literal["raise", "skip"] | Callable[[BaseException, Frame[Any]], object]


class WorkerStats(TypedDict):
    """What one worker of a pipe does: its process, its state, the frame that it works on and since when, in seconds."""

    pid: int | None
    state: Literal["starting", "idle", "working"]
    seq: int | None
    seconds: float | None
    done: int


class PipeStats(TypedDict):
    """What a pipe has done: frames that were read, missed, are done, published, failed, in hand; workers replaced."""

    read: int
    missed: int
    done: int
    written: int
    failed: int
    in_flight: int
    restarted: int
    workers: list[WorkerStats]


class Rules(NamedTuple):
    """How a pipe goes about it."""

    workers: int
    most: int  # frames in hand
    ordered: bool
    on_error: OnError
    tries: int
    timeout: float | None
    out: tuple[tuple[int, ...], np.dtype[Any]] | None  # what each result is written into


class Job:
    """A frame in hand."""

    def __init__(self, number: int, frame: Frame[Any]) -> None:
        self.number = number
        self.frame = frame
        self.is_done = False
        self.result: NDArray[Any] | None = None
        self.meta: Mapping[str, Any] | None = None
        self.out: NDArray[Any] | None = None
        self.deaths: list[str] = []  # how the workers ended that worked on it


# Workers


class Worker:
    """A process, and the line to it."""

    def __init__(self, context: BaseContext, task: Task, name: str) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.line = Line(ours)
            self.process: Any = cast("Any", context).Process(target=serve, args=(theirs, task), name=name)
            _start(self.process)
            ours.setblocking(False)
            self.end, self._is_own = _end_of(self.process)
        except BaseException:
            ours.close()
            self._end_at_once()
            raise
        finally:
            theirs.close()
        self.pid: int = self.process.pid
        self.job: Job | None = None
        self.since = 0.0
        self.is_ready = False
        self.is_owed = False  # it keeps a result until it hears that we have it
        self.why: str | None = None  # it was killed by us
        self.meta: np.dtype[Any] | None = None  # what it knows of the frames' meta
        self.done = 0

    def _end_at_once(self) -> None:
        """Leave no process behind: Ctrl-C comes as soon as it is let through again, just after the start."""
        process = getattr(self, "process", None)
        if process is not None and process.pid is not None:
            process.kill()
            process.join(_LEAVE)

    def give(self, job: Job) -> None:
        """Let it work on a frame."""
        self.job, self.since, self.is_owed = job, time.monotonic(), False
        meta = job.frame.meta
        if meta is not None and self.meta is not meta.dtype:
            self.meta = meta.dtype
            self._tell(meta.dtype)
        self._tell(_order(job))

    def let_go(self) -> None:
        """Say that we have its last result."""
        self.is_owed = False
        self._tell(TAKEN)

    def leave(self) -> None:
        """Say that there are no more frames."""
        self._tell(END)

    def kill(self, why: str | None = None) -> None:
        self.why = self.why or why
        self.process.kill()

    def bury(self) -> int:
        """Wait for its end, and return the exit code."""
        code = self._exit_code()
        if code is not None:
            self.process.close()
        self.line.socket.close()
        if self._is_own:
            os.close(self.end)
        return -signal.SIGKILL if code is None else int(code)

    def _exit_code(self) -> int | None:
        """Wait for the process; None when somebody else has taken its exit code."""
        for _ in range(_MOST_LOOKS):
            if self.process.exitcode is not None:
                return int(self.process.exitcode)
            # Another thread that asks for children may have heard of the end, and be about to note it. And `join` waits
            # for children that the process has left, too.
            self.process.join(_LOOK_EVERY)
        return None

    def _tell(self, message: object) -> None:
        # Its end is noticed by itself.
        with contextlib.suppress(OSError):
            self.line.send(message)

    def stats(self) -> WorkerStats:
        job = self.job
        return WorkerStats(
            pid=self.pid,
            state="working" if job else "idle" if self.is_ready else "starting",
            seq=job.frame.seq if job else None,
            seconds=time.monotonic() - self.since if job else None,
            done=self.done,
        )


def _start(process: Any) -> None:
    """Start a process that Ctrl-C does not reach: the process that has the pipe ends it."""
    if not isinstance(process, multiprocessing.get_context("fork").Process):
        # Started later, it would let Ctrl-C through again.
        resource_tracker.ensure_running()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _end_of(process: Any) -> tuple[int, bool]:
    """Return a descriptor that tells of a process's end, and whether it is ours to close.

    Multiprocessing's own is a pipe, which stays open as long as a child of the process lives.
    """
    try:
        return os.pidfd_open(process.pid), True
    except (OSError, AttributeError):
        return int(process.sentinel), False


def _order(job: Job) -> Order:
    frame, meta = job.frame, job.frame.meta
    token, dtype = _lent(frame)
    out = None if job.out is None else _lent(job.out)
    times, packed = (frame.time_ns, frame.published_ns), b"" if meta is None else meta.tobytes()
    return Order(token, dtype, frame.seq, times, packed, frame.note, out)


def _lent(array: NDArray[Any]) -> tuple[bytes, np.dtype[Any] | None]:
    """Return a token of a shared array that is kept here, and what it does not say of the dtype."""
    lent = _native.lend(array)
    assert lent is not None
    return lent[0], None if lent[2] else array.dtype


# The thread


class Engine:
    """What goes on in a pipe's thread. Others only look at its numbers, and wake it."""

    def __init__(self, reader: Reader[Any], writer: Writer[Any] | None, task: Task, rules: Rules, context: BaseContext):
        self.rules = rules
        self.read = self.missed = self.done = self.written = self.failed = self.restarted = 0
        self.jobs: dict[int, Job] = {}  # all in hand, in the order of their frames
        self.workers: list[Worker] = []
        self.is_full = False
        self.is_stopped = False
        self.has_results = writer is not None
        self._reader, self._writer = reader, writer
        self._new_worker = functools.partial(Worker, context, task)
        self._waiting: deque[Job] = deque()
        self._finished: deque[Job] = deque()  # in the order in which they came back, where that is asked for
        self._idle: list[Worker] = []
        self._false_starts = 0
        self._end: WriterDied | bool = False  # of the stream
        self._carried: tuple[str, ...] | None = None  # fields of meta that both rings have
        self._last_stamp = 0
        self._descriptor: int | None = None  # of the reader, while it is waited for
        self._claimed = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, self._be_woken)

    def start_workers(self) -> None:
        for _ in range(self.rules.workers):
            self._hire()

    def stop(self) -> None:
        """Have the thread end soon. Any thread may call this."""
        self.is_stopped = True
        with contextlib.suppress(OSError):
            self._wake.send(b"\0")

    def run(self) -> None:
        """Pass frames until the stream ends; raise what ended it before. Afterwards nothing is left."""
        try:
            while not self._is_over():
                self._step()
        except BaseException:
            self.abandon()
            raise
        # Stopped before that, it has published a part, whatever it was stopped by.
        self._end_all(is_whole=self._end is True and not self.jobs, in_order=not self.is_stopped)
        if isinstance(self._end, WriterDied):
            raise self._end

    def _step(self) -> None:
        self._take_frames()
        self._hand_out()
        self.is_full = not self._publish(0)
        if self._is_over():
            return
        self._listen(0 if self.is_full else self._patience())
        if self.is_full:
            self.is_full = not self._publish(_NAP)
        if self.rules.timeout is not None:
            self._end_slow_ones(self.rules.timeout)

    def _is_over(self) -> bool:
        return self.is_stopped or bool(self._end and not self.jobs)

    # Frames

    def _has_room(self) -> bool:
        return not self._end and len(self.jobs) < self.rules.most

    def _take_frames(self) -> None:
        while self._has_room():
            try:
                job = Job(self.read, self._reader.get(0))
                self.missed = self._reader.missed
            except Empty:
                return
            except Closed:
                self._end = True
                return
            except WriterDied as error:
                self._end = error
                return
            self.read += 1
            self.jobs[job.number] = job
            self._waiting.append(job)

    def _hand_out(self) -> None:
        while self._waiting and self._idle:
            job, worker = self._waiting.popleft(), self._idle.pop()
            if self.rules.out is not None and job.out is None:
                job.out = _native.empty(*self.rules.out)
            try:
                worker.give(job)
            except ValueError as error:
                # A note that is too long to be sent.
                worker.job, worker.is_owed = None, True
                self._idle.append(worker)
                self._settle(job)
                self._fail(job, error)
        for worker in self._idle:
            if worker.is_owed:
                worker.let_go()

    # Results

    def _publish(self, timeout: float) -> bool:
        """Publish what has its turn; False when the ring is full."""
        while (job := self._next()) is not None:
            if job.result is not None and not self._put(job, timeout):
                return False
            if not self.rules.ordered:
                self._finished.popleft()
            del self.jobs[job.number]
        return True

    def _next(self) -> Job | None:
        if not self.rules.ordered:
            return self._finished[0] if self._finished else None
        job = next(iter(self.jobs.values()), None)
        return job if job is not None and job.is_done else None

    def _put(self, job: Job, timeout: float) -> bool:
        """Publish a result; False when the ring is full."""
        assert self._writer is not None
        try:
            note, meta = _noted(job)
            self._writer.put(
                cast("Any", job.result), timeout, meta=self._meta(job, meta), note=note, time_ns=self._stamp(job)
            )
        except Full:
            return False
        except (TypeError, ValueError, OverflowError) as error:
            self.done -= 1
            self._fail(job, error)
        else:
            self.written += 1
        return True

    def _stamp(self, job: Job) -> int | None:
        """Return when the frame of a result was made. One writer's stamps do not go back; several writers' may."""
        if not self.rules.ordered:
            return None
        self._last_stamp = max(self._last_stamp, job.frame.time_ns)
        return self._last_stamp

    def _meta(self, job: Job, given: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the meta of a result: of the frame, about the frame, and what the function gave, which wins."""
        assert self._writer is not None
        fields = self._writer.ring.meta
        if fields is None:
            return given or None
        names, meta = fields.names or (), job.frame.meta
        if self._carried is None:
            self._carried = () if meta is None else _in_both(meta.dtype, fields)
        about = {SOURCE_SEQ: job.frame.seq, SOURCE_TIME: job.frame.time_ns}
        known = {name: value for name, value in about.items() if name in names}
        return {**known, **{name: cast("Any", meta)[name] for name in self._carried}, **given}

    def _settle(self, job: Job) -> None:
        job.is_done, job.out = True, None
        if not self.rules.ordered:
            self._finished.append(job)

    def _fail(self, job: Job, error: BaseException, pid: int | None = None) -> None:
        """Count a frame that came to nothing, and do what is to be done then."""
        error.add_note(f"nds.pipe: of frame {job.frame.seq}" + (f", in worker {pid}" if pid else ""))
        self.failed += 1
        job.result = job.meta = None
        if self.rules.on_error == "raise":
            raise error
        if callable(self.rules.on_error):
            self.rules.on_error(error, job.frame)

    # What happens

    def _patience(self) -> float:
        if self.rules.timeout is None:
            return _LOOK_EVERY
        since = min((worker.since for worker in self.workers if worker.job), default=None)
        left = _LOOK_EVERY if since is None else since + self.rules.timeout - time.monotonic()
        return max(0.0, min(_LOOK_EVERY, left))

    def _listen(self, timeout: float) -> None:
        """Wait until something happens, and take note of it."""
        self._watch_reader()
        for key, _ in self._selector.select(timeout):
            if key.data is not None:
                key.data()

    def _watch_reader(self) -> None:
        """Be woken by frames while there is room for one."""
        if self._has_room() and self._descriptor is None:
            try:
                self._descriptor = self._reader.fileno()
            except Closed:
                self._end = True
                return
            self._selector.register(self._descriptor, selectors.EVENT_READ, None)
        elif not self._has_room() and self._descriptor is not None:
            self._selector.unregister(self._descriptor)
            self._descriptor = None

    def _be_woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(64)

    def _hear(self, worker: Worker) -> None:
        if worker not in self.workers:
            # It was buried since the wait ended.
            return
        try:
            self._note(worker, worker.line.receive())
        except BlockingIOError:
            return
        except (EOFError, ConnectionError):
            # It is about to end, or has closed what it should not.
            self._forget(worker.line.socket)
            worker.kill()

    def _note(self, worker: Worker, answer: Answer) -> None:
        job, worker.job = worker.job, None
        if job is None:
            worker.is_ready, self._false_starts = True, 0
            self._idle.append(worker)
            return
        if answer.error is not None:
            # One that was killed meanwhile is about to end, and would count as a death of the next frame.
            if worker.why is None:
                self._idle.append(worker)
            worker.done += 1
            self._settle(job)
            self._fail(job, unpacked(answer.error), worker.pid)
            return
        if not self._receive(job, answer):
            # It died since, and what it had with it.
            worker.job = job
            return
        worker.is_owed = job.out is None and job.result is not None
        if worker.why is None:
            self._idle.append(worker)
        worker.done += 1
        self.done += 1
        self._settle(job)

    def _receive(self, job: Job, answer: Answer) -> bool:
        if isinstance(answer.array, tuple):
            try:
                job.result = _native.open_token(*answer.array)
            except Stale:
                return False
        else:
            job.result = answer.array if job.out is None else job.out
        job.meta = answer.meta
        return True

    # Workers that come and go

    def _hire(self) -> None:
        worker = self._new_worker(f"pipe worker {len(self.workers) + self.restarted}")
        self.workers.append(worker)
        self._selector.register(worker.line.socket, selectors.EVENT_READ, functools.partial(self._hear, worker))
        self._selector.register(worker.end, selectors.EVENT_READ, functools.partial(self._replace, worker))

    def _replace(self, worker: Worker) -> None:
        """Bury a worker that has ended; another one takes its place, and its frame."""
        if worker not in self.workers:
            return
        # What it said last counts.
        self._hear(worker)
        code = self._bury(worker)
        job = worker.job
        if not worker.is_ready:
            self._count_false_start(code)
        if job is not None:
            job.deaths.append(worker.why or _how(code))
            if len(job.deaths) < self.rules.tries:
                self._waiting.appendleft(job)
            else:
                self._settle(job)
                self._fail(job, _deaths(job, worker.pid))
        if not (self._end and not self._waiting):
            self._hire()
            self.restarted += 1

    def _count_false_start(self, code: int) -> None:
        self._false_starts += 1
        if self._false_starts >= _MOST_FALSE_STARTS:
            raise RuntimeError(
                f"expected workers that begin, got {self._false_starts} in a row that ended before, the last by "
                f"{_how(code)}: what they wrote is above; see that they can import the function, and that the "
                "initializer works"
            )

    def _end_slow_ones(self, timeout: float) -> None:
        late = time.monotonic() - timeout
        for worker in self.workers:
            if worker.job is not None and worker.since < late and worker.why is None:
                worker.kill(f"more than timeout={timeout:g} s")

    def _bury(self, worker: Worker) -> int:
        self.workers.remove(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        self._forget(worker.line.socket)
        self._forget(worker.end)
        return worker.bury()

    def _forget(self, what: Any) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(what)

    # The end

    def _close(self, *, is_whole: bool) -> None:
        """Give all frames and both rings back. Readers of results get WriterDied where the stream is not whole."""
        self.drop_frames()
        writer, self._writer = self._writer, None
        del self._reader
        if writer is None:
            return
        # At the end of a program, or with its ring, it is closed already.
        with contextlib.suppress(Closed):
            writer.close() if is_whole else writer._die()

    def _dismiss(self, *, in_order: bool = False) -> None:
        """See to it that all workers have ended: in order, those that are idle; else at once."""
        for worker in self.workers:
            if worker.job is None and worker.is_ready:
                worker.leave()
            else:
                worker.kill()
        end_time = time.monotonic() + (_LEAVE if in_order else _LEAVE / 10)
        for worker in list(self.workers):
            worker.process.join(max(0.0, end_time - time.monotonic()))
            worker.kill()
            self._bury(worker)
        self._selector.close()
        self._wake.close()
        self._woken.close()

    def claim(self) -> bool:
        """Tell whether the caller is the first: either the thread runs it, or who makes the pipe gives it up."""
        return self._claimed.acquire(blocking=False)

    def abandon(self) -> None:
        """Give everything back at once."""
        self._end_all(is_whole=False, in_order=False)

    def _end_all(self, *, is_whole: bool, in_order: bool) -> None:
        try:
            self._close(is_whole=is_whole)
        finally:
            # Whatever that came to: the program would wait for the workers for ever.
            self._dismiss(in_order=in_order)

    def drop_frames(self) -> None:
        """Keep nothing that is in hand; in a forked child, what the parent has in hand."""
        self.jobs.clear()
        self._waiting.clear()
        self._finished.clear()


def _noted(job: Job) -> tuple[Any, Mapping[str, Any]]:
    """Return the note of a result, its frame's unless the function gave one, and the meta that it gave."""
    if job.meta is None or NOTE not in job.meta:
        return job.frame.note, job.meta or {}
    return job.meta[NOTE], {name: value for name, value in job.meta.items() if name != NOTE}


def _in_both(dtype: np.dtype[Any], other: np.dtype[Any]) -> tuple[str, ...]:
    """Return the fields that go along, by the rule of `put`."""
    names = (name for name in dtype.names or () if name in (other.names or ()))
    return tuple(name for name in names if _fits_always(dtype[name], other[name]))


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _deaths(job: Job, pid: int) -> WorkerDied:
    error = WorkerDied(
        f"expected a result of frame {job.frame.seq}, but each of {len(job.deaths)} workers that had it ended: "
        f'{", ".join(job.deaths)}; call the function on that frame alone to see why, or skip it by on_error="skip"'
    )
    error.seq, error.pid = job.frame.seq, pid
    return error
