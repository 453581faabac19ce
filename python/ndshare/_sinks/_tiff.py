# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""OME-TIFF: a page for each plane of a frame, and one description of all.

tifffile says what the description is. The pages are written here, because tifffile writes their directories when all
pixels are there, so that a crash would lose them. Here the directories of a frame come behind its pixels, then the
chain of pages is extended by one number, and then the description says that there is one frame more. It begins as
BigTIFF, which may be longer than 4 GB, unless it is known that the file will be shorter.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import Look, need
from ._file import PAGE, File, as_bytes, goes_direct

_DTYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64", "complex64", "complex128"]
_FORMATS = {"u": 1, "i": 2, "f": 3, "c": 6}
_SHORT, _LONG, _LONG8, _ASCII = 3, 4, 16, 2
_DIGITS = 10
# Where bits and formats of the samples of a pixel are, and the description.
_BITS, _KINDS, _TEXT = 16, 24, 32


def check(look: Look) -> None:
    """Raise TypeError for frames that are no pictures of numbers."""
    if look.dtype.names is not None:
        raise TypeError(
            f"expected frames of numbers for TIFF, got items with the fields {look.dtype.names}: record to .zarr, "
            ".npy or .raw"
        )
    if look.dtype.name not in _DTYPES:
        raise TypeError(f"expected items that OME-TIFF has, {_DTYPES}, got {look.dtype}: record to .zarr, .npy or .raw")
    if not 2 <= len(look.shape) <= 4 or 0 in look.shape:
        raise TypeError(
            f"expected frames of 2, 3 or 4 dimensions for TIFF, none of them 0, got {look.shape}: record to .zarr, "
            ".npy or .raw"
        )


class _Kind:
    """How numbers are written: BigTIFF, or TIFF as it was first."""

    def __init__(self, is_big: bool) -> None:
        self.head = struct.Struct("<2sHHHQ" if is_big else "<2sHI")
        self.entry = struct.Struct("<HHQ" if is_big else "<HHI")
        self.count, self.offset = (struct.Struct("<Q"), struct.Struct("<Q")) if is_big else _SMALL
        self.pointer = _LONG8 if is_big else _LONG
        self.is_big = is_big

    def first(self) -> bytes:
        """Return the head of a file without pages."""
        return self.head.pack(b"II", 43, 8, 0, 0) if self.is_big else self.head.pack(b"II", 42, 0)

    @property
    def root(self) -> int:
        """Where the offset of the first page stands."""
        return self.head.size - self.offset.size

    def directory(self, tags: list[tuple[int, int, int, int]]) -> bytes:
        """Return the directory of a page but for the offset of the next one; a tag is number, type, count, value."""
        lines = [self.entry.pack(code, kind, count) + self.offset.pack(value) for code, kind, count, value in tags]
        return self.count.pack(len(tags)) + b"".join(lines)


_SMALL = struct.Struct("<H"), struct.Struct("<I")


class TiffSink:
    """Pages of one series."""

    def __init__(self, path: Path, look: Look) -> None:
        self.frames = 0
        self._look, self._samples = look, _samples(look)
        *stack, self._rows, self._columns = look.shape[:-1] if self._samples > 1 else look.shape
        self._planes = int(np.prod(stack, dtype=np.int64))
        self._align = PAGE if goes_direct(look.frame_bytes) else 16
        self._kind = _Kind(is_big=self._is_long())
        self._link = self._kind.root
        self._text = _described(look, stack, self._samples, self._planes)
        self._path = path
        self._file = File(path, PAGE + (look.expected or 0) * self._per_frame())
        self._file.write(0, [np.frombuffer(self._head(), np.uint8)])
        self._end = PAGE

    def _per_frame(self) -> int:
        """Return how many bytes a frame takes at the most."""
        return self._look.frame_bytes + 2 * self._align + 256 * self._planes

    def _is_long(self) -> bool:
        expected = self._look.expected
        return expected is None or expected * self._per_frame() + 2 * PAGE >= 1 << 32

    def _head(self) -> bytes:
        bits = self._look.dtype.itemsize * 8
        head = self._kind.first().ljust(_BITS, b"\0") + struct.pack("<4H", *[bits] * 4)
        head += struct.pack("<4H", *[_FORMATS[self._look.dtype.kind]] * 4) + self._description(1)
        return head.ljust(PAGE, b"\0")

    def _description(self, frames: int) -> bytes:
        planes = frames * self._planes
        return (
            self._text.replace("SizeT@", f"{frames:0{_DIGITS}d}").replace("Planes@", f"{planes:0{_DIGITS}d}").encode()
        )

    def write(self, frames: list[NDArray[Any]]) -> None:
        """Append frames."""
        for frame in frames:
            self._append(as_bytes(np.asarray(frame, self._look.dtype.newbyteorder("<"))))

    def _append(self, pixels: NDArray[np.uint8]) -> None:
        at = -(-self._end // self._align) * self._align
        self._file.write(at, [pixels])
        pages, first, last = self._pages(at)
        self._file.write(at + pixels.nbytes, [np.frombuffer(pages, np.uint8)])
        end = self._file.reached
        self._file.put(self._link, self._kind.offset.pack(first))
        self.frames += 1
        self._link, self._end = last, end
        self._file.put(_TEXT, self._description(self.frames))

    def _pages(self, at: int) -> tuple[bytes, int, int]:
        """Return what comes behind the pixels of a frame, where its first page is, and where the next is named."""
        plane, size = self._look.frame_bytes // self._planes, self._kind.offset.size
        start = at + self._look.frame_bytes
        text, first, place = b"", 0, 0
        for number in range(self._planes):
            page = self._kind.directory(self._tags(at + number * plane, plane, self.frames == number == 0))
            # The offset of the next page is written in one go: it must not lie across two pages of the file.
            text += bytes(-(start + len(text) + len(page)) % size)
            first = first or start + len(text)
            text += page
            place = start + len(text)
            is_last = number == self._planes - 1
            text += self._kind.offset.pack(0 if is_last else self._next_page(place + size, number, at, plane))
        return text, first, place

    def _next_page(self, end: int, number: int, at: int, plane: int) -> int:
        """Return where the page behind the one that ends here begins."""
        page = self._kind.directory(self._tags(at + (number + 1) * plane, plane, is_first=False))
        return end + -(end + len(page)) % self._kind.offset.size

    def _tags(self, at: int, plane: int, is_first: bool) -> list[tuple[int, int, int, int]]:
        several = self._samples > 1
        tags = [
            (256, _LONG, 1, self._columns),
            (257, _LONG, 1, self._rows),
            (258, _SHORT, self._samples, self._shorts(_BITS, self._look.dtype.itemsize * 8)),
            (259, _SHORT, 1, 1),
            (262, _SHORT, 1, 2 if several else 1),
            (273, self._kind.pointer, 1, at),
            (277, _SHORT, 1, self._samples),
            (278, _LONG, 1, self._rows),
            (279, self._kind.pointer, 1, plane),
            (339, _SHORT, self._samples, self._shorts(_KINDS, _FORMATS[self._look.dtype.kind])),
        ]
        if several:
            tags.append((284, _SHORT, 1, 1))
        if self._samples == 4:
            tags.append((338, _SHORT, 1, 2))  # the fourth is opacity
        if is_first:
            tags.append((270, _ASCII, len(self._description(1)) + 1, _TEXT))
        return sorted(tags)

    def _shorts(self, place: int, value: int) -> int:
        """Return the value of a tag with a short for each sample: these, or where they are if they are too many."""
        if self._samples * 2 > self._kind.offset.size:
            return place
        return sum(value << 16 * number for number in range(self._samples))

    def moved(self, path: Path) -> None:
        """Hear that the file was renamed."""
        self._path = path

    def close(self) -> None:
        """Cut off what is not a whole frame. A TIFF without a page is none, and is removed."""
        self._file.close(self._end)
        if self.frames == 0:
            self._path.unlink()


def _samples(look: Look) -> int:
    """Return how many numbers a pixel has: colours are the last axis of 8 or 16 bits."""
    is_colour = len(look.shape) == 3 and look.shape[-1] in (3, 4) and look.dtype.name in ("uint8", "uint16")
    return look.shape[-1] if is_colour else 1


def _described(look: Look, stack: list[int], samples: int, planes: int) -> str:
    """Return OME's XML, with marks where numbers of a fixed width are to be."""
    rows, columns = look.shape[-3:-1] if samples > 1 else look.shape[-2:]
    axes = "T" + {0: "", 1: "Z", 2: "CZ"}[len(stack)] + ("YXS" if samples > 1 else "YX")
    ome = need("tifffile").OmeXml()
    ome.addimage(look.dtype, (1, *look.shape), (planes, 1, 1, rows, columns, samples), axes=axes)
    text = re.sub(r'SizeT="1"', 'SizeT="SizeT@"', ome.tostring(declaration=True))
    text, changed = re.subn(rf'PlaneCount="{planes}"', 'PlaneCount="Planes@"', text)
    if changed != 1 or "SizeT@" not in text or len(text) > PAGE - _TEXT - 2 * _DIGITS:
        raise ValueError(f"expected a description with one count of planes, got {text!r}: this tifffile is too new")
    return text
