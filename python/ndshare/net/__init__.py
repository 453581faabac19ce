"""Rings and caches of one machine, reachable from another over Zenoh: ``pip install "ndshare[net]"``.

One side offers, the other connects:

>>> import ndshare as nds
>>> from ndshare import net
>>> ring = nds.Ring((1080, 1920), "uint16", slots=8, when_full="drop_oldest")
>>> with net.serve("tcp/127.0.0.1:7447", rings={"cam0": ring}):
...     with net.connect("tcp/127.0.0.1:7447") as far:
...         near = far.ring("cam0", slots=8)
>>> near.shape, near.closed
((1080, 1920), True)

Every frame is delivered once, in order and whole, or counted as lost where it should have come. `import ndshare` does
not import this module, nor Zenoh.
"""

from .._origin import Origin
from ._connect import Far, connect
from ._errors import FarLoadError, Incompatible, NameTaken, Unreachable
from ._pump import bridge_of
from ._serve import Server, serve

__all__ = [
    "Far",
    "FarLoadError",
    "Incompatible",
    "NameTaken",
    "Origin",
    "Server",
    "Unreachable",
    "bridge_of",
    "connect",
    "serve",
]
