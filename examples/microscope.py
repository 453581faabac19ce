"""A simulated microscope: a stage with real pictures on it, a focus that sweeps, and a camera that counts photons.

What is slow is done once, by ``prepare``: the pictures become one wide slide, the slide is blurred for each focal
plane, and photons are drawn for every pixel of every plane. A frame is then a window of one such exposure plus a
window of a background exposure at a random place. Both are Poisson, so their sum is: each frame has true shot
noise, at the price of one addition a pixel.
"""

import importlib.resources
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

import ndshare as nds

Frame = npt.NDArray[np.uint16]
Picture = npt.NDArray[np.float32]

FRAME_SHAPE = (1200, 1600)
FRAME_BYTES = FRAME_SHAPE[0] * FRAME_SHAPE[1] * 2

SLIDE_HEIGHT = 1320
FADE_PIXELS = 100  # pictures fade at their sides, because a hard seam would be a line in the spectrum
BLUR_PIXELS = (0.0, 1.0, 2.0, 4.0, 8.0)
WHITE_PHOTONS = 8000
DARK_PHOTONS = 200
FRAMES_PER_SWEEP = 80
FRAMES_PER_TRAVEL = 100


class Photograph(NamedTuple):
    """A picture that ships inside the wheel of scikit-image."""

    file: str
    what: str
    author: str
    licence: str


PHOTOGRAPHS = (
    Photograph("cell.png", "a living cell in saline", "Paul Müller et al.", "CC0"),
    Photograph("retina.jpg", "the retina of a left eye", "Mikael Häggström", "CC0"),
    Photograph("hubble_deep_field.jpg", "the Hubble eXtreme Deep Field", "NASA, ESA", "public domain"),
)


class Specimen(NamedTuple):
    """What the camera can see, as shared arrays: a process that is sent one maps it and copies nothing."""

    exposures: Frame  # (planes, height, width)
    background: Frame  # (height, width)


def prepare(seed: int) -> Specimen:
    """Return the specimen in shared memory, about 60 MB. It takes a second or two."""
    slide = load_slide()
    rng = np.random.default_rng(seed)
    exposures = nds.empty((len(BLUR_PIXELS), *slide.shape), np.uint16)
    for exposure, plane in zip(exposures, defocused(slide), strict=True):
        exposure[:] = rng.poisson(WHITE_PHOTONS * plane)
    background = nds.array(rng.poisson(DARK_PHOTONS, slide.shape).astype(np.uint16))
    return Specimen(exposures, background)


def load_slide() -> Picture:
    """Return the photographs side by side, each SLIDE_HEIGHT high, from 0 (black) to 1 (white)."""
    return np.concatenate([load(photograph.file) for photograph in PHOTOGRAPHS], axis=1)


def load(file: str) -> Picture:
    """Return one photograph in grey, scaled to SLIDE_HEIGHT, from 0 to 1."""
    source = importlib.resources.files("skimage.data").joinpath(file)
    with source.open("rb") as stream, Image.open(stream) as image:
        width = round(image.width * SLIDE_HEIGHT / image.height)
        grey = image.convert("L").resize((width, SLIDE_HEIGHT), Image.Resampling.BICUBIC)
    distance_to_side = np.minimum(np.arange(width), np.arange(width)[::-1])
    fade = np.minimum(distance_to_side / FADE_PIXELS, 1)
    return (np.asarray(grey) / 255 * fade).astype(np.float32)


def defocused(picture: Picture) -> Iterator[Picture]:
    """Yield the picture under a Gaussian blur of each of BLUR_PIXELS, never below zero."""
    rows = np.fft.fftfreq(picture.shape[0])[:, np.newaxis]
    columns = np.fft.rfftfreq(picture.shape[1])[np.newaxis, :]
    squared, spectrum = rows**2 + columns**2, np.fft.rfft2(picture)
    for blur in BLUR_PIXELS:
        damping = np.exp(-2 * (np.pi * blur) ** 2 * squared).astype(np.float32)
        yield np.maximum(np.fft.irfft2(spectrum * damping, s=picture.shape), 0).astype(np.float32)


def expose(specimen: Specimen, index: int, rng: np.random.Generator, out: Frame) -> None:
    """Write frame ``index`` into ``out``: the stage moves along the slide while the focus sweeps."""
    signal: Frame = specimen.exposures[focal_plane(index)]
    top, left = stage_position(index, signal.shape)
    dark_top, dark_left = random_position(rng, signal.shape)
    np.add(window(signal, top, left), window(specimen.background, dark_top, dark_left), out=out)


def focal_plane(index: int) -> int:
    """Return the plane that is in view: from the most blurred to the sharpest and back, again and again."""
    last = len(BLUR_PIXELS) - 1
    phase = index % FRAMES_PER_SWEEP / FRAMES_PER_SWEEP
    return round(last * abs(1 - 2 * phase))


def stage_position(index: int, slide_shape: tuple[int, ...]) -> tuple[int, int]:
    """Return top and left of the window: along the slide and back again, with a slow wobble across it."""
    travel_rows = slide_shape[0] - FRAME_SHAPE[0]
    travel_columns = slide_shape[1] - FRAME_SHAPE[1]
    top = travel_rows * (1 + np.sin(index / 9)) / 2
    phase = index % (2 * FRAMES_PER_TRAVEL) / FRAMES_PER_TRAVEL
    left = travel_columns * (1 - abs(1 - phase))
    return int(top), int(left)


def random_position(rng: np.random.Generator, slide_shape: tuple[int, ...]) -> tuple[int, int]:
    """Return top and left of a window that lies anywhere on the slide."""
    top = rng.integers(slide_shape[0] - FRAME_SHAPE[0] + 1)
    left = rng.integers(slide_shape[1] - FRAME_SHAPE[1] + 1)
    return int(top), int(left)


def window(picture: Frame, top: int, left: int) -> Frame:
    """Return the view of one frame in a larger picture."""
    return picture[top : top + FRAME_SHAPE[0], left : left + FRAME_SHAPE[1]]
