"""The README names what there is."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import keras

import tfgreen as tg

README_FILE = Path(__file__).parents[1] / "README.md"
README = README_FILE.read_text()


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


def test_every_dependency_is_in_the_readme():
    settings = configparser.ConfigParser()
    settings.read(README_FILE.with_name("setup.cfg"))
    needed = re.findall(r"^[\w-]+", settings["options"]["install_requires"].strip(), re.MULTILINE)
    table = README.partition("## What it stands on")[2].partition("\n## ")[0]
    named = {name for cell in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE) for name in cell.split(", ")}
    assert len(needed) > 5 and named - {"dependency"} == set(needed)
