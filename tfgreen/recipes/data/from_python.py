"""Data that Python hands over: arrays, tf.data, or what a function ``module:function`` returns."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from tfgreen.errors import FileError, invalid_type, invalid_value
from tfgreen.recipes.data.parts import SPLITS, Parts, naming
from tfgreen.recipes.data.split import Split

# module:function, as setuptools writes an entry point.
FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")

_FORMS = "a tuple (x, y) or (x, y, sample_weight), a tf.data.Dataset of batches, or x as an array or a dict"


def as_split(name: str, given: Any, source: str) -> Split:
    """A split of ``(x, y)``, ``(x, y, sample_weight)``, a dataset, ``x`` alone, or one that already is."""
    if isinstance(given, Split):
        return given
    if isinstance(given, tuple):
        if not 2 <= len(given) <= 3:
            received = f"a tuple of {len(given)}"
            raise invalid_value(name, expected="(x, y) or (x, y, sample_weight)", received=received)
        return Split(*given, name=name, source=source)
    if not isinstance(given, (np.ndarray, dict)) and not hasattr(given, "element_spec"):
        raise invalid_type(name, expected=_FORMS, received=given)
    return Split(given, name=name, source=source)


def call(text: str) -> Any:
    """What the function ``module:function`` returns; the current folder is searched too, as ``python -m`` does."""
    if not isinstance(text, str) or not FUNCTION.fullmatch(text):
        raise invalid_value("data", expected="a function as module:function", received=repr(text))
    module_name, _, name = text.partition(":")
    function: Any = imported(module_name, text)
    for part in name.split("."):
        if not hasattr(function, part):
            near = difflib.get_close_matches(part, dir(function), 1)
            fix = f" Did you mean '{near[0]}'?" if near else ""
            raise FileError(f"{text}: expected a function of {module_name}, but there is no {name}.{fix}")
        function = getattr(function, part)
    if not callable(function):
        raise FileError(f"{text}: expected a function, received a {type(function).__name__}.")
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise FileError(f"{text}: expected a function that takes no arguments: {error}.") from error
    with _current_folder_searched():
        return function()


def imported(module_name: str, subject: str) -> ModuleType:
    """A module of the user's, looked for in the current folder too; ``subject`` is what an error is about."""
    with _current_folder_searched():
        try:
            found = importlib.util.find_spec(module_name)
        except (ModuleNotFoundError, ValueError):  # of a parent; of a name with two dots
            found = None
        if found is None:
            fix = "Start in its folder, or put that on PYTHONPATH."
            raise FileError(f"{subject}: expected a module that can be imported, but there is no {module_name}. {fix}")
        return importlib.import_module(module_name)


@contextlib.contextmanager
def _current_folder_searched() -> Iterator[None]:
    here = os.getcwd()
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def splits_of(returned: Any, text: str) -> Parts:
    """The splits that a function has returned, see :meth:`tg.Data.from_function`."""
    how = f"Return a dict with '{{name}}' from {text}."
    with naming(text):
        if isinstance(returned, dict) and set(returned) & set(SPLITS):
            if "train" not in returned or set(returned) - set(SPLITS):
                expected = "the key 'train', and 'validation' and 'test' where there are such splits"
                raise invalid_value("the dict it returned", expected=expected, received=sorted(map(str, returned)))
            given: Mapping[str, Any] = {SPLITS[key]: value for key, value in returned.items() if value is not None}
        else:
            given = {"train": returned}
        splits = {name: as_split(name, value, text) for name, value in given.items()}
    return Parts(splits, text, how)
