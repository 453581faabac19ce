"""The tables of docs/arena.md are those of the source: each offset and size is computed from the Rust structs."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "crates" / "ndshare" / "src" / "arena"
PAGE = ROOT / "docs" / "arena.md"
STRUCTS = ("Header", "SpanHeader", "Participant", "Record", "Block")
KIB, MIB = 1 << 10, 1 << 20


class Field(NamedTuple):
    """A row of a table."""

    offset: int
    size: int
    name: str


class Layout(NamedTuple):
    """A struct as Rust lays it out under repr(C)."""

    size: int
    align: int
    fields: list[Field]


def up(number: int, unit: int) -> int:
    """Return the next multiple of a unit."""
    return -(-number // unit) * unit


def whole(text: str) -> int:
    """Return the number that a constant such as ``1 << 18`` stands for."""
    base, _, shift = text.partition("<<")
    return int(base) << int(shift or 0)


def constants(*sources: str) -> dict[str, int]:
    """Return the small whole constants that sizes are written with."""
    return {name: int(value) for text in sources for name, value in re.findall(r"const (\w+): usize = (\d+);", text)}


class Rust:
    """Just enough of the language for structs of atomics."""

    def __init__(self, source: str, numbers: dict[str, int]) -> None:
        self.source = re.sub(r"//[^\n]*", "", source)
        self.numbers = numbers

    def measure(self, kind: str) -> tuple[int, int]:
        """Return size and alignment of a type."""
        if atomic := re.fullmatch(r"Atomic[UI](\d+)", kind):
            return int(atomic[1]) // 8, int(atomic[1]) // 8
        if array := re.fullmatch(r"\[(\w+); (\w+)\]", kind):
            size, align = self.measure(array[1])
            length = int(array[2]) if array[2].isdigit() else self.numbers[array[2]]
            return size * length, align
        if line := re.fullmatch(r"Line<(\w+)>", kind):
            return up(self.measure(line[1])[0], 64), 64
        layout = self.layout(kind)
        return layout.size, layout.align

    def layout(self, name: str) -> Layout:
        """Return the layout of a struct of the source."""
        head = rf"#\[repr\(C(?:, align\((\d+)\))?\)\]\s*pub\(super\) struct {name}"
        found = re.search(head + r" \{(.*?)\}", self.source, re.DOTALL)
        assert found, f"{name} is not in the source"
        offset, widest, fields = 0, int(found[1] or 1), list[Field]()
        for field, kind in re.findall(r"(\w+): ([^,]+),", found[2]):
            size, align = self.measure(kind)
            offset = up(offset, align)
            fields.append(Field(offset, size, field))
            offset, widest = offset + size, max(widest, align)
        return Layout(up(offset, widest), widest, fields)


def rows_of(page: str, struct: str) -> list[Field]:
    """Return the rows of the table under the heading that names a struct."""
    found = re.search(rf"^## [^\n]*\(`{struct}`[^\n]*\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"no heading names {struct}"
    rows = re.findall(r"^\| (\d+) \| (\d+) \| `(\w+)` \|", found[1], re.MULTILINE)
    return [Field(int(offset), int(size), name) for offset, size, name in rows]


def source_of(name: str) -> str:
    return (SOURCE / name).read_text()


CONTROL = source_of("control.rs")
RUST = Rust(CONTROL, constants(CONTROL, source_of("word.rs")))


@pytest.mark.parametrize("struct", STRUCTS)
def test_a_table_is_that_of_the_source(struct: str) -> None:
    assert rows_of(PAGE.read_text(), struct) == RUST.layout(struct).fields


def test_the_map_is_that_of_the_source() -> None:
    counts = re.search(r"const FULL: Self = Self \{(.*?)\}", CONTROL, re.DOTALL)
    assert counts
    entries = {name: whole(count) for name, count in re.findall(r"(\w+): ([\d <]+),", counts[1])}
    at = [0, 4 * KIB]
    for name, struct in (("participants", "Participant"), ("records", "Record"), ("blocks", "Block")):
        at.append(up(at[-1] + entries[name] * RUST.layout(struct).size, 4 * KIB))
    at[-1] = up(at[-1], 2 * MIB)
    shown = re.findall(r"^ +(0x[0-9a-f]+) ", PAGE.read_text(), re.MULTILINE)
    assert [int(offset, 16) for offset in shown] == at


def test_states_and_bits_are_those_of_the_source() -> None:
    states = re.findall(r"^ +(\d) => State::(\w+),", source_of("word.rs"), re.MULTILINE)
    shown = re.findall(r"^\| (\d) \| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert shown == [("0", "Free"), *states]
    for name in ("WAITERS", "DIRTY", "HANDOFF"):
        bit = re.search(rf"const {name}: u32 = 1 << (\d+);", source_of("lockword.rs"))
        assert bit
        assert f"bit {bit[1]}" in PAGE.read_text()


def test_a_wrong_layout_would_be_seen() -> None:
    rust = Rust("#[repr(C)]\npub(super) struct A { a: AtomicU32, b: AtomicU64, c: [AtomicU32; N], }", {"N": 3})
    assert rust.layout("A") == Layout(32, 8, [Field(0, 4, "a"), Field(8, 8, "b"), Field(16, 12, "c")])
    page = "## The thing (`A`)\n\n| 0 | 4 | `a` | x |\n| 4 | 8 | `b` | y |\n\n## Next\n| 16 | 12 | `c` | z |\n"
    assert rows_of(page, "A") == [Field(0, 4, "a"), Field(4, 8, "b")]


# ---- heads -----------------------------------------------------------------------------------------------------------


def crate(path: str) -> str:
    return (ROOT / "crates" / "ndshare" / "src" / path).read_text()


def test_kinds_of_heads_are_those_of_the_source() -> None:
    kinds = re.search(r"pub enum HeadKind \{(.*?)\n\}", crate("head.rs"), re.DOTALL)
    assert kinds
    section = PAGE.read_text().split("## Heads")[1].split("\n## ")[0]
    shown = re.findall(r"^\| `(\w+)` \| (\d) \|", section, re.MULTILINE)
    assert shown == re.findall(r"^    (\w+) = (\d),", kinds[1], re.MULTILINE)


def test_heads_lie_as_the_page_says() -> None:
    own = re.search(r"OWN_WORDS_AT: usize = (\d);", crate("array/kept.rs"))
    assert own
    head = re.search(r"HEAD_BYTES: usize = (\d+);", crate("overlay/turns.rs"))
    assert head
    uses = re.search(r"MAX_USES: usize = (\d+);", crate("overlay/turns.rs"))
    behind = dict(re.findall(r"const (USE|EVENT): usize = TOKEN \+ (\d);", crate("overlay/turns.rs")))
    assert uses
    token = int(own[1]) + 2 * int(uses[1])
    use, event = (token + int(behind[name]) for name in ("USE", "EVENT"))
    page = " ".join(PAGE.read_text().split())
    assert f"two words for each of {uses[1]} uses" in page
    assert (
        f"{token}: the token of the use that goes on; {use}: which use that is; {event}: how often somebody left"
        in page
    )
    assert f"n being {own[1]} in a canvas and {int(head[1]) // 8} in an overlay" in page
    cache = crate("cache/table.rs")
    numbers = {name: int(value) for name, value in re.findall(r"const (\w+): usize = (\d+);", cache)}
    name_at = 8 * (numbers["LINES_AT"] + numbers["LINES"] * numbers["LINE_WORDS"])
    assert f"the name in bytes {name_at} to {name_at + 8 * (numbers['NAME_WORDS'] + 1) - 1}" in page


# ---- the head of a ring ---------------------------------------------------------------------------------------------


def test_the_head_of_a_ring_lies_as_the_page_says() -> None:
    folder = ROOT / "crates" / "ndshare" / "src" / "ring"
    table = "".join((folder / name).read_text() for name in ("claim.rs", "table.rs"))
    places: dict[str, int] = {}
    for name, text in re.findall(r"const (\w+): (?:usize|u32) = ([^;]+);", table):
        places[name] = int(eval(text.replace("/", "//"), {}, places))
    page = PAGE.read_text().split("## The head of a ring")[1]
    rows = {name: int(at) for at, name in re.findall(r"^\| (\d+) \| \d* ?\| `(\w+)` \|", page, re.MULTILINE)}
    words = {
        "signature": 0,
        "geometry": places["GEOMETRY"],
        "policy": places["POLICY"],
        "format_bytes": places["FORMAT_BYTES"],
        "head": places["HEAD"],
        "passing": places["PASSING"],
        "writers": places["WRITERS_AT"],
        "groups": places["GROUPS_AT"],
        "readers": places["READERS_AT"],
        "frames": places["FRAMES_AT"],
    }
    assert rows == {name: 8 * word for name, word in words.items()}
    assert f"the version of this layout, {places['VERSION']} |" in page
