"""The numbers of docs/limits.md are those of the source, and the errors name them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import ndshare as nds

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "limits.md").read_text()
# Bytes, and milliseconds.
UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "ms": 1, "s": 1000}
ROW = re.compile(r"^\| ([^|]+) \| ([\d,]+) ?(\w*) \| `([\w/.-]+)`, `(\w+)` \|", re.MULTILINE)


class Limit(NamedTuple):
    """A row of the page that names a constant of the source."""

    what: str
    most: int
    path: str
    name: str


LIMITS = [
    Limit(what, int(number.replace(",", "")) * UNITS[unit], path, name)
    for what, number, unit, path, name in ROW.findall(PAGE)
]


def constant(path: str, name: str) -> int:
    """Return a constant of the source, or the value of a field that is written as a number."""
    value = r"Duration::from_(?:secs|millis)\(\d+\)|HUGE_BYTES|[\d_]+(?: << \d+)?"
    found = re.search(
        rf"^[^/#\n]*\b{name}\b(?:: [\w\[\]]+)?(?: =|:) ({value})", (ROOT / path).read_text(), re.MULTILINE
    )
    assert found, f"{path} has no {name}"
    text = found[1].replace("HUGE_BYTES", str(2 << 20))
    text = re.sub(r"Duration::from_(secs|millis)\((\d+)\)", lambda time: time[2] + "000" * (time[1] == "secs"), text)
    base, _, shift = text.replace("_", "").partition(" << ")
    return int(base) << int(shift or 0)


def test_the_page_has_many() -> None:
    assert len(LIMITS) > 40


@pytest.mark.parametrize("limit", LIMITS, ids=[limit.name for limit in LIMITS])
def test_a_limit_is_that_of_the_source(limit: Limit) -> None:
    assert limit.most == constant(limit.path, limit.name)


def nested(levels: int, around: Callable[[Any], Any], inner: Any) -> Any:
    for _ in range(levels):
        inner = around(inner)
    return inner


def readers(count: int) -> object:
    ring = nds.Ring(1, "u1", slots=1)
    return [ring.reader(latest=True) for _ in range(count)]


def writers(count: int) -> object:
    ring = nds.Ring(1, "u1", slots=1)
    return [ring.writer() for _ in range(count)]


def groups(count: int) -> object:
    ring = nds.Ring(1, "u1", slots=1)
    return [ring.reader(group=str(number)) for number in range(count)]


def named(count: int) -> object:
    arena = nds.Arena("1 MiB")
    return [nds.Lock(name=str(number), arena=arena) for number in range(count)]


def uses(count: int) -> object:
    fields: dict[str, tuple[int, str]] = {"a": (1, "u1")}
    return nds.Overlay(**{f"use{number}": fields for number in range(count)})


# What asks for so many of something.
ASK: dict[str, Callable[[int], object]] = {
    "`slots`": lambda count: nds.Ring(1, "u1", slots=count),
    "readers at a time": readers,
    "writers at a time": writers,
    "groups": groups,
    "levels of a tree of arrays": lambda count: nds.Ring(slots=1).put(
        nested(count, lambda tree: {"a": tree}, np.zeros(1))
    ),
    "entries": lambda count: nds.Cache("1 MiB", entries=count),
    "tuples in each other, in a key": lambda count: nds.Cache("1 MiB").get(nested(count, lambda key: (key,), 1)),
    "uses of an overlay": uses,
    "bytes of a `name=`": lambda count: nds.Lock(name="n" * count),
    "dimensions": lambda count: nds.zeros((1,) * count),
    "objects with a name": named,
}


@pytest.mark.parametrize("what", ASK)
def test_so_many_there_can_be_and_the_error_of_one_more_says_so(what: str) -> None:
    (limit,) = (limit for limit in LIMITS if limit.what == what)
    ASK[what](limit.most)
    with pytest.raises((ValueError, RuntimeError), match=rf"\b{limit.most}\b"):
        ASK[what](limit.most + 1)


def test_the_bounds_without_a_constant() -> None:
    assert "| bytes of meta a frame | 4,096 |" in PAGE
    nds.Ring(1, "u1", slots=1, meta=[("a", "V4096")])
    with pytest.raises(ValueError, match="at most 4096 bytes of meta"):
        nds.Ring(1, "u1", slots=1, meta=[("a", "V4097")])
    assert "| budget | just below 1 TiB |" in PAGE
    with pytest.raises(ValueError, match=r"a budget of at most 1023\.9 GiB, got 1 TiB"):
        nds.Arena(1 << 40)
    (limit,) = (limit for limit in LIMITS if limit.what == "references in flight")
    assert nds.stats()["ticket_budget"] == limit.most
    with pytest.raises(ValueError, match="a key of at most 65536 bytes"):
        nds.Cache("1 MiB").get("k" * 65536)
    with pytest.raises(ValueError, match="a name of 1 to 200 bytes"):
        nds.publish("n" * 201, nds.zeros(1))
    with pytest.raises(ValueError, match="a power of two up to 2097152"):
        nds.zeros(1, align=4 << 20)
