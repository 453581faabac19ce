"""Ray's actors and objects: arrays by reference beside arrays in Ray's own store, which is read-only.

Without Ray these benchmarks are not there; it is in the dependency group `libraries`.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

import ndshare as nds
from bench.harness import Contestants, Prepare, bench, clock

MIB = 1 << 20
Array = np.ndarray[Any, Any]


@contextmanager
def _ray() -> Iterator[Any]:
    """Start Ray with two workers, which are in our session."""
    nds.enable("ray")
    ray = importlib.import_module("ray")
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", object_store_memory=512 * MIB)
    try:
        yield ray
    finally:
        ray.shutdown()


def _echo(_: object, x: Array) -> Array:
    return x


def _checked(call: Any, x: Array, times: int) -> float:
    """Time `times` calls, each of which gives `x` back; look at what came last."""
    took = clock(call, times)
    if not np.array_equal(call(), x):
        raise AssertionError("what came back is not what was sent")
    return took


def _both(size: int) -> tuple[Array, Array]:
    shared, plain = nds.empty(size, np.uint8), np.empty(size, np.uint8)
    for x in (shared, plain):
        x.fill(7)
    return shared, plain


def put(mib: int, times: int) -> Iterator[Contestants]:
    """Put and get so many MiB in one process."""
    shared, plain = _both(mib * MIB)
    with _ray() as ray:
        yield {
            "ndshare": lambda: _checked(lambda: ray.get(ray.put(shared)), shared, times),
            "Ray's store": lambda: _checked(lambda: ray.get(ray.put(plain)), plain, times),
        }


def actor(mib: int, times: int) -> Iterator[Contestants]:
    """Send so many MiB to an actor, and get them back."""
    shared, plain = _both(mib * MIB)
    with _ray() as ray:
        echo = ray.remote(type("Echo", (), {"echo": _echo})).remote()
        yield {
            "ndshare": lambda: _checked(lambda: ray.get(echo.echo.remote(shared)), shared, times),
            "Ray's store": lambda: _checked(lambda: ray.get(echo.echo.remote(plain)), plain, times),
            "None, context": lambda: clock(lambda: ray.get(echo.echo.remote(None)), times),
        }


def _register() -> None:
    """Register them where Ray is installed."""
    benches: dict[str, tuple[str, Prepare]] = {
        "ray-put-4mib": ("ray.put and ray.get of 4 MiB", partial(put, 4, 50)),
        "ray-put-64mib": ("the same with 64 MiB", partial(put, 64, 10)),
        "ray-actor-4mib": ("4 MiB to an actor of Ray, and back", partial(actor, 4, 20)),
        "ray-actor-64mib": ("the same with 64 MiB", partial(actor, 64, 5)),
    }
    for name, (work, prepare) in benches.items():
        bench(name, work, rounds=15, note="the peer's arrays are read-only")(prepare)


if importlib.util.find_spec("ray") is not None:
    _register()
