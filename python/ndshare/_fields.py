# pyright: reportPrivateUsage=false
"""Frames of several arrays: the dtype of one, and trees of arrays from it and into it; notes as JSON.

A frame of several arrays is one item of a structured dtype, in which each array is a field at a multiple of 64 bytes.
So the head of a ring, or a frame, says itself what is in it. A dict and a dataclass are a level whose fields have their
names; a tuple is a level whose fields are its places, "0", "1" and so on, which no dict may have for names.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast, get_type_hints, is_typeddict

import numpy as np

from . import _native

_ALIGN = 64
# Where a frame is one item, its length is an int of C.
_MOST = (1 << 31) - 1

_Told = TypeVar("_Told")
_Field = tuple[str, Any, int]  # name, format (a dtype, or one and a shape), bytes


def dtype_of_fields(fields: Any) -> np.dtype[Any]:
    """Return the dtype of frames with the fields that a user names: ``{name: (shape, dtype)}``, nested as wished."""
    if not isinstance(fields, Mapping | tuple | list):
        raise TypeError(f"expected fields as {{name: (shape, dtype), ...}}, got {type(fields).__name__}")
    return _level("", cast("Any", fields), _spec_dtype)


def dtype_of(tree: Any) -> np.dtype[Any]:
    """Return the dtype of a frame that takes a tree of arrays."""
    return _level("", tree, _item_dtype)


def _level(path: str, items: Any, dtype_of_item: Any) -> np.dtype[Any]:
    """Return the dtype of a level: a field for each item, at a multiple of 64 bytes."""
    names: list[str] = []
    formats: list[Any] = []
    offsets: list[int] = []
    end = 0
    for name, item in _named(path, items):
        where = f"{path}.{name}" if path else name
        dtype = dtype_of_item(where, item)
        offsets.append(-(-end // _ALIGN) * _ALIGN)
        names.append(name)
        formats.append(dtype)
        end = offsets[-1] + dtype.itemsize
        if end > _MOST:
            raise ValueError(
                f"field {where!r}: expected a frame of less than 2 GiB, got {end} bytes or more: use several rings"
            )
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": end})


def _named(path: str, items: Any) -> Iterable[tuple[str, Any]]:
    whose = f"field {path!r}: " if path else ""
    if isinstance(items, tuple | list):
        pairs: list[tuple[Any, Any]] = [(str(place), item) for place, item in enumerate(cast("Any", items))]
    elif isinstance(items, Mapping):
        pairs = list(cast("Mapping[Any, Any]", items).items())
        for name, _ in pairs:
            _check_name(whose, name)
    else:
        pairs = [(field.name, getattr(items, field.name)) for field in dataclasses.fields(items)]
    if not pairs:
        raise ValueError(f"{whose}expected at least one array, got an empty {type(cast('Any', items)).__name__}")
    return pairs


def _check_name(whose: str, name: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{whose}expected the names of fields to be str, got {name!r}")
    if not name or name.isdecimal():
        raise ValueError(
            f"{whose}expected names of fields that are no numbers, which are the places of a tuple, got {name!r}: "
            "choose another name, or give a tuple"
        )


def _sub_array(where: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.dtype[Any]:
    try:
        return np.dtype((dtype, shape)) if shape else dtype
    except ValueError as error:
        raise ValueError(f"field {where!r}: expected an array of less than 2 GiB, got {shape} of {dtype}") from error


# What a ring is made for


def _spec_dtype(where: str, spec: Any) -> np.dtype[Any]:
    if isinstance(spec, Mapping) or (isinstance(spec, tuple | list) and not _is_leaf(cast("Any", spec))):
        return _level(where, cast("Any", spec), _spec_dtype)
    if not isinstance(spec, tuple | list):
        raise TypeError(f"field {where!r}: expected (shape, dtype), or fields of its own, got {spec!r}")
    shape, given = cast("tuple[Any, Any]", spec)
    lengths = (shape,) if not isinstance(shape, tuple | list) else tuple(cast("Iterable[Any]", shape))
    try:
        dtype = np.dtype(given)
        lengths = tuple(int(length) for length in lengths)
    except TypeError as error:
        raise TypeError(f"field {where!r}: expected (shape, dtype), got {spec!r}: {error}") from error
    if any(length < 0 for length in lengths):
        raise ValueError(f"field {where!r}: expected lengths of 0 or more, got {shape}")
    _check_items(where, dtype)
    return _sub_array(where, dtype, lengths)


def _is_leaf(spec: tuple[Any, ...]) -> bool:
    """Tell (shape, dtype) from a tuple of fields: a shape is a number, or a sequence of them."""
    if len(spec) != 2:
        return False
    shape = spec[0]
    if isinstance(shape, tuple | list):
        return all(hasattr(length, "__index__") for length in cast("Iterable[Any]", shape))
    return hasattr(shape, "__index__")


def _check_items(where: str, dtype: np.dtype[Any]) -> None:
    try:
        _native.dtype_text(dtype)
    except TypeError as error:
        raise TypeError(f"field {where!r}: {error}") from error


# What is put into a ring that takes any frame


def _item_dtype(where: str, item: Any) -> np.dtype[Any]:
    if _is_level(item):
        return _level(where, item, _item_dtype)
    try:
        array = np.asarray(item)
    except ValueError as error:
        raise ValueError(f"field {where!r}: {error}") from error
    _check_items(where, array.dtype)
    return _sub_array(where, array.dtype, array.shape)


def _is_level(item: Any) -> bool:
    if isinstance(item, np.ndarray):
        return False
    if isinstance(item, tuple):
        return any(isinstance(part, np.ndarray) or _is_level(part) for part in cast("tuple[Any, ...]", item))
    return isinstance(item, Mapping) or (dataclasses.is_dataclass(item) and not isinstance(item, type))


def misnamed(whose: str, names: Iterable[str], given: Any) -> str:
    """Return what to say of something that has other names than it should have."""
    if isinstance(given, Mapping):
        got = list(cast("Mapping[Any, Any]", given))
    elif getattr(getattr(given, "dtype", None), "names", None) is not None:
        got = list(given.dtype.names)
    else:
        got = [field.name for field in dataclasses.fields(given)]
    names = list(names)
    missing = [name for name in names if name not in got]
    unknown = [name for name in got if name not in names]
    parts = ["without " + ", ".join(missing)] if missing else []
    parts += ["with " + ", ".join(map(repr, unknown))] if unknown else []
    return f"{whose}expected the fields {', '.join(names)}, got them {' and '.join(parts)}: give each, and no other"


# What comes out


def tree_of(item: np.ndarray[Any, Any], kind: type[_Told] | None = None) -> Any:
    """Return the fields of an item as it was put: dicts, tuples and arrays, which are views; or as a `kind`."""
    names = item.dtype.names
    if names is None or item.shape:
        if kind is not None:
            raise TypeError(f"expected fields for {kind.__name__}, got an array of shape {item.shape} of {item.dtype}")
        return item
    if kind is not None and not is_typeddict(kind):
        return _built(item, names, kind)
    hints: dict[str, Any] = {} if kind is None else _hints(names, kind)
    parts = {name: tree_of(item[name], _kind_in(hints.get(name))) for name in names}
    return tuple(parts.values()) if kind is None and all(map(_is_place, names, range(len(names)))) else parts


def _is_place(name: str, place: int) -> bool:
    return name == str(place)


def _built(item: np.ndarray[Any, Any], names: tuple[str, ...], kind: Any) -> Any:
    if not (dataclasses.is_dataclass(kind) and isinstance(kind, type)):
        raise TypeError(f"expected a dataclass or a TypedDict to take the fields, got {kind!r}")
    hints = _hints(names, kind)
    return kind(**{name: tree_of(item[name], _kind_in(hints.get(name))) for name in names})


def _hints(names: tuple[str, ...], kind: Any) -> dict[str, Any]:
    told = get_type_hints(kind)
    if set(told) != set(names):
        raise TypeError(
            f"expected a class with the fields {', '.join(names)}, got {kind.__name__} with {', '.join(told) or 'none'}"
        )
    return told


def _kind_in(hint: Any) -> Any:
    """Return the class that a field is to be, if that is one of fields."""
    return hint if dataclasses.is_dataclass(hint) or is_typeddict(hint) else None


# Notes


def json_of(value: Any) -> str:
    """Return a value as JSON. Raises TypeError and ValueError for what JSON cannot write."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(
            f"expected a note that is a str, bytes, or a value that JSON can write, got {type(value).__name__}: {error}"
        ) from error


def json_in(text: str) -> Any:
    """Return the value in a text that anybody may have written. Raises ValueError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected a note that is JSON, got {text[:40]!r}: {error}") from None
