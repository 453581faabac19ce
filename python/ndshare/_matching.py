"""Which frames of several streams belong together: plain numbers in, matches out. No frame, clock or ring is here.

The rule is that of `pandas.merge_asof(direction="nearest", tolerance=within)`, in which each frame is used once. One
stream leads: each of its frames makes a match. A frame of another stream belongs to the leader's frame that is nearest
to it, no farther than `within`; of those that belong to the same one, the nearest is its partner. Of two that are as
near, the earlier wins. Nothing else can take part: it is unmatched.

`Matcher` finds the same as if it had seen all frames at once. So it waits until no frame to come could be nearer:
stamps of a stream do not go back, and, where that is promised, are `apart` at least. A match waits no longer than until
its frame is due; who has shown nothing by then is frozen until it shows something. While the leader is frozen or has
ended, the next stream in order leads.

Not more frames of a stream wait than its limit. Where one more of those that a match could use would have to go, the
leader's oldest match goes out instead, with what is there, and whom it did not wait for is missing as "overrun". So
nothing of a healthy stream is lost because another one is slow. Who shows nothing until the first of these was due is
frozen then, and no sooner.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    _State = Literal["live", "frozen", "died", "closed"]
    # Why a stream has no part in a match.
    _Why = Literal["no match", "overrun", "frozen", "died", "closed"]


class Entry(NamedTuple):
    """One frame that waits: its stamp, when it is due by the caller's clock, and what the caller wants back."""

    stamp: Any
    due: int
    item: Any


class Match(NamedTuple):
    """One entry or None for each stream, and which stream led."""

    lead: int
    entries: list[Entry | None]
    missing: dict[int, _Why]


class Counts:
    """What became of the frames of one stream. `unmatched` are all in no match, of which some are told by name."""

    __slots__ = ("disordered", "frames", "late", "matched", "overrun")

    def __init__(self) -> None:
        self.frames = 0  # that came
        self.matched = 0
        self.late = 0  # came when their match was out, or that of a later frame
        self.overrun = 0  # went because as many as may wait did
        self.disordered = 0  # had a stamp before that of the frame before, or none that is a number


class Matcher:
    """The rule above, for streams 0, 1, … in this order of leading."""

    def __init__(self, count: int, within: Any, limit: int, apart: Any = 0) -> None:
        self.within: Final = within
        # The caller may change them.
        self.limits = [limit] * count
        self.apart: Final = apart
        self.queues: list[deque[Entry]] = [deque() for _ in range(count)]
        self.states: list[_State] = ["live"] * count
        self.counts = [Counts() for _ in range(count)]
        self.last: list[Any] = [None] * count
        # The stream and the stamp that made the last match.
        self._made: tuple[int, Any] | None = None
        # When the first was due of those that made room while the leader showed nothing.
        self._overdue: int | None = None
        # When the first match was due that did not wait for a stream, which has shown nothing since.
        self._hurried: dict[int, int] = {}
        # Whether a queue may be nearly full: it spares a look at each.
        self._is_crowded = False

    # ---- what the caller tells

    def push(self, stream: int, stamp: Any, due: int, item: Any) -> None:
        """Take the next frame of a stream, which is live from now on."""
        counts, last = self.counts[stream], self.last[stream]
        counts.frames += 1
        if self._overdue is not None and stream <= (self._leader() or 0):
            self._overdue = None
        if self._hurried:
            self._hurried.pop(stream, None)
        self.states[stream] = "live"
        # Also refuses what is no number: it compares as false.
        if not (stamp == stamp if last is None else stamp >= last):  # noqa: PLR0124
            counts.disordered += 1
            return
        self.last[stream] = stamp
        if self._made is not None and stamp < self._made[1]:
            counts.late += 1
            return
        queue = self.queues[stream]
        limit = self.limits[stream]
        while len(queue) >= limit:
            self._make_room(queue, counts)
        queue.append(Entry(stamp, due, item))
        if len(queue) >= limit - 1:
            self._is_crowded = True

    def _make_room(self, queue: deque[Entry], counts: Counts) -> None:
        stamp, due, _ = queue.popleft()
        lead = self._leader()
        mine = None if lead is None else self.queues[lead]
        if mine and stamp < mine[0].stamp - self.within:
            return  # no match to come could use it
        self._overdue = due if self._overdue is None else min(self._overdue, due)
        counts.overrun += 1

    def end(self, stream: int, state: Literal["died", "closed"]) -> None:
        """Hear that nothing comes of a stream any more, or not soon."""
        self._hurried.pop(stream, None)
        self.states[stream] = state

    # ---- what it finds

    def next(self, now: int) -> Match | None:
        """Return the next match, if it is decided by now."""
        if self._hurried:
            self._freeze_silent(now)
        # Each round takes a frame, freezes a stream, or ends it.
        while True:
            lead = self._leader()
            if lead is None:
                return None
            queue = self.queues[lead]
            if not queue:
                due = self._due_without(lead)
                if due is None or now < due:
                    return None
                self.states[lead] = "frozen"
            elif self._belongs_to_last(lead, queue[0].stamp):
                queue.popleft()
                self.counts[lead].late += 1
            else:
                return self._decide(lead, now)

    def may_find(self) -> bool:
        """Tell whether to ask `next` before there is another frame: it only spares time, and what is found is the same.

        A frame that leads waits for all that are live to come as far as that, unless it is so near to the last match
        that it may have no partner. Where a queue is nearly full, it matters when frames are dropped.
        """
        lead = self._leader()
        if lead is None or not self.queues[lead]:
            return False
        stamp, apart = self.queues[lead][0].stamp, self.apart
        if self._made is not None and stamp <= self._made[1] + self.within:
            return True
        for stream, last in enumerate(self.last):
            is_behind = last is None or last + apart < stamp
            if is_behind and self.states[stream] == "live" and stream != lead:
                self._is_crowded = self._is_crowded and any(map(self.is_nearly_full, range(len(self.queues))))
                return self._is_crowded
        return True

    def due(self) -> int | None:
        """Return when `next` may find more without another frame; None for never."""
        lead = self._leader()
        if lead is None:
            return None
        queue = self.queues[lead]
        due = queue[0].due if queue else self._due_without(lead)
        if not self._hurried:
            return due
        first = min(self._hurried.values())
        return first if due is None else min(due, first)

    def waiting(self) -> int:
        """Return how many frames wait."""
        return sum(map(len, self.queues))

    def is_nearly_full(self, stream: int) -> bool:
        """Tell whether with one more frame of a stream something goes that could have waited."""
        return len(self.queues[stream]) >= self.limits[stream] - 1

    def farthest_behind(self) -> int | None:
        """Return the first of `order` that is not closed."""
        if None in self.last or "closed" in self.states:
            return next((stream for stream in self.order() if self.states[stream] != "closed"), None)
        return self.last.index(min(self.last))

    def order(self) -> list[int]:
        """Return the streams, the one that is farthest behind first: of it the next frame is wanted."""
        streams = range(len(self.queues))
        fresh = [stream for stream in streams if self.last[stream] is None]
        return fresh + sorted((s for s in streams if self.last[s] is not None), key=self.last.__getitem__)

    # ---- how

    def _leader(self) -> int | None:
        """Return the first stream that has something, or will."""
        for stream, state in enumerate(self.states):
            if state == "live" or self.queues[stream]:
                return stream
        return None

    def _due_without(self, lead: int) -> int | None:
        """Return when a frame of another stream has waited for the leader long enough."""
        dues = [queue[0].due for stream, queue in enumerate(self.queues) if stream != lead and queue]
        return min(dues if self._overdue is None else [*dues, self._overdue], default=None)

    def _belongs_to_last(self, stream: int, stamp: Any) -> bool:
        """Tell whether a frame that would lead belongs to a match that another stream made, and that is out."""
        if self._made is None or self._made[0] == stream:
            return False
        return stamp <= self._made[1] + self.within

    def _decide(self, lead: int, now: int) -> Match | None:
        queue, made = self.queues[lead], self._made
        first = queue[0]
        stamp = first.stamp
        picks: list[int | None] = [None] * len(self.queues)
        undecided: list[int] = []
        # A second leading frame with the same stamp finds none: all belong to the first.
        if made is None or made[1] != stamp or made[0] != lead:
            after, is_known = self._next_of(lead, stamp)
            for stream, mine in enumerate(self.queues):
                if stream != lead:
                    if made is not None and mine:
                        self._drop_taken(mine, stamp, made[1], made[0] == lead)
                    picks[stream], more = self._pick(stream, stamp, after, is_known)
                    if more:
                        undecided.append(stream)
        if not undecided:
            return self._make(lead, picks)
        if now >= first.due:
            self._freeze_behind(lead, stamp, picks)
            return self._make(lead, picks)
        if not (self._is_crowded and self._is_pressed(lead)):
            return None
        hurried = [stream for stream in undecided if picks[stream] is None]
        for stream in hurried:
            self._hurried.setdefault(stream, first.due)
        return self._make(lead, picks, hurried)

    def _is_pressed(self, lead: int) -> bool:
        """Tell whether a stream is full of what the leader's matches could use: nobody is waited for then.

        What is earlier than all of these may go, and what is later than they are is not freed by them.
        """
        mine = self.queues[lead]
        for queue, limit in zip(self.queues, self.limits, strict=True):
            if len(queue) >= limit and mine[0].stamp - self.within <= queue[0].stamp <= mine[-1].stamp + self.within:
                return True
        return False

    def _drop_taken(self, queue: deque[Entry], stamp: Any, made: Any, is_by_lead: bool) -> None:
        """Drop frames that are nearer to what was matched last, at `made`, than to the leader's frame at `stamp`."""
        while queue:
            at = queue[0].stamp
            is_taken = at <= stamp and stamp - at >= at - made if is_by_lead else at <= made + self.within
            if not is_taken:
                return
            queue.popleft()

    def _next_of(self, lead: int, stamp: Any) -> tuple[Any, bool]:
        """Return the stamp of the leader's next frame, or what it is at least while that is not known; and if it is."""
        for entry in self.queues[lead]:
            if entry.stamp > stamp:
                return entry.stamp, True
        return (self.last[lead] + self.apart, False) if self.states[lead] == "live" else (float("inf"), True)

    def _pick(self, stream: int, stamp: Any, after: Any, is_known: bool) -> tuple[int | None, bool]:
        """Return which frame of a stream is the partner, as far as is known, and whether that may still change.

        The leader's next frame is at `after`, or not before that.
        """
        best, least = None, self.within
        for index, entry in enumerate(self.queues[stream]):
            at = entry.stamp
            distance = at - stamp if at > stamp else stamp - at
            if distance > least or (best is not None and distance == least):
                if at >= stamp:
                    return best, False  # what follows is no nearer
                continue
            if at > stamp and after - at < distance:
                # It is nearer to the leader's next frame, and so is what follows; or perhaps it is.
                return (best, False) if is_known else (index, True)
            best, least = index, distance
        if self.states[stream] != "live" or (best is not None and least == 0):
            return best, False
        # Whether a frame to come may be nearer.
        last = self.last[stream]
        ahead = None if last is None else last + self.apart - stamp
        return best, ahead is None or (ahead <= least if best is None else ahead < least)

    def _freeze_behind(self, lead: int, stamp: Any, picks: list[int | None]) -> None:
        """Have those be frozen that have no partner for the leader's frame and showed nothing as late as that."""
        for stream, last in enumerate(self.last):
            is_behind = picks[stream] is None and (last is None or last < stamp)
            if stream != lead and self.states[stream] == "live" and is_behind:
                self.states[stream] = "frozen"

    def _freeze_silent(self, now: int) -> None:
        """Have those be frozen that showed nothing until the first match was due that did not wait for them."""
        for stream in [stream for stream, due in self._hurried.items() if now >= due]:
            del self._hurried[stream]
            self.states[stream] = "frozen"

    def _make(self, lead: int, picks: list[int | None], hurried: Sequence[int] = ()) -> Match:
        entries: list[Entry | None] = []
        missing: dict[int, _Why] = {}
        stamp = self.queues[lead][0].stamp
        picks[lead] = 0
        for stream, (queue, pick) in enumerate(zip(self.queues, picks, strict=True)):
            if pick is not None:
                for _ in range(pick):
                    queue.popleft()
                entries.append(queue.popleft())
                self.counts[stream].matched += 1
                continue
            entries.append(None)
            missing[stream] = "overrun" if stream in hurried else self._why(stream, stamp)
            # What is no later than this one is nearest to it, or to one before.
            while queue and queue[0].stamp <= stamp:
                queue.popleft()
        self._made, self._overdue = (lead, stamp), None
        return Match(lead, entries, missing)

    def _why(self, stream: int, stamp: Any) -> _Why:
        """Return why a stream has no frame at `stamp`. If it has shown a later one, its end is not why."""
        state, last = self.states[stream], self.last[stream]
        return "no match" if state == "live" or (last is not None and last > stamp) else state


def unmatched(counts: Counts, waiting: int) -> int:
    """Return how many of the frames that came are in no match, and in none to come."""
    return counts.frames - counts.matched - waiting
