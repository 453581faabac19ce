# pyright: reportPrivateUsage=false
"""What notebooks show of rings, caches and arenas: their figures, as tables with bars.

One piece of HTML with its style in it, so nothing is asked of another host. Colours come from the page or let it shine
through, so it is as legible on dark as on light. Names are others' words: all text is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, cast

from . import _native
from ._native import Arena, Cache, Ring

_BOX = "font-size:90%;line-height:1.4"
# A page without a doctype inherits neither colour nor size into tables.
_TABLE = "border-collapse:collapse;margin:.4em 0;border:0;color:inherit;font-size:inherit"
_CELL = "padding:.15em .8em .15em 0;border:0;text-align:{};background:none;white-space:nowrap"
_TRACK = (
    "display:inline-block;vertical-align:middle;width:10em;height:.8em;border-radius:.2em;overflow:hidden;"
    "background:rgba(127,127,127,.3)"
)
_COLOURS = {"ok": "#2f81c9", "warm": "#9a9a9a", "full": "#d9622b"}
# From here on a bar says that there is little room.
_NEARLY = 0.9

Cell = str | int | None


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def of(thing: Ring | Cache | Arena) -> str:
    """Return the HTML of a ring, a cache or an arena."""
    if isinstance(thing, Arena):
        return _arena(thing)
    return _ring(thing) if isinstance(thing, Ring) else _cache(thing)


def _ring(ring: Ring) -> str:
    stats, slots = ring.stats(), ring.slots
    shape = "any shape" if ring.shape is None else f"{ring.shape} {ring.dtype}"
    title = _title("Ring", ring.name, shape, f"{slots} slots", ring.when_full, "closed" if ring.closed else None)
    counts = [(name, stats[name]) for name in ("written", "dropped", "missed", "lost")]
    readers = [
        (_process(reader), _mode(reader), _bar(reader["lag"], slots), reader["lag"], reader["held"], reader["missed"])
        for reader in stats["readers"]
    ]
    writers = [(_process(writer), writer["written"]) for writer in stats["writers"]]
    return _box(
        title,
        _counts(counts),
        _table(("reader", "mode", "lag", "", "held", "missed"), readers),
        _table(("writer", "written"), writers),
    )


def _cache(cache: Cache) -> str:
    info = cache.info()
    ttl = None if cache.ttl is None else f"ttl {cache.ttl:g} s"
    asked = info["hits"] + info["misses"]
    rows = [
        ("values", _bar(info["bytes"], info["maxsize"], is_good=True), _of_bytes(info["bytes"], info["maxsize"])),
        ("hits", _bar(info["hits"], asked, is_good=True), f"{info['hits']} of {asked}"),
    ]
    names = "entries", "pinned", "loads", "failures", "waits", "evictions", "expired", "given_way", "uncached"
    counts = [(name.replace("_", " "), cast("Mapping[str, int]", info)[name]) for name in names]
    return _box(_title("Cache", cache.name, ttl), _table(("", "", ""), rows), _counts(counts))


def _arena(arena: Arena) -> str:
    stats = _native.stats(arena)
    budget = stats["budget"]
    rows = [
        ("held", _bar(stats["bytes"], budget), _of_bytes(stats["bytes"], budget)),
        ("warm", _bar(stats["warm"], budget, "warm"), _bytes(stats["warm"])),
    ]
    counts = [("blocks", stats["blocks"]), ("undelivered", len(stats["tickets"]))]
    people = [
        (
            f"{who['pid']}{', this process' if who['me'] else '' if who['alive'] else ', dead'}",
            _bar(who["bytes"], budget),
            _bytes(who["bytes"]),
            who["blocks"],
        )
        for who in sorted(stats["participants"], key=lambda who: -who["bytes"])
    ]
    path = None if arena.path is None else str(arena.path)
    title = _title("Arena", arena.id, path, f"limit: {stats['limit']}")
    return _box(title, _table(("", "", ""), rows), _counts(counts), _table(("process", "holds", "", "blocks"), people))


# Pieces


def _box(*parts: str) -> str:
    return f'<div style="{_BOX}">{"".join(parts)}</div>'


def _title(kind: str, *words: str | None) -> str:
    said = ", ".join(escape(word) for word in words if word is not None)
    return f"<div><b>{kind}</b> {said}</div>"


def _counts(counts: Iterable[tuple[str, int]]) -> str:
    return f"<div>{' &#183; '.join(f'{escape(name)} <b>{count:,}</b>' for name, count in counts)}</div>"


def _table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    if not rows:
        return ""
    top = f"<tr>{''.join(_cell(name, 'th') for name in head)}</tr>" if any(head) else ""
    return f'<table style="{_TABLE}">{top}{"".join(map(_row, rows))}</table>'


def _row(cells: Sequence[Cell]) -> str:
    return f'<tr style="background:none">{"".join(_cell(cell) for cell in cells)}</tr>'


def _cell(value: Cell, tag: str = "td") -> str:
    style = _CELL.format("right" if isinstance(value, int) else "left")
    text = value if isinstance(value, Html) else escape(f"{value:,}" if isinstance(value, int) else value or "")
    return f'<{tag} style="{style}">{text}</{tag}>'


def _bar(part: int, whole: int, colour: str = "ok", is_good: bool = False) -> Html:
    share = min(1.0, part / whole) if whole else 0.0
    filled = _COLOURS["full" if share >= _NEARLY and not is_good else colour]
    inner = f'<span style="display:block;height:100%;width:{share:.0%};background:{filled}"></span>'
    return Html(f'<span style="{_TRACK}">{inner}</span>')


def _process(end: Any) -> str:
    if end["pid"] is None:
        return "not used yet"
    return f"{end['pid']} {end['name'] or ''}{'' if end['alive'] else ', dead'}"


def _mode(reader: Any) -> str:
    return reader["mode"] if reader["group"] is None else f"group {reader['group']}"


def _of_bytes(part: int, whole: int) -> str:
    return f"{_bytes(part)} of {_bytes(whole)}"


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{_digits(size)} {unit}"
        size /= 1024
    return f"{_digits(size)} TiB"


def _digits(size: float) -> str:
    # From 999.5 on three digits would be written with an exponent.
    return f"{size:.3g}" if size < 999.5 else f"{size:.0f}"
