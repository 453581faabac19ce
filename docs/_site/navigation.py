"""The navigation of the site: its sections, and which pages are in each.

It is put under the start page when Sphinx reads it, so that the page itself stays plain Markdown. A pattern may match
no page; a page that is in no section is a warning of Sphinx's, and ends the build.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

START = "index"

# A title goes before a page whose own heading is too long for a narrow column.
SECTIONS: dict[str, list[str]] = {
    "Start": ["Five minutes <index>", "demo"],
    "Tutorials": [
        "tutorials/index",
        "tutorials/camera",
        "tutorials/meanings",
        "tutorials/montage",
        "tutorials/images",
        "tutorials/processes",
        "tutorials/drive",
        "tutorials/*",
    ],
    "How-to": ["howto/choosing*", "howto/cameras", "howto/servers", "howto/*"],
    "Concepts": [
        "concepts/arena*",
        "concepts/holds*",
        "concepts/reference*",
        "concepts/crash*",
        "concepts/window*",
        "concepts/*",
    ],
    "Guides": [
        "Arrays <arrays>",
        "Born shared <allocating>",
        "lock",
        "overlay",
        "ring",
        "Frames of several arrays <fields>",
        "Pipes <pipe>",
        "Several cameras <join>",
        "time",
        "triggers",
        "Recording and replay <record>",
        "Process pools <executor>",
        "gather",
        "canvas",
        "cache",
        "fft",
        "session",
        "Names <names>",
        "Other users <offers>",
        "path",
        "view",
        "cli",
        "arena",
    ],
    "With other libraries": ["All of them <libraries>", "Pickles by reference <enable>", "with/*"],
    "Reference": [
        "reference/index",
        "reference/arrays",
        "reference/rings",
        "reference/caches",
        "reference/copies",
        "reference/fft",
        "reference/locks",
        "reference/sessions",
        "reference/errors",
        "reference/net",
        "reference/libraries",
        "reference/*",
        "All names from A to Z <genindex>",
    ],
    "Benchmarks": ["benchmarks*"],
    "Reliability": ["reliability", "security"],
    "More than one machine": ["Rings and caches over a network <net>", "net-growth"],
    "C and Rust": ["c", "rust"],
    "Comparison": ["comparison*"],
    "FAQ and limits": ["faq*", "limits*"],
    "Glossary": ["glossary"],
    "Changelog": ["changelog", "architecture", "contributing"],
}


def page_of(entry: str) -> str:
    """Return the page, or the pattern of pages, of one line of the navigation."""
    return entry.partition("<")[2].rstrip(">") or entry


def pages(docs: Path, entry: str, listed: set[str]) -> list[str]:
    """Return the lines of a table of contents that one line of the navigation stands for, without those listed."""
    pattern = page_of(entry)
    if "*" not in pattern:
        return [entry]
    found = sorted(str(path.relative_to(docs).with_suffix("")) for path in docs.glob(f"{pattern}.md"))
    return [page for page in found if page not in listed]


def contents(docs: Path) -> str:
    """Return the tables of contents of all sections that have pages, as MyST writes them."""
    text, listed = "", set[str]()
    for caption, entries in SECTIONS.items():
        lines: list[str] = []
        for entry in entries:
            lines += pages(docs, entry, listed)
            listed.update(page_of(line) for line in lines)
        if lines:
            text += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(lines) + "\n```\n"
    return text.replace(f"<{START}>", "<self>")


def add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the navigation under the start page."""
    if page == START:
        source[0] += contents(Path(app.srcdir))


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of it."""
    app.connect("source-read", add_contents)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
