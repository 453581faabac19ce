# ruff: noqa: N818  (the names say what happened)
"""The exceptions of rings and caches that are on other machines."""

from __future__ import annotations

from .._errors import Error, LoadError


class Unreachable(Error, ConnectionError):
    """The other machine does not answer: it ended, or the link between is cut.

    >>> from ndshare import net
    >>> issubclass(net.Unreachable, ConnectionError)
    True
    """


class Incompatible(Error, RuntimeError):
    """The other machine runs an ndshare that speaks another protocol, or sent what is none.

    >>> from ndshare import net
    >>> issubclass(net.Incompatible, RuntimeError)
    True
    """


class NameTaken(Error, RuntimeError):
    """Another server of this network offers a ring or a cache of this name already.

    >>> from ndshare import net
    >>> issubclass(net.NameTaken, RuntimeError)
    True
    """


class FarLoadError(LoadError):
    """The loader on the other machine failed.

    `type_name` is the name of the exception's type there, `text` its text, `host` the machine; `pid` is None.

    >>> from ndshare import net
    >>> print(net.FarLoadError("OSError", "no such tile", "cam-host"))
    expected a value from cam-host, but its loader got OSError: no such tile; ask again to try again
    """

    def __init__(self, type_name: str, text: str, host: str = "") -> None:
        super().__init__(type_name, text)
        self.host = host

    def __str__(self) -> str:
        said = f"{self.type_name}: {self.text}" if self.text else self.type_name
        where = self.host or "the other machine"
        return f"expected a value from {where}, but its loader got {said}; ask again to try again"


for _class in (Unreachable, Incompatible, NameTaken, FarLoadError):
    _class.__module__ = "ndshare.net"
