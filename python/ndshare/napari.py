# pyright: reportUnknownMemberType=false
"""napari: a layer that shows a ring live. The camera is another process, and frames come by reference.

Call ``ndshare.napari.live(viewer, ring)``, with a ring or the name under which one is published.
"""

# napari is not imported here: the viewer is the caller's. The timer is Qt's, by way of qtpy, which napari has.

from __future__ import annotations

from typing import Any

from . import _live
from ._native import Ring
from ._ring import Frame

__all__ = ["Live", "live"]


class Live(_live.Live):
    """A layer that follows a ring until the layer is removed, the ring is closed, or `close` is called."""

    def __init__(self, viewer: Any, source: Ring | str, options: dict[str, Any]) -> None:
        super().__init__(source)
        self.layer: Any = None
        self._viewer = viewer
        self._options = {"name": self.name, **options}

    def update(self) -> bool:
        """Show the newest frame; return whether there was one that was not shown yet."""
        if self.layer is not None and self.layer not in self._viewer.layers:
            self.close()
        return super().update()

    def _show(self, frame: Frame[Any]) -> None:
        if self.layer is None:
            self.layer = self._viewer.add_image(frame, **self._options)
        else:
            # The layer keeps the frame until it gets the next one: the ring takes other memory meanwhile.
            self.layer.data = frame


def live(viewer: Any, source: Ring | str, rate: float = 30, **options: Any) -> Live:
    """Show a ring, or a published one by its name, in a layer of a `napari.Viewer`, up to `rate` times a second.

    The layer, `Live.layer`, is there from the first frame on; `options` are those of ``add_image``. Without
    ``contrast_limits`` napari takes those of the first frame. Nobody waits for napari: it gets the newest frame when it
    looks. In a `napari.components.ViewerModel`, which has no window, nothing looks by itself: call `Live.update`.

    Raises TypeError for what is no ring, Timeout when nobody has published the name.
    """
    shown = Live(viewer, source, options)
    shown.update()
    if hasattr(viewer, "window"):
        shown.start(rate)
    return shown
