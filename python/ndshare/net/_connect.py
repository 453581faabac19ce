# pyright: reportPrivateUsage=false, reportUnknownMemberType=false
"""The side that receives: frames come into a ring of this machine, values into a cache of this machine.

Of each other machine there is one object, whose link asks for values and for what there is. A ring with readers that
may have to be waited for has a link of its own, so that nothing else waits for them.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from .. import _native, _origin
from .._closing import Closing
from .._errors import Timeout
from . import _engine, _link, _wire
from ._engine import zenoh
from ._errors import FarLoadError, Incompatible, NameTaken, Unreachable
from ._link import Link
from ._pump import FarRing, Pump

MOST_BYTES = 1 << 30  # of a frame or a value, when it is unpacked


class FarStats(TypedDict):
    """What came over a link so far."""

    host: str
    connected: bool
    engine: str
    rings: dict[str, FarRing]


class Far(Closing):
    """The rings and caches of another machine. Made by `connect`; a context manager.

    Closing it ends the rings that it fills. A forked child does not have it.

    >>> import ndshare as nds
    >>> from ndshare import net
    >>> server = net.serve("tcp/127.0.0.1:7447", rings={"cam0": nds.Ring(3, "uint8", slots=4)})
    >>> far = net.connect("tcp/127.0.0.1:7447")
    >>> far.ring("cam0").shape, far.is_connected, far.stats()["rings"]["cam0"]["state"]
    ((3,), True, 'open')
    >>> far.close(), server.close()
    (None, None)
    """

    def __init__(self, endpoint: _link.Endpoints, config: _link.Config, max_bytes: int, timeout: float | None) -> None:
        self._pid = os.getpid()
        self._pumps: dict[str, Pump] = {}
        self._begins: dict[str, threading.Lock] = {}
        deadline = _link.deadline_in(timeout)
        self._new_link = partial(Link, "connect", endpoint, config, max_bytes)
        self.link = self._new_link(deadline)
        _link.closing.add(self)
        try:
            hello = self._hello(deadline)
        except BaseException:
            self.close()
            raise
        self.host = str(hello.get("host"))[:64]
        self.rings, self.caches = _names(hello, "rings"), _names(hello, "caches")

    def _told(self, key: str, deadline: float, key_of: Callable[[dict[str, Any]], str]) -> list[dict[str, Any]]:
        """Return what each server answers under its own key, as far as it comes soon.

        Strangers may answer, too. Raises Incompatible where there is an answer, and none is a server's.
        """
        found: list[dict[str, Any]] = []
        wrong: Incompatible | None = None
        with contextlib.suppress(Timeout):
            soon = min(deadline, time.monotonic() + 2.0)
            for reply in self.link.ask(key, soon, target=zenoh.QueryTarget.ALL):
                if reply.ok is None:
                    continue
                try:
                    fields = _wire.heard(reply.ok.payload.to_bytes())
                    _wire.check_protocol(fields, self.link.endpoint)
                    if str(reply.ok.key_expr) == key_of(fields):
                        found.append(fields)
                except Incompatible as error:
                    wrong = error
                except _wire.Malformed as error:
                    wrong = Incompatible(f"expected a server of ndshare at {self.link.endpoint}: {error}")
        if wrong is not None and not found:
            raise wrong
        return found

    def _hello(self, deadline: float) -> dict[str, Any]:
        while not (found := self._told(_wire.HELLO, deadline, lambda _: _wire.HELLO)):
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

        With ``when_full="wait"`` a frame waits for readers here for 5 seconds at the most. Then it is lost, and those
        that follow are at once, until readers read again. Raises Timeout when nobody offered the ring for `timeout`
        seconds, with the names that are offered; NameTaken when two servers do; Incompatible.
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
        begins = self._begins.setdefault(name, threading.Lock())
        if not begins.acquire(timeout=_link.slice_of(deadline, threading.TIMEOUT_MAX)):
            raise Timeout(f"another thread waits for ring {name!r} of {self.host}, and has not got it: wait longer")
        try:
            pump = self._pumps.get(name) or self._new_pump(name, deadline, given, make)
        finally:
            begins.release()
        if pump.given != given:
            raise ValueError(
                f"expected ring {name!r} with {_texts(pump.given)}, as it was made first, got {_texts(given)}: "
                "leave them as they were, or connect once more"
            )
        while not pump.has_joined.wait(_link.slice_of(deadline)):
            if time.monotonic() >= deadline:
                raise Timeout(f"{self.host} offers ring {name!r}, and did not let this process join before the timeout")
        # After the close, this says so.
        with self.link.used():
            return pump.ring

    def _new_pump(
        self, name: str, deadline: float, given: dict[str, Any], make: Callable[[_wire.Form], _native.Ring]
    ) -> Pump:
        about = self._about(name, deadline)
        form = _wire.form_in(about)
        _check_size(name, form, self.link.most)
        ring = make(form)
        link = self._new_link(deadline) if ring.when_full == "wait" else self.link
        pump = Pump(link, name, ring, form, given)
        self._pumps[name] = pump
        try:
            with self.link.used(), link.used():
                pump.start()
        except BaseException:
            # It was closed meanwhile, say.
            del self._pumps[name]
            self._end([pump])
            raise
        return pump

    def _end(self, pumps: list[Pump]) -> None:
        for pump in pumps:
            pump.stop()
        deadline = time.monotonic() + _link.CLOSE_WAIT
        for pump in pumps:
            # The thread ends its subscription, for which it needs the link.
            if pump.thread.ident is not None and pump.thread is not threading.current_thread():
                pump.thread.join(_link.slice_of(deadline, _link.CLOSE_WAIT))
        for pump in pumps:
            if pump.link is not self.link:
                pump.link.close()

    def _about(self, name: str, deadline: float) -> dict[str, Any]:
        """Return what the one server says that offers a ring."""

        def key_of(fields: dict[str, Any]) -> str:
            _wire.form_in(fields)
            return _wire.about_key(name, _wire.number_in(fields, "run"))

        while not (found := self._told(_wire.about_key(name, None), deadline, key_of)):
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
        >>> with net.serve("tcp/127.0.0.1:7447", caches={"pairs": cache}):
        ...     with net.connect("tcp/127.0.0.1:7447") as far:
        ...         near = nds.Cache("8 MiB", load=far.loader("pairs"))
        ...         near[7]
        array([7, 7])
        """

        def load(key: Any) -> NDArray[Any]:
            return self._load(name, key, _link.deadline_in(timeout))

        return load

    def _load(self, name: str, key: Any, deadline: float) -> NDArray[Any]:
        asked, values = _native.key_bytes(key), _wire.values_key(name)
        try:
            most = self.link.most + _wire.MOST_JSON
            # The server lets nobody else answer under this key; under one with wildcards anybody may.
            for reply in self.link.ask(values, deadline, most, zenoh.Priority.DATA, values, payload=asked):
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
            header = _wire.unpack(_wire.bounded(sample.attachment, _wire.MOST_HEADER))
            dtype = _wire.checked_array(header, len(sample.payload), self.link.most)
            items = _wire.unpacked(header, _engine.gathered(sample.payload))
        except _wire.Malformed as error:
            raise FarLoadError("Malformed", str(error), self.host) from None
        # In the arena, where this runs as a loader: this is the value then.
        value: NDArray[Any] = np.empty(header.shape, dtype)
        _engine.fill(value, items)
        return value

    @property
    def is_connected(self) -> bool:
        """Whether there is a link now. While there is none it is tried anew, about once a second."""
        if not self.link.is_mine:
            return False
        with contextlib.suppress(ValueError, zenoh.ZError):
            return self.link.is_up
        return False

    def stats(self) -> FarStats:
        """Return what came, as a plain dict: "host", "connected", "engine", and for each of "rings" a dict.

        The engine is "ndshare_zenoh" or "zenoh". A ring's dict has "host", "state" ("open"; "waiting" for a server;
        "ended"; "failed", see "error"; "closed"), "received" frames and "bytes", "lost" frames as in the ring's own
        `stats`, "rejected" messages that were none of this protocol, "restarts" of the server, and the last "error".
        """
        rings = {name: pump.stats.copy() for name, pump in self._pumps.items()}
        return {"host": self.host, "connected": self.is_connected, "engine": _engine.NAME, "rings": rings}

    def close(self) -> None:
        """Close the link. The rings that it filled end."""
        if self._pid != os.getpid() or not self.link.is_mine:
            return
        _link.closing.discard(self)
        self._end(list(self._pumps.values()))
        self.link.close()
        # Another thread may have begun one meanwhile. From now on it sees that the link is closed.
        self._end(list(self._pumps.values()))

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
    >>> with net.serve("tcp/127.0.0.1:7447", rings={"cam0": ring}):
    ...     with net.connect("tcp/127.0.0.1:7447") as far:
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
