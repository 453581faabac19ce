"""How a run keeps to its time: each benchmark is given a share of what is left.

Shares are in the ratio of what the benchmarks took in the kept run; one that was not in it counts as the usual one. A
benchmark that needs less leaves the rest to those after it, and one that needs more, because three rounds take longer
than its share, takes it from them.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

USUAL, USUAL_ALONE = 6.0, 40.0  # seconds, where nothing is known; of rows whose contestants have processes of their own


class Budget:
    """The seconds of a run, and the benchmarks that are still to come.

    >>> budget = Budget(100, ["a", "b", "c"], {"a": 1.0, "b": 3.0})
    >>> round(budget.share("a", now=0.0), 1)  # of 1 + 3 + 2
    16.7
    >>> round(budget.share("b", now=40.0), 1)  # of 3 + 2
    36.0
    """

    def __init__(self, seconds: float, names: Iterable[str], took: dict[str, float]) -> None:
        usual = median(took.values()) if took else USUAL
        self.seconds = seconds
        self.left = {name: took.get(name, usual) for name in names}

    def share(self, name: str, now: float) -> float:
        """Return the seconds for a benchmark that begins now, so many seconds after the run began."""
        part = self.left[name] / sum(self.left.values())
        del self.left[name]
        return max(0.0, (self.seconds - now) * part)
