# pyright: reportPrivateUsage=false
from collections.abc import Sequence
from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ._native import Arena, _ArrayOf, _DTypeOf, _Told

Shape = SupportsIndex | Sequence[SupportsIndex]

@overload
def ones(
    shape: Shape,
    dtype: None = None,
    order: str = "C",
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[np.float64]: ...
@overload
def ones(
    shape: Shape,
    dtype: _DTypeOf[_Told],
    order: str = "C",
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[_Told]: ...
@overload
def ones(
    shape: Shape,
    dtype: DTypeLike | None = None,
    order: str = "C",
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[Any]: ...
@overload
def full(
    shape: Shape,
    fill_value: _ArrayOf[_Told],
    dtype: None = None,
    order: str = "C",
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[_Told]: ...
@overload
def full(
    shape: Shape,
    fill_value: ArrayLike,
    dtype: _DTypeOf[_Told],
    order: str = "C",
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[_Told]: ...
@overload
def full(
    shape: Shape,
    fill_value: ArrayLike,
    dtype: DTypeLike | None = None,
    order: str = "C",
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[Any]: ...
@overload
def empty_like(
    a: _ArrayOf[_Told],
    dtype: None = None,
    order: str = "K",
    subok: bool = True,
    shape: Shape | None = None,
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[_Told]: ...
@overload
def empty_like(
    a: ArrayLike,
    dtype: _DTypeOf[_Told],
    order: str = "K",
    subok: bool = True,
    shape: Shape | None = None,
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[_Told]: ...
@overload
def empty_like(
    a: ArrayLike,
    dtype: DTypeLike | None = None,
    order: str = "K",
    subok: bool = True,
    shape: Shape | None = None,
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[Any]: ...
@overload
def zeros_like(
    a: _ArrayOf[_Told],
    dtype: None = None,
    order: str = "K",
    subok: bool = True,
    shape: Shape | None = None,
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[_Told]: ...
@overload
def zeros_like(
    a: ArrayLike,
    dtype: _DTypeOf[_Told],
    order: str = "K",
    subok: bool = True,
    shape: Shape | None = None,
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[_Told]: ...
@overload
def zeros_like(
    a: ArrayLike,
    dtype: DTypeLike | None = None,
    order: str = "K",
    subok: bool = True,
    shape: Shape | None = None,
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[Any]: ...
@overload
def ones_like(
    a: _ArrayOf[_Told],
    dtype: None = None,
    order: str = "K",
    subok: bool = True,
    shape: Shape | None = None,
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[_Told]: ...
@overload
def ones_like(
    a: ArrayLike,
    dtype: _DTypeOf[_Told],
    order: str = "K",
    subok: bool = True,
    shape: Shape | None = None,
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[_Told]: ...
@overload
def ones_like(
    a: ArrayLike,
    dtype: DTypeLike | None = None,
    order: str = "K",
    subok: bool = True,
    shape: Shape | None = None,
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[Any]: ...
@overload
def full_like(
    a: _ArrayOf[_Told],
    fill_value: ArrayLike,
    dtype: None = None,
    order: str = "K",
    subok: bool = True,
    shape: Shape | None = None,
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[_Told]: ...
@overload
def full_like(
    a: ArrayLike,
    fill_value: ArrayLike,
    dtype: _DTypeOf[_Told],
    order: str = "K",
    subok: bool = True,
    shape: Shape | None = None,
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[_Told]: ...
@overload
def full_like(
    a: ArrayLike,
    fill_value: ArrayLike,
    dtype: DTypeLike | None = None,
    order: str = "K",
    subok: bool = True,
    shape: Shape | None = None,
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[Any]: ...
@overload
def array(
    object: _ArrayOf[_Told],
    dtype: None = None,
    *,
    copy: bool | None = True,
    order: str | None = "K",
    ndmin: int = 0,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[_Told]: ...
@overload
def array(
    object: ArrayLike,
    dtype: _DTypeOf[_Told],
    *,
    copy: bool | None = True,
    order: str | None = "K",
    ndmin: int = 0,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[_Told]: ...
@overload
def array(
    object: ArrayLike,
    dtype: DTypeLike | None = None,
    *,
    copy: bool | None = True,
    order: str | None = "K",
    ndmin: int = 0,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[Any]: ...
@overload
def asarray(
    a: _ArrayOf[_Told],
    dtype: None = None,
    order: str | None = None,
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[_Told]: ...
@overload
def asarray(
    a: ArrayLike,
    dtype: _DTypeOf[_Told],
    order: str | None = None,
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[_Told]: ...
@overload
def asarray(
    a: ArrayLike,
    dtype: DTypeLike | None = None,
    order: str | None = None,
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[Any]: ...
