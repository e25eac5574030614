"""Every example in a docstring runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import warnings

import pytest

import tfgreen

NOT_FOR_IMPORT = ("tfgreen.__main__", "tfgreen.compat.python")  # a program, and an error
MODULES = [m.name for m in pkgutil.walk_packages(tfgreen.__path__, "tfgreen.") if m.name not in NOT_FOR_IMPORT]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example may write files
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0


def examples_of(value: object) -> str:
    """The docstrings of a function, or of a class and its methods and properties."""
    members = vars(value).values() if isinstance(value, type) else ()
    return "\n".join(str(getattr(item, "__doc__", None) or "") for item in (value, *members))


def annotations_of(value: object) -> dict[str, str]:
    """Name of a field, property or method of a class -> what it holds or returns; "" for what a function returns."""
    if not isinstance(value, type):
        return {"": str(getattr(value, "__annotations__", {}).get("return", ""))}
    found = {name: str(text) for name, text in value.__dict__.get("__annotations__", {}).items()}
    for name, member in vars(value).items():
        function = getattr(member, "fget", None) or getattr(member, "func", member)
        found |= {name: text for text in annotations_of(function).values() if text}
    return found


def shown_by(value: object, example: str, public: dict[str, object]) -> set[str]:
    """The public names that an example shows: what a function returns, and what attributes that it reads hold."""
    found, waiting = set(), [value]
    while waiting:
        held = annotations_of(waiting.pop()).items()
        read = [text for name, text in held if not name or f".{name}" in example]
        new = {name for text in read for name in re.findall(r"\w+", text) if name in public} - found
        found |= new
        waiting += [public[name] for name in new]
    return found


def test_every_public_name_shows_an_example_or_is_in_that_of_the_name_it_comes_from():
    public = {name: getattr(tfgreen, name) for name in tfgreen.__all__ if name != "__version__"}
    own = {name: value for name, value in public.items() if ">>>" in (value.__doc__ or "")}
    shown = set(own).union(*(shown_by(value, examples_of(value), public) for value in own.values()))
    for name, value in public.items():
        is_error = isinstance(value, type) and issubclass(value, Exception)
        is_base = any(isinstance(other, type) and value in other.__mro__ for other in own.values())
        assert is_error or is_base or name in shown, f"tg.{name} shows no example"
