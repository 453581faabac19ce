"""Compiled classes that can be written with the type of their items, as in ``nds.Ring[np.uint16]``."""

from types import GenericAlias


def subscriptable(*classes: type) -> None:
    """Let each of the classes be subscripted in annotations; that gives what it does for `list`."""
    for cls in classes:
        # A type checker knows it from the stubs, and takes no other way.
        setattr(cls, "__class_getitem__", classmethod(GenericAlias))  # noqa: B010
