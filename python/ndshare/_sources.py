# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Recorded files, frame by frame: what `_sinks` wrote, and files of other programs in the same formats."""

from __future__ import annotations

import functools
import importlib
import json
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from . import _sinks
from ._sinks._notes import Notes, open_notes
from ._sinks._rows import description_of
from ._sinks._times import dtype_of_json, meta_of, read_table
from ._sinks._zarr import parts

_ALIGN = 64


class Source(NamedTuple):
    """The frames of a file: how many, what they are, how to get one, and rows of the table and notes beside it."""

    frames: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    get: Callable[[int], NDArray[Any]]
    rows: NDArray[Any] | None
    notes: Notes | None

    @property
    def meta(self) -> NDArray[Any] | None:
        """What goes with each frame."""
        return None if self.rows is None else meta_of(self.rows)


def open_source(path: Path, known: np.dtype[Any] | None = None) -> Source:
    """Open a recording, whose meta is perhaps of a `known` dtype: a table in CSV says none.

    Raises ValueError where it is none, FileNotFoundError, and ImportError for missing packages.
    """
    name = _sinks.format_of(path)
    if (package := _sinks.package_of(name)) is not None:
        _sinks.need(package)
    if not path.exists():
        raise FileNotFoundError(f"expected a recording {path}, got nothing there")
    frames, shape, dtype, get = _OPEN[name](path)
    rows = read_table(path, _described_meta(path, name) or known)
    # One that was killed has a row more than frames, at the most.
    frames = frames if rows is None else min(frames, len(rows))
    return Source(frames, shape, dtype, get, None if rows is None else rows[:frames], open_notes(path))


def _described_meta(path: Path, name: str) -> np.dtype[Any] | None:
    """Return the dtype of meta where the file of frames has a place for it."""
    beside = {"raw": description_of(path), "zarr": path / "zarr.json"}.get(name)
    if beside is None or not beside.is_file():
        return None
    facts = json.loads(beside.read_text())
    descr = facts.get("meta") if name == "raw" else facts.get("attributes", {}).get("ndshare_meta")
    return None if descr is None else dtype_of_json(descr)


_Opened = tuple[int, tuple[int, ...], np.dtype[Any], Callable[[int], NDArray[Any]]]


def _of_array(array: Any, path: Path) -> _Opened:
    if array.ndim == 0:
        raise ValueError(f"expected an array of frames in {path}, got a single item")
    return array.shape[0], array.shape[1:], array.dtype, lambda number: np.asarray(array[number])


def _open_npy(path: Path) -> _Opened:
    try:
        array = np.load(path, mmap_mode="r", max_header_size=1 << 24)
    except ValueError as error:  # as of Python objects
        raise ValueError(
            f"expected an array of numbers or of other items of a fixed size in {path}, got one that can't be mapped "
            f"({error}): save it as such, as by np.save(path, np.stack(list_of_frames))"
        ) from error
    return _of_array(array, path)


def _open_raw(path: Path) -> _Opened:
    beside = description_of(path)
    if not beside.is_file():
        raise FileNotFoundError(
            f"expected {beside.name} beside {path}, which says shape and dtype, got nothing there: bring it along, or "
            "read the file with np.memmap"
        )
    facts = json.loads(beside.read_text())
    if facts.get("format") != "ndshare raw 1":
        raise ValueError(f"expected the description of a recording in {beside}, got {facts.get('format')!r} there")
    dtype, shape = dtype_of_json(facts["dtype"]), tuple(facts["shape"])
    # Recordings of before said none until their end.
    told = path.stat().st_size if facts["frames"] is None else facts["frames"]
    if not facts["frame_bytes"]:
        return facts["frames"] or 0, shape, dtype, lambda _: np.zeros(shape, dtype)
    whole = min(told, path.stat().st_size // facts["frame_bytes"])
    if not whole:
        return 0, shape, dtype, lambda _: np.zeros(shape, dtype)
    return _of_array(np.memmap(path, dtype, "r", shape=(whole, *shape)), path)


def _open_zarr(path: Path) -> _Opened:
    opened: Any = importlib.import_module("zarr").open(path, mode="r")
    if hasattr(opened, "ndim"):
        return _of_array(opened, path)
    descr = opened.attrs.get("dtype")
    dtype = dtype_of_json(descr) if descr else _joined(opened)
    if dtype is None:
        raise ValueError(f"expected an array, or a group with arrays, in {path}, got neither")
    return _open_group(opened, dtype)


def _open_group(group: Any, dtype: np.dtype[Any]) -> _Opened:
    """Open an array for each field of items."""
    fields = [field for field, _ in parts(_sinks.Look((), dtype, None))]
    arrays = [group["/".join(field)] for field in fields]
    shape = tuple(arrays[0].shape[1 : arrays[0].ndim - _rank(dtype, fields[0])])

    def get(number: int) -> NDArray[Any]:
        frame = np.zeros(shape, dtype)
        for field, array in zip(fields, arrays, strict=True):
            functools.reduce(operator.getitem, field, cast("Any", frame))[...] = array[number]
        return frame

    return min(array.shape[0] for array in arrays), shape, dtype, get


def _rank(dtype: np.dtype[Any], field: tuple[str, ...]) -> int:
    """Return how many dimensions an item of a field has, those of the fields that it is in included."""
    rank = 0
    for name in field:
        dtype = cast("Any", dtype.base.fields)[name][0]
        rank += dtype.ndim
    return rank


def _joined(group: Any) -> np.dtype[Any] | None:
    """Return what an item is in a group that `record` did not write: a frame of each array, at steps of 64 bytes."""
    fields, offsets, size = dict[str, np.dtype[Any]](), list[int](), 0
    for name, member in sorted(group.members()):
        is_array = hasattr(member, "ndim")
        dtype = np.dtype((member.dtype, member.shape[1:])) if is_array else _joined(member)
        if dtype is not None:
            fields[name] = dtype
            offsets.append(size)
            size += -(-dtype.itemsize // _ALIGN) * _ALIGN
    spec = {"names": list(fields), "formats": list(fields.values()), "offsets": offsets, "itemsize": size}
    return np.dtype(cast("Any", spec)) if fields else None


def _open_tiff(path: Path) -> _Opened:
    file: Any = importlib.import_module("tifffile").TiffFile(path)
    series = file.series[0]
    rank = 3 if series.axes.endswith("S") else 2
    shape = series.shape if len(series.shape) > rank else (1, *series.shape)
    planes = int(np.prod(shape[1 : len(shape) - rank], dtype=np.int64))

    def get(number: int) -> NDArray[Any]:
        pages = [series.pages[number * planes + plane].asarray() for plane in range(planes)]
        return np.asarray(pages).reshape(shape[1:])

    return shape[0], tuple(shape[1:]), np.dtype(series.dtype), get


_OPEN: dict[str, Callable[[Path], _Opened]] = {
    "npy": _open_npy,
    "raw": _open_raw,
    "tiff": _open_tiff,
    "zarr": _open_zarr,
}
