"""The demo runs, loses nothing, leaves nothing behind, and writes pictures that show something."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image", reason="the demo's packages are not installed")
pytest.importorskip("skimage", reason="the demo's packages are not installed")

DEMO = Path(__file__).resolve().parent.parent / "examples" / "demo.py"
FRAMES = 5
COLUMNS = 20  # of the contact sheet


def test_the_demo_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(DEMO), "--frames", str(FRAMES), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for row in ("frames lost", "bytes left behind"):
        assert re.search(rf"{row} +│ +0 │ +0 │", done.stdout)
    for name in ("contact-sheet.png", "spectrum.png", "focus-curve.png"):
        assert np.asarray(Image.open(tmp_path / name)).std() > 1, f"{name} is blank"
    assert tiles_shown(tmp_path / "contact-sheet.png") == FRAMES


def tiles_shown(sheet: Path) -> int:
    """Return how many places of the first row are not black."""
    pixels = np.asarray(Image.open(sheet))
    width = pixels.shape[1] // COLUMNS
    return sum(bool(pixels[:, place * width : (place + 1) * width].any()) for place in range(COLUMNS))
