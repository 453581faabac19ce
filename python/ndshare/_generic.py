"""What compiled classes get from Python: ``nds.Ring[np.uint16]`` in annotations, and how they look in notebooks."""

from __future__ import annotations

from types import GenericAlias
from typing import Any

from ._errors import Error


def subscriptable(*classes: type) -> None:
    """Let each of the classes be subscripted in annotations; that gives what it does for `list`."""
    for cls in classes:
        # A type checker knows it from the stubs, and takes no other way.
        setattr(cls, "__class_getitem__", classmethod(GenericAlias))  # noqa: B010


def shown_in_notebooks(*classes: type) -> None:
    """Let notebooks show a table of each object's figures."""
    for cls in classes:
        setattr(cls, "_repr_html_", _repr_html_)  # noqa: B010


def _repr_html_(self: Any) -> str | None:
    """Return what a notebook shows; None, for which it takes the text, where the figures cannot be had."""
    from . import _html

    try:
        return _html.of(self)
    except (Error, ValueError):  # as of a closed arena
        return None
