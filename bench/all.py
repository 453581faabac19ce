"""All benchmarks: whoever imports this has them in `bench.harness.BENCHES`."""

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
