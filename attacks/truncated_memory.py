"""A process of the same user cuts the memory of an arena that others have mapped.

Whoever touches memory that a file has no more gets SIGBUS. Memory files are sealed: they cannot be cut, be made
longer, nor have other seals, by nobody and through no descriptor.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import ndshare as nds
from common import hear, libc, other, survives

array = nds.full(1 << 20, 7.0)
F_ADD_SEALS = 1033


def file_of(pid: int) -> int:
    """Open the victim's file anew, to be written."""
    for fd in range(1000, 1020):
        link = f"/proc/{pid}/fd/{fd}"
        if os.path.lexists(link) and os.readlink(link).startswith("/memfd:ndshare:"):
            return os.open(link, os.O_RDWR)
    raise AssertionError("the file is not found")


def fails(call: Callable[..., Any], *args: Any) -> None:
    try:
        call(*args)
    except OSError as error:
        assert error.errno in (errno.EPERM, errno.EINVAL), error
    else:
        raise AssertionError(f"{call} worked")


def cut(line: Connection) -> None:
    file = file_of(os.getppid())
    size = os.fstat(file).st_size
    for length in (0, 4096, size - 4096, size + 4096, 2 * size):
        fails(os.ftruncate, file, length)
        fails(os.truncate, f"/proc/self/fd/{file}", length)
    for seal in (1, 2, 4, 8, 16, 32):
        fails(fcntl.fcntl, file, F_ADD_SEALS, seal)
    assert libc.fallocate(file, 0x8, 0, 4096) == -1, "collapsing a range"
    assert libc.fallocate(file, 0x20, 0, 4096) == -1, "inserting a range"
    assert os.fstat(file).st_size == size
    line.send("tried")


with other(cut) as line:
    assert hear(line) == "tried"
assert (array == 7).all()
survives(lambda: nds.zeros(1 << 20).fill(1))
print("sealed")
