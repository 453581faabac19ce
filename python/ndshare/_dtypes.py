"""Dtypes as text, without loss for everything that NumPy itself knows, and read back without unpickling."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

import numpy as np

_BUILTIN_TYPES = 24
# How often a text is parsed before a fault of the interpreter counts.
_PARSES = 100


def to_text(dtype: np.dtype[Any]) -> str:
    """Return a dtype as text: ``dtype.str`` where that says everything, else a Python literal.

    Byte order, units, offsets, padding, titles and nesting are kept; metadata is not. Raises TypeError for dtypes
    that a library registered with NumPy.
    """
    spec = _spec(dtype)
    return spec if isinstance(spec, str) else repr(spec)


def to_whole_text(dtype: np.dtype[Any]) -> str | None:
    """Return a dtype as text if that says everything about it; else None, and only pickle keeps it whole."""
    return to_text(dtype) if _is_whole(dtype) else None


def from_text(text: str) -> np.dtype[Any]:
    """Return the dtype of a text that `to_text` made. Raises ValueError for other texts."""
    try:
        return _dtype(_literal(text) if text[:1] in {"(", "[", "{"} else text)
    except (SyntaxError, TypeError, KeyError, RecursionError, MemoryError, OverflowError) as error:
        raise ValueError(f"expected a dtype as text, got {text[:80]!r}: {error}") from None


def _literal(text: str) -> object:
    """Return the value of a Python literal.

    Up to Python 3.11 the parser counts its depth for all threads together, and takes a switch of threads, or garbage
    whose destructor parses too, for a fault of its own. So a parse that failed so is done once more.
    """
    for _ in range(_PARSES):
        with suppress(SystemError):
            return ast.literal_eval(text)
    return ast.literal_eval(text)


def _is_whole(dtype: np.dtype[Any]) -> bool:
    """Tell whether nothing of a dtype is missing in its text: no metadata, no class of its own, in no field."""
    if dtype.metadata is not None or not 0 <= dtype.num < _BUILTIN_TYPES:
        return False
    if dtype.subdtype is not None:
        return _is_whole(dtype.subdtype[0])
    fields = cast("Mapping[str, tuple[Any, ...]]", dtype.fields or {})
    plain = dtype.type is np.void if dtype.kind == "V" else dtype.names is None
    return plain and all(_is_whole(field[0]) and isinstance(_title(field), str | None) for field in fields.values())


def _spec(dtype: np.dtype[Any]) -> object:
    if dtype.num < 0 or dtype.num >= _BUILTIN_TYPES:
        raise TypeError(
            f"expected a dtype that NumPy itself knows, got {dtype!r}: send the array through multiprocessing, "
            "or a view of it with a NumPy dtype"
        )
    if dtype.kind != "V" and dtype.names is not None:
        raise TypeError(
            f"expected a dtype that is a number or a structure, got {dtype!r}, which is both: send the array through "
            "multiprocessing, or a view of it with one of the two"
        )
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return (_spec(base), shape)
    if dtype.names is None or dtype.fields is None:
        return dtype.str
    table = cast("Mapping[str, tuple[Any, ...]]", dtype.fields)
    fields = [table[name] for name in dtype.names]
    formats = [_spec(field[0]) for field in fields]
    if _is_packed(dtype, fields):
        return list(zip(dtype.names, formats, strict=True))
    return {
        "names": list(dtype.names),
        "formats": formats,
        "offsets": [field[1] for field in fields],
        "titles": [_title(field) for field in fields],
        "itemsize": dtype.itemsize,
        "aligned": dtype.isalignedstruct,
    }


def _is_packed(dtype: np.dtype[Any], fields: list[tuple[Any, ...]]) -> bool:
    """Tell whether the names and formats alone make this dtype."""
    named = [(name, field[0]) for name, field in zip(dtype.names or (), fields, strict=True)]
    return not dtype.isalignedstruct and not any(map(_title, fields)) and np.dtype(named) == dtype


def _title(field: tuple[Any, ...]) -> object:
    # NumPy takes any object for a title; only text survives as text.
    return field[2] if len(field) > 2 else None


def _dtype(spec: object) -> np.dtype[Any]:
    if isinstance(spec, str):
        return np.dtype(spec)
    if isinstance(spec, tuple):
        base, shape = cast("tuple[object, tuple[int, ...]]", spec)
        return np.dtype((_dtype(base), shape))
    if isinstance(spec, list):
        return np.dtype([(name, _dtype(format_)) for name, format_ in cast("list[tuple[str, object]]", spec)])
    if not isinstance(spec, dict):
        raise TypeError("a dtype is a str, a tuple, a list or a dict")
    fields = dict(cast("dict[str, Any]", spec))
    aligned = bool(fields.pop("aligned"))
    fields["formats"] = [_dtype(format_) for format_ in fields["formats"]]
    if not any(fields["titles"]):
        del fields["titles"]
    made: np.dtype[Any] = np.dtype(cast("Any", fields), align=aligned)
    return made
