"""Room for descriptors, made before NumPy starts threads.

The arena's descriptor has a number from 1000 on, which programs seldom close. The kernel's table of descriptors must
grow for it. A process with several threads waits 10 to 30 ms for that (the kernel's synchronize_rcu); one with a single
thread does not wait.
"""

import contextlib
import fcntl
import os

_NUMBER = 1000


def make_room() -> None:
    """Make the table that large, if the limit of open files allows it."""
    with contextlib.suppress(OSError):
        some = os.open("/", os.O_PATH | os.O_CLOEXEC)
        try:
            os.close(fcntl.fcntl(some, fcntl.F_DUPFD_CLOEXEC, _NUMBER))
        finally:
            os.close(some)
