"""Run the state machines of the tests for long: ``make states``, or ``python tests/states.py --steps 100000 --seed 1``.

The machines are those of test_stateful.py and of test_cache.py, which the tests run for a few programs. Here each runs
until all together have done so many steps; a step is one call and the comparison of all that can be seen behind it.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, run_state_machine_as_test

from test_cache import AgainstADict
from test_stateful import NamesAgainstADict, OverlayAgainstADict, RingAgainstAList

MACHINES = {"ring": RingAgainstAList, "overlay": OverlayAgainstADict, "names": NamesAgainstADict, "cache": AgainstADict}
# Programs of one round.
PROGRAMS = 100


def counted(machine: type[RuleBasedStateMachine]) -> tuple[type[RuleBasedStateMachine], Callable[[], int]]:
    """Return the same machine, and a function that says how many steps it did."""
    steps = 0

    class Counted(machine):
        @invariant()
        def one_more(self) -> None:
            nonlocal steps
            steps += 1

    return Counted, lambda: steps


def run(machine: type[RuleBasedStateMachine], steps: int, seed: int) -> tuple[int, int]:
    """Run programs until there were so many steps; return how many programs and steps."""
    made, done = counted(machine)
    programs = 0
    options: dict[str, Any] = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
    while done() < steps:
        made._hypothesis_internal_use_seed = seed + programs  # what `hypothesis.seed` sets on a test
        rules = settings(max_examples=PROGRAMS, stateful_step_count=50, **options)
        run_state_machine_as_test(made, settings=rules)
        programs += PROGRAMS
    return programs, done()


def main() -> int:
    """Run all, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=100_000, help="of all machines together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("machines", nargs="*", help=f"some of {', '.join(MACHINES)}; without any, all")
    wanted = parser.parse_args()
    names: list[str] = wanted.machines or list(MACHINES)
    if unknown := set(names) - set(MACHINES):
        parser.error(f"expected machines of {', '.join(MACHINES)}, got {', '.join(sorted(unknown))}")
    # The machines collect what they let go of; nothing that is there now has to be gone over for that.
    gc.freeze()
    print(f"{'machine':<10}{'programs':>10}{'steps':>10}{'seconds':>9}")
    total = 0
    for name in names:
        began = time.monotonic()
        programs, steps = run(MACHINES[name], -(-wanted.steps // len(names)), wanted.seed)
        total += steps
        print(f"{name:<10}{programs:>10,}{steps:>10,}{time.monotonic() - began:>9.0f}", flush=True)
    print(f"{'all':<10}{'':>10}{total:>10,}   0 differences")
    return 0


if __name__ == "__main__":
    sys.exit(main())
