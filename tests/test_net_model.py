"""The model of a site on paper keeps its books, and agrees with arithmetic where there is a formula."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import pytest
from bench.net_growth import growth, row
from bench.net_model import (
    COPIES_EACH,
    COPIES_ONCE,
    COPIES_THERE,
    CORE_BYTES,
    FAR_QUEUE,
    FRAME,
    MACHINE_BYTES,
    RING_READERS,
    TAKE,
    WAKE,
    Clock,
    Machine,
    Shared,
    Site,
    World,
    hops,
    saturation,
)

PAGE = Path(__file__).resolve().parent.parent / "docs" / "net-growth.md"
COPY = 2 * FRAME / CORE_BYTES

SITES = [
    Site(readers=8, seconds=1),
    Site(rate=400, readers=48, seconds=1),
    Site(rate=100, readers=200, seconds=1),
    Site(rate=60, cameras=3, readers=8, bridges=3, far_readers=4, seconds=1),
    Site(bridges=30, far_readers=2, seconds=2),
    Site(bridges=30, far_readers=2, seconds=2, latest=True),
    Site(bridges=30, far_readers=2, seconds=2, one_server=True),
    Site(rate=60, bridges=20, far_readers=2, fan_out=6, seconds=2, seed=7),
]


def arrivals(clock: Clock, rate: float, until: float) -> list[float]:
    """Return moments that know nothing of each other."""
    moments = [clock.dice.expovariate(rate)]
    while moments[-1] < until:
        moments.append(moments[-1] + clock.dice.expovariate(rate))
    return moments


@pytest.mark.parametrize("site", SITES)
def test_each_frame_is_taken_or_counted_or_on_its_way(site: Site) -> None:
    world = World(site).run()
    rings = [ring for machine in world.machines for ring in machine.rings]
    assert world.machines[0].ring.written > 0
    for reader in (reader for ring in rings for reader in ring.readers):
        in_work = reader.next - reader.taken - reader.missed
        assert 0 <= in_work <= 1
        assert reader.ring.written - reader.next >= 0


@pytest.mark.parametrize("site", SITES)
def test_what_is_lost_on_the_way_is_what_was_missed_on_the_way(site: Site) -> None:
    world = World(site).run()
    camera = world.machines[0].ring
    by_far = {id(far): bridge for bridge in world.bridges for far in bridge.targets}
    for far in world.fars:
        bridge, came = by_far[id(far)], far.machine.ring.written
        assert far.lost + came == far.expected <= camera.written
        # What the bridge took has come, but for what is on its way.
        assert 0 <= bridge.next - bridge.missed - came <= FAR_QUEUE + 1
    for reader in world.far:
        assert reader.lost + reader.taken + (reader.next - reader.taken - reader.missed) == reader.expected


@pytest.mark.parametrize("one_server", [False, True])
def test_who_is_slow_holds_up_those_of_the_same_server(one_server: bool) -> None:
    slow = FAR_QUEUE / 0.5
    rate = slow if one_server else (9 * 25 + slow) / 10
    site = Site(bridges=10, far_readers=1, pause=0.5, one_server=one_server)
    assert growth(site).rate == pytest.approx(rate, rel=0.07)


def test_the_same_seed_gives_the_same_site() -> None:
    site = Site(bridges=12, far_readers=2, seconds=1)
    assert growth(site) == growth(site)
    assert growth(site).p99 != growth(Site(bridges=12, far_readers=2, seconds=1, seed=2)).p99


def test_without_load_the_lag_is_the_sum_of_what_is_done() -> None:
    alone = growth(Site(readers=1, seconds=20))
    sum_of_steps = FRAME / CORE_BYTES + WAKE + TAKE + FRAME / CORE_BYTES
    assert alone.p50 == pytest.approx(sum_of_steps, rel=0.1)
    site = Site(readers=0, bridges=1, far_readers=1)
    # The copies for the link go on while it carries.
    assert FRAME / site.link_bytes > COPIES_EACH * COPY
    sum_of_steps += WAKE + TAKE + (COPIES_ONCE + COPIES_THERE) * COPY + FRAME / site.link_bytes
    assert growth(site).p50 == pytest.approx(sum_of_steps, rel=0.02)


@pytest.mark.parametrize("latest", [False, True])
@pytest.mark.parametrize("one_server", [False, True])
def test_a_link_is_at_its_end_where_arithmetic_says(latest: bool, one_server: bool) -> None:
    site = Site(far_readers=1, seconds=8, latest=latest, one_server=one_server)
    most = int(saturation(site)["link"])
    enough, short = (growth(replace(site, bridges=bridges)) for bridges in (most - 1, 22))
    assert (most, enough.lost) == (11, 0)
    assert enough.rate == pytest.approx(site.rate, rel=0.02)
    assert short.rate == pytest.approx(site.link_bytes / (22 * FRAME), rel=0.05)
    assert short.lost > 0.3
    assert short.link > 0.95


def test_a_memory_is_at_its_end_where_arithmetic_says() -> None:
    readers = int(MACHINE_BYTES / FRAME / 100) - 1
    enough, short = (growth(Site(100, readers=n, seconds=1.5)) for n in (readers - 8, 2 * readers))
    assert (enough.lost, enough.rate) == (0, pytest.approx(100, rel=0.02))
    assert short.rate == pytest.approx(MACHINE_BYTES / FRAME / (2 * readers), rel=0.1)
    assert short.lost > 0
    assert short.bytes > 0.97


def test_a_processor_keeps_a_queue_as_in_the_books() -> None:
    # M/D/1: with a load of r, one waits r / (2 (1 - r)) times the work.
    work, load, waits = 1.0, 0.7, list[float]()
    clock = Clock(3)
    machine = Machine(clock, Site(cores=2))
    for moment in arrivals(clock, load / work, 60_000):

        def come(moment: float = moment) -> None:
            machine.run(work, 0, lambda: waits.append(clock.now - moment - work))

        clock.after(moment, come)
    clock.run(60_000)
    assert sum(waits) / len(waits) == pytest.approx(load / (2 * (1 - load)) * work, rel=0.05)
    assert machine.busy / 60_000 == pytest.approx(load, rel=0.02)


def test_a_link_is_shared_as_in_the_books() -> None:
    # M/G/1 with shares: the time there is the work / (1 - r), whatever the sizes are.
    clock, load, times = Clock(5), 0.6, list[float]()
    link, sizes = Shared(clock, 1.0), Random(6)
    for moment in arrivals(clock, load, 60_000):

        def come(moment: float = moment) -> None:
            link.join(sizes.choice([0.5, 1.5]), lambda: times.append(clock.now - moment))

        clock.after(moment, come)
    clock.run(60_000)
    assert sum(times) / len(times) == pytest.approx(1 / (1 - load), rel=0.05)
    assert link.carried / 60_000 == pytest.approx(load, rel=0.02)


def test_who_is_ready_first_runs_first() -> None:
    clock, ended = Clock(), list[int]()
    machine = Machine(clock, Site(cores=2))
    for job in range(4):
        machine.run(1.0, 0, partial(ended.append, job))
    clock.run(10)
    assert ended == [0, 1, 2, 3]


def test_jobs_end_in_their_order_and_carry_all_bytes() -> None:
    clock, ended = Clock(), list[tuple[str, float]]()
    memory = Shared(clock, 10, most=8)
    for name, size, start in (("long", 30, 0.0), ("short", 5, 1.0)):
        clock.after(start, partial(memory.join, size, lambda name=name: ended.append((name, clock.now))))
    clock.run(9)
    # 8 in the first second, then 5 a second each, then 8 again.
    assert ended == [("short", pytest.approx(2)), ("long", pytest.approx(2 + 17 / 8))]
    assert memory.carried == pytest.approx(35)


def test_a_ring_that_is_behind_keeps_its_slots_and_what_is_in_hand() -> None:
    calm, behind = World(Site(readers=4, seconds=1)).run(), World(Site(2000, readers=32, seconds=0.5)).run()
    assert calm.machines[0].most_kept == 1
    assert 8 <= behind.machines[0].most_kept <= 8 + 32


def test_no_ring_has_more_readers_than_it_takes() -> None:
    world = World(Site(readers=1000))
    assert len(world.local) == 1000
    assert max(len(ring.readers) for ring in world.machines[0].rings) <= RING_READERS


@pytest.mark.parametrize(("bridges", "fan_out", "deep"), [(64, 0, 1), (64, 2, 6), (64, 3, 4), (64, 8, 2), (1, 3, 1)])
def test_a_tree_reaches_all_and_costs_its_hops(bridges: int, fan_out: int, deep: int) -> None:
    assert hops(bridges, fan_out) == deep
    world = World(Site(bridges=bridges, fan_out=fan_out))
    reached = [id(far) for bridge in world.bridges for far in bridge.targets]
    assert sorted(reached) == sorted(map(id, world.fars))


def test_a_tree_carries_what_a_star_loses() -> None:
    star, tree = (growth(Site(bridges=30, far_readers=1, fan_out=k, seconds=4)) for k in (0, 3))
    assert star.lost > 0.5
    assert tree.lost == 0
    site = Site()
    hop = COPIES_ONCE * COPY + 3 * FRAME / site.link_bytes + COPIES_THERE * COPY + WAKE
    assert tree.p99 == pytest.approx(hops(30, 3) * hop, rel=0.1)


@pytest.mark.parametrize(
    ("label", "site"), [("16", Site(100, readers=16, seconds=4)), ("4", Site(bridges=4)), ("12", Site(bridges=12))]
)
def test_the_page_has_what_the_model_says(label: str, site: Site) -> None:
    assert row(label, growth(site)) in PAGE.read_text()
