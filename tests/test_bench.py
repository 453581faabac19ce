"""What can be wrong in the bench unseen: shares of time, results that are kept, comparisons, the page.

The figures themselves are nobody's test: they are measured on a quiet machine.
"""

import doctest
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bench import kept
from bench.budget import USUAL, Budget
from bench.compare import Change, changes, main, show
from bench.curves import GROWTH, SIZES, lines
from bench.harness import Bench, Contestants, Result, Target, run
from bench.machine import describe, slug
from bench.page import PAGE, PLOTS, file_name, page, readme_rows, runs
from bench.report import seconds

ROOT = Path(__file__).resolve().parent.parent


def bench_of(name: str, prepare: Any = None, **options: Any) -> Bench:
    return Bench(name, f"work of {name}", options.pop("target", None), 4, "", prepare, **options)


def result_of(name: str, times: dict[str, list[float]], **options: Any) -> Result:
    return Result(bench_of(name, **options), times, took=1.5)


def run_of(*results: Result, **failed: str) -> kept.Kept:
    return kept.kept(describe(), list(results), failed, 12.0)


def contestants(calls: list[str], work: Callable[[str], float]) -> Callable[[], Iterator[Contestants]]:
    def prepare() -> Iterator[Contestants]:
        def one(label: str) -> Callable[[], float]:
            def go() -> float:
                calls.append(label)
                return work(label)

            return go

        yield {label: one(label) for label in ("ours", "peer")}

    return prepare


# ---- rounds and shares ----------------------------------------------------------------------------------------------


def test_contestants_take_turns_and_each_round_begins_with_another_one() -> None:
    calls: list[str] = []
    result = run(bench_of("turns", contestants(calls, len)))
    assert result.times == {"ours": [4.0] * 4, "peer": [4.0] * 4}
    assert calls[:2] == ["ours", "peer"]  # the warm-up
    assert calls[2:] == ["ours", "peer", "peer", "ours"] * 2


@pytest.mark.parametrize(("alone", "rounds"), [(False, 3), (True, 2)])
def test_rounds_end_with_their_time_but_some_there_are(alone: bool, rounds: int) -> None:
    result = run(bench_of("short", contestants([], lambda _: 1.0), alone=alone), seconds=0.0)
    assert {label: len(times) for label, times in result.times.items()} == {"ours": rounds, "peer": rounds}


def test_a_wrong_result_fails_a_row() -> None:
    def wrong(_: str) -> float:
        raise AssertionError("other bytes")

    with pytest.raises(AssertionError, match="other bytes"):
        run(bench_of("wrong", contestants([], wrong)))


def test_shares_are_as_durations_were_and_end_with_the_time() -> None:
    names = ["a", "b", "c", "d"]
    budget, now = Budget(100, names, {"a": 1.0, "b": 3.0, "c": 2.0}), 0.0
    shares = {name: budget.share(name, now := now + (10.0 if name == "b" else 0.0)) for name in names[:2]}
    assert shares == {"a": pytest.approx(100 / 8), "b": pytest.approx(90 * 3 / 7)}  # d counts as the usual one: 2
    # What takes all that it is given, and more, leaves the rest to others, and nothing less than nothing.
    assert budget.share("c", 96.0) == pytest.approx(2.0)
    assert budget.share("d", 105.0) == 0.0


def test_who_uses_its_share_keeps_to_the_time() -> None:
    names = [str(number) for number in range(20)]
    budget, now = Budget(60, names, {}), 0.0
    for name in names:
        now += budget.share(name, now)
    assert now == pytest.approx(60)
    assert Budget(USUAL, ["a"], {}).share("a", 0.0) == USUAL


# ---- what is kept ---------------------------------------------------------------------------------------------------


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = run_of(result_of("copy", {"ndshare": [1.0, 2.0, 3.0], "np": [4.0, 4.0, 4.0]}), other="left out: no cv2")
    kept.write(made, tmp_path / "deep" / "cpu.json")
    read = kept.read(tmp_path / "deep" / "cpu.json")
    (row,) = read["results"]
    assert row["seconds"]["ndshare"] == {"median": 2.0, "quartiles": [1.5, 2.5], "rounds": 3}
    assert read["failed"] == {"other": "left out: no cv2"}
    assert kept.durations(tmp_path / "deep" / "cpu.json") == {"copy": 1.5}
    assert kept.durations(tmp_path / "none.json") == {}


def test_figures_have_four_digits_and_keep_their_size() -> None:
    made = run_of(result_of("copy", {"ndshare": [1.23456789e-7], "np": [123456.789]}))
    (row,) = json.loads(kept.text(made))["results"]
    assert [figure["median"] for figure in row["seconds"].values()] == [1.235e-7, 123500.0]


def test_a_run_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text('{"format": 0}')
    with pytest.raises(SystemExit, match="format 0"):
        kept.read(tmp_path / "old.json")
    with pytest.raises(SystemExit, match="make bench"):
        kept.read(tmp_path / "none.json")


def test_a_run_names_the_cpu_and_what_is_missing_but_not_the_machine() -> None:
    machine = describe()
    assert machine["cpu"]["model"]
    assert machine["cpu"]["cores"] == os.cpu_count()
    assert set(machine["missing"]).isdisjoint(machine["versions"])
    assert {"NumPy", "ndshare"} <= set(machine["versions"])
    assert os.uname().nodename not in json.dumps({**machine, "kernel": ""}) or len(os.uname().nodename) < 4


@pytest.mark.parametrize(
    ("model", "family", "number", "expected"),
    [
        ("Intel(R) Xeon(R) Processor", 6, 207, "intel-xeon-6-207"),
        ("Intel(R) Xeon(R) Platinum 8488C CPU @ 2.40GHz", 6, 143, "intel-xeon-platinum-8488c-6-143"),
        ("AMD EPYC 7571 32-Core Processor", 23, 1, "amd-epyc-7571-23-1"),
        ("", 0, 0, "0-0"),
    ],
)
def test_a_kind_of_cpu_has_a_file_name(model: str, family: int, number: int, expected: str) -> None:
    assert slug({**describe()["cpu"], "model": model, "family": family, "number": number}) == expected


# ---- comparisons ----------------------------------------------------------------------------------------------------


def figure(median: float, low: float, high: float) -> kept.Figure:
    return {"median": median, "quartiles": (low, high), "rounds": 9}


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        (figure(1.0, 0.9, 1.1), figure(1.0, 0.9, 1.1), ""),
        (figure(1.0, 0.99, 1.01), figure(1.09, 1.08, 1.10), ""),  # too little, however steady
        (figure(1.0, 0.99, 1.01), figure(1.2, 1.15, 1.25), "slower"),
        (figure(1.2, 1.15, 1.25), figure(1.0, 0.99, 1.01), "faster"),
        (figure(1.0, 0.5, 1.6), figure(1.5, 1.4, 1.6), ""),  # it was as slow at times
        (figure(1.0, 0.99, 1.01), figure(1.5, 0.9, 3.0), ""),  # it is as fast at times
    ],
)
def test_a_change_is_told_from_noise(before: kept.Figure, now: kept.Figure, verdict: str) -> None:
    assert Change("copy", "ndshare", True, before, now).verdict == verdict


def test_runs_are_compared_by_what_is_in_both(capsys: pytest.CaptureFixture[str]) -> None:
    before = run_of(result_of("copy", {"ndshare": [1.0] * 3, "np": [2.0] * 3}), result_of("old", {"a": [1], "b": [1]}))
    same = run_of(result_of("copy", {"ndshare": [1.0] * 3, "np": [9.0] * 3, "new": [1.0] * 3}))
    worse = run_of(result_of("copy", {"ndshare": [1.5] * 3, "np": [2.0] * 3}))
    assert [(one.name, one.label, one.is_ours) for one in changes(before, same)] == [
        ("copy", "ndshare", True),
        ("copy", "np", False),
    ]
    assert not show(before, same)  # a peer's figure is nobody's fault
    assert "0 are slower" in capsys.readouterr().out
    assert show(before, worse)
    assert "1.50" in capsys.readouterr().out


def test_a_comparison_fails_only_when_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["compare", *map(str, arguments)])
        return main()

    old, new = tmp_path / "old.json", tmp_path / "new.json"
    kept.write(run_of(result_of("copy", {"ndshare": [1.0] * 3, "np": [2.0] * 3})), old)
    kept.write(run_of(result_of("copy", {"ndshare": [2.0] * 3, "np": [2.0] * 3})), new)
    assert (compare(new, old), compare(new, old, "--strict"), compare(old, new, "--strict")) == (0, 1, 0)


# ---- the page -------------------------------------------------------------------------------------------------------


def test_a_page_says_losses_as_wins() -> None:
    made = run_of(
        result_of("copy-4mib", {"ndshare": [1e-3] * 3, "np.copyto": [2e-3] * 3}),
        result_of("create-1kib", {"ndshare": [3e-7] * 3, "np.empty": [1e-7] * 3}, target=Target("at most", 2)),
        **{"montage-opencv": "left out: cv2 is not installed"},
    )
    text = page([(made, None)])
    assert "| work of copy-4mib | 1 ms | 2 ms, np.copyto | 2 times faster |" in text
    assert "| work of create-1kib | 300 ns | 100 ns, np.empty | 3 times slower |" in text
    lost = text[text.index("### Where something is quicker") :]
    assert "work of create-1kib: 300 ns, and 100 ns by np.empty: 3 times slower" in lost
    assert "copy-4mib" not in lost
    assert "- `montage-opencv`: left out: cv2 is not installed" in lost


def test_a_series_becomes_lines_with_a_limit() -> None:
    rows = [
        result_of(f"size-{x}", {"ours": [x * 2.0], "the copy": [x * 1.0]}, series="frames", x=x, limit="the copy")
        for x in (1024, 16)
    ]
    made = lines(next(curve for curve in SIZES if curve.name == "frames"), map(kept.row, rows))
    assert [(line.label, line.is_ours, line.is_limit, line.points) for line in made] == [
        ("ours", True, False, {16: 32.0, 1024: 2048.0}),
        ("the copy", False, True, {16: 16.0, 1024: 1024.0}),
    ]


def test_the_readme_has_its_rows() -> None:
    made = run_of(
        result_of("cache-hit", {"ndshare": [4e-7], "diskcache": [4e-4]}), result_of("x", {"a": [1], "b": [1]})
    )
    assert readme_rows(made).splitlines() == [
        "| work | ndshare | peer | |",
        "|---|---|---|---|",
        "| an image of 4 MiB from the cache | 400 ns | 400 µs, diskcache | 1000 times faster |",
    ]


def test_the_page_is_what_its_program_makes_of_the_figures_that_are_kept() -> None:
    found = runs()
    assert PAGE.read_text() == page(found), "run `make bench-page`"
    shown = [(curve, run) for run, _ in found for curve in SIZES]
    shown += [(curve, growth) for _, growth in found if growth for curve in GROWTH]
    for curve, of in shown:
        if lines(curve, of["results"]):
            assert (PLOTS / file_name(curve, of)).is_file(), "run `make bench-page`"


def test_times_have_units() -> None:
    assert [seconds(x) for x in (2.0, 3e-3, 4.56e-6, 7e-9)] == ["2 s", "3 ms", "4.56 µs", "7 ns"]


@pytest.mark.parametrize("name", ["budget", "curves", "machine", "page"])
def test_the_examples_of_the_bench_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"bench.{name}")).failed == 0


def test_all_rows_of_the_suite_are_there_where_their_peers_are() -> None:
    ask = (
        "from bench.all import BENCHES; from bench.suite import *; import json\n"
        "names = [name for section in SECTIONS for name in section.names]\n"
        "print(json.dumps([list(BENCHES), names, list(QUICK), list(TEN_ROWS)]))"
    )
    told = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    there, *wanted = json.loads(told)
    # These register themselves only where their peer is installed.
    assert {name for names in wanted for name in names} - set(there) <= {"cache-hit-cachebox", "cache-hit-ray"}
