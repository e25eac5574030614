"""The picture of the README is that of the figures beside it, and the figures can be measured again."""

from __future__ import annotations

import importlib
import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "scripts")
        yield importlib.import_module("figure_readme")


def test_the_picture_shows_every_variant_and_is_drawn_from_the_figures(script):
    rows = json.loads((script.FOLDER / "variants.json").read_text())
    picture = (script.FOLDER / "variants.svg").read_text()
    assert script.draw(rows) == picture
    words = [element.text for element in ElementTree.fromstring(picture).iter() if element.tag.endswith("text")]
    assert [row["name"] for row in rows] == list(script.VARIANTS) and set(script.VARIANTS) <= set(words)


@pytest.mark.slow
def test_the_figures_are_read_off_files_that_were_trained(script, monkeypatch, tmp_path):
    monkeypatch.setattr(script, "EPOCHS", 3)
    monkeypatch.setattr(script, "MORE_EPOCHS", 1)
    names = ("float32", "int8", "the same, 60 % zeros, int8")
    monkeypatch.setattr(script, "VARIANTS", {name: script.VARIANTS[name] for name in names})
    arguments = ["figure_readme", "--seeds", "1", "--seconds", "0.3", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert script.main() == 0
    rows = json.loads((tmp_path / "variants.json").read_text())
    sizes = [row["gzip_bytes"][0] for row in rows]
    assert sizes[0] > 3 * sizes[1] > 9 * sizes[2] and all(0.5 < row["accuracies"][0] <= 1 for row in rows)
    assert rows[0]["name"] in (tmp_path / "variants.svg").read_text()
