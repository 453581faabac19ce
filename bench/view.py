"""What a camera and its viewer cost each other: `python -m bench.view [--seconds 10] [--rounds 5]`.

1. The share of a core that `ndshare view` takes at 30 frames/s of 1080 by 1920 uint16, by the kernel's count, with one
   page of the size of a laptop's. The pages here are clients of a few lines; a browser works in processes of its own.
2. The rate of a camera, alone and with three viewers, by turns: at 60 frames/s, and as fast as it can.

The pages confirm as browsers do, 60 times a second at most, and compare some pictures with the frames that they say
they are.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import ndshare as nds
from bench.machine import facts

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from web import Page

SHAPE = (1080, 1920)
WINDOW = (675, 1200)
NAME = f"bench view {os.getpid()}"
MOST_CODE_OFF = 1
SCREEN = 60


def frame(number: int) -> np.ndarray[Any, Any]:
    """Return a frame that tells its number in every place."""
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return ((x * 7 + y * 13 + number * 1000) % 60_000).astype(np.uint16)


def reduced(number: int, shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Return what a window of a shape is to show of it, in the naive way."""
    picture = frame(number).astype(float)
    for axis, length in enumerate(shape):
        sums = np.concatenate([np.zeros_like(picture.take([0], axis)), picture.cumsum(axis)], axis)
        edges = np.arange(length + 1) * picture.shape[axis] / length
        whole = np.minimum(edges.astype(int), picture.shape[axis] - 1)
        part = np.expand_dims(edges - whole, 1 - axis)
        at = sums.take(whole, axis) + part * picture.take(whole, axis)
        picture = np.diff(at, axis=axis) * length / picture.shape[axis]
    return picture


def camera(ring: nds.Ring, rate: float, seconds: float, told: Any) -> None:
    """Write frames, a few different ones by turns, and tell how many a second came to be."""
    frames = [nds.asarray(frame(number)) for number in range(4)]
    with ring:
        begun, number = time.perf_counter(), 0
        while (spent := time.perf_counter() - begun) < seconds:
            if rate:
                time.sleep(max(0.0, number / rate - spent))
            with ring.write() as to:
                to[:] = frames[number % 4]
            number += 1
        told.send(number / (time.perf_counter() - begun))


@contextmanager
def viewing(count: int) -> Iterator[list[tuple[int, str]]]:
    """Run so many viewers; their processes and addresses."""
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            command = [sys.executable, "-m", "ndshare", "view", NAME, "--no-browser", "--json", "--until-end"]
            process = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            assert process.stdout is not None
            stack.callback(process.stdin.close)
            found.append((process.pid, json.loads(process.stdout.readline())["url"]))
        yield found


def look(url: str, end: float, counted: list[int], expected: dict[int, np.ndarray[Any, Any]]) -> None:
    """Be a page until `end`; check some of what comes."""
    with Page(url) as page:
        page.wish(window=WINDOW)
        shown = time.monotonic()
        while time.monotonic() < end:
            try:
                found = page.see(timeout=end - time.monotonic())
            except AssertionError:
                break
            counted.append(found.seq)
            time.sleep(max(0.0, (shown := shown + 1 / SCREEN) - time.monotonic()))
            shown = max(shown, time.monotonic() - 1 / SCREEN)
            if len(counted) % 50 == 1:
                off = np.abs(found.values - expected[found.seq % 4]).max()
                assert off <= MOST_CODE_OFF, f"frame {found.seq} is off by {off}"


def used(pid: int) -> float:
    """Return the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(rate: float, seconds: float, viewers: int) -> tuple[float, list[float], list[int]]:
    """Return the camera's rate, each viewer's share of a core, and how many pictures each page got."""
    ring = nds.Ring(SHAPE, np.uint16, slots=8, when_full="drop_oldest")
    nds.publish(NAME, ring, replace=True)
    expected = {number: reduced(number, WINDOW) for number in range(4)}
    ours, theirs = mp.Pipe()
    with viewing(viewers) as found:
        end = time.monotonic() + seconds
        pages: list[list[int]] = [[] for _ in found]
        process = mp.get_context("spawn").Process(target=camera, args=(ring, rate, seconds, theirs))
        process.start()
        threads = [
            threading.Thread(target=look, args=(url, end + 1, counted, expected))
            for (_, url), counted in zip(found, pages, strict=True)
        ]
        for thread in threads:
            thread.start()
        time.sleep(1)  # until the camera runs
        before, begun = [used(pid) for pid, _ in found], time.monotonic()
        time.sleep(max(0.1, seconds - 1.5))
        spent = time.monotonic() - begun
        shares = [(used(pid) - was) / spent for (pid, _), was in zip(found, before, strict=True)]
        told = float(ours.recv())
        for thread in threads:
            thread.join()
        process.join()
    nds.unpublish(NAME)
    return told, shares, [len(counted) for counted in pages]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    wanted = parser.parse_args()
    print(json.dumps(facts(), default=str))
    rate, shares, pictures = run(30, wanted.seconds, 1)
    print(
        f"30 frames/s of {SHAPE}: the camera made {rate:.1f}, the viewer took {shares[0]:.1%} of a core, "
        f"the page got {pictures[0] / wanted.seconds:.1f} pictures/s of {WINDOW}"
    )
    for rate in (60, 0):
        what = f"{rate} frames/s" if rate else "as fast as it can"
        rates: dict[int, list[float]] = {0: [], 3: []}
        for turn in range(wanted.rounds):
            for viewers in (0, 3) if turn % 2 else (3, 0):
                rates[viewers].append(run(rate, wanted.seconds, viewers)[0])
        for viewers, all_ in rates.items():
            print(f"{what}, {viewers} viewers: {median(all_):.2f} frames/s, from {min(all_):.2f} to {max(all_):.2f}")
        print(f"{what}, with three viewers: {median(rates[3]) / median(rates[0]) - 1:+.2%}")


if __name__ == "__main__":
    main()
