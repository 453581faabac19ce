# pyright: reportPrivateUsage=false
"""Names by which programs without a parent in common find what others have."""

from __future__ import annotations

from typing import Any

from . import _native


def publish(name: str, obj: Any, replace: bool = False) -> None:
    """Publish a shared array, a Ring, a Cache, an Overlay, a Lock or an Arena under a name of this user's.

    Every program of this user can `attach` to it then, in Python and in Rust, whatever started it. This process keeps
    the object until it calls `unpublish`, somebody replaces it, or it ends; who attached keeps it as well. A name works
    as long as any process has its object.

    Raises RuntimeError when another object that lives has the name, unless `replace`; ValueError for an array that is
    not shared, and for a name that is empty, longer than 200 bytes, ``.`` or ``..``, or has a slash, a comma or a
    control character; TypeError for other objects; AttachError when the user's registry of names is not to be trusted.
    """
    _native.publish_name(name, obj, replace)


def attach(name: str, timeout: float | None = None, readonly: bool = False) -> Any:
    """Return the object that is published under a name, as soon as there is one.

    An array has the same bytes, shape, strides, dtype and read-only flag. Make readers of a ring, as everywhere; a
    cache comes without a `load`. Fields of an overlay whose dtypes only NumPy knows come as bytes. What is another
    session's is opened beside this process's own.

    With `readonly` this process only looks. Arrays, frames and values lie in memory without write permission, which it
    cannot give itself, so that no bug of its own damages them, not even one in C: who writes there is ended by SIGSEGV.
    Readers, locks and the uses of an overlay work as everywhere; what would write, or make something new there, raises
    ReadOnly. What is sent on to other processes is read-only there as well. A process that has the same memory with
    write permission, its own session for one, has it a second time then, at another address.

    Raises Timeout after `timeout` seconds (None: never; 0 looks once), with the names that there are; ValueError for a
    name that can be none; AttachError when what has the name is not to be trusted, or cannot be reached.
    """
    return _native.attach_name(name, timeout, readonly)


def unpublish(name: str) -> bool:
    """Take a name away, whoever published it; tell whether there was one. Those who have the object keep it."""
    return _native.unpublish_name(name)


def names() -> dict[str, str]:
    """Return the names of this user's, and what each is: "array", "ring", "cache", "overlay", "lock" or "arena".

    Entries whose objects are gone are removed.
    """
    return _native.list_names()


for _function in (publish, attach, unpublish, names):
    _function.__module__ = "ndshare"
