"""The soak: eight processes do everything at once, one of them is killed every 50 ms, and nothing may grow.

Each second it is measured how much memory and how many descriptors processes have, how many bytes of the arena are in
use, and how many participants, tickets and readers there are. After a warm-up a straight line is fitted to each by
least squares. Its slope must be zero within three standard errors; the error is that of means over blocks, because
samples that follow each other are alike. A slope that would make less than 1 % in an hour counts as zero as well; in
a run of less than three minutes one that makes less than a quarter in its whole.

`make soak` runs ten minutes and draws ``docs/soak.svg``; `python tests/soak.py --quick` some seconds, in the same
way.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import ndshare as nds
from campaign import CREW, WRONG_ENOUGH, Campaign, keep
from helpers import descriptors

WARM_UP = 0.2  # of the time
BLOCKS = 24  # means that the line is fitted to
SIGMAS = 3.0
KILL_EVERY_S = 0.05
LONG_RUN_H = 0.05
UNITS = {
    "rss of the survivor": "MiB",
    "rss of one of the crew": "MiB",
    "descriptors of the survivor": "",
    "descriptors of one of the crew": "",
    "arena in use": "MiB",
    "arena in use or warm": "MiB",
    "participants": "",
    "tickets": "",
    "readers": "",
}


class Soak(Campaign):
    """A campaign whose only deaths are random ones, and which measures instead of asking."""

    def __init__(self, seed: int, form: str) -> None:
        super().__init__(seed, form, 0.1)
        self.samples: list[dict[str, float]] = []
        self.times: list[float] = []

    def run(self, seconds: float, every_s: float) -> None:
        """Kill and measure for so long."""
        with self.voyage():
            begun = time.monotonic()
            next_sample = next_look = begun
            while (now := time.monotonic()) < begun + seconds and self.report.corrupted < WRONG_ENOUGH:
                self.report.rounds += 1
                self.kill_one(self.rng.randrange(CREW))
                if now >= next_sample:
                    self.times.append(now - begun)
                    self.samples.append(self.sample())
                    next_sample += every_s
                if now >= next_look:
                    self.go_on("a random instant")
                    self.look("a random instant")
                    # Letters whose receivers died with them in hand.
                    nds.reclaim(older_than=2.0, arena=self.world.arena)
                    next_look += 1.0
                self.replace_the_failed()
                time.sleep(max(0.0, begun + self.report.rounds * KILL_EVERY_S - time.monotonic()))

    def kill_one(self, place: int) -> None:
        self.bury(place)
        self.report.random_deaths += 1

    def sample(self) -> dict[str, float]:
        """Measure everything now."""
        stats = nds.stats(self.world.arena)
        pids = [one.process.pid for one in self.hands if one.process.is_alive()]
        values = (
            rss_mib(os.getpid()), mean(rss_mib(pid) for pid in pids), descriptors(),
            mean(descriptors(pid) for pid in pids), stats["bytes"] / 2**20, (stats["bytes"] + stats["warm"]) / 2**20,
            len(stats["participants"]), len(stats["tickets"]), len(self.world.ring.stats()["readers"]),
        )  # fmt: skip
        return dict(zip(UNITS, map(float, values), strict=True))

    def lines(self) -> dict[str, dict[str, float | bool]]:
        """Return the line through the samples of each kind after the warm-up."""
        times = np.array(self.times)
        late = times >= WARM_UP * times[-1]
        return {name: fit(times[late], np.array([one[name] for one in self.samples])[late]) for name in UNITS}


def mean(values: Any) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0


def rss_mib(pid: int) -> float:
    """Return how much memory a process has in use, in MiB, with what it has mapped of arenas."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, IndexError):
        return 0.0


def fit(times: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> dict[str, float | bool]:
    """Fit a line by least squares to means over blocks: its slope per hour, the error of that, whether it is zero."""
    blocks = max(4, min(BLOCKS, len(times) // 2))
    x = np.array([part.mean() for part in np.array_split(times, blocks)]) / 3600
    y = np.array([part.mean() for part in np.array_split(values, blocks)])
    away = x - x.mean()
    slope = float((away * y).sum() / (away**2).sum())
    rest = y - y.mean() - slope * away
    error = math.sqrt(float((rest**2).sum()) / (blocks - 2) / float((away**2).sum()))
    # A short run says little of hours: there only what rises by a quarter within it is taken for growth.
    hours = float(x[-1] - x[0])
    least = 0.01 if hours > LONG_RUN_H else 0.25 / hours
    is_zero = abs(slope) <= SIGMAS * error or abs(slope) <= least * float(y.mean())
    return {"mean": float(y.mean()), "per_hour": slope, "error": error, "is_zero": is_zero}


def draw(soak: Soak, path: Path) -> None:
    """Draw the samples and their lines."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ImportError("a picture of the soak needs matplotlib: pip install matplotlib") from error
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "ndshare"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 3, figsize=(11, 7), sharex=True, layout="constrained")
    lines = soak.lines()
    minutes = np.array(soak.times) / 60
    for (name, unit), ax in zip(UNITS.items(), axes.flat, strict=True):
        ax.plot(minutes, [one[name] for one in soak.samples], lw=0.7, color="tab:blue")
        x = np.array([WARM_UP * minutes[-1], minutes[-1]])
        ax.plot(x, lines[name]["mean"] + lines[name]["per_hour"] * (x - x.mean()) / 60, color="tab:orange")
        ax.set_title(f"{name}{f' ({unit})' if unit else ''}", fontsize=9)
        ax.set_ylim(bottom=0)
    for ax in axes[-1]:
        ax.set_xlabel("minutes")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def value_of(soak: Soak) -> dict[str, Any]:
    """Return all figures."""
    report = soak.report.value()
    kept = (
        "form",
        "date",
        "host",
        "seed",
        "seconds",
        "corrupted",
        "findings",
        "hung",
        "bytes_lost",
        "files_left",
        "told",
    )
    return {
        **{name: report[name] for name in kept},
        "kills": soak.report.random_deaths,
        "samples": len(soak.samples),
        "lines": soak.lines(),
        "seen": [{"second": round(at, 2), **one} for at, one in zip(soak.times, soak.samples, strict=True)],
    }


def show(value: dict[str, Any]) -> str:
    """Return the figures as lines of text."""
    lines = [
        f"soak, {value['form']} form, seed {value['seed']}, {value['date']}, {value['host']['cpu']}",
        f"{value['kills']} kills in {value['seconds']} s; corrupted {value['corrupted']}, "
        f"findings {value['findings']}, hung {value['hung']}, bytes lost {value['bytes_lost']}, "
        f"files left {value['files_left']}",
        f"{'':32}{'mean':>10}{'slope an hour':>16}{'error':>10}",
    ]
    for name, line in value["lines"].items():
        verdict = "" if line["is_zero"] else "   grows" if line["per_hour"] > 0 else "   shrinks"
        title = f"{name}{f' ({UNITS[name]})' if UNITS[name] else ''}"
        lines.append(f"{title:32}{line['mean']:10.2f}{line['per_hour']:+16.2f}{line['error']:10.2f}{verdict}")
    return "\n".join(lines)


def grows(value: dict[str, Any]) -> list[str]:
    """Return what grows."""
    return [name for name, line in value["lines"].items() if not line["is_zero"] and line["per_hour"] > 0]


def is_bad(value: dict[str, Any]) -> bool:
    return bool(grows(value)) or any(
        value[name] for name in ("corrupted", "findings", "hung", "bytes_lost", "files_left")
    )


def main() -> int:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="some seconds, with more samples")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--svg", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path("target/soak.json"))
    wanted = parser.parse_args()
    soak = Soak(wanted.seed, "quick" if wanted.quick else "long")
    soak.run(*((20, 0.2) if wanted.quick else (60 * wanted.minutes, 1.0)))
    value = value_of(soak)
    keep(value, wanted.out)
    print(show(value), flush=True)
    if wanted.svg:
        draw(soak, wanted.svg)
    return 1 if is_bad(value) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
