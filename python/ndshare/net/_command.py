# pyright: reportPrivateUsage=false
"""The verb ``bridge`` of the command ``ndshare``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, TypeVar, cast

from .. import _names, _native, _origin
from .._errors import Error
from .._ref import ref
from . import _claim
from ._connect import Far, connect
from ._engine import zenoh
from ._errors import NameTaken
from ._link import reason
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
    except (Error, OSError, ValueError, TypeError, RuntimeError, AttributeError, zenoh.ZError) as error:
        _say(" ".join(reason(error).split()))
        return 1
    return 0


def _say(text: str) -> None:
    print(f"ndshare: {text}", file=sys.stderr, flush=True)


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
    """Serve what has the names, and whatever has them later: a camera that comes back has a new ring."""
    found = {name: _found(name, wanted, stop) for name in [*wanted.ring, *wanted.cache]}
    while not stop.is_set():
        rings, caches = ({name: found[name] for name in listed} for listed in (wanted.ring, wanted.cache))
        with serve(wanted.listen, rings=rings, caches=caches, config=wanted.config, compress=wanted.compress):
            for name, thing in found.items():
                _say(f"serves {name!r} ({ref(thing)!r}) at {wanted.listen}")
            while not stop.wait(1.0):
                if changed := _changed(found):
                    found.update(changed)
                    break


def _found(name: str, wanted: argparse.Namespace, stop: threading.Event) -> Any:
    what = f"the name {name!r} on this machine"
    thing = _until(stop, wanted.timeout, what, partial(_names.attach, name))
    expected: Any = _native.Ring if name in wanted.ring else _native.Cache
    if thing is not None and not isinstance(thing, expected):
        raise ValueError(f"expected {name!r} to be a {expected.__name__}, got {type(thing).__name__}: name another one")
    return thing


def _changed(found: dict[str, Any]) -> dict[str, Any]:
    """Return what has a name now that something else had."""
    changed: dict[str, Any] = {}
    for name, before in found.items():
        now = _named(name)
        if type(now) is type(before) and ref(now) != ref(before):
            changed[name] = now
    return changed


def _named(name: str) -> Any:
    """Return what has a name now; None where nothing has, or nothing that can be reached."""
    try:
        return _names.attach(name, timeout=0)
    except (Error, OSError):
        return None


def _claimed(name: str) -> _claim.Claim:
    """Return the right to fill the ring of a name on this machine, which ends with the process. Raises NameTaken."""
    what = f"bridge {os.getuid()} {os.environ.get('XDG_RUNTIME_DIR')} {name}".encode()
    try:
        return _claim.Claim(what)
    except OSError:
        raise NameTaken(
            f"expected to be the only bridge that receives ring {name!r} on this machine, got process "
            f"{_claim.holder(what)}: end that one"
        ) from None


def _connect(wanted: argparse.Namespace, stop: threading.Event) -> None:
    with ExitStack() as claims:
        for name in sorted(set(wanted.ring)):
            claims.enter_context(closing(_claimed(name)))
        _receive(wanted, stop)


def _receive(wanted: argparse.Namespace, stop: threading.Event) -> None:
    what = f"a server at {wanted.connect}"
    far = _until(stop, wanted.timeout, what, lambda left: connect(wanted.connect, timeout=left, config=wanted.config))
    if far is None:
        return
    published: dict[str, _native.Ring] = {}
    with far:
        try:
            _publish(far, wanted, stop, published)
            while not stop.wait(0.1):
                if all(ring["state"] in {"ended", "failed"} for ring in far.stats()["rings"].values()):
                    break
            _report(far)
        finally:
            _take_away(published)


def _publish(far: Far, wanted: argparse.Namespace, stop: threading.Event, published: dict[str, _native.Ring]) -> None:
    for name in wanted.ring:
        old = _left_behind(name)
        receive = partial(_received, far, name, wanted.slots, old)
        ring = _until(stop, wanted.timeout, f"ring {name!r} at {wanted.connect}", receive)
        if ring is None:
            return
        # What has the name may have come meanwhile; then it is somebody else's.
        is_ours = old is not None and _is_same(_named(name), old)
        _names.publish(name, ring, replace=is_ours)
        published[name] = ring
        if old is not None and not _is_same(ring, old):
            # Of other frames: who reads it hears of the end, and finds the new one by the name.
            old.close()
        _say(f"receives ring {name!r} of {far.host}" + (" into the ring of a bridge that died" if is_ours else ""))


def _received(far: Far, name: str, slots: int, old: _native.Ring | None, timeout: float) -> _native.Ring:
    return far._ring_into(name, old, slots, timeout)


def _left_behind(name: str) -> _native.Ring | None:
    """Return the ring of a bridge that was killed, which somebody who reads it keeps alive; None if there is none."""
    found = _named(name)
    if not isinstance(found, _native.Ring):
        return None
    ring = cast("_native.Ring", found)
    is_far = _origin.is_there(ring.meta) and ring.when_full == "drop_oldest"
    # While the camera is away a ring has no writer, and somebody who will fill it again.
    is_filled = any(writer["alive"] for writer in ring.stats()["writers"]) or _claim.holder(_claim.of_ring(ring))
    return ring if is_far and not is_filled else None


def _is_same(thing: Any, other: _native.Ring) -> bool:
    return isinstance(thing, _native.Ring) and ref(cast("_native.Ring", thing)) == ref(other)


def _take_away(published: dict[str, _native.Ring]) -> None:
    """Take back the names that still lead to what this bridge published."""
    for name, ring in published.items():
        if _is_same(_named(name), ring):
            _names.unpublish(name)


def _report(far: Far) -> None:
    """Say what went wrong with rings that failed."""
    for name, ring in far.stats()["rings"].items():
        if ring["state"] == "failed":
            raise ValueError(f"ring {name!r}: {ring['error']}")


def _until(stop: threading.Event, timeout: float | None, what: str, call: Callable[[float], _T]) -> Any:
    """Return what a call that takes a timeout returns, tried until then; None once the bridge is to stop."""
    end = float("inf") if timeout is None else time.monotonic() + timeout
    has_said = False
    while not stop.is_set():
        left = end - time.monotonic()
        try:
            return call(max(0.0, min(left, 0.5)))
        except (TimeoutError, ConnectionError) as error:
            if left <= 0.5:
                raise
            if not has_said:
                _say(f"waits for {what}: {reason(error)}")
            has_said = True
    return None
