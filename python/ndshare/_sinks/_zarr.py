# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""zarr 3: an array with a chunk for each frame, many of them in one file (sharding).

zarr describes the arrays. The shards are written here, because zarr writes a shard as a whole only: frames would have
to be kept until there are enough, copied, and would be lost in a crash. A shard is simple: an index with a place for
each frame, then the frames. With the index in front, a frame is appended, and then the place of it is set. The shape in
``zarr.json`` has a fixed width, and is set last.

Items with fields become a group with an array for each field, and fields of fields a group in it.
"""

from __future__ import annotations

import functools
import operator
import os
import re
import struct
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from . import Look, need
from ._file import PAGE, Bytes, File, as_bytes, hold

_SHARD_BYTES = 256 << 20
_MOST_FRAMES = 4096
_PLACE = struct.Struct("<QQ")
# The first number of the shape, in a fixed width: JSON may have spaces there.
_SHAPE = re.compile(r'("shape"\s*:\s*\[\s*)0')
_DIGITS = 20


def check(look: Look) -> None:
    """Raise TypeError for items that zarr has no word for."""
    parse = need("zarr.dtype").parse_dtype
    for path, one in parts(look):
        try:
            _check_names(path)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                parse(one.dtype, zarr_format=3)
        except (TypeError, ValueError) as error:
            what = f"the field {'/'.join(path)!r} is {one.dtype}" if path else f"they are {one.dtype}"
            raise TypeError(
                f"expected items of frames that zarr has a dtype for, but {what} ({error}): record to .npy or .raw"
            ) from error


def _check_names(path: tuple[str, ...]) -> None:
    """Raise ValueError for names that are none in zarr: they are those of folders."""
    for name in path:
        if "/" in name or "\0" in name or name.startswith("__") or name.strip(".") == "" or name == "zarr.json":
            raise ValueError(f"{name!r} is no name of an array in a group")


def parts(look: Look) -> list[tuple[tuple[str, ...], Look]]:
    """Return what becomes an array each: the fields of items by their path, or the frame as it is, without one."""
    if look.dtype.fields is None:
        return [((), look)]
    fields: Any = look.dtype.fields
    return [((name, *path), one) for name in fields for path, one in parts(_field(look, fields[name][0]))]


def _field(look: Look, dtype: np.dtype[Any]) -> Look:
    return Look((*look.shape, *dtype.shape), dtype.base, None, look.expected)


class ZarrSink:
    """An array, or a group with an array for each field."""

    def __init__(self, path: Path, look: Look) -> None:
        zarr = need("zarr")
        path.mkdir()  # raises FileExistsError before zarr would write over anything
        self._folder = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        hold(self._folder)
        fields = parts(look)
        # What a table in CSV does not say.
        meta = {} if look.meta is None else {"ndshare_meta": np.lib.format.dtype_to_descr(look.meta)}
        for level in dict.fromkeys(field[:depth] for field, _ in fields for depth in range(len(field))):
            # The order of the fields, and how they lie.
            more = {} if level else {"dtype": np.lib.format.dtype_to_descr(look.dtype), **meta}
            zarr.create_group(path.joinpath(*level), zarr_format=3, attributes=more)
        self._arrays = [(field, _Array(path.joinpath(*field), one, {} if field else meta)) for field, one in fields]
        self.frames = 0

    def write(self, frames: list[NDArray[Any]]) -> None:
        """Append frames. A frame is counted when all its fields are there."""
        for frame in frames:
            for field, array in self._arrays:
                array.append(functools.reduce(operator.getitem, field, cast("Any", frame)))
            for _, array in self._arrays:
                array.count(self.frames + 1)
            self.frames += 1

    def moved(self, path: Path) -> None:
        """Hear that the folder was renamed: the next shards are made there."""
        for field, array in self._arrays:
            array.moved(path.joinpath(*field))

    def close(self) -> None:
        """Cut off what is not a whole frame."""
        for _, array in self._arrays:
            array.close()
        os.close(self._folder)


class _Array:
    """One array: its ``zarr.json``, and the shard that is being filled."""

    def __init__(self, path: Path, look: Look, more: dict[str, Any]) -> None:
        self._path, self._look, self._more = path, look, more
        self._per_shard = max(1, min(_MOST_FRAMES, _SHARD_BYTES // max(look.frame_bytes, 1)))
        self._start = -(-self._per_shard * _PLACE.size // PAGE) * PAGE
        self._describe()
        self._dtype = look.dtype.newbyteorder("<")
        self._shard: File | None = None
        self._at = self._frames = 0
        self._kept = self._end = self._start

    def _describe(self) -> None:
        zarr, codecs = need("zarr"), need("zarr.codecs")
        inner = (1, *map(_at_least_one, self._look.shape))
        sharding = codecs.ShardingCodec(
            chunk_shape=inner,
            codecs=[codecs.BytesCodec()],
            index_codecs=[codecs.BytesCodec()],
            index_location="start",
        )
        with warnings.catch_warnings():
            # zarr says of dates and texts that others may not read them.
            warnings.simplefilter("ignore")
            zarr.create_array(
                self._path,
                shape=(0, *self._look.shape),
                dtype=self._look.dtype.newbyteorder("<"),
                chunks=(self._per_shard, *inner[1:]),
                serializer=sharding,
                filters=None,
                compressors=None,
                attributes=self._more,
            )
        described = self._path / "zarr.json"
        found = _SHAPE.search(text := described.read_text())
        if found is None:
            raise ValueError(f"expected a shape that begins with 0 in {described}, got {text[:80]!r}")
        self._place = found.end() - 1
        described.unlink()
        self._json = File(described)
        text = f"{text[: self._place]}{0:{_DIGITS}d}{text[self._place + 1 :]}"
        self._json.write(0, [np.frombuffer(text.encode(), np.uint8)])
        self._length = self._json.reached

    def moved(self, path: Path) -> None:
        """Hear that the folder was renamed."""
        self._path = path

    def append(self, frame: Any) -> None:
        """Write a frame into its shard, and its place into the index."""
        number = self._frames % self._per_shard
        if number == 0 or self._shard is None:
            self._next_shard()
        piece = as_bytes(np.asarray(frame, self._dtype))
        assert self._shard is not None
        self._shard.write(self._at, [piece])
        self._shard.put(number * _PLACE.size, _PLACE.pack(self._at, piece.nbytes))
        self._end = self._at + piece.nbytes
        # Where frames are a number of pages, the next one may go by O_DIRECT as well.
        self._at = self._end

    def count(self, frames: int) -> None:
        """Say how many frames there are."""
        self._json.put(self._place, b"%*d" % (_DIGITS, frames))
        self._frames, self._kept = frames, self._end

    def _next_shard(self) -> None:
        self._close_shard()
        folder = self._path / "c"
        path = folder.joinpath(str(self._frames // self._per_shard), *("0" for _ in self._look.shape))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._at = self._end = self._start
        self._kept = 0
        self._shard = File(path, most=self._start + self._per_shard * self._look.frame_bytes)
        # As far as the first frame: what is cut off at the end is behind it, also where frames have no bytes.
        self._shard.write(0, [_no_places(self._per_shard, self._start)])
        self._kept = self._start

    def _close_shard(self) -> None:
        if self._shard is not None:
            shard, self._shard = self._shard, None
            shard.close(self._kept)

    def close(self) -> None:
        """Cut off what is not a whole frame."""
        self._close_shard()
        self._json.close(self._length)


def _no_places(frames: int, length: int) -> Bytes:
    places = np.zeros(length, np.uint8)
    places[: frames * _PLACE.size] = 255
    return places


def _at_least_one(length: int) -> int:
    return max(length, 1)
