"""The place of a recording on the disk: who has it, and how a new recording takes it from an old one.

A recording that goes on has a lock (flock) on its file or folder, which ends with its process. One that is to replace
another is made in a hidden folder beside it, and changes places with it when its first frame is whole: in one step of
the kernel, so a kill leaves the one or the other. Without a whole frame the old one stays.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import threading
from pathlib import Path

from ._notes import notes_path
from ._rows import description_of
from ._times import paths_of

_AT_CWD = -100
_EXCHANGE = 2


def beside(path: Path) -> list[Path]:
    """Return where that may be which belongs to a recording."""
    described = [description_of(path)] if path.suffix.lower() == ".raw" else []
    return [*described, notes_path(path), *paths_of(path).values()]


def is_taken(path: Path) -> bool:
    """Tell whether a recording to this path goes on."""
    try:
        place = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        if not _lock(place):
            return True
        # In words: a child that another thread forks just now has the file open, too.
        with contextlib.suppress(OSError):
            fcntl.flock(place, fcntl.LOCK_UN)
        return False
    finally:
        os.close(place)


def _lock(place: int) -> bool:
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


class Replacement:
    """A place beside an old recording, where the new one is made until its first frame is whole."""

    def __init__(self, path: Path) -> None:
        """Take the place; what a killed process left there is removed. Raises FileExistsError where another has it."""
        self._path, self._folder = path, path.with_name(f".{path.name}.new")
        self._claim = self._claimed()
        if self._claim is None or is_taken(path):
            if self._claim is not None:
                os.close(self._claim)
            raise FileExistsError(
                f"expected one recording to {path} at a time, got another that goes on: stop it first"
            )
        for one in self._folder.iterdir():
            _remove(one)
        self.path = self._folder / path.name
        self._sweeper = threading.Thread(target=self._sweep)

    def _claimed(self) -> int | None:
        while True:
            self._folder.mkdir(exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # who had it has removed it meanwhile
                claim = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
                if not _lock(claim):
                    os.close(claim)
                    return None
                if self._folder.exists() and os.path.samestat(os.fstat(claim), self._folder.stat()):
                    return claim
                os.close(claim)

    def take_place(self) -> None:
        """Put the new recording into the place of the old one, which is removed meanwhile. Raises OSError."""
        old = self._folder / "old"
        old.mkdir()
        # No frames with the table of others, whenever the process is killed.
        for one in beside(self._path):
            _move(one, old / one.name)
        _exchange(self.path, self._path)
        for new, one in zip(beside(self.path), beside(self._path), strict=True):
            _move(new, one)
        # A large file takes its time, and frames come.
        self._sweeper.start()

    def close(self) -> None:
        """Remove what is left: the old recording if the new one has its place, else the new one."""
        if self._sweeper.ident is None:
            self._sweep()
        else:
            self._sweeper.join()

    def _sweep(self) -> None:
        if self._claim is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._claim)
            self._claim = None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _move(path: Path, target: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.rename(target)


def _exchange(new: Path, old: Path) -> None:
    """Let two names change places, or rename one to the other where there is no other."""
    libc = ctypes.CDLL(None, use_errno=True)
    with contextlib.suppress(AttributeError):  # a C library without it
        if not libc.renameat2(_AT_CWD, os.fsencode(new), _AT_CWD, os.fsencode(old), _EXCHANGE):
            return
    # There is none, or the file system can't: then it takes two steps for a folder.
    if old.is_dir() and not old.is_symlink():
        old.rename(new.with_name("old") / old.name)
    new.replace(old)
