"""The command `ndshare` as users run it: real processes, beside sessions, names and rings that are alive."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from helpers import HANG, environment, wait_until
from test_strangers import NOBODY, entries, needs_interpreter, running, said
from test_strangers import runtime as runtime  # noqa: PLC0414  (a fixture)

COMMAND = [sys.executable, "-m", "ndshare"]


def command(*args: str, status: int = 0) -> subprocess.CompletedProcess[bytes]:
    """Run the command as a stranger does, and insist on its exit status."""
    done = subprocess.run([*COMMAND, *args], env=environment(), capture_output=True, timeout=HANG, check=False)
    assert done.returncode == status, done
    assert (done.stderr == b"") == (status == 0), done
    return done


def told(*args: str) -> Any:
    return json.loads(command(*args, "--json").stdout)


def session_in(listing: Any) -> Any:
    """Return what a listing says of this process's session."""
    return next(arena for arena in listing["arenas"] if arena["id"] == nds.stats()["id"])


# ---- the program ----------------------------------------------------------------------------------------------------


def test_pip_puts_it_beside_python() -> None:
    program = Path(sys.executable).parent / "ndshare"
    for start in ([str(program)], COMMAND):
        done = subprocess.run([*start, "--version"], env=environment(), capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == (f"ndshare {nds.__version__}\n", "")


@pytest.mark.parametrize(
    "verb",
    [
        "ls",
        "top",
        "check",
        "doctor",
        "rm",
        "cat",
        "dump",
        "view",
        "demo",
        "bench",
        "bridge",
        "record",
        "replay",
        "completions",
        "man",
    ],
)
def test_each_verb_has_examples_in_its_help_and_a_man_page(verb: str) -> None:
    text = command(verb, "--help").stdout.decode()
    assert f"Examples:\n  ndshare {verb}" in text
    assert b".TH" in command("man", verb).stdout


def test_a_wrong_command_line_is_two_and_says_so_on_stderr() -> None:
    for wrong in (["rename"], ["cat"], ["rm"], ["cat", "x", "--seconds", "-1"], ["ls", "more"]):
        done = command(*wrong, status=2)
        assert done.stdout == b""
        assert b"error" in done.stderr or b"Usage" in done.stderr
    assert b"Exit status: 0" in command("--help").stdout
    assert b"expected a verb" in command("man", "rename", status=1).stderr


def test_completions_are_what_the_shell_takes() -> None:
    text = command("completions", "bash").stdout
    assert b"--latest" in text
    subprocess.run(["bash", "-n"], input=text, check=True)
    assert b"ndshare" in command("completions", "fish").stdout


def test_doctor_says_what_to_do() -> None:
    findings = told("doctor")
    assert all(set(finding) == {"verdict", "subject", "found", "advice"} for finding in findings)
    assert {"kernel", "memory", "names", "trial"} <= {finding["subject"] for finding in findings}
    assert all((finding["advice"] is None) == (finding["verdict"] == "good") for finding in findings)
    assert b"trial" in command("doctor").stdout


def test_doctor_finds_what_is_broken() -> None:
    env = environment(NDSHARE_BUDGET="much")
    done = subprocess.run([*COMMAND, "doctor", "--json"], env=env, stdout=subprocess.PIPE, check=False)
    broken = [finding["subject"] for finding in json.loads(done.stdout) if finding["verdict"] == "broken"]
    assert (done.returncode, broken) == (1, ["NDSHARE_BUDGET"])


# ---- ls and rm ------------------------------------------------------------------------------------------------------


def test_ls_shows_what_is_in_a_session_and_changes_nothing(runtime: Path) -> None:
    x = nds.zeros(1000)
    ring = nds.Ring(4, np.uint8, slots=2, name="inner")
    nds.publish("outer", x)
    parcel = ForkingPickler.dumps(x)
    before, files = nds.stats(), entries(runtime)
    arena = session_in(told("ls"))
    after = nds.stats()
    for ticket in [*before["tickets"], *after["tickets"]]:
        ticket.pop("age_s")
    assert (before, files) == (after, entries(runtime))

    sizes = (arena["budget_bytes"], arena["used_bytes"], arena["blocks"])
    assert sizes == (before["budget"], before["bytes"], before["blocks"])
    me = next(holder for holder in arena["holders"] if holder["pid"] == os.getpid())
    assert me["alive"]
    assert me["bytes"] >= x.nbytes
    assert {(one["name"], one["kind"], one["published"]) for one in arena["names"]} >= {
        ("outer", "array", True),
        ("inner", "ring", False),
    }
    sent = [one for one in arena["undelivered"] if one["sender_pid"] == os.getpid()]
    assert any(one["bytes"] >= x.nbytes and one["sender_alive"] for one in sent)
    assert arena["unreadable"] is None
    assert arena["poisoned"] is None

    text = command("ls").stdout.decode()
    assert f"process {os.getpid()} " in text
    assert 'array "outer", published' in text
    assert 'ring "inner", in the arena' in text
    assert f"from process {os.getpid()}" in text
    ForkingPickler.loads(parcel)
    del ring


NAMED = """
import ndshare as nds
nds.session("cli")
x = nds.zeros(10)
nds.publish("mortal", x)
print(nds.stats()["id"], flush=True)
input()
"""


def test_a_name_whose_object_is_gone_is_told_by_ls_and_removed_by_rm(runtime: Path) -> None:
    with running(NAMED) as process:
        own = said(process)
        arena = next(arena for arena in told("ls")["arenas"] if arena["id"] == own)
        assert arena["sessions"] == ["cli"]
        assert [one["name"] for one in arena["names"]] == ["mortal"]
        process.kill()
        process.wait()
    assert told("ls")["dead_names"] == ["mortal"]
    assert entries(runtime) == ["name-mortal", "session-cli"]
    assert sorted(told("rm", "--dead")["removed"]) == ["@cli", "mortal"]
    assert entries(runtime) == []
    assert told("ls")["dead_names"] == []


def test_rm_takes_a_name_and_leaves_the_object() -> None:
    x = nds.ones(3)
    nds.publish("mine", x)
    assert command("rm", "mine").stdout == b"mine\n"
    assert "mine" not in nds.names()
    assert x.tolist() == [1, 1, 1]
    done = command("rm", "mine", status=1)
    assert done.stdout == b""
    assert b'"mine"' in done.stderr


def test_a_command_is_in_no_list(tmp_path: Path) -> None:
    directory = tmp_path / "made before it waits"
    with subprocess.Popen([*COMMAND, "dump", "nobody", str(directory), "--wait", "60"], env=environment()) as waiting:
        wait_until(directory.exists)
        pids = [process["pid"] for arena in told("ls")["arenas"] for process in arena["processes"]]
        assert waiting.pid not in pids
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(HANG) == -signal.SIGINT


# ---- frames ---------------------------------------------------------------------------------------------------------


def test_cat_writes_bytes_or_headers_and_bytes() -> None:
    with nds.Ring((2, 3), ">u2", slots=4, keep=3) as ring:
        nds.publish("camera", ring)
        for number in range(3):
            ring.put(np.full((2, 3), number, ">u2"))
        took = ("--start", "oldest", "--seconds", "0")
        assert command("cat", "camera", *took).stdout == np.repeat(np.arange(3, dtype=">u2"), 6).tobytes()
        stream = io.BytesIO(command("cat", "camera", *took, "--npy", "--frames", "2").stdout)
        frames = [np.load(stream) for _ in range(2)]
        assert [(frame.dtype.str, frame.tolist()) for frame in frames] == [(">u2", [[n] * 3] * 2) for n in range(2)]
        assert stream.read() == b""


@pytest.mark.parametrize(
    "frame",
    [
        np.arange(12.0).reshape(3, 4)[::-1, ::2],
        np.array(7, "i4"),
        np.zeros((0, 3)),
        np.array([(1, "äb")], [("größe", "<f4"), ("text", "<U2")]),
        np.array([("2020-01-01", b"x", [2, 3])], np.dtype([("t", "M8[us]"), ("s", "S3"), ("n", "i2", 2)], align=True)),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
    ],
    ids=["strides", "0-d", "empty", "structure", "aligned", "fortran"],
)
def test_dump_writes_what_numpy_reads(frame: np.ndarray[Any, Any], tmp_path: Path) -> None:
    with nds.Ring(slots=2, keep=1) as ring:
        nds.publish("any", ring)
        ring.put(frame)
        done = command("dump", "any", "--start", "oldest", "--seconds", "0", "--json", str(tmp_path / "new"))
        line = json.loads(done.stdout)
        path = Path(line["path"])
        assert (path.name, line["seq"], line["shape"]) == ("frame-0000000000.npy", 0, list(frame.shape))
        loaded = np.load(path)
        assert loaded.shape == frame.shape
        saved = io.BytesIO()
        np.save(saved, frame)
        assert loaded.dtype == np.load(io.BytesIO(saved.getvalue())).dtype  # holes stay, their alignment does not
        np.testing.assert_array_equal(loaded, frame.astype(loaded.dtype))
        assert [one.name for one in (tmp_path / "new").iterdir()] == [path.name]


CAMERA = """
import numpy as np
import ndshare as nds
nds.session("cli")
with nds.Ring(4, np.uint8, slots=4, name="camera", when_full="wait") as ring:
    print("ready", flush=True)
    while not ring.stats()["readers"]:
        pass
    for number in range(20):
        ring.put(np.full(4, number, np.uint8))
"""


def test_a_ring_of_a_session_is_read_to_its_end() -> None:
    with running(CAMERA) as process:
        said(process)
        done = command("cat", "camera", "--session", "cli")
        assert done.stdout == np.repeat(np.arange(20, dtype=np.uint8), 4).tobytes()
        assert process.wait(HANG) == 0


ENDLESS = """
import numpy as np
import ndshare as nds
with nds.Ring(4, np.uint8, slots=4, when_full="drop_oldest") as ring:
    nds.publish("endless", ring)
    print("ready", flush=True)
    while True:
        ring.put(np.zeros(4, np.uint8))
"""


def test_a_time_ends_a_stream_that_never_pauses() -> None:
    with running(ENDLESS) as process:
        said(process)
        for took in (["--seconds", "0.2"], ["--seconds", "0", "--start", "oldest"], ["--latest", "--frames", "3"]):
            done = subprocess.run(
                [*COMMAND, "cat", "endless", *took], env=environment(), capture_output=True, timeout=HANG, check=True
            )
            assert len(done.stdout) % 4 == 0
            assert done.stderr == b"" or b"frames went before they could be read" in done.stderr


def test_what_is_no_ring_is_refused_in_words() -> None:
    x = nds.ones(3)
    nds.publish("an array", x)
    assert b"kind ring, got one of kind array" in command("cat", "an array", status=1).stderr
    assert b'"nobody"' in command("cat", "nobody", status=1).stderr
    assert b'"nowhere"' in command("dump", "nobody", "--session", "nowhere", status=1).stderr


def test_ctrl_c_ends_a_wait_and_leaves_no_reader() -> None:
    with nds.Ring(4, np.uint8, slots=2) as ring:
        nds.publish("silent", ring)
        with subprocess.Popen([*COMMAND, "cat", "silent"], env=environment(), stderr=subprocess.PIPE) as process:
            wait_until(lambda: len(ring.stats()["readers"]) == 1)
            process.send_signal(signal.SIGINT)
            assert process.wait(HANG) == -signal.SIGINT
            assert process.stderr
            assert process.stderr.read() == b""
        for number in range(5):  # more than the ring has
            ring.put(np.full(4, number, np.uint8), timeout=HANG)
        assert ring.stats()["readers"] == []


def test_a_closed_pipe_is_no_fault() -> None:
    with nds.Ring((64, 1024), np.uint8, slots=2) as ring:
        nds.publish("endless", ring)
        process = subprocess.Popen(
            [*COMMAND, "cat", "endless"], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        with process:
            wait_until(lambda: len(ring.stats()["readers"]) == 1)
            assert process.stdout
            process.stdout.close()
            ring.put(np.zeros((64, 1024), np.uint8))
            assert process.wait(HANG) == 0
            assert process.stderr
            assert process.stderr.read() == b""
    for verb in (["ls"], ["ls", "--json"], ["doctor"], ["--help"], ["man"], ["completions", "zsh"]):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run([*COMMAND, *verb], env=environment(), stdout=write, stderr=subprocess.PIPE, check=False)
        os.close(write)
        assert (done.returncode, done.stderr) == (0, b""), verb


# ---- demo and bench -------------------------------------------------------------------------------------------------


def test_a_demo_has_a_camera_that_ends_with_it(runtime: Path) -> None:
    arguments = [*COMMAND, "demo", "--json", "--rate", "50"]
    with subprocess.Popen([*arguments, "--seconds", "2"], env=environment(), stdout=subprocess.PIPE) as demo:
        ring = nds.attach("demo", timeout=HANG)
        with ring.reader() as reader:
            assert reader.get(timeout=HANG).shape == (1080, 1920)
        (camera,) = [writer["pid"] for writer in ring.stats()["writers"]]
        assert camera not in (demo.pid, os.getpid())
        lines = [json.loads(line) for line in demo.stdout or ()]
        assert demo.wait(HANG) == 0
        assert not Path(f"/proc/{camera}").exists()
    assert len(lines) >= 1
    assert all(line["bytes_per_s"] == pytest.approx(line["frames_per_s"] * 1080 * 1920 * 2) for line in lines)
    assert entries(runtime) == []

    with subprocess.Popen([*arguments, "--seconds", "1000"], env=environment(), stdout=subprocess.DEVNULL) as demo:
        ring = nds.attach("demo", timeout=HANG)
        assert wait_until(lambda: len(ring.stats()["writers"]) == 1)
        camera = ring.stats()["writers"][0]["pid"]
        demo.kill()
    assert wait_until(lambda: not Path(f"/proc/{camera}").exists())


def test_a_bench_has_a_figure_for_each_thing() -> None:
    told_of = told("bench", "--seconds", "0.2")
    assert [figure["name"] for figure in told_of["figures"]] == ["copy", "hand over", "put", "gather", "rfft2"]
    assert all(figure["median_s"] > 0 for figure in told_of["figures"])
    assert all(
        (figure["gb_per_s"] is None) == (figure["name"] in {"hand over", "rfft2"}) for figure in told_of["figures"]
    )
    assert told_of["cpu"]
    assert b"rfft2" in command("bench", "--seconds", "0").stdout


def test_a_bench_with_peers_is_that_of_the_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ndshare import __main__ as entry

    assert b"ring-busy" in command("bench", "--peers", "--list").stdout
    monkeypatch.setattr(entry, "__file__", str(tmp_path / "site" / "ndshare" / "__main__.py"))
    monkeypatch.setattr(sys, "argv", ["ndshare", "bench", "--peers"])
    monkeypatch.chdir(tmp_path)
    assert entry.main() == 1
    assert "make bench" in capsys.readouterr().err


def test_json_is_a_wrong_command_line_where_there_is_none() -> None:
    for verb in (["cat", "x"], ["man"], ["completions", "bash"]):
        done = command(*verb, "--json", status=2)
        assert done.stdout == b""
        assert f"expected no --json with {verb[0]}".encode() in done.stderr


def test_a_dump_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with nds.Ring(4, np.uint8, slots=2, keep=1) as ring:
        nds.publish("in the way", ring)
        ring.put([1, 2, 3, 4])
        (folder := tmp_path / "frames").mkdir()
        (folder / "frame-0000000000.npy").mkdir()
        arguments = ["dump", "in the way", "--start", "oldest", "--seconds", "0", str(folder)]
        assert b"frame-0000000000.npy failed" in command(*arguments, status=1).stderr
        assert [one.name for one in folder.iterdir()] == ["frame-0000000000.npy"]
    nds.unpublish("in the way")


def test_a_published_array_is_told_how_it_is_saved() -> None:
    x = nds.ones(3)
    nds.publish("an array", x)
    assert b'nds.save("x.npy", nds.attach("an array"))' in command("dump", "an array", status=1).stderr
    assert nds.unpublish("an array")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees the processes of others")
def test_root_is_told_as_whom_to_look(tmp_path: Path) -> None:
    needs_interpreter(NOBODY, NOBODY)
    program = "import ndshare as nds\nx = nds.zeros(9)\nprint(nds.stats()['id'], flush=True)\ninput()\n"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        user=NOBODY,
        cwd="/",
    ) as other:
        own = said(other)
        text = command("ls").stdout.decode()
        assert "sudo -u '#65534' ndshare" in text
        assert b"sudo -u '#65534' ndshare" in command("check", own, status=2).stderr
        assert "NDSHARE_SESSION" not in text
        other.kill()
