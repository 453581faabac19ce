# pyright: reportPrivateUsage=false
"""Which arena is the session of this process.

The root process makes it when ndshare is imported and names it in two places that its children inherit: the
environment (for spawned processes and programs) and multiprocessing's per-process configuration (for children of a
forkserver that was running already, which never sees the environment). A child looks there at its first need, not
at import: the configuration reaches it only when its Process object starts to run. The configuration wins, because
it comes from the very process that made the child.

Each process that has joined puts its own locator first, so that its children ask a parent that lives, and keeps the
root's behind it, so that grandchildren also find the session when their parent is gone. When nobody answers, the
process is the root of a session of its own. When the session answers and is full, there is none to be had. A session of
another user's is not followed, whoever may look into it: the process says so, and is the root of its own.

A forked child for which there was no place shares what it was forked with and cannot call ndshare. It says so at once:
a program that never calls ndshare in the child would not hear of it otherwise.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
from multiprocessing import process, util
from typing import Any

from . import _native

ENVIRONMENT = "NDSHARE_SESSION"
BUDGET = "NDSHARE_BUDGET"
_CONFIGURATION = "ndshare"
_HELPERS = (
    "--multiprocessing-fork",
    "multiprocessing.forkserver import main",
    "multiprocessing.resource_tracker import main",
)

_lock = threading.RLock()
_root = ""


def start() -> None:
    """At import: the root makes its session. A failure is raised at the first use, which tries again."""
    with contextlib.suppress(Exception):
        if not _has_parent():
            ensure()


def ensure() -> None:
    """Find or make the session. Raises ArenaFull, or ValueError for a bad NDSHARE_BUDGET.

    Raises AttachError when the session is there and has no place for this process: with a session of its own it would
    seem to work, until its parent looked for what it had sent.
    """
    with _lock:
        if _native.session_locator() is None and not _join(_candidates()):
            _create()


def adopt(locator: str) -> None:
    """Make the session of an array's sender ours, unless this process has one or was told of another."""
    with _lock:
        if _native.session_locator() is None:
            _join([*_candidates(), locator])


def _has_parent() -> bool:
    return (
        bool(os.environ.get(ENVIRONMENT))
        or process.parent_process() is not None
        or bool(getattr(process.current_process(), "_inheriting", False))
        or any(helper in argument for argument in sys.orig_argv for helper in _HELPERS)
    )


def _configuration() -> dict[str, Any]:
    return getattr(process.current_process(), "_config", {})


def _candidates() -> list[str]:
    told = [str(_configuration().get(_CONFIGURATION, "")), os.environ.get(ENVIRONMENT, "")]
    return list(dict.fromkeys(locator for text in told for locator in text.split(",") if locator))


def _join(locators: list[str]) -> bool:
    for locator in locators:
        # A locator that is no locator came from somebody else's environment.
        with contextlib.suppress(ValueError):
            try:
                joined = _native.session_join(locator)
            except PermissionError as error:
                _warn(f"{ENVIRONMENT} is not followed: {error}")
                continue
            if joined is not None:
                _name(root=locators[-1])
                return True
    return False


def _warn(text: str) -> None:
    """Warn where the user's code is, below frames of this package."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__package__") == __package__:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, RuntimeWarning, stacklevel=level)


def _create() -> None:
    try:
        locator = _native.session_create(os.environ.get(BUDGET) or None)
    except ValueError as error:
        raise ValueError(f"{BUDGET}: {error}") from None
    _name(root=locator)


def _name(root: str) -> None:
    global _root  # noqa: PLW0603
    _root = root
    os.environ[ENVIRONMENT] = _described()
    _configure()


def _described() -> str:
    return ",".join(dict.fromkeys([_native.session_locator() or "", _root]))


def _configure(_: object = None) -> None:
    if _native.session_locator() is not None:
        _configuration()[_CONFIGURATION] = _described()


def _after_fork() -> None:
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()
    if _native.session_locator() is not None:
        _name(_root)
    for reason in _native.left_out():
        _say(f"ndshare: {reason}")


def _say(text: str) -> None:
    """Warn in a hook, which may not raise: warnings may be errors, and stderr may be closed or somebody else's."""
    text = f"[process {os.getpid()}] {text}"  # a text of its own, because a warning is shown once
    try:
        _warn(text)
    except Exception:
        with contextlib.suppress(Exception):
            print(f"RuntimeWarning: {text}", file=sys.stderr, flush=True)


os.register_at_fork(after_in_child=_after_fork)
# Only after the fork does multiprocessing give the child its Process object, with the parent's configuration.
util.register_after_fork(_configure, _configure)
