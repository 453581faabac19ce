# pyright: reportPrivateUsage=false, reportUnknownMemberType=false
"""The side that receives: frames come into a ring of this machine, values into a cache of this machine.

One thread for each ring takes what Zenoh brings, in order, and writes it. It never waits for the network; what it is
told comes as events of one queue, so nothing overtakes anything. Numbers count within a run of the server: what is
missing between two of them is lost, and counted in the ring itself.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, TypedDict, cast

import numpy as np
import zenoh
from numpy.typing import NDArray

from .. import _native, _origin
from .._errors import ArenaFull, Closed, Error, Full, Timeout
from . import _link, _wire
from ._errors import FarLoadError, NameTaken, Unreachable
from ._link import Link

MOST_BYTES = 1 << 30  # of a frame or a value, when it is unpacked

_QUEUE = 2  # messages that wait for a ring; then the network waits
_FULL_WAIT = 5.0  # seconds that a frame waits for readers here; longer, and the link would be closed
_QUIET = 1.0  # seconds after which nothing is on its way any more from a ring that has ended


class FarRing(TypedDict):
    """What came of a ring."""

    host: str
    state: Literal["open", "waiting", "ended", "failed", "closed"]
    received: int
    bytes: int
    lost: int
    rejected: int
    restarts: int
    error: str | None


class FarStats(TypedDict):
    """What came over a link so far."""

    host: str
    connected: bool
    rings: dict[str, FarRing]


class _Frame(NamedTuple):
    """A message of a run."""

    run: int
    header: bytes
    payload: zenoh.ZBytes


class _Live(NamedTuple):
    """A run of the server that is there, or is gone."""

    run: int
    is_there: bool


class _About(NamedTuple):
    """What a run says of its ring."""

    run: int
    text: bytes


class _Pump:
    """A thread that writes what comes into a ring of this machine."""

    def __init__(self, far: Far, name: str, ring: _native.Ring, form: _wire.Form, host: str) -> None:
        self._far, self._name, self.ring, self._form = far, name, ring, form
        self._writer: _native.Writer | None = ring.writer()
        self._events: queue.Queue[_Frame | _Live | _About] = queue.Queue(_QUEUE)
        self._live: set[int] = set()
        self._run: int | None = None
        self._subscriber: Any = None
        self._least = 0  # the number after that of the last message that came
        self._expected: int | None = None  # the first number of which nobody knows yet whether it is lost
        self._first: int | None = None  # the first number that came of a run of which nothing is known yet
        # Which ring was read over there before, and what would have been its next number.
        self._identity: str | None = None
        self._next_there: int | None = None
        self._end: int | None = None
        self._is_open = True
        self.has_joined = threading.Event()
        self.given: dict[str, Any] = {}  # how the ring was asked for
        self.stats: FarRing = {
            "host": host, "state": "waiting", "received": 0, "bytes": 0, "lost": 0, "rejected": 0, "restarts": 0,
            "error": None,
        }  # fmt: skip
        self.thread = threading.Thread(target=self._work, name=f"ndshare net {name}", daemon=True)

    def start(self) -> None:
        link = self._far.link
        self.thread.start()
        watch = _link.in_place(self._see)
        key = f"{_wire.LIVE}/ring/{_wire.name_key(self._name)}/*"
        link.keep(link.session.liveliness().declare_subscriber(key, watch, history=True))

    # Called by Zenoh's threads

    def _put(self, event: _Frame | _Live | _About) -> None:
        """Hand an event over. While there is no room the link waits, and so does who sends."""
        while self._is_open:
            with contextlib.suppress(queue.Full):
                self._events.put(event, timeout=_link.LOOK_EVERY)
                return

    def _see(self, sample: zenoh.Sample) -> None:
        token = _wire.of_live_key(str(sample.key_expr))
        if token is not None:
            self._put(_Live(token[2], sample.kind == zenoh.SampleKind.PUT))

    def _take(self, run: int, sample: zenoh.Sample) -> None:
        header = b"" if sample.attachment is None else sample.attachment.to_bytes()
        self._put(_Frame(run, header, sample.payload))

    def _hear(self, run: int, reply: zenoh.Reply) -> None:
        if reply.ok is not None and len(reply.ok.payload) <= _wire.MOST_JSON:
            self._put(_About(run, reply.ok.payload.to_bytes()))

    # The thread

    def _work(self) -> None:
        try:
            while self._is_open and self.stats["state"] not in {"ended", "failed"}:
                self._step()
        except Closed:
            # By somebody here.
            pass
        except Exception as error:
            if self._is_open:
                self._fail(f"{type(error).__name__}: {error}")
        finally:
            self._leave()

    def _step(self) -> None:
        try:
            event = self._events.get(timeout=_QUIET if self._end is not None else 0.2)
        except queue.Empty:
            if self._end is not None:
                self._finish(self._end)
            return
        if isinstance(event, _Live):
            self._follow(event)
        elif event.run != self._run:
            return
        elif isinstance(event, _Frame):
            self._receive(event)
        else:
            self._learn(event)

    def _follow(self, live: _Live) -> None:
        """Note which runs there are, and turn to one. The one that is followed counts as long as it lives."""
        if not live.is_there:
            self._live.discard(live.run)
            if live.run == self._run:
                self.stats["state"] = "waiting"
        elif len(self._live) < 64:
            self._live.add(live.run)
        if live.is_there and live.run == self._run:
            # The link was cut, and is back.
            self._ask(live.run)
        elif self._live and self._run not in self._live:
            self._turn_to(min(self._live))

    def _turn_to(self, run: int) -> None:
        session = self._far.link.session
        if self._subscriber is not None:
            self._subscriber.undeclare()
            self.stats["restarts"] += 1
        if self._expected is not None:
            self._next_there = self._expected
        self._run, self._least, self._expected, self._first, self._end = run, 0, None, None, None
        take = _link.in_place(partial(self._take, run))
        self._subscriber = self._far.link.keep(session.declare_subscriber(_wire.frames_key(self._name, run), take))
        self.stats["state"] = "waiting"
        self._ask(run)

    def _ask(self, run: int) -> None:
        hear = _link.in_place(partial(self._hear, run))
        key = _wire.about_key(self._name, run)
        self._far.link.session.get(key, hear, timeout=10.0, priority=_link.ASK, congestion_control=_link.BLOCK)

    def _learn(self, about: _About) -> None:
        try:
            fields = _wire.heard(about.text)
            _wire.check_protocol(fields, self._far.link.endpoint)
            form, number, begin = _wire.form_in(fields), *(_wire.number_in(fields, name) for name in ("next", "begin"))
        except (_wire.Malformed, Error) as error:
            return self._fail(str(error))
        if form != self._form:
            return self._fail(f"expected the frames of before, {self._form}, got a server whose ring has {form}")
        if self._expected is None or self._first is not None:
            self._begin_at(self._begin_of(str(fields.get("ring"))[:64], number, begin))
        self.stats["host"], self.stats["state"] = str(fields.get("host"))[:64], "open"
        self.has_joined.set()
        if fields.get("state") == "ended":
            self._end = number
        elif fields.get("state") == "failed":
            self._fail(f"the server cannot read the ring any more: see server.stats() on {self.stats['host']}")
        return None

    def _begin_of(self, identity: str, number: int, begin: int) -> int:
        """Return the first number of a run that counts: what is made from now on, or since the run before."""
        before, self._identity = self._identity, identity
        if before is None:
            return number
        if identity == before and self._next_there is not None:
            return self._next_there
        return min(begin, number)

    def _begin_at(self, number: int) -> None:
        """Count from a number on; frames may have come before the answer that says so."""
        if self._first is not None and number < self._first <= number + _wire.MOST_GAP:
            self._lose(self._first - number)
        self._first = None
        self._expected = max(number, self._expected or 0)

    def _receive(self, message: _Frame) -> None:
        try:
            header = _wire.unpack(message.header)
            if header.run != self._run or header.number < self._least:
                raise _wire.Malformed(f"expected number {self._least} or later of run {self._run}, got {header.number}")
            if self._expected is not None and header.number > self._expected + _wire.MOST_GAP:
                raise _wire.Malformed(f"expected a number soon after {self._expected}, got {header.number}")
            if header.kind == _wire.FRAME:
                self._receive_frame(header, message.payload)
            elif header.kind == _wire.END:
                self._finish(header.number)
            elif header.kind == _wire.DIED:
                self._count_to(header.number, header.number)
                self._die()
        except (_wire.Malformed, TypeError, ValueError, OverflowError) as error:
            # If its number was true the next one shows the gap.
            self.stats["rejected"] += 1
            self.stats["error"] = str(error)

    def _receive_frame(self, header: _wire.Header, payload: zenoh.ZBytes) -> None:
        dtype = _wire.checked_array(header, len(payload), self._far.max_bytes)
        meta = self._record(header)
        items = _wire.unpacked(header, payload.to_bytes())
        self._count_to(header.number, header.number + 1)
        if self._writer is None:
            self._writer = self.ring.writer()
        try:
            with self._writer.write(header.shape, dtype, timeout=_FULL_WAIT) as frame:
                if items.size:
                    frame.view(np.ndarray).reshape(-1).view(np.uint8)[:] = items
                frame.meta = meta
        except (Full, ArenaFull, ValueError, TypeError, OverflowError) as error:
            # It came, and found no room here.
            self._lose(1)
            self.stats["error"] = f"{type(error).__name__}: {error}"
        else:
            self.stats["received"] += 1
            self.stats["bytes"] += len(payload)

    def _record(self, header: _wire.Header) -> dict[str, Any]:
        """Return the meta of a frame: the fields that it came with, and where it was made."""
        fields: dict[str, Any] = {}
        if self._form.meta is not None:
            if len(header.meta) != self._form.meta.itemsize:
                raise _wire.Malformed(f"expected {self._form.meta.itemsize} bytes of meta, got {len(header.meta)}")
            record: Any = np.frombuffer(header.meta, self._form.meta)[0]
            fields = {name: record[name] for name in self._form.meta.names or ()}
        # A frame that came from elsewhere already keeps its origin.
        host = self.stats["host"].encode()[: _origin.HOST_BYTES]
        fields.setdefault(_origin.FIELD, (host, header.run, header.number, header.time_ns))
        return fields

    def _die(self) -> None:
        """Have readers here hear of a death. Until the next frame comes there is no writer, as over there."""
        if self._writer is not None:
            self._writer._die()
            self._writer = None

    def _count_to(self, number: int, next_number: int) -> None:
        """Count what is missing before a number; what comes next has at least `next_number`."""
        if self._expected is not None and number > self._expected:
            self._lose(number - self._expected)
        elif self._expected is None:
            self._first = number
        self._least, self._expected = next_number, max(next_number, self._expected or 0)

    def _lose(self, frames: int) -> None:
        self.stats["lost"] += frames
        self.ring._count_lost(frames)

    def _finish(self, number: int) -> None:
        self._count_to(number, number)
        self.stats["state"] = "ended"

    def _fail(self, error: str) -> None:
        self.stats["state"], self.stats["error"] = "failed", error

    def _leave(self) -> None:
        self.has_joined.set()
        if self.stats["state"] not in {"ended", "failed"}:
            self.stats["state"] = "closed"
        self._is_open = False
        with contextlib.suppress(Error, zenoh.ZError):
            self.ring.close()
            # Whoever sends sees by this that the end has come.
            if self._subscriber is not None:
                self._subscriber.undeclare()

    def stop(self) -> None:
        self._is_open = False


class Far(_link.Closing):
    """The rings and caches of another machine. Made by `connect`; a context manager.

    Closing it ends the rings that it fills. A forked child does not have it.

    >>> import ndshare as nds
    >>> from ndshare import net
    >>> server = net.serve("tcp/127.0.0.1:17446", rings={"cam0": nds.Ring(3, "uint8", slots=4)})
    >>> far = net.connect("tcp/127.0.0.1:17446")
    >>> far.ring("cam0").shape, far.is_connected, far.stats()["rings"]["cam0"]["state"]
    ((3,), True, 'open')
    >>> far.close(), server.close()
    (None, None)
    """

    def __init__(self, endpoint: _link.Endpoints, config: _link.Config, max_bytes: int, timeout: float | None) -> None:
        self._pid, self.max_bytes = os.getpid(), max_bytes
        self._pumps: dict[str, _Pump] = {}
        self._begins = threading.Lock()
        deadline = _link.deadline_in(timeout)
        self.link = Link("connect", endpoint, config, max_bytes + _wire.MOST_JSON, deadline)
        _link.closing.add(self)
        try:
            hello = self._hello(deadline)
        except BaseException:
            self.close()
            raise
        self.host = str(hello.get("host"))[:64]
        self.rings, self.caches = _names(hello, "rings"), _names(hello, "caches")

    def _told(self, key: str, deadline: float) -> list[dict[str, Any]]:
        """Return what each server answers, as far as it comes soon. Raises Incompatible and Malformed."""
        found: list[dict[str, Any]] = []
        with contextlib.suppress(Timeout):
            for reply in self.link.ask(key, min(deadline, time.monotonic() + 2.0), target=zenoh.QueryTarget.ALL):
                if reply.ok is not None:
                    found.append(_wire.heard(reply.ok.payload.to_bytes()))
                    _wire.check_protocol(found[-1], self.link.endpoint)
        return found

    def _hello(self, deadline: float) -> dict[str, Any]:
        while not (found := self._told(_wire.HELLO, deadline)):
            if time.monotonic() >= deadline:
                raise Unreachable(
                    f"expected a server of ndshare at {self.link.endpoint}, got a program that speaks Zenoh and offers "
                    "nothing: start net.serve there"
                )
            time.sleep(_link.slice_of(deadline))
        return found[0]

    def ring(
        self,
        name: str,
        *,
        slots: int = 32,
        when_full: Literal["wait", "drop_oldest", "drop_newest"] = "drop_oldest",
        keep: int = 0,
        arena: _native.Arena | None = None,
        timeout: float | None = 10.0,
    ) -> _native.Ring:
        """Return a ring of this machine that is filled with the frames of a ring over there, as they come.

        It is an ordinary ring, which counts from here on: send it to processes, or publish it. `frame.origin` says
        where a frame was made, and `frame.meta` has the fields that it has there. ``ring.stats()["lost"]`` counts the
        frames that were made since, and did not come. It ends when the one over there ends, and when this object is
        closed; while the server is away, it waits for the next. Asked again for a name, it is the same ring, and
        ValueError if that was made with other arguments.

        With ``when_full="wait"`` a frame waits for readers here for 5 seconds at the most, then it is lost. Raises
        Timeout when nobody offered the ring for `timeout` seconds, with the names that are offered; NameTaken when two
        servers do; Incompatible.
        """
        deadline = _link.deadline_in(timeout)
        given = {"slots": slots, "when_full": when_full, "keep": keep, "arena": arena}
        return self._joined(name, deadline, given, partial(_new_ring, given))

    def _ring_into(self, name: str, old: _native.Ring | None, slots: int, timeout: float | None) -> _native.Ring:
        """Fill a ring that a receiver filled before, if it is of the same frames; otherwise a new one."""
        given = {"slots": slots, "when_full": "drop_oldest", "keep": 0, "arena": None}

        def make(form: _wire.Form) -> _native.Ring:
            return old if old is not None and _fits(old, form, slots) else _new_ring(given, form)

        return self._joined(name, _link.deadline_in(timeout), given, make)

    def _joined(
        self, name: str, deadline: float, given: dict[str, Any], make: Callable[[_wire.Form], _native.Ring]
    ) -> _native.Ring:
        with self._begins:
            pump = self._pumps.get(name)
            if pump is None:
                about = self._about(name, deadline)
                form = _wire.form_in(about)
                _check_size(name, form, self.max_bytes)
                pump = _Pump(self, name, make(form), form, str(about.get("host"))[:64])
                pump.given, self._pumps[name] = given, pump
                pump.start()
            elif pump.given != given:
                raise ValueError(
                    f"expected ring {name!r} with {_texts(pump.given)}, as it was made first, got {_texts(given)}: "
                    "leave them as they were, or connect once more"
                )
        while not pump.has_joined.wait(_link.slice_of(deadline)):
            if time.monotonic() >= deadline:
                raise Timeout(f"{self.host} offers ring {name!r}, and did not let this process join before the timeout")
        return pump.ring

    def _about(self, name: str, deadline: float) -> dict[str, Any]:
        """Return what the one server says that offers a ring."""
        while not (found := self._told(_wire.about_key(name, None), deadline)):
            if time.monotonic() >= deadline:
                offered = sorted({token[1] for token in self.link.tokens("ring")})
                raise Timeout(
                    f"expected {self.link.endpoint} to offer ring {name!r}, got {', '.join(offered) or 'none'} before "
                    "the timeout: name it in net.serve there"
                )
            time.sleep(_link.slice_of(deadline, 0.2))
        if len({fields.get("run") for fields in found}) > 1:
            hosts = ", ".join(sorted(str(fields.get("host"))[:64] for fields in found))
            raise NameTaken(f"expected one server of ring {name!r} in this network, got several: {hosts}")
        return found[0]

    def loader(self, name: str, *, timeout: float | None = 60.0) -> Callable[[Any], NDArray[Any]]:
        """Return a `load` for a cache of this machine: a miss here is a hit or a load of the cache over there.

        The value comes from that cache, and is loaded there once for all who ask. A key that has no value there raises
        KeyError, as a loader of this machine does; any other error of the loader there raises FarLoadError. Raises
        Unreachable when nobody answers because no server offers the cache, and Timeout after `timeout` seconds.

        >>> import ndshare as nds
        >>> from ndshare import net
        >>> cache = nds.Cache("8 MiB", load=lambda key: [key, key])
        >>> with net.serve("tcp/127.0.0.1:17447", caches={"pairs": cache}):
        ...     with net.connect("tcp/127.0.0.1:17447") as far:
        ...         near = nds.Cache("8 MiB", load=far.loader("pairs"))
        ...         near[7]
        array([7, 7])
        """

        def load(key: Any) -> NDArray[Any]:
            return self._load(name, key, _link.deadline_in(timeout))

        return load

    def _load(self, name: str, key: Any, deadline: float) -> NDArray[Any]:
        asked = _native.key_bytes(key)
        try:
            for reply in self.link.ask(_wire.values_key(name), deadline, zenoh.Priority.DATA, payload=asked):
                if reply.ok is None:
                    self._raise(key, deadline, reply)
                else:
                    return self._value(reply.ok)
        except Timeout:
            raise Timeout(self._still_loading(name, key)) from None
        offered = sorted({token[1] for token in self.link.tokens("cache")})
        raise Unreachable(
            f"expected the cache {name!r} of {self.host} to answer, got no server that offers it, of what is offered: "
            f"{', '.join(offered) or 'none'}; is it started, and is the name right?"
        )

    def _still_loading(self, name: str, key: Any) -> str:
        return (
            f"expected the value of {key!r} in the cache {name!r} of {self.host}, got none before the timeout: it may "
            "still be loading there; ask again, or give far.loader a longer timeout"
        )

    def _raise(self, key: Any, deadline: float, reply: zenoh.Reply) -> None:
        payload = b"" if reply.err is None else reply.err.payload.to_bytes()
        if payload == b"Timeout" or (time.monotonic() >= deadline and not payload.startswith(b"{")):
            raise Timeout
        try:
            said = _wire.heard(payload)
        except _wire.Malformed:
            said = {"type": "Error", "text": payload[:200].decode("utf-8", "replace")}
        type_name, text, host = (str(said.get(field, "")) for field in ("type", "text", "host"))
        if type_name == "KeyError":
            raise KeyError(key)
        raise FarLoadError(type_name, text, host)

    def _value(self, sample: zenoh.Sample) -> NDArray[Any]:
        try:
            header = _wire.unpack(b"" if sample.attachment is None else sample.attachment.to_bytes())
            dtype = _wire.checked_array(header, len(sample.payload), self.max_bytes)
            items = _wire.unpacked(header, sample.payload.to_bytes())
        except _wire.Malformed as error:
            raise FarLoadError("Malformed", str(error), self.host) from None
        # In the arena, where this runs as a loader: this is the value then.
        value: NDArray[Any] = np.empty(header.shape, dtype)
        if items.size:
            value.reshape(-1).view(np.uint8)[:] = items
        return value

    @property
    def is_connected(self) -> bool:
        """Whether there is a link now. While there is none it is tried anew, about once a second."""
        if not self.link.is_mine:
            return False
        info = self.link.session.info
        return bool(info.peers_zid() or info.routers_zid())

    def stats(self) -> FarStats:
        """Return what came, as a plain dict: "host", "connected", and for each of "rings" a dict.

        That has "host", "state" ("open"; "waiting" for a server; "ended"; "failed", see "error"; "closed"), "received"
        frames and "bytes", "lost" frames as in the ring's own `stats`, "rejected" messages that were none of this
        protocol, "restarts" of the server, and the last "error".
        """
        rings = {name: pump.stats.copy() for name, pump in self._pumps.items()}
        return {"host": self.host, "connected": self.is_connected, "rings": rings}

    def close(self) -> None:
        """Close the link. The rings that it filled end."""
        if self._pid != os.getpid() or not self.link.is_mine:
            return
        _link.closing.discard(self)
        for pump in self._pumps.values():
            pump.stop()
        self.link.close()
        for pump in self._pumps.values():
            if pump.thread is not threading.current_thread():
                pump.thread.join(_link.CLOSE_WAIT)

    def __repr__(self) -> str:
        state = "connected" if self.is_connected else "not connected" if self.link.is_mine else "closed"
        rings = "".join(f", ring {name!r} {pump.stats['state']}" for name, pump in self._pumps.items())
        return f"<Far {self.host} at {self.link.endpoint}, {state}{rings}>"


def _names(fields: dict[str, Any], field: str) -> tuple[str, ...]:
    names = fields.get(field)
    return tuple(str(name)[:200] for name in cast("list[Any]", names)[:1000]) if isinstance(names, list) else ()


def _new_ring(given: dict[str, Any], form: _wire.Form) -> _native.Ring:
    return _native.Ring(form.shape, form.dtype, meta=_meta_with_origin(form.meta), **given)


def _fits(ring: _native.Ring, form: _wire.Form, slots: int) -> bool:
    """Tell whether frames of this form can go on in a ring that is there already."""
    found = (ring.shape, ring.dtype, ring.meta, ring.slots, ring.closed)
    return found == (form.shape, form.dtype, _meta_with_origin(form.meta), slots, False)


def _texts(given: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in given.items())


def _meta_with_origin(meta: np.dtype[Any] | None) -> Any:
    """Return the meta of a ring here: the fields of the one there, and where frames were made."""
    fields: list[Any] = []
    if meta is not None:
        if _origin.is_there(meta):
            return meta
        of_field = cast("dict[str, Any]", meta.fields)
        if _origin.FIELD in of_field:
            raise TypeError(f'expected meta without a field "{_origin.FIELD}", which says where frames come from')
        fields = [(name, of_field[name][0]) for name in meta.names or ()]
    return np.dtype([*fields, (_origin.FIELD, _origin.DTYPE)])


def _check_size(name: str, form: _wire.Form, most: int) -> None:
    """Refuse a ring whose every frame is too large: Zenoh throws such messages away without a word."""
    nbytes = 0 if form.shape is None else math.prod(form.shape) * form.dtype.itemsize
    if nbytes > most:
        raise ValueError(
            f"expected frames of ring {name!r} of at most max_bytes={most}, got {nbytes} bytes each: give connect more"
        )


def connect(
    endpoint: _link.Endpoints,
    *,
    timeout: float | None = 10.0,
    config: _link.Config = None,
    max_bytes: int = MOST_BYTES,
) -> Far:
    """Return the rings and caches that another machine offers by `serve`.

    `endpoint` is one of Zenoh such as ``"tcp/cam-host:7447"``. `config` is that of `serve`. A frame or a value of more
    than `max_bytes` is refused. A link that is cut is made anew.

    Raises Unreachable when there was no server for `timeout` seconds (None: never), with the reason as far as it is
    known; Incompatible when it speaks another protocol; ValueError for an endpoint or a setting of `config` that is
    none.

    >>> import ndshare as nds
    >>> from ndshare import net
    >>> ring = nds.Ring(3, "uint8", slots=4)
    >>> with net.serve("tcp/127.0.0.1:17448", rings={"cam0": ring}):
    ...     with net.connect("tcp/127.0.0.1:17448") as far:
    ...         frames = far.ring("cam0").reader()
    ...         ring.put([1, 2, 3])
    ...         frame = frames.get(timeout=10)
    ...         frame, frame.origin.seq
    0
    (Frame([1, 2, 3], dtype=uint8), 0)
    """
    return Far(endpoint, config, max_bytes, timeout)


for _thing in (Far, connect):
    _thing.__module__ = "ndshare.net"
