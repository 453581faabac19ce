# pyright: reportPrivateUsage=false
"""References that go anywhere: through any pickler, as often as one likes, or as text on a command line."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _native


class Ref:
    """A reference to a shared array, made by `ndshare.ref`.

    It is valid while the Ref that `ref` returned lives in its maker, or anybody holds the array; copies of it, by
    pickle or as text, hold nothing. ``str(ref)`` is a text that `ref` reads back.
    """

    __slots__ = ("_hold", "_token")

    def __init__(self, token: bytes, hold: _native.Hold | None = None) -> None:
        self._token = token
        self._hold = hold

    def open(self) -> NDArray[Any]:
        """Return the array: the same bytes, shape, strides, dtype and read-only flag.

        Raises Stale when nobody holds the array any more, AttachError when its arena cannot be reached.
        """
        return _native.open_token(self._token)

    def __str__(self) -> str:
        return _native.to_text(self._token)

    def __repr__(self) -> str:
        shape, dtype, block, _ = _native.describe(self._token)
        return f"<Ref {shape} {dtype}, block {block}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ref):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        return ref, (str(self),)

    def _key(self) -> bytes:
        return _native.describe(self._token)[3]


Ref.__module__ = "ndshare"


def ref(a: NDArray[Any] | str) -> Ref:
    """Make a reference to the shared array `a`, or read one back from its text.

    The reference keeps the array while it lives in this process. Raises ValueError when `a` is not shared or is no
    text of a reference, TypeError when it is neither array nor text.

    >>> import ndshare as nds
    >>> a = nds.zeros((2, 3), "int16")
    >>> r = nds.ref(str(nds.ref(a)))
    >>> r.open().shape
    (2, 3)
    """
    if isinstance(a, str):
        return _ref_from_text(a)
    if not isinstance(a, np.ndarray):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"expected a shared array or the text of a reference, got {type(a).__name__}")
    found = _native.handle(a) if _native.is_shared(a) else None
    if found is None:
        raise ValueError(
            f"expected a shared array, got one of shape {a.shape} in this process's own memory: "
            "pass nds.asarray(a), and keep the result"
        )
    return Ref(*found)


def _ref_from_text(text: str) -> Ref:
    token = _native.from_text(text)
    # A text whose dtype cannot be read is better refused here than at open().
    _native.describe(token)
    return Ref(token)


ref.__module__ = "ndshare"
