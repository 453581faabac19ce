"""Which benchmarks are in `make bench`, in `make bench-quick` and in the README, and under which headings they stand.

The rest is there for whoever works on one thing: `python -m bench --only NAME`, or `--all`.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.harness import BENCHES, Bench

MINUTES, QUICK_SECONDS = 15.0, 90.0


@dataclass(frozen=True)
class Section:
    """A heading of the page, what its figures mean, and the benchmarks under it."""

    title: str
    words: str
    names: tuple[str, ...]


SECTIONS = (
    Section(
        "Limits of the machine",
        "What the machine does at best. Nothing can be quicker than these, and other figures are read beside them.",
        ("limit-copy", "limit-cached", "limit-handover", "limit-touch"),
    ),
    Section(
        "Getting memory",
        "An array is allocated, filled and dropped. Warm memory is that of an array just dropped; for the first "
        "time, the kernel clears and maps it.",
        ("warm-4mib", "first-4mib", "first-1gib", "create-1kib", "open-name"),
    ),
    Section(
        "Arrays between processes",
        "multiprocessing's own pipes, queues and pools, with shared arrays and with ordinary ones.",
        ("pipe-4mib", "queue-4mib", "spawn-160mb", "executor", "lock"),
    ),
    Section(
        "Frames through rings",
        "Frames of a camera from process to process, one processor each.",
        (
            "ring-busy",
            "ring-bare",
            "ring-queues",
            "ring-asleep",
            "ring-rust",
            "ring-stream",
            "ring-idle",
            "rates-1k",
            "in-step",
            "stream-fft",
        ),
    ),
    Section(
        "Transforms",
        "Each library in a process of its own, conversion of the frame included; warm: calls back to back; cold: the "
        "second call after other data were read. zaft leaves its result transposed, which spares it a transposition.",
        (
            "fft-1080x1920-1",
            "fft-1080x1920-1-cold",
            "fft-1080x1920-2",
            "fft-1200x1600-1",
            "fft-double",
            "fft-complex",
            "fft-convolve",
            "fft-first",
        ),
    ),
    Section(
        "Caches and canvases",
        "An image of 4 MiB by its key; a montage of a hundred images of which few have changed.",
        (
            "cache-hit",
            "cache-hit-manager",
            "cache-hit-cachebox",
            "cache-hit-view",
            "canvas-5",
            "canvas-0",
            "canvas-misses",
        ),
    ),
    Section(
        "Many arrays into one",
        "The output is reused, and all memory was touched before.",
        ("montage-loop", "montage-numpy", "montage-opencv", "montage-floor", "grid-block", "detector", "copy-4mib"),
    ),
    Section(
        "From end to end",
        "A camera, a ring, two processes that transform, a store of tiles and a canvas; beside what is built without "
        "ndshare.",
        ("end-to-end",),
    ),
)

QUICK = [
    "limit-copy",
    "limit-handover",
    "warm-4mib",
    "first-4mib",
    "pipe-4mib",
    "ring-busy",
    "ring-asleep",
    "ring-rust",
    "ring-stream",
    "rates-1k",
    "size-fft-1024",
    "cache-hit",
    "canvas-5",
    "montage-numpy",
]

# The README's rows: the benchmark, and what its row is called there.
TEN_ROWS = {
    "warm-4mib": "allocate and fill 4 MiB, warm",
    "first-1gib": "allocate and fill 1 GiB, the first time",
    "pipe-4mib": "4 MiB through a `Pipe`, there and back",
    "executor": "a task of 3.8 MB in and 7.7 MB out, in an executor",
    "ring-busy": "a frame of 4 MiB there and back through rings",
    "ring-stream": "a frame of 4 MiB that the producer copies in",
    "fft-1080x1920-1": "`rfft2` of a 1080 x 1920 `uint16` frame, 1 thread",
    "cache-hit": "an image of 4 MiB from the cache",
    "montage-numpy": "100 images of (1024, 1024, 4) into one",
    "end-to-end": "a frame of 2 MiB from the camera to the canvas",
}


def suite() -> list[Bench]:
    """Return what `make bench` runs: the sections, and the points of the plots over size."""
    named = [name for section in SECTIONS for name in section.names]
    points = [one.name for one in BENCHES.values() if one.series]
    return [BENCHES[name] for name in [*named, *points] if name in BENCHES]


def quick() -> list[Bench]:
    """Return what `make bench-quick` runs."""
    return [BENCHES[name] for name in QUICK if name in BENCHES]


def growth() -> list[Bench]:
    """Return what shows how costs grow."""
    return [one for one in BENCHES.values() if one.name.startswith("growth-")]
