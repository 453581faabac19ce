"""The notes beside a recording: a line of JSON for each frame that has one, and no file where none has.

A line says which frame of the file it belongs to, ``{"frame": 3, "seq": 12, "note": ...}``; bytes are in ``base64``. It
is written before its frame. A kill leaves lines of frames that are not there, and half a line at the end at the most:
who reads leaves both out.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ._file import File


def notes_path(path: Path) -> Path:
    """Return where the notes of a recording are."""
    return path.with_name(path.name + ".notes.jsonl")


class NotesSink:
    """The notes of a recording that goes on. Its file comes with the first one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: File | None = None
        self._frames = self._end = 0
        # Where the notes of the last frames end, which may turn out not to be whole.
        self._ends: list[tuple[int, int]] = []

    def write(self, frames: list[Any]) -> None:
        """Append the notes of frames of a ring. Raises OSError where the disk is full."""
        self._ends = [(self._frames, self._end)]
        for frame in frames:
            if told := told_of(frame):
                self._append(_line({"frame": self._frames, "seq": frame.seq, **told}))
            self._frames += 1
            self._ends.append((self._frames, self._end))

    def _append(self, line: bytes) -> None:
        if self._file is None:
            self._file = File(self._path)
        self._file.write(self._end, [np.frombuffer(line, np.uint8)])
        self._end += len(line)

    def moved(self, recording: Path) -> None:
        """Hear that the recording was renamed."""
        self._path = notes_path(recording)

    def finish(self, frames: int) -> None:
        """Cut off the notes of what are not whole frames."""
        if self._file is not None:
            self._file.close(max((end for number, end in self._ends if number <= frames), default=0))


def told_of(frame: Any) -> dict[str, Any]:
    """Return what a line says of the note of a frame; nothing where it has none."""
    try:
        note = frame.note
    except (ValueError, RecursionError) as error:  # what another program wrote as JSON is none
        return {"unreadable": str(error)}
    if note is None:
        return {}
    return {"base64": base64.b64encode(note).decode()} if isinstance(note, bytes) else {"note": note}


def _line(told: dict[str, Any]) -> bytes:
    # Half of a pair of surrogates, which JSON may have and UTF-8 not, becomes an escape of JSON again.
    return json.dumps(told, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"


class Notes:
    """The notes of a recording, read one by one: a file may be longer than the memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._asked = self._at = -1
        self._note: Any = None

    def _rewind(self) -> BinaryIO:
        if self._file is None:
            self._file = self._path.open("rb")
        self._file.seek(0)
        self._asked = self._at = -1
        return self._file

    def get(self, number: int) -> Any:
        """Return the note of a frame, None where it has none; quick where numbers go up. Raises ValueError."""
        file = self._file if self._file is not None and number >= self._asked else self._rewind()
        self._asked = number
        while self._at < number and self._read(file.readline()):
            pass
        return self._note if self._at == number else None

    def _read(self, line: bytes) -> bool:
        if not line.endswith(b"\n"):  # the end, or what a kill left
            return False
        try:
            told = json.loads(line)
            self._note = base64.b64decode(told["base64"]) if "base64" in told else told.get("note")
            self._at = int(told["frame"])
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise ValueError(
                f"expected a line of JSON with frame and note in {self._path}, got {line[:80]!r}: mend it, or take the "
                "file away"
            ) from error
        return True


def open_notes(recording: Path) -> Notes | None:
    """Open the notes of a recording; None where it has none."""
    path = notes_path(recording)
    return Notes(path) if path.is_file() else None
