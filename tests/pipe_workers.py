"""What the workers of the tests of pipes do with a frame."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

import ndshare as nds
from ndshare import _native

Frame = Any
LIFE = 120  # seconds after which a worker ends, if nobody ends it before

_state: dict[str, Any] = {}


def fill(writer: nds.Writer, numbers: range | list[int], **fields: Callable[[int], Any]) -> None:
    """Be a camera: write frames full of these numbers, and end the stream."""
    with writer:
        for number in numbers:
            with writer.write(timeout=LIFE) as frame:
                frame[...] = number
                for name, value in fields.items():
                    frame.meta[name] = value(number)


def work(frame: Frame) -> Any:
    """Return what a loop in one process can be asked for, too: of the frame, its number and its meta."""
    return frame * 2.0 + frame.seq, {"total": int(frame.sum()), "said": f"{frame.meta.gain:.0f}"}


def own_pid(frame: Frame) -> Any:
    return [os.getpid(), int(frame[0])]


def stumble(frame: Frame) -> Any:
    """Die now and then, before, amid and after the work, in each worker at other frames."""
    dice = random.Random(os.getpid() * 1000 + frame.seq)
    if dice.random() < 0.1:
        os.kill(os.getpid(), signal.SIGKILL)
    result = frame.astype(np.int64) * 3
    time.sleep(0.001 * dice.random())
    return result


def die_at_three(frame: Frame) -> Any:
    if frame.seq == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return frame


def leave_at_three(frame: Frame) -> Any:
    """Leave at once, with a child that lives on and has copies of all that was open."""
    if frame.seq == 3:
        if not os.fork():
            end_time = time.monotonic() + LIFE
            while not os.path.exists(_state["path"]) and time.monotonic() < end_time:
                time.sleep(0.01)
            os._exit(0)
        os._exit(7)
    return frame


def fail_at_three(frame: Frame) -> Any:
    if frame.seq == 3:
        raise KeyError("three")
    return frame


class OddError(Exception):
    """An exception that cannot be made again of its pickle."""

    def __init__(self, one: object, two: object) -> None:
        super().__init__(f"{one} and {two}")


def fail_oddly(frame: Frame) -> Any:
    raise OddError(frame.seq, "x" * 1_000_000)


class Gate:
    """Tell that a frame is there, and go on when told to. What tells has the frame's number."""

    def __init__(self, here: Connection, held: tuple[int, ...]) -> None:
        self._here, self._held = here, held

    def __call__(self, frame: Frame) -> Any:
        if frame.seq in self._held:
            self._here.send((os.getpid(), frame.seq))
            self._here.recv()
        return frame


def never(frame: Frame) -> Any:
    time.sleep(LIFE)
    return frame


def sleepy(frame: Frame) -> Any:
    """Sleep for ever over frame 2 the first time: as a file that others see tells."""
    path = str(_state["path"])
    if frame.seq == 2 and not os.path.exists(path):
        with open(path, "w"):
            pass
        os.kill(os.getpid(), signal.SIGSTOP)
    return frame


def remember(name: str, value: Any) -> None:
    _state[name] = value


def remembered(frame: Frame) -> Any:
    return frame + _state["add"]


def end_now() -> None:
    sys.exit(9)


# Kinds of results


def itself(frame: Frame) -> Any:
    return frame


def part(frame: Frame) -> Any:
    return frame[1:]


def total(frame: Frame) -> Any:
    return frame.sum()


def listed(frame: Frame) -> Any:
    return frame.tolist()


def ordinary(frame: Frame) -> Any:
    """Return memory that is not NumPy's."""
    return np.frombuffer(frame.tobytes() * 100, frame.dtype)


def kept(frame: Frame) -> Any:
    """Fill the same array again and again, born shared as it is."""
    buffer = _state.setdefault("buffer", np.empty((10, *frame.shape), frame.dtype))
    buffer[...] = frame
    return buffer


def kept_view(frame: Frame) -> Any:
    return kept(frame)[1:3]


def block_of(array: Any) -> int:
    """Return the number of the block that an array is in."""
    lent = _native.lend(array)
    assert lent is not None
    return _native.describe(lent[0])[2]


def blocks(frame: Frame, out: Any = None) -> Any:
    """Say which blocks frame and result are in."""
    result = np.add(frame, 1, out=out)
    return result, {"source": block_of(frame), "result": block_of(result)}


def blocks_with_out(frame: Frame, out: Any) -> Any:
    return blocks(frame, out)[1]


@dataclasses.dataclass
class Pair:
    low: Any
    high: Any


def paired(frame: Frame) -> Any:
    """Return several arrays in each of the ways that `put` takes, with meta and without."""
    low, high = frame[:2] * 1.0, [int(frame[0])] * 3
    trees: list[Any] = [{"low": low, "high": high}, Pair(low, high), ({"low": low, "high": high}, {"total": 7})]
    return trees[frame.seq % 3]


def two(frame: Frame) -> Any:
    return frame, frame * 2


def two_and_meta(frame: Frame) -> Any:
    """Return a tree, whose second item would be taken for meta if it stood alone."""
    return (frame, {"twice": frame * 2}), {"total": 7}


def of_short(frame: Frame) -> Any:
    return {"low": frame[:1], "high": [0, 0, 0]}


def array_and_none(frame: Frame) -> Any:
    return frame, None


def noted(frame: Frame) -> Any:
    """Keep the frame's note, and give another one, and none."""
    return [frame, frame * 2, (frame, {"note": {"of": frame.note}, "total": 7}), (frame, {"note": None})][frame.seq]


def even_only(frame: Frame) -> Any:
    return frame if frame[0] % 2 == 0 else None


def double_into(frame: Frame, out: Any) -> None:
    np.multiply(frame, 2, out=out)


def describe_into(frame: Frame, out: Any) -> Any:
    out[...] = frame
    return {"total": int(frame.sum())}


def doubled_beside_out(frame: Frame, out: Any = None) -> Any:
    """Forget the argument, which NumPy's functions have, too."""
    return frame * 2.0


def total_beside_out(frame: Frame, out: Any = None) -> Any:
    return frame.sum(dtype=np.float64)


def out_itself(frame: Frame, out: Any) -> Any:
    """Return nothing, the result, it and meta, or a view of it."""
    out[...] = frame
    return [None, out, (out, {"total": int(frame.sum())}), out[:3]][frame.seq]


def objects(frame: Frame) -> Any:
    return np.array([frame.seq, None], object)


def much_beside(frame: Frame) -> Any:
    return frame, {"total": "x" * 1_000_000}


def generated(frame: Frame) -> Any:
    yield frame


def code_beside(frame: Frame) -> Any:
    return frame, {"total": lambda: 0}


def forked(frame: Frame) -> Any:
    """Fork, and have the child go on as if it were the worker."""
    return frame + 100 if os.fork() == 0 else frame + 1


def never_but_first(frame: Frame) -> Any:
    return frame if frame.seq == 0 else never(frame)
