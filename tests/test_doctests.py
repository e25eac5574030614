"""Every example in a docstring runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import warnings

import pytest

import tfgreen

MODULES = [m.name for m in pkgutil.walk_packages(tfgreen.__path__, "tfgreen.") if not m.name.endswith("__main__")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example may write files
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0


def test_the_public_verbs_all_show_an_example():
    for name in tfgreen.__all__:
        value = getattr(tfgreen, name)
        if name != "__version__" and not (isinstance(value, type) and issubclass(value, Exception)):
            assert ">>>" in (value.__doc__ or ""), f"tg.{name} shows no example"
