# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""A session of Zenoh: how it is configured and opened, whom it waits for, and what becomes of it at a fork and at exit.

A call of Zenoh that waits answers no signal, so it runs in a thread of its own while the caller waits for that. Such a
thread must not come back from Zenoh into an interpreter that ends, which aborts the process; so its calls are bounded
by Zenoh's own timeouts, and the exit waits for them. A forked child has the objects and none of their threads: it
leaves them alone for ever.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import numbers
import os
import queue
import re
import socket
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from .._errors import Timeout
from .._waiting import LOOK_EVERY
from . import _engine, _wire
from ._engine import zenoh
from ._errors import Unreachable
from ._hearing import ANSWER, Hearing

_T = TypeVar("_T")

Config = str | os.PathLike[str] | Mapping[str, Any] | zenoh.Config | None
Endpoints = str | Sequence[str]

CLOSE_WAIT = 2.0  # seconds that a close waits for Zenoh
_CALM_WAIT = 1.0  # seconds of these, for what is on its way
_EXIT_WAIT = 15.0  # seconds that the exit waits for calls of Zenoh, which end by themselves after 10 at the latest
_ATTEMPT_MS = 1000  # that one attempt to connect takes at the most
_HEARD_WAIT = 1.0  # seconds in which a new session has to be heard
_MOST_REPLIES = 64  # to one question; servers of one network are fewer
_MOST_TOLD = _MOST_REPLIES * _wire.MOST_JSON  # bytes of these, unless they are values
_MOST_TOKENS = 4096
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
    """Return when a timeout ends, as `time.monotonic` counts. Raises TypeError, and ValueError below 0."""
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(cast("object", timeout), numbers.Real)):
        raise TypeError(f"expected a timeout in seconds, as a number, or None, got {timeout!r}")
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"expected a timeout in seconds, 0 or more, or None, got {timeout}")
    return float("inf") if timeout is None else time.monotonic() + timeout


def slice_of(deadline: float, longest: float = LOOK_EVERY) -> float:
    """Return how long to sleep now."""
    return max(0.0, min(longest, deadline - time.monotonic()))


# Of threads that are in Zenoh: what each sets when it is back. (A join that Ctrl-C interrupts takes them for ended.)
_waits: set[threading.Event] = set()


def patiently(call: Callable[[], _T], deadline: float, whom: str, undo: Callable[[_T], object] = lambda _: None) -> _T:
    """Return what a call that answers no signals returns. Raises Timeout, and what the call raises.

    What it returns after nobody waits any more is undone.
    """
    outcome: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
    is_over, is_back = threading.Event(), threading.Event()

    def run() -> None:
        try:
            outcome.put((True, call()))
        except BaseException as error:
            outcome.put((False, error))
        if is_over.is_set():
            _undo(outcome, undo)
        _waits.discard(is_back)
        is_back.set()

    _waits.add(is_back)
    try:
        threading.Thread(target=run, name="ndshare net wait", daemon=True).start()
    except RuntimeError:
        run()  # Python 3.12 starts no threads at its exit, and without an end of its session Zenoh aborts the process
    try:
        is_good, result = _outcome(outcome, deadline, whom)
    except BaseException:
        is_over.set()
        _undo(outcome, undo)
        raise
    if is_good:
        return result
    raise result


def _outcome(outcome: queue.SimpleQueue[tuple[bool, Any]], deadline: float, whom: str) -> tuple[bool, Any]:
    while True:
        with contextlib.suppress(queue.Empty):
            return outcome.get(timeout=slice_of(deadline))
        if time.monotonic() >= deadline:
            raise Timeout(f"{whom} did not answer before the timeout: wait longer, or look there")


def _undo(outcome: queue.SimpleQueue[tuple[bool, Any]], undo: Callable[[Any], object]) -> None:
    with contextlib.suppress(queue.Empty, zenoh.ZError):
        is_good, result = outcome.get_nowait()
        if is_good:
            undo(result)


def reason(error: BaseException) -> str:
    """Return what Zenoh says, without the places in its source and its wrappings."""
    text = re.sub(r" at /\S+?\.rs:\d+\.?", "", str(error))
    wrapped = re.search(r'(?:msg: |Str\()"(.*?)"', text)
    return wrapped[1] if wrapped else text


# Of these the address is a host and a port.
_BY_PORT = ("tcp", "udp", "tls", "quic", "ws")


def checked_endpoints(endpoints: Endpoints) -> list[str]:
    """Return endpoints as a list. Raises ValueError and TypeError for what can be none."""
    if not isinstance(cast("object", endpoints), str | Sequence):
        raise TypeError(f'expected an endpoint such as "tcp/host:7447", or a list of them, got {endpoints!r}')
    listed = [endpoints] if isinstance(endpoints, str) else list(endpoints)
    if not listed:
        raise ValueError('expected an endpoint such as "tcp/host:7447", got none')
    for endpoint in listed:
        if not isinstance(cast("object", endpoint), str):
            raise TypeError(f'expected an endpoint such as "tcp/host:7447", got {endpoint!r}')
        protocol, _, rest = endpoint.partition("/")
        address = re.split("[?#]", rest)[0]
        host, _, port = address.rpartition(":")
        has_port = bool(host) and port.isascii() and port.isdigit() and int(port) < 1 << 16
        if not protocol or not address or ":" in protocol or (protocol in _BY_PORT and not has_port):
            raise ValueError(f'expected an endpoint such as "tcp/host:7447", got {endpoint!r}')
    return listed


def why_not(endpoint: str) -> str:
    """Return why nobody can be reached there, as far as the system knows; Zenoh only says that it took too long."""
    protocol, _, rest = endpoint.partition("/")
    host, _, port = re.split("[?#]", rest)[0].rpartition(":")
    if protocol not in {"tcp", "tls", "ws"}:
        return ""
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=0.5).close()
    except OSError as error:
        return f"{endpoint}: {error.strerror or error}"
    return f"{endpoint}: something listens there, and does not let this process in"


def configured(
    role: str, endpoints: Endpoints, config: Config, most: int = 1 << 30, guarded: Sequence[str] = ()
) -> zenoh.Config:
    """Return the configuration of a session: ours, then what the user says, then the endpoints.

    A message of more than `most` bytes is not even put together. What others send under `guarded` keys is refused.
    """
    listed, made = checked_endpoints(endpoints), _base(config, {**_OURS, **_guard(guarded)})
    made.insert_json5("transport/link/rx/max_message_size", str(most))
    made.insert_json5("mode", json.dumps("peer" if role == "listen" else "client"))
    try:
        made.insert_json5(f"{role}/endpoints", json.dumps(listed))
    except zenoh.ZError as error:
        raise ValueError(f'expected an endpoint such as "tcp/host:7447", got {listed}: {reason(error)}') from None
    if role == "connect":
        made.insert_json5("connect/exit_on_failure", "true")
        made.insert_json5("connect/timeout_ms", str(_ATTEMPT_MS))
    else:
        made.insert_json5("listen/exit_on_failure", "true")
    return made


def _guard(keys: Sequence[str]) -> dict[str, Any]:
    """Return the setting by which nobody else publishes, answers or lives under these keys."""
    if not keys:
        return {}
    messages = ["put", "delete", "reply", "declare_queryable", "liveliness_token"]
    rule = {"id": "ours", "permission": "deny", "flows": ["ingress"], "messages": messages, "key_exprs": list(keys)}
    policies = [{"rules": ["ours"], "subjects": ["others"]}]
    control = {"enabled": True, "default_permission": "allow", "rules": [rule], "subjects": [{"id": "others"}]}
    return {"access_control": {**control, "policies": policies}}


def _base(config: Config, ours: dict[str, Any]) -> zenoh.Config:
    """Return our configuration, and then what the user says."""
    if _engine.is_config(config):
        return zenoh.Config.from_json5(str(config))
    if config is None or isinstance(config, Mapping):
        made = zenoh.Config()
        theirs = dict(_leaves(config or {}))
        for key, value in {**ours, **theirs}.items():
            _insert(made, key, value)
        return made
    if not isinstance(config, str | os.PathLike):
        raise TypeError(f"expected config= as the path of a file, a dict, or a zenoh.Config, got {config!r}")
    text = Path(config).read_text()
    try:
        made = zenoh.Config.from_file(os.fspath(config))
    except zenoh.ZError as error:
        raise ValueError(f"expected a configuration of Zenoh in {os.fspath(config)}: {reason(error)}") from None
    plain, spoken = zenoh.Config(), _spoken_of(text)
    for key, value in ours.items():
        # Zenoh does not tell a default that a file sets from one that it does not.
        name = key.removesuffix("/enabled").removesuffix("/size/data").rsplit("/", 1)[-1]
        if name not in spoken and made.get_json(key) == plain.get_json(key):
            _insert(made, key, value)
    return made


# A text in quotes, a comment of JSON5 or YAML, or a word; and whether a colon follows, as after a name.
_PIECE = re.compile(
    r"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|//[^\n]*|/\*.*?\*/|(?:(?<=\s)|^)\#[^\n]*|\w+)(\s*:)?""", re.DOTALL
)


def _spoken_of(text: str) -> set[str]:
    """Return the names of settings in the text of a configuration, in JSON5 or YAML; not what is a value there."""
    return {piece.strip("\"'") for piece, colon in _PIECE.findall(text) if colon}


def _insert(made: zenoh.Config, key: str, value: Any) -> None:
    try:
        made.insert_json5(key, json.dumps(value))
    except (zenoh.ZError, TypeError) as error:
        got = f"{value!r:.80}: {reason(error)}"
        raise ValueError(f"expected a setting of Zenoh's configuration as {key!r} in config=, got {got}") from None


# What Zenoh checks as a whole.
_WHOLE = ("transport/auth/usrpwd", "access_control")


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


class _Replies:
    """The replies to a question, with None after the last; `most` of them, of `most_bytes` together.

    Whoever answers may answer without an end, and at length: what is beyond is thrown away. So is what comes under
    another key than `only`, if that is given.
    """

    def __init__(self, most: int, most_bytes: int, only: str | None = None) -> None:
        self._most, self._most_bytes, self._only = most, most_bytes, only
        self._queue: queue.SimpleQueue[zenoh.Reply | None] = queue.SimpleQueue()
        self.get = self._queue.get
        self.handler = in_place(self._put, lambda: self._queue.put(None))

    def _put(self, reply: zenoh.Reply) -> None:
        said = reply.ok or reply.err
        attached = None if reply.ok is None else reply.ok.attachment
        nbytes = len(b"" if said is None else said.payload) + len(b"" if attached is None else attached)
        is_wanted = self._only is None or reply.ok is None or str(reply.ok.key_expr) == self._only
        if is_wanted and self._most > 0 and nbytes <= self._most_bytes:
            self._most, self._most_bytes = self._most - 1, self._most_bytes - nbytes
            self._queue.put(reply)

    def close(self) -> None:
        """Keep nothing of what comes from now on: Zenoh calls for as long as the question may be answered."""
        self._most = 0
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()


def _calm(session: Any) -> None:
    """Wait until nothing is on its way here any more, where nothing is subscribed to now.

    Whoever sends to a link that ends with its queue full is held up by Zenoh for 10 seconds, and with it all others.
    This question goes behind the end of the subscriptions, and its answer behind the frames that were on their way.
    """
    replies = _Replies(_MOST_REPLIES, _MOST_TOLD)
    priority = zenoh.Priority.DATA
    session.get(_wire.HELLO, replies.handler, congestion_control=BLOCK, priority=priority, timeout=_CALM_WAIT)
    with contextlib.suppress(queue.Empty):
        replies.get(timeout=_CALM_WAIT)


class Link:
    """A session of Zenoh of this process, and all that was declared in it."""

    def __init__(
        self,
        role: str,
        endpoints: Endpoints,
        config: Config,
        most: int,
        deadline: float,
        *,
        guarded: Sequence[str] = (),
    ) -> None:
        self._endpoints = checked_endpoints(endpoints)
        self.endpoint = ", ".join(self._endpoints)
        self.most = most  # bytes of a frame or a value
        self._pid = os.getpid()
        self.is_closed = False
        self._kept: dict[int, Any] = {}
        self._is_subscribed = False
        self._config = configured(role, endpoints, config, most + _wire.MOST_JSON, guarded)
        self._hearing = Hearing()
        self.renewals = 0
        # With a name of the user's own, the other side would take a second session for the first.
        self._may_renew = role == "connect" and self._config.get_json("id") == "null"
        self._session = self._open(self._config, role, deadline)
        self.keep(self._session)
        _links.add(self)

    def _open(self, config: zenoh.Config, role: str, deadline: float) -> zenoh.Session:
        while True:
            try:
                return self._attempt(config, deadline)
            except (zenoh.ZError, Timeout) as error:
                if role == "listen":
                    raise OSError(f"expected to listen at {self.endpoint}: {reason(error)}") from None
                if time.monotonic() >= deadline:
                    raise Unreachable(
                        f"expected a server at {self.endpoint}, got none before the timeout: is it started, and does a "
                        f"firewall let it through? ({self._why() or reason(error)})"
                    ) from None
            time.sleep(slice_of(deadline, 0.2))

    def _attempt(self, config: zenoh.Config, deadline: float) -> zenoh.Session:
        # So Zenoh's call ends about when we do, and the exit has not to wait for it.
        left = min(_ATTEMPT_MS, max(100, int(1000 * min(deadline - time.monotonic(), 1e3))))
        config.insert_json5("connect/timeout_ms", str(left))
        whom = f"Zenoh at {self.endpoint}"
        return patiently(lambda: zenoh.open(config), deadline, whom, lambda late: cast("Any", late).close())

    def _why(self) -> str:
        """Return what the system says of each endpoint."""
        try:
            return patiently(lambda: "; ".join(filter(None, map(why_not, self._endpoints))), time.monotonic() + 1, "")
        except Timeout:
            return ""

    @property
    def session(self) -> Any:
        """The session; Zenoh's stubs leave much of it unknown.

        Raises RuntimeError in a forked child, and ValueError after the close.
        """
        if self._pid != os.getpid():
            raise RuntimeError(f"the link to {self.endpoint} belongs to process {self._pid}: open one in this process")
        if self.is_closed:
            raise ValueError(self._text_of_close())
        return self._session

    @property
    def is_mine(self) -> bool:
        """Whether this process has it, and has not closed it."""
        return not self.is_closed and self._pid == os.getpid()

    @property
    def is_up(self) -> bool:
        """Whether somebody is at the other end now. Raises as `session` does."""
        info = self.session.info
        return bool(info.peers_zid() or info.routers_zid())

    @contextlib.contextmanager
    def used(self) -> Generator[Any, None, None]:
        """Give the session for one block. A close meanwhile raises there what it raises afterwards."""
        try:
            yield self.session
        except zenoh.ZError:
            if self.is_closed:
                raise ValueError(self._text_of_close()) from None
            raise

    def _text_of_close(self) -> str:
        return f"the link to {self.endpoint} was closed"

    def keep(self, thing: _T) -> _T:
        """Keep what Zenoh gave, so that a forked child can leave it alone."""
        self._kept[id(thing)] = thing
        return thing

    def forget(self, thing: Any) -> None:
        """End what was declared, and keep it no longer. A link that is cut hears nothing of it."""
        with contextlib.suppress(zenoh.ZError):
            thing.undeclare()
        self._kept.pop(id(thing), None)

    def note_heard(self) -> None:
        """Note that something came that only a server that hears this link sends."""
        self._hearing.begin()

    def watch(self) -> None:
        """Find out whether a silent link is deaf, and open it anew then. Whoever waits for something calls this.

        What was declared is then to be declared once more: `renewals` counts.
        """
        if not (self._may_renew and self.is_mine):
            return
        with contextlib.suppress(zenoh.ZError, Timeout, ValueError):  # (ValueError when it is closed meanwhile)
            step = self._hearing.step()
            if step == "ask":
                self._ask_hello(self.session, self.note_heard)
            elif step == "renew" and self.is_up:
                self._renew()
            elif step == "renew":
                self._hearing.begin()

    def _ask_hello(self, session: Any, is_heard: Callable[[], object]) -> None:
        def hear(reply: zenoh.Reply) -> None:
            # What is none is Zenoh's own, at the timeout.
            if reply.ok is not None:
                is_heard()

        session.get(_wire.HELLO, in_place(hear), congestion_control=BLOCK, priority=ASK, timeout=ANSWER)

    def _renew(self) -> None:
        """Take a new session in the place of this one, if that is heard."""
        fresh = self._attempt(self._config, time.monotonic() + _ATTEMPT_MS / 1000)
        is_heard = threading.Event()
        self._ask_hello(fresh, is_heard.set)
        if not is_heard.wait(_HEARD_WAIT) or self.is_closed:
            self._close_late(fresh)
            return
        old, self._session = self._session, self.keep(fresh)
        self.renewals += 1
        self.note_heard()
        self._close_late(old)
        if self.is_closed:
            # By another thread, which may have closed the old one.
            self._close_late(fresh)

    def _close_late(self, session: Any) -> None:
        """Close a session that nobody uses any more; that may take long, and nobody waits for it."""

        def close() -> None:
            session.close()
            self._kept.pop(id(session), None)

        with contextlib.suppress(Timeout, zenoh.ZError):
            patiently(close, time.monotonic(), "Zenoh")

    def subscribe(self, key: str, take: Any) -> Any:
        """Have a handler take what is published under a key, as fast as it goes; `close` has to stop that first."""
        self._is_subscribed = True
        return self.keep(self.session.declare_subscriber(key, take))

    def ask(
        self,
        key: str,
        deadline: float,
        most: int = _MOST_TOLD,
        priority: zenoh.Priority = ASK,
        only: str | None = None,
        **more: Any,
    ) -> Iterator[zenoh.Reply]:
        """Go through the replies to a question as they come, `most` bytes of them, under the key `only`.

        Raises Timeout.
        """
        more |= {"congestion_control": BLOCK, "consolidation": zenoh.ConsolidationMode.NONE, "priority": priority}
        while True:
            renewals, has_come = self.renewals, False
            for reply in self._ask_once(key, deadline, _Replies(_MOST_REPLIES, most, only), more):
                has_come = True
                yield reply
            if has_come or self.renewals == renewals:
                return

    def _ask_once(self, key: str, deadline: float, replies: _Replies, more: dict[str, Any]) -> Iterator[zenoh.Reply]:
        """Ask one session, until its last reply or until there is another session."""
        renewals = self.renewals
        seconds = min(max(deadline - time.monotonic(), 0.001), 1e6)
        try:
            with self.used() as session:
                session.get(key, replies.handler, timeout=seconds, **more)
            while (reply := self._next_reply(replies, key, deadline, renewals)) is not None:
                yield reply
        except zenoh.ZError:
            if self.renewals == renewals:
                raise
        finally:
            replies.close()

    def _next_reply(self, replies: _Replies, key: str, deadline: float, renewals: int) -> zenoh.Reply | None:
        while self.renewals == renewals:
            try:
                reply = replies.get(timeout=slice_of(deadline))
            except queue.Empty:
                if time.monotonic() >= deadline:
                    raise Timeout(f"nobody at {self.endpoint} answered {key} before the timeout") from None
                self.watch()
            else:
                if reply is not None and reply.ok is not None:
                    self.note_heard()
                return reply
        return None

    def tokens(self, kind: str = "*", name: str = "*") -> list[tuple[str, str, int]]:
        """Return what is offered in this network now: kind, name and run."""
        replies = _Replies(_MOST_TOKENS, 0)
        with self.used() as session:
            session.liveliness().get(f"{_wire.LIVE}/{kind}/{name}/*", replies.handler, timeout=2.0)
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
            patiently(self._close, time.monotonic() + CLOSE_WAIT, "Zenoh")

    def _close(self) -> None:
        session: Any = self._session
        try:
            if self._is_subscribed:
                _calm(session)
        finally:
            session.close()

    def abandon(self) -> None:
        """Leave everything alone, in a forked child: what Zenoh does at its end needs threads that are not there."""
        for thing in self._kept.values():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


_links: weakref.WeakSet[Link] = weakref.WeakSet()
# What has to end before the sessions do, when the interpreter exits.
closing: weakref.WeakSet[Any] = weakref.WeakSet()


def _close_all() -> None:
    try:
        for thing in [*list(closing), *list(_links)]:
            thing.close()
    finally:
        _await_all(time.monotonic() + _EXIT_WAIT)


def _await_all(deadline: float) -> None:
    """Wait until no thread is in Zenoh any more. Ctrl-C cannot shorten that: the process would abort."""
    while time.monotonic() < deadline:
        with contextlib.suppress(KeyboardInterrupt):
            waits = list(_waits)
            if not waits:
                return
            waits[0].wait(LOOK_EVERY)


def _abandon_all() -> None:
    for link in list(_links):
        link.abandon()
    _links.clear()
    closing.clear()
    _waits.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_abandon_all)
