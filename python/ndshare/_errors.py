# ruff: noqa: N818  (the names say what happened; the built-ins beside them end in Error)
"""The exceptions. Each says what it names, what was expected, what was found and what to do next."""

import queue


class Error(Exception):
    """The root of everything that ndshare raises on its own account."""


class ArenaFull(Error, MemoryError):
    """No room: the arena's budget or a limit of the system is used up. The message names both limit and holders."""


class Stale(Error, ReferenceError):
    """The array that a reference names is gone: nobody held it any more."""


class AttachError(Error, ConnectionError):
    """The arena that a reference names cannot be reached from this process."""


class Timeout(Error, TimeoutError):
    """A wait reached its timeout."""


class Empty(Timeout, queue.Empty):
    """No frame came from a ring before the timeout."""


class Full(Timeout, queue.Full):
    """A ring had no room for a frame before the timeout."""


class Closed(Error, EOFError):
    """The ring, or its reader, was closed: there is nothing more to read, and nothing can be written."""


class WriterDied(Error, RuntimeError):
    """The last process that wrote to a ring ended without closing it. Another one may take its place.

    `pid` is that process, the last one where several have died; None where that is not known any more.
    """

    pid: int | None = None


class LoadError(Error, RuntimeError):
    """Somebody else was loading the key of a cache, and failed. Asking again tries again.

    `type_name` is the name of the exception's type, `text` its text, `pid` the process, or None where it is not known.
    """

    pid: int | None = None

    def __init__(self, type_name: str, text: str) -> None:
        super().__init__(type_name, text)
        self.type_name = type_name
        self.text = text

    def __str__(self) -> str:
        said = f"{self.type_name}: {self.text}" if self.text else self.type_name
        return f"expected a value, but whoever was loading the key got {said}; ask again to try again"


class OwnerDied(Error, RuntimeError):
    """The last owner of a lock died inside, and nobody has recovered what it guards since.

    `pid` is that process; None where it is not known.
    """

    pid: int | None = None


class Poisoned(Error, RuntimeError):
    """The control memory of an arena contradicts itself: something wrote over it."""


class ReadOnly(Error, PermissionError):
    """Something was to be written or made in an arena that this process joined with ``readonly=True``."""


class Refused(Error, PermissionError):
    """Another user offers an object, and does not let this user read it."""


class CopyWarning(UserWarning):
    """A writable shared array was pickled by value: what the receiver writes is lost. `warn_copies` asks for it."""


for _class in (
    Error,
    CopyWarning,
    ArenaFull,
    Stale,
    AttachError,
    Timeout,
    Empty,
    Full,
    Closed,
    WriterDied,
    LoadError,
    OwnerDied,
    Poisoned,
    ReadOnly,
    Refused,
):
    # Tracebacks and pickles name the class as users do.
    _class.__module__ = "ndshare"
