# pyright: reportPrivateUsage=false
"""What this process was told of its session, and how its children hear of it. The library has the rules.

Children inherit where the session is in two places: the environment (spawned processes and programs) and
multiprocessing's per-process configuration (children of a forkserver that was running already, which never sees the
environment). The root makes its session when ndshare is imported. A child looks for it at its first need, not at
import: the configuration reaches it only when its Process object starts to run.

A forked child for which there was no place shares what it was forked with and cannot call ndshare. It says so at once:
a program that never calls ndshare in the child would not hear of it otherwise.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from multiprocessing import process, util
from typing import Any, cast

from . import _native

ENVIRONMENT = "NDSHARE_SESSION"
BUDGET = "NDSHARE_BUDGET"
_CONFIGURATION = "ndshare"
_HELPERS = (
    "--multiprocessing-fork",
    "multiprocessing.forkserver import main",
    "multiprocessing.resource_tracker import main",
)


def start() -> None:
    """At import: the root makes its session. A failure is raised at the first use, which tries again."""
    with contextlib.suppress(Exception):
        if not _is_command() and not _has_parent() and _native.session_locators() is None:
            ensure()


def ensure(sender: str | None = None) -> None:
    """Find or make the session. That of an array's sender is adopted where there is no other, and none is made.

    Raises ArenaFull, ValueError for a bad NDSHARE_BUDGET, and AttachError when the session has no place for one more.
    """
    parent = str(_configuration().get(_CONFIGURATION, ""))
    _native.session_find(parent, os.environ.get(ENVIRONMENT, ""), os.environ.get(BUDGET), sender, _warn_foreign)
    _name()


def session(name: str) -> None:
    """Put this process into the session of this name: every process of this user that says so shares one.

    ``NDSHARE_SESSION=@name`` in the environment says the same. The first process makes the session, or gives its own
    the name; it ends with the last. Children inherit it. Rings, caches, overlays, locks and arenas with a
    ``name=`` are the same in all of these processes.

    Call it before the first use of ndshare. Raises RuntimeError when this process is in the session of another name, or
    has arrays or other processes in its own while others have the name; ValueError for a name that is empty, longer
    than 200 bytes, ``.`` or ``..``, begins with an ``@``, or has a slash, a comma or a control character; and
    AttachError when the user's registry of names is not to be trusted.

    >>> import ndshare as nds
    >>> nds.session("a/b")
    Traceback (most recent call last):
    ValueError: expected a name of 1 to 200 bytes without slashes, commas and control characters, and not . or .., \
got "a/b" of 3 bytes
    """
    if isinstance(cast("Any", name), str) and name.startswith("@"):
        raise ValueError(f"expected a name without the @ of {ENVIRONMENT}, got {name!r}: pass {name[1:]!r}")
    _native.session_named(name)
    _name()


def _is_command() -> bool:
    """Tell whether this process is the command ``ndshare``, which has no use for a session of its own."""
    return [os.path.basename(name) for name in sys.argv[:1]] == ["ndshare"] or sys.orig_argv[1:3] == ["-m", "ndshare"]


def _has_parent() -> bool:
    return (
        bool(os.environ.get(ENVIRONMENT))
        or process.parent_process() is not None
        or bool(getattr(process.current_process(), "_inheriting", False))
        or any(helper in argument for argument in sys.orig_argv for helper in _HELPERS)
    )


def _configuration() -> dict[str, Any]:
    return getattr(process.current_process(), "_config", {})


def _name() -> None:
    """Name the session for all children of this process."""
    if (locators := _native.session_locators()) is not None:
        os.environ[ENVIRONMENT] = locators
    _configure()


def _configure(_: object = None) -> None:
    if (locators := _native.session_locators()) is not None:
        _configuration()[_CONFIGURATION] = locators


def _after_fork() -> None:
    _name()
    for reason in _native.left_out():
        _say(f"ndshare: {reason}")


def _warn_foreign(text: str) -> None:
    _warn(f"{ENVIRONMENT} is not followed: {text}")


def _warn(text: str) -> None:
    """Warn where the user's code is, below frames of this package."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__package__") == __package__:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, RuntimeWarning, stacklevel=level)


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
session.__module__ = "ndshare"
