"""The meta of a frame while it is written: a record that takes only what fits.

NumPy cuts a text that is too long for its field, wraps a number that is out of range and drops the part behind the
point, all without a word. What goes with a frame arrives whole, or is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, cast

import numpy as np

# Fields of a ring's meta that pipes and replays fill in where they are: number and time of the frame it comes from.
SOURCE_SEQ: Final = "source_seq"
SOURCE_TIME: Final = "source_time_ns"

_TEXT = "SUV"  # kinds of a fixed length


class Record(np.record):  # type: ignore[misc]  # NumPy's stubs call it final, and NumPy does not
    """A record whose fields take only values that fit; what does not raises and changes nothing."""

    # NumPy's stubs say that the module of its records is numpy, for subclasses too.
    __module__: str = "ndshare._meta"  # type: ignore[assignment]
    _is_over = False

    def _end(self) -> None:
        object.__setattr__(self, "_is_over", True)

    def __setitem__(self, key: Any, value: Any) -> None:
        if self._is_over:
            raise ValueError("the frame was written: its meta is read-only")
        if isinstance(key, list):
            names = [_name_of(self, name) for name in cast("list[Any]", key)]
            assign(self, dict(zip(names, value, strict=True)))
            return
        name = _name_of(self, key)
        super().__setitem__(name, fitting(name, _field(self.dtype, name), value))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in (self.dtype.names or ()):
            self[name] = value
        else:
            super().__setattr__(name, value)

    def setfield(self, val: Any, dtype: Any, offset: int = 0) -> None:  # noqa: ARG002
        """Refuse what would go by the checks."""
        raise TypeError("expected fields of a frame's meta to be set by name: frame.meta['name'] = value")


class Meta:
    """What goes with the frames of a ring: records of a structured dtype."""

    __slots__ = ("checked", "dtype")

    def __init__(self, given: np.dtype[Any]) -> None:
        """Raise TypeError for a dtype without fields, ValueError for fields that are arguments of `Ring.put`."""
        if given.names is None:
            raise TypeError(f"expected meta to be a structured dtype such as [('exposure', 'f8')], got {given}")
        for taken in ("timeout", "meta", "note", "time_ns"):
            if taken in given.names:
                raise ValueError(
                    f'expected fields of meta that are no arguments of put, got "{taken}": choose another name'
                )
        # The items of such dtypes also have their fields as attributes.
        self.dtype: np.dtype[Any] = np.dtype((np.record, given))
        self.checked: np.dtype[Any] = np.dtype((Record, given))

    def packed(self, carried: Any, meta: Any, fields: Mapping[str, Any] | None) -> bytes:
        """Return the bytes of a record: zeros, then what fits of `carried`, then `meta`, then `fields`.

        `carried` is the record of a frame that is passed on; of it come the fields that this dtype has too. `meta` and
        `fields` were given by the user: what of them does not fit raises.
        """
        record: Any = np.zeros((), self.checked)[()]
        if carried is not None:
            _carry(record, carried)
        if meta is not None:
            assign(record, _as_mapping(meta))
        if fields:
            assign(record, fields)
        return record.tobytes()


def assign(record: Any, fields: Mapping[str, Any]) -> None:
    """Set fields of a record. Raises TypeError for names that it does not have, before any is set."""
    names = record.dtype.names
    for name in fields:
        if name not in names:
            raise TypeError(f"expected fields of the ring's meta, {names}, got {name!r}")
    ready = {name: fitting(name, _field(record.dtype, name), value) for name, value in fields.items()}
    for name, value in ready.items():
        np.record.__setitem__(record, name, value)


def fitting(name: str, dtype: np.dtype[Any], value: Any) -> Any:
    """Return what to store of a value in a field, so that nothing of it is lost.

    Raises ValueError where it is too long, too large or of another shape, TypeError where it is of another kind.
    """
    if dtype.names is not None:
        return _structure(name, dtype, value)
    base, shape = dtype.subdtype or (dtype, ())
    kind = base.kind
    if type(value) is int and kind in "iuf" and not shape:
        return _number(name, base, value)
    given = np.asarray(value)
    if given.shape not in {shape, ()}:
        raise ValueError(f"meta field {name!r}: expected a value of shape {shape}, got one of shape {given.shape}")
    if kind in _TEXT:
        return _text(name, base, value, given)
    if kind in "mM":
        return _time(name, base, value, given)
    if given.dtype.kind == "O":
        raise TypeError(f"meta field {name!r}: expected {base}, got {type(value).__name__}")
    if kind in "iub" and given.dtype.kind in "iub":
        _check_range(name, base, given)
    elif not np.can_cast(given.dtype, base, "same_kind"):
        raise TypeError(
            f"meta field {name!r}: expected {base}, got {given.dtype}, which is of another kind: convert it first"
        )
    elif kind in "fc":
        _check_finite(name, base, given)
    return value


def _number(name: str, base: np.dtype[Any], value: int) -> Any:
    said = f"meta field {name!r}: expected a number that fits {base}, got {value}"
    try:
        with np.errstate(over="ignore"):
            number = base.type(value)
    except OverflowError as error:
        raise OverflowError(said) from error
    # NumPy makes infinity of an integer that is too large for a short float.
    if not np.isfinite(number):
        raise OverflowError(said)
    return number


def _check_range(name: str, base: np.dtype[Any], given: Any) -> None:
    if given.size == 0:
        return
    least, most = (0, 1) if base.kind == "b" else (np.iinfo(base).min, np.iinfo(base).max)
    low, high = int(given.min()), int(given.max())
    if low < least or high > most:
        got = low if low < least else high
        raise OverflowError(f"meta field {name!r}: expected a number from {least} to {most} for {base}, got {got}")


def _check_finite(name: str, base: np.dtype[Any], given: Any) -> None:
    with np.errstate(all="ignore"):
        is_lost = np.isfinite(given) & ~np.isfinite(given.astype(base))
    if np.any(is_lost):
        raise OverflowError(f"meta field {name!r}: expected a number that fits {base}, got {given}")


def _text(name: str, base: np.dtype[Any], value: Any, given: Any) -> Any:
    if base.kind == "V":
        if given.dtype.kind in {"U", "O"} or given.dtype.names is not None:
            raise TypeError(f"meta field {name!r}: expected bytes, got {type(value).__name__}")
        if given.dtype.kind not in "SV":
            raise TypeError(f"meta field {name!r}: expected bytes, got {given.dtype}")
        _check_length(name, base, len(value) if isinstance(value, bytes) else given.dtype.itemsize, "bytes")
        return value
    if given.dtype.kind not in "SU":
        raise TypeError(
            f"meta field {name!r}: expected {'bytes' if base.kind == 'S' else 'text'} for {base}, got "
            f"{type(value).__name__}: convert it first, with str()"
        )
    length = max(map(len, given.flat), default=0)
    # An array has no zeros at the ends of its texts; a bytes or str may have some that count.
    length = len(value) if isinstance(value, bytes | str) else length
    unit = "bytes" if base.kind == "S" else "characters"
    _check_length(name, base, length, unit)
    return value


def _check_length(name: str, base: np.dtype[Any], got: int, unit: str) -> None:
    most = base.itemsize // 4 if base.kind == "U" else base.itemsize
    if got > most:
        raise ValueError(
            f"meta field {name!r}: expected at most {most} {unit} for {base}, got {got}: make the ring with a longer "
            "field, or put long texts into the frame"
        )


def _time(name: str, base: np.dtype[Any], value: Any, given: Any) -> Any:
    if given.dtype.kind in "mM" and not np.can_cast(given.dtype, base, "same_kind"):
        raise TypeError(f"meta field {name!r}: expected {base}, got {given.dtype}")
    if given.dtype.kind in "fcSV" or (given.dtype.kind in "iub" and base.kind == "M"):
        raise TypeError(f"meta field {name!r}: expected {base}, got {given.dtype}")
    try:
        time = np.asarray(value, base)
    except (TypeError, ValueError, OverflowError) as error:
        raise type(error)(f"meta field {name!r}: expected {base}, got {value!r}: {error}") from error
    # NumPy wraps a time that is out of range for a finer unit, so it is compared on the way back.
    if given.dtype.kind == base.kind and np.can_cast(given.dtype, base, "safe"):
        back = time.astype(given.dtype)
        if np.any((back != given) & ~(np.isnat(back) & np.isnat(given))):
            raise OverflowError(f"meta field {name!r}: expected a time that fits {base}, got {value!r}")
    return time


def _structure(name: str, dtype: np.dtype[Any], value: Any) -> Any:
    """Return a record of a nested structure: by names of a mapping or record, by places of a tuple."""
    names = dtype.names or ()
    if isinstance(value, tuple):
        places = cast("tuple[Any, ...]", value)
        if len(places) != len(names):
            raise ValueError(f"meta field {name!r}: expected {len(names)} values, for {names}, got {len(places)}")
        value = dict(zip(names, places, strict=True))
    record: Any = np.zeros((), dtype)[()]
    for key, item in _as_mapping(value, f"meta field {name!r}: ").items():
        if key not in names:
            raise TypeError(f"meta field {name!r}: expected its fields, {names}, got {key!r}")
        record[key] = fitting(f"{name}.{key}", _field(dtype, key), item)
    return record


def _as_mapping(meta: Any, where: str = "") -> Mapping[str, Any]:
    if isinstance(meta, Mapping):
        return cast("Mapping[str, Any]", meta)
    dtype = getattr(meta, "dtype", None)
    names = getattr(dtype, "names", None)
    if names is None or getattr(meta, "shape", None) != ():
        raise TypeError(f"{where}expected a mapping or a record with named fields as meta, got {type(meta).__name__}")
    record: Any = cast("Any", meta)[()] if isinstance(meta, np.ndarray) else meta
    return {name: record[name] for name in names}


def _carry(record: Any, carried: Any) -> None:
    """Take over the fields that both have, where each value of the one's dtype fits the other's."""
    for name in carried.dtype.names:
        if name in record.dtype.names and _fits_always(_field(carried.dtype, name), _field(record.dtype, name)):
            np.record.__setitem__(record, name, carried[name])


def _fits_always(dtype: np.dtype[Any], other: np.dtype[Any]) -> bool:
    if dtype == other:
        return True
    if dtype.names is not None or other.names is not None or dtype.shape != other.shape:
        return False
    casting: Literal["safe", "same_kind"] = "safe" if other.base.kind in _TEXT else "same_kind"
    return np.can_cast(dtype.base, other.base, casting)


def _name_of(record: Any, key: Any) -> str:
    names = record.dtype.names
    if isinstance(key, str):
        if key not in names:
            raise KeyError(f"expected a field of the ring's meta, {names}, got {key!r}")
        return key
    return names[key]


def _field(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    return cast("Mapping[str, tuple[Any, ...]]", dtype.fields)[name][0]
