"""What people see of long work and of objects: bars on terminals, tables in notebooks. Nobody else pays for it."""

from __future__ import annotations

import io
import os
import pty
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from helpers import HANG, environment
from ndshare import _html

LOAD = """
import sys, time
import numpy as np, ndshare as nds
def load(key):
    time.sleep(float(sys.argv[1]))
    return np.zeros(3)
cache = nds.Cache("4 MiB", load)
if "without rich" in sys.argv:
    sys.modules["rich"] = None
"""


def on_a_terminal(source: str, *args: str, interrupt_at: bytes | None = None) -> str:
    """Return what a program wrote to the terminal that it has; Ctrl-C is pressed when it has written so much."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", LOAD + source, *args]
    env = environment(TERM="xterm", NO_COLOR="1", COLUMNS="80")
    process = subprocess.Popen(command, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    said = b""
    try:
        while True:
            try:
                said += os.read(ours, 4096)
            except OSError:  # its last descriptor of the terminal is closed
                break
            if interrupt_at is not None and interrupt_at in said:
                process.send_signal(signal.SIGINT)
                interrupt_at = None
        process.wait(HANG)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return said.decode()


# Progress


def test_nobody_pays_for_looks_who_does_not_ask() -> None:
    source = """
    lots = [name for name in ("html", "rich", "ndshare._html", "ndshare._progress") if name in sys.modules]
    cache.fetch_many(range(5))
    cache.fetch_many(range(9), progress=True)
    cache.concatenate(range(5), progress=True)
    print(lots, "ndshare._html" in sys.modules, "rich" in sys.modules)
    """
    command = [sys.executable, "-c", LOAD + re.sub("^    ", "", source, flags=re.MULTILINE), "0"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=HANG, check=False)
    # What is no terminal stays as it was.
    assert (done.stdout, done.stderr) == ("[] False False\n", "")


def test_a_terminal_gets_a_bar() -> None:
    pytest.importorskip("rich")
    source = "cache.fetch_many(range(8), workers=2, progress=True)\ncache.concatenate(range(12), progress=True)\n"
    said = on_a_terminal(source, "0.06")
    assert said.count("━") > 100
    shown = re.findall(r"(\d+)/(\d+|\?)", said)
    assert ("0", "?") in shown, "it is there before the first value"
    assert ("8", "8") in shown
    assert ("12", "12") in shown
    assert len({done for done, total in shown if total == "8"}) > 2, "it moves"
    assert said.count("\x1b[?25l") == said.count("\x1b[?25h"), "the cursor is there again"


def test_a_terminal_gets_a_line_without_rich() -> None:
    said = on_a_terminal("cache.fetch_many(range(8), workers=2, progress=True)", "0.06", "without rich")
    assert re.fullmatch(r"(\rvalues \d of 8 *)+\r\n", said), said
    assert "\rvalues 8 of 8\r\n" in said
    assert said.count("values") > 2


@pytest.mark.parametrize("how", ["with rich", "without rich"])
def test_ctrl_c_ends_it(how: str) -> None:
    source = """
try:
    cache.fetch_many(range(1000), workers=1, progress=True)
except KeyboardInterrupt:
    print("ended", len(cache))
"""
    start = time.monotonic()
    said = on_a_terminal(source, "0.05", how, interrupt_at=b" 1 of 1000" if how == "without rich" else b"1/1000")
    assert re.search(r"ended \d{1,2}\r\n", said), said
    assert "Traceback" not in said
    assert said.count("\x1b[?25l") == said.count("\x1b[?25h")
    assert time.monotonic() - start < 20


class Notebook(io.StringIO):
    __module__ = "ipykernel.iostream"


def test_a_notebook_gets_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", said := Notebook())
    cache = nds.Cache("1 MiB", np.zeros)
    assert len(cache.fetch_many([1, 2, 3], workers=1, progress=True)) == 3
    assert said.getvalue() == "\rvalues 1 of 3\rvalues 3 of 3\n"
    monkeypatch.setattr(sys, "stderr", None)
    assert len(cache.fetch_many([1, 2, 3], progress=True)) == 3


def test_a_line_is_ended_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(key: int) -> Any:
        if key == 3:
            raise FileNotFoundError(key)
        return np.zeros(key)

    monkeypatch.setattr(sys, "stderr", said := Notebook())
    with pytest.raises(FileNotFoundError):
        nds.Cache("1 MiB", load).fetch_many([1, 2, 3], workers=1, progress=True)
    assert said.getvalue() == "\rvalues 1 of 3\n"


def test_whatever_can_be_called_is_told_and_nothing_else_is_taken() -> None:
    class Told(list[tuple[int, int]]):
        """Empty at first, and false therefore."""

        def __call__(self, done: int, total: int) -> None:
            self.append((done, total))

    cache, told = nds.Cache("1 MiB", np.zeros), Told()
    cache.fetch_many([1, 2], workers=1, progress=told)
    assert told == [(1, 2), (2, 2)]
    assert len(cache.fetch_many([1, 2], progress=False)) == 2
    for call in cache.fetch_many, cache.concatenate:
        with pytest.raises(TypeError, match=r"expected progress to be True, or a function of \(done, total\), got 3"):
            call([1, 2], progress=3)  # type: ignore[call-overload]


# Notebooks


class Page(HTMLParser):
    """What a piece of HTML says, and what it would do."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")
        elif tag == "span" and (width := re.search(r"width:(\d+%)", dict(attrs)["style"] or "")):
            self.rows[-1][-1] += width[1]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open[-1:] in (["td"], ["th"]):
            self.rows[-1][-1] += data


def page_of(thing: Any) -> Page:
    text = thing._repr_html_()
    page = Page(text)
    assert page.tags <= {"div", "b", "table", "tr", "th", "td", "span"}
    assert page.attributes == {"style"}, "it loads and runs nothing"
    assert "url(" not in text
    assert "//" not in text
    # Text has the colour of the page.
    assert set(re.findall(r"(?<!-)\bcolor:([^;\"]+)", text)) <= {"inherit"}
    return page


def test_a_ring_in_a_notebook() -> None:
    name = "<script>alert(1)</script> & 'co'"
    ring = nds.Ring((2, 3), "uint16", slots=4, when_full="drop_oldest", name=name)
    readers = [ring.reader(), ring.reader(group="<b>")]
    for _ in range(3):
        ring.put(np.zeros((2, 3), "uint16"))
    frame = readers[0].get()
    page = page_of(ring)
    assert page.text.startswith(f"Ring {name}, (2, 3) uint16, 4 slots, drop_oldest")
    assert "written 3 · dropped 0 · missed 0 · lost 0" in page.text
    assert page.rows[0] == ["reader", "mode", "lag", "", "held", "missed"]
    assert page.rows[1][0].startswith(f"{os.getpid()} ")
    assert page.rows[1][1:] == ["every", "50%", "2", "1", "0"]
    assert page.rows[2] == ["not used yet", "group <b>", "75%", "3", "0", "0"]
    assert page.rows[3] == ["writer", "written"]
    ring.close()
    del frame
    assert "drop_oldest, closed" in page_of(ring).text
    assert "Ring any shape, 3 slots" in page_of(nds.Ring(slots=3)).text


def test_a_cache_in_a_notebook() -> None:
    cache = nds.Cache("4 MiB", np.zeros, name="<i>tiles</i>", ttl=60)
    page = page_of(cache)
    assert page.rows == [["values", "0%", "0 B of 4 MiB"], ["hits", "0%", "0 of 0"]]
    cache.fetch_many([1 << 17, 1 << 17, 1 << 18])
    cache.fetch(1 << 17)
    page = page_of(cache)
    assert page.text.startswith("Cache <i>tiles</i>, ttl 60 s")
    # A block may be a little larger than its array.
    used = cache.info()["bytes"] / 2**20
    assert 3 <= used < 3.5
    assert page.rows == [["values", f"{100 * used / 4:.0f}%", f"{used:.3g} MiB of 4 MiB"], ["hits", "33%", "1 of 3"]]


def test_an_arena_in_a_notebook() -> None:
    arena = nds.Arena("8 MiB")
    held = nds.zeros(6 << 20, "uint8", arena=arena)
    page = page_of(arena)
    assert page.text.startswith(f"Arena {arena.id}, limit: ")
    assert page.rows[0] == ["held", "75%", "6 MiB of 8 MiB"]
    assert page.rows[-1] == [f"{os.getpid()}, this process", "75%", "6 MiB", "1"]
    assert held.sum() == 0
    arena.close()
    assert arena._repr_html_() is None, "the text is shown instead"


@pytest.mark.parametrize(
    ("size", "text"), [(999, "999 B"), (1023693, "1000 KiB"), (2**20, "1 MiB"), (2**50, "1024 TiB")]
)
def test_bytes_are_said_without_an_exponent(size: int, text: str) -> None:
    assert _html._bytes(size) == text
