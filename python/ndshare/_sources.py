# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Recorded files, frame by frame: what `_sinks` wrote, and files of other programs in the same formats."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import math
import operator
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from . import _sinks
from ._fields import Json
from ._files import mapped
from ._sinks._notes import Notes, notes_path, open_notes
from ._sinks._rows import description_of
from ._sinks._times import dtype_of_json, meta_of, paths_of, read_table
from ._sinks._zarr import parts

_ALIGN = 64
_ANEW = "it is damaged, cut, or of another format; take a copy, or record it anew"


class _Opened(NamedTuple):
    """The frames alone."""

    frames: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    get: Callable[[int], NDArray[Any]]
    closing: Callable[[], object]


class Source(NamedTuple):
    """The frames of a file: how many, what they are, how to get one, and rows of the table and notes beside it."""

    path: Path
    frames: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[int], NDArray[Any]]
    rows: NDArray[Any] | None
    notes: Notes | None
    closing: Callable[[], object]

    def close(self) -> None:
        """Close the file; what its frames are is known also then."""
        self.closing()

    @property
    def meta(self) -> NDArray[Any] | None:
        """What goes with each frame."""
        return None if self.rows is None else meta_of(self.rows)

    def get(self, number: int) -> NDArray[Any]:
        """Return a frame. Raises ValueError where it cannot be read."""
        with _door(f"frame {number}", self.path, _ANEW):
            return self.read(number)

    def note(self, number: int) -> Any:
        """Return the note of a frame as a ring takes it, None where it has none. Raises ValueError."""
        if self.notes is None:
            return None
        with _door("lines of JSON with frame and note", notes_path(self.path), "mend it, or take the file away"):
            return _as_recorded(self.notes.get(number))


def open_source(path: Path, known: np.dtype[Any] | None = None) -> Source:
    """Open a recording, whose meta is perhaps of a `known` dtype: a table in CSV says none.

    Raises ValueError where it is none, FileNotFoundError, and ImportError for missing packages.
    """
    name = _sinks.format_of(path)
    if (package := _sinks.package_of(name)) is not None:
        _sinks.need(package)
    if not path.exists():
        raise FileNotFoundError(f"expected a recording {path}, got nothing there")
    _check_file(path, or_folder=name == "zarr")
    with contextlib.ExitStack() as opened:
        with _door("frames", path, _ANEW):
            found = _OPEN[name](path)
        opened.callback(found.closing)
        rows = _read_rows(path, lambda: _described_meta(path, name) or known)
        _check_count(path, found, rows)
        # One that was killed has a row more than frames, at the most.
        frames = found.frames if rows is None else min(found.frames, len(rows))
        rows = None if rows is None else rows[:frames]
        close = opened.pop_all().close
    return Source(path, frames, found.shape, found.dtype, found.get, rows, open_notes(path), close)


def _check_count(path: Path, found: _Opened, rows: NDArray[Any] | None) -> None:
    """Refuse a number of frames that nothing in the file bears out: 2**60 frames of 0 bytes take no byte."""
    if found.frames and rows is None and not math.prod(found.shape) * found.dtype.itemsize:
        raise ValueError(
            f"expected a table beside {path}, which counts its frames, got none: frames of 0 bytes ({found.shape} "
            f"{found.dtype}) leave nothing in a file, and {found.frames} of them are merely said; bring the table "
            "along, or record it anew"
        )


def _described_meta(path: Path, name: str) -> np.dtype[Any] | None:
    """Return the dtype of meta where the file of frames has a place for it."""
    beside = {"raw": description_of(path), "zarr": path / "zarr.json"}.get(name)
    if beside is None or not beside.is_file():
        return None
    with _door("the dtype of meta", beside, "mend it, or copy it anew"):
        facts = json.loads(beside.read_text())
        descr = facts.get("meta") if name == "raw" else facts.get("attributes", {}).get("ndshare_meta")
        return None if descr is None else dtype_of_json(descr)


@contextlib.contextmanager
def _door(what: str, path: Path, advice: str) -> Generator[None]:
    """Make one ValueError of all that the readers of formats raise; our own, and the system's, say enough."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        is_ours = isinstance(error, ValueError | OSError) and str(error).startswith("expected ")
        is_of_system = isinstance(error, OSError) and error.errno is not None
        if (is_ours and str(path) in str(error)) or is_of_system:
            raise
        kind = type(error).__name__
        raise ValueError(f"expected {what} in {path}, got what cannot be read ({kind}: {error}): {advice}") from error


def _check_file(path: Path, *, or_folder: bool = False) -> None:
    """Raise ValueError for what would wait at its opening for somebody who writes, as a FIFO does."""
    if not path.is_file() and not (or_folder and path.is_dir()):
        what, got = "a file or a folder" if or_folder else "a file", "a folder" if path.is_dir() else "a FIFO or device"
        raise ValueError(f"expected {what} {path}, got {got}: give the path of a recording on disk")


def _read_rows(path: Path, meta: Callable[[], np.dtype[Any] | None]) -> NDArray[Any] | None:
    table = next((beside for beside in paths_of(path).values() if beside.is_file()), None)
    if table is None:
        return None
    advice = "mend it, or take the file away and pass speed=None"
    with _door("a table with seq, time_ns and utc", table, advice):
        rows = cast("NDArray[Any]", read_table(path, meta()))
        if (wrong := np.flatnonzero(rows["time_ns"] < 0)).size:
            got = f"{rows['time_ns'][wrong[0]]} in row {wrong[0]}"
            raise ValueError(f"expected a time_ns from 0 to 2**63 - 1 for each frame in {table}, got {got}: {advice}")
    return rows


def _as_recorded(note: Any) -> Any:
    """Return a note as it was written: JSON of C may have NaN, or half a pair of surrogates, which `put` refuses."""
    if note is None or isinstance(note, bytes):
        return note
    if isinstance(note, str):
        with contextlib.suppress(UnicodeEncodeError):
            note.encode()
            return note
    return Json(json.dumps(note, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace").decode())


def _nothing() -> None:
    """Nothing is open, or closes by itself."""


def _of_array(array: Any, path: Path) -> _Opened:
    if array.ndim == 0:
        raise ValueError(f"expected an array of frames in {path}, got a single item")

    def get(number: int) -> NDArray[Any]:
        return np.asarray(array[number])

    return _Opened(array.shape[0], array.shape[1:], array.dtype, get, _nothing)


def _open_npy(path: Path) -> _Opened:
    try:
        array = mapped(path)
    except ValueError as error:  # as of Python objects
        raise ValueError(
            f"expected an array of numbers or of other items of a fixed size in {path}, got one that can't be mapped "
            f"({error}): save it as such, as by np.save(path, np.stack(list_of_frames))"
        ) from error
    return _of_array(array, path)


class _Facts(NamedTuple):
    """What the description of a .raw file says, checked."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    frame_bytes: int
    frames: int | None


def _open_raw(path: Path) -> _Opened:
    shape, dtype, frame_bytes, frames = _facts_of(description_of(path), path)

    def get(_: int) -> NDArray[Any]:
        return np.zeros(shape, dtype)

    if not frame_bytes:
        return _Opened(frames or 0, shape, dtype, get, _nothing)
    there = path.stat().st_size // frame_bytes
    # Recordings of before said none until their end.
    whole = there if frames is None else frames
    if there < whole:
        raise ValueError(
            f"expected {frames} frames in {path}, as {description_of(path).name} says, got {there} whole ones: copy it "
            f'anew, or write "frames": {there} there to play what is left'
        )
    if not whole:
        return _Opened(0, shape, dtype, get, _nothing)
    return _of_array(np.memmap(path, dtype, "r", shape=(whole, *shape)), path)


def _facts_of(beside: Path, path: Path) -> _Facts:
    if not beside.exists():
        raise FileNotFoundError(
            f"expected {beside.name} beside {path}, which says shape and dtype, got nothing there: bring it along, or "
            "read the file with np.memmap"
        )
    _check_file(beside)
    with _door("the description of a recording", beside, "mend it, or copy it anew"):
        told = json.loads(beside.read_text())
        facts: dict[str, Any] = told if isinstance(told, dict) else {"format": told}
        _expect(beside, "the format 'ndshare raw 1'", facts.get("format"), facts.get("format") == "ndshare raw 1")
        shape: Any = facts.get("shape")
        lengths: list[Any] = cast("list[Any]", shape) if isinstance(shape, list) else [None]
        _expect(
            beside, "a shape that is a list of integers from 0 on", facts.get("shape"), all(map(_is_count, lengths))
        )
        dtype = dtype_of_json(facts.get("dtype"))
        got, frames = facts.get("frame_bytes"), facts.get("frames")
        _expect(beside, "a dtype without Python objects", facts.get("dtype"), not dtype.hasobject)
        order = facts.get("order", "C")
        _expect(beside, 'the order "C"', order, order == "C")
        size = math.prod(lengths) * dtype.itemsize
        what = f"frame_bytes {size}, as of {tuple(lengths)} {dtype},"
        _expect(beside, what, got, _is_count(got) and got == size)
        _expect(beside, "frames that are an integer from 0 on, or null,", frames, frames is None or _is_count(frames))
    return _Facts(tuple(lengths), dtype, size, frames)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _expect(beside: Path, what: str, got: object, is_so: bool) -> None:
    if not is_so:
        raise ValueError(f"expected {what} in {beside}, got {repr(got)[:80]}: mend it, or copy it anew")


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

    return _Opened(min(array.shape[0] for array in arrays), shape, dtype, get, _nothing)


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
    with contextlib.ExitStack() as opened:
        file: Any = opened.enter_context(importlib.import_module("tifffile").TiffFile(path))
        series = file.series[0]
        rank = 3 if series.axes.endswith("S") else 2
        shape = series.shape if len(series.shape) > rank else (1, *series.shape)
        planes = int(np.prod(shape[1 : len(shape) - rank], dtype=np.int64))

        def get(number: int) -> NDArray[Any]:
            pages = [series.pages[number * planes + plane].asarray() for plane in range(planes)]
            return np.asarray(pages).reshape(shape[1:])

        dtype = np.dtype(series.dtype)
        return _Opened(shape[0], tuple(shape[1:]), dtype, get, opened.pop_all().close)


_OPEN: dict[str, Callable[[Path], _Opened]] = {
    "npy": _open_npy,
    "raw": _open_raw,
    "tiff": _open_tiff,
    "zarr": _open_zarr,
}
