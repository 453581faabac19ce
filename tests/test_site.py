"""The site of the documentation is whole: every page is in the navigation, every public name in the reference.

What looks at the built pages runs where `NDSHARE_SITE` names their folder, as `make site` and `make docs` do: they ask
no other host for anything, all can be reached from the first one, their links lead somewhere, the search finds things.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import runpy
import threading
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from browser import CHROMIUM, Browser

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SITE = os.environ.get("NDSHARE_SITE")
BUILT = pytest.mark.skipif(not SITE, reason="NDSHARE_SITE is not set: make site builds the pages and looks at them")
MODULES = ["ndshare", "ndshare.fft", *(f"ndshare.{name}" for name in ("net", "dask", "ray", "zarr", "napari", "ndv"))]
DOCUMENTED = re.compile(r"^\.\. auto(?:function|class|exception):: (\S+)$", re.MULTILINE)
# Addresses that are read and not asked for: namespaces, licences, where something is from.
REQUEST = re.compile(r"""(?:url\(|@import|\bfetch\(|\bimport\(|\bsrc\s*=)\s*["']?\s*(?:https?:)?//[^\s"')]+""")
NAVIGATION = runpy.run_path(str(DOCS / "_site" / "navigation.py"))


# What is checked in every run


def public_names(name: str) -> set[str]:
    if name == "ndshare.net":
        pytest.importorskip("zenoh", reason="eclipse-zenoh is not installed")
    module = importlib.import_module(name)
    # Names with underscores are for other libraries to look for.
    names = {f"{name}.{public}" for public in module.__all__ if not public.startswith("__")}
    return names - {*MODULES}


def test_every_public_module_is_known() -> None:
    folder = ROOT / "python" / "ndshare"
    files = {path.stem for path in folder.glob("[a-z]*.py")} | {
        path.parent.name for path in folder.glob("[a-z]*/__init__.py")
    }
    assert {f"ndshare.{name}" for name in files} == {*MODULES} - {"ndshare"}


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference_once(module: str) -> None:
    text = "\n".join(page.read_text() for page in DOCS.glob("reference/*.md"))
    documented = Counter(name for name in DOCUMENTED.findall(text) if name.rpartition(".")[0] == module)
    assert documented == Counter(public_names(module))


def test_every_page_is_in_one_section() -> None:
    shown = re.findall(
        r"^(?!:|```|$)(?:.*<)?([^<>\n]+)>?$", NAVIGATION["contents"](DOCS).replace("<self>", "<index>"), re.MULTILINE
    )
    shown.remove("genindex")  # Sphinx makes it
    assert Counter(shown) == Counter(str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.rglob("*.md"))


# What is checked of the built pages


class Page(HTMLParser):
    """What a page of the site refers to: what a browser asks for when it is read, links, and the places in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.places.update(found[name] for name in ("id", "name") if name in found)
        asks = tag == "link" and not {"prev", "next", "index", "search", "canonical"} & {*found.get("rel", "").split()}
        names = ["src", "data", "poster", "srcset"] + ["href", "xlink:href"] * (asks or tag in ("use", "image"))
        self.asked += [found[name] for name in names if name in found]
        self.links += [found["href"]] if tag == "a" and "href" in found else []


@functools.cache
def pages() -> dict[Path, Page]:
    site = (ROOT / str(SITE)).resolve()
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts}


def inner_links(path: Path) -> Iterator[tuple[str, Path, str]]:
    """Yield the links of a page to the site itself: as written, the file, and the place in it."""
    for link in pages()[path].links:
        if not re.match(r"\w+:", link):
            target, place = urldefrag(link)
            yield link, (path.parent / unquote(target)).resolve() if target else path, unquote(place)


@BUILT
def test_there_are_pages() -> None:
    assert len(pages()) > len(list(DOCS.rglob("*.md")))


@BUILT
def test_no_page_asks_another_host() -> None:
    asked = {(path.name, url) for path, page in pages().items() for url in page.asked}
    assert {each for each in asked if re.match(r"(\w+:)?//", each[1])} == set()
    assert len({url for _, url in asked}) > 5
    for path in Path(ROOT / str(SITE)).resolve().rglob("*"):
        if path.suffix in {".html", ".css", ".js", ".svg"}:
            assert REQUEST.findall(path.read_text()) == [], path
        if path.suffix == ".svg":
            assert re.findall(r"""href\s*=\s*["']?(?:https?:)?//""", path.read_text()) == [], path


@BUILT
def test_links_of_the_site_lead_to_places_in_it() -> None:
    broken = [
        f"{path.name}: {link}"
        for path in pages()
        for link, target, place in inner_links(path)
        if not target.exists() or (place and target in pages() and place not in pages()[target].places)
    ]
    assert broken == []


@BUILT
def test_every_page_can_be_reached_from_the_start_page() -> None:
    start = next(path for path in pages() if path.name == "index.html")
    reached, ahead = {start}, [start]
    while ahead:
        for _, target, _ in inner_links(ahead.pop()):
            if target in pages() and target not in reached:
                reached.add(target)
                ahead.append(target)
    # Nothing leads to the search but its own box.
    assert {path.name for path in {*pages()} - reached} <= {"search.html"}


class Quiet(SimpleHTTPRequestHandler):
    """Serves the site, and says nothing."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(SITE))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@BUILT
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_the_search_finds_a_page_and_a_browser_asks_this_host_alone(address: str) -> None:
    with Browser() as browser:
        for word, page in (("drop_oldest", "ring.html"), ("Overlay", "reference/locks.html")):
            browser.go(f"{address}/search.html?q={word}")
            found = "[...document.querySelectorAll('#search-results li a')].map(a => a.pathname)"
            browser.until(f"{found}.includes('/{page}')")
        assert browser.hosts == {address.partition("//")[2]}
        assert browser.complaints == []


@BUILT
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_no_page_is_wider_than_a_telephone(address: str) -> None:
    with Browser() as browser:
        browser.size(400, 800)
        wide: list[str] = []
        for path in pages():
            name = path.relative_to((ROOT / str(SITE)).resolve())
            browser.go(f"{address}/{name}")
            browser.until(f"location.pathname == '/{name}' && document.readyState == 'complete'")
            if browser.ask("document.documentElement.scrollWidth") > 400:
                wide.append(str(name))
        assert wide == []
