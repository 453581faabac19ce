"""Programs in Rust and in Python are in one session, whichever of them starts it.

The Rust side are the programs ``session``, ``camera`` and ``viewer`` in ``crates/ndshare/examples``; none of them has
Python in it.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ndshare as nds
from helpers import HANG, environment, script, wait_until

ROOT = Path(__file__).resolve().parent.parent
BUILD = ["cargo", "build", "--quiet", "--package", "ndshare", "--features", "killpoints", "--examples"]

pytestmark = pytest.mark.skipif(shutil.which("cargo") is None, reason="needs cargo to build the Rust program")


@functools.cache
def program(name: str = "session") -> str:
    """Return a Rust program, built now if it is not; the library itself was built for the extension's tests."""
    subprocess.run(BUILD, cwd=ROOT, check=True, timeout=10 * HANG)
    target = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    return str(ROOT / target / "debug" / "examples" / name)


def output(*command: str, env: dict[str, str] | None = None) -> str:
    """Return what a program printed, having checked that it ended well."""
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=HANG, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.strip()


def test_a_rust_program_joins_a_python_session() -> None:
    x = nds.array(np.arange(8, dtype=np.uint64))
    assert output(program(), "add", str(nds.ref(x[2:6]))) == "[12, 13, 14, 15]"
    assert x.tolist() == [0, 1, 12, 13, 14, 15, 6, 7]


ADD_ONE = """
import os, sys
named = os.environ["NDSHARE_SESSION"]
import ndshare as nds
x = nds.ref(sys.argv[-1]).open()
assert nds.is_shared(x) and (x.dtype, x.tolist()) == ("uint64", [1, 2, 3, 4])
mine = nds.ones(3)
assert nds.stats()["id"] in named, "it is in the session of the program that started it"
assert named.split(",")[0].split("-")[2] == str(os.getppid())
x += 1
print(nds.stats()["id"], named, flush=True)
"""


def test_a_python_program_joins_a_rust_session() -> None:
    child = str(script(ADD_ONE))
    first, second = output(program(), "run", sys.executable, child, env=environment()).splitlines()
    session, named = first.split()
    assert second == "exit status: 0, [2, 3, 4, 5]"
    assert session != nds.stats()["id"]
    assert len(named.split(",")) == 1, "it is the root"


def test_a_python_program_under_a_rust_program_under_this_one() -> None:
    """The Rust program is in this session and passes it on, with itself in front."""
    first, second = output(program(), "run", sys.executable, str(script(ADD_ONE))).splitlines()
    session, named = first.split()
    assert second == "exit status: 0, [2, 3, 4, 5]"
    assert session == nds.stats()["id"]
    assert named.split(",")[1].split("-")[2] == os.environ["NDSHARE_SESSION"].split(",")[-1].split("-")[2]


GO_ON = """
import os, signal, subprocess, sys, time
import ndshare as nds
x = nds.ref(sys.argv[-1]).open()
parent = os.getppid()
os.kill(parent, signal.SIGKILL)
while os.getppid() == parent: time.sleep(0.01)
alive = [process["pid"] for process in nds.stats()["participants"] if process["alive"]]
assert alive == [os.getpid()], (alive, os.getpid(), parent)
assert x.tolist() == [1, 2, 3, 4]
print(subprocess.check_output([sys.argv[1], "add", str(nds.ref(x))], text=True).strip(), x.tolist(), flush=True)
"""


def test_a_rust_root_is_killed_and_its_session_goes_on() -> None:
    """What it made belongs to whoever has it, and later Rust programs join through its child."""
    child = str(script(GO_ON))
    with subprocess.Popen(
        [program(), "run", sys.executable, child, program()], env=environment(), stdout=subprocess.PIPE, text=True
    ) as root:
        out, _ = root.communicate(timeout=HANG)
    assert root.returncode == -9
    assert out.strip() == "[11, 12, 13, 14] [11, 12, 13, 14]"


READ = """
import sys
import ndshare as nds
ring = nds.ref(sys.argv[-1]).open()
for frame in ring.reader():
    assert (frame.shape, frame.dtype) == ((480, 640), "uint16")
    assert (frame == frame.seq).all()
print(repr(ring), frame.seq, flush=True)
"""


def test_python_reads_the_frames_of_a_rust_camera() -> None:
    """The ring says in its head what its frames are: nothing but a reference goes to the reader."""
    first, second = output(program("camera"), sys.executable, str(script(READ)), env=environment()).splitlines()
    assert first.startswith("<Ring 'camera' (480, 640) uint16 ")
    assert first.endswith(" 99")
    assert second == "exit status: 0"


def test_a_rust_viewer_reads_the_frames_of_python() -> None:
    ring = nds.Ring((30, 40), np.uint16, slots=8, name="cam 1")
    reference = nds.ref(ring)
    viewer = subprocess.Popen([program("viewer"), str(reference)], stdout=subprocess.PIPE, text=True)
    try:
        assert wait_until(lambda: len(ring.stats()["readers"]) == 1)
        with ring:
            for n in range(20):
                ring.put(np.full((30, 40), n, np.uint16), timeout=HANG)
        out, _ = viewer.communicate(timeout=HANG)
    finally:
        viewer.kill()
    first, *frames = out.splitlines()
    assert first == 'Some("cam 1") Some([30, 40]) uint16'
    assert frames == [f"{n} {n * 1200}" for n in range(20)]
