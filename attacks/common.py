"""What attacks share: another process, perhaps of another user; what must be refused; how a program says how it went.

An attack ends with 0 when it was withstood, with 77 when this machine cannot do it (it prints why), and with anything
else when it got through.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing as mp
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, NoReturn

libc = ctypes.CDLL(None, use_errno=True)
NOBODY = 65534
SECONDS = 60.0  # after which something counts as hung, on the slowest machine
CANNOT = 77


def cannot(why: str) -> NoReturn:
    """End, because this machine cannot do the attack."""
    print(why)
    raise SystemExit(CANNOT)


def root_only() -> None:
    if os.geteuid() != 0:
        cannot("only root can be somebody else")


def become_nobody() -> None:
    """Be an ordinary user from now on, whose descriptors its own processes see."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE
    os.chdir("/")


def forked(work: Callable[[], object], seconds: float) -> int:
    """Do something in a fork, and return its pid. It ends with 0, with 1 after an error, or by an alarm."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.alarm(int(seconds))
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


@contextlib.contextmanager
def other(work: Callable[[Connection], None], *, is_nobody: bool = False) -> Iterator[Connection]:
    """Run `work` in a fork, of another user if asked; give a pipe to it. It has to end well."""
    mine, theirs = mp.Pipe()

    def in_the_fork() -> None:
        mine.close()
        if is_nobody:
            become_nobody()
        work(theirs)

    pid = forked(in_the_fork, 2 * SECONDS)
    theirs.close()
    try:
        yield mine
    finally:
        mine.close()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == 0, f"the other process ended with {code}"


def hear(line: Connection) -> Any:
    """Wait for what the other process says."""
    assert line.poll(SECONDS), "the other process says nothing"
    return line.recv()


def wait(line: Connection) -> None:
    """Wait until the other process has said something or is over."""
    with contextlib.suppress(EOFError):
        line.recv()


@contextlib.contextmanager
def refused(errors: type[BaseException] | tuple[type[BaseException], ...], match: str = "") -> Iterator[None]:
    """Insist that what is in the block is refused, in these words."""
    try:
        yield
    except errors as error:
        assert re.search(match, str(error)), f"refused, but not in the words {match!r}: {error}"
    else:
        raise AssertionError("it was not refused")


def survives(work: Callable[[], object]) -> None:
    """Do something in a fork, and insist that no signal ended it."""
    pid = forked(work, SECONDS)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == 0, f"ended with {code}" + (f": {signal.Signals(-code).name}" if code < 0 else "")
