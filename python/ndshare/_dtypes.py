"""Dtypes as text, without loss for everything that NumPy itself knows, and read back without unpickling."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

_BUILTIN_TYPES = 24


def to_text(dtype: np.dtype[Any]) -> str:
    """Return a dtype as text: ``dtype.str`` where that says everything, else a Python literal.

    Byte order, units, offsets, padding, titles and nesting are kept; metadata is not. Raises TypeError for dtypes
    that a library registered with NumPy.
    """
    spec = _spec(dtype)
    return spec if isinstance(spec, str) else repr(spec)


def from_text(text: str) -> np.dtype[Any]:
    """Return the dtype of a text that `to_text` made. Raises ValueError for other texts."""
    try:
        spec: object = ast.literal_eval(text) if text[:1] in {"(", "{"} else text
        return _dtype(spec)
    except (SyntaxError, TypeError, KeyError, RecursionError, MemoryError, OverflowError) as error:
        raise ValueError(f"expected a dtype as text, got {text[:80]!r}: {error}") from None


def is_plain(text: str) -> bool:
    """Tell whether the text is a ``dtype.str``, which NumPy reads by itself."""
    return text[:1] not in {"(", "{"}


def _spec(dtype: np.dtype[Any]) -> object:
    if dtype.num < 0 or dtype.num >= _BUILTIN_TYPES:
        raise TypeError(
            f"expected a dtype that NumPy itself knows, got {dtype!r}: send the array through multiprocessing, "
            "or a view of it with a NumPy dtype"
        )
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return (_spec(base), shape)
    if dtype.names is None or dtype.fields is None:
        return dtype.str
    table = cast("Mapping[str, tuple[Any, ...]]", dtype.fields)
    fields = [table[name] for name in dtype.names]
    return {
        "names": list(dtype.names),
        "formats": [_spec(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "titles": [_title(field) for field in fields],
        "itemsize": dtype.itemsize,
        "aligned": dtype.isalignedstruct,
    }


def _title(field: tuple[Any, ...]) -> str | None:
    return field[2] if len(field) > 2 else None


def _dtype(spec: object) -> np.dtype[Any]:
    if isinstance(spec, str):
        return np.dtype(spec)
    if isinstance(spec, tuple):
        base, shape = cast("tuple[object, tuple[int, ...]]", spec)
        return np.dtype((_dtype(base), shape))
    if not isinstance(spec, dict):
        raise TypeError("a dtype is a str, a tuple or a dict")
    fields = dict(cast("dict[str, Any]", spec))
    aligned = bool(fields.pop("aligned"))
    fields["formats"] = [_dtype(format_) for format_ in fields["formats"]]
    if not any(fields["titles"]):
        del fields["titles"]
    made: np.dtype[Any] = np.dtype(cast("Any", fields), align=aligned)
    return made
