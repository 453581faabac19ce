"""Transforms: SciPy is the reference for results and errors, a sum of products for every length, FFTW for accuracy."""

from __future__ import annotations

import itertools
import multiprocessing as mp
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.fft

import ndshare as nds
import workers
from helpers import HANG, environment, run, wait_until
from ndshare.fft import _backend

Array = np.ndarray[Any, Any]
NAMES = _backend.NAMES
DTYPES = "?bBhHiIlLqQefdgFDG"
REAL_RESULT = ("irfft", "hfft", "irfft2", "hfft2", "irfftn", "hfftn")
REAL_INPUT = ("rfft", "ihfft", "rfft2", "ihfft2", "rfftn", "ihfftn")


def ours(name: str) -> Callable[..., Array]:
    return getattr(nds.fft, name)


def theirs(name: str) -> Callable[..., Array]:
    return getattr(scipy.fft, name)


def sample(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
    x = 50 * rng.standard_normal(shape)
    with np.errstate(invalid="ignore"):
        return (x + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def epsilon(dtype: Any) -> float:
    return float(np.finfo(dtype).eps)


def distance(a: Array, b: Array) -> float:
    """Return how far two arrays are from each other, for the size of the second."""
    difference = np.linalg.norm(np.asarray(a, np.clongdouble).ravel() - np.asarray(b, np.clongdouble).ravel())
    return float(difference / (np.linalg.norm(b.astype(np.clongdouble).ravel()) or 1))


def same(result: Array, expected: Array) -> None:
    """Look that two results are alike in all but rounding."""
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    assert distance(result, expected) <= 16 * epsilon(expected.dtype)


def outcome(function: Callable[..., Array], *args: Any, **kwargs: Any) -> tuple[type, str] | Array:
    """Return a result, or the class and words of an exception."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return type(error), str(error)


def compare(name: str, *args: Any, **kwargs: Any) -> None:
    """Look that ours and SciPy's do the same, be it an error."""
    expected, result = outcome(theirs(name), *args, **kwargs), outcome(ours(name), *args, **kwargs)
    if isinstance(expected, tuple) or isinstance(result, tuple):
        assert result == expected
    else:
        same(result, expected)


# ---- results are SciPy's --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_function_of_every_dtype(name: str, dtype: str) -> None:
    x = sample(np.random.default_rng(1), (6, 7, 8), dtype)
    for norm in (None, "backward", "ortho", "forward"):
        compare(name, x, norm=norm)


@pytest.mark.parametrize("name", NAMES)
def test_lengths_and_axes(name: str) -> None:
    x = sample(np.random.default_rng(2), (6, 7, 8), "f4")
    lengths: list[Any] = [None, 1, 5, 20, np.int64(3)]
    axes: list[Any] = [0, 1, -1, -2, np.int64(2)]
    if name[-1] in "2n":
        lengths = [None, (5, 9), [9, -1], (3,), 4, (2, 2, 2), (1, 1)]
        axes = [None, (0, 1), [1, 0], (-1, 0), (1,), 2, (2, 0, 1), (0, -1)]
    for length, axis in itertools.product(lengths, axes):
        compare(name, x, length, axis)


@pytest.mark.parametrize("name", NAMES)
def test_bad_arguments_raise_scipys_errors_and_change_nothing(name: str) -> None:
    x = sample(np.random.default_rng(3), (4, 6), "f8")
    before = x.copy()
    out = np.full((4, 6), 7, np.float64 if name in REAL_RESULT else np.complex128)
    is_single = name[-1] not in "2n"
    bad: list[tuple[Any, ...]] = [
        (x, None, -1, "wrong"),
        (x, None, -1, None, False, 0),
        (x, None, -1, None, False, -999),
    ]
    bad += (
        [(x, length) for length in (-3, -9)]
        if is_single
        else [(x, s) for s in (0, (0, 4), (2, 2, 2), "ab", 2.5, (-5, 4))]
    )
    bad += [(x, None, axis) for axis in (2, -3)]
    bad += [] if is_single else [(x, None, axes) for axes in ((0, 0), (0, 5), (0, 1, 2), 1.5, ("a", 1))]
    bad += [([],), (np.zeros((3, 0)),), (np.float64(1),), (x.astype(complex),) if name in REAL_INPUT else ([],)]
    for args in bad:
        expected = outcome(theirs(name), *args)
        result = outcome(ours(name), *args)
        if isinstance(expected, tuple):
            assert isinstance(result, tuple)
            assert result[0] is expected[0], args
            given = outcome(ours(name), *args, out=out)
            assert isinstance(given, tuple)
        else:
            same(np.asarray(result), np.asarray(expected))
    assert (x == before).all()
    assert (out == 7).all()


def arguments_with_more_than_one_fault(is_single: bool) -> list[dict[str, Any]]:
    """Return arguments for which the order of checks decides what is raised, and the edges of what is allowed."""
    common: list[dict[str, Any]] = [{"norm": "x", "workers": 0}, {"workers": 0}, {"norm": "x"}, {"norm": []}]
    if is_single:
        lengths = [{"n": n, **more} for n in (0, -1, -2, 1, 4) for more in ({}, {"axis": 5}, {"workers": 0})]
        return [*common, *lengths, {"axis": 5}, {"axis": 5, "norm": "x"}]
    shapes: list[Any] = [(0, 4), (4, 0), (4, -1), (-1, -1), (4, -2), (2,), (), 5, (1, 2, 3), "ab"]
    places: list[Any] = [(), (0, 0), (0, 7), (7,), 1, (1,), 1.5]
    common += [{"s": s, **more} for s in shapes for more in ({}, {"workers": 0}, {"norm": "x"})]
    common += [{"axes": axes, **more} for axes in places for more in ({}, {"workers": 0}, {"norm": "x"})]
    return [*common, *({"s": s, "axes": axes} for s in shapes for axes in places)]


@pytest.mark.parametrize("name", NAMES)
def test_of_two_faults_scipys_first_is_named(name: str) -> None:
    """Workers were looked at after the type, an axis before the length, and n = 0 was refused where SciPy takes it."""
    whole = sample(np.random.default_rng(5), (4, 6), "f8")
    inputs = [whole, whole + 1j, np.zeros((3, 0)), np.ones((3, 1)), np.float64(2), whole[0], whole[0] + 1j, np.zeros(0)]
    for x, given in itertools.product(inputs, arguments_with_more_than_one_fault(name[-1] not in "2n")):
        expected, result = outcome(theirs(name), x, **given), outcome(ours(name), x, **given)
        if isinstance(expected, tuple) or isinstance(result, tuple):
            assert isinstance(expected, tuple), (x.shape, given, result)
            assert isinstance(result, tuple), (x.shape, given)
            # The words of a TypeError are Python's own, of whatever saw it first.
            assert result == expected or result[0] is expected[0] is TypeError, (x.shape, given)
        else:
            same(np.asarray(result), np.asarray(expected))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g", "c8", "c16", "i2", "u4", "i8"])
def test_the_byte_order_of_numbers_does_not_matter(name: str, dtype: str) -> None:
    """Big-endian float16 was passed on as it was, and refused."""
    if np.dtype(dtype).kind == "c" and name in REAL_INPUT:
        pytest.skip("real numbers only")
    x = sample(np.random.default_rng(6), (4, 6), dtype)
    other = x.astype(x.dtype.newbyteorder())
    expected = ours(name)(x)
    result = ours(name)(other)
    assert result.dtype == expected.dtype
    assert (result == expected).all()
    out = np.zeros(expected.shape, expected.dtype.newbyteorder())
    assert ours(name)(other, out=out) is out
    assert (out == expected).all()
    if dtype == "f2":
        same(result, theirs(name)(x))


@pytest.mark.parametrize("name", ["fft", "rfft", "irfft2", "hfftn"])
def test_a_bad_out_raises_and_is_not_touched(name: str) -> None:
    x = sample(np.random.default_rng(4), (4, 6), "f8")
    good = ours(name)(x)
    for out, error in [
        (np.zeros(good.shape[:-1], good.dtype), ValueError),
        (np.zeros((*good.shape, 1), good.dtype), ValueError),
        (np.zeros(good.shape, np.int64), TypeError),
        (good.tolist(), TypeError),
        ("", TypeError),
    ]:
        before = np.array(out)
        with pytest.raises(error, match=r"wrong shape|Cannot cast|must be of ArrayType"):
            ours(name)(x, out=out)
        assert (np.array(out) == before).all()
    frozen = np.zeros_like(good)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        ours(name)(x, out=frozen)
    assert not frozen.any()


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_other_things_than_arrays() -> None:
    x = [[1, 2, 3], [4, 5, 6.5]]
    for name in NAMES:
        compare(name, x)
        compare(name, np.array(x, ">f4"))
        compare(name, np.array(x, object))
        compare(name, np.matrix(x))
        compare(name, np.ma.masked_array(np.array(x)))


# ---- layouts --------------------------------------------------------------------------------------------------------


def layouts(x: Array) -> dict[str, Array]:
    """Return arrays that are equal to `x` and lie otherwise in memory."""
    raw = np.zeros(x.nbytes + 1, np.uint8)
    misaligned = raw[1:].view(x.dtype).reshape(x.shape)
    misaligned[...] = x
    apart = np.zeros(tuple(3 * n for n in x.shape), x.dtype)[tuple(slice(None, None, 3) for _ in x.shape)]
    apart[...] = x
    turned = np.ascontiguousarray(x[..., ::-1])[..., ::-1]
    frozen = x.copy()
    frozen.flags.writeable = False
    shared = nds.array(x)
    other = {"misaligned": misaligned, "apart": apart, "turned": turned, "read-only": frozen, "shared": shared}
    return {**other, "fortran": np.asfortranarray(x), "upside-down": np.ascontiguousarray(x[::-1])[::-1]}


@pytest.mark.parametrize("dtype", ["u2", "f4", "c8", "f8", "c16"])
@pytest.mark.parametrize("name", ["fft", "rfft", "irfft", "fft2", "rfft2", "irfft2", "hfftn", "ihfftn"])
def test_any_layout_of_input_and_output(name: str, dtype: str) -> None:
    if name in REAL_INPUT and dtype.startswith("c"):
        return
    x = sample(np.random.default_rng(5), (5, 12, 18), dtype)
    expected = theirs(name)(x)
    for source in layouts(x).values():
        same(ours(name)(source), expected)
        assert (source == x).all()
    for target in layouts(np.full_like(expected, 7)).values():
        if target.flags.writeable:
            around = target.base
            assert ours(name)(x, out=target) is target
            same(target, expected)
            assert target.base is around


def test_broadcast_input_and_overlapping_output() -> None:
    row = np.arange(12.0)
    same(nds.fft.fft2(np.broadcast_to(row, (5, 12))), scipy.fft.fft2(np.broadcast_to(row, (5, 12))))
    x = sample(np.random.default_rng(6), (8, 8), complex)
    for target in ("x", "x.T", "x[::-1]", "x[:, ::-1]"):
        y = x.copy()
        out = eval(target, {"x": y})
        assert nds.fft.fft2(y, out=out) is out
        same(out, scipy.fft.fft2(x))
    one = np.lib.stride_tricks.as_strided(np.zeros(8, complex), (8, 8), (0, 16))
    assert nds.fft.fft2(x, out=one) is one


def test_arrays_without_items() -> None:
    for name in NAMES:
        x = np.zeros((0, 4, 6))
        axes = (1, 2) if name[-1] in "2n" else 2
        compare(name, x, None, axes)


def test_numbers_that_are_not_finite() -> None:
    for bad, name, length in itertools.product(
        (np.nan, np.inf), ("fft", "rfft", "irfft", "fft2", "rfft2"), (8, 11, 30)
    ):
        x = sample(np.random.default_rng(7), (4, length), "f4")
        x[2, 3] = bad
        assert not np.isfinite(ours(name)(x)[2]).any()
        if name[-1] != "2":
            assert np.isfinite(ours(name)(x)[[0, 1, 3]]).all()


# ---- accuracy -------------------------------------------------------------------------------------------------------


def dft(x: Array, sign: int = -1) -> Array:
    """Return the transform as the definition says."""
    n = x.shape[-1]
    turns = np.outer(np.arange(n), np.arange(n)) % n
    return x @ np.exp(sign * 2j * np.pi * turns / n)


@pytest.mark.parametrize("length", range(1, 129))
def test_every_length_is_what_the_definition_says(length: int) -> None:
    rng = np.random.default_rng(length)
    for dtype in ("u2", "f4", "f8", "c8", "c16"):
        x = sample(rng, (20, length), dtype)
        expected = dft(x.astype(np.complex128))
        for precision, eps in (("c8", epsilon("f4")), ("c16", epsilon("f8"))):
            bound = 4 * eps * np.sqrt(2 + np.log2(length))
            assert distance(nds.fft.fft(x, dtype=precision), expected) <= bound + 4 * epsilon("f8") * length
            if dtype[0] != "c":
                half = nds.fft.rfft(x, dtype=precision)
                assert distance(half, expected[:, : length // 2 + 1]) <= bound + 4 * epsilon("f8") * length


def exact_dft(x: Array, sign: int) -> Array:
    """Return the transform as the definition says, in long double; angles stay below an eighth of a turn."""
    n = x.shape[-1]
    turns = np.outer(np.arange(n), np.arange(n)) % n
    quarters = (8 * turns + n) // (2 * n)
    # pi as the sum of two doubles.
    pi = np.longdouble(3.141592653589793) + np.longdouble(1.2246467991473532e-16)
    angles = (4 * turns - quarters * n) * pi / (2 * n)
    roots = np.asarray([1, 1j, -1, -1j])[quarters % 4] * (np.cos(angles) + 1j * np.sin(angles))
    return x.astype(np.clongdouble) @ (roots if sign > 0 else roots.conj())


def from_half(half: Array, length: int) -> Array:
    """Return the whole of a Hermitian spectrum."""
    return np.concatenate([half, half[:, 1 : (length + 1) // 2][:, ::-1].conj()], 1)


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 60, reason="there is nothing more exact to compare with")
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("length", range(1, 65))
def test_errors_of_short_lines_are_at_most_half_as_large_again_as_scipys(length: int, dtype: str) -> None:
    """Lines of 3, 13, 26, 37 or 61 points had up to five times SciPy's error in double precision.

    NumPy's own test of short round trips, which bounds the error of each item, failed for that now and then.
    """
    rng = np.random.default_rng(length)
    x = rng.uniform(-1, 1, (2, 200, length)).astype(dtype)
    z, x = (x[0] + 1j * x[1]).astype(np.result_type(dtype, "c8")), x[0]
    half = z[:, : length // 2 + 1].copy()
    half[:, 0].imag = 0
    half[:, length // 2].imag *= length % 2
    whole = from_half(half, length)
    for name, given, exact in [
        ("fft", z, exact_dft(z, -1)),
        ("ifft", z, exact_dft(z, 1) / length),
        ("rfft", x, exact_dft(x, -1)[:, : length // 2 + 1]),
        ("ihfft", x, exact_dft(x, 1)[:, : length // 2 + 1] / length),
        ("irfft", half, exact_dft(whole, 1).real / length),
        ("hfft", half, exact_dft(whole, -1).real),
    ]:
        options = {"n": length} if name in REAL_RESULT else {}
        mine, reference = ours(name)(given, **options), theirs(name)(given, **options)
        assert mine.dtype == reference.dtype
        # Rounding the result alone costs this much; SciPy is now and then lucky below it.
        floor = distance(exact.astype(mine.dtype), exact)
        assert distance(mine, exact) <= 1.5 * max(distance(reference, exact), floor), name


@pytest.mark.parametrize("length", [6, 12, 13, 26, 61, 62])
def test_short_half_spectra_are_as_real_as_scipys(length: int) -> None:
    """The ends of a real line's spectrum have no imaginary part at all, and those of one that is given are ignored."""
    x = np.random.default_rng(length).standard_normal((5, length))
    half = nds.fft.rfft(x)
    assert (half[:, 0].imag == 0).all()
    assert length % 2 or (half[:, -1].imag == 0).all()
    half = half.copy()
    half[:, 0] += 7j
    half[:, -1] += 0 if length % 2 else 5j
    assert distance(nds.fft.irfft(half, length), x) < 1e-15
    for spoilt in (x, half):
        spoilt[2, 1] = np.nan
    assert np.isnan(nds.fft.rfft(x)).any(1).tolist() == [False, False, True, False, False]
    assert np.isnan(nds.fft.irfft(half, length)).all(1).tolist() == [False, False, True, False, False]


def fftw(x: Array, real: bool) -> Array:
    """Return FFTW's transform of all axes but the first, planned without timing, in the precision of `x`."""
    pyfftw = pytest.importorskip("pyfftw", reason="pyfftw is not installed")
    axes = tuple(range(1, x.ndim))
    function = pyfftw.interfaces.numpy_fft.rfftn if real else pyfftw.interfaces.numpy_fft.fftn
    return function(x, axes=axes, planner_effort="FFTW_ESTIMATE")


def against_fftw(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    """Look that our error is at most twice FFTW's, in single precision."""
    axes = tuple(range(1, len(shape)))
    for real in (False, True):
        x = rng.standard_normal(shape).astype("f4")
        x = x if real else (x + 1j * rng.standard_normal(shape)).astype("c8")
        function = scipy.fft.rfftn if real else scipy.fft.fftn
        exact = function(x.astype("g" if real else "G"), axes=axes)
        mine = ours("rfftn" if real else "fftn")(x, axes=axes)
        assert mine.dtype == "c8"
        # Rounding the result alone costs this much; FFTW is now and then lucky below it.
        floor = distance(exact.astype("c8"), exact)
        assert distance(mine, exact) <= 2 * max(distance(fftw(x, real), exact), floor), (shape, real)


@pytest.mark.parametrize("start", range(1, 301, 20))
def test_errors_of_single_precision_are_at_most_twice_fftws(start: int) -> None:
    rng = np.random.default_rng(start)
    for length in range(start, start + 20):
        against_fftw(rng, (64, length))


@pytest.mark.parametrize("length", [2048, 4913, 30030, 32768, 65536, 100000])
def test_errors_of_long_lines_are_at_most_twice_fftws(length: int) -> None:
    against_fftw(np.random.default_rng(length), (2, length))


@pytest.mark.parametrize("seed", range(10))
def test_errors_of_planes_are_at_most_twice_fftws(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(20):
        against_fftw(rng, (2, *map(int, rng.integers(1, 200, 2))))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_round_trips(dtype: str) -> None:
    rng = np.random.default_rng(8)
    for length in [*range(1, 130), 500, 1000, 1021, 1024, 1080, 1088, 1920, 4099, 65536]:
        x = sample(rng, (3, length), dtype)
        bound = 4 * epsilon(dtype) * np.sqrt(1 + np.log2(length))
        assert distance(nds.fft.irfft(nds.fft.rfft(x), length), x) <= bound
        z = sample(rng, (3, length), np.result_type(dtype, "c8"))
        assert distance(nds.fft.ifft(nds.fft.fft(z)), z) <= bound


# ---- out and dtype --------------------------------------------------------------------------------------------------


def test_the_result_has_the_dtype_that_is_asked_for() -> None:
    x = sample(np.random.default_rng(9), (30, 40), "u2")
    exact = scipy.fft.rfft2(x)
    assert nds.fft.rfft2(x).dtype == "c16"
    for dtype in ("c8", np.complex64, np.dtype("c8"), "complex128", np.clongdouble):
        result = nds.fft.rfft2(x, dtype=dtype)
        assert result.dtype == np.dtype(dtype)
        assert distance(result, exact) <= 8 * epsilon(dtype) + 8 * epsilon("f8")
    out = nds.empty((30, 21), "c8")
    assert nds.fft.rfft2(x, out=out) is out
    assert (out == nds.fft.rfft2(x, dtype="c8")).all()
    assert nds.fft.irfft2(out, dtype="f8").dtype == "f8"
    assert nds.fft.fft(x.astype("f8"), out=np.empty((30, 40), "G")).dtype == np.clongdouble
    for name, wrong in (("rfft2", "f8"), ("irfft2", "c8"), ("fft", "f2"), ("fft", "i4")):
        with pytest.raises(TypeError, match="dtype of the result"):
            ours(name)(x, dtype=wrong)
    with pytest.raises(TypeError, match="leave one of them out"):
        nds.fft.rfft2(x, out=out, dtype="c16")


def test_an_out_of_another_dtype_is_cast_to() -> None:
    x = sample(np.random.default_rng(10), (3, 8), "f4")
    out = np.zeros((3, 8), ">c16")
    assert nds.fft.fft(x, out=out) is out
    assert distance(out, scipy.fft.fft(x)) < 1e-6
    real = np.zeros((3, 14), "c8")
    assert distance(nds.fft.irfft(x, out=real), scipy.fft.irfft(x)) < 1e-6


def test_results_are_shared_and_frames_are_read_in_place() -> None:
    frame = nds.full((1080, 192), 3, np.uint16)
    frame.flags.writeable = False
    before = nds.stats()["blocks"]
    result = nds.fft.rfft2(frame, dtype="c8")
    assert nds.is_shared(result)
    assert nds.stats()["blocks"] == before + 1
    assert result[0, 0] == 3 * 1080 * 192
    for small in (nds.fft.fft([1, 2, 3]), nds.fft.fftshift([1, 2, 3]), nds.fft.fft([1, 2, 3], dtype="G")):
        assert nds.is_shared(small)


def test_frames_of_a_ring_are_transformed() -> None:
    ring = nds.Ring((12, 20), np.uint16, slots=2)
    reader = ring.reader()
    with ring.write() as frame:
        frame[:] = np.arange(240).reshape(12, 20)
    frame = reader.get(timeout=HANG)
    result = nds.fft.rfft2(frame, dtype="c8")
    assert type(result) is np.ndarray
    same(result, scipy.fft.rfft2(np.arange(240, dtype="f4").reshape(12, 20)))


# ---- threads and processes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 5])
def test_workers_change_nothing_but_the_time(count: int) -> None:
    x = sample(np.random.default_rng(11), (64, 90, 50), "f4")
    for name in NAMES:
        assert (ours(name)(x, workers=count) == ours(name)(x, workers=1)).all()
        assert (ours(name)(x) == ours(name)(x, workers=-1)).all()


def test_the_order_of_axes_can_be_set_from_outside() -> None:
    # Frames, rows that are whole pages, an odd number of rows, and rows that are no whole vectors.
    program = """
        import numpy as np, scipy.fft, ndshare as nds
        rng = np.random.default_rng(0)
        for shape in [(270, 480), (128, 1024), (33, 1000), (90, 77)]:
            x = rng.integers(0, 4096, shape).astype("u2")
            half = scipy.fft.rfft2(x)
            filtered = nds.fft.plan_rfft2(shape, "u2", "c8").convolve(half.astype("c8"))(x)
            for ours, expected in [
                (filtered, scipy.fft.irfft2(half * half, shape)),
                (nds.fft.rfft2(x, dtype="c8"), half),
                (nds.fft.irfft2(half.astype("c8"), shape), x),
                (nds.fft.fft2(half.astype("c8")), scipy.fft.fft2(half)),
                (nds.fft.ifft2(half.astype("c8")), scipy.fft.ifft2(half)),
            ]:
                assert np.linalg.norm(ours - expected) < 1e-6 * np.linalg.norm(expected), shape
        print("alike")
    """
    for order in ("rows_first", "columns_first"):
        assert run(program, env=environment(NDSHARE_FFT=order)).clean() == "alike\n"
    stack = "import numpy as np, ndshare as nds; nds.fft.fft2(np.ones((10, 32, 32)))"
    for wrong in (program, stack):
        done = run(wrong, env=environment(NDSHARE_FFT="both"))
        assert "ValueError: expected NDSHARE_FFT to be rows_first or columns_first, got" in done.err


def test_threads_transform_at_once() -> None:
    rng = np.random.default_rng(12)
    inputs = [sample(rng, (40 + i, 64), "f4") for i in range(8)]
    expected = [nds.fft.rfft2(x) for x in inputs]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(50):
            if not (nds.fft.rfft2(inputs[i], workers=2) == expected[i]).all():
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_forked_pool_after_a_threaded_transform() -> None:
    x = sample(np.random.default_rng(13), (512, 300), "f4")
    expected = nds.fft.fft2(x, workers=2)
    with mp.get_context("fork").Pool(4) as pool:
        for result in pool.map_async(workers.transform, [x] * 8).get(HANG):
            assert (result == expected).all()
    assert (nds.fft.fft2(x, workers=2) == expected).all()


def test_other_threads_run_meanwhile() -> None:
    """Another thread gets several turns inside of one call, as soon as there is a processor for it."""
    x = sample(np.random.default_rng(14), (2000, 2000), "f8")
    turns, done = [0], threading.Event()

    def take_turns() -> None:
        while not done.wait(0.001):
            turns[0] += 1

    thread = threading.Thread(target=take_turns)
    thread.start()

    def turns_in_a_call() -> int:
        before = turns[0]
        nds.fft.fft2(x, workers=1)
        return turns[0] - before

    try:
        # Without the GIL it may get one turn before the call begins, and one after it.
        assert wait_until(lambda: turns_in_a_call() >= 4, HANG)
    finally:
        done.set()
        thread.join(HANG)


def test_ctrl_c_ends_a_long_transform() -> None:
    program = """
    import os, signal, threading, numpy as np, ndshare as nds
    x = np.zeros((4000, 4000), np.complex128)
    ready = threading.Event()
    def press():
        ready.wait()
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=press).start()
    try:
        ready.set()
        while True:
            nds.fft.fft2(x, workers=1)
    except KeyboardInterrupt:
        print("ended")
    """
    assert run(program).clean() == "ended\n"


# ---- plans ----------------------------------------------------------------------------------------------------------

PLANS = [
    (nds.fft.plan_rfft2, "rfft2", "u2", "c8"),
    (nds.fft.plan_rfft2, "rfft2", "f8", None),
    (nds.fft.plan_irfft2, "irfft2", "c8", None),
    (nds.fft.plan_irfft2, "irfft2", "c8", "f8"),
    (nds.fft.plan_fft2, "fft2", "c8", None),
    (nds.fft.plan_fft2, "fft2", "u1", "c8"),
    (nds.fft.plan_ifft2, "ifft2", "c16", "c8"),
]


@pytest.mark.parametrize(("make", "name", "dtype", "result"), PLANS)
def test_plans_do_what_the_functions_do(make: Callable[..., nds.fft.Plan], name: str, dtype: str, result: Any) -> None:
    for norm in (None, "ortho"):
        plan = make((12, 21), dtype, result, norm=norm, workers=1)
        x = sample(np.random.default_rng(15), plan.shape, dtype)
        s = (12, 21) if name == "irfft2" else None
        expected = ours(name)(x, s, norm=norm, dtype=result)
        assert (plan.dtype, plan.result_dtype, plan.result_shape) == (x.dtype, expected.dtype, expected.shape)
        out = nds.empty(plan.result_shape, plan.result_dtype)
        assert (plan(x) == expected).all()
        assert plan(x, out=out) is out
        assert (out == expected).all()
        twin = pickle.loads(pickle.dumps(plan))
        assert twin == plan
        assert hash(twin) == hash(plan)
        assert (twin(x) == expected).all()
        assert (ours(name)(x, s, norm=norm, plan=plan, out=out) == expected).all()
        assert name in repr(plan)


def test_a_plan_tells_how_it_is_carried_out() -> None:
    """One line for each pass over the array; both axes of a plane are one pass."""
    told = nds.fft.plan_rfft2((1080, 1920), "u2", "c8").explain()
    assert told.startswith("axes 0 and 1: ")
    assert "\n" not in told
    assert "rows first" in told or "columns first" in told
    stack = nds.fft.plan_rfft2((3, 1013, 20), "f4", "c8").explain()
    assert [line.split(":")[0] for line in stack.splitlines()] == ["axis 2", "axis 1"]


def test_plans_refuse_what_they_are_not_for() -> None:
    plan = nds.fft.plan_rfft2((12, 20), "u2", "c8")
    frame = np.zeros((12, 20), "u2")
    for wrong in (frame[1:], frame.astype("f4"), frame[None], frame.astype(">u2")):
        with pytest.raises(ValueError, match="make a plan"):
            plan(wrong)
    with pytest.raises(TypeError, match="expected an ndarray"):
        plan([[1]])  # type: ignore[arg-type]
    for out in (np.zeros((12, 20), "c8"), np.zeros((12, 11), "c16"), np.broadcast_to(np.zeros(11, "c8"), (12, 11))):
        with pytest.raises(ValueError, match="wrong shape"):
            plan(frame, out=out)
    for call in (
        lambda: nds.fft.fft2(frame, plan=plan),
        lambda: nds.fft.rfft2(frame, s=(12, 22), plan=plan),
        lambda: nds.fft.rfft2(frame, axes=(1, 0), plan=plan),
        lambda: nds.fft.rfft2(frame, norm="ortho", plan=plan),
        lambda: nds.fft.rfft2(frame, dtype="c16", plan=plan),
    ):
        with pytest.raises(ValueError, match="plan"):
            call()
    for strange in ("foo", 7, object()):
        with pytest.raises(NotImplementedError, match="precomputed plan"):
            nds.fft.rfft2(frame, plan=strange)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dtype of frames"):
        nds.fft.plan_rfft2((12, 20), "f2")
    with pytest.raises(TypeError, match="real sequence"):
        nds.fft.plan_rfft2((12, 20), "c8")
    with pytest.raises(ValueError, match="2 or more axes"):
        nds.fft.plan_rfft2((12,))


@pytest.mark.parametrize("shape", [(12, 20), (64, 48), (60, 75), (23, 31), (37, 64)])
@pytest.mark.parametrize(("dtype", "result"), [("u2", "c8"), ("f8", "c16"), ("i4", "c8")])
def test_a_convolution_is_two_transforms_and_a_product(shape: tuple[int, int], dtype: str, result: str) -> None:
    rng = np.random.default_rng(18)
    plan = nds.fft.plan_rfft2(shape, dtype, result)
    frame, kernel = sample(rng, shape, dtype), rng.standard_normal((5, 7))
    expected = scipy.fft.irfft2(scipy.fft.rfft2(frame) * scipy.fft.rfft2(kernel, shape), shape)
    for filter_ in (kernel, scipy.fft.rfft2(kernel, shape), scipy.fft.rfft2(kernel, shape).astype("c8")):
        c = plan.convolve(filter_)
        bound = 32 * max(epsilon(result), epsilon(np.asarray(filter_).dtype))
        for count in (None, 1, 2):
            out = np.full((shape[0], 2 * shape[1]), 7, expected.dtype if result == "c16" else "f4")[:, ::2]
            assert c(frame, out=out, workers=count) is out
            assert distance(out, expected) < bound
        made = c(np.asfortranarray(frame))
        assert nds.is_shared(made)
        assert distance(made, expected) < bound
        twin = pickle.loads(pickle.dumps(c))
        assert (twin(frame) == c(frame)).all()
        assert not c.spectrum.flags.writeable


@pytest.mark.parametrize("shape", [(12, 20), (64, 48), (60, 75), (23, 31), (120, 132), (1, 8)])
@pytest.mark.parametrize(("dtype", "result"), [("u2", "c8"), ("f8", "c16"), ("i4", "c8")])
def test_a_convolution_gives_the_spectrum_too(shape: tuple[int, int], dtype: str, result: str) -> None:
    rng = np.random.default_rng(19)
    plan = nds.fft.plan_rfft2(shape, dtype, result)
    frame, c = sample(rng, shape, dtype), plan.convolve(rng.standard_normal(shape)[: shape[0], :1])
    expected, filtered = plan(frame), c(frame)
    for count in (None, 1, 2):
        wide = np.full((shape[0], 2 * plan.result_shape[1]), 7, result)
        for spectrum in (
            nds.full(plan.result_shape, 7, result),
            wide[:, ::2],
            np.full(plan.result_shape, 7, result, "F"),
        ):
            made = c(frame, spectrum_out=spectrum, workers=count)
            assert distance(spectrum, expected) < 8 * epsilon(result)
            assert distance(made, filtered) < 32 * epsilon(result)
        assert (wide[:, 1::2] == 7).all()
        out = np.empty(shape, filtered.dtype)
        assert c(frame, out=out, spectrum_out=spectrum) is out
        assert distance(out, filtered) < 32 * epsilon(result)


@pytest.mark.parametrize("shape", [(12, 20), (23, 31)])
def test_a_spectrum_that_does_not_fit_is_refused_and_nothing_is_written(shape: tuple[int, int]) -> None:
    plan = nds.fft.plan_rfft2(shape, "f4", "c8")
    c, right = plan.convolve([[1.0]]), plan.result_shape
    frame, out = np.ones(shape, "f4"), np.full(shape, 7, "f4")
    read_only = np.full(right, 7, "c8")
    read_only.flags.writeable = False
    memory = np.zeros(4 * shape[0] * (shape[1] + 2), "f4")
    inside, within = memory[: frame.size].reshape(shape), memory[: 2 * right[0] * right[1]].view("c8").reshape(right)
    for wrong in (np.full(shape, 7, "c8"), np.full(right, 7, "c16"), np.full(right, 7, "f4"), read_only):
        with pytest.raises(
            ValueError, match=r"spectrum_out has wrong shape, dtype or layout: expected a writable array"
        ):
            c(frame, out=out, spectrum_out=wrong)
        assert (wrong == 7).all()
    for frame_, out_ in ((inside, out), (frame, inside)):
        with pytest.raises(ValueError, match="shares no memory with the frame and with out"):
            c(frame_, out=out_, spectrum_out=within)
    with pytest.raises(ValueError, match="output array has wrong shape"):
        c(frame, out=np.zeros((3, 3), "f4"), spectrum_out=(kept := np.full(right, 7, "c8")))
    assert (kept == 7).all()
    assert (out == 7).all()
    assert not memory.any()


def test_what_cannot_be_a_convolution_is_refused() -> None:
    plan = nds.fft.plan_rfft2((12, 20), "u2", "c8")
    for wrong in (np.zeros((13, 20)), np.zeros((12, 20), complex), np.zeros(3)):
        with pytest.raises(ValueError, match="half-spectrum"):
            plan.convolve(wrong)
    # A real half-spectrum was once taken for an image, without a word.
    with pytest.raises(ValueError, match="just that shape"):
        plan.convolve(np.ones((12, 11)))
    plan.convolve(np.ones((12, 11), "c8"))
    nds.fft.plan_rfft2((12, 2)).convolve(np.ones((12, 2)))
    for other in (
        nds.fft.plan_fft2((12, 20)),
        nds.fft.plan_rfft2((12, 20), norm="ortho"),
        nds.fft.plan_rfft2((2, 12, 20)),
    ):
        with pytest.raises(ValueError, match="plan for rfft2"):
            other.convolve(np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"2 axes, got 3 axes, .*plan_rfft2\(\(12, 20\), \.\.\.\)"):
        nds.fft.plan_rfft2((2, 12, 20)).convolve(np.ones((2, 2)))
    c = plan.convolve(np.ones((2, 2)))
    for frame, out in (
        (np.zeros((12, 21), "u2"), None),
        (np.zeros((12, 20), "u2"), np.zeros((12, 20))),
        (np.zeros((12, 20), "u2"), np.zeros((12, 11), "f4")),
    ):
        with pytest.raises(ValueError, match="expected"):
            c(frame, out=out)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_plans_travel(method: str) -> None:
    plan = nds.fft.plan_rfft2((12, 20), "u2", "c8")
    frame = nds.full((12, 20), 5, np.uint16)
    with mp.get_context(method).Pool(1) as pool:
        result = pool.apply_async(plan, (frame,)).get(HANG)
        assert (result == plan(frame)).all()
        c = plan.convolve(np.ones((3, 3)))
        assert (pool.apply_async(c, (frame,)).get(HANG) == c(frame)).all()


# ---- SciPy's backend ------------------------------------------------------------------------------------------------


def test_scipy_uses_us_when_it_is_told_to() -> None:
    x = sample(np.random.default_rng(16), (4, 6), "f8")
    with scipy.fft.set_backend(nds.fft):
        for name in NAMES:
            assert nds.is_shared(theirs(name)(x))
            assert nds.is_shared(theirs(name)(x=x, workers=2))
        assert not nds.is_shared(scipy.fft.dctn(x))
        plan = nds.fft.plan_rfft2((4, 6))
        assert (scipy.fft.rfft2(x, plan=plan) == plan(x)).all()
    with scipy.fft.set_backend(nds.fft, only=True), pytest.raises(Exception, match="implementation"):
        scipy.fft.dct(x)
    assert not nds.is_shared(scipy.fft.fft(x))


def test_install_and_uninstall() -> None:
    program = """
    import numpy as np, scipy.fft, scipy.signal, ndshare as nds
    x = np.arange(12.0)
    nds.fft.install()
    print(nds.is_shared(scipy.fft.fft(x)), nds.is_shared(scipy.fft.dct(x)))
    print(np.allclose(scipy.signal.fftconvolve(x, x), np.convolve(x, x)))
    with scipy.fft.set_workers(2):
        print(nds.is_shared(scipy.fft.fft(x)))
    nds.fft.uninstall()
    print(nds.is_shared(scipy.fft.fft(x)), nds.is_shared(scipy.fft.dct(x)))
    """
    assert run(program).clean() == "True False\nTrue\nTrue\nFalse False\n"


def test_scipys_workers_are_obeyed() -> None:
    calls: list[Any] = []

    def transform(x: Any, *args: Any, workers: Any = None, **kwargs: Any) -> Any:
        calls.append(workers)
        return nds.fft.fft(x, *args, workers=workers, **kwargs)

    before = _backend._ours["fft"]
    _backend._ours["fft"] = transform
    try:
        with scipy.fft.set_backend(nds.fft):
            scipy.fft.fft([1, 2, 3])
            with scipy.fft.set_workers(3):
                scipy.fft.fft([1, 2, 3])
                scipy.fft.fft([1, 2, 3], workers=2)
    finally:
        _backend._ours["fft"] = before
    assert calls == [1, 3, 2]


class Wrapped:
    """Like the array of another library: NumPy can read it, and it is no ndarray."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return np.arange(8.0)


class Kept(np.ndarray[Any, Any]):
    """A subclass that we know nothing of."""


FOREIGN: list[Any] = [
    Wrapped(),
    np.ma.masked_array(np.arange(8.0), np.arange(8) == 3),
    np.arange(8.0).view(Kept),
    memoryview(np.arange(8.0)),
    "abc",
    None,
    range(8),
]


@pytest.mark.parametrize("x", FOREIGN, ids=[type(x).__name__ for x in FOREIGN])
def test_what_may_be_another_librarys_is_scipys_to_serve(x: Any) -> None:
    """Whatever NumPy could read became an ndarray in silence."""
    for name in NAMES:
        assert nds.fft.__ua_function__(theirs(name), (x,), {}) is NotImplemented
        assert nds.fft.__ua_function__(theirs(name), (), {"x": x}) is NotImplemented
    expected = outcome(scipy.fft.fft, x)
    with scipy.fft.set_backend(nds.fft):
        result = outcome(scipy.fft.fft, x)
    assert type(result) is type(expected)
    if isinstance(expected, tuple):
        assert result == expected
    else:
        assert not nds.is_shared(result)
        assert (result == expected).all()


def test_lists_numbers_and_frames_are_ours_to_serve() -> None:
    ring = nds.Ring(8, slots=2)
    frames = ring.reader()
    ring.put(np.arange(8.0))
    with scipy.fft.set_backend(nds.fft, only=True):
        for x in ([1, 2, 3], (1.0, 2), [[1, 2], [3, 4]], np.arange(8.0).view(np.recarray), frames.get()):
            assert nds.is_shared(scipy.fft.fft(x))
        for scalar in (2, 2.0, 2j, np.float32(2)):
            assert outcome(scipy.fft.fft, scalar)[0] is IndexError
            assert scipy.fft.fftn(scalar, axes=()) is scalar


def test_scipys_callers_get_ordinary_memory_when_the_arena_is_full() -> None:
    """A program that was written for SciPy died of ArenaFull."""
    program = """
    import numpy as np, scipy.fft, ndshare as nds
    rng = np.random.default_rng(1)
    expected = {}
    x = rng.standard_normal((300, 512))
    inputs = {"real": x, "single": x.astype("f4"), "integer": (100 * x).astype("i2"), "other": x.astype(">f8"),
              "half": x.astype("f2"), "complex": x + 1j, "long": x.astype("g"), "list": x.tolist()}
    plan = nds.fft.plan_rfft2(x.shape)
    keep = []
    try:
        while True:
            keep.append(nds.zeros(4096))
    except nds.ArenaFull:
        pass
    names = [p + "fft" + s for s in ("", "2", "n") for p in ("", "i", "r", "ir", "h", "ih")]
    cases = [(name, kind) for name in names for kind in inputs if kind != "complex" or name[0] not in "r"]
    cases = [(name, kind) for name, kind in cases if kind != "complex" or not name.startswith("ih")]
    for name, kind in cases:
        expected[name, kind] = getattr(scipy.fft, name)(inputs[kind], norm="ortho")
    nds.fft.install()
    count = size = 0
    for name, kind in cases:
        result = getattr(scipy.fft, name)(inputs[kind], norm="ortho", workers=2)
        right = expected[name, kind]
        assert result.dtype == right.dtype and result.shape == right.shape, (name, kind)
        assert not nds.is_shared(result), (name, kind)
        assert np.linalg.norm(result - right) <= 1e-6 * np.linalg.norm(right), (name, kind)
        count, size = count + 1, size + result.nbytes
        assert nds.fft.info() == {"fallbacks": count, "fallback_bytes": size}
    result = scipy.fft.rfft2(x, plan=plan)
    assert np.allclose(result, np.fft.rfft2(x))
    try:
        scipy.fft.fft(x, n=0)
    except ValueError:
        pass
    assert nds.fft.info()["fallbacks"] == count + 1
    try:
        nds.fft.fft(x)
    except nds.ArenaFull:
        print("ours raises")
    out = np.empty(x.shape, complex)
    assert nds.fft.fft(x, out=out) is out
    assert nds.fft.info()["fallbacks"] == count + 1
    del keep
    assert nds.is_shared(scipy.fft.fft(x))
    """
    assert run(program, env=environment() | {"NDSHARE_BUDGET": "16 MiB"}).clean() == "ours raises\n"


# ---- helpers --------------------------------------------------------------------------------------------------------


def test_next_fast_len_is_scipys() -> None:
    for target in [*range(3000), 10**5 + 3, 93059, 2**31 - 1, 10**12 + 7]:
        for real in (False, True):
            assert nds.fft.next_fast_len(target, real) == scipy.fft.next_fast_len(target, real)
    for wrong, error in ((-1, ValueError), (2**63, ValueError), (1.5, TypeError), ("a", TypeError)):
        with pytest.raises(error):
            nds.fft.next_fast_len(wrong)  # type: ignore[arg-type]


def test_shifts_are_scipys() -> None:
    rng = np.random.default_rng(17)
    for shape in [(1,), (4,), (5,), (3, 4), (5, 6, 7), (0, 3)]:
        x = rng.standard_normal(shape)
        all_axes: list[Any] = [None, *range(-len(shape), len(shape)), tuple(range(len(shape))), (0, 0), (-1, 0, -1)]
        for axes, name in itertools.product(all_axes, ("fftshift", "ifftshift")):
            assert (ours(name)(x, axes) == theirs(name)(x, axes)).all()
    assert nds.fft.fftshift(7.0) == 7
    with pytest.raises(np.exceptions.AxisError):
        nds.fft.fftshift(np.zeros(3), 1)


def test_frequencies_are_scipys() -> None:
    for n, d, name in itertools.product((1, 2, 7, 8), (1.0, 0.25), ("fftfreq", "rfftfreq")):
        assert (ours(name)(n, d) == theirs(name)(n, d)).all()
        assert (ours(name)(n, d, xp=np) == theirs(name)(n, d)).all()
    with pytest.raises(ValueError, match="device"):
        nds.fft.fftfreq(4, device="cpu")
