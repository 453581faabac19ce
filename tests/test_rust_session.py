"""Programs in Rust and in Python are in one session, whichever of them starts it.

The Rust side are the programs ``session``, ``camera``, ``viewer`` and ``tiles`` in ``crates/ndshare/examples``; none of
them has Python in it.
"""

from __future__ import annotations

import enum
import functools
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

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
reader = nds.ref(sys.argv[-1]).open()
numbers = []
for frame in reader:
    assert (frame.shape, frame.dtype) == ((480, 640), "uint16")
    assert (frame == frame.seq).all()
    numbers.append(frame.seq)
print(repr(reader), numbers == list(range(100)), flush=True)
"""


def test_python_reads_the_frames_of_a_rust_camera() -> None:
    """The ring's head says what its frames are; nothing but a reference goes over, and no frame is lost meanwhile."""
    first, second = output(program("camera"), sys.executable, str(script(READ)), env=environment()).splitlines()
    assert first == "<Reader of ring 'camera', every frame, lag 0> True"
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


class Side(enum.Enum):
    """A key that is known by name."""

    LEFT = 1


KEYS: dict[Any, str] = {
    None: "None",
    True: "1",
    -(2**63): "-9223372036854775808",
    2**70 + 1: "0x400000000000000001",
    -(2**70): "-0x400000000000000000",
    2.5: "2.5",
    1e300: "0x" + f"{int(1e300):x}",
    float("inf"): "inf",
    np.uint8(200): "200",
    np.float32(0.25): "0.25",
    "é": '"é"',
    "half \udc80": '"half \ufffd\ufffd\ufffd"',
    b"\xff": 'b"\\xff"',
    (): "()",
    (1, ("a", None)): '(1, ("a", None))',
    ...: "...",
    PurePosixPath("/a//b/./c"): 'PosixPath("/a/b/c")',
    PureWindowsPath("C:/A"): 'WindowsPath("c:\\\\a")',
    uuid.UUID(int=255): f"UUID({255:032x})",
    Side.LEFT: f"{__name__}.Side.LEFT",
}


def test_a_rust_program_finds_by_key_what_python_stored() -> None:
    """Every kind of key, and its text in Rust; none of them needs Python there."""
    cache = nds.Cache("16 MiB", name="tiles")
    for number, key in enumerate(KEYS):
        cache[key] = np.uint8(number)
    cache[slice(None, 5), "a"] = np.uint8(99)
    cache["tile", 3, 4] = np.array([[300, 4]], "<u2")
    *lines, loaded = output(program("tiles"), "get").splitlines()
    expected = [f"{text}: <Array [] uint8, read-only> [{number}]" for number, text in enumerate(KEYS.values())]
    expected += ['(slice(None, 5, None), "a"): <Array [] uint8, read-only> [99]']
    expected += ['("tile", 3, 4): <Array [1, 2] uint16, read-only> [44, 1, 4, 0]']
    assert sorted(lines) == sorted(expected)
    assert loaded == "loaded: [7, 8]"
    found = cache["tile", 7.0, np.int64(8)]
    assert (found.tolist(), found.dtype, found.flags.writeable) == ([[7, 8]], "uint16", False)
    assert cache.info()["loads"] == 1
    assert [key for key in cache if isinstance(key, tuple) and len(key) == 3 and key[1] == 7] == [("tile", 7, 8)]


GET_AND_STORE = """
import numpy as np
import ndshare as nds
cache = nds.Cache("16 MiB", name="tiles")
assert list(cache) == [("tile", 0, 1)], list(cache)
assert cache["tile", 0, 1].tolist() == [[0, 1]]
cache["answer", 42] = np.arange(3, dtype=np.uint8)
print(len(cache), flush=True)
"""


def test_python_finds_by_key_what_a_rust_program_stored() -> None:
    lines = output(program("tiles"), "run", sys.executable, str(script(GET_AND_STORE)), env=environment()).splitlines()
    assert lines == [
        "2",
        "exit status: 0",
        '("answer", 42): <Array [3] uint8, read-only> [0, 1, 2]',
        '("tile", 0, 1): <Array [1, 2] uint16, read-only> [0, 0, 1, 0]',
    ]
