# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The table beside a recording: number, time and meta of each frame.

While it is recorded it is a file in NumPy's format, with a row for each frame, which is whole at every instant as the
frames are. At the end it becomes Parquet or CSV, with one column for each number or text.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import json
import os
import struct
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from .._files import mapped
from . import Look, need
from ._rows import Rows, npy_header

_KINDS = ("parquet", "csv", "npy")
_FIXED = struct.Struct("<Qqq")
_FIXED_NAMES = ("seq", "time_ns", "utc")
# What NumPy takes for no time at all; and the last one that it has, in 2262.
_NO_TIME, _LAST_TIME = -(1 << 63), (1 << 63) - 1
# So much (nanoseconds) the clocks may go apart before the difference is taken anew: a step of UTC, or a suspend.
_DRIFT = 1_000_000
_CHUNK = 65536
_TRUTHS = {"True": True, "False": False}


def kind_of(wanted: str | bool | None) -> str | None:
    """Return the kind of table. Raises ValueError for another word, ImportError where pyarrow is missing."""
    if wanted is False:
        return None
    if wanted is None or wanted is True:
        return "parquet" if importlib.util.find_spec("pyarrow") else "csv"
    if wanted not in _KINDS:
        raise ValueError(f"expected the sidecar 'parquet', 'csv', 'npy', None or False, got {wanted!r}")
    if wanted == "parquet":
        need("pyarrow")
    return str(wanted)


def paths_of(path: Path) -> dict[str, Path]:
    """Return where the table beside a recording may be, by kinds."""
    return {kind: path.with_name(f"{path.name}.times.{kind}") for kind in _KINDS}


def row_dtype(meta: np.dtype[Any] | None) -> np.dtype[Any]:
    """Return the dtype of a row: three columns, and the fields of meta as they lie."""
    names, formats, offsets = [*_FIXED_NAMES], ["<u8", "<i8", "<M8[ns]"], [0, 8, 16]
    size = _FIXED.size
    if meta is not None and meta.fields is not None:
        taken = {*names}
        for name in meta.names or ():
            dtype, offset = cast("Any", meta.fields)[name][:2]
            names.append(f"meta.{name}" if name in taken else name)
            formats.append(dtype)
            offsets.append(size + offset)
        size += meta.itemsize
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})


def meta_dtype(row: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return the dtype of meta of the rows of a table."""
    fields = cast("Any", row.fields)
    names = list(row.names or ())[len(_FIXED_NAMES) :]
    if not names:
        return None
    spec = {
        "names": [_own(name) for name in names],
        "formats": [fields[name][0] for name in names],
        "offsets": [fields[name][1] - _FIXED.size for name in names],
        "itemsize": row.itemsize - _FIXED.size,
    }
    return np.dtype(cast("Any", spec))


class TimesSink:
    """The table of a recording that goes on; `finish` makes it what was wanted."""

    def __init__(self, paths: dict[str, Path], kind: str, meta: np.dtype[Any] | None) -> None:
        self._paths, self._kind, self._dtype = paths, kind, row_dtype(meta)
        head, self._place = npy_header(Look((), self._dtype, None))
        self._rows = _Table(paths["npy"], head, self._dtype.itemsize, self._place)
        self._now, self._offset = _clocks()

    def write(self, frames: list[Any]) -> None:
        """Append a row for each frame of a ring."""
        self._now, offset = _clocks()
        if abs(offset - self._offset) > _DRIFT:
            self._offset = offset
        self._rows.append([np.frombuffer(b"".join(map(self._row, frames)), np.uint8)], len(frames))

    def _row(self, frame: Any) -> bytes:
        utc = self._utc(frame.time_ns)
        fixed = _FIXED.pack(frame.seq, frame.time_ns, utc if _NO_TIME < utc <= _LAST_TIME else _NO_TIME)
        return fixed if frame.meta is None else fixed + frame.meta.tobytes()

    def _utc(self, stamp: int) -> int:
        """Return the date of a stamp. One that is nearer to UTC than to the monotonic clock is of UTC already.

        A stamp of a camera's own clock may be so high that there is no date for it.
        """
        is_utc = abs(stamp - self._now - self._offset) < self._offset // 2
        return stamp if is_utc else stamp + self._offset

    def moved(self, recording: Path) -> None:
        """Hear that the recording was renamed."""
        self._paths = paths_of(recording)

    def finish(self, frames: int) -> None:
        """Cut the table to so many frames, and make it what was wanted. Raises OSError where the disk is full."""
        self._rows.cut(frames)
        self._rows.close()
        if self._kind != "npy":
            convert(self._paths["npy"], self._paths[self._kind])
            self._paths["npy"].unlink()


def _clocks() -> tuple[int, int]:
    """Return the monotonic clock, and how far UTC is from it."""
    now = time.monotonic_ns()
    return now, time.time_ns() - now


class _Table(Rows):
    def __init__(self, path: Path, head: bytes, row_bytes: int, place: int) -> None:
        super().__init__(path, len(head), row_bytes)
        self._place = place
        self.file.write(0, [np.frombuffer(head, np.uint8)])

    def _count(self, frames: int) -> None:
        self.file.put(self._place, b"%20d" % frames)
        super()._count(frames)

    def cut(self, frames: int) -> None:
        self._count(min(self.frames, frames))


def convert(table: Path, target: Path) -> None:
    """Write a table in NumPy's format as Parquet or CSV, by the ending of `target`; as a whole or not at all."""
    rows = mapped(table)
    part = target.with_name(target.name + ".part")
    write = _write_parquet if target.suffix == ".parquet" else _write_csv
    try:
        write(rows, part)
        os.replace(part, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
        raise


def _chunks(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Cut rows, of which there may be many; one empty chunk where there are none."""
    return (rows[start : start + _CHUNK] for start in range(0, max(len(rows), 1), _CHUNK))


def _write_csv(rows: NDArray[Any], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([name for name, _ in columns(rows[:0])])
        for chunk in _chunks(rows):
            writer.writerows(zip(*(_as_text(*column) for column in columns(chunk)), strict=True))


def _write_parquet(rows: NDArray[Any], path: Path) -> None:
    pa, pq = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    described = json.dumps(np.lib.format.dtype_to_descr(rows.dtype)).encode()
    writer: Any = None
    try:
        for chunk in _chunks(rows):
            table = pa.table(dict(_for_arrow(chunk))).replace_schema_metadata({b"ndshare": described})
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _for_arrow(rows: NDArray[Any]) -> Generator[tuple[str, Any], None, None]:
    pa = importlib.import_module("pyarrow")
    for name, values in columns(rows):
        if values.dtype.kind == "S":
            yield name, pa.array([value.decode("utf-8", "replace") for value in values.tolist()], pa.string())
        elif values.dtype.kind == "V":
            yield name, pa.array([value.tobytes() for value in values], pa.binary())
        elif name == "utc":
            yield name, pa.array(np.ascontiguousarray(values), pa.timestamp("ns", "UTC"))
        else:
            yield name, pa.array(values.astype(values.dtype.newbyteorder("=")))


def columns(rows: NDArray[Any], before: str = "") -> Generator[tuple[str, NDArray[Any]], None, None]:
    """Yield a column for each number or text in rows: ``origin.host`` of a structure, ``gains.0`` of an array."""
    if rows.dtype.names is not None:
        for name in rows.dtype.names:
            yield from columns(rows[name], f"{before}.{name}" if before else name)
    elif rows.ndim > 1:
        for place in np.ndindex(rows.shape[1:]):
            yield ".".join([before, *map(str, place)]), rows[:, *place]
    elif rows.dtype.kind == "c":
        yield f"{before}.real", cast("Any", rows).real
        yield f"{before}.imag", cast("Any", rows).imag
    else:
        yield before, rows


def _as_text(name: str, values: NDArray[Any]) -> list[Any]:
    if values.dtype.kind == "M":
        texts = np.datetime_as_string(values).tolist()
        return ["" if text == "NaT" else text + "Z" for text in texts] if name == "utc" else texts
    if values.dtype.kind == "S":
        return [value.decode("utf-8", "replace") for value in values.tolist()]
    if values.dtype.kind == "V":
        return [value.tobytes().hex() for value in values]
    return values.tolist()


def read_table(recording: Path, known: np.dtype[Any] | None = None) -> NDArray[Any] | None:
    """Return the rows of the table of a recording; None where it has none.

    Of CSV the types of meta are those of `known`, for the fields whose columns it has, else guessed. Raises ValueError.
    """
    paths = paths_of(recording)
    if paths["parquet"].is_file():
        return _read_parquet(paths["parquet"])
    if paths["csv"].is_file():
        return _read_csv(paths["csv"], known)
    return mapped(paths["npy"]) if paths["npy"].is_file() else None


def meta_of(rows: NDArray[Any]) -> NDArray[Any] | None:
    """Return the meta of the rows of a table; None where there is none."""
    dtype = meta_dtype(rows.dtype)
    if dtype is None:
        return None
    plain = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), rows.dtype.itemsize)
    return np.ascontiguousarray(plain[:, _FIXED.size :]).view(dtype).reshape(len(rows))


def _read_parquet(path: Path) -> NDArray[Any]:
    need("pyarrow")
    table: Any = importlib.import_module("pyarrow.parquet").read_table(path)
    described = cast("dict[bytes, bytes]", table.schema.metadata or {}).get(b"ndshare")
    if described is None:
        raise ValueError(f"expected a table that ndshare.record wrote, got {path}: remove it, and pass speed=None")
    rows = np.zeros(table.num_rows, dtype_of_json(json.loads(described)))
    for name, values in columns(rows):
        column = table.column(name)
        if values.dtype.kind == "S":
            values[...] = [text.encode() for text in column.to_pylist()]
        elif values.dtype.kind == "V":
            values[...] = np.frombuffer(b"".join(column.to_pylist()), values.dtype)
        else:
            values[...] = column.to_numpy()
    return rows


def dtype_of_json(descr: Any) -> np.dtype[Any]:
    """Return the dtype that NumPy's description means, after a way through JSON, which has no tuples."""
    return np.lib.format.descr_to_dtype(_tuples(descr))


def _tuples(descr: Any) -> Any:
    if isinstance(descr, str):
        return descr
    return [(name, _tuples(one), *map(tuple, shape)) for name, one, *shape in descr]


def _read_csv(path: Path, known: np.dtype[Any] | None) -> NDArray[Any]:
    with path.open(newline="", encoding="utf-8") as file:
        names, *lines = csv.reader(file)
    texts = dict(zip(names, zip(*lines, strict=True) if lines else [()] * len(names), strict=True))
    meta = {name: texts[name] for name in names[len(_FIXED_NAMES) :]}
    rows = np.zeros(len(lines), row_dtype(_meta_of_texts(meta, known)))
    places = {name: values for name, values in columns(rows) if name not in _FIXED_NAMES}
    if {*places} != {*meta}:
        raise ValueError(
            f"expected columns of meta that make fields in {path}, got {[*meta]}: mend it, or take it away and pass "
            "speed=None"
        )
    for name in "seq", "time_ns":
        # Of the whole text: a number that does not fit is an error, and no other number.
        rows[name] = np.array(texts[name], "U").astype(rows.dtype[name])
    rows["utc"] = np.array([text.rstrip("Z") for text in texts["utc"]], "M8[ns]")
    for name, values in places.items():
        values[...] = _of_texts(meta[name], values.dtype)
    return rows


def _typed(texts: tuple[str, ...]) -> NDArray[Any]:
    for dtype in (np.bool_, np.int64, np.float64):
        with contextlib.suppress(ValueError, OverflowError):
            return np.asarray(_of_texts(texts, np.dtype(dtype)), dtype)
    return np.array(texts, "U")


def _of_texts(texts: tuple[str, ...], dtype: np.dtype[Any]) -> Any:
    """Return what a column of CSV says, for a field of this dtype. Raises ValueError."""
    if dtype.kind == "b":
        if not texts or not {*texts} <= {*_TRUTHS}:
            raise ValueError("expected True or False")
        return [_TRUTHS[text] for text in texts]
    if dtype.kind == "S":
        return [text.encode() for text in texts]
    if dtype.kind == "V":
        return np.frombuffer(bytes.fromhex("".join(texts)), dtype)
    return np.array(texts, "U").astype(dtype)


def _meta_of_texts(texts: dict[str, tuple[str, ...]], known: np.dtype[Any] | None) -> np.dtype[Any]:
    """Return the dtype of meta that has such columns: fields as they are known where these have them, else guessed."""
    fields = dict[str, dict[str, tuple[str, ...]]]()
    for name, column in texts.items():
        fields.setdefault(_field_named(name, known), {})[name] = column
    return np.dtype([(_own(name), _field_of(name, of, known)) for name, of in fields.items()])


def _field_named(column: str, known: np.dtype[Any] | None) -> str:
    """Return the field that a column belongs to, as the table calls it."""
    with_dots = [name for name in (known.names if known is not None else None) or () if "." in name]
    for name in [*with_dots, *(f"meta.{name}" for name in _FIXED_NAMES)]:
        if column == name or column.startswith(f"{name}."):
            return name
    return column.split(".", maxsplit=1)[0]


def _own(name: str) -> str:
    """Return the name that a field has in the ring: there it may be called as a column of the table is."""
    plain = name.removeprefix("meta.")
    return plain if plain in _FIXED_NAMES else name


def _field_of(name: str, texts: dict[str, tuple[str, ...]], known: np.dtype[Any] | None) -> np.dtype[Any]:
    if known is not None and _own(name) in (known.names or ()):
        dtype = cast("Any", known.fields)[_own(name)][0]
        if leaves(dtype, name) == [*texts] and _are_such(texts, dtype, name):
            return dtype
    return _guessed({tuple(column[len(name) :].split(".")[1:]): column_texts for column, column_texts in texts.items()})


def _are_such(texts: dict[str, tuple[str, ...]], dtype: np.dtype[Any], name: str) -> bool:
    """Tell whether the texts of a field are of its dtype: what is not is guessed, and refused where it is put."""
    try:
        for column, values in columns(np.zeros(0, dtype), name):
            _of_texts(texts[column], values.dtype)
    except (ValueError, OverflowError):
        return False
    return True


def leaves(dtype: np.dtype[Any], name: str) -> list[str]:
    """Return the names of the columns of a field."""
    return [column for column, _ in columns(np.zeros(0, dtype), name)]


def _guessed(texts: dict[tuple[str, ...], tuple[str, ...]]) -> np.dtype[Any]:
    """Return a dtype for the columns of one field, by the rest of their names: ``1``, or ``host``."""
    if () in texts:
        return _typed(texts[()]).dtype
    if [*texts] == [("real",), ("imag",)]:
        return np.dtype(np.complex128)
    if all(part.isdecimal() for path in texts for part in path):
        items = np.result_type(*(_typed(column) for column in texts.values()))
        return np.dtype((items, tuple(int(length) + 1 for length in [*texts][-1])))
    members = dict[str, dict[tuple[str, ...], tuple[str, ...]]]()
    for (first, *rest), column in texts.items():
        members.setdefault(first, {})[tuple(rest)] = column
    return np.dtype([(name, _guessed(member)) for name, member in members.items()])
