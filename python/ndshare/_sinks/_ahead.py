"""Space that is set aside before the writer comes there, by a thread.

On a RAM drive, to get a page takes longer than to fill it: measured, a write of 4 MiB takes half the time where its
pages are there already. On a disk the file lies in fewer pieces. The file does not get longer by it, so after a kill
nothing has to be cut off. Where no space can be set aside only time is lost: the write itself says what is wrong.
"""

from __future__ import annotations

import ctypes
import threading

_KEEP_SIZE = 1
_STEP = 8 << 20
# So far it goes before the writer; a recording whose length is known begins with so much.
_AHEAD = 1 << 30
_AHEAD_UNKNOWN = 128 << 20

# Not posix_fallocate: where a file system has none, that writes into the file, beside the writer.
_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


class Ahead(threading.Thread):
    """The thread of one file."""

    def __init__(self, descriptor: int, length: int | None) -> None:
        """Set the first part aside at once, if it is known how long the file will be."""
        super().__init__(name="ndshare space ahead", daemon=True)
        self._descriptor, self._length = descriptor, length
        self._reached = self._done = 0
        self._is_over = False
        self._news = threading.Event()
        while length is not None and self._is_wanted() and self._step():
            pass
        self.start()

    def tell(self, reached: int) -> None:
        """Say how far the writer is."""
        self._reached = reached
        self._news.set()

    def run(self) -> None:
        """Stay before the writer."""
        while not self._is_over:
            if not self._is_wanted():
                self._news.wait()
                self._news.clear()
            elif not self._step():
                return

    def _is_wanted(self) -> bool:
        self._done = max(self._done, self._reached)
        end = self._reached + (_AHEAD_UNKNOWN if self._length is None else _AHEAD)
        return self._done < (end if self._length is None else min(end, self._length))

    def _step(self) -> bool:
        if _fallocate(self._descriptor, _KEEP_SIZE, self._done, _STEP) != 0:
            return False
        self._done += _STEP
        return True

    def end(self) -> None:
        """End it, before the descriptor is closed."""
        self._is_over = True
        self._news.set()
        self.join()
