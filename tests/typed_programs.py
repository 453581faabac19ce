# pyright: reportUnnecessaryTypeIgnoreComment=true
"""What a type checker knows of arrays, rings, caches, plans and overlays. `test_types.py` checks it, and runs it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, TypedDict, assert_type

import numpy as np
from numpy.typing import NDArray

import ndshare as nds

U16 = NDArray[np.uint16]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
C64 = NDArray[np.complex64]
frame = nds.zeros((4, 6), np.uint16)


def makers() -> None:
    assert_type(nds.zeros(3), F64)
    assert_type(nds.zeros(3, np.uint16), U16)
    assert_type(nds.empty((3, 4), frame.dtype), U16)
    assert_type(nds.ones((3, 4), np.float32, align=4096), F32)
    assert_type(nds.ones(3), F64)
    assert_type(nds.zeros(3, "uint16"), NDArray[Any])
    assert_type(nds.full(3, np.uint16(7)), U16)
    assert_type(nds.full(3, 7, np.uint16), U16)
    assert_type(nds.full(3, 7), NDArray[Any])


def likes() -> None:
    assert_type(nds.empty_like(frame), U16)
    assert_type(nds.zeros_like(frame, shape=3), U16)
    assert_type(nds.ones_like([1, 2], np.float32), F32)
    assert_type(nds.full_like(frame, 3, order="F"), U16)
    assert_type(nds.array(frame), U16)
    assert_type(nds.array([frame, frame]), U16)
    assert_type(nds.array([1, 2], np.uint16), U16)
    assert_type(nds.asarray(frame), U16)
    assert_type(nds.asarray(frame, np.float32, arena=None), F32)
    assert_type(nds.asarray([1, 2]), NDArray[Any])


def joins() -> None:
    canvas = nds.Canvas((8, 6), np.uint16)
    assert_type(canvas.array, U16)
    assert_type(nds.concatenate([frame, frame]), U16)
    assert_type(nds.concatenate([frame, [[1] * 6]], dtype=np.float32), F32)
    assert_type(nds.concatenate([frame, frame], out=canvas), nds.Canvas[np.uint16])
    assert_type(nds.concatenate([frame, frame], 0, nds.zeros((8, 6), np.float32)), F32)
    assert_type(nds.stack([frame, frame], axis=2), U16)
    assert_type(nds.stack([frame, frame], dtype=np.float32), F32)
    assert_type(nds.block([[frame, frame], [frame, frame]]), U16)
    assert_type(nds.block([[frame, frame]], axes=(0, 1)), U16)
    nds.copyto(canvas, nds.zeros((8, 6), np.uint16))


def rings() -> None:
    ring = nds.Ring((4, 6), np.uint16, slots=4, meta=[("gain", "f4")])
    assert_type(ring, nds.Ring[np.uint16])
    assert_type(ring.dtype, np.dtype[np.uint16])
    with ring.reader() as frames, ring.writer() as writer:
        assert_type(frames, nds.Reader[np.uint16])
        assert_type(writer, nds.Writer[np.uint16])
        with writer.write() as made:
            assert_type(made, nds.Frame[np.uint16])
            made[...] = 7
        writer.put(frame)
        got = frames.get(timeout=1)
        assert_type(got, nds.Frame[np.uint16])
        assert_type(got.seq, int | Any)
        with ring.writer() as other:
            other.put(frame, time_ns=got.time_ns)
        assert_type(frames.newest(max_age=0.1, timeout=1), nds.Frame[np.uint16])
        print(ring.clock.datetime(got.time_ns), got.age + 1.0)
        print(got.seq + 1, got.time_ns / 1e9, "" if got.origin is None else got.origin.seq)
        assert_type(got.copy(), U16)
        # A frame is an array of what it is.
        image: U16 = got
        print(image.max())
        for each in frames:
            assert_type(each, nds.Frame[np.uint16])
            break
    with nds.Ring((4, 6), np.float64, slots=2).write((2, 2), np.float32) as other:
        assert_type(other, nds.Frame[np.float32])
    assert_type(nds.Ring((4, 6), slots=2).reader(), nds.Reader[Any])
    assert_type(nds.Ring((4, 6), "uint16", slots=2), nds.Ring[Any])


async def reading(frames: nds.Reader[np.uint16]) -> None:
    async for each in frames:
        assert_type(each, nds.Frame[np.uint16])


def asynchronous() -> None:
    with nds.Ring((4, 6), np.uint16, slots=4) as ring:
        reader = ring.reader()
    asyncio.run(reading(reader))


def bare(ring: nds.Ring, cache: nds.Cache, plan: nds.fft.Plan) -> nds.Reader:
    """Without the type of items an annotation is as good as before."""
    assert_type(ring, nds.Ring[Any])
    assert_type(cache[3], NDArray[Any])
    assert_type(plan.result_dtype, np.dtype[Any])
    return ring.reader()


def bare_annotations() -> None:
    bare(nds.Ring(3, np.uint8, slots=2), nds.Cache("1 MiB", load_tile), nds.fft.plan_fft2((4, 6))).close()


def load_tile(key: Any) -> U16:
    return np.full((2, 3), key, np.uint16)


def caches() -> None:
    cache = nds.Cache("1 MiB", load_tile)
    assert_type(cache, nds.Cache[np.uint16])
    assert_type(cache[1], U16)
    assert_type(cache.get(2), U16 | None)
    assert_type(cache.get(2, 0), U16 | int)
    assert_type(cache.fetch(3), U16)
    assert_type(cache.fetch_many([1, 2], progress=True), list[U16])
    assert_type(cache.concatenate([1, 2], axis=1), U16)
    canvas = nds.Canvas((2, 6), np.uint16)
    assert_type(cache.concatenate([1, 2], axis=1, out=canvas), nds.Canvas[np.uint16])
    assert_type(cache.mosaic([[1, 2], [3, 4]]), U16)
    assert_type(cache.mosaic([[1, 2]], out=canvas), nds.Canvas[np.uint16])
    untold = nds.Cache("1 MiB")
    assert_type(untold.fetch(1, load_tile), U16)
    assert_type(untold[1], NDArray[Any])


def transforms() -> None:
    spectrum = nds.fft.rfft2(frame, dtype=np.complex64)
    assert_type(spectrum, C64)
    assert_type(spectrum.real, F32)
    assert_type(nds.fft.rfft2(frame, dtype="complex64"), C64)
    assert_type(nds.fft.rfft2(frame, out=spectrum), C64)
    assert_type(nds.fft.irfft2(spectrum, dtype=np.float32), F32)
    assert_type(nds.fft.fft([1, 0, 0, 0]).real, NDArray[np.floating])
    assert_type(nds.fft.irfft(spectrum, n=6, axis=-1), NDArray[np.floating])
    assert_type(nds.fft.fftshift(spectrum), C64)
    assert_type(nds.fft.rfftfreq(6), F64)


def plans() -> None:
    plan = nds.fft.plan_rfft2((4, 6), np.uint16, np.complex64)
    assert_type(plan, nds.fft.Plan[np.uint16, np.complex64])
    spectrum = plan(frame)
    assert_type(spectrum, C64)
    assert_type(spectrum.real, F32)
    assert_type(plan(frame, out=nds.empty(plan.result_shape, plan.result_dtype)), C64)
    by_text = nds.fft.plan_rfft2((4, 6), "uint16", "complex64")(frame)
    assert_type(by_text.real, F32)
    by_default = nds.fft.plan_fft2((4, 6))(np.zeros((4, 6), complex))
    assert_type(by_default.imag, NDArray[np.floating])
    back = nds.fft.plan_irfft2((4, 6), np.complex64, np.float32)
    assert_type(back(spectrum), F32)
    blur = plan.convolve([[1, 1]])
    assert_type(blur(frame), NDArray[np.floating])
    assert_type(blur(frame, out=nds.empty((4, 6), np.float32)), F32)
    assert_type(blur.spectrum.real, NDArray[np.floating])


@dataclass
class Floats:
    A: F32
    B: F64
    first: bool


class Ints(TypedDict):
    D: NDArray[np.int32]


def overlays() -> None:
    scratch = nds.Overlay(floats={"A": ((2, 3), "f4"), "B": (3, "f8")}, ints={"D": (4, "i4")})
    with scratch.use("floats", timeout=1, fields=Floats) as v:
        assert_type(v.A, F32)
        assert_type(v.B, F64)
        print(v.first, v.A.sum())
    with scratch.use("ints", fields=Ints) as w:
        assert_type(w["D"], NDArray[np.int32])
    with scratch.use("ints") as untold:
        assert_type(untold.D, NDArray[Any])


@dataclass
class Both:
    rgb: NDArray[np.uint8]
    depth: U16


def fields() -> None:
    ring = nds.Ring(fields={"rgb": ((4, 6, 3), "u1"), "depth": ((4, 6), "u2")}, slots=4)
    assert_type(ring, nds.Ring[np.void])
    frames = ring.reader()
    with ring.write(note_bytes=100) as frame:
        frame["rgb"][...] = 7
        frame.depth[...] = 8
        frame.note = {"stage": 1}
    ring.put({"rgb": np.zeros((4, 6, 3), "u1"), "depth": np.zeros((4, 6), "u2")}, note="text")
    ring.put(Both(np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint16)))
    got = frames.get()
    assert_type(got.depth, NDArray[Any])
    both = got.tree(Both)
    assert_type(both, Both)
    assert_type(both.depth, U16)


def references() -> None:
    assert_type(nds.ref(frame).open(), U16)
    with nds.Ring(3, np.uint8, slots=2) as ring:
        assert_type(nds.ref(ring).open(), nds.Ring[np.uint8])


def what_is_refused() -> None:
    """Each line here is an error; one that is none any more is told of as an ignore that nothing needs."""
    nds.zeros(3, align="64")  # pyright: ignore[reportCallIssue, reportArgumentType]
    nds.Ring(3, np.uint8)  # pyright: ignore[reportCallIssue]
    nds.Ring(3, np.uint8, slots=2, when_full="never")  # pyright: ignore[reportCallIssue, reportArgumentType]
    plan = nds.fft.plan_rfft2((4, 6), np.uint16, np.complex64)
    plan(np.zeros((4, 6), np.float32))  # pyright: ignore[reportArgumentType]
    print(nds.Ring(3, np.uint8, slots=2).reader().get(0).rgb)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    wrong: F64 = plan(frame)  # pyright: ignore[reportAssignmentType]
    overlay = nds.Overlay(a={"A": (3, "f4")})
    with overlay.use("a", fields=Ints) as v:
        print(v["A"])  # pyright: ignore[reportGeneralTypeIssues, reportUnknownArgumentType]
    print(wrong)


PROGRAMS = (
    makers,
    likes,
    joins,
    rings,
    asynchronous,
    bare_annotations,
    caches,
    transforms,
    plans,
    overlays,
    fields,
    references,
)
