# pyright: reportPrivateUsage=false, reportUnknownMemberType=false
"""A ring of this machine that is filled from another one.

Zenoh's threads put what comes into an inbox; one thread takes it out, in order, and writes the frames. It never waits
for the network; all that it is told is in that one queue, so nothing overtakes anything. Numbers count within a run of
the server: what is missing between two of them is lost, and counted in the ring itself.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from functools import partial
from typing import Any, Literal, NamedTuple, TypedDict, cast

import numpy as np

from .. import _native, _origin
from .._errors import ArenaFull, Closed, Error, Full
from .._waiting import LOOK_EVERY
from . import _claim, _engine, _link, _wire
from ._engine import zenoh
from ._link import Link

_QUEUE = 2  # frames that wait for a ring; what comes then waits in the network, or is lost
_MOST_EVENTS = 1024  # of what is no frame
_FULL_WAIT = 5.0  # seconds that a frame waits for readers here; longer, and the link would be closed
_SILENT = 5.0  # seconds without a word, of which a server has two each second; then it is asked anew what there is
_ANSWER_EVERY = 0.2  # seconds between two looks for who asks what becomes of the ring
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


class BridgeState(FarRing):
    """What came of a ring, and the process that fills it."""

    pid: int


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


_Event = _Frame | _Live | _About


class _Inbox:
    """What came for a ring, in order. Zenoh may keep what it calls for long after the end, so that is all it knows."""

    def __init__(self, most: int) -> None:
        self._most = most  # bytes of a frame with its note
        self._events: queue.SimpleQueue[_Event | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(_QUEUE)
        self.is_open = True
        self.is_stuck = False  # readers here have stopped
        self.holds_back = False  # the other side wants to wait for them

    def get(self, timeout: float) -> _Event | None:
        """Return what came next; None after the close. Raises Empty."""
        event = self._events.get(timeout=timeout)
        if isinstance(event, _Frame) and event.payload:
            self._room.release()
        return event

    def close(self) -> None:
        self.is_open = False
        with contextlib.suppress(queue.Empty):
            while True:
                self._events.get_nowait()
        self._events.put(None)

    # Called by Zenoh's threads

    def _put(self, event: _Event) -> None:
        if self.is_open and self._events.qsize() < _MOST_EVENTS:
            self._events.put(event)

    def _has_room(self) -> bool:
        """Tell whether a frame has room. The link waits for it, unless readers here have stopped.

        Of a frame that has none, the number of the next one tells.
        """
        while self.is_open:
            may_wait = self.holds_back or not self.is_stuck
            if self._room.acquire(timeout=LOOK_EVERY if may_wait else 0):
                return True
            if not may_wait:
                return False
        return False

    def see(self, sample: zenoh.Sample) -> None:
        token = _wire.of_live_key(str(sample.key_expr))
        if token is not None:
            self._put(_Live(token[2], sample.kind == zenoh.SampleKind.PUT))

    def take(self, run: int, key: str, sample: zenoh.Sample) -> None:
        # The server lets nobody else publish under this key; under one with wildcards anybody may.
        is_good = sample.attachment is not None and str(sample.key_expr) == key
        # Nothing holds back what has no payload, so its header is short.
        most = _wire.MOST_HEADER + (self._most if sample.payload else 0)
        header = _wire.bounded(sample.attachment, most) if is_good else b""
        frame = _Frame(run, header, sample.payload)
        if not frame.payload:
            # The end, say, which waits for nothing.
            self._put(frame)
        elif self._has_room():
            self._events.put(frame)

    def hear(self, run: int, key: str, reply: zenoh.Reply) -> None:
        if reply.ok is not None and str(reply.ok.key_expr) == key:
            self._put(_About(run, _wire.bounded(reply.ok.payload, _wire.MOST_JSON)))


class Pump:
    """A thread that writes what comes into a ring of this machine."""

    def __init__(self, link: Link, name: str, ring: _native.Ring, form: _wire.Form, given: dict[str, Any]) -> None:
        self.link, self._name, self.ring, self._form = link, name, ring, form
        self.given = given  # how the ring was asked for
        self._claim: _claim.Claim | None = None
        with contextlib.suppress(OSError):
            self._claim = _claim.Claim(_claim.of_ring(ring))
        self._answer_at = 0.0
        self._writer: _native.Writer | None = ring.writer()
        self._inbox = _Inbox(link.most)
        self._has_waited = False  # in vain, for readers here, and nothing was written since
        self._live: set[int] = set()
        self._run: int | None = None
        self._subscriber: Any = None
        self._watcher: Any = None
        self._heard_at = time.monotonic()
        self._renewals = 0  # of the link, when everything was declared
        self._least = 0  # the number after that of the last message that came
        self._expected: int | None = None  # the first number of which nobody knows yet whether it is lost
        self._first: int | None = None  # the first number that came of a run of which nothing is known yet
        # Which ring was read over there before, and what would have been its next number.
        self._identity: str | None = None
        self._next_there: int | None = None
        self._end: int | None = None
        self.has_joined = threading.Event()
        self.stats: FarRing = {
            "host": "", "state": "waiting", "received": 0, "bytes": 0, "lost": 0, "rejected": 0, "restarts": 0,
            "error": None,
        }  # fmt: skip
        self.thread = threading.Thread(target=self._work, name=f"ndshare net {name}", daemon=True)

    def start(self) -> None:
        self._renewals = self.link.renewals
        self.thread.start()
        self._watch()

    def _watch(self) -> None:
        """Hear of servers that come and go, and of those that are there."""
        link = self.link
        watch = _link.in_place(self._inbox.see)
        key = f"{_wire.LIVE}/ring/{_wire.name_key(self._name)}/*"
        self._watcher = link.keep(link.session.liveliness().declare_subscriber(key, watch, history=True))

    def _listen(self, run: int) -> None:
        key = _wire.frames_key(self._name, run)
        self._subscriber = self.link.subscribe(key, _link.in_place(partial(self._inbox.take, run, key)))

    # The thread

    def _work(self) -> None:
        try:
            while self._inbox.is_open and self.stats["state"] not in {"ended", "failed"}:
                self._step_on()
        except Closed:
            # By somebody here.
            pass
        except Exception as error:
            if self._inbox.is_open:
                self._fail(f"{type(error).__name__}: {error}")
        finally:
            self._leave()

    def _step_on(self) -> None:
        """Go one step, on a link that somebody may open anew meanwhile."""
        renewals = self._renewals
        try:
            if self.link.renewals != renewals:
                self._listen_anew()
            self._step()
        except zenoh.ZError:
            # The session is closed that was replaced.
            if self.link.renewals == renewals:
                raise

    def _step(self) -> None:
        if self._claim is not None and time.monotonic() >= self._answer_at:
            self._claim.answer(_wire.told(dict(self.stats)))
            self._answer_at = time.monotonic() + _ANSWER_EVERY
        try:
            event = self._inbox.get(_QUIET if self._end is not None else _ANSWER_EVERY)
        except queue.Empty:
            if self._end is not None:
                self._finish(self._end)
            elif time.monotonic() > self._heard_at + _SILENT:
                self._listen_anew()
            self.link.watch()
            return
        self._heard_at = time.monotonic()
        if isinstance(event, _Frame | _About):
            self.link.note_heard()
        if isinstance(event, _Live):
            self._follow(event)
        elif event is None or event.run != self._run:
            return
        elif isinstance(event, _Frame):
            self._receive(event)
        else:
            self._learn(event)

    def _listen_anew(self) -> None:
        """Declare everything once more: after a cut, what was told before may not count over there any more."""
        self._heard_at = time.monotonic()
        self._renewals = self.link.renewals
        if self._watcher is not None:
            self.link.forget(self._watcher)
        if self._subscriber is not None and self._run is not None:
            self.link.forget(self._subscriber)
            self._listen(self._run)
        self._watch()

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
        if self._subscriber is not None:
            self.link.forget(self._subscriber)
            self.stats["restarts"] += 1
        if self._expected is not None:
            self._next_there = self._expected
        self._run, self._least, self._expected, self._first, self._end = run, 0, None, None, None
        self._listen(run)
        self.stats["state"] = "waiting"
        self._ask(run)

    def _ask(self, run: int) -> None:
        key = _wire.about_key(self._name, run)
        hear = _link.in_place(partial(self._inbox.hear, run, key))
        self.link.session.get(key, hear, timeout=10.0, priority=_link.ASK, congestion_control=_link.BLOCK)

    def _learn(self, about: _About) -> None:
        try:
            fields = _wire.heard(about.text)
            _wire.check_protocol(fields, self.link.endpoint)
            form, number, begin = _wire.form_in(fields), *(_wire.number_in(fields, name) for name in ("next", "begin"))
        except (_wire.Malformed, Error) as error:
            return self._fail(str(error))
        if form != self._form:
            return self._fail(f"expected the frames of before, {self._form}, got a server whose ring has {form}")
        if self._expected is None or self._first is not None:
            self._begin_at(self._begin_of(str(fields.get("ring"))[:64], number, begin))
        self._inbox.holds_back = self.ring.when_full == "wait" and fields.get("holds_back") is True
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
            if header.kind != _wire.FRAME:
                _wire.checked_array(header, len(message.payload), 0)
            if header.kind == _wire.NEXT and header.run == self._run and header.number <= self._least:
                return
            if header.run != self._run or header.number < self._least:
                raise _wire.Malformed(f"expected number {self._least} or later of run {self._run}, got {header.number}")
            if self._expected is not None and header.number > self._expected + _wire.MOST_GAP:
                raise _wire.Malformed(f"expected a number soon after {self._expected}, got {header.number}")
            if header.kind == _wire.FRAME:
                self._receive_frame(header, message.payload)
            elif header.kind == _wire.END:
                self._finish(header.number)
            elif header.kind in {_wire.NEXT, _wire.DIED}:
                self._count_to(header.number, header.number)
                if header.kind == _wire.DIED:
                    self._die()
        except (_wire.Malformed, TypeError, ValueError, OverflowError) as error:
            # If its number was true the next one shows the gap.
            self.stats["rejected"] += 1
            self.stats["error"] = str(error)

    def _receive_frame(self, header: _wire.Header, payload: zenoh.ZBytes) -> None:
        dtype = _wire.checked_array(header, len(payload), self.link.most)
        meta = self._record(header)
        items = _wire.unpacked(header, _engine.gathered(payload))
        self._count_to(header.number, header.number + 1)
        if self._writer is None:
            self._writer = self.ring.writer()
        try:
            self._write(self._writer, header, dtype, items, meta)
        except (Full, ArenaFull, ValueError, TypeError, OverflowError) as error:
            # It came, and found no room here.
            self._lose(1)
            self.stats["error"] = f"{type(error).__name__}: {error}"
        else:
            self.stats["received"] += 1
            self.stats["bytes"] += len(payload) - (_wire.SEAL if header.flags & _wire.SEALED else 0)

    def _write(
        self, writer: _native.Writer, header: _wire.Header, dtype: np.dtype[Any], items: Any, meta: dict[str, Any]
    ) -> None:
        """Write a frame. It waits for readers here; if that was in vain, no other one waits until they read again."""
        for timeout in (0.0, _FULL_WAIT):
            try:
                with writer.write(header.shape, dtype, timeout=timeout, note_bytes=len(header.note)) as frame:
                    _engine.fill(frame, items)
                    frame.meta = meta
                    if (kind := _wire.NOTES[header.note_kind]) is not None:
                        _native.set_frame_note_parts(frame, kind, header.note)
            except (Full, ArenaFull):
                self._inbox.is_stuck = True
                if timeout or self._has_waited:
                    self._has_waited = True
                    raise
            else:
                self._inbox.is_stuck = self._has_waited = False
                return

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
        if self._claim is not None:
            self._claim.close()
        if self.stats["state"] not in {"ended", "failed"}:
            self.stats["state"] = "closed"
        with contextlib.suppress(Error, zenoh.ZError, ValueError):
            self.stop()
            # Whoever sends sees by this that the end has come.
            if self._subscriber is not None:
                self._subscriber.undeclare()

    def stop(self) -> None:
        """Have the thread end, also one that waits for readers here."""
        self._inbox.close()
        with contextlib.suppress(Error):
            self.ring.close()


def bridge_of(ring: _native.Ring, timeout: float | None = 10.0) -> BridgeState | None:
    """Return what becomes of a ring that is filled from another machine; None if nobody fills it, or not from there.

    It is asked of the process that does: "pid", and what its `far.stats` says of the ring. While the camera is away, or
    the link is cut, a ring has no writer or nothing comes; that is told here from a bridge that was killed, which is
    None. Raises Timeout when the process did not answer for `timeout` seconds: it is stopped, say.

    >>> import ndshare as nds
    >>> from ndshare import net
    >>> ring = nds.Ring(3, "uint8", slots=4)
    >>> with net.serve("tcp/127.0.0.1:7447", rings={"cam0": ring}):
    ...     with net.connect("tcp/127.0.0.1:7447") as far:
    ...         near = far.ring("cam0")
    ...         net.bridge_of(near)["state"], net.bridge_of(ring)
    ('open', None)
    >>> net.bridge_of(near)
    """
    if not isinstance(cast("object", ring), _native.Ring):
        raise TypeError(f"expected a ring, got {type(ring).__name__}: pass what far.ring or nds.attach returned")
    answer = _claim.asked(_claim.of_ring(ring), _link.deadline_in(timeout))
    if answer is None:
        return None
    pid, said = answer
    return cast("BridgeState", {**_wire.heard(said), "pid": pid})


bridge_of.__module__ = "ndshare.net"
