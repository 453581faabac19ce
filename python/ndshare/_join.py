# pyright: reportPrivateUsage=false
"""Frames of several rings that belong together: `join`. What belongs together `_matching` finds, from stamps alone.

Here are the frames, the clock and the wait. A `Join` takes frames from its readers when somebody asks for a set, always
from the one that is farthest behind, so that few frames wait in it. Nothing of it runs meanwhile. A wait is that of the
kernel on one epoll set: it holds the descriptors of the readers, and a timer for whoever waits on the join's own.
"""

from __future__ import annotations

import os
import select
import threading
import time
import warnings
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypedDict, TypeVar, cast, overload

import numpy as np

from ._closing import Closing
from ._errors import Closed, Empty, WriterDied
from ._matching import Match, Matcher, unmatched
from ._native import Alarm, Reader
from ._ring import readable
from ._waiting import slices

if TYPE_CHECKING:
    from ._matching import _State, _Why
    from ._ring import Frame

_NS = 1_000_000_000
_Default = TypeVar("_Default")
# Later than any clock comes to: a wait without an end.
_NEVER = 1 << 62
# Of so many offsets the median counts, and clocks that differ by less are not told of.
_MEDIAN_OF, _CLOCKS_DIFFER = 9, _NS
# How many frames of a reader wait if nothing is said of that: as many as these bytes hold, within bounds.
_MOST_BYTES, _FEWEST_FRAMES, _MOST_FRAMES = 128 << 20, 16, 1024


class FrameSet(Sequence["Frame[Any] | None"]):
    """The frames that belong together, one of each reader in the order of the readers; None for one that is missing.

    Of readers with names it is also a mapping, and an instance of `collections.abc.Mapping`: ``frames["left"]``,
    ``"left" in frames``, ``dict(frames)``, ``f(**frames)``. But a loop over it gives the frames, as of a tuple; `keys`
    are the names.

    `missing` says of which readers no frame is here, and why: ``"no match"`` (its camera went on, and no frame was near
    enough), ``"overrun"`` (it was not waited for, as too many frames were waiting), ``"frozen"``, ``"died"`` or
    ``"closed"``. `names` are the names of all readers, or their places; `lead` is
    the one whose frame the others are near to, and `time_ns` the time of that. `spread` is how far its frames lie
    apart, in seconds or in the units of the field, and `seq` the number of the set, from 0.

    >>> import ndshare as nds
    >>> rings = {"left": nds.Ring(2, "u1", slots=4), "right": nds.Ring(2, "u1", slots=4)}
    >>> with nds.join({name: ring.reader() for name, ring in rings.items()}, within=0.005) as sets:
    ...     seq = rings["left"].put([1, 2], time_ns=1_000_000), rings["right"].put([3, 4], time_ns=3_000_000)
    ...     for ring in rings.values():
    ...         ring.close()
    ...     for frames in sets:
    ...         print(frames["left"], frames["right"], frames.time_ns, frames.spread, frames.missing)
    ...         print([name for name, frame in frames.items() if frame is not None])
    ...         print(frames.keys(), [frame.seq for frame in frames.values()], frames.get("top"))
    [1 2] [3 4] 1000000 0.002 {}
    ['left', 'right']
    ('left', 'right') [0, 0] None
    """

    __slots__ = ("_frames", "lead", "missing", "names", "seq", "spread", "time_ns")

    def __init__(
        self,
        names: tuple[str | int, ...],
        frames: tuple[Frame[Any] | None, ...],
        missing: Mapping[str | int, _Why],
        *,
        lead: str | int,
        seq: int,
        spread: float,
    ) -> None:
        self._frames = frames
        self.names: Final = names
        self.missing: Final = missing
        self.lead: Final = lead
        self.seq: Final = seq
        self.spread: Final = spread
        self.time_ns: Final[int] = cast("Any", frames[names.index(lead)]).time_ns

    @overload
    def __getitem__(self, key: int | str) -> Frame[Any] | None: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Frame[Any] | None, ...]: ...
    def __getitem__(self, key: int | str | slice) -> Any:
        if isinstance(key, str):
            if key not in self.names:
                raise KeyError(f"expected one of the readers {list(self.names)}, got {key!r}")
            key = self.names.index(key)
        return self._frames[key]

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[Frame[Any] | None]:
        return iter(self._frames)

    def __contains__(self, frame: object) -> bool:
        """Tell whether a name is one of the readers', or a frame is here."""
        if isinstance(frame, str):
            return frame in self.names
        # Arrays are compared item by item.
        return any(frame is mine for mine in self._frames)

    def index(self, value: object, start: int = 0, stop: int | None = None) -> int:
        """Return the first place of a frame, or of None. Raises ValueError if it is not here.

        Two frames that are alike are not the same: a place is found by identity.

        >>> import ndshare as nds
        >>> rings = [nds.Ring(2, "u1", slots=4) for _ in range(2)]
        >>> sets = nds.join([ring.reader() for ring in rings], within=1.0)
        >>> for ring in rings:
        ...     _ = ring.put([1, 2])
        >>> frames = sets.get(timeout=5)
        >>> frames.index(frames[1])
        1
        """
        # By identity, as in `__contains__`.
        for place in range(len(self))[start:stop]:
            if self._frames[place] is value:
                return place
        raise ValueError(f"expected a frame of this set, got another {type(value).__name__}")

    def count(self, value: object) -> int:
        """Return how often a frame, or None, is here, by identity as in `index`.

        >>> import ndshare as nds
        >>> rings = [nds.Ring(2, "u1", slots=4) for _ in range(2)]
        >>> sets = nds.join([ring.reader() for ring in rings], within=1.0)
        >>> for ring in rings:
        ...     _ = ring.put([1, 2])
        >>> frames = sets.get(timeout=5)
        >>> frames.count(frames[0])
        1
        """
        return sum(mine is value for mine in self._frames)

    # Any: a call with ** wants str.
    def keys(self) -> tuple[Any, ...]:
        """Return the names of the readers, or their places."""
        return self.names

    def values(self) -> tuple[Frame[Any] | None, ...]:
        """Return the frames, in the order of the readers."""
        return self._frames

    @overload
    def get(self, key: str | int) -> Frame[Any] | None: ...
    @overload
    def get(self, key: str | int, default: _Default) -> Frame[Any] | _Default | None: ...
    def get(self, key: str | int, default: Any = None) -> Any:
        """Return the frame of a reader, None if it is missing, and `default` if there is no such reader."""
        return self[key] if key in self.names else default

    def items(self) -> list[tuple[str | int, Frame[Any] | None]]:
        """Return name and frame of each reader."""
        return list(zip(self.names, self._frames, strict=True))

    @property
    def complete(self) -> bool:
        """Whether each reader has a frame here."""
        return not self.missing

    def __repr__(self) -> str:
        there = {name: frame.seq for name, frame in self.items() if frame is not None}
        lack = f", missing {dict(self.missing)}" if self.missing else ""
        return f"<FrameSet {self.seq} of frames {there}, spread {self.spread:.6g}{lack}>"


class _NamedFrameSet(FrameSet):
    """A set of readers with names: what asks for a Mapping takes it."""

    __slots__ = ()


cast("Any", Mapping).register(_NamedFrameSet)


class JoinedStats(TypedDict):
    """What `Join.stats` says of one reader."""

    name: str | int
    state: _State
    frames: int
    matched: int
    unmatched: int
    late: int
    overrun: int
    disordered: int
    waiting: int
    lag: int
    missed: int
    offset: float | None


class JoinStats(TypedDict):
    """What `Join.stats` says."""

    sets: int
    complete: int
    incomplete: int
    readers: list[JoinedStats]


class _Terms:
    """What a join was asked for, parsed: units, the order of leading, and how a frame says its stamp."""

    def __init__(
        self,
        readers: Sequence[Reader[Any]],
        names: tuple[str | int, ...],
        by: str,
        lead: str | int | None,
    ) -> None:
        self.by: Final = by
        self.names: Final = names
        self.unit: Final = _NS if by == "time_ns" else 1
        for name, reader in zip(names, readers, strict=True):
            _check_reader(name, reader, by)
        first = names[0] if lead is None else lead
        if first not in names:
            raise ValueError(f"expected lead to be one of the readers {list(names)}, got {lead!r}")
        # Streams are numbered in the order of leading; a place is that of a reader.
        at = names.index(first)
        self.places: Final = (at, *(place for place in range(len(names)) if place != at))

    def length(self, what: str, given: Any) -> Any:
        """Return a distance as stamps have it."""
        if isinstance(given, np.generic):
            # A number of NumPy would overflow in its own size beside a stamp.
            given = cast("Any", given).item()
        if not isinstance(given, (int, float)) or not given >= 0 or given == float("inf"):
            unit = "seconds" if self.unit == _NS else f"the units of {self.by}"
            raise ValueError(f"expected {what} to be a number, 0 or more, in {unit}, got {given!r}")
        return _nanoseconds(given) if self.unit == _NS else given

    def stamp_of(self) -> Callable[[Any], Any]:
        """Return what says a frame's stamp."""
        by = self.by
        return attrgetter(by) if by in {"time_ns", "seq"} else lambda frame: frame.meta[by].item()


def _nanoseconds(seconds: float) -> int:
    """Return a time in nanoseconds; a longer one than any is as long as there is."""
    return round(min(seconds * _NS, _NEVER))


def _check_reader(name: str | int, reader: object, by: str) -> None:
    if not isinstance(reader, Reader):
        hint = ": give ring.reader()" if hasattr(reader, "reader") else ""
        raise TypeError(f"expected readers of rings, got {type(reader).__name__} for {name!r}{hint}")
    mode, _, meta = reader._facts()
    if mode == "group":
        raise ValueError(
            f"expected readers of every frame, got a member of a group for {name!r}: it has done with a frame when it "
            "asks for the next, and a join keeps several; give ring.reader()"
        )
    if by in {"time_ns", "seq"}:
        return
    field = None if meta is None or meta.names is None else meta.fields.get(by)  # type: ignore[union-attr]
    if field is None or field[0].kind not in "iuf":
        raise ValueError(
            f'expected by to be "time_ns", "seq" or a field of numbers in the meta of each ring, got {by!r}, and the '
            f"meta of {name!r} is {meta}"
        )


def _named(readers: Any) -> tuple[list[Any], tuple[str | int, ...]]:
    """Return readers and their names."""
    if isinstance(readers, Mapping):
        given = cast("Mapping[Any, Any]", readers)
        names, found = tuple(given), list(given.values())
        if any(not isinstance(name, str) for name in names):
            raise TypeError(f"expected names of readers to be str, got {list(names)}")
    else:
        found = list(readers)
        names = tuple(range(len(found)))
    if not found:
        raise ValueError("expected readers, got none: give a list or a dict of them")
    if len({id(reader) for reader in found}) < len(found):
        raise ValueError("expected each reader once: make one for each place")
    return found, names


class Join(Closing):
    """Sets of frames of several rings: what `join` makes. Iterate over it, or call `get`.

    >>> import ndshare as nds
    >>> rings = [nds.Ring(2, "u1", slots=4) for _ in range(2)]
    >>> sets = nds.join([ring.reader() for ring in rings], within=1.0)
    >>> for ring in rings:
    ...     with ring:
    ...         seq = ring.put([7, 7])
    >>> import select
    >>> select.select([sets.fileno()], [], [], 5)[0] == [sets.fileno()]
    True
    >>> left, right = sets.get(timeout=5)
    >>> left.seq, right.seq, sets.stats()["complete"]
    (0, 0, 1)
    >>> sets.close()
    >>> sets.closed
    True
    """

    def __init__(
        self,
        readers: Mapping[str, Reader[Any]] | Sequence[Reader[Any]],
        within: float,
        by: str,
        *,
        lead: str | int | None,
        deadline: float | None,
        limit: int | None,
        apart: float,
    ) -> None:
        found, names = _named(readers)
        self._terms = terms = _Terms(found, names, by, lead)
        if deadline is not None and not 0 < deadline < float("inf"):
            raise ValueError(f"expected deadline in seconds, more than 0, or None, got {deadline!r}")
        if limit is not None and limit < 2:
            raise ValueError(f"expected a limit of 2 frames or more, or None, got {limit!r}")
        self._deadline_ns = _NEVER if deadline is None else _nanoseconds(deadline)
        most = _MOST_FRAMES if limit is None else limit
        self._matcher = Matcher(len(found), terms.length("within", within), most, terms.length("apart", apart))
        # How far the last stamps of each were ahead of this machine's clock at publication; empty: by other than time.
        self._offsets: list[deque[int]] = [deque(maxlen=_MEDIAN_OF) for _ in found] if by == "time_ns" else []
        self._doubt: str | None = None
        self._is_doubt_told = False
        # The bytes of the largest frame of each that came while several waited; None: the limit was given.
        self._largest = None if limit is not None else [0] * len(found)
        self._stamp_of = terms.stamp_of()
        self._readers: list[Reader[Any]] = [found[place] for place in terms.places]
        self._pid = os.getpid()
        # Held while frames are taken, and never during a wait.
        self._lock = threading.Lock()
        self._ready: Match | None = None
        self._sets = self._complete = 0
        self._death: WriterDied | None = None
        self._is_closed = False
        self._is_watched = self._is_armed = False
        # One for each call of `get` that goes on: a list, as its ends are moved in one step.
        self._callers: list[None] = []
        self._alarm = Alarm()
        self._poll = select.epoll()
        self._poll.register(self._alarm.fileno(), select.EPOLLIN)
        self._by_fd = {reader.fileno(): stream for stream, reader in enumerate(self._readers)}
        for descriptor in self._by_fd:
            self._poll.register(descriptor, select.EPOLLIN)

    # ---- what users call

    def get(self, timeout: float | None = None) -> FrameSet:
        """Return the next set, once it is decided.

        Raises Empty when none was for `timeout` seconds (None: wait for ever), which says of whom nothing came; Closed
        when all rings were closed and every set was given, or this was closed; WriterDied, once, when the last writers
        of all rings that are not closed died: call `get` again to wait for their successors. Warns once, when cameras
        have found no partner and their stamps are of different clocks.
        """
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"expected a timeout in seconds, 0 or more, or None, got {timeout}")
        if self._pid != os.getpid():
            raise RuntimeError(f"the join belongs to process {self._pid}, which made it: make one in each process")
        if self._doubt is not None:  # at the call after the set that told, as a warning may be an error
            doubt, self._doubt = self._doubt, None
            warnings.warn(doubt, RuntimeWarning, stacklevel=2)
        self._callers.append(None)
        try:
            return self._get(timeout)
        finally:
            self._callers.pop()

    def fileno(self) -> int:
        """Return a descriptor for selectors, Qt and asyncio: readable while there may be a set, or the end, to get.

        Now and then it is readable for nothing, so use ``get(timeout=0)`` and expect Empty. It belongs to the join.
        """
        if self._is_closed:
            raise _was_closed()
        self._is_watched = True
        with self._lock:
            self._arm()
        return self._poll.fileno()

    def stats(self) -> JoinStats:
        """Return what was found, as a plain dict: "sets", "complete" and "incomplete" ones, and "readers".

        "readers" is a list of dicts in the order of the readers: "name", "state" ("live", "frozen", "died" or
        "closed"), "frames" that came here, those of them in sets ("matched"), in none ("unmatched"), and "waiting";
        "lag" (waiting here or in the ring), and "missed" (the ring had no room for them). Of the unmatched some are
        told apart: "late" (their set was out), "overrun" (`limit` others waited) and "disordered" (a stamp before that
        of the one before). "offset" says how many seconds the stamps are ahead of the clock of this machine when their
        frames are published, as the median of the last nine; None without frames, or by other than time.
        """
        # Without the lock: a signal handler may ask in the thread that has it.
        places = sorted(range(len(self._readers)), key=self._terms.places.__getitem__)
        readers = [self._stats_of(stream) for stream in places]
        sets, complete = self._sets, self._complete
        return {"sets": sets, "complete": complete, "incomplete": sets - complete, "readers": readers}

    def close(self) -> None:
        """Close the readers, and let go of the frames that wait. Who waits in `get` gets Closed."""
        self._is_closed = True
        for reader in self._readers:
            reader.close()
        self._alarm.set(0)
        # Who has the lock lets go of the frames itself; a signal handler may be in the same thread as that.
        if self._lock.acquire(blocking=False):
            try:
                self._let_go()
            finally:
                self._lock.release()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._is_closed

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> FrameSet:
        try:
            return self.get()
        except Closed:
            raise StopIteration from None

    def __aiter__(self) -> AsyncIterator[FrameSet]:
        return _stream(self)

    def __reduce__(self) -> Any:
        raise TypeError("a join belongs to its process: send the readers, and join them where the sets are used")

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else f"{self._sets} sets, {self._matcher.waiting()} frames waiting"
        return f"<Join of {list(self._terms.names)} by {self._terms.by}, {state}>"

    # ---- under the lock

    def _step(self) -> Match | None:
        """Return the next set if it is decided. Raises what `get` does at the end."""
        if self._is_closed:
            self._let_go()
            raise _was_closed()
        match, self._ready, matcher = self._ready, None, self._matcher
        # Nothing is late while there is more in the rings: whoever asks seldom finds them full.
        while match is None:
            if matcher.states.count("live") < len(matcher.states):
                self._revive()
            match = matcher.next(0) if matcher.may_find() else None
            if match is None and not self._take_one():
                match = matcher.next(time.monotonic_ns())
                if match is None:
                    self._check_end()
                return match
        return match

    def _revive(self) -> None:
        """Take a frame of each that is frozen or died: nobody waits for those, but what is in the ring counts."""
        for stream, state in enumerate(self._matcher.states):
            # Who gets sets as fast as it asks never waits, and would not hear of a death otherwise.
            if state in {"frozen", "died"} and not self._take_of(stream) and state == "frozen":
                self._hear(stream)

    def _take_one(self) -> bool:
        """Take a frame of the reader that is farthest behind of those that have one."""
        first = self._matcher.farthest_behind()
        return first is not None and (self._take_of(first) or self._take_of_any())

    def _take_of_any(self) -> bool:
        silent: list[int] = []
        for stream in self._matcher.order():
            if self._matcher.states[stream] == "closed":
                continue
            # Rather than be full for one that died unheard, ask.
            if self._matcher.is_nearly_full(stream) and any(map(self._hear, silent)):
                return True
            if self._take_of(stream):
                return True
            silent.append(stream)
        return False

    def _take_of(self, stream: int) -> bool:
        """Take the next frame of a reader, or its end. False: there is nothing yet."""
        try:
            frame = self._readers[stream]._soon()
        except Closed:
            self._end(stream, "closed")
            return True
        if frame is None:
            return False
        self._push(stream, frame)
        return True

    def _push(self, stream: int, frame: Any) -> None:
        matcher, published = self._matcher, frame.published_ns
        # Before there are as many as may wait in any case, their size does not matter.
        if len(matcher.queues[stream]) >= _FEWEST_FRAMES - 2:
            self._set_limit(stream, frame.nbytes)
        stamp = self._stamp_of(frame)
        if self._offsets:
            self._offsets[stream].append(stamp - published)
        matcher.push(stream, stamp, published + self._deadline_ns, frame)

    def _set_limit(self, stream: int, nbytes: int) -> None:
        """Have as many frames wait as the bytes of the largest allow, unless a limit was given."""
        if self._largest is not None and nbytes > self._largest[stream]:
            self._largest[stream] = nbytes
            self._matcher.limits[stream] = _as_many(nbytes)

    def _hear(self, stream: int) -> bool:
        """Ask a reader that may have a frame, the end, or a death to tell. False: it has nothing."""
        try:
            self._push(stream, self._readers[stream].get(0))
        except Empty:
            return False
        except Closed:
            self._end(stream, "closed")
        except WriterDied as death:
            self._death = death
            self._matcher.end(stream, "died")
        return True

    def _end(self, stream: int, state: Literal["closed"]) -> None:
        self._matcher.end(stream, state)
        # From here on it would be readable for ever.
        for descriptor in [fd for fd, known in self._by_fd.items() if known == stream]:
            del self._by_fd[descriptor]
            if not self._readers[stream].closed:
                self._poll.unregister(descriptor)

    def _check_end(self) -> None:
        states = set(self._matcher.states)
        if self._matcher.waiting() or not states <= {"closed", "died"}:
            return
        if states == {"closed"}:
            raise Closed("every ring of the join was closed, and every set was given")
        death, self._death = self._death, None
        if death is not None:
            raise death

    def _arm(self) -> None:
        """Have the descriptor be readable when there is something that no reader's descriptor tells of.

        For who watches it, and for other threads that wait: what this one took no descriptor tells them.
        """
        if self._is_closed:
            return
        if self._is_watched or len(self._callers) > 1:
            self._is_armed = True
            self._alarm.set(self._until_news())
        elif self._is_armed:
            self._is_armed = False
            self._alarm.set(None)
        if self._is_closed:  # meanwhile, and this may have undone its alarm
            self._alarm.set(0)

    def _until_news(self) -> float | None:
        """Return in how many seconds there is something to get without another frame; None for never."""
        if self._ready is None:
            self._ready = self._matcher.next(0)
        if self._ready or set(self._matcher.states) == {"closed"}:
            return 0
        due = self._matcher.due()
        return None if due is None or due >= _NEVER else max(0, due - time.monotonic_ns()) / _NS

    def _let_go(self) -> None:
        self._ready = None
        for queue in self._matcher.queues:
            queue.clear()

    def _set_of(self, match: Match) -> FrameSet:
        names, places = self._terms.names, self._terms.places
        frames: list[Frame[Any] | None] = [None] * len(places)
        stamps: list[Any] = []
        for place, entry in zip(places, match.entries, strict=True):
            if entry is not None:
                frames[place] = entry.item
                stamps.append(entry.stamp)
        missing: dict[str | int, _Why] = {names[places[stream]]: why for stream, why in match.missing.items()}
        seq, self._sets = self._sets, self._sets + 1
        self._complete += not missing
        if missing and self._offsets and not self._is_doubt_told:
            self._compare_clocks(match)
        spread = (max(stamps) - min(stamps)) / self._terms.unit
        kind = _NamedFrameSet if isinstance(names[0], str) else FrameSet
        return kind(names, tuple(frames), missing, lead=names[places[match.lead]], seq=seq, spread=spread)

    def _compare_clocks(self, match: Match) -> None:
        """Note if one that is missing, and was in no set, has another clock than the leader."""
        names, places = self._terms.names, self._terms.places
        mine = self._offset_of(match.lead)
        for stream in match.missing:
            its = self._offset_of(stream)
            if its is None or mine is None or self._matcher.counts[stream].matched:
                continue
            apart = abs(its - mine)
            if apart > max(_CLOCKS_DIFFER, 10 * self._matcher.within):
                self._is_doubt_told = True
                self._doubt = (
                    f"expected stamps of one clock, got those of {names[places[stream]]!r} {apart / _NS:.9g} s "
                    f"{'ahead of' if its > mine else 'behind'} those of {names[places[match.lead]]!r}, by when the "
                    "frames were published, and none of its frames found a partner: convert the stamps to one clock"
                )
                return

    def _offset_of(self, stream: int) -> int | None:
        """Return the median of the last offsets of a stream, in nanoseconds."""
        offsets = sorted(self._offsets[stream].copy()) if self._offsets else []
        return offsets[len(offsets) // 2] if offsets else None

    def _stats_of(self, stream: int) -> JoinedStats:
        counts, waiting = self._matcher.counts[stream], len(self._matcher.queues[stream])
        reader = self._readers[stream]
        offset = self._offset_of(stream)
        lag, missed = (0, 0) if reader.closed else (reader.lag, reader.missed)
        # The frames of a set that is decided and not yet given are matched, and wait no more.
        return {
            "name": self._terms.names[self._terms.places[stream]],
            "state": self._matcher.states[stream],
            "frames": counts.frames,
            "matched": counts.matched,
            "unmatched": unmatched(counts, waiting),
            "late": counts.late,
            "overrun": counts.overrun,
            "disordered": counts.disordered,
            "waiting": waiting,
            "lag": lag + waiting,
            "missed": missed,
            "offset": None if offset is None else offset / _NS,
        }

    # ---- without it

    def _get(self, timeout: float | None) -> FrameSet:
        end = _NEVER if timeout is None or timeout > 1e9 else time.monotonic_ns() + int(timeout * _NS)
        is_late = False
        while True:
            with self._lock:
                try:
                    match = self._step()
                    found = self._set_of(match) if match else None
                finally:
                    self._arm()
            if found is not None:
                return found
            if is_late:
                raise self._none_came(timeout)
            is_late = not self._wait(end)

    def _wait(self, end: int) -> bool:
        """Wait until there is news of a reader, or a set is due. False: it is later than `end`, and there was none."""
        now = time.monotonic_ns()
        due = self._matcher.due()
        wake = min(end, _NEVER if due is None else due)
        seconds = None if wake >= _NEVER else max(0, wake - now) / _NS
        no_events: list[tuple[int, int]] = []
        events = next((found for part in slices(seconds) if (found := self._poll.poll(part))), no_events)
        with self._lock:
            if self._is_closed:
                return True
            for descriptor, _ in events:
                stream = self._by_fd.get(descriptor)
                if stream is not None:
                    self._hear(stream)
        return bool(events) or time.monotonic_ns() < end

    def _none_came(self, timeout: float | None) -> Empty:
        names, places, matcher = self._terms.names, self._terms.places, self._matcher
        waiting = {names[places[s]]: len(queue) for s, queue in enumerate(matcher.queues) if queue}
        silent = {names[places[s]]: matcher.states[s] for s, queue in enumerate(matcher.queues) if not queue}
        of_whom = ", ".join(f"{name!r} ({state})" for name, state in silent.items()) or "nobody: more frames decide it"
        there = ", ".join(f"{count} of {name!r}" for name, count in waiting.items()) or "none"
        return Empty(
            f"no set came: expected one within {timeout} s, but it waits for {of_whom}, and of frames there are "
            f"{there}; wait longer, or see what the cameras do"
        )


def _as_many(nbytes: int) -> int:
    """Return how many frames of a size wait at the most, where no limit was given."""
    return max(_FEWEST_FRAMES, min(_MOST_FRAMES, _MOST_BYTES // nbytes))


def _was_closed() -> Closed:
    return Closed("the join was closed: expected an open one; make a new one")


async def _stream(sets: Join) -> AsyncIterator[FrameSet]:
    """Yield the sets of a join; cancelling the task that waits loses none."""
    while True:
        try:
            found = sets.get(0)
        except Empty:
            await readable(sets)
        except Closed:
            return
        else:
            yield found


def join(
    readers: Mapping[str, Reader[Any]] | Sequence[Reader[Any]],
    within: float = 0.005,
    by: str = "time_ns",
    *,
    lead: str | int | None = None,
    deadline: float | None = 1.0,
    limit: int | None = None,
    apart: float = 0.0,
) -> Join:
    """Return the sets of frames of several rings that belong together: a `Join`, to iterate over.

    `readers` is a list or a dict of readers, which belong to the join from now on. One leads: the first, or `lead`.
    Each of its frames makes a set, with the frame of each other reader that is nearest to it: by `time_ns`, no farther
    than `within` seconds; by "seq" or by a field of meta, in its units. A frame is in one set at the most, and where
    two want it, the nearer gets it. Sets come in order.

    So a set can be told for sure when the next frames are there; if you promise that two frames of one camera are
    `apart` at least (in the units of `within`; twice `within` is enough), it comes as soon as its last frame. It waits
    for `deadline` seconds after its leading frame was published at the most (None: for ever). A camera that has shown
    nothing by then is frozen until it shows something, and nobody waits for it; if it led, the next reader leads. Make
    `deadline` longer than the longest interval of a camera. `limit` frames of a reader wait here at the most;
    None: as many as 128 MiB hold, 16 at the least and 1024 at the most. When more come, the leader's oldest set goes
    out with what is there, and who is not there is missing as "overrun". So no camera loses frames as another is slow.
    Of frames that no set could use the oldest goes, and is counted.

    Raises ValueError and TypeError for what cannot be joined.

    >>> import ndshare as nds
    >>> rings = [nds.Ring(1, "u1", slots=8) for _ in range(2)]
    >>> with nds.join([ring.reader() for ring in rings], within=0.002) as sets:
    ...     for ring, times in zip(rings, ([0, 10, 20], [1, 12, 20]), strict=True):
    ...         with ring:
    ...             for milliseconds in times:
    ...                 seq = ring.put([0], time_ns=milliseconds * 1_000_000)
    ...     for one in sets:
    ...         print([None if frame is None else frame.seq for frame in one], one.spread)
    [0, 0] 0.001
    [1, 1] 0.002
    [2, 2] 0.0
    """
    return Join(readers, within, by, lead=lead, deadline=deadline, limit=limit, apart=apart)


for _public in (FrameSet, Join, join):
    _public.__module__ = "ndshare"
