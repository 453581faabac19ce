"""What the documentation says is true: its examples run, its links lead somewhere, its make verbs exist.

A ```python block on any page is a program of its own. It is run as a file, because spawned processes must be able
to import it. A ```text block that follows it at once is what it prints. Programs on the pages about libraries are
skipped, by name, where the library is not installed.
"""

import ast
import doctest
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import ndshare as nds
from helpers import with_a_free_port

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LIBRARIES = "docs/with/"
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\s*^```text\n(?P<output>.*?)^```$)?", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
# An index of packages shows the README alone, so its links are whole addresses.
WHOLE_LINK = re.compile(r"^\[[^\]]+\]: https://github\.com/ndshare/ndshare/blob/main/(\S+)$", re.MULTILINE)
SECONDS = 60


class Example(NamedTuple):
    """A program on a page, and what it prints, if the page says so."""

    place: str
    code: str
    output: str | None


def examples_of(name: str, text: str) -> list[Example]:
    """Return the programs of one page, each with the line it starts on."""
    return [
        Example(f"{name}:{text.count(chr(10), 0, match.start()) + 1}", match["code"], match["output"])
        for match in BLOCK.finditer(text)
    ]


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def missing(example: Example) -> list[str]:
    """Return the packages that a program needs and that are not installed."""
    packages = {package for package, word in WANTED.items() if re.search(rf"\b({word})\b", example.code)}
    # On other pages what cannot be imported is a mistake.
    if example.place.startswith(LIBRARIES):
        nodes = list(ast.walk(ast.parse(example.code)))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
        packages |= {name.split(".")[0] for name in names}
    return sorted(package for package in packages if importlib.util.find_spec(package) is None)


def run(example: Example, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one program in an empty folder and a session of its own. What libraries say of old names does not count."""
    program = folder / "example.py"
    program.write_text(with_a_free_port(example.code))
    outside = {name: value for name, value in os.environ.items() if not name.startswith("NDSHARE_")}
    flags = ["-W", "error"] + ["-W", "ignore::DeprecationWarning"] * example.place.startswith(LIBRARIES)
    return subprocess.run(
        [sys.executable, *flags, str(program)],
        cwd=folder,
        env={**outside, "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


EXAMPLES = [example for page in PAGES for example in examples_of(page_name(page), page.read_text())]


# What an example wants that some Pythons have no wheel of, and by which word that is seen.
WANTED = {
    "joblib": "joblib",
    "dask": "dask",
    "cloudpickle": "cloudpickle",
    "zenoh": r"ndshare\.net|import net",
    "cv2": "cv2",
    "pymmcore_plus": "pymmcore_plus",
}


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 5


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.place for example in EXAMPLES])
def test_an_example_runs(example: Example, tmp_path: Path) -> None:
    if absent := missing(example):
        pytest.skip(f"{', '.join(absent)}: not installed")
    done = run(example, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    if example.output is not None:
        assert done.stdout == example.output


@pytest.mark.parametrize("name", [name for name in nds.__all__ if not name.startswith("__")])
def test_the_examples_of_a_docstring_run(name: str) -> None:
    public = getattr(nds, name)
    if not inspect.getdoc(public):
        pytest.fail(f"nds.{name} has no docstring")
    finder, runner = doctest.DocTestFinder(recurse=inspect.isclass(public)), doctest.DocTestRunner()
    for test in finder.find(public, name=f"nds.{name}", module=False, globs={"nds": nds}):
        runner.run(test)
    assert runner.failures == 0


def has_content(target: Path) -> bool:
    return target.is_dir() or (target.exists() and target.stat().st_size > 0)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_to_files(page: Path) -> None:
    text = page.read_text()
    broken = [link for link in LINK.findall(text) if not has_content(page.parent / link)]
    broken += [link for link in WHOLE_LINK.findall(text) if not has_content(ROOT / link)]
    assert broken == []


def test_the_readme_has_whole_links_alone() -> None:
    text = (ROOT / "README.md").read_text()
    assert LINK.findall(text) == []
    assert len(WHOLE_LINK.findall(text)) > 10


def test_the_page_on_libraries_leads_to_each_page_and_each_checks_itself() -> None:
    table = (ROOT / "docs" / "libraries.md").read_text()
    for page in ROOT.glob("docs/with/*.md"):
        assert table.count(f"](with/{page.name}) |") == 1, page.name
        programs = examples_of(page_name(page), page.read_text())
        assert programs, page.name
        assert all(program.output for program in programs), page.name


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_make_verbs_exist(page: Path) -> None:
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)(?:`|$)", page.read_text(), re.MULTILINE))
    assert named <= verbs


def test_the_table_of_stats_names_every_key() -> None:
    page = (ROOT / "docs" / "arrays.md").read_text()
    section = page[page.index("## Seeing what is held") :].split("\n## ")[0]
    cells = re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert named == set(nds.stats())


@pytest.mark.parametrize("name", [name for name in nds.__all__ if not name.startswith("__")])
def test_a_public_name_is_in_the_docs_and_the_changelog(name: str) -> None:
    word = re.compile(rf"\b{name}\b")
    assert any(word.search(page.read_text()) for page in ROOT.glob("docs/*.md"))
    assert word.search((ROOT / "CHANGELOG.md").read_text())


def test_the_code_map_names_every_module() -> None:
    named = set(re.findall(r"`([\w/.-]+)`", (ROOT / "ARCHITECTURE.md").read_text()))
    folders = (
        *(f"crates/{crate}/src/**/*.rs" for crate in ("ndshare", "ndshare-py", "ndshare-c")),
        "python/ndshare/_*.py",
    )
    files = [file for folder in folders for file in ROOT.glob(folder)]
    paths = {str(file.relative_to(ROOT)) for file in files if file.stem not in {"lib", "mod", "__init__"}}
    assert {path for path in paths if path not in named and f"{Path(path).parent}/" not in named} == set()
    assert {path for path in named if path.endswith((".rs", ".py")) and not (ROOT / path).exists()} == set()


def test_a_wrong_example_is_seen(tmp_path: Path) -> None:
    page = "```python\nprint(1)\n```\n\n```text\n2\n```\n\n```python\nraise ValueError\n```\n"
    first, second = examples_of("page", page)
    assert (first.place, first.output, second.output) == ("page:1", "2\n", None)
    assert run(first, tmp_path).stdout != first.output
    assert run(second, tmp_path).returncode == 1
    program = "import os.path, numpy as np\nfrom no_such_package.part import thing"
    assert missing(Example(f"{LIBRARIES}page:1", program, None)) == ["no_such_package"]
