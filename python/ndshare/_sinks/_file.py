"""A file that is written at offsets, straight from the memory of frames.

Large pieces go by O_DIRECT where the disk takes it: measured, that is two to four times as fast as by the page cache
over a longer time, and costs no processor time for a copy. On a RAM drive they are copied into pages that are there
already (`_pages`). Elsewhere they are ordinary writes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import numpy as np

from ._pages import HUGE, Pages, allocate, is_ram_drive

# What O_DIRECT asks of offsets, lengths and addresses on every disk that we know.
PAGE = 4096
# Below it a wait for the disk costs more than a copy.
_LEAST_DIRECT = 256 << 10
# So much space is set aside in one call, between which the process can be ended.
_STEP = 64 << 20
_KEEP_SIZE = 1
# IOV_MAX of Linux.
_MOST_PIECES = 1024

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class LostError(OSError):
    """What was written is not there any more, whoever did that."""


def hold(file: int) -> None:
    """Let others see that a file or folder is being written, as long as it is open; not on each file system."""
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX)


def as_bytes(array: Any) -> Bytes:
    """Return the items of an array in C order as bytes; copied only where they lie in another order."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def goes_direct(frame_bytes: int) -> bool:
    """Tell whether frames of this size can go by O_DIRECT, one behind the other."""
    return frame_bytes >= _LEAST_DIRECT and frame_bytes % PAGE == 0


class File:
    """A new file. `reached` is how far the last `write` came, also where it failed.

    Until it is closed it may be longer than what was written.
    """

    def __init__(self, path: Path, length: int = 0, most: int | None = None) -> None:
        """Raise FileExistsError where there is one. For `length` bytes space is set aside at once; `most` may come."""
        self._plain = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self.reached = 0
        hold(self._plain)
        self._pages = Pages(self._plain, most or length or None) if is_ram_drive(self._plain) else None
        self._direct = _open_direct(path) if self._pages is None else None
        self._set_aside(length)

    def _set_aside(self, length: int) -> None:
        """Have the file system find room for what is to come, as far as it can.

        What others need, as the table beside the file, is left: where the disk is nearly full nothing is set aside.
        """
        disk = os.fstatvfs(self._plain)
        if length > disk.f_bavail * disk.f_frsize * 3 // 4:
            return
        if self._pages is not None and length >= HUGE:
            self._pages.set_aside(length)
            return
        with contextlib.suppress(OSError):
            for start in range(0, length, _STEP):
                # The file does not get longer by it.
                allocate(self._plain, _KEEP_SIZE, start, min(_STEP, length - start))

    def write(self, offset: int, pieces: list[Bytes]) -> None:
        """Write pieces one behind the other. Raises OSError, as ENOSPC."""
        self.reached = offset
        if self._pages is not None and all(piece.nbytes >= _LEAST_DIRECT for piece in pieces):
            pieces = self._copy(self._pages, pieces)
        elif self._direct is not None and all(map(_is_for_direct, pieces)) and offset % PAGE == 0:
            pieces = self._write_direct(self._direct, pieces)
        for start in range(0, len(pieces), _MOST_PIECES):
            self._write_plain(pieces[start : start + _MOST_PIECES])

    def put(self, offset: int, text: bytes) -> None:
        """Write a few bytes over others, inside of one page: a kill does not tear that."""
        os.pwrite(self._plain, text, offset)

    def _copy(self, pages: Pages, pieces: list[Bytes]) -> list[Bytes]:
        """Copy what there are pages for; return what is left for plain writes."""
        for number, piece in enumerate(pieces):
            done = pages.copy(self.reached, piece)
            self.reached += done
            if done < piece.nbytes:
                return [piece[done:], *pieces[number + 1 :]]
        return []

    def _write_direct(self, direct: int, pieces: list[Bytes]) -> list[Bytes]:
        """Write what goes directly; return what is left for plain writes."""
        for number, piece in enumerate(pieces):
            try:
                done = os.pwrite(direct, piece.data, self.reached)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                # A disk that asks for more than pages. It is only a matter of speed.
                os.close(direct)
                self._direct, done = None, 0
            self.reached += done
            if done < piece.nbytes:
                return [piece[done:], *pieces[number + 1 :]]
        return []

    def _write_plain(self, pieces: list[Bytes]) -> None:
        while pieces:
            done = os.pwritev(self._plain, [piece.data for piece in pieces], self.reached)
            self.reached += done
            while pieces and done >= pieces[0].nbytes:
                done -= pieces[0].nbytes
                pieces = pieces[1:]
            if pieces:
                pieces = [pieces[0][done:], *pieces[1:]]

    def close(self, length: int) -> None:
        """Cut the file to this length, and close it. Raises LostError where somebody has taken it away or cut it."""
        if self._pages is not None:
            self._pages.close()
        facts = os.fstat(self._plain)
        try:
            # Also where it is as long: what was set aside behind it is given back.
            os.ftruncate(self._plain, length)
        finally:
            os.close(self._plain)
            if self._direct is not None:
                os.close(self._direct)
        if not facts.st_nlink:
            raise LostError("the file was removed or replaced while it was recorded: nothing of it is left")
        if facts.st_size < length:
            raise LostError(f"the file was cut to {facts.st_size} bytes while it was recorded: frames of it are lost")


def _open_direct(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        return os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
    return None


def _is_for_direct(piece: Bytes) -> bool:
    return goes_direct(piece.nbytes) and piece.ctypes.data % PAGE == 0
