"""The command beside arenas on a path: those that processes have, and files that nobody has, which stay as they are."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from helpers import HANG, ROUNDS, environment, run
from test_check import work
from test_cli import COMMAND, command, told
from test_path_arena import path as path  # noqa: PLC0414  (a fixture)
from test_strangers import running, said
from test_strangers import runtime as runtime  # noqa: PLC0414  (a fixture)

FILLED = """
import os, sys
import numpy as np
import ndshare as nds
arena = nds.Arena("8 MiB", path=sys.argv[1])
arena.publish("mask", nds.ones((480, 640), np.uint8, arena=arena))
cache = nds.Cache("1 MiB", name="tiles", arena=arena)
cache[7] = np.full(3, 7)
ring = nds.Ring((2, 3), np.uint16, slots=4, keep=3, name="camera", arena=arena)
for number in range(5):
    ring.put(np.full((2, 3), number, np.uint16))
unnamed = nds.zeros(5000, arena=arena)
print(arena.id, flush=True)
"""
WAITS = FILLED + "input()\n"
# Killed as it stands, with everything open.
KILLED = FILLED + "os.kill(os.getpid(), 9)\n"


def filled(path: Path, *, program: str = FILLED, status: int = 0) -> None:
    """Let a process make an arena with something of each kind, and end."""
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], env=environment(), check=False, capture_output=True
    )
    assert done.returncode == status, done


def listed(*args: str) -> dict[str, dict[str, Any]]:
    return {one["path"]: one for one in told("ls", *args)["arenas"] if one["path"] is not None}


@contextlib.contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Insist that nobody writes to the file."""
    before, facts = path.read_bytes(), path.stat()
    yield
    after = path.stat()
    assert (after.st_mtime_ns, after.st_size, after.st_mode) == (facts.st_mtime_ns, facts.st_size, facts.st_mode)
    assert path.read_bytes() == before


# ---- arenas that processes have -------------------------------------------------------------------------------------


def test_ls_and_top_and_check_see_what_a_process_has(path: Path) -> None:
    with running(WAITS, str(path)) as process:
        own = said(process)
        arena = listed()[str(path)]
        assert (arena["id"], arena["unreadable"], arena["deleted"]) == (own, None, False)
        assert [one["pid"] for one in arena["processes"]] == [process.pid]
        assert [(one["pid"], one["alive"]) for one in arena["holders"]] == [(process.pid, True)]
        names = {(one["name"], one["kind"], one["published"]) for one in arena["names"]}
        assert names == {("mask", "array", False), ("tiles", "cache", False), ("camera", "ring", False)}
        assert 0 < arena["memory_bytes"] < path.stat().st_size
        text = command("ls").stdout.decode()
        assert f"{own} " in text
        assert f'  file "{path}"\n' in text
        (top,) = [one for one in json.loads(command("top", "--once", "--json").stdout)["arenas"] if one["id"] == own]
        assert (top["path"], [ring["name"] for ring in top["rings"]]) == (str(path), ["camera"])
        (checked,) = told("check", own)
        assert (checked["path"], checked["findings"]) == (str(path), [])
        assert f'arena {own} file "{path}": whole' in command("check", own).stdout.decode()


def test_a_file_is_told_by_what_it_is_called_now(path: Path) -> None:
    link = path.parent / "link"
    link.symlink_to(path.parent, target_is_directory=True)
    with running(WAITS, str(link / "a.nds")) as process:
        own = said(process)
        assert listed()[str(path)]["id"] == own
        renamed = path.with_name("b c (deleted)")
        path.rename(renamed)
        assert (listed()[str(renamed)]["id"], listed()[str(renamed)]["deleted"]) == (own, False)
        other = path.with_name("hard.nds")
        other.hardlink_to(renamed)
        (mine,) = told("ls", str(link / "hard.nds"))["arenas"]
        assert [one["pid"] for one in mine["processes"]] == [process.pid]
        renamed.unlink()
        other.unlink()
        assert (listed()[str(renamed)]["id"], listed()[str(renamed)]["deleted"]) == (own, True)
        assert '(deleted)" (deleted)' in command("ls").stdout.decode()
        assert [one["findings"] for one in told("check", own)] == [[]]


def test_two_processes_are_one_arena(path: Path) -> None:
    program = "import sys, ndshare as nds\na = nds.Arena('8 MiB', path=sys.argv[1])\nprint(flush=True)\ninput()\n"
    with running(program, str(path)) as first, running(program, str(path)) as second:
        said(first)
        said(second)
        assert [one["pid"] for one in listed()[str(path)]["processes"]] == sorted([first.pid, second.pid])


CLOSES = """
for fd in os.listdir("/proc/self/fd"):
    try:
        if os.path.realpath(f"/proc/self/fd/{fd}") == os.path.realpath(sys.argv[1]):
            os.close(int(fd))
    except OSError:
        pass
print("closed", flush=True)
input()
"""


def test_a_file_whose_descriptors_a_daemon_has_closed_is_seen_by_its_path(path: Path) -> None:
    with running(FILLED + CLOSES, str(path)) as process:
        own = said(process)
        assert said(process) == "closed"
        arena = listed()[str(path)]
        assert (arena["id"], arena["unreadable"]) == (own, None)
        assert [one["pid"] for one in arena["processes"]] == [process.pid]


def test_a_file_that_is_merely_mapped_is_none(tmp_path: Path) -> None:
    other = tmp_path / "other"
    np.memmap(other, np.uint8, "w+", shape=(5000,))[:] = 1
    program = "import sys, numpy as np\nx = np.memmap(sys.argv[1], np.uint8, 'r+')\nprint(flush=True)\ninput()\n"
    with running(program, str(other)) as process:
        said(process)
        assert str(other) not in listed()


# ---- files that nobody has ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("program", "status"), [(FILLED, 0), (KILLED, -9)], ids=["left", "killed"])
def test_a_file_is_looked_at_and_stays_as_it_is(program: str, status: int, path: Path) -> None:
    filled(path, program=program, status=status)
    with unchanged(path):
        arena = listed(str(path))[str(path)]
        assert (arena["processes"], arena["unreadable"], arena["poisoned"]) == ([], None, None)
        assert [one["alive"] for one in arena["holders"]] == [False] * (status != 0)
        assert {one["name"] for one in arena["names"]} == {"mask", "tiles", "camera"}
        assert arena["used_bytes"] >= 480 * 640
        (checked,) = told("check", str(path))
        assert (checked["findings"], checked["rings"], checked["caches"]) == ([], 1, 1)
        frames = np.frombuffer(command("cat", "camera", "--arena", str(path), "--start", "oldest").stdout, np.uint16)
        assert frames[::6].tolist()[-3:] == [2, 3, 4]
        done = command("dump", "camera", "--arena", str(path), "--start", "oldest", str(path.parent / "frames"))
        assert np.load(done.stdout.decode().splitlines()[-1]).tolist() == [[4] * 3] * 2
        assert str(path) not in listed()
    with nds.Arena(path=path) as arena_again:
        assert arena_again.attach("mask").sum() == 480 * 640


def test_a_path_may_be_relative_and_a_word_that_is_none_is_a_wrong_line(path: Path) -> None:
    filled(path)
    here: dict[str, Any] = {"cwd": path.parent, "env": environment(), "capture_output": True, "timeout": HANG}
    for verb in ("ls", "check"):
        done = subprocess.run([*COMMAND, verb, "a.nds"], check=False, **here)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"a.nds" in done.stdout
    done = subprocess.run([*COMMAND, "ls", "b.nds"], check=False, **here)
    assert done.returncode == 2
    assert b"expected the path of an arena's file" in done.stderr
    done = subprocess.run([*COMMAND, "cat", "camera", "--arena", "a.nds", "--session", "x"], check=False, **here)
    assert done.returncode == 2


def test_ls_of_several_shows_what_it_can(path: Path) -> None:
    filled(path)
    other = path.with_name("other")
    other.write_bytes(b"x" * 100)
    done = command("ls", str(path), str(other), "--json", status=1)
    assert [one["path"] for one in json.loads(done.stdout)["arenas"]] == [str(path)]
    assert b"100 bytes of something else" in done.stderr


def damaged(path: Path, how: str) -> str:
    """Make the file something else; return what is said of it."""
    size = path.stat().st_size
    match how:
        case "cut":
            os.truncate(path, size // 2)
            return "damaged"
        case "a head alone":
            os.truncate(path, 100)
            return "damaged"
        case "longer":
            os.truncate(path, size + 4096)
            return "damaged"
        case "empty":
            os.truncate(path, 0)
            return "something else"
        case "something else":
            path.write_bytes(b"not an arena" * 1000)
            return "something else"
        case "older" | "newer":
            with path.open("r+b") as file:
                file.seek(40)
                (version,) = struct.unpack("<I", file.read(4))
                file.seek(40)
                file.write(struct.pack("<I", 1 if how == "older" else version + 1))
            return f"an{' older' if how == 'older' else ''}"
        case "sizes":
            with path.open("r+b") as file:
                file.seek(44)
                file.write(struct.pack("<I", 10**9))
            return "damaged"
        case "others may write":
            path.chmod(0o666)
            return "others may write"
        case "a link":
            path.rename(path.with_name("real"))
            path.symlink_to(path.with_name("real"))
            return "a symbolic link"
        case "a pipe":
            path.unlink()
            os.mkfifo(path, 0o600)
            return "a FIFO"
        case "a directory":
            path.unlink()
            path.mkdir()
            return "a directory"
        case "nothing":
            path.unlink()
            return "nothing there"
    raise AssertionError(how)


DAMAGES = [
    "cut",
    "a head alone",
    "longer",
    "empty",
    "something else",
    "older",
    "newer",
    "sizes",
    "others may write",
    "a link",
    "a pipe",
    "a directory",
    "nothing",
]


@pytest.mark.parametrize("path", ["disk"], indirect=True)
@pytest.mark.parametrize("how", DAMAGES)
def test_what_is_no_arena_is_said_with_its_status(how: str, path: Path) -> None:
    filled(path)
    said_of = damaged(path, how).encode()
    for arguments, status in (
        (["ls", str(path)], 1),
        (["check", str(path)], 2),
        (["cat", "camera", "--arena", str(path)], 1),
        (["dump", "camera", "--arena", str(path), str(path.parent / "frames")], 1),
    ):
        done = command(*arguments, status=status)
        assert said_of in done.stderr, done
        assert str(path).encode() in done.stderr


def test_a_file_that_was_cut_while_a_process_has_it_is_told(path: Path) -> None:
    with running(WAITS, str(path)) as process:
        own = said(process)
        os.truncate(path, path.stat().st_size // 2)
        (mine,) = [one for one in told("ls")["arenas"] if one["id"] == own]
        assert "expected" in mine["unreadable"]
        assert b"damaged" in command("check", str(path), status=2).stderr


# Looks again and again; no signal may end it.
LOOKER = """
import json, os, sys
from ndshare._native import run_command
out, quiet = os.dup(1), os.open("/dev/null", os.O_WRONLY)
os.dup2(quiet, 1)
os.dup2(quiet, 2)
statuses = {}
verbs = (["check"], ["ls"], ["cat", "camera", "--seconds", "0", "--start", "oldest", "--arena"])
for number in range(int(sys.argv[2])):
    status = run_command(["ndshare", *verbs[number % 3], sys.argv[1]])
    statuses[status] = statuses.get(status, 0) + 1
os.write(out, json.dumps(statuses).encode())
"""


def test_a_file_that_is_cut_meanwhile_is_no_signal(path: Path) -> None:
    filled(path)
    copy = path.with_name("copy")
    shutil.copyfile(path, copy)
    whole, dice = path.stat().st_size, random.Random(1)
    arguments = [sys.executable, "-c", LOOKER, str(path), "150"]
    with subprocess.Popen(arguments, env=environment(), stdout=subprocess.PIPE) as looker:
        while looker.poll() is None:
            os.truncate(path, dice.choice([0, 4096, 100_000, whole // 3, whole - 4096]))
            shutil.copyfile(copy, path)
        assert looker.stdout
        statuses = json.loads(looker.stdout.read())
    assert looker.returncode == 0
    assert set(statuses) <= {"0", "1", "2"}
    assert sum(statuses.values()) == 150


# Writes over one word after the other of a file that nobody has.
SCRIBBLER = """
import json, os, sys
from helpers import Tables
tables = Tables(os.open(sys.argv[1], os.O_RDWR))
data = range(tables.data_at, tables.data_at + 2**20, 8)
ground = [*tables.control(), *(at for at in data if tables.words[at // 8])]
verbs = [["check"], ["ls"], ["cat", "camera", "--seconds", "0", "--start", "oldest", "--arena"]]
print(json.dumps(tables.try_each(ground[int(sys.argv[2])::149], verbs, sys.argv[1])))
"""


@pytest.mark.parametrize("path", ["ram"], indirect=True)  # what stands in a file does not depend on where it lies
@pytest.mark.crash
@pytest.mark.parametrize("part", range(ROUNDS))
def test_any_word_that_was_written_over_is_borne(part: int, path: Path) -> None:
    filled(path)
    arguments = [sys.executable, "-c", SCRIBBLER, str(path), str(part)]
    done = subprocess.run(arguments, env=environment(), capture_output=True, timeout=4 * HANG, check=False)
    assert done.returncode == 0, done
    statuses = json.loads(done.stdout)
    assert statuses.pop("last") == 0
    assert set(statuses) <= {"0", "1", "2"}


# ---- files that are in use ------------------------------------------------------------------------------------------


def test_work_that_goes_on_in_a_file_is_no_finding(path: Path) -> None:
    with nds.Arena("32 MiB", path=path) as arena, work(arena):
        for _ in range(10):
            (mine,) = told("check", str(path))
            assert (mine["findings"], mine["unreadable"]) == ([], None)
        assert len(nds.stats(arena)["participants"]) == 1


CAMERA = """
import sys
import numpy as np
import ndshare as nds
arena = nds.Arena("16 MiB", path=sys.argv[1])
with nds.Ring(None, np.uint16, slots=64, name="camera", arena=arena) as ring:
    print("ready", flush=True)
    for line in sys.stdin:
        frame = np.arange(24, dtype=np.uint16).reshape(4, 6)[::2, ::-1] + np.uint16(int(line))
        ring.put(frame)
        print(line, end="", flush=True)
"""


def test_a_ring_in_use_is_followed_to_its_end_and_nobody_waits_for_that(path: Path) -> None:
    with running(CAMERA, str(path)) as camera:
        said(camera)
        arguments = [*COMMAND, "cat", "camera", "--arena", str(path), "--start", "oldest", "--npy"]
        with subprocess.Popen(arguments, env=environment(), stdout=subprocess.PIPE) as process:
            assert camera.stdin
            assert process.stdout
            for number in range(10):
                camera.stdin.write(f"{number}\n")
                camera.stdin.flush()
                said(camera)
                frame = np.load(io.BytesIO(process.stdout.read(128 + 24)))
                expected = np.arange(24).reshape(4, 6)[::2, ::-1] + number
                np.testing.assert_array_equal(frame, expected)
            with nds.Arena(path=path) as arena:
                assert arena.attach("camera").stats()["readers"] == []
            camera.stdin.close()
            assert process.wait(HANG) == 0
            assert process.stdout.read() == b""


def test_a_ring_is_waited_for_and_what_is_none_is_refused(path: Path) -> None:
    arguments = [*COMMAND, "cat", "camera", "--arena", str(path), "--wait", str(HANG), "--start", "oldest"]
    with subprocess.Popen([*arguments, "--frames", "2"], env=environment(), stdout=subprocess.PIPE) as waiting:
        filled(path)
        assert waiting.stdout
        assert len(waiting.stdout.read()) == 24
        assert waiting.wait(HANG) == 0
    done = command("cat", "mask", "--arena", str(path), status=1)
    assert b'expected "mask" to be a ring, got one of kind array' in done.stderr
    assert b'"nobody"' in command("cat", "nobody", "--arena", str(path), status=1).stderr


# ---- what is said ---------------------------------------------------------------------------------------------------


def test_a_path_that_is_no_text_is_shown(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.nds"))
    filled(path)
    (arena,) = told("ls", str(path))["arenas"]
    assert arena["path"] == f"{tmp_path}/caf\ufffd.nds"
    assert f"{tmp_path}/caf\ufffd.nds" in command("ls", str(path)).stdout.decode()
    assert [one["findings"] for one in told("check", str(path))] == [[]]
    path.unlink()
    with running(WAITS, str(path)) as process:
        own = said(process)
        assert [one["id"] for one in told("ls")["arenas"] if one["path"] == arena["path"]] == [own]


def test_many_that_were_killed_are_one_line(path: Path) -> None:
    """Forked children that are killed with their parent: nobody is left to sweep."""
    program = """
        import os, sys, time
        import ndshare as nds
        arena = nds.Arena("8 MiB", path=sys.argv[1])
        x = nds.zeros(5000, arena=arena)
        for _ in range(5):
            if not os.fork():
                x += 1
                time.sleep(60)
        time.sleep(0.5)
        os.kill(0, 9)
    """
    assert run(program, str(path)).code == -9
    lines = command("ls", str(path)).stdout.decode().splitlines()
    dead = [line for line in lines if "dead" in line]
    assert len(dead) == 1
    assert dead[0].startswith("  6 processes that are dead hold ")
    assert len(told("ls", str(path))["arenas"][0]["holders"]) == 6


def test_an_array_is_told_how_it_is_saved(path: Path) -> None:
    filled(path)
    done = command("dump", "mask", "--arena", str(path), str(path.parent), status=1)
    assert f'nds.save("x.npy", nds.Arena(path="{path}").attach("mask"))'.encode() in done.stderr
    done = command("cat", "tiles", "--arena", str(path), status=1)
    assert b"only rings have frames" in done.stderr
