# pyright: reportPrivateUsage=false
"""Ray: shared arrays in arguments, results and ``ray.put`` go by reference on a node, and by value between nodes.

Call ``ndshare.enable("ray")`` before ``ray.init()``. An array that goes by reference may be written by all who have it.
"""

# What Ray has serialized is kept, sent anywhere and read any number of times, so a reference in flight won't do. In its
# place goes a lease: an object of Ray's own inside the serialized one, which lives as long as that does. Who serializes
# owns the lease and has the array until Ray says that the lease is gone. Ray lets no worker of a pool end before.
#
# While Ray prepares a call it counts only references of Python's, and takes its own when the call is on its way. So
# leases that are made for arguments are kept here until the call returns.
#
# Who reads on another node asks that node for the value, by a task there.

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from . import _native
from ._enable import Reducer, by_value, is_by_value, is_enabled, module, teach
from ._enable import enable as _enable
from ._ring import Frame
from ._travel import _open_array, reducers_of_ours

__all__ = ["enable"]

# What has been serialized, by lease.
_kept: dict[bytes, _native.Hold] = {}
# Ray's form of `_value`, which every node gets once.
_tasks: list[Any] = []


class _Thread(threading.local):
    """The leases of the call that this thread is preparing; None when it prepares none."""

    leases: list[Any] | None = None


_thread = _Thread()


def enable() -> None:
    """Enable it, as ``ndshare.enable("ray")`` does."""
    _enable("ray")


def install() -> None:
    """Teach the pickler of Ray."""
    reducers: dict[type, Reducer] = {}
    for cls, reduce in reducers_of_ours().items():
        if issubclass(cls, np.ndarray):
            reducers[cls] = reduce
    reducers |= {np.ndarray: _reduce, Frame: _reduce_frame}
    actor, function = module("ray.actor"), module("ray.remote_function").RemoteFunction
    for owner, name in (
        (function, "_remote"),
        (actor.ActorClass, "_remote"),
        (actor.ActorHandle, "_actor_method_call"),
    ):
        setattr(owner, name, _keeping_leases(getattr(owner, name)))
    # Channels of compiled graphs keep no objects inside of what goes through them.
    by_value(module("ray.experimental.channel.shared_memory_channel").Channel, "write")
    teach(module("ray.cloudpickle").Pickler, reducers, _is_an_object)


def _keeping_leases(theirs: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(theirs)
    def call(*args: Any, **kwargs: Any) -> Any:
        before, _thread.leases = _thread.leases, []
        try:
            return theirs(*args, **kwargs)
        finally:
            _thread.leases = before

    return call


def _ray() -> Any:
    return module("ray")


def _is_an_object() -> bool:
    """Tell whether Ray serializes an object: functions and classes, which every node gets, are pickled beside that."""
    worker = _ray()._private.worker.global_worker
    return (
        not is_by_value()
        and getattr(worker, "core_worker", None) is not None
        and (worker.get_serialization_context().is_in_band_serialization())
    )


def _node() -> str:
    return _ray().get_runtime_context().get_node_id()


def _reduce(array: Any) -> Any:
    lent = _native.lend(array)
    if lent is None:
        return array.__reduce_ex__(5)
    token, hold, is_whole = lent
    return _open, (token, None if is_whole else array.dtype, _node(), _lease(hold))


def _reduce_frame(frame: Frame) -> Any:
    return _reduce(frame.view(np.ndarray))


def _lease(hold: _native.Hold) -> Any:
    """Return an object of Ray's that keeps a block for as long as anybody has the object, or may come to have it."""
    ray = _ray()
    lease = ray.put(None)
    if _thread.leases is not None:
        _thread.leases.append(lease)
    _kept[lease.binary()] = hold
    ray._private.worker.global_worker.core_worker.add_object_out_of_scope_callback(lease, _let_go)
    return lease


def _let_go(lease: bytes) -> None:
    _kept.pop(lease, None)


def _open(token: bytes, dtype: np.dtype[Any] | None, node: str, lease: object) -> Any:
    """Open an array; this is what Ray's pickles of shared arrays call. The lease is there until it is open."""
    if not is_enabled("ray"):
        # A worker that was started before its driver enabled it: from now on it sends by reference what it makes.
        _enable("ray")
    if node == _node():
        return _open_array(token, dtype)
    value = _ray().get(_reader(node).remote(token, dtype))
    del lease
    return value


def _reader(node: str) -> Any:
    strategy = module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy(node, soft=False)
    return _task().options(num_cpus=0, scheduling_strategy=strategy)


def _task() -> Any:
    if not _tasks:
        _tasks.append(_ray().remote(_value))
    return _tasks[0]


def _value(token: bytes, dtype: np.dtype[Any] | None) -> Any:
    """Return the value of an array of this node."""
    return _open_array(token, dtype).copy()
