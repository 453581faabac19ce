# pyright: reportPrivateUsage=false
"""The verb ``bridge`` of the command ``ndshare``."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from .. import _names
from .._errors import Error
from ._connect import Far, connect
from ._serve import serve

_T = TypeVar("_T")


def main(arguments: list[str]) -> int:
    """Run the bridge until Ctrl-C, SIGTERM, or the end of all its rings; return the exit status."""
    wanted = _parsed(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    try:
        _listen(wanted, stop) if wanted.listen else _connect(wanted, stop)
    except (Error, OSError, ValueError, TypeError) as error:
        print(f"ndshare: {error}", file=sys.stderr)
        return 1
    return 0


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ndshare bridge", add_help=False)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--listen", metavar="ENDPOINT")
    where.add_argument("--connect", metavar="ENDPOINT")
    parser.add_argument("--ring", metavar="NAME", action="append", default=[])
    parser.add_argument("--cache", metavar="NAME", action="append", default=[])
    parser.add_argument("--config", metavar="FILE")
    parser.add_argument("--slots", metavar="N", type=int, default=32)
    parser.add_argument("--compress", choices=["lz4"])
    parser.add_argument("--timeout", metavar="S", type=float)
    wanted = parser.parse_args(arguments)
    if wanted.connect and wanted.cache:
        parser.error("--cache goes with --listen: over there a program asks far.loader(NAME) for values")
    if not wanted.ring and not wanted.cache:
        parser.error("expected --ring or --cache, got none")
    return wanted


def _listen(wanted: argparse.Namespace, stop: threading.Event) -> None:
    names: Iterable[str] = [*wanted.ring, *wanted.cache]
    found = {name: _until(stop, wanted.timeout, partial(_names.attach, name)) for name in names}
    if stop.is_set():
        return
    rings, caches = ({name: found[name] for name in listed} for listed in (wanted.ring, wanted.cache))
    with serve(wanted.listen, rings=rings, caches=caches, config=wanted.config, compress=wanted.compress):
        while not stop.wait(1.0):
            pass


def _connect(wanted: argparse.Namespace, stop: threading.Event) -> None:
    far = _until(stop, wanted.timeout, lambda left: connect(wanted.connect, timeout=left, config=wanted.config))
    if far is None:
        return
    with far:
        try:
            _publish(far, wanted, stop)
            while not stop.wait(0.1):
                if all(ring["state"] in {"ended", "failed"} for ring in far.stats()["rings"].values()):
                    break
            _report(far)
        finally:
            for name in wanted.ring:
                _names.unpublish(name)


def _publish(far: Far, wanted: argparse.Namespace, stop: threading.Event) -> None:
    for name in wanted.ring:
        ring = _until(stop, wanted.timeout, lambda left: far.ring(name, slots=wanted.slots, timeout=left))  # noqa: B023
        if ring is None:
            return
        _names.publish(name, ring)


def _report(far: Far) -> None:
    """Say what went wrong with rings that failed."""
    for name, ring in far.stats()["rings"].items():
        if ring["state"] == "failed":
            raise ValueError(f"ring {name!r}: {ring['error']}")


def _until(stop: threading.Event, timeout: float | None, call: Callable[[float], _T]) -> Any:
    """Return what a call that takes a timeout returns, tried until then; None once the bridge is to stop."""
    end = float("inf") if timeout is None else time.monotonic() + timeout
    while not stop.is_set():
        left = end - time.monotonic()
        try:
            return call(max(0.0, min(left, 0.5)))
        except (TimeoutError, ConnectionError):
            if left <= 0.5:
                raise
    return None
