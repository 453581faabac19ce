"""The page of benchmarks from the results that are kept: `python -m bench.page [--check | --readme]`.

It writes docs/benchmarks.md, and the plots beside it, from the files of `bench/results/`. With `--check` it only says
whether the page is what it would write, and with `--readme` it prints the README's rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from bench import kept
from bench.curves import GROWTH, SIZES, Curve, draw, lines
from bench.kept import RESULTS, Kept, Row
from bench.machine import ROOT, slug
from bench.report import seconds
from bench.suite import SECTIONS, TEN_ROWS

PAGE = ROOT / "docs" / "benchmarks.md"
PLOTS = ROOT / "docs" / "bench"
SAME = 0.03  # as long, as far as anybody can tell

HEAD = """\
# Benchmarks

<!-- `python -m bench.page` writes this page from bench/results/; change that program, and not this page. -->

What ndshare costs, beside what else does the work, and beside what the machine can do at best. All figures of a
chapter are of one run on one machine.

## What is measured

- **All take turns.** Each contestant does the same work with the same data, once in a round, and each round begins
  with another one. A machine that slows down slows down all of them. Figures are medians of the rounds.
- **Each at its best.** Outputs are reused where a library can, plans are made beforehand, and FFTW measures which
  plan is best. A step that a library's users need, such as converting a frame, counts.
- **What disturbs others runs apart.** Each benchmark has a fresh process; of the libraries for transforms, which have
  pools of threads, each has one of its own.
- **Results are checked.** A contestant whose result is wrong has no figure, and neither has the row.
- **Memory comes warm from the host.** A virtual machine's host takes free memory back, and gives it again ten times
  as slowly. Before memory is measured that nobody has touched, as much is touched and given back.
- **Losses stand here as wins do.** Each row where something is quicker than ndshare is in a list of its own.

## How to repeat it

```console
$ make bench            # 15 minutes; prints all figures, and keeps them for this kind of CPU
$ make bench-quick      # 90 seconds; a few of them, kept nowhere
$ make bench-compare    # 15 minutes; prints each figure before and now, and marks what is no noise
$ make bench-growth     # how costs grow with the number of everything
$ make bench-page       # writes this page and its plots
```

Close what else runs. The bench has an environment of its own, with the newest Python that there is, from 3.13 on if
it can be had, and with the peers. In another environment, `python -m bench` takes those that are installed, and names
the others; `ndshare bench --peers` does the same from wherever you are. `python -m bench --only ring` runs the rows
whose names contain a word, and `--list` prints all names. Two files of results are compared by `python -m
bench.compare NEW.json OLD.json`.

A figure counts as another one when it changed by more than a tenth and neither median lies within the quartiles of
the other. `bench/results/` has a file for each kind of CPU, with quartiles, versions, date and commit.
"""


def page(runs: list[tuple[Kept, Kept | None]]) -> str:
    """Return the page of some runs, each with that of growth if there is one."""
    chapters = [chapter(run, growth) for run, growth in runs] or [
        "No results are kept yet: `make bench` measures them."
    ]
    return "\n".join([HEAD, *chapters]).rstrip() + "\n"


def chapter(run: Kept, growth: Kept | None) -> str:
    """Return the chapter on one machine."""
    rows = {row["name"]: row for row in run["results"]}
    parts = [f"## {machine_name(run)}", about(run)]
    for section in SECTIONS:
        found = [rows[name] for name in section.names if name in rows]
        if found:
            parts += [f"### {section.title}", section.words, table(found)]
    parts += plots("### By size", SIZES, run)
    if growth:
        parts += plots("### How costs grow", GROWTH, growth)
    parts += ["### Where something is quicker", "Limits aside, which nothing can beat.", losses(rows.values())]
    if missing := without(run):
        parts += ["### What has no figure", missing]
    return "\n\n".join(parts) + "\n"


def machine_name(run: Kept) -> str:
    """Return what a chapter is called."""
    cpu = run["machine"]["cpu"]
    return f"{cpu['model']}, family {cpu['family']}, model {cpu['number']}"


def about(run: Kept) -> str:
    """Return the machine as a table."""
    machine = run["machine"]
    cpu = machine["cpu"]
    facts = {
        "CPUs": f"{cpu['used']} of {cpu['cores']}{', of a virtual machine' if machine['is_virtual'] else ''}",
        "caches": ", ".join(f"{name} {size}" for name, size in cpu["caches"].items()),
        "instructions": ", ".join(cpu["isa"]),
        "memory": f"{machine['memory_bytes'] / 2**30:.1f} GiB; huge pages: {machine['huge_pages']}",
        "kernel, glibc, Python": f"{machine['kernel']}, {machine['glibc']}, {machine['python']}",
        "versions": ", ".join(f"{name} {version}" for name, version in machine["versions"].items()),
        "not installed": ", ".join(machine["missing"]) or "nothing",
        "when": f"{machine['date']}, commit {machine['commit']}, in {run['took'] / 60:.0f} minutes",
    }
    return "\n".join(["| | |", "|---|---|", *[f"| {name} | {fact} |" for name, fact in facts.items()]])


def table(rows: list[Row]) -> str:
    """Return rows as a table: ours, and each peer with the ratio."""
    made = ["| work | ndshare | beside it | |", "|---|---|---|---|"]
    for row in rows:
        (label, ours), *peers = [(label, figure["median"]) for label, figure in row["seconds"].items()]
        # Some rows are about the machine, or have several of ours.
        mine = seconds(ours) if label == "ndshare" else f"{seconds(ours)}, {label}"
        for place, (peer, theirs) in enumerate(peers):
            first = f"{row['work']} | {mine}" if place == 0 else " | "
            end = ", a limit" if is_limit(row, peer) else ""
            made.append(f"| {first} | {seconds(theirs)}, {peer}{end} | {ratio(ours, theirs)} |")
    notes = [f"{row['work']}: {row['note']}." for row in rows if row["note"]]
    return "\n".join(made + ([""] + [f"- {note}" for note in notes] if notes else []))


def ratio(ours: float, theirs: float) -> str:
    """Say how many times faster or slower ours is.

    >>> ratio(2.0, 5.0), ratio(5.0, 2.0), ratio(1.0, 1.02)
    ('2.5 times faster', '2.5 times slower', 'the same')
    """
    times = max(theirs / ours, ours / theirs)
    if times < 1 + SAME:
        return "the same"
    digits = f"{float(f'{times:.2g}'):.0f}" if times >= 10 else f"{times:.2g}" if times >= 1.95 else f"{times:.2f}"
    return f"{digits} times {'faster' if ours < theirs else 'slower'}"


def plots(title: str, curves: tuple[Curve, ...], run: Kept) -> list[str]:
    """Return the plots of a run, each with its sentence."""
    shown = [curve for curve in curves if lines(curve, run["results"])]
    head = [title, "Both scales are logarithmic. Dashed is the limit."] if shown else []
    return head + [f"![{curve.title}](bench/{file_name(curve, run)})\n\n{curve.why}" for curve in shown]


def file_name(curve: Curve, run: Kept) -> str:
    """Return the file of a plot."""
    return f"{slug(run['machine']['cpu'])}-{curve.name}.svg"


def is_limit(row: Row, label: str) -> bool:
    """Say whether a contestant does less than the work: what is left of it at best."""
    return bool(row["limit"]) and label.startswith(row["limit"])


def losses(rows: Iterable[Row]) -> str:
    """Return each row in which another library was quicker, or the system, with how much, the largest first."""
    found: list[tuple[float, str]] = []
    for row in rows:
        (_, ours), *peers = [(label, figure["median"]) for label, figure in row["seconds"].items()]
        for label, theirs in peers:
            is_peer = not (is_limit(row, label) or label.startswith("ndshare") or row["name"].startswith("limit-"))
            if is_peer and ours > theirs * (1 + SAME):
                line = f"- {row['work']}: {seconds(ours)}, and {seconds(theirs)} by {label}: {ratio(ours, theirs)}"
                found.append((ours / theirs, line))
    return "\n".join(line for _, line in sorted(found, reverse=True)) or "Nothing was."


def without(run: Kept) -> str:
    """Return what failed or was left out, and why."""
    return "\n".join(f"- `{name}`: {why}" for name, why in run["failed"].items())


def readme_rows(run: Kept) -> str:
    """Return the README's rows: each work with the peer that counts."""
    rows = {row["name"]: row for row in run["results"]}
    made = ["| work | ndshare | peer | |", "|---|---|---|---|"]
    for name, words in TEN_ROWS.items():
        if name in rows:
            (_, ours), (peer, theirs), *_ = [(at, figure["median"]) for at, figure in rows[name]["seconds"].items()]
            made.append(f"| {words} | {seconds(ours)} | {seconds(theirs)}, {peer} | {ratio(ours, theirs)} |")
    return "\n".join(made)


def runs() -> list[tuple[Kept, Kept | None]]:
    """Return the runs that are kept, each with that of growth."""
    found: list[tuple[Kept, Kept | None]] = []
    for of in sorted(RESULTS.glob("*.json")):
        if of.stem.endswith(kept.GROWTH):
            continue
        growth = of.with_name(f"{of.stem}{kept.GROWTH}.json")
        found.append((kept.read(of), kept.read(growth) if growth.exists() else None))
    return found


def draw_all(run: Kept, growth: Kept | None, folder: Path) -> None:
    """Draw the plots of a machine."""
    pairs = [(curve, run) for curve in SIZES] + [(curve, growth) for curve in GROWTH if growth]
    for curve, of in pairs:
        found = lines(curve, of["results"])
        if found:
            machine = of["machine"]
            caption = f"{machine_name(of)}; kernel {machine['kernel']}; {machine['date']}"
            draw(curve, found, folder / file_name(curve, of), caption)


def main() -> int:
    """Write the page, or look at it, or print the README's rows."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("--check", action="store_true", help="say whether the page is what would be written")
    parser.add_argument("--readme", action="store_true", help="print the README's rows, of the first file of results")
    options = parser.parse_args()
    found = runs()
    if options.readme:
        if not found:
            raise SystemExit(f"There are no results in {RESULTS}; `make bench` measures and keeps them.")
        print(readme_rows(found[0][0]))
    elif options.check:
        return int(PAGE.read_text() != page(found))
    else:
        PAGE.write_text(page(found))
        for run, growth in found:
            draw_all(run, growth, PLOTS)
        print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
