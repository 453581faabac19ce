"""`ndshare view`: who is answered, what is sent, and what becomes of it when the other side dies."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import tifffile

import ndshare as nds
from helpers import HANG, alive, held, wait_until
from web import Page, Socket, picture, request

CAMERA = """
import sys, time
import numpy as np, ndshare as nds
name, rows, columns, value = sys.argv[1], *map(int, sys.argv[2:5])
ring = nds.Ring((rows, columns), np.uint16, slots=8, when_full="drop_oldest")
nds.publish(name, ring)
number = 0
while True:
    with ring.write() as frame:
        frame[:] = value
        frame[0, 0] = number
    number += 1
    time.sleep(0.01)
"""


@contextlib.contextmanager
def viewing(*names: str) -> Iterator[str]:
    """Run the command, and give its address."""
    command = [sys.executable, "-m", "ndshare", "view", *names, "--no-browser", "--json", "--until-end"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(HANG) == 0


@contextlib.contextmanager
def filming(name: str, rows: int = 30, columns: int = 40, value: int = 500) -> Iterator[subprocess.Popen[bytes]]:
    """Run a camera that can be killed."""
    command = [sys.executable, "-c", CAMERA, name, str(rows), str(columns), str(value)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()
            process.wait(HANG)
    # Asking removes the name of what is gone, as soon as a viewer has let go of it, too.
    assert wait_until(lambda: name not in nds.names(), HANG)


@pytest.fixture
def name() -> str:
    return f"view-{os.getpid()}-{time.monotonic_ns()}"


@pytest.fixture(scope="module")
def still() -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Give an address where one array is shown, for tests that change nothing."""
    array = nds.array(np.arange(60 * 80, dtype=np.uint16).reshape(60, 80))
    with nds.view(array, open_browser=False) as viewer:
        yield viewer.url, array
    del array


# ---- who is answered


def test_the_page_is_served_with_its_token_alone(still: tuple[str, Any]) -> None:
    url = still[0]
    status, headers, body = request(url)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"ndshare" in body
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
    assert headers["Referrer-Policy"] == "no-referrer"
    assert request(url, "main.js")[0] == 200
    assert request(url, "no.js")[0] == 404
    token = urlsplit(url).path.strip("/")
    assert len(token) == 32
    for wrong in ("", token[:-1], token[:-1] + ("0" if token[-1] != "0" else "1"), token.upper() + "x"):
        for path in ("", "main.js", "socket"):
            assert request(url.replace(token, wrong), path)[0] == 403


def test_requests_of_other_pages_are_refused(still: tuple[str, Any]) -> None:
    url = still[0]
    port = urlsplit(url).port
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", None):
        assert request(url, Host=host)[0] in (400, 403), host
    assert request(url, Host=f"localhost:{port}")[0] == 200
    assert request(url, Host="localhost:9")[0] == 200, "by way of a tunnel"
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{port}", f"http://localhost:{port}", None):
        assert Socket(url, "socket", Origin=origin).status == 403, origin
    assert request(url, Origin="http://evil.example")[0] == 403
    assert request(url, method="POST")[0] == 405
    with Socket(url, "socket") as good:
        assert good.status == 101


def test_nonsense_ends_a_connection_and_nothing_else(still: tuple[str, Any]) -> None:
    url = still[0]
    place = urlsplit(url)
    for nonsense in (b"\0\1\2\r\n\r\n", b"GET " + b"x" * 40_000, b"GET / HTTP/1.1\r\n" * 9):
        with socket.create_connection((place.hostname, place.port), HANG) as sock, contextlib.suppress(OSError):
            sock.sendall(nonsense)
            sock.shutdown(socket.SHUT_WR)
            assert b"200 OK" not in sock.recv(1000)
    for message in (b"{", b'{"type": "fly"}', b'{"type": "wish", "window": [-1, 1]}', b"x" * 100_000, b"\xff\xfe"):
        page = Page(url)
        page.send(message)
        with contextlib.suppress(EOFError, ConnectionError):
            while page.hear()[0] != 8:
                pass
        page.close()
    with Page(url) as page:
        page.wish(source=77)  # there is no such source, and there may have been one
        page.wish()
        assert page.see().codes.shape == (60, 80)


def test_fifty_pages_look_on_and_no_more(still: tuple[str, Any]) -> None:
    with contextlib.ExitStack() as stack:
        pages = [stack.enter_context(Page(still[0])) for _ in range(50)]
        for number, page in enumerate(pages):
            page.wish(window=(number + 1, 10))
        for number, page in enumerate(pages):
            assert page.see().codes.shape == (number + 1, 10)
        assert Socket(still[0], "socket").status == 503
        assert request(still[0])[0] == 200
    assert wait_until(lambda: Socket(still[0], "socket").status == 101)


@pytest.mark.parametrize("is_asked", [True, False], ids=["the page was asked for", "the viewer ended"])
def test_the_file_that_leads_the_browser_there_goes(
    is_asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, browser = tmp_path / "said", tmp_path / "xdg-open"
    browser.write_text(f'#!/bin/sh\ncat "$1" > {said}.part\necho "$1" >> {said}.part\nmv {said}.part {said}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    array = nds.zeros((10, 10))
    with nds.view(array, open_browser=True) as viewer:
        assert wait_until(said.exists, HANG)
        page, path = said.read_text().splitlines()
        assert viewer.url in page
        assert Path(path).exists()
        if is_asked:
            assert request(viewer.url)[0] == 200
            assert wait_until(lambda: not Path(path).exists(), HANG)
    assert not Path(path).exists()
    del array


def test_its_threads_give_way_to_whoever_writes() -> None:
    array = nds.zeros((10, 10))
    with nds.view(array, open_browser=False) as viewer, Page(viewer.url) as page:
        page.wish()
        page.see()
        nice = {}
        for task in Path(f"/proc/{viewer._process.pid}/task").iterdir():
            name, rest = (task / "stat").read_text().split("(")[1].split(") ")
            nice[name] = int(rest.split()[16])
    own = os.getpriority(os.PRIO_PROCESS, 0)
    working = [nice[name] for name in ("ndshare-view", "ndshare-page", "ndshare-hear")]
    assert working == [min(19, own + 10)] * 3, nice
    del array


def test_the_address_is_in_no_command_line(still: tuple[str, Any]) -> None:
    token = urlsplit(still[0]).path.strip("/").encode()
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in lines if token in line]


# ---- what is sent


def test_a_picture_is_the_frame(still: tuple[str, Any]) -> None:
    url, array = still
    with Page(url) as page:
        page.wish(cursor=(3, 2))
        whole = page.see()
        np.testing.assert_array_equal(whole.values, array)
        assert (whole.region, whole.told["dtype"], whole.told["shape"]) == ((0, 0, 80, 60), "uint16", [60, 80])
        assert whole.told["cursor"] == {"x": 3, "y": 2, "text": str(array[2, 3])}
        assert sum(whole.told["histogram"]["bins"]) == array.size
        page.wish(window=(6, 8))
        means = array.reshape(6, 10, 8, 10).mean(axis=(1, 3))
        assert np.abs(page.see(lambda one: one.codes.shape == (6, 8)).values - means).max() <= 0.5
        page.wish(region=(10, 20, 15, 23), values=True)
        part = page.see(lambda one: one.region == (10, 20, 15, 23))
        np.testing.assert_array_equal(part.values, array[20:23, 10:15])
        assert part.told["values"] == [[str(value) for value in row] for row in array[20:23, 10:15]]
        page.wish(line=(0.5, 1.5, 9.5, 1.5), rectangle=(2, 3, 12, 13))
        told = page.see(lambda one: "profile" in one.told).told
        assert told["profile"]["values"] == array[1, :10].tolist()
        cut = array[3:13, 2:12].astype(float)
        assert told["rectangle"]["mean"] == pytest.approx(cut.mean())
        assert told["rectangle"]["deviation"] == pytest.approx(cut.std())
        page.wish(limit=4000)
        marked = page.see(lambda one: one.flags == 2)
        np.testing.assert_array_equal(marked.codes == 65535, array >= 4000)


def test_every_kind_of_number_is_shown() -> None:
    rng = np.random.default_rng(1)
    arrays = []
    for dtype in ("bool", "u1", "i1", ">u2", "<i2", "u4", "i8", "f2", "<f4", ">f8", "c8", "c16"):
        numbers = rng.random((7, 9)) * 100 + (1j * rng.random((7, 9)) if dtype[0] == "c" else 0)
        arrays.append(nds.array(numbers.astype(dtype)))
    with nds.view(*arrays, open_browser=False) as viewer, Page(viewer.url) as page:
        for source, array in enumerate(arrays):
            is_complex = array.dtype.kind == "c"
            page.wish(source, cursor=(1, 0))
            found = page.see(lambda one, source=source: one.source == source)
            assert np.abs(found.values - (np.abs(array) if is_complex else array.astype(float))).max() <= 100 / 65533
            text = found.told["cursor"]["text"]
            value = complex(text) if is_complex else float(json.loads(text))
            assert np.array([value]).astype(array.dtype) == array[0, 1], "every digit is told"
            for part, of in (("phase", np.angle), ("real", np.real), ("imaginary", np.imag)) if is_complex else ():
                page.wish(source, part=part)
                found = page.see(lambda one, source=source: one.source == source)
                assert np.abs(found.values - of(array)).max() <= 100 / 65533
    del arrays, array


def test_large_numbers_that_lie_close_together_are_told_apart() -> None:
    """In 32 bits they would all be the same, or a pattern that is not there."""
    steps = np.arange(63).reshape(7, 9)
    arrays = [
        nds.array(of + steps.astype(dtype)) for dtype, of in (("u8", np.uint64(10**15)), ("i4", -(2**30)), ("f8", 1e12))
    ]
    with nds.view(*arrays, open_browser=False) as viewer, Page(viewer.url) as page:
        for source, array in enumerate(arrays):
            page.wish(source, line=(0, 0.5, 9, 0.5), rectangle=(0, 0, 9, 7), limit=float(array[3, 3]))
            found = page.see(lambda one, source=source: one.source == source and "rectangle" in one.told)
            np.testing.assert_array_equal(found.codes == 65535, array >= array[3, 3])
            below = array < array[3, 3]
            assert np.abs(found.values[below] - array[below].astype(float)).max() < 0.01
            assert found.told["profile"]["values"] == [*array[0].astype(float).tolist(), None]
            assert found.told["rectangle"]["mean"] == array.astype(float).mean()
            assert found.told["rectangle"]["deviation"] == pytest.approx(steps.std())
            histogram = found.told["histogram"]
            assert histogram["low"] == array.min()
            assert histogram["high"] - histogram["whole"] == array.max()
    del arrays, array


def test_a_large_stack_is_followed_where_it_is() -> None:
    """Its viewer copied it three times over, and a stack of half the memory was the end of somebody."""
    stack = nds.zeros((128, 512, 512), np.uint16)  # 64 MiB
    with nds.view(stack, open_browser=False) as viewer, Page(viewer.url) as page:
        page.wish(lead=[127])
        assert page.see().values.max() == 0
        stack[-1, -1, -1] = 9
        assert page.see(lambda one: bool(one.values[-1, -1] == 9)).seq > 0
        page.say("pause")
        page.see(lambda one: one.told["paused"])
        page.say("play")
        page.see(lambda one: not one.told["paused"])
        status = Path(f"/proc/{viewer._process.pid}/status").read_text()
        own = int(status.split("RssAnon:")[1].split()[0]) << 10
        assert own < stack.nbytes, "no copy stands beside it"
    del stack


def test_stacks_colours_and_odd_layouts() -> None:
    rng = np.random.default_rng(2)
    stack = nds.array(rng.integers(0, 60_000, (4, 3, 20, 30), np.uint16))
    colours = nds.array(rng.integers(0, 256, (20, 30, 3), np.uint8))
    turned = nds.array(rng.random((30, 20), np.float32)).T[::-1]
    number = nds.array(np.float64(2.5))
    nothing = nds.zeros((0, 5))
    with nds.view(stack, colours, turned, number, nothing, open_browser=False) as viewer, Page(viewer.url) as page:
        page.wish(0, lead=[2, 1])
        np.testing.assert_array_equal(page.see().values, stack[2, 1])
        page.wish(0, lead=[99])
        np.testing.assert_array_equal(page.see(lambda one: one.told["lead"] == [3, 0]).values, stack[3, 0])
        page.wish(1)
        np.testing.assert_array_equal(page.see(lambda one: one.source == 1).values, colours)
        page.wish(1, colours=False, lead=[19])
        np.testing.assert_array_equal(page.see(lambda one: one.codes.shape == (30, 3)).values, colours[19])
        page.wish(2)
        assert np.abs(page.see(lambda one: one.source == 2).values - turned).max() < 1e-4
        page.wish(3)
        assert page.see(lambda one: one.source == 3).values.tolist() == [[2.5]]
        page.wish(4)
        assert "nothing to see" in page.note()
    del stack, colours, turned, number, nothing


def test_a_spectrum_has_its_peaks_where_they_belong() -> None:
    y, x = np.mgrid[:64, :128]
    array = nds.array(np.cos(2 * np.pi * (5 * x / 128 + 3 * y / 64)).astype(np.float32))
    with nds.view(array, open_browser=False) as viewer, Page(viewer.url) as page:
        page.wish(spectrum=(64, 128))
        found = page.see(lambda one: one.kind == 2)
        strongest = np.argsort(found.codes.ravel())[-2:]
        assert sorted(divmod(int(at), 128) for at in strongest) == [(32 - 3, 64 - 5), (32 + 3, 64 + 5)]
    del array


def test_an_array_that_changes_is_followed() -> None:
    array = nds.zeros((10, 10), np.float32)
    with nds.view(array, open_browser=False) as viewer, Page(viewer.url) as page:
        page.wish()
        assert page.see().values.max() == 0
        array[:] = 7
        assert page.see(lambda one: bool(one.values.min() == 7)).seq > 0
    del array


def test_files_are_what_others_read() -> None:
    shapes, dtypes = [(5, 7), (5, 7, 3), (3, 5, 7)], ["u1", "<u2", ">i4", "f4", "f8", "c8"]
    arrays = [nds.array(np.arange(np.prod(shape)).reshape(shape).astype(dtype)) for shape in shapes for dtype in dtypes]
    with nds.view(*arrays, open_browser=False) as viewer, Page(viewer.url) as page:
        for source, array in enumerate(arrays):
            is_colours = array.shape[-1] == 3 and array.dtype.kind in "uf"
            flat = array if array.ndim == 2 or is_colours else array[1]
            page.wish(source, lead=[] if flat is array else [1])
            page.see(lambda one, source=source: one.source == source)
            page.say("save", source, format="npy")
            file = page.see(lambda one: one.kind == 3)
            assert file.told["name"] == f"array_{source + 1}-0000000000.npy"
            loaded = np.load(io.BytesIO(file.payload))
            assert loaded.dtype == array.dtype
            np.testing.assert_array_equal(loaded, array)
            page.say("save", source, format="tiff")
            tiff = tifffile.imread(io.BytesIO(page.see(lambda one: one.kind == 3).payload))
            np.testing.assert_array_equal(tiff, flat)
            page.say("save", source, format="picture")
            assert page.see(lambda one: one.kind == 4).codes.shape[:2] == flat.shape[:2]
    del arrays, array, flat


# ---- rings


def test_who_is_slow_gets_the_newest(name: str) -> None:
    with filming(name), viewing(name) as url, Page(url) as slow, Page(url) as quick:
        slow.wish()
        quick.wish()
        while picture(_binary(slow)).kind != 1:
            pass
        seen = [quick.see().seq for _ in range(30)]
        assert seen == sorted(set(seen))
        # Nothing more came to the one that has not confirmed; when it does, it gets the newest, none of those between.
        slow.say("next")
        assert picture(_binary(slow)).seq >= seen[-1] - 1


def _binary(page: Page) -> bytes:
    while True:
        code, message = page.hear()
        if code == 2:
            return message


def test_a_page_that_takes_nothing_holds_nobody_up(name: str) -> None:
    with filming(name, 1000, 1000), viewing(name) as url, Page(url) as stuck, Page(url) as other:
        stuck.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.wish()
        for _ in range(20):
            stuck.say("next")
        other.wish(window=(10, 10))
        first = other.see().seq
        assert other.see(lambda one: one.seq > first + 50)


def test_a_page_that_takes_its_time_keeps_no_frame(name: str) -> None:
    with nds.Ring((2000, 2000), np.uint16, slots=4) as ring, viewing(name) as url, Page(url) as slow:
        nds.publish(name, ring)
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ring.put(np.zeros((2000, 2000), np.uint16))
        slow.wish()
        assert len(slow._take(50_000)), "its picture is on its way"
        # Now and then it takes something: it is slow, but not gone.
        kept = lambda: [one["bytes"] for one in nds.stats()["participants"][1:]]  # noqa: E731
        assert wait_until(lambda: bool(slow.sock.recv(4000)) and max(kept()) < 8_000_000, HANG)
        nds.unpublish(name)


def test_a_viewer_that_was_stopped_goes_on() -> None:
    array = nds.zeros((10, 10), np.uint16)
    with nds.view(array, open_browser=False) as viewer, Page(viewer.url) as page:
        for _ in range(20):
            viewer._process.send_signal(signal.SIGSTOP)
            page.wish()
            viewer._process.send_signal(signal.SIGCONT)
            page.see()
    del array


def test_one_of_the_arrays_of_a_frame_is_shown(name: str) -> None:
    fields = {"gain": ((), "f4"), "rgb": ((6, 8, 3), "u1"), "left": {"depth": ((6, 8), "u2"), "id": ((), "S3")}}
    with nds.Ring(fields=fields, slots=4) as ring, viewing(name) as url, Page(url) as page:
        nds.publish(name, ring)
        depth = np.arange(48, dtype="u2").reshape(6, 8)
        ring.put({"gain": 2.0, "rgb": np.full((6, 8, 3), 7, "u1"), "left": {"depth": depth, "id": b"abc"}})
        page.wish(cursor=(0, 0))
        told = page.see().told
        assert (told["field"], told["fields"], told["cursor"]["text"]) == (
            "rgb",
            ["gain", "rgb", "left.depth"],
            "7, 7, 7",
        )
        page.wish(field="left.depth")
        found = page.see(lambda one: one.told["field"] == "left.depth")
        np.testing.assert_array_equal(found.values, depth)
        page.say("save", format="npy")
        file = page.see(lambda one: one.kind == 3)
        np.testing.assert_array_equal(np.load(io.BytesIO(file.payload)), depth)
        assert file.told["name"].endswith("-left_depth-0000000000.npy")
        page.say("pause")  # a copy of its own
        paused = page.see(lambda one: one.told["paused"])
        np.testing.assert_array_equal(paused.values, depth)
        page.wish(field="none")
        assert page.see(lambda one: one.told["field"] == "rgb").codes.shape == (6, 8, 3)
        nds.unpublish(name)


def test_pause_and_steps_through_what_the_ring_keeps(name: str) -> None:
    with nds.Ring((4, 4), np.uint16, slots=8, keep=8) as ring:
        nds.publish(name, ring)
        for number in range(6):
            ring.put(np.full((4, 4), number, np.uint16))
        with viewing(name) as url, Page(url) as page:
            page.wish()
            assert page.see().seq == 5
            page.say("pause")
            assert page.see().told["paused"]
            ring.put(np.full((4, 4), 6, np.uint16))
            for seq in (4, 3):
                page.say("step", by=-1)
                back = page.see()
                assert (back.seq, back.values[0, 0], back.told["kept"]) == (seq, seq, [0, 7])
            page.say("step", by=-9)
            assert "no other frame" in page.note()
            page.say("step", by=1)
            assert page.see().seq == 4
            page.say("play")
            # The first picture after the pause may be of what the view had before it.
            assert page.see(lambda one: not one.told["paused"] and one.seq > 5).seq == 6
        nds.unpublish(name)


def test_a_ring_in_an_arena_on_a_path_is_looked_at_from_outside(tmp_path: Path) -> None:
    path = tmp_path / "a.nds"
    arena = nds.Arena("16 MiB", path=path)
    ring = nds.Ring((30, 40), np.uint16, slots=4, keep=4, name="camera", arena=arena)
    with viewing("camera", "--arena", str(path)) as url, Page(url) as page:
        page.wish()
        ring.put(np.full((30, 40), 7, np.uint16))
        assert page.see().values[0, 0] == 7
        assert len(nds.stats(arena)["participants"]) == 1, "nobody has joined"
        assert ring.stats()["readers"] == []
        ring.put(np.full((30, 40), 8, np.uint16))
        assert page.see(lambda one: bool(one.values[0, 0] == 8)).told["kept"] == [0, 2]
        page.say("pause")
        page.see(lambda one: one.told["paused"])
        page.say("step", by=-1)
        assert page.see().values[0, 0] == 7
        page.say("play")
        page.states.clear()
        del ring
        arena.close()
        assert "nobody has the arena" in page.state("waiting")["text"]
        with nds.Arena(path=path) as again, again.attach("camera") as ring:
            ring.put(np.full((30, 40), 9, np.uint16))
            assert page.see(lambda one: bool(one.values[0, 0] == 9)).seq == 2
            page.states.clear()
            page.state("live")
        page.state("closed")
        del ring


def test_what_is_not_in_an_arena_is_told(path_of_arrays: Path) -> None:
    with viewing("mask", "none", "--arena", str(path_of_arrays)) as url, Page(url) as page:
        assert "expected 'mask'" in page.state("failed", 0)["text"].replace('"', "'")
        assert "got one of kind array" in page.state("failed", 0)["text"]
        assert "see `ndshare ls" in page.state("failed", 1)["text"]
    with viewing("camera", "--arena", str(path_of_arrays.with_name("none"))) as url, Page(url) as page:
        assert "none" in page.state("failed")["text"]


@pytest.fixture
def path_of_arrays(tmp_path: Path) -> Path:
    path = tmp_path / "a.nds"
    with nds.Arena("16 MiB", path=path) as arena:
        arena.publish("mask", nds.zeros((3, 4), arena=arena))
    return path


def test_a_new_size_is_shown(name: str) -> None:
    with nds.Ring(slots=4) as ring, viewing(name) as url, Page(url) as page:
        page.wish(cursor=(30, 30), region=(20, 20, 40, 40))
        page.state("waiting")
        nds.publish(name, ring)
        for shape, dtype in (((50, 60), "u2"), ((10, 12), "f4"), ((70, 80, 3), "u1")):
            ring.put(np.ones(shape, dtype))
            told = page.see(lambda one, shape=shape: one.told["shape"] == list(shape)).told
            assert told["dtype"] == np.dtype(dtype).name
        ring.put(np.zeros(3, "S5"))
        assert "cannot be shown" in page.note()
        ring.put(np.ones((5, 5)))
        assert page.see(lambda one: one.told["shape"] == [5, 5])
        nds.unpublish(name)


def test_the_end_of_a_ring_is_told(name: str) -> None:
    ring = nds.Ring((4, 4), slots=4)
    nds.publish(name, ring)
    ring.put(np.ones((4, 4)))
    with viewing(name) as url, Page(url) as page:
        page.wish()
        page.see()
        assert page.state("live")["kind"] == "ring"
        ring.close()
        page.state("closed")
        nds.unpublish(name)
        other = nds.Ring((4, 4), slots=4)
        nds.publish(name, other)
        other.put(np.full((4, 4), 2.0))
        assert page.see(lambda one: bool(one.values[0, 0] == 2))
    nds.unpublish(name)
    del ring, other


def test_a_killed_writer_is_followed_by_its_successor(name: str) -> None:
    with viewing(name) as url, Page(url) as page:
        page.wish()
        for value, shape in ((11, (30, 40)), (22, (20, 50))):
            with filming(name, *shape, value) as camera:
                found = page.see(lambda one, value=value: bool(one.values[1, 1] == value))
                assert found.codes.shape == shape
                page.states.clear()
                camera.send_signal(signal.SIGKILL)
                page.state("waiting")


def test_a_dead_writer_of_a_ring_that_others_have_is_told(name: str) -> None:
    with filming(name) as camera, viewing(name) as url, Page(url) as page:
        page.wish()
        page.see()
        ring = nds.attach(name)
        camera.kill()
        assert "died" in page.state("died")["text"]
        with ring:
            ring.put(np.full((30, 40), 9, np.uint16))
            assert page.see(lambda one: bool(one.values[1, 1] == 9))
        del ring


def test_several_sources_and_their_counts(name: str) -> None:
    with filming(name, value=1), filming(name + "b", value=2), viewing(name, name + "b") as url, Page(url) as page:
        for source in (0, 1):
            page.wish(source)
            assert page.see(lambda one, source=source: one.source == source).values[1, 1] == source + 1
        page.states.clear()

        def counts(source: int) -> Any:
            page.states.clear()
            return page.state("live", source)["counts"]

        assert wait_until(lambda: (counts(1)["frames_per_s"] or 0) > 5)
        told = counts(0)
        assert [reader["mode"] for reader in told["readers"]] == ["latest"]
        assert told["readers"][0]["is_me"]
        assert told["bytes_per_s"] == pytest.approx(told["frames_per_s"] * 2400)


def test_a_viewer_keeps_no_frame_while_nobody_looks(name: str) -> None:
    with nds.Ring((500, 500), np.uint16, slots=4) as ring, viewing(name) as url:
        nds.publish(name, ring)
        ring.put(np.zeros((500, 500), np.uint16))
        with Page(url) as page:
            page.wish()
            page.see()
        assert wait_until(
            lambda: nds.stats()["participants"][-1]["bytes"] < 500_000 or len(nds.stats()["participants"]) < 2
        )
        nds.unpublish(name)


# ---- from Python


def test_view_from_python() -> None:
    before = held()
    ring = nds.Ring((4, 5), np.uint8, slots=4, name="view from python")
    canvas = nds.Canvas((6, 7), np.uint8)
    viewer = nds.view(ring, canvas, open_browser=False)
    assert repr(viewer) == f"<Viewer {viewer.url} open>"
    ring.put(np.full((4, 5), 3, np.uint8))
    with Page(viewer.url) as page:
        page.wish(0)
        page.wish(1)
        seen = dict[int, Any]()
        while len(seen) < 2:  # in either order
            one = page.see()
            seen[one.source] = one
        assert seen[0].codes.tolist() == [[3] * 5] * 4
        assert seen[1].codes.shape == (6, 7)
        assert page.state("live", 0)["name"] == "view from python"
        assert page.state("live", 1)["name"] == "array"
    pid = viewer._process.pid
    viewer.close()
    viewer.close()
    assert not alive(pid)
    assert "closed" in repr(viewer)
    with pytest.raises(OSError, match="refused"):
        request(viewer.url)
    del ring, canvas, viewer
    gc.collect()
    assert wait_until(lambda: held() <= before)


def test_what_cannot_be_shown_is_refused() -> None:
    with pytest.raises(ValueError, match=r"nds\.asarray"):
        nds.view(np.zeros(3), open_browser=False)
    with pytest.raises(TypeError, match="Ring"):
        nds.view(nds.Lock(), open_browser=False)
    for other in ("a text", 5):
        with pytest.raises(TypeError, match="expected a Ring, a shared array or a Canvas, got"):
            nds.view(other, open_browser=False)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="nothing"):
        nds.view()


def test_a_viewer_ends_with_its_program() -> None:
    program = """
import os, signal, sys
import numpy as np, ndshare as nds
a = nds.zeros((4, 4))
viewer = nds.view(a, open_browser=False)
if os.fork() == 0:  # who was forked does not keep it
    import time
    time.sleep(5)
    os._exit(0)
print(viewer._process.pid, flush=True)
if sys.argv[1] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
"""
    for how in ("kill", "leave"):
        command = [sys.executable, "-c", program, how]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            pid = int(process.stdout.readline())
            assert wait_until(lambda pid=pid: not alive(pid))


def test_a_wrong_command_line_is_said(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert nds._native.run_command(["ndshare", "view"]) == 2
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert nds._native.run_command(["ndshare", "view", name, "--port", port, "--no-browser"]) == 1
    assert "--port" in capfd.readouterr().err
