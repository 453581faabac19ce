# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUntypedBaseClass=false
"""The viewer as a widget of a notebook: its page in a cell, its messages through the notebook's own channel.

So it is seen wherever the notebook is, also from another machine. The kernel only passes messages on, in a thread:
pictures are made by the viewer's process, and one is on its way at a time, because the page asks for each.

anywidget and tornado are imported when something is shown, so this module needs none.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import re
import threading
import types
from collections.abc import Callable, Coroutine
from functools import lru_cache
from importlib import resources
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

_MOST_BYTES = 2 << 30  # of a message: a file of the viewer has 1 GiB at most
_MOST_VIEWS = 4  # of a widget: those that a page has left behind make room
_IMPORT = re.compile(r'^import (?:\* as (?P<all>\w+)|(?P<some>\{[^}]*\})) from "\./(?P<module>[\w.]+)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.MULTILINE)
_HEIGHT = ".body { height: 36rem; resize: vertical; outline: none; border: 1px solid var(--line); }\n"


def widget(viewer: Any) -> Any:
    """Return the widget of a viewer. Raises ImportError where anywidget or tornado is not installed."""
    return _class()(viewer)


def mimebundle(shown: Any) -> dict[str, Any]:
    """Return what a notebook needs to show a widget."""
    found = shown._repr_mimebundle_()
    return found[0] if isinstance(found, tuple) else found or {}


class Relay:
    """What is between the views of a widget, which say and hear by `send`, and the viewer at an address."""

    def __init__(self, url: str, send: Callable[..., None]) -> None:
        self._url, self._send = url, send
        self.views: dict[str, Any] = {}

    def hear(self, _widget: object, message: dict[str, Any], _buffers: object) -> None:
        """Pass on what a view says: it comes in the kernel's thread, which waits for nothing."""
        view = message["view"]
        if "open" in message:
            _later(self._join(view))
        elif "close" in message:
            _later(self._leave(view))
        else:
            _later(self._say(view, message["text"]))

    async def _join(self, view: str) -> None:
        """Be between a view and the viewer until one of them is gone."""
        if len(self.views) >= _MOST_VIEWS:
            await self._leave(next(iter(self.views)))
        self.views[view] = None  # until it is connected
        place = urlsplit(self._url)
        client, websocket = (importlib.import_module(f"tornado.{name}") for name in ("httpclient", "websocket"))
        wanted = client.HTTPRequest(
            f"ws://{place.netloc}{place.path}socket", headers={"Origin": f"http://{place.netloc}"}
        )
        with contextlib.suppress(
            OSError, client.HTTPClientError
        ):  # the viewer is closed, or has all the pages that it takes
            socket = await websocket.websocket_connect(wanted, max_message_size=_MOST_BYTES)
            if view not in self.views:  # it has left meanwhile
                socket.close()
            else:
                self.views[view] = socket
            while (message := await socket.read_message()) is not None:
                is_text = isinstance(message, str)
                self._send({"view": view, **({"text": message} if is_text else {})}, None if is_text else [message])
        self.views.pop(view, None)
        self._send({"view": view, "lost": True})

    async def _say(self, view: str, text: str) -> None:
        if socket := self.views.get(view):
            await socket.write_message(text)

    async def _leave(self, view: str) -> None:
        if socket := self.views.pop(view, None):
            socket.close()


class _Widget:
    """What the widget adds to anywidget's."""

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer  # which is not closed as long as this is shown
        html, style, self._esm = _page(viewer.url)
        this: Any = self
        theirs: Any = super().__init__
        theirs(_html=html, _style=style)
        self.relay = Relay(viewer.url, this.send)
        this.on_msg(self.relay.hear)


def _make_class() -> type[Any]:
    anywidget, traitlets = (importlib.import_module(name) for name in ("anywidget", "traitlets"))
    importlib.import_module("tornado.websocket")  # it is needed later, in a thread
    synced = {name: traitlets.Unicode().tag(sync=True) for name in ("_html", "_style")}
    return types.new_class("Widget", (_Widget, anywidget.AnyWidget), exec_body=lambda names: names.update(synced))


# The class, which needs anywidget's.
_class = lru_cache(1)(_make_class)


def _make_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="ndshare-notebook", daemon=True).start()
    return loop


# The loop of the thread that passes messages on.
_loop = lru_cache(1)(_make_loop)


def _later(what: Coroutine[Any, Any, None]) -> None:
    asyncio.run_coroutine_threadsafe(what, _loop())


# The page


def _page(url: str) -> tuple[str, str, str]:
    """Return what a viewer serves, as the widget needs it: its elements, its style and its program."""

    def read(name: str) -> str:
        with urlopen(url + name) as answer:
            return answer.read().decode()

    html = re.search(r"<body>(.*)</body>", read(""), re.DOTALL)
    assert html is not None
    style = re.sub(
        r":root(\[[^\]]*\])?", lambda match: f":host({match[1]})" if match[1] else ":host", read("style.css")
    )
    style = re.sub(r"^body\b", ".body", style, flags=re.MULTILINE) + _HEIGHT
    program = resources.files(__package__ or "ndshare").joinpath("_notebook.js").read_text()
    return html[1], style, f"{bundle(read, 'message.js', 'main.js')}\n{program}"


def bundle(read: Callable[[str], str], *names: str) -> str:
    """Return modules as one function, `page`, which runs them: each after those that it imports.

    What a page has once, and a notebook many times, is an argument. The connection is the caller's.
    """
    bundled: dict[str, str] = {}

    def add(name: str) -> None:
        text = read(name)
        for imported in _IMPORT.finditer(text):
            if imported["module"] not in bundled and imported["module"] != "socket.js":
                add(imported["module"])
        bundled[name] = _as_function(name, text)

    for name in names:
        add(name)
    arguments = "{ modules, document, addEventListener, localStorage, setInterval, globalThis }"
    return f"const page = ({arguments}) => {{\n{''.join(bundled.values())}}};"


def _as_function(name: str, text: str) -> str:
    exported = ", ".join(_EXPORT.findall(text))
    body = _IMPORT.sub(
        lambda match: f'const {match["all"] or match["some"].replace(" as ", ": ")} = modules["{match["module"]}"];',
        _EXPORT.sub("", text),
    )
    return f'modules["{name}"] = (() => {{\n{body}\nreturn {{ {exported} }};\n}})();\n'
