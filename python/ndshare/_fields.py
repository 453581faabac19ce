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
from typing import Any, NamedTuple, cast, get_args, get_origin, get_type_hints, is_typeddict

import numpy as np
from numpy.typing import NDArray

from . import _native

_ALIGN = 64
# Where a frame is one item, its length is an int of C.
_MOST = (1 << 31) - 1

# So many levels of structures are described to other processes; each array may be one itself.
_MOST_LEVELS = 14

_Field = tuple[str, Any, int]  # name, format (a dtype, or one and a shape), bytes


def dtype_of_fields(fields: Any) -> np.dtype[Any]:
    """Return the dtype of frames with the fields that a user names: ``{name: (shape, dtype)}``, nested as wished."""
    if not isinstance(fields, Mapping | tuple | list):
        raise TypeError(f"expected fields as {{name: (shape, dtype), ...}}, got {type(fields).__name__}")
    return _level("", cast("Any", fields), _spec_dtype, 1)


def dtype_of(tree: Any) -> np.dtype[Any]:
    """Return the dtype of a frame that takes a tree of arrays."""
    return _level("", tree, _item_dtype, 1)


def _level(path: str, items: Any, dtype_of_item: Any, depth: int) -> np.dtype[Any]:
    """Return the dtype of a level, the `depth`-th: a field for each item, at a multiple of 64 bytes."""
    if depth > _MOST_LEVELS:
        raise ValueError(
            f"field {path!r}: expected at most {_MOST_LEVELS} levels of dicts, tuples and dataclasses, got more: "
            "put the arrays into fewer"
        )
    names: list[str] = []
    formats: list[Any] = []
    offsets: list[int] = []
    end = 0
    for name, item in _named(path, items):
        where = f"{path}.{name}" if path else name
        dtype = dtype_of_item(where, item, depth + 1)
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


def _spec_dtype(where: str, spec: Any, depth: int) -> np.dtype[Any]:
    if isinstance(spec, tuple | list) and isinstance(next(iter(cast("Any", spec)), None), str):
        raise TypeError(_in_another_order(where, tuple(cast("Any", spec))))
    if isinstance(spec, Mapping) or (isinstance(spec, tuple | list) and not _is_leaf(cast("Any", spec))):
        return _level(where, cast("Any", spec), _spec_dtype, depth)
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


def _in_another_order(where: str, spec: tuple[Any, ...]) -> str:
    """Return what to say of (dtype, shape), and of (name, dtype, shape), which is NumPy's way to name fields."""
    said = f"field {where!r}: expected (shape, dtype), got {spec!r}"
    if len(spec) == 2 and _is_leaf((spec[1], spec[0])):
        return f"{said}: give ({spec[1]!r}, {spec[0]!r})"
    if len(spec) not in {2, 3}:
        return said
    name, dtype, shape = spec if len(spec) == 3 else (*spec, ())
    return f"{said}, which is NumPy's order: give fields={{{name!r}: ({shape!r}, {dtype!r}), ...}}"


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


def _item_dtype(where: str, item: Any, depth: int) -> np.dtype[Any]:
    if _is_level(item):
        return _level(where, item, _item_dtype, depth)
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


class Wish(NamedTuple):
    """What a level is to become: a dataclass, a dict, or what was put (None); and what is in it. None: no wish."""

    kind: Any
    inner: list[Wish | None]


def wish_of(dtype: np.dtype[Any], kind: Any) -> Wish:
    """Return how an item of a dtype becomes a `kind`. Raises TypeError when it does not."""
    if dtype.names is None:
        raise _fields_missing(dtype, kind)
    is_dict = is_typeddict(kind)
    if not is_dict and not (dataclasses.is_dataclass(kind) and isinstance(kind, type)):
        raise TypeError(f"expected a dataclass or a TypedDict to take the fields, got {kind!r}")
    hints = get_type_hints(kind)
    # A ClassVar and an InitVar of a dataclass have hints, and are no fields.
    wanted = list(hints) if is_dict else [field.name for field in dataclasses.fields(kind)]
    if set(wanted) != set(dtype.names):
        names, told = ", ".join(dtype.names), ", ".join(wanted) or "none"
        raise TypeError(f"expected a class with the fields {names}, got {kind.__name__} with {told}")
    return Wish(dict if is_dict else kind, [_wish_in(dtype[name], hints[name]) for name in dtype.names])


def _wish_in(dtype: np.dtype[Any], hint: Any) -> Wish | None:
    """Return what an annotation wishes of a field: a class of fields, or a tuple with such in it."""
    if is_typeddict(hint) or (dataclasses.is_dataclass(hint) and isinstance(hint, type)):
        return wish_of(dtype, hint)
    if get_origin(hint) is not tuple or dtype.names is None:
        return None
    kinds = get_args(hint)
    if kinds[1:] == (...,):
        kinds = kinds[:1] * len(dtype.names)
    return Wish(None, [_wish_in(dtype[name], kind) for name, kind in zip(dtype.names, kinds, strict=False)])


def no_fields(array: NDArray[Any], kind: Any) -> TypeError:
    """Return what to say of a class that is wanted for an array that has no fields."""
    return _fields_missing(np.dtype((array.dtype, array.shape)) if array.shape else array.dtype, kind)


def _fields_missing(dtype: np.dtype[Any], kind: Any) -> TypeError:
    name = getattr(kind, "__name__", repr(kind))
    return TypeError(f"expected fields for {name}, got an array of shape {dtype.shape} of {dtype.base}")


# Notes


class Json:
    """A note that is JSON already, which goes on as it is."""

    def __init__(self, text: str) -> None:
        self.text = text


def json_of(value: Any) -> str:
    """Return a value as JSON. Raises TypeError and ValueError for what JSON cannot write."""
    if isinstance(value, Json):
        return value.text
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(
            f"expected a note that is a str, bytes, or a value that JSON can write, got {type(value).__name__}: {error}"
        ) from error


def _plain(value: Any) -> Any:
    """Return what JSON can write of NumPy's: a number, a truth value, or an array of such, or of texts."""
    if isinstance(value, np.ndarray | np.generic):
        dtype = cast("np.dtype[Any]", cast("Any", value).dtype)
        if dtype.kind in "biuU" or (dtype.kind == "f" and dtype.itemsize <= 8):
            return cast("Any", value).tolist()
    raise TypeError(f"Object of type {type(cast('object', value)).__name__} is not JSON serializable")


def json_in(text: str) -> Any:
    """Return the value in a text that anybody may have written. Raises ValueError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected a note that is JSON, got {text[:40]!r}: {error}") from None
