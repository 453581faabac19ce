"""The viewer in notebooks: as a widget by way of a kernel, in JupyterLab, and as a picture where there are no widgets.

What is too large for every run of the tests is skipped, by name: `make test-libraries` installs it.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import queue
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from browser import CHROMIUM, Browser
from helpers import HANG, wait_until
from ndshare import _notebook, _still
from web import Picture, picture

WIDGET = "application/vnd.jupyter.widget-view+json"
RING = """
import numpy as np
import ndshare as nds
ring = nds.Ring((60, 80), np.uint16, slots=8, when_full="drop_oldest", keep=4)
frame = np.arange(4800, dtype=np.uint16).reshape(60, 80)
ring.put(frame)
"""
FILM = """
import threading, time
def film():
    while True:
        ring.put(frame)
        time.sleep(0.01)
threading.Thread(target=film, daemon=True).start()
"""
NO_WIDGETS = "import sys; sys.modules['anywidget'] = None"


# ---- without a notebook


def opened(png: bytes | None) -> np.ndarray[Any, Any]:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    assert png is not None
    return np.asarray(image.open(io.BytesIO(png)))


def test_a_view_that_leaves_before_it_is_connected_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection stayed for as long as the kernel lived."""

    class Socket:
        is_closed = False

        def close(self) -> None:
            self.is_closed = True

        async def read_message(self) -> str | None:
            return None if self.is_closed else await asyncio.Event().wait()  # type: ignore[func-returns-value]

    async def connect(*_: object, **__: object) -> Socket:
        await relay._leave("a")
        return socket

    client = SimpleNamespace(HTTPRequest=lambda *_, **__: None, HTTPClientError=OSError)
    monkeypatch.setitem(sys.modules, "tornado.httpclient", client)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "tornado.websocket", SimpleNamespace(websocket_connect=connect))  # type: ignore[arg-type]
    said: list[Any] = []
    relay, socket = _notebook.Relay("http://127.0.0.1:1/", lambda *each: said.append(each)), Socket()
    asyncio.run(asyncio.wait_for(relay._join("a"), HANG))
    assert socket.is_closed
    assert (relay.views, said) == ({}, [({"view": "a", "lost": True},)])


def test_a_still_is_a_picture_of_the_newest_frame() -> None:
    ring = nds.Ring((2, 256), np.uint16, slots=4, keep=2)
    assert _still.still(ring) is None
    ring.put(np.zeros((2, 256), np.uint16))
    ring.put(np.arange(512, dtype=np.uint16).reshape(2, 256))
    assert np.abs(opened(_still.still(ring)).astype(float) - np.arange(512).reshape(2, 256) / 2).max() <= 2


@pytest.mark.parametrize(
    ("shape", "dtype", "seen"),
    [
        ((), "f4", (1, 1)),
        ((7,), "i8", (1, 7)),
        ((5, 4, 30, 40), "u2", (30, 40)),
        ((30, 40, 3), "u1", (30, 40, 3)),
        ((2, 30, 40, 4), "u1", (30, 40, 3)),
        ((1200, 1600), "c8", (300, 400)),
        ((9, 9), "bool", (9, 9)),
    ],
)
def test_a_still_of_any_shape(shape: tuple[int, ...], dtype: str, seen: tuple[int, ...]) -> None:
    array = nds.ones(shape, dtype)
    if array.dtype.kind == "f":
        array[...] = np.nan
    assert opened(_still.still(array)).shape == seen


# ---- by way of a kernel


def outputs(*cells: str) -> list[Any]:
    """Run a notebook, and return the outputs of its last cell."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(book, timeout=HANG, kernel_name="python3").execute()
    return book.cells[-1].outputs


def test_a_still_of_several_arrays_is_one_of_them_and_of_no_numbers_none() -> None:
    ring = nds.Ring(fields={"gain": ((), "f4"), "rgb": ((6, 8, 3), "u1")}, slots=2)
    ring.put({"gain": np.float32(1), "rgb": np.full((6, 8, 3), 7, "u1")})
    np.testing.assert_array_equal(opened(_still.still(ring)), np.full((6, 8, 3), 7))
    for nothing in (np.zeros((3, 3), "U3"), np.zeros((0, 5)), np.zeros((0, 5, 5)), np.zeros((2, 2), "V5")):
        assert _still.still(nds.array(nothing)) is None
    del ring


def test_a_notebook_shows_a_widget_and_keeps_a_picture() -> None:
    pytest.importorskip("anywidget")
    (shown,) = outputs(RING, "nds.view(ring)")
    assert WIDGET in shown.data
    assert opened(base64.b64decode(shown.data["image/png"])).shape == (60, 80)


def test_a_notebook_without_anywidget_shows_a_link_and_a_picture() -> None:
    (shown,) = outputs(NO_WIDGETS, RING, "nds.view(ring)")
    assert WIDGET not in shown.data
    text = shown.data["text/html"]
    assert 'href="http://127.0.0.1:' in text
    assert opened(base64.b64decode(text.split("base64,")[1].split('"')[0])).shape == (60, 80)


class Front:
    """What a notebook's page is to its kernel: it says and hears what a widget does."""

    def __init__(self, client: Any) -> None:
        self.client, self.view, self.waiting = client, uuid.uuid4().hex, queue.Queue[tuple[str | None, bytes]]()
        self.comm: str | None = None
        self.lost = False

    def run(self, code: str) -> None:
        asked = self.client.execute(code)
        is_idle = False
        while not is_idle:
            message = self.client.get_iopub_msg(timeout=HANG)
            is_ours = message["parent_header"].get("msg_id") == asked
            assert message["msg_type"] != "error", message["content"]
            is_idle = is_ours and message["content"].get("execution_state") == "idle"
            self.hear(message)

    def hear(self, message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] == "comm_open" and "_esm" in content["data"]["state"]:
            self.comm = content["comm_id"]
        elif message["msg_type"] == "comm_msg" and content["data"]["method"] == "custom":
            said = content["data"]["content"]
            if said["view"] != self.view:
                return
            self.lost |= "lost" in said
            self.waiting.put((said.get("text"), bytes(message["buffers"][0]) if message["buffers"] else b""))

    def say(self, **more: Any) -> None:
        content = {"comm_id": self.comm, "data": {"method": "custom", "content": {"view": self.view, **more}}}
        self.client.shell_channel.send(self.client.session.msg("comm_msg", content))

    def wish(self, kind: str = "wish", **more: Any) -> None:
        self.say(text=json.dumps({"type": kind, "source": 0, **more}))

    def until(self, is_wanted: Callable[[str | None, bytes], bool]) -> tuple[str | None, bytes]:
        end = time.monotonic() + HANG
        while time.monotonic() < end:
            while not self.waiting.empty():
                found = self.waiting.get()
                if is_wanted(*found):
                    return found
            try:
                self.hear(self.client.get_iopub_msg(timeout=0.5))
            except queue.Empty:
                continue
        raise AssertionError("nothing of the kind came")

    def see(self) -> Picture:
        return picture(self.until(lambda _, binary: bool(binary))[1])


@pytest.fixture
def front() -> Iterator[Front]:
    """Give a kernel with a viewer that is shown by a widget."""
    pytest.importorskip("anywidget")
    manager = pytest.importorskip("jupyter_client.manager")
    with manager.run_kernel(kernel_name="python3") as client:
        front = Front(client)
        front.run(RING)
        front.run("viewer = nds.view(ring)\nviewer")
        front.say(open=True)
        front.until(lambda text, _: text is not None and json.loads(text)["type"] == "hello")
        yield front


def test_pictures_come_through_the_kernel_one_at_a_time(front: Front) -> None:
    front.wish(window=[60, 80])
    seen = front.see()
    assert np.array_equal(seen.values, np.arange(4800).reshape(60, 80))
    front.run(FILM)
    front.run("import time; time.sleep(1)")
    assert front.waiting.qsize() == 0 or not any(binary for _, binary in list(front.waiting.queue)), "not asked for"
    front.wish("next")
    assert front.see().seq > seen.seq + 20, "the newest, and not the next"


def test_a_closed_viewer_is_lost_and_the_kernel_goes_on(front: Front) -> None:
    front.run("viewer.close()")
    front.until(lambda *_: front.lost)
    front.say(open=True)
    front.lost = False
    front.until(lambda *_: front.lost)
    front.run("assert 'Viewer' in repr(viewer) and viewer._repr_mimebundle_() == {'text/plain': repr(viewer)}")


def test_views_that_were_left_behind_make_room(front: Front) -> None:
    front.run("import ipywidgets\nwidget = next(w for w in ipywidgets.Widget.widgets.values() if hasattr(w, 'relay'))")
    first = front.view
    for number in range(6):
        front.view = f"view {number}"
        front.say(open=True)
        front.until(lambda text, _: text is not None and json.loads(text)["type"] == "hello")
    front.run(f"assert len(widget.relay.views) == 4 and {first!r} not in widget.relay.views")


# ---- in a browser

# A notebook's model, which is a WebSocket here: what the kernel passes on is what the viewer says.
SHOWN = """
(() => {{
  const module = () => {{ {program} }};
  const heard = [], about = {{ _html: {html}, _style: {style} }};
  let socket = null;
  const open = (view) => {{
    socket = new WebSocket(new URL("socket", location.href.replace("http", "ws")));
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({{ data }}) => {{
      const isText = typeof data === "string";
      const message = {{ view, ...(isText ? {{ text: data }} : {{}}) }};
      heard.forEach((act) => act(message, isText ? [] : [new DataView(data)]));
    }};
  }};
  const send = ({{ view, text }}) => (text === undefined ? open(view) : socket.send(text));
  const el = document.body.appendChild(document.createElement("div"));
  Object.assign(el.style, {{ position: "absolute", top: 0, left: 0, width: "900px" }});
  document.body.style.height = "9000px";
  module().render({{ model: {{ get: (name) => about[name], on: (_, act) => heard.push(act), off() {{}}, send }}, el }});
  globalThis.shown = el.firstChild.ndshare;
}})()
"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt install chromium")
def test_a_widget_that_is_scrolled_away_asks_for_nothing() -> None:
    with (
        nds.Ring((60, 80), np.uint16, slots=8, when_full="drop_oldest") as ring,
        nds.view(ring, open_browser=False) as viewer,
        Browser() as browser,
    ):
        html, style, program = _notebook._page(viewer.url)
        # A page of the same server, so that its socket answers; what a notebook permits, it does not.
        browser.call("Page.setBypassCSP", enabled=True)
        browser.size(1000, 700)
        browser.go(f"{viewer.url}style.css")
        browser.until("document.body && location.pathname.endsWith('style.css')")
        program = program.replace("export default", "return")
        browser.ask(SHOWN.format(program=program, html=json.dumps(html), style=json.dumps(style)))
        panel = "shown.panels[0]"

        def frames_come() -> bool:
            """Publish one, and say whether it is shown."""
            ring.put(np.zeros((60, 80), np.uint16))
            seq = ring.stats()["written"] - 1
            browser.ask("new Promise(done => setTimeout(done, 100))")
            return bool(browser.ask(f"{panel}.message?.seq === {seq}"))

        assert wait_until(frames_come, HANG)
        browser.ask("scrollTo(0, 5000)")
        browser.until(f"!{panel}.isInView")
        frames_come()  # one may be on its way
        assert not any(frames_come() for _ in range(4))
        browser.ask("scrollTo(0, 0)")
        browser.until(f"{panel}.isInView")
        assert wait_until(frames_come, HANG)


# ---- in JupyterLab


@contextmanager
def lab(folder: Path, *cells: str) -> Iterator[str]:
    """Run JupyterLab, and give the address of a notebook."""
    pytest.importorskip("jupyterlab")
    nbformat = pytest.importorskip("nbformat")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, folder / "book.ipynb")
    own = {f"JUPYTER_{kind}_DIR": str(folder / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    options = ["--no-browser", "--allow-root", "--expose-app-in-browser", "--port=0", "--ServerApp.port_retries=0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={folder}"],
        env={**os.environ, **own},
        stdout=subprocess.DEVNULL,
        stderr=(folder / "log").open("w"),
        start_new_session=True,
    )
    try:
        said = folder / "RUNTIME" / f"jpserver-{process.pid}.json"
        assert wait_until(lambda: said.exists() and said.read_text().endswith("}"), HANG), (folder / "log").read_text()
        server = json.loads(said.read_text())
        yield f"{server['url']}lab/tree/book.ipynb?token={server['token']}&reset"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(HANG)


HOST = "[...document.querySelectorAll('.jp-OutputArea-output div')].find(one => one.ndshare)"
PANEL = f"({HOST}).ndshare.panels[0]"


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt install chromium")
def test_jupyterlab_shows_it_live(tmp_path: Path) -> None:
    pytest.importorskip("anywidget")
    with lab(tmp_path, RING + FILM, "nds.view(ring)") as address, Browser() as browser:
        browser.size(1300, 1000)
        browser.go(address)
        run_cell = "jupyterapp.commands.execute('notebook:run-cell-and-select-next')"
        browser.until(
            "document.querySelector('.jp-Notebook .cm-content') && jupyterapp.shell.currentWidget.context.isReady"
        )
        browser.until("jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'")
        browser.ask(f"{run_cell}.then(() => jupyterapp.commands.execute('notebook:run-cell'))")
        browser.until(f"{PANEL}.frames > 5 && {PANEL}.told.histogram")
        # JupyterLab takes cells out of the document that are not on the screen.
        browser.ask(f"globalThis.seen = ({HOST}).ndshare.panels[0], 0")
        if where := os.environ.get("NDSHARE_PICTURES"):
            Path(where, "lab.png").write_bytes(browser.picture())
        assert browser.ask("seen.painter.constructor.name") == "GlPainter"
        # A key is for the picture, and not for the notebook.
        box = browser.ask("(b => [b.x, b.y, b.width, b.height])(seen.stage.getBoundingClientRect())")
        browser.mouse("mousePressed", box[0] + 50, box[1] + 50, button="left", buttons=1, clickCount=1)
        browser.mouse("mouseReleased", box[0] + 50, box[1] + 50, button="left", clickCount=1)
        for key in "ca+":
            browser.key(key)
        assert browser.ask("seen.settings.map") == "viridis"
        assert not browser.ask("seen.settings.auto")
        assert browser.ask("seen.view.mode") == "free"
        assert browser.ask("document.querySelectorAll('.jp-Cell').length") == 2
        browser.key(" ")
        browser.until("seen.isPaused")
        browser.key(" ")
        browser.until("!seen.isPaused")
        # While the kernel is busy, its subshells pass messages on.
        kernel = "jupyterapp.shell.currentWidget.sessionContext.session.kernel"
        browser.ask(f"globalThis.run = {kernel}.requestExecute({{ code: 'time.sleep({HANG})' }}), 0")
        browser.ask("run.done.finally(() => (run.isOver = true)), 0")
        before = browser.ask("seen.frames")
        browser.until(f"seen.frames > {before + 10}")
        assert not browser.ask("Boolean(run.isOver)")
        if where:
            Path(where, "lab2.png").write_bytes(browser.picture())
