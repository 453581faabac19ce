"""What ``progress=True`` shows: a bar by rich where that is installed, else a line; nothing where nobody would see it.

It is drawn by the thread that waits for the work, whenever a part is done and at most ten times a second. So there is
no thread that a fork could catch, and no lock of ours is held.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

# A person sees no more changes in a second.
_PAUSE = 0.1


@contextmanager
def shown(what: str) -> Generator[Callable[[int, int], None], None, None]:
    """Show how far the block is; it calls what it gets with how many are done, and how many there are."""
    stream = sys.stderr
    if _is_terminal(stream):
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        except ImportError:
            pass
        else:
            columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as progress:
                task = progress.add_task(what, total=None)
                progress.refresh()
                yield _seldom(lambda done, total: progress.update(task, completed=done, total=total, refresh=True))
            return
    elif not _is_notebook(stream):
        yield _nothing
        return
    written: list[str] = []

    def write(done: int, total: int) -> None:
        text = f"{what} {done} of {total}"
        # What was there may have been longer.
        stream.write(f"\r{text}{' ' * (len(written[-1]) - len(text) if written else 0)}")
        stream.flush()
        written[:] = [text]

    try:
        yield _seldom(write)
    finally:
        if written:
            stream.write("\n")
            stream.flush()


@contextmanager
def told(what: str, total: int | None = None) -> Generator[Callable[[int, str], None], None, None]:
    """Show a text that changes, with a bar where a total is known; it is told how much is done, and the text."""
    stream = sys.stderr
    if _is_terminal(stream) and (bar := _rich_bar(what, total)) is not None:
        progress, task = bar
        with progress:
            yield _seldom_told(
                lambda done, text: progress.update(task, completed=done, description=text, refresh=True), total
            )
        return
    if not _is_terminal(stream) and not _is_notebook(stream):
        yield lambda _done, _text: None
        return
    width = 0

    def write(_: int, text: str) -> None:
        nonlocal width
        stream.write(f"\r{what} {text}".ljust(width))
        stream.flush()
        width = max(width, len(what) + len(text) + 2)

    try:
        yield _seldom_told(write, total)
    finally:
        if width:
            stream.write("\n")
            stream.flush()


def _rich_bar(what: str, total: int | None) -> tuple[Any, Any] | None:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
    except ImportError:
        return None
    shown = BarColumn() if total else SpinnerColumn()
    columns = TextColumn(what), shown, TextColumn("{task.description}")
    progress = Progress(*columns, console=Console(stderr=True), auto_refresh=False)
    return progress, progress.add_task("", total=total)


def _seldom_told(show: Callable[[int, str], object], total: int | None) -> Callable[[int, str], None]:
    """Return a function that shows the first and the end, and others only now and then."""
    last = float("-inf")

    def tell(done: int, text: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _PAUSE or done == total:
            last = now
            show(done, text)

    return tell


def _nothing(done: int, total: int) -> None:
    """Show nothing."""


def _seldom(show: Callable[[int, int], object]) -> Callable[[int, int], None]:
    """Return a function that shows the first and the last, and others only now and then."""
    last = float("-inf")

    def tell(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last >= _PAUSE:
            last = now
            show(done, total)

    return tell


def _is_terminal(stream: Any) -> bool:
    return stream is not None and stream.isatty()


def _is_notebook(stream: Any) -> bool:
    """Whether a stream ends in a notebook, which is no terminal, and takes a line that is written over."""
    return type(stream).__module__.startswith("ipykernel")
