"""A process of our own that works for this one, until it is done, told to stop, or this process ends.

Its standard input has a plan as one line of JSON, and perhaps a second line; then it stays open, and another line, or
its end, says "stop". On its standard output it says that it is ready, that it has begun, and how it ended. What it
counts meanwhile is a few numbers in shared memory: nobody waits for anybody, and they are there also after a kill.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ._errors import RecordError, Timeout
from ._native import zeros
from ._ref import Ref, ref
from ._waiting import is_readable

# So long (seconds) a process may take to start on a busy machine.
_PATIENCE = 60.0
_COUNTERS = 8

_running: set[Task] = set()


class Task:
    """The side that asks."""

    def __init__(self, module: str, plan: dict[str, Any]) -> None:
        """Start ``python -m module`` with a plan, and wait until it is ready."""
        self.counters: NDArray[np.int64] = zeros(_COUNTERS, np.int64)
        self._ref: Ref[Any] | None = ref(self.counters)
        self._pid, self._said, self._outcome = os.getpid(), b"", dict[str, Any]()
        self._is_known = False
        # A session of its own: Ctrl-C in the terminal is for this program, which says what is to be done.
        self._process = subprocess.Popen(
            [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        if not _running:
            atexit.register(_stop_all)
        _running.add(self)
        self.say(json.dumps({**plan, "counters": str(self._ref)}))

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def say(self, line: str) -> None:
        """Give it a line. A process that is gone does not hear it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def expect(self, word: str) -> bool:
        """Wait until it says this word; False if it ended instead. Raises RuntimeError if it says nothing for long."""
        end = time.monotonic() + _PATIENCE
        while (line := self._line(end - time.monotonic())) is None:
            if time.monotonic() >= end:
                self._process.kill()
                raise RuntimeError(f"expected process {self.pid} to begin, got no word in {_PATIENCE:.0f} s")
        if line == word.encode():
            return True
        if line:
            self._outcome = json.loads(line)
        return False

    def _line(self, timeout: float) -> bytes | None:
        """Return what it says next; nothing at its end, None at the timeout."""
        assert self._process.stdout is not None
        end = time.monotonic() + timeout
        while b"\n" not in self._said:
            if not is_readable(self._process.stdout, end - time.monotonic()):
                return None
            more = os.read(self._process.stdout.fileno(), 65536)
            if not more:
                return b""
            self._said += more
        line, _, self._said = self._said.partition(b"\n")
        return line

    def stop(self) -> None:
        """Tell it to stop."""
        if self._pid != os.getpid() or self._process.stdin is None or self._process.stdin.closed:
            return  # also in a forked child, whose parent has it
        # In words, because a forked child may have the pipe open, too.
        self.interrupt()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def interrupt(self) -> None:
        """Tell it to stop, also from a handler of a signal, which comes in the midst of anything."""
        with contextlib.suppress(OSError, ValueError):
            if self._process.stdin is not None:
                os.write(self._process.stdin.fileno(), b"stop\n")

    def is_over(self, timeout: float) -> bool:
        """Wait until it has ended, at most so long."""
        if not self._is_known:
            line = None if self._outcome else self._line(timeout)
            if line is None and not self._outcome:
                return False
            if line:
                self._outcome = json.loads(line)
            self._process.wait()
            self._finish()
        return True

    def _finish(self) -> None:
        self._is_known = True
        _running.discard(self)
        self.stop()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self.counters, self._ref = self.counters.copy(), None

    def outcome(self, timeout: float | None, what: str) -> dict[str, Any]:
        """Wait for its end, and return what it says of it; nothing if it was killed. Raises Timeout."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.is_over(0.1 if end is None else min(0.1, max(0.0, end - time.monotonic()))):
            if end is not None and time.monotonic() >= end:
                raise Timeout(f"{what} goes on after {timeout} s: wait longer, or stop() it")
        return self._outcome

    def how_it_died(self) -> str:
        """Say how a process ended that said nothing."""
        code = self._process.returncode
        if code is None or code >= 0:
            return f"process {self.pid} exited with {code}"
        # Most real-time signals have a number alone.
        name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
        return f"process {self.pid} was killed by {name}"


class Stopping:
    """What is stopped at the end of its with block."""

    def stop(self, timeout: float | None = None) -> Any:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        # What went wrong in the block is what is told.
        with contextlib.suppress(*() if kind is None else (RecordError,)):
            self.stop()


def interrupt_all() -> bool:
    """Tell all that run to stop, also from a handler of a signal; return whether there are any."""
    running = [*_running]
    for task in running:
        task.interrupt()
    return bool(running)


def _stop_all() -> None:
    for task in [*_running]:
        task.stop()
    for task in [*_running]:
        if task._pid == os.getpid():  # pyright: ignore[reportPrivateUsage]
            task.is_over(_PATIENCE)


class Side:
    """The side that works."""

    def __init__(self) -> None:
        """Read the plan."""
        # What a library prints goes where messages go.
        self._out = os.dup(1)
        os.dup2(2, 1)
        self._stopped = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self.plan: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
        self.counters: NDArray[np.int64] = ref(self.plan["counters"]).open()
        self._asker = os.getppid()
        self._poll = select.poll()
        self._poll.register(0, select.POLLIN)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stopped = True

    def say(self, word: str) -> None:
        """Say a word to who asked; who is gone does not hear it."""
        with contextlib.suppress(OSError):
            os.write(self._out, word.encode() + b"\n")

    def hear(self) -> str:
        """Return the next line; nothing if who asked is gone."""
        return sys.stdin.buffer.readline().decode().strip()

    def is_stopped(self) -> bool:
        """Tell whether it is to stop."""
        self._stopped = self._stopped or os.getppid() != self._asker or bool(self._poll.poll(0))
        return self._stopped

    def end(self, **outcome: Any) -> None:
        """Say how it ended."""
        self.say(json.dumps(outcome))
