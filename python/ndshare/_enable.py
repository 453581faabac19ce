# pyright: reportPrivateUsage=false
"""By reference in other libraries: their picklers are taught what multiprocessing's knows.

A pickler is asked by its method ``reducer_override`` before it looks anywhere else; ours comes first there, answers for
what is shared, and leaves everything else as it was, to the byte. What a library pickles at once is a message, as it is
for multiprocessing: it goes to one receiver, which reads it once.

Whether a message is read on this machine, and once, only the library knows. So each library has its own few lines here,
which say where its messages begin, or a module of its own.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import multiprocessing.context
import os
import sys
import threading
import warnings
from collections.abc import Callable, Generator
from importlib.machinery import ModuleSpec
from multiprocessing.reduction import ForkingPickler
from types import ModuleType
from typing import Any, NamedTuple, cast

import numpy as np

from . import _native
from ._shared import is_shared
from ._travel import look_at_each_message, reducers_of_ours

Reducer = Callable[[Any], Any]

_ENVIRONMENT = "NDSHARE_ENABLE"


class _Thread(threading.local):
    """What this thread is pickling for: a receiver that reads it once here, another one, or nobody has said."""

    reaches: bool | None = None
    # Whether it is a part of a `message`, in which a library may pickle a thing again in another way.
    is_part: bool = False


_thread = _Thread()
# What is installed may import a library that is awaited, after all.
_lock = threading.RLock()
_enabled: set[str] = set()
# The picklers that more than one library asks to be taught.
_taught: set[Any] = set()


def enable(*names: str) -> None:
    """Make other libraries send arrays of the arena by reference, where they would have copied them.

    Names are "billiard", "cloudpickle", "dask", "distributed", "joblib", "loky", "multiprocess", "ray" and "torch";
    "dask" means distributed as well, if it is installed. It counts for this process and for those that it starts from
    now on, so call it before you make pools, clusters and servers. A second call changes nothing.

    Raises ValueError for other names, TypeError for what is no text, and ImportError for a library that is not
    installed; then nothing is enabled.

    >>> import ndshare as nds
    >>> nds.enable("spark")
    Traceback (most recent call last):
    ValueError: expected names of 'billiard', 'cloudpickle', 'dask', 'distributed', 'joblib', 'loky', 'multiprocess', \
'ray', 'torch', got 'spark'
    """
    wanted = _checked(names)
    for name in wanted:
        _import(name)
    _install(wanted)
    os.environ[_ENVIRONMENT] = ",".join(sorted({*_named(), *wanted}))


enable.__module__ = "ndshare"


def start() -> None:
    """Enable what the parent has, of the libraries that this process has imported already; the others once they are.

    The variable may be a person's, so a wrong name in it is a warning: the import of a library never fails by it.
    """
    named, known = _named(), tuple(name for name in _named() if name in _LIBRARIES)
    if known != named:
        wrong = ", ".join(repr(name) for name in named if name not in _LIBRARIES)
        text = f"expected {_ENVIRONMENT} to have names of {', '.join(map(repr, _LIBRARIES))}, got {wrong}: left out"
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    if known:
        wanted = _checked(known)
        _install([name for name in wanted if _LIBRARIES[name].package in sys.modules])
        if awaited := {_LIBRARIES[name].package: name for name in wanted if name not in _enabled}:
            sys.meta_path.insert(0, _Awaited(awaited))


class _Awaited:
    """Enables libraries as soon as they are imported."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """Leave the finding to the others, and see to it that their loader tells when it is done.

        Who asks may want to know only whether the library is there.
        """
        if fullname not in self._names:
            return None
        finders = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in finders)), None)
        # A loader may be that of several modules, and be found more than once.
        if spec is not None and spec.loader is not None and "exec_module" not in vars(spec.loader):
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                self._enable(module.__name__)

            vars(spec.loader)["exec_module"] = exec_module
        return spec

    def _enable(self, package: str) -> None:
        """Enable a library that has been imported. The import never fails by it."""
        try:
            if name := self._names.pop(package, None):
                _install([name])
        except ImportError as error:
            warnings.warn(str(error), RuntimeWarning, stacklevel=2)


def _checked(names: tuple[str, ...]) -> list[str]:
    for name in names:
        if not isinstance(cast("object", name), str):
            raise TypeError(f"expected names as texts, as in enable('joblib', 'dask'), got {name!r}")
        if name not in _LIBRARIES:
            raise ValueError(f"expected names of {', '.join(map(repr, _LIBRARIES))}, got {name!r}")
    if not names:
        raise ValueError(f"expected at least one name of {', '.join(map(repr, _LIBRARIES))}, got none")
    if "dask" in names and importlib.util.find_spec("distributed") is not None:
        return [*names, "distributed"]
    return list(names)


def _named() -> tuple[str, ...]:
    # A person may write a blank after a comma.
    return tuple(name for part in os.environ.get(_ENVIRONMENT, "").split(",") if (name := part.strip()))


def _import(name: str) -> None:
    package = _LIBRARIES[name].package
    try:
        importlib.import_module(package)
    except ImportError as error:
        text = f"expected {package} for ndshare.enable({name!r}), and it can't be imported: install it ({error})"
        raise ImportError(text, name=package) from error


def _install(names: list[str]) -> None:
    # Imports come before the lock: another thread may have begun them, and wait for the lock at their end.
    for name in names:
        for needed in _LIBRARIES[name].needs:
            module(needed)
    with _lock:
        for name in names:
            if name not in _enabled:
                _install_one(name, _LIBRARIES[name])
                _enabled.add(name)


def _install_one(name: str, library: _Library) -> None:
    try:
        library.install()
    except AttributeError as error:
        version = getattr(sys.modules.get(library.package), "__version__", "of no version")
        text = (
            f"ndshare.enable({name!r}) does not know {library.package} {version}, which is made in another way: {error}"
        )
        raise ImportError(text, name=library.package) from error


# What the libraries' own lines are made of


def module(name: str) -> Any:
    """Import a module of a library; its names are as they come."""
    return importlib.import_module(name)


def is_ours(thing: Any) -> bool:
    """Tell whether a thing of a class that we reduce is to be sent by reference."""
    if not isinstance(thing, np.ndarray):
        return True
    if _native.is_shared(cast("object", thing)):
        return True
    mask = getattr(cast("Any", thing), "_mask", None)
    return mask is not None and _native.is_shared(mask)


def reaches() -> bool:
    """Tell whether what this thread pickles now is read once, by a process of this machine."""
    return "cloudpickle" in _enabled if _thread.reaches is None else _thread.reaches


def is_told_to_reach() -> bool:
    """Tell the same where somebody has said it: what may be kept on a disk goes by reference for nobody else."""
    return _thread.reaches is True


def is_enabled(name: str) -> bool:
    """Tell whether a library is enabled here."""
    return name in _enabled


def is_by_value() -> bool:
    """Tell whether somebody has said that what this thread pickles now goes by value."""
    return _thread.reaches is False


@contextlib.contextmanager
def reaching(reached: bool) -> Generator[None, None, None]:
    """Say so while the block runs."""
    before = _thread.reaches
    _thread.reaches = reached
    try:
        yield
    finally:
        _thread.reaches = before


@contextlib.contextmanager
def _in_parts() -> Generator[None, None, None]:
    """Take what cloudpickle pickles meanwhile for parts of a message: what they issued is taken back with it."""
    before, _thread.is_part = _thread.is_part, True
    try:
        yield
    finally:
        _thread.is_part = before


@contextlib.contextmanager
def message(reached: bool) -> Generator[None, None, None]:
    """Say so for a message that more than one pickler writes; all views of one block in it go by one ticket."""
    writer = object()
    with reaching(reached), _in_parts():
        _native.begin_message(writer)
        try:
            yield
        except BaseException:
            _native.end_message(writer, True)
            raise
        else:
            _native.end_message(writer, False)


def by_value(owner: Any, name: str) -> None:
    """Make a function of a library pickle by value: what it pickles is compared or kept, or goes nobody knows where."""
    theirs = getattr(owner, name)

    @functools.wraps(theirs)
    def function(*args: Any, **kwargs: Any) -> Any:
        if _thread.reaches is not None:
            return theirs(*args, **kwargs)
        with reaching(False):
            return theirs(*args, **kwargs)

    setattr(owner, name, function)


def teach(pickler: Any, reducers: dict[type, Reducer] | None = None, when: Callable[[], bool] = reaches) -> None:
    """Let a class of picklers ask us first, of things of exactly our classes, when what it writes is read here."""
    table = reducers_of_ours() if reducers is None else reducers
    theirs = getattr(pickler, "reducer_override", None)

    def reducer_override(self: Any, thing: object) -> Any:
        reduce = table.get(type(thing))
        if reduce is not None and when() and is_ours(thing):
            return reduce(thing)
        return NotImplemented if theirs is None else theirs(self, thing)

    pickler.reducer_override = reducer_override


def _teach_forking(pickler: Any, context: Any) -> None:
    """Teach a pickler whose every message goes through a pipe of this machine, and is read once."""
    teach(pickler)
    look_at_each_message(pickler, context._tls)
    dump = pickler.dump

    @functools.wraps(dump)
    def dump_here(self: Any, thing: Any) -> Any:
        with reaching(True), _in_parts():
            return dump(self, thing)

    pickler.dump = dump_here


def teach_cloudpickle() -> None:
    """Teach cloudpickle, which several libraries use for functions; they say when it is to do so."""
    pickler = module("cloudpickle").Pickler
    if pickler in _taught:
        return
    _taught.add(pickler)
    teach(pickler)
    dump = pickler.dump
    look_at_each_message(pickler, _context()._tls)
    dump_message = pickler.dump

    @functools.wraps(dump)
    def dump_alone(self: Any, thing: Any) -> Any:
        """Begin a message, unless this is a part of one, or of a class that says itself what a message is."""
        if _thread.is_part or type(self) is not pickler:
            return dump(self, thing)
        with _in_parts():
            return dump_message(self, thing)

    pickler.dump = dump_alone


def _context() -> Any:
    return multiprocessing.context


# The libraries


def _multiprocess() -> None:
    """Teach multiprocess, which is multiprocessing with dill: pathos and datasets use it."""
    _like_multiprocessing("multiprocess")


def _billiard() -> None:
    """Teach billiard, which is multiprocessing with more care for pools: Celery uses it."""
    _like_multiprocessing("billiard")


def _like_multiprocessing(package: str) -> None:
    reduction, context = (module(f"{package}.{name}") for name in ("reduction", "context"))
    _teach_forking(reduction.ForkingPickler, context)


def _loky() -> None:
    _like_loky("loky")


def _like_loky(package: str) -> None:
    """Teach loky, or joblib's own copy of it. Functions that it wraps are pickled by cloudpickle on the way."""
    reduction = module(f"{package}.backend.reduction")
    teach_cloudpickle()
    _teach_loky_pickler(reduction)
    choose = reduction.set_loky_pickler

    @functools.wraps(choose)
    def choose_and_teach(*args: Any, **kwargs: Any) -> None:
        choose(*args, **kwargs)
        _teach_loky_pickler(reduction)

    # Who chooses another pickler gets a new class.
    reduction.set_loky_pickler = module(package).set_loky_pickler = choose_and_teach


def _teach_loky_pickler(reduction: Any) -> None:
    pickler = reduction.get_loky_pickler()
    if pickler not in _taught:
        _taught.add(pickler)
        _teach_forking(pickler, _context())


def _joblib() -> None:
    """Teach joblib's pools, before they look for arrays above `max_nbytes` to be put into files."""
    _like_loky("joblib.externals.loky")
    _teach_forking(module("joblib.pool").CustomizablePickler, _context())


def _cloudpickle() -> None:
    teach_cloudpickle()


def _dask() -> None:
    module("ndshare.dask").install()


def _distributed() -> None:
    module("ndshare.dask").install_distributed()


def _ray() -> None:
    module("ndshare.ray").install()


def _torch() -> None:
    """Let a tensor of a shared array go as the array. torch moves what it sends into files of its own, at both ends."""
    torch, theirs = module("torch"), module("torch.multiprocessing.reductions").reduce_tensor

    def reduce(tensor: Any) -> Any:
        is_plain = tensor.layout is torch.strided and not (tensor.requires_grad or tensor.is_conj() or tensor.is_neg())
        if is_plain and is_shared(tensor):
            with contextlib.suppress(TypeError):  # NumPy has no such dtype
                return open_tensor, (tensor.numpy(),)
        return theirs(tensor)

    ForkingPickler.register(torch.Tensor, reduce)


def open_tensor(array: Any) -> Any:
    """Return the tensor of an array that has arrived."""
    return module("torch").from_dlpack(array)


class _Library(NamedTuple):
    package: str
    install: Callable[[], None]
    needs: tuple[str, ...]  # the modules that are imported to install it


_LIBRARIES = {
    "billiard": _Library("billiard", _billiard, ("billiard.reduction", "billiard.context")),
    "cloudpickle": _Library("cloudpickle", _cloudpickle, ("cloudpickle",)),
    "dask": _Library("dask", _dask, ("ndshare.dask", "cloudpickle", "dask.tokenize", "dask.config")),
    "distributed": _Library("distributed", _distributed, ("ndshare.dask", "cloudpickle", "distributed")),
    "joblib": _Library("joblib", _joblib, ("joblib.externals.loky.backend.reduction", "joblib.pool", "cloudpickle")),
    "loky": _Library("loky", _loky, ("loky.backend.reduction", "cloudpickle")),
    "multiprocess": _Library("multiprocess", _multiprocess, ("multiprocess.reduction", "multiprocess.context")),
    "ray": _Library("ray", _ray, ("ndshare.ray", "ray", "ray.experimental.channel.shared_memory_channel")),
    "torch": _Library("torch", _torch, ("torch.multiprocessing.reductions",)),
}
