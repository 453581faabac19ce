"""How much of the memory orderings the models prove: weaken each in turn, and see whether a model fails.

`make weaken` runs it, in half an hour to two. It copies the sources to ``target/weaken``. There it makes one change at
a time in what the models run: an ordering becomes Relaxed, a fence or a second look goes. Then loom runs the models.
A change that no model notices is printed, and counted as missed unless `EXPLAINED` says why it changes nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
HERE = ROOT / "target" / "weaken"
# The models that run each file.
MODELS = {
    "arena/word": "arena::word::models",
    "arena/lockword": "arena::lockword::models",
    "ring/protocol": "ring::",
    "ring/claim": "ring::",
    "cache/protocol": "cache::protocol::models",
}
SOURCES = [f"crates/ndshare/src/{name}.rs" for name in MODELS]
ORDERING = re.compile(r"\b(SeqCst|AcqRel|Acquire|Release)\b")
FENCE = re.compile(r"^\s*(fence\(\w+\)|in_one_order\(\));$")
# Looks that are taken a second time, because something may have changed since the first: file, text, without it.
RECHECKS = [
    ("arena/word", "if !word.is_live(generation) {", "if false {"),
    ("arena/word", "if self.exchange(word, word.bumped()) {", "if self.load() == word {"),
    ("arena/word", "if word.state != State::Live || self.is_kept() {", "if word.state != State::Live {"),
    ("arena/word", "(word.generation == generation && is_plain()).then_some(next)", "is_plain().then_some(next)"),
    ("arena/word", "|| !self.is_only_holder(slot) {", "{"),
    ("arena/word", "|| self.records.load(SeqCst) != 1 ", ""),
    ("arena/lockword", "if seen & OWNER != 0 || (seen & HANDOFF != 0 && !taker.slept) {", "if seen & OWNER != 0 {"),
    ("arena/lockword", "if taker.slept { WAITERS } else { seen & WAITERS }", "seen & WAITERS"),
    ("arena/lockword", "| waiters | seen & DIRTY;", "| waiters;"),
    ("arena/lockword", "return Ok(seen & WAITERS != 0),", "return Ok(false),"),
    ("cache/protocol", "(word.load(Relaxed) == seen).then_some(found)", "Some(found)"),
    ("ring/protocol", "(number.load(Relaxed) == seq).then_some(found)", "Some(found)"),
    ("ring/protocol", "number.load(SeqCst) != next || !claim.is_over(next)", "!claim.is_over(next)"),
    ("ring/protocol", "if ready() { None } else { Some(marked) }", "Some(marked)"),
    ("ring/protocol", "event.load(SeqCst) & WAITER != 0\n", "false\n"),
]  # fmt: skip
# What no model can notice, by "file:line text:the ordering's place in the line", and why nothing is lost by it.
_HEARD = "who acts for the dead has heard of the death from the kernel, which comes after all that the dead wrote"
_SEEN = (
    "who counts or sets it then exchanges the word: who sees the new word sees it, and who does not fails its exchange"
)
EXPLAINED: dict[str, str] = {
    "arena/word:self.holders[slot as usize / 64].fetch_or(1 << (slot % 64), SeqCst); [0]": _SEEN,
    "arena/word:self.holders[slot as usize / 64].load(SeqCst) >> (slot % 64) & 1 == 1 [0]": _HEARD,
    "arena/word:if !word.is_live(generation) || self.records.load(SeqCst) != 1 || !self.is_only_holder(slot) { [0]": (
        _SEEN
    ),
    "arena/lockword:let seen = self.0.load(Acquire); [0]": _HEARD,
    "arena/lockword:if self.0.compare_exchange(seen, seen & !OWNER | (heir + 1), Acquire, Relaxed).is_ok() { [0]": (
        _HEARD
    ),
    "arena/lockword: without 'if seen & OWNER != 0 || (seen & HANDOFF != 0 && !taker.slept) {'": (
        "it lets whoever has waited long go first: without it the lock excludes as well, and is less fair"
    ),
}


class Change(NamedTuple):
    """One change: what it is called, its file, and the file's text with it."""

    name: str
    path: str
    text: str


def shipped(text: str) -> str:
    """Return what is not a test."""
    return text[: text.index("#[cfg(all(test")]


def changes() -> Iterator[Change]:
    """Yield every change."""
    for path in SOURCES:
        text = (ROOT / path).read_text()
        name = path.removeprefix("crates/ndshare/src/").removesuffix(".rs")
        yield from _orderings(name, path, text)
        for file, old, new in RECHECKS:
            if file == name:
                if shipped(text).count(old) != 1:
                    raise SystemExit(f"expected {old!r} once in {path}: bring RECHECKS up to date")
                yield Change(f"{name}: without {old.strip()!r}", path, text.replace(old, new, 1))


def _orderings(name: str, path: str, text: str) -> Iterator[Change]:
    lines, inside = text.splitlines(keepends=True), False
    for number, line in enumerate(lines[: shipped(text).count("\n")]):
        inside = inside or line.startswith("use ")
        if not inside and not line.strip().startswith("//"):
            where = f"{name}:{number + 1} {line.strip()}"
            if FENCE.match(line):
                yield _changed(f"{where} gone", path, lines, number, "")
            else:
                for place, found in enumerate(ORDERING.finditer(line)):
                    weaker = line[: found.start()] + "std::sync::atomic::Ordering::Relaxed" + line[found.end() :]
                    yield _changed(f"{where} [{place}]", path, lines, number, weaker)
        inside = inside and ";" not in line


def _changed(name: str, path: str, lines: list[str], number: int, line: str) -> Change:
    return Change(name, path, "".join([*lines[:number], line, *lines[number + 1 :]]))


def notices(change: Change | None) -> str:
    """Run the models with a change; return what became of it: "caught", "missed", or why it is none."""
    if change is not None:
        (HERE / change.path).write_text(change.text)
    models = "models" if change is None else MODELS[change.name.split(":")[0]]
    command = ["cargo", "test", "--release", "--quiet", "-p", "ndshare", "--lib", models]
    # Built in half the time.
    quickly = {"CARGO_PROFILE_RELEASE_DEBUG": "none", "CARGO_PROFILE_RELEASE_OPT_LEVEL": "1"}
    flags = {"RUSTFLAGS": "--cfg loom -A warnings", "CARGO_TARGET_DIR": str(HERE / "target")}
    environment = {**os.environ, **quickly, **flags}
    build = subprocess.run(
        [*command, "--no-run"], cwd=HERE, env=environment, capture_output=True, text=True, check=False
    )
    if build.returncode:
        return f"does not build: {build.stderr[-600:]}"
    try:
        code = subprocess.run(
            command, cwd=HERE, env=environment, capture_output=True, timeout=900, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        # A thread that waits for ever is noticed by loom itself; what takes so long, looks on for what never comes.
        return "caught"
    finally:
        if change is not None:
            shutil.copy(ROOT / change.path, HERE / change.path)
    return "caught" if code else "missed"


def copy_sources() -> None:
    """Copy what is built, and keep what was built of it before. Cargo builds anew what is younger than that."""
    ignored = shutil.ignore_patterns("target")
    shutil.copytree(ROOT / "crates", HERE / "crates", ignore=ignored, copy_function=shutil.copy, dirs_exist_ok=True)
    for name in ("Cargo.toml", "Cargo.lock"):
        shutil.copy(ROOT / name, HERE / name)


def main() -> None:
    """Make each change, and print what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="names that contain this")
    wanted = [change for change in changes() if parser.parse_args().only in change.name]
    copy_sources()
    if (whole := notices(None)) != "missed":
        raise SystemExit(f"expected the models to pass as they are, got: {whole}")
    counts: Counter[str] = Counter()
    for change in wanted:
        start, outcome = time.monotonic(), notices(change)
        if outcome not in {"caught", "missed"}:
            raise SystemExit(f"{change.name}: {outcome}")
        why = EXPLAINED.get(re.sub(r":\d+ ", ":", change.name))
        outcome = "explained" if outcome == "missed" and why else outcome
        counts[outcome] += 1
        print(f"{outcome:9} {time.monotonic() - start:5.0f} s  {change.name}{f': {why}' if why else ''}", flush=True)
    print(
        f"{len(wanted)} changes: {counts['caught']} caught, {counts['explained']} explained, {counts['missed']} missed"
    )
    sys.exit(counts["missed"] > 0)


if __name__ == "__main__":
    main()
