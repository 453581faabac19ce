"""Signatures and docstrings for the reference: types from the stubs, and docstrings as reStructuredText.

What is written in Rust has its docstrings and the names of its arguments with it, and its types in the stubs.
Docstrings are plain text with code between backticks, paragraphs, lists and examples; Sphinx wants more of marks.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import ndshare

PACKAGE = Path(ndshare.__file__).parent
STUBS = ("_native.pyi", "_arrays.pyi")
SPECIAL = "*_|\\"
WORDS = re.compile(r"``(.+?)``|`([^`]+)`|[*_|\\]", re.DOTALL)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(body: list[ast.stmt], front: str = "") -> Iterator[tuple[str, Function]]:
    """Yield name and definition of each function of a stub, also of those in its classes: ``Ring.put``."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from functions(node.body, f"{front}{node.name}.")
        elif isinstance(node, Function):
            yield f"{front}{node.name}", node


@cache
def stubs() -> dict[str, list[Function]]:
    """Return all definitions that the stubs have of each name; those with overloads have several."""
    found: dict[str, list[Function]] = {}
    for stub in STUBS:
        for name, node in functions(ast.parse((PACKAGE / stub).read_text()).body):
            found.setdefault(name, []).append(node)
    return found


def definitions(name: str) -> list[Function]:
    """Return what the stubs have of a public name, or of the making of a class; overloads are several."""
    path = name.removeprefix("ndshare.")
    found = (stubs().get(candidate, []) for candidate in (path, f"{path}.__new__", f"{path}.__init__"))
    return [node for node in next(filter(None, found), []) if not is_a(node, f"{node.name}.setter")]


def shown(node: ast.expr) -> str:
    """Return a type as the reference shows it: without names that stand for any type."""
    return re.sub(r"\[_\w+(, _\w+)*\]", "", ast.unparse(node))


def is_a(node: Function, decorator: str) -> bool:
    """Return whether a function of a stub has a decorator."""
    return any(ast.unparse(each) == decorator for each in node.decorator_list)


def arguments(node: Function) -> str:
    """Return the arguments of a function as they are called: without `self`."""
    text = ast.unparse(node.args)
    return f"({re.sub(r'^(self|cls)(, (/, )?|$)', '', text)})"


def untyped(thing: Any, signature: str | None) -> str | None:
    """Return the arguments of a function without their types, which are long where they depend on each other."""
    try:
        known = inspect.signature(thing)
    except (TypeError, ValueError):
        return signature
    arguments = [each.replace(annotation=each.empty) for each in known.parameters.values()]
    return str(known.replace(parameters=arguments, return_annotation=known.empty))


def sign(
    _app: Sphinx, what: str, name: str, thing: Any, _options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Give types to a signature, unless it is one of several overloads."""
    found = definitions(name)
    if not found or is_a(found[0], "property"):
        return signature, returns
    if len(found) > 1:
        return untyped(thing, signature) if what == "function" else signature, None
    node = found[0]
    return arguments(node), None if what == "class" or node.returns is None else shown(node.returns)


def code(match: re.Match[str]) -> str:
    """Return code of a docstring as reStructuredText, which wants no letter beside it."""
    text, before, after = match.string, match.start() - 1, match.end()
    left = "\\ " if before >= 0 and text[before].isalnum() else ""
    right = "\\ " if text[after : after + 1].isalnum() else ""
    return f"{left}``{match[1] or match[2]}``{right}"


def escaped(text: str) -> str:
    """Return text as reStructuredText that shows it: code stays code, everything else is nothing special."""
    return WORDS.sub(lambda match: f"\\{match[0]}" if match[0] in SPECIAL else code(match), text)


def paragraphs(lines: list[str]) -> Iterator[list[str]]:
    """Yield the lines of a docstring paragraph by paragraph, with the empty ones between."""
    group: list[str] = []
    for line in lines:
        if bool(line.strip()) != bool(group and group[-1].strip()) and group:
            yield group
            group = []
        group.append(line)
    if group:
        yield group


def describe(_app: Sphinx, _what: str, name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Make a docstring into reStructuredText, and say of a property which type it has."""
    text: list[str] = []
    for group in paragraphs(lines):
        is_example = group[0].lstrip().startswith(">>>")
        text += group if is_example else escaped("\n".join(group)).split("\n")
    found = definitions(name)
    if found and is_a(found[0], "property") and found[0].returns is not None:
        text = [f"*Type:* ``{shown(found[0].returns)}``", "", *text]
    lines[:] = text


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of it."""
    app.connect("autodoc-process-signature", sign)
    app.connect("autodoc-process-docstring", describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
