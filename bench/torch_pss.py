"""Measure what the workers of a torch DataLoader take (PSS), with images that each caches for itself and in one cache.

Run: .venv/bin/python bench/torch_pss.py [own | shared]
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import ndshare as nds

IMAGES, SHAPE, WORKERS, EPOCHS = 256, (512, 512), 4, 8


def read(number: int) -> np.ndarray:
    """Return an image of 1 MiB."""
    return np.full(SHAPE, number, np.float32)


class Own(Dataset):
    """Images that each worker keeps for itself."""

    def __init__(self) -> None:
        self.get = functools.lru_cache(None)(read)

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, number: int) -> np.ndarray:
        return self.get(number)


class Shared(Own):
    """Images in one cache for all workers."""

    def __init__(self) -> None:
        self.get = nds.Cache("512 MiB", load=read).fetch


def pss(pid: int | str) -> int:
    """Return a process's proportional share of all its memory, in MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) // 1024


def measure(kind: str) -> None:
    """Go through all images some times, and say after each time what all processes take together."""
    ways = {"collate_fn": nds.stack} if kind == "shared" else {}
    images = Shared() if kind == "shared" else Own()
    loader = DataLoader(
        images, 8, shuffle=True, num_workers=WORKERS, persistent_workers=True, multiprocessing_context="fork", **ways
    )
    for epoch in range(EPOCHS):
        for batch in loader:
            torch.as_tensor(batch).sum()
        del batch
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        print(f"{kind} epoch {epoch}: {sum(map(pss, [os.getpid(), *children]))} MiB", flush=True)


if __name__ == "__main__":
    for kind in sys.argv[1:] or ("own", "shared"):
        measure(kind)
