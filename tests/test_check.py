"""`ndshare check`: arenas that are whole have no finding while others work; damaged ones are told, never a crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

import ndshare as nds
from helpers import HANG, ROUNDS, Tables, environment, planted, wait_until
from ndshare import _native
from test_cli import COMMAND, command, told
from test_strangers import running, said
from test_strangers import runtime as runtime  # noqa: PLC0414  (a fixture)


@contextmanager
def work(arena: nds.Arena | None = None) -> Iterator[None]:
    """Let threads use a ring, a cache and arrays meanwhile."""
    over = threading.Event()
    ring = nds.Ring((100,), np.uint16, slots=4, when_full="drop_oldest", name="busy ring", arena=arena)
    cache = nds.Cache("100 KiB", name="busy cache", load=lambda _: np.zeros(500), arena=arena)

    def frames() -> None:
        with ring, ring.reader() as reader:
            while not over.wait(0.0005):
                ring.put(np.zeros(100, np.uint16))
                reader.get(timeout=HANG)

    def values() -> None:
        for number in range(1_000_000_000):
            if over.wait(0.0005):
                return
            cache[number % 60]
            nds.zeros(1 + number % 5000, arena=arena)

    threads = [threading.Thread(target=target) for target in (frames, values)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_work_that_goes_on_is_no_finding_and_is_not_disturbed(runtime: Path) -> None:
    nds.publish("kept", nds.zeros(10))
    before = nds.stats()["participants"][0]["pid"]
    with work():
        for _ in range(10):
            (mine,) = told("check", nds.stats()["id"])
            assert (mine["findings"], mine["unreadable"]) == ([], None)
            assert mine["rings"] >= 1
            assert mine["caches"] >= 1
    assert [one["pid"] for one in nds.stats()["participants"]] == [before]
    assert command("check", nds.stats()["id"]).stdout.decode().startswith(f"arena {nds.stats()['id']}: whole (rings: ")
    assert runtime.exists()


def test_an_arena_is_named_by_its_id_or_its_session(runtime: Path) -> None:
    named = "import ndshare as nds\nnds.session('checked')\nprint(nds.stats()['id'], flush=True)\ninput()\n"
    with running(named) as process:
        own = said(process)
        for target in (own, "checked", "@checked"):
            assert [(one["id"], one["sessions"]) for one in told("check", target)] == [(own, ["checked"])]
    done = command("check", "nobody's", status=2)
    assert b"expected an arena or a session" in done.stderr
    assert runtime.exists()


VICTIM = """
import numpy as np
import ndshare as nds
ring = nds.Ring((100,), np.uint16, slots=3)
reader = ring.reader()
for _ in range(3):
    ring.put(np.zeros(100, np.uint16))
cache = nds.Cache("100 KiB", name="tiles", load=lambda _: np.zeros(500))
values = [cache[number] for number in range(5)]
print(nds.stats()["id"], flush=True)
input()
"""

# Opens the memory of another process's arena.
OPENS = """
import json, sys
from helpers import Tables
pid, own = int(sys.argv[1]), sys.argv[2]
tables = Tables.of_process(pid, own)
"""
SCRIBBLER = (
    OPENS
    + """
ground = tables.control()[int(sys.argv[3])::32]
print(json.dumps(tables.try_each(ground, [["check"]], own)))
"""
)


@pytest.mark.crash
@pytest.mark.parametrize("part", range(ROUNDS))
def test_any_word_that_was_written_over_is_a_finding_or_a_refusal_never_a_crash(part: int, runtime: Path) -> None:
    with running(VICTIM) as victim:
        own = said(victim)
        arguments = [sys.executable, "-c", SCRIBBLER, str(victim.pid), own, str(part)]
        done = subprocess.run(arguments, env=environment(), capture_output=True, timeout=4 * HANG, check=False)
        assert done.returncode == 0, done
        statuses = json.loads(done.stdout)
        assert statuses.pop("last") == 0
        assert set(statuses) <= {"0", "1", "2"}
        assert statuses["1"] > 10, statuses
    assert runtime.exists()


def test_a_finding_says_what_it_means(runtime: Path) -> None:
    scribble = OPENS + "tables.words[24] += 1\ninput()\n"
    with running(VICTIM) as victim:
        own = said(victim)
        damage = [sys.executable, "-c", scribble, str(victim.pid), own]
        with subprocess.Popen(damage, env=environment(), stdin=subprocess.PIPE) as scribbler:
            try:
                assert scribbler.stdin is not None
                scribbler.communicate(b"\n", timeout=HANG)
            finally:
                scribbler.kill()
        done = subprocess.run([*COMMAND, "check", own], env=environment(), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (1, b"")
    assert b"sums: granules in use: " in done.stdout
    assert b"the budget is reckoned wrongly" in done.stdout
    assert runtime.exists()


NAMED = """
import sys
import numpy as np
import ndshare as nds
arena = nds.Arena("8 MiB", path=sys.argv[1])
arena.publish("mask", nds.zeros(1000, np.uint8, arena=arena))
overlay = nds.Overlay(floats={"A": (6, "f4")}, ints={"B": (6, "i4")}, arena=arena)
arena.publish("scratch", overlay)
"""


@pytest.mark.parametrize(
    ("what", "at", "value", "expected"),
    [
        (b"mask\0\0\0\0", -8, b"\xff\xff", (b"names: entry ", b"it has no name")),
        (b"mask\0\0\0\0", -4, b"\x03", (b"names: entry ", b"is the name of a kind overlay, and block ")),
        (b"nds\x03", 16, b"\xff\xff\xff", (b"head: overlay in block ", b"contradicts itself")),
        (b"nds\x03", 8, b"\xff\x00", (b"head: overlay in block ", b"with its bytes is gone")),
    ],
    ids=["length", "kind", "description", "bytes"],
)
def test_names_and_overlays_that_were_written_over_are_found(
    what: bytes, at: int, value: bytes, expected: tuple[bytes, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "a.nds"
    subprocess.run([sys.executable, "-c", NAMED, str(path)], env=environment(), check=True)
    assert told("check", str(path))[0]["overlays"] == 1
    planted(path, what, at, value)
    done = subprocess.run([*COMMAND, "check", str(path)], env=environment(), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (1, b""), done
    assert all(text in done.stdout for text in expected), done


def test_a_block_that_nobody_keeps_is_found_and_what_is_never_still_is_named(runtime: Path) -> None:
    lose = (
        OPENS
        + """
memory, words32, blocks_at = tables.words, tables.halves, tables.blocks_at
for at in range(blocks_at, blocks_at + 1000 * 128, 128):
    if memory[at // 8] & 15 == 2 and words32[at // 4 + 4] == 0 and words32[at // 4 + 5] == 0:
        memory[at // 8 + 4] = 0
        print("lost", flush=True)
        break
# The lock of the ring's head is taken, and nobody lets go of it.
for at in range(blocks_at, blocks_at + 1000 * 128, 128):
    if memory[at // 8] & 15 == 2 and words32[at // 4 + 5] != 0:
        words32[at // 4 + 6] = 1
input()
"""
    )
    with running(VICTIM) as victim:
        own = said(victim)
        with subprocess.Popen(
            [sys.executable, "-c", lose, str(victim.pid), own],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as scribbler:
            try:
                assert scribbler.stdout
                assert scribbler.stdout.readline() == "lost\n"
                wait_until(lambda: b"looked at in part" in looked_at(own))
                text = looked_at(own)
            finally:
                scribbler.kill()
    assert b"kept: block " in text
    assert b"its memory is lost" in text
    assert b"looked at in part, for it was never still: ring in block " in text
    assert b'looked at in part, for it was never still: cache "tiles" in block ' in text
    assert runtime.exists()


def looked_at(own: str) -> bytes:
    return subprocess.run([*COMMAND, "check", own], env=environment(), capture_output=True, check=False).stdout


def own_file(arena: str) -> int:
    """Open the file of an arena that this process has."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the descriptor by which the names were listed
            if os.readlink(f"/proc/self/fd/{name}").startswith(f"/memfd:ndshare:{arena}"):
                return os.open(f"/proc/self/fd/{name}", os.O_RDWR)
    raise FileNotFoundError(arena)


def test_a_process_looks_into_its_own_arena() -> None:
    """Without the command: the same findings, and nothing is changed by the look."""
    with nds.Arena("8 MiB") as arena:
        x = nds.full(1000, 7, np.uint8, arena=arena)
        assert _native.findings(arena) == []
        tables, found = Tables(own_file(nds.stats(arena)["id"])), list[str]()
        for at in range(tables.blocks_at, tables.blocks_at + 2 * 128, 8):
            old = tables.words[at // 8]
            tables.words[at // 8] = old ^ 1 << 33
            found += _native.findings(arena)
            tables.words[at // 8] = old
            if found:
                break
        assert any("block 0" in line for line in found), found
        assert _native.findings(arena) == []
        assert (x == 7).all()
