# pyright: reportPrivateUsage=false
from collections.abc import Sequence
from typing import Final, Literal, Protocol, SupportsIndex, TypeVar, overload, type_check_only

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .._native import FftPlan, _DTypeOf, _OutArray

Lengths = SupportsIndex | Sequence[SupportsIndex] | None
_Complex = TypeVar("_Complex", bound=np.complexfloating)
_Real = TypeVar("_Real", bound=np.floating)

# By the result and by what is transformed: one axis or several. Without `out` and `dtype` the precision is that of `x`,
# which is seldom known to a type checker.

@type_check_only
class _ToComplexAlong(Protocol):
    @overload
    def __call__(
        self,
        x: ArrayLike,
        n: int | None = None,
        axis: int = -1,
        norm: str | None = None,
        overwrite_x: bool = False,
        workers: int | None = None,
        *,
        plan: FftPlan | None = None,
        out: _OutArray,
        dtype: DTypeLike | None = None,
    ) -> _OutArray: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        n: int | None = None,
        axis: int = -1,
        norm: str | None = None,
        overwrite_x: bool = False,
        workers: int | None = None,
        *,
        plan: FftPlan | None = None,
        out: None = None,
        dtype: _DTypeOf[_Complex],
    ) -> NDArray[_Complex]: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        n: int | None = None,
        axis: int = -1,
        norm: str | None = None,
        overwrite_x: bool = False,
        workers: int | None = None,
        *,
        plan: FftPlan | None = None,
        out: None = None,
        dtype: Literal["complex64", "c8"],
    ) -> NDArray[np.complex64]: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        n: int | None = None,
        axis: int = -1,
        norm: str | None = None,
        overwrite_x: bool = False,
        workers: int | None = None,
        *,
        plan: FftPlan | None = None,
        out: None = None,
        dtype: Literal["complex128", "c16"],
    ) -> NDArray[np.complex128]: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        n: int | None = None,
        axis: int = -1,
        norm: str | None = None,
        overwrite_x: bool = False,
        workers: int | None = None,
        *,
        plan: FftPlan | None = None,
        out: None = None,
        dtype: DTypeLike | None = None,
    ) -> NDArray[np.complexfloating]: ...

@type_check_only
class _ToComplexOver(Protocol):
    @overload
    def __call__(
        self,
        x: ArrayLike,
        s: Lengths = None,
        axes: Lengths = ...,
        norm: str | None = None,
        overwrite_x: bool = False,
        workers: int | None = None,
        *,
        plan: FftPlan | None = None,
        out: _OutArray,
        dtype: DTypeLike | None = None,
    ) -> _OutArray: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        s: Lengths = None,
        axes: Lengths = ...,
        norm: str | None = None,
        overwrite_x: bool = False,
        workers: int | None = None,
        *,
        plan: FftPlan | None = None,
        out: None = None,
        dtype: _DTypeOf[_Complex],
    ) -> NDArray[_Complex]: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        s: Lengths = None,
        axes: Lengths = ...,
        norm: str | None = None,
        overwrite_x: bool = False,
        workers: int | None = None,
        *,
        plan: FftPlan | None = None,
        out: None = None,
        dtype: Literal["complex64", "c8"],
    ) -> NDArray[np.complex64]: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        s: Lengths = None,
        axes: Lengths = ...,
        norm: str | None = None,
        overwrite_x: bool = False,
        workers: int | None = None,
        *,
        plan: FftPlan | None = None,
        out: None = None,
        dtype: Literal["complex128", "c16"],
    ) -> NDArray[np.complex128]: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        s: Lengths = None,
        axes: Lengths = ...,
        norm: str | None = None,
        overwrite_x: bool = False,
        workers: int | None = None,
        *,
        plan: FftPlan | None = None,
        out: None = None,
        dtype: DTypeLike | None = None,
    ) -> NDArray[np.complexfloating]: ...

@type_check_only
class _ToRealAlong(Protocol):
    @overload
    def __call__(
        self,
        x: ArrayLike,
        n: int | None = None,
        axis: int = -1,
        norm: str | None = None,
        overwrite_x: bool = False,
        workers: int | None = None,
        *,
        plan: FftPlan | None = None,
        out: _OutArray,
        dtype: DTypeLike | None = None,
    ) -> _OutArray: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        n: int | None = None,
        axis: int = -1,
        norm: str | None = None,
        overwrite_x: bool = False,
        workers: int | None = None,
        *,
        plan: FftPlan | None = None,
        out: None = None,
        dtype: _DTypeOf[_Real],
    ) -> NDArray[_Real]: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        n: int | None = None,
        axis: int = -1,
        norm: str | None = None,
        overwrite_x: bool = False,
        workers: int | None = None,
        *,
        plan: FftPlan | None = None,
        out: None = None,
        dtype: Literal["float32", "f4"],
    ) -> NDArray[np.float32]: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        n: int | None = None,
        axis: int = -1,
        norm: str | None = None,
        overwrite_x: bool = False,
        workers: int | None = None,
        *,
        plan: FftPlan | None = None,
        out: None = None,
        dtype: Literal["float64", "f8"],
    ) -> NDArray[np.float64]: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        n: int | None = None,
        axis: int = -1,
        norm: str | None = None,
        overwrite_x: bool = False,
        workers: int | None = None,
        *,
        plan: FftPlan | None = None,
        out: None = None,
        dtype: DTypeLike | None = None,
    ) -> NDArray[np.floating]: ...

@type_check_only
class _ToRealOver(Protocol):
    @overload
    def __call__(
        self,
        x: ArrayLike,
        s: Lengths = None,
        axes: Lengths = ...,
        norm: str | None = None,
        overwrite_x: bool = False,
        workers: int | None = None,
        *,
        plan: FftPlan | None = None,
        out: _OutArray,
        dtype: DTypeLike | None = None,
    ) -> _OutArray: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        s: Lengths = None,
        axes: Lengths = ...,
        norm: str | None = None,
        overwrite_x: bool = False,
        workers: int | None = None,
        *,
        plan: FftPlan | None = None,
        out: None = None,
        dtype: _DTypeOf[_Real],
    ) -> NDArray[_Real]: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        s: Lengths = None,
        axes: Lengths = ...,
        norm: str | None = None,
        overwrite_x: bool = False,
        workers: int | None = None,
        *,
        plan: FftPlan | None = None,
        out: None = None,
        dtype: Literal["float32", "f4"],
    ) -> NDArray[np.float32]: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        s: Lengths = None,
        axes: Lengths = ...,
        norm: str | None = None,
        overwrite_x: bool = False,
        workers: int | None = None,
        *,
        plan: FftPlan | None = None,
        out: None = None,
        dtype: Literal["float64", "f8"],
    ) -> NDArray[np.float64]: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        s: Lengths = None,
        axes: Lengths = ...,
        norm: str | None = None,
        overwrite_x: bool = False,
        workers: int | None = None,
        *,
        plan: FftPlan | None = None,
        out: None = None,
        dtype: DTypeLike | None = None,
    ) -> NDArray[np.floating]: ...

fft: Final[_ToComplexAlong]
ifft: Final[_ToComplexAlong]
rfft: Final[_ToComplexAlong]
irfft: Final[_ToRealAlong]
hfft: Final[_ToRealAlong]
ihfft: Final[_ToComplexAlong]
fft2: Final[_ToComplexOver]
ifft2: Final[_ToComplexOver]
rfft2: Final[_ToComplexOver]
irfft2: Final[_ToRealOver]
hfft2: Final[_ToRealOver]
ihfft2: Final[_ToComplexOver]
fftn: Final[_ToComplexOver]
ifftn: Final[_ToComplexOver]
rfftn: Final[_ToComplexOver]
irfftn: Final[_ToRealOver]
hfftn: Final[_ToRealOver]
ihfftn: Final[_ToComplexOver]
