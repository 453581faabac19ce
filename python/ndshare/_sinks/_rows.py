"""Frames one behind the other: NumPy's own format, and bare bytes with a description beside them.

The header of an .npy file has a fixed place for the number of frames, which is written anew after each write. A .raw
file needs no header: the description beside it says how many whole frames there are, in the same way.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import Look
from ._file import PAGE, Bytes, File, as_bytes

# Digits of the number of frames, with spaces before them: Python's literals may have them, and NumPy reads these.
_DIGITS = 20


class Rows:
    """Pieces of one length in a file, from an offset on."""

    def __init__(self, path: Path, start: int, row_bytes: int, expected: int | None = None) -> None:
        self.frames = 0
        self.file = File(path, 0 if expected is None else start + expected * row_bytes)
        self._start, self._row_bytes = start, row_bytes

    def append(self, pieces: list[Bytes], rows: int) -> None:
        """Write so many rows, and count those that are whole, also where the disk is full."""
        at = self._start + self.frames * self._row_bytes
        try:
            self.file.write(at, pieces)
        except OSError:
            rows = (self.file.reached - at) // self._row_bytes
            raise
        finally:
            if rows > 0:
                self._count(self.frames + rows)

    def write(self, frames: list[NDArray[Any]]) -> None:
        """Append frames."""
        self.append([as_bytes(frame) for frame in frames], len(frames))

    def _count(self, frames: int) -> None:
        self.frames = frames

    def moved(self, path: Path) -> None:
        """Hear that the file was renamed; it is open."""

    def close(self) -> None:
        """Cut off what is not a whole row."""
        self.file.close(self._start + self.frames * self._row_bytes)


class NpySink(Rows):
    """An array of all frames, for `np.load`; its first axis is the frames."""

    def __init__(self, path: Path, look: Look) -> None:
        head, self._place = npy_header(look)
        super().__init__(path, len(head), look.frame_bytes, look.expected)
        self.file.write(0, [np.frombuffer(head, np.uint8)])

    def _count(self, frames: int) -> None:
        self.file.put(self._place, b"%*d" % (_DIGITS, frames))
        super()._count(frames)


class RawSink(Rows):
    """The bytes of frames alone; ``name.raw.json`` says what they are, and how many."""

    def __init__(self, path: Path, look: Look) -> None:
        super().__init__(path, 0, look.frame_bytes, look.expected)
        facts = {
            "format": "ndshare raw 1",
            "shape": look.shape,
            "dtype": np.lib.format.dtype_to_descr(look.dtype),
            "order": "C",
            "frame_bytes": look.frame_bytes,
            # What a table in CSV does not say.
            "meta": None if look.meta is None else np.lib.format.dtype_to_descr(look.meta),
        }
        # The number comes first, inside of a page, in a fixed width: JSON may have spaces there.
        before = '{\n "frames": '
        text = f"{before}{0:{_DIGITS}d},{json.dumps(facts, indent=1)[1:]}\n".encode()
        self._place, self._length = len(before), len(text)
        self._json = File(description_of(path))
        self._json.write(0, [np.frombuffer(text, np.uint8)])

    def _count(self, frames: int) -> None:
        self._json.put(self._place, b"%*d" % (_DIGITS, frames))
        super()._count(frames)

    def close(self) -> None:
        """Cut off what is not a whole frame."""
        super().close()
        self._json.close(self._length)


def description_of(path: Path) -> Path:
    """Return where the description of a .raw file is."""
    return path.with_name(path.name + ".json")


def npy_header(look: Look) -> tuple[bytes, int]:
    """Return a header with no frames, whole pages long so that frames may go by O_DIRECT, and where the number is."""
    descr = np.lib.format.dtype_to_descr(look.dtype)
    before = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': ("
    rest = "".join(f", {length}" for length in look.shape) or ","
    kind, width = (b"\x01\x00", 2) if before.isascii() and len(before) < 60_000 else (b"\x03\x00", 4)
    place = 8 + width + len(before.encode())
    if place % PAGE > PAGE - _DIGITS:  # it is written in one go inside of a page
        before += " " * _DIGITS
        place += _DIGITS
    text = f"{before}{0:{_DIGITS}d}{rest}), }}".encode()
    length = -(-(8 + width + len(text) + 1) // PAGE) * PAGE - 8 - width
    return b"\x93NUMPY" + kind + length.to_bytes(width, "little") + text.ljust(length - 1) + b"\n", place
