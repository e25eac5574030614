"""The README names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import keras

import tfgreen as tg

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_every_name_in_the_readme_exists():
    names = set(re.findall(r"\btg\.([A-Za-z_]\w*)", README))
    assert len(names) > 30
    assert not [name for name in names if not hasattr(tg, name)]
    members = set(re.findall(r"(?<!tf\.)\blite\.(\w+)", README))
    lite = tg.convert(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
    assert members and not [name for name in members if not hasattr(lite, name)]


def test_every_verb_is_in_the_readme():
    verbs = [name for name in tg.__all__ if name[0].islower() and callable(getattr(tg, name))]
    assert not [name for name in verbs if f"tg.{name}(" not in README and name != "load_litert"]
