# pyright: reportPrivateUsage=false
"""Dask: shared arrays in tasks and results go by reference between processes of one session.

Call ``ndshare.enable("dask")`` before you make a cluster or a client. Workers that are started on a command line are
told by ``dask worker --preload ndshare.dask``. To a worker of another session or machine an array goes by value.
"""

# Who a message is for, only the connection knows. So each process says in the handshake of a connection which session
# it is in, and whether it reads what comes or hands it on unread, as a scheduler does. A message goes by reference if
# the process at the other end is in this session and reads it; a task graph, which a scheduler does read, if that is in
# it. Everything else goes by value: what is spilled to a disk, what is compared, and what passes a scheduler unread.

from __future__ import annotations

import contextlib
import functools
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from . import _native
from ._enable import by_value, enable, is_ours, is_told_to_reach, message, module, teach, teach_cloudpickle
from ._errors import Error

__all__ = ["dask_setup"]

_OURS = "ndshare"


def dask_setup(_: object) -> None:
    """Enable it in this worker or scheduler. Dask calls it for ``--preload ndshare.dask``; you need not."""
    enable("dask")


def install() -> None:
    """Teach the scheduler of processes, and say where dask pickles only to compare."""
    teach_cloudpickle()
    by_value(module("dask.tokenize"), "_normalize_pickle")
    config = module("dask.config")
    if config.get("func_dumps", None) is None:
        config.set(func_dumps=dumps)


def dumps(thing: object) -> bytes:
    """Pickle a task of the scheduler of processes, or its result; both are read once, in a process of its pool."""
    with message(True):
        return module("cloudpickle").dumps(thing, protocol=pickle.HIGHEST_PROTOCOL)


def install_distributed() -> None:
    """Teach distributed."""
    core = module("distributed.comm.core").Comm
    core.handshake_info = _introducing(core.handshake_info)
    protocol = module("distributed.protocol")
    protocol.dumps = _looking_at_the_recipient(protocol.dumps)
    _teach_the_picklers()
    _teach_the_arrays(protocol)
    client = module("distributed").Client
    client._graph_to_futures = _looking_at_the_scheduler(client._graph_to_futures)
    for name in ("_gather", "_scatter"):
        setattr(client, name, _directly(getattr(client, name)))
    _preload()


# Who is there


def _session() -> str | None:
    """Return the session's name; None where this process has none, and can't have one."""
    with contextlib.suppress(Error):
        return _native.stats()["id"]
    return None


def _introducing(theirs: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    @functools.wraps(theirs)
    def handshake_info(self: Any) -> dict[str, Any]:
        return {**theirs(self), _OURS: {"session": _session(), "reads": bool(self.deserialize)}}

    return handshake_info


def _is_here(information: dict[str, Any], *, reading: bool) -> bool:
    """Tell whether the process that has said this of itself is in this session, and reads what comes if asked for."""
    said: dict[str, Any] = information.get(_OURS, {})
    return said.get("session") is not None and said["session"] == _session() and (said["reads"] or not reading)


def _is_near(client: Any) -> bool:
    """Tell whether the scheduler of a client is in this session."""
    comm = getattr(getattr(client, "scheduler_comm", None), "comm", None)
    return comm is not None and _is_here(comm.remote_info, reading=False)


# What goes there


def _looking_at_the_recipient(theirs: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(theirs)
    def dumps(
        msg: Any, serializers: Any = None, on_error: str = "message", context: Any = None, frame_split_size: Any = None
    ) -> Any:
        recipient: dict[str, Any] = context.get("recipient", {}) if context else {}
        with message(_is_here(recipient, reading=True)):
            return theirs(msg, serializers, on_error, context, frame_split_size)

    return dumps


def _looking_at_the_scheduler(theirs: Callable[..., Any]) -> Callable[..., Any]:
    """Pickle a task graph, before it is in a message; the scheduler reads it, and sends its parts to the workers."""

    @functools.wraps(theirs)
    def _graph_to_futures(self: Any, *args: Any, **kwargs: Any) -> Any:
        with message(_is_near(self)):
            return theirs(self, *args, **kwargs)

    return _graph_to_futures


def _directly(theirs: Callable[..., Any]) -> Callable[..., Any]:
    """Ask the workers themselves if nothing else was said: a scheduler in between hands on what it has not read."""

    @functools.wraps(theirs)
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("direct") is None and self.direct_to_workers is None and _is_near(self):
            kwargs["direct"] = True
        return await theirs(self, *args, **kwargs)

    return method


class _Pickler(pickle.Pickler):
    """Plain pickle, as distributed uses it first."""


class _Pickle:
    """The module `pickle` as distributed sees it: the same, but for messages that reach their reader."""

    def __getattr__(self, name: str) -> Any:
        return getattr(pickle, name)

    @staticmethod
    def dumps(thing: object, protocol: int | None = None, **kwargs: Any) -> bytes:
        if not is_told_to_reach():
            return pickle.dumps(thing, protocol, **kwargs)
        file = io.BytesIO()
        _Pickler(file, protocol, **kwargs).dump(thing)
        return file.getvalue()


def _teach_the_picklers() -> None:
    theirs = module("distributed.protocol.pickle")
    theirs.pickle = _Pickle()
    by_value(theirs, "dumps")
    teach_cloudpickle()
    teach(_Pickler, when=is_told_to_reach)
    teach(theirs._DaskPickler, when=is_told_to_reach)


def _teach_the_arrays(protocol: Any) -> None:
    """Arrays that are messages by themselves, or in lists and dicts, don't go through a pickler."""
    for cls in (np.ndarray, np.matrix, module("numpy.ma").MaskedArray):
        # The look makes distributed register its own.
        theirs, back = protocol.dask_serialize.dispatch(cls), protocol.dask_deserialize.dispatch(cls)
        protocol.dask_serialize.register(cls, _serializing(theirs))
        protocol.dask_deserialize.register(cls, _deserializing(back))


def _serializing(theirs: Callable[..., Any]) -> Callable[..., Any]:
    def serialize(x: Any, context: Any = None) -> Any:
        if is_told_to_reach() and is_ours(x):
            return {_OURS: True}, [_Pickle.dumps(x, pickle.HIGHEST_PROTOCOL)]
        return theirs(x, context=context)

    return serialize


def _deserializing(theirs: Callable[..., Any]) -> Callable[..., Any]:
    def deserialize(header: Any, frames: Any) -> Any:
        return pickle.loads(frames[0]) if _OURS in header else theirs(header, frames)

    return deserialize


def _preload() -> None:
    """Let the workers that are started from here enable it, too."""
    config = module("dask.config")
    known = list(config.get("distributed.worker.preload"))
    if __name__ not in known:
        config.set({"distributed.worker.preload": [*known, __name__]})
