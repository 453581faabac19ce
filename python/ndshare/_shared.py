# pyright: reportPrivateUsage=false
"""Is it shared? Asked of anything that can show where its bytes are; nothing is copied."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from . import _native

_CPU = 1


def is_shared(x: object) -> bool:
    """Tell whether the bytes of `x` lie in an arena: arrays, memoryviews, torch tensors, anything with DLPack.

    The address decides, so views of shared arrays count, whatever library made them. False for things that have no
    array's bytes, or whose bytes are on another device.

    >>> import ndshare as nds, numpy as np
    >>> a = nds.zeros(10)
    >>> nds.is_shared(memoryview(a[2:5])), nds.is_shared(np.zeros(10)), nds.is_shared("text")
    (True, False, False)
    """
    if isinstance(x, np.ndarray):
        return _native.is_shared(cast("object", x))
    try:
        if hasattr(x, "data_ptr"):
            return _tensor_is_shared(x)
        if hasattr(x, "__array_interface__") or hasattr(x, "__array_struct__"):
            return _native.is_shared(np.asarray(x))
        if hasattr(x, "__dlpack__"):
            return _dlpack_is_shared(x)
    except (TypeError, ValueError, RuntimeError, BufferError, AttributeError, NotImplementedError):
        # An exporter that cannot show its bytes has none that we could share.
        return False
    return _native.is_shared(x)


def _tensor_is_shared(tensor: Any) -> bool:
    """Answer for torch, which shows no buffer of tensors that need a gradient, and none of bfloat16."""
    if tensor.device.type != "cpu" or tensor.numel() == 0:
        return False
    reach = sum((length - 1) * stride for length, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return _native.is_shared_at(tensor.data_ptr(), (reach + 1) * tensor.element_size())


def _dlpack_is_shared(x: Any) -> bool:
    return x.__dlpack_device__()[0] == _CPU and _native.is_shared(np.from_dlpack(x))


is_shared.__module__ = "ndshare"
