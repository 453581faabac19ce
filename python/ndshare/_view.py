"""Rings and arrays in the browser, live: the command ``ndshare view`` in a process of its own."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from typing import Any, cast

from numpy.typing import NDArray

from ._native import Canvas, Ring
from ._ref import Ref, ref
from ._still import page, still
from ._waiting import is_readable

_PATIENCE = 30.0
_open: set[Viewer] = set()


class Viewer:
    """A page that shows what `ndshare.view` was given, until `close`, or the end of its ``with`` block or process.

    >>> import ndshare as nds
    >>> viewer = nds.view(nds.zeros((480, 640)), open_browser=False)
    >>> viewer.url.startswith("http://127.0.0.1:")
    True
    >>> viewer.close()
    """

    def __init__(self, url: str, process: subprocess.Popen[str], refs: list[Ref[Any]]) -> None:
        self.url = url
        self._process = process
        self._refs = refs  # what is shown lives as long as it is shown
        self._pid = os.getpid()

    def close(self) -> None:
        """End it. The page says that the connection is lost."""
        _open.discard(self)
        if self._pid != os.getpid():  # the viewer of a forked child's parent
            return
        with self._process as process:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
        self._refs = []

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "open" if self in _open else "closed"
        return f"<Viewer {self.url} {state}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """Be shown in a notebook: live, or as a link and a picture where there is no anywidget."""
        if self not in _open or not _is_in_notebook():
            return {"text/plain": repr(self)}
        picture = still(self._refs[0].open())
        from . import _notebook

        try:
            widget = _notebook.widget(self)
        except ImportError:
            return {"text/plain": repr(self), "text/html": page(self.url, picture)}
        # The picture is for what shows no widgets, such as the notebook when it is only read.
        return {**_notebook.mimebundle(widget), **({"image/png": picture} if picture else {})}


def view(*objects: NDArray[Any] | Ring | Canvas, open_browser: bool | None = None) -> Viewer:
    """Show rings, shared arrays and canvases in the browser, side by side, as they change.

    The page is served at 127.0.0.1 by a process of its own, which ends with this one: nothing here waits for it. It is
    a reader of the newest frames, and holds no writer back. Who has the address (`Viewer.url`) sees what is shown; it
    has a token that nobody can guess. With `open_browser` the browser is opened there; None is no in a notebook, and
    yes elsewhere. In a notebook the viewer is seen where a cell shows it, live with ``pip install ndshare[notebook]``.

    What is shown is kept alive until the viewer is closed. Raises ValueError for arrays that are not shared, TypeError
    for other objects, RuntimeError when the process could not be started.

    >>> import ndshare as nds
    >>> with nds.view(nds.zeros((480, 640), "uint16"), open_browser=False) as viewer:
    ...     viewer.url.startswith("http://127.0.0.1:")
    True
    """
    if not objects:
        raise TypeError("expected a Ring, a shared array or a Canvas, got nothing")
    shown = [one.array if isinstance(one, Canvas) else one for one in objects]
    refs = [_checked(one) for one in shown]
    command = [sys.executable, "-m", "ndshare", "view", "--json", "--until-end"]
    for title, reference in zip(_titles(shown), refs, strict=True):
        command += ["--reference", f"{reference} {title}"]
    if not (not _is_in_notebook() if open_browser is None else open_browser):
        command.append("--no-browser")
    # A session of its own: Ctrl-C in the terminal is for this program, which may go on.
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    viewer = Viewer(_address(process), process, refs)
    if not _open:
        atexit.register(_close_all)
    _open.add(viewer)
    return viewer


def _is_in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _checked(one: Any) -> Ref[Any]:
    if not (isinstance(one, Ring) or hasattr(one, "dtype")):
        raise TypeError(f"expected a Ring, a shared array or a Canvas, got {type(one).__name__}")
    return ref(cast("Any", one))


def _titles(shown: list[Any]) -> list[str]:
    """Return a name for each of what is shown; those that would be the same are numbered."""
    titles = [_title(one) for one in shown]
    same = {title for title, count in Counter(titles).items() if count > 1}
    numbers = {title: itertools.count(1) for title in same}
    return [f"{title} {next(numbers[title])}" if title in same else title for title in titles]


def _title(one: Any) -> str:
    if not isinstance(one, Ring):
        return "array"
    return cast("Ring[Any]", one).name or "ring"


def _address(process: subprocess.Popen[str]) -> str:
    """Wait for the line with the address."""
    assert process.stdout is not None
    if is_readable(process.stdout, _PATIENCE) and (line := process.stdout.readline()):
        return str(json.loads(line)["url"])
    process.kill()
    process.communicate()
    raise RuntimeError("expected the address of the viewer, got none: see what `ndshare view` says")


def _close_all() -> None:
    for viewer in list(_open):
        viewer.close()
