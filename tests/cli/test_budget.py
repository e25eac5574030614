"""The options of a budget are those of tg.Budget."""

from __future__ import annotations

import argparse
import dataclasses

import pytest

import tfgreen as tg
from tfgreen.cli.budget import BOUNDS, add_budget, read_bounds


def test_every_bound_has_an_option_with_an_example_that_works():
    assert list(BOUNDS) == [field.name for field in dataclasses.fields(tg.Budget)]
    parser = argparse.ArgumentParser()
    add_budget(parser)
    words = [word for name, (example, _) in BOUNDS.items() for word in (f"--{name.replace('_', '-')}", example)]
    bounds = read_bounds(parser.parse_args(words))
    assert bounds == {name: example for name, (example, _) in BOUNDS.items()}
    assert "1%" in parser.format_help() and read_bounds(parser.parse_args([])) == {}
    with pytest.raises(ValueError, match="max_latency"):
        read_bounds(parser.parse_args(["--max-latency", "5kB"]))
