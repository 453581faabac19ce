# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""A session of Zenoh: how it is configured and opened, whom it waits for, and what becomes of it at a fork and at exit.

A call of Zenoh that waits answers no signal, so it runs in a thread of its own while the caller waits for that. No
thread here keeps the interpreter from exiting. A forked child has the objects and none of their threads: it leaves
them alone for ever.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import zenoh

from .._errors import Timeout
from . import _wire
from ._errors import Unreachable

_T = TypeVar("_T")

Config = str | os.PathLike[str] | Mapping[str, Any] | zenoh.Config | None
Endpoints = str | Sequence[str]

LOOK_EVERY = 0.05  # seconds between two looks for signals
CLOSE_WAIT = 2.0  # seconds that a close waits for Zenoh
# What is small goes before frames that wait: questions, and their answers.
ASK = zenoh.Priority.INTERACTIVE_HIGH
BLOCK = zenoh.CongestionControl.BLOCK

# Nobody is looked for, and nobody finds us but by the endpoint. On one machine there is ndshare itself.
_OURS: dict[str, Any] = {
    "scouting/multicast/enabled": False,
    "scouting/gossip/enabled": False,
    "transport/shared_memory/enabled": False,
    # A link whose queue does not move for so long (microseconds) is closed; the lease (milliseconds) ends it as early.
    "transport/link/tx/queue/congestion_control/block/wait_before_close": 10_000_000,
    "transport/link/tx/lease": 10_000,
    # Batches of 64 KiB that wait for the socket: with Zenoh's two, whoever sends and the socket take turns.
    "transport/link/tx/queue/size/data": 16,
    "connect/retry": {"period_init_ms": 100, "period_max_ms": 1000, "period_increase_factor": 1.5},
}


def deadline_in(timeout: float | None) -> float:
    """Return when a timeout ends. Raises ValueError for one that is none."""
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"expected a timeout in seconds, 0 or more, or None, got {timeout}")
    return float("inf") if timeout is None else time.monotonic() + timeout


def slice_of(deadline: float, longest: float = LOOK_EVERY) -> float:
    """Return how long to sleep now."""
    return max(0.0, min(longest, deadline - time.monotonic()))


def patiently(call: Callable[[], _T], deadline: float, whom: str) -> _T:
    """Return what a call that answers no signals returns. Raises Timeout, and what the call raises."""
    outcome: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put((True, call()))
        except BaseException as error:
            outcome.put((False, error))

    threading.Thread(target=run, name="ndshare net wait", daemon=True).start()
    while True:
        left = slice_of(deadline)
        try:
            is_good, result = outcome.get(timeout=left)
        except queue.Empty:
            if time.monotonic() >= deadline:
                raise Timeout(f"{whom} did not answer before the timeout: wait longer, or look there") from None
            continue
        if is_good:
            return result
        raise result


def configured(role: str, endpoints: Endpoints, config: Config, most: int = 1 << 30) -> zenoh.Config:
    """Return the configuration of a session: ours, then what the user says, then the endpoints.

    A message of more than `most` bytes is not even put together.
    """
    listed = [endpoints] if isinstance(endpoints, str) else list(endpoints)
    if not listed:
        raise ValueError('expected an endpoint such as "tcp/0.0.0.0:7447", got none')
    if isinstance(config, zenoh.Config):
        made = zenoh.Config.from_json5(str(config))
    elif config is None or isinstance(config, Mapping):
        made = zenoh.Config()
        for key, value in {**_OURS, **dict(_leaves(config or {}))}.items():
            made.insert_json5(key, json.dumps(value))
    else:
        made, text = zenoh.Config.from_file(os.fspath(config)), Path(config).read_text()
        for key, value in _OURS.items():
            # Zenoh does not tell what a file sets from what is its own default.
            if key.removesuffix("/enabled").removesuffix("/size/data").rsplit("/", 1)[-1] not in text:
                made.insert_json5(key, json.dumps(value))
    made.insert_json5("transport/link/rx/max_message_size", str(most))
    made.insert_json5("mode", json.dumps("peer" if role == "listen" else "client"))
    made.insert_json5(f"{role}/endpoints", json.dumps(listed))
    if role == "connect":
        made.insert_json5("connect/exit_on_failure", "true")
        made.insert_json5("connect/timeout_ms", "1000")
    else:
        made.insert_json5("listen/exit_on_failure", "true")
    return made


# What Zenoh checks as a whole.
_WHOLE = ("transport/auth/usrpwd",)


def _leaves(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Go through the settings of a nested mapping."""
    for name, value in config.items():
        key = f"{path}{name}"
        if isinstance(value, Mapping) and key not in _WHOLE:
            yield from _leaves(cast("Mapping[str, Any]", value), f"{key}/")
        else:
            yield key, value


def in_place(call: Callable[[Any], object], at_end: Callable[[], object] | None = None) -> Any:
    """Return a handler that Zenoh's own thread calls. It must be short; others have threads that hold up the exit."""
    return cast("Any", zenoh.handlers.Callback)(call, at_end, indirect=False)


class Link:
    """A session of Zenoh of this process, and all that was declared in it."""

    def __init__(self, role: str, endpoints: Endpoints, config: Config, most: int, deadline: float) -> None:
        self.endpoint = endpoints if isinstance(endpoints, str) else ", ".join(endpoints)
        self._pid = os.getpid()
        self.is_closed = False
        self._kept: list[Any] = []
        self._session = self._open(configured(role, endpoints, config, most), role, deadline)
        self.keep(self._session)
        _links.add(self)

    def _open(self, config: zenoh.Config, role: str, deadline: float) -> zenoh.Session:
        while True:
            try:
                return patiently(lambda: zenoh.open(config), deadline, f"Zenoh at {self.endpoint}")
            except (zenoh.ZError, Timeout) as error:
                if role == "listen":
                    raise OSError(f"expected to listen at {self.endpoint}: {error}") from None
                if time.monotonic() >= deadline:
                    raise Unreachable(
                        f"expected a server at {self.endpoint}, got none before the timeout: is it started, and does a "
                        f"firewall let it through? ({error})"
                    ) from None
            time.sleep(slice_of(deadline, 0.2))

    @property
    def session(self) -> Any:
        """The session; Zenoh's stubs leave much of it unknown.

        Raises RuntimeError in a forked child, and ValueError after the close.
        """
        if self._pid != os.getpid():
            raise RuntimeError(f"the link to {self.endpoint} belongs to process {self._pid}: open one in this process")
        if self.is_closed:
            raise ValueError(f"the link to {self.endpoint} was closed")
        return self._session

    @property
    def is_mine(self) -> bool:
        """Whether this process has it, and has not closed it."""
        return not self.is_closed and self._pid == os.getpid()

    def keep(self, thing: _T) -> _T:
        """Keep what Zenoh gave, so that a forked child can leave it alone."""
        self._kept.append(thing)
        return thing

    def ask(self, key: str, deadline: float, priority: zenoh.Priority = ASK, **more: Any) -> Iterator[zenoh.Reply]:
        """Go through the replies to a question as they come. Raises Timeout."""
        replies: queue.SimpleQueue[zenoh.Reply | None] = queue.SimpleQueue()
        handler = in_place(replies.put, lambda: replies.put(None))
        seconds = min(max(deadline - time.monotonic(), 0.001), 1e6)
        self.session.get(
            key,
            handler,
            consolidation=zenoh.ConsolidationMode.NONE,
            congestion_control=BLOCK,
            priority=priority,
            timeout=seconds,
            **more,
        )
        while True:
            try:
                reply = replies.get(timeout=slice_of(deadline))
            except queue.Empty:
                if time.monotonic() >= deadline:
                    raise Timeout(f"nobody at {self.endpoint} answered {key} before the timeout") from None
                continue
            if reply is None:
                return
            yield reply

    def tokens(self, kind: str = "*", name: str = "*") -> list[tuple[str, str, int]]:
        """Return what is offered in this network now: kind, name and run."""
        replies: queue.SimpleQueue[zenoh.Reply | None] = queue.SimpleQueue()
        handler = in_place(replies.put, lambda: replies.put(None))
        self.session.liveliness().get(f"{_wire.LIVE}/{kind}/{name}/*", handler, timeout=2.0)
        found: list[tuple[str, str, int]] = []
        while (reply := replies.get()) is not None:
            token = _wire.of_live_key(str(reply.ok.key_expr)) if reply.ok else None
            found += [token] if token else []
        return found

    def close(self) -> None:
        """Close the session. A forked child does nothing."""
        if not self.is_mine:
            return
        self.is_closed = True
        _links.discard(self)
        # A link that loses packets may make Zenoh wait for long; that goes on without us.
        with contextlib.suppress(Timeout, zenoh.ZError):
            patiently(cast("Any", self._session).close, time.monotonic() + CLOSE_WAIT, "Zenoh")

    def abandon(self) -> None:
        """Leave everything alone, in a forked child: what Zenoh does at its end needs threads that are not there."""
        for thing in self._kept:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


_links: weakref.WeakSet[Link] = weakref.WeakSet()
# What has to end before the sessions do, when the interpreter exits.
closing: weakref.WeakSet[Any] = weakref.WeakSet()


def _close_all() -> None:
    for thing in [*list(closing), *list(_links)]:
        thing.close()


def _abandon_all() -> None:
    for link in list(_links):
        link.abandon()
    _links.clear()
    closing.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_abandon_all)
