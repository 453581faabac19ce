"""Fourier transforms of shared arrays and of any others, with SciPy's names, signatures and results.

Beside SciPy's arguments there are `out`, the array for the result, and `dtype`, the dtype of the result. Without `out`
results are new shared arrays. Integer frames are converted on the way, so ``rfft2(frame, dtype="complex64")`` of a
`uint16` frame makes no copy of it. Transforms run without the GIL and on several threads where that pays.

This module is a backend of `scipy.fft`: ``scipy.fft.set_backend(nds.fft)``, or `install()` for the whole process.

>>> import ndshare as nds, numpy as np
>>> frame = nds.ones((4, 6), "uint16")
>>> nds.fft.rfft2(frame).shape, nds.fft.rfft2(frame, dtype="complex64").dtype
((4, 4), dtype('complex64'))
"""

from ._backend import __ua_domain__, __ua_function__, info, install, uninstall
from ._functions import (
    fft,
    fft2,
    fftn,
    hfft,
    hfft2,
    hfftn,
    ifft,
    ifft2,
    ifftn,
    ihfft,
    ihfft2,
    ihfftn,
    irfft,
    irfft2,
    irfftn,
    rfft,
    rfft2,
    rfftn,
)
from ._helpers import fftfreq, fftshift, ifftshift, next_fast_len, rfftfreq
from ._plans import Convolution, Plan, plan_fft2, plan_ifft2, plan_irfft2, plan_rfft2

__all__ = [
    "Convolution",
    "Plan",
    "__ua_domain__",
    "__ua_function__",
    "fft",
    "fft2",
    "fftfreq",
    "fftn",
    "fftshift",
    "hfft",
    "hfft2",
    "hfftn",
    "ifft",
    "ifft2",
    "ifftn",
    "ifftshift",
    "ihfft",
    "ihfft2",
    "ihfftn",
    "info",
    "install",
    "irfft",
    "irfft2",
    "irfftn",
    "next_fast_len",
    "plan_fft2",
    "plan_ifft2",
    "plan_irfft2",
    "plan_rfft2",
    "rfft",
    "rfft2",
    "rfftfreq",
    "rfftn",
    "uninstall",
]


def __dir__() -> list[str]:
    """List the public names and no others."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__") and name.endswith("__"))})
