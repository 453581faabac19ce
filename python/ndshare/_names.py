# pyright: reportPrivateUsage=false
"""Names by which programs without a parent in common find what others have."""

from __future__ import annotations

import grp
import operator
import pwd
from collections.abc import Callable
from typing import Any, cast

from . import _native


def publish(  # noqa: PLR0917
    name: str,
    obj: Any,
    replace: bool = False,
    mode: int | None = None,
    group: str | int | None = None,
    timeout: float | None = 10.0,
) -> None:
    """Publish a shared array, a Ring, a Cache, an Overlay, a Lock or an Arena under a name of this user's.

    Every program of this user can `attach` to it then, in Python and in Rust, whatever started it. This process keeps
    the object until it calls `unpublish`, somebody replaces it, or it ends; who attached keeps it as well. A name works
    as long as any process has its object.

    With `mode` other users may read it as well, by ``attach(name, user=...)``, as long as this process offers it: 0o640
    lets the group in, 0o604 all who are not in the group, 0o644 both. `group` is a name or a number; None is the one
    that this process acts for. That goes for arrays and rings of an arena that was made with a `mode`; whoever is let
    in sees all data of that arena.

    Raises RuntimeError when another object that lives has the name, unless `replace`; ValueError for an array that is
    not shared, and for a name that is empty, longer than 200 bytes, ``.`` or ``..``, or has a slash, a comma or a
    control character, for a mode that lets others do more than read, and for an object of an arena without one;
    TypeError for other objects; AttachError when the user's registry of names is not to be trusted; Timeout after
    `timeout` seconds (None: never), with the process that has the registry locked, which takes a millisecond unless it
    was stopped in there.

    >>> import ndshare as nds
    >>> frame = nds.zeros((2, 3), "uint16")
    >>> nds.publish("an example", frame)
    >>> nds.attach("an example").shape, nds.unpublish("an example")
    ((2, 3), True)
    """
    if not isinstance(cast("Any", name), str):
        raise TypeError(f'expected publish("name", object), the name first, got {name!r} as the name')
    if mode is None and group is not None:
        raise ValueError("expected a mode with group=, got none: mode=0o640 lets the group read")
    _native.publish_name(name, obj, replace, mode, None if group is None else _gid(group), timeout)


def attach(name: str, timeout: float | None = None, readonly: bool = False, user: str | int | None = None) -> Any:
    """Return the object that is published under a name, as soon as there is one.

    An array has the same bytes, shape, strides, dtype and read-only flag. Make readers of a ring, as everywhere; a
    cache comes without a `load`. Fields of an overlay whose dtypes only NumPy knows come as bytes. What is another
    session's is opened beside this process's own.

    With `readonly` this process only looks. Arrays, frames and values lie in memory without write permission, which it
    cannot give itself, so that no bug of its own damages them, not even one in C: who writes there is ended by SIGSEGV.
    Readers, locks and the uses of an overlay work as everywhere; what would write, or make something new there, raises
    ReadOnly. What is sent on to other processes is read-only there as well. A process that has the same memory with
    write permission, its own session for one, has it a second time then, at another address.

    With `user`, a name or a number, it is what that user offers to others, by ``publish(name, obj, mode=...)``, and
    `readonly` has to be True. An array lies in memory that can only be read; it stays there when it is not offered any
    more, but is not what it was then. A ring comes as an OfferedRing, whose frames are copies.

    Raises Timeout after `timeout` seconds (None: never; 0 looks once), with the names that there are; ValueError for a
    name that can be none; AttachError when what has the name is not to be trusted, or cannot be reached; Refused, a
    PermissionError, when the other user does not let this one read it.

    >>> import ndshare as nds
    >>> nds.publish("an example", nds.ones(3))
    >>> nds.attach("an example", timeout=1, readonly=True)
    array([1., 1., 1.])
    >>> nds.unpublish("an example")
    True
    """
    if user is not None:
        if not readonly:
            raise ValueError("expected readonly=True with user=, got False: what is another user's can only be read")
        return _native.attach_offered(name, _uid(user), timeout)
    return _native.attach_name(name, timeout, readonly)


def unpublish(name: str, timeout: float | None = 10.0) -> bool:
    """Take a name away, whoever published it; tell whether there was one. Those who have the object keep it.

    Raises Timeout after `timeout` seconds (None: never), as `publish` does.

    >>> import ndshare as nds
    >>> nds.publish("an example", nds.ones(3))
    >>> nds.unpublish("an example"), nds.unpublish("an example")
    (True, False)
    """
    return _native.unpublish_name(name, timeout)


def names() -> dict[str, str]:
    """Return the names of this user's, and what each is: "array", "ring", "cache", "overlay", "lock" or "arena".

    Entries whose objects are gone are removed.

    >>> import ndshare as nds
    >>> nds.publish("an example", nds.ones(3))
    >>> nds.names()["an example"], nds.unpublish("an example")
    ('array', True)
    """
    return _native.list_names()


def _uid(user: str | int) -> int:
    """Return the number of a user."""
    return _number(user, "user", lambda name: pwd.getpwnam(name).pw_uid)


def _gid(group: str | int) -> int:
    """Return the number of a group."""
    return _number(group, "group", lambda name: grp.getgrnam(name).gr_gid)


def _number(given: str | int, what: str, number_of: Callable[[str], int]) -> int:
    """Return what the system takes for a user or a group; its greatest number means none."""
    if isinstance(given, str):
        try:
            return number_of(given)
        except KeyError:
            raise ValueError(
                f"expected a {what} of this machine, got {given!r}: pass a name that there is, or a number"
            ) from None
    if isinstance(given, bool) or not 0 <= (number := operator.index(given)) < 2**32 - 1:
        raise ValueError(
            f"expected the name or the number of a {what}, got {given!r}: pass a name, or a number that there is"
        )
    return number


for _function in (publish, attach, unpublish, names):
    _function.__module__ = "ndshare"
