# ruff: noqa: N818  (the names say what happened; the built-ins beside them end in Error)
"""The exceptions. Each says what it names, what was expected, what was found and what to do next."""

import queue
from typing import Any


class Error(Exception):
    """The root of everything that ndshare raises on its own account.

    >>> import ndshare as nds
    >>> ring = nds.Ring(3, "uint8", slots=2)
    >>> try:
    ...     ring.reader().get(timeout=0)
    ... except nds.Error as error:
    ...     type(error).__name__, str(error)[:20]
    ('Empty', 'no frame came: expec')
    """

    # Tblib, which comes with Dask, makes exceptions that do not say this by `BaseException.__new__` instead of by their
    # class; those that are MemoryErrors or OSErrors, too, could not be read again.
    def __reduce__(self) -> str | tuple[Any, ...]:
        return super().__reduce__()


class ArenaFull(Error, MemoryError):
    """No room: the arena's budget or a limit of the system is used up. The message names both limit and holders.

    `published` has the numbers of the frames that `put_many` published before it raised this, None for each that was
    dropped; it is None of every other call.

    >>> import ndshare as nds
    >>> try:
    ...     nds.zeros(1 << 30, arena=nds.Arena("4 MiB"))
    ... except MemoryError as error:
    ...     type(error)
    <class 'ndshare.ArenaFull'>
    """

    published: "list[int | None] | None" = None


class Stale(Error, ReferenceError):
    """The array that a reference names is gone: nobody held it any more.

    >>> import ndshare as nds
    >>> text = str(nds.ref(nds.zeros(3)))
    >>> try:
    ...     nds.ref(text).open()
    ... except nds.Stale:
    ...     print("nobody had it any more")
    nobody had it any more
    """


class AttachError(Error, ConnectionError):
    """The arena that a reference names cannot be reached from this process.

    >>> import ndshare as nds
    >>> try:
    ...     nds.Arena("1 MiB", path="/nowhere/frames")
    ... except nds.AttachError as error:
    ...     isinstance(error, ConnectionError)
    True
    """


class Timeout(Error, TimeoutError):
    """A wait reached its timeout.

    >>> import ndshare as nds
    >>> try:
    ...     nds.attach("a name that nobody has", timeout=0)
    ... except TimeoutError as error:
    ...     type(error)
    <class 'ndshare.Timeout'>
    """


class Empty(Timeout, queue.Empty):
    """No frame came from a ring before the timeout.

    >>> import ndshare as nds, queue
    >>> frames = nds.Ring(3, "uint8", slots=2).reader()
    >>> try:
    ...     frames.get(timeout=0)
    ... except queue.Empty as error:
    ...     type(error)
    <class 'ndshare.Empty'>
    """


class Full(Timeout, queue.Full):
    """A ring had no room for a frame before the timeout.

    `published` has the numbers of the frames that `put_many` published before it raised this, None for each that was
    dropped; it is None of every other call.

    >>> import ndshare as nds
    >>> ring = nds.Ring(1, "uint8", slots=1)
    >>> frames = ring.reader()
    >>> try:
    ...     ring.put([1]), ring.put([2], timeout=0)
    ... except nds.Full:
    ...     frames.lag
    1
    """

    published: "list[int | None] | None" = None


class Closed(Error, EOFError):
    """The ring, or its reader, was closed: there is nothing more to read, and nothing can be written.

    `published` has the numbers of the frames that `put_many` published before it raised this, None for each that was
    dropped; it is None of every other call.

    >>> import ndshare as nds
    >>> ring = nds.Ring(1, "uint8", slots=1)
    >>> ring.close()
    >>> try:
    ...     ring.put([1])
    ... except nds.Closed:
    ...     ring.closed
    True
    """

    published: "list[int | None] | None" = None


class WriterDied(Error, RuntimeError):
    """The last process that wrote to a ring ended without closing it. Another one may take its place.

    `pid` is that process, the last one where several have died; None where that is not known any more.

    >>> import ndshare as nds
    >>> issubclass(nds.WriterDied, nds.Closed), nds.WriterDied.pid
    (False, None)
    """

    pid: int | None = None


class WorkerDied(Error, RuntimeError):
    """Workers of a pipe died, or had to be killed, of one frame, as often as it may be tried.

    `seq` is the frame's number, `pid` the last of these processes.

    >>> import ndshare as nds
    >>> issubclass(nds.WorkerDied, RuntimeError), nds.WorkerDied.seq
    (True, None)
    """

    seq: int | None = None
    pid: int | None = None


class LoadError(Error, RuntimeError):
    """Somebody else was loading the key of a cache, and failed. Asking again tries again.

    `type_name` is the name of the exception's type, `text` its text, `pid` the process, or None where it is not known.

    >>> import ndshare as nds
    >>> print(nds.LoadError("OSError", "no such tile"))
    expected a value, but whoever was loading the key got OSError: no such tile; ask again to try again
    """

    pid: int | None = None

    def __init__(self, type_name: str, text: str) -> None:
        super().__init__(type_name, text)
        self.type_name = type_name
        self.text = text

    def __str__(self) -> str:
        said = f"{self.type_name}: {self.text}" if self.text else self.type_name
        return f"expected a value, but whoever was loading the key got {said}; ask again to try again"


class RecordError(Error, RuntimeError):
    """A recording ended too early: the disk is full, its process was killed, a frame looked otherwise than the first.

    `frames` says how many are whole and can be read, `errno` which error of the system it was, if it was one.

    >>> import ndshare as nds
    >>> issubclass(nds.RecordError, nds.Error), nds.RecordError("the disk is full", 7).frames
    (True, 7)
    """

    def __init__(self, text: str, frames: int = 0, errno: int | None = None) -> None:
        super().__init__(text, frames, errno)
        self.frames = frames
        self.errno = errno

    def __str__(self) -> str:
        return str(self.args[0])


class OwnerDied(Error, RuntimeError):
    """The last owner of a lock died inside, and nobody has recovered what it guards since.

    `pid` is that process; None where it is not known.

    >>> import ndshare as nds
    >>> lock = nds.Lock()
    >>> try:
    ...     taken = lock.acquire(timeout=1)
    ... except nds.OwnerDied:
    ...     taken = lock.acquire(recover=True)  # and what it guards is put in order
    >>> taken
    True
    """

    pid: int | None = None


class Poisoned(Error, RuntimeError):
    """The control memory of an arena contradicts itself: something wrote over it.

    >>> import ndshare as nds
    >>> issubclass(nds.Poisoned, (nds.Error, RuntimeError))
    True
    """


class ReadOnly(Error, PermissionError):
    """Something was to be written or made in an arena that this process joined with ``readonly=True``.

    >>> import ndshare as nds
    >>> issubclass(nds.ReadOnly, PermissionError)
    True
    """


class Refused(Error, PermissionError):
    """Another user offers an object, and does not let this user read it.

    >>> import ndshare as nds
    >>> issubclass(nds.Refused, PermissionError)
    True
    """


class CopyWarning(UserWarning):
    """A writable shared array was pickled by value: what the receiver writes is lost. `warn_copies` asks for it.

    >>> import ndshare as nds, warnings
    >>> warnings.filterwarnings("error", category=nds.CopyWarning)  # to see where it is
    """


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
    WorkerDied,
    LoadError,
    RecordError,
    OwnerDied,
    Poisoned,
    ReadOnly,
    Refused,
):
    # Tracebacks and pickles name the class as users do.
    _class.__module__ = "ndshare"
