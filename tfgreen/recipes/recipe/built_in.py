"""The recipes that come with tfgreen: their names and files, without Keras."""

from __future__ import annotations

import difflib
import importlib.resources
from contextlib import AbstractContextManager
from pathlib import Path

from tfgreen.errors import invalid_value


def names() -> tuple[str, ...]:
    """Their names, in the order of the alphabet."""
    files = [file.name for file in importlib.resources.files(__package__).iterdir()]
    return tuple(sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml")))


def file_of(name: str) -> AbstractContextManager[Path]:
    """The file of a recipe, while the block lasts; a ValueError with the nearest name if there is none."""
    if name not in names():
        near = difflib.get_close_matches(str(name), names(), 1)
        fix = f"Did you mean '{near[0]}'?" if near else "Or pass the path of a YAML or JSON file."
        raise invalid_value("recipe", expected=f"one of {list(names())}", received=repr(name), fix=fix)
    return importlib.resources.as_file(importlib.resources.files(__package__) / f"{name}.yaml")
