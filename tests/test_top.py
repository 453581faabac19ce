"""`ndshare top`: rates of rings and caches as JSON, as a table, and in a real terminal that is left as it was."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from helpers import HANG, environment, wait_until
from test_cli import COMMAND, command
from test_strangers import runtime as runtime  # noqa: PLC0414  (a fixture)


@contextmanager
def camera() -> Iterator[nds.Ring]:
    """Give a ring that is published as camera, into which a thread puts frames until the end."""
    over = threading.Event()
    with nds.Ring((10, 100), np.uint16, slots=4, when_full="drop_oldest") as ring:
        nds.publish("camera", ring)
        ring.put(np.zeros((10, 100), np.uint16))

        def put() -> None:
            while not over.wait(0.002):
                ring.put(np.zeros((10, 100), np.uint16))

        thread = threading.Thread(target=put)
        thread.start()
        try:
            yield ring
        finally:
            over.set()
            thread.join()


def mine(line: str | bytes) -> Any:
    """Return what a line of JSON says of this process's session."""
    return next(arena for arena in json.loads(line)["arenas"] if arena["id"] == nds.stats()["id"])


def test_a_line_of_json_has_rates_readers_and_memory(runtime: Path) -> None:
    with camera() as ring, ring.reader() as slow:
        slow.get(timeout=HANG)
        cache = nds.Cache("1 MiB", name="tiles", load=lambda _: np.zeros(3))
        cache[0]
        before, files = nds.stats()["participants"], sorted(path.name for path in runtime.rglob("*"))
        with subprocess.Popen(
            [*COMMAND, "top", "--json", "--once", "--interval", "0.5"], env=environment(), stdout=subprocess.PIPE
        ) as top:
            while top.poll() is None:
                cache[0]
                time.sleep(0.001)
            assert top.returncode == 0
            assert top.stdout is not None
            arena = mine(top.stdout.read())
        assert nds.stats()["participants"] == before, "nobody has joined"
        assert sorted(path.name for path in runtime.rglob("*")) == files
        assert 0 < arena["used_bytes"] < arena["budget_bytes"] == nds.stats()["budget"]
        told = next(one for one in arena["rings"] if one["name"] == "camera")
        assert told["written"] > 0
        assert told["frames_per_s"] > 1
        assert told["bytes_per_s"] == pytest.approx(told["frames_per_s"] * 2000)
        assert [writer["pid"] for writer in told["writers"]] == [os.getpid()]
        reader = told["readers"][0]
        name = Path("/proc/self/comm").read_text().strip()
        assert (reader["pid"], reader["name"], reader["mode"], reader["alive"]) == (os.getpid(), name, "every", True)
        assert reader["missed"] > 0
        tiles = next(one for one in arena["caches"] if one["name"] == "tiles")
        assert (tiles["hit_ratio"], tiles["entries"]) == (1, 1)


def test_lines_go_on_until_the_pipe_is_closed(runtime: Path) -> None:
    arguments = [*COMMAND, "top", "--json", "--interval", "0.05"]
    with camera(), subprocess.Popen(arguments, env=environment(), stdout=subprocess.PIPE) as top:
        assert top.stdout is not None
        assert [len(mine(top.stdout.readline())["rings"]) for _ in range(3)] == [1] * 3
        top.stdout.close()
        assert top.wait(HANG) == 0
    assert runtime.exists()


def test_a_table_once(runtime: Path) -> None:
    with camera() as ring, ring.reader(latest=True) as reader:
        reader.get(timeout=HANG)
        text = command("top", "--once", "--interval", "0.1").stdout.decode()
    assert "\x1b" not in text
    assert nds.stats()["id"] in text
    assert f"    reader {os.getpid()} " in text
    assert next(line for line in text.splitlines() if line.startswith("  camera ")).split()[1] != "-"
    assert runtime.exists()


def test_without_a_terminal_it_says_what_else_there_is() -> None:
    done = command("top", status=1)
    assert b"expected a terminal" in done.stderr
    assert b"--json" in done.stderr
    assert done.stdout == b""
    assert b"expected at least 0.01 seconds" in command("top", "--interval", "0", status=2).stderr


# ---- in a terminal --------------------------------------------------------------------------------------------------

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


class Terminal:
    """A pseudo-terminal with the command in it."""

    def __init__(self, rows: int, columns: int) -> None:
        self.master, self.slave = os.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        arguments = [*COMMAND, "top", "--interval", "0.1"]
        env = environment(TERM="xterm-256color")
        self.process = subprocess.Popen(arguments, env=env, stdin=self.slave, stdout=self.slave, stderr=self.slave)
        self.output = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def shows(self, text: bytes, start: int = 0) -> bool:
        """Read what there is, until a text stands there."""
        deadline = time.monotonic() + HANG
        while not self._has(text, start) and time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.05)[0]:
                self.output += os.read(self.master, 1 << 16)
            elif self.process.poll() is not None:
                break
        return self._has(text, start)

    def _has(self, text: bytes, start: int) -> bool:
        """Look for it as written, and as it looks: a blank that was blank before is passed over by a movement."""
        raw = self.output[start:]
        return text in raw or text in re.sub(rb"\x1b\[\d+;\d+H", b" ", raw)

    def is_left(self) -> bool:
        """Return whether the terminal is as it was before."""
        return self.shows(LEAVE) and termios.tcgetattr(self.slave) == self.before


@contextmanager
def terminal(rows: int = 500, columns: int = 100) -> Iterator[Terminal]:
    """Give a terminal that is high enough for the arenas of other tests as well."""
    screen = Terminal(rows, columns)
    try:
        yield screen
    finally:
        screen.process.kill()
        screen.process.wait()
        os.close(screen.master)
        os.close(screen.slave)


@pytest.mark.parametrize("key", [b"q", b"\x03"], ids=["q", "ctrl-c"])
def test_a_key_leaves_and_the_terminal_is_as_it_was(key: bytes, runtime: Path) -> None:
    with camera(), terminal() as screen:
        assert screen.shows(b"camera")
        assert ENTER in screen.output
        assert termios.tcgetattr(screen.slave) != screen.before, "it reads keys as they come"
        assert screen.shows(f"writer {os.getpid()}".encode())
        os.write(screen.master, b"\x1b[B" + key)  # an arrow before it scrolls
        assert screen.process.wait(HANG) == 0
        assert screen.is_left()
    assert runtime.exists()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_as_any_command_and_the_terminal_is_as_it_was(end: signal.Signals, runtime: Path) -> None:
    with camera(), terminal() as screen:
        assert screen.shows(b"camera")
        screen.process.send_signal(end)
        assert screen.process.wait(HANG) == -end
        assert screen.is_left()
    assert runtime.exists()


def test_it_ends_with_its_terminal(runtime: Path) -> None:
    for _ in range(4):
        pid, terminal = pty.fork()
        if not pid:
            os.execvpe(COMMAND[0], [*COMMAND, "top", "--interval", "0.1"], environment(TERM="xterm"))
        try:
            shown = b""
            while ENTER not in shown:
                shown += os.read(terminal, 1 << 16)
            os.close(terminal)
            assert wait_until(lambda pid=pid: os.waitpid(pid, os.WNOHANG)[0] == pid, HANG)
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            raise
    assert runtime.exists()


def test_another_size_is_drawn_anew(runtime: Path) -> None:
    with camera(), terminal() as screen:
        assert screen.shows(b"camera")
        for rows, columns in [(3, 20), (1, 1), (600, 200)]:
            start = len(screen.output)
            screen.resize(rows, columns)
            screen.process.send_signal(signal.SIGWINCH)
            assert screen.shows(b"\x1b[2J", start) or screen.shows(b"\x1b[J", start), "it is cleared"
        assert screen.shows(b"camera", start)
        os.write(screen.master, b"q")
        assert screen.process.wait(HANG) == 0
        assert screen.is_left()
    assert runtime.exists()


@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux, a terminal multiplexer")
def test_it_runs_in_tmux(runtime: Path) -> None:
    tmux = ["tmux", "-L", f"ndshare-{os.getpid()}", "-f", "/dev/null"]

    def pane() -> str:
        done = subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, text=True, check=False)
        return done.stdout

    with camera():
        start = [*tmux, "new-session", "-d", "-x", "100", "-y", "500", *COMMAND, "top", "--interval", "0.1"]
        subprocess.run(start, env=environment(), check=True, timeout=HANG)
        try:
            assert wait_until(lambda: "  camera " in pane())
            assert f"writer {os.getpid()}" in pane()
            subprocess.run([*tmux, "send-keys", "q"], check=True)
            gone = [*tmux, "has-session"]
            assert wait_until(lambda: subprocess.run(gone, capture_output=True, check=False).returncode != 0)
        finally:
            subprocess.run([*tmux, "kill-server"], capture_output=True, check=False)
    assert runtime.exists()
