"""The page of `ndshare view` in headless Chromium: pixels of a known picture, each control, a kill while watching."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import ndshare as nds
from browser import CHROMIUM, Browser
from helpers import HANG, wait_until
from test_view import filming, viewing

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt install chromium")

PANEL = "ndshare.panels[0]"
ROWS, COLUMNS = 60, 80
SIZE = 800, 560  # of the window: a processor draws it, and makes pictures of it


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as found:
        found.size(*SIZE)
        yield found
        # A server that has ended refuses the page that it leaves behind.
        assert [one for one in found.complaints if "ERR_CONNECTION_REFUSED" not in one] == []
        assert all(host.startswith("127.0.0.1:") for host in found.hosts), "nothing is asked of any other host"


@pytest.fixture(scope="module")
def known() -> np.ndarray[Any, Any]:
    return np.arange(ROWS * COLUMNS, dtype=np.uint16).reshape(ROWS, COLUMNS) * 13


@pytest.fixture(scope="module")
def address(known: np.ndarray[Any, Any]) -> Iterator[str]:
    with nds.view(nds.array(known), open_browser=False) as viewer:
        yield viewer.url


@pytest.fixture
def page(browser: Browser, address: str) -> Browser:
    """Show the known picture, as it is when the page is opened."""
    browser.go(address)
    browser.until(f"{PANEL}.frames > 0 && {PANEL}.told.histogram")
    # The canvas follows the size of its box with the next frame of the screen, which a busy machine draws late.
    browser.until(f"Math.abs({PANEL}.canvas.height - {PANEL}.stage.getBoundingClientRect().height) < 1")
    return browser


@pytest.fixture(scope="module")
def film() -> Iterator[tuple[str, str]]:
    """Give the name of a camera's ring, and an address where it is shown, for tests that end neither."""
    name = f"page-{os.getpid()}"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("NDSHARE_SESSION", raising=False)  # its memory is not that of the tests, which is counted
        with filming(name), viewing(name) as url:
            yield name, url


@pytest.fixture
def name() -> str:
    return f"page-{os.getpid()}-{time.monotonic_ns()}"


def seen(browser: Browser, selector: str = ".stage canvas.picture") -> np.ndarray[Any, Any]:
    """Return what a canvas shows: rows, columns, red, green and blue."""
    left, top, width, height = browser.ask(
        f"(canvas => (box => [box.left, box.top, canvas.width, canvas.height])(canvas.getBoundingClientRect()))"
        f"(document.querySelector('{selector}'))"
    )
    place = round(left), round(top), round(left) + width, round(top) + height
    picture = Image.open(io.BytesIO(browser.picture())).convert("RGB")
    return np.asarray(picture.crop(place)).astype(int)


def places(browser: Browser) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return of each pixel of the canvas whether it is of the frame, and of which row and column."""
    a, b, c, d, e, f = browser.ask(f"{PANEL}.view.matrix()")
    width, height = browser.ask(f"[{PANEL}.canvas.width, {PANEL}.canvas.height]")
    y, x = np.mgrid[:height, :width] + 0.5
    columns, rows = np.floor(a * x + b * y + c).astype(int), np.floor(d * x + e * y + f).astype(int)
    return (columns >= 0) & (rows >= 0) & (columns < COLUMNS) & (rows < ROWS), rows, columns


def expected(browser: Browser, frame: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return where the frame is, and the greys that it has there by the limits of the page."""
    low, high = browser.ask(f"[{PANEL}.settings.low, {PANEL}.settings.high]")
    inside, rows, columns = places(browser)
    values = frame[rows.clip(0, ROWS - 1), columns.clip(0, COLUMNS - 1)]
    return inside, np.rint((values.astype(float) - low).clip(0, high - low) / (high - low) * 255)


def draw(browser: Browser) -> None:
    """Wait until the page has drawn what it knows."""
    browser.ask("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def settle(browser: Browser) -> None:
    """Wait until what was asked for has come and is on the screen."""
    browser.ask("new Promise(done => setTimeout(done, 150))")
    draw(browser)


def check(browser: Browser, frame: np.ndarray[Any, Any]) -> None:
    """Compare every pixel that is not at the edge of one of the frame's with what it should be."""

    def is_same() -> bool:
        draw(browser)
        found, (inside, grey) = seen(browser), expected(browser, frame)
        off = np.abs(found - grey[..., None]).max(axis=2)
        return bool((off[inside] <= 1).mean() > 0.97)

    assert wait_until(is_same, 10), "the picture is not the frame"


def choose(browser: Browser, control: str, value: str, event: str = "change") -> None:
    """Put a value into a control."""
    browser.ask(
        f"(control => {{ control.value = '{value}'; control.dispatchEvent(new Event('{event}')) }})"
        f"(document.getElementById('{control}'))"
    )


# ---- the picture


@pytest.mark.parametrize("way", ["", "?plain"])
def test_the_pixels_are_those_of_the_frame(
    browser: Browser, address: str, known: np.ndarray[Any, Any], way: str
) -> None:
    browser.go(address + way)
    browser.until(f"{PANEL}.frames > 0 && {PANEL}.told.histogram")
    assert (browser.ask(f"{PANEL}.painter.constructor.name") == "PlainPainter") == bool(way)
    browser.ask("ndshare.actions.full()")
    assert browser.ask(f"[{PANEL}.settings.low, {PANEL}.settings.high]") == [0, 65535]
    check(browser, known)
    for _ in range(4):
        browser.key("r")
        check(browser, known)
    for key in "hv":
        browser.key(key)
        check(browser, known)
    browser.key("r")
    check(browser, known)
    browser.key("1")
    assert browser.ask(f"{PANEL}.view.zoom") == 1
    check(browser, known)
    for _ in range(10):
        browser.key("+")
    check(browser, known)


def test_a_picture_stays_where_it_is_while_the_texts_around_it_come(browser: Browser, address: str) -> None:
    """The lines around it grew with their first texts, and the picture jumped by half of that."""
    look = """
        window.boxes = [];
        const look = () => {
          const box = document.querySelector('.stage')?.getBoundingClientRect();
          const now = box && JSON.stringify([box.top, box.height]);
          if (box && window.boxes.at(-1) !== now) window.boxes.push(now);
          requestAnimationFrame(look);
        };
        requestAnimationFrame(look);
    """
    script = browser.call("Page.addScriptToEvaluateOnNewDocument", source=look)
    browser.go(address)
    browser.until(f"{PANEL}.figures.textContent && {PANEL}.told.histogram")
    settle(browser)
    browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script["identifier"])
    assert len(browser.ask("window.boxes")) == 1


def test_zoom_pan_and_values(page: Browser, known: np.ndarray[Any, Any]) -> None:
    x, y, width, height = page.ask(f"(b => [b.x, b.y, b.width, b.height])({PANEL}.stage.getBoundingClientRect())")
    point = (x + width * 0.4, y + height * 0.3)
    before = page.ask(f"{PANEL}.view.toFrame([{point[0] - x}, {point[1] - y}])")
    for _ in range(8):
        page.mouse("mouseWheel", *point, deltaX=0, deltaY=-200)
    after = page.ask(f"{PANEL}.view.toFrame([{point[0] - x}, {point[1] - y}])")
    # A wheel is told in whole pixels of the screen, of which ten are one of the frame's here.
    assert after == pytest.approx(before, abs=0.15), "what is under the pointer stays there"
    before = after
    assert page.ask(f"{PANEL}.view.zoom") > 44
    page.drag(point, (point[0] + 100, point[1] + 50))
    moved = page.ask(f"{PANEL}.view.toFrame([{point[0] + 100 - x}, {point[1] + 50 - y}])")
    assert moved == pytest.approx(before, abs=0.05), "the picture moves with the pointer"
    page.mouse("mouseMoved", *point)
    column, row = (int(place) for place in page.ask(f"{PANEL}.view.toFrame([{point[0] - x}, {point[1] - y}])"))
    page.until(f"{PANEL}.value.textContent.endsWith('{known[row, column]}')")
    assert page.ask(f"{PANEL}.value.textContent") == f"x {column}  y {row}  {known[row, column]}"
    left, top, right, bottom = page.until(f"{PANEL}.told.values && {PANEL}.message.region")
    page.until(f"{PANEL}.told.values.length === {bottom - top}")
    assert page.ask(f"{PANEL}.told.values[0]") == [str(value) for value in known[top, left:right]]
    page.key("f")
    assert page.ask(f"{PANEL}.view.mode") == "fit"
    check(page, known)


# ---- contrast and colours


def test_limits_are_dragged_typed_and_found(page: Browser, known: np.ndarray[Any, Any]) -> None:
    limits = f"[{PANEL}.settings.low, {PANEL}.settings.high]"
    choose(page, "percent", "5")
    low, high = page.ask(limits)
    assert low == pytest.approx(np.percentile(known, 5), abs=300)
    assert high == pytest.approx(np.percentile(known, 95), abs=300)
    check(page, known)
    left, top, width, height = page.ask(
        "(b => [b.x, b.y, b.width, b.height])(document.getElementById('histogram').getBoundingClientRect())"
    )
    start, end = page.ask("(([a, b]) => [a, b])(ndshare.histogram.range())")
    at = left + (high - start) / (end - start) * width
    page.drag((at, top + height / 2), (left + width / 2, top + height / 2))
    assert page.ask(limits) == pytest.approx([low, (start + end) / 2], abs=(end - start) / width * 1.5)
    assert not page.ask(f"{PANEL}.settings.auto")
    check(page, known)
    high = page.ask(limits)[1]
    choose(page, "low", "1000")
    assert page.ask(limits) == [1000, high], "the other one keeps the digits that its field does not show"
    page.key("a")
    assert page.ask(limits)[0] == pytest.approx(low)
    page.key("l")
    page.until("document.getElementById('log').getAttribute('aria-pressed') === 'true'")


def test_colour_maps_and_saturation(page: Browser, known: np.ndarray[Any, Any]) -> None:
    page.ask("ndshare.actions.full()")
    inside, grey = expected(page, known)
    for name in ("viridis", "inferno", "phase", "grey"):
        page.key("c")
        page.until(f"document.getElementById('map').value === '{name}'")
        draw(page)
        table = np.array(page.ask(f"ndshare.table('{name}')")).reshape(256, 4)[:, :3]
        off = np.abs(seen(page) - table[grey.astype(int)]).max(axis=2)
        assert (off[inside] <= 6).mean() > 0.97, name
    choose(page, "limit", "40000")
    page.until(f"{PANEL}.message.hasOver")
    draw(page)
    _, rows, columns = places(page)
    is_red = (np.abs(seen(page) - [255, 45, 60]).max(axis=2) <= 2)[inside]
    assert (is_red == (known[rows.clip(0, 59), columns.clip(0, 79)] >= 40_000)[inside]).mean() > 0.99
    page.key("s")
    page.until(f"!{PANEL}.message.hasOver")


# ---- measures and files


def test_line_and_rectangle(page: Browser, known: np.ndarray[Any, Any]) -> None:
    def place(column: float, row: float) -> tuple[float, float]:
        x, y = page.ask(
            f"(b => {PANEL}.view.toCanvas([{column}, {row}]).map((at, axis) => at + [b.x, b.y][axis]))"
            f"({PANEL}.stage.getBoundingClientRect())"
        )
        return x, y

    page.key("d")
    page.drag(place(10.5, 20.5), place(30.5, 20.5))
    values = page.until(
        f"{PANEL}.told.profile && {PANEL}.told.profile.values.length > 15 && {PANEL}.told.profile.values"
    )
    assert values[0] in known[20, 9:12]
    assert values == sorted(values)
    page.key("b")
    page.drag(place(10.5, 20.5), place(30.5, 40.5))
    page.until(f"{PANEL}.told.rectangle && {PANEL}.told.rectangle.pixels === 441")
    assert page.ask(f"{PANEL}.told.rectangle.mean") == pytest.approx(known[20:41, 10:31].mean())
    assert page.ask("!document.getElementById('course').hidden && !document.getElementById('profile').hidden")
    page.key("Escape")
    assert page.ask(f"{PANEL}.tool") == "pan"
    page.ask("document.getElementById('clear').click()")
    page.until("document.getElementById('course').hidden")


def test_files_are_saved(page: Browser, known: np.ndarray[Any, Any]) -> None:
    path = page.downloads / "array-0000000000"

    def saved(ending: str) -> Path:
        page.ask(f"document.getElementById('{ending}').click()")
        assert wait_until(path.with_suffix(f".{ending}").exists, HANG)
        return path.with_suffix(f".{ending}")

    for ending, read in (("npy", np.load), ("tiff", tifffile.imread)):
        np.testing.assert_array_equal(read(saved(ending)), known)
    page.ask("ndshare.actions.full()")
    grey = np.rint(known / 257)
    for keys, turned in (("", grey), ("r", np.rot90(grey, -1)), ("h", np.rot90(np.fliplr(grey), -1))):
        for key in keys:
            page.key(key)
        picture = np.asarray(Image.open(saved("png")).convert("L")).astype(float)
        path.with_suffix(".png").unlink()
        assert picture.shape == turned.shape
        assert np.abs(picture - turned).max() <= 1, f"after {keys!r}"


def test_keys_go_to_what_has_the_focus(page: Browser) -> None:
    page.key("?")
    page.until("document.getElementById('keys').open")
    page.key("u")
    page.key("Escape")
    page.until("!document.getElementById('keys').open")
    assert not page.ask(f"{PANEL}.settings.spectrum"), "while the keys are shown they do nothing"
    page.click("#turn")
    page.key(" ")
    page.until(f"{PANEL}.isPaused")
    assert page.ask(f"{PANEL}.view.turns") == 1, "a button that was clicked is not pressed by the space bar"
    page.click("#low")
    page.key("1")
    page.key("Escape")
    page.key("1")
    assert page.ask(f"{PANEL}.view.zoom") == 1
    page.ask("document.getElementById('map').focus()")
    page.key("r")
    assert page.ask(f"{PANEL}.view.turns") == 1, "a list that is chosen from has the keys"
    choose(page, "map", "viridis")
    page.key("r")
    assert page.ask(f"{PANEL}.view.turns") == 2
    page.ask("document.getElementById('turn').focus()")
    page.key("Tab")
    page.key(" ")
    page.until(f"{PANEL}.view.mirrored")
    assert page.ask(f"{PANEL}.isPaused"), "a button that was reached by keys is"


def test_what_looks_on_and_how(page: Browser) -> None:
    before = page.ask("document.documentElement.dataset.theme")
    page.key("t")
    assert {before, page.ask("document.documentElement.dataset.theme")} == {"dark", "light"}
    page.key("i")
    assert page.ask("getComputedStyle(document.querySelector('aside')).display") == "none"
    page.key("?")
    assert page.ask("document.querySelectorAll('dialog kbd').length") > 20
    page.ask("document.getElementById('keys').close()")
    names = page.ask("[...document.querySelectorAll('button')].map(b => b.textContent.trim() && b.title)")
    assert all(names[:-1]), "each control says what it does"


# ---- other data


def test_stacks_complex_numbers_colours_and_spectra(browser: Browser) -> None:
    y, x = np.mgrid[:48, :64]
    stack = nds.array(np.stack([np.full((48, 64), number, np.uint8) for number in (10, 120, 240)]))
    waves = nds.array(np.exp(2j * np.pi * (x * 6 / 64)).astype(np.complex64) * (1 + y / 48))
    colours = nds.array(np.broadcast_to(np.array([200, 100, 50], np.uint8), (48, 64, 3)))
    with nds.view(stack, waves, colours, open_browser=False) as viewer:
        browser.go(viewer.url)
        browser.until("ndshare.panels.length === 3 && ndshare.panels.every(panel => panel.frames > 0)")
        browser.ask("ndshare.actions.full()")
        browser.until("document.getElementById('axis0') !== null")
        for number, value in ((2, 240), (1, 120)):
            choose(browser, "axis0", str(number), "input")
            browser.until(f"{PANEL}.told.lead[0] === {number}")
            draw(browser)
            found = seen(browser)
            assert found[found.shape[0] // 2, found.shape[1] // 2].tolist() == [value] * 3
        browser.key("n")
        browser.until("!document.getElementById('complex').hidden")
        choose(browser, "part", "phase")
        browser.until("Math.abs(ndshare.panels[1].message.offset + Math.PI) < 0.2")
        browser.key("u")
        browser.until("ndshare.panels[1].spectrumMessage")
        codes = browser.ask("Array.from(ndshare.panels[1].spectrumMessage.codes)")
        assert len(codes) == 48 * 64
        browser.key("n")
        draw(browser)
        found = seen(browser, ".panel:nth-child(3) canvas.picture")
        assert found[found.shape[0] // 2, found.shape[1] // 2].tolist() == [200, 100, 50]
    del stack, waves, colours


def test_a_frame_of_one_row_is_a_line(browser: Browser) -> None:
    values = np.full(1000, 2000, np.float32)
    values[250], values[750] = 3000, 1000
    array = nds.array(values)
    with nds.view(array, open_browser=False) as viewer:
        browser.go(viewer.url)
        browser.until(f"{PANEL}.told.profile")
        assert browser.ask(f"{PANEL}.told.profile.values") == values.tolist()

        def is_drawn() -> bool:
            draw(browser)
            found = seen(browser)
            height, width, _ = found.shape
            is_ink = np.abs(found - found[height // 8, width // 2]).max(axis=2) > 40
            # Not at the edges, where the least and the most are written.
            inside = np.s_[width // 10 : -width // 10]
            flat = [np.flatnonzero(is_ink[:, round(at * width)]) / height for at in (0.1, 0.5, 0.9)]
            tips = [
                (is_ink[part, inside].any(axis=0).nonzero()[0] + width // 10) / width
                for part in (np.s_[: height // 4], np.s_[-height // 4 :])
            ]
            wanted = [*((rows, 0.48) for rows in flat), (tips[0], 0.25), (tips[1], 0.75)]
            return all(places.size > 0 and np.abs(places - place).max() < 0.02 for places, place in wanted)

        assert wait_until(is_drawn, 10)
        x, y, width, height = browser.ask(
            f"(b => [b.x, b.y, b.width, b.height])({PANEL}.stage.getBoundingClientRect())"
        )
        browser.mouse("mouseMoved", x + (250.5 / 1000) * width, y + height * 0.8)
        browser.until(f"{PANEL}.value.textContent === 'x 250  y 0  3000.0'")
    del array


def test_many_pictures_are_all_seen(browser: Browser) -> None:
    """Browsers take the graphics from the first canvases where there are more than sixteen."""
    arrays = [nds.array(np.full((4, 4), 10 * number, np.uint8)) for number in range(20)]
    with nds.view(*arrays, open_browser=False) as viewer:
        browser.go(viewer.url)
        browser.until("ndshare.panels.length === 20 && ndshare.panels.every(panel => panel.frames > 0)")
        assert browser.ask("ndshare.panels[19].name.textContent") == "array 20"
        browser.ask(
            "ndshare.panels.forEach(panel => Object.assign(panel.settings, { low: 0, high: 255, auto: false }))"
        )
        browser.ask("ndshare.panels.forEach(panel => panel.draw())")
        browser.ask(f"{PANEL}.painter.gl.getExtension('WEBGL_lose_context').loseContext()")
        browser.until(f"{PANEL}.painter.constructor.name === 'PlainPainter'")

        def are_seen() -> bool:
            draw(browser)
            picture = np.asarray(Image.open(io.BytesIO(browser.picture())).convert("L")).astype(int)
            boxes = browser.ask(
                "ndshare.panels.map(({ canvas }) => canvas.getBoundingClientRect())"
                ".map(box => [box.y + box.height / 2, box.x + box.width / 2])"
            )
            return all(picture[int(y), int(x)] == 10 * number for number, (y, x) in enumerate(boxes))

        assert wait_until(are_seen, 10)
    del arrays


def test_an_array_of_a_frame_is_chosen_and_what_cannot_be_shown_is_said(browser: Browser) -> None:
    ring = nds.Ring(slots=4)
    ring.put({"rgb": np.full((6, 8, 3), 90, "u1"), "depth": np.full((6, 8), 3000, "u2")})
    with nds.view(ring, open_browser=False) as viewer:
        browser.go(viewer.url)
        browser.until(f"{PANEL}.told.field === 'rgb' && !document.getElementById('fields').hidden")
        choose(browser, "field", "depth")
        browser.until(f"{PANEL}.told.field === 'depth' && {PANEL}.settings.auto && {PANEL}.settings.low > 2000")
        ring.put(np.zeros(3, "S5"))
        browser.until(f"!{PANEL}.notice.hidden && {PANEL}.notice.textContent.includes('cannot be shown')")
        ring.put(np.zeros((6, 8)))
        browser.until(f"{PANEL}.notice.hidden && document.getElementById('fields').hidden")
    del ring


# ---- how it looks


def scene() -> np.ndarray[Any, Any]:
    """Return what a microscope might see: a wide glow and bright spots."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:1080, :1920].astype(np.float32)
    light = 220 + 60 * np.exp(-((x - 960) ** 2 + (y - 540) ** 2) / 500_000)
    for left, top, size, peak in zip(
        *rng.uniform([[60], [60], [8], [200]], [[1860], [1020], [40], [2600]], (4, 60)), strict=True
    ):
        part = np.s_[
            max(0, int(top - 4 * size)) : int(top + 4 * size), max(0, int(left - 4 * size)) : int(left + 4 * size)
        ]
        light[part] += peak * np.exp(-((x[part] - left) ** 2 + (y[part] - top) ** 2) / (2 * size * size))
    return (light + rng.normal(0, 2, light.shape)).clip(0, 4095).astype(np.uint16)


@contextmanager
def putting(name: str, frame: np.ndarray[Any, Any], rate: float) -> Iterator[None]:
    """Publish a ring, and put the same frame there so many times a second."""
    stop = threading.Event()

    def film(ring: nds.Ring) -> None:
        while not stop.wait(1 / rate):
            ring.put(frame)

    with nds.Ring(frame.shape, frame.dtype, slots=16, when_full="drop_oldest", keep=8) as ring:
        nds.publish(name, ring)
        camera = threading.Thread(target=film, args=(ring,))
        camera.start()
        try:
            yield
        finally:
            stop.set()
            camera.join()
            nds.unpublish(name)


def arranged(browser: Browser, url: str, is_dark: bool, means: int) -> None:
    """Show a camera with a line, a rectangle, and a histogram of logarithms; dark in another colour map."""
    browser.go(url)
    browser.until(f"{PANEL}.frames > 1 && {PANEL}.status.counts && {PANEL}.status.counts.frames_per_s > 1")
    if browser.ask("document.documentElement.dataset.theme") != ("dark" if is_dark else "light"):
        browser.key("t")
    for key in "lc" if is_dark else "l":
        browser.key(key)
    size = browser.ask(f"[{PANEL}.told.columns, {PANEL}.told.rows]") * 2
    line, rectangle = (
        [round(part * length) for part, length in zip(parts, size, strict=True)]
        for parts in ((0.07, 0.3, 0.78, 0.7), (0.32, 0.08, 0.57, 0.39))
    )
    browser.ask(f"Object.assign({PANEL}.settings, {{ line: {line}, rectangle: {rectangle} }}), {PANEL}.moved()")
    browser.until(f"{PANEL}.course.length > {means}")
    settle(browser)


CUT = """
[...document.querySelectorAll('aside button, aside label, aside output, aside th')]
    .filter(one => one.offsetParent && one.scrollWidth > one.clientWidth + 1).map(one => one.textContent)
"""


PLACES = {"laptop": ((1366, 768), 13), "wall": ((2560, 1440), 20)}


def test_it_is_legible(browser: Browser, name: str) -> None:
    """Look at it in two sizes; with NDSHARE_WRITE_PICTURES=1 the pictures of docs/view.md are written anew."""
    is_for_docs = bool(os.environ.get("NDSHARE_WRITE_PICTURES"))
    name = "camera" if is_for_docs else name
    # A small frame now and then is as legible, and a processor draws it.
    frame, rate, means = (scene(), 30, 60) if is_for_docs else (scene()[::8, ::8], 10, 1)
    with putting(name, nds.array(frame), rate), viewing(name) as url:
        for place, (size, points) in PLACES.items():
            browser.size(*size)
            arranged(browser, url, place == "wall", means)
            picture = Image.open(io.BytesIO(browser.picture())).convert("RGB")
            assert picture.size == size
            assert browser.ask("document.documentElement.scrollWidth") <= size[0]
            assert browser.ask("parseFloat(getComputedStyle(document.body).fontSize)") >= points
            assert browser.ask(CUT) == [], "nothing is cut off"
            if is_for_docs:
                small = picture.resize((1366, 768), Image.Resampling.LANCZOS)
                path = Path(__file__).resolve().parent.parent / "docs" / f"view-{place}.png"
                small.quantize(256, kmeans=3, dither=Image.Dither.NONE).save(path, optimize=True)
        browser.go("about:blank")
        browser.size(*SIZE)


# ---- rings


def test_a_camera_is_watched_paused_killed_and_followed(browser: Browser, name: str) -> None:
    with viewing(name) as url:
        with filming(name) as camera:
            browser.go(url)
            browser.until(f"{PANEL}.frames > 3")
            browser.until(f"{PANEL}.status.counts && {PANEL}.status.counts.frames_per_s > 5")
            assert "frames/s" in browser.ask(f"{PANEL}.figures.textContent")
            browser.until("document.getElementById('readers').tBodies[0].rows.length === 1")
            browser.key(" ")
            browser.until(f"{PANEL}.isPaused && {PANEL}.state.textContent === 'paused'")
            seq = browser.ask(f"{PANEL}.message.seq")
            settle(browser)
            assert browser.ask(f"{PANEL}.message.seq") == seq
            browser.key("ArrowLeft")
            browser.until(f"{PANEL}.message.seq === {seq - 1} || document.getElementById('note').textContent")
            browser.key(" ")
            browser.until(f"!{PANEL}.isPaused && {PANEL}.message.seq > {seq}")
            camera.kill()
            browser.until(f"{PANEL}.state.textContent === 'waiting' && !{PANEL}.notice.hidden")
        with filming(name, 50, 70, 900):
            browser.until(f"{PANEL}.told.shape.join() === '50,70' && {PANEL}.state.textContent === 'live'")
            assert browser.ask(f"{PANEL}.view.frame") == [70, 50]


def test_a_lost_connection_is_said_and_made_again(browser: Browser, film: tuple[str, str]) -> None:
    with viewing(film[0]) as url:
        browser.go(url)
        browser.until(f"{PANEL}.frames > 3")
        frames = browser.ask(f"{PANEL}.frames")
        browser.ask("ndshare.connection.socket.close()")
        browser.until(
            f"{PANEL}.frames > {frames} + 3 && document.getElementById('connection').textContent === 'connected'"
        )
    browser.until("document.getElementById('connection').textContent === 'lost'")
    assert browser.ask(f"{PANEL}.state.textContent") == "lost", "what is seen is not live any more"
    assert "does not answer" in browser.ask(f"{PANEL}.notice.textContent")
    browser.go("about:blank")


def test_a_page_that_nobody_sees_asks_for_nothing(browser: Browser, film: tuple[str, str]) -> None:
    browser.go(film[1])
    browser.until(f"{PANEL}.frames > 3")
    browser.ask("void (globalThis.requestAnimationFrame = () => 1)")  # as the browser does for a hidden page
    settle_without_frames(browser)
    before = browser.ask(f"{PANEL}.frames")
    for _ in range(3):
        settle_without_frames(browser)
    assert browser.ask(f"{PANEL}.frames") <= before + 1, "one may have been on its way"
    browser.go("about:blank")


HIDDEN = """
Object.defineProperty(document, 'hidden', {{ get: () => {}, configurable: true }});
document.dispatchEvent(new Event('visibilitychange'))
"""
MOVED = f"{PANEL}.element.style.transform = '{{}}'"


@pytest.mark.parametrize(
    ("away", "back"),
    [(HIDDEN.format("true"), HIDDEN.format("false")), (MOVED.format("translateY(9000px)"), MOVED.format("none"))],
    ids=["another tab", "scrolled away"],
)
def test_what_is_not_on_the_screen_asks_for_nothing(
    browser: Browser, film: tuple[str, str], away: str, back: str
) -> None:
    browser.go(film[1])
    browser.until(f"{PANEL}.frames > 3")
    browser.ask(f"void ({away.strip().replace(';', ',')})")
    browser.until(f"(document.hidden || !{PANEL}.isInView) && {PANEL}.owed > 0")
    frames = browser.ask(f"{PANEL}.frames")
    for _ in range(3):
        settle_without_frames(browser)
    assert browser.ask(f"{PANEL}.frames") == frames
    browser.ask(f"void ({back.strip().replace(';', ',')})")
    browser.until(f"{PANEL}.frames > {frames} + 3")
    browser.go("about:blank")


def settle_without_frames(browser: Browser) -> None:
    browser.ask("new Promise(done => setTimeout(done, 100))")
