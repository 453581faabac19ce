# pyright: reportPrivateUsage=false
from collections.abc import Sequence
from typing import Any, Final, Literal, Protocol, SupportsIndex, TypeVar, overload, type_check_only

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .._native import FftPlan, _DTypeOf, _Given, _Made_co, _OutArray, _Told

Array = np.ndarray[Any, np.dtype[Any]]
Shape = Sequence[SupportsIndex]
_Complex = TypeVar("_Complex", bound=np.complexfloating)
_Real = TypeVar("_Real", bound=np.floating)

class Plan(FftPlan[_Given, _Made_co]):
    name: str
    norm: str
    workers: int | None
    dtype: np.dtype[_Given]
    result_dtype: np.dtype[_Made_co]
    def __new__(
        cls,
        name: str,
        image: tuple[int, ...],
        dtype: np.dtype[_Given],
        result_dtype: np.dtype[_Made_co],
        norm: str,
        workers: int | None,
    ) -> Plan[_Given, _Made_co]: ...
    def convolve(self, filter: ArrayLike) -> Convolution: ...  # noqa: A002
    def __reduce__(self) -> tuple[Any, ...]: ...
    def __eq__(self, other: object) -> bool: ...
    def __hash__(self) -> int: ...

class Convolution:
    plan: Plan[Any, Any]
    spectrum: NDArray[np.complexfloating]
    def __init__(self, plan: Plan[Any, Any], filter: ArrayLike) -> None: ...  # noqa: A002
    @overload
    def __call__(
        self, frame: Array, /, out: _OutArray, *, spectrum_out: Array | None = None, workers: int | None = None
    ) -> _OutArray: ...
    @overload
    def __call__(
        self, frame: Array, /, out: None = None, *, spectrum_out: Array | None = None, workers: int | None = None
    ) -> NDArray[np.floating]: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

@type_check_only
class _ToComplex(Protocol):
    @overload
    def __call__(
        self,
        shape: Shape,
        dtype: _DTypeOf[_Told],
        result_dtype: _DTypeOf[_Complex],
        *,
        norm: str | None = None,
        workers: int | None = None,
    ) -> Plan[_Told, _Complex]: ...
    @overload
    def __call__(
        self,
        shape: Shape,
        dtype: _DTypeOf[_Told],
        result_dtype: Literal["complex64", "c8"],
        *,
        norm: str | None = None,
        workers: int | None = None,
    ) -> Plan[_Told, np.complex64]: ...
    @overload
    def __call__(
        self,
        shape: Shape,
        dtype: _DTypeOf[_Told],
        result_dtype: Literal["complex128", "c16"],
        *,
        norm: str | None = None,
        workers: int | None = None,
    ) -> Plan[_Told, np.complex128]: ...
    @overload
    def __call__(
        self,
        shape: Shape,
        dtype: DTypeLike,
        result_dtype: _DTypeOf[_Complex],
        *,
        norm: str | None = None,
        workers: int | None = None,
    ) -> Plan[Any, _Complex]: ...
    @overload
    def __call__(
        self,
        shape: Shape,
        dtype: DTypeLike,
        result_dtype: Literal["complex64", "c8"],
        *,
        norm: str | None = None,
        workers: int | None = None,
    ) -> Plan[Any, np.complex64]: ...
    @overload
    def __call__(
        self,
        shape: Shape,
        dtype: DTypeLike,
        result_dtype: Literal["complex128", "c16"],
        *,
        norm: str | None = None,
        workers: int | None = None,
    ) -> Plan[Any, np.complex128]: ...
    @overload
    def __call__(
        self,
        shape: Shape,
        dtype: _DTypeOf[_Told],
        result_dtype: DTypeLike | None = None,
        *,
        norm: str | None = None,
        workers: int | None = None,
    ) -> Plan[_Told, np.complexfloating]: ...
    @overload
    def __call__(
        self,
        shape: Shape,
        dtype: DTypeLike = ...,
        result_dtype: DTypeLike | None = None,
        *,
        norm: str | None = None,
        workers: int | None = None,
    ) -> Plan[Any, np.complexfloating]: ...

@type_check_only
class _ToReal(Protocol):
    @overload
    def __call__(
        self,
        shape: Shape,
        dtype: _DTypeOf[_Told],
        result_dtype: _DTypeOf[_Real],
        *,
        norm: str | None = None,
        workers: int | None = None,
    ) -> Plan[_Told, _Real]: ...
    @overload
    def __call__(
        self,
        shape: Shape,
        dtype: _DTypeOf[_Told],
        result_dtype: Literal["float32", "f4"],
        *,
        norm: str | None = None,
        workers: int | None = None,
    ) -> Plan[_Told, np.float32]: ...
    @overload
    def __call__(
        self,
        shape: Shape,
        dtype: _DTypeOf[_Told],
        result_dtype: Literal["float64", "f8"],
        *,
        norm: str | None = None,
        workers: int | None = None,
    ) -> Plan[_Told, np.float64]: ...
    @overload
    def __call__(
        self,
        shape: Shape,
        dtype: DTypeLike,
        result_dtype: _DTypeOf[_Real],
        *,
        norm: str | None = None,
        workers: int | None = None,
    ) -> Plan[Any, _Real]: ...
    @overload
    def __call__(
        self,
        shape: Shape,
        dtype: DTypeLike,
        result_dtype: Literal["float32", "f4"],
        *,
        norm: str | None = None,
        workers: int | None = None,
    ) -> Plan[Any, np.float32]: ...
    @overload
    def __call__(
        self,
        shape: Shape,
        dtype: DTypeLike,
        result_dtype: Literal["float64", "f8"],
        *,
        norm: str | None = None,
        workers: int | None = None,
    ) -> Plan[Any, np.float64]: ...
    @overload
    def __call__(
        self,
        shape: Shape,
        dtype: _DTypeOf[_Told],
        result_dtype: DTypeLike | None = None,
        *,
        norm: str | None = None,
        workers: int | None = None,
    ) -> Plan[_Told, np.floating]: ...
    @overload
    def __call__(
        self,
        shape: Shape,
        dtype: DTypeLike = ...,
        result_dtype: DTypeLike | None = None,
        *,
        norm: str | None = None,
        workers: int | None = None,
    ) -> Plan[Any, np.floating]: ...

plan_rfft2: Final[_ToComplex]
plan_irfft2: Final[_ToReal]
plan_fft2: Final[_ToComplex]
plan_ifft2: Final[_ToComplex]
