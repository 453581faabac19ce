"""Memory of a RAM drive, set aside ahead of who writes, in pages of 2 MiB.

A file on a RAM drive gets its memory by 4 KiB, which takes longer than the copy, unless the drive is mounted with
``huge=``. So a thread asks for pages of 2 MiB, some of them ahead, and what is written is copied into them. Measured
with 500 frames of 4 MiB in a second: no loss where plain writes lost some in most rounds (`docs/record.md`).

The file is longer than what is written meanwhile. Where there are no such pages, by an older kernel or for want of
memory, `copy` says so, and plain writes do it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_PAGE = 4096
HUGE = 2 << 20
# So much is asked for at once, and so much ahead of who writes.
STEP, AHEAD = 16 << 20, 64 << 20
# So much is waited for at the beginning: some seconds, where a virtual machine's host has to find the memory first.
AT_ONCE = 8 << 30
_TMPFS = 0x01021994
_SHARED_FIXED, _RESERVED = 0x11, 0x4022  # MAP_SHARED | MAP_FIXED; MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
_READ_WRITE = 3
_COLLAPSE = 25
_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
# Not posix_fallocate: where a file system has none, that writes into the file.
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
_libc.mmap.restype = ctypes.c_void_p
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def is_ram_drive(descriptor: int) -> bool:
    """Tell whether a file is in memory."""
    facts = ctypes.create_string_buffer(512)
    return _libc.fstatfs(descriptor, facts) == 0 and ctypes.c_long.from_buffer(facts).value == _TMPFS


def allocate(descriptor: int, mode: int, start: int, length: int) -> None:
    """Have the file system find room. Raises OSError."""
    if _libc.fallocate(descriptor, mode, start, length) != 0:
        raise _error()


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


class _Step(NamedTuple):
    """A piece of the file that is mapped."""

    start: int
    length: int
    space: int
    items: NDArray[np.uint8]

    def unmap(self) -> None:
        _libc.munmap(self.space, self.length + HUGE)


class Pages:
    """The pages of a file that is written from its beginning to its end by one thread."""

    def __init__(self, descriptor: int, most: int | None) -> None:
        """Begin with none. No more are asked for than for a file of `most` bytes."""
        self._descriptor, self._most = descriptor, most
        self._changed = threading.Condition()
        self._steps: list[_Step] = []
        self._ready = self._wanted = 0
        self._has_ended = self._is_closed = False
        self._thread: threading.Thread | None = None

    def set_aside(self, length: int) -> None:
        """Ask for so many bytes at once; the thread goes on with what that is more than a lot."""
        self._wanted = length
        while self._ready < min(length, AT_ONCE) and not self._has_ended:
            self._go_on()

    def copy(self, offset: int, piece: NDArray[np.uint8]) -> int:
        """Copy a piece to its place; return how many bytes of it had pages."""
        ready, at = self._wait(offset + piece.nbytes), offset
        self._forget(offset)
        for step in [*self._steps]:
            end = min(ready, offset + piece.nbytes, step.start + step.length)
            if step.start <= at < end:
                np.copyto(step.items[at - step.start : end - step.start], piece[at - offset : end - offset])
                at = end
        return at - offset

    def _wait(self, end: int) -> int:
        """Have pages up to here; return up to where there are some."""
        with self._changed:
            self._wanted = max(self._wanted, end + AHEAD if self._most is None else min(end + AHEAD, self._most))
            if self._thread is None and self._ready < self._wanted and not self._has_ended:
                self._thread = threading.Thread(target=self._run, name="ndshare-pages", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            while self._ready < min(end, self._wanted) and not self._has_ended:
                self._changed.wait()
            return self._ready

    def _forget(self, offset: int) -> None:
        """Unmap what lies before; the file is written in one direction."""
        with self._changed:
            past = [step for step in self._steps if step.start + step.length <= offset]
            self._steps = self._steps[len(past) :]
        for step in past:
            step.unmap()

    def _run(self) -> None:
        try:
            while self._is_needed():
                self._go_on()
        finally:  # whatever ended it, nobody waits for it
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()

    def _is_needed(self) -> bool:
        with self._changed:
            while not (self._is_closed or self._has_ended) and self._ready >= self._wanted:
                self._changed.wait()
            return not (self._is_closed or self._has_ended)

    def _go_on(self) -> None:
        """Have one step more, or end for good."""
        start = self._ready
        left = STEP if self._most is None else min(STEP, self._most - start)
        step = _mapped(self._descriptor, start, max(HUGE, -(-left // HUGE) * HUGE))
        with self._changed:
            if step is None:
                self._has_ended = True
            else:
                self._steps.append(step)
                self._ready = step.start + step.length
            self._changed.notify_all()

    def close(self) -> None:
        """Ask for no more; the file is cut to its length then."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        for step in self._steps:
            step.unmap()
        self._steps = []


def _mapped(descriptor: int, start: int, length: int) -> _Step | None:
    """Return a piece of a file with pages of 2 MiB; None where there are none to be had."""
    disk = os.fstatvfs(descriptor)
    if disk.f_bavail * disk.f_frsize < 4 * length:
        return None  # others need room as well, as the table beside the file
    space = _libc.mmap(None, length + HUGE, 0, _RESERVED, -1, 0)
    if space == _FAILED:
        return None
    try:
        address = -(-space // HUGE) * HUGE
        # A page of each, which then becomes a large one. It never makes the file shorter.
        for at in (*range(start, start + length, HUGE), start + length - _PAGE):
            allocate(descriptor, 0, at, _PAGE)
        if _libc.mmap(address, length, _READ_WRITE, _SHARED_FIXED, descriptor, start) == _FAILED:
            raise _error()
        _collapse(address, length)
    except OSError:
        _libc.munmap(space, length + HUGE)
        return None
    items = memoryview((ctypes.c_uint8 * length).from_address(address))
    return _Step(start, length, space, np.asarray(items))


def _collapse(address: int, length: int) -> None:
    for _ in range(2):  # a page that was in use just then
        if _libc.madvise(address, length, _COLLAPSE) == 0:
            return
        if ctypes.get_errno() != errno.EAGAIN:
            break
    raise _error()
