import enum
import os
import pathlib
import sys
import uuid
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from types import EllipsisType, GenericAlias, TracebackType
from typing import (
    Any,
    Final,
    Generic,
    Literal,
    Protocol,
    Self,
    SupportsIndex,
    TypedDict,
    final,
    overload,
    type_check_only,
)

import numpy as np
from _typeshed import DataclassInstance
from numpy.typing import ArrayLike, DTypeLike, NDArray
from typing_extensions import TypeVar, disjoint_base

from ._clock import Clock
from ._overlay import Fields, FieldSpec, Use, UseSpec
from ._ring import Frame

__all__ = [
    "KILL_POINTS",
    "MAX_USES",
    "Alarm",
    "Arena",
    "Cache",
    "Canvas",
    "FftFilter",
    "FftPlan",
    "FftTransform",
    "Field",
    "FrameHold",
    "Hold",
    "Inside",
    "Lock",
    "Montage",
    "OfferedHold",
    "OfferedRing",
    "Outgoing",
    "Overlay",
    "PassedFrames",
    "Reader",
    "Ring",
    "Stop",
    "Writer",
    "Writing",
    "__version__",
    "allocating",
    "arena_parts",
    "attach_name",
    "attach_offered",
    "begin_message",
    "block",
    "concatenate",
    "copyto",
    "cpus",
    "describe",
    "dtype_of_text",
    "dtype_text",
    "empty",
    "empty_in_order",
    "end_key",
    "end_message",
    "end_with",
    "fft_fallbacks",
    "fft_fell_back",
    "fft_transform",
    "field_under",
    "findings",
    "first_referent",
    "force_cpu",
    "forget_reference",
    "frame_age",
    "frame_meta",
    "frame_note",
    "frame_note_parts",
    "frame_published_ns",
    "frame_seq",
    "frame_time_ns",
    "frame_tree",
    "from_text",
    "is_gone",
    "is_left_behind",
    "is_placed",
    "is_shared",
    "is_shared_at",
    "key_bytes",
    "key_of_bytes",
    "kill_at",
    "leave_rings",
    "left_out",
    "lend",
    "let_go",
    "let_go_of_left",
    "list_names",
    "lock_token",
    "locked",
    "open_arena",
    "open_arrays_with",
    "open_cache",
    "open_lock",
    "open_overlay",
    "open_reader",
    "open_reference",
    "open_ring",
    "open_token",
    "open_writer",
    "overlay_parts",
    "publish_name",
    "reader_parts",
    "reclaim",
    "reduce",
    "reference_token",
    "ring_in_session",
    "ring_parts",
    "run_command",
    "session_find",
    "session_locators",
    "session_named",
    "set_frame_meta",
    "set_frame_note",
    "set_frame_note_parts",
    "set_frame_time_ns",
    "set_stream_from",
    "stack",
    "stats",
    "stop_at",
    "stream_from",
    "ticket",
    "to_text",
    "unpublish_name",
    "unwrapped",
    "watch_again",
    "writer_parts",
    "zeros",
]

_T = TypeVar("_T")
# What the items of an array are; Any where nothing says it.
_Item = TypeVar("_Item", bound=np.generic, default=Any)
_Told = TypeVar("_Told", bound=np.generic)
_Told_co = TypeVar("_Told_co", bound=np.generic, covariant=True)
_Given = TypeVar("_Given", bound=np.generic, default=Any)
_Made_co = TypeVar("_Made_co", bound=np.generic, default=Any, covariant=True)
_OutArray = TypeVar("_OutArray", bound=NDArray[Any])
_Out = TypeVar("_Out", bound=NDArray[Any] | Canvas[Any])
_Default = TypeVar("_Default")

@type_check_only
class _HasArray(Protocol[_Told_co]):
    def __array__(self) -> np.ndarray[Any, np.dtype[_Told_co]]: ...

# A dtype, and what becomes an array, of which a type checker knows the items.
_DTypeOf = type[_Told] | np.dtype[_Told]
_ArrayOf = _HasArray[_Told] | Sequence[_HasArray[_Told]] | Sequence[Sequence[_HasArray[_Told]]]
_Shape = SupportsIndex | Sequence[SupportsIndex]
_Casting = Literal["no", "equiv", "safe", "same_kind", "unsafe"]

__version__: Final[str]
KILL_POINTS: Final[tuple[str, ...]]
MAX_USES: Final[int]

@type_check_only
class Participant(TypedDict):
    pid: int
    bytes: int
    blocks: int
    alive: bool
    me: bool

@type_check_only
class Ticket(TypedDict):
    bytes: int
    sender: int
    sender_alive: bool
    receiver: int | None
    age_s: float

@type_check_only
class LockOwner(TypedDict):
    pid: int
    name: str
    stopped: bool

@type_check_only
class Stats(TypedDict):
    id: str
    budget: int
    capacity: int
    bytes: int
    warm: int
    blocks: int
    participants: list[Participant]
    tickets: list[Ticket]
    ticket_budget: int
    copied_by_bound: int
    limit: str
    lock: LockOwner | None

@type_check_only
class ReaderStats(TypedDict):
    lag: int
    missed: int
    held: int
    alive: bool
    pid: int | None
    name: str | None
    mode: Literal["every", "latest", "group"]
    group: str | None

@type_check_only
class WriterStats(TypedDict):
    pid: int | None
    name: str | None
    alive: bool
    written: int

@type_check_only
class RingStats(TypedDict):
    written: int
    dropped: int
    missed: int
    lost: int
    readers: list[ReaderStats]
    writers: list[WriterStats]

@final
class Hold:
    def __len__(self) -> int: ...
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Outgoing:
    def __new__(cls) -> Self: ...
    def name_receiver(self, pid: int) -> None: ...
    def settle(self) -> int: ...

@final
class Arena:
    def __new__(
        cls,
        budget: str | SupportsIndex | None = None,
        *,
        name: str | None = None,
        path: str | os.PathLike[str] | None = None,
        mode: int | None = None,
    ) -> Self: ...
    @property
    def mode(self) -> int | None: ...
    @property
    def path(self) -> pathlib.Path | None: ...
    def publish(self, name: str, obj: Any, replace: bool = False, timeout: float | None = 10.0) -> None: ...
    def attach(self, name: str, timeout: float | None = None) -> Any: ...
    def unpublish(self, name: str, timeout: float | None = 10.0) -> bool: ...
    def names(self) -> dict[str, str]: ...
    @property
    def id(self) -> str: ...
    @property
    def budget(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def _repr_html_(self) -> str | None: ...
    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]: ...

@final
class allocating:  # noqa: N801
    def __new__(cls, min_bytes: SupportsIndex = 4096, *, arena: Arena | None = None) -> Self: ...
    @property
    def min_bytes(self) -> int: ...
    @property
    def arrays(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def fallbacks(self) -> int: ...
    @property
    def fallback_bytes(self) -> int: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None: ...

@final
class locked:  # noqa: N801
    def __new__(
        cls,
        *arrays: NDArray[Any],
        timeout: float | None = None,
        recover: bool = False,
    ) -> Self: ...
    def __enter__(self) -> None: ...
    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None: ...

@final
class Lock:
    def __new__(cls, *, name: str | None = None, arena: Arena | None = None) -> Self: ...
    def acquire(self, blocking: object = True, timeout: float = -1, *, recover: object = False) -> bool: ...
    def release(self) -> None: ...
    def locked(self) -> bool: ...
    def _at_fork_reinit(self) -> None: ...
    def __enter__(self) -> bool: ...
    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None: ...
    def __reduce__(self) -> str | tuple[Any, ...]: ...

@final
class Inside:
    @property
    def first(self) -> bool: ...

# Where the fields of each use lie: shape, dtype, offset in bytes.
_Place = tuple[tuple[int, ...], np.dtype[Any], int]
_Plan = dict[str, dict[str, _Place]]

@disjoint_base
class Overlay:
    # First what most programs write: beside another kind of argument mypy takes ((2, 3), "f4") for a pair of objects.
    @overload
    def __new__(
        cls, *, name: str | None = None, arena: Arena | None = None, **uses: Mapping[str, FieldSpec]
    ) -> Self: ...
    @overload
    def __new__(
        cls, *, name: str | UseSpec | None = None, arena: Arena | UseSpec | None = None, **uses: UseSpec
    ) -> Self: ...
    @overload
    def use(self, name: str, timeout: float | None = None, fields: None = None) -> Use[Fields]: ...
    @overload
    def use(self, name: str, timeout: float | None = None, *, fields: type[_T]) -> Use[_T]: ...
    @overload
    def use(self, name: str, timeout: float | None, fields: type[_T]) -> Use[_T]: ...
    def _enter(self, name: str, timeout: float | None) -> Inside: ...
    def _view(self, inside: Inside, place: _Place, memory: object) -> NDArray[Any]: ...
    @property
    def _plan(self) -> _Plan: ...
    @property
    def _place(self) -> tuple[int, int, int, bool]: ...
    @property
    def _head(self) -> NDArray[np.uint8]: ...
    @property
    def _data(self) -> NDArray[np.uint8]: ...
    def __reduce__(self) -> str | tuple[Any, ...]: ...

@final
class Field:
    def leave(self) -> None: ...
    def __len__(self) -> int: ...
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Ring(Generic[_Item]):
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    @overload
    def __new__(
        cls,
        shape: _Shape | None,
        dtype: _DTypeOf[_Told],
        *,
        slots: SupportsIndex,
        when_full: Literal["wait", "drop_oldest", "drop_newest"] = "wait",
        meta: DTypeLike | None = None,
        name: str | None = None,
        arena: Arena | None = None,
        spin: float | Literal["auto"] | None = None,
        keep: SupportsIndex = 0,
        fields: None = None,
    ) -> Ring[_Told]: ...
    @overload
    def __new__(
        cls,
        shape: None = None,
        *,
        dtype: _DTypeOf[_Told],
        slots: SupportsIndex,
        when_full: Literal["wait", "drop_oldest", "drop_newest"] = "wait",
        meta: DTypeLike | None = None,
        name: str | None = None,
        arena: Arena | None = None,
        spin: float | Literal["auto"] | None = None,
        keep: SupportsIndex = 0,
        fields: None = None,
    ) -> Ring[_Told]: ...
    @overload
    def __new__(
        cls,
        shape: _Shape | None = None,
        dtype: DTypeLike | None = None,
        *,
        slots: SupportsIndex,
        when_full: Literal["wait", "drop_oldest", "drop_newest"] = "wait",
        meta: DTypeLike | None = None,
        name: str | None = None,
        arena: Arena | None = None,
        spin: float | Literal["auto"] | None = None,
        keep: SupportsIndex = 0,
        fields: None = None,
    ) -> Ring[Any]: ...
    @overload
    def __new__(
        cls,
        shape: None = None,
        dtype: None = None,
        *,
        slots: SupportsIndex,
        when_full: Literal["wait", "drop_oldest", "drop_newest"] = "wait",
        meta: DTypeLike | None = None,
        name: str | None = None,
        arena: Arena | None = None,
        spin: float | Literal["auto"] | None = None,
        keep: SupportsIndex = 0,
        fields: Mapping[str, Any] | Sequence[Any],
    ) -> Ring[np.void]: ...
    @property
    def shape(self) -> tuple[int, ...] | None: ...
    @property
    def dtype(self) -> np.dtype[_Item]: ...
    @property
    def meta(self) -> np.dtype[Any] | None: ...
    @property
    def slots(self) -> int: ...
    @property
    def keep(self) -> int: ...
    @property
    def when_full(self) -> str: ...
    @property
    def name(self) -> str | None: ...
    @property
    def closed(self) -> bool: ...
    @property
    def clock(self) -> Clock: ...
    @overload
    def write(
        self,
        shape: _Shape | None = None,
        dtype: None = None,
        timeout: float | None = None,
        *,
        note_bytes: SupportsIndex = 0,
    ) -> Writing[_Item]: ...
    @overload
    def write(
        self,
        shape: _Shape | None,
        dtype: _DTypeOf[_Told],
        timeout: float | None = None,
        *,
        note_bytes: SupportsIndex = 0,
    ) -> Writing[_Told]: ...
    @overload
    def write(
        self,
        shape: _Shape | None = None,
        *,
        dtype: _DTypeOf[_Told],
        timeout: float | None = None,
        note_bytes: SupportsIndex = 0,
    ) -> Writing[_Told]: ...
    @overload
    def write(
        self,
        shape: _Shape | None = None,
        dtype: DTypeLike | None = None,
        timeout: float | None = None,
        *,
        note_bytes: SupportsIndex = 0,
    ) -> Writing[Any]: ...
    def put(
        self,
        x: ArrayLike | Mapping[str, Any] | Sequence[Any] | DataclassInstance,
        /,
        timeout: float | None = None,
        *,
        meta: Mapping[str, Any] | np.void | NDArray[np.void] | None = None,
        note: Any = None,
        time_ns: SupportsIndex | None = None,
        **fields: Any,
    ) -> int | None: ...
    def put_many(
        self,
        frames: ArrayLike | Iterable[ArrayLike],
        /,
        timeout: float | None = None,
        *,
        meta: NDArray[np.void] | Iterable[Mapping[str, Any] | np.void | NDArray[np.void]] | None = None,
        time_ns: NDArray[np.integer[Any]] | Iterable[SupportsIndex] | None = None,
    ) -> list[int | None]: ...
    def reader(
        self, latest: bool = False, group: str | None = None, start: Literal["next", "oldest"] = "next"
    ) -> Reader[_Item]: ...
    def writer(self) -> Writer[_Item]: ...
    def close(self) -> None: ...
    def stats(self) -> RingStats: ...
    def _count_lost(self, frames: int) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None: ...
    def _repr_html_(self) -> str | None: ...
    def __reduce__(self) -> str | tuple[Any, ...]: ...

@type_check_only
class CacheInfo(TypedDict):
    hits: int
    misses: int
    loads: int
    failures: int
    waits: int
    evictions: int
    uncached: int
    given_way: int
    expired: int
    entries: int
    pinned: int
    bytes: int
    table_bytes: int
    maxsize: int

# Keys are also NumPy's numbers; what a tuple may have no type can say.
_Key = (
    str
    | bytes
    | SupportsIndex
    | float
    | slice
    | pathlib.PurePath
    | enum.Enum
    | uuid.UUID
    | tuple[Any, ...]
    | EllipsisType
    | None
)
_Load = Callable[[Any], ArrayLike]
_LoadOf = Callable[[Any], _HasArray[_Told]]
_Progress = Callable[[int, int], object] | bool | None

@final
class Cache(Generic[_Item]):
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    @overload
    def __new__(
        cls,
        maxsize: str | SupportsIndex,
        load: _LoadOf[_Told],
        *,
        name: str | None = None,
        entries: SupportsIndex | None = None,
        ttl: float | None = None,
        arena: Arena | None = None,
    ) -> Cache[_Told]: ...
    @overload
    def __new__(
        cls,
        maxsize: str | SupportsIndex,
        load: _Load | None = None,
        *,
        name: str | None = None,
        entries: SupportsIndex | None = None,
        ttl: float | None = None,
        arena: Arena | None = None,
    ) -> Cache[Any]: ...
    @property
    def maxsize(self) -> int: ...
    @property
    def ttl(self) -> float | None: ...
    @property
    def load(self) -> _Load | None: ...
    @property
    def name(self) -> str | None: ...
    @overload
    def get(self, key: _Key, default: None = None) -> NDArray[_Item] | None: ...
    @overload
    def get(self, key: _Key, default: _Default) -> NDArray[_Item] | _Default: ...
    @overload
    def fetch(self, key: _Key, load: None = None, timeout: float | None = None) -> NDArray[_Item]: ...
    @overload
    def fetch(self, key: _Key, load: _LoadOf[_Told], timeout: float | None = None) -> NDArray[_Told]: ...
    @overload
    def fetch(self, key: _Key, load: _Load | None = None, timeout: float | None = None) -> NDArray[Any]: ...
    @overload
    def fetch_many(
        self,
        keys: Iterable[_Key],
        load: None = None,
        workers: int | None = None,
        timeout: float | None = None,
        progress: _Progress = None,
    ) -> list[NDArray[_Item]]: ...
    @overload
    def fetch_many(
        self,
        keys: Iterable[_Key],
        load: _LoadOf[_Told],
        workers: int | None = None,
        timeout: float | None = None,
        progress: _Progress = None,
    ) -> list[NDArray[_Told]]: ...
    @overload
    def fetch_many(
        self,
        keys: Iterable[_Key],
        load: _Load | None = None,
        workers: int | None = None,
        timeout: float | None = None,
        progress: _Progress = None,
    ) -> list[NDArray[Any]]: ...
    def age(self, key: _Key) -> float: ...
    def resize(self, maxsize: str | SupportsIndex) -> None: ...
    def clear(self) -> None: ...
    def info(self) -> CacheInfo: ...
    def __getitem__(self, key: _Key, /) -> NDArray[_Item]: ...
    def __setitem__(self, key: _Key, value: ArrayLike, /) -> None: ...
    def __delitem__(self, key: _Key, /) -> None: ...
    def __contains__(self, key: _Key, /) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...
    def _find_many(self, keys: list[Any]) -> list[NDArray[_Item] | None]: ...
    def _fetch_unless(self, key: Any, load: _Load | None, timeout: float | None, stop: Stop) -> NDArray[_Item]: ...
    def _store(self, key: Any, array: NDArray[_Item]) -> None: ...
    def _keys(self, key_of: Callable[[int, Any], Any]) -> list[Any]: ...
    def _parts(self) -> tuple[Any, ...]: ...
    def _repr_html_(self) -> str | None: ...
    def __reduce__(self) -> str | tuple[Any, ...]: ...
    @overload
    def concatenate(
        self,
        keys: Iterable[_Key],
        axis: SupportsIndex | None = 0,
        out: None = None,
        *,
        workers: int | None = None,
        timeout: float | None = None,
        progress: _Progress = None,
    ) -> NDArray[_Item]: ...
    @overload
    def concatenate(
        self,
        keys: Iterable[_Key],
        axis: SupportsIndex | None = 0,
        *,
        out: _Out,
        workers: int | None = None,
        timeout: float | None = None,
        progress: _Progress = None,
    ) -> _Out: ...
    @overload
    def concatenate(
        self,
        keys: Iterable[_Key],
        axis: SupportsIndex | None,
        out: _Out,
        *,
        workers: int | None = None,
        timeout: float | None = None,
        progress: _Progress = None,
    ) -> _Out: ...
    @overload
    def mosaic(
        self,
        keys: Iterable[list[Any] | range | NDArray[Any]],
        out: None = None,
        *,
        axes: tuple[int, int] = (0, 1),
        workers: int | None = None,
        timeout: float | None = None,
        progress: _Progress = None,
    ) -> NDArray[_Item]: ...
    @overload
    def mosaic(
        self,
        keys: Iterable[list[Any] | range | NDArray[Any]],
        out: _Out,
        *,
        axes: tuple[int, int] = (0, 1),
        workers: int | None = None,
        timeout: float | None = None,
        progress: _Progress = None,
    ) -> _Out: ...

@final
class Canvas(Generic[_Item]):
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    @overload
    def __new__(cls, shape: _Shape, dtype: None = None, *, arena: Arena | None = None) -> Canvas[np.float64]: ...
    @overload
    def __new__(cls, shape: _Shape, dtype: _DTypeOf[_Told], *, arena: Arena | None = None) -> Canvas[_Told]: ...
    @overload
    def __new__(cls, shape: _Shape, dtype: DTypeLike | None = None, *, arena: Arena | None = None) -> Canvas[Any]: ...
    @property
    def array(self) -> NDArray[_Item]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[_Item]: ...
    @property
    def nbytes(self) -> int: ...
    @overload
    def __array__(self, dtype: None = None, copy: bool | None = None) -> NDArray[_Item]: ...
    @overload
    def __array__(self, dtype: _DTypeOf[_Told], copy: bool | None = None) -> NDArray[_Told]: ...
    @overload
    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]: ...
    def __reduce__(self) -> str | tuple[Any, ...]: ...

@final
class Montage:
    def __new__(
        cls,
        canvas: Canvas,
        cache: Cache,
        keys: list[Any],
        axis: SupportsIndex,
        down: SupportsIndex | None = None,
        rows: list[int] | None = None,
    ) -> Self: ...
    def paint(self, workers: int | None = None, timeout: float | None = None) -> list[int]: ...
    def give(self, numbers: list[int], values: list[NDArray[Any]]) -> None: ...

@final
class Stop:
    def __new__(cls) -> Self: ...
    def set(self) -> None: ...
    def is_set(self) -> bool: ...

@final
class Writing(Generic[_Item]):
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    def __enter__(self) -> Frame[_Item]: ...
    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        _error: BaseException | None = None,
        _traceback: TracebackType | None = None,
    ) -> None: ...

@final
class Writer(Generic[_Item]):
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    @property
    def ring(self) -> Ring[_Item]: ...
    @property
    def closed(self) -> bool: ...
    @overload
    def write(
        self,
        shape: _Shape | None = None,
        dtype: None = None,
        timeout: float | None = None,
        *,
        note_bytes: SupportsIndex = 0,
    ) -> Writing[_Item]: ...
    @overload
    def write(
        self,
        shape: _Shape | None,
        dtype: _DTypeOf[_Told],
        timeout: float | None = None,
        *,
        note_bytes: SupportsIndex = 0,
    ) -> Writing[_Told]: ...
    @overload
    def write(
        self,
        shape: _Shape | None = None,
        *,
        dtype: _DTypeOf[_Told],
        timeout: float | None = None,
        note_bytes: SupportsIndex = 0,
    ) -> Writing[_Told]: ...
    @overload
    def write(
        self,
        shape: _Shape | None = None,
        dtype: DTypeLike | None = None,
        timeout: float | None = None,
        *,
        note_bytes: SupportsIndex = 0,
    ) -> Writing[Any]: ...
    def put(
        self,
        x: ArrayLike | Mapping[str, Any] | Sequence[Any] | DataclassInstance,
        /,
        timeout: float | None = None,
        *,
        meta: Any = None,
        note: Any = None,
        time_ns: SupportsIndex | None = None,
        **fields: Any,
    ) -> int | None: ...
    def put_many(
        self,
        frames: ArrayLike | Iterable[ArrayLike],
        /,
        timeout: float | None = None,
        *,
        meta: NDArray[np.void] | Iterable[Mapping[str, Any] | np.void | NDArray[np.void]] | None = None,
        time_ns: NDArray[np.integer[Any]] | Iterable[SupportsIndex] | None = None,
    ) -> list[int | None]: ...
    def close(self) -> None: ...
    def _die(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None: ...
    def __reduce__(self) -> str | tuple[Any, ...]: ...

@final
class Reader(Generic[_Item]):
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    @property
    def closed(self) -> bool: ...
    @property
    def lag(self) -> int: ...
    @property
    def missed(self) -> int: ...
    def get(self, timeout: float | None = None) -> Frame[_Item]: ...
    def get_many(self, n: SupportsIndex, /, timeout: float | None = None) -> list[Frame[_Item]]: ...
    def newest(self, max_age: float | None = None, timeout: float | None = None) -> Frame[_Item]: ...
    def _soon(self) -> Frame[_Item] | None: ...
    def _facts(self) -> tuple[str, str | None, np.dtype[Any] | None]: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Frame[_Item]: ...
    def __aiter__(self) -> AsyncIterator[Frame[_Item]]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None: ...
    def __reduce__(self) -> str | tuple[Any, ...]: ...

@final
class Alarm:
    def __new__(cls) -> Self: ...
    def set(self, after: float | None) -> None: ...
    def fileno(self) -> int: ...

@type_check_only
class OfferedStats(TypedDict):
    written: int
    missed: int
    lag: int
    closed: bool

@final
class OfferedHold:
    @property
    def offered(self) -> bool: ...
    def __len__(self) -> int: ...
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class OfferedRing(Generic[_Item]):
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    @property
    def shape(self) -> tuple[int, ...] | None: ...
    @property
    def dtype(self) -> np.dtype[_Item] | None: ...
    @property
    def slots(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    def get(self, timeout: float | None = None) -> Frame[_Item]: ...
    def latest(self, timeout: float | None = None) -> Frame[_Item]: ...
    def stats(self) -> OfferedStats: ...
    def close(self) -> None: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Frame[_Item]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None: ...

@final
class FrameHold:
    def __len__(self) -> int: ...

@final
class PassedFrames:
    def __new__(cls, meta: DTypeLike | None = None) -> Self: ...
    def open(
        self,
        token: bytes,
        seq: int,
        times: tuple[int, int],
        meta: bytes,
        note: object,
        dtype: np.dtype[Any] | None = None,
    ) -> Frame[Any]: ...

@overload
def empty(
    shape: SupportsIndex | Sequence[SupportsIndex],
    dtype: None = None,
    order: str | None = "C",
    *,
    align: SupportsIndex = 64,
    arena: Arena | None = None,
) -> NDArray[np.float64]: ...
@overload
def empty(
    shape: SupportsIndex | Sequence[SupportsIndex],
    dtype: _DTypeOf[_Told],
    order: str | None = "C",
    *,
    align: SupportsIndex = 64,
    arena: Arena | None = None,
) -> NDArray[_Told]: ...
@overload
def empty(
    shape: SupportsIndex | Sequence[SupportsIndex],
    dtype: DTypeLike | None = None,
    order: str | None = "C",
    *,
    align: SupportsIndex = 64,
    arena: Arena | None = None,
) -> NDArray[Any]: ...
@overload
def zeros(
    shape: SupportsIndex | Sequence[SupportsIndex],
    dtype: None = None,
    order: str | None = "C",
    *,
    align: SupportsIndex = 64,
    arena: Arena | None = None,
) -> NDArray[np.float64]: ...
@overload
def zeros(
    shape: SupportsIndex | Sequence[SupportsIndex],
    dtype: _DTypeOf[_Told],
    order: str | None = "C",
    *,
    align: SupportsIndex = 64,
    arena: Arena | None = None,
) -> NDArray[_Told]: ...
@overload
def zeros(
    shape: SupportsIndex | Sequence[SupportsIndex],
    dtype: DTypeLike | None = None,
    order: str | None = "C",
    *,
    align: SupportsIndex = 64,
    arena: Arena | None = None,
) -> NDArray[Any]: ...
def stats(arena: Arena | None = None) -> Stats: ...
def reclaim(older_than: float = 0.0, arena: Arena | None = None) -> int: ...
def empty_in_order(
    shape: SupportsIndex | Sequence[SupportsIndex],
    dtype: DTypeLike,
    axes: Sequence[int],
    align: SupportsIndex | None = None,
    arena: Arena | None = None,
    zero: bool = False,
) -> NDArray[Any]: ...
def is_shared(array: object, arena: Arena | None = None) -> bool: ...
def is_shared_at(first: int, length: int, arena: Arena | None = None) -> bool: ...
def is_placed(array: NDArray[Any], align: SupportsIndex, arena: Arena | None = None) -> bool: ...
def reduce(array: NDArray[Any]) -> tuple[Any, ...]: ...
def lend(array: NDArray[Any], alone: bool = False) -> tuple[bytes, Hold, bool] | None: ...
def begin_message(pickler: object, receiver: Outgoing | None = None) -> None: ...
def end_message(pickler: object, failed: bool) -> None: ...
def open_reference(token: bytes) -> object: ...
def reference_token(thing: object) -> bytes | None: ...
def describe(token: bytes) -> tuple[tuple[int, ...], np.dtype[Any] | None, int, bytes]: ...
def to_text(token: bytes) -> str: ...
def from_text(text: str) -> bytes: ...
def session_find(
    parent: str, environment: str, budget: str | None, sender: str | None, warn: Callable[[str], object]
) -> None: ...
def session_locators() -> str | None: ...
def session_named(name: str) -> None: ...
def publish_name(
    name: str,
    thing: object,
    replace: bool,
    mode: int | None = None,
    group: int | None = None,
    timeout: float | None = None,
) -> None: ...
def attach_name(name: str, timeout: float | None = None, readonly: bool = False) -> Any: ...
def attach_offered(name: str, user: int, timeout: float | None = None) -> Any: ...
def unpublish_name(name: str, timeout: float | None = None) -> bool: ...
def list_names() -> dict[str, str]: ...
def left_out() -> list[str]: ...
def ring_in_session(session: str, ring: str) -> Ring[Any] | None: ...
def run_command(arguments: list[str]) -> int: ...
def findings(arena: Arena | None = None) -> list[str]: ...
def kill_at(label: str, nth: int = 1) -> None: ...
def stop_at(label: str, nth: int = 1) -> None: ...
def open_arrays_with(function: Callable[..., Any]) -> None: ...
def open_token(token: bytes, dtype: np.dtype[Any] | None = None) -> NDArray[Any]: ...
def lock_token(lock: Lock) -> bytes: ...
def open_lock(token: bytes) -> Lock: ...
def ticket(array: NDArray[Any]) -> bytes: ...
def end_with(pid: int, sentinel: int) -> None: ...
def watch_again() -> None: ...
def first_referent(table: dict[Any, weakref.ref[_T]], key: object, this: weakref.ref[_T]) -> _T: ...
def forget_reference(table: dict[Any, weakref.ref[_T]], key: object, this: weakref.ref[_T]) -> None: ...
def field_under(array: NDArray[Any]) -> Field | None: ...
def is_gone(reference: weakref.ref[Any]) -> bool: ...
def is_left_behind(field: weakref.ref[Field], is_known: bool) -> bool: ...
def let_go(arrays: dict[str, NDArray[Any]]) -> None: ...
def let_go_of_left(arrays: list[weakref.ref[NDArray[Any]]]) -> None: ...
def overlay_parts(overlay: Overlay) -> tuple[bytes, _Plan]: ...
def open_overlay(token: bytes, plan: _Plan | None = None) -> Overlay: ...
def frame_seq(frame: NDArray[Any]) -> int | None: ...
def frame_time_ns(frame: NDArray[Any]) -> int | None: ...
def set_frame_time_ns(frame: NDArray[Any], time_ns: SupportsIndex) -> None: ...
def frame_published_ns(frame: NDArray[Any]) -> int | None: ...
def frame_age(frame: NDArray[Any]) -> float | None: ...
def frame_meta(frame: NDArray[Any]) -> Any: ...
def set_frame_meta(frame: NDArray[Any], meta: Any) -> None: ...
def frame_note(frame: NDArray[Any]) -> Any: ...
def frame_tree(frame: NDArray[Any], kind: type[Any] | None = None) -> Any: ...
def set_frame_note(frame: NDArray[Any], note: Any) -> None: ...
def frame_note_parts(frame: NDArray[Any]) -> tuple[Literal["text", "json", "bytes"], bytes] | None: ...
def set_frame_note_parts(frame: NDArray[Any], kind: str, data: bytes) -> None: ...
def unwrapped(array: NDArray[Any], context: object = None, return_scalar: bool = False) -> Any: ...
def ring_parts(ring: Ring) -> tuple[Any, ...]: ...
def open_ring(token: bytes, dtype: np.dtype[Any] | None, meta: np.dtype[Any] | None) -> Ring: ...
def reader_parts(reader: Reader) -> tuple[tuple[Any, ...], bytes, int]: ...
def end_key(end: Reader | Writer) -> tuple[int, int, int]: ...
def open_reader(ring: Ring, token: bytes, slot: int) -> Reader: ...
def writer_parts(writer: Writer) -> tuple[tuple[Any, ...], bytes, int]: ...
def open_writer(ring: Ring, token: bytes, slot: int) -> Writer: ...
def leave_rings() -> None: ...
def key_bytes(key: Any) -> bytes: ...
def key_of_bytes(key_of: Callable[[int, Any], Any], data: bytes) -> Any: ...
def open_cache(token: bytes, load: _Load | None, name: str | None) -> Cache: ...
def arena_parts(arena: Arena) -> tuple[str, bytes, bytes | None]: ...
def open_arena(locator: str, token: bytes | None = None, card: bytes | None = None) -> Arena: ...
@overload
def concatenate(
    arrays: _ArrayOf[_Told],
    /,
    axis: SupportsIndex | None = 0,
    out: None = None,
    *,
    dtype: None = None,
    casting: _Casting = "same_kind",
    workers: SupportsIndex | None = None,
) -> NDArray[_Told]: ...
@overload
def concatenate(
    arrays: ArrayLike | Sequence[ArrayLike],
    /,
    axis: SupportsIndex | None = 0,
    out: None = None,
    *,
    dtype: _DTypeOf[_Told],
    casting: _Casting = "same_kind",
    workers: SupportsIndex | None = None,
) -> NDArray[_Told]: ...
@overload
def concatenate(
    arrays: ArrayLike | Sequence[ArrayLike],
    /,
    axis: SupportsIndex | None = 0,
    out: None = None,
    *,
    dtype: DTypeLike | None = None,
    casting: _Casting = "same_kind",
    workers: SupportsIndex | None = None,
) -> NDArray[Any]: ...
@overload
def concatenate(
    arrays: ArrayLike | Sequence[ArrayLike],
    /,
    axis: SupportsIndex | None,
    out: _Out,
    *,
    dtype: DTypeLike | None = None,
    casting: _Casting = "same_kind",
    workers: SupportsIndex | None = None,
) -> _Out: ...
@overload
def concatenate(
    arrays: ArrayLike | Sequence[ArrayLike],
    /,
    axis: SupportsIndex | None = 0,
    *,
    out: _Out,
    dtype: DTypeLike | None = None,
    casting: _Casting = "same_kind",
    workers: SupportsIndex | None = None,
) -> _Out: ...
@overload
def stack(
    arrays: Sequence[_ArrayOf[_Told]],
    axis: SupportsIndex = 0,
    out: None = None,
    *,
    dtype: None = None,
    casting: _Casting = "same_kind",
    workers: SupportsIndex | None = None,
) -> NDArray[_Told]: ...
@overload
def stack(
    arrays: Sequence[ArrayLike],
    axis: SupportsIndex = 0,
    out: None = None,
    *,
    dtype: _DTypeOf[_Told],
    casting: _Casting = "same_kind",
    workers: SupportsIndex | None = None,
) -> NDArray[_Told]: ...
@overload
def stack(
    arrays: Sequence[ArrayLike],
    axis: SupportsIndex = 0,
    out: None = None,
    *,
    dtype: DTypeLike | None = None,
    casting: _Casting = "same_kind",
    workers: SupportsIndex | None = None,
) -> NDArray[Any]: ...
@overload
def stack(
    arrays: Sequence[ArrayLike],
    axis: SupportsIndex,
    out: _Out,
    *,
    dtype: DTypeLike | None = None,
    casting: _Casting = "same_kind",
    workers: SupportsIndex | None = None,
) -> _Out: ...
@overload
def stack(
    arrays: Sequence[ArrayLike],
    axis: SupportsIndex = 0,
    *,
    out: _Out,
    dtype: DTypeLike | None = None,
    casting: _Casting = "same_kind",
    workers: SupportsIndex | None = None,
) -> _Out: ...
@overload
def block(
    arrays: _ArrayOf[_Told],
    *,
    axes: Sequence[SupportsIndex] | None = None,
    out: None = None,
    workers: SupportsIndex | None = None,
) -> NDArray[_Told]: ...
@overload
def block(
    arrays: ArrayLike | list[Any],
    *,
    axes: Sequence[SupportsIndex] | None = None,
    out: None = None,
    workers: SupportsIndex | None = None,
) -> NDArray[Any]: ...
@overload
def block(
    arrays: ArrayLike | list[Any],
    *,
    axes: Sequence[SupportsIndex] | None = None,
    out: _Out,
    workers: SupportsIndex | None = None,
) -> _Out: ...
def copyto(
    dst: NDArray[Any] | Canvas[Any],
    src: ArrayLike,
    casting: _Casting = "same_kind",
    where: ArrayLike = True,
    *,
    workers: SupportsIndex | None = None,
) -> None: ...
def dtype_text(dtype: object) -> str | None: ...
def dtype_of_text(text: str) -> np.dtype[Any]: ...
def cpus() -> tuple[str, ...]: ...
def force_cpu(name: str | None = None) -> None: ...
def stream_from() -> int: ...
def set_stream_from(size: int | None = None) -> None: ...

@final
class FftFilter:
    @staticmethod
    def of(plan: FftPlan[Any, Any]) -> FftFilter | None: ...
    def __call__(
        self,
        frame: NDArray[Any],
        spectrum: NDArray[Any],
        out: NDArray[Any] | None,
        workers: int | None,
        kept: NDArray[Any] | None = None,
    ) -> NDArray[Any]: ...

@disjoint_base
class FftPlan(Generic[_Given, _Made_co]):
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    def __new__(
        cls,
        transform: FftTransform,
        shape: Sequence[int],
        dtype: DTypeLike,
        result_dtype: DTypeLike,
        lengths: Sequence[int],
        norm: str,
        workers: int | None,
        /,
    ) -> Self: ...
    @overload
    def __call__(
        self, frame: NDArray[_Given], /, out: None = None, *, workers: int | None = None
    ) -> NDArray[_Made_co]: ...
    @overload
    def __call__(self, frame: NDArray[_Given], /, out: _OutArray, *, workers: int | None = None) -> _OutArray: ...
    def explain(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def result_shape(self) -> tuple[int, ...]: ...

@final
class FftTransform:
    def __new__(cls, name: str, /) -> Self: ...
    @property
    def name(self) -> str: ...
    @property
    def family(self) -> Literal["complex", "to half", "to real"]: ...
    @property
    def is_forward(self) -> bool: ...
    @property
    def is_single(self) -> bool: ...
    def extent(
        self, shape: Sequence[int], s: Sequence[int] | None, axes: Sequence[int] | None, /
    ) -> tuple[list[int], list[int], list[int]]: ...

def fft_fell_back(len_bytes: int, /) -> None: ...
def fft_fallbacks() -> tuple[int, int]: ...
def fft_transform(
    transform: FftTransform,
    x: Any,
    s: Any,
    axes: Any,
    norm: Any,
    workers: Any,
    plan: Any,
    out: Any,
    dtype: Any,
    /,
) -> NDArray[Any] | None: ...
