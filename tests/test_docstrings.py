"""What is public says what goes in, what comes out, and means its own words."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = sorted(
    ".".join(path.parent.relative_to(ROOT).parts)
    for path in (ROOT / "tensornet").rglob("__init__.py")
)


@functools.cache
def public(room: str) -> tuple[tuple[str, Any], ...]:
    """Names that the first file of a room gives, and what they are."""
    module = importlib.import_module(room)
    tree = ast.parse(inspect.getsource(module))
    lines = [line for line in ast.walk(tree) if isinstance(line, ast.ImportFrom)]
    names = {name.asname or name.name for line in lines for name in line.names}
    names |= set(getattr(module, "__all__", ()))
    things = ((name, getattr(module, name, None)) for name in sorted(names))
    ours = [(name, x) for name, x in things if getattr(x, "__module__", "").startswith("tensornet")]
    return tuple(ours)


def methods(kind: type) -> Iterator[tuple[str, FunctionType, bool]]:
    """Public methods that a class defines; whether a base class has said what they are."""
    for name, found in vars(kind).items():
        function = getattr(found, "__func__", found)
        if not name.startswith("_") and isinstance(function, FunctionType):
            bases = (vars(base).get(name) for base in kind.__mro__[1:])
            yield name, function, any(getattr(base, "__doc__", None) for base in bases)


def parameters(function: Callable[..., Any]) -> list[str]:
    """Names of what goes in."""
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_say_what_goes_in_and_comes_out(room: str) -> None:
    missing = []
    for name, thing in public(room):
        if inspect.isfunction(thing):
            text = inspect.getdoc(thing) or ""
            returns = inspect.signature(thing).return_annotation not in ("None", None)
            if parameters(thing) and "\nArgs:\n" not in text:
                missing.append(f"{name}: Args")
            if returns and "\nReturns:\n" not in text and "\nYields:\n" not in text:
                missing.append(f"{name}: Returns")
        elif inspect.isclass(thing):
            for method, function, said in methods(thing):
                text = inspect.getdoc(function) or ""
                assert text, f"{room}.{name}.{method}"
                unsaid = [word for word in parameters(function) if word not in text]
                if unsaid and not said:
                    missing.append(f"{name}.{method}: {', '.join(unsaid)}")
    assert not missing, missing
