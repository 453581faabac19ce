# pyright: reportPrivateUsage=false
"""One piece of memory that holds one set of arrays at a time, and another set later.

Being inside a use is an object (`_native.Inside`), and what keeps the bytes of a field (`_native.Field`) keeps it. So a
view that outlives its `with` block keeps its process inside, and nobody gets the bytes under it for another use. This
process is told which view that is; other processes wait until it is gone, or until its process is. The array that was
handed out is no such view: it turns read-only and lets go, if nothing but variables refers to it.

What this process knows of an overlay's memory is kept once, however many Overlay objects it has of it, and as long as
something of a use is there.
"""

from __future__ import annotations

import gc
import itertools
import keyword
import os
import threading
import time
import unicodedata
import weakref
from collections.abc import Iterable, Iterator, Mapping
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast, get_args, get_type_hints

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import _native
from ._arrays import Shape
from ._errors import Timeout
from ._native import Overlay

if TYPE_CHECKING:
    from ._native import _Place

# What a type checker takes the fields of a use for.
_Told = TypeVar("_Told")
FieldSpec = tuple[Shape, DTypeLike]
UseSpec = Mapping[str, FieldSpec] | Iterable[tuple[str, FieldSpec]]

# A waiting thread looks so often (seconds) whether another thread of its process has left a view behind.
_LOOK_EVERY = 0.1

# No lock guards this, nor what a memory notes: finalizers, signal handlers and other threads may come in anywhere, and
# would wait for it. Each change is one step of the interpreter.
_memories: dict[tuple[int, int, int, bool], weakref.ref[_Memory]] = {}


_numbers = itertools.count()


class Use(Generic[_Told]):
    """A use of an overlay, for `with`. It may be entered again, and by several threads."""

    __slots__ = ("_entered", "_memory", "_name", "_overlay", "_timeout")

    def __init__(self, overlay: Overlay, name: str, timeout: float | None) -> None:
        self._overlay, self._name, self._timeout = overlay, name, timeout
        self._memory = _memory_at(overlay._place)
        self._entered: list[Fields] = []

    def __enter__(self) -> _Told:
        fields = self._enter()
        self._entered.append(fields)
        return cast("_Told", fields)

    def __exit__(self, *_: object) -> None:
        thread = threading.get_ident()
        mine = [fields for fields in self._entered if fields._thread == thread] or self._entered
        if mine:
            fields = mine[-1]
            self._entered.remove(fields)
            fields._end()

    # Type checkers are to see that there is no field.
    if not TYPE_CHECKING:

        def __getattr__(self, field: str) -> Any:
            if field != "first" and field not in self._overlay._plan[self._name]:
                raise AttributeError(f"a use has no attribute {field!r}")
            use = repr(self._name)
            raise AttributeError(
                f"expected the use {use} to be entered before its fields are taken, got .{field} of it outside: write "
                f"with overlay.use({use}) as v: and take v.{field}"
            )

    def __repr__(self) -> str:
        return f"<use {self._name!r} of {self._overlay!r}>"

    def _enter(self) -> Fields:
        outer = self._memory.use_of_this_thread()
        if outer is None:
            inside = self._wait()
            return self._hand_out(inside, inside.first)
        if outer._name != self._name:
            raise RuntimeError(
                f"expected this thread to leave the use {outer._name!r} before it asks for {self._name!r}: it would "
                "wait for itself; end the outer with block first"
            )
        # It must not wait for others, who may be waiting for its outer block.
        return self._hand_out(outer._inside, first=False)

    def _wait(self) -> _native.Inside:
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        while True:
            self._memory.refuse_leftovers(self._name)
            left = _LOOK_EVERY if deadline is None else min(_LOOK_EVERY, max(0.0, deadline - time.monotonic()))
            try:
                return self._overlay._enter(self._name, left)
            except Timeout:
                if deadline is not None and time.monotonic() >= deadline:
                    raise

    def _hand_out(self, inside: _native.Inside | None, first: bool) -> Fields:
        assert inside is not None
        arrays = {
            field: self._overlay._view(inside, where, self._memory)
            for field, where in self._overlay._plan[self._name].items()
        }
        fields = Fields(self._name, arrays, inside, first)
        self._memory.note(fields, arrays)
        return fields


class Fields:
    """The arrays of a use while it lasts: ``v.A`` or ``v["A"]``. ``v.first``: nobody else was inside at entry."""

    __slots__ = ("__weakref__", "_arrays", "_inside", "_name", "_thread", "first")

    def __init__(self, name: str, arrays: dict[str, NDArray[Any]], inside: _native.Inside, first: bool) -> None:
        self._name, self.first = name, first
        self._arrays: dict[str, NDArray[Any]] | None = arrays
        self._inside: _native.Inside | None = inside
        self._thread = threading.get_ident()

    def __getitem__(self, field: str) -> NDArray[Any]:
        arrays = self._arrays
        if arrays is None:
            raise RuntimeError(
                f"expected field {field!r} inside the use {self._name!r}, got it after the use has ended"
            )
        try:
            return arrays[unicodedata.normalize("NFKC", field)]
        except (KeyError, TypeError):  # also of what is no text
            raise KeyError(f"expected a field of use {self._name!r} ({', '.join(arrays)}), got {field!r}") from None

    def __getattr__(self, field: str) -> NDArray[Any]:
        if field.startswith("_"):
            raise AttributeError(field)
        try:
            return self[field]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def __setitem__(self, field: str, value: object) -> None:
        # ``v["A"] += 1`` puts back what it took out.
        if value is not self[field]:
            raise TypeError(
                f"expected field {field!r} of use {self._name!r} to stay the array that it is, got "
                f"{type(value).__name__} in its place: write into it, as in v.{field}[...] = values"
            )

    def __setattr__(self, field: str, value: object) -> None:
        if field.startswith("_") or field == "first":
            object.__setattr__(self, field, value)
            return
        try:
            self[field] = value
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def __dir__(self) -> list[str]:
        return ["first", *(self._arrays or {})]

    def __repr__(self) -> str:
        state = ", ".join(self._arrays) if self._arrays is not None else "ended"
        return f"<fields of use {self._name!r}: {state}>"

    def _end(self) -> None:
        """Turn the arrays read-only and let go of them."""
        arrays = self._arrays or {}
        self._forget()
        _native.let_go(arrays)

    def _forget(self) -> None:
        self._arrays, self._inside = None, None


class _Handed(NamedTuple):
    """A field's array that was handed out, for as long as views of it live, or it has not been let go."""

    use: str
    field: str
    array: weakref.ref[NDArray[Any]]
    base: weakref.ref[_native.Field]
    fields: weakref.ref[Fields]

    def is_left_behind(self) -> bool:
        """Whether views outlived the end of their use, or nobody is there any more to end it."""
        return _native.is_left_behind(self.base, self.fields() is not None)

    def leave(self) -> None:
        base = self.base()
        if base is not None:
            base.leave()


class _Memory:
    """What this process knows of one overlay's memory."""

    __slots__ = ("__weakref__", "_handed", "_inside")

    def __init__(self) -> None:
        self._inside: dict[int, weakref.ref[Fields]] = {}
        self._handed: dict[int, _Handed] = {}

    def note(self, fields: Fields, arrays: dict[str, NDArray[Any]]) -> None:
        """Note who is inside and what was handed out; forget what is over."""
        this = weakref.ref(fields)
        handed = [
            _Handed(fields._name, name, weakref.ref(array), weakref.ref(field), this)
            for name, array in arrays.items()
            if (field := _native.field_under(array)) is not None
        ]
        for number, other in self._inside.copy().items():
            if not _is_current(other()):
                self._inside.pop(number, None)
        for number, one in self._handed.copy().items():
            if _native.is_gone(one.base):
                self._handed.pop(number, None)
        self._inside[next(_numbers)] = this
        for one in handed:
            self._handed[next(_numbers)] = one

    def use_of_this_thread(self) -> Fields | None:
        """Return the use that this thread is inside, if it is."""
        thread = threading.get_ident()
        current = [fields for other in self._inside.copy().values() if (fields := other()) and _is_current(fields)]
        return next((fields for fields in current if fields._thread == thread), None)

    def refuse_leftovers(self, name: str) -> None:
        """Raise BufferError when views of another use than `name` have outlived their use."""
        if not self._leftovers(name):
            return
        # Views in reference cycles are nobody's.
        gc.collect()
        _native.let_go_of_left([one.array for one in self._handed.copy().values()])
        left = self._leftovers(name)
        if left:
            fields = ", ".join(f"{field!r} of use {use!r}" for use, field in left)
            raise BufferError(
                f"expected no view of another use to be alive when {name!r} begins, got views of {fields}: drop them "
                "(del), or copy what you want to keep"
            )

    def forget_parent(self) -> None:
        """In a forked child: the parent is inside, this process is not, except by views that it still has."""
        for fields in [fields for other in self._inside.copy().values() if (fields := other())]:
            fields._forget()
        for one in self._handed.copy().values():
            one.leave()
        self._inside = {}

    def _leftovers(self, name: str) -> list[tuple[str, str]]:
        handed = self._handed.copy().values()
        left = {(one.use, one.field) for one in handed if one.use != name and one.is_left_behind()}
        return sorted(left)


def _memory_at(place: tuple[int, int, int, bool]) -> _Memory:
    """Return what this process knows of the memory at a place; all threads get the same."""
    known = _memories.get(place)
    memory = known() if known is not None else None
    if memory is not None:
        return memory
    mine = _Memory()
    # Its own names, because the module's are gone when the interpreter ends.
    table, forget = _memories, _native.forget_reference
    this = weakref.ref(mine, lambda ref: forget(table, place, ref))
    return _native.first_referent(_memories, place, this)


def _is_current(fields: Fields | None) -> bool:
    return fields is not None and fields._arrays is not None


# What a new overlay shall be


def said(
    name: str | UseSpec | None, arena: _native.Arena | UseSpec | None, uses: dict[str, UseSpec] | None
) -> tuple[list[tuple[str, list[tuple[str, Any, Any]]]], str | None, _native.Arena | None]:
    """Return the uses of a new overlay with their fields, its name and its arena, as `Overlay` was told."""
    uses = uses or {}
    # What is no text is a use of that name, and what is no arena a use of that.
    if not (arena is None or isinstance(arena, _native.Arena)):
        uses, arena = {"arena": arena, **uses}, None
    if not (name is None or isinstance(name, str)):
        uses, name = {"name": name, **uses}, None
    named = [
        (use, [(_field_name(use, field), shape, dtype) for field, shape, dtype in _fields(use, fields)])
        for use, fields in uses.items()
    ]
    return named, name, arena


def _fields(use: str, fields: UseSpec) -> Iterator[tuple[Any, Any, Any]]:
    pairs: Any = cast("Mapping[Any, Any]", fields).items() if isinstance(fields, Mapping) else fields
    try:
        for field, spec in pairs:
            if isinstance(spec, str):
                raise TypeError(spec)
            shape, dtype = spec
            yield field, shape, dtype
    except (TypeError, ValueError):
        raise TypeError(f"use {use!r}: expected {{field: (shape, dtype), ...}}, got {fields!r}") from None


def _field_name(use: str, name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"use {use!r}: expected a field's name to be a str, got {name!r}")
    # As Python reads it in v.name.
    plain = unicodedata.normalize("NFKC", name)
    if not plain.isidentifier() or plain.startswith("_") or keyword.iskeyword(plain) or plain == "first":
        raise ValueError(
            f"use {use!r}: expected a field's name to be an identifier without a leading underscore, no keyword, and "
            f"not 'first', got {name!r}"
        )
    return plain


# What of an overlay is written in Python


def _check_class(name: str, cls: type, fields: Mapping[str, _Place]) -> None:
    """Raise TypeError unless a class lists just the fields of a use, with their dtypes, and perhaps `first`."""
    told = get_type_hints(cls)
    told.pop("first", None)
    if told.keys() != fields.keys():
        raise TypeError(
            f"use {name!r}: expected a class with its fields {', '.join(fields)}, got {cls.__name__} with "
            f"{', '.join(told) or 'none'}"
        )
    for field, (_, dtype, _) in fields.items():
        # NDArray[np.float32] is np.ndarray[..., np.dtype[np.float32]], or an alias that has only np.float32.
        last = (get_args(told[field]) or (None,))[-1]
        items = (get_args(last) or (last,))[0]
        if isinstance(items, type) and issubclass(items, np.generic) and not issubclass(dtype.type, items):
            raise TypeError(
                f"use {name!r}: expected {cls.__name__}.{field} to be NDArray[np.{dtype.type.__name__}], as the field "
                f"is, got NDArray[np.{items.__name__}]"
            )


def use(self: Overlay, name: str, timeout: float | None = None, fields: type | None = None) -> Use[Any]:
    """Return a context manager that waits for the use `name`, at most `timeout` seconds, and enters it.

    Entering raises Timeout; BufferError, with the names of the fields, while views of another use are alive in this
    process; RuntimeError when this thread is inside another use. Raises ValueError for an unknown name.

    At exit the arrays handed out turn read-only; they may stay in variables. Drop views of them: as long as one is
    alive no other use can begin. Leaving never raises.

    `fields` is a class whose annotations are the fields, such as a dataclass or a TypedDict: type checkers take what is
    entered for one of those. Raises TypeError when the fields have other names or dtypes.

    >>> import ndshare as nds
    >>> overlay = nds.Overlay(floats={"A": ((2, 3), "f4")}, ints={"B": (6, "i4")})
    >>> with overlay.use("floats") as v:
    ...     v.A[:] = 1
    >>> with overlay.use("ints", timeout=5) as v:
    ...     hex(v.B[0]), v.first
    ('0x3f800000', True)
    """
    if name not in self._plan:
        raise ValueError(f"expected one of the uses {', '.join(self._plan)}, got {name!r}")
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"expected a timeout in seconds, 0 or more, or None, got {timeout}")
    if fields is not None:
        _check_class(name, fields, self._plan[name])
    return Use(self, name, timeout)


use.__qualname__, use.__module__ = "Overlay.use", "ndshare"
Overlay.use = use  # type: ignore[method-assign]


# How an overlay travels


def _reduce(overlay: Overlay) -> tuple[Any, ...]:
    return _native.open_overlay, _native.overlay_parts(overlay)


def _after_fork() -> None:
    for memory in [memory for ref in _memories.copy().values() if (memory := ref())]:
        memory.forget_parent()


def register() -> None:
    """Make multiprocessing send overlays this way."""
    ForkingPickler.register(Overlay, _reduce)


os.register_at_fork(after_in_child=_after_fork)
