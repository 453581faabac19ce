"""Measure a torch DataLoader: what its workers take (PSS), and how long an epoch is.

Images are decoded each time, kept by each worker for itself, or kept in one cache. Each way runs in a process of its
own, by turns.

Run: .venv/bin/python bench/torch_pss.py [decoded | own | shared]
"""

from __future__ import annotations

import functools
import os
import statistics
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import ndshare as nds

IMAGES, SHAPE, WORKERS, EPOCHS, ROUNDS = 256, (512, 512), 4, 8, 3
# A slow gradient with noise in it, so that there is something to decode.
NOISE = np.random.default_rng(1).integers(0, 16, SHAPE)
FILES = [
    zlib.compress((np.add.outer(*map(np.arange, SHAPE)) + NOISE + number).astype(np.float32), 1)
    for number in range(IMAGES)
]


def read(number: int) -> np.ndarray:
    """Return an image of 1 MiB, decoded."""
    return np.frombuffer(bytearray(zlib.decompress(FILES[number])), np.float32).reshape(SHAPE)


class Images(Dataset):
    """Images that are got in one of the ways."""

    def __init__(self, kind: str) -> None:
        self.get = {
            "decoded": lambda: read,
            "own": lambda: functools.lru_cache(None)(read),
            "shared": lambda: nds.Cache("512 MiB", load=read).fetch,
        }[kind]()

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, number: int) -> np.ndarray:
        return self.get(number)


def pss(pid: int | str) -> int:
    """Return a process's proportional share of all its memory, in MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) // 1024


def measure(kind: str) -> None:
    """Go through all images some times, and say after each time how long it took and what all processes take."""
    ways = {"collate_fn": nds.stack} if kind == "shared" else {}
    loader = DataLoader(
        Images(kind),
        8,
        shuffle=True,
        num_workers=WORKERS,
        persistent_workers=True,
        multiprocessing_context="fork",
        **ways,
    )
    expected = sum(float(read(number).sum(dtype=np.float64)) for number in range(IMAGES))
    for epoch in range(EPOCHS):
        begin, total = time.perf_counter(), 0.0
        for batch in loader:
            total += float(torch.as_tensor(batch).sum(dtype=torch.float64))
        del batch
        seconds = time.perf_counter() - begin
        assert abs(total - expected) < 1e-6 * expected
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        print(f"{kind} {epoch} {seconds:.3f} {sum(map(pss, [os.getpid(), *children]))}", flush=True)


def run(kind: str) -> list[tuple[float, int]]:
    """Measure in a process of its own: seconds and MiB of each epoch."""
    done = subprocess.run([sys.executable, __file__, kind], check=True, capture_output=True, text=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    return [(float(seconds), int(mib)) for _, _, seconds, mib in lines]


def main() -> None:
    """Run all ways by turns, and say the median of each epoch."""
    kinds = ("decoded", "own", "shared")
    rounds = [{kind: run(kind) for kind in kinds} for _ in range(ROUNDS)]
    for kind in kinds:
        for epoch in range(EPOCHS):
            seconds, mib = (statistics.median(one[kind][epoch][part] for one in rounds) for part in (0, 1))
            print(f"{kind:8} epoch {epoch}: {seconds:6.3f} s {mib:5.0f} MiB")


if __name__ == "__main__":
    measure(sys.argv[1]) if len(sys.argv) > 1 else main()
