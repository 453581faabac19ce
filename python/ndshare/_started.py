# pyright: reportPrivateUsage=false
"""What is pickled for a process that is being started, and never arrives.

While multiprocessing starts a process by spawn or forkserver, it says for which Popen it pickles. The references that
are issued meanwhile are for that process alone. So the Popen keeps a list of them; as soon as it gets a pid they bear
it, and when multiprocessing looks and the process is over, or drops a Popen whose process never came to be, those that
were not claimed are taken back. No look waits for anybody, and none raises: what is not done then is done later.
"""

from __future__ import annotations

import os
from typing import Any, cast

from . import _native


def outgoing(popen: Any) -> _native.Outgoing | None:
    """Return the list of what is pickled for a Popen; None for one that cannot be watched."""
    found = popen.__dict__.get("_ndshare")
    if found is not None:
        return found
    try:
        popen.__class__ = _watched(cast("Any", type(popen)))
    except Exception:
        # Somebody's own kind of Popen, laid out in another way: its references are as those in a queue.
        return None
    popen._ndshare = _native.Outgoing()
    return popen._ndshare


_classes: dict[Any, Any] = {}


def _watched(kind: Any) -> Any:
    """Return the subclass of a class of Popen that tells what it is given of the process's number and end."""
    known = _classes.get(kind)
    if known is not None:
        return known

    def __setattr__(self: Any, name: str, value: Any) -> None:  # noqa: N807
        kind.__setattr__(self, name, value)
        if name == "pid":
            self._ndshare.name_receiver(value)

    def poll(self: Any, flag: int = os.WNOHANG) -> int | None:
        code: int | None = kind.poll(self, flag)
        self._ndshare.settle()
        return code

    members = {"__setattr__": __setattr__, "poll": poll, "__module__": kind.__module__, "__doc__": kind.__doc__}
    # Two threads may make one each; the first stays.
    return _classes.setdefault(kind, type(kind.__name__, (kind,), members))
