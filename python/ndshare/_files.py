"""Arrays in NumPy's own files, for a RAM drive where nothing more is wanted."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Of a dtype with many fields.
_LONGEST_HEAD = 1 << 24


def save(path: str | os.PathLike[str], array: ArrayLike) -> None:
    """Write an array to a file in NumPy's format, as a whole or not at all.

    As `np.save`, with the same ending ``.npy``; but the array is written to a file without a name, which then gets the
    name or replaces what has it. So who loads it meanwhile gets the old array or the new one, and who has the old one
    mapped keeps it. A file that is there keeps its mode, and behind a symbolic link it is the file that is replaced.

    A process that is killed while it writes leaves nothing. Only one that is killed in the instant of the replacing
    itself, or on a file system without files that have no name, leaves the new file beside it, as ``.name.npy.`` and
    eight digits; of a long name only the beginning is there.

    Raises what `np.save` raises; ValueError for arrays of Python objects; IsADirectoryError or FileExistsError when the
    path leads to a directory, or to a FIFO, a socket or a device.

    >>> import ndshare as nds, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nds.save(f"{folder}/a.npy", [1, 2, 3])
    ...     nds.load(f"{folder}/a.npy").sum()
    np.int64(6)
    """
    target = os.fspath(path)
    target = os.path.realpath(target if target.endswith(".npy") else target + ".npy")
    mode = _mode_of_file(target)
    folder, name = os.path.split(target)
    # A name may have 255 bytes, and a character of it 4.
    beside = os.path.join(folder, f".{name[:60]}.{os.urandom(4).hex()}")
    try:
        file, is_named = _new_file(beside)
        with file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            np.save(file, np.asanyarray(array), allow_pickle=False)
            file.flush()
            if not is_named and _link(file, target):
                return
            if not is_named and not _link(file, beside):
                raise FileExistsError(f"{beside} is there already, although nobody could guess its name")
        os.replace(beside, target)
    except BaseException:
        if os.path.lexists(beside):
            os.unlink(beside)
        raise


def _mode_of_file(path: str) -> int | None:
    """Return the mode of the file that is to be replaced; None if nothing is there."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISREG(mode):
        return stat.S_IMODE(mode)
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    got = kinds.get(stat.S_IFMT(mode), "a device")
    error = IsADirectoryError if stat.S_ISDIR(mode) else FileExistsError
    raise error(f"expected a file at {path}, or nothing, got {got}: choose another path, or remove it")


def _new_file(beside: str) -> tuple[BinaryIO, bool]:
    """Return a new file in the folder of `beside`, and whether it has that name; where it can, it has none."""
    try:
        if os.path.isdir("/proc/self/fd"):  # by which it gets a name later
            flags = os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC
            return open(os.open(os.path.dirname(beside), flags, 0o666), "wb"), False
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
    return open(beside, "xb"), True


def _link(file: BinaryIO, path: str) -> bool:
    """Give a file without a name this one; False if it is taken."""
    number = file.fileno()
    try:
        # A descriptor of a folder makes Python follow the link in /proc; beside an absolute path it says nothing.
        os.link(f"/proc/self/fd/{number}", path, src_dir_fd=number, follow_symlinks=True)
    except FileExistsError:
        return False
    return True


def load(path: str | os.PathLike[str], mmap_mode: Literal["r", "r+", "c"] = "r") -> NDArray[Any]:
    """Map the array of a file in NumPy's format: nothing is read before it is used.

    `mmap_mode` is that of `np.load`: "r" gives a read-only array; what is written goes to the file with "r+", and with
    "c" to this process alone. Every process that maps a file on a RAM drive has the same memory. The result is an
    ordinary array, which is not shared in the sense of `is_shared`: sent to a process, it is copied.

    Raises what `np.load` raises for such a mode; ValueError for other modes.

    >>> import ndshare as nds, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nds.save(f"{folder}/a.npy", [1, 2, 3])
    ...     nds.load(f"{folder}/a.npy", "c")
    array([1, 2, 3])
    """
    if mmap_mode not in ("r", "r+", "c"):
        raise ValueError(f"expected the mmap_mode 'r', 'r+' or 'c', got {mmap_mode!r}")
    mapped: Any = np.lib.format.open_memmap(os.fspath(path), mode=mmap_mode)
    return np.asarray(mapped)


def mapped(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Map a file in NumPy's format to read it, as `np.load` does, with a head of any length."""
    try:
        return np.load(path, mmap_mode="r", max_header_size=_LONGEST_HEAD)
    except ValueError:
        # NumPy 2.0 does not map what has no items behind a head of whole pages.
        if os.path.getsize(path) <= _LONGEST_HEAD:
            with contextlib.suppress(ValueError):
                if (array := np.load(path, max_header_size=_LONGEST_HEAD)).size == 0:
                    return array
        raise


for _function in (save, load):
    _function.__module__ = "ndshare"
