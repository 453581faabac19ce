"""All benchmarks: whoever takes `BENCHES` from here has them in it."""

from bench import (  # noqa: F401  (they register themselves)
    allocating,
    cache,
    end,
    fft,
    gather,
    growth,
    limits,
    lock,
    memory,
    net,
    pipe,
    rates,
    ray,
    record,
    ring,
    sizes,
    stores,
    travel,
)
from bench.harness import BENCHES

__all__ = ["BENCHES"]
