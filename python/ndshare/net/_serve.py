# pyright: reportPrivateUsage=false, reportUnknownMemberType=false
"""The side that offers: rings are read and published, values of caches are answered.

Zenoh waits for its slowest link, so a thread for each ring reads behind a queue of bounded length: the ring itself. A
ring that drops its oldest frames is read whole, and any other by a reader of the latest, which holds nobody back; what
was dropped shows as a gap in the numbers, and the other side counts it.
"""

from __future__ import annotations

import hashlib
import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, TypedDict, cast

from .. import _native
from .._cache import key_of
from .._closing import Closing
from .._errors import Closed, Empty, WriterDied
from .._waiting import LOOK_EVERY
from . import _claim, _engine, _link, _wire
from ._engine import zenoh
from ._errors import NameTaken
from ._link import Link

# Questions that wait for a loader; more are refused.
_MOST_QUESTIONS = 1024
_MOST_BYTES = 1 << 20  # of what is sent to a server: questions, with a key
_LOOK_EVERY = 0.2  # seconds between two looks whether the server was closed
_TELL_EVERY = 0.5  # seconds between two words about the newest number: what was lost may be followed by nothing


class RingSent(TypedDict):
    """What became of a ring's frames here."""

    sent: int
    bytes: int
    dropped: int
    unheard: int
    state: Literal["open", "ended", "failed"]
    error: str | None


class CacheSent(TypedDict):
    """What became of questions for a cache's values here."""

    values: int
    bytes: int
    failures: int


class ServerStats(TypedDict):
    """What a server did so far."""

    rings: dict[str, RingSent]
    caches: dict[str, CacheSent]
    rivals: list[str]
    engine: str


class _Sender:
    """A thread that reads one ring and publishes its frames."""

    def __init__(self, server: Server, name: str, ring: _native.Ring, hold_back: bool) -> None:
        self._server, self._name, self._ring = server, name, ring
        self.form = _wire.form_of(ring)
        # Where the ring waits for nobody, nothing here waits for a receiver.
        self._holds_back = hold_back and ring.when_full == "wait"
        self._reader = ring.reader(latest=not (hold_back or ring.when_full == "drop_oldest"))
        # Which ring it is, for whoever read it from another server before, and not where to find it.
        self.identity = hashlib.sha256(_claim.of_ring(ring)).hexdigest()[:32]
        self.begin = self.next = ring.stats()["written"]
        self._tell_at = 0.0
        self.stats: RingSent = {"sent": 0, "bytes": 0, "dropped": 0, "unheard": 0, "state": "open", "error": None}
        self.thread = threading.Thread(target=self._run, name=f"ndshare net {name}", daemon=True)

    def declare(self) -> None:
        link = self._server.link
        self._publisher = link.keep(
            link.session.declare_publisher(
                _wire.frames_key(self._name, self._server.run),
                congestion_control=_link.BLOCK,
                reliability=zenoh.Reliability.RELIABLE,
            )
        )
        answer = _link.in_place(self._about)
        link.keep(link.session.declare_queryable(_wire.about_key(self._name, self._server.run), answer))

    def linger(self, deadline: float) -> None:
        """Wait until all who listen have the end, if the ring has ended. They stop listening then."""
        while self._server.is_open and self._ring.closed and time.monotonic() < deadline:
            if self.stats["state"] != "open" and not self._publisher.matching_status.matching:
                return
            time.sleep(LOOK_EVERY / 5)

    def close(self, deadline: float) -> None:
        """Have the thread end, if there is one, and wait for it."""
        self._reader.close()
        if self.thread.ident is not None and self.thread is not threading.current_thread():
            self.thread.join(max(0.0, deadline - time.monotonic()))
        # Zenoh may keep what it calls for a while after the end; the ring is not kept with it.
        if not self.thread.is_alive():
            del self._ring, self._reader

    def _about(self, query: zenoh.Query) -> None:
        with query:
            fields = {**self._server.about, **self.form, "next": self.next, "state": self.stats["state"]}
            fields |= {"ring": self.identity, "begin": self.begin, "holds_back": self._holds_back}
            query.reply(_wire.about_key(self._name, self._server.run), _wire.told(fields))

    def _run(self) -> None:
        try:
            while self._server.is_open:
                self._send_next()
                if time.monotonic() >= self._tell_at:
                    self._tell(_wire.NEXT if self.stats["state"] == "open" else _wire.END)
        except Exception as error:
            if self._server.is_open:
                self.stats["state"], self.stats["error"] = "failed", f"{type(error).__name__}: {error}"
        finally:
            self._reader.close()

    def _send_next(self) -> None:
        """Send what comes next, if something comes soon."""
        try:
            frame = self._reader.get(timeout=_LOOK_EVERY)
        except Empty:
            return
        except WriterDied:
            self._tell(_wire.DIED)
        except Closed:
            # The ring; or the reader, by `close`.
            if self._server.is_open:
                self._end()
        else:
            message = self._counted(frame, frame.seq or 0)
            # What waits for the network holds no block of the arena, but where the engine sends out of that.
            del frame
            if message is not None:
                self._publisher.put(message[0], attachment=message[1])
                self.stats["sent"] += 1
                self.stats["bytes"] += len(message[0]) - _wire.SEAL

    def _end(self) -> None:
        """Say that nothing comes any more; until the server is closed that is told again, as the newest number was."""
        if self.stats["state"] == "open":
            written = self._ring.stats()["written"]
            self.stats["dropped"] += max(0, written - self.next)
            self.next, self.stats["state"] = written, "ended"
            self._tell(_wire.END)
        else:
            time.sleep(LOOK_EVERY)

    def _counted(self, frame: Any, seq: int) -> tuple[Any, bytes] | None:
        """Count a frame, and return it as a message; None if it is not sent."""
        self.stats["dropped"] += max(0, seq - self.next)
        self.next = seq + 1
        # Zenoh's stubs say that it is a bool; it is an object that has one.
        if not self._publisher.matching_status.matching:
            self.stats["unheard"] += 1
            return None
        try:
            return self._message(frame, seq)
        except Exception as error:
            # No memory for it, say. The other side sees a gap.
            self.stats["dropped"] += 1
            self.stats["error"] = f"{type(error).__name__}: {error}"
            return None

    def _message(self, frame: Any, seq: int) -> tuple[Any, bytes]:
        payload, flags = _wire.packed(frame, self._server.compress, _wire.seal(self._server.run, seq))
        meta = b"" if frame.meta is None else frame.meta.tobytes()
        time_ns = time.time_ns() - (time.monotonic_ns() - (frame.published_ns or 0))
        run, nbytes, dtype = self._server.run, frame.nbytes, _wire.dtype_text(frame.dtype)
        kind, note = _native.frame_note_parts(frame) or (None, b"")
        beside = (meta, _wire.NOTES.index(kind), note)
        header = _wire.Header(_wire.FRAME, flags, run, seq, time_ns, nbytes, frame.shape, dtype, *beside)
        return payload, _wire.pack(header)

    def _tell(self, kind: int) -> None:
        self._tell_at = time.monotonic() + _TELL_EVERY
        header = _wire.Header(kind, 0, self._server.run, self.next, time.time_ns(), 0, (0,), "|u1", b"")
        self._publisher.put(b"", attachment=_wire.pack(header))


class _Question(NamedTuple):
    """Somebody waits for the value of a key."""

    cache: str
    query: zenoh.Query


class _Answers:
    """Threads that answer for the caches."""

    def __init__(self, server: Server, caches: Mapping[str, _native.Cache], workers: int) -> None:
        self._server, self._caches = server, dict(caches)
        self.stats: dict[str, CacheSent] = {name: {"values": 0, "bytes": 0, "failures": 0} for name in caches}
        self._questions: queue.Queue[_Question | None] = queue.Queue(_MOST_QUESTIONS)
        self._count = threading.Lock()
        names = [f"ndshare net values {number}" for number in range(workers if caches else 0)]
        self.threads = [threading.Thread(target=self._run, name=name, daemon=True) for name in names]

    def declare(self) -> None:
        link = self._server.link
        for name in self._caches:
            answer = _link.in_place(partial(self._take, name))
            link.keep(link.session.declare_queryable(_wire.values_key(name), answer))

    def _take(self, name: str, query: zenoh.Query) -> None:
        said = (query.payload or b"", query.attachment or b"", str(query.parameters))
        if (size := sum(map(len, said))) > _wire.MOST_KEY:
            text = f"expected a key of at most {_wire.MOST_KEY} bytes, got {size}"
            _refuse(query, "Malformed", text, self._server.host)
        elif self._server.is_open:
            try:
                self._questions.put_nowait(_Question(name, query))
            except queue.Full:
                _refuse(query, "BlockingIOError", f"{_MOST_QUESTIONS} questions wait already", self._server.host)

    def stop(self) -> None:
        """Have the threads end, each after the question that it has."""
        try:
            while True:
                self._questions.get_nowait()
        except queue.Empty:
            pass
        for _ in self.threads:
            self._questions.put_nowait(None)
        # Zenoh may keep what it calls for a while after the end; the caches are not kept with it.
        self._caches.clear()

    def _run(self) -> None:
        while (question := self._questions.get()) is not None:
            self._answer(*question)
            del question

    def _answer(self, name: str, query: zenoh.Query) -> None:
        cache = self._caches.get(name)
        if cache is None:
            # The server closes. Who asked hears nothing, as from one that is not there.
            query.drop()
            return
        try:
            self._reply(name, cache, query)
        except BaseException as error:
            self._add(name, failures=1)
            text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
            _refuse(query, type(error).__name__, text, self._server.host)

    def _reply(self, name: str, cache: _native.Cache, query: zenoh.Query) -> None:
        asked = b"" if query.payload is None else query.payload.to_bytes()
        value = cache[_native.key_of_bytes(key_of, asked)]
        run, number = self._server.run, secrets.randbits(63)
        payload, flags = _wire.packed(value, self._server.compress, _wire.seal(run, number))
        dtype = _wire.dtype_text(value.dtype)
        header = _wire.Header(_wire.VALUE, flags, run, number, time.time_ns(), value.nbytes, value.shape, dtype, b"")
        attachment, nbytes = _wire.pack(header), len(payload) - _wire.SEAL
        # Before it is on its way, so that who has it finds it counted.
        self._add(name, values=1, nbytes=nbytes)
        try:
            with query:
                query.reply(query.key_expr, payload, attachment=attachment)
        except BaseException:
            self._add(name, values=-1, nbytes=-nbytes)
            raise

    def _add(self, name: str, *, values: int = 0, nbytes: int = 0, failures: int = 0) -> None:
        with self._count:
            stats = self.stats[name]
            stats["values"] += values
            stats["bytes"] += nbytes
            stats["failures"] += failures


def _refuse(query: zenoh.Query, type_name: str, text: str, host: str) -> None:
    """Answer that there is no value, and why. A link that is cut hears nothing."""
    try:
        with query:
            query.reply_err(_wire.told({"type": type_name[:100], "text": text[:2000], "host": host}))
    except zenoh.ZError:
        pass


class Server(Closing):
    """Rings and caches of this machine, offered to others. Made by `serve`; a context manager.

    It ends with `close`, and with its process, in whatever way. A forked child does not have it.

    >>> import ndshare as nds
    >>> from ndshare import net
    >>> server = net.serve("tcp/127.0.0.1:0", caches={"tiles": nds.Cache("1 MiB")})
    >>> server.stats()["caches"]["tiles"]["values"]
    0
    >>> server.close()
    """

    def __init__(
        self,
        listen: _link.Endpoints,
        *,
        rings: Mapping[str, _native.Ring],
        caches: Mapping[str, _native.Cache],
        config: _link.Config,
        compress: Literal["lz4"] | None,
        hold_back: bool,
        workers: int | None,
        timeout: float | None,
    ) -> None:
        rings, caches = _checked(rings, _native.Ring, "rings"), _checked(caches, _native.Cache, "caches")
        if not rings and not caches:
            raise ValueError("expected rings= or caches= to offer, got none: net.serve(listen, rings={'cam0': ring})")
        if compress is not None:
            if compress != "lz4":
                raise ValueError(f'expected compress="lz4" or None, got {compress!r}')
            _wire.lz4_block()
        self.compress: str | None = compress
        self.host, self.run = socket.gethostname(), secrets.randbits(63) | 1
        self.about: dict[str, Any] = {
            "ndshare": _native.__version__,
            "protocol": _wire.PROTOCOL,
            "host": self.host,
            "pid": os.getpid(),
            "run": self.run,
        }
        self._senders = {name: _Sender(self, name, ring, hold_back) for name, ring in rings.items()}
        self._answers = _Answers(self, caches, _checked_workers(workers))
        self._rivals: dict[int, str] = {}
        self._closes = threading.RLock()
        self.is_open = True
        try:
            guarded = _wire.guarded_keys(self.run, caches)
            self.link = Link("listen", listen, config, _MOST_BYTES, _link.deadline_in(timeout), guarded=guarded)
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        _link.closing.add(self)
        offered = [("ring", name) for name in self._senders] + [("cache", name) for name in self._answers.stats]
        self._refuse_taken(offered, 0)
        for sender in self._senders.values():
            sender.declare()
        self._answers.declare()
        hello = _link.in_place(self._hello)
        session = self.link.session
        self.link.keep(session.declare_queryable(_wire.HELLO, hello))
        for kind, name in offered:
            self.link.keep(session.liveliness().declare_token(_wire.live_key(kind, name, self.run)))
        # Of two that begin at the same instant one goes on.
        self._refuse_taken(offered, self.run)
        watch = _link.in_place(self._see)
        self.link.keep(session.liveliness().declare_subscriber(f"{_wire.LIVE}/*/*/*", watch))
        for thread in [*(sender.thread for sender in self._senders.values()), *self._answers.threads]:
            thread.start()

    def _refuse_taken(self, offered: list[tuple[str, str]], least: int) -> None:
        """Raise NameTaken where a run of a number beyond `least` offers what this one is to offer."""
        for kind, name, run in self.link.tokens():
            if (kind, name) in offered and run > least:
                raise NameTaken(
                    f"expected to be the only server of {kind} {name!r} in this network, got another one (run "
                    f"{run:016x}): close that one, or offer this under another name"
                )

    def _hello(self, query: zenoh.Query) -> None:
        with query:
            fields = {**self.about, "rings": sorted(self._senders), "caches": sorted(self._answers.stats)}
            query.reply(query.key_expr, _wire.told(fields))

    def _see(self, sample: zenoh.Sample) -> None:
        """Remember who offers what this one offers: two networks may become one."""
        token = _wire.of_live_key(str(sample.key_expr))
        if token is None or token[2] == self.run:
            return
        # A ring and a cache may have one name.
        if token[1] not in (self._senders if token[0] == "ring" else self._answers.stats):
            return
        if sample.kind == zenoh.SampleKind.PUT and len(self._rivals) < 64:
            self._rivals[token[2]] = f"{token[0]} {token[1]!r} of run {token[2]:016x}"
        else:
            self._rivals.pop(token[2], None)

    def stats(self) -> ServerStats:
        """Return what was sent, as a plain dict: of each ring, and of each cache.

        Of a ring "sent" frames and "bytes", "dropped" ones (the network was slower than the camera, so the reader
        dropped them; the other side counts them as lost), "unheard" ones (nobody was connected), "state" ("open",
        "ended" or "failed") and "error". Of a cache "values", "bytes" and "failures". "rivals" are other servers that
        offer the same names, which can only be when two networks became one. "engine" is "ndshare_zenoh" or "zenoh".
        """
        return {
            "rings": {name: sender.stats.copy() for name, sender in self._senders.items()},
            "caches": {name: stats.copy() for name, stats in self._answers.stats.items()},
            "rivals": sorted(self._rivals.values()),
            "engine": _engine.NAME,
        }

    def close(self, timeout: float = 5.0) -> None:
        """Offer nothing any more. The rings and caches go on; whoever reads them far away waits for another server.

        Rings that have ended are sent to their end before, for `timeout` seconds at the most, all together. A second
        call changes nothing; one in another thread waits for the first.
        """
        if self.about["pid"] != os.getpid():
            return
        deadline = time.monotonic() + timeout
        with self._closes:
            try:
                for sender in self._senders.values():
                    if sender.thread.ident is not None:
                        sender.linger(deadline)
            finally:
                self._end()

    def _end(self) -> None:
        # A signal's handler may have closed it while it was being closed.
        if not self.is_open:
            return
        self.is_open = False
        _link.closing.discard(self)
        self._answers.stop()
        if hasattr(self, "link"):
            self.link.close()
        deadline = time.monotonic() + _link.CLOSE_WAIT
        for sender in self._senders.values():
            sender.close(deadline)

    def __repr__(self) -> str:
        names = [f"ring {name!r}" for name in self._senders] + [f"cache {name!r}" for name in self._answers.stats]
        closed = "" if self.is_open else ", closed"
        return f"<Server at {self.link.endpoint} by {_engine.NAME}: {', '.join(names) or 'nothing'}{closed}>"


def _checked(offered: Mapping[str, Any], kind: type, what: str) -> dict[str, Any]:
    """Return what is offered, by name. Raises TypeError for what is none of these."""
    if not isinstance(cast("object", offered), Mapping):
        example = f"{what}={{'cam0': ...}}"
        raise TypeError(f"expected {what}= as a dict of names and {what}, got {type(offered).__name__}: pass {example}")
    for name, thing in offered.items():
        if not isinstance(cast("object", name), str) or not name:
            raise TypeError(f"expected names in {what}= as texts that are not empty, got {name!r}")
        if not isinstance(thing, kind):
            raise TypeError(f"expected {what}[{name!r}] to be a {kind.__name__}, got {type(thing).__name__}")
    return dict(offered)


def _checked_workers(workers: int | None) -> int:
    if workers is None:
        return min(8, 2 + len(os.sched_getaffinity(0)))
    if isinstance(workers, bool) or not isinstance(cast("object", workers), int):
        raise TypeError(f"expected workers= as a number of threads, or None, got {workers!r}")
    if workers < 1:
        raise ValueError(
            f"expected workers= of 1 or more threads, got {workers}: leave it out, and it is as many as pay"
        )
    return workers


def serve(
    listen: _link.Endpoints,
    *,
    rings: Mapping[str, _native.Ring] | None = None,
    caches: Mapping[str, _native.Cache] | None = None,
    config: _link.Config = None,
    compress: Literal["lz4"] | None = None,
    hold_back: bool = False,
    workers: int | None = None,
    timeout: float | None = 10.0,
) -> Server:
    """Offer rings and caches of this machine to others, which get them by `connect`.

    `listen` is an endpoint of Zenoh such as ``"tcp/0.0.0.0:7447"``, or several. `config` is a configuration of Zenoh,
    as the path of a file, as nested dicts, or as a `zenoh.Config`: TLS, user and password, other servers to connect to.
    With `compress` frames and values go as blocks of lz4. Where the network is slower than a ring, frames are dropped
    here, and counted on the other side; with `hold_back` a ring that waits for its readers waits for the network, too.
    `workers` threads load values for others. `timeout` bounds how long this takes.

    Raises NameTaken when another server of the network offers such a name; OSError when it cannot listen there, with
    what Zenoh says; ValueError for an endpoint or a setting of `config` that is none, and when there is nothing to
    offer; TypeError for arguments of other kinds, and for rings whose dtypes NumPy does not know.

    >>> import ndshare as nds
    >>> from ndshare import net
    >>> ring = nds.Ring((2, 3), "uint16", slots=4, when_full="drop_oldest")
    >>> with net.serve("tcp/127.0.0.1:0", rings={"cam0": ring}) as server:
    ...     server.stats()["rings"]["cam0"]["state"]
    'open'
    """
    return Server(
        listen,
        rings={} if rings is None else rings,
        caches={} if caches is None else caches,
        config=config,
        compress=compress,
        hold_back=hold_back,
        workers=workers,
        timeout=timeout,
    )


for _thing in (Server, serve):
    _thing.__module__ = "ndshare.net"
