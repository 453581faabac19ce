# pyright: reportPrivateUsage=false
"""References that go anywhere: through any pickler, as often as one likes, or as text on a command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray

from . import _native
from ._native import Cache, Lock, Overlay, Reader, Ring, Writer
from ._ring import the_one

if TYPE_CHECKING:
    from ._native import _Told

_Thing = TypeVar("_Thing")


class Ref(Generic[_Thing]):
    """A reference to a shared array or another object of ndshare's, made by `ndshare.ref`.

    It is valid while the Ref that `ref` returned lives in its maker, or anybody has what it names; copies of it, by
    pickle or as text, hold nothing. ``str(ref)`` is a text that `ref` reads back, and programs in Rust, too.

    >>> import ndshare as nds
    >>> reference = nds.ref(nds.ones(3))
    >>> nds.ref(str(reference)) == reference
    True
    """

    __slots__ = ("_hold", "_token")

    def __init__(self, token: bytes, hold: object = None) -> None:
        self._token = token
        self._hold = hold

    def open(self) -> _Thing:
        """Return the array, with the same bytes, shape, strides, dtype and read-only flag; or the other object.

        A cache comes without a `load`; fields of an overlay whose dtypes only NumPy knows come as bytes. A reader or a
        writer is that of the process that uses it first.

        Raises Stale when nobody has it any more, AttachError when its arena cannot be reached.

        >>> import ndshare as nds
        >>> reference = nds.ref(nds.ones(3))
        >>> nds.ref(str(reference)).open()
        array([1., 1., 1.])
        """
        opened = _native.open_reference(self._token)
        return cast("_Thing", the_one(cast("Reader", opened)) if isinstance(opened, Reader | Writer) else opened)

    def __str__(self) -> str:
        return _native.to_text(self._token)

    def __repr__(self) -> str:
        shape, dtype, block, _ = _native.describe(self._token)
        what = f"{shape} {dtype}" if dtype is not None else self._kind()
        return f"<Ref {what}, block {block}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ref):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        return ref, (str(self),)

    def _kind(self) -> str:
        """Of a text nothing says what it names before it is opened."""
        return "object" if self._hold is None else type(self._hold).__name__.lower()

    def _key(self) -> bytes:
        return _native.describe(self._token)[3]


Ref.__module__ = "ndshare"


_Headed = TypeVar("_Headed", bound="Ring | Reader | Writer | Cache | Overlay | Lock")


@overload
def ref(a: NDArray[_Told]) -> Ref[NDArray[_Told]]: ...
@overload
def ref(a: _Headed) -> Ref[_Headed]: ...
@overload
def ref(a: str) -> Ref[Any]: ...
def ref(a: NDArray[Any] | Ring | Reader | Writer | Cache | Overlay | Lock | str) -> Ref[Any]:
    """Make a reference to the shared array `a`, or read one back from its text.

    `a` may also be a Ring, a Reader, a Writer, a Cache, an Overlay or a Lock. The reference keeps what it names while
    it lives in this process. Raises ValueError when `a` is not shared or is no text of a reference, TypeError when it
    is none of these, RuntimeError for a reader or a writer that is in use.

    >>> import ndshare as nds
    >>> a = nds.zeros((2, 3), "int16")
    >>> r = nds.ref(str(nds.ref(a)))
    >>> r.open().shape
    (2, 3)
    """
    if isinstance(a, str):
        return _ref_from_text(a)
    token = _native.reference_token(a)
    if token is not None:
        if isinstance(a, Reader | Writer):
            the_one(a)
        return Ref(token, a)
    if not isinstance(a, np.ndarray):
        raise TypeError(
            "expected a shared array, a Ring, a Reader, a Writer, a Cache, an Overlay, a Lock or the text of a "
            f"reference, got {type(a).__name__}"
        )
    found = _native.lend(a, alone=True) if _native.is_shared(a) else None
    if found is None:
        raise ValueError(
            f"expected a shared array, got one of shape {a.shape} in this process's own memory: "
            "pass nds.asarray(a), and keep the result"
        )
    token, hold, _ = found
    return Ref(token, hold)


def _ref_from_text(text: str) -> Ref[Any]:
    token = _native.from_text(text)
    # A text whose dtype cannot be read is better refused here than at open().
    _native.describe(token)
    return Ref(token)


ref.__module__ = "ndshare"
