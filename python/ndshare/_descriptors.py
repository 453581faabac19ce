"""Room for descriptors, made while Python imports the rest.

The arena's descriptor has a number from 1000 on, which programs seldom close. The kernel's table of descriptors must
grow for it. A process with several threads waits 10 to 30 ms for that (the kernel's synchronize_rcu); one with a single
thread does not wait. So the table grows before NumPy starts threads. Where threads run already, because NumPy was
imported first, a thread waits for it while the import goes on, and ends before the import does.
"""

import _thread
import contextlib
import fcntl
import os
from collections.abc import Callable

_NUMBER = 1000


def start() -> Callable[[], object]:
    """Begin to make the table that large; return what waits until it is, or the limit of open files forbids it."""
    done = _thread.allocate_lock()
    done.acquire()
    try:
        some = os.open("/", os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return _nothing
    try:
        if len(os.listdir("/proc/self/task")) > 1:
            _thread.start_new_thread(_grow, (some, done))
            return done.acquire
    except (OSError, RuntimeError):
        pass  # without /proc, or another thread, it takes longer
    _grow(some, done)
    return _nothing


def _nothing() -> None:
    pass


def _grow(some: int, done: _thread.LockType) -> None:
    try:
        with contextlib.suppress(OSError):
            os.close(fcntl.fcntl(some, fcntl.F_DUPFD_CLOEXEC, _NUMBER))
    finally:
        os.close(some)
        done.release()
