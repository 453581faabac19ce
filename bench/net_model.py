"""A site on paper: cameras, readers, bridges and links, as discrete events. `bench.net_growth` asks it and draws.

A frame costs the camera's machine its writing, then one wake-up for each sleeper. A reader takes a processor, looks at
all bytes, and shares the memory's rate with whoever else runs. A bridge is a reader whose queue is the ring; it
copies, and sends over the link that all bridges of its machine share. What arrives is copied into a ring there, which
has readers and may have bridges of its own. A ring keeps what ours would keep, and what it passes over is counted.

A constant that was measured says where; all others are assumptions, and stand below that word.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from itertools import count, islice
from math import inf
from typing import NamedTuple

FRAME = 4 << 20
# Measured, in the table of README.md.
TAKE = 0.91e-6  # to take a frame that is there: half of a round trip, row ring-busy
WAKE = 27e-6  # until a sleeper runs: half of a round trip, row ring-asleep
CORE_BYTES = 32e9  # a second that one core reads or writes of the memory: streaming reads of 400 MiB in 13 ms
# By the code of the bridge (docs/net.md), in copies of a frame. The kernel's own copy at a socket is added.
COPIES_ONCE = 2  # into `bytes` and a `ZBytes`, whoever gets it
COPIES_EACH = 2  # into batches of a link, and into the kernel
COPIES_THERE = 3  # out of the kernel, into `bytes`, into a slot
FAR_QUEUE = 2  # frames that wait for a ring there; then the network waits
RING_READERS = 64  # the most that a ring takes
# Assumptions.
WAKE_WORK = 2e-6  # of the writer's time for each sleeper that it wakes
MACHINE_BYTES = 60e9  # a second that the memory of a machine carries: two channels of DDR5
CORES = 16
LINK_SHARE = 0.94  # of a link's bits that are ours: Ethernet, IP and TCP have the rest
JITTER = 0.5  # of a wake-up's time that is random, with an exponential tail

Done = Callable[[], None]


class Frame(NamedTuple):
    """A frame by the number and the time that the camera's ring gave it."""

    seq: int
    time: float


class Clock:
    """What happens when."""

    def __init__(self, seed: int = 1) -> None:
        self.now, self.dice = 0.0, random.Random(seed)
        self._events: list[tuple[float, int, Done]] = []
        self._order = count()

    def after(self, seconds: float, event: Done) -> None:
        """Have something happen later."""
        heappush(self._events, (self.now + seconds, next(self._order), event))

    def run(self, until: float) -> None:
        """Let everything happen that does until then."""
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heappop(self._events)
            event()
        self.now = until


class Shared:
    """A rate in bytes that jobs share evenly, each up to a most: a memory, or a link."""

    def __init__(self, clock: Clock, rate: float, most: float = inf) -> None:
        self.clock, self.rate, self.most, self.carried = clock, rate, most, 0.0
        self._jobs: list[tuple[float, int, Done]] = []
        self._order, self._timer = count(), 0
        # Bytes that each job had which was there from the beginning; a job ends when this reaches its own mark.
        self._given, self._since = 0.0, 0.0

    def _speed(self) -> float:
        return min(self.most, self.rate / len(self._jobs))

    def _advance(self) -> None:
        if self._jobs:
            step = (self.clock.now - self._since) * self._speed()
            self._given += step
            self.carried += step * len(self._jobs)
        self._since = self.clock.now

    def join(self, size: float, done: Done) -> None:
        """Carry so many bytes, beside the others."""
        self._advance()
        heappush(self._jobs, (self._given + size, next(self._order), done))
        self._arm()

    def _arm(self) -> None:
        self._timer += 1
        if self._jobs:
            rest = max(0.0, self._jobs[0][0] - self._given)
            self.clock.after(rest / self._speed(), partial(self._end, self._timer))

    def _end(self, timer: int) -> None:
        if timer != self._timer:
            return
        self._advance()
        self._given, _, done = heappop(self._jobs)
        self._arm()
        done()


class Machine:
    """Processors, first come, first served; the memory that they share; the link out; a ring."""

    def __init__(self, clock: Clock, site: Site) -> None:
        self.clock, self.busy, self._free = clock, 0.0, site.cores - site.cameras
        self.memory = Shared(clock, MACHINE_BYTES, CORE_BYTES)
        self.link = Shared(clock, site.link_bytes)
        self._waiting: deque[tuple[float, float, Done]] = deque()
        self.rings: list[Ring] = []
        self.ring = Ring(self, site.slots)
        self.copies, self.most_copies, self.most_kept = 0, 0, 0

    def count_kept(self) -> None:
        """Count the frames that somebody waits for or has in hand; one that is in several rings is there once."""
        self.most_kept = max(self.most_kept, len(set[int]().union(*(ring.kept() for ring in self.rings))))

    def hold_copies(self, frames: int) -> None:
        """Have so many copies of frames more in ordinary memory, or fewer."""
        self.copies += frames
        self.most_copies = max(self.most_copies, self.copies)

    def run(self, seconds: float, size: float, done: Done) -> None:
        """Have a processor for some time, and then for so many bytes of the memory."""
        self._waiting.append((seconds, size, done))
        self._start()

    def _start(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            seconds, size, done = self._waiting.popleft()
            end = partial(self._end, self.clock.now, done)
            self.clock.after(seconds, partial(self.memory.join, size, end) if size else end)

    def _end(self, start: float, done: Done) -> None:
        self._free += 1
        self.busy += self.clock.now - start
        done()
        self._start()


class Ring:
    """The last frames, and who reads them. It drops the oldest."""

    def __init__(self, machine: Machine, slots: int) -> None:
        self.machine, self.slots, self.written = machine, slots, 0
        self.frames: deque[Frame] = deque(maxlen=slots)
        self.readers: list[Reader] = []
        self.held: Counter[int] = Counter()
        machine.rings.append(self)

    def publish(self, frame: Frame) -> float:
        """Show a frame to all readers; return the seconds that waking them takes."""
        self.frames.append(frame)
        self.written += 1
        sleepers = [reader for reader in self.readers if reader.is_asleep]
        for place, reader in enumerate(sleepers):
            reader.wake((place + 1) * WAKE_WORK)
        if self is self.machine.ring:
            self.machine.count_kept()
        return len(sleepers) * WAKE_WORK

    def kept(self) -> set[int]:
        """Return the frames that somebody waits for or has in hand, and the newest."""
        first = min([self.written - 1, *(reader.next for reader in self.readers if not reader.latest)])
        wanted = min(self.written - first, len(self.frames))
        return {frame.seq for frame in islice(reversed(self.frames), wanted)} | set(self.held)


class Reader:
    """A cursor in a ring: it takes frames, works on each, and counts those that went before it had them."""

    def __init__(self, ring: Ring, latest: bool = False) -> None:
        self.ring, self.machine, self.latest = ring, ring.machine, latest
        self.next, self.taken, self.missed, self.is_asleep = ring.written, 0, 0, True
        # By the numbers of the camera's ring, so it tells of the whole way; `missed` tells of this ring.
        self.lost, self.expected = 0, 0
        self.hand: int | None = None
        self.lags: list[float] = []
        ring.readers.append(self)

    def wake(self, after: float) -> None:
        """Be woken."""
        self.is_asleep = False
        clock = self.machine.clock
        clock.after(after + WAKE * (1 - JITTER + JITTER * clock.dice.expovariate(1)), self._take)

    def _take(self) -> None:
        ring = self.ring
        if self.next == ring.written:
            self.is_asleep = True
            return
        number = ring.written - 1 if self.latest else max(self.next, ring.written - len(ring.frames))
        self.missed += number - self.next
        self.next = number + 1
        frame = ring.frames[number - ring.written]
        self.lost += frame.seq - self.expected
        self.expected, self.hand = frame.seq + 1, frame.seq
        ring.held[frame.seq] += 1
        self.work(frame, partial(self._done, frame))

    def let_go(self) -> None:
        """Have no frame in hand any more."""
        if self.hand is not None:
            self.ring.held[self.hand] -= 1
            if not self.ring.held[self.hand]:
                del self.ring.held[self.hand]
            self.hand = None

    def _done(self, frame: Frame) -> None:
        self.let_go()
        self.taken += 1
        self.lags.append(self.machine.clock.now - frame.time)
        self._take()

    def work(self, frame: Frame, done: Done) -> None:  # noqa: ARG002
        """Look at all bytes."""
        self.machine.run(TAKE, FRAME, done)


class Relay(Reader):
    """A reader that puts each frame into a further ring of its machine, as it is."""

    def __init__(self, ring: Ring) -> None:
        super().__init__(ring)
        self.further = Ring(ring.machine, ring.slots)

    def work(self, frame: Frame, done: Done) -> None:
        """Publish the same block once more."""

        def publish() -> None:
            self.machine.run(self.further.publish(frame), 0, done)

        self.machine.run(2 * TAKE, 0, publish)


class Far:
    """What receives on another machine. Its ring counts as lost what the numbers leave out."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.lost, self.expected, self.waiting, self.pause = machine, 0, 0, 0, 0.0
        self._ready: deque[Done] = deque()

    def receive(self, frame: Frame, ready: Done) -> None:
        """Copy a frame into the ring; the sender may send its next one when there is room for it."""
        self.waiting += 1
        self._ready.append(ready)
        if self.waiting < FAR_QUEUE:
            self._ready.popleft()()
        copy = partial(self.machine.run, 0, COPIES_THERE * 2 * FRAME, partial(self._publish, frame))
        self.machine.clock.after(self.pause, copy)

    def _publish(self, frame: Frame) -> None:
        self.lost += frame.seq - self.expected
        self.expected = frame.seq + 1
        spent = self.machine.ring.publish(frame)
        self.machine.run(spent, 0, self._next)

    def _next(self) -> None:
        self.waiting -= 1
        if self._ready:
            self._ready.popleft()()


class Bridge(Reader):
    """A server: a reader that sends each frame to other machines, to one after the other."""

    def __init__(self, ring: Ring, latest: bool, targets: list[Far]) -> None:
        super().__init__(ring, latest)
        self.targets = targets

    def work(self, frame: Frame, done: Done) -> None:
        """Copy the frame, and begin to send."""
        self.machine.hold_copies(COPIES_ONCE)
        self.machine.run(TAKE, COPIES_ONCE * 2 * FRAME, partial(self._send, frame, 0, done))

    def _send(self, frame: Frame, place: int, done: Done) -> None:
        """Send to the targets from one on. The copies into batches and the kernel go on while the link carries."""
        # The copies wait for the network, not the frame.
        self.let_go()
        if place == len(self.targets):
            self.machine.hold_copies(-COPIES_ONCE)
            done()
            return
        parts = count(1)

        def part() -> None:
            if next(parts) == COPIES_EACH + 1:
                self.targets[place].receive(frame, partial(self._send, frame, place + 1, done))

        self.machine.link.join(FRAME, part)
        for _ in range(COPIES_EACH):
            self.machine.run(0, 2 * FRAME, part)


class Camera:
    """A writer with a core of its own. It begins no frame while it has one to publish; that is counted."""

    def __init__(self, machine: Machine, site: Site, first: float) -> None:
        self.machine, self.period, self.overruns, self._is_busy = machine, 1 / site.rate, 0, False
        machine.clock.after(first, self._tick)

    def _tick(self) -> None:
        self.machine.clock.after(self.period, self._tick)
        if self._is_busy:
            self.overruns += 1
        else:
            self._is_busy = True
            self.machine.memory.join(FRAME, partial(self._publish, self.machine.clock.now))

    def _publish(self, start: float) -> None:
        clock, ring = self.machine.clock, self.machine.ring
        spent = ring.publish(Frame(ring.written, start))
        self.machine.busy += clock.now - start + spent
        clock.after(spent, self._rest)

    def _rest(self) -> None:
        self._is_busy = False


@dataclass(frozen=True)
class Site:
    """What is asked for.

    `fan_out` is how many machines a machine serves, 0 all at once; `link` is in bits a second; `pause` is how long the
    last machine takes for a frame besides.
    """

    rate: float = 25
    cameras: int = 1
    readers: int = 1
    bridges: int = 0
    far_readers: int = 16
    fan_out: int = 0
    link: float = 10e9
    latest: bool = False
    one_server: bool = False
    pause: float = 0
    slots: int = 8
    cores: int = CORES
    seconds: float = 10
    seed: int = 1

    @property
    def link_bytes(self) -> float:
        """Bytes of frames that the link carries in a second."""
        return self.link * LINK_SHARE / 8

    @property
    def frames_a_second(self) -> float:
        """How many frames all cameras make."""
        return self.cameras * self.rate


def _add_readers(ring: Ring, readers: int) -> Iterator[Reader]:
    """Give a ring readers; more than it takes go to further rings, into which relays put the frames."""
    if readers <= RING_READERS:
        yield from (Reader(ring) for _ in range(readers))
        return
    relays = -(-readers // RING_READERS)
    for place in range(relays):
        yield from _add_readers(Relay(ring).further, len(range(place, readers, relays)))


class World:
    """A site that runs: the camera's machine is the first, and each serves those whose parent it is."""

    def __init__(self, site: Site) -> None:
        self.site, self.clock = site, Clock(site.seed)
        self.machines = [Machine(self.clock, site) for _ in range(1 + site.bridges)]
        self.fars = [Far(machine) for machine in self.machines[1:]]
        if self.fars:
            self.fars[-1].pause = site.pause
        self.local = list(_add_readers(self.machines[0].ring, site.readers))
        self.far = [reader for far in self.fars for reader in _add_readers(far.machine.ring, site.far_readers)]
        self.bridges = [bridge for place in range(len(self.machines)) for bridge in self._serve(place)]
        steps = (place / site.frames_a_second for place in range(site.cameras))
        self.cameras = [Camera(self.machines[0], site, first) for first in steps]

    def _serve(self, place: int) -> Iterator[Bridge]:
        fan_out = self.site.fan_out or max(1, len(self.fars))
        targets = self.fars[place * fan_out : (place + 1) * fan_out]
        groups = [targets] if self.site.one_server and targets else [[target] for target in targets]
        yield from (Bridge(self.machines[place].ring, self.site.latest, group) for group in groups)

    def run(self) -> World:
        """Let the time pass that was asked for."""
        self.clock.run(self.site.seconds)
        return self


def hops(bridges: int, fan_out: int) -> int:
    """Return how many links the last machine's frames pass."""
    reached, depth, width = 0, 0, 1
    while reached < bridges:
        width *= fan_out or bridges
        reached += width
        depth += 1
    return depth


def saturation(site: Site) -> dict[str, float]:
    """Return at how many bridges of one machine each of its parts is at its end, by arithmetic alone."""
    rate, copy = site.frames_a_second, 2 * FRAME
    once = COPIES_ONCE * copy
    each = COPIES_EACH * copy + (0 if site.one_server else once)
    before = FRAME * (1 + site.readers) + (once if site.one_server else 0)
    return {
        "link": site.link_bytes / (rate * FRAME),
        "memory": (MACHINE_BYTES / rate - before) / each,
        "processors": (site.cores * CORE_BYTES / rate - before) / each,
    }
