"""The part of the module `zenoh` that `ndshare.net` uses, and payloads that are not copied."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, Self, TypeAlias, final

# Whatever has bytes: `collections.abc.Buffer` of Python 3.12.
_Buffer: TypeAlias = Any
# A ZBytes, a text, a buffer, or several of these.
_Payload: TypeAlias = _Buffer | str | Sequence[_Buffer]
_Handler: TypeAlias = handlers.Callback | Callable[[Any], object]

class ZError(Exception): ...

class handlers:  # noqa: N801 (a module)
    @final
    class Callback:
        def __new__(
            cls, callback: Callable[[Any], object], drop: Callable[[], object] | None = None, *, indirect: bool = False
        ) -> Self: ...

@final
class Priority:
    REAL_TIME: Priority
    INTERACTIVE_HIGH: Priority
    INTERACTIVE_LOW: Priority
    DATA_HIGH: Priority
    DATA: Priority
    DATA_LOW: Priority
    BACKGROUND: Priority

@final
class CongestionControl:
    DROP: CongestionControl
    BLOCK: CongestionControl

@final
class Reliability:
    BEST_EFFORT: Reliability
    RELIABLE: Reliability

@final
class QueryTarget:
    BEST_MATCHING: QueryTarget
    ALL: QueryTarget
    ALL_COMPLETE: QueryTarget

@final
class ConsolidationMode:
    AUTO: ConsolidationMode
    NONE: ConsolidationMode
    MONOTONIC: ConsolidationMode
    LATEST: ConsolidationMode

@final
class SampleKind:
    PUT: SampleKind
    DELETE: SampleKind

@final
class ZBytes:
    def __new__(cls, given: _Payload) -> Self: ...
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __bytes__(self) -> bytes: ...
    def to_bytes(self) -> bytes: ...
    def endswith(self, end: bytes) -> bool: ...
    def copy_into(self, target: _Buffer) -> None: ...

@final
class Sample:
    @property
    def key_expr(self) -> str: ...
    @property
    def payload(self) -> ZBytes: ...
    @property
    def attachment(self) -> ZBytes | None: ...
    @property
    def kind(self) -> SampleKind: ...

@final
class ReplyError:
    @property
    def payload(self) -> ZBytes: ...

@final
class Reply:
    @property
    def ok(self) -> Sample | None: ...
    @property
    def err(self) -> ReplyError | None: ...

@final
class Query:
    @property
    def key_expr(self) -> str: ...
    @property
    def parameters(self) -> str: ...
    @property
    def payload(self) -> ZBytes | None: ...
    @property
    def attachment(self) -> ZBytes | None: ...
    def reply(self, key_expr: str, payload: _Payload, *, attachment: _Payload | None = None) -> None: ...
    def reply_err(self, payload: _Payload) -> None: ...
    def drop(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_error: object) -> None: ...

@final
class Config:
    def __new__(cls) -> Self: ...
    @staticmethod
    def from_json5(json: str) -> Config: ...
    @staticmethod
    def from_file(path: str | PathLike[str]) -> Config: ...
    def insert_json5(self, key: str, value: str) -> None: ...
    def get_json(self, key: str) -> str: ...

@final
class Declared:
    def undeclare(self) -> None: ...

@final
class LivelinessToken:
    def undeclare(self) -> None: ...

@final
class MatchingStatus:
    @property
    def matching(self) -> bool: ...

@final
class Publisher:
    def put(self, payload: _Payload, *, attachment: _Payload | None = None) -> None: ...
    @property
    def matching_status(self) -> MatchingStatus: ...

@final
class SessionInfo:
    def peers_zid(self) -> list[str]: ...
    def routers_zid(self) -> list[str]: ...

@final
class Liveliness:
    def declare_token(self, key_expr: str) -> LivelinessToken: ...
    def declare_subscriber(self, key_expr: str, handler: _Handler, *, history: bool = False) -> Declared: ...
    def get(self, key_expr: str, handler: _Handler, *, timeout: float = 10.0) -> None: ...

@final
class Session:
    def put(self, key_expr: str, payload: _Payload, *, attachment: _Payload | None = None) -> None: ...
    def declare_publisher(
        self,
        key_expr: str,
        *,
        congestion_control: CongestionControl = ...,
        reliability: Reliability = ...,
    ) -> Publisher: ...
    def declare_subscriber(self, key_expr: str, handler: _Handler) -> Declared: ...
    def declare_queryable(self, key_expr: str, handler: _Handler) -> Declared: ...
    def get(
        self,
        selector: str,
        handler: _Handler,
        *,
        target: QueryTarget = ...,
        consolidation: ConsolidationMode = ...,
        timeout: float = 10.0,
        congestion_control: CongestionControl = ...,
        priority: Priority = ...,
        payload: _Payload | None = None,
        attachment: _Payload | None = None,
    ) -> None: ...
    def liveliness(self) -> Liveliness: ...
    @property
    def info(self) -> SessionInfo: ...
    def close(self) -> None: ...

def open(config: Config) -> Session: ...  # noqa: A001
