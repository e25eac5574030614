"""The table of TFMOT's names is that of the installed TFMOT, and nearly all of them are there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from tfgreen import compat

pytestmark = pytest.mark.filterwarnings("ignore::tfgreen.compat.told.TfmotWarning")


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "scripts")
        yield importlib.import_module("tfmot_table")


def rows(text: str) -> dict[str, str]:
    return dict(re.findall(r"^\| `(tfmot[\w.]+)` \| (.+) \|$", text, re.MULTILINE))


def test_at_least_95_percent_are_present_or_answered(script):
    found = rows(script.TABLE.read_text())
    held = [path for path, text in found.items() if text in ("present", "answered")]
    assert len(found) > 70 and len(held) >= 0.95 * len(found)
    present = [path for path, text in found.items() if text == "present"]
    for part in ("sparsity", "clustering", "experimental"):
        assert all(path in present for path in found if path.startswith(f"tfmot.{part}.keras"))
    for path in held:
        value: object = compat
        for name in path.split(".")[1:]:
            value = getattr(value, name)


def test_states_are_told_apart(script):
    assert script.state("tfmot.sparsity.keras.strip_pruning", ["model"]) == "present"
    assert script.state("tfmot.sparsity.keras.strip_pruning", ["model", "hard"]) == "not: without hard"
    assert script.state("tfmot.sparsity.keras.unheard_of", []) == "not: missing"
    assert script.state("tfmot.quantization.keras.remove_input_range", ["model"]) == "answered"
    assert script.state("tfmot.quantization.keras.graph_transformations.transforms.LayerNode", ["layer"]) == "answered"


@pytest.mark.slow
def test_the_table_is_that_of_the_installed_tfmot(script):
    assert rows(script.table()) == rows(script.TABLE.read_text())
