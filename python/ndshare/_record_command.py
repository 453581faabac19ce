# pyright: reportPrivateUsage=false
"""The verbs ``record`` and ``replay`` of the command ``ndshare``."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
from collections.abc import Generator
from pathlib import Path
from types import FrameType
from typing import Any, cast

from . import _names, _native, _session
from ._errors import Error
from ._native import Arena, Ring
from ._record import RecordStats, record
from ._replay import ReplayStats, replay, ring_for
from ._sources import open_source
from ._task import interrupt_all

# So often (seconds) a session or a folder is looked into.
_NAP = 0.02


def main(words: list[str], is_json: bool) -> int:
    """Run a verb until its end, Ctrl-C or SIGTERM, and return the exit status."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _on_signal)
    verb, *arguments = words
    try:
        stats = _record(arguments) if verb == "record" else _replay(arguments)
    except (Error, OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
        _say(_in_options(" ".join(str(error).split())))
        return 1
    except KeyboardInterrupt:
        return 130
    if is_json:
        print(json.dumps(stats))
    return 0


def _on_signal(number: int, frame: FrameType | None) -> None:
    """End the work in order, if there is any; a second signal ends the command.

    An exception might come before the work can be told to stop, and Python drops one in a destructor.
    """
    signal.signal(number, signal.default_int_handler)
    if not interrupt_all():
        signal.default_int_handler(number, frame)


def _in_options(text: str) -> str:
    """Say what to do in the options of the command."""
    return text.replace("pass overwrite=True", "pass --overwrite").replace("pass speed=None", "pass --fast")


def _say(text: str) -> None:
    print(f"ndshare: {text}", file=sys.stderr, flush=True)


def _record(arguments: list[str]) -> RecordStats:
    parser = argparse.ArgumentParser(prog="ndshare record", add_help=False)
    parser.add_argument("ring", metavar="RING")
    parser.add_argument("path", metavar="FILE")
    parser.add_argument("--frames", metavar="N", type=int)
    parser.add_argument("--seconds", metavar="S", type=float)
    parser.add_argument("--before", metavar="N", type=int, default=0)
    parser.add_argument("--sidecar", choices=["parquet", "csv", "npy", "none"])
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--wait", metavar="S", type=float, default=0.0)
    _add_place(parser)
    wanted = parser.parse_args(arguments)
    recording = record(
        _ring(wanted),
        wanted.path,
        frames=wanted.frames,
        seconds=wanted.seconds,
        before=wanted.before,
        sidecar=False if wanted.sidecar == "none" else wanted.sidecar,
        overwrite=wanted.overwrite,
    )
    stats = recording.wait(progress=True)
    _say(f"{stats['frames']} frames in {recording.path}, {stats['lost']} lost, {stats['bytes'] / 1e9:.3f} GB")
    return stats


def _add_place(parser: argparse.ArgumentParser) -> None:
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--session", metavar="NAME")
    place.add_argument("--arena", metavar="PATH")


def _ring(wanted: argparse.Namespace) -> Ring[Any]:
    """Return the ring that is to be recorded, as soon as there is one."""
    end = time.monotonic() + wanted.wait
    if wanted.session is not None:
        return _ring_in_session(wanted.session, wanted.ring, end)
    if wanted.arena is None:
        found = _names.attach(wanted.ring, timeout=wanted.wait)
    else:
        while not (path := Path(wanted.arena)).exists() and time.monotonic() < end:
            time.sleep(_NAP)
        found = _arena(path).attach(wanted.ring, max(0.0, end - time.monotonic()))
    if not isinstance(found, Ring):
        raise ValueError(f"expected {wanted.ring!r} to be a ring, got {type(found).__name__}: only rings have frames")
    return cast("Ring[Any]", found)


def _ring_in_session(session: str, name: str, end: float) -> Ring[Any]:
    while (ring := _native.ring_in_session(session, name)) is None:
        if time.monotonic() >= end:
            raise ValueError(f"expected a ring {name!r} in a session {session!r}, got none: see ndshare ls")
        time.sleep(_NAP)
    return ring


def _arena(path: Path) -> Arena:
    if not path.exists():  # and none is made
        raise FileNotFoundError(f"expected the file of an arena, got nothing at {path}: see ndshare ls")
    return Arena(path=path)


def _replay(arguments: list[str]) -> ReplayStats:
    parser = argparse.ArgumentParser(prog="ndshare replay", add_help=False)
    parser.add_argument("path", metavar="FILE")
    parser.add_argument("--ring", metavar="NAME", required=True)
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--speed", metavar="X", type=float, default=1.0)
    pace.add_argument("--fast", action="store_true")
    parser.add_argument("--loop", action="store_true")
    parser.add_argument("--slots", metavar="N", type=int, default=32)
    # Without one a short recording would be over before anybody could ask for it.
    parser.add_argument("--readers", metavar="N", type=int, default=1)
    _add_place(parser)
    wanted = parser.parse_args(arguments)
    speed = None if wanted.fast else wanted.speed
    with (
        _filled(wanted) as ring,
        replay(wanted.path, ring, speed=speed, loop=wanted.loop, readers=wanted.readers) as replaying,
    ):
        stats = replaying.wait()
    _say(f"{stats['frames']} frames of {replaying.path} in ring {wanted.ring!r}")
    return stats


@contextlib.contextmanager
def _filled(wanted: argparse.Namespace) -> Generator[Ring[Any]]:
    """Have a ring that others find by its name meanwhile."""
    source = open_source(Path(wanted.path))
    source.close()  # what its frames are is known now
    if wanted.session is not None:
        _session.session(wanted.session)
        yield ring_for(source, wanted.slots, name=wanted.ring)
        return
    if wanted.arena is not None:
        with _arena(Path(wanted.arena)) as arena:
            yield ring_for(source, wanted.slots, name=wanted.ring, arena=arena)
        return
    ring = ring_for(source, wanted.slots)
    _names.publish(wanted.ring, ring)
    try:
        yield ring
    finally:
        _names.unpublish(wanted.ring)
