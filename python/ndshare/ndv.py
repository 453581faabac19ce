# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUntypedBaseClass=false
"""ndv: a viewer that shows a ring live. The camera is another process, and frames come by reference.

Call ``ndshare.ndv.live(ring)``, with a ring or the name under which one is published.
"""

# ndv is imported when `live` is first called, so that this module can be imported without it.

from __future__ import annotations

import importlib
import types
from functools import lru_cache
from typing import Any

from . import _live
from ._native import Ring
from ._ring import Frame

__all__ = ["Live", "live"]


class Live(_live.Live):
    """A viewer of ndv that follows a ring until the ring is closed, or `close` is called."""

    def __init__(self, source: Ring | str, options: dict[str, Any]) -> None:
        super().__init__(source)
        self.viewer: Any = importlib.import_module("ndv").ArrayViewer(**options)
        self._shown: Any = None

    def _show(self, frame: Frame[Any]) -> None:
        if self._shown is None or (frame.shape, frame.dtype) != (self._shown.data.shape, self._shown.data.dtype):
            self._shown = self.viewer.data = _class()(frame)
        else:
            self._shown.show(frame)


def live(source: Ring | str, rate: float = 30, **options: Any) -> Live:
    """Show a ring, or a published one by its name, in a new `ndv.ArrayViewer`, up to `rate` times a second.

    The viewer, `Live.viewer`, is on the screen already; `options` are its own. Nobody waits for ndv: it gets the newest
    frame when it looks. It needs ndv with Qt.

    Raises TypeError for what is no ring, Timeout when nobody has published the name.
    """
    shown = Live(source, options)
    shown.update()
    shown.viewer.show()
    shown.start(rate)
    return shown


class _Frames:
    """What is added to ndv's wrapper of data: a frame that becomes another one now and then."""

    @classmethod
    def supports(cls, obj: Any) -> bool:  # noqa: ARG003
        return False  # only `Live` makes it

    def show(self, frame: Frame) -> None:
        this: Any = self
        this._data = frame
        this.data_changed.emit()


def _make_class() -> type[Any]:
    return types.new_class("Frames", (_Frames, importlib.import_module("ndv").DataWrapper))


# The class, which needs ndv's.
_class = lru_cache(1)(_make_class)
