"""What processes did, as plain records, and the rules that such a history keeps: no process and no ndshare in here.

An operation has a begin and an end on the clock of all processes. It took effect at one instant between the two; one
without an end, because its process was killed, at one instant after its begin, or not at all. A rule says what no
order of such instants explains, and gives a sentence for each violation. So a rule never complains of what a slow
machine did, and what it complains of is wrong.

Rings. A frame has a number, and frames were published in the order of their numbers. So number `n` was published after
the last begin of all puts up to `n`, and before the first instant at which `n` or a later one was known: the end of its
put, or of a `get` that gave it. With these two bounds, which ascend, every other rule is a look into sorted lists.

Caches. A key is a register whose value may vanish at any time, and each value is written once. Then there is a test in
n log n, and no search: the operations of a value make a zone, from the first end to the last begin; two zones that
stand like that must not overlap, and the others must not lie inside of one (Gibbons and Korach, Testing Shared
Memories, 1997). A miss is a zone of its own, the vanishing that it saw.

Why no checker from elsewhere: none is on PyPI; Porcupine is Go, Knossos is Clojure; `stateright` and `todc-utils` are
crates, which would want a build in Rust for tests in Python. All of them search through orders, which takes for ever
just when there is a fault in a long history, and none knows rings. The twin in `test_histories.py` does search, through
all orders of small histories.
"""

# ruff: noqa: D401  (the docstring of a rule is what it promises)
from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

NEVER = 1 << 62  # the end of an operation that has none


@dataclass(frozen=True, slots=True)
class Op:
    """One operation of one process: what was asked of which object, and what came back (None: no end is known)."""

    process: int
    kind: str
    on: str
    begin: int
    end: int = NEVER
    said: tuple[Any, ...] = ()
    found: tuple[Any, ...] | None = None

    def __str__(self) -> str:
        end = "killed" if self.end == NEVER else self.end
        return f"{self.kind} {self.on} {self.said} -> {self.found} by {self.process} [{self.begin}, {end}]"


@dataclass(frozen=True, slots=True)
class RingKind:
    """How a ring was made."""

    slots: int
    when_full: str = "wait"
    keep: int = 0


@dataclass
class History:
    """What all processes did, which of them died and when at the earliest, and the rings that there were."""

    ops: list[Op]
    deaths: dict[int, int] = field(default_factory=dict[int, int])
    rings: dict[str, RingKind] = field(default_factory=dict[str, RingKind])
    pids: dict[int, int] = field(default_factory=dict[int, int])

    @cached_property
    def by_kind(self) -> dict[str, list[Op]]:
        found: defaultdict[str, list[Op]] = defaultdict(list)
        for op in self.ops:
            found[op.kind].append(op)
        return found

    def died(self, process: int) -> int:
        """Return when a process died at the earliest; NEVER for one that lived."""
        return self.deaths.get(process, NEVER)


def read(process: int, text: str) -> tuple[list[Op], int]:
    """Read what a process wrote down, and when it wrote last; a line that it did not finish counts as not written.

    A line is ``["b", number, time, kind, on, *said]`` or ``["e", number, time, *found]``.
    """
    begun: dict[int, Op] = {}
    last = 0
    for line in text[: text.rfind("\n") + 1].splitlines():
        what, number, last, *rest = json.loads(line)
        if what == "b":
            kind, on, *said = rest
            begun[number] = Op(process, kind, on, last, NEVER, tuple(said))
        else:
            one = begun[number]
            begun[number] = Op(process, one.kind, one.on, one.begin, last, one.said, tuple(rest))
    return list(begun.values()), last


# ---- rings ----------------------------------------------------------------------------------------------------------


@dataclass
class Life:
    """One reader of a ring: how it was made, what it got, and how it left, if it did."""

    made: Op
    gets: list[Op] = field(default_factory=list[Op])
    left: Op | None = None

    @property
    def mode(self) -> str:
        return str(self.made.said[1])

    @cached_property
    def frames(self) -> list[Op]:
        return [get for get in self.gets if get.found and get.found[0] == "frame"]

    @cached_property
    def closed(self) -> Op | None:
        return next((get for get in self.gets if get.found and get.found[0] == "closed"), None)

    @property
    def has_pending(self) -> bool:
        return any(get.found is None for get in self.gets)


def number(get: Op) -> int:
    """Return the number of the frame that a `get` gave."""
    assert get.found is not None
    return int(get.found[1])


class Stream:
    """All that happened to one ring."""

    def __init__(self, history: History, name: str) -> None:
        self.history, self.name, self.kind = history, name, history.rings[name]
        self.puts = [op for op in history.by_kind["put"] if op.on == name]
        lives = {op.on: Life(op) for op in history.by_kind["make"] if op.said[0] == name}
        for op in history.by_kind["get"]:
            if op.on in lives:
                lives[op.on].gets.append(op)
        for op in history.by_kind["leave"]:
            if op.on in lives:
                lives[op.on].left = op
        self.lives = list(lives.values())
        for life in self.lives:
            life.gets.sort(key=lambda get: get.begin)
        self.frames = [get for life in self.lives for get in life.frames]
        self._number()

    def _number(self) -> None:
        """Find the number of each put, and when each number was published, at the earliest and at the latest."""
        by_content = {op.said[0]: op for op in self.puts}
        self.number_of = {op.said[0]: int(op.found[1]) for op in self.puts if op.found and op.found[0] == "seq"}
        known: dict[int, int] = {}
        self.begun = begun = dict[int, int]()
        for op in self.puts:
            if (seq := self.number_of.get(op.said[0])) is not None:
                known[seq], begun[seq] = min(known.get(seq, NEVER), op.end), op.begin
        told = dict(known)
        for get in self.frames:
            seq, put = number(get), by_content.get(get.found[2]) if get.found else None
            known[seq] = min(known.get(seq, NEVER), get.end)
            if put is not None and put.found is None:
                self.number_of.setdefault(put.said[0], seq)
                begun[seq] = put.begin
        self.by_content, self.total = by_content, max(known, default=-1) + 1
        self.unknown = [seq for seq in range(self.total) if seq not in begun]
        self.lost = [op for op in self.puts if op.found is None and op.said[0] not in self.number_of]
        self.earliest, self.latest = [0] * self.total, [NEVER] * self.total
        for seq in range(self.total):
            self.earliest[seq] = max(begun.get(seq, 0), self.earliest[seq - 1] if seq else 0)
        self.told = [NEVER] * self.total  # when a put had come back, at the latest
        for seq in reversed(range(self.total)):
            is_last = seq + 1 == self.total
            self.latest[seq] = min(known.get(seq, NEVER), NEVER if is_last else self.latest[seq + 1])
            self.told[seq] = min(told.get(seq, NEVER), NEVER if is_last else self.told[seq + 1])

    def surely(self, time: int) -> int:
        """Return how many frames were published before a time, at the least."""
        return bisect_left(self.latest, time)

    def surely_to(self, life: Life, time: int) -> int:
        """Return how many frames were published to a reader before a time, at the least."""
        # A reader of every frame may have one a moment before it counts as the newest, when its writer is about to
        # count it, or has died just there; then it counts when somebody next has the ring's lock.
        return bisect_left(self.told, time) if life.mode == "latest" else self.surely(time)

    def perhaps(self, time: int) -> int:
        """Return how many frames were published up to a time, at the most."""
        # A killed writer may have published one more that nobody saw.
        return bisect_right(self.earliest, time) + sum(op.begin <= time for op in self.lost)


def puts_in_order(stream: Stream) -> Iterator[str]:
    """Numbers are given in the order of time: a put that ended before another began has the lower one."""
    for seq in range(stream.total):
        if stream.earliest[seq] > stream.latest[seq]:
            yield f"number {seq} was known at {stream.latest[seq]}, before a put up to it began, {stream.earliest[seq]}"


def numbers_without_gaps(stream: Stream) -> Iterator[str]:
    """Each number is of one put, and a number of which no put is known is of one that was killed."""
    for seq, count in Counter(stream.number_of.values()).items():
        if count > 1:
            yield f"{count} puts have number {seq}"
    if len(stream.unknown) > len(stream.lost):
        yield f"nobody put {stream.unknown}, where {len(stream.lost)} puts were killed unseen"


def contents_are_whole(stream: Stream) -> Iterator[str]:
    """A frame is, as a whole, what was put under its number, after that had begun; what was refused is not seen."""
    for get in stream.frames:
        assert get.found is not None
        _, seq, content, whole, *_ = get.found
        put = stream.by_content.get(content)
        if not whole:
            yield f"a torn frame: {get}"
        elif put is None:
            yield f"a frame that nobody put: {get}"
        elif put.found is not None and put.found[0] != "seq":
            yield f"a frame that was not published: {get}, {put}"
        elif stream.number_of[content] != seq:
            yield f"a frame under two numbers: {get}, and {stream.number_of[content]}"
        elif put.begin > get.end:
            yield f"a frame from the future: {get}, {put}"
    for life in stream.lives:
        yield from (f"a frame changed while somebody had it, before {get}" for get in life.gets if False in get.said)


def numbers_ascend(stream: Stream) -> Iterator[str]:
    """The numbers of one reader ascend; in a group a lower one comes after the death or the leave of a member."""
    for life in stream.lives:
        highest = -1
        for get in life.frames:
            seq = number(get)
            if seq <= highest and not (life.mode == "group" and _is_handed_over(stream, life, get)):
                yield f"{get} after {highest}"
            highest = max(highest, seq)


def _is_handed_over(stream: Stream, mine: Life, get: Op) -> bool:
    """Say whether another member may have left this frame behind."""
    for other in stream.lives:
        if other is not mine and other.made.said[2] == mine.made.said[2]:
            ended = _ended(stream, other)
            had = any(number(one) == number(get) and not _is_done(other, one) for one in other.frames)
            if (had or other.has_pending) and ended <= get.end:
                return True
    return False


def _ended(stream: Stream, life: Life) -> int:
    """Return from when on a reader may be gone."""
    return min(life.left.begin if life.left else NEVER, stream.history.died(life.made.process))


def every_frame(stream: Stream) -> Iterator[str]:
    """A reader of every frame gets all from its first on; only `drop_oldest` skips, and what it skips is counted."""
    for life in stream.lives:
        if life.mode != "every" or not life.frames:
            continue
        seqs = [number(get) for get in life.frames]
        gaps = sum(max(0, after - before - 1) for before, after in pairwise(seqs))
        if stream.kind.when_full != "drop_oldest":
            if gaps:
                yield f"{life.made} did not get {gaps} frames between {seqs[0]} and {seqs[-1]}"
            continue
        if life.closed is None or life.closed.found is None:
            continue
        missed = int(life.closed.found[1])
        low, high = _begins(stream, life)
        if not gaps + seqs[0] - high <= missed <= gaps + seqs[0] - low:
            yield f"{life.made}, which began at {low} to {high}, skipped {gaps} after {seqs[0]}, and counts {missed}"


def _begins(stream: Stream, life: Life) -> tuple[int, int]:
    """Return the least and the highest number that may be the first after a reader was made."""
    low, high = stream.surely(life.made.begin), stream.perhaps(life.made.end)
    if life.made.said[3] == "oldest":
        return max(0, low - stream.kind.slots), max(0, high - stream.kind.keep)
    return low, high


def readers_begin_in_time(stream: Stream) -> Iterator[str]:
    """A reader gets what is published after it was made, or with `oldest` from the frames that are kept on."""
    for life in stream.lives:
        if life.mode != "every" or not life.frames:
            continue
        low, high = _begins(stream, life)
        first = number(life.frames[0])
        if first < low or (first > high and stream.kind.when_full != "drop_oldest"):
            yield f"{life.made} begins with {first}, and not with {low} to {high}"


def the_newest(stream: Stream) -> Iterator[str]:
    """A reader of the latest frame gets none that is older than one that was published before it asked."""
    for life in stream.lives:
        for get in life.frames if life.mode == "latest" else ():
            if number(get) < (least := stream.surely_to(life, get.begin) - 1):
                yield f"{get}, though {least} was published by {stream.told[least]}"


def empty_is_empty(stream: Stream) -> Iterator[str]:
    """`Empty` says that nothing was there: no frame that this reader had yet to get was published before it asked."""
    for life in stream.lives:
        if life.mode == "group" or life.made.found is None:
            continue
        next_ = _begins(stream, life)[1]
        for get in life.gets:
            if get.found is None:
                continue
            if get.found[0] == "frame":
                next_ = max(next_, number(get) + 1)
            elif get.found[0] in ("empty", "closed") and stream.surely_to(life, get.begin) > next_:
                yield f"{get}, though {next_} was published by {stream.latest[next_]}"


def the_window_holds(stream: Stream) -> Iterator[str]:
    """A frame waits until there are as many newer ones as slots, and no longer, of readers made before those began."""
    for life in stream.lives:
        for get in life.frames:
            over = number(get) + stream.kind.slots
            if over < stream.total and stream.latest[over] < get.begin and life.made.end < stream.begun.get(over, 0):
                yield f"{get}, though {over} was published at {stream.latest[over]}, with {stream.kind.slots} slots"


def the_end_comes_last(stream: Stream) -> Iterator[str]:
    """`Closed` comes after the last frame, and `WriterDied` after the death of a writer."""
    first_death = min(stream.history.deaths.values(), default=NEVER)
    for life in stream.lives:
        for get in life.gets:
            if get.found and get.found[0] == "died" and get.end < first_death:
                yield f"{get}, though nobody had died"
        if life.closed is None or life.mode == "group":
            continue
        last = number(life.frames[-1]) if life.frames else -1
        if max(last + 1, _begins(stream, life)[1]) < stream.total:
            yield f"{life.closed} after {last}, though there are {stream.total} frames"


def one_member_each(stream: Stream) -> Iterator[str]:
    """A frame goes to one member of a group, and to another one only if that died, or left, before it was done."""
    for group, lives in _groups(stream).items():
        got: defaultdict[int, list[tuple[Op, Life]]] = defaultdict(list)
        for life in lives:
            for get in life.frames:
                got[number(get)].append((get, life))
        for seq, takers in got.items():
            for (first, life), (second, _) in pairwise(sorted(takers, key=lambda one: one[0].end)):
                if _is_done(life, first) or _ended(stream, life) > second.end:
                    yield f"frame {seq} of group {group} twice: {first}, {second}"


def _is_done(life: Life, get: Op) -> bool:
    """Say whether a member was surely done with a frame: it asked for the next one, or dropped it and left."""
    asked = any(one.begin > get.begin and one.found is not None for one in life.gets)
    return asked or (life.left is not None and "dropped" in life.left.said)


def _groups(stream: Stream) -> dict[str, list[Life]]:
    groups: defaultdict[str, list[Life]] = defaultdict(list)
    for life in stream.lives:
        if life.mode == "group":
            groups[life.made.said[2]].append(life)
    return groups


def a_group_gets_all(stream: Stream) -> Iterator[str]:
    """What no member of a group got is counted as missed; the group was founded before the first frame."""
    for group, lives in _groups(stream).items():
        ends = [life.closed.found[1] for life in lives if life.closed and life.closed.found]
        if not ends:
            continue
        seen = {number(get) for life in lives for get in life.frames}
        unseen, missed = stream.total - len(seen), max(ends)
        gone = [life for life in lives if _ended(stream, life) < NEVER]
        # A member that was killed in `get` may have had a frame which it could not tell of; one that it was not done
        # with, and that nobody took in time, counts as missed though it was seen.
        untold = sum(life.has_pending for life in gone)
        undone = sum(bool(life.frames) and not _is_done(life, life.frames[-1]) for life in gone)
        if not unseen - untold <= missed <= unseen + undone + untold:
            yield f"group {group} did not get {unseen} of {stream.total} frames, and counts {missed}"


def books_are_right(stream: Stream) -> Iterator[str]:
    """`stats()` says at the end how many frames were published and how many dropped."""
    dropped = sum(op.found is not None and op.found[0] == "dropped" for op in stream.puts)
    for op in stream.history.by_kind["books"]:
        if op.on == stream.name and op.found is not None:
            written, counted = op.found
            if not stream.total <= written <= stream.total + len(stream.lost):
                yield f"{written} frames are counted, {stream.total} are known"
            if not dropped <= counted <= dropped + len(stream.lost):
                yield f"{counted} dropped frames are counted, {dropped} are known"


# ---- caches ---------------------------------------------------------------------------------------------------------


Span = tuple[int, int]


@dataclass
class Value:
    """One value of a key: when it was written, when it got its place before that, if it was loaded, and who had it."""

    written: Span
    placed: Span | None = None
    reads: list[Op] = field(default_factory=list[Op])

    def zone(self, *, with_place: bool) -> Span:
        """Return the first end and the last begin; the second is the earlier one where all happened at once."""
        spans = [self.written, *((op.begin, op.end) for op in self.reads)]
        if with_place and self.placed is not None:
            spans.append(self.placed)
        return min(end for _, end in spans), max(begin for begin, _ in spans)


class Register:
    """All that happened to one key of a cache."""

    def __init__(self, history: History, key: str) -> None:
        self.history, self.key = history, key

        def of(kind: str) -> list[Op]:
            return [op for op in history.by_kind[kind] if op.on == key]

        self.looks, self.fetches, self.loads, self.stores = of("look"), of("fetch"), of("load"), of("store")
        self.endings = [*of("delete"), *history.by_kind["clear"]]
        self.fetch_of = {op.said[0]: op for op in self.fetches}
        self.values = {op.said[0]: Value((op.begin, op.end)) for op in self.stores}
        # A value is there when its loader has come back, and has its place since before that began.
        for op in self.loads:
            fetch = self.fetch_of[op.said[1]]
            self.values[op.said[0]] = Value((op.end, fetch.end), (fetch.begin, op.begin))
        own = {op.said[1]: op.said[0] for op in self.loads}
        self.strangers: list[Op] = []
        for op in (*self.looks, *self.fetches):
            if op.found is None or op.found[0] != "hit":
                continue
            if op.found[1] not in self.values:
                self.strangers.append(op)
            # Who has loaded a value gets it, be it kept or not: that says nothing of the cache.
            elif op.kind == "look" or own.get(op.said[0]) != op.found[1]:
                self.values[op.found[1]].reads.append(op)

    def misses(self) -> Iterator[Span]:
        """Return from when to when somebody saw no value."""
        yield from ((op.begin, op.end) for op in self.looks if op.found is not None and op.found[0] == "miss")

    def changes(self) -> Iterator[Span]:
        """Return from when to when something made an end of the value before, and was not found itself."""
        yield from ((op.begin, op.end) for op in self.endings if op.found is not None)
        for value in self.values.values():
            if not value.reads and (span := value.placed or value.written)[1] < NEVER:
                yield span


def values_were_written(register: Register) -> Iterator[str]:
    """What is found is, as a whole, a value that somebody had begun to store or load."""
    yield from (f"a value that nobody wrote: {op}" for op in register.strangers)
    for op in (*register.looks, *register.fetches):
        if op.found is not None and op.found[0] == "hit" and not op.found[2]:
            yield f"a torn value: {op}"
    for value in register.values.values():
        for op in value.reads:
            if op.end < value.written[0]:
                yield f"a value from the future: {op}, written from {value.written[0]} on"


def no_stale_value(register: Register) -> Iterator[str]:
    """A value that was replaced, deleted or gone is not found again: some order of instants explains all."""
    found = [value for value in register.values.values() if value.reads]
    # What is stored or deleted wins over a load that is under way: to these a value begins with its place. A look does
    # not find it before it was written.
    zones = [value.zone(with_place=True) for value in found]
    forward = sorted((first, last) for first, last in zones if first < last)
    for (_, end), (begin, other) in pairwise(forward):
        if begin < end:
            yield f"two values by turns: one was there until {end}, one from {begin} to {other}"
    at_once = [(last, first) for first, last in zones if first >= last]
    yield from _inside((*at_once, *register.changes()), forward)
    zones = [value.zone(with_place=False) for value in found]
    yield from _inside(register.misses(), sorted((first, last) for first, last in zones if first < last))


def _inside(spans: Iterable[Span], zones: list[Span]) -> Iterator[str]:
    """Say which spans lie inside of a zone; these are sorted, and do not overlap."""
    begins = [first for first, _ in zones]
    for begin, end in spans:
        place = bisect_left(begins, begin) - 1
        if place >= 0 and end < zones[place][1]:
            yield f"a value was there from {zones[place][0]} to {zones[place][1]}, and had ended from {begin} to {end}"


def one_load_at_a_time(register: Register) -> Iterator[str]:
    """A key is loaded by one at a time, unless that one died, or the key was stored or deleted meanwhile."""
    history = register.history
    changes = [*register.stores, *register.endings]
    loads = sorted(register.loads, key=lambda op: op.begin)
    for place, second in enumerate(loads):
        for first in loads[max(0, place - 32) : place]:
            end = first.end if first.end < NEVER else history.died(first.process)
            is_changed = any(
                op.begin <= second.begin and op.end >= register.fetch_of[first.said[1]].begin for op in changes
            )
            if second.begin < end and not is_changed:
                yield f"two loads at once: {first}, {second}"


def failures_are_told(register: Register) -> Iterator[str]:
    """`LoadError` is of a load of that key that failed while the caller waited."""
    # From the begin of the loader until the caller knows: in between the cache is told.
    failed = [
        (op.begin, register.fetch_of[op.said[1]].end, register.history.pids.get(op.process))
        for op in register.loads
        if op.found is None or op.found[0] == "raised"
    ]
    for op in register.fetches:
        if op.found is None or op.found[0] != "failed":
            continue
        if not any(begin <= op.end and end >= op.begin and pid == op.found[1] for begin, end, pid in failed):
            yield f"{op}, though no load failed there then"


# ---- locks ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Section:
    """A time that a process was inside of a lock: surely from `begin` to `end`."""

    enter: Op
    leave: Op | None
    begin: int
    end: int


class Guard:
    """All that happened to one lock, and the number that it guards: each section adds one."""

    def __init__(self, history: History, name: str) -> None:
        self.history = history
        self.enters = [op for op in history.by_kind["enter"] if op.on == name]
        leaves = {op.said[0]: op for op in history.by_kind["leave lock"] if op.on == name}
        inside = [op for op in self.enters if op.found is not None and op.found[0] == "in"]
        self.sections = sorted((self._section(op, leaves.get(op.said[0])) for op in inside), key=lambda one: one.begin)

    def _section(self, enter: Op, leave: Op | None) -> Section:
        return Section(enter, leave, enter.end, leave.begin if leave else self.history.died(enter.process))

    def may_have_died(self, before: int) -> bool:
        """Say whether somebody may have died inside before a time."""
        ends = {one.enter.said[0] for one in self.sections if one.leave is not None and one.leave.found is not None}
        outside = {op.said[0] for op in self.enters if op.found is not None and op.found[0] != "in"}
        return any(op.said[0] not in ends | outside and self.history.died(op.process) <= before for op in self.enters)


def one_inside(guard: Guard) -> Iterator[str]:
    """No two are inside of a lock at once."""
    for before, after in pairwise(guard.sections):
        if after.begin < before.end:
            yield f"two inside: {before.enter} until {before.end}, {after.enter}"


def numbers_are_kept(guard: Guard) -> Iterator[str]:
    """Who comes in finds what the last one left; of one that died inside perhaps what that found."""
    for before, after in pairwise(guard.sections):
        assert before.enter.found is not None
        assert after.enter.found is not None
        found, now = before.enter.found[1], after.enter.found[1]
        if now not in ((found + 1,) if before.leave is not None else (found, found + 1)):
            yield f"{now} was there after {found}: {before.enter}, {after.enter}"


def deaths_are_told(guard: Guard) -> Iterator[str]:
    """After a death inside the next ones are told until one recovers, and nobody is told without a death."""
    for before, after in pairwise(guard.sections):
        if before.leave is None and not after.enter.said[1]:
            yield f"not told of a death inside: {before.enter}, {after.enter}"
    for op in guard.enters:
        if op.found is not None and op.found[0] == "told" and not guard.may_have_died(op.end):
            yield f"told of a death that was none: {op}"


# ---- all rules ------------------------------------------------------------------------------------------------------

RING_RULES: tuple[Callable[[Stream], Iterator[str]], ...] = (
    puts_in_order, numbers_without_gaps, contents_are_whole, numbers_ascend, every_frame, readers_begin_in_time,
    the_newest, empty_is_empty, the_window_holds, the_end_comes_last, one_member_each, a_group_gets_all,
    books_are_right,
)  # fmt: skip
CACHE_RULES: tuple[Callable[[Register], Iterator[str]], ...] = (
    values_were_written, no_stale_value, one_load_at_a_time, failures_are_told,
)  # fmt: skip
LOCK_RULES: tuple[Callable[[Guard], Iterator[str]], ...] = (one_inside, numbers_are_kept, deaths_are_told)
RULES = tuple(rule.__name__.replace("_", " ") for rule in (*RING_RULES, *CACHE_RULES, *LOCK_RULES))


def check(history: History) -> dict[str, list[str]]:
    """Return what violates a rule, by the names of rules."""
    found: dict[str, list[str]] = {}

    def look(rule: Callable[[Any], Iterable[str]], at: Any, name: str) -> None:
        if violations := list(rule(at)):
            found.setdefault(rule.__name__.replace("_", " "), []).extend(f"{name}: {text}" for text in violations)

    for name in history.rings:
        stream = Stream(history, name)
        for rule in RING_RULES:
            look(rule, stream, f"ring {name}")
    keys = {op.on for kind in ("look", "fetch", "store", "delete") for op in history.by_kind[kind]}
    for key in sorted(keys):
        register = Register(history, key)
        for rule in CACHE_RULES:
            look(rule, register, f"key {key}")
    for name in sorted({op.on for op in history.by_kind["enter"]}):
        guard = Guard(history, name)
        for rule in LOCK_RULES:
            look(rule, guard, f"lock {name}")
    return found


def facts(history: History) -> Counter[str]:
    """Count what makes a history worth a check: frames that a group's dead handed over, and those that were skipped."""
    found: Counter[str] = Counter()
    for name in history.rings:
        stream = Stream(history, name)
        for lives in _groups(stream).values():
            got = Counter(number(get) for life in lives for get in life.frames)
            found["handed over"] += sum(count - 1 for count in got.values())
        for life in stream.lives:
            if life.mode == "every":
                found["skipped"] += sum(number(after) - number(before) - 1 for before, after in pairwise(life.frames))
    return found
