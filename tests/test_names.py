"""What a module says of itself is true: the names that it lists, and the signatures that its docstrings show."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from helpers import environment

MODULES = (nds, nds.fft)


# Names


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_a_module_lists_its_public_names_and_no_others(module: ModuleType) -> None:
    """Completion in a shell shows what can be used: nothing of how it is made, and also what is imported late."""
    listed = dir(module)
    assert listed == sorted(set(listed))
    assert {name for name in listed if not re.fullmatch("__.*__", name)} == {
        name for name in module.__all__ if not re.fullmatch("__.*__", name)
    }
    assert set(module.__all__) <= set(listed)
    assert {"__doc__", "__all__", "__name__", "__file__"} <= set(listed)
    for name in listed:
        assert hasattr(module, name), name


def test_late_names_are_listed_before_their_first_use() -> None:
    source = "import ndshare as nds; print('ProcessPoolExecutor' in dir(nds), 'ProcessPoolExecutor' in vars(nds))"
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"


# Signatures in docstrings


class Shown:
    """A call or a signature of one thing in its docstring: ``name(a, b=3)`` or ``name(a, *, b=3)``."""

    def __init__(self, text: str) -> None:
        self.text = text
        text = text.replace(", ...", "")  # and so on
        try:
            self.tree: Any = ast.parse(text, mode="eval").body
            self.is_call = True
        except SyntaxError:
            self.tree = ast.parse(f"def {text}: ...").body[0]
            self.is_call = False


def shown_in(doc: str, name: str) -> Iterator[Shown]:
    """Yield what a docstring shows of the call of `name`; examples after a prompt are run elsewhere."""
    prose = "\n".join(line for line in doc.splitlines() if not line.lstrip().startswith((">>>", "... ", "<")))
    for match in re.finditer(rf"(?<![\w.])(?:nds\.)?{re.escape(name)}\(", prose):
        text = balanced(prose, match.end() - 1)
        if text is not None:
            yield Shown(f"{name}{text}")


def balanced(text: str, start: int) -> str | None:
    """Return the text from one parenthesis to the one that closes it."""
    depth = 0
    for position in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return " ".join(text[start : position + 1].split())
    return None


def complaints(shown: Shown, signature: inspect.Signature) -> list[str]:
    """Say what a docstring shows that is not so."""
    real = dict(signature.parameters)
    real.pop("self", None)
    check = call_complaints if shown.is_call else signature_complaints
    return [f"{shown.text}: {what}; it is {signature}" for what in check(shown.tree, real)]


def call_complaints(call: ast.Call, real: dict[str, inspect.Parameter]) -> Iterator[str]:
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in real.values())
    for keyword in call.keywords:
        if keyword.arg not in real and not takes_any:
            yield f"there is no {keyword.arg}"
            continue
        has_default = keyword.arg not in real or real[keyword.arg].default is not inspect.Parameter.empty
        # A reader takes ``name(x, size=32)`` for a default.
        if isinstance(keyword.value, ast.Constant) and not has_default:
            yield f"{keyword.arg} has no default"
    named = {keyword.arg for keyword in call.keywords}
    by_place = [p for p in real.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    given = {p.name for p in by_place[: len(call.args)]} | named
    for name, p in real.items():
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and name not in given:
            yield f"{name} is missing"


def signature_complaints(definition: ast.FunctionDef, real: dict[str, inspect.Parameter]) -> Iterator[str]:
    shown = definition.args
    places = [*shown.posonlyargs, *shown.args]
    defaults = [None] * (len(places) - len(shown.defaults)) + [ast.literal_eval(each) for each in shown.defaults]
    has_default = [False] * (len(places) - len(shown.defaults)) + [True] * len(shown.defaults)
    for place, argument in enumerate(places):
        p = real.get(argument.arg)
        if p is None or list(real)[place] != argument.arg:
            yield f"{argument.arg} is not in that place"
        elif has_default[place] != (p.default is not p.empty) or (has_default[place] and p.default != defaults[place]):
            yield f"{argument.arg} has another default"
    for argument, default in zip(shown.kwonlyargs, shown.kw_defaults, strict=True):
        p = real.get(argument.arg)
        if p is None or p.kind is not p.KEYWORD_ONLY:
            yield f"{argument.arg} is no keyword"
        elif (default is None) != (p.default is p.empty) or (default and ast.literal_eval(default) != p.default):
            yield f"{argument.arg} has another default"


def public_things() -> Iterator[tuple[str, Any]]:
    """Yield each public class, function and method with its name."""
    for module in MODULES:
        for name in module.__all__:
            thing = getattr(module, name)
            if not callable(thing):
                continue
            yield f"{module.__name__}.{name}", thing
            if isinstance(thing, type):
                for part, value in vars(thing).items():
                    if callable(value) and not part.startswith("_"):
                        yield f"{module.__name__}.{name}.{part}", value


THINGS = dict(public_things())


def is_exception(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseException)


def has_no_signature(thing: Any) -> bool:
    """Say whether it takes a message, or is an array of a NumPy whose arrays have no signature."""
    is_array = isinstance(thing, type) and issubclass(thing, np.ndarray)
    return is_exception(thing) or (is_array and not np.ndarray.__text_signature__)


@pytest.mark.parametrize("name", THINGS)
def test_a_docstring_shows_the_real_signature(name: str) -> None:
    """``Ring(shape, dtype, slots=32)`` made `slots` look as if it had a default; a call without it raises."""
    thing = THINGS[name]
    assert thing.__doc__, f"{name} has no docstring"
    if has_no_signature(thing) and "__init__" not in vars(thing):
        return
    signature = inspect.signature(thing)
    found = [text for shown in shown_in(thing.__doc__, name.rsplit(".", 1)[1]) for text in complaints(shown, signature)]
    assert not found, "\n".join(found)


def test_help_has_a_signature_for_every_callable() -> None:
    without = [name for name, thing in THINGS.items() if not has_no_signature(thing) and not inspect.signature(thing)]
    assert not without


def real(a: Any, b: int = 3, *, c: Any, d: str = "x") -> None:
    """Show nothing."""


@pytest.mark.parametrize(
    ("doc", "wrong"),
    [
        ("``real(1, c=x)``", None),
        ("``real(a, b=5, c=x)``", None),
        ("``real(a, *, c, ...)``", None),
        ("``real(a, b=3, *, c, d='x')``", None),
        ("``nds.real(1, 2)``", "c is missing"),
        ("``real(1, c=3)``", "c has no default"),
        ("``real(1, c=x, e=3)``", "no e"),
        ("``real(a, b=4, *, c)``", "b has another default"),
        ("``real(b, a, *, c)``", "not in that place"),
        ("``real(a, *, b)``", "b is no keyword"),
        ("``unreal(1)`` and ``x.real(1)``", None),
        (">>> real(1)", None),
    ],
)
def test_the_rule_complains_about_bad_samples(doc: str, wrong: str | None) -> None:
    found = [text for shown in shown_in(doc, "real") for text in complaints(shown, inspect.signature(real))]
    assert bool(found) == (wrong is not None), found
    assert wrong is None or wrong in found[0]
