"""The crash campaign and the soak for some seconds; `make crash` gives each of them more, and their commands hours."""

import gc
import multiprocessing
from types import SimpleNamespace
from typing import cast

import pytest

import campaign
import campaign_workers as crew
import soak
from helpers import ROUNDS

needs_points = pytest.mark.skipif(not campaign.LABELS, reason="this build has no kill points")


@needs_points
@pytest.mark.crash
@pytest.mark.timeout(300)
def test_the_crew_survives_deaths_at_labels_and_at_random() -> None:
    rounds = 25 if ROUNDS == 1 else 3 * len(campaign.LABELS)
    report = campaign.run(rounds=rounds, seconds=3 if ROUNDS == 1 else 60, seed=11, form="quick", longest_stop_s=0.2)
    value = report.value()
    print(campaign.show(value))
    assert not report.is_wrong(), report.told
    assert value["deaths"]["labelled"] + value["deaths"]["random"] + value["deaths"]["survived"] == value["rounds"] > 0
    assert value["deaths"]["labelled"] > 0


@pytest.mark.crash
@pytest.mark.timeout(300)
def test_nothing_grows_while_a_process_dies_every_50_ms() -> None:
    one = soak.Soak(7, "quick")
    one.run(*((2.5, 0.1) if ROUNDS == 1 else (20, 0.2)))
    value = soak.value_of(one)
    print(soak.show(value))
    assert not one.report.is_wrong(), one.report.told
    assert value["kills"] > 2
    if ROUNDS > 1:
        assert not soak.grows(value), soak.show(value)


def test_no_answer_stays_in_its_pipe() -> None:
    """Where one of the crew had died, the answers of those behind it were heard at the next question."""
    one = campaign.Campaign(1, "quick", 0.1)
    pipes = [multiprocessing.Pipe() for _ in range(2)]
    is_alive = [False, True]
    one.hands = [
        cast("campaign.Hand", SimpleNamespace(conn=ours, process=SimpleNamespace(is_alive=lambda alive=alive: alive)))
        for (ours, _), alive in zip(pipes, is_alive, strict=True)
    ]
    pipes[0][1].close()
    pipes[1][1].send("calm")
    assert not one.all_calm()
    assert not one.hands[1].conn.poll(), "an answer is left"
    assert not one.report.told


@needs_points
def test_who_survives_a_strike_keeps_nothing_of_it() -> None:
    """A survivor kept readers and arrays in a circle of objects: "the dead do not go", twice in 3,680 rounds."""

    def survive(world: crew.World) -> None:
        gc.disable()
        lead = crew._among(world, "ring:over", 1_000_000)
        while not world.ring.stats()["readers"]:
            next(lead)
        lead.close()
        assert not world.ring.stats()["readers"]

    with campaign.places() as folder:
        world = crew.World(folder, crew.Notes())
        # In a child, which has the kill point armed to its end.
        crew.wait_for(crew.forked(lambda: survive(world)))


def test_a_line_that_rises_is_seen() -> None:
    """A leak that is small beside the noise is found, and noise is not taken for one."""
    rng = soak.np.random.default_rng(3)
    times = soak.np.arange(0.0, 600.0)
    noise = rng.normal(0, 1, len(times))
    assert soak.fit(times, 40 + noise)["is_zero"]
    assert soak.fit(times, 40 + 0 * noise)["is_zero"]
    rising = soak.fit(times, 40 + noise + times / 300)
    assert not rising["is_zero"]
    assert abs(rising["per_hour"] - 12) < 3 * rising["error"] + 1


def test_pauses_are_counted_within_a_wait_only() -> None:
    """What is taken off a wait is what overlaps it; a pause that goes on counts up to now."""
    notes = crew.Notes()
    notes.pause(100, 200, 2)
    place = notes.pause(300, 0, 1)
    assert notes.paused(0, 1000) == 100 + 700
    assert notes.paused(150, 250) == 50
    notes.pauses[place, 1] = 350
    assert notes.paused(0, 1000) == 150
    assert notes.paused(400, 1000) == 0
    notes.pause(120, 180, 3)
    assert notes.paused(0, 1000) == 150, "what overlaps counts once"
